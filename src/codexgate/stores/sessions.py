"""What the stores of sessions share: their two faults. Knows no store."""

from ..errors import Fault, GateError

BUSY = Fault(
    "conflict",
    "This session is busy with another turn.",
    "Wait for it to end, or begin another session.",
    "session_busy",
    retryable=True,
)
"""Somebody else holds the session (409)."""


def unavailable(message: str, advice: str = "", retry_after: float = 0) -> GateError:
    """The store cannot be used now (503)."""
    return GateError(
        Fault(
            "unavailable",
            message,
            advice,
            "session_store_unavailable",
            retryable=True,
            retry_after=retry_after,
        )
    )
