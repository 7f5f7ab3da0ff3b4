"""A gate on a free port of this machine, as `serve` runs it, for clients over real sockets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import msgspec

from codexgate.gate import Gate
from codexgate.ports import Backend
from codexgate.server.app import Listen, listening


@asynccontextmanager
async def serving(*backends: Backend, listen: Listen | None = None) -> AsyncIterator[str]:
    """The gate's URL, without a path. Every backend is held to the law of event order."""
    gate = Gate(backends, strict=True)
    options = msgspec.structs.replace(listen or Listen(drain=0), port=0)
    try:
        async with listening(gate, options) as running:
            yield running.url
    finally:
        await gate.aclose()


@asynccontextmanager
async def client(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client of `url` that keeps nothing open."""
    async with aiohttp.ClientSession(url) as session:
        yield session
