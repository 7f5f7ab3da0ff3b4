"""A memory that keeps entries in a list: for tests of the surfaces above the use case."""

import asyncio
import itertools
from collections.abc import Callable

from codexgate import recall
from codexgate.memory import Memory
from codexgate.records import Draft, Entry, Filter, Kept, Match

ALL = Filter()


class Notebook(Memory):
    """Everything in it matches every query, the newest first."""

    model = "test/none"

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.before: Callable[[], object] = lambda: None
        """Called before anything is done; may raise."""
        self.hold: asyncio.Event | None = None
        """When it is there, nothing is done before it is set."""
        self.reached = asyncio.Event()
        self.cancelled = asyncio.Event()
        self._ids = itertools.count(1)

    async def persist(self, draft: Draft, *, force: bool = False) -> Kept:
        await self._wait()
        entry = Entry(
            f"m{next(self._ids)}",
            draft.namespace or "default",
            draft.content,
            draft.summary or draft.content[:300],
            draft.tags,
            draft.metadata,
            draft.source,
            created=1_700_000_000.5,
            digest=recall.digest(draft.content),
        )
        same = [
            kept for kept in self.entries if (kept.namespace, kept.digest) == (entry.namespace, entry.digest)
        ]
        if same:
            return Kept(same[0], deduped=True)
        self.entries.append(entry)
        return Kept(entry)

    async def retrieve(self, query: str, wanted: Filter = ALL, limit: int = 10) -> tuple[Match, ...]:
        await self._wait()
        found = [
            entry for entry in self.entries if not wanted.namespaces or entry.namespace in wanted.namespaces
        ]
        return tuple(Match(entry, None, ("words",), 1.0) for entry in reversed(found))[:limit]

    async def aclose(self) -> None:
        pass

    async def _wait(self) -> None:
        self.before()
        self.reached.set()
        try:
            if self.hold is not None:
                await self.hold.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
