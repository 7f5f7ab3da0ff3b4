"""Memories that are JSON objects: our own export, mem0's, and those of MCP's `server-memory`.

What an object of a format means is a function to drafts here. How the objects are found in a file is
the same for all: as lines (`items`), or as the elements of an array (`elements`).
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from ..records import Draft
from .items import NOT_UTF8, Bad, Found, Item, key, moment

Shape = Callable[[str, str], Iterable[Draft]]
"""The drafts of one object (its JSON, and the path of its file). Raises ValueError with what is wrong."""

_HALVES = re.compile("[\ud800-\udfff]")


def read_objects(found: Iterable[tuple[int, str] | Bad], path: str, shape: Shape) -> Iterator[Item]:
    """The drafts of every object in `found`, the lines and texts of objects and what is bad."""
    for each in found:
        if isinstance(each, Bad):
            yield each
        elif each[1].strip():
            yield from _read(each[1], each[0], path, shape)


def _read(text: str, line: int, path: str, shape: Shape) -> Iterator[Item]:
    try:
        drafts = [*shape(text, path)]
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors, and those of Unicode
        yield Bad(_told(error, text), line)
    else:
        for draft in drafts:
            yield Found(draft, line)


def _told(error: Exception, text: str) -> str:
    match error:
        case msgspec.ValidationError():
            return f"{error}."
        case msgspec.DecodeError() if _is_halved(text):
            return "This holds half of a character (a lone surrogate)."
        case msgspec.DecodeError():
            told = str(error).removeprefix("JSON is malformed: ")
            return f"This is not JSON: {told.replace('Input data was truncated', 'it ends in the middle')}."
        case UnicodeError():
            return NOT_UTF8
        case RecursionError():
            return "This is nested too deeply."
        case _:
            return f"{error}."


def _is_halved(text: str) -> bool:
    """It is JSON, but of characters that nothing can keep."""
    try:
        return _HALVES.search(json.dumps(json.loads(text), ensure_ascii=False)) is not None
    except (ValueError, RecursionError):
        return False


class _Exported(msgspec.Struct):
    content: str
    id: str | None = None
    namespace: str | None = None
    summary: str | None = None
    tags: tuple[str, ...] | None = None
    metadata: dict[str, Any] | None = None
    source: str | None = None
    created: float | str | None = None
    accessed: float | str | None = None


_exported = msgspec.json.Decoder(_Exported)


def of_export(text: str, path: str) -> Iterator[Draft]:
    """An entry of ours: its id is its key, so that it stays its id."""
    entry = _exported.decode(text)
    yield Draft(
        entry.content,
        entry.namespace or "",
        entry.summary or "",
        entry.tags or (),
        entry.metadata or {},
        path if entry.source is None else entry.source,
        entry.id or key(path, entry.content),
        moment(entry.created),
        moment(entry.accessed),
    )


class _Mem0(msgspec.Struct):
    memory: str
    id: str | int | None = None
    categories: tuple[str, ...] | None = None
    metadata: dict[str, Any] | None = None
    created_at: str | float | None = None
    user_id: str | None = None
    agent_id: str | None = None
    app_id: str | None = None
    run_id: str | None = None


_mem0 = msgspec.json.Decoder(_Mem0)


def of_mem0(text: str, path: str) -> Iterator[Draft]:
    """A memory as mem0's `get_all` and exports give it; whose it is becomes metadata."""
    memory = _mem0.decode(text)
    whose = {name: getattr(memory, name) for name in ("user_id", "agent_id", "app_id", "run_id")}
    yield Draft(
        memory.memory,
        namespace="",
        tags=memory.categories or (),
        metadata={**(memory.metadata or {}), **{name: id for name, id in whose.items() if id}},
        source="mem0",
        key=key(path if memory.id is None else f"mem0:{memory.id}", memory.memory),
        created=moment(memory.created_at),
    )


class _Entity(msgspec.Struct, tag_field="type", tag="entity"):
    name: str
    kind: str = msgspec.field(name="entityType", default="")
    observations: tuple[str, ...] = ()


class _Relation(msgspec.Struct, tag_field="type", tag="relation"):
    begin: str = msgspec.field(name="from")
    to: str
    kind: str = msgspec.field(name="relationType")


_graph = msgspec.json.Decoder(_Entity | _Relation)


def of_graph(text: str, path: str) -> Iterator[Draft]:  # noqa: ARG001 - a Shape
    """An object of `server-memory`: every observation of an entity is a memory, and every relation."""
    match _graph.decode(text):
        case _Entity(name, kind, observations):
            for said in observations or (kind or "is known",):
                yield _fact(f"{name}: {said}", {"entity": name, "type": kind}, kind)
        case _Relation(begin, to, kind):
            metadata = {"from": begin, "relation": kind, "to": to}
            yield _fact(f"{begin} {kind.replace('_', ' ')} {to}", metadata, "relation")


def _fact(content: str, metadata: dict[str, Any], tag: str) -> Draft:
    tags = (tag,) if tag else ()
    name = "server-memory"
    return Draft(content, "", tags=tags, metadata=metadata, source=name, key=key(name, content))
