"""A chat request as the body of POST /chat/completions, or of POST /completions.

Source: OpenAI API reference, "Create chat completion" and "Create completion". Pure. The body is
written anew: nothing of the caller's own bytes goes upstream.
"""

from typing import Any, assert_never

from ...chat import ChatRequest, Document, Format, Image, Message, Part, StoredFile, Text, ToolChoice
from ...errors import invalid

HONOURS = frozenset(
    (
        "temperature",
        "top_p",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "logprobs",
        "top_logprobs",
        "max_tokens",
        "stop",
        "n",
    )
)
"""The `Sampling` settings that are passed on; a request may be sent several times for several answers."""


def is_openai(host: str) -> bool:
    """Whether `host` is OpenAI's own or Azure's, which are stricter than the servers that imitate them."""
    return host == "api.openai.com" or host.endswith((".api.openai.com", ".openai.azure.com"))


def ask(request: ChatRequest, *, strict: bool = False) -> dict[str, Any]:
    """The body of POST /chat/completions. `strict`: it goes to OpenAI itself.

    The limit of tokens has two names. OpenAI's own reasoning models refuse the old `max_tokens`;
    nearly everybody else reads it, and some (Ollama) nothing but it. So the new name goes to OpenAI
    alone, and never both. Thoughts of earlier messages go to everybody but OpenAI, which gives none.

    `request.options` are further fields; they never replace what the request itself says.
    Raises GateError for what cannot be asked.
    """
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [
            _message(message, f"messages[{at}]", strict) for at, message in enumerate(request.messages)
        ],
        **_streamed(),
    }
    if request.tools:
        body["tools"] = [
            _tool(tool.name, tool.description, tool.parameters, tool.strict) for tool in request.tools
        ]
        body |= _tool_use(request)
    if request.format.kind != "text":
        body["response_format"] = _format(request.format)
    if request.effort:
        body["reasoning_effort"] = request.effort
    sampling = _sampling(request)
    if strict and "max_tokens" in sampling:
        sampling["max_completion_tokens"] = sampling.pop("max_tokens")
    return request.options | body | sampling


def ask_raw(request: ChatRequest) -> dict[str, Any]:
    """The body of POST /completions, whose log probabilities are a number of alternatives."""
    body: dict[str, Any] = {
        "model": request.model,
        "prompt": "".join(message.text for message in request.messages),
        **_streamed(),
    }
    if request.suffix:
        body["suffix"] = request.suffix
    sampling = _sampling(request)
    alternatives = sampling.pop("top_logprobs", 0)
    if sampling.pop("logprobs", False):
        sampling["logprobs"] = alternatives
    return request.options | body | sampling


def must_call(choice: ToolChoice) -> bool:
    """Whether an answer without a tool call is a failure."""
    return choice.mode in ("required", "named")


def _streamed() -> dict[str, Any]:
    return {"stream": True, "stream_options": {"include_usage": True}}


def _sampling(request: ChatRequest) -> dict[str, Any]:
    return {name: getattr(request.sampling, name) for name in sorted(request.sampling.given())}


def _tool(name: str, description: str, parameters: dict[str, Any], strict: bool) -> dict[str, Any]:
    function: dict[str, Any] = {
        "name": name,
        "description": description,
        "parameters": parameters or {"type": "object", "properties": {}},
    }
    return {"type": "function", "function": function | ({"strict": True} if strict else {})}


def _tool_use(request: ChatRequest) -> dict[str, Any]:
    """How tools may be used; said only where it is not what happens anyway."""
    said: dict[str, Any] = {}
    choice = request.tool_choice
    if choice.mode == "named":
        said["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    elif choice.mode != "auto":
        said["tool_choice"] = choice.mode
    if request.parallel_tool_calls is not None:
        said["parallel_tool_calls"] = request.parallel_tool_calls
    return said


def _format(format: Format) -> dict[str, Any]:
    if format.kind == "json":
        return {"type": "json_object"}
    schema: dict[str, Any] = {"name": format.name or "answer", "schema": format.schema}
    return {"type": "json_schema", "json_schema": schema | ({"strict": True} if format.strict else {})}


def _message(message: Message, where: str, strict: bool) -> dict[str, Any]:
    # Few servers know the role `developer`; OpenAI's reasoning models take `system` for the same.
    role = "system" if message.role == "developer" else message.role
    written: dict[str, Any] = {"role": role, "content": _content(message.parts, where)}
    if message.name:
        written["name"] = message.name
    if message.tool_calls:
        written["content"] = written["content"] or None
        written["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        written["tool_call_id"] = message.tool_call_id
    if message.reasoning and not strict:
        written["reasoning_content"] = message.reasoning
    return written


def _content(parts: tuple[Part, ...], where: str) -> str | list[dict[str, Any]]:
    """Text alone is one string, which every server reads; a list is written only where it has to be."""
    if all(isinstance(part, Text) for part in parts):
        return "".join(part.text for part in parts if isinstance(part, Text))
    return [_part(part, f"{where}.content[{at}]") for at, part in enumerate(parts)]


def _part(part: Part, where: str) -> dict[str, Any]:
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case Image():
            detail = {"detail": part.detail} if part.detail else {}
            return {"type": "image_url", "image_url": {"url": part.url} | detail}
        case Document():
            media_type = part.media_type or "application/octet-stream"
            data = f"data:{media_type};base64,{part.data}"
            return {"type": "file", "file": {"filename": part.name, "file_data": data}}
        case StoredFile():
            raise invalid(f"The content of the file '{part.id}' is not at hand.", where)
        case _:
            assert_never(part)
