"""Responses and conversations in an SQLite file: a `ResponseStore` and a `ConversationStore` of `ports`.

Several processes may use the file at once. Knows nothing of what a response or an item says.
"""

import math
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ..errors import GateError
from ..records import ConversationRecord, Item, ResponseRecord
from .database import Database, Unusable, transaction
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

T = TypeVar("T")

MIGRATIONS = (
    # The bodies stand apart: a changed row is written anew as a whole, and `touch` comes often.
    """
    CREATE TABLE response (
        id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        created INTEGER NOT NULL,
        status TEXT NOT NULL,
        previous TEXT NOT NULL,
        touched REAL NOT NULL,
        cancelled INTEGER NOT NULL DEFAULT 0,
        expires REAL NOT NULL,
        size INTEGER NOT NULL
    );
    CREATE INDEX response_expires ON response (expires);
    CREATE TABLE content (
        id TEXT PRIMARY KEY REFERENCES response ON DELETE CASCADE,
        body BLOB NOT NULL,
        input BLOB NOT NULL
    );
    CREATE TABLE conversation (
        id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        created INTEGER NOT NULL,
        metadata BLOB NOT NULL
    );
    CREATE TABLE item (
        position INTEGER PRIMARY KEY,
        conversation TEXT NOT NULL REFERENCES conversation ON DELETE CASCADE,
        id TEXT NOT NULL,
        body BLOB NOT NULL,
        UNIQUE (conversation, id)
    );
    CREATE INDEX item_position ON item (conversation, position);
    """,
)
"""What makes version N+1 of version N; a released one is never changed."""

EXPIRE = """
DELETE FROM response WHERE id IN (SELECT id FROM response WHERE expires <= ? ORDER BY expires LIMIT ?)
"""
# What a response goes on with lasts as long as it does. One that lasts longer has seen to its own.
LENGTHEN = """
WITH RECURSIVE link (id) AS (
    VALUES (:previous)
    UNION
    SELECT response.previous FROM link JOIN response ON response.id = link.id
    WHERE owner = :owner AND expires < :expires
)
UPDATE response SET expires = :expires
WHERE id IN (SELECT id FROM link) AND owner = :owner AND expires < :expires
"""
SAVE = """
INSERT INTO response (id, owner, created, status, previous, touched, expires, size)
VALUES (:id, :owner, :created, :status, :previous, :touched, :expires, :size)
ON CONFLICT (id) DO UPDATE SET
    created = excluded.created, status = excluded.status, previous = excluded.previous,
    touched = excluded.touched, expires = max(expires, excluded.expires), size = excluded.size
WHERE owner = excluded.owner
"""
SAVE_CONTENT = "INSERT OR REPLACE INTO content (id, body, input) VALUES (:id, :body, :input)"
LOAD = """
SELECT response.id, owner, created, status, body, input, previous, touched
FROM response JOIN content ON content.id = response.id
WHERE response.id = ? AND owner = ? AND expires > ?
"""
# Only ids and sizes on the way back: no more bodies are read than the limits allow.
HISTORY = """
WITH RECURSIVE link (id, previous, count, size) AS (
    SELECT id, previous, 1, size FROM response WHERE id = :id AND owner = :owner AND expires > :now
    UNION ALL
    SELECT response.id, response.previous, link.count + 1, link.size + response.size
    FROM link JOIN response ON response.id = link.previous
    WHERE owner = :owner AND expires > :now AND link.count < :count AND link.size < :size
)
SELECT link.id, owner, created, status, body, input, link.previous, touched
FROM link JOIN response ON response.id = link.id JOIN content ON content.id = link.id
ORDER BY link.count DESC
"""

_metadata = msgspec.json.Decoder(dict[str, str]).decode


class Responses:
    """Responses and conversations in the file `path`, which is made, with its folder, when it is needed.

    `ttl`: seconds that a response is kept, and what it goes on with, 0 for ever; `clock`: Unix seconds.
    What a call has written is on the disk when it returns: it outlives the process, and a loss of power.
    """

    def __init__(
        self,
        path: Path,
        *,
        ttl: float = MONTH,
        limits: Limits = Limits(),  # noqa: B008, it cannot change
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = Database(path, MIGRATIONS)
        self._ttl = ttl or math.inf
        self._limits = limits
        self._clock = clock

    async def save(self, record: ResponseRecord) -> None:
        """Keep `record`; a wish to cancel it stays."""
        checked(record.id, no_response)
        values = msgspec.structs.asdict(record)
        values["expires"] = record.created + self._ttl
        values["size"] = len(record.body) + len(record.input)

        def work(database: sqlite3.Connection) -> None:
            database.execute(LENGTHEN, values)
            database.execute(EXPIRE, (self._clock(), BATCH))
            if not database.execute(SAVE, values).rowcount:
                raise no_response(record.id)  # it is somebody else's
            database.execute(SAVE_CONTENT, values)

        await self._write(work)

    async def load(self, id: str, owner: str) -> ResponseRecord:
        """The response `id`."""
        for row in await self._read(LOAD, (checked(id, no_response), owner, self._clock())):
            return ResponseRecord(*row)
        raise no_response(id)

    async def history(self, id: str, owner: str) -> tuple[ResponseRecord, ...]:
        """The response `id` and all that it goes on with, oldest first."""
        values = {"id": checked(id, no_response), "owner": owner, "now": self._clock()}
        rows = await self._read(HISTORY, values | msgspec.structs.asdict(self._limits))
        records = tuple(ResponseRecord(*row) for row in rows)
        check_history(id, records, self._limits)
        return records

    async def delete(self, id: str, owner: str) -> None:
        """Forget it, with its input."""
        sql = "DELETE FROM response WHERE id = ? AND owner = ? AND expires > ? RETURNING id"
        await self._change(sql, (checked(id, no_response), owner, self._clock()), no_response(id))

    async def touch(self, id: str) -> bool:
        """Say that whoever runs `id` is alive; whether somebody asked to cancel it."""
        now = self._clock()
        sql = "UPDATE response SET touched = ? WHERE id = ? AND expires > ? RETURNING cancelled"
        return bool(await self._change(sql, (now, checked(id, no_response), now), no_response(id)))

    async def cancel(self, id: str, owner: str) -> None:
        """Ask whoever runs it to stop."""
        sql = "UPDATE response SET cancelled = 1 WHERE id = ? AND owner = ? AND expires > ? RETURNING id"
        await self._change(sql, (checked(id, no_response), owner, self._clock()), no_response(id))

    async def create_conversation(self, record: ConversationRecord, items: Sequence[Item] = ()) -> None:
        """Begin one, with its first items. Raises GateError (conflict) when the id is taken."""
        check_items(record.id, items, (), self._limits)
        sql = "INSERT OR IGNORE INTO conversation (id, owner, created, metadata) VALUES (?, ?, ?, ?)"
        values = (
            checked(record.id, no_conversation),
            record.owner,
            record.created,
            msgspec.json.encode(record.metadata),
        )

        def work(database: sqlite3.Connection) -> None:
            if not database.execute(sql, values).rowcount:
                raise conversation_exists(record.id)
            _insert(database, record.id, items)

        await self._write(work)

    async def load_conversation(self, id: str, owner: str) -> ConversationRecord:
        """The conversation `id`, without its items."""
        sql = "SELECT created, metadata FROM conversation WHERE id = ? AND owner = ?"
        for created, metadata in await self._read(sql, (checked(id, no_conversation), owner)):
            return ConversationRecord(id, owner, created, _metadata(metadata))
        raise no_conversation(id)

    async def update_conversation(self, id: str, owner: str, metadata: dict[str, str]) -> ConversationRecord:
        """Replace its metadata."""
        sql = "UPDATE conversation SET metadata = ? WHERE id = ? AND owner = ? RETURNING created"
        values = (msgspec.json.encode(metadata), checked(id, no_conversation), owner)
        created = await self._change(sql, values, no_conversation(id))
        return ConversationRecord(id, owner, created, metadata)

    async def delete_conversation(self, id: str, owner: str) -> None:
        """Forget it, with its items."""
        sql = "DELETE FROM conversation WHERE id = ? AND owner = ? RETURNING id"
        await self._change(sql, (checked(id, no_conversation), owner), no_conversation(id))

    async def add_items(self, id: str, owner: str, items: Sequence[Item]) -> None:
        """Put `items` at its end. Raises GateError (`item_exists`) for an id that is there."""
        checked(id, no_conversation)

        def work(database: sqlite3.Connection) -> None:
            _own(database, id, owner)
            present = "SELECT id, length(body) FROM item WHERE conversation = ?"
            check_items(id, items, database.execute(present, (id,)).fetchall(), self._limits)
            _insert(database, id, items)

        await self._write(work)

    async def items(self, id: str, owner: str) -> tuple[Item, ...]:
        """Its items, oldest first."""
        checked(id, no_conversation)

        def work(database: sqlite3.Connection) -> tuple[Item, ...]:
            _own(database, id, owner)
            sql = "SELECT id, body FROM item WHERE conversation = ? ORDER BY position"
            return tuple(Item(*row) for row in database.execute(sql, (id,)))

        return await self._in_thread(work)

    async def delete_item(self, id: str, owner: str, item: str) -> None:
        """Take one item out."""
        checked(id, no_conversation)
        checked(item, no_item)

        def work(database: sqlite3.Connection) -> None:
            _own(database, id, owner)
            sql = "DELETE FROM item WHERE conversation = ? AND id = ?"
            if not database.execute(sql, (id, item)).rowcount:
                raise no_item(item)

        await self._write(work)

    async def aclose(self) -> None:
        """Let go of the file."""
        await self._database.aclose()

    async def _read(self, sql: str, values: Any) -> list[Any]:
        return await self._in_thread(lambda database: database.execute(sql, values).fetchall())

    async def _change(self, sql: str, values: Sequence[Any], missing: GateError) -> Any:
        """Change one row, and return what `sql` returns of it. Raises `missing` when there is none."""

        def work(database: sqlite3.Connection) -> Any:
            for (value,) in database.execute(sql, values).fetchall():
                return value
            raise missing

        return await self._write(work)

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def call(database: sqlite3.Connection) -> T:
            with transaction(database):
                return work(database)

        return await self._in_thread(call)

    async def _in_thread(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._database.do(work)
        except Unusable as error:
            raise unavailable(error.fault.message, error.fault.advice) from error


def _own(database: sqlite3.Connection, id: str, owner: str) -> None:
    sql = "SELECT 1 FROM conversation WHERE id = ? AND owner = ?"
    if not database.execute(sql, (id, owner)).fetchone():
        raise no_conversation(id)


def _insert(database: sqlite3.Connection, conversation: str, items: Sequence[Item]) -> None:
    rows = [(conversation, item.id, item.body) for item in items]
    database.executemany("INSERT INTO item (conversation, id, body) VALUES (?, ?, ?)", rows)
