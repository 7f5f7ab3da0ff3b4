"""One thread with one turn on it: begun, read, and always left properly.

The ids are known only after several answers of the child. Whoever leaves before that still
gets exactly one interrupt sent, as soon as they are known; whoever leaves before the turn was
asked for gets no turn.
"""

import asyncio
import contextlib
import logging
from typing import Any

import msgspec

from ...dialects.codex import ask, wire
from ...errors import GateError
from ...jsonrpc import RequestId
from .child import Child, Inbox, Told

LEAVING = 5.0
"""Seconds that each request of the clean-up may take; nobody waits for it."""
CLOSING = 1.0
"""Seconds for an unsubscribed thread to be put away; resumed before that, it may never answer."""

log = logging.getLogger(__name__)


class Turn:
    """A turn that runs from the moment it is made."""

    def __init__(self, child: Child, plan: ask.Plan) -> None:
        self.thread = plan.resume
        """The thread's id; empty until it is known."""
        self._child = child
        self._plan = plan
        self._opened = False
        self._started = False
        self._left = False
        self._inbox: Inbox | None = None
        self._begun = asyncio.create_task(self._begin())

    @property
    def lost(self) -> bool:
        """Its child is gone."""
        return self._child.gone is not None

    async def ready(self) -> str:
        """The thread's id, once the turn runs. Raises GateError: refused, or child gone."""
        await asyncio.shield(self._begun)
        return self.thread

    async def read(self) -> list[Told]:
        """What came since the last read, at least one. Raises GateError: refused, or child gone."""
        inbox = await asyncio.shield(self._begun)
        return await inbox.read()

    def answer(self, id: RequestId, result: dict[str, Any] | None) -> None:
        """Answer what the child asked of this turn; `None` refuses it."""
        self._child.answer(id, result)

    async def leave(self, ended: bool) -> None:
        """Let go; `ended`: the turn is over by itself. Nothing waits for this, nothing fails by it."""
        self._left = True
        await asyncio.wait({self._begun})
        if self._begun.exception() is not None:
            log.debug("codex.unbegun", extra={"fields": {"reason": str(self._begun.exception())}})
        if self._started and not ended:
            await self._try(wire.TURN_INTERRUPT, ask.interrupt(self.thread))
            # An interrupt leaves running commands alone (openai/codex#42717).
            await self._try(wire.TERMINALS_CLEAN, ask.thread(self.thread))
        if self.thread:
            await self._try(wire.THREAD_UNSUBSCRIBE, ask.thread(self.thread))
            if self._plan.lasting and self._opened:
                await self._closed()
        self._child.forget(self.thread)

    async def _try(self, method: str, params: dict[str, Any]) -> None:
        with contextlib.suppress(GateError):
            await self._child.ask(method, params, LEAVING)

    async def _closed(self) -> None:
        with contextlib.suppress(GateError, TimeoutError):
            async with asyncio.timeout(CLOSING):
                while self._inbox is not None:
                    if wire.THREAD_CLOSED in [told.method for told in await self._inbox.read()]:
                        return

    async def _begin(self) -> Inbox:
        if self._plan.resume:
            # It tells the thread's totals right behind the answer, so somebody has to listen before.
            self._inbox = self._child.listen(self._plan.resume)
            await self._child.ask(wire.THREAD_RESUME, self._plan.thread)
        else:
            started = await self._child.ask(wire.THREAD_START, self._plan.thread)
            self.thread = msgspec.json.decode(started, type=wire.ThreadStarted).thread.id
            self._inbox = self._child.listen(self.thread)
        self._opened = True
        plan = self._plan
        if plan.history and not self._left:
            params = ask.thread(self.thread) | {"items": plan.history}
            try:
                await self._child.ask(wire.THREAD_INJECT, params)
            except GateError as error:
                if not ask.is_unknown_method(error.fault):  # as to versions before 0.119
                    raise
                plan = ask.told_as_text(plan)
        if not self._left:
            await self._child.ask(wire.TURN_START, ask.thread(self.thread) | plan.turn)
            self._started = True
        return self._inbox
