"""What the store of memories in SQLite does within one connection: rows to entries and back, and conditions.

Knows the tables; neither files nor threads.
"""
# ruff: noqa: S608 - statements are put together of constants; every value is bound

import sqlite3
import struct
import unicodedata
from collections.abc import Sequence
from typing import Any

import msgspec

from ..recall import begins, mismatch
from ..records import Entry, Filter, Kept, Vectored

ENTRIES = """
SELECT entry.uuid, namespace.name, entry.content, entry.summary, entry.tags, entry.metadata, entry.source,
    entry.created, entry.accessed, space.model, space.dimension, entry.digest, entry.id
FROM entry JOIN namespace ON namespace.id = entry.namespace JOIN space ON space.id = namespace.serves
"""
BY_TIME = ENTRIES.replace("FROM entry", "FROM entry INDEXED BY entry_created")
"""The same in the order of their making. SQLite itself would sort a whole namespace for each batch of it."""
NAMESPACES = "SELECT id FROM namespace WHERE name IN (SELECT value FROM json_each(?))"
THESE = "(SELECT value FROM json_each(?))"
INSERT = """
INSERT INTO entry (uuid, namespace, digest, summary, tags, metadata, source, created, accessed, content)
VALUES (?, (SELECT id FROM namespace WHERE name = ?), ?, ?, ?, ?, ?, ?, ?, ?)
"""

_encode = msgspec.json.Encoder(order="sorted").encode
_tags = msgspec.json.Decoder(tuple[str, ...]).decode
_metadata = msgspec.json.Decoder(dict[str, Any]).decode


def packed(vector: Sequence[float]) -> bytes:
    """A vector as it is kept: little-endian float32."""
    return struct.pack(f"<{len(vector)}f", *vector)


def unpacked(data: bytes) -> tuple[float, ...]:
    """The vector of `packed`."""
    return struct.unpack(f"<{len(data) // 4}f", data)


def add(database: sqlite3.Connection, each: Vectored, spaces: dict[tuple[str, str, int], int]) -> Kept:
    """Keep one; `spaces`: those that serve what was met so far."""
    entry = each.entry
    there = """
        SELECT entry.id FROM entry JOIN namespace ON namespace.id = entry.namespace
        WHERE namespace.name = ? AND digest = ? UNION ALL SELECT id FROM entry WHERE uuid = ?
    """
    key = bytes.fromhex(entry.digest)
    for (id,) in database.execute(there, (entry.namespace, key, entry.id)).fetchall():
        return Kept(load(database, "entry.id", [id])[id], deduped=True)
    seen = (entry.namespace, entry.model, entry.dimension)
    if seen not in spaces:
        spaces[seen] = _serving(database, entry)
    space = spaces[seen]
    values = (
        entry.id,
        entry.namespace,
        key,
        entry.summary,
        _encode(entry.tags).decode(),
        _encode(entry.metadata).decode(),
        entry.source,
        entry.created,
        entry.accessed,
        entry.content,
    )
    id = database.execute(INSERT, values).lastrowid
    database.execute("INSERT INTO word (rowid, text) VALUES (?, ?)", (id, _text(*values[3:5], entry.content)))
    vector = (space, id, packed(each.vector))
    database.execute("INSERT INTO vector (space, entry, data) VALUES (?, ?, ?)", vector)
    database.execute("UPDATE space SET last = ? WHERE id = ?", (id, space))
    return Kept(entry)


def _serving(database: sqlite3.Connection, entry: Entry) -> int:
    """The space that the namespace of `entry` is searched in; a namespace that is new gets one."""
    given = (entry.model, entry.dimension)
    for _, space, model, dimension, *_ in spaces(database, (entry.namespace,)):
        if (model, dimension) != given:
            raise mismatch(entry.namespace, (model, dimension), given)
        return space
    database.execute("INSERT INTO namespace (name) VALUES (?)", (entry.namespace,))
    find = "SELECT id FROM namespace WHERE name = ?"
    (namespace,) = database.execute(find, (entry.namespace,)).fetchone()
    space = _new_space(database, namespace, *given)
    database.execute("UPDATE namespace SET serves = ? WHERE id = ?", (space, namespace))
    return space


def staging(database: sqlite3.Connection, namespace: int, model: str, dimension: int) -> int:
    """The space where new vectors by `model` wait; one of another dimension is of no use any more."""
    sql = """
        SELECT space.id, dimension FROM space JOIN namespace ON namespace.id = space.namespace
        WHERE namespace.id = ? AND model = ? AND space.id <> serves
    """
    for space, its_dimension in database.execute(sql, (namespace, model)).fetchall():
        if its_dimension == dimension:
            return int(space)
        database.execute("DELETE FROM vector WHERE space = ?", (space,))
        database.execute("DELETE FROM space WHERE id = ?", (space,))
    return _new_space(database, namespace, model, dimension)


def _new_space(database: sqlite3.Connection, namespace: int, model: str, dimension: int) -> int:
    sql = "INSERT INTO space (namespace, model, dimension) VALUES (?, ?, ?)"
    return int(database.execute(sql, (namespace, model, dimension)).lastrowid or 0)


def spaces(
    database: sqlite3.Connection, namespaces: Sequence[str]
) -> list[tuple[str, int, str, int, int, int]]:
    """Of these namespaces, or all: name, and id, model, dimension, epoch and last entry of what serves."""
    sql = """
        SELECT name, space.id, model, dimension, epoch, last
        FROM namespace JOIN space ON space.id = namespace.serves
    """
    if not namespaces:
        return database.execute(f"{sql} ORDER BY name").fetchall()
    sql = f"{sql} WHERE name IN {THESE} ORDER BY name"
    return database.execute(sql, (listed(namespaces),)).fetchall()


def forget(database: sqlite3.Connection, where: str, value: str) -> int:
    """Forget the entries that `where` (with its one `value`) means; how many there were."""
    rows = database.execute(f"SELECT entry.id, summary, tags, content FROM entry {where}", (value,))
    database.executemany(
        "INSERT INTO word (word, rowid, text) VALUES ('delete', ?, ?)",
        ((id, _text(*texts)) for id, *texts in rows),
    )
    spaces = f"SELECT DISTINCT space.id FROM entry JOIN space ON space.namespace = entry.namespace {where}"
    found = [space for (space,) in database.execute(spaces, (value,))]
    for space in found:
        database.execute(
            f"DELETE FROM vector WHERE space = ? AND entry IN (SELECT entry.id FROM entry {where})",
            (space, value),
        )
        database.execute("UPDATE space SET epoch = epoch + 1 WHERE id = ?", (space,))
    count = database.execute(f"DELETE FROM entry {where}", (value,)).rowcount
    # An empty namespace may be another model's.
    database.execute(
        "DELETE FROM namespace WHERE NOT EXISTS (SELECT 1 FROM entry WHERE entry.namespace = namespace.id)"
    )
    database.execute("DELETE FROM space WHERE namespace NOT IN (SELECT id FROM namespace)")
    return count


def load(database: sqlite3.Connection, column: str, values: Sequence[object]) -> dict[int, Entry]:
    """By number, the entries whose `column` has one of `values`."""
    rows = database.execute(f"{ENTRIES} WHERE {column} IN {THESE}", (listed(values),))
    return {row[-1]: entry_of(row) for row in rows}


def vectors_of(database: sqlite3.Connection, ids: Sequence[int]) -> dict[int, tuple[float, ...]]:
    """The vectors that serve, by the number of their entry."""
    sql = f"""
        SELECT entry.id, data FROM entry JOIN namespace ON namespace.id = entry.namespace
        JOIN vector ON vector.space = serves AND vector.entry = entry.id WHERE entry.id IN {THESE}
    """
    return {id: unpacked(data) for id, data in database.execute(sql, (listed(ids),))}


def entry_of(row: Sequence[Any]) -> Entry:
    """What a row of `ENTRIES` tells."""
    id, namespace, content, summary, tags, metadata, source, created, accessed, model, dimension, key, _ = row
    return Entry(
        id,
        namespace,
        content,
        summary,
        _tags(tags),
        _metadata(metadata),
        source,
        created,
        accessed,
        model,
        dimension,
        key.hex(),
    )


def _text(summary: str, tags: str, content: str) -> str:
    """What an entry is found by; `tags` as JSON."""
    return f"{'' if content.startswith(summary) else summary}\n{content}\n{' '.join(_tags(tags))}"


def counts(database: sqlite3.Connection, words: Sequence[str]) -> dict[str, int]:
    """In how many entries each of the words is."""
    plain = {word: _plain(word) for word in words}
    rows = database.execute(
        f"SELECT term, doc FROM word_count WHERE term IN {THESE}", (listed([*plain.values()]),)
    )
    found = dict(rows.fetchall())
    return {word: found.get(plain[word], 0) for word in words}


def sought(word: str) -> str:
    """A word in the language of FTS5, where it is a phrase of one word."""
    return f'"{word}"*' if begins(word) else f'"{word}"'


def _plain(word: str) -> str:
    """Without its accents, as FTS5 keeps it."""
    return "".join(
        letter for letter in unicodedata.normalize("NFD", word) if not unicodedata.combining(letter)
    )


def listed(values: Sequence[object]) -> str:
    """Values as one that `THESE` takes."""
    return _encode(values).decode()


def condition(wanted: Filter) -> tuple[str, list[Any]]:
    """The condition that rows of `entry` are meant, and its values."""
    clauses: list[str] = []
    values: list[Any] = []
    if wanted.namespaces:
        clauses.append(f"entry.namespace IN (SELECT id FROM namespace WHERE name IN {THESE})")
        values.append(listed(wanted.namespaces))
    for tag in wanted.tags:
        clauses.append("EXISTS (SELECT 1 FROM json_each(entry.tags) WHERE value = ?)")
        values.append(tag)
    for name, value in wanted.metadata.items():
        types, plain = _typed(value)
        each = f"key = ? AND type IN {THESE} AND coalesce(value, '') = ?"
        clauses.append(f"EXISTS (SELECT 1 FROM json_each(entry.metadata) WHERE {each})")
        values += [name, listed(types), plain]
    if wanted.since:
        clauses.append("entry.created >= ?")
        values.append(wanted.since)
    if wanted.until:
        clauses.append("entry.created < ?")
        values.append(wanted.until)
    return ("WHERE " + " AND ".join(clauses) if clauses else ""), values


def _typed(value: object) -> tuple[tuple[str, ...], object]:
    """What SQLite's JSON calls a value, and has of it."""
    match value:
        case None:
            return ("null",), ""
        case bool():
            return (str(value).lower(),), value
        case str():
            return ("text",), value
        case int() | float():
            return ("integer", "real"), float(value) if abs(value) >= 1 << 63 else value
    return ("array", "object"), _encode(value).decode()
