"""One text out of a turn: for formats whose answer is a single string.

A turn may hold several messages and an agent's activity. `Flat` turns them into text and
reasoning deltas of one message, so that no chat front has to know of either: messages are
separated by a blank line, activity becomes Markdown in the content or in the reasoning, or is
left out. Pure; knows no wire format.

Source of what is shown and how: the Codex backend's specification, "What the client sees".
"""

from typing import Literal, assert_never

from .activity import (
    LINES_SHOWN,
    Controls,
    Fence,
    Output,
    Stars,
    bare_command,
    block,
    clean,
    code,
    cut,
    one_line,
    shorten,
)
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
    Retrieved,
    StepState,
    TextDelta,
    ThreadStarted,
    ToolEvent,
    Usage,
    Window,
)
from .logs import escape

__all__ = ["LINES_SHOWN", "Activity", "Flat", "bare_command", "block", "one_line"]

Channel = Literal["content", "reasoning"]
Activity = Channel | Literal["off"]

_BLOCK = "```"
"""The open block, as the message that a channel is in the middle of."""
_LIMITS = Notice("rate_limits", "")
"""Rate limits are told once, whatever they are."""
_CALL_SHOWN = 200
"""Characters of what a tool was asked."""

_BOX: dict[StepState, str] = {"done": "- [x] {}", "active": "- [ ] {} (in progress)", "pending": "- [ ] {}"}


class Flat:
    """Flattens one answer, event by event.

    The answer's own text is passed on byte for byte. Of other text something may be held back:
    asterisks until anything else comes, the last line of a tool's output until it is whole or over.
    """

    def __init__(self, activity: Activity = "off", *, include_plan: bool = True) -> None:
        """`activity`: where it is shown, if at all; `include_plan`: plans are part of it."""
        self._off = activity == "off"
        self._channel: Channel = "content" if activity == "content" else "reasoning"
        """Where activity goes."""
        self._include_plan = include_plan
        self._flowing: str | None = None
        """The message that was written to last, if nothing has to come before more of it."""
        self._open: dict[Channel, str | None] = {"content": None, "reasoning": None}
        """The message that each channel is in the middle of."""
        self._tail: dict[Channel, str] = {"content": "", "reasoning": ""}
        """The last two characters of each channel: what a blank line has to follow."""
        self._voice: tuple[type[Event], str] | None = None
        """The thought or commentary that `_controls` and `_stars` are in the middle of."""
        self._controls = Controls()
        self._stars = Stars()
        self._fence: Fence | None = None
        """The block that tools write to, while nothing else comes."""
        self._writer = ""
        """The call that wrote to it last."""
        self._running: dict[str, tuple[str, Output]] = {}
        """Of each call the language of its block and what it has said."""
        self._shown: set[Event] = set()
        """What is not shown a second time."""
        self._plan: Plan | None = None

    def feed(self, event: Event) -> list[Event]:
        """Return what `event` becomes; often nothing."""
        if isinstance(event, TextDelta) and event.item == self._flowing:  # what nearly every event is
            self._tail["content"] = (self._tail["content"] + event.text)[-2:]
            return [TextDelta(event.text, "", event.logprobs)]
        match event:
            case TextDelta():
                before = self.settle()
                said = self._say("content", event.text, event.item)
                self._flowing = event.item
                return [*before, TextDelta(said.text, "", event.logprobs)]
            case ReasoningDelta():
                return self._think(event)
            case ThreadStarted() | Retrieved() | Window() | ToolEvent(runs_on="client"):
                return [*self.settle(), event]
            case Usage() | Failed() | Done():
                return [*self._finish(), event]
            case Commentary() | ToolEvent() | FileChange() | Plan() | Notice() | Approval():
                return [] if self._off else self._act(event)
            case _:
                assert_never(event)

    def _act(self, event: Commentary | ToolEvent | FileChange | Plan | Notice | Approval) -> list[Event]:
        match event:
            case Commentary():
                return self._comment(event)
            case ToolEvent():
                return self._tool(event)
            case FileChange() | Plan() | Notice() | Approval():
                if not self._is_new(event):
                    return []
                return [*self.settle(), self._say(self._channel, _markdown(event))]
            case _:
                assert_never(event)

    def _is_new(self, event: FileChange | Plan | Notice | Approval) -> bool:
        if isinstance(event, Plan):
            before, self._plan = self._plan, event
            return self._include_plan and bool(event.steps) and event != before
        if isinstance(event, Notice) and event.kind == "loading":
            return False  # over when anything of the answer is there to be read
        if isinstance(event, Notice) and event.kind == "rate_limits":
            event = _LIMITS
        elif not isinstance(event, FileChange):
            return True
        if event in self._shown:
            return False
        self._shown.add(event)
        return True

    def _think(self, event: ReasoningDelta) -> list[Event]:
        before = self._speak(event)
        text = self._stars.feed(self._controls.strip(event.text))
        return [*before, self._say("reasoning", text, event.item)] if text else before

    def _comment(self, event: Commentary) -> list[Event]:
        before = self._speak(event)
        text = self._controls.strip(event.text)
        return [*before, self._say(self._channel, text, event.item)] if text else before

    def _speak(self, event: ReasoningDelta | Commentary) -> list[Event]:
        """What has to come before more of a thought or a commentary."""
        voice: tuple[type[Event], str] = (type(event), event.item)
        if voice == self._voice and self._fence is None:
            self._flowing = None
            return []
        before = self.settle()
        if voice != self._voice:
            self._voice, self._controls = voice, Controls()
        return before

    def _tool(self, event: ToolEvent) -> list[Event]:
        if event.stage == "started":
            return self._start(event)
        if event.stage == "arguments" or event.call_id not in self._running:
            return []
        language, output = self._running[event.call_id]
        lines = output.feed(event.text)
        if event.stage == "finished":
            del self._running[event.call_id]
            lines += output.rest() + ([] if event.ok else ["(declined)" if event.declined else "(failed)"])
        return self._write(event.call_id, language, lines)

    def _start(self, event: ToolEvent) -> list[Event]:
        if event.name != "command":
            self._running[event.call_id] = ("", Output())
            return [*self.settle(), self._say(self._channel, _call(event))]
        self._running[event.call_id] = ("sh", Output())
        self._writer = ""  # set off from what the same call may have said before
        return self._write(event.call_id, "sh", [clean(bare_command(event.text)).strip("\n")])

    def _write(self, call_id: str, language: str, lines: list[str]) -> list[Event]:
        """Lines of a call, in the open block if it is of that language, else in a new one."""
        if not lines:
            return []
        before: list[Event] = []
        if self._fence is None or self._fence.language != language:
            before = self.settle()
            self._fence = Fence(language)
        elif call_id != self._writer:
            lines = ["", *lines]
        self._writer = call_id
        return [*before, self._say(self._channel, self._fence.write(lines), _BLOCK)]

    def settle(self) -> list[Event]:
        """What has to come before anything else: asterisks held back, the end of the open block."""
        self._flowing = None
        events: list[Event] = []
        if self._voice and (stars := self._stars.rest()):
            events.append(self._say("reasoning", stars, self._voice[1]))
        if self._fence is not None:
            events.append(self._say(self._channel, self._fence.close(), _BLOCK))
            self._fence = self._open[self._channel] = None
        return events

    def _finish(self) -> list[Event]:
        """What has to come before the end: also the last lines of calls that have not ended."""
        events: list[Event] = []
        for call_id, (language, output) in self._running.items():
            events += self._write(call_id, language, output.rest())
        self._running.clear()
        return events + self.settle()

    def _say(self, channel: Channel, text: str, item: str | None = None) -> TextDelta | ReasoningDelta:
        tail = self._tail[channel]
        if tail and (item is None or item != self._open[channel]) and not tail.endswith("\n\n"):
            text = ("\n" if tail.endswith("\n") else "\n\n") + text
        self._open[channel] = item
        self._tail[channel] = (tail + text)[-2:]
        return TextDelta(text) if channel == "content" else ReasoningDelta(text)


def _markdown(event: FileChange | Plan | Notice | Approval) -> str:
    match event:
        case FileChange():
            return block(f"{_words(event.path)}\n{shorten(clean(event.diff))}", "diff")
        case Plan():
            steps = "\n".join(_BOX[step.state].format(_words(step.text)) for step in event.steps)
            return f"**Plan** {_words(event.explanation)}".rstrip() + f"\n\n{steps}"
        case Notice():
            return f"> {_words(event.text)}"
        case Approval():
            return _approval(event)
        case _:
            assert_never(event)


def _approval(event: Approval) -> str:
    """Written out, not cleaned: who decides has to see what a shell would see."""
    answers = " or ".join(code(f"codexgate approvals {verb} {event.id}") for verb in ("accept", "decline"))
    place = f" in {code(escape(event.cwd))}" if event.cwd else ""
    reason = f"> {_words(event.reason)}\n\n" if event.reason else ""
    detail = "\n".join(map(escape, bare_command(event.detail).split("\n")))
    asked = f"Waiting for approval {code(event.id)}{place}. Answer with {answers}."
    return f"{asked}\n\n{reason}{block(detail, 'sh')}"


def _call(event: ToolEvent) -> str:
    asked = cut(_words(event.text), _CALL_SHOWN)
    if event.name == "web_search":
        return f"Searched the web for {code(asked)}" if asked else "Searched the web"
    called = f"Called {code(_words(event.name.removeprefix('mcp:')))}"
    return f"{called} with {code(asked)}" if asked else called


def _words(text: str) -> str:
    return one_line(clean(text))
