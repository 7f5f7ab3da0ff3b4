"""Keeps one child alive: starts it when it is needed, again after it died or hung, but not for ever."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable

from ...errors import Fault, GateError
from . import reap
from .child import Child

STARTS = 6
"""Starts in a minute: the first, and five restarts."""
BACKOFF = 0.25
"""Seconds before the second restart; doubled for each one after."""

log = logging.getLogger(__name__)


class Supervisor:
    """Hands out the live child."""

    def __init__(self, start: Callable[[], Awaitable[Child]]) -> None:
        """`start` makes a child that is ready to be asked. Raises GateError."""
        self._start = start
        self._child: Child | None = None
        self._starting = asyncio.Lock()
        self._starts: deque[float] = deque()
        self._swept = False

    async def child(self) -> Child:
        """The live child, started now if there is none. Raises GateError."""
        async with self._starting:
            if self._child is not None and await self._child.lives():
                return self._child
            if self._child is not None:
                reason = self._child.gone.message if self._child.gone else ""
                log.warning("codex.gone", extra={"fields": {"reason": reason}})
                await self._child.stop()
                self._child = None
            await self._pace()
            if not self._swept:
                await asyncio.to_thread(reap.end_leftovers)
                self._swept = True
            self._child = await self._start()
            return self._child

    async def stop(self) -> None:
        """Stop the child, if there is one."""
        async with self._starting:
            if self._child is not None:
                await self._child.stop()
                self._child = None

    async def _pace(self) -> None:
        now = time.monotonic()
        while self._starts and now - self._starts[0] > 60:
            self._starts.popleft()
        if len(self._starts) >= STARTS:
            wait = 60 - (now - self._starts[0])
            message = f"Codex ended {STARTS} times within a minute; it is left alone for {wait:.0f} s."
            advice = "`codex doctor` may tell why."
            raise GateError(Fault("unavailable", message, advice, "codex_crashing", "", True, wait))
        if len(self._starts) > 1:
            await asyncio.sleep(BACKOFF * 2 ** (len(self._starts) - 2))
        self._starts.append(time.monotonic())
