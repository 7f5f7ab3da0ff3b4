"""An answer as it comes, for whoever runs `chat`: a pipe, a program that wants JSON, a plain terminal.

The terminal is one more encoder of events. A view is fed every event of a turn and closed once,
whatever happened; it knows neither the gate nor how the request came about. How Markdown is
rendered while it streams is `terminal_view`'s.
"""

import time
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol, TextIO

from ..events import (
    Commentary,
    Event,
    FileChange,
    Notice,
    Plan,
    ReasoningDelta,
    Retrieved,
    TextDelta,
    ToolEvent,
    Usage,
)
from ..flat import Flat
from ..fold import Reply
from .terminal import Paint, escape, escape_line, json_text

Clock = Callable[[], float]


class View(Protocol):
    """What listens to a turn."""

    def begin(self, model: str) -> None:
        """The turn is about to start, on `model`."""
        ...

    def feed(self, event: Event) -> None:
        """The next event of the turn."""
        ...

    def flush(self) -> None:
        """Show what was fed; called after every batch of events, and now and then between them."""
        ...

    def pause(self) -> None:
        """Somebody else is about to write to the terminal: leave nothing there that would be drawn again."""
        ...

    def close(self, reply: Reply, session: str) -> None:
        """The turn is over, well or not; `reply` is what it came to, kept as `session` if at all."""
        ...


class Status:
    """The line about a turn on standard error: its model, its time, its tokens."""

    def __init__(self, file: TextIO, paint: Paint, *, shown: bool, clock: Clock = time.monotonic) -> None:
        self._file = file
        self._paint = paint
        self._shown = shown
        self._clock = clock
        self._model = ""
        self._began = 0.0

    def begin(self, model: str) -> None:
        """Start the clock."""
        self._model, self._began = escape_line(model), self._clock()

    def running(self) -> str:
        """What to show while the turn runs."""
        return f"{self._model} · {self._clock() - self._began:.0f} s"

    def notice(self, text: str) -> None:
        """Pass on what is worth knowing and no part of the answer."""
        self._file.write(self._paint(f"codexgate: {escape_line(text)}", "yellow") + "\n")

    def end(self, reply: Reply) -> None:
        """Write the line, unless the turn failed: then its error says more."""
        if not self._shown or reply.reason is None:
            return
        words = [self._model, f"{self._clock() - self._began:.1f} s"]
        if reply.usage:
            about = "about " if reply.usage.estimated else ""
            words.append(f"{about}{reply.usage.prompt} + {reply.usage.completion} tokens")
        if reply.reason != "stop":
            words.append({"length": "cut at the token limit"}.get(reply.reason, reply.reason))
        self._file.write(self._paint(" · ".join(words), "dim") + "\n")
        self._file.flush()


class Plain:
    """The answer's text and nothing else, as it comes.

    Into a pipe goes exactly what the model wrote, as UTF-8, and a newline if the answer lacks one;
    onto a terminal the same, escaped.
    """

    def __init__(self, out: BinaryIO, status: Status, *, escaped: bool, stream: bool = True) -> None:
        self._out = out
        self._status = status
        self._shown: Callable[[str], str] = escape if escaped else str
        self._stream = stream
        self._flat = Flat()
        self._waiting: list[str] = []
        self._last = ""

    def begin(self, model: str) -> None:
        """Start the clock."""
        self._status.begin(model)

    def feed(self, event: Event) -> None:
        """Take the text of `event`; of the rest, notices go to standard error."""
        if isinstance(event, Notice):
            self._status.notice(event.text)
        for flat in self._flat.feed(event):
            if isinstance(flat, TextDelta):
                self._waiting.append(flat.text)
                self._last = flat.text[-1:]

    def flush(self) -> None:
        """Write what has come."""
        if self._stream:
            self._write()

    def pause(self) -> None:
        """What was written stays."""
        self.flush()

    def close(self, reply: Reply, session: str) -> None:  # noqa: ARG002
        """End the last line."""
        if self._last not in ("", "\n"):
            self._waiting.append("\n")
        self._write()
        self._status.end(reply)

    def _write(self) -> None:
        if self._waiting:
            text = "".join(self._waiting)
            self._waiting.clear()
            self._out.write(self._shown(text).encode("utf-8", "replace"))
            self._out.flush()


class Json:
    """One JSON object when the turn is over; with `lines` before it one for every event."""

    def __init__(self, out: BinaryIO, status: Status, *, lines: bool) -> None:
        self._out = out
        self._status = status
        self._lines = lines
        self._model = ""

    def begin(self, model: str) -> None:
        """Remember the model."""
        self._model = model
        self._status.begin(model)

    def feed(self, event: Event) -> None:
        """Write `event` when it is worth a line; without lines, notices go to standard error."""
        if self._lines:
            if (line := event_object(event)) is not None:
                self._write(line)
        elif isinstance(event, Notice):
            self._status.notice(event.text)

    def flush(self) -> None:
        """Nothing waits."""

    def pause(self) -> None:
        """What was written stays."""

    def close(self, reply: Reply, session: str) -> None:
        """Write the object; a failed turn has none, its error goes to standard error."""
        if reply.reason is not None:
            answer = reply_object(reply, self._model, session)
            self._write({"type": "answer", **answer} if self._lines else answer)
        self._status.end(reply)

    def _write(self, value: dict[str, Any]) -> None:
        self._out.write(json_text(value).encode() + b"\n")
        self._out.flush()


def event_object(event: Event) -> dict[str, Any] | None:
    """An event as one JSON line; `None` for what the last line says."""
    match event:
        case TextDelta():
            return {"type": "text", "text": event.text}
        case ReasoningDelta():
            return {"type": "reasoning", "text": event.text}
        case Commentary():
            return {"type": "commentary", "text": event.text}
        case ToolEvent():
            return {
                "type": "tool",
                "id": event.call_id,
                "name": event.name,
                "stage": event.stage,
                "text": event.text,
                "runs_on": event.runs_on,
                "ok": event.ok,
                "declined": event.declined,
            }
        case FileChange():
            return {"type": "file", "path": event.path, "kind": event.kind, "diff": event.diff}
        case Plan():
            steps = [{"text": step.text, "state": step.state} for step in event.steps]
            return {"type": "plan", "explanation": event.explanation, "steps": steps}
        case Notice():
            return {"type": "notice", "kind": event.kind, "text": event.text}
        case _:
            return None


def reply_object(reply: Reply, model: str, session: str) -> dict[str, Any]:
    """A whole answer, its counts under OpenAI's names."""
    calls = [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in reply.tool_calls]
    return {
        "model": model,
        "text": reply.text,
        "reasoning": reply.reasoning,
        "tool_calls": calls,
        "usage": _usage(reply.usage) if reply.usage else None,
        "retrieval_context": _retrieval(reply.retrieved) if reply.retrieved else None,
        "finish_reason": reply.reason,
        "session": session or None,
    }


def _retrieval(put_in: Retrieved) -> dict[str, Any]:
    return {"citations": put_in.citations, "tokens_injected": put_in.tokens}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "reasoning_tokens": usage.reasoning,
        "cached_tokens": usage.cached,
        "estimated": usage.estimated,
    }
