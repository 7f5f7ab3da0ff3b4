"""OpenAI's files: forms and queries to values, records to bodies, names made harmless.

Source: OpenAI API reference, "Files". Pure: what a form held is handed in, field by field.
"""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from ..errors import invalid
from ..records import FileRecord

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
PURPOSE = "user_data"
"""Of an upload that names none. OpenAI demands one; this is its word for any use."""
LIMIT = 10_000
"""Files in a list, at most and by default."""
NAME = 255
"""Bytes of a name that are kept, as file systems have it."""

_FIELDS = frozenset(("purpose", "expires_after[anchor]", "expires_after[seconds]"))
_LIFETIME = range(3600, 2_592_001)
_ID = re.compile(r"file-[0-9a-f]{24}")


class Form(msgspec.Struct, frozen=True):
    """What was said about a file that is uploaded."""

    purpose: str
    lifetime: int
    """Seconds; 0 for ever."""
    unknown: tuple[str, ...]
    """Fields that were passed over."""


class Query(msgspec.Struct, frozen=True):
    """Which files a list is to have."""

    purpose: str
    limit: int
    after: str
    newest_first: bool


def parse_form(fields: Mapping[str, str], default: str) -> Form:
    """Read the fields beside the file; `default` is the purpose of one that names none.

    Raises GateError naming the field at fault.
    """
    purpose = fields.get("purpose") or default
    if purpose not in PURPOSES:
        raise invalid(f"`purpose` is one of {', '.join(PURPOSES)}.", "purpose")
    unknown = tuple(name for name in fields if name not in _FIELDS)
    return Form(purpose, _lifetime(fields), unknown)


def parse_query(query: Mapping[str, str]) -> Query:
    """Read the query of a list. Raises GateError naming the field at fault."""
    limit, order, after = query.get("limit", str(LIMIT)), query.get("order", "desc"), query.get("after")
    if (count := _number(limit)) is None or not 1 <= count <= LIMIT:
        raise invalid(f"`limit` is a number from 1 to {LIMIT}.", "limit")
    if order not in ("asc", "desc"):
        raise invalid("`order` is asc or desc.", "order")
    if after and not _ID.fullmatch(after):
        raise invalid("`after` is the id of a file.", "after")
    return Query(query.get("purpose") or "", count, after or "", order == "desc")


def clean_name(name: str) -> str:
    """The last part of a path, on whatever system, without control characters; never empty."""
    last = name.replace("\\", "/").rpartition("/")[2]
    kept = "".join(one for one in last if unicodedata.category(one) not in ("Cc", "Cs", "Zl", "Zp"))
    kept = kept.encode()[:NAME].decode(errors="ignore").strip()
    return kept if kept.strip(".") else "file"


def disposition(name: str) -> str:
    """The `Content-Disposition` of a file that is saved, not shown.

    Source: RFC 6266, 4.3, with the name in UTF-8 as in RFC 5987, and for old clients in ASCII.
    """
    plain = re.sub(r"[^ !#-\[\]-~]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def render(record: FileRecord) -> dict[str, Any]:
    """The file object."""
    return {
        "id": record.id,
        "object": "file",
        "bytes": record.size,
        "created_at": record.created,
        "filename": record.name,
        "purpose": record.purpose,
        "status": "processed",
    } | ({"expires_at": record.expires} if record.expires else {})


def render_list(records: tuple[FileRecord, ...], *, more: bool) -> dict[str, Any]:
    """A page of files; `more`: there are others after it."""
    return {
        "object": "list",
        "data": [render(record) for record in records],
        "first_id": records[0].id if records else None,
        "last_id": records[-1].id if records else None,
        "has_more": more,
    }


def render_deleted(id: str) -> dict[str, Any]:
    """What is answered to a deletion."""
    return {"id": id, "object": "file", "deleted": True}


def _lifetime(fields: Mapping[str, str]) -> int:
    anchor, seconds = (fields.get(f"expires_after[{name}]") for name in ("anchor", "seconds"))
    if anchor is None and seconds is None:
        return 0
    if anchor != "created_at":
        raise invalid("A file's time begins when it is made: `created_at`.", "expires_after[anchor]")
    count = _number(seconds or "")
    if count is None or count not in _LIFETIME:
        message = f"A file is kept for {_LIFETIME[0]} to {_LIFETIME[-1]} seconds."
        raise invalid(message, "expires_after[seconds]")
    return count


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None
