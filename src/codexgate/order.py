"""The law of event order.

1. `Done` or `Failed` ends an answer; nothing follows, and a whole answer has one.
2. `Usage` comes at most once, just before that end.
3. A tool call starts once, before its arguments and output; it finishes at most once, and
   nothing follows its end. Its name and where it runs never change.
4. A client's call is finished when the answer ends with `tool_calls`, and only then are there any.
5. `ThreadStarted`, `Retrieved` and `Window` come at most once each, before anything but each other
   and notices.
6. Texts are never empty, and a message that was left is not taken up again.

Switched on in tests and in debug runs: `gate.Gate(strict=True)`.
"""

from .events import (
    Commentary,
    Done,
    Event,
    Failed,
    Notice,
    ReasoningDelta,
    Retrieved,
    TextDelta,
    ThreadStarted,
    ToolEvent,
    Usage,
    Window,
)


class OrderError(AssertionError):
    """A backend broke the law of event order."""


class Order:
    """Watches one answer."""

    def __init__(self) -> None:
        self._ended = False
        self._begun = False
        self._told: set[type[Event]] = set()
        self._usage = False
        self._item: str | None = None
        self._left: set[str] = set()
        self._calls: dict[str, tuple[str, str]] = {}
        self._finished: set[str] = set()

    def feed(self, event: Event) -> None:
        """Look at the next event. Raises OrderError when it may not come now."""
        _require(not self._ended, "nothing follows the end", event)
        _require(not self._usage or isinstance(event, (Done, Failed)), "only the end follows usage", event)
        if isinstance(event, ThreadStarted | Retrieved | Window):
            _require(not self._begun and type(event) not in self._told, "the thread comes first", event)
            self._told.add(type(event))
            return
        self._begun = self._begun or not isinstance(event, Notice)
        match event:
            case TextDelta() | Commentary():
                self._text(event)
            case ReasoningDelta():
                _require(bool(event.text), "texts are not empty", event)
            case ToolEvent():
                self._tool(event)
            case Usage():
                self._usage = True
            case Failed():
                self._ended = True
            case Done():
                self._end(event)
            case _:
                pass

    def close(self) -> None:
        """The answer is over. Raises OrderError when it had no end."""
        if not self._ended:
            raise OrderError("the answer stopped without Done or Failed")

    def _text(self, event: TextDelta | Commentary) -> None:
        _require(bool(event.text), "texts are not empty", event)
        if event.item != self._item:
            _require(event.item not in self._left, "a message that was left is over", event)
            if self._item is not None:
                self._left.add(self._item)
            self._item = event.item

    def _tool(self, event: ToolEvent) -> None:
        who = (event.name, event.runs_on)
        if event.stage == "started":
            _require(event.call_id not in self._calls, "a call starts once", event)
            self._calls[event.call_id] = who
            return
        _require(self._calls.get(event.call_id) == who, "a call starts first and keeps its name", event)
        _require(event.call_id not in self._finished, "nothing follows the end of a call", event)
        if event.stage == "finished":
            self._finished.add(event.call_id)

    def _end(self, event: Done) -> None:
        theirs = {call for call, (_, runs_on) in self._calls.items() if runs_on == "client"}
        if event.reason == "tool_calls":
            _require(bool(theirs) and theirs <= self._finished, "every client call is finished", event)
        elif event.reason == "stop":
            _require(not theirs, "client calls end with tool_calls", event)
        self._ended = True


def _require(lawful: bool, law: str, event: Event) -> None:
    if not lawful:
        raise OrderError(f"{law}: {event!r}")
