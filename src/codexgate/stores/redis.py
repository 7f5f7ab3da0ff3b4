"""The threads of chats in Redis, or what speaks its protocol (Valkey): a `ports.ThreadStore`.

A chat is a hash `<prefix>:<chat>` with `thread` and `turn`, as Jangar wrote it, so that its data
carries on, and `signature`, which is ours. Knows nothing of what a thread is. No text of the library
leaves this module: it may quote what was sent, passwords included.
"""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import msgspec
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from ..errors import GateError, invalid
from ..records import ThreadRecord
from .threads import WEEK, acquire, unavailable

log = logging.getLogger(__name__)

DEADLINE = 0.25
"""Seconds for one exchange, connecting included."""
PAUSE = 1.0
"""Seconds between a failure and the next try; whoever asks meanwhile is told at once."""
LEASE = 4.0
"""Seconds that a lock outlives its holder; renewed four times as often."""

PAGE = 1000
"""Keys looked at in one exchange."""

# Taking and renewing are one: a holder whose lock was lost with a restarted server has it again
# unless somebody else was quicker.
HOLD = """
local holder = redis.call('get', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('set', KEYS[1], ARGV[1], 'px', ARGV[2])
return 1
"""
LET_GO = "if redis.call('get', KEYS[1]) == ARGV[1] then redis.call('del', KEYS[1]) end"

Command = tuple[str | bytes | int, ...]


class Signature(msgspec.Struct, frozen=True):
    """The field `signature`. It names its thread, since who does not know it may change the thread alone."""

    thread: str
    digests: tuple[str, ...]


_decode = msgspec.json.Decoder(Signature).decode


class RedisThreads:
    """The threads of chats in the Redis at `url`; connects only when something is asked.

    `ttl`: seconds that a chat is kept. Raises GateError of kind `invalid_request` for an unusable URL.
    """

    def __init__(
        self,
        url: str,
        chat_prefix: str = "openwebui:chat",
        worktree_prefix: str = "openwebui:worktree",
        *,
        ttl: int = WEEK,
    ) -> None:
        self._pool = _pool(url)
        self._client = Redis(connection_pool=self._pool)
        self._breaker = _Breaker(_address(url))
        self._chats = chat_prefix.rstrip(":")
        self._worktrees = worktree_prefix.rstrip(":")
        self._ttl = ttl

    @asynccontextmanager
    async def lock(self, chat: str, wait: float) -> AsyncIterator[None]:
        """Hold `chat` alone among all gates on this Redis. Raises GateError after `wait` seconds."""
        key, token = _key(f"{self._chats}-lock", chat), secrets.token_hex(16)

        async def take() -> bool | None:
            return await self._hold(key, token) or None

        try:
            await acquire(take, wait)
            renewal = asyncio.create_task(self._renew(key, token))
            try:
                yield
            finally:
                renewal.cancel()
                await asyncio.wait({renewal})
        finally:
            # Also when taking it failed: the server may have done what it had no time to answer.
            with suppress(GateError):
                await self._run(("EVAL", LET_GO, 1, key, token))

    async def load(self, chat: str) -> ThreadRecord:
        """What is kept of `chat`."""
        [(thread, turn, signature)] = await self._run(
            ("HMGET", self._chat(chat), "thread", "turn", "signature")
        )
        try:
            name = (thread or b"").decode()
            held = _decode(signature) if signature else Signature("", ())
            return ThreadRecord(name, int(turn or 0), held.digests if held.thread == name else ())
        except (ValueError, msgspec.DecodeError):
            raise unavailable(f"{self._breaker.name} keeps something else in place of this chat.") from None

    async def begin(self, chat: str) -> int:
        """Count one more turn and return its number."""
        return int(await self._write(chat, ("HINCRBY", self._chat(chat), "turn", 1)))

    async def save(self, chat: str, thread: str, signature: Sequence[str]) -> None:
        """Keep the thread and what it holds."""
        held = msgspec.json.encode(Signature(thread, tuple(signature)))
        await self._write(chat, ("HSET", self._chat(chat), "thread", thread, "signature", held))

    async def forget(self, chat: str) -> None:
        """Drop thread and signature; the turn's number stays."""
        await self._write(chat, ("HDEL", self._chat(chat), "thread", "signature"))

    async def worktree(self, chat: str) -> str:
        """The name of the chat's worktree, or empty."""
        [name] = await self._run(("HGET", self._worktree(chat), "name"))
        return _text(name)

    async def keep_worktree(self, chat: str, name: str) -> None:
        """Remember the name of the chat's worktree, or that it has none."""
        key = self._worktree(chat)
        await self._write(chat, ("HSET", key, "name", name) if name else ("DEL", key))

    async def worktrees(self) -> frozenset[str]:
        """The names of all worktrees of chats that are kept."""
        pattern = re.sub(r"([*?\[\]\\])", r"\\\1", self._worktrees) + ":*"
        names: set[str] = set()
        cursor = None
        while cursor != 0:
            scan = ("SCAN", cursor or 0, "MATCH", pattern, "COUNT", PAGE, "TYPE", "hash")
            [(cursor, keys)] = await self._run(scan)
            names |= {_text(name) for name in await self._run(*(("HGET", key, "name") for key in keys))}
        return frozenset(names - {""})

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()
        await self._pool.disconnect()

    def _chat(self, chat: str) -> bytes:
        return _key(self._chats, chat)

    def _worktree(self, chat: str) -> bytes:
        return _key(self._worktrees, chat)

    async def _hold(self, key: bytes, token: str) -> bool:
        [held] = await self._run(("EVAL", HOLD, 1, key, token, round(LEASE * 1000)))
        return bool(held)

    async def _renew(self, key: bytes, token: str) -> None:
        held = True
        while held:
            await asyncio.sleep(LEASE / 4)
            with suppress(GateError):  # it is said elsewhere, and may be over the next time
                held = await self._hold(key, token)
        log.warning("thread_store.lock_lost", extra={"fields": {"store": self._breaker.name}})

    async def _write(self, chat: str, command: Command) -> Any:
        """Do `command`; the chat, and with it its worktree, is kept for `ttl` seconds from now."""
        keys = self._chat(chat), self._worktree(chat)
        answer, *_ = await self._run(command, *(("EXPIRE", key, self._ttl) for key in keys))
        return answer

    async def _run(self, *commands: Command) -> list[Any]:
        """Do all of `commands` or none; the one place that speaks with the library.

        Raises GateError of kind `unavailable`, after `DEADLINE` at the latest.
        """
        self._breaker.enter()
        try:
            async with asyncio.timeout(DEADLINE), self._client.pipeline(transaction=True) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)
                answers: list[Any] = await pipeline.execute()
        except ResponseError as error:
            self._breaker.worked()
            name = type(error).__name__
            raise unavailable(f"{self._breaker.name} refused what it was asked ({name}).") from None
        except (RedisError, OSError) as error:
            raise self._breaker.failed(_reason(error)) from None
        self._breaker.worked()
        return answers


class _Breaker:
    """After a failure, one try a second; whoever else asks is told at once. Logs each change of state."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._down: GateError | None = None
        self._again = 0.0

    def enter(self) -> None:
        """Raise what went wrong last, unless it is time for a try."""
        if self._down is None:
            return
        now = time.monotonic()
        if now < self._again:
            raise GateError(self._down.fault)
        self._again = now + PAUSE

    def failed(self, reason: str) -> GateError:
        """Note that it does not work; returns what to raise."""
        if self._down is None:
            log.warning("thread_store.down", extra={"fields": {"store": self.name, "reason": reason}})
        self._down = unavailable(f"{self.name} cannot be used: {reason}.", retry_after=PAUSE)
        self._again = time.monotonic() + PAUSE
        return self._down

    def worked(self) -> None:
        """Note that it works."""
        if self._down is not None:
            log.info("thread_store.up", extra={"fields": {"store": self.name}})
        self._down = None


def _pool(url: str) -> ConnectionPool:
    try:
        options: dict[str, Any] = {
            **parse_url(url),
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,  # one exchange less when connecting, and any server speaks it
            "driver_info": None,  # the same
            "decode_responses": False,
        }
        pool = ConnectionPool(**options)
        # An option that does not exist would be found out by the first connection only.
        pool.connection_class(**pool.connection_kwargs)
    except (ValueError, TypeError, RedisError):
        message = "threads.redis_url is not the URL of a Redis."
        advice = "It looks like redis://user:password@host:6379/0."
        raise invalid(message, "threads.redis_url", "invalid_setting", advice) from None
    return pool


def _address(url: str) -> str:
    """Where `url` leads, for people: neither a password nor a user."""
    split = urlsplit(url)
    if split.scheme == "unix":
        return f"Redis at {split.path}"
    return f"Redis at {split.hostname or 'localhost'}:{split.port or 6379}"


def _reason(error: Exception) -> str:
    if isinstance(error, AuthenticationError):
        return "it does not accept this user and password"
    if isinstance(error, TimeoutError | RedisTimeout):
        return f"no answer within {DEADLINE * 1000:.0f} ms"
    cause = error if isinstance(error, OSError) else error.__cause__ or error.__context__
    return (cause.strerror if isinstance(cause, OSError) else None) or "no connection"


def _key(prefix: str, chat: str) -> bytes:
    # Any text may be a chat's name, also what a header had that was not UTF-8.
    return f"{prefix}:{chat}".encode("utf-8", "surrogatepass")


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")
