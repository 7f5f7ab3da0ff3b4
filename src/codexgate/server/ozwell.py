"""`POST /ozwell/v1/responses`: every model in the OzwellAI reference server's dialect."""

import secrets
import time
from functools import partial

import msgspec
from aiohttp import web

from ..events import Event
from ..flat import Flat
from ..fronts import ozwell_responses
from . import reply
from .context import CORE, caller, note_route, retrieval
from .guard import BODY, refuse, reply_json


async def respond(request: web.Request) -> web.StreamResponse:
    """One text answered by one text, streamed or whole."""
    gate = request.app[CORE].gate
    asked = ozwell_responses.parse(request[BODY])
    id = f"resp-{secrets.token_hex(12)}"
    wanted = retrieval(request, None)
    route = await gate.route(
        msgspec.structs.replace(asked.request, caller=caller(request), retrieval=wanted, id=id)
    )
    headers = note_route(request, route, asked.unknown)
    meta = ozwell_responses.Meta(id, int(time.time()), asked.request.model or route.model.id)
    flat = Flat()  # the dialect has no place for what an agent does beside its answer
    if asked.stream:
        encode = partial(_encode, flat, ozwell_responses.Encoder(meta))
        return await reply.stream(request, gate.stream(route), encode, headers)
    answer = await reply.whole(request, gate.stream(route), flat.feed)
    if answer.fault is not None:
        return refuse(request, answer.fault)
    return reply_json(ozwell_responses.render(answer, meta), 200, headers)


def _encode(flat: Flat, encoder: ozwell_responses.Encoder, batch: list[Event]) -> bytes:
    return b"".join([encoder.feed(one) for event in batch for one in flat.feed(event)])
