"""Ollama as a backend: carries what `dialects.ollama` writes and reads over HTTP.

Knows routes, limits and what is worth keeping; not what a line means, and no caller's format.
"""

import asyncio
import secrets
import shutil
import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

import msgspec

from ... import tokens
from ...chat import ChatRequest
from ...dialects.ollama import ask, decode, embed, errors, window
from ...dialects.ollama import models as catalog
from ...errors import Fault, GateError
from ...events import Event, Notice, Window
from ...lines import Lines, LineTooLong
from ...records import Embeddings, Health, Model, Progress
from ..http import Http, Response
from .options import DEFAULT, OllamaOptions, address

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


class Ollama:
    """One Ollama server: a `Backend`, an `Embedder`, an `Installer` and a `Relay`."""

    honours = ask.HONOURS

    def __init__(self, options: OllamaOptions, *, name: str = "ollama") -> None:
        """Connects only when something is asked. Raises GateError when the URL is none."""
        self.name = name
        self._options = options
        self._http = Http(
            address(options.url), connect_timeout=options.connect_timeout, advice="Start it: ollama serve"
        )
        self._met = False
        """It has answered since this was made."""
        self._shown: dict[str, tuple[str, catalog.Shown]] = {}
        """By model name: the digest it stood for, and what was shown."""
        self._shows = asyncio.Semaphore(SHOWS)
        self._loaded: dict[str, int] = {}
        """Models in memory, and the context they were loaded with; as far as we know."""
        self._busy: Counter[str] = Counter()
        """Answers in progress, by model: those models are in memory whatever an older list says."""
        self._held: dict[str, asyncio.Task[None]] = {}
        """Loads that go on without their client."""

    # Backend

    async def stream(self, request: ChatRequest) -> AsyncGenerator[list[Event]]:
        """Answer `request`; see `ports.Backend`."""
        decoder = decode.Decoder(_call_id, model=request.model, must_call=ask.must_call(request.tool_choice))
        lines = Lines()
        self._busy[request.model] += 1
        try:
            plan = await self._plan(request)
            if self._loaded.get(request.model) != plan.size:
                yield [Notice("loading", f"Loading {request.model}.")]
            async with self._begun(request, plan) as response:
                yield [Window(plan.prompt, self._loaded[request.model])]
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
        finally:
            self._busy[request.model] -= 1
        if events:
            yield events

    async def models(self) -> tuple[Model, ...]:
        """Its models now; see `ports.Backend`. Costs two requests when nothing has changed."""
        tags = catalog.tags(await self._call("GET", "/api/tags"))
        running = await self._running()
        busy = {name: size for name, size in self._loaded.items() if self._busy[name] > 0}
        told = {name: size or self._loaded.get(name, 0) for name, size in running.items()}
        self._loaded = told | busy
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
        for load in self._held.values():
            load.cancel()
        await self._http.aclose()

    # Embedder

    async def embed(self, model: str, texts: Sequence[str], dimensions: int | None = None) -> Embeddings:
        """One vector for each of `texts`; see `ports.Embedder`. Loads the model if need be."""
        options = self._bounded({}, await self._known(model))
        body = embed.ask(model, texts, dimensions, options)
        try:
            answer = await self._call("POST", "/api/embed", body, timeout=self._options.first_token_timeout)
        except GateError as error:
            raise GateError(embed.fault(error.fault)) from None
        return await asyncio.to_thread(embed.read, answer, len(texts), dimensions)

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

    async def warm(self, model: str, options: Mapping[str, Any] = {}) -> None:
        """Load `model` into memory; see `ports.Installer`. A chat without messages does that."""
        settings = ask.settings(self._bounded(options, await self._known(model)))
        body = {"model": model, "messages": [], "stream": False, **settings}
        await self._call("POST", "/api/chat", body, timeout=self._options.first_token_timeout)

    # Relay

    def relay(self, method: str, path: str, body: bytes | AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
        """Send a request as it is; see `ports.Relay`."""
        from ..relay import relay  # a big library, for those who use it

        return relay(
            method,
            address(self._options.url) + path,
            body,
            connect_timeout=self._options.connect_timeout,
            idle_timeout=PULLING,
            advice="Start it: ollama serve",
            refusal=errors.relay_fault,
        )

    # What they share

    async def _call(self, method: str, path: str, body: Any = None, timeout: float = LISTING) -> bytes:
        """The body of a whole answer. Raises GateError for every status but 200."""
        sent = None if body is None else msgspec.json.encode(body)
        async with self._http.send(
            method, path, sent, first_byte_timeout=timeout, idle_timeout=timeout
        ) as response:
            answer = await response.read(LARGE)
        self._met = True
        if response.status != 200:
            model = body["model"] if body else ""
            raise GateError(errors.fault(response.status, answer, model))
        return answer

    async def _plan(self, request: ChatRequest) -> "_Plan":
        """What `request` is asked with; of its context, where nobody has set it, a first guess."""
        shown = await self._known(request.model)
        thinks = bool(request.effort) and "thinking" in catalog.abilities(shown.capabilities)
        prompt = window.estimate(request)
        options = self._bounded(request.options, shown)
        size = most = options.get("num_ctx", 0)
        if not size:
            most = min(shown.context or window.UNKNOWN, self._options.max_num_ctx or sys.maxsize)
            room = request.sampling.max_tokens or window.ROOM
            size = window.choose(prompt + room, most, self._loaded.get(request.model, 0))
        body = ask.ask(msgspec.structs.replace(request, options=options), thinks=thinks)
        return _Plan(body, prompt, size, most, shown.context)

    @asynccontextmanager
    async def _begun(self, request: ChatRequest, plan: "_Plan") -> AsyncGenerator[Response]:
        """The answer to a chat, whose status is 200. Raises GateError for every other."""
        model, size = request.model, plan.size
        while True:
            body, cold = plan.sized(size), self._loaded.get(model) != size
            async with self._send(ask.path(request), body, model, cold) as response:
                if response.status == 200:
                    self._loaded[model] = size
                    yield response
                    return
                fault = errors.fault(response.status, await response.read(LARGE), model)
            if fault.code != "context_length_exceeded":
                raise GateError(fault)
            if size >= plan.most:
                raise GateError(await self._too_long(fault, request, plan))
            size = window.choose(size + 1, plan.most, 0)  # the count was but a guess, and too low

    async def _too_long(self, fault: Fault, request: ChatRequest, plan: "_Plan") -> Fault:
        """The same fault, which says how long the conversation is, and for what."""
        count = await asyncio.to_thread(lambda: sum(map(tokens.count, window.texts(request))))
        message = f"{fault.message}: it is about {count} tokens, and {request.model} was given {plan.most}."
        advice = "Shorten the conversation."
        if plan.most < plan.context:
            advice += " Or allow more: `ollama.max_num_ctx`, or the option `num_ctx` where it was set."
        return msgspec.structs.replace(fault, message=message, advice=advice)

    @asynccontextmanager
    async def _send(self, path: str, body: bytes, model: str, cold: bool) -> AsyncGenerator[Response]:
        """Send a chat. Leaving before its answer begins ends it, but for a load that is worth its while."""
        sending = self._http.send(
            "POST",
            path,
            body,
            first_byte_timeout=self._options.first_token_timeout,
            idle_timeout=self._options.idle_timeout,
        )
        if not cold or not self._options.hold_load or model in self._held:
            async with sending as response:
                yield response
            return
        begun = asyncio.create_task(sending.__aenter__())
        try:
            response = await asyncio.shield(begun)
        except asyncio.CancelledError:
            # Ollama gives a load up when whoever asked for it leaves; the next one would wait as long.
            self._held[model] = asyncio.create_task(self._hold(begun, sending))
            self._held[model].add_done_callback(lambda _: self._held.pop(model, None))
            raise
        try:
            yield response
        finally:
            await sending.__aexit__(None, None, None)

    async def _hold(
        self, begun: "asyncio.Task[Response]", sending: AbstractAsyncContextManager[Response]
    ) -> None:
        """Wait for the first sign of an answer, which says that the model is loaded, and leave."""
        with suppress(GateError):
            await begun  # and with this task it is cancelled
            await sending.__aexit__(None, None, None)

    def _bounded(self, options: Mapping[str, Any], shown: catalog.Shown) -> dict[str, Any]:
        """`options` over what is set for every model, for no more memory than a model may have here."""
        return window.bounded({**self._defaults(), **options}, shown.context, self._options.max_num_ctx)

    def _defaults(self) -> dict[str, Any]:
        """What is set for every model, as `ChatRequest.options`."""
        defaults: dict[str, Any] = {}
        if self._options.num_ctx:
            defaults["num_ctx"] = self._options.num_ctx
        if keep := self._options.keep_alive:
            # Of a text, Ollama wants a unit: seconds, and -1, have to be numbers.
            defaults["keep_alive"] = int(keep) if keep.lstrip("-").isdecimal() else keep
        return defaults

    async def _known(self, model: str) -> catalog.Shown:
        if model not in self._shown:
            try:
                self._shown[model] = ("", await self._show(model))
            except GateError:
                return catalog.Shown()  # what is wrong with it, the chat itself will say
        return self._shown[model][1]

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
        """Nobody has ever seen it, nor said where it is: then nobody may want it."""
        unknown = not self._met and self._options.url == DEFAULT
        if fault.kind == "unavailable" and unknown and not shutil.which("ollama"):
            advice = "Start it, or get it: https://ollama.com/download"
            return Health("absent", f"not found at {self._http.where}", advice=advice)
        return Health("down", fault.message, advice=fault.advice)


class _Plan(msgspec.Struct, frozen=True):
    """How a chat is asked."""

    body: dict[str, Any]
    prompt: int
    """Tokens that the prompt is taken for."""
    size: int
    """The context to begin with."""
    most: int
    """The largest one that may be tried."""
    context: int
    """What the model itself could see; 0 when unknown."""

    def sized(self, size: int) -> bytes:
        """The body with a context of `size`."""
        return msgspec.json.encode(self.body | {"options": self.body.get("options", {}) | {"num_ctx": size}})


def _split(lines: Lines, data: bytes) -> list[bytes]:
    try:
        return lines.feed(data)
    except LineTooLong:
        raise GateError(Fault("upstream", "Ollama sent an endless line.")) from None


def _call_id() -> str:
    return f"call_{secrets.token_hex(12)}"
