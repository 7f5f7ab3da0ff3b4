"""`/api/*`: Ollama's API for the models of every backend.

What only an Ollama can do (copying, making and pushing models) is passed on to the one behind the
gate. Source: Ollama, server/routes.go; what its clients make of it, facts/codex.md section 2.
"""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager

import msgspec
from aiohttp import web

from ..errors import Fault, GateError, invalid
from ..events import Event
from ..flat import Flat
from ..fronts import ollama_api, ollama_api_request
from ..fronts.ollama_api import NDJSON, Clock, Encoder, Watch
from ..gate import Gate
from ..ports import Installer, Relay, Route
from ..records import Embeddings, Progress
from . import guard, reply
from .context import CORE, activity, caller, chat_id, note_route, retrieval, session
from .embeddings import embed as embed_texts
from .form import PACE
from .guard import BODY, TRACE, refuse, reply_json

LIMIT = 4 * 1024 * 1024
"""Bytes of a body that is about a model: what makes one may hold its licence."""
_DIGEST = re.compile(r"sha256[:-][0-9a-f]{64}")
_BLOBS = ("application/json", "application/octet-stream")
"""What Ollama's clients call a file; no page of another site can send either without asking."""


def _text(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


_CLOCK = Clock(time.time_ns, _text)


async def version(request: web.Request) -> web.Response:
    """`GET /api/version`."""
    backends = request.app[CORE].gate.backends
    real = next((backend for backend in backends if isinstance(backend, Relay)), None)
    return reply_json(ollama_api.render_version((await real.probe()).version if real else ""))


async def tags(request: web.Request) -> web.Response:
    """`GET /api/tags`."""
    return reply_json(ollama_api.render_tags(await request.app[CORE].gate.names(aliases=True), _CLOCK))


async def ps(request: web.Request) -> web.Response:
    """`GET /api/ps`."""
    return reply_json(ollama_api.render_ps(await request.app[CORE].gate.names()))


async def show(request: web.Request) -> web.Response:
    """`POST /api/show`."""
    name = ollama_api_request.parse_named(request[BODY]).model
    with _reworded(name):
        model = await request.app[CORE].gate.model(name)
    return reply_json(ollama_api.render_show(name, model, _CLOCK))


async def chat(request: web.Request) -> web.StreamResponse:
    """`POST /api/chat`."""
    return await _answer(request, ollama_api_request.parse_chat(request[BODY]), chat=True)


async def generate(request: web.Request) -> web.StreamResponse:
    """`POST /api/generate`."""
    return await _answer(request, ollama_api_request.parse_generate(request[BODY]), chat=False)


async def _answer(
    request: web.Request, asked: ollama_api_request.Parsed, *, chat: bool
) -> web.StreamResponse:
    gate, watch, name, known = request.app[CORE].gate, Watch(_CLOCK), asked.request.model, chat_id(request)
    with _reworded(name, "chat" if chat else "generate"):
        route = await gate.route(
            msgspec.structs.replace(
                asked.request,
                chat=known,
                caller=caller(request),
                session=session(request, ""),
                retrieval=retrieval(request, asked.request.retrieval),
            )
        )
    headers = note_route(request, route, asked.unknown)
    if not asked.request.messages:
        if isinstance(route.backend, Installer):
            await gate.warm(route.model, {**route.request.options, **asked.options})
        reason = "unload" if asked.unloads else "load"
        return reply_json(ollama_api.render_loaded(name, watch, reason, chat=chat), 200, headers)
    _check(route, name)
    route = _with_options(route, asked)
    flat = Flat(activity(request, known))
    if asked.stream:
        encoder = Encoder(name, watch, chat=chat)

        def encode(batch: list[Event]) -> bytes:
            return b"".join([encoder.feed(one) for event in batch for one in flat.feed(event)])

        return await reply.stream(request, gate.stream(route), encode, headers | NDJSON, encoder.nothing)

    def flatten(event: Event) -> list[Event]:
        watch.see(event)
        return flat.feed(event)

    answer = await reply.whole(request, gate.stream(route), flatten)
    if answer.fault is not None:
        return refuse(request, answer.fault)
    return reply_json(ollama_api.render(answer, name, watch, chat=chat), 200, headers)


def _with_options(route: Route, asked: ollama_api_request.Parsed) -> Route:
    """Ollama's own options are for Ollama's models; to others they would be strange fields."""
    if not isinstance(route.backend, Relay):
        return route
    options = {**route.request.options, **asked.options}
    return msgspec.structs.replace(route, request=msgspec.structs.replace(route.request, options=options))


def _check(route: Route, name: str) -> None:
    """Raises GateError for what the model cannot do, as far as that is known, as Ollama does."""
    asked = route.request
    if asked.effort not in ("", "none") and route.model.lacks("thinking"):
        raise invalid(f'"{name}" does not support thinking', "think")
    if asked.suffix and "suffix" not in route.backend.honours:
        raise invalid(f'"{name}" does not support insert', "suffix")


async def embed(request: web.Request) -> web.Response:
    """`POST /api/embed`."""
    watch = Watch(_CLOCK)
    asked = await asyncio.to_thread(ollama_api_request.parse_embed, request[BODY])
    made = await _embed(request, asked)
    body = await asyncio.to_thread(ollama_api.render_embed, made, asked.model, watch)
    return reply_json(msgspec.Raw(body))


async def embeddings(request: web.Request) -> web.Response:
    """`POST /api/embeddings`, the older route."""
    asked = await asyncio.to_thread(ollama_api_request.parse_embeddings, request[BODY])
    return reply_json(ollama_api.render_embedding(await _embed(request, asked)))


async def _embed(request: web.Request, asked: ollama_api_request.Embed) -> Embeddings:
    gate, trace = request.app[CORE].gate, request[TRACE]
    with _reworded(asked.model):
        model = await gate.model(asked.model)
        trace.model, trace.backend, trace.unknown = model.id, model.backend, asked.unknown
        if not asked.texts:
            return Embeddings(())
        return await embed_texts(gate, asked.model, asked.texts, asked.dimensions)


async def pull(request: web.Request) -> web.StreamResponse:
    """`POST /api/pull`. A failure is the last line, as it is Ollama's: Codex shows it."""
    asked, gate = ollama_api_request.parse_named(request[BODY]), request.app[CORE].gate
    last: dict[str, object] = {"status": "pulling manifest"}

    async def lines() -> AsyncGenerator[bytes]:
        try:
            async with aclosing(_news(gate, asked.model)) as news:
                async for each in news:
                    last.clear()
                    last.update(ollama_api.render_progress(each))
                    yield ollama_api.line(last)
        except GateError as error:
            request[TRACE].fault = error.fault
            yield _fail(error.fault)

    if asked.stream:
        return await reply.pass_on(request, lines(), _fail, NDJSON, lambda: ollama_api.line(last))
    async with aclosing(_news(gate, asked.model)) as news:
        async for each in news:
            last = ollama_api.render_progress(each)
    return reply_json(last)


async def _news(gate: Gate, name: str) -> AsyncGenerator[Progress]:
    """How the installation goes; for a model that is here no registry is asked. Raises GateError."""
    try:
        await gate.model(name)
    except GateError:
        pass
    else:
        yield Progress("success")
        return
    try:
        async with aclosing(gate.pull(name)) as news:
            async for each in news:
                yield each
    except GateError as error:
        advice = f"{error.fault.advice} {await gate.near(name)}".strip()
        raise GateError(msgspec.structs.replace(error.fault, advice=advice)) from None


async def delete(request: web.Request) -> web.Response:
    """`DELETE /api/delete`."""
    gate, name = request.app[CORE].gate, ollama_api_request.parse_named(request[BODY]).model
    if name in gate.aliases:
        raise invalid(f"`{name}` is only another name, out of the settings.", "model")
    with _reworded(name):
        await gate.remove(await gate.model(name))
    return web.Response()


async def copy(request: web.Request) -> web.Response:
    """`POST /api/copy`."""
    gate = request.app[CORE].gate
    source, destination = ollama_api_request.parse_copy(request[BODY])
    with _reworded(source):
        model = await gate.model(source)
    if not any(backend.name == model.backend and isinstance(backend, Relay) for backend in gate.backends):
        raise invalid(f"The models of {model.backend} cannot be copied.", "source")
    body = msgspec.json.encode({"source": model.id, "destination": destination})
    await _done(gate.relay("POST", "/api/copy", body))
    return web.Response()


async def make(request: web.Request) -> web.StreamResponse:
    """`POST /api/create` and `POST /api/push`, as they are."""
    asked, path = ollama_api_request.parse_named(request[BODY]), request.path
    headers = NDJSON if asked.stream else {"Content-Type": "application/json"}
    pieces = request.app[CORE].gate.relay("POST", path, request[BODY])
    return await reply.pass_on(request, pieces, _fail, headers, bytes)


async def has_blob(request: web.Request) -> web.Response:
    """`HEAD /api/blobs/{digest}`."""
    await _done(request.app[CORE].gate.relay("HEAD", _blob(request), b""))
    return web.Response()


async def add_blob(request: web.Request) -> web.Response:
    """`POST /api/blobs/{digest}`: a file, which may be larger than memory."""
    if request.headers.get("Content-Type") not in _BLOBS:
        advice = f"Send `Content-Type: {_BLOBS[1]}`."
        raise GateError(Fault("unsupported_media", "The body must be a file.", advice))
    async with aclosing(_content(request)) as content:
        await _done(request.app[CORE].gate.relay("POST", _blob(request), content))
    return web.Response(status=201)


def _blob(request: web.Request) -> str:
    digest = request.match_info["digest"]
    if not _DIGEST.fullmatch(digest):
        raise invalid("invalid digest format", "digest")
    return f"/api/blobs/{digest}"


async def _content(request: web.Request) -> AsyncGenerator[bytes]:
    """The body piece by piece, which has to come with some pace, as forms do."""
    loop = asyncio.get_running_loop()
    began, came = loop.time(), 0
    while True:
        try:
            async with asyncio.timeout_at(min(loop.time(), began + came / PACE) + guard.BODY_TIME):
                piece = await request.content.readany()
        except TimeoutError:
            raise invalid("The body came too slowly.") from None
        if not piece:
            return
        came += len(piece)
        yield piece


async def _done(answer: AsyncGenerator[bytes]) -> None:
    """Wait until it is done; what it says is nothing."""
    async with aclosing(answer):
        async for _ in answer:
            pass


def _fail(fault: Fault) -> bytes:
    return ollama_api.line(ollama_api.error(fault))


@contextmanager
def _reworded(model: str, verb: str = "chat") -> Iterator[None]:
    """Refusals in Ollama's own words."""
    try:
        yield
    except GateError as error:
        raise GateError(ollama_api.reworded(error.fault, model, verb)) from None
