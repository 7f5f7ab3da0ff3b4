"""A backend in memory whose answers a test lists, step by step."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from codexgate.chat import ChatRequest
from codexgate.errors import Fault, GateError
from codexgate.events import Event
from codexgate.records import Health, Model, Progress

Step = list[Event] | asyncio.Event
"""Events of one read, or something to wait for."""


class Scripted:
    """The model `scripted`; every answer goes through `steps`."""

    name = "scripted"
    honours = frozenset({"max_tokens"})

    def __init__(self, *steps: Step, models: Sequence[Model] | None = None) -> None:
        self.steps = steps
        self.requests: list[ChatRequest] = []
        self.closed = 0
        """Answers that were ended, well or not."""
        self.health = Health("ready", "in memory")
        chat = Model(id="scripted", backend=self.name, abilities=frozenset({"chat"}))
        self._models = tuple(models) if models is not None else (chat,)

    async def models(self) -> tuple[Model, ...]:
        if self.health.state == "down":
            raise GateError(Fault("unavailable", f"{self.name} is down."))
        return self._models

    async def stream(self, request: ChatRequest) -> AsyncGenerator[list[Event]]:
        self.requests.append(request)
        try:
            for step in self.steps:
                if isinstance(step, asyncio.Event):
                    await step.wait()
                else:
                    yield step
        finally:
            self.closed += 1

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

    async def warm(self, model: str) -> None:
        self.done.append(("warm", model))
