"""`POST /v1/chat/completions`."""

import secrets
import time
from functools import partial

import msgspec
from aiohttp import web

from ..events import Event
from ..flat import Flat
from ..fronts import openai_chat, openai_chat_request
from ..ports import Frames, Route
from . import choices, reply
from .choices import check_choices
from .context import CORE, REASONING, activity, caller, chat_id, note_route, retrieval, session
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
        msgspec.structs.replace(
            asked.request,
            chat=chat,
            caller=caller(request),
            id=meta.id,
            session=session(request, asked.request.session),
            retrieval=retrieval(request, asked.request.retrieval),
        )
    )
    headers = note_route(request, route, asked.unknown)
    check_choices(route, asked.choices)
    if not meta.model:
        meta = msgspec.structs.replace(meta, model=route.model.id)
    flats = [Flat(activity(request, chat), include_plan=asked.include_plan) for _ in range(asked.choices)]
    if asked.choices > 1:
        return await _several(request, asked, route, flats, meta, headers)
    flat = flats[0]
    if asked.stream:
        encoder = openai_chat.Encoder(meta, include_usage=asked.include_usage)
        return await reply.stream(request, gate.stream(route), partial(_encode, flat, encoder), headers)
    answer = await reply.whole(request, gate.stream(route), flat.feed)
    if answer.fault is not None:
        return refuse(request, answer.fault)
    return reply_json(openai_chat.render([answer], meta), 200, headers)


async def _several(
    request: web.Request,
    asked: openai_chat_request.Parsed,
    route: Route,
    flats: list[Flat],
    meta: openai_chat.Meta,
    headers: dict[str, str],
) -> web.StreamResponse:
    """The same question asked as often as answers are wanted."""
    count = asked.choices
    answers = [request.app[CORE].gate.stream(route) for _ in flats]
    if asked.stream:
        writer = openai_chat.Choices(meta, count, include_usage=asked.include_usage)
        return await choices.stream(request, answers, flats, writer, headers, each=count)
    replies = await choices.whole(request, answers, flats, each=count)
    return reply_json(openai_chat.render(replies, meta), 200, headers)


def _encode(flat: Flat, encoder: openai_chat.Encoder, batch: list[Event]) -> bytes:
    flattened = [one for event in batch for one in flat.feed(event)]
    if isinstance(batch, Frames) and flattened == batch and (raw := encoder.pass_on(batch)):
        return raw  # flattening changed nothing
    return b"".join([encoder.feed(one) for one in flattened])
