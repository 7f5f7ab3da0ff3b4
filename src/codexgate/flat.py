"""One text out of a turn: for formats whose answer is a single string.

A turn may hold several messages and an agent's activity. `Flat` turns them into text and
reasoning deltas of one message, so that no chat front has to know of either: messages are
separated by a blank line, activity becomes Markdown in the content or in the reasoning, or is
left out. Pure; knows no wire format.
"""

import re
from typing import Literal, assert_never

from .events import (
    Approval,
    Commentary,
    Done,
    Event,
    Failed,
    FileChange,
    Notice,
    Plan,
    ReasoningDelta,
    StepState,
    TextDelta,
    ThreadStarted,
    ToolEvent,
    Usage,
)

Channel = Literal["content", "reasoning"]
Activity = Channel | Literal["off"]

LINES_SHOWN = 5
"""Of a command's output and of a diff: enough to follow, too little to drown the answer."""

_BOX: dict[StepState, str] = {"done": "- [x] {}", "active": "- [ ] {} (in progress)", "pending": "- [ ] {}"}
_SHELL = re.compile(
    r"""^(?:/usr)?(?:/bin/)?(?:ba|z)?sh -l?c (?P<quote>['"])(?P<script>.*)(?P=quote)$""", re.DOTALL
)


class Flat:
    """Flattens one answer, event by event."""

    def __init__(self, activity: Activity = "off") -> None:
        self._activity: Activity = activity
        self._open: dict[Channel, str | None] = {"content": None, "reasoning": None}
        """The message that each channel is in the middle of."""
        self._tail: dict[Channel, str] = {"content": "", "reasoning": ""}
        """The last two characters of each channel: what a blank line has to follow."""
        self._output: dict[str, str] = {}
        """What each running command has said so far, as much as can be shown."""
        self._plan: Plan | None = None

    def feed(self, event: Event) -> list[Event]:
        """Return what `event` becomes; often nothing."""
        match event:
            case TextDelta():
                return [self._say("content", event.text, event.item)]
            case ReasoningDelta():
                return [self._say("reasoning", event.text, event.item)]
            case ThreadStarted() | ToolEvent(runs_on="client") | Usage() | Failed() | Done():
                return [event]
            case Commentary() | ToolEvent() | FileChange() | Plan() | Notice() | Approval():
                if self._activity == "off":
                    return []
                item = event.item if isinstance(event, Commentary) else None
                markdown = self._markdown(event)
                return [self._say(self._activity, markdown, item)] if markdown else []
            case _:
                assert_never(event)

    def _say(self, channel: Channel, text: str, item: str | None) -> Event:
        tail = self._tail[channel]
        if tail and (item is None or item != self._open[channel]) and not tail.endswith("\n\n"):
            text = ("\n" if tail.endswith("\n") else "\n\n") + text
        self._open[channel] = item
        self._tail[channel] = (tail + text)[-2:]
        return TextDelta(text) if channel == "content" else ReasoningDelta(text)

    def _markdown(self, event: Commentary | ToolEvent | FileChange | Plan | Notice | Approval) -> str:
        match event:
            case Commentary():
                return event.text
            case ToolEvent():
                return self._tool(event)
            case FileChange():
                return block(f"{event.path}\n{shorten(event.diff)}", "diff")
            case Plan():
                if event == self._plan:
                    return ""
                self._plan = event
                steps = "\n".join(_BOX[step.state].format(one_line(step.text)) for step in event.steps)
                return f"**Plan** {one_line(event.explanation)}".rstrip() + f"\n\n{steps}"
            case Notice():
                return f"> {one_line(event.text)}"
            case Approval():
                return f"Waiting for approval `{event.id}`\n\n" + block(event.detail)
            case _:
                assert_never(event)

    def _tool(self, event: ToolEvent) -> str:
        match event.stage:
            case "started":
                return block(bare_command(event.text), "sh") if event.name == "command" else _call(event)
            case "arguments":
                return ""
            case "output":
                said = self._output.get(event.call_id, "")
                if said.count("\n") <= LINES_SHOWN:
                    self._output[event.call_id] = said + event.text
                return ""
            case "finished":
                said = self._output.pop(event.call_id, "") + event.text
                return block(shorten(said)) if said.strip() else ""
            case _:
                assert_never(event.stage)


def bare_command(command: str) -> str:
    """The command without the shell that Codex wraps it in: `/bin/bash -lc 'X'` is `X`."""
    wrapped = _SHELL.fullmatch(command)
    if wrapped is None:
        return command
    script = wrapped["script"]
    if wrapped["quote"] == "'":
        return script.replace("'\\''", "'").replace("'\"'\"'", "'")
    return re.sub(r'\\(["\\$`])', r"\1", script)


def shorten(text: str, lines: int = LINES_SHOWN) -> str:
    """The first `lines` lines, and a `…` when there are more."""
    kept = text.rstrip("\n").split("\n")
    return "\n".join([*kept[:lines], "…"] if len(kept) > lines else kept)


def block(text: str, language: str = "") -> str:
    """A fenced code block that no run of back-ticks in `text` can close.

    Source: CommonMark 4.5, a fence is closed by one at least as long.
    """
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _call(event: ToolEvent) -> str:
    if event.name == "web_search":
        return f"Searched the web for {_code(event.text)}"
    return f"{_code(event.name.removeprefix('mcp:'))} {_code(shorten(event.text, 1))}".rstrip()


def _code(text: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    ticks = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{ticks}{pad}{one_line(text)}{pad}{ticks}"


def one_line(text: str) -> str:
    """`text` with every run of white space, line ends too, as one blank."""
    return " ".join(text.split())
