"""`/mcp`: the memory for MCP clients, over streamable HTTP.

Who may ask is the guard's, the protocol a library's (`mcp_tools`), which is imported when it is
first needed. What is left: bodies that it must not see, its refusals in one shape, the end of a session.
Source: Model Context Protocol 2025-11-25 and 2026-07-28, "Transports", "Streamable HTTP".
"""

import asyncio
import hashlib
import importlib
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from ..core import Core
from ..errors import Fault, GateError, invalid
from ..fronts import mcp_memory
from .guard import BODY, refuse, reply_json

if TYPE_CHECKING:
    from .mcp_tools import Server

LIMIT = 1024 * 1024
"""Bytes of a message: a whole memory with every character escaped has 600 KB."""
BATCH = 50
"""Messages in one body, which only revision 2025-03-26 allows."""
SESSION = "Mcp-Session-Id"


class Mcp:
    """The MCP server of one gate, once somebody has asked for it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._endpoint: Server | None = None

    async def endpoint(self) -> "Server":
        """The library's side. Raises GateError (`unavailable`) when the gate has no memory."""
        if self._core.memory is None:
            raise GateError(Fault("unavailable", "This gate has no memory.", code="no_memory"))
        if self._endpoint is None:
            tools = await asyncio.to_thread(importlib.import_module, ".mcp_tools", __package__)
            if self._endpoint is None:  # nobody else was faster
                self._endpoint = tools.endpoint(self._core.memory, _who)
        return self._endpoint


MCP = web.AppKey("mcp", Mcp)


async def receive(request: web.Request) -> web.StreamResponse:
    """`POST /mcp`: one message, or a batch of them."""
    endpoint = await _endpoint(request)
    message = check(request[BODY])
    request._read_bytes = request[BODY]  # the guard has read it, and a body can be read only once
    try:
        return _in_shape(await endpoint.handle(request), message)
    except RecursionError:
        raise _too_deep() from None


async def listen(request: web.Request) -> web.StreamResponse:
    """`GET /mcp`: the stream of what a server says unasked, for revisions that have sessions."""
    endpoint = await _endpoint(request)
    if request.method == "HEAD" or not request.headers.get(SESSION):
        fault = Fault("method_not_allowed", "A stream needs a session; `initialize` by POST begins one.")
        response = refuse(request, fault)
        response.headers["Allow"] = "POST"
        return response
    try:
        return _in_shape(await endpoint.notifications(request), None)
    except asyncio.CancelledError:  # its one way to end: the client is done with it, or the gate stops
        return web.Response(status=204)


async def leave(request: web.Request) -> web.StreamResponse:
    """`DELETE /mcp`: the client is done with its session."""
    endpoint = await _endpoint(request)
    if not request.headers.get(SESSION):
        raise invalid(f"`{SESSION}` names the session to end.", SESSION)
    return _in_shape(await endpoint.leave(request), None)


async def _endpoint(request: web.Request) -> "Server":
    """The library's side, for a request whose headers it can repeat: its refusals quote them."""
    for name, value in request.headers.items():
        if name.lower().startswith("mcp-") and not value.isascii():
            raise invalid(f"`{name}` is not ASCII.", name)
    return await request.app[MCP].endpoint()


def check(body: bytes) -> object:
    """What is in a body. Raises GateError for one that is not JSON as it should be, or too much at once.

    Stricter than the library, which takes NaN and halves of surrogate pairs.
    """
    try:
        message = msgspec.json.decode(body)
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(f"The body is not valid JSON: {error}", code="invalid_json") from error
    if isinstance(message, list) and len(message) > BATCH:
        raise invalid(f"A batch has at most {BATCH} messages.")
    return message


def _in_shape(response: web.StreamResponse, message: object) -> web.StreamResponse:
    """A refusal of the library's as an error of JSON-RPC, with the id of what it refuses if that has one."""
    if response.status < 400 or not isinstance(response, web.Response):
        return response
    if response.content_type == "application/json":
        error = msgspec.json.decode(response.text or "{}")
    else:
        said = (response.text or "This is not possible here").rstrip(".").capitalize()
        error = mcp_memory.error(Fault("invalid_request", f"{said}."))
    if error.get("id") is None and isinstance(message, dict) and type(message.get("id")) in (str, int):
        error["id"] = message["id"]
    headers = {name: value for name, value in response.headers.items() if name == "Allow"}
    return reply_json(error, response.status, headers)


def _who(request: web.Request) -> str:
    """A digest of the bearer: a session is not even for others whom the gate lets in."""
    sent = request.headers.get("Authorization", "")
    return hashlib.sha256(sent.encode("utf-8", "surrogateescape")).hexdigest()


def _too_deep() -> GateError:
    return invalid("The body is nested too deeply.", code="invalid_json")
