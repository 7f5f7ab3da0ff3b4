"""What the gate says of itself: its description, the same for people, a first page, its counts.

Pages need no network, no script and no cookie, and tell the browser so. What a page may show
depends on the key: with one set, only who sends it sees more than the name.
"""

import asyncio
import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from aiohttp import web

from .. import __version__
from ..connect import clients
from . import html
from .context import CHATS, CORE
from .guard import METRICS, POLICIES, RULES, Policy, reply_json
from .metrics import CONTENT_TYPE, Labels, expose, gauge
from .reply import STREAMS

Routes = tuple[tuple[tuple[str, str], Policy], ...]


async def openapi(request: web.Request) -> web.Response:
    """`GET /openapi.json`."""
    return reply_json(await asyncio.to_thread(_description, *_surface(request)))


async def docs(request: web.Request) -> web.Response:
    """`GET /docs`."""
    body = await asyncio.to_thread(lambda: html.docs(_url(request), _description(*_surface(request))))
    return _page("codexgate: the API", body)


async def index(request: web.Request) -> web.Response:
    """`GET /`; with a key set, who does not send it learns nothing about this machine."""
    if not request.app[RULES].allows_key(request.headers.get("Authorization", "").encode("utf-8", "replace")):
        return _page("codexgate", html.front(__version__))
    gate, keyed = request.app[CORE].gate, bool(request.app[RULES].key)
    health, models = await asyncio.gather(gate.health(), gate.names())
    told = clients.shortly(_url(request), models, gate.default_model, needs_key=keyed)
    return _page("codexgate", html.index(_url(request), __version__, health, models, told))


async def metrics(request: web.Request) -> web.Response:
    """`GET /metrics`."""
    health = await request.app[CORE].gate.health()
    up: dict[Labels, float] = {(("backend", name),): seen.state == "ready" for name, seen in health.items()}
    now = [
        gauge("codexgate_info", "The version that runs.", {(("version", __version__),): 1}),
        gauge("codexgate_streams_open", "Answers that are being streamed.", {(): len(request.app[STREAMS])}),
        gauge("codexgate_backend_up", "Whether a backend can answer.", up),
    ]
    text = expose([*now, *request.app[METRICS].families()])
    return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})


def _surface(request: web.Request) -> tuple[Routes, tuple[str, ...], bool]:
    app = request.app
    return tuple(app[POLICIES].items()), app[CHATS].headers, bool(app[RULES].key)


@cache
def _description(routes: Routes, chats: tuple[str, ...], keyed: bool) -> dict[str, Any]:
    from .openapi import describe  # nothing that every start should pay for

    return describe(dict(routes), chats, keyed)


def _url(request: web.Request) -> str:
    """As the caller wrote it; the guard has let in no other Host than ours."""
    return f"http://{request.host}"


def _page(title: str, body: str) -> web.Response:
    style, policy = _style()
    headers = {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
    return web.Response(text=html.page(title, style, body), content_type="text/html", headers=headers)


@cache
def _style() -> tuple[str, str]:
    """The style sheet, and the policy that lets it in and nothing else."""
    style = files(__package__).joinpath("page.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    nothing = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return style, f"{nothing}; style-src 'sha256-{digest}'"
