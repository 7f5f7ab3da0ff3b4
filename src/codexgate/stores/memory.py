"""What the stores of memories share: their settings, their fault, and which words tell. Knows no store."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated

import msgspec
from msgspec import Meta

from ..config import Secret
from ..errors import store_unavailable

BATCH = 500
"""Entries of one read."""
COMMON = 1_000
"""Entries that the words of a query may be in, the rarest words first; what is more common tells nothing."""

unavailable = partial(store_unavailable, "memory_store_unavailable")
"""The store cannot be used now (503)."""


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


def telling(words: Sequence[str], counts: Mapping[str, float]) -> list[str]:
    """Those of `words` that are not in very many entries, the rarest first; `counts`: in how many each is."""
    found: list[str] = []
    total = 0.0
    for word in sorted(words, key=lambda word: counts.get(word, 0)):
        total += counts.get(word, 0)
        if total > COMMON:
            break
        found.append(word)
    return found
