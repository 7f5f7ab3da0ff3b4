"""Events to a reply: "not streaming" is written once, here, not once per front."""

from collections.abc import Iterable

import msgspec

from .chat import ToolCall
from .errors import Fault
from .events import (
    Done,
    Event,
    Failed,
    Logprob,
    Reason,
    ReasoningDelta,
    Retrieved,
    TextDelta,
    ThreadStarted,
    ToolEvent,
    Usage,
)


class Reply(msgspec.Struct, frozen=True):
    """A whole answer."""

    messages: tuple[tuple[str, str], ...] = ()
    """(item, text) of each message, in order; a flattened answer has at most one."""
    reasoning: str = ""
    thread: ThreadStarted | None = None
    """Where it ran, if the backend remembers it."""
    retrieved: Retrieved | None = None
    """What was put before the question."""
    logprobs: tuple[Logprob, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    """The calls that the client must run."""
    usage: Usage | None = None
    reason: Reason | None = None
    """Why it ended; `None` when it failed."""
    fault: Fault | None = None
    """Why it failed; `None` when it did not."""

    @property
    def text(self) -> str:
        """The answer as one text, messages separated by a blank line."""
        return "\n\n".join(text for _, text in self.messages)


class Fold:
    """Collects one answer; activity (a backend's own tools, plans, notices) is not part of it."""

    def __init__(self) -> None:
        self._messages: dict[str, list[str]] = {}
        self._reasoning: list[str] = []
        self._calls: dict[str, tuple[str, list[str]]] = {}
        self._thread: ThreadStarted | None = None
        self._retrieved: Retrieved | None = None
        self._logprobs: list[Logprob] = []
        self._usage: Usage | None = None
        self._end: Done | Failed | None = None

    def feed(self, event: Event) -> None:
        """Take the next event."""
        match event:
            case TextDelta():
                self._messages.setdefault(event.item, []).append(event.text)
                self._logprobs += event.logprobs
            case ReasoningDelta():
                self._reasoning.append(event.text)
            case ToolEvent(runs_on="client"):
                self._calls.setdefault(event.call_id, (event.name, []))[1].append(event.text)
            case ThreadStarted():
                self._thread = event
            case Retrieved():
                self._retrieved = event
            case Usage():
                self._usage = event
            case Done() | Failed():
                self._end = event
            case _:
                pass

    def reply(self) -> Reply:
        """The answer so far."""
        return Reply(
            messages=tuple((item, "".join(texts)) for item, texts in self._messages.items()),
            reasoning="".join(self._reasoning),
            tool_calls=tuple(ToolCall(id, name, "".join(texts)) for id, (name, texts) in self._calls.items()),
            thread=self._thread,
            retrieved=self._retrieved,
            logprobs=tuple(self._logprobs),
            usage=self._usage,
            reason=self._end.reason if isinstance(self._end, Done) else None,
            fault=self._end.fault if isinstance(self._end, Failed) else None,
        )


def fold(events: Iterable[Event]) -> Reply:
    """The reply that `events` add up to."""
    folding = Fold()
    for event in events:
        folding.feed(event)
    return folding.reply()
