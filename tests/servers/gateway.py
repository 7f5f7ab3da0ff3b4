"""A gate on a free port of this machine, as `serve` runs it, for clients over real sockets."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext

import aiohttp
import msgspec

from codexgate.core import Core
from codexgate.gate import Alias, Gate
from codexgate.memory import Memory
from codexgate.ports import Backend, FileStore, Stage
from codexgate.responses import Responses
from codexgate.server.app import Listen, listening
from codexgate.stages.files import Attachments
from codexgate.stores import sqlite_responses
from tests.servers.published import Watch, watched


@asynccontextmanager
async def serving(
    *backends: Backend,
    listen: Listen | None = None,
    stages: Sequence[Stage] = (),
    kept: sqlite_responses.Responses | None = None,
    files: FileStore | None = None,
    memory: Memory | None = None,
    described: bool = True,
    aliases: Mapping[str, Alias] | None = None,
) -> AsyncIterator[str]:
    """The gate's URL, without a path.

    Every answer is held to the law of event order, and what leaves on OpenAI's routes to the
    description that OpenAI publishes, unless `described` is false.
    """
    gate = Gate(backends, aliases=aliases, stages=[*stages, Attachments(files)], strict=True)
    core = Core(gate, Responses(gate, kept, kept) if kept is not None else None, files, memory)
    options = msgspec.structs.replace(listen or Listen(drain=0), port=0)
    try:
        with watched() if described else nullcontext(Watch()) as watch:
            async with listening(core, options) as running:
                yield running.url
    finally:
        if core.responses is not None:
            await core.responses.aclose()
        await gate.aclose()
    watch.verdict()


@asynccontextmanager
async def client(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client of `url` that keeps nothing open."""
    async with aiohttp.ClientSession(url) as session:
        yield session
