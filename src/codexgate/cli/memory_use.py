"""The memory for one command: opened and closed, what is meant in it found, and told when that is nothing.

Knows neither the command line nor how entries look.
"""

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TypeVar

from ..assemble import open_memory
from ..errors import Fault, GateError
from ..memory import Memory
from ..records import Entry, Filter
from ..settings import Settings
from .terminal import say

T = TypeVar("T")


def with_memory(settings: Settings, use: Callable[[Memory], Awaitable[T]]) -> T:
    """What `use` makes of the memory that the settings name. Raises GateError."""

    async def open_and_use() -> T:
        async with open_memory(settings) as memory:
            return await use(memory)

    return asyncio.run(open_and_use())


async def newest(memory: Memory, wanted: Filter, limit: int) -> list[Entry]:
    """The entries made last, the newest first; `limit` 0: all of them. Raises GateError."""
    entries: list[Entry] = []
    async with aclosing(memory.export(wanted, newest_first=True)) as batches:
        async for batch in batches:
            entries += [found.entry for found in batch]
            if 0 < limit <= len(entries):
                return entries[:limit]
    return entries


async def to_reembed(memory: Memory, model: str, wanted: Sequence[str] | None) -> list[str]:
    """The namespaces that are wanted, or those whose vectors `model` would not make. Raises GateError."""
    if not wanted:
        return await memory.outdated(model)
    there = {name for name, *_ in await memory.namespaces()}
    for name in wanted:
        if name not in there:
            advice = "`codexgate memory namespaces` shows which there are."
            raise GateError(Fault("not_found", f"There is nothing in the namespace {name}.", advice))
    return [*wanted]


async def tell_of_nothing(memory: Memory, names: Sequence[str]) -> None:
    """Say that nothing was found in these namespaces, or in any without names. Raises GateError."""
    if not await memory.namespaces():
        say("there is no memory yet.")
    elif not await tell_of_unknown(memory, names):
        say("nothing matches.")


async def tell_of_unknown(memory: Memory, names: Sequence[str]) -> bool:
    """Say which namespaces there are not, as a name may be misspelled; whether there was such a one.

    Raises GateError.
    """
    known = [name for name, *_ in await memory.namespaces()]
    unknown = [name for name in names if name not in known]
    for name in unknown:
        near = difflib.get_close_matches(name, known, 1)
        say(f"There is no memory in '{name}'." + (f" Did you mean {near[0]}?" if near else ""))
    return bool(unknown)
