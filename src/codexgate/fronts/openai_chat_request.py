"""The request of OpenAI's chat completions: bytes to a `ChatRequest`.

Source: OpenAI API reference, "Create chat completion". Types are checked by the structs below,
which is also the list of fields that are understood. Nulls are absent. A field that is not
understood is passed over and named in `Parsed.unknown`; one whose neglect would change the
meaning is refused by name.
"""

from typing import Annotated, Any, Literal

import msgspec

from ..chat import (
    ChatRequest,
    Document,
    Format,
    Image,
    Message,
    Part,
    StoredFile,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
)
from ..errors import invalid
from .openai_body import parser
from .openai_parts import data_url
from .openai_sampling import Sampled
from .openai_tools import choose
from .retrieval import RetrievalBody, retrieval

_Count = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class Parsed(msgspec.Struct, frozen=True):
    """A chat completion as it was asked for."""

    request: ChatRequest
    stream: bool
    include_usage: bool
    include_plan: bool
    choices: int
    unknown: tuple[str, ...]
    """Fields that were passed over."""


class _TextPart(msgspec.Struct, tag="text"):
    text: str


class _ImageUrl(msgspec.Struct):
    url: str
    detail: Annotated[str, msgspec.Meta(max_length=32)] | None = None


class _ImagePart(msgspec.Struct, tag="image_url"):
    image_url: _ImageUrl


class _FileData(msgspec.Struct):
    filename: str | None = None
    file_data: str | None = None
    file_id: str | None = None


class _FilePart(msgspec.Struct, tag="file"):
    file: _FileData


class _RefusalPart(msgspec.Struct, tag="refusal"):
    refusal: str


_Part = _TextPart | _ImagePart | _FilePart | _RefusalPart


class _CalledFunction(msgspec.Struct):
    name: _Name
    arguments: str = "{}"


class _Call(msgspec.Struct):
    id: str
    function: _CalledFunction
    type: Literal["function"] | None = None


class _Message(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[_Part] | None = None
    name: str | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    function_call: _CalledFunction | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Function(msgspec.Struct):
    name: _Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Tool(msgspec.Struct):
    type: Literal["function"]
    function: _Function


class _FunctionName(msgspec.Struct):
    name: _Name


class _NamedTool(msgspec.Struct):
    function: _FunctionName
    type: Literal["function"] = "function"


class _AllowedTools(msgspec.Struct):
    mode: Literal["auto", "required"]
    tools: list[_NamedTool]


class _Choice(msgspec.Struct):
    type: Literal["function", "allowed_tools"] = "function"
    function: _FunctionName | None = None
    allowed_tools: _AllowedTools | None = None


class _JsonSchema(msgspec.Struct):
    schema: dict[str, Any] | None = None
    name: str | None = None
    strict: bool | None = None


class _Format(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _JsonSchema | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None
    include_plan: bool | None = None


class _Body(Sampled, kw_only=True):
    messages: list[_Message]
    model: str | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    tools: list[_Tool] | None = None
    tool_choice: Literal["auto", "none", "required"] | _Choice | None = None
    parallel_tool_calls: bool | None = None
    response_format: _Format | None = None
    max_tokens: _Count | None = None
    max_completion_tokens: _Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    reasoning_effort: Annotated[str, msgspec.Meta(max_length=32)] | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=128)] | None = None
    retrieval: RetrievalBody | None = None
    session_id: str | None = None


_REFUSED: dict[str, tuple[Any, ...]] = {
    "functions": ([],),
    "function_call": ("auto", "none"),
    "audio": (),
    "modalities": (["text"], []),
    "logit_bias": ({},),
    "web_search_options": (),
}
"""Fields whose neglect would change the answer's meaning, and the values that ask for nothing."""

_read = parser(_Body)


def parse(body: bytes) -> Parsed:
    """Read a request body. Raises GateError (invalid_request) naming the field at fault."""
    read, unknown = _read(body)
    _refuse(body, unknown)
    if not read.messages:
        raise invalid("`messages` is empty; a chat needs at least one message.", "messages")
    options = read.stream_options or _StreamOptions()
    choice, tools = _choose(read)
    return Parsed(
        request=ChatRequest(
            model=read.model or "",
            messages=tuple(_message(message, f"messages[{at}]") for at, message in enumerate(read.messages)),
            tools=tools,
            tool_choice=choice,
            parallel_tool_calls=read.parallel_tool_calls,
            sampling=read.sampling(
                read.max_completion_tokens or read.max_tokens, read.logprobs or None, read.top_logprobs
            ),
            effort=read.reasoning_effort or "",
            format=_format(read.response_format),
            session=read.session_id or "",
            retrieval=retrieval(read.retrieval),
        ),
        stream=bool(read.stream),
        include_usage=bool(options.include_usage),
        include_plan=options.include_plan is not False,
        choices=read.n or 1,
        unknown=unknown,
    )


def _refuse(body: bytes, unknown: tuple[str, ...]) -> None:
    for name in unknown:
        if name in _REFUSED:
            value = msgspec.json.decode(body)[name]
            if value is not None and value not in _REFUSED[name]:
                raise invalid(
                    f"`{name}` is not supported here, and leaving it out would change the answer.", name
                )


def _message(read: _Message, at: str) -> Message:
    if read.role == "tool" and not read.tool_call_id:
        raise invalid("A `tool` message needs the `tool_call_id` that it answers.", f"{at}.tool_call_id")
    calls = tuple(
        ToolCall(call.id, call.function.name, call.function.arguments) for call in read.tool_calls or ()
    )
    if read.function_call is not None:  # the form before `tools`, which has no ids
        calls = (ToolCall(read.function_call.name, read.function_call.name, read.function_call.arguments),)
    return Message(
        role="tool" if read.role == "function" else read.role,
        parts=_parts(read.content, at),
        name=read.name or "",
        tool_calls=calls,
        tool_call_id=read.tool_call_id or (read.name or "" if read.role == "function" else ""),
        reasoning=read.reasoning_content or read.reasoning or "",
    )


def _parts(content: str | list[_Part] | None, at: str) -> tuple[Part, ...]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (Text(content),) if content else ()
    return tuple(_part(part, f"{at}.content[{index}]") for index, part in enumerate(content))


def _part(part: _Part, at: str) -> Part:
    match part:
        case _TextPart():
            return Text(part.text)
        case _RefusalPart():
            return Text(part.refusal)
        case _ImagePart():
            media_type, data = data_url(part.image_url.url, f"{at}.image_url.url")
            return Image(media_type, data, part.image_url.detail or "")
        case _FilePart():
            if part.file.file_id:
                return StoredFile(part.file.file_id)
            if part.file.file_data is None:
                raise invalid("A file needs its `file_data` or its `file_id`.", f"{at}.file")
            media_type, data = data_url(part.file.file_data, f"{at}.file.file_data")
            return Document(part.file.filename or "file", media_type, data)


def _tool(read: _Tool) -> Tool:
    function = read.function
    return Tool(function.name, function.description or "", function.parameters or {}, bool(function.strict))


def _choose(read: _Body) -> tuple[ToolChoice, tuple[Tool, ...]]:
    """`tool_choice`, and the tools that it leaves to the model."""
    tools = tuple(_tool(tool) for tool in read.tools or ())
    match read.tool_choice:
        case None:
            return choose(ToolChoice(), tools)
        case _Choice(type="function", function=_FunctionName(name=name)):
            return choose(ToolChoice("named", name), tools)
        case _Choice(type="allowed_tools", allowed_tools=_AllowedTools(mode=mode, tools=listed)):
            return choose(ToolChoice(mode), tools, {each.function.name for each in listed})
        case _Choice(type=missing):
            raise invalid(f"`tool_choice.{missing}` is missing.", f"tool_choice.{missing}")
        case mode:
            return choose(ToolChoice(mode), tools)


def _format(read: _Format | None) -> Format:
    if read is None or read.type == "text":
        return Format()
    if read.type == "json_object":
        return Format("json")
    schema = read.json_schema
    if schema is None or schema.schema is None:
        raise invalid("`response_format` of type json_schema needs `json_schema.schema`.", "response_format")
    return Format("schema", schema.schema, schema.name or "", bool(schema.strict))
