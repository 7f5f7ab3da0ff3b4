"""The visible list of routes.

A handler is short because everything else has a place: who may ask is the guard's, what the
words mean a front's, where they go the gate's, how they leave `reply`'s.
"""

from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from .approvals import approvals, decide
from .chat import chat
from .guard import Policy
from .models import health, model, models, ready

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
            Endpoint("GET", f"{base}/approvals", approvals, Policy("approvals")),
            Endpoint("POST", f"{base}/approvals/{{id}}", decide, Policy("approval", body="json", limit=1024)),
        ]
    return rows
