"""The gate's use case: route a request to the backend that has the model, and pass its events on.

Knows backends only by their port. Promises to everybody above: a stream of events that keeps
the law, ends with exactly one `Done` or `Failed` and never raises but for cancellation.
"""

import asyncio
import difflib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Annotated, Any

import msgspec

from .chat import ChatRequest, Message, Sandbox, Text
from .errors import Fault, GateError, invalid
from .events import Done, Failed
from .order import Order
from .ports import Approver, Backend, Batches, Embedder, Installer, Relay, Route, Run, Stage
from .records import Embeddings, Health, Model, PendingApproval, Progress

FRESH = 5.0
"""Seconds for which a backend's list of models is believed."""
RETRY = 1.0
"""Seconds until a backend that was down is asked again."""
PATIENCE = 1.0
"""Seconds that a listing waits for a backend that does not answer."""
STUBBORN = 10.0
"""Seconds that a request waits which can go nowhere else: a cold Codex without network takes four."""

log = logging.getLogger(__name__)


def _said(description: str) -> msgspec.Meta:
    return msgspec.Meta(description=description)


class Alias(msgspec.Struct, frozen=True, kw_only=True):
    """A model under another name, with settings of its own; the request's settings win."""

    model: Annotated[str, _said("The model that the name stands for.")]
    system: Annotated[str, _said("System message put before the conversation.")] = ""
    effort: Annotated[str, _said("Reasoning effort, unless the request has one.")] = ""
    options: Annotated[dict[str, Any], _said("Options of the backend, such as `num_ctx`.")] = {}
    sandbox: Annotated[
        Sandbox | None, _said("What Codex's commands may do under this name, instead of `codex.sandbox`.")
    ] = None


class Gate:
    """All backends behind one door."""

    def __init__(
        self,
        backends: Sequence[Backend],
        *,
        aliases: Mapping[str, Alias] | None = None,
        default_model: str = "",
        stages: Sequence[Stage] = (),
        strict: bool = False,
    ) -> None:
        """`stages` are around every answer, the outermost first.

        `strict`: hold every answer to the law of event order, for tests and debug runs.
        """
        self.backends = tuple(backends)
        self.aliases = dict(aliases or {})
        self.default_model = default_model
        self._strict = strict
        self._run: Run = _ask_backend
        for stage in reversed(stages):
            self._run = partial(stage, run=self._run)
        self._shelves = {backend.name: _Shelf(backend) for backend in backends}

    def rename(self, aliases: Mapping[str, Alias], default_model: str) -> None:
        """Have these names for models from now on; who is being answered keeps what was meant."""
        self.aliases, self.default_model = dict(aliases), default_model

    async def models(self) -> list[Model]:
        """Every model of every backend that answers, in the order of the backends."""
        shelves = await asyncio.gather(*(shelf.look() for shelf in self._shelves.values()))
        return [model for models in shelves for model in models]

    async def names(self, *, aliases: bool = False) -> dict[str, Model]:
        """Every model by the name to ask for it: a bare id is the first's that has it. Or by an alias."""
        named: dict[str, Model] = {}
        for model in await self.models():
            named[model.id if model.id not in named else f"{model.backend}/{model.id}"] = model
        for name, alias in self.aliases.items() if aliases else ():
            if found := _seen(*self._places(alias.model)):
                named[name] = found[1]
        return named

    async def model(self, name: str) -> Model:
        """The model that `name` means: an id, `BACKEND/ID` or an alias. Raises GateError."""
        _, model = await self._find(name)
        return model

    async def default(self) -> Model:
        """The model of a request that names none. Raises GateError."""
        _, model = await self._find(self.default_model or await self._first())
        return model

    async def missing(self) -> dict[str, Fault]:
        """By setting, names in the settings that no model has now: the default's, and the aliases'."""
        named = {"default_model": self.default_model} if self.default_model else {}
        named |= {f"aliases.{name}": name for name in self.aliases}
        faults = await asyncio.gather(*(self._fault(name) for name in named.values()))
        return {setting: fault for setting, fault in zip(named, faults, strict=True) if fault}

    async def near(self, name: str) -> str:
        """A question that offers names like `name`; empty when there are none."""
        close = difflib.get_close_matches(name, await self.names(aliases=True), 3, 0.5)
        return f"Did you mean {' or '.join(close)}?" if close else ""

    async def health(self) -> dict[str, Health]:
        """How each backend fares, asked now."""
        found = await asyncio.gather(*(backend.probe() for backend in self.backends))
        return {backend.name: health for backend, health in zip(self.backends, found, strict=True)}

    def approvals(self) -> list[PendingApproval]:
        """What backends wait for somebody to allow."""
        return [
            waiting
            for backend in self.backends
            if isinstance(backend, Approver)
            for waiting in backend.approvals()
        ]

    def decide(self, id: str, accept: bool) -> None:
        """Allow or refuse one of them. Raises GateError of kind `not_found` when none waits."""
        for backend in self.backends:
            if isinstance(backend, Approver) and id in [waiting.id for waiting in backend.approvals()]:
                backend.decide(id, accept)
                return
        message = f"No approval '{id}' waits."
        raise GateError(
            Fault("not_found", message, "It may have been decided or run out.", "approval_not_found")
        )

    async def route(self, request: ChatRequest) -> Route:
        """Find the backend for `request`. Raises GateError: no such model, or it does not chat."""
        name = request.model or self.default_model
        backend, model = await self._find(name or await self._first())
        if model.lacks("chat"):
            raise _unfit(f"The model '{model.id}' does not chat.", "no_chat")
        alias = self.aliases.get(name)
        sandbox = alias.sandbox if alias else None  # the operator's word alone
        request = msgspec.structs.replace(request, model=model.id, sandbox=sandbox)
        return Route(backend, model, _fill_in(request, alias) if alias else request)

    async def embed(self, name: str, texts: Sequence[str], dimensions: int | None = None) -> Embeddings:
        """Vectors of `texts` by the model that `name` means. Raises GateError."""
        backend, model = await self._find(name)
        if not isinstance(backend, Embedder) or model.lacks("embedding"):
            raise _unfit(f"The model '{model.id}' does not embed.", "no_embedding")
        return await backend.embed(model.id, texts, dimensions)

    def installer(self, model: Model) -> Installer:
        """The backend that has `model`. Raises GateError when its models come and go by themselves."""
        backend = self._shelves[model.backend].backend
        if isinstance(backend, Installer):
            return backend
        raise invalid(f"The models of {model.backend} cannot be installed or removed.", "model")

    async def pull(self, name: str) -> AsyncGenerator[Progress]:
        """Install what `name` means: its prefix chooses the backend, else the first that can.

        A model that comes with its backend is there already, and nobody is asked for it.
        Closing the generator stops it. Raises GateError when there is no such backend, and what that raises.
        """
        wanted, shelves = self._places(name)
        await asyncio.gather(*(shelf.look() for shelf in shelves))
        if (found := _seen(wanted, shelves)) and not isinstance(found[0].backend, Installer):
            return
        for shelf in shelves:
            if isinstance(shelf.backend, Installer):
                async with shelf.changing(), aclosing(shelf.backend.pull(wanted)) as news:
                    async for each in news:
                        yield each
                return
        raise GateError(Fault("unavailable", "No backend here can install models.", "Install Ollama."))

    async def remove(self, model: Model) -> None:
        """Delete it from disk. Raises GateError."""
        async with self._shelves[model.backend].changing():
            await self.installer(model).remove(model.id)

    async def warm(self, model: Model, options: Mapping[str, Any] = {}) -> None:
        """Load it into memory, or take it out; see `ports.Installer`. Raises GateError."""
        async with self._shelves[model.backend].changing():
            await self.installer(model).warm(model.id, options)

    async def relay(
        self, method: str, path: str, body: bytes | AsyncIterable[bytes]
    ) -> AsyncGenerator[bytes]:
        """Have an Ollama do what only an Ollama can; see `ports.Relay`. Raises GateError if there is none."""
        for shelf in self._shelves.values():
            if isinstance(shelf.backend, Relay):
                async with shelf.changing(), aclosing(shelf.backend.relay(method, path, body)) as pieces:
                    async for piece in pieces:
                        yield piece
                return
        raise GateError(
            Fault("unavailable", "Only an Ollama can do this, and there is none.", "Install Ollama.")
        )

    async def stream(self, route: Route) -> Batches:
        """Run `route`. Closing the generator stops the work upstream."""
        order = Order()
        ended = False
        try:
            async with aclosing(self._run(route)) as batches:
                async for batch in batches:  # to its end, so that the backend can put things away
                    if ended:
                        continue
                    if self._strict:
                        for event in batch:
                            order.feed(event)
                    ended = isinstance(batch[-1], Done | Failed)
                    yield batch
            message = f"{route.backend.name} stopped in the middle of its answer."
            fault = Fault("upstream", message, retryable=True)
        except GateError as error:
            fault = error.fault
        except Exception:
            log.exception("backend.crash", extra={"fields": {"backend": route.backend.name}})
            fault = Fault("internal", "codexgate failed while it was answering.", "The log has the details.")
        if not ended:
            yield [Failed(fault)]

    async def aclose(self) -> None:
        """Close every backend."""
        for shelf in self._shelves.values():
            await shelf.aclose()
        for backend in self.backends:
            await backend.aclose()

    def _target(self, name: str) -> str:
        alias = self.aliases.get(name)
        return alias.model if alias else name

    async def _first(self) -> str:
        for model in await self.models():
            if "chat" in model.abilities:
                return f"{model.backend}/{model.id}"
        raise GateError(Fault("not_found", "No backend has a model that chats.", code="model_not_found"))

    def _places(self, name: str) -> tuple[str, list["_Shelf"]]:
        """The id that `name` means, and where to look for it: a prefix chooses one backend."""
        prefix, slash, rest = name.partition("/")
        if slash and prefix in self._shelves:
            return rest, [self._shelves[prefix]]
        return name, list(self._shelves.values())

    async def _fault(self, name: str) -> Fault | None:
        try:
            await self._find(name)
        except GateError as error:
            return error.fault if error.fault.code == "model_not_found" else None
        return None

    async def _find(self, name: str) -> tuple[Backend, Model]:
        wanted, shelves = self._places(self._target(name))
        for patience in (0.0, PATIENCE, STUBBORN):  # what is believed first: it costs nothing
            if patience:
                await asyncio.gather(*(shelf.look(patience) for shelf in shelves))
            if found := _seen(wanted, shelves):
                shelf, model = found
                shelf.refresh_soon()
                return shelf.backend, model
            if patience and not any(shelf.looking for shelf in shelves):
                break
        raise await self._missing(name, wanted, shelves)

    async def _missing(self, name: str, wanted: str, shelves: list["_Shelf"]) -> GateError:
        down = [
            shelf.fault for shelf in shelves if shelf.fault and (len(shelves) == 1 or wanted in shelf.seen)
        ]
        if down:
            return GateError(down[0])
        target = self._target(name)
        advice = await self.near(target) or "`codexgate models` lists the models."
        absent = " ".join(shelf.fault.message for shelf in shelves if shelf.fault)
        alias = "" if target == name else f", for which '{name}' stands,"
        message = f"The model '{target}'{alias} does not exist here. {absent}".strip()
        return GateError(Fault("not_found", message, advice, "model_not_found", "model"))


class _Shelf:
    """What is known of one backend's models, and how old that is."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.fault: Fault | None = None
        """Why the last look failed."""
        self.seen: set[str] = set()
        """Every id it ever had: one of these is missed because the backend is down."""
        self.models: tuple[Model, ...] = ()
        """What the last look saw."""
        self._looked = float("-inf")
        self._looking: asyncio.Task[None] | None = None

    async def look(self, patience: float = PATIENCE) -> tuple[Model, ...]:
        """A list that is fresh, or after `patience` seconds the one there is."""
        self.refresh_soon()
        if self._looking is not None:
            _, late = await asyncio.wait({self._looking}, timeout=patience)
            if late and self.fault is None and not self.models:
                message = f"{self.backend.name} did not list its models within {patience:g} s."
                self.fault = Fault("unavailable", message, retryable=True)
        return self.models

    @property
    def looking(self) -> bool:
        """A look is under way."""
        return self._looking is not None

    def refresh_soon(self) -> None:
        """Look again in the background unless the list is fresh."""
        if self._looking is None and time.monotonic() - self._looked > (RETRY if self.fault else FRESH):
            self._looking = asyncio.create_task(self._refresh())

    @asynccontextmanager
    async def changing(self) -> AsyncGenerator[None]:
        """Its models may change meanwhile: what was seen before is not believed after it."""
        try:
            yield
        finally:
            await self.aclose()
            self.models, self._looked = (), float("-inf")

    async def aclose(self) -> None:
        """Stop looking."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})
            self._looking = None

    async def _refresh(self) -> None:
        models: tuple[Model, ...] = ()
        fault = None
        try:
            models = await self.backend.models()
        except GateError as error:
            fault = error.fault
        except Exception:
            log.exception("models.crash", extra={"fields": {"backend": self.backend.name}})
            fault = Fault("internal", f"The models of {self.backend.name} could not be listed.")
        if (fault is None) != (self.fault is None):
            told = {"backend": self.backend.name, "reason": fault.message if fault else ""}
            log.info("backend.down" if fault else "backend.up", extra={"fields": told})
        self.models, self.fault = models, fault
        self.seen.update(model.id for model in models)
        self._looked, self._looking = time.monotonic(), None


def _seen(id: str, shelves: Sequence[_Shelf]) -> tuple[_Shelf, Model] | None:
    """The model called `id`, as far as is known now; without a tag it is the `latest`, and the reverse."""
    for meant in ((id,), (f"{id}:latest", id.removesuffix(":latest"))):
        for shelf in shelves:
            for model in shelf.models:
                if model.id in meant:
                    return shelf, model
    return None


def _unfit(message: str, code: str) -> GateError:
    """There is such a model, but not for this: to OpenAI that is a 404 too."""
    return GateError(Fault("not_found", message, "`codexgate models` tells which models do.", code, "model"))


def _ask_backend(route: Route) -> Batches:
    return route.backend.stream(route.request)


def _fill_in(request: ChatRequest, alias: Alias) -> ChatRequest:
    messages = request.messages
    if alias.system:
        messages = (Message("system", (Text(alias.system),)), *messages)
    return msgspec.structs.replace(
        request,
        messages=messages,
        effort=request.effort or alias.effort,
        options={**alias.options, **request.options},
    )
