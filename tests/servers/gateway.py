"""A gate on a free port of this machine, as `serve` runs it, for clients over real sockets."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
import msgspec

from codexgate.core import Core
from codexgate.gate import Gate
from codexgate.ports import Backend, Stage
from codexgate.server.app import Listen, listening


@asynccontextmanager
async def serving(
    *backends: Backend, listen: Listen | None = None, stages: Sequence[Stage] = ()
) -> AsyncIterator[str]:
    """The gate's URL, without a path. Every answer is held to the law of event order."""
    gate = Gate(backends, stages=stages, strict=True)
    options = msgspec.structs.replace(listen or Listen(drain=0), port=0)
    try:
        async with listening(Core(gate), options) as running:
            yield running.url
    finally:
        await gate.aclose()


@asynccontextmanager
async def client(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client of `url` that keeps nothing open."""
    async with aiohttp.ClientSession(url) as session:
        yield session
