"""What a response in the background has told, and those who read it, each at a pace of their own.

Knows frames by the front that wrote them; not who makes the response, nor where it is kept.
"""

import asyncio
from collections.abc import Sequence

from .events import Done, Event, Failed
from .fronts import openai_responses
from .ports import Batches


class Told:
    """Batches of events with their frames, from the first to the end."""

    def __init__(self) -> None:
        self.log: list[tuple[list[Event], bytes]] = []
        self.news = asyncio.Event()

    def add(self, batch: list[Event], frames: bytes) -> None:
        """Tell all who follow."""
        self.log.append((batch, frames))
        self.news.set()


class Follower:
    """Somebody who reads it."""

    def __init__(self, told: Told, after: int = -1) -> None:
        """`after`: the number of the last event that is not wanted; they are numbered from 0."""
        self._told = told
        self._after = after
        self._over = False
        """It read the end."""
        self._seen = 0
        """Events that were told so far."""
        self._untold = b""

    async def batches(self) -> Batches:
        """What was told and what will be."""
        at = 0
        while True:
            while at < len(self._told.log):
                batch, frames = self._told.log[at]
                at += 1
                self._untold += self._unseen(frames)
                self._over = isinstance(batch[-1], Done | Failed)
                yield batch
                if self._over:
                    return
            self._told.news.clear()
            await self._told.news.wait()

    def take(self, batch: Sequence[Event]) -> bytes:
        """The frames of what came since the last time.

        A batch that did not come from here is why this reader is sent away; what it reads goes on.
        """
        frames, self._untold = self._untold, b""
        if isinstance(batch[-1], Failed) and not self._over:
            frames += openai_responses.broken_off(batch[-1].fault, self._seen)
        return frames

    def _unseen(self, data: bytes) -> bytes:
        frames = data.split(b"\n\n")[:-1]  # JSON has no line ends
        first, self._seen = self._seen, self._seen + len(frames)
        return b"".join(frame + b"\n\n" for number, frame in enumerate(frames, first) if number > self._after)
