"""A request as the body of POST /api/chat or /api/generate. Source: Ollama, api/types.go and docs/api.md.

Pure: no sockets, no look at the model; what depends on it is passed in.
"""

from typing import Any

import msgspec

from ...chat import ChatRequest, Document, Image, Message, ToolCall, ToolChoice
from ...errors import invalid

HONOURS = frozenset(
    "temperature top_p seed presence_penalty frequency_penalty max_tokens stop n suffix".split()
)
"""The settings that Ollama acts on; log probabilities have no event of ours."""

THINK: dict[str, bool | str] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "max": "max",
    "ultra": "max",
}
"""Reasoning effort to `think`, as Ollama's own OpenAI dialect maps it."""

_BESIDE_OPTIONS = ("keep_alive", "raw", "think")


def path(request: ChatRequest) -> str:
    """Where the body of `ask` goes: a text to go on with is no chat, as in Ollama's own /v1/completions."""
    return "/api/generate" if request.raw else "/api/chat"


def ask(request: ChatRequest, *, thinks: bool) -> dict[str, Any]:
    """The body of POST `path`. `thinks`: the model has the thinking ability; else effort is left out.

    `truncate` and `shift` are off, so that a conversation that does not fit is an error we can
    report and never a silent loss of its beginning. The context size is one of the options, chosen
    by `window`: another one makes Ollama load the model anew.

    Ollama has no `tool_choice`. `none` drops the tools; `named` offers only that tool; that
    `required` and `named` led to a call is checked by `Decoder(must_call=True)`, which fails an
    answer without one: nothing in Ollama can force a model, and its text would be a false success.

    Raises GateError for what Ollama cannot be asked.
    """
    if not request.messages:
        # An empty list is Ollama's way to load a model and to answer nothing.
        raise invalid("There is no message to answer.", "messages")
    body: dict[str, Any] = {
        "model": request.model,
        **(_text(request) if request.raw else {"messages": _messages(request.messages)}),
        "stream": True,
        "truncate": False,
        "shift": False,
    }
    if tools := _tools(request):
        body["tools"] = tools
    if request.format.kind != "text":
        body["format"] = request.format.schema or "json"
    body |= settings(request.options | _sampling(request))
    if request.effort:
        if request.effort not in THINK:
            advice = f"There are {', '.join(THINK)}."
            message = f"There is no reasoning effort '{request.effort}'."
            raise invalid(message, "reasoning_effort", advice=advice)
        if thinks:
            body["think"] = THINK[request.effort]
    return body


def _text(request: ChatRequest) -> dict[str, str]:
    """An alias's system message is put into the model's template by Ollama itself."""
    *told, asked = request.messages
    text = {"prompt": asked.text}
    if request.suffix:
        text["suffix"] = request.suffix
    if system := "\n\n".join(message.text for message in told):
        text["system"] = system
    return text


def settings(options: dict[str, Any]) -> dict[str, Any]:
    """`ChatRequest.options` as the members of a body: some stand beside Ollama's own `options`."""
    body = {name: options[name] for name in _BESIDE_OPTIONS if name in options}
    if inside := {name: value for name, value in options.items() if name not in _BESIDE_OPTIONS}:
        body["options"] = inside
    return body


def must_call(choice: ToolChoice) -> bool:
    """Whether an answer without a tool call is a failure."""
    return choice.mode in ("required", "named")


def _sampling(request: ChatRequest) -> dict[str, Any]:
    given = {name: getattr(request.sampling, name) for name in request.sampling.given() & HONOURS}
    if "max_tokens" in given:
        given["num_predict"] = given.pop("max_tokens")
    return given


def _tools(request: ChatRequest) -> list[dict[str, Any]]:
    choice = request.tool_choice
    tools = [tool for tool in request.tools if choice.mode != "named" or tool.name == choice.name]
    if must_call(choice) and not tools:
        what = f"'{choice.name}'" if choice.name else "to choose from"
        raise invalid(f"There is no tool {what}.", "tool_choice")
    if choice.mode == "none":
        return []
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters or {"type": "object", "properties": {}},
            },
        }
        for tool in tools
    ]


def _messages(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    called: dict[str, str] = {}
    written = []
    for index, message in enumerate(messages):
        called.update({call.id: call.name for call in message.tool_calls})
        written.append(_message(message, f"messages[{index}]", called))
    return written


def _message(message: Message, where: str, called: dict[str, str]) -> dict[str, Any]:
    if any(isinstance(part, Document) for part in message.parts):
        raise invalid("Ollama reads text and pictures, not files.", f"{where}.content")
    role = "system" if message.role == "developer" else message.role
    written: dict[str, Any] = {"role": role, "content": message.text}
    if images := [part.data for part in message.parts if isinstance(part, Image)]:
        written["images"] = images
    if message.reasoning:
        written["thinking"] = message.reasoning
    if message.tool_calls:
        written["tool_calls"] = [
            _call(call, index, f"{where}.tool_calls[{index}]")
            for index, call in enumerate(message.tool_calls)
        ]
    if role == "tool":
        written["tool_name"] = message.name or called.get(message.tool_call_id, "")
        written["tool_call_id"] = message.tool_call_id
    return written


def _call(call: ToolCall, index: int, where: str) -> dict[str, Any]:
    try:
        # Of a function without parameters, clients send the empty text.
        arguments = msgspec.json.decode(call.arguments or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        raise invalid("Tool arguments must be a JSON object.", f"{where}.function.arguments") from None
    return {"id": call.id, "function": {"index": index, "name": call.name, "arguments": arguments}}
