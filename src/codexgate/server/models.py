"""Models and health."""

from aiohttp import web

from .. import __version__
from ..fronts import openai_models
from .context import CORE
from .guard import reply_json


async def health(_: web.Request) -> web.Response:
    """The process lives."""
    return reply_json({"status": "ok", "version": __version__})


async def ready(request: web.Request) -> web.Response:
    """Whether any backend can answer; 503 when none can."""
    found = await request.app[CORE].gate.health()
    states = {name: {"state": seen.state, "summary": seen.summary} for name, seen in found.items()}
    well = any(seen.state == "ready" for seen in found.values())
    return reply_json({"status": "ready" if well else "not ready", "backends": states}, 200 if well else 503)


async def models(request: web.Request) -> web.Response:
    """`GET /v1/models`."""
    return reply_json(openai_models.render_list(await request.app[CORE].gate.names()))


async def model(request: web.Request) -> web.Response:
    """`GET /v1/models/{id}`; ids may hold `:` and `/`."""
    id = request.match_info["id"]
    return reply_json(openai_models.render(await request.app[CORE].gate.model(id), id))
