"""Conversations, and the threads of chats, in SQLite files: a `SessionStore` and a `ThreadStore` of `ports`.

Several processes may use a file at once. Knows nothing of who keeps a conversation, or why.
"""

import math
import os
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import msgspec

from .. import folders
from ..chat import Message
from ..errors import Fault, GateError
from ..records import ThreadRecord
from . import sessions
from .database import Database, transaction
from .threads import BUSY, WEEK, acquire, unavailable

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        """Lock the open file, or raise PermissionError."""
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        """Lock the open file, or raise BlockingIOError."""
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


T = TypeVar("T")

MIGRATIONS = (
    """
    CREATE TABLE message (id INTEGER PRIMARY KEY, session TEXT NOT NULL, body BLOB NOT NULL);
    CREATE INDEX message_session ON message (session, id);
    """,
    """
    CREATE TABLE session (key TEXT PRIMARY KEY, expires REAL NOT NULL);
    CREATE INDEX session_expires ON session (expires);
    INSERT INTO session SELECT DISTINCT session, 9e999 FROM message;
    """,
)
"""What makes version N+1 of version N; a released one is never changed. The file's own version
stands in `PRAGMA user_version`."""

THREAD_MIGRATIONS = (
    """
    CREATE TABLE chat (
        id BLOB PRIMARY KEY,
        turn INTEGER NOT NULL DEFAULT 0,
        thread TEXT NOT NULL DEFAULT '',
        signature BLOB NOT NULL DEFAULT '[]',
        worktree TEXT NOT NULL DEFAULT '',
        expires REAL NOT NULL
    );
    CREATE INDEX chat_expires ON chat (expires);
    """,
)
"""The same for the file of `Threads`."""

EXPIRED_MESSAGES = "DELETE FROM message WHERE session IN (SELECT key FROM session WHERE expires <= ?)"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Message).decode
_decode_signature = msgspec.json.Decoder(tuple[str, ...]).decode


class Sessions:
    """Conversations in the file `path`, which is made, with its folder, when it is needed.

    `ttl`: seconds that a session is kept after its last write; `clock`: Unix seconds. A lock is one
    as `Threads` has.
    """

    def __init__(self, path: Path, *, ttl: float = math.inf, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._database = Database(path, MIGRATIONS)
        self._ttl = ttl
        self._clock = clock

    @asynccontextmanager
    async def lock(self, key: str, wait: float) -> AsyncIterator[None]:
        """Hold `key` alone among all processes on this file. Raises GateError after `wait` seconds."""
        async with _locked(self._path, key, wait, sessions.BUSY, sessions.unavailable):
            yield

    async def load(self, key: str) -> tuple[Message, ...]:
        """The messages kept under `key`, oldest first."""
        sql = """
            SELECT body FROM message JOIN session ON session.key = message.session
            WHERE message.session = ? AND session.expires > ? ORDER BY message.id
        """
        return await self._in_thread(
            lambda database: tuple(_decode(body) for (body,) in database.execute(sql, (key, self._clock())))
        )

    async def append(self, key: str, messages: Sequence[Message]) -> None:
        """Keep `messages` under `key` in one transaction."""
        await self._write(key, messages)

    async def replace(self, key: str, messages: Sequence[Message]) -> None:
        """Keep `messages` alone under `key`, in one transaction."""
        await self._write(key, messages, alone=True)

    async def latest(self) -> str | None:
        """The key that was written to last."""
        return next(iter(await self.keys()), None)

    async def keys(self) -> tuple[str, ...]:
        """Every key, the one used last first."""
        sql = """
            SELECT key FROM session WHERE expires > ?
            ORDER BY (SELECT max(id) FROM message WHERE message.session = key) DESC
        """
        return await self._in_thread(
            lambda database: tuple(key for (key,) in database.execute(sql, (self._clock(),)))
        )

    async def delete(self, key: str) -> None:
        """Forget `key`."""

        def work(database: sqlite3.Connection) -> None:
            with transaction(database):
                database.execute("DELETE FROM message WHERE session = ?", (key,))
                database.execute("DELETE FROM session WHERE key = ?", (key,))

        await self._in_thread(work)

    async def aclose(self) -> None:
        """Let go of the file."""
        await self._database.aclose()

    async def _write(self, key: str, messages: Sequence[Message], *, alone: bool = False) -> None:
        now = self._clock()

        def work(database: sqlite3.Connection) -> None:
            rows = [(key, _encode(message)) for message in messages]
            with transaction(database):
                database.execute(EXPIRED_MESSAGES, (now,))
                database.execute("DELETE FROM session WHERE expires <= ?", (now,))
                if alone:
                    database.execute("DELETE FROM message WHERE session = ?", (key,))
                if rows:
                    database.execute("REPLACE INTO session VALUES (?, ?)", (key, now + self._ttl))
                    database.executemany("INSERT INTO message (session, body) VALUES (?, ?)", rows)

        await self._in_thread(work)

    async def _in_thread(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._database.do(work)
        except GateError as error:
            raise sessions.unavailable(error.fault.message, error.fault.advice) from error


class Threads:
    """The threads of chats in the file `path`, which is made, with its folder, when it is needed.

    `ttl`: seconds that a chat is kept; `clock`: Unix seconds. A lock is a locked file (flock) in the
    folder `path` with `.locks` at its end. The kernel gives it back when its holder dies, and leaves
    it to one that lives, however slow or suspended; a lease in a row could do neither.
    """

    def __init__(self, path: Path, *, ttl: float = WEEK, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._database = Database(path, THREAD_MIGRATIONS)
        self._ttl = ttl
        self._clock = clock

    @asynccontextmanager
    async def lock(self, chat: str, wait: float) -> AsyncIterator[None]:
        """Hold `chat` alone among all processes on this file. Raises GateError after `wait` seconds."""
        async with _locked(self._path, chat, wait, BUSY, unavailable):
            yield

    async def load(self, chat: str) -> ThreadRecord:
        """What is kept of `chat`."""
        sql = "SELECT thread, turn, signature FROM chat WHERE id = ? AND expires > ?"
        return await self._read(
            lambda rows: next((ThreadRecord(t, n, _decode_signature(s)) for t, n, s in rows), ThreadRecord()),
            sql,
            _bytes(chat),
        )

    async def begin(self, chat: str) -> int:
        """Count one more turn and return its number."""
        return await self._write(chat, "UPDATE chat SET turn = turn + 1 WHERE id = :id")

    async def save(self, chat: str, thread: str, signature: Sequence[str]) -> None:
        """Keep the thread and what it holds."""
        sql = "UPDATE chat SET thread = :thread, signature = :signature WHERE id = :id"
        await self._write(chat, sql, thread=thread, signature=msgspec.json.encode(signature))

    async def forget(self, chat: str) -> None:
        """Drop thread and signature; the turn's number stays."""
        await self.save(chat, "", ())

    async def worktree(self, chat: str) -> str:
        """The name of the chat's worktree, or empty."""
        sql = "SELECT worktree FROM chat WHERE id = ? AND expires > ?"
        return await self._read(lambda rows: "".join(name for (name,) in rows), sql, _bytes(chat))

    async def keep_worktree(self, chat: str, name: str) -> None:
        """Remember the name of the chat's worktree, or that it has none."""
        await self._write(chat, "UPDATE chat SET worktree = :name WHERE id = :id", name=name)

    async def worktrees(self) -> frozenset[str]:
        """The names of all worktrees of chats that are kept."""
        sql = "SELECT worktree FROM chat WHERE worktree <> '' AND expires > ?"
        return await self._read(lambda rows: frozenset(name for (name,) in rows), sql)

    async def aclose(self) -> None:
        """Let go of the file."""
        await self._database.aclose()

    async def _read(self, see: Callable[[sqlite3.Cursor], T], sql: str, *values: bytes) -> T:
        """What `see` makes of the rows; the last placeholder of `sql` is the time now."""
        return await self._in_thread(lambda database: see(database.execute(sql, (*values, self._clock()))))

    async def _write(self, chat: str, sql: str, **values: object) -> int:
        """Change the row of `chat`, which is made when there is none; returns its turn."""
        now = self._clock()
        values |= {"id": _bytes(chat), "expires": now + self._ttl}

        def work(database: sqlite3.Connection) -> int:
            with transaction(database):
                database.execute("DELETE FROM chat WHERE expires <= ?", (now,))
                database.execute("INSERT OR IGNORE INTO chat (id, expires) VALUES (:id, 0)", values)
                database.execute("UPDATE chat SET expires = :expires WHERE id = :id", values)
                database.execute(sql, values)
                return int(database.execute("SELECT turn FROM chat WHERE id = :id", values).fetchone()[0])

        return await self._in_thread(work)

    async def _in_thread(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._database.do(work)
        except GateError as error:
            raise unavailable(error.fault.message, error.fault.advice) from error


def _bytes(chat: str) -> bytes:
    # Any text may be a chat's name, also what a header had that was not UTF-8.
    return chat.encode("utf-8", "surrogatepass")


@asynccontextmanager
async def _locked(
    path: Path, name: str, wait: float, busy: Fault, unavailable: Callable[[str], GateError]
) -> AsyncIterator[None]:
    """Hold the lock `name` of the store in `path`. Raises GateError: `busy` after `wait` seconds."""
    file = path.with_suffix(".locks") / sha256(_bytes(name)).hexdigest()

    async def take() -> int | None:
        # Not in a thread: it never waits, and a thread could not be kept from taking the lock
        # after its caller has been cancelled.
        try:
            return _take(file)
        except OSError as error:
            raise unavailable(f"{file} cannot be locked: {error.strerror}.") from error

    descriptor = await acquire(take, wait, busy)
    try:
        yield
    finally:
        with suppress(OSError):
            file.unlink()  # while it is still held: then it is ours that goes
        os.close(descriptor)


def _take(file: Path) -> int | None:
    """Lock `file`, made when it is not there; returns its descriptor, or None when it is taken."""
    folders.make(file.parent)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    taken = False
    try:
        _lock(descriptor)
        # The holder before us may have removed what we opened; then somebody else can lock a new one.
        taken = os.path.samestat(os.fstat(descriptor), file.stat())
    except (BlockingIOError, PermissionError, FileNotFoundError):
        pass
    finally:
        if not taken:
            os.close(descriptor)
    return descriptor if taken else None
