"""What the use cases need from the outside world, as Protocols; their docstrings are the contract.

An adapter is right when it passes the suite of its port in `tests/`. Nothing here names a
protocol, a library or a store.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol, runtime_checkable

from .chat import ChatRequest, Message
from .events import Event
from .records import Health, Model, Progress


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
        """
        ...

    async def models(self) -> tuple[Model, ...]:
        """Its models now; asked often, so cheap or cached by what they are made of.

        Raises GateError of kind `unavailable` when it cannot be reached.
        """
        ...

    def stream(self, request: ChatRequest) -> AsyncGenerator[list[Event]]:
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

    async def warm(self, model: str) -> None:
        """Load `model` into memory. Raises GateError of kind `not_found` or `unavailable`."""
        ...


class SessionStore(Protocol):
    """Conversations that the gate keeps, by name."""

    def load(self, key: str) -> tuple[Message, ...]:
        """The messages kept under `key`, oldest first; empty when there are none. Blocks on disk."""
        ...

    def append(self, key: str, messages: Sequence[Message]) -> None:
        """Keep `messages` after what is there, all or none of them. Blocks on disk."""
        ...

    def latest(self) -> str | None:
        """The key that was appended to last."""
        ...

    def keys(self) -> tuple[str, ...]:
        """Every key, the one used last first."""
        ...

    def delete(self, key: str) -> None:
        """Forget `key`; forgetting what is not there is no failure."""
        ...
