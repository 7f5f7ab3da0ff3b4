"""The threads of chats, and sessions, in Redis or what speaks its protocol (Valkey).

A `ports.ThreadStore` and a `ports.SessionStore`. A session is a list `<prefix>:<key>` of messages. A
chat is a hash `<prefix>:<chat>` with `thread` and `turn`, as Jangar wrote it, so that its data
carries on, and `signature`, which is ours. Knows nothing of what a thread is. No text of the library
leaves this module: it may quote what was sent, passwords included.
"""

import asyncio
import errno
import logging
import os
import re
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
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

from ..chat import Message
from ..errors import Fault, GateError, invalid
from ..records import ThreadRecord
from . import sessions
from .breaker import Breaker
from .threads import BUSY, WEEK, acquire, unavailable

log = logging.getLogger(__name__)

DEADLINE = 0.25
"""Seconds for one exchange, connecting included."""
ADVICE = "Is it running? `codexgate config` says where threads.redis_url comes from."
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
_decode_message = msgspec.json.Decoder(Message).decode
_encode = msgspec.json.Encoder().encode


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
        self._server = _Server(url, "thread_store", unavailable)
        self._chats = chat_prefix.rstrip(":")
        self._worktrees = worktree_prefix.rstrip(":")
        self._ttl = ttl

    @asynccontextmanager
    async def lock(self, chat: str, wait: float) -> AsyncIterator[None]:
        """Hold `chat` alone among all gates on this Redis. Raises GateError after `wait` seconds."""
        async with self._server.lock(_key(f"{self._chats}-lock", chat), wait, BUSY):
            yield

    async def load(self, chat: str) -> ThreadRecord:
        """What is kept of `chat`."""
        [(thread, turn, signature)] = await self._server.run(
            ("HMGET", self._chat(chat), "thread", "turn", "signature")
        )
        try:
            name = (thread or b"").decode()
            held = _decode(signature) if signature else Signature("", ())
            return ThreadRecord(name, int(turn or 0), held.digests if held.thread == name else ())
        except (ValueError, msgspec.DecodeError):
            raise unavailable(f"{self._server.name} keeps something else in place of this chat.") from None

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
        [name] = await self._server.run(("HGET", self._worktree(chat), "name"))
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
            [(cursor, keys)] = await self._server.run(scan)
            names |= {
                _text(name) for name in await self._server.run(*(("HGET", key, "name") for key in keys))
            }
        return frozenset(names - {""})

    async def aclose(self) -> None:
        """Close every connection."""
        await self._server.aclose()

    def _chat(self, chat: str) -> bytes:
        return _key(self._chats, chat)

    def _worktree(self, chat: str) -> bytes:
        return _key(self._worktrees, chat)

    async def _write(self, chat: str, command: Command) -> Any:
        """Do `command`; the chat, and with it its worktree, is kept for `ttl` seconds from now."""
        keys = self._chat(chat), self._worktree(chat)
        answer, *_ = await self._server.run(command, *(("EXPIRE", key, self._ttl) for key in keys))
        return answer


class RedisSessions:
    """Conversations in the Redis at `url`; connects only when something is asked.

    `ttl`: seconds that a session is kept. Raises GateError of kind `invalid_request` for an unusable URL.
    """

    def __init__(self, url: str, prefix: str = "codexgate:session", *, ttl: int = WEEK) -> None:
        self._server = _Server(url, "session_store", sessions.unavailable)
        self._prefix = prefix.rstrip(":")
        self._ttl = ttl

    @asynccontextmanager
    async def lock(self, key: str, wait: float) -> AsyncIterator[None]:
        """Hold `key` alone among all gates on this Redis. Raises GateError after `wait` seconds."""
        async with self._server.lock(_key(f"{self._prefix}-lock", key), wait, sessions.BUSY):
            yield

    async def load(self, key: str) -> tuple[Message, ...]:
        """The messages kept under `key`, oldest first."""
        [bodies] = await self._server.run(("LRANGE", _key(self._prefix, key), 0, -1))
        try:
            return await asyncio.to_thread(lambda: tuple(map(_decode_message, bodies)))
        except msgspec.DecodeError:
            text = f"{self._server.name} keeps something else in place of this session."
            raise sessions.unavailable(text) from None

    async def append(self, key: str, messages: Sequence[Message]) -> None:
        """Keep `messages` after what is there, in one transaction."""
        await self._write(key, messages)

    async def replace(self, key: str, messages: Sequence[Message]) -> None:
        """Keep `messages` alone, in one transaction."""
        await self._write(key, messages, ("DEL", _key(self._prefix, key)))

    async def aclose(self) -> None:
        """Close every connection."""
        await self._server.aclose()

    async def _write(self, key: str, messages: Sequence[Message], *before: Command) -> None:
        name = _key(self._prefix, key)
        bodies = await asyncio.to_thread(lambda: list(map(_encode, messages)))
        push: list[Command] = [("RPUSH", name, *bodies)] if bodies else []
        await self._server.run(*before, *push, ("EXPIRE", name, self._ttl))


class _Server:
    """One Redis, as the stores share it: exchanges that are made whole or not at all, and locks."""

    def __init__(self, url: str, store: str, unavailable: Callable[[str, str, float], GateError]) -> None:
        """`store`: what is kept there, for the log; `unavailable` makes its errors."""
        self._pool = _pool(url)
        self._client = Redis(connection_pool=self._pool)
        self._store = store
        self._unavailable = unavailable
        self._breaker = Breaker(store, _address(url), unavailable)

    @property
    def name(self) -> str:
        """Where it is, for people."""
        return self._breaker.name

    async def run(self, *commands: Command) -> list[Any]:
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
            raise self._unavailable(f"{self.name} refused what it was asked ({name}).", "", 0) from None
        except (RedisError, OSError) as error:
            raise self._breaker.failed(_reason(error), ADVICE) from None
        self._breaker.worked()
        return answers

    @asynccontextmanager
    async def lock(self, key: bytes, wait: float, busy: Fault) -> AsyncIterator[None]:
        """Hold `key`, renewed for as long as the context lasts. Raises GateError: `busy` after `wait` s."""
        token = secrets.token_hex(16)

        async def take() -> bool | None:
            return await self._hold(key, token) or None

        try:
            await acquire(take, wait, busy)
            renewal = asyncio.create_task(self._renew(key, token))
            try:
                yield
            finally:
                renewal.cancel()
                await asyncio.wait({renewal})
        finally:
            # Also when taking it failed: the server may have done what it had no time to answer.
            with suppress(GateError):
                await self.run(("EVAL", LET_GO, 1, key, token))

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()
        await self._pool.disconnect()

    async def _hold(self, key: bytes, token: str) -> bool:
        [held] = await self.run(("EVAL", HOLD, 1, key, token, round(LEASE * 1000)))
        return bool(held)

    async def _renew(self, key: bytes, token: str) -> None:
        held = True
        while held:
            await asyncio.sleep(LEASE / 4)
            with suppress(GateError):  # it is said elsewhere, and may be over the next time
                held = await self._hold(key, token)
        log.warning(f"{self._store}.lock_lost", extra={"fields": {"store": self.name}})


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
    match error if isinstance(error, OSError) else error.__cause__ or error.__context__:
        case ssl.SSLCertVerificationError() as cause:
            return f"its certificate cannot be verified ({cause.verify_message.rstrip('.')})"
        case ssl.SSLError():
            return "it does not speak TLS"
        case socket.gaierror():
            return "unknown host"
        case OSError() as cause if cause.errno in (None, errno.ECONNREFUSED, errno.ENOENT):
            return "nothing listens there"  # a name of several addresses has no number
        case OSError(errno=int() as number):
            return os.strerror(number)
        case _:
            return "no connection"


def _key(prefix: str, chat: str) -> bytes:
    # Any text may be a chat's name, also what a header had that was not UTF-8.
    return f"{prefix}:{chat}".encode("utf-8", "surrogatepass")


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")
