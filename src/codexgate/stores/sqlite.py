"""Conversations, and the threads of chats, in SQLite files: a `SessionStore` and a `ThreadStore` of `ports`.

Several processes may use a file at once. Knows nothing of who keeps a conversation, or why.
"""

import asyncio
import os
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, closing, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import msgspec

from ..chat import Message
from ..errors import Fault, GateError
from ..records import ThreadRecord
from .threads import WEEK, acquire, unavailable

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

PATIENCE = 5.0
"""Seconds to wait for another process that writes."""
HASTE = 0.8
"""The same where a request waits: a store of threads answers within a second."""
SLICE = 0.02
"""Seconds of one try of those. SQLite comes back ever more rarely, and would starve one of many writers."""

MIGRATIONS = (
    """
    CREATE TABLE message (id INTEGER PRIMARY KEY, session TEXT NOT NULL, body BLOB NOT NULL);
    CREATE INDEX message_session ON message (session, id);
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

_making = threading.Lock()
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Message).decode
_decode_signature = msgspec.json.Decoder(tuple[str, ...]).decode


class Sessions:
    """Conversations in the file `path`, which is made, with its folder, when it is needed.

    Every call opens the file anew: nothing has to be closed, and any thread may call.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self, key: str) -> tuple[Message, ...]:
        """The messages kept under `key`, oldest first. Raises GateError when the file is unreadable."""
        with self._open() as database:
            rows = database.execute("SELECT body FROM message WHERE session = ? ORDER BY id", (key,))
            return tuple(_decode(body) for (body,) in rows)

    def append(self, key: str, messages: Sequence[Message]) -> None:
        """Keep `messages` under `key` in one transaction. Raises GateError when they cannot be kept."""
        rows = [(key, _encode(message)) for message in messages]
        with self._open() as database, _transaction(database):
            database.executemany("INSERT INTO message (session, body) VALUES (?, ?)", rows)

    def latest(self) -> str | None:
        """The key that was appended to last."""
        with self._open() as database:
            row = database.execute("SELECT session FROM message ORDER BY id DESC LIMIT 1").fetchone()
            return row[0] if row else None

    def keys(self) -> tuple[str, ...]:
        """Every key, the one used last first."""
        with self._open() as database:
            rows = database.execute("SELECT session FROM message GROUP BY session ORDER BY max(id) DESC")
            return tuple(key for (key,) in rows)

    def delete(self, key: str) -> None:
        """Forget `key`."""
        with self._open() as database, _transaction(database):
            database.execute("DELETE FROM message WHERE session = ?", (key,))

    def _open(self) -> AbstractContextManager[sqlite3.Connection]:
        return _opened(self._path, MIGRATIONS, PATIENCE)


class Threads:
    """The threads of chats in the file `path`, which is made, with its folder, when it is needed.

    `ttl`: seconds that a chat is kept; `clock`: Unix seconds. A lock is a locked file (flock) in the
    folder `path` with `.locks` at its end. The kernel gives it back when its holder dies, and leaves
    it to one that lives, however slow or suspended; a lease in a row could do neither.
    """

    def __init__(self, path: Path, *, ttl: float = WEEK, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._ttl = ttl
        self._clock = clock

    @asynccontextmanager
    async def lock(self, chat: str, wait: float) -> AsyncIterator[None]:
        """Hold `chat` alone among all processes on this file. Raises GateError after `wait` seconds."""
        file = self._path.with_suffix(".locks") / sha256(_bytes(chat)).hexdigest()

        async def take() -> int | None:
            # Not in a thread: it never waits, and a thread could not be kept from taking the lock
            # after its caller has been cancelled.
            try:
                return _take(file)
            except OSError as error:
                raise unavailable(f"{file} cannot be locked: {error.strerror}.") from error

        descriptor = await acquire(take, wait)
        try:
            yield
        finally:
            with suppress(OSError):
                file.unlink()  # while it is still held: then it is ours that goes
            os.close(descriptor)

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
        """Nothing is held between two calls."""

    async def _read(self, see: Callable[[sqlite3.Cursor], T], sql: str, *values: bytes) -> T:
        """What `see` makes of the rows; the last placeholder of `sql` is the time now."""
        return await self._in_thread(lambda database: see(database.execute(sql, (*values, self._clock()))))

    async def _write(self, chat: str, sql: str, **values: object) -> int:
        """Change the row of `chat`, which is made when there is none; returns its turn."""
        now = self._clock()
        values |= {"id": _bytes(chat), "expires": now + self._ttl}

        def work(database: sqlite3.Connection) -> int:
            with _transaction(database):
                database.execute("DELETE FROM chat WHERE expires <= ?", (now,))
                database.execute("INSERT OR IGNORE INTO chat (id, expires) VALUES (:id, 0)", values)
                database.execute("UPDATE chat SET expires = :expires WHERE id = :id", values)
                database.execute(sql, values)
                return int(database.execute("SELECT turn FROM chat WHERE id = :id", values).fetchone()[0])

        return await self._in_thread(work)

    async def _in_thread(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def call() -> T:
            end = time.monotonic() + HASTE
            while True:
                try:
                    with _opened(self._path, THREAD_MIGRATIONS, SLICE) as database:
                        return work(database)
                except GateError as error:
                    if not _is_busy(error) or time.monotonic() > end:
                        raise unavailable(error.fault.message, error.fault.advice) from error
                time.sleep(SLICE / 10)  # not every kind of busy has waited

        return await asyncio.to_thread(call)


def _bytes(chat: str) -> bytes:
    # Any text may be a chat's name, also what a header had that was not UTF-8.
    return chat.encode("utf-8", "surrogatepass")


def _take(file: Path) -> int | None:
    """Lock `file`, made when it is not there; returns its descriptor, or None when it is taken."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
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


@contextmanager
def _opened(path: Path, migrations: Sequence[str], patience: float) -> Iterator[sqlite3.Connection]:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(path)
        with closing(sqlite3.connect(path, timeout=patience, isolation_level=None)) as database:
            _prepare(database, path, migrations)
            yield database
    except (sqlite3.Error, msgspec.DecodeError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise GateError(Fault("internal", f"{path} cannot be used: {reason}.")) from error


def _is_busy(error: GateError) -> bool:
    code = getattr(error.__cause__, "sqlite_errorcode", 0)
    return code & 0xFF == sqlite3.SQLITE_BUSY  # the rest of it says more exactly why


def _make(path: Path) -> None:
    # By us, so that it is 0600 from its first moment; `-wal` and `-shm` take after it. A file that is
    # there is not opened: closing it again would let go of every lock that this process has on it,
    # under the feet of the other threads (sqlite.org/howtocorrupt.html, 2.2).
    with _making, suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _prepare(database: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    version = _version(database)
    if version == len(migrations):
        return
    if version > len(migrations):
        raise GateError(Fault("conflict", f"{path} was written by a newer codexgate.", "Update this one."))
    database.execute("PRAGMA journal_mode = WAL")
    with _transaction(database):
        for script in migrations[_version(database) :]:  # another process may have been quicker
            for statement in filter(str.strip, script.split(";")):
                database.execute(statement)
        database.execute(f"PRAGMA user_version = {len(migrations)}")


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    """All or nothing. `IMMEDIATE`: a reader that turns writer would fail at once instead of waiting."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if database.in_transaction:  # some errors have ended it already
            database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")
