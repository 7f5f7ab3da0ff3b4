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
from ...jsonrpc import Notification
from .child import Child, Inbox

LEAVING = 5.0
"""Seconds that each request of the clean-up may take; nobody waits for it."""

log = logging.getLogger(__name__)


class Turn:
    """A turn that runs from the moment it is made."""

    def __init__(self, child: Child, plan: ask.Plan) -> None:
        self._child = child
        self._plan = plan
        self._thread = ""
        self._started = False
        self._left = False
        self._begun = asyncio.create_task(self._begin())

    async def read(self) -> list[Notification]:
        """What came since the last read, at least one. Raises GateError: refused, or child gone."""
        inbox = await asyncio.shield(self._begun)
        return await inbox.read()

    async def leave(self, ended: bool) -> None:
        """Let go; `ended`: the turn is over by itself. Nothing waits for this, nothing fails by it."""
        self._left = True
        await asyncio.wait({self._begun})
        if self._begun.exception() is not None:
            log.debug("codex.unbegun", extra={"fields": {"reason": str(self._begun.exception())}})
        if self._started and not ended:
            await self._try(wire.TURN_INTERRUPT, ask.interrupt(self._thread))
            # An interrupt leaves running commands alone (openai/codex#42717).
            await self._try(wire.TERMINALS_CLEAN, ask.thread(self._thread))
        if self._thread:
            await self._try(wire.THREAD_UNSUBSCRIBE, ask.thread(self._thread))
        self._child.forget(self._thread)

    async def _try(self, method: str, params: dict[str, Any]) -> None:
        with contextlib.suppress(GateError):
            await self._child.ask(method, params, LEAVING)

    async def _begin(self) -> Inbox:
        started = await self._child.ask(wire.THREAD_START, self._plan.thread)
        self._thread = msgspec.json.decode(started, type=wire.ThreadStarted).thread.id
        inbox = self._child.listen(self._thread)
        if self._plan.history and not self._left:
            params = ask.thread(self._thread) | {"items": self._plan.history}
            await self._child.ask(wire.THREAD_INJECT, params)
        if not self._left:
            await self._child.ask(wire.TURN_START, ask.thread(self._thread) | self._plan.turn)
            self._started = True
        return inbox
