"""The aiohttp application and its lifetime: sockets open, signals heard, streams drained.

`serve` is what runs in the foreground; everything it holds is opened and closed here.
"""

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import msgspec
from aiohttp import web

from ..core import Core
from ..errors import Fault
from ..fronts import openai_error
from ..fronts.openai_chat import ReasoningField
from ..ports import Agent
from .connection import Connections
from .context import CHATS, CORE, REASONING, Chats
from .guard import (
    DRAINING,
    JSON_LIMIT,
    METRICS,
    POLICIES,
    RULES,
    SLOTS,
    Rules,
    Slots,
    add_headers,
    guard,
    reply_json,
)
from .mcp import MCP, Mcp
from .metrics import Metrics
from .reply import STREAMS, Line
from .routes import endpoints

log = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Listen(msgspec.Struct, frozen=True, kw_only=True):
    """Where to listen, and what to let in."""

    host: str = "127.0.0.1"
    port: int = 8140
    """0 picks a free one."""
    uds: str = ""
    """Path of a Unix socket to listen on instead."""
    key: str = ""
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    max_connections: int = 256
    max_streams: int = 64
    drain: float = 10.0
    """Seconds that open streams have when the gate stops."""
    reasoning: ReasoningField = "reasoning_content"
    chats: Chats = Chats()


class Running(msgspec.Struct):
    """A gate that listens."""

    url: str
    """Without a path: `http://127.0.0.1:8140`."""
    routes: tuple[str, ...]
    admit: Callable[[Listen], None]
    """Let in whom these settings let in, from now on: key, hosts and origins of them count."""


class Protocol(web.RequestHandler):
    """aiohttp's, but for its answer to what it cannot read as HTTP, and so never reaches the guard."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Refuse it. What was sent is not repeated, nor logged: a key may be in it."""
        if status != 400:
            return super().handle_error(request, status, exc, message)
        advice = "Is it HTTP/1.1, and its head not larger than 8 KiB a line?"
        fault = Fault("invalid_request", "The request cannot be read.", advice)
        log.warning("request.error", extra={"fields": {"status": status, "error": fault.message}})
        response = reply_json(openai_error.body(fault), status, {"Server": "codexgate"})
        response.force_close()
        return response


def make_app(core: Core, listen: Listen) -> web.Application:
    """Build the application. The caller opens and closes the core."""
    app = web.Application(middlewares=[guard], client_max_size=JSON_LIMIT)
    app.on_response_prepare.append(add_headers)
    app[CORE] = core
    app[REASONING] = listen.reasoning
    app[CHATS] = listen.chats
    app[RULES] = Rules()
    app[SLOTS] = Slots(listen.max_streams)
    app[STREAMS] = set()
    app[DRAINING] = asyncio.Event()
    app[METRICS] = Metrics()
    app[MCP] = Mcp(core)
    app[POLICIES] = {}
    for row in endpoints():
        route = app.router.add_route(row.method, row.path, row.handler)
        if row.method == "GET":
            app.router.add_route("HEAD", row.path, row.handler)
        assert route.resource is not None
        app[POLICIES][row.method, route.resource.canonical] = row.policy
    return app


@contextlib.asynccontextmanager
async def listening(core: Core, listen: Listen, hurry: asyncio.Event | None = None) -> AsyncIterator[Running]:
    """Serve `core` until the context is left, then drain; not after `hurry` is set.

    Raises OSError when the port or the socket is taken.
    """
    app = make_app(core, listen)
    runner = web.AppRunner(
        app,
        handle_signals=False,
        handler_cancellation=True,  # aiohttp would let a handler run on after its client left
        shutdown_timeout=1,
    )
    await runner.setup()
    assert runner.server is not None
    make = partial(
        Protocol,
        runner.server,
        loop=asyncio.get_running_loop(),
        access_log=None,  # type: ignore[arg-type]  # that there may be none is in its documentation
        keepalive_timeout=75,
    )
    connections = Connections(make, listen.max_connections)
    server, url = await _bind(connections, listen)

    def admit(listen: Listen) -> None:
        rules = app[RULES]
        rules.hosts, rules.origins = _hosts(listen, url), frozenset(listen.allowed_origins)
        rules.key = listen.key

    admit(listen)
    _offer_memory(core, url, app[RULES].inner_key)
    try:
        yield Running(url, tuple(sorted({f"{row.method} {row.path}" for row in endpoints()})), admit)
    finally:
        server.close()
        await _drain(app, listen.drain, hurry or asyncio.Event())
        await runner.cleanup()


async def run_until_signal(
    core: Core,
    listen: Listen,
    on_start: Callable[[Running], Awaitable[None]],
    on_hangup: Callable[[Running], None],
) -> bool:
    """Serve in the foreground until SIGINT or SIGTERM; returns whether a second one was heard.

    That one does not wait for streams. What comes when all of them are told ends the process, as usual.
    SIGHUP is for `on_hangup`, unless the terminal is gone: then it is one of those.
    """
    stop, hurry = asyncio.Event(), asyncio.Event()

    def heard() -> None:
        (hurry if stop.is_set() else stop).set()

    terminals = [number for number in range(3) if os.isatty(number)]

    def hung_up(running: Running) -> None:
        if terminals and not any(map(os.isatty, terminals)):
            heard()
        else:
            on_hangup(running)

    loop = asyncio.get_running_loop()
    numbers = [signal.SIGINT, signal.SIGTERM]
    for number in numbers:
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C arrives as KeyboardInterrupt
            loop.add_signal_handler(number, heard)
    try:
        async with listening(core, listen, hurry) as running:
            if sys.platform != "win32":  # which has no such signal
                loop.add_signal_handler(signal.SIGHUP, hung_up, running)
                numbers.append(signal.SIGHUP)
            await on_start(running)
            _spare_collector()
            await stop.wait()
            log.info("service.stop")
    finally:
        for number in numbers:
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(number)
    return hurry.is_set()


def _spare_collector() -> None:
    """Let the garbage collector pass by what is there for good, and come more rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


async def _bind(connections: Connections, listen: Listen) -> tuple[asyncio.Server, str]:
    loop = asyncio.get_running_loop()
    if listen.uds:
        _refuse_taken(listen.uds)
        before = os.umask(0o177)  # the socket is the caller's alone from its first moment
        try:
            return await loop.create_unix_server(connections, listen.uds), f"unix:{listen.uds}"
        finally:
            os.umask(before)
    server = await loop.create_server(connections, listen.host, listen.port, reuse_address=True)
    port = server.sockets[0].getsockname()[1]
    host = f"[{listen.host}]" if ":" in listen.host else listen.host
    return server, f"http://{host}:{port}"


def _refuse_taken(path: str) -> None:
    """Raise OSError when somebody listens at `path`: asyncio would take it away from them.

    What a gate that died left there is not listened to, and may be replaced.
    """
    with socket.socket(socket.AF_UNIX) as caller:
        caller.setblocking(False)
        if caller.connect_ex(path) not in (errno.ECONNREFUSED, errno.ENOENT):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)


def _offer_memory(core: Core, url: str, key: str) -> None:
    """Let agents of this gate use its memory; by a Unix socket they could not."""
    if core.memory is None or url.startswith("unix:"):
        return
    scheme, _, place = url.rpartition("//")
    host, _, port = place.rpartition(":")
    local = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - not bound to
    for backend in core.gate.backends:
        if isinstance(backend, Agent):
            backend.connect("memories", f"{scheme}//{local}:{port}/mcp", key)


def _hosts(listen: Listen, url: str) -> set[str]:
    """The Host headers that mean us: exact, with the port."""
    if listen.uds:
        return {"localhost", *listen.allowed_hosts}
    port = url.rpartition(":")[2]
    names = {"127.0.0.1", "localhost", "[::1]", url.removeprefix("http://").rpartition(":")[0]}
    hosts = {f"{name}:{port}" for name in names} | (names if port == "80" else set())
    for name in listen.allowed_hosts:
        hosts |= {name.lower(), f"{name.lower()}:{port}"}
    return hosts


async def _drain(app: web.Application, seconds: float, hurry: asyncio.Event) -> None:
    """No new requests; open answers may finish, then streams end with an error frame."""
    app[DRAINING].set()
    idle = app[SLOTS].idle
    waits = [asyncio.create_task(event.wait()) for event in (idle, hurry)]
    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    streams: set[Line] = app[STREAMS]
    for line in tuple(streams):
        line.end()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(idle.wait(), 1)
