"""Ollama as a backend: carries what `dialects.ollama` writes and reads over HTTP.

Knows routes, limits and what is worth keeping; not what a line means, and no caller's format.
"""

import asyncio
import secrets
import shutil
from collections.abc import AsyncGenerator
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from ..chat import ChatRequest
from ..dialects.ollama import ask, decode, errors
from ..dialects.ollama import models as catalog
from ..errors import Fault, GateError
from ..events import Event
from ..lines import Lines, LineTooLong
from ..records import Ability, Health, Model, Progress
from .http import Http

PROBE = 2.0
"""Seconds that a look at its health may take."""
LISTING = 10.0
"""Seconds that Ollama may think about a list or a deletion, which take it milliseconds."""
PULLING = 900.0
"""Seconds between two lines of news: it says nothing while it checks the digest of a big layer."""
SHOWS = 8
"""Models looked at at once."""
LARGE = 16 * 1024 * 1024
"""Bytes of the longest answer that is not a stream."""
TAIL = 0.25
"""Seconds that the end of the body may come after the last line; then its connection is not kept."""


class OllamaOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What can be set about Ollama."""

    url: Annotated[str, Meta(description="Where Ollama listens.")] = "http://127.0.0.1:11434"
    num_ctx: Annotated[
        int, Meta(ge=0, description="Context window that models are loaded with (tokens); 0: Ollama's own.")
    ] = 0
    keep_alive: Annotated[
        str,
        Meta(description="How long a model stays in memory, as `10m`; `-1`: for ever; empty: Ollama's own."),
    ] = ""
    connect_timeout: Annotated[
        float, Meta(gt=0, description="Time that Ollama has to accept a connection (seconds).")
    ] = 2
    first_token_timeout: Annotated[
        float, Meta(gt=0, description="Time that a model has for its first word, loading included (seconds).")
    ] = 300
    idle_timeout: Annotated[
        float, Meta(gt=0, description="Longest pause within an answer before it counts as lost (seconds).")
    ] = 120


def address(text: str) -> str:
    """The URL of Ollama's root that people mean by `text`, as in `OLLAMA_HOST` or an OpenAI base URL.

    Without a scheme the port is 11434, with one the scheme's own (Ollama, envconfig/config.go); an
    address to listen on is reached on loopback; a trailing `/v1` is not part of the root.
    """
    scheme, _, rest = text.strip(" \t\"'").rpartition("://")
    authority, _, path = rest.partition("/")
    user, at, authority = authority.rpartition("@")
    if authority.count(":") > 1 and "[" not in authority:
        authority = f"[{authority}]"
    host, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        host, port = authority, ""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104
    if not scheme and not port:
        port = "11434"
    path = "/" + path.strip("/")
    path = path.removesuffix("/v1").rstrip("/")
    return f"{scheme or 'http'}://{user}{at}{host}{':' + port if port else ''}{path}"


class Ollama:
    """One Ollama server: a `Backend` and an `Installer`."""

    honours = ask.HONOURS

    def __init__(self, options: OllamaOptions, *, name: str = "ollama") -> None:
        """Connects only when something is asked. Raises GateError when the URL is none."""
        self.name = name
        self._options = options
        self._http = Http(
            address(options.url), connect_timeout=options.connect_timeout, advice="Start it: ollama serve"
        )
        self._shown: dict[str, tuple[str, catalog.Shown]] = {}
        """By model name: the digest it stood for, and what was shown."""
        self._shows = asyncio.Semaphore(SHOWS)

    # Backend

    async def stream(self, request: ChatRequest) -> AsyncGenerator[list[Event]]:
        """Answer `request`; see `ports.Backend`."""
        decoder = decode.Decoder(_call_id, model=request.model, must_call=ask.must_call(request.tool_choice))
        lines = Lines()
        try:
            body = msgspec.json.encode(await self._ask(request))
            async with self._http.send(
                "POST",
                "/api/chat",
                body,
                first_byte_timeout=self._options.first_token_timeout,
                idle_timeout=self._options.idle_timeout,
            ) as response:
                if response.status != 200:
                    raise GateError(errors.fault(response.status, await response.read(LARGE), request.model))
                async for data in response:
                    events = [event for line in _split(lines, data) for event in decoder.feed(line)]
                    if events:
                        yield events
                    if decoder.ended:
                        await response.drain(TAIL)
                        return
            events = decoder.end()
        except GateError as error:
            events = decoder.fail(error.fault)
        if events:
            yield events

    async def models(self) -> tuple[Model, ...]:
        """Its models now; see `ports.Backend`. Costs two requests when nothing has changed."""
        tags = catalog.tags(await self._call("GET", "/api/tags"))
        running = await self._running()
        shown = await asyncio.gather(*(self._look(tag) for tag in tags))
        self._shown = {tag.name: (tag.digest, show) for tag, show in zip(tags, shown, strict=True) if show}
        return tuple(catalog.model(*pair, self.name, running) for pair in zip(tags, shown, strict=True))

    async def probe(self) -> Health:
        """Look whether it works; see `ports.Backend`."""
        try:
            async with asyncio.timeout(PROBE):
                version = catalog.version(await self._call("GET", "/api/version"))
                count = len(catalog.tags(await self._call("GET", "/api/tags")))
        except TimeoutError:
            advice = "Restart it: it accepts connections and does not answer."
            return Health("down", f"{self._http.where} does not answer", advice=advice)
        except GateError as error:
            return self._missing(error.fault)
        return Health("ready", f"{version}, {count} model{'' if count == 1 else 's'}", version)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    # Installer

    async def pull(self, model: str) -> AsyncGenerator[Progress]:
        """Install `model`; see `ports.Installer`. Ollama itself resumes what was cut."""
        lines, status = Lines(), ""
        async with self._http.send(
            "POST",
            "/api/pull",
            msgspec.json.encode({"model": model, "stream": True}),
            first_byte_timeout=PULLING,
            idle_timeout=PULLING,
        ) as response:
            if response.status != 200:
                raise GateError(errors.pull_fault(await response.read(LARGE), model))
            async for data in response:
                for line in _split(lines, data):
                    news = catalog.progress(line, model)
                    status = news.status
                    yield news
        self._shown.pop(model, None)
        if status != "success":
            advice = f"Go on where it stopped: codexgate models pull {model}"
            raise GateError(
                Fault("upstream", f"Ollama stopped pulling {model} midway.", advice, retryable=True)
            )

    async def remove(self, model: str) -> None:
        """Delete `model` from disk; see `ports.Installer`."""
        await self._call("DELETE", "/api/delete", {"model": model})
        self._shown.pop(model, None)

    async def warm(self, model: str) -> None:
        """Load `model` into memory; see `ports.Installer`. A chat without messages does that."""
        body = {"model": model, "messages": [], "stream": False, **ask.settings(self._defaults())}
        await self._call("POST", "/api/chat", body, timeout=self._options.first_token_timeout)

    # What they share

    async def _call(self, method: str, path: str, body: Any = None, timeout: float = LISTING) -> bytes:
        """The body of a whole answer. Raises GateError for every status but 200."""
        sent = None if body is None else msgspec.json.encode(body)
        async with self._http.send(
            method, path, sent, first_byte_timeout=timeout, idle_timeout=timeout
        ) as response:
            answer = await response.read(LARGE)
        if response.status != 200:
            model = body["model"] if body else ""
            raise GateError(errors.fault(response.status, answer, model))
        return answer

    async def _ask(self, request: ChatRequest) -> dict[str, Any]:
        thinks = bool(request.effort) and "thinking" in await self._abilities(request.model)
        options = self._defaults() | request.options
        return ask.ask(msgspec.structs.replace(request, options=options), thinks=thinks)

    def _defaults(self) -> dict[str, Any]:
        """What is set for every model, as `ChatRequest.options`."""
        defaults: dict[str, Any] = {}
        if self._options.num_ctx:
            defaults["num_ctx"] = self._options.num_ctx
        if keep := self._options.keep_alive:
            # Of a text, Ollama wants a unit: seconds, and -1, have to be numbers.
            defaults["keep_alive"] = int(keep) if keep.lstrip("-").isdecimal() else keep
        return defaults

    async def _abilities(self, model: str) -> frozenset[Ability]:
        if model not in self._shown:
            self._shown[model] = ("", await self._show(model))
        return catalog.abilities(self._shown[model][1].capabilities)

    async def _look(self, tag: catalog.Tag) -> catalog.Shown | None:
        digest, shown = self._shown.get(tag.name, ("", None))
        if shown and digest == tag.digest:
            return shown
        try:
            async with self._shows:
                return await self._show(tag.name)
        except GateError:
            return None  # one broken model must not hide the others

    async def _show(self, model: str) -> catalog.Shown:
        return catalog.show(await self._call("POST", "/api/show", {"model": model}))

    async def _running(self) -> dict[str, int]:
        try:
            return catalog.running(await self._call("GET", "/api/ps"))
        except GateError:
            return {}  # nice to know, no more

    def _missing(self, fault: Fault) -> Health:
        here = urlsplit(self._http.where).hostname in ("127.0.0.1", "localhost", "::1")
        if fault.kind == "unavailable" and here and not shutil.which("ollama"):
            return Health("absent", "not installed", advice="Get it: https://ollama.com/download")
        return Health("down", fault.message, advice=fault.advice)


def _split(lines: Lines, data: bytes) -> list[bytes]:
    try:
        return lines.feed(data)
    except LineTooLong:
        raise GateError(Fault("upstream", "Ollama sent an endless line.")) from None


def _call_id() -> str:
    return f"call_{secrets.token_hex(12)}"
