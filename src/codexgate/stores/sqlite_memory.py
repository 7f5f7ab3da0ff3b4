"""Memories in a SQLite file: a `MemoryStore` of `ports`.

Several processes may use the file at once. Meaning is searched exactly, among vectors that are held in
memory and brought up to date by every search; words by FTS5. Knows no model and no query's meaning.
"""
# ruff: noqa: S608 - statements are put together of constants; every value is bound

import math
import sqlite3
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from heapq import nsmallest
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..errors import GateError
from ..recall import mismatch, words
from ..records import Entry, Filter, Kept, Vectored
from . import sqlite_entries as tables
from .database import HASTE, Database, transaction
from .memory import BATCH, telling, unavailable

if TYPE_CHECKING:
    from .vectors import Vectors

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds that a write waits for others: an import in another process is no reason to fail."""
STEP = 5_000
"""Vectors that are read or deleted at once."""

MIGRATIONS = (
    # A `space` is a namespace as one model sees it. Rows of `vector` that no `serves` leads to are staged.
    """
    CREATE TABLE namespace (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,
        serves INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE space (id INTEGER PRIMARY KEY AUTOINCREMENT, namespace INTEGER NOT NULL,
        model TEXT NOT NULL, dimension INTEGER NOT NULL, epoch INTEGER NOT NULL DEFAULT 0,
        last INTEGER NOT NULL DEFAULT 0);
    CREATE INDEX space_namespace ON space (namespace);
    CREATE TABLE entry (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        uuid TEXT NOT NULL UNIQUE,
        namespace INTEGER NOT NULL,
        digest BLOB NOT NULL,
        summary TEXT NOT NULL,
        tags TEXT NOT NULL,
        metadata TEXT NOT NULL,
        source TEXT NOT NULL,
        created REAL NOT NULL,
        accessed REAL NOT NULL,
        content TEXT NOT NULL,
        UNIQUE (namespace, digest)
    );
    CREATE INDEX entry_created ON entry (created, id);
    CREATE TABLE vector (id INTEGER PRIMARY KEY, space INTEGER NOT NULL, entry INTEGER NOT NULL,
        data BLOB NOT NULL, UNIQUE (space, entry));
    CREATE VIRTUAL TABLE word USING fts5 (text, content = '', tokenize = "unicode61 remove_diacritics 2");
    CREATE VIRTUAL TABLE word_count USING fts5vocab (word, row);
    """,
)
"""What makes version N+1 of version N; a released one is never changed."""


class Memories:
    """Memories in the file `path`, which is made, with its folder, when it is needed.

    `clock`: Unix seconds.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._database = Database(path, MIGRATIONS)
        self._clock = clock
        self._held: dict[int, tuple[int, Vectors]] = {}
        """By space: the epoch that its vectors are of, and they."""
        self._refreshing = threading.Lock()

    async def add(self, entries: Sequence[Vectored]) -> tuple[Kept, ...]:
        """Keep them in one transaction; for each what became of it."""

        def work(database: sqlite3.Connection) -> tuple[Kept, ...]:
            with transaction(database):
                spaces: dict[tuple[str, str, int], int] = {}
                return tuple(tables.add(database, each, spaces) for each in entries)

        return await self._do(work, PATIENCE)

    async def known(self, namespace: str, digests: Sequence[str]) -> dict[str, Entry]:
        """The entries of a namespace with these digests, by digest."""
        sql = f"{tables.ENTRIES} WHERE namespace.name = ? AND entry.digest = ?"

        def work(database: sqlite3.Connection) -> dict[str, Entry]:
            rows = (
                row for digest in digests for row in database.execute(sql, (namespace, bytes.fromhex(digest)))
            )
            return {entry.digest: entry for entry in map(tables.entry_of, rows)}

        return await self._do(work)

    async def near(
        self, vector: Sequence[float], model: str, wanted: Filter, limit: int
    ) -> tuple[tuple[Entry, float], ...]:
        """The nearest entries, exactly, with their cosine distance."""

        def work(database: sqlite3.Connection) -> tuple[tuple[Entry, float], ...]:
            database.execute("BEGIN")  # what is read here is of one moment
            among = None
            if wanted.tags or wanted.metadata or wanted.since or wanted.until:
                where, values = tables.condition(wanted)
                among = [id for (id,) in database.execute(f"SELECT id FROM entry {where}", values)]
            found: list[tuple[float, int]] = []
            for name, space, its_model, dimension, epoch, last in tables.spaces(database, wanted.namespaces):
                if its_model != model:
                    continue
                if dimension != len(vector):
                    raise mismatch(name, (model, dimension), (model, len(vector)))
                held = self._refreshed(database, space, dimension, epoch, last)
                found += held.search(vector, limit, among)
            self._drop(database)
            near = {id: distance for distance, id in nsmallest(limit, found)}
            entries = tables.load(database, "entry.id", list(near))
            return tuple((entries[id], distance) for id, distance in near.items() if id in entries)

        return await self._do(work)

    async def worded(self, query: str, wanted: Filter, limit: int) -> tuple[Entry, ...]:
        """The entries that hold words of `query`, or words that begin so, by their BM25."""

        def work(database: sqlite3.Connection) -> tuple[Entry, ...]:
            looked = words(query)
            match = " OR ".join(map(tables.sought, telling(looked, tables.counts(database, looked))))
            if not match:
                return ()
            where, values = tables.condition(wanted)
            # A join, also one that leaves nothing out, takes as long again.
            join = f"JOIN entry ON entry.id = word.rowid {where} AND" if where else "WHERE"
            sql = f"SELECT word.rowid FROM word {join} word MATCH ? ORDER BY word.rank LIMIT ?"
            ids = [id for (id,) in database.execute(sql, (*values, match, limit))]
            entries = tables.load(database, "entry.id", ids)
            return tuple(entries[id] for id in ids if id in entries)

        return await self._do(work)

    async def load(self, ids: Sequence[str]) -> tuple[Entry, ...]:
        """The entries with these ids that there are."""
        return await self._do(lambda database: tuple(tables.load(database, "entry.uuid", list(ids)).values()))

    async def all(
        self, wanted: Filter, *, vectors: bool = False, newest_first: bool = False
    ) -> AsyncGenerator[list[Vectored]]:
        """All entries that are meant, by the time of their making, in batches."""
        where, values = tables.condition(wanted)
        after, order = ("<", "DESC") if newest_first else (">", "ASC")
        sql = f"""
            {tables.BY_TIME} {where} {"AND" if where else "WHERE"} (entry.created, entry.id) {after} (?, ?)
            ORDER BY entry.created {order}, entry.id {order} LIMIT {BATCH}
        """

        def work(database: sqlite3.Connection, created: float, id: int) -> list[tuple[Vectored, int]]:
            rows = database.execute(sql, (*values, created, id)).fetchall()
            made = [(tables.entry_of(row), row[-1]) for row in rows]
            kept = tables.vectors_of(database, [id for _, id in made]) if vectors else {}
            return [(Vectored(entry, kept.get(id, ())), id) for entry, id in made]

        created, id = (math.inf, 0) if newest_first else (-math.inf, 0)
        while True:
            batch = await self._do(partial(work, created=created, id=id))
            if not batch:
                return
            created, id = batch[-1][0].entry.created, batch[-1][1]
            yield [each for each, _ in batch]

    async def delete(self, ids: Sequence[str]) -> int:
        """Forget these; how many there were."""
        return await self._forget(f"WHERE entry.uuid IN {tables.THESE}", tables.listed(ids))

    async def clear(self, namespace: str) -> int:
        """Forget a namespace; how many entries it had."""
        return await self._forget(
            f"WHERE entry.namespace IN ({tables.NAMESPACES})", tables.listed([namespace])
        )

    async def namespaces(self) -> tuple[tuple[str, int, str, int], ...]:
        """Name, number of entries, model and dimension of each, by name."""
        sql = """
            SELECT name, (SELECT count(*) FROM entry WHERE entry.namespace = namespace.id), model, dimension
            FROM namespace JOIN space ON space.id = namespace.serves ORDER BY name
        """
        return await self._do(lambda database: tuple(database.execute(sql)))

    async def models(self, namespaces: Sequence[str] = ()) -> tuple[tuple[str, int], ...]:
        """What embedded these namespaces, or all."""
        return await self._do(
            lambda database: tuple(
                dict.fromkeys((model, size) for _, _, model, size, *_ in tables.spaces(database, namespaces))
            )
        )

    async def touch(self, ids: Sequence[str]) -> None:
        """They were found now."""
        sql = f"UPDATE entry SET accessed = ? WHERE uuid IN {tables.THESE}"
        values = (self._clock(), tables.listed(ids))

        def work(database: sqlite3.Connection) -> None:
            with transaction(database):
                database.execute(sql, values)

        await self._do(work, PATIENCE)

    async def stage(self, model: str, vectors: Sequence[tuple[str, Sequence[float]]]) -> None:
        """Put new vectors beside the old ones."""

        def work(database: sqlite3.Connection) -> None:
            with transaction(database):
                for uuid, vector in vectors:
                    sql = "SELECT id, namespace FROM entry WHERE uuid = ?"
                    for id, namespace in database.execute(sql, (uuid,)).fetchall():
                        space = tables.staging(database, namespace, model, len(vector))
                        sql = "REPLACE INTO vector (space, entry, data) VALUES (?, ?, ?)"
                        database.execute(sql, (space, id, tables.packed(vector)))

        await self._do(work, PATIENCE)

    async def staged(self, namespace: str, model: str) -> frozenset[str]:
        """The ids whose new vectors are there."""
        sql = """
            SELECT uuid FROM namespace JOIN space ON space.namespace = namespace.id
            JOIN vector ON vector.space = space.id JOIN entry ON entry.id = vector.entry
            WHERE name = ? AND model = ? AND space.id <> serves
        """
        return await self._do(
            lambda database: frozenset(id for (id,) in database.execute(sql, (namespace, model)))
        )

    async def switch(self, namespace: str, model: str) -> int:
        """Make the new vectors serve; how many, or 0 when one is missing."""
        find = """
            SELECT namespace.id, space.id FROM namespace JOIN space ON space.namespace = namespace.id
            WHERE name = ? AND model = ? AND space.id <> serves
        """
        missing = """
            SELECT count(*) FROM entry WHERE namespace = ?
            AND NOT EXISTS (SELECT 1 FROM vector WHERE space = ? AND vector.entry = entry.id)
        """

        def work(database: sqlite3.Connection) -> int:
            with transaction(database):
                for id, space in database.execute(find, (namespace, model)).fetchall():
                    if database.execute(missing, (id, space)).fetchone()[0]:
                        return 0
                    database.execute("UPDATE namespace SET serves = ? WHERE id = ?", (space, id))
                    last = (
                        "UPDATE space SET last = (SELECT max(entry) FROM vector WHERE space = ?) WHERE id = ?"
                    )
                    database.execute(last, (space, space))
                    others = "(SELECT id FROM space WHERE namespace = ? AND id <> ?)"
                    database.execute(f"DELETE FROM vector WHERE space IN {others}", (id, space))
                    database.execute("DELETE FROM space WHERE namespace = ? AND id <> ?", (id, space))
                    count = "SELECT count(*) FROM vector WHERE space = ?"
                    return int(database.execute(count, (space,)).fetchone()[0])
            return 0

        return await self._do(work, PATIENCE)

    async def aclose(self) -> None:
        """Let go of the vectors and the file."""
        self._held.clear()
        await self._database.aclose()

    def _refreshed(
        self, database: sqlite3.Connection, space: int, dimension: int, epoch: int, last: int
    ) -> "Vectors":
        """The vectors of `space`, none older than `epoch` and `last`."""
        with self._refreshing:
            from .vectors import Vectors

            held_epoch, held = self._held.get(space, (epoch, Vectors(dimension)))
            if held_epoch != epoch:
                held.keep(
                    [id for (id,) in database.execute("SELECT entry FROM vector WHERE space = ?", (space,))]
                )
            if held.last < last:
                sql = "SELECT entry, data FROM vector WHERE space = ? AND entry > ? ORDER BY entry"
                rows = database.execute(sql, (space, held.last))
                while batch := rows.fetchmany(STEP):
                    held.extend([id for id, _ in batch], b"".join([data for _, data in batch]))
            self._held[space] = (epoch, held)
            return held

    def _drop(self, database: sqlite3.Connection) -> None:
        """Let go of vectors that serve no more."""
        there = {space for (space,) in database.execute("SELECT serves FROM namespace")}
        for space in self._held.keys() - there:
            self._held.pop(space, None)

    async def _forget(self, where: str, value: str) -> int:
        def work(database: sqlite3.Connection) -> int:
            with transaction(database):
                return tables.forget(database, where, value)

        return await self._do(work, PATIENCE)

    async def _do(self, work: Callable[[sqlite3.Connection], T], patience: float = HASTE) -> T:
        try:
            return await self._database.do(work, patience)
        except GateError as error:
            if error.fault.code:
                raise
            raise unavailable(error.fault.message, error.fault.advice) from error
