"""`/v1/conversations`: lists of items that responses read and add to."""

import secrets
import time

import msgspec
from aiohttp import web

from ..errors import Fault, GateError
from ..fronts import openai_conversations, openai_list
from ..ports import ConversationStore
from ..records import ConversationRecord, Item
from .context import CORE, caller
from .guard import BODY, reply_json


async def create(request: web.Request) -> web.Response:
    """`POST /v1/conversations`."""
    id = f"conv_{secrets.token_hex(16)}"
    items, metadata = openai_conversations.parse(request[BODY], secrets.token_hex(16))
    record = ConversationRecord(id, caller(request), int(time.time()), metadata)
    await _store(request).create_conversation(record, [Item(*item) for item in items])
    return reply_json(openai_conversations.render(record))


async def retrieve(request: web.Request) -> web.Response:
    """`GET /v1/conversations/{id}`."""
    record = await _store(request).load_conversation(_id(request), caller(request))
    return reply_json(openai_conversations.render(record))


async def update(request: web.Request) -> web.Response:
    """`POST /v1/conversations/{id}`: other metadata."""
    _, metadata = openai_conversations.parse(request[BODY], "")
    record = await _store(request).update_conversation(_id(request), caller(request), metadata)
    return reply_json(openai_conversations.render(record))


async def delete(request: web.Request) -> web.Response:
    """`DELETE /v1/conversations/{id}`, with its items."""
    await _store(request).delete_conversation(_id(request), caller(request))
    return reply_json(openai_conversations.render_deleted(_id(request)))


async def items(request: web.Request) -> web.Response:
    """`GET /v1/conversations/{id}/items`."""
    kept = await _store(request).items(_id(request), caller(request))
    return reply_json(openai_list.page([(item.id, msgspec.Raw(item.body)) for item in kept], request.query))


async def add_items(request: web.Request) -> web.Response:
    """`POST /v1/conversations/{id}/items`."""
    added, _ = openai_conversations.parse(request[BODY], secrets.token_hex(16))
    await _store(request).add_items(_id(request), caller(request), [Item(*item) for item in added])
    entries = [(id, msgspec.Raw(body)) for id, body in added]
    return reply_json(openai_list.page(entries, {"order": "asc", "limit": "100"}))


async def item(request: web.Request) -> web.Response:
    """`GET /v1/conversations/{id}/items/{item}`."""
    wanted = request.match_info["item"]
    for kept in await _store(request).items(_id(request), caller(request)):
        if kept.id == wanted:
            return reply_json(msgspec.Raw(kept.body))
    raise GateError(Fault("not_found", f"There is no item '{wanted}'.", code="item_not_found"))


async def delete_item(request: web.Request) -> web.Response:
    """`DELETE /v1/conversations/{id}/items/{item}`; returns the conversation, as OpenAI does."""
    store, owner = _store(request), caller(request)
    await store.delete_item(_id(request), owner, request.match_info["item"])
    return reply_json(openai_conversations.render(await store.load_conversation(_id(request), owner)))


def _id(request: web.Request) -> str:
    return request.match_info["id"]


def _store(request: web.Request) -> ConversationStore:
    responses = request.app[CORE].responses
    assert responses is not None
    return responses.conversations
