"""OpenAI's Responses: events to items, and items to a stream of events or one response object.

The same encoder makes both: what is not streamed is the object that the stream would have ended
with. Source: OpenAI API reference, "Responses" and "Streaming events". Pure: ids and times are
handed in. It knows no backend and nothing of what is kept.

A backend's own work is told by items that no client runs: a command is a `code_interpreter_call`,
a search a `web_search_call`, a call of an MCP server an `mcp_call`. What else an agent tells about
its work goes into reasoning or into messages of phase `commentary` (`flat.Activity`).
"""

from typing import Any, assert_never

import msgspec

from ..errors import Fault
from ..events import (
    Approval,
    Commentary,
    Done,
    Event,
    Failed,
    FileChange,
    Notice,
    Plan,
    Reason,
    ReasoningDelta,
    Retrieved,
    TextDelta,
    ThreadStarted,
    ToolEvent,
    Usage,
    Window,
)
from ..flat import Activity, Flat
from ..records import ResponseStatus
from ..sse import named
from .openai_items import PREFIXES
from .openai_output import Answer, Call, ClientCall, Item, Remark, Thought, Told, Writing, own_call
from .openai_tools import ITEM_OF, Toolbox
from .retrieval import retrieval_context

_encode = msgspec.json.Encoder().encode


class Meta(msgspec.Struct, frozen=True):
    """What is known of a response before it begins."""

    id: str
    """`resp_…`; the ids of its items are made of it."""
    created: int
    """Unix seconds."""
    model: str
    """As the caller asked for it."""
    echo: dict[str, Any] = {}
    """Fields of the request that the response repeats."""
    conversation: str = ""
    encrypted: bool = False
    """Thinking is also handed out as `encrypted_content`."""


def item_id(kind: str, response: str, index: int) -> str:
    """The id of an item of `response`; `owner` finds the way back."""
    return f"{PREFIXES.get(kind, 'item')}_{response.removeprefix('resp_')}{index:04x}"


def owner(item: str) -> str:
    """The id of the response that the item `item` is of, if it is one of ours."""
    return f"resp_{item.rpartition('_')[2][:-4]}"


class Encoder:
    """Writes one response; what `feed` returns is ready to be sent."""

    def __init__(self, meta: Meta, toolbox: Toolbox | None = None, activity: Activity = "reasoning") -> None:
        self._meta = meta
        self._toolbox = toolbox or Toolbox()
        self._flat = Flat(activity)
        self._off = activity == "off"
        self._sequence = 0
        self._output: list[Item] = []
        self._open: Writing | None = None
        """The message or the thinking that is being written."""
        self._calls: dict[str, Call] = {}
        self._beside: dict[str, Any] = {}
        self._usage: Usage | None = None
        self._fault: Fault | None = None
        self._reason: Reason | None = None
        self.status: ResponseStatus = "queued"
        """As a response object has it."""

    @property
    def sequence(self) -> int:
        """The number of the next event."""
        return self._sequence

    def feed(self, event: Event) -> bytes:
        """The frames that `event` becomes; often none."""
        if isinstance(event, TextDelta) and self._open is not None and self._open.holds(event):
            return self._open.write(event, self._next())  # what nearly every event is
        begun = b"" if self.status == "in_progress" else self._begin()
        return begun + self._other(event)

    def response(self) -> dict[str, Any]:
        """The response object as it is now."""
        return {
            "id": self._meta.id,
            "object": "response",
            "created_at": self._meta.created,
            "status": self.status,
            "model": self._meta.model,
            **self._meta.echo,
            "error": _error(self._fault),
            "incomplete_details": self._incomplete(),
            "output": [*self._output],
            "usage": usage_object(self._usage) if self._usage else None,
            "conversation": {"id": self._meta.conversation} if self._meta.conversation else None,
            **self._beside,
        }

    def cancel(self) -> bytes:
        """End it because somebody asked to."""
        return self.feed(Done("cancelled"))

    def fail(self, fault: Fault) -> bytes:
        """End it badly, unless it has ended."""
        return self.feed(Failed(fault)) if self.status in ("queued", "in_progress") else b""

    def amend(self, told: bytes, **fields: Any) -> bytes:
        """What to tell instead of `told`, its end, now that `fields` are otherwise than was asked."""
        before, end, _ = told[:-2].rpartition(b"\n\n")
        self._beside |= fields
        self._sequence -= 1
        return before + end + self._last()

    # How it begins and ends

    def _begin(self) -> bytes:
        self.status = "in_progress"
        response = self.response()
        return self._tell(
            [("response.created", {"response": response}), ("response.in_progress", {"response": response})]
        )

    def _other(self, event: Event) -> bytes:
        match event:
            case TextDelta():
                return self._settle() + self._text(event)
            case ToolEvent():
                if self._off and event.runs_on == "backend":
                    return b""
                return self._settle() + self._call(event)
            case ReasoningDelta() | Commentary() | FileChange() | Plan() | Notice():
                return b"".join([self._aside(one) for one in self._flat.feed(event)])
            case Approval():
                return self._settle() + self._approval(event)
            case ThreadStarted():
                self._beside |= {"thread_id": event.thread}
                self._beside |= {"turn_number": event.turn} if event.turn else {}
                return b""
            case Retrieved():
                self._beside["retrieval_context"] = retrieval_context(event)
                return b""
            case Usage():
                self._usage = event
                return b""
            case Window():
                return b""
            case Done():
                return self._settle() + self._end(event)
            case Failed():
                return self._settle() + self._fail(event.fault)
            case _:
                assert_never(event)

    def _end(self, event: Done) -> bytes:
        cut = event.reason not in ("stop", "tool_calls")
        frames = self._close("incomplete" if cut else "completed")
        frames += b"".join([self._tell(call.abandon()) for call in self._calls.values()])
        match event.reason:
            case "stop" | "tool_calls":
                self.status = "completed"
            case "length" | "content_filter":
                self.status = "incomplete"
            case "cancelled":
                self.status = "cancelled"
        self._reason = event.reason
        return frames + self._last()

    def _incomplete(self) -> dict[str, str] | None:
        if self._reason == "length":
            return {"reason": "max_output_tokens"}
        return {"reason": "content_filter"} if self._reason == "content_filter" else None

    def _fail(self, fault: Fault) -> bytes:
        self._abandon()
        self._fault, self.status = fault, "failed"
        return self._last()

    def _last(self) -> bytes:
        kind = self.status if self.status in ("completed", "failed") else "incomplete"
        return self._tell([(f"response.{kind}", {"response": self.response()})])

    def _abandon(self) -> None:
        """What was being written stays as far as it came."""
        if self._open is not None:
            self._open.finish("incomplete")
            self._open = None
        for call in self._calls.values():
            call.abandon()

    # Messages, thoughts and calls

    def _settle(self) -> bytes:
        return b"".join([self._aside(one) for one in self._flat.settle()])

    def _aside(self, event: Event) -> bytes:
        """What is not the answer: thinking, or an agent's word about its work."""
        if not isinstance(event, ReasoningDelta | TextDelta):
            return b""
        kind = Thought if isinstance(event, ReasoningDelta) else Remark
        text, begun = event.text, b""
        if type(self._open) is not kind:
            text = text.lstrip("\n")  # they set it off from what came before: that is another item
            if not text:
                return b""
            begun = self._start(kind)
        return begun + self._write(TextDelta(text))

    def _text(self, event: TextDelta) -> bytes:
        return self._start(Answer, event.item) + self._write(event)

    def _write(self, event: TextDelta) -> bytes:
        assert self._open is not None
        return self._open.write(event, self._next())

    def _start(self, kind: type[Writing], item: str = "") -> bytes:
        before = self._close("completed")
        id, index = self._new(kind.type)
        self._open = kind(id, index, item, encrypted=self._meta.encrypted)
        self._output.append(self._open.fields)
        return before + self._tell(self._open.begin())

    def _close(self, status: str) -> bytes:
        if self._open is None:
            return b""
        ended, self._open = self._open.finish(status), None
        return self._tell(ended)

    def _call(self, event: ToolEvent) -> bytes:
        if event.stage != "started":
            return self._tell(self._calls[event.call_id].feed(event))
        before = self._close("completed")
        if event.runs_on == "client":
            origin = self._toolbox.origin(event.name)
            id, index = self._new(ITEM_OF[origin.kind])
            call: Call = ClientCall(id, index, event.call_id, origin)
        else:
            kind, fields = own_call(event)
            id, index = self._new(fields["type"])
            call = kind(id, index, fields)
        self._calls[event.call_id] = call
        self._output.append(call.fields)
        return before + self._tell(call.begin())

    def _approval(self, event: Approval) -> bytes:
        asked = {"detail": event.detail, "reason": event.reason, "cwd": event.cwd}
        item = {
            "id": event.id,
            "type": "mcp_approval_request",
            "server_label": "codex",
            "name": event.action,
            "arguments": _encode(asked).decode(),
        }
        before = self._close("completed")
        at = {"output_index": len(self._output), "item": item}
        self._output.append(item)
        return before + self._tell([("response.output_item.added", at), ("response.output_item.done", at)])

    def _new(self, kind: str) -> tuple[str, int]:
        index = len(self._output)
        return item_id(kind, self._meta.id, index), index

    def _tell(self, told: list[Told]) -> bytes:
        return b"".join(
            [
                named(name, _encode({"type": name, "sequence_number": self._next(), **fields}))
                for name, fields in told
            ]
        )

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence - 1


def broken_off(fault: Fault, sequence: int) -> bytes:
    """The last event, number `sequence`, of a stream that ends although its response has not."""
    error = {"code": fault.code or None, "message": fault.text, "param": fault.param or None}
    return named("error", _encode({"type": "error", "sequence_number": sequence, **error}))


def usage_object(usage: Usage) -> dict[str, Any]:
    """Counts as Responses name them."""
    counts: dict[str, Any] = {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt + usage.completion,
    }
    return counts | ({"estimated": True} if usage.estimated else {})


def _error(fault: Fault | None) -> dict[str, str] | None:
    if fault is None:
        return None
    if fault.code == "context_length_exceeded":  # not among the codes of the reference, but acted on
        return {"code": fault.code, "message": fault.text}
    codes = {"rate_limited": "rate_limit_exceeded", "invalid_request": "invalid_prompt"}
    return {"code": codes.get(fault.kind, "server_error"), "message": fault.text}
