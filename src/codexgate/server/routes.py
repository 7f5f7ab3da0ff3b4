"""The visible list of routes and their handlers: parse, ask the gate, reply.

A handler is short because everything else has a place: who may ask is the guard's, what the
words mean a front's, where they go the gate's, how they leave `reply`'s.
"""

import asyncio
import hashlib
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Literal

import msgspec
from aiohttp import web

from .. import __version__
from ..errors import invalid
from ..events import Event
from ..flat import Activity, Flat
from ..fronts import openai_chat, openai_chat_request, openai_models
from ..fronts.openai_error import UNREADABLE, unreadable
from ..gate import Gate, Route
from ..records import PendingApproval
from . import reply
from .guard import BODY, TRACE, Policy, refuse, reply_json

GATE = web.AppKey("gate", Gate)
REASONING: web.AppKey[openai_chat.ReasoningField] = web.AppKey("reasoning", str)  # type: ignore[arg-type]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Chats(msgspec.Struct, frozen=True):
    """How chats are told apart and shown."""

    headers: tuple[str, ...] = ("X-OpenWebUI-Chat-Id", "X-Session-Id")
    """Request headers that name the chat; the first that is there counts."""
    activity: Activity | Literal["auto"] = "auto"


CHATS = web.AppKey("chats", Chats)
_CHAT_ID = re.compile(r"[\x21-\x7e]{1,200}")


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
            Endpoint("GET", f"{base}/approvals", approvals, Policy("approvals")),
            Endpoint("POST", f"{base}/approvals/{{id}}", decide, Policy("approval", body="json", limit=1024)),
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


async def approvals(request: web.Request) -> web.Response:
    """`GET /v1/approvals`: what Codex waits for somebody to allow."""
    waiting = request.app[GATE].approvals()
    return reply_json({"object": "list", "data": [{"object": "approval", **_plain(one)} for one in waiting]})


async def decide(request: web.Request) -> web.Response:
    """`POST /v1/approvals/{id}` with `{"decision": "accept" | "decline"}`."""
    try:
        decision = msgspec.json.decode(request[BODY], type=_Decision).decision
    except UNREADABLE as error:
        raise unreadable(error) from error
    id = request.match_info["id"]
    request.app[GATE].decide(id, decision == "accept")
    return reply_json({"id": id, "object": "approval", "decision": decision})


class _Decision(msgspec.Struct):
    decision: Literal["accept", "decline"]


def _plain(waiting: PendingApproval) -> dict[str, Any]:
    return {name: getattr(waiting, name) for name in waiting.__struct_fields__}


async def chat(request: web.Request) -> web.StreamResponse:
    """`POST /v1/chat/completions`."""
    gate = request.app[GATE]
    asked = openai_chat_request.parse(request[BODY])
    chat, caller = _chat_id(request), _caller(request)
    route = await gate.route(msgspec.structs.replace(asked.request, chat=chat, caller=caller))
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
        flat = Flat(_activity(request, chat), include_plan=asked.include_plan)
        return await reply.stream(request, gate.stream(route), partial(_encode, flat, encoder), headers)
    flats = [Flat(_activity(request, chat), include_plan=asked.include_plan) for _ in range(asked.choices)]
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


def _chat_id(request: web.Request) -> str:
    """The chat that the request goes on with, from the first header that tells one."""
    for name in request.app[CHATS].headers:
        if id := request.headers.get(name, ""):
            if not _CHAT_ID.fullmatch(id):
                raise invalid(f"`{name}` is at most 200 printable characters without blanks.", name)
            return id
    return ""


def _caller(request: web.Request) -> str:
    """Who asks, told apart by the key that was sent; without one all are alike."""
    return hashlib.sha256(
        request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
    ).hexdigest()


def _activity(request: web.Request, chat: str) -> Activity:
    """Where an agent's activity is shown: in the text to chat programs, beside it to others."""
    setting = request.app[CHATS].activity
    match request.headers.get("X-Codexgate-Activity", setting):
        case "content" | "reasoning" | "off" as asked:
            return asked
        case "auto":
            return "content" if chat or request.path.startswith("/openai/") else "reasoning"
        case other:
            raise invalid(f"X-Codexgate-Activity is content, reasoning or off, not '{other[:20]}'.")


def _trace(request: web.Request, route: Route, unknown: tuple[str, ...]) -> None:
    trace = request[TRACE]
    trace.model, trace.backend, trace.unknown = route.model.id, route.backend.name, unknown
