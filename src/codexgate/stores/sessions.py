"""What the stores of sessions share: their two faults. Knows no store."""

from functools import partial

from ..errors import Fault, store_unavailable

BUSY = Fault(
    "conflict",
    "This session is busy with another turn.",
    "Wait for it to end, or begin another session.",
    "session_busy",
    retryable=True,
)
"""Somebody else holds the session (409)."""

unavailable = partial(store_unavailable, "session_store_unavailable")
"""The store cannot be used now (503)."""
