"""`POST /v1/completions`."""

import asyncio
import secrets
import time

import msgspec
from aiohttp import web

from ..errors import GateError, invalid
from ..flat import Flat
from ..fronts import openai_completions, openai_completions_request
from ..ports import Route
from ..tokens import decode
from . import choices
from .choices import check_choices
from .context import CORE, caller, note_route
from .guard import BODY, reply_json


async def completions(request: web.Request) -> web.StreamResponse:
    """Texts gone on with, streamed or whole."""
    gate = request.app[CORE].gate
    asked = openai_completions_request.parse(request[BODY])
    id = f"cmpl-{secrets.token_hex(12)}"
    texts = [await _text(prompt) for prompt in asked.prompts]
    asks = [
        msgspec.structs.replace(openai_completions_request.ask(asked, text), caller=caller(request), id=id)
        for text in texts
    ]
    routes = [await gate.route(ask) for ask in asks]
    _check(routes[0], asked.choices)
    headers = note_route(request, routes[0], asked.unknown)
    meta = openai_completions.Meta(
        id=id,
        created=int(time.time()),
        model=asked.request.model or routes[0].model.id,
        each=asked.choices,
        echo=tuple(texts) if asked.echo else (),
    )
    answers = [gate.stream(route) for route in routes for _ in range(asked.choices)]
    flats = [Flat() for _ in answers]
    if asked.stream:
        writer = openai_completions.Choices(meta, include_usage=asked.include_usage)
        return await choices.stream(request, answers, flats, writer, headers, each=asked.choices)
    replies = await choices.whole(request, answers, flats, each=asked.choices)
    return reply_json(openai_completions.render(replies, meta), 200, headers)


def _check(route: Route, count: int) -> None:
    check_choices(route, count)
    if route.request.suffix and "suffix" not in route.backend.honours:
        advice = "Leave `suffix` out, or take a model of a backend that inserts."
        raise invalid(f"{route.backend.name} cannot insert text before a suffix.", "suffix", advice=advice)


async def _text(prompt: str | tuple[int, ...]) -> str:
    if isinstance(prompt, str):
        return prompt
    try:
        return await asyncio.to_thread(decode, prompt, "cl100k_base")
    except GateError as error:
        raise GateError(msgspec.structs.replace(error.fault, param="prompt")) from None
