"""The visible list of routes and their handlers: parse, ask the gate, reply.

A handler is short because everything else has a place: who may ask is the guard's, what the
words mean a front's, where they go the gate's, how they leave `reply`'s.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
from aiohttp import web

from .. import __version__
from ..errors import invalid
from ..events import Event
from ..flat import Activity, Flat
from ..fronts import openai_chat, openai_chat_request, openai_models
from ..gate import Gate, Route
from . import reply
from .guard import BODY, TRACE, Policy, refuse, reply_json

GATE = web.AppKey("gate", Gate)
REASONING: web.AppKey[openai_chat.ReasoningField] = web.AppKey("reasoning", str)  # type: ignore[arg-type]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Endpoint(msgspec.Struct, frozen=True):
    """One row of the surface."""

    method: str
    path: str
    handler: Handler
    policy: Policy


def endpoints() -> list[Endpoint]:
    """Every route of the gate."""
    rows = [
        Endpoint("GET", "/health", health, Policy("health", open=True)),
        Endpoint("GET", "/ready", ready, Policy("ready", open=True)),
    ]
    for base in ("/v1", "/openai/v1"):
        rows += [
            Endpoint("GET", f"{base}/models", models, Policy("models")),
            Endpoint("GET", f"{base}/models/{{id:.+}}", model, Policy("model")),
            Endpoint("POST", f"{base}/chat/completions", chat, Policy("chat", body="json", heavy=True)),
        ]
    return rows


async def health(_: web.Request) -> web.Response:
    """The process lives."""
    return reply_json({"status": "ok", "version": __version__})


async def ready(request: web.Request) -> web.Response:
    """Whether any backend can answer; 503 when none can."""
    found = await request.app[GATE].health()
    states = {name: {"state": seen.state, "summary": seen.summary} for name, seen in found.items()}
    well = any(seen.state == "ready" for seen in found.values())
    return reply_json({"status": "ready" if well else "not ready", "backends": states}, 200 if well else 503)


async def models(request: web.Request) -> web.Response:
    """`GET /v1/models`."""
    return reply_json(openai_models.render_list(await request.app[GATE].models()))


async def model(request: web.Request) -> web.Response:
    """`GET /v1/models/{id}`; ids may hold `:` and `/`."""
    id = request.match_info["id"]
    return reply_json(openai_models.render(await request.app[GATE].model(id), id))


async def chat(request: web.Request) -> web.StreamResponse:
    """`POST /v1/chat/completions`."""
    gate = request.app[GATE]
    asked = openai_chat_request.parse(request[BODY])
    route = await gate.route(asked.request)
    _trace(request, route, asked.unknown)
    headers = {"X-Codexgate-Ignored": ", ".join(route.ignored)} if route.ignored else {}
    if asked.choices > 1:
        _check_choices(asked, route)
    meta = openai_chat.Meta(
        id=f"chatcmpl-{secrets.token_hex(12)}",
        created=int(time.time()),
        model=asked.request.model or route.model.id,
        reasoning=request.app[REASONING],
    )
    if asked.stream:
        encoder = openai_chat.Encoder(meta, include_usage=asked.include_usage)
        flat = Flat(_activity(request))
        return await reply.stream(request, gate.stream(route), partial(_encode, flat, encoder), headers)
    flats = [Flat(_activity(request)) for _ in range(asked.choices)]
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


def _activity(request: web.Request) -> Activity:
    """Where an agent's activity is shown: in the text to chat programs, beside it to others."""
    match request.headers.get("X-Codexgate-Activity", ""):
        case "content" | "reasoning" | "off" as asked:
            return asked
        case "":
            return "content" if request.path.startswith("/openai/") else "reasoning"
        case other:
            raise invalid(f"X-Codexgate-Activity is content, reasoning or off, not '{other[:20]}'.")


def _trace(request: web.Request, route: Route, unknown: tuple[str, ...]) -> None:
    trace = request[TRACE]
    trace.model, trace.backend, trace.unknown = route.model.id, route.backend.name, unknown
