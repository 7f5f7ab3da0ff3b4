"""What answers: backends and what some of them can do besides, and what may stand around an answer."""

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec

from ..chat import ChatRequest
from ..events import Event
from ..records import Embeddings, Health, Model, PendingApproval, Progress

Batches = AsyncGenerator[list[Event]]
"""An answer: what each read upstream brought."""


class Frames(list[Event]):
    """Texts that one read brought, whose bytes a caller of OpenAI's chat may be given as they are."""

    def __init__(self, events: Iterable[Event], raw: bytes, head: bytes, null_usage: bool) -> None:
        super().__init__(events)
        self.raw = raw
        """One whole server-sent event for each text."""
        self.head = head
        """How each of them begins: the answer's id, time and model. It occurs nowhere else in `raw`."""
        self.null_usage = null_usage
        """Each of them says `"usage":null`."""


class Backend(Protocol):
    """Something that answers chats with models of its own."""

    @property
    def name(self) -> str:
        """Its name in model prefixes and listings: `ollama`; unique in one gate."""
        ...

    @property
    def honours(self) -> frozenset[str]:
        """The names of the `Sampling` settings it acts on; the others are reported as ignored.

        `n` among them: the same request may be sent several times for several answers.
        `documents` among them: it reads files itself; for others their text is put in their place.
        """
        ...

    async def models(self) -> tuple[Model, ...]:
        """Its models now; asked often, so cheap or cached by what they are made of.

        Raises GateError of kind `unavailable` when it cannot be reached.
        """
        ...

    def stream(self, request: ChatRequest) -> Batches:
        """Answer `request`, whose `model` is one of its own ids.

        Yields what each read upstream brought, never an empty list, under the law in `order.py`;
        the last event is `Done` or `Failed`: failures are events, not exceptions.
        Closing the generator, in any phase, stops the work upstream. It is not iterated twice.
        """
        ...

    async def probe(self) -> Health:
        """Look whether it works; never raises, never takes more than about two seconds."""
        ...

    async def aclose(self) -> None:
        """Let go of everything; may be called twice."""
        ...


@runtime_checkable
class Installer(Protocol):
    """A backend whose models can be installed, removed and warmed up."""

    def pull(self, model: str) -> AsyncGenerator[Progress]:
        """Install `model`, resuming a download that was cut; yields news until it is there.

        Raises GateError with the reason when it cannot be had.
        """
        ...

    async def remove(self, model: str) -> None:
        """Delete `model` from disk. Raises GateError of kind `not_found`."""
        ...

    async def warm(self, model: str, options: Mapping[str, Any] = {}) -> None:
        """Load `model` into memory, or with a `keep_alive` of 0 take it out.

        `options`: as those of a chat. Raises GateError of kind `not_found` or `unavailable`.
        """
        ...


@runtime_checkable
class Relay(Protocol):
    """A backend that is an Ollama, for what only an Ollama can do or knows.

    The options of its models are Ollama's (`num_ctx`, `keep_alive`).
    """

    def relay(self, method: str, path: str, body: bytes | AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
        """Send a request as it is; yields the body of its answer as it comes.

        `path` is one of Ollama's own, never a caller's. A body of unknown size is read only as fast as
        it is taken. Raises GateError for every status but success, with Ollama's reason.
        """
        ...


@runtime_checkable
class Embedder(Protocol):
    """A backend whose models turn texts into vectors."""

    async def embed(self, model: str, texts: Sequence[str], dimensions: int | None = None) -> Embeddings:
        """One vector for each of `texts`, which are never empty, by `model`, one of its own ids.

        `dimensions`: the length wanted. Raises GateError, of kind `invalid_request` (param
        `dimensions` or `input`) for what the model cannot do.
        """
        ...


@runtime_checkable
class Agent(Protocol):
    """A backend that calls tools by itself, also those of MCP servers."""

    def connect(self, name: str, url: str, key: str) -> None:
        """From now on let its turns call the tools of the server `name` at `url`, with the bearer `key`.

        A server of that name that the operator has set stays.
        """
        ...


@runtime_checkable
class Approver(Protocol):
    """A backend that asks before it acts."""

    def approvals(self) -> tuple[PendingApproval, ...]:
        """What waits for a decision, the oldest first."""
        ...

    def decide(self, id: str, accept: bool) -> None:
        """Allow or refuse one, this once. Raises GateError of kind `not_found` when none waits."""
        ...


class Route(msgspec.Struct, frozen=True):
    """Where a request goes."""

    backend: Backend
    model: Model
    request: ChatRequest
    """With the backend's own model id and an alias's settings filled in."""

    @property
    def ignored(self) -> tuple[str, ...]:
        """The settings given that this backend does not act on."""
        return tuple(sorted(self.request.sampling.given() - self.backend.honours))


Run = Callable[[Route], Batches]
"""Answers a route."""


class Stage(Protocol):
    """Something that happens around an answer: a history put before it, a file written after it."""

    def __call__(self, route: Route, run: Run) -> Batches:
        """Answer `route` by what `run` makes of it, or of a changed one.

        Returns `run(route)` itself where it has nothing to do, so that it costs nothing then.
        Raises GateError, while iterated, for a refusal. Closing its generator closes `run`'s;
        what `run` gives is iterated to its end.
        """
        ...
