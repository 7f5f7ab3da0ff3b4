"""What may be kept and asked: a draft to an entry, or why not. Pure but for the ids of what has no key."""

import math
import re
import uuid
from typing import Any

import msgspec

from .errors import invalid
from .recall import digest
from .records import Draft, Entry

CONTENT = 50_000
"""Characters of one memory."""
SUMMARY = 5_000
SHORT = 300
"""Characters of the content that are its summary where none is given."""
TAGS = 50
TAG = 200
NAMESPACE = 200
SOURCE = 4_096
METADATA = 65_536
"""Bytes of it as JSON."""
DEPTH = 32
YEAR_10000 = 253_402_300_800
"""Unix seconds that no date has."""
QUERY = 10_000
LIMIT = 50
"""Matches of one query."""

_KEYS = uuid.UUID("6b0f3e0a-58d4-5d6c-9f5e-6f1f4a3f0c11")
"""The name space (RFC 9562) of ids that are made of keys."""
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def entry_of(draft: Draft, namespace: str, now: float) -> Entry:
    """The entry that `draft` becomes, without its vector. Raises GateError for one that cannot be kept."""
    content = _text(draft.content, "content", CONTENT)
    if not content.strip():
        raise invalid("`content` is empty; there is nothing to keep.", "content")
    summary = _text(draft.summary, "summary", SUMMARY).strip()
    if not (len(_text(namespace, "namespace", NAMESPACE)) > 0 and namespace.isprintable()):
        raise invalid("A namespace is 1 to 200 printable characters.", "namespace")
    tags = tuple(dict.fromkeys(filter(None, (_text(tag, "tags", TAG).strip() for tag in draft.tags))))
    if not all(map(str.isprintable, tags)):
        raise invalid("A tag is 1 to 200 printable characters.", "tags")
    if len(tags) > TAGS:
        raise invalid(f"`tags` has {len(tags)} tags; at most {TAGS} are kept.", "tags")
    created = draft.created or now
    if not 0 < created < YEAR_10000:
        raise invalid("`created` is no time in Unix seconds.", "created")
    if not 0 <= draft.accessed < YEAR_10000:
        raise invalid("`accessed` is no time in Unix seconds.", "accessed")
    return Entry(
        id=_id(namespace, draft.key),
        namespace=namespace,
        content=content,
        summary=summary or _beginning(content),
        tags=tags,
        metadata=_json(draft.metadata),
        source=_text(draft.source, "source", SOURCE),
        created=round(created, 6),
        accessed=draft.accessed,
        digest=digest(content),
    )


def _text(text: str, param: str, most: int) -> str:
    if len(text) > most:
        raise invalid(f"`{param}` has {len(text):,} characters; at most {most:,} are taken.", param)
    try:
        text.encode()
    except UnicodeEncodeError:
        message = f"`{param}` is no Unicode text: it holds a lone surrogate, or bytes that are no UTF-8."
        raise invalid(message, param) from None
    return text


def _id(namespace: str, key: str) -> str:
    if not key:
        return str(uuid.uuid4())
    if _UUID.fullmatch(_text(key, "key", SOURCE)):
        return key
    return str(uuid.uuid5(_KEYS, f"{len(namespace)}:{namespace}{key}"))


def _json(metadata: dict[str, Any]) -> dict[str, Any]:
    """`metadata` as JSON keeps it."""
    try:
        _check_json(metadata, DEPTH)
        text = msgspec.json.encode(metadata)
        if len(text) <= METADATA:
            return msgspec.json.decode(text, type=dict[str, Any])
    except (ValueError, TypeError, OverflowError, msgspec.MsgspecError):
        raise invalid("`metadata` is no JSON object that can be kept.", "metadata") from None
    raise invalid(f"`metadata` has {len(text):,} bytes as JSON; at most {METADATA:,} are kept.", "metadata")


def _check_json(value: object, depth: int) -> None:
    match value:
        case None | bool() | int():
            pass
        case str():
            value.encode()
        case float():
            if not math.isfinite(value):
                raise ValueError(value)
        case dict() | list() | tuple() if depth:
            for each in (*value, *value.values()) if isinstance(value, dict) else value:
                _check_json(each, depth - 1)
        case _:
            raise TypeError


def _beginning(content: str) -> str:
    return content[:SHORT]


def input_of(entry: Entry) -> str:
    """What is embedded of it: with its summary, where somebody gave it one."""
    if entry.summary == _beginning(entry.content):
        return entry.content
    return f"{entry.summary}\n\n{entry.content}"


def check_query(query: str, limit: int) -> None:
    """Refuse what cannot be asked. Raises GateError."""
    if not _text(query, "query", QUERY).strip():
        raise invalid("`query` is empty; there is nothing to look for.", "query")
    if not 1 <= limit <= LIMIT:
        raise invalid(f"`limit` must be between 1 and {LIMIT}.", "limit")
