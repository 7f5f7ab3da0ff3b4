"""`POST /v1/chat/completions`."""

import asyncio
import secrets
import time
from functools import partial

import msgspec
from aiohttp import web

from ..errors import invalid
from ..events import Event
from ..flat import Flat
from ..fronts import openai_chat, openai_chat_request
from ..ports import Route
from . import reply
from .context import CORE, REASONING, activity, caller, chat_id, note_route
from .guard import BODY, refuse, reply_json


async def chat(request: web.Request) -> web.StreamResponse:
    """A chat, streamed or whole."""
    gate = request.app[CORE].gate
    asked = openai_chat_request.parse(request[BODY])
    chat = chat_id(request)
    meta = openai_chat.Meta(
        id=f"chatcmpl-{secrets.token_hex(12)}",
        created=int(time.time()),
        model=asked.request.model,
        reasoning=request.app[REASONING],
    )
    route = await gate.route(
        msgspec.structs.replace(asked.request, chat=chat, caller=caller(request), id=meta.id)
    )
    headers = note_route(request, route, asked.unknown)
    if asked.choices > 1:
        _check_choices(asked, route)
    if not meta.model:
        meta = msgspec.structs.replace(meta, model=route.model.id)
    if asked.stream:
        encoder = openai_chat.Encoder(meta, include_usage=asked.include_usage)
        flat = Flat(activity(request, chat), include_plan=asked.include_plan)
        return await reply.stream(request, gate.stream(route), partial(_encode, flat, encoder), headers)
    flats = [Flat(activity(request, chat), include_plan=asked.include_plan) for _ in range(asked.choices)]
    replies = await asyncio.gather(*(reply.whole(request, gate.stream(route), flat.feed) for flat in flats))
    for answer in replies:
        if answer.fault is not None:
            return refuse(request, answer.fault)
    return reply_json(openai_chat.render(replies, meta), 200, headers)


def _encode(flat: Flat, encoder: openai_chat.Encoder, batch: list[Event]) -> bytes:
    return b"".join([encoder.feed(one) for event in batch for one in flat.feed(event)])


def _check_choices(asked: openai_chat_request.Parsed, route: Route) -> None:
    if asked.stream:
        raise invalid("`n` > 1 cannot be streamed; ask without `stream`.", "n")
    if "n" not in route.backend.honours:
        raise invalid(f"{route.backend.name} gives one answer at a time.", "n", advice="Ask again for more.")
