"""What a response goes on with: the chain of `previous_response_id`, or the items of a conversation.

Either becomes the history of a chat. It knows stores by their ports and items by the front that
reads and writes them.
"""

from collections.abc import Awaitable, Sequence
from typing import TypeVar

import msgspec

from .errors import GateError, invalid
from .fronts import openai_responses, openai_responses_request
from .fronts.openai_responses_request import Asked
from .ports import ConversationStore, ResponseStore
from .records import ResponseRecord

T = TypeVar("T")

LIVE = ("queued", "in_progress")
"""The statuses of a response that is not over."""
MOST = 100
"""Responses whose items one request may refer to; each is read as a whole."""


class _Kept(msgspec.Struct):
    """What is read of a response object that is kept."""

    output: list[msgspec.Raw] = []


_output = msgspec.json.Decoder(_Kept).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Given(msgspec.Struct):
    """What a request goes on with."""

    history: list[bytes]
    """Items, oldest first."""
    items: list[bytes]
    """The request's own."""
    chat: str = ""
    """What a backend that remembers chats may know it by."""


async def given(asked: Asked, owner: str, store: ResponseStore, conversations: ConversationStore) -> Given:
    """What the request goes on with, of what is the owner's. Raises GateError naming the field at fault."""
    items = await _resolved(asked, owner, store)
    if asked.previous:
        records = await _found(store.history(asked.previous, owner), "previous_response_id")
        if records[-1].status in LIVE:
            message = f"The response '{asked.previous}' is not finished."
            raise invalid(message, "previous_response_id", "response_not_finished")
        return Given(said(records), items, records[0].id)
    if asked.conversation:
        kept = await _found(conversations.items(asked.conversation, owner), "conversation")
        return Given([item.body for item in kept], items, asked.conversation)
    return Given([], items)


async def _found(kept: Awaitable[T], param: str) -> T:
    """`kept`; that it is not there is the fault of the field `param`."""
    try:
        return await kept
    except GateError as error:
        if error.fault.kind != "not_found":
            raise
        raise GateError(msgspec.structs.replace(error.fault, param=param)) from None


async def _resolved(asked: Asked, owner: str, store: ResponseStore) -> list[bytes]:
    """The input items, those that only refer to kept ones replaced by them."""
    referred = openai_responses_request.references(asked)
    owners = {openai_responses.owner(item) for item in referred if item}
    if len(owners) > MOST:
        message = f"The input refers to items of {len(owners)} responses; at most {MOST} are read."
        raise invalid(message, "input", advice="Go on with previous_response_id, or send the items whole.")
    found: dict[str, bytes] = {}
    for id in owners:
        try:
            record = await store.load(id, owner)
        except GateError as error:
            if error.fault.kind != "not_found":
                raise
            continue  # told below, by the item that is missed
        found |= {_id(item): item for item in said([record])}
    items = []
    for index, (item, wanted) in enumerate(zip(asked.items, referred, strict=True)):
        if wanted and wanted not in found:
            raise invalid(f"The item '{wanted}' is not kept here.", f"input[{index}]", "item_not_found")
        items.append(found[wanted] if wanted else item)
    return items


def said(records: Sequence[ResponseRecord]) -> list[bytes]:
    """What was asked and answered, oldest first."""
    return [
        bytes(item) for record in records for item in (*_items(record.input), *_output(record.body).output)
    ]


def own(record: ResponseRecord) -> list[bytes]:
    """The items that came with the request itself."""
    return [*map(bytes, _items(record.input))]


def _id(item: bytes) -> str:
    return str(msgspec.json.decode(item).get("id", ""))
