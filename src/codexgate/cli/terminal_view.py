"""An answer on a terminal: Markdown rendered while it streams, an agent's activity as it happens.

What is finished is printed for good and scrolls away; only the block that is being written, the
commands that run and a line with the time are drawn again. Everything a model or a tool wrote is
escaped before it is laid out. Knows events and looks, neither the gate nor what was asked.
"""

import os
import time
from os import terminal_size
from typing import TextIO, assert_never

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from ..events import (
    Approval,
    Commentary,
    Done,
    Event,
    Failed,
    FileChange,
    Notice,
    Plan,
    ReasoningDelta,
    Retrieved,
    StepState,
    TextDelta,
    ThreadStarted,
    ToolEvent,
    Usage,
    Window,
)
from ..flat import LINES_SHOWN, bare_command
from ..fold import Reply
from .markdown import Growing, lay_out, layout_console, separated
from .render import Clock, Status
from .screen import Screen
from .terminal import escape, escape_line

PACE = 0.08
"""Seconds between two drawings, at least."""
SHARE = 0.2
"""Of the time, that drawing may take: a long block is drawn less often."""
DIFF_SHOWN = 40
"""Lines of a diff."""

_STEPS: dict[StepState, tuple[str, str]] = {
    "done": ("✔", "green"),
    "active": ("▸", "bold"),
    "pending": ("·", "dim"),
}
_CHANGES = {"add": "added", "update": "changed", "delete": "deleted"}


class Rendered:
    """The view of a turn on the terminal behind `file`."""

    def __init__(
        self,
        file: TextIO,
        status: Status,
        *,
        colour: bool,
        stream: bool = True,
        clock: Clock = time.monotonic,
    ) -> None:
        self._console = layout_console(file, colour)
        self._screen = Screen(file, lambda: _size(self._console))
        self._status = status
        self._stream = stream
        self._clock = clock
        self._due = 0.0
        self._any = False
        """Something was printed: what comes next is set off by an empty line."""
        self._blocks: list[list[str]] = []
        """Finished, not yet printed."""
        self._open: tuple[type[Event], str] | None = None
        """Which text `_growing` is."""
        self._growing: Growing | None = None
        self._tools: dict[str, _Tool] = {}
        self._plan: Plan | None = None

    def begin(self, model: str) -> None:
        """Show that the model was asked."""
        self._status.begin(model)
        self.flush()

    def feed(self, event: Event) -> None:
        """Take the next event."""
        match event:
            case TextDelta() | ReasoningDelta() | Commentary():
                self._write(event)
            case ToolEvent():
                self._tool(event)
            case FileChange():
                self._put(_diff(event))
            case Plan():
                if event != self._plan:
                    self._plan = event
                    self._put(_steps(event))
            case Notice():
                self._put(Text(f"! {escape_line(event.text)}", "yellow"))
            case Approval():
                about = f"Waits for approval of {event.action}: {escape_line(event.detail)}"
                self._put(Text(about, "yellow"))
            case ThreadStarted() | Retrieved() | Window() | Usage() | Failed() | Done():
                pass
            case _:
                assert_never(event)

    def flush(self) -> None:
        """Draw, unless it was drawn just now or nothing is to be seen before the end."""
        now = self._clock()
        if self._stream and now >= self._due:
            self._draw()
            took = self._clock() - now
            self._due = now + max(PACE, took / SHARE)

    def pause(self) -> None:
        """Print what is finished, and take the rest away until it is drawn again."""
        if self._stream:
            self._end_text()
            self._print([])
            self._due = 0.0

    def close(self, reply: Reply, session: str) -> None:  # noqa: ARG002
        """Print what is left; tools that never finished are shown as far as they came."""
        self._end_text()
        for tool in self._tools.values():
            self._blocks.append(tool.lines(self._console, stopped=True))
        self._tools.clear()
        self._print([])
        self._status.end(reply)

    def _write(self, event: TextDelta | ReasoningDelta | Commentary) -> None:
        which = (type(event), event.item)
        if which != self._open or self._growing is None:
            self._end_text()
            self._open = which
            self._growing = Growing(self._console, "" if isinstance(event, TextDelta) else "dim")
        self._growing.feed(escape(event.text))

    def _end_text(self) -> None:
        if self._growing is not None:
            self._blocks += self._growing.rest()
            self._growing = None

    def _tool(self, event: ToolEvent) -> None:
        if event.stage == "started":
            self._end_text()
            self._tools[event.call_id] = _Tool(event)
            return
        tool = self._tools.get(event.call_id)
        if tool is None:
            return
        tool.feed(event)
        if event.stage == "finished":
            self._blocks.append(tool.lines(self._console))
            del self._tools[event.call_id]

    def _put(self, renderable: Text) -> None:
        self._end_text()
        self._blocks.append(lay_out(self._console, renderable))

    def _draw(self) -> None:
        live = []
        if self._growing is not None:
            self._blocks += self._growing.finished()
            live.append(self._growing.unfinished())
        live += [tool.lines(self._console) for tool in self._tools.values()]
        live.append(lay_out(self._console, Text(self._status.running(), "dim", no_wrap=True)))
        self._print([block for block in live if block])

    def _print(self, live: list[list[str]]) -> None:
        done = separated(self._blocks)
        self._blocks.clear()
        if done and self._any:
            done.insert(0, "")
        self._any = self._any or bool(done)
        lines = separated(live)
        self._screen.draw(done, ["", *lines] if lines and self._any else lines)


class _Tool:
    """A tool that the backend runs, or a call that it wants to have run."""

    def __init__(self, started: ToolEvent) -> None:
        self._name = started.name
        self._asked = started.text
        self._said = ""
        self._ended: ToolEvent | None = None

    def feed(self, event: ToolEvent) -> None:
        """Take what the tool says."""
        if event.stage == "arguments":
            self._asked += event.text
        else:
            self._said += event.text
        if event.stage == "finished":
            self._ended = event

    def lines(self, console: Console, *, stopped: bool = False) -> list[str]:
        """What was asked, and the last lines of what came of it; `stopped`: nothing more will."""
        shown = Text()
        if self._name == "command":
            shown.append("$ ", "cyan").append(escape(bare_command(self._asked)), "bold")
        else:
            shown.append(f"{escape_line(self._name.removeprefix('mcp:'))} ", "cyan")
            shown.append(escape_line(self._asked))
        said = escape(self._said.replace("\r\n", "\n")).rstrip("\n").split("\n")
        more = len(said) - LINES_SHOWN
        for line in [f"… {more} more lines"] * (more > 0) + said[-LINES_SHOWN:]:
            if line:
                shown.append("\n" + _cut(f"  {line}", console.width), "dim")
        if self._ended and not self._ended.ok:
            shown.append("\n  declined" if self._ended.declined else "\n  failed", "red")
        if stopped:
            shown.append("\n  interrupted", "red")
        return lay_out(console, shown)


def _diff(event: FileChange) -> Text:
    shown = Text(f"{_CHANGES[event.kind]} ", "cyan").append(escape_line(event.path), "bold")
    lines = event.diff.rstrip("\n").split("\n") if event.diff.strip() else []
    for line in lines[:DIFF_SHOWN]:
        added = event.kind == "add" or line.startswith("+")
        style = "green" if added else {"-": "red", "@": "cyan"}.get(line[:1], "dim")
        shown.append("\n" + escape(line.rstrip("\r")), style)
    if len(lines) > DIFF_SHOWN:
        shown.append(f"\n… {len(lines) - DIFF_SHOWN} more lines", "dim")
    return shown


def _steps(plan: Plan) -> Text:
    shown = Text(f"Plan {escape_line(plan.explanation)}".rstrip(), "cyan")
    for step in plan.steps:
        mark, style = _STEPS[step.state]
        shown.append(f"\n{mark} {escape_line(step.text)}", style)
    return shown


def _cut(line: str, width: int) -> str:
    return line if cell_len(line) <= width else set_cell_size(line, width - 1) + "…"


def _size(console: Console) -> terminal_size:
    return os.terminal_size((console.width, console.height))
