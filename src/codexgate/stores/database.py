"""One SQLite file: made, brought up to date, opened for one call, written all or nothing.

What the stores in SQLite share. Several processes may use a file at once. Knows no table.
"""

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from ..errors import Fault, GateError

T = TypeVar("T")

HASTE = 0.8
"""Seconds to wait for another process that writes, where a request waits: the answer is there within one."""
SLICE = 0.02
"""Seconds of one try of those. SQLite comes back ever more rarely, and would starve one of many writers."""

_making = threading.Lock()


class Unusable(GateError):
    """The file cannot be used: somebody keeps it, or it is none of ours."""


@contextmanager
def opened(path: Path, migrations: Sequence[str], patience: float) -> Iterator[sqlite3.Connection]:
    """A connection to `path`, which is made, with its folder, when it is not there.

    `migrations`: what makes version N+1 of version N; a released one is never changed. The file's own
    version stands in `PRAGMA user_version`. `patience`: seconds to wait for another that writes.
    Raises Unusable for whatever goes wrong with it, also inside the context.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(path)
        with closing(sqlite3.connect(path, timeout=patience, isolation_level=None)) as database:
            _prepare(database, path, migrations)
            yield database
    except (sqlite3.Error, msgspec.DecodeError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise Unusable(Fault("internal", f"{path} cannot be used: {reason}.")) from error


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


async def hastily(
    path: Path, migrations: Sequence[str], work: Callable[[sqlite3.Connection], T], patience: float = HASTE
) -> T:
    """Do `work` in a thread, again while others keep the file busy, for `patience` seconds at most.

    Raises Unusable.
    """

    def call() -> T:
        end = time.monotonic() + patience
        while True:
            try:
                with opened(path, migrations, SLICE) as database:
                    return work(database)
            except Unusable as error:
                if not _is_busy(error) or time.monotonic() > end:
                    raise
            time.sleep(SLICE / 10)  # not every kind of busy has waited

    return await asyncio.to_thread(call)


def _is_busy(error: Unusable) -> bool:
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
        raise Unusable(Fault("conflict", f"{path} was written by a newer codexgate.", "Update this one."))
    database.execute("PRAGMA journal_mode = WAL")
    with transaction(database):
        for script in migrations[_version(database) :]:  # another process may have been quicker
            for statement in filter(str.strip, script.split(";")):
                database.execute(statement)
        database.execute(f"PRAGMA user_version = {len(migrations)}")


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])
