"""The messages of Ollama's API: a history with its calls and pictures, to the gate's own.

Source: Ollama, api/types.go (`Message`, `ToolCall`) and docs/api.md. Other than there, pictures are
looked at before a model is asked.
"""

import binascii
import re
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from ..chat import Image, Message, Role, Text, ToolCall
from ..errors import invalid
from ..sniff import image_type

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_HEAD = 16
"""Characters of base64 that show what kind of picture it is."""


class _CalledFunction(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    arguments: dict[str, Any] | None = None


class _Call(msgspec.Struct):
    function: _CalledFunction
    id: str | None = None


class MessageItem(msgspec.Struct):
    """One message of a chat."""

    role: str
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[_Call] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


def messages(history: Sequence[MessageItem]) -> tuple[Message, ...]:
    """A history, oldest first. Raises GateError (invalid_request) naming the field at fault."""
    calls = _Calls()
    return tuple(_message(each, f"messages[{at}]", calls) for at, each in enumerate(history))


def images(given: list[str] | None, at: str) -> tuple[Image, ...]:
    """Pictures, in plain base64. Raises GateError (invalid_request) for what is none. `at`: its field."""
    return tuple(_image(data, f"{at}[{index}]") for index, data in enumerate(given or ()))


class _Calls:
    """The calls of a history by their ids; Ollama's own clients send none, so they are counted."""

    def __init__(self) -> None:
        self._open: list[ToolCall] = []
        """Those that no message has answered yet."""

    def make(self, read: _Call, at: str) -> ToolCall:
        arguments = msgspec.json.encode(read.function.arguments or {}).decode()
        call = ToolCall(
            read.id or f"call_{re.sub('[^0-9]+', '_', at).strip('_')}", read.function.name, arguments
        )
        self._open.append(call)
        return call

    def answered(self, id: str, name: str) -> ToolCall:
        """The call that a message answers: by id, else the first of that name, else the first."""
        for call in self._open:
            if call.id == id if id else name in ("", call.name):
                self._open.remove(call)
                return call
        return ToolCall(id or name or "call", name, "")


def _message(read: MessageItem, at: str, calls: _Calls) -> Message:
    role = ROLES.get(read.role.lower())
    if role is None:
        raise invalid(f"`{at}.role` is one of {', '.join(ROLES)}.", f"{at}.role")
    text = (Text(read.content),) if read.content else ()
    made = tuple(
        calls.make(call, f"{at}.tool_calls[{index}]") for index, call in enumerate(read.tool_calls or ())
    )
    called = calls.answered(read.tool_call_id or "", read.tool_name or "") if role == "tool" else None
    return Message(
        role=role,
        parts=(*text, *images(read.images, f"{at}.images")),
        name=called.name if called else "",
        tool_calls=made,
        tool_call_id=called.id if called else "",
        reasoning=read.thinking or "",
    )


def _image(data: str, at: str) -> Image:
    """Ollama's pictures are plain base64; what kind they are, their first bytes tell."""
    try:
        media_type = image_type(binascii.a2b_base64(data[:_HEAD], strict_mode=True))
    except ValueError:
        raise invalid(f"`{at}` is not base64.", at) from None
    if not media_type:
        raise invalid(f"`{at}` is no PNG, JPEG, GIF or WebP picture.", at)
    return Image(media_type, data)
