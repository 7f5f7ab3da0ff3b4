"""One SQLite file: made, brought up to date, written all or nothing.

What the stores in SQLite share. Several processes may use a file at once. Knows no table.
"""

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from .. import folders
from ..errors import Fault, GateError

T = TypeVar("T")

HASTE = 0.8
"""Seconds to wait for another process that writes, where a request waits: the answer is there within one."""
SLICE = 0.001
"""Seconds of one try of those. SQLite comes back ever more rarely, and would starve one of many writers."""
MOVE = "Move it away, and a new one is made."
ADVICE = {
    sqlite3.SQLITE_BUSY: "Another process keeps it; try again.",
    sqlite3.SQLITE_CORRUPT: MOVE,
    sqlite3.SQLITE_NOTADB: MOVE,
}
"""By SQLite's code; of whatever else goes wrong the place is at fault."""
WHERE = "`codexgate config` says where data_dir comes from."

_making = threading.Lock()


class Unusable(GateError):
    """The file cannot be used: somebody keeps it, or it is none of ours."""


class Database:
    """The file `path`, which is made, with its folder, when it is needed. Safe in several threads.

    `migrations`: what makes version N+1 of version N; a released one is never changed. The file's own
    version stands in `PRAGMA user_version`. Connections stay open between calls: whoever closes the last
    one must empty the log into the file, which takes longer than most calls do.
    """

    def __init__(self, path: Path, migrations: Sequence[str]) -> None:
        self._path = path
        self._migrations = migrations
        self._idle: list[tuple[tuple[int, int], sqlite3.Connection]] = []
        """With what `path` was when each was opened: who puts another file there means that one."""

    @contextmanager
    def opened(self, patience: float) -> Iterator[sqlite3.Connection]:
        """A connection for this thread alone. `patience`: seconds to wait for another that writes.

        Raises Unusable for whatever goes wrong with the file, also inside the context.
        """
        try:
            file, database = self._connect()
            usable = False
            try:
                database.execute(f"PRAGMA busy_timeout = {patience * 1000:.0f}")
                self._prepare(database)
                yield database
                usable = True
            except (GateError, sqlite3.Error) as error:
                usable = isinstance(error, GateError) or _code(error) == sqlite3.SQLITE_BUSY
                raise  # a refusal, or others were quicker, which tells nothing of the file
            finally:
                if usable and database.in_transaction:  # one that only read
                    database.execute("ROLLBACK")
                if usable:
                    self._idle.append((file, database))
                else:
                    database.close()
        except (sqlite3.Error, msgspec.DecodeError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            message = f"{self._path} cannot be used: {reason}."
            raise Unusable(Fault("internal", message, ADVICE.get(_code(error), WHERE))) from error

    async def do(self, work: Callable[[sqlite3.Connection], T], patience: float = HASTE) -> T:
        """Do `work` in a thread, again while others keep the file busy, for `patience` seconds at most.

        Raises Unusable.
        """

        def call() -> T:
            end = time.monotonic() + patience
            while True:
                try:
                    with self.opened(SLICE) as database:
                        return work(database)
                except Unusable as error:
                    if not _is_busy(error) or time.monotonic() > end:
                        raise
                time.sleep(SLICE)  # not every kind of busy has waited

        return await asyncio.to_thread(call)

    async def aclose(self) -> None:
        """Close what is open and not in use; the next call opens anew."""

        def call() -> None:
            while self._idle:
                self._idle.pop()[1].close()

        await asyncio.to_thread(call)

    def _connect(self) -> tuple[tuple[int, int], sqlite3.Connection]:
        folders.make(self._path.parent)
        self._make()
        there = self._path.stat()
        now = (there.st_dev, there.st_ino)
        with suppress(IndexError):
            while True:
                file, database = self._idle.pop()
                if file == now:
                    return file, database
                database.close()
        database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        database.execute("PRAGMA foreign_keys = ON")
        database.execute("PRAGMA synchronous = FULL")  # not every SQLite was built with this default
        return now, database

    def _make(self) -> None:
        # By us, so that it is 0600 from its first moment; `-wal` and `-shm` take after it. A file that is
        # there is not opened: closing it again would let go of every lock that this process has on it,
        # under the feet of the other threads (sqlite.org/howtocorrupt.html, 2.2).
        with _making, suppress(FileExistsError):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))

    def _prepare(self, database: sqlite3.Connection) -> None:
        newest = len(self._migrations)
        version = _version(database)
        if version == newest:
            return
        if version > newest:
            message = f"{self._path} was written by a newer codexgate."
            raise Unusable(Fault("conflict", message, "Update this one."))
        database.execute("PRAGMA journal_mode = WAL")
        with transaction(database):
            for script in self._migrations[_version(database) :]:  # another process may have been quicker
                for statement in filter(str.strip, script.split(";")):
                    database.execute(statement)
            database.execute(f"PRAGMA user_version = {newest}")


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """All or nothing. `IMMEDIATE`: a reader that turns writer would fail at once instead of waiting."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if database.in_transaction:  # some errors have ended it already
            database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _is_busy(error: Unusable) -> bool:
    return _code(error.__cause__) == sqlite3.SQLITE_BUSY


def _code(error: BaseException | None) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF  # the rest of it says more exactly why


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])
