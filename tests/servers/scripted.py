"""An in-memory backend whose answers a test lists; a real `ports.Backend`, checked as one."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from codexgate.chat import ChatRequest
from codexgate.events import Event
from codexgate.records import Health, Model

Step = Event | Sequence[Event] | asyncio.Event
"""An event, a batch of them, or something to wait for."""


class Scripted:
    """Answers every request with the same steps, and tells when it was left early."""

    def __init__(
        self, *steps: Step, name: str = "scripted", models: Sequence[Model] = (), honours: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.honours = frozenset(honours)
        self.steps = list(steps)
        self.requests: list[ChatRequest] = []
        self.open = 0
        """Answers in progress."""
        self.begun = asyncio.Event()
        self.left = asyncio.Event()
        """Set when an answer was closed before its end."""
        self._models = tuple(models) or (Model("model", name, abilities=frozenset({"chat"})),)

    async def models(self) -> tuple[Model, ...]:
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
            if not finished:
                self.left.set()

    async def probe(self) -> Health:
        return Health("ready", "scripted")

    async def aclose(self) -> None:
        pass
