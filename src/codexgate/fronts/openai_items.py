"""Items of OpenAI's Responses as the messages of a chat, and what keeping them needs.

Source: OpenAI API reference, "Responses", `input`. An item is kept as the JSON it came as; here
it is read. Pure; knows neither requests nor streams.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from ..chat import Document, Image, Message, Part, StoredFile, Text
from ..errors import invalid
from .openai_body import reader
from .openai_error import UNREADABLE, unreadable
from .openai_parts import data_url
from .openai_tools import ITEM_OF, Kind, Toolbox, ToolSpec, call_of


class InputText(msgspec.Struct, tag="input_text"):
    """Text of a message."""

    text: str


class OutputText(msgspec.Struct, tag="output_text"):
    """Text that a model wrote."""

    text: str


class PlainText(msgspec.Struct, tag="text"):
    """Text, as some clients call it."""

    text: str


class SummaryText(msgspec.Struct, tag="summary_text"):
    """A piece of a summary of thinking."""

    text: str


class ReasoningText(msgspec.Struct, tag="reasoning_text"):
    """A piece of thinking."""

    text: str


class Refusal(msgspec.Struct, tag="refusal"):
    """Why a model would not."""

    refusal: str


class InputImage(msgspec.Struct, tag="input_image"):
    """A picture, inline or uploaded before."""

    image_url: str | None = None
    file_id: str | None = None
    detail: str | None = None


class InputFile(msgspec.Struct, tag="input_file"):
    """A file, inline or uploaded before."""

    file_id: str | None = None
    filename: str | None = None
    file_data: str | None = None
    file_url: str | None = None


Content = InputText | OutputText | PlainText | SummaryText | ReasoningText | Refusal | InputImage | InputFile


class MessageItem(msgspec.Struct):
    """A message; `type` may be left out."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Content]


class ReasoningItem(msgspec.Struct):
    """What the model thought."""

    summary: list[SummaryText] = []
    content: list[ReasoningText | PlainText] | None = None


class FunctionCallItem(msgspec.Struct):
    """A call of a function."""

    call_id: str
    name: str
    arguments: str


class OutputItem(msgspec.Struct):
    """What a tool answered."""

    call_id: str | None = None
    output: Any = ""


class _Typed(msgspec.Struct):
    type: str | None = None
    id: str | None = None


class ToolsItem(msgspec.Struct):
    """Tools that are offered from here on."""

    call_id: str | None = None
    tools: list[ToolSpec] = []


_CALLS: dict[str, Kind] = {item: kind for kind, item in ITEM_OF.items()}
_OUTPUTS = {
    "function_call_output",
    "custom_tool_call_output",
    "local_shell_call_output",
    "shell_call_output",
    "apply_patch_call_output",
}
_DONE_ELSEWHERE = {
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "image_generation_call",
    "mcp_call",
    "mcp_list_tools",
    "mcp_approval_request",
    "mcp_approval_response",
}
"""What a server did itself: nothing that a model has to be told again."""
_OFFERS = {"additional_tools", "tool_search_output"}
REFERENCE = "item_reference"

_typed = msgspec.json.Decoder(_Typed).decode
_fields = msgspec.json.Decoder(dict[str, Any]).decode
_message = reader(MessageItem)
_reasoning = reader(ReasoningItem)
_function_call = reader(FunctionCallItem)
_output = reader(OutputItem)
_tools = reader(ToolsItem)
_parts = msgspec.json.Decoder(list[Content]).decode


def reference(item: bytes) -> str:
    """The id of the kept item that `item` only refers to; empty when it is one itself."""
    typed = _typed(item)
    if typed.type == REFERENCE or (typed.type is None and typed.id and set(_fields(item)) == {"id"}):
        return typed.id or ""
    return ""


def identified(item: bytes, id: str) -> tuple[str, bytes]:
    """The item with an id: its own, or one whose prefix tells the type, such as `msg_` and `id`."""
    fields = _fields(item)
    kind = fields["type"] = fields.get("type") or "message"
    own = fields.get("id")
    if not isinstance(own, str) or not own:
        own = fields["id"] = f"{PREFIXES.get(kind, 'item')}_{id}"
    if kind == "message":
        fields = _listed_message(fields)
    elif kind in _CALLS or kind in _OUTPUTS:
        fields.setdefault("status", "completed")
    return own, msgspec.json.encode(fields)


PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "tool_search_call": "tsc",
    "local_shell_call": "lsh",
    "shell_call": "sh",
    "apply_patch_call": "apc",
    "code_interpreter_call": "ci",
    "web_search_call": "ws",
    "mcp_call": "mcp",
    "mcp_approval_request": "mcpr",
}
"""What ids of items begin with, by type."""


def messages(items: Sequence[bytes], toolbox: Toolbox, where: str = "input") -> tuple[Message, ...]:
    """The chat that `items` are, oldest first; tools that an item offers go into `toolbox`.

    What an assistant thought, said and called without a pause is one message. Raises GateError
    (invalid_request) naming the item at fault.
    """
    reading = _Reading(toolbox)
    for index, item in enumerate(items):
        at = f"{where}[{index}]"
        try:
            reading.feed(item, at)
        except UNREADABLE as error:
            raise unreadable(error, at) from error
    return reading.end()


class _Reading:
    """Puts together what belongs to one message."""

    def __init__(self, toolbox: Toolbox) -> None:
        self._toolbox = toolbox
        self._messages: list[Message] = []
        self._open: Message | None = None
        """What the assistant has thought, said and called since somebody else spoke."""

    def feed(self, item: bytes, at: str) -> None:
        kind = _typed(item).type or "message"
        if kind == "message":
            read = _message(item)
            self._say(read.role, _content(read.content, f"{at}.content"))
        elif kind == "reasoning":
            self._think(_reasoning(item))
        elif kind in _CALLS:
            if kind == "function_call":
                _function_call(item)  # which every call of a function has
            self._call(_CALLS[kind], _fields(item), at)
        elif kind in _OUTPUTS:
            self._answer(_output(item), at)
        elif kind in _OFFERS:
            self._offer(_tools(item), at)
        elif kind == REFERENCE:
            raise invalid("The item it refers to is not kept here.", at, "item_not_found")
        elif kind not in _DONE_ELSEWHERE:
            raise invalid(f"There is no item of type '{kind}'.", f"{at}.type")

    def end(self) -> tuple[Message, ...]:
        self._close()
        return tuple(self._messages)

    def _close(self) -> None:
        if self._open is not None:
            self._messages.append(self._open)
            self._open = None

    def _say(
        self, role: Literal["system", "developer", "user", "assistant"], parts: tuple[Part, ...]
    ) -> None:
        if role != "assistant":
            self._close()
            self._messages.append(Message(role, parts))
            return
        if self._open is not None and (self._open.parts or self._open.tool_calls):
            self._close()
        thought = self._open.reasoning if self._open is not None else ""
        self._open = Message("assistant", parts, reasoning=thought)

    def _think(self, read: ReasoningItem) -> None:
        pieces = read.content or read.summary
        text = "\n\n".join(piece.text for piece in pieces)
        if self._open is not None and (self._open.parts or self._open.tool_calls):
            self._close()
        before = f"{self._open.reasoning}\n\n" if self._open is not None and self._open.reasoning else ""
        self._open = Message("assistant", reasoning=before + text)

    def _call(self, kind: Kind, fields: dict[str, Any], at: str) -> None:
        call_id = fields.get("call_id") or fields.get("id")
        if not isinstance(call_id, str) or not call_id:
            raise invalid("A call needs its `call_id`.", f"{at}.call_id")
        call = call_of(self._toolbox, kind, call_id, fields)
        said = self._open or Message("assistant")
        self._open = msgspec.structs.replace(said, tool_calls=(*said.tool_calls, call))

    def _answer(self, read: OutputItem, at: str) -> None:
        if not read.call_id:
            raise invalid("An output needs the `call_id` that it answers.", f"{at}.call_id")
        self._close()
        parts = _answered(read.output, f"{at}.output")
        self._messages.append(Message("tool", parts, tool_call_id=read.call_id))

    def _offer(self, read: ToolsItem, at: str) -> None:
        self._toolbox.add(read.tools, f"{at}.tools")
        if read.call_id:
            self._close()
            found = ", ".join(spec.name or spec.type for spec in read.tools)
            text = f"Found: {found}" if found else "Nothing was found."
            self._messages.append(Message("tool", (Text(text),), tool_call_id=read.call_id))


def _answered(output: Any, at: str) -> tuple[Part, ...]:
    """The output of a tool: a text, content parts, or of a shell a list of what it printed."""
    if isinstance(output, str):
        return (Text(output),) if output else ()
    encoded = msgspec.json.encode(output)
    if isinstance(output, list) and all(isinstance(one, dict) and "type" in one for one in output):
        try:
            return _content(_parts(encoded), at)
        except msgspec.ValidationError:
            pass  # a shell's own shape: the model can read JSON
    return (Text(encoded.decode()),)


def _content(content: str | list[Content], at: str) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Text(content),) if content else ()
    return tuple(_part(part, f"{at}[{index}]") for index, part in enumerate(content))


def _part(part: Content, at: str) -> Part:
    match part:
        case Refusal():
            return Text(part.refusal)
        case InputImage():
            if part.file_id:
                return StoredFile(part.file_id, as_image=True)
            if not part.image_url:
                raise invalid("An image needs `image_url` or `file_id`.", at)
            return Image(*data_url(part.image_url, f"{at}.image_url"), part.detail or "")
        case InputFile():
            return _file(part, at)
        case _:
            return Text(part.text)


def _file(part: InputFile, at: str) -> Part:
    if part.file_id:
        return StoredFile(part.file_id)
    if part.file_url:
        raise invalid("Remote files are not fetched; send `file_data` or upload it.", f"{at}.file_url")
    if part.file_data is None:
        raise invalid("A file needs `file_id` or `file_data`.", at)
    if not part.file_data.startswith("data:"):  # bare base64, as some clients send it
        return Document(part.filename or "file", "", part.file_data)
    return Document(part.filename or "file", *data_url(part.file_data, f"{at}.file_data"))


def _listed_message(fields: dict[str, Any]) -> dict[str, Any]:
    """A message as listings show it: content in parts, with a status."""
    output = fields.get("role") == "assistant"
    content = fields.get("content")
    if isinstance(content, str):
        text: dict[str, Any] = {"type": "output_text" if output else "input_text", "text": content}
        content = [text]
    for part in content or ():
        if part.get("type") == "output_text":
            part.setdefault("annotations", [])
            part.setdefault("logprobs", [])
        elif part.get("type") == "input_image":
            part.setdefault("detail", "auto")
    return {**fields, "content": content, "status": fields.get("status") or "completed"}
