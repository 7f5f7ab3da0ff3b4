"""What Codex asks a person, and who answers: one desk for the terminal and the API.

Every question gets an answer: the person's, or no when its time is up or nobody is left to ask.
"""

import asyncio
import secrets
import time
from collections.abc import Callable

from ...errors import Fault, GateError
from ...events import Approval
from ...records import PendingApproval


class Desk:
    """The questions that wait."""

    def __init__(self, timeout: float) -> None:
        """`timeout`: seconds after which the answer is no."""
        self._timeout = timeout
        self._waiting: dict[str, tuple[PendingApproval, Callable[[bool], None], asyncio.TimerHandle]] = {}

    def ask(self, approval: Approval, model: str, answer: Callable[[bool], None]) -> None:
        """Put a question up; `answer` is called once."""
        now = int(time.time())
        pending = PendingApproval(
            approval.id,
            approval.action,
            approval.detail,
            approval.reason,
            approval.cwd,
            model,
            now,
            now + int(self._timeout),
        )
        timer = asyncio.get_running_loop().call_later(self._timeout, self._decide, approval.id, False)
        self._waiting[approval.id] = (pending, answer, timer)

    def pending(self) -> tuple[PendingApproval, ...]:
        """What waits, the oldest first."""
        return tuple(pending for pending, _, _ in self._waiting.values())

    def decide(self, id: str, accept: bool) -> None:
        """Answer. Raises GateError of kind `not_found` when nothing of that id waits."""
        if id not in self._waiting:
            message = f"No approval '{id}' waits."
            raise GateError(
                Fault("not_found", message, "It may have been decided or run out.", "approval_not_found")
            )
        self._decide(id, accept)

    def withdraw(self, id: str) -> None:
        """Nobody needs the answer any more."""
        waiting = self._waiting.pop(id, None)
        if waiting is not None:
            waiting[2].cancel()

    def _decide(self, id: str, accept: bool) -> None:
        _, answer, timer = self._waiting.pop(id)
        timer.cancel()
        answer(accept)


def new_id() -> str:
    """A name that is short enough to type and cannot be guessed in its two minutes."""
    return secrets.token_hex(8)
