"""Ends an answer where the caller said, for backends that cannot be told.

Stop sequences are found also when they are split over deltas, and never shown. The limit of
tokens is estimated from characters, since a backend that cannot be told does not count aloud
either. Pure.
"""

from .chat import Sampling
from .events import Done, Event, Failed, ReasoningDelta, TextDelta, Usage

CHARACTERS = 4
"""Of a token, as a rule of thumb for English."""


class Cut:
    """Watches one answer; once `over`, the backend has to be stopped."""

    def __init__(self, sampling: Sampling) -> None:
        self._stops = tuple(stop for stop in sampling.stop if stop)
        self._left = sampling.max_tokens * CHARACTERS if sampling.max_tokens else None
        self._held = ""
        """Text that may be the beginning of a stop sequence."""
        self._item = ""
        self.over = False
        """The answer was ended here; nothing that comes now belongs to it."""

    def feed(self, event: Event) -> list[Event]:
        """Return what of `event` belongs to the answer, and its end where it is reached."""
        if self.over:
            return []
        if isinstance(event, TextDelta):
            return self._text(event)
        if isinstance(event, ReasoningDelta) and self._left is not None:
            return self._count([event], event.text)
        if isinstance(event, Usage | Done | Failed):
            return [*self._flush(), event]
        return [event]

    def _text(self, event: TextDelta) -> list[Event]:
        before = self._flush() if event.item != self._item else []
        self._item = event.item
        text, self._held = self._held + event.text, ""
        ends = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if ends:  # the one that was complete first, as if the model had been stopped there
            self.over = True
            kept = text[: min(ends)[1]]
            return [*before, *([TextDelta(kept, event.item)] if kept else []), Done("stop")]
        hold = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - hold :]
        shown = text[: len(text) - hold]
        return [*before, *(self._count([TextDelta(shown, event.item)], shown) if shown else [])]

    def _count(self, events: list[Event], text: str) -> list[Event]:
        if self._left is None:
            return events
        if len(text) <= self._left:
            self._left -= len(text)
            return events
        self.over = True
        (event,) = events
        kept = text[: self._left]
        if not kept:
            return [Done("length")]
        item = event.item if isinstance(event, TextDelta | ReasoningDelta) else ""
        return [
            TextDelta(kept, item) if isinstance(event, TextDelta) else ReasoningDelta(kept, item),
            Done("length"),
        ]

    def _flush(self) -> list[Event]:
        held, self._held = self._held, ""
        return self._count([TextDelta(held, self._item)], held) if held else []


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` could begin `stop`."""
    return next(
        (size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0
    )
