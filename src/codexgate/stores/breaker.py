"""What a store on the network does while its server is away; knows no server."""

import logging
import time
from collections.abc import Callable

from ..errors import GateError

log = logging.getLogger(__name__)

PAUSE = 1.0
"""Seconds between a failure and the next try; whoever asks meanwhile is told at once."""


class Breaker:
    """After a failure, one try a second; whoever else asks is told at once. Logs each change of state.

    `event`: start of the events' names: `thread_store`; `name`: the server, for people;
    `unavailable`: makes the error of message, advice and seconds to wait.
    """

    def __init__(self, event: str, name: str, unavailable: Callable[[str, str, float], GateError]) -> None:
        self.name = name
        self._event = event
        self._unavailable = unavailable
        self._down: GateError | None = None
        self._again = 0.0

    def enter(self) -> None:
        """Raise what went wrong last, unless it is time for a try."""
        if self._down is None:
            return
        now = time.monotonic()
        if now < self._again:
            raise GateError(self._down.fault)
        self._again = now + PAUSE

    def failed(self, reason: str, advice: str = "") -> GateError:
        """Note that it does not work; returns what to raise."""
        if self._down is None:
            log.warning(f"{self._event}.down", extra={"fields": {"store": self.name, "reason": reason}})
        self._down = self._unavailable(f"{self.name} cannot be used: {reason}.", advice, PAUSE)
        self._again = time.monotonic() + PAUSE
        return self._down

    def worked(self) -> None:
        """Note that it works."""
        if self._down is not None:
            log.info(f"{self._event}.up", extra={"fields": {"store": self.name}})
        self._down = None
