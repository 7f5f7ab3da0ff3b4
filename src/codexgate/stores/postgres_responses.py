"""Responses and conversations in Postgres: a `ResponseStore` and a `ConversationStore` of `ports`.

Several gates may use the database at once. Knows nothing of what a response or an item says.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, LiteralString

import msgspec

from ..errors import GateError
from ..records import ConversationRecord, Item, ResponseRecord
from .postgres import Connection, Postgres
from .responses import (
    BATCH,
    MONTH,
    Limits,
    check_history,
    check_items,
    checked,
    conversation_exists,
    no_conversation,
    no_item,
    no_response,
    unavailable,
)

MIGRATIONS: tuple[LiteralString, ...] = (
    # `EXTERNAL`: packing 30 MB would take longer than a call may.
    """
    CREATE TABLE codexgate.response (
        id text PRIMARY KEY,
        owner text NOT NULL,
        created bigint NOT NULL,
        status text NOT NULL,
        previous text NOT NULL,
        touched double precision NOT NULL,
        cancelled boolean NOT NULL DEFAULT false,
        expires double precision NOT NULL,
        body bytea NOT NULL,
        input bytea NOT NULL
    );
    CREATE INDEX response_expires ON codexgate.response (expires);
    CREATE TABLE codexgate.conversation (
        id text PRIMARY KEY,
        owner text NOT NULL,
        created bigint NOT NULL,
        metadata bytea NOT NULL
    );
    CREATE TABLE codexgate.item (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        conversation text NOT NULL REFERENCES codexgate.conversation ON DELETE CASCADE,
        id text NOT NULL,
        body bytea NOT NULL,
        UNIQUE (conversation, id)
    );
    CREATE INDEX item_position ON codexgate.item (conversation, position);
    ALTER TABLE codexgate.response ALTER body SET STORAGE EXTERNAL, ALTER input SET STORAGE EXTERNAL;
    ALTER TABLE codexgate.item ALTER body SET STORAGE EXTERNAL;
    """,
)
"""What makes version N+1 of version N; a released one is never changed."""

# What a response goes on with lasts as long as it does. One that lasts longer has seen to its own.
# Two writers come by the same ones in the same order: neither waits for the other in a circle.
LENGTHEN = """
WITH RECURSIVE link (id) AS (
    VALUES (%(previous)s::text)
    UNION
    SELECT older.previous FROM link JOIN codexgate.response AS older ON older.id = link.id
    WHERE owner = %(owner)s AND expires < %(expires)s
), short AS (
    SELECT id FROM codexgate.response
    WHERE id IN (SELECT id FROM link) AND owner = %(owner)s AND expires < %(expires)s
    ORDER BY id FOR UPDATE
)
UPDATE codexgate.response SET expires = %(expires)s WHERE id IN (SELECT id FROM short)
"""
# Two writers may expire at once: neither waits for what the other deletes already.
SAVE = """
WITH expired AS (
    DELETE FROM codexgate.response WHERE id IN (
        SELECT id FROM codexgate.response WHERE expires <= %(now)s AND id <> %(id)s
        ORDER BY expires LIMIT %(batch)s FOR UPDATE SKIP LOCKED
    )
)
INSERT INTO codexgate.response AS kept
    (id, owner, created, status, previous, touched, expires, body, input)
VALUES (%(id)s, %(owner)s, %(created)s, %(status)s, %(previous)s, %(touched)s, %(expires)s,
    %(body)b, %(input)b)
ON CONFLICT (id) DO UPDATE SET
    created = excluded.created, status = excluded.status, previous = excluded.previous,
    touched = excluded.touched, expires = greatest(kept.expires, excluded.expires),
    body = excluded.body, input = excluded.input
WHERE kept.owner = excluded.owner
"""
LOAD = """
SELECT id, owner, created, status, body, input, previous, touched
FROM codexgate.response WHERE id = %s AND owner = %s AND expires > %s
"""
# Only ids and sizes on the way back: no more bodies are read than the limits allow.
HISTORY = """
WITH RECURSIVE link (id, previous, count, size) AS (
    SELECT id, previous, 1, octet_length(body)::bigint + octet_length(input)
    FROM codexgate.response WHERE id = %(id)s AND owner = %(owner)s AND expires > %(now)s
    UNION ALL
    SELECT older.id, older.previous, link.count + 1,
        link.size + octet_length(older.body) + octet_length(older.input)
    FROM link JOIN codexgate.response AS older ON older.id = link.previous
    WHERE owner = %(owner)s AND expires > %(now)s AND link.count < %(count)s AND link.size < %(size)s
)
SELECT kept.id, owner, created, status, body, input, kept.previous, touched
FROM link JOIN codexgate.response AS kept ON kept.id = link.id
ORDER BY link.count DESC
"""

_metadata = msgspec.json.Decoder(dict[str, str]).decode


class PostgresResponses:
    """Responses and conversations in the Postgres at `url`; connects only when something is asked.

    `ttl`: seconds that a response is kept, and what it goes on with, 0 for ever; `clock`: Unix seconds.
    What a call has written is as durable, when it returns, as the server makes it (`synchronous_commit`,
    on by default).
    Raises GateError of kind `invalid_request` for an unusable URL.
    """

    def __init__(
        self,
        url: str,
        *,
        ttl: float = MONTH,
        limits: Limits = Limits(),  # noqa: B008, it cannot change
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._postgres = Postgres(url, "responses", MIGRATIONS, "response_store", unavailable)
        self._ttl = ttl or math.inf
        self._limits = limits
        self._clock = clock

    async def save(self, record: ResponseRecord) -> None:
        """Keep `record`; a wish to cancel it stays."""
        checked(record.id, no_response)
        values = msgspec.structs.asdict(record)
        values["expires"] = record.created + self._ttl
        async with self._postgres.transaction() as database:
            if record.previous:
                await database.execute(LENGTHEN, values)
            saved = await database.execute(SAVE, values | {"now": self._clock(), "batch": BATCH})
            if not saved.rowcount:
                raise no_response(record.id)  # it is somebody else's

    async def load(self, id: str, owner: str) -> ResponseRecord:
        """The response `id`."""
        for row in await self._rows(LOAD, (checked(id, no_response), owner, self._clock())):
            return ResponseRecord(*row)
        raise no_response(id)

    async def history(self, id: str, owner: str) -> tuple[ResponseRecord, ...]:
        """The response `id` and all that it goes on with, oldest first."""
        values = {"id": checked(id, no_response), "owner": owner, "now": self._clock()}
        rows = await self._rows(HISTORY, values | msgspec.structs.asdict(self._limits))
        records = tuple(ResponseRecord(*row) for row in rows)
        check_history(id, records, self._limits)
        return records

    async def delete(self, id: str, owner: str) -> None:
        """Forget it, with its input."""
        sql = "DELETE FROM codexgate.response WHERE id = %s AND owner = %s AND expires > %s RETURNING id"
        await self._change(sql, (checked(id, no_response), owner, self._clock()), no_response(id))

    async def touch(self, id: str) -> bool:
        """Say that whoever runs `id` is alive; whether somebody asked to cancel it."""
        now = self._clock()
        sql = """
            UPDATE codexgate.response SET touched = %s WHERE id = %s AND expires > %s RETURNING cancelled
        """
        return bool(await self._change(sql, (now, checked(id, no_response), now), no_response(id)))

    async def cancel(self, id: str, owner: str) -> None:
        """Ask whoever runs it to stop."""
        sql = """
            UPDATE codexgate.response SET cancelled = true
            WHERE id = %s AND owner = %s AND expires > %s RETURNING id
        """
        await self._change(sql, (checked(id, no_response), owner, self._clock()), no_response(id))

    async def create_conversation(self, record: ConversationRecord, items: Sequence[Item] = ()) -> None:
        """Begin one, with its first items. Raises GateError (conflict) when the id is taken."""
        check_items(record.id, items, (), self._limits)
        sql = """
            INSERT INTO codexgate.conversation (id, owner, created, metadata) VALUES (%s, %s, %s, %b)
            ON CONFLICT DO NOTHING
        """
        metadata = msgspec.json.encode(record.metadata)
        values = (checked(record.id, no_conversation), record.owner, record.created, metadata)
        async with self._postgres.transaction() as database:
            if not (await database.execute(sql, values)).rowcount:
                raise conversation_exists(record.id)
            await _insert(database, record.id, items)

    async def load_conversation(self, id: str, owner: str) -> ConversationRecord:
        """The conversation `id`, without its items."""
        sql = "SELECT created, metadata FROM codexgate.conversation WHERE id = %s AND owner = %s"
        for created, metadata in await self._rows(sql, (checked(id, no_conversation), owner)):
            return ConversationRecord(id, owner, created, _metadata(metadata))
        raise no_conversation(id)

    async def update_conversation(self, id: str, owner: str, metadata: dict[str, str]) -> ConversationRecord:
        """Replace its metadata."""
        sql = """
            UPDATE codexgate.conversation SET metadata = %b WHERE id = %s AND owner = %s RETURNING created
        """
        values = (msgspec.json.encode(metadata), checked(id, no_conversation), owner)
        created = await self._change(sql, values, no_conversation(id))
        return ConversationRecord(id, owner, created, metadata)

    async def delete_conversation(self, id: str, owner: str) -> None:
        """Forget it, with its items."""
        sql = "DELETE FROM codexgate.conversation WHERE id = %s AND owner = %s RETURNING id"
        await self._change(sql, (checked(id, no_conversation), owner), no_conversation(id))

    async def add_items(self, id: str, owner: str, items: Sequence[Item]) -> None:
        """Put `items` at its end. Raises GateError (`item_exists`) for an id that is there."""
        present = "SELECT id, octet_length(body) FROM codexgate.item WHERE conversation = %s"
        async with self._postgres.transaction() as database:
            await _own(database, checked(id, no_conversation), owner)
            rows = await (await database.execute(present, (id,))).fetchall()
            check_items(id, items, rows, self._limits)
            await _insert(database, id, items)

    async def items(self, id: str, owner: str) -> tuple[Item, ...]:
        """Its items, oldest first."""
        sql = "SELECT id, body FROM codexgate.item WHERE conversation = %s ORDER BY position"
        async with self._postgres.transaction() as database:
            await _own(database, checked(id, no_conversation), owner)
            rows = await database.execute(sql, (id,), binary=True)
            return tuple([Item(*row) async for row in rows])

    async def delete_item(self, id: str, owner: str, item: str) -> None:
        """Take one item out."""
        sql = "DELETE FROM codexgate.item WHERE conversation = %s AND id = %s"
        async with self._postgres.transaction() as database:
            await _own(database, checked(id, no_conversation), owner)
            if not (await database.execute(sql, (id, checked(item, no_item)))).rowcount:
                raise no_item(item)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._postgres.aclose()

    async def _rows(self, sql: LiteralString, values: Any) -> list[Any]:
        async with self._postgres.transaction() as database:
            return await (await database.execute(sql, values, binary=True)).fetchall()

    async def _change(self, sql: LiteralString, values: Sequence[Any], missing: GateError) -> Any:
        """Change one row, and return what `sql` returns of it. Raises `missing` when there is none."""
        for (value,) in await self._rows(sql, values):
            return value
        raise missing


async def _own(database: Connection, id: str, owner: str) -> None:
    # Two who add at once do so one after the other: what came together stays together.
    sql = "SELECT 1 FROM codexgate.conversation WHERE id = %s AND owner = %s FOR UPDATE"
    if not (await database.execute(sql, (id, owner))).rowcount:
        raise no_conversation(id)


async def _insert(database: Connection, conversation: str, items: Sequence[Item]) -> None:
    sql = "INSERT INTO codexgate.item (conversation, id, body) VALUES (%s, %s, %b)"
    async with database.cursor() as cursor:
        await cursor.executemany(sql, [(conversation, item.id, item.body) for item in items])
