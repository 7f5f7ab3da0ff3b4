"""What the stores of threads share: their settings, their two faults, and how a second client waits.

Knows no store. Which one is used is for `assemble` to say.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from ..config import Secret
from ..errors import Fault, GateError, store_unavailable

T = TypeVar("T")

WEEK = 604_800
"""Seconds that a chat is kept after its last write, as in Jangar."""
POLL = 0.05
"""Seconds between two tries for a lock. Asking is cheap, and a turn takes seconds at least."""

unavailable = partial(store_unavailable, "thread_store_unavailable")
"""The store cannot be used now (503)."""


class ThreadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How chats keep their threads, and sessions their messages."""

    redis_url: Annotated[
        Secret,
        Meta(description="Redis that keeps them, as `redis://user:password@host:6379/0`; empty: SQLite."),
    ] = Secret()
    ttl: Annotated[
        int, Meta(ge=1, description="How long a chat or a session is kept after its last write (seconds).")
    ] = WEEK
    wait: Annotated[
        float,
        Meta(ge=0, description="How long a second client waits for a chat or a session in use (seconds)."),
    ] = 30
    strict: Annotated[
        bool, Meta(description="Refuse a turn while its store is down, instead of starting afresh.")
    ] = False
    chat_prefix: Annotated[str, Meta(description="Start of the Redis keys of chats.")] = "openwebui:chat"
    worktree_prefix: Annotated[str, Meta(description="Start of the Redis keys of chats' worktrees.")] = (
        "openwebui:worktree"
    )
    session_prefix: Annotated[str, Meta(description="Start of the Redis keys of sessions.")] = (
        "codexgate:session"
    )


BUSY = Fault(
    "conflict",
    "This chat is busy with another turn.",
    "Wait for it to end, or start another chat.",
    "chat_busy",
    retryable=True,
)
"""Somebody else holds the chat (409)."""


async def acquire(take: Callable[[], Awaitable[T | None]], wait: float, busy: Fault = BUSY) -> T:
    """Return what `take` gives, asked again until it gives something.

    Raises GateError with `busy` when that is not within `wait` seconds.
    """
    end = time.monotonic() + wait
    while (taken := await take()) is None:
        if time.monotonic() >= end:
            raise GateError(busy)
        await asyncio.sleep(POLL)
    return taken
