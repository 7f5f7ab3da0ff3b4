"""What the stores of memories share: their settings and their fault. Knows no store."""

from typing import Annotated

import msgspec
from msgspec import Meta

from ..config import Secret
from ..errors import Fault, GateError

BATCH = 500
"""Entries of one read."""


class MemoryOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where memories are kept."""

    database_url: Annotated[
        Secret,
        Meta(
            description="Postgres with pgvector that keeps memories, "
            "as `postgresql://user:password@host:5432/name`; empty: SQLite."
        ),
    ] = Secret()
    default_namespace: Annotated[
        str,
        Meta(min_length=1, max_length=200, description="Namespace of what is kept without naming one."),
    ] = "default"


def unavailable(message: str, advice: str = "", retry_after: float = 0) -> GateError:
    """The store cannot be used now (503)."""
    return GateError(
        Fault(
            "unavailable",
            message,
            advice,
            "memory_store_unavailable",
            retryable=True,
            retry_after=retry_after,
        )
    )
