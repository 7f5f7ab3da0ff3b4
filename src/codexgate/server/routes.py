"""The visible list of routes.

A handler is short because everything else has a place: who may ask is the guard's, what the
words mean a front's, where they go the gate's, how they leave `reply`'s.
"""

from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
from aiohttp import web

from . import conversations, files, mcp, ollama, pages, responses
from .approvals import approvals, decide
from .chat import chat
from .completions import completions
from .embeddings import LIMIT as EMBEDDINGS_LIMIT
from .embeddings import embeddings
from .guard import Policy
from .models import health, model, models, ready
from .ozwell import respond

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
        Endpoint("GET", "/", pages.index, Policy("index", open=True)),
        Endpoint("GET", "/docs", pages.docs, Policy("docs", open=True)),
        Endpoint("GET", "/openapi.json", pages.openapi, Policy("openapi", open=True)),
        Endpoint("GET", "/metrics", pages.metrics, Policy("metrics")),
    ]
    for base in ("/v1", "/openai/v1", "/ozwell/v1"):
        rows += [
            Endpoint("GET", f"{base}/models", models, Policy("models")),
            Endpoint("GET", f"{base}/models/{{id:.+}}", model, Policy("model")),
            Endpoint("POST", f"{base}/chat/completions", chat, Policy("chat", body="json", heavy=True)),
            Endpoint(
                "POST", f"{base}/completions", completions, Policy("completion", body="json", heavy=True)
            ),
            Endpoint(
                "POST",
                f"{base}/embeddings",
                embeddings,
                Policy("embedding", body="json", limit=EMBEDDINGS_LIMIT, heavy=True),
            ),
            Endpoint("GET", f"{base}/approvals", approvals, Policy("approvals")),
            Endpoint(
                "POST", f"{base}/approvals/{{id}}", decide, Policy("approval", body="json", limit=64 * 1024)
            ),
        ]
    rows += [*_files("/v1"), *_files("/openai/v1"), *_files("/ozwell/v1", purpose="assistants")]
    rows += [*_responses("/v1"), *_responses("/openai/v1")]
    rows += [
        Endpoint("POST", "/ozwell/v1/responses", respond, Policy("ozwell", body="json", heavy=True)),
    ]
    return rows + _mcp() + _ollama()


def _mcp() -> list[Endpoint]:
    """The memory. Not heavy: a turn that holds a model calls it, and would wait for its own place."""
    message = Policy("mcp", body="json", limit=mcp.LIMIT, inner=True)
    return [
        Endpoint("POST", "/mcp", mcp.receive, message),
        Endpoint("GET", "/mcp", mcp.listen, Policy("mcp", inner=True)),
        Endpoint("DELETE", "/mcp", mcp.leave, Policy("mcp", inner=True)),
    ]


def _ollama() -> list[Endpoint]:
    """Ollama's API; its `HEAD /` is that of our first page."""
    holds, known = Policy("chat", body="json", heavy=True), Policy("models")
    embeds = Policy("embedding", body="json", limit=EMBEDDINGS_LIMIT, heavy=True)
    about = Policy("models", body="json", limit=ollama.LIMIT)
    return [
        Endpoint("GET", "/api/version", ollama.version, known),
        Endpoint("GET", "/api/tags", ollama.tags, known),
        Endpoint("GET", "/api/ps", ollama.ps, known),
        Endpoint("POST", "/api/show", ollama.show, about),
        Endpoint("POST", "/api/chat", ollama.chat, holds),
        Endpoint("POST", "/api/generate", ollama.generate, holds),
        Endpoint("POST", "/api/embed", ollama.embed, embeds),
        Endpoint("POST", "/api/embeddings", ollama.embeddings, embeds),
        Endpoint("POST", "/api/pull", ollama.pull, about),
        Endpoint("POST", "/api/push", ollama.make, about),
        Endpoint("POST", "/api/create", ollama.make, about),
        Endpoint("POST", "/api/copy", ollama.copy, about),
        Endpoint("DELETE", "/api/delete", ollama.delete, about),
        Endpoint("HEAD", "/api/blobs/{digest}", ollama.has_blob, known),
        Endpoint("POST", "/api/blobs/{digest}", ollama.add_blob, Policy("blob")),
    ]


def _files(base: str, purpose: str = "user_data") -> list[Endpoint]:
    """Files; `purpose`: of those that come without one, which OpenAI would refuse."""
    upload = partial(files.upload, purpose=purpose)
    one = f"{base}/files/{{id}}"
    return [
        Endpoint("POST", f"{base}/files", upload, Policy("upload", body="form")),
        Endpoint("GET", f"{base}/files", files.listing, Policy("files")),
        Endpoint("GET", one, files.retrieve, Policy("file")),
        Endpoint("DELETE", one, files.delete, Policy("file")),
        Endpoint("GET", f"{one}/content", files.content, Policy("file")),
    ]


def _responses(base: str) -> list[Endpoint]:
    """Responses and conversations, which the OzwellAI dialect has not."""
    # `input_tokens` is no response: that route has other methods, and says so in its Allow.
    one, talk = f"{base}/responses/{{id:(?!input_tokens$)[^/]+}}", f"{base}/conversations"
    item = f"{talk}/{{id}}/items/{{item}}"
    made, kept = Policy("response", body="json", heavy=True), Policy("response")
    talked = Policy("conversation")
    talking = Policy("conversation", body="json")
    return [
        Endpoint("POST", f"{base}/responses", responses.create, made),
        Endpoint(
            "POST", f"{base}/responses/input_tokens", responses.input_tokens, Policy("response", body="json")
        ),
        Endpoint("GET", one, responses.retrieve, kept),
        Endpoint("DELETE", one, responses.delete, kept),
        Endpoint("POST", f"{one}/cancel", responses.cancel, kept),
        Endpoint("GET", f"{one}/input_items", responses.input_items, kept),
        Endpoint("POST", talk, conversations.create, talking),
        Endpoint("GET", f"{talk}/{{id}}", conversations.retrieve, talked),
        Endpoint("POST", f"{talk}/{{id}}", conversations.update, talking),
        Endpoint("DELETE", f"{talk}/{{id}}", conversations.delete, talked),
        Endpoint("GET", f"{talk}/{{id}}/items", conversations.items, talked),
        Endpoint("POST", f"{talk}/{{id}}/items", conversations.add_items, talking),
        Endpoint("GET", item, conversations.item, talked),
        Endpoint("DELETE", item, conversations.delete_item, talked),
    ]
