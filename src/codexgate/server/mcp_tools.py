"""The memory as an MCP server: its tools and its resource, hung into the protocol library.

The only module that imports the library, and imported only when somebody speaks MCP. What the
library would keep for callers without a bound is bounded here; what arguments mean is not known.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec
from aiohttp import web
from aiohttp_tiny_mcp import (
    AdapterSet,
    Authentication,
    CallToolResult,
    Endpoint,
    MemoryHub,
    MemorySessionStore,
    Principal,
    Registry,
    TextContent,
    Unauthorized,
)
from aiohttp_tiny_mcp.protocol.adapter import RegistryProtocol
from aiohttp_tiny_mcp.protocol.core import Failure, FailureKind, Preamble, Rejected
from aiohttp_tiny_mcp.protocol.models import Params
from aiohttp_tiny_mcp.protocol.v2026_07_28 import Adapter2026_07_28
from aiohttp_tiny_mcp.server.specs import Bound, ToolSpec
from aiohttp_tiny_mcp.storage.sessions import SESSION_HEADER
from pydantic import BaseModel, RootModel

from .. import __version__, drafts
from ..errors import Fault, GateError
from ..fronts import mcp_memory
from ..memory import Memory

SESSIONS = 1000
"""Sessions at once; the one unused for longest makes room, and its client begins a new one."""
DECLARED = 16 * 1024
"""Bytes that a client may say about itself."""
LIMITS = mcp_memory.Limits(
    content=drafts.CONTENT,
    summary=drafts.SUMMARY,
    namespace=drafts.NAMESPACE,
    tag=drafts.TAG,
    tags=drafts.TAGS,
    metadata=drafts.METADATA,
    query=drafts.QUERY,
    matches=drafts.LIMIT,
)

log = logging.getLogger(__name__)
logging.getLogger("aiohttp_tiny_mcp").setLevel(logging.ERROR)  # it would write bodies into a debug log

Answer = dict[str, Any]


class _Arguments(RootModel[dict[str, Any]]):
    """As they came; the front reads them."""


class _None(BaseModel):
    """A resource without variables."""


class _Silence(MemoryHub):
    """Nothing is ever told unasked, and answers to what nobody asked are not kept."""

    async def publish(self, topic: str, message: Mapping[str, Any]) -> str:  # noqa: ARG002
        return ""


class _Sessions(MemorySessionStore):
    """As many as there is room for, none of them large."""

    async def create(self, session_id: str, data: Mapping[str, Any], *, ttl_seconds: int) -> bool:
        if len(msgspec.json.encode(data)) > DECLARED:
            return False
        while len(self.records) >= SESSIONS:
            del self.records[next(iter(self.records))]
        return await super().create(session_id, data, ttl_seconds=ttl_seconds)

    async def touch(self, session_id: str, *, ttl_seconds: int) -> bool:
        lives = await super().touch(session_id, ttl_seconds=ttl_seconds)
        if lives:
            self.records[session_id] = self.records.pop(session_id)  # the order is that of use
        return lives


class _Callers(Authentication):
    """Whoever the guard has let in; a session is only for who opened it."""

    def __init__(self, who: Callable[[web.Request], str]) -> None:
        super().__init__(namespace_from_token=False)
        self._who = who

    async def authenticate(self, request: web.Request) -> Principal:
        return Principal(client_id=self._who(request))

    def challenge(self, refusal: Unauthorized) -> str:  # noqa: ARG002
        return "Bearer"


class _Stateless(Adapter2026_07_28):
    """As SEP-2575 has it: tells of every list it answers, also an empty one; `_meta` must be there."""

    FAILURE_MAP: ClassVar = {**Adapter2026_07_28.FAILURE_MAP, FailureKind.INVALID_PARAMS: (-32602, 400)}

    def capabilities(self, registry: RegistryProtocol) -> dict[str, Any]:
        return super().capabilities(registry) | {"prompts": {}}

    def check_http(
        self, pre: Preamble, headers: Mapping[str, str], registry: RegistryProtocol | None = None
    ) -> None:
        if pre.meta_version is None and not pre.is_batch:
            raise Rejected(Failure(FailureKind.INVALID_PARAMS, "`_meta` tells no protocol version."))
        super().check_http(pre, headers, registry)

    def check_params(self, params: Params) -> None:
        try:
            super().check_params(params)
        except Rejected as refused:
            raise Rejected(Failure(FailureKind.INVALID_PARAMS, refused.failure.message)) from None


REVISIONS = AdapterSet([_Stateless(), *AdapterSet.default().adapters[1:]])


class Server(Endpoint):
    """The library's side of HTTP, and the end of a session, which it leaves to time."""

    async def leave(self, request: web.Request) -> web.Response:
        """Forget the session that the request names, if it is its caller's."""
        try:
            await self.load_session(request, await self.verified(request))
        except Rejected as refused:
            return self.render_failure(self.adapters.fallback(), refused.failure)
        await self.registry.session_store.delete(request.headers[SESSION_HEADER])
        return web.Response(status=204)


def endpoint(memory: Memory, who: Callable[[web.Request], str]) -> Server:
    """The server for HTTP; `who` tells callers apart, whom the guard has let in already."""
    made = registry(memory)
    made.auth = _Callers(who)
    # Origins are the guard's.
    return Server(made, adapters=REVISIONS, trust_proxy_origin_validation=True, compress=False)


def registry(memory: Memory) -> Registry:
    """The server itself, for any transport."""
    made = Registry(
        "codexgate",
        __version__,
        instructions=mcp_memory.INSTRUCTIONS,
        hub=_Silence(),
        session_store=_Sessions(),
    )

    async def persist(arguments: _Arguments) -> CallToolResult:
        async def keep() -> tuple[Answer, dict[str, Any]]:
            kept = await memory.persist(mcp_memory.draft(arguments.root))
            return mcp_memory.kept(kept, _time), {"id": kept.entry.id, "deduped": kept.deduped}

        return await _result("persist", keep)

    async def retrieve(arguments: _Arguments) -> CallToolResult:
        async def find() -> tuple[Answer, dict[str, Any]]:
            asked = mcp_memory.question(arguments.root)
            matches = await memory.retrieve(asked.query, asked.wanted, asked.limit)
            return mcp_memory.found(matches, _time), {"found": len(matches)}

        return await _result("retrieve", find)

    async def config(_: _None) -> Answer:
        """What this memory takes, and what embeds it."""
        return mcp_memory.config(__version__, memory.model, LIMITS)

    handlers = {mcp_memory.PERSIST: persist, mcp_memory.RETRIEVE: retrieve}
    for tool in mcp_memory.tools(LIMITS):
        made.tools[tool.name] = _spec(tool, handlers[tool.name])
    made.resource(mcp_memory.CONFIG, config, name="config", mime_type="application/json")
    return made


def _spec(tool: mcp_memory.Tool, handler: Callable[[_Arguments], Awaitable[CallToolResult]]) -> ToolSpec:
    # Not by `Registry.tool`, which makes the schemas itself, from pydantic models.
    return ToolSpec(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        bound=Bound.of(handler),
        input_schema=tool.takes,
        output_schema=tool.gives,
        annotations=tool.hints,
    )


async def _result(event: str, act: Callable[[], Awaitable[tuple[Answer, dict[str, Any]]]]) -> CallToolResult:
    """The result of a tool; no failure leaves it but as a result that says so."""
    began = time.monotonic()
    try:
        answer, fields = await act()
    except GateError as error:
        fault = error.fault
    except Exception:
        log.exception(f"{event}.crash")
        fault = Fault("internal", "codexgate failed.", "The log has the details.")
    else:
        fields["ms"] = round((time.monotonic() - began) * 1000, 1)
        log.info(f"{event}.ok", extra={"fields": fields})
        text = await asyncio.to_thread(mcp_memory.text, answer)  # fifty long memories take a while
        return CallToolResult(content=[TextContent(text=text)], structured_content=answer)
    log.warning(f"{event}.error", extra={"fields": {"error": fault.message}})
    return CallToolResult.failure(mcp_memory.failure(fault))


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
