"""OpenAI's conversation objects. Source: OpenAI API reference, "Conversations". Pure."""

from typing import Annotated, Any

import msgspec

from ..errors import invalid
from ..records import ConversationRecord
from .openai_body import reader
from .openai_error import UNREADABLE, unreadable
from .openai_items import identified, messages
from .openai_tools import Toolbox

MOST = 20
"""Items that one request may add (API reference)."""

_Metadata = Annotated[
    dict[Annotated[str, msgspec.Meta(max_length=64)], Annotated[str, msgspec.Meta(max_length=512)]],
    msgspec.Meta(max_length=16),
]


class Body(msgspec.Struct):
    """What creates, changes or adds to a conversation."""

    items: list[msgspec.Raw] | None = None
    metadata: _Metadata | None = None


_decode = reader(Body)


def parse(body: bytes, ids: str) -> tuple[list[tuple[str, bytes]], dict[str, str]]:
    """Items, each with an id, and metadata; `ids` is what the ids of items without one begin with.

    Raises GateError (invalid_request) naming the field at fault.
    """
    try:
        read = _decode(body or b"{}")
        given = [bytes(item) for item in read.items or ()]
        if len(given) > MOST:
            raise invalid(f"At most {MOST} items can be added at once.", "items")
        messages(given, Toolbox(), "items")  # what cannot be read back is refused now
        items = [identified(item, f"{ids}{index:04x}") for index, item in enumerate(given)]
    except UNREADABLE as error:
        raise unreadable(error) from error
    return items, read.metadata or {}


def render(record: ConversationRecord) -> dict[str, Any]:
    """A conversation without its items."""
    return {
        "id": record.id,
        "object": "conversation",
        "created_at": record.created,
        "metadata": record.metadata,
    }


def render_deleted(id: str) -> dict[str, Any]:
    """That it is gone."""
    return {"id": id, "object": "conversation.deleted", "deleted": True}
