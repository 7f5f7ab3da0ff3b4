"""Conversations in one SQLite file, as a `ports.SessionStore`.

Several processes may use the file at once. Knows nothing of who keeps a conversation, or why.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from ..chat import Message
from ..errors import Fault, GateError

PATIENCE = 5.0
"""Seconds to wait for another process that writes."""

MIGRATIONS = (
    """
    CREATE TABLE message (id INTEGER PRIMARY KEY, session TEXT NOT NULL, body BLOB NOT NULL);
    CREATE INDEX message_session ON message (session, id);
    """,
)
"""What makes version N+1 of version N; a released one is never changed. The file's own version
stands in `PRAGMA user_version`."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Message).decode


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

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Made by us, so that it is 0600 from its first moment; `-wal` and `-shm` take after it.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            with closing(sqlite3.connect(self._path, timeout=PATIENCE, isolation_level=None)) as database:
                _prepare(database, self._path)
                yield database
        except (sqlite3.Error, msgspec.DecodeError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise GateError(Fault("internal", f"{self._path} cannot be used: {reason}.")) from error


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    version = _version(database)
    if version == len(MIGRATIONS):
        return
    if version > len(MIGRATIONS):
        raise GateError(Fault("conflict", f"{path} was written by a newer codexgate.", "Update this one."))
    database.execute("PRAGMA journal_mode = WAL")
    with _transaction(database):
        for script in MIGRATIONS[_version(database) :]:  # another process may have been quicker
            for statement in filter(str.strip, script.split(";")):
                database.execute(statement)
        database.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    """All or nothing. `IMMEDIATE`: a reader that turns writer would fail at once instead of waiting."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")
