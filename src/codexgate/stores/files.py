"""Uploaded files on disk: a `FileStore` of `ports`. An index in SQLite, contents beside it.

A file is there when its row is committed, and that comes last: by then its content is written, synced
and renamed. So every file that is listed is whole, whenever a gate is killed; what a dead gate left
without a row is cleared away by the next one that has the folder to itself. No name that a caller gave
is part of a path.
"""

import asyncio
import logging
import os
import re
import secrets
import sqlite3
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from .. import folders
from ..errors import Fault, GateError
from ..records import FileRecord
from . import blobs
from .database import Database, transaction

T = TypeVar("T")

PATIENCE = 5.0
"""Seconds to wait for another process that writes the index."""

MIGRATIONS = (
    """
    CREATE TABLE file (
        id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        name TEXT NOT NULL,
        purpose TEXT NOT NULL,
        size INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        created INTEGER NOT NULL,
        expires INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX file_owner ON file (owner, id);
    CREATE INDEX file_expires ON file (expires) WHERE expires > 0;
    """,
)
_ONE = "SELECT * FROM file WHERE id = :id AND owner = :owner AND (expires = 0 OR expires > :now)"
_DELETE = "DELETE FROM file WHERE id = :id AND owner = :owner AND (expires = 0 OR expires > :now)"
_LIST = """
    SELECT * FROM file
    WHERE owner = :owner AND (expires = 0 OR expires > :now) AND (:purpose = '' OR purpose = :purpose)
"""
_NEWEST_FIRST = _LIST + "AND (:after = '' OR id < :after) ORDER BY id DESC LIMIT :limit"
_OLDEST_FIRST = _LIST + "AND (:after = '' OR id > :after) ORDER BY id ASC LIMIT :limit"
_INSERT = "INSERT INTO file VALUES (:id, :owner, :name, :purpose, :size, :sha256, :created, :expires)"
_EXPIRED = "SELECT id FROM file WHERE expires > 0 AND expires <= ?"
_EXPIRE = "DELETE FROM file WHERE expires > 0 AND expires <= ?"

_ID = re.compile(r"file-[0-9a-f]{24}")
log = logging.getLogger(__name__)


class FileOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What may be uploaded."""

    max_size: Annotated[int, Meta(ge=1, description="Largest file that is taken (bytes).")] = 512 * 1024**2


class Files:
    """Files in `folder`, which is made when the first one comes. `clock`: Unix seconds.

    Any number of gates may use a folder. Each holds the file
    `lock` in it shared, so that whoever gets it alone knows that nobody is writing.
    """

    def __init__(
        self, folder: Path, options: FileOptions | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.max_size = (options or FileOptions()).max_size
        self._folder = folder
        self._contents = folder / "contents"
        self._index = folder / "index.db"
        self._database = Database(self._index, MIGRATIONS)
        self._clock = clock
        self._entering = threading.Lock()
        self._writing = threading.Lock()
        self._held: int | None = None

    async def open(self) -> None:
        """Clear away what a gate that died left in the folder; a failure is logged and no more."""

        def call() -> None:
            if self._folder.exists():
                self.enter()

        try:
            await _finished(call)
        except GateError as error:
            log.warning("files.unusable", extra={"fields": {"reason": error.fault.message}})

    @asynccontextmanager
    async def receive(self) -> AsyncIterator["Incoming"]:
        """Take a file in; what was not kept is gone when the context is left."""
        incoming = Incoming(self, self._contents / f"{secrets.token_hex(16)}.part")
        try:
            yield incoming
        finally:
            await _finished(incoming.drop)

    async def load(self, id: str, owner: str) -> FileRecord:
        """What is known of the file `id`."""

        def call() -> FileRecord:
            with self._open() as index:
                row = index.execute(_ONE, self._one(id, owner)).fetchone()
            if row is None:
                raise missing(id)
            return FileRecord(*row)

        return await _finished(call)

    async def list(
        self, owner: str, *, limit: int, purpose: str = "", after: str = "", newest_first: bool = True
    ) -> tuple[FileRecord, ...]:
        """At most `limit` of the owner's files, in the order they came."""
        asked = {"owner": owner, "purpose": purpose, "after": after, "limit": limit, "now": self._clock()}

        def call() -> tuple[FileRecord, ...]:
            with self._open() as index:
                rows = index.execute(_NEWEST_FIRST if newest_first else _OLDEST_FIRST, asked)
                return tuple(FileRecord(*row) for row in rows)

        return await _finished(call)

    async def content(self, record: FileRecord) -> AsyncGenerator[bytes]:
        """The bytes of a file, piece by piece."""
        reader = blobs.Reader(self._contents / record.id, record.size)
        try:
            while piece := await _finished(reader.read):
                yield piece
        except blobs.Lost:
            raise gone(record) from None
        finally:
            await _finished(reader.close)

    async def delete(self, id: str, owner: str) -> None:
        """Forget the file; also one whose content was lost."""

        def call() -> None:
            with self._writing, self._open() as index, transaction(index):
                done = index.execute(_DELETE, self._one(id, owner))
            if not done.rowcount:
                raise missing(id)
            self._discard(id)

        await _finished(call)

    async def aclose(self) -> None:
        """Let go of the folder; another gate may clear it up now."""
        await self._database.aclose()
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def enter(self) -> None:
        """Be one of those who use the folder. Blocks. Raises GateError."""
        with self._entering, blobs.faults(self._folder):
            if self._held is None:
                self._enter()

    def add(self, record: FileRecord) -> None:
        """Put a file whose content is in place into the index. Blocks. Raises GateError."""
        with self._writing, self._open() as index, transaction(index):
            index.execute(_INSERT, msgspec.structs.asdict(record))
            expired = self._expire(index)
        self._discard(*expired)

    def next_id(self) -> tuple[str, int]:
        """An id that sorts after those before it, for lists, and its time (Unix seconds)."""
        now = self._clock()
        return f"file-{int(now * 1e6):014x}{secrets.token_hex(5)}", int(now)

    def _one(self, id: str, owner: str) -> dict[str, object]:
        if not _ID.fullmatch(id):
            raise missing(id)
        return {"id": id, "owner": owner, "now": self._clock()}

    def _enter(self) -> None:
        folders.make(self._contents)
        held = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            alone = blobs.alone(held)
            if not alone:
                blobs.share(held)
            if not self._index.exists() and any(self._contents.glob("file-*")):
                message = f"{self._index} is gone, and with it what the contents beside it are."
                raise blobs.unavailable(message, f"Put it back, or remove {self._contents}.")
            if alone:
                self._sweep()
                blobs.share(held)
        except BaseException:
            os.close(held)
            raise
        self._held = held

    def _sweep(self) -> None:
        """Remove contents without a row: of uploads and deletions that did not come to their end."""
        with self._opened() as index, transaction(index):
            self._expire(index)
            kept = {id for (id,) in index.execute("SELECT id FROM file")}
        self._discard(*(path.name for path in self._contents.iterdir() if path.name not in kept))

    def _expire(self, index: sqlite3.Connection) -> tuple[str, ...]:
        now = (self._clock(),)
        expired = tuple(id for (id,) in index.execute(_EXPIRED, now))
        index.execute(_EXPIRE, now)
        return expired

    def _discard(self, *names: str) -> None:
        for name in names:
            with suppress(OSError):  # the row is gone, so the next sweep tries again
                (self._contents / name).unlink()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.enter()
        with self._opened() as index:
            yield index

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._database.opened(PATIENCE) as index:
                yield index
        except GateError as error:
            if error.fault.kind != "internal":
                raise
            if getattr(error.__cause__, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
                raise blobs.disk_full() from error
            raise blobs.unavailable(error.fault.message) from error


class Incoming:
    """A file on its way in: a `ports.Upload`. Its methods follow each other, never overlap."""

    def __init__(self, files: Files, path: Path) -> None:
        """`path`: where it is until it is whole."""
        self._files = files
        self._writer = blobs.Writer(path)
        self._gathered: list[bytes] = []
        self._pending = 0
        self._size = 0

    async def write(self, data: bytes) -> None:
        """Add `data`. Raises GateError: too large, or it cannot be written."""
        self._gathered.append(data)
        self._pending += len(data)
        self._size += len(data)
        if self._size > self._files.max_size:
            message = f"The file is larger than {self._files.max_size} bytes."
            raise GateError(Fault("too_large", message))
        if self._pending >= blobs.PIECE:
            await _finished(self._flush)

    async def keep(self, owner: str, name: str, purpose: str, lifetime: int = 0) -> FileRecord:
        """Make it one of the owner's files."""

        def call() -> FileRecord:
            self._flush()
            id, created = self._files.next_id()
            digest = self._writer.finish(id)
            expires = created + lifetime if lifetime else 0
            record = FileRecord(id, owner, name, purpose, self._size, digest, created, expires)
            self._files.add(record)
            return record

        return await _finished(call)

    def drop(self) -> None:
        """Let go of it, and of what was not kept. Blocks."""
        self._writer.drop()

    def _flush(self) -> None:
        self._files.enter()
        self._writer.write(self._gathered)
        self._gathered.clear()
        self._pending = 0


def missing(id: str) -> GateError:
    """There is no such file, or it is somebody else's (404)."""
    shown = f"'{id}'" if len(id) <= 64 and id.isprintable() else "of that id"
    return GateError(Fault("not_found", f"There is no file {shown}.", code="file_not_found"))


def gone(record: FileRecord) -> GateError:
    """The file is listed, but what it held is not on disk any more, or not as it was (404)."""
    message = f"The content of the file '{record.id}' is gone."
    return GateError(Fault("not_found", message, "Delete it and send it again.", "file_not_found"))


async def _finished(call: Callable[[], T]) -> T:
    """Do `call` in a thread, to its end even when we are cancelled: nobody closes a file under it."""
    task = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
