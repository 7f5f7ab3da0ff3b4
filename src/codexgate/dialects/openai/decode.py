"""The answer to POST /chat/completions or /completions as events, from bytes that are cut anywhere.

Source: OpenAI API reference, "Streaming" and "The chat completion chunk object"; WHATWG HTML,
"Server-sent events", except that a bare CR ends no line. Servers that only resemble OpenAI are read
as far as their meaning is plain. Pure: ids come from outside.

An answer is whole when the server has said why it ended (`finish_reason`) or that it has (`[DONE]`);
a stream that merely stops is a failure.
"""

import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from ...errors import Fault
from ...events import Done, Event, Failed, Logprob, Reason, ReasoningDelta, TextDelta, Usage
from ...lines import LineTooLong
from ...ports import Frames
from .calls import Call, Calls, Function
from .errors import Upstream, stream_fault
from .stream import Stream


class _Piece(msgspec.Struct):
    """A part of a content that is a list (Mistral's thinking models)."""

    type: str = ""
    text: str = ""
    thinking: list["_Piece"] | None = None


class _Delta(msgspec.Struct):
    role: str | None = None
    content: str | list[_Piece] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_text: str | None = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None
    function_call: Function | None = None


class _Alternative(msgspec.Struct):
    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None


class _Token(_Alternative):
    top_logprobs: list[_Alternative] | None = None


class _Logprobs(msgspec.Struct):
    content: list[_Token] | None = None
    # Before chats there were three lists side by side.
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class _Choice(msgspec.Struct):
    index: int | UnsetType = UNSET
    delta: _Delta | None = None
    message: _Delta | None = None
    text: str | None = None
    finish_reason: str | UnsetType | None = UNSET
    logprobs: _Logprobs | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | UnsetType | None = UNSET
    error: Any = None
    object: str | None = None
    message: Any = None


_chunk = msgspec.json.Decoder(_Chunk).decode
_HEAD = re.compile(
    rb'\{"id": ?"[^"\\]*", ?"object": ?"chat\.completion\.chunk", ?"created": ?\d+, ?"model": ?"[^"\\]*"(?=,)'
)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_NOTHING = _Delta()
_REASONS: dict[str, Reason] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "length": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
}
"""Any other word says that something went wrong, and is told."""


class Decoder:
    """Reads one answer."""

    def __init__(self, new_id: Callable[[], str], upstream: Upstream, *, must_call: bool = False) -> None:
        """`new_id` names calls that come without an id; `upstream` is for messages to people.

        `must_call`: an answer that ends without a tool call is a failure, and its text is not shown.
        """
        self._upstream = upstream
        self._must_call = must_call
        self._held: list[Event] = []
        """Of an answer that must call, what came before the call."""
        self._stream = Stream()
        self._calls = Calls(new_id)
        self._reason: str | None = None
        self._usage: Usage | None = None
        self._logprobs: list[Logprob] = []
        """Of tokens that made no text yet: half a character."""
        self._said = False
        """Something of an answer was there."""
        self._head = b""
        """How every chunk begins, if that can be replaced."""
        self.ended = False
        """`Done` or `Failed` was returned; from now on there are no more events."""

    @property
    def answered(self) -> bool:
        """The answer is whole; only its usage may still come."""
        return self._reason is not None

    def feed(self, data: bytes) -> list[Event]:
        """The events in the bytes of one read; `Frames` where the bytes may go on as they are."""
        events: list[Event] = []
        frames: list[bytes] = []
        plain = nulls = True
        try:
            for one in self._stream.feed(data):
                if self.ended:
                    break
                if one.startswith(b"[DONE]"):
                    return events + self._done()
                chunk = _chunk(one)
                if read := self._read(chunk):
                    events += read
                    frames.append(one)
                    plain = plain and self._is_plain(one, chunk, read)
                    nulls = nulls and chunk.usage is None
        except _UNREADABLE:
            return events + self._fail(self._fault("sent something that is not of its protocol."))
        except LineTooLong:
            return events + self._fail(self._fault("sent an endless line."))
        if plain and events:
            raw = b"".join([b"data: %b\n\n" % one for one in frames])
            return Frames(events, raw, b"data: " + self._head, nulls)
        return events

    def end(self, fault: Fault | None = None) -> list[Event]:
        """The body is over; `fault` is what broke it, if something did."""
        if self.ended:
            return []
        if self._reason is not None:
            return self._finish()
        if fault is None and (whole := self._stream.rest()):
            try:
                events = self._read(_chunk(whole))
            except _UNREADABLE:
                return self._fail(self._fault("sent something that is not of its protocol."))
            return events + self._done()
        return self._fail(fault or self._fault("was cut off before the end of its answer."))

    def _fault(self, what: str) -> Fault:
        return Fault("upstream", f"{self._upstream.name} {what}", retryable=True)

    def _fail(self, fault: Fault) -> list[Event]:
        self.ended = True
        return [Failed(fault)]

    def _read(self, chunk: _Chunk) -> list[Event]:
        events: list[Event] = []
        for choice in chunk.choices or ():
            if not choice.index:  # more than one was not asked for
                events += self._choice(choice)
        if chunk.error or chunk.object == "error":
            return events + self._fail(
                stream_fault(self._upstream, chunk.error or {"message": chunk.message})
            )
        usage = _usage(chunk.usage) if chunk.usage else None
        if usage is not None:
            self._usage = usage
            if self._reason is not None:
                return events + self._finish()
        return events

    def _choice(self, choice: _Choice) -> list[Event]:
        events: list[Event] = []
        delta = choice.delta or choice.message or _NOTHING
        if thought := delta.reasoning_content or delta.reasoning or delta.reasoning_text:
            events.append(ReasoningDelta(thought))
        content = choice.text or delta.content
        if isinstance(content, list):
            thought, content = _pieces(content)
            if thought:
                events.append(ReasoningDelta(thought))
        if choice.logprobs is not None:
            self._logprobs += _logprobs(choice.logprobs)
        if text := (content or "") + (delta.refusal or ""):
            events.append(TextDelta(text, logprobs=tuple(self._logprobs)))
            self._logprobs = []
        for piece in delta.tool_calls or ():
            events += self._calls.feed(piece)
        if delta.function_call is not None:
            events += self._calls.feed(Call(index=0, function=delta.function_call))
        if choice.finish_reason:
            self._reason = choice.finish_reason
        self._said = self._said or bool(events)
        return self._hold(events) if self._must_call else events

    def _hold(self, events: list[Event]) -> list[Event]:
        """Nothing is shown of an answer that must call before its call is there."""
        self._held += events
        if not self._calls:
            return []
        events, self._held = self._held, []
        return events

    def _done(self) -> list[Event]:
        """The server says that it has ended; some never say why."""
        if self.ended:
            return []
        if self._reason is None and not self._said:
            return self._fail(self._fault("ended without an answer."))
        self._reason = self._reason or "stop"
        return self._finish()

    def _finish(self) -> list[Event]:
        reason = _REASONS.get(self._reason or "")
        if reason is None:
            return self._fail(self._fault(f"stopped with '{(self._reason or '')[:50]}', not at an end."))
        if self._calls and not self._calls.named:
            return self._fail(self._fault("called a tool without its name."))
        events: list[Event] = []
        if self._calls and reason in ("stop", "tool_calls"):
            reason = "tool_calls"
            events += self._calls.finish()
        elif self._must_call and reason == "stop":
            advice = "Ask again, or take a model that is better with tools."
            message = "The model answered without the tool call that `tool_choice` demands."
            return self._fail(Fault("upstream", message, advice, "tool_not_called", retryable=True))
        elif reason == "tool_calls":
            return self._fail(self._fault("said that it calls a tool, and called none."))
        self.ended = True
        usage = [self._usage] if self._usage else []
        return [*self._held, *events, *usage, Done(reason)]

    def _is_plain(self, data: bytes, chunk: _Chunk, read: list[Event]) -> bool:
        """Whether a chunk is one more piece of text and nothing else, and begins as all chunks do."""
        if len(read) != 1 or not isinstance(read[0], TextDelta) or read[0].logprobs or chunk.usage:
            return False
        choice, *others = chunk.choices or [_Choice()]
        delta = choice.delta
        if others or delta is None or delta.role or not isinstance(delta.content, str) or delta.refusal:
            return False
        if delta.tool_calls is not None or choice.finish_reason is not None or choice.index is UNSET:
            return False
        if not self._head and (match := _HEAD.match(data)):
            self._head = match[0]
        # What a chunk holds beside its text was not looked at: it must not end a frame of ours early.
        return bool(self._head) and data.startswith(self._head + b",") and _is_one_line(data)


def _is_one_line(data: bytes) -> bool:
    if b"\n" in data or b"\r" in data:
        return False
    try:
        return data.isascii() or bool(data.decode())
    except UnicodeDecodeError:
        return False


def _pieces(pieces: list[_Piece]) -> tuple[str, str]:
    """Thought and text of a content that is a list."""
    thoughts = [inner.text for piece in pieces for inner in piece.thinking or ()]
    return "".join(thoughts), "".join(piece.text for piece in pieces)


def _usage(said: _Usage) -> Usage | None:
    """The counts; `None` for zeros, which some servers send with every chunk."""
    if not said.prompt_tokens and not said.completion_tokens:
        return None
    prompt, completion = said.prompt_tokens_details, said.completion_tokens_details
    return Usage(
        prompt=said.prompt_tokens or 0,
        completion=said.completion_tokens or 0,
        reasoning=(completion and completion.reasoning_tokens) or 0,
        cached=(prompt and prompt.cached_tokens) or 0,
    )


def _logprobs(said: _Logprobs) -> list[Logprob]:
    if said.content is not None:
        return [_logprob(token, tuple(map(_logprob, token.top_logprobs or ()))) for token in said.content]
    tops = said.top_logprobs or []
    return [
        Logprob(
            token,
            value or 0.0,
            top=tuple(Logprob(*one) for one in ((tops[at : at + 1] or [{}])[0] or {}).items()),
        )
        for at, (token, value) in enumerate(zip(said.tokens or (), said.token_logprobs or (), strict=False))
    ]


def _logprob(token: _Alternative, top: tuple[Logprob, ...] = ()) -> Logprob:
    return Logprob(token.token, token.logprob, token.bytes, top)
