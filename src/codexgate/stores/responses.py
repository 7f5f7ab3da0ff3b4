"""What the stores of responses and conversations share: their settings, limits and faults.

Knows no store. Which one is used is for `assemble` to say.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from ..config import Secret
from ..errors import Fault, GateError, invalid, store_unavailable
from ..ports import ConversationStore, ResponseStore
from ..records import Item, ResponseRecord

MONTH = 2_592_000
"""Seconds that a response is kept, as at OpenAI (platform.openai.com, guide "Conversation state")."""
BATCH = 100
"""Responses whose time has run out that one write deletes at most."""

unavailable = partial(store_unavailable, "response_store_unavailable")
"""The store cannot be used now (503)."""


class ResponseOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where responses and conversations are kept, and for how long."""

    database_url: Annotated[
        Secret,
        Meta(
            description="Postgres that keeps responses and conversations, "
            "as `postgresql://user:password@host:5432/name`; empty: SQLite."
        ),
    ] = Secret()
    ttl: Annotated[
        int,
        Meta(
            ge=0,
            description="How long a response, and what it goes on with, is kept (seconds); "
            "0: until it is deleted.",
        ),
    ] = MONTH


class Store(ResponseStore, ConversationStore, Protocol):
    """Responses and conversations in one place."""


class Limits(msgspec.Struct, frozen=True):
    """What a history or a conversation may not exceed; a gate holds all of it in memory."""

    count: int = 10_000
    """Responses or items."""
    size: int = 128 << 20
    """Bytes of their bodies."""


def no_response(id: str) -> GateError:
    """There is no such response, or it is somebody else's (404)."""
    return GateError(Fault("not_found", f"There is no response {_name(id)}.", code="response_not_found"))


def no_conversation(id: str) -> GateError:
    """There is no such conversation, or it is somebody else's (404)."""
    message = f"There is no conversation {_name(id)}."
    return GateError(Fault("not_found", message, code="conversation_not_found"))


def no_item(id: str) -> GateError:
    """The conversation has no such item (404)."""
    message = f"There is no item {_name(id)} in this conversation."
    return GateError(Fault("not_found", message, code="item_not_found"))


def conversation_exists(id: str) -> GateError:
    """The id of a new conversation is taken (409)."""
    message = f"There is a conversation {_name(id)} already."
    return GateError(Fault("conflict", message, code="conversation_exists"))


def too_long(what: str, limits: Limits) -> GateError:
    """A history or a conversation would be longer than a gate holds (413)."""
    message = f"{what} would be longer than {limits.count} parts or {limits.size} bytes."
    return GateError(Fault("too_large", message, "Begin a new one.", "history_too_long"))


def check_history(id: str, records: Sequence[ResponseRecord], limits: Limits) -> None:
    """Refuse what was found on the way back from `id`, oldest first, if that is not its whole history."""
    if not records:
        raise no_response(id)
    if not records[0].previous:
        return
    if len(records) >= limits.count or sum(map(_size, records)) >= limits.size:
        raise too_long(f"The history of {_name(id)}", limits)
    raise no_response(records[0].previous)


def check_items(id: str, items: Sequence[Item], present: Sequence[tuple[str, int]], limits: Limits) -> None:
    """Refuse `items` that cannot come into the conversation `id`; `present`: ids and sizes of its own."""
    seen = {item for item, _ in present}
    for item in items:
        if not _is_id(item.id):
            raise invalid("An item's id must be 1 to 256 printable characters.", "items")
        if item.id in seen:
            # 400, since the clients of OpenAI send again what was answered with 409.
            raise invalid(f"There is an item {_name(item.id)} already.", "items", "item_exists")
        seen.add(item.id)
    size = sum(size for _, size in present) + sum(len(item.body) for item in items)
    if len(seen) > limits.count or size > limits.size:
        raise too_long(f"The conversation {_name(id)}", limits)


def checked(id: str, missing: Callable[[str], GateError]) -> str:
    """`id`; raises what `missing` makes of it when it can be the id of nothing."""
    if not _is_id(id):
        raise missing(id)
    return id


def _is_id(text: str) -> bool:
    return 0 < len(text) <= 256 and text.isprintable()  # which every store can keep, and every log show


def _size(record: ResponseRecord) -> int:
    return len(record.body) + len(record.input)


def _name(id: str) -> str:
    return f"'{id}'" if _is_id(id) else "of that id"
