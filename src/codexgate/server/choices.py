"""Several answers to one request, side by side: chats with `n`, and completions of many prompts.

To `reply` they are one answer, whose work and end are those of all. It knows no front: what
writes them is handed in.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Protocol

from aiohttp import web

from ..errors import GateError, invalid
from ..events import Done, Event, Failed, Usage
from ..flat import Flat
from ..fold import Fold, Reply
from ..fronts.openai_usage import total
from ..ports import Batches, Route
from . import reply

TOGETHER = 8
"""Answers of one request that are worked on at the same time."""

Take = Callable[[int, list[Event]], None]
"""Is given the events of one read, and the index of the answer that they are of."""


class Writer(Protocol):
    """A front that writes several answers into one stream."""

    def feed(self, index: int, event: Event) -> bytes:
        """The frames of one answer's event; its end is not the stream's."""
        ...

    def close(self, usage: Usage | None, event: Done | Failed) -> bytes:
        """The end of the stream, with the usage of all answers as far as it is known."""
        ...


def check_choices(route: Route, count: int) -> None:
    """Raises GateError when there cannot be `count` answers to one question on this route."""
    if count > 1 and "n" not in route.backend.honours:
        raise invalid(f"{route.backend.name} gives one answer at a time.", "n", advice="Ask again for more.")
    if count > 1 and route.request.session:
        raise invalid("A session goes on with one answer, not with several.", "n")


async def stream(
    request: web.Request,
    answers: Sequence[Batches],
    flats: Sequence[Flat],
    writer: Writer,
    headers: dict[str, str],
    *,
    each: int,
) -> web.StreamResponse:
    """Stream `answers`, `each` of them to one prompt, as they come."""
    written: list[bytes] = []
    known: Usage | None = None

    def take(index: int, batch: list[Event]) -> None:
        written.extend(writer.feed(index, one) for event in batch for one in flats[index].feed(event))

    def encode(batch: list[Event]) -> bytes:
        nonlocal known
        known = next((event for event in batch if isinstance(event, Usage)), known)
        data = b"".join(written)
        written.clear()
        return data + (writer.close(known, end) if isinstance(end := batch[-1], Done | Failed) else b"")

    return await reply.stream(request, _together(answers, take, each), encode, headers)


async def whole(
    request: web.Request, answers: Sequence[Batches], flats: Sequence[Flat], *, each: int
) -> list[Reply]:
    """Collect `answers`, `each` of them to one prompt. Raises GateError for the first that fails."""
    folds = [Fold() for _ in answers]

    def take(index: int, batch: list[Event]) -> None:
        for event in batch:
            for one in flats[index].feed(event):
                folds[index].feed(one)

    fault = (await reply.whole(request, _together(answers, take, each), lambda event: [event])).fault
    if fault is not None:
        raise GateError(fault)
    return [fold.reply() for fold in folds]


async def _together(answers: Sequence[Batches], take: Take, each: int) -> Batches:
    """Everything that `answers` bring goes to `take`; what is yielded tells how far they are as one.

    Its usage is that of all so far; it ends when all have ended or one has failed, which stops the others.
    """
    room = asyncio.Semaphore(TOGETHER)
    arrived: asyncio.Queue[tuple[int, list[Event]]] = asyncio.Queue(1)

    async def read(index: int, answer: Batches) -> None:
        async with room, aclosing(answer):
            async for batch in answer:
                await arrived.put((index, batch))

    readers = [asyncio.create_task(read(*pair)) for pair in enumerate(answers)]
    usages: dict[int, Usage] = {}
    counted: list[Event] = []
    unfinished = len(answers)
    try:
        while unfinished:
            index, batch = await arrived.get()
            take(index, batch)
            usages.update((index, event) for event in batch if isinstance(event, Usage))
            counted = [total(usages, each)] if usages else []
            if isinstance(batch[-1], Failed):
                yield [*counted, batch[-1]]
                await readers[index]  # what is done after an answer is not cut off by its end
                return
            unfinished -= isinstance(batch[-1], Done)
            news: list[Event] = [event for event in batch if not isinstance(event, Usage | Done)]
            if news:
                yield news
        yield [*counted, Done("stop")]
        await asyncio.gather(*readers)
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
