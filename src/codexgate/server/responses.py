"""`/v1/responses`."""

import asyncio
import re
from typing import Any

import msgspec
from aiohttp import web

from ..errors import invalid
from ..events import Event
from ..fronts import openai_list, openai_responses_request
from ..responses import Caller, Generation, Responses
from ..stages.usage import estimate
from ..told import Follower
from . import reply
from .context import CORE, activity, caller, chat_id, note_route, retrieval, session
from .guard import BODY, SLOTS, refuse, reply_json


async def create(request: web.Request) -> web.StreamResponse:
    """`POST /v1/responses`: streamed, whole, or in the background."""
    responses = _responses(request)
    asked = openai_responses_request.parse(request[BODY])
    generation = await responses.open(asked, _caller(request))
    headers = _headers(request, generation)
    if asked.background:
        slots = request.app[SLOTS]
        await responses.start(generation, slots)
        if asked.stream:
            follower = Follower(generation.told)
            return await reply.stream(request, follower.batches(), follower.take, headers)
        return reply_json(generation.encoder.response(), 200, headers)
    if asked.stream:
        return await reply.stream(request, generation.batches(), generation.take, headers)
    answer = await reply.whole(request, generation.batches(), _as_it_is)
    if answer.fault is not None:
        return refuse(request, answer.fault)
    return reply_json(generation.encoder.response(), 200, headers)


async def retrieve(request: web.Request) -> web.StreamResponse:
    """`GET /v1/responses/{id}`; `?stream=true&starting_after=N` follows one in the background."""
    responses, id, owner = _responses(request), request.match_info["id"], caller(request)
    after = request.query.get("starting_after", "-1")
    if not re.fullmatch(r"-1|[0-9]{1,9}", after):
        raise invalid("`starting_after` is a number of at most nine digits.", "starting_after")
    if request.query.get("stream", "false").lower() not in ("true", "1"):
        return _json(await responses.load(id, owner))
    follower = await responses.follow(id, owner, int(after))
    return await reply.stream(request, follower.batches(), follower.take, {})


async def delete(request: web.Request) -> web.Response:
    """`DELETE /v1/responses/{id}`."""
    id = request.match_info["id"]
    await _responses(request).delete(id, caller(request))
    return reply_json({"id": id, "object": "response", "deleted": True})


async def cancel(request: web.Request) -> web.Response:
    """`POST /v1/responses/{id}/cancel`."""
    return _json(await _responses(request).cancel(request.match_info["id"], caller(request)))


async def input_items(request: web.Request) -> web.Response:
    """`GET /v1/responses/{id}/input_items`."""
    items = await _responses(request).input_items(request.match_info["id"], caller(request))
    entries = [(msgspec.json.decode(item)["id"], msgspec.Raw(item)) for item in items]
    return reply_json(openai_list.page(entries, request.query))


async def input_tokens(request: web.Request) -> web.Response:
    """`POST /v1/responses/input_tokens`: how many tokens a request would be, as far as the gate can tell."""
    responses = _responses(request)
    asked = openai_responses_request.parse(request[BODY])
    read = await responses.read(asked, caller(request))
    usage = await asyncio.to_thread(estimate, read.request, ())
    return reply_json({"object": "response.input_tokens", "input_tokens": usage.prompt})


def _responses(request: web.Request) -> Responses:
    responses = request.app[CORE].responses
    assert responses is not None
    return responses


def _caller(request: web.Request) -> Caller:
    chat = chat_id(request)
    return Caller(
        owner=caller(request),
        chat=chat,
        session=session(request, ""),
        retrieval=retrieval(request, None),
        activity=activity(request, chat),
    )


def _headers(request: web.Request, generation: Generation) -> dict[str, str]:
    return note_route(request, generation.route, (*generation.left_out, *generation.asked.unknown))


def _as_it_is(event: Event) -> list[Event]:
    return [event]


def _json(body: bytes) -> web.Response:
    value: Any = msgspec.Raw(body)
    return reply_json(value)
