"""The items of a Responses answer while they are being written: what each tells as it grows.

Source: OpenAI API reference, "Responses", `output` and its streaming events. An item returns what
is to be told as (name, fields); numbering and framing it is the encoder's. Pure.
"""

from base64 import b64encode
from typing import Any, ClassVar

import msgspec

from ..events import Logprob, TextDelta, ToolEvent
from .openai_tools import Origin, item_of

Item = dict[str, Any]
Told = tuple[str, Item]
"""An event's name, and its fields but `type` and `sequence_number`."""

_encode = msgspec.json.Encoder().encode


class Writing:
    """A message or a thought; its deltas are frames at once, since they are what a stream is made of."""

    type: ClassVar = "message"
    delta: ClassVar = "response.output_text.delta"

    def __init__(self, id: str, index: int, item: str = "", *, encrypted: bool = False) -> None:
        """`item`: the backend's name of the message; `encrypted`: see `openai_responses.Meta`."""
        self.fields: Item = {"id": id, "type": self.type, "status": "in_progress"} | self._empty()
        self._item = item
        self._encrypted = encrypted
        self._texts: list[str] = []
        self._logprobs: list[Logprob] = []
        self._at = {"output_index": index}
        self._place = {"item_id": id} | self._at | self._inside()
        head = _encode({"type": self.delta, **self._place})[:-1]
        self._head = f"event: {self.delta}\ndata: ".encode() + head + b',"delta":'

    def holds(self, event: TextDelta) -> bool:
        """It is a piece of this one."""
        return type(self) is Answer and event.item == self._item

    def write(self, event: TextDelta, sequence: int) -> bytes:
        """The frame of one delta."""
        self._texts.append(event.text)
        return self._head + _encode(event.text) + b',"sequence_number":%d}\n\n' % sequence

    def begin(self) -> list[Told]:
        """That it is there."""
        added = ("response.output_item.added", self._at | {"item": self.fields})
        return [added, (f"response.{self._part_name}.added", self._place | {"part": self._part("")})]

    def finish(self, status: str) -> list[Told]:
        """That it is over; `status` as an item has it."""
        text = "".join(self._texts)
        part = self._part(text)
        self.fields |= {"status": status} | self._whole(text, part)
        return [
            (self.delta.removesuffix("delta") + "done", self._place | self._said(text)),
            (f"response.{self._part_name}.done", self._place | {"part": part}),
            ("response.output_item.done", self._at | {"item": self.fields}),
        ]

    _part_name: ClassVar = "content_part"

    def _empty(self) -> Item:
        return {"role": "assistant", "content": []}

    def _inside(self) -> Item:
        return {"content_index": 0}

    def _part(self, text: str) -> Item:
        logprobs = [_logprob(one) for one in self._logprobs]
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}

    def _said(self, text: str) -> Item:
        return {"text": text, "logprobs": [_logprob(one) for one in self._logprobs]}

    def _whole(self, text: str, part: Item) -> Item:
        return {"content": [part]} if text else {"content": []}


class Answer(Writing):
    """A message of the answer."""

    def write(self, event: TextDelta, sequence: int) -> bytes:
        """The frame of one delta."""
        self._texts.append(event.text)
        self._logprobs += event.logprobs
        logprobs = _encode([_logprob(one) for one in event.logprobs]) if event.logprobs else b"[]"
        tail = b',"logprobs":' + logprobs + b',"sequence_number":%d}\n\n' % sequence
        return self._head + _encode(event.text) + tail


class Remark(Answer):
    """A message about the work, before the answer."""

    def _empty(self) -> Item:
        return {"role": "assistant", "phase": "commentary", "content": []}


class Thought(Writing):
    """What the model thinks, as one summary."""

    type: ClassVar = "reasoning"
    delta: ClassVar = "response.reasoning_summary_text.delta"
    _part_name: ClassVar = "reasoning_summary_part"

    def _empty(self) -> Item:
        return {"summary": []}

    def _inside(self) -> Item:
        return {"summary_index": 0}

    def _part(self, text: str) -> Item:
        return {"type": "summary_text", "text": text}

    def _said(self, text: str) -> Item:
        return {"text": text}

    def _whole(self, text: str, part: Item) -> Item:
        if not self._encrypted:
            return {"summary": [part]}
        # Opaque to clients, which only hand it back; the summary says the same.
        opaque = b64encode(text.encode("utf-8", "surrogatepass")).decode()
        return {"summary": [part], "encrypted_content": opaque}


class Call:
    """A call of a tool."""

    def __init__(self, id: str, index: int, fields: Item) -> None:
        self.fields = {"id": id, **fields, "status": "in_progress"}
        self._at = {"output_index": index}
        self._texts: list[str] = []
        self._over = False

    def begin(self) -> list[Told]:
        """That it is there."""
        return [("response.output_item.added", self._at | {"item": self.fields}), *self._begun()]

    def feed(self, event: ToolEvent) -> list[Told]:
        """More of its arguments or of its output, or its end."""
        self._texts.append(event.text)
        if event.stage != "finished":
            return self._more(event.text) if event.text else []
        self._over = True
        self.fields["status"] = "completed" if event.ok else "failed"
        ended = self._ended("".join(self._texts), event.ok)
        return [*ended, ("response.output_item.done", self._at | {"item": self.fields})]

    def abandon(self) -> list[Told]:
        """The answer is over and the call is not."""
        if self._over:
            return []
        self._over = True
        self.fields["status"] = "incomplete"
        return [("response.output_item.done", self._at | {"item": self.fields})]

    def _begun(self) -> list[Told]:
        return []

    def _more(self, _text: str, /) -> list[Told]:
        return []

    def _ended(self, _text: str, _ok: bool, /) -> list[Told]:
        return []

    def _tell(self, name: str, /, **fields: Any) -> Told:
        return (f"response.{name}", {"item_id": self.fields["id"]} | self._at | fields)


class ClientCall(Call):
    """One that the client must run."""

    def __init__(self, id: str, index: int, call_id: str, origin: Origin) -> None:
        super().__init__(id, index, item_of(origin, call_id, ""))
        self._call_id = call_id
        self._origin = origin

    def _more(self, text: str, /) -> list[Told]:
        if self._origin.kind != "function":
            return []  # its shape is another's: known when it is whole
        return [self._tell("function_call_arguments.delta", delta=text)]

    def _ended(self, text: str, _ok: bool, /) -> list[Told]:
        self.fields |= item_of(self._origin, self._call_id, text)
        match self._origin.kind:
            case "function":
                called = {"name": self._origin.name, "arguments": text}
                return [self._tell("function_call_arguments.done", **called)]
            case "custom":
                whole = self.fields["input"]
                more = [self._tell("custom_tool_call_input.delta", delta=whole)] if whole else []
                return [*more, self._tell("custom_tool_call_input.done", input=whole)]
            case _:
                return []


class Command(Call):
    """A command that the backend runs."""

    def _begun(self) -> list[Told]:
        return [
            self._tell("code_interpreter_call.in_progress"),
            self._tell("code_interpreter_call_code.done", code=self.fields["code"]),
            self._tell("code_interpreter_call.interpreting"),
        ]

    def _ended(self, text: str, _ok: bool, /) -> list[Told]:
        self.fields["outputs"] = [{"type": "logs", "logs": text}]
        return [self._tell("code_interpreter_call.completed")]


class Search(Call):
    """A search of the web by the backend."""

    def _begun(self) -> list[Told]:
        return [self._tell("web_search_call.in_progress"), self._tell("web_search_call.searching")]

    def _ended(self, _text: str, _ok: bool, /) -> list[Told]:
        return [self._tell("web_search_call.completed")]


class ServedCall(Call):
    """A tool of an MCP server that the backend calls."""

    def _begun(self) -> list[Told]:
        arguments = self.fields["arguments"]
        return [
            self._tell("mcp_call.in_progress"),
            self._tell("mcp_call_arguments.done", arguments=arguments),
        ]

    def _ended(self, text: str, ok: bool, /) -> list[Told]:
        if ok:
            self.fields["output"] = text
            return [self._tell("mcp_call.completed")]
        content = [{"type": "text", "text": text}]
        self.fields["error"] = {"type": "mcp_tool_execution_error", "content": content}
        return [self._tell("mcp_call.failed")]


OWN: dict[str, tuple[str, type[Call]]] = {
    "command": ("code_interpreter_call", Command),
    "web_search": ("web_search_call", Search),
}
"""Of each tool of a backend's own its item; every other is one of an MCP server."""


def own_call(event: ToolEvent) -> tuple[type[Call], Item]:
    """The item of a backend's own call as it begins, without `id` and `status`."""
    kind, call = OWN.get(event.name, ("mcp_call", ServedCall))
    match kind:
        case "code_interpreter_call":
            return call, {"type": kind, "container_id": "codex", "code": event.text, "outputs": None}
        case "web_search_call":
            return call, {"type": kind, "action": {"type": "search", "query": event.text}}
        case _:
            server, _, tool = event.name.removeprefix("mcp:").partition("/")
            called = {"server_label": server, "name": tool or server, "arguments": event.text}
            return call, {"type": kind, **called, "output": None, "error": None}


def _logprob(one: Logprob) -> Item:
    top = [{"token": each.token, "logprob": each.logprob, "bytes": each.bytes or ()} for each in one.top]
    return {"token": one.token, "logprob": one.logprob, "bytes": one.bytes or (), "top_logprobs": top}
