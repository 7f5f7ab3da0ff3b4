"""What every asynchronous test needs: a loop, and an end to waiting."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

LIMIT = 20.0
"""Seconds that a test may wait for anything."""


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a test's coroutine to its end, or fail after `LIMIT` seconds."""

    async def bounded() -> T:
        async with asyncio.timeout(LIMIT):
            return await coroutine

    return asyncio.run(bounded())
