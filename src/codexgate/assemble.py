"""Settings to live objects: the tables of kinds and factories, and the one place that opens a gate."""

import difflib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from .backends.codex import Codex
from .backends.demo import Demo
from .backends.ollama import Ollama
from .core import Core
from .errors import invalid
from .gate import Gate
from .ports import Backend, ThreadStore
from .settings import Settings
from .stores.sqlite import Threads

BACKENDS: dict[str, Callable[[Settings], Backend]] = {
    "codex": lambda settings: Codex(
        settings.codex,
        settings.data_dir,
        threads=make_threads(settings),
        wait=settings.threads.wait,
        strict=settings.threads.strict,
    ),
    "ollama": lambda settings: Ollama(settings.ollama),
    "demo": lambda settings: Demo(settings.demo),
}
"""In the order in which a bare model name is looked for."""


@asynccontextmanager
async def open_core(settings: Settings) -> AsyncIterator[Core]:
    """Everything that `serve` needs; closed when the context is left. Raises GateError."""
    async with open_gate(settings) as gate:
        yield Core(gate)


@asynccontextmanager
async def open_gate(settings: Settings, *, strict: bool = False) -> AsyncIterator[Gate]:
    """A gate over the backends that `settings` names, or all; closed when the context is left.

    `strict`: hold every backend to the law of event order. Raises GateError for an unknown backend.
    """
    gate = Gate(
        [_factory(name)(settings) for name in settings.backends or BACKENDS],
        aliases=settings.aliased,
        default_model=settings.default_model,
        strict=strict,
    )
    try:
        yield gate
    finally:
        await gate.aclose()


def make_threads(settings: Settings) -> ThreadStore:
    """The store of threads that `settings` names; nothing is opened. Raises GateError for a bad Redis URL."""
    options = settings.threads
    if not options.redis_url:
        return Threads(settings.data_dir / "threads.db", ttl=options.ttl)
    from .stores.redis import RedisThreads  # a big library, for those who use it

    return RedisThreads(
        options.redis_url.reveal(), options.chat_prefix, options.worktree_prefix, ttl=options.ttl
    )


def _factory(name: str) -> Callable[[Settings], Backend]:
    if name in BACKENDS:
        return BACKENDS[name]
    near = difflib.get_close_matches(name, BACKENDS, 1)
    advice = f"Did you mean {near[0]}?" if near else f"There are {', '.join(BACKENDS)}."
    raise invalid(f"There is no backend '{name}'.", "backends", "invalid_setting", advice)
