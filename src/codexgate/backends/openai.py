"""An OpenAI-compatible server as a backend: carries what `dialects.openai` writes and reads over HTTP.

Knows routes, limits and time-outs; not what a chunk means, and no caller's format.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from ..chat import ChatRequest
from ..config import Secret
from ..dialects.openai import ask, decode, embeddings, errors
from ..dialects.openai import models as catalog
from ..errors import Fault, GateError, invalid
from ..events import Event
from ..records import Embeddings, Health, Model
from .http import Http

PROBE = 2.0
"""Seconds that a look at its health may take."""
LISTING = 10.0
"""Seconds that a server may think about its list of models."""
LARGE = 64 * 1024 * 1024
"""Bytes of the longest answer that is not a stream: many vectors."""
GRACE = 5.0
"""Seconds that the usage may come after the reason why an answer ended."""
TAIL = 0.25
"""Seconds that the end of the body may come after an answer's end; then its connection is not kept."""


class OpenAIOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What can be set about one server."""

    base_url: Annotated[str, Meta(description="Address of its API, as `http://gpu-box:8000/v1`.")]
    api_key: Annotated[Secret, Meta(description="Key that is sent to it.")] = Secret()
    models: Annotated[
        tuple[str, ...], Meta(description="Its models; empty: it is asked for them (`/models`).")
    ] = ()
    connect_timeout: Annotated[
        float, Meta(gt=0, description="Time that it has to accept a connection (seconds).")
    ] = 2
    first_token_timeout: Annotated[
        float, Meta(gt=0, description="Time that a model has for its first word (seconds).")
    ] = 300
    idle_timeout: Annotated[
        float, Meta(gt=0, description="Longest pause within an answer before it counts as lost (seconds).")
    ] = 120


class OpenAI:
    """One OpenAI-compatible server: a `Backend` and an `Embedder`."""

    def __init__(self, options: OpenAIOptions, *, name: str, section: str = "") -> None:
        """Connects only when something is asked. Raises GateError for an address or a key that is none.

        `section`: where its settings are; empty: `openai.NAME`.
        """
        self.name = name
        self._options = options
        key = options.api_key.reveal()
        self._upstream = errors.Upstream(name, key, section)
        section = self._upstream.section
        try:
            self._http = Http(
                options.base_url.strip(),
                connect_timeout=options.connect_timeout,
                headers={"Authorization": f"Bearer {key}"} if key else {},
                advice=f"Is it running? {section}.base_url says where it is looked for.",
            )
        except GateError as error:  # which names neither: both may hold a secret
            message = f"{section}.base_url or {section}.api_key cannot be used: {error.fault.message}"
            raise invalid(message, section, "invalid_setting") from None
        self._strict = ask.is_openai(urlsplit(self._http.where).hostname or "")
        # Of the servers that imitate OpenAI hardly one reads files.
        self.honours = ask.HONOURS | frozenset(("documents",) if self._strict else ())

    # Backend

    async def stream(self, request: ChatRequest) -> AsyncGenerator[list[Event]]:
        """Answer `request`; see `ports.Backend`."""
        must_call = ask.must_call(request.tool_choice)
        decoder = decode.Decoder(_call_id, self._upstream, must_call=must_call)
        try:
            body = ask.ask_raw(request) if request.raw else ask.ask(request, strict=self._strict)
            async with self._http.send(
                "POST",
                "/completions" if request.raw else "/chat/completions",
                msgspec.json.encode(body),
                first_byte_timeout=self._options.first_token_timeout,
                idle_timeout=self._options.idle_timeout,
            ) as response:
                if response.status != 200:
                    raise GateError(
                        self._refusal(response.status, await response.read(LARGE), response.headers)
                    )
                async for data in response:
                    events = decoder.feed(data)
                    if events:
                        yield events
                    if decoder.ended:
                        await response.drain(TAIL)
                        return
                    if decoder.answered:
                        response.wait_at_most(GRACE)
            events = decoder.end()
        except GateError as error:
            events = decoder.end(error.fault)
        if events:
            yield events

    async def models(self) -> tuple[Model, ...]:
        """Its models now; see `ports.Backend`. Nobody is asked when they are set."""
        if self._options.models:
            return tuple(catalog.named(id, self.name) for id in self._options.models)
        return tuple(catalog.model(entry, self.name) for entry in await self._list())

    async def probe(self) -> Health:
        """Look whether it works; see `ports.Backend`."""
        try:
            async with asyncio.timeout(PROBE):
                listed = await self._list()
        except TimeoutError:
            advice = "Restart it: it accepts connections and does not answer."
            return Health("down", f"{self._http.where} does not answer", advice=advice)
        except GateError as error:
            fault = error.fault
            # That it does not list its models is no loss where they are known.
            if fault.code != "no_model_list" or not self._options.models:
                return Health("down", fault.message, advice=fault.advice)
            listed = []
        count = len(self._options.models or listed)
        kind = f"{catalog.OLLAMA}, " if catalog.is_ollama(listed) else ""
        return Health("ready", f"{kind}{count} model{'' if count == 1 else 's'}")

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    # Embedder

    async def embed(self, model: str, texts: Sequence[str], dimensions: int | None = None) -> Embeddings:
        """Vectors of `texts`; see `ports.Embedder`."""
        if not texts:
            return Embeddings(())
        body = embeddings.ask(model, texts, dimensions)
        answer = await self._call("POST", "/embeddings", body, self._options.first_token_timeout)
        return await asyncio.to_thread(embeddings.embeddings, answer, len(texts), dimensions, self._upstream)

    # What they share

    async def _list(self) -> list[catalog.Entry]:
        try:
            return catalog.entries(await self._call("GET", "/models"), self._upstream)
        except GateError as error:
            fault = error.fault
            if fault.code or fault.retryable:
                raise
            advice = f"{fault.advice} Or name its models: {self._upstream.section}.models".strip()
            raise GateError(Fault("upstream", fault.message, advice, "no_model_list")) from None

    async def _call(self, method: str, path: str, body: Any = None, timeout: float = LISTING) -> bytes:
        """The body of a whole answer. Raises GateError for every status but 200."""
        sent = None if body is None else msgspec.json.encode(body)
        async with self._http.send(
            method, path, sent, first_byte_timeout=timeout, idle_timeout=timeout
        ) as response:
            answer = await response.read(LARGE)
        if response.status != 200:
            raise GateError(self._refusal(response.status, answer, response.headers))
        return answer

    def _refusal(self, status: int, body: bytes, headers: dict[str, str]) -> Fault:
        return errors.fault(self._upstream, status, body, headers, now=time.time())


def _call_id() -> str:
    return f"call_{secrets.token_hex(12)}"
