"""Memories in Postgres with pgvector: a `MemoryStore` of `ports`.

The table is `memories.entries` as the service before this one made it: one that is there is used as it
is, with the columns of ours that it lacks. Several gates may use it at once. Knows no model and no
query's meaning. Statements are constants but for one number, the dimension, which an index needs.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence

import msgspec
from psycopg import errors

from ..errors import Fault, GateError
from ..recall import mismatch, reembed, words
from ..records import Entry, Filter, Kept, Vectored
from . import memory_sql
from .memory import BATCH, telling, unavailable
from .postgres import DEADLINE, Connection, Postgres
from .postgres_entries import (
    condition,
    entries_of,
    entry_of,
    named,
    row_of,
    sized,
    sought,
    stored,
    uuids,
    vector_text,
)

LONG = 600.0
"""Seconds for what goes through a whole namespace."""
RATE = 50
"""Entries that are written in a second, at least."""
FEW = 2_000
"""Entries that are searched one by one."""
FRESH = 60.0
"""Seconds for which the counts of common words are believed."""

log = logging.getLogger(__name__)


class PostgresMemories:
    """Memories in the Postgres at `url`; connects only when something is asked.

    `clock`: Unix seconds. Raises GateError of kind `invalid_request` for an unusable URL.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.time) -> None:
        self._postgres = Postgres(
            url, "memory", memory_sql.MIGRATIONS, "memory_store", unavailable, self._prepare
        )
        self._clock = clock
        self._iterates: bool | None = None
        """Whether this pgvector (0.8) goes on looking where a filter leaves too few."""
        self._indexed: set[int] = set()
        """Dimensions that have an index, or can have none."""
        self._indexing: dict[int, asyncio.Task[None]] = {}
        self._counts: tuple[float, dict[str, float]] = (-FRESH, {})

    async def add(self, entries: Sequence[Vectored]) -> tuple[Kept, ...]:
        """Keep them in one transaction; for each what became of it."""
        if not entries:
            return ()
        sizes = {each.entry.dimension for each in entries}
        for size in sizes:
            await self._index(size)
        names = sorted({each.entry.namespace for each in entries})
        rows = [row_of(each) for each in entries]
        async with self._postgres.transaction(DEADLINE + len(entries) / RATE) as database:
            await database.execute(memory_sql.LOCK, (names,))
            there = await _known(database, entries)
            fresh = [e for e in entries if not _find(there, e.entry)]
            await _check(database, names, fresh)
            await self._fit(database, fresh)
            added = await database.execute(
                memory_sql.ADD, [list(column) for column in zip(*rows, strict=True)]
            )
            ids = {str(id) async for (id,) in added}
            missing = [each for each in entries if each.entry.id not in ids]
            there = await _known(database, missing) if missing else {}
        return tuple(_kept(each.entry, ids, there) for each in entries)

    async def known(self, namespace: str, digests: Sequence[str]) -> dict[str, Entry]:
        """The entries of a namespace with these digests, by digest."""
        values = (namespace, [bytes.fromhex(each) for each in digests])
        async with self._postgres.transaction() as database:
            rows = await database.execute(memory_sql.KNOWN, values, binary=True)
            return {entry.digest: entry async for entry in entries_of(rows)}

    async def near(
        self, vector: Sequence[float], model: str, wanted: Filter, limit: int
    ) -> tuple[tuple[Entry, float], ...]:
        """The nearest entries with their cosine distance; by the index where there is much."""
        size = len(vector)
        self._index_soon(size)
        where, values = condition(wanted)
        query = sized(memory_sql.NEAR, size, where)
        values |= {"model": stored(model), "vector": vector_text(vector), "limit": limit, "few": FEW}
        async with self._postgres.transaction() as database:
            for name, its_model, its_size in await _models(database, wanted.namespaces):
                if its_model == model and its_size != size:
                    raise mismatch(name, (model, its_size), (model, size))
            few = await (await database.execute(sized(memory_sql.FEW, 0, where), values)).fetchall()
            found = []
            if not few[0][0]:
                await self._use_index(database)
                found = await (await database.execute(query, values)).fetchall()
            if len(found) < limit:  # few are meant, or the index has given up too early
                await database.execute(memory_sql.EXACTLY)
                found = await (await database.execute(query, values)).fetchall()
        return tuple((entry_of(row), float(row[-1])) for row in found)

    async def worded(self, query: str, wanted: Filter, limit: int) -> tuple[Entry, ...]:
        """The entries that hold words of `query`, or words that begin so."""
        where, values = condition(wanted)
        async with self._postgres.transaction() as database:
            phrase = " | ".join(map(sought, telling(words(query), await self._common(database))))
            if not phrase:
                return ()
            values |= {"sought": phrase, "limit": limit, "few": FEW}
            rows = await database.execute(sized(memory_sql.WORDED, 0, where), values)
            return tuple([entry async for entry in entries_of(rows)])

    async def load(self, ids: Sequence[str]) -> tuple[Entry, ...]:
        """The entries with these ids that there are."""
        async with self._postgres.transaction() as database:
            rows = await database.execute(memory_sql.LOAD, (uuids(ids),))
            return tuple([entry async for entry in entries_of(rows)])

    async def all(
        self, wanted: Filter, *, vectors: bool = False, newest_first: bool = False
    ) -> AsyncGenerator[list[Vectored]]:
        """All entries that are meant, by the time of their making, in batches."""
        where, values = condition(wanted)
        query = sized(memory_sql.NEWEST if newest_first else memory_sql.ALL, 0, where)
        created = float("inf" if newest_first else "-inf")
        values |= {"created": created, "id": uuid.UUID(int=0), "limit": BATCH, "vectors": vectors}
        while True:
            async with self._postgres.transaction(DEADLINE + BATCH / RATE) as database:
                rows = await (await database.execute(query, values)).fetchall()
            if not rows:
                return
            entries = [entry_of(row) for row in rows]
            values |= {"created": entries[-1].created, "id": entries[-1].id}
            yield [
                Vectored(entry, tuple(msgspec.json.decode(row[-1])) if row[-1] else ())
                for entry, row in zip(entries, rows, strict=True)
            ]

    async def delete(self, ids: Sequence[str]) -> int:
        """Forget these; how many there were."""
        async with self._postgres.transaction(DEADLINE + len(ids) / RATE) as database:
            return (await database.execute(memory_sql.DELETE, (uuids(ids),))).rowcount

    async def clear(self, namespace: str) -> int:
        """Forget a namespace; how many entries it had."""
        async with self._postgres.transaction(LONG) as database:
            return (await database.execute(memory_sql.CLEAR, (namespace,))).rowcount

    async def namespaces(self) -> tuple[tuple[str, int, str, int], ...]:
        """Name, number of entries, model and dimension of each, by name."""
        async with self._postgres.transaction() as database:
            first = {name: (model, size) for name, model, size in reversed(await _models(database, ()))}
            rows = await (await database.execute(memory_sql.COUNT)).fetchall()
            return tuple((name, count, *first[name]) for name, count in sorted(rows) if name in first)

    async def models(self, namespaces: Sequence[str] = ()) -> tuple[tuple[str, int], ...]:
        """What embedded these namespaces, or all."""
        async with self._postgres.transaction() as database:
            found = await _models(database, namespaces)
            return tuple(dict.fromkeys((model, size) for _, model, size in found))

    async def touch(self, ids: Sequence[str]) -> None:
        """They were found now."""
        async with self._postgres.transaction(DEADLINE + len(ids) / RATE) as database:
            await database.execute(memory_sql.TOUCH, (self._clock(), uuids(ids)))

    async def stage(self, model: str, vectors: Sequence[tuple[str, Sequence[float]]]) -> None:
        """Put new vectors beside the old ones."""
        ids = [id for id, _ in vectors]
        values = (stored(model), ids, [vector_text(vector) for _, vector in vectors])
        async with self._postgres.transaction(DEADLINE + len(ids) / RATE) as database:
            await database.execute(memory_sql.STAGE, values)

    async def staged(self, namespace: str, model: str) -> frozenset[str]:
        """The ids whose new vectors are there."""
        async with self._postgres.transaction() as database:
            rows = await database.execute(memory_sql.STAGED, (namespace, stored(model)))
            return frozenset([str(id) async for (id,) in rows])

    async def switch(self, namespace: str, model: str) -> int:
        """Make the new vectors serve; how many, or 0 when one is missing.

        A column of another dimension becomes one of any dimension; the namespaces that are not
        embedded anew keep what they have.
        """
        async with self._postgres.transaction(LONG) as database:
            await database.execute(memory_sql.LOCK_ALONE, (namespace,))
            ((missing, size),) = await (
                await database.execute(memory_sql.MISSING, (stored(model), namespace))
            ).fetchall()
            if missing:
                return 0
            if await _column(database) not in (0, size):
                await self._widen(database)
            switched = await database.execute(memory_sql.SWITCH, (stored(model), namespace))
            await database.execute(memory_sql.UNSTAGE, (namespace,))
        for _, size in await self.models():
            await self._index(size)
        return switched.rowcount

    async def aclose(self) -> None:
        """Close every connection."""
        for task in [*self._indexing.values()]:
            task.cancel()
            await asyncio.wait({task})
        await self._postgres.aclose()

    async def _prepare(self, database: Connection) -> None:
        """Make the extension, unless it is there. Raises GateError that says how somebody else can."""
        name = self._postgres.name
        try:
            if not (await database.execute(memory_sql.VERSION)).rowcount:
                await database.execute("CREATE EXTENSION vector")
        except errors.InsufficientPrivilege:
            message = f"{name} lacks the extension 'vector', and codexgate's user may not create it."
            advice = "Somebody who may can run, in this database: CREATE EXTENSION vector;"
            raise unavailable(message, advice) from None
        except (errors.UndefinedFile, errors.FeatureNotSupported):
            message = f"pgvector is not installed where {name} runs."
            advice = "Install it there (postgresql-NN-pgvector), then run: CREATE EXTENSION vector;"
            raise unavailable(message, advice) from None

    async def _fit(self, database: Connection, fresh: Sequence[Vectored]) -> None:
        """Refuse vectors of another dimension than the column's, unless nothing is kept in it yet."""
        column = await _column(database)
        strange = [each.entry for each in fresh if column not in (0, each.entry.dimension)]
        if not strange:
            return
        if (await database.execute(memory_sql.SOME)).rowcount:
            model, size = strange[0].model, strange[0].dimension
            message = (
                f"The column memories.entries.embedding holds vectors with {column} dimensions; "
                f"{model} makes vectors with {size}."
            )
            advice = f"Embed with a model that makes {column}, or all of it anew: {reembed('', model)}"
            raise GateError(Fault("conflict", message, advice, "dimension_mismatch"))
        await self._widen(database)

    async def _widen(self, database: Connection) -> None:
        """Have the column take vectors of any dimension; its indexes are made again when they are needed."""
        await database.execute(memory_sql.WIDEN)
        self._indexed.clear()

    async def _use_index(self, database: Connection) -> None:
        """Have what follows use the index, and that go on where a filter leaves too few."""
        if self._iterates is None:
            rows = await (await database.execute(memory_sql.VERSION)).fetchall()
            self._iterates = bool(rows) and tuple(map(int, rows[0][0].split(".")[:2])) >= (0, 8)
        await database.execute(memory_sql.ITERATE if self._iterates else memory_sql.BY_INDEX)

    def _index_soon(self, size: int) -> None:
        if size not in self._indexed and size not in self._indexing:
            self._indexing[size] = asyncio.create_task(self._make_index(size))

    async def _index(self, size: int) -> None:
        """Have the index for vectors of this dimension."""
        self._index_soon(size)
        if size in self._indexing:
            await asyncio.wait({self._indexing[size]})

    async def _make_index(self, size: int) -> None:
        """Without an index all is found, only slower."""
        try:
            if size <= memory_sql.HALF and not await self._has_index(size):
                async with self._postgres.transaction(LONG) as database:
                    await database.execute(sized(memory_sql.INDEX, size, ""))
            self._indexed.add(size)
        except GateError as error:
            log.warning("memory_store.unindexed", extra={"fields": {"reason": error.fault.message}})
        finally:
            del self._indexing[size]

    async def _has_index(self, size: int) -> bool:
        async with self._postgres.transaction() as database:
            ((there,),) = await (
                await database.execute(memory_sql.INDEXED, (f"entries_hnsw_{size}",))
            ).fetchall()
            return bool(there)

    async def _common(self, database: Connection) -> dict[str, float]:
        """In how many entries the most common words are, by the server's last count."""
        looked, counts = self._counts
        if time.monotonic() - looked > FRESH:
            rows = await database.execute(memory_sql.COUNTS)
            counts = {word: count async for word, count in rows}
            self._counts = (time.monotonic(), counts)
        return counts


async def _known(database: Connection, entries: Sequence[Vectored]) -> dict[tuple[str, str], Entry]:
    """Those that are there, by ("", id) and by (namespace, digest)."""
    ids = [each.entry.id for each in entries]
    names = [each.entry.namespace for each in entries]
    digests = [bytes.fromhex(each.entry.digest) for each in entries]
    rows = await database.execute(memory_sql.THERE, (ids, names, digests))
    found: dict[tuple[str, str], Entry] = {}
    async for entry in entries_of(rows):
        found |= {("", entry.id): entry, (entry.namespace, entry.digest): entry}
    return found


def _find(there: dict[tuple[str, str], Entry], entry: Entry) -> Entry | None:
    return there.get((entry.namespace, entry.digest)) or there.get(("", entry.id))


def _kept(entry: Entry, added: set[str], there: dict[tuple[str, str], Entry]) -> Kept:
    if entry.id in added:
        added.remove(entry.id)  # the same id again in one call is a duplicate
        there[("", entry.id)] = there[(entry.namespace, entry.digest)] = entry
        return Kept(entry)
    known = _find(there, entry)
    assert known is not None
    return Kept(known, deduped=True)


async def _check(database: Connection, names: Sequence[str], fresh: Sequence[Vectored]) -> None:
    """Refuse vectors that do not go with their namespace's."""
    has: dict[str, set[tuple[str, int]]] = {}
    for name, model, size in await _models(database, names):
        has.setdefault(name, set()).add((model, size))
    for each in fresh:
        entry = each.entry
        given = (entry.model, entry.dimension)
        theirs = has.setdefault(entry.namespace, {given})
        if given not in theirs:
            raise mismatch(entry.namespace, min(theirs), given)


async def _column(database: Connection) -> int:
    """The dimension that the column is bound to; 0: none."""
    ((size,),) = await (await database.execute(memory_sql.COLUMN)).fetchall()
    return int(size)


async def _models(database: Connection, namespaces: Sequence[str]) -> list[tuple[str, str, int]]:
    """Namespace, model and dimension; of these namespaces or all."""
    if namespaces:
        rows = await database.execute(memory_sql.MODELS_OF, (list(namespaces),))
    else:
        rows = await database.execute(memory_sql.MODELS)
    return [(name, named(model), size) async for name, model, size in rows]
