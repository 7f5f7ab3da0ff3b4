"""OpenAI's chat completions: a body to a `ChatRequest`, events to chunks, a reply to a body.

Source: OpenAI API reference, "Chat" and "Streaming". Pure: ids and times are handed in. It
knows no backend. A chat answer is one text, so it is fed with flattened events (`flat.Flat`).
"""

from typing import Any, Literal, assert_never

import msgspec

from ..events import (
    Approval,
    Commentary,
    Done,
    Event,
    Failed,
    FileChange,
    Logprob,
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
from ..fold import Reply
from ..ports import Frames
from ..sse import DONE, frame
from .openai_error import body as error_body
from .openai_usage import total, usage_object
from .retrieval import retrieval_context

ReasoningField = Literal["reasoning_content", "reasoning", "both"]

_FINISH: dict[Reason, str] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "cancelled": "stop",
}
_encode = msgspec.json.Encoder().encode


class Meta(msgspec.Struct, frozen=True):
    """What every chunk of one answer repeats."""

    id: str
    """`chatcmpl-…`"""
    created: int
    """Unix seconds."""
    model: str
    """As the caller asked for it."""
    reasoning: ReasoningField = "reasoning_content"
    """Where thinking goes; clients disagree on the name."""


class Encoder:
    """Writes one streamed answer; what it returns is ready to be sent."""

    def __init__(self, meta: Meta, *, include_usage: bool = False, index: int | None = None) -> None:
        """`index`: of one of several answers in one stream, whose ends are not the stream's."""
        self._meta = meta
        self._alone = index is None
        self._index = index or 0
        self._include_usage = include_usage
        self.usage: Usage | None = None
        """What the backend counted, once it is known."""
        self._retrieved: Retrieved | None = None
        self._begun = False
        self._calls: dict[str, int] = {}
        # With include_usage every other chunk carries `"usage": null` (API reference, stream_options).
        self._tail = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._text_tail = b'},"finish_reason":null}]' + self._tail
        self._repeat({})

    def _repeat(self, more: dict[str, Any]) -> None:
        """Write what every chunk repeats once for all of them; `more` is beside OpenAI's fields."""
        meta = self._meta
        head = {"id": meta.id, "object": "chat.completion.chunk", "created": meta.created}
        self._head = b"data: " + _encode(head | {"model": meta.model} | more)[:-1]
        self._choice = self._head + b',"choices":[{"index":%d,"delta":' % self._index
        self._text_head = self._choice + b'{"content":'

    def feed(self, event: Event) -> bytes:
        """The frames that `event` becomes; empty for what a chat answer does not show."""
        if isinstance(event, TextDelta) and self._begun and not event.logprobs:  # what nearly every event is
            return self._text_head + _encode(event.text) + self._text_tail
        if isinstance(event, ThreadStarted):
            self._repeat(thread_fields(event))
            return b""
        if isinstance(event, Retrieved):
            self._retrieved = event
            return b""
        if isinstance(event, Window):
            return b""
        return self._start() + self._other(event)

    def pass_on(self, frames: Frames) -> bytes:
        """A backend's own frames under this answer's id, time and model; empty where they will not do.

        What stands in them beside OpenAI's fields stays.
        """
        if not self._alone or (self._include_usage and not frames.null_usage):
            return b""
        return self._start() + frames.raw.replace(frames.head, self._head)

    def close(self, event: Done | Failed) -> bytes:
        """The end of the stream, which is that of its only answer or comes after those of several."""
        end = DONE if isinstance(event, Done) else frame(_encode(error_body(event.fault)))
        return self._usage_chunk() + end

    def _start(self) -> bytes:
        """The role, once, before anything else."""
        if self._begun:
            return b""
        self._begun = True
        return self._delta({"role": "assistant", "content": ""})

    def _other(self, event: Event) -> bytes:
        match event:
            case ThreadStarted() | Retrieved() | Window():
                return b""
            case TextDelta():
                return self._delta({"content": event.text}, event.logprobs)
            case ReasoningDelta():
                return self._delta(reasoning_fields(event.text, self._meta.reasoning))
            case ToolEvent():
                return self._tool(event) if event.runs_on == "client" else b""
            case Usage():
                self.usage = event
                return b""
            case Done():
                return self._end(event)
            case Failed():
                return self.close(event)
            case Commentary() | FileChange() | Plan() | Approval() | Notice():
                return b""
            case _:
                assert_never(event)

    def _tool(self, event: ToolEvent) -> bytes:
        if event.stage == "started":
            index = self._calls[event.call_id] = len(self._calls)
            function = {"name": event.name, "arguments": ""}
            call = {"index": index, "id": event.call_id, "type": "function", "function": function}
        elif event.stage == "arguments":
            call = {"index": self._calls[event.call_id], "function": {"arguments": event.text}}
        else:
            return b""
        return self._delta({"tool_calls": [call]})

    def _end(self, event: Done) -> bytes:
        finish = self._choice + b'{},"finish_reason":' + _encode(_FINISH[event.reason]) + b"}]"
        if self._retrieved is not None:
            finish += b',"retrieval_context":' + _encode(retrieval_context(self._retrieved))
        return finish + self._tail + (self.close(event) if self._alone else b"")

    def _usage_chunk(self) -> bytes:
        if self.usage is None or not self._include_usage:
            return b""
        return self._head + b',"choices":[],"usage":' + _encode(usage_object(self.usage)) + b"}\n\n"

    def _delta(self, delta: dict[str, Any], logprobs: tuple[Logprob, ...] = ()) -> bytes:
        said = b',"logprobs":' + _encode(logprobs_object(logprobs)) if logprobs else b""
        return self._choice + _encode(delta) + said + b',"finish_reason":null}]' + self._tail


class Choices:
    """Writes several answers side by side into one stream; every chunk carries its answer's index."""

    def __init__(self, meta: Meta, count: int, *, include_usage: bool = False) -> None:
        self._answers = [Encoder(meta, include_usage=include_usage, index=index) for index in range(count)]

    def feed(self, index: int, event: Event) -> bytes:
        """The frames that an event of one answer becomes; its failure is the stream's."""
        return b"" if isinstance(event, Failed) else self._answers[index].feed(event)

    def close(self, usage: Usage | None, event: Done | Failed) -> bytes:
        """The end: the usage of all together if it was asked for, then the one end of the stream."""
        self._answers[0].usage = usage
        return self._answers[0].close(event)


def render(replies: list[Reply], meta: Meta) -> dict[str, Any]:
    """The body of an answer that is not streamed; one choice per reply, none of them failed."""
    usages = {index: reply.usage for index, reply in enumerate(replies) if reply.usage}
    return {
        "id": meta.id,
        "object": "chat.completion",
        "created": meta.created,
        "model": meta.model,
        "choices": [_choice(reply, index, meta) for index, reply in enumerate(replies)],
        "usage": usage_object(total(usages, len(replies))),
    } | _beside(replies[0])


def _beside(reply: Reply) -> dict[str, Any]:
    """What stands beside OpenAI's own fields."""
    thread = thread_fields(reply.thread) if reply.thread else {}
    return thread | ({"retrieval_context": retrieval_context(reply.retrieved)} if reply.retrieved else {})


def logprobs_object(logprobs: tuple[Logprob, ...]) -> dict[str, Any] | None:
    """Log probabilities as a choice carries them; none when there are none."""
    if not logprobs:
        return None
    content = [_token(one) | {"top_logprobs": [_token(top) for top in one.top]} for one in logprobs]
    return {"content": content, "refusal": None}


def _token(one: Logprob) -> dict[str, Any]:
    return {"token": one.token, "logprob": one.logprob, "bytes": one.bytes}


def thread_fields(event: ThreadStarted) -> dict[str, Any]:
    """Where the turn runs, beside OpenAI's own fields."""
    return {"thread_id": event.thread} | ({"turn_number": event.turn} if event.turn else {})


def reasoning_fields(text: str, field: ReasoningField) -> dict[str, Any]:
    """Thinking under the name or names that the setting picks."""
    if field == "both":
        return {"reasoning_content": text, "reasoning": text}
    return {field: text}


def _choice(reply: Reply, index: int, meta: Meta) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None, "refusal": None}
    if not reply.tool_calls:
        message["content"] = reply.text
    if reply.reasoning:
        message |= reasoning_fields(reply.reasoning, meta.reasoning)
    if reply.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in reply.tool_calls
        ]
    finish = _FINISH[reply.reason or "stop"]
    logprobs = logprobs_object(reply.logprobs)
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish}
