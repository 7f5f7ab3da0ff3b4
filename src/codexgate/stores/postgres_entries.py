"""Entries as Postgres keeps them: rows and values there and back, and conditions. Pure."""

import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, LiteralString

import msgspec
from psycopg import sql

from ..recall import begins, digest
from ..records import Entry, Filter, Vectored
from . import memory_sql

OURS = ("ollama", "local", "demo", "openai")
"""Providers. The service before knew none: its models are an OpenAI-compatible server's."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def sized(statement: LiteralString, size: int, where: LiteralString) -> sql.Composed:
    """`statement` for vectors of one dimension, which has to stand in it for the index to be used."""
    half = size > memory_sql.WHOLE
    return sql.SQL(statement).format(
        size=sql.Literal(size),
        type=sql.SQL("halfvec") if half else sql.SQL("vector"),
        operators=sql.SQL("halfvec_cosine_ops") if half else sql.SQL("vector_cosine_ops"),
        index=sql.Identifier(f"entries_hnsw_{size}"),
        where=sql.SQL(where),
    )


def condition(wanted: Filter) -> tuple[LiteralString, dict[str, Any]]:
    """The condition that rows are meant, to follow another, and its values."""
    clauses: list[LiteralString] = []
    values: dict[str, Any] = {}
    if wanted.namespaces:
        clauses.append("AND task_name = ANY(%(names)s::text[])")
        values["names"] = list(wanted.namespaces)
    if wanted.tags:
        clauses.append("AND tags @> %(tags)s::text[]")
        values["tags"] = [_put(tag) for tag in wanted.tags]
    if wanted.metadata:
        # The first finds them by the index, but is content with a part of an inner object.
        clauses.append(
            "AND metadata @> %(metadata)s::jsonb AND NOT EXISTS (SELECT 1 "
            "FROM jsonb_each(%(metadata)s::jsonb) WHERE entries.metadata -> key IS DISTINCT FROM value)"
        )
        values["metadata"] = _json(wanted.metadata)
    if wanted.since:
        clauses.append("AND created_at >= to_timestamp(%(since)s)")
        values["since"] = wanted.since
    if wanted.until:
        clauses.append("AND created_at < to_timestamp(%(until)s)")
        values["until"] = wanted.until
    return " ".join(clauses), values


def sought(word: str) -> str:
    """A word in the language of `to_tsquery`."""
    return f"'{word}':*" if begins(word) else f"'{word}'"


def row_of(each: Vectored) -> tuple[Any, ...]:
    """The values of `memory_sql.ADD`."""
    entry = each.entry
    return (
        entry.id,
        entry.namespace,
        _put(entry.content),
        _put(entry.summary),
        _encode([_put(tag) for tag in entry.tags]).decode(),
        _json(entry.metadata),
        _put(entry.source),
        entry.created,
        entry.accessed,
        stored(entry.model),
        bytes.fromhex(entry.digest),
        vector_text(each.vector),
    )


async def entries_of(rows: Any) -> AsyncGenerator[Entry]:
    """Those that rows of `memory_sql.COLUMNS` tell."""
    async for row in rows:
        yield entry_of(row)


def entry_of(row: Sequence[Any]) -> Entry:
    """What such a row tells."""
    id, name, content, summary, tags, metadata, source, created, accessed, model, size, key = row[:12]
    content = _got(content)
    return Entry(
        str(id),
        name,
        content,
        _got(summary),
        tuple(map(_got, tags)),
        _walked(_decode(metadata), _got) if "\\u0010" in metadata else _decode(metadata),
        _got(source),
        created,
        accessed,
        named(model),
        size,
        key.hex() if key else digest(content),
    )


def vector_text(vector: Sequence[float]) -> str:
    """A vector as pgvector reads it."""
    return f"[{','.join(map(repr, vector))}]"


def uuids(ids: Sequence[str]) -> list[uuid.UUID]:
    """Those that can be ids."""
    found = []
    for id in ids:
        try:
            found.append(uuid.UUID(id))
        except ValueError:
            continue
    return found


def stored(model: str) -> str:
    """A model as the service before would call it: by its own name, if that is of an OpenAI server."""
    bare = model.removeprefix("openai/")
    return model if bare.partition("/")[0] in OURS else bare


def named(stored: str) -> str:
    """A model as `stored` wrote it."""
    return stored if stored.partition("/")[0] in OURS else f"openai/{stored}"


# Postgres keeps no NUL: it is written DLE 0, and DLE itself DLE DLE.


def _put(text: str) -> str:
    return text.replace("\x10", "\x10\x10").replace("\0", "\x100")


def _got(text: str) -> str:
    if "\x10" not in text:
        return text
    return "\x10".join(part.replace("\x100", "\0") for part in text.split("\x10\x10"))


def _json(value: dict[str, Any]) -> str:
    text = _encode(value).decode()
    return _encode(_walked(value, _put)).decode() if "\\u00" in text else text


def _walked(value: Any, change: Callable[[str], str]) -> Any:
    """`value` with every text in it changed."""
    match value:
        case str():
            return change(value)
        case list() | tuple():
            return [_walked(each, change) for each in value]
        case dict():
            return {change(key): _walked(each, change) for key, each in value.items()}
    return value
