"""Tool calls that a model wrote into its answer, as calls.

Small models are told of tools in their prompt and write what they would call: JSON alone, in a
fence, or in `<tool_call>` tags. Text that may become a call is held back until it is one or is
not; everything else passes at once. Only functions that were offered are ever called. Pure.
"""

from collections.abc import Callable, Collection
from typing import Any

import msgspec

from .events import Done, Event, Failed, TextDelta, ToolEvent, Usage

OPEN, CLOSE = "<tool_call>", "</tool_call>"
FENCE = "```"
_BEGINNINGS = (OPEN, "{", "[", "```json", "```\n", "```tool")
"""How an answer begins that may be nothing but calls."""
LONGEST = 256 * 1024
"""Characters that are held back at most."""


class Written:
    """Watches one answer to a request that offers `functions`."""

    def __init__(self, functions: Collection[str], new_id: Callable[[], str]) -> None:
        self._functions = frozenset(functions)
        self._new_id = new_id
        self._item = ""
        self._held = ""
        self._begun = False
        """Something of the answer has passed: now only tags can hold a call."""
        self._called = False
        self._usage: Usage | None = None

    def feed(self, event: Event) -> list[Event]:
        """Return what `event` becomes."""
        match event:
            case TextDelta():
                return self._text(event)
            case Usage():
                self._usage = event
                return []
            case Done() | Failed():
                return self._end(event)
            case ToolEvent(runs_on="client"):
                self._begun = True
                return [*self._release(), event]
            case _:
                return [event]

    def _text(self, event: TextDelta) -> list[Event]:
        before = self._release() if event.item != self._item else []
        self._item = event.item
        if not self._held and self._begun and "<" not in event.text:  # what nearly every event is
            return [*before, event]
        self._held += event.text
        if len(self._held) > LONGEST:
            self._begun = True
            return [*before, *self._release()]
        return [*before, *self._look()]

    def _look(self) -> list[Event]:
        """What of the held text is certain by now."""
        if not self._begun:
            start = self._held.lstrip()
            if any(start.startswith(opener) or opener.startswith(start) for opener in _BEGINNINGS):
                if not start.startswith(OPEN):
                    return []
            else:
                self._begun = True
        events: list[Event] = []
        while True:
            text, tag, rest = self._held.partition(OPEN)
            if not tag:
                keep = _overlap(self._held)
                return [*events, *self._say(self._held[: len(self._held) - keep])]
            events += self._say(text)
            inside, closed, after = rest.partition(CLOSE)
            if not closed:
                return events
            calls = self._calls(inside)
            events += calls or self._say(f"{OPEN}{inside}{CLOSE}")
            self._held = after.lstrip("\n") if calls else after

    def _end(self, event: Done | Failed) -> list[Event]:
        calls: list[Event] = []
        if isinstance(event, Done) and event.reason == "stop":
            calls = self._calls(_unwrapped(self._held))
            if calls:
                self._held = ""
            if self._called:
                event = Done("tool_calls")
        return [*calls, *self._release(), *([self._usage] if self._usage else []), event]

    def _say(self, text: str) -> list[Event]:
        """Let `text`, the beginning of what is held, pass."""
        self._held = self._held[len(text) :]
        if not text or (not text.strip() and not self._begun):
            return []
        self._begun = True
        return [TextDelta(text, self._item)]

    def _release(self) -> list[Event]:
        held, self._held = self._held, ""
        return [TextDelta(held, self._item)] if held.strip() or (held and self._begun) else []

    def _calls(self, text: str) -> list[Event]:
        """The calls that `text` is; none when it is anything else."""
        read = [_call(value) for value in _values(text)]
        events: list[Event] = []
        for name, arguments in read:
            if name not in self._functions:
                return []
            id = self._new_id()
            events += [
                ToolEvent(id, name, "started", runs_on="client"),
                ToolEvent(id, name, "arguments", arguments, runs_on="client"),
                ToolEvent(id, name, "finished", runs_on="client"),
            ]
        self._called = self._called or bool(events)
        return events


def _unwrapped(text: str) -> str:
    """What stands in tags that were not closed, or in a fence; or `text` itself."""
    text = text.strip().removeprefix(OPEN).strip()
    if not text.startswith(FENCE):
        return text
    return text.partition("\n")[2].rstrip().removesuffix(FENCE)


def _values(text: str) -> list[Any]:
    """The JSON in `text`: a value, a list of them, or one on each line."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        try:
            return [msgspec.json.decode(line) for line in text.splitlines() if line.strip()]
        except (msgspec.DecodeError, RecursionError):
            return []
    if isinstance(value, dict) and isinstance(value.get("tool_calls"), list):
        value = value["tool_calls"]
    return value if isinstance(value, list) else [value]


def _call(value: Any) -> tuple[str, str]:
    """Name and arguments; no name when it is no call."""
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return "", ""
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, dict):
        return value["name"], msgspec.json.encode(arguments).decode()
    return (value["name"], arguments) if isinstance(arguments, str) else ("", "")


def _overlap(text: str) -> int:
    """How many characters at the end of `text` could begin a tag."""
    return next((size for size in range(len(OPEN) - 1, 0, -1) if text.endswith(OPEN[:size])), 0)
