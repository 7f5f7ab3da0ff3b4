"""Who may come in, with what: one middleware before every handler.

Keyed on the matched route, never on the path as it was written; what no route claims is
refused. The order matters: who asks is checked before a byte of the body is read. Source:
DNS rebinding and CSRF are stopped by Host, Origin and content type together, not by one.
"""

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Literal

import msgspec
from aiohttp import web

from ..errors import Fault, GateError
from ..events import Usage, Window
from ..fronts import mcp_memory, ollama_api, openai_error
from .connection import Connection
from .metrics import Metrics

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

BODY_TIME = 30.0
"""Seconds for a whole body."""
JSON_LIMIT = 64 * 1024 * 1024
"""Bytes of a JSON body: chats carry pictures."""

ALLOWED_HEADERS = (
    "authorization, content-type, x-request-id, x-codexgate-session, "
    "last-event-id, mcp-method, mcp-name, mcp-protocol-version, mcp-session-id"
)
"""What a listed web page may send; it may read what is exposed below."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
log = logging.getLogger(__name__)


class Policy(msgspec.Struct, frozen=True):
    """What a route asks of its callers."""

    event: str
    """Its name in the log: `chat`."""
    open: bool = False
    """Served without a key."""
    body: Literal["none", "json", "form"] = "none"
    """A form (`multipart/form-data`) is read by the handler, piece by piece: see `form.py`."""
    limit: int = JSON_LIMIT
    """Bytes of the body."""
    heavy: bool = False
    """Holds a model: counts against `server.max_streams`."""
    inner: bool = False
    """For the gate's own agents too, which have a key for such routes alone."""


class Rules(msgspec.Struct):
    """What this server allows; nothing until it listens, and then what `Running.admit` is told."""

    hosts: set[str] = set()
    """`host:port` as a browser or client would send it."""
    origins: frozenset[str] = frozenset()
    key: str = ""
    """The API key; empty means that anybody who reaches the port may ask."""
    max_streams: int = 64
    inner_key: str = msgspec.field(default_factory=partial(secrets.token_urlsafe, 32))
    """What the gate's own agents bring; made anew by each process and written nowhere."""

    def allows_key(self, header: bytes, *, inner: bool = False) -> bool:
        """Compare digests of bytes: of equal length, in constant time, whatever was sent."""
        given = _digest(header[7:].strip() if header[:7].lower() == b"bearer " else b"")
        ours = inner and hmac.compare_digest(given, _digest(self.inner_key.encode()))
        return not self.key or ours or hmac.compare_digest(given, _digest(self.key.encode()))


class Trace(msgspec.Struct):
    """What happened to one request, for its headers and its line in the log."""

    id: str
    began: float
    """Monotonic seconds."""
    model: str = ""
    backend: str = ""
    upstream: float = 0.0
    """Seconds spent waiting for the backend."""
    first: float | None = None
    """Seconds to the first event."""
    window: Window | None = None
    usage: Usage | None = None
    fault: Fault | None = None
    unknown: tuple[str, ...] = ()
    """Request fields that were passed over."""


class Slots:
    """How many models may be held at once; as many again may wait, the rest come back later."""

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)
        self._limit = count
        self._inside = 0
        self.idle = asyncio.Event()
        """Set while no request holds or awaits a model."""
        self.idle.set()

    async def __aenter__(self) -> None:
        if self._inside >= 2 * self._limit:
            message = f"All {self._limit} places for answers are taken, and as many requests wait."
            raise GateError(Fault("rate_limited", message, "Try again soon.", "overloaded", "", True, 1.0))
        self._inside += 1
        self.idle.clear()
        try:
            await self._free.acquire()
        except asyncio.CancelledError:
            self._leave()
            raise

    async def __aexit__(self, *exc: object) -> None:
        self._free.release()
        self._leave()

    def _leave(self) -> None:
        self._inside -= 1
        if not self._inside:
            self.idle.set()


RULES = web.AppKey("rules", Rules)
POLICIES = web.AppKey("policies", dict[tuple[str, str], Policy])
SLOTS = web.AppKey("slots", Slots)
DRAINING = web.AppKey("draining", asyncio.Event)
METRICS = web.AppKey("metrics", Metrics)
TRACE = web.RequestKey("trace", Trace)
BODY = web.RequestKey("body", bytes)


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a request in or answer it with what is wrong, in the shape of its surface."""
    trace = request[TRACE] = Trace(_request_id(request), time.monotonic())
    connection = request.transport.get_protocol() if request.transport else None
    if isinstance(connection, Connection):
        connection.head_arrived()
    policy = request.app[POLICIES].get(_route(request))
    try:
        response = await _admit(request, policy, handler)
    except GateError as error:
        response = refuse(request, error.fault)
    except web.HTTPException as error:
        response = refuse(request, _routing_fault(request, error))
        if isinstance(error, web.HTTPMethodNotAllowed):
            response.headers["Allow"] = error.headers["Allow"]
    except asyncio.CancelledError:
        _close_books(request, policy, 499)
        raise
    except ConnectionResetError:  # the client left while it was written to
        response = web.Response(status=499)
    except Exception:
        log.exception("request.crash", extra={"fields": {"request_id": trace.id}})
        response = refuse(request, Fault("internal", "codexgate failed.", "The log has the details."))
    if isinstance(connection, Connection):
        connection.answered()
    _close_books(request, policy, response.status)
    return response


def refuse(request: web.Request, fault: Fault) -> web.Response:
    """The answer to a request that failed before its answer began."""
    request[TRACE].fault = fault
    headers = {"WWW-Authenticate": "Bearer"} if fault.kind == "authentication" else {}
    if fault.retry_after:
        headers["Retry-After"] = str(round(fault.retry_after) or 1)
    return reply_json(_shape(request.path)(fault), fault.status, headers)


def _shape(path: str) -> Callable[[Fault], dict[str, Any]]:
    """What is asked of Ollama is refused as Ollama refuses, also where there is no such route."""
    if path.startswith("/api/"):
        return ollama_api.error
    return mcp_memory.error if path == "/mcp" else openai_error.body


def reply_json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    return web.Response(
        body=msgspec.json.encode(body), status=status, content_type="application/json", headers=headers
    )


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Put on every response what tells it apart and where its time went."""
    trace = request.get(TRACE)
    if trace is None:
        return
    took = time.monotonic() - trace.began
    response.headers["Server"] = "codexgate"
    response.headers["X-Request-Id"] = trace.id
    response.headers["OpenAI-Processing-Ms"] = str(round(took * 1000))
    response.headers["X-Codexgate-Overhead-Ms"] = f"{(took - trace.upstream) * 1000:.2f}"
    response.headers["X-Content-Type-Options"] = "nosniff"
    if trace.backend:
        response.headers["X-Codexgate-Backend"] = trace.backend
    if trace.window is not None:  # of a stream what is taken for the prompt, else what it came to
        used = trace.usage.prompt + trace.usage.completion if trace.usage else trace.window.prompt
        response.headers["X-Codexgate-Context"] = f"{used}/{trace.window.size}"
    origin = request.headers.get("Origin")
    if origin in request.app[RULES].origins:
        response.headers["Access-Control-Allow-Origin"] = str(origin)
        response.headers["Access-Control-Expose-Headers"] = "mcp-session-id"
        response.headers["Vary"] = "Origin"


async def _admit(request: web.Request, policy: Policy | None, handler: Handler) -> web.StreamResponse:
    rules = request.app[RULES]
    _check_host(request, rules)
    _check_origin(request, rules)
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        return _preflight(request, rules)
    if policy is None:
        return await handler(request)  # the router's own 404 or 405
    if not policy.open and not rules.allows_key(_raw(request, b"authorization"), inner=policy.inner):
        raise _wrong_key(request)
    if request.app[DRAINING].is_set():
        raise GateError(Fault("unavailable", "codexgate is shutting down.", code="draining", retry_after=1.0))
    if policy.body == "json":
        request[BODY] = await _json_body(request, policy.limit)
    elif policy.body == "form":
        _check_type(request, "multipart/form-data", "a form")
    if not policy.heavy:
        return await handler(request)
    async with request.app[SLOTS]:
        return await handler(request)


def _check_host(request: web.Request, rules: Rules) -> None:
    """Exactly one Host, and ours: a page that rebinds its name to us still sends its own."""
    hosts = [value for name, value in request.raw_headers if name.lower() == b"host"]
    host = hosts[0].decode("latin-1").lower() if len(hosts) == 1 else ""
    if host not in rules.hosts or request.host.lower() != host or not request.raw_path.startswith(("/", "*")):
        advice = "Ask for 127.0.0.1 or localhost, or add the name to server.allowed_hosts."
        raise GateError(Fault("misdirected", "This Host is not served here.", advice, "host_not_allowed"))


def _check_origin(request: web.Request, rules: Rules) -> None:
    """A page of another site may not ask, not even without reading the answer."""
    origins = request.headers.getall("Origin", [])
    listed = all(origin in rules.origins or _is_ours(origin, rules) for origin in origins)
    foreign = request.headers.get("Sec-Fetch-Site") == "cross-site" and not origins
    if not listed or len(origins) > 1 or foreign:
        advice = "Add the page's origin to server.allowed_origins."
        raise GateError(
            Fault("permission", "Requests from this web page are refused.", advice, "origin_not_allowed")
        )


def _is_ours(origin: str, rules: Rules) -> bool:
    scheme, _, host = origin.partition("://")
    return scheme in ("http", "https") and host.lower() in rules.hosts


def _preflight(request: web.Request, rules: Rules) -> web.Response:
    if request.headers.get("Origin") not in rules.origins:
        raise GateError(
            Fault("permission", "Requests from this web page are refused.", code="origin_not_allowed")
        )
    allow = {
        "Access-Control-Allow-Methods": "GET, POST, DELETE",
        "Access-Control-Allow-Headers": ALLOWED_HEADERS,
        "Access-Control-Max-Age": "600",
    }
    return web.Response(status=204, headers=allow)


def _wrong_key(request: web.Request) -> GateError:
    said = "Incorrect API key provided." if "Authorization" in request.headers else "No API key was sent."
    advice = "Send `Authorization: Bearer KEY`; `codexgate key show` prints the key."
    return GateError(Fault("authentication", said, advice, "invalid_api_key"))


def _check_type(request: web.Request, type: str, name: str) -> None:
    if request.content_type != type:
        message, advice = f"The body must be {name}.", f"Send `Content-Type: {type}`."
        raise GateError(Fault("unsupported_media", message, advice))
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise GateError(Fault("unsupported_media", "Compressed bodies are not read.", "Send it as it is."))


async def _json_body(request: web.Request, limit: int) -> bytes:
    _check_type(request, "application/json", "JSON")
    too_large = GateError(Fault("too_large", f"The body is larger than {limit} bytes."))
    if (request.content_length or 0) > limit:
        raise too_large
    if request.content.is_eof():  # it came with the head, as most do
        body = request.content.read_nowait()
        if len(body) > limit:
            raise too_large
        return body
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIME):
            async for part in request.content.iter_any():
                parts.append(part)
                size += len(part)
                if size > limit:
                    raise too_large
    except TimeoutError:
        raise GateError(Fault("invalid_request", f"The body took longer than {BODY_TIME:g} s.")) from None
    return b"".join(parts)


def _routing_fault(request: web.Request, error: web.HTTPException) -> Fault:
    if isinstance(error, web.HTTPMethodNotAllowed):
        if "websocket" in request.headers.get("Upgrade", "").lower():  # with 426 Codex falls back to POST
            return Fault(
                "upgrade_refused",
                "There are no WebSockets here.",
                "Send the request by POST.",
                "upgrade_refused",
            )
        return Fault("method_not_allowed", f"{request.method} is not possible here.")
    if isinstance(error, web.HTTPNotFound):
        return Fault("not_found", "There is no such route.", "They are listed at /docs.", "not_found")
    return Fault("invalid_request", error.reason)


def _route(request: web.Request) -> tuple[str, str]:
    """The matched route, as `routes.py` lists it; HEAD is GET without a body unless it is listed itself."""
    resource = request.match_info.route.resource
    path = resource.canonical if resource else ""
    is_get = request.method == "HEAD" and ("HEAD", path) not in request.app[POLICIES]
    return "GET" if is_get else request.method, path


def _raw(request: web.Request, wanted: bytes) -> bytes:
    return next((value for name, value in request.raw_headers if name.lower() == wanted), b"")


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _request_id(request: web.Request) -> str:
    given = request.headers.get("X-Request-Id", "")
    return given if _REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"


def _close_books(request: web.Request, policy: Policy | None, status: int) -> None:
    """Count the request, which is over, and write its line in the log."""
    trace = request[TRACE]
    took = time.monotonic() - trace.began
    method, route = _route(request)
    metrics = request.app[METRICS]
    metrics.request(method if policy else "-", route if policy else "-", status, took)
    if trace.first is not None:
        metrics.first(trace.backend, trace.first)
    if trace.usage is not None:
        metrics.tokens(trace.backend, trace.usage.prompt, trace.usage.completion)
    _write_log(trace, policy, route, status, took)


def _write_log(trace: Trace, policy: Policy | None, route: str, status: int, took: float) -> None:
    failed = status >= 400 or trace.fault is not None
    fields = {
        "request_id": trace.id,
        "route": route or "-",
        "model": trace.model,
        "backend": trace.backend,
        "status": status,
        "ms": round(took * 1000, 1),
        "first_token_ms": round(trace.first * 1000, 1) if trace.first is not None else None,
        "tokens": trace.usage.prompt + trace.usage.completion if trace.usage else None,
        "passed_over": ",".join(trace.unknown),
        "error": trace.fault.message if trace.fault else "",
    }
    event = f"{policy.event if policy else 'request'}.{'error' if failed else 'ok'}"
    log.log(logging.WARNING if failed else logging.INFO, event, extra={"fields": fields})
