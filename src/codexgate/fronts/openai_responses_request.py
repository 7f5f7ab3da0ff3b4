"""The request of OpenAI's Responses: bytes to what is asked, and with its history to a `ChatRequest`.

Source: OpenAI API reference, "Create a model response". A body is read in two steps, because what
it goes on with (`previous_response_id`, `conversation`, references to items) is kept elsewhere.
Pure. Fields that are not understood are passed over and named in `Asked.unknown`.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec

from ..chat import ChatRequest, Format, Message, Sampling, Text
from ..errors import invalid
from .openai_body import reader
from .openai_error import UNREADABLE, unreadable
from .openai_items import messages, reference
from .openai_tools import Toolbox, ToolSpec, choice_of
from .retrieval import RetrievalBody, retrieval


class _Conversation(msgspec.Struct):
    id: str


class _TextFormat(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"] = "text"
    schema: dict[str, Any] | None = None
    name: str | None = None
    strict: bool | None = None


class _Text(msgspec.Struct):
    format: _TextFormat | None = None


class _Reasoning(msgspec.Struct):
    effort: Annotated[str, msgspec.Meta(max_length=32)] | None = None


_Count = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
_Metadata = Annotated[
    dict[Annotated[str, msgspec.Meta(max_length=64)], Annotated[str, msgspec.Meta(max_length=512)]],
    msgspec.Meta(max_length=16),
]


class Body(msgspec.Struct):
    """The fields that are understood."""

    input: str | list[msgspec.Raw] = ""
    model: str | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: str | _Conversation | None = None
    stream: bool | None = None
    store: bool | None = None
    background: bool | None = None
    include: list[str] | None = None
    tools: list[ToolSpec] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    text: _Text | None = None
    reasoning: _Reasoning | None = None
    max_output_tokens: _Count | None = None
    max_tool_calls: _Count | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    metadata: _Metadata | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None
    retrieval: RetrievalBody | None = None
    prompt: Any = None


PASSED_OVER = {"client_metadata", "stream_options", "prompt_cache_retention"}
"""Fields that change nothing here and are not worth telling."""
LOGPROBS = "message.output_text.logprobs"
ENCRYPTED = "reasoning.encrypted_content"

_decode = reader(Body)
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Asked(msgspec.Struct, frozen=True):
    """A response as it was asked for."""

    body: Body
    items: tuple[bytes, ...]
    """The JSON of each input item; some may only refer to a kept one."""
    echo: dict[str, Any]
    """The fields of the request that its response repeats."""
    unknown: tuple[str, ...]
    """Fields that were passed over."""

    @property
    def store(self) -> bool:
        """Whether the response is kept."""
        return self.body.store is not False

    @property
    def stream(self) -> bool:
        """Whether it is streamed."""
        return bool(self.body.stream)

    @property
    def background(self) -> bool:
        """Whether it goes on without its client."""
        return bool(self.body.background)

    @property
    def previous(self) -> str:
        """The response that this one goes on with."""
        return self.body.previous_response_id or ""

    @property
    def conversation(self) -> str:
        """The conversation that it reads and adds to."""
        given = self.body.conversation
        return given.id if isinstance(given, _Conversation) else given or ""

    @property
    def encrypted(self) -> bool:
        """Whether thinking is handed out in a form to be handed back."""
        return ENCRYPTED in (self.body.include or ())


class Read(msgspec.Struct, frozen=True):
    """A response ready to be made."""

    request: ChatRequest
    toolbox: Toolbox
    """What the calls of its functions stand for."""


def parse(body: bytes) -> Asked:
    """Read a request body. Raises GateError (invalid_request) naming the field at fault."""
    try:
        read = _decode(body)
        fields = {name: value for name, value in _decode_fields(body).items() if bytes(value) != b"null"}
    except UNREADABLE as error:
        raise unreadable(error) from error
    if read.prompt is not None:
        raise invalid("Prompts kept at OpenAI are not known here; send `input`.", "prompt")
    if read.previous_response_id and read.conversation:
        raise invalid("A response goes on with one thing: a response or a conversation.", "conversation")
    if read.background and read.store is False:
        raise invalid("A background response has to be kept.", "store", advice="Leave `store` out.")
    known = set(Body.__struct_fields__) | PASSED_OVER
    return Asked(
        body=read,
        items=_items(read),
        echo=_echo(read, fields),
        unknown=tuple(name for name in fields if name not in known)
        + tuple(f"text.{name}" for name in _text(fields) if name not in _Text.__struct_fields__),
    )


def read(asked: Asked, history: Sequence[bytes], items: Sequence[bytes]) -> Read:
    """The chat that `history`, items that are kept, and `items`, the request's own, add up to.

    Raises GateError (invalid_request) naming the field at fault.
    """
    body = asked.body
    toolbox = Toolbox()
    toolbox.add(body.tools or [], "tools")
    said = (*messages(history, toolbox, "history"), *messages(items, toolbox))
    if not any(message.role != "assistant" or message.parts or message.tool_calls for message in said):
        raise invalid("`input` is empty; there is nothing to answer.", "input")
    choice, tools = choice_of(body.tool_choice, toolbox)
    system = (Message("system", (Text(body.instructions),)),) if body.instructions else ()
    request = ChatRequest(
        model=body.model or "",
        messages=system + said,
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=body.parallel_tool_calls,
        sampling=Sampling(
            temperature=body.temperature,
            top_p=body.top_p,
            max_tokens=body.max_output_tokens,
            logprobs=LOGPROBS in (body.include or ()) or bool(body.top_logprobs) or None,
            top_logprobs=body.top_logprobs,
        ),
        effort=(body.reasoning.effort if body.reasoning else None) or "",
        format=_format(body.text.format if body.text else None),
        retrieval=retrieval(body.retrieval),
        truncate=body.truncation == "auto",
    )
    return Read(request, toolbox)


def references(asked: Asked) -> tuple[str, ...]:
    """Of each input item the id of the kept item it refers to; empty where it is one itself."""
    try:
        return tuple(reference(item) for item in asked.items)
    except UNREADABLE as error:
        raise unreadable(error) from error


def _items(body: Body) -> tuple[bytes, ...]:
    if isinstance(body.input, str):
        if not body.input:
            return ()
        return (msgspec.json.encode({"type": "message", "role": "user", "content": body.input}),)
    return tuple(bytes(item) for item in body.input)


def _echo(body: Body, fields: dict[str, msgspec.Raw]) -> dict[str, Any]:
    """What a response object repeats; where the request says nothing, OpenAI's default or null."""
    reasoning = msgspec.json.decode(fields.get("reasoning", b"{}"))
    return {
        "background": bool(body.background),
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id or None,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {"effort": None, "summary": None} | reasoning,
        "safety_identifier": body.safety_identifier,
        "service_tier": "default",
        "store": body.store is not False,
        "temperature": body.temperature,
        "text": {"format": _text(fields).get("format", {"type": "text"})},
        "tool_choice": fields.get("tool_choice", "auto"),
        "tools": [_repeated(tool) for tool in msgspec.json.decode(fields.get("tools", b"[]"))],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": body.top_p,
        "truncation": body.truncation or "disabled",
    } | ({"user": body.user} if body.user else {})


def _text(fields: dict[str, msgspec.Raw]) -> dict[str, Any]:
    said = msgspec.json.decode(fields.get("text", b"{}"), type=dict[str, Any])
    return {name: value for name, value in said.items() if value is not None}


def _repeated(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool as a response repeats it: of a function also what was left out."""
    if tool.get("type") != "function":
        return tool
    return {"description": None, "parameters": None, "strict": None, **tool}


def _format(read: _TextFormat | None) -> Format:
    if read is None or read.type == "text":
        return Format()
    if read.type == "json_object":
        return Format("json")
    if read.schema is None:
        raise invalid("`text.format` of type json_schema needs a `schema`.", "text.format.schema")
    return Format("schema", read.schema, read.name or "", bool(read.strict))
