"""A backend in memory whose answers a test lists, step by step."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from codexgate.chat import ChatRequest
from codexgate.errors import Fault, GateError
from codexgate.events import Event
from codexgate.records import Health, Model, Progress

Step = Event | Sequence[Event] | asyncio.Event
"""An event, the events of one read, or something to wait for."""


class Scripted:
    """The model `scripted`; every answer goes through `steps`. Tells when it was left early."""

    def __init__(
        self,
        *steps: Step,
        name: str = "scripted",
        models: Sequence[Model] | None = None,
        honours: Sequence[str] = ("max_tokens",),
    ) -> None:
        self.name = name
        self.honours = frozenset(honours)
        self.steps = list(steps)
        self.requests: list[ChatRequest] = []
        self.open = 0
        """Answers in progress."""
        self.closed = 0
        """Answers that were ended, well or not."""
        self.begun = asyncio.Event()
        self.left = asyncio.Event()
        """Set when an answer was closed before its last step."""
        self.health = Health("ready", "in memory")
        chat = Model(id="scripted", backend=name, abilities=frozenset({"chat"}))
        self._models = tuple(models) if models is not None else (chat,)

    async def models(self) -> tuple[Model, ...]:
        if self.health.state == "down":
            raise GateError(Fault("unavailable", f"{self.name} is down."))
        return self._models

    async def stream(self, request: ChatRequest) -> AsyncGenerator[list[Event]]:
        self.requests.append(request)
        self.open += 1
        self.begun.set()
        finished = False
        try:
            for step in self.steps:
                if isinstance(step, asyncio.Event):
                    await step.wait()
                else:
                    finished = step is self.steps[-1]
                    yield list(step) if isinstance(step, Sequence) else [step]
        finally:
            self.open -= 1
            self.closed += 1
            if not finished:
                self.left.set()

    async def probe(self) -> Health:
        return self.health

    async def aclose(self) -> None:
        pass


class Installing(Scripted):
    """A scripted backend whose models can be installed; `news` is what a pull tells."""

    def __init__(self, *news: Progress | asyncio.Event, models: Sequence[Model] | None = None) -> None:
        super().__init__(models=models)
        self.news = news
        self.done: list[tuple[str, str]] = []
        """(verb, model) of everything that was asked and ended well."""

    async def pull(self, model: str) -> AsyncGenerator[Progress]:
        for each in self.news:
            if isinstance(each, asyncio.Event):
                await each.wait()
            else:
                yield each
        self.done.append(("pull", model))

    async def remove(self, model: str) -> None:
        self.done.append(("remove", model))

    async def warm(self, model: str, options: Mapping[str, Any] = {}) -> None:
        self.done.append(("unload" if options.get("keep_alive") == 0 else "warm", model))
