"""What every asynchronous test needs: a loop, and an end to waiting; and what tests of stores look at."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from codexgate.errors import GateError

T = TypeVar("T")

LIMIT = 40.0
"""Seconds that a test may wait for anything: several programs one after the other, on a busy machine."""
UNHURRIED = 15.0
"""Seconds for what a test is not about, in place of a deadline of ours: the machine may be busy."""


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a test's coroutine to its end, or fail after `LIMIT` seconds."""

    async def bounded() -> T:
        async with asyncio.timeout(LIMIT):
            return await coroutine

    return asyncio.run(bounded())


def unhurried(patch: pytest.MonkeyPatch, *deadlines: str) -> None:
    """Let nothing be over because the machine is busy; `deadlines`: their names below `codexgate`."""
    for name in deadlines:
        patch.setattr(f"codexgate.{name}", UNHURRIED)


async def works_again(ask: Callable[[], Awaitable[object]]) -> None:
    """Ask as often as clients might until there is an answer; not longer than `UNHURRIED` seconds."""
    async with asyncio.timeout(UNHURRIED):
        while True:
            try:
                await ask()
                return
            except GateError as error:
                assert error.fault.kind == "unavailable"
                await asyncio.sleep(0.02)


def states(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the gate's own modules logged."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("codexgate")]


def files_in(folder: Path) -> dict[Path, bytes]:
    """What lies anywhere below, while programs write there: a file taken away meanwhile is not there."""
    found: dict[Path, bytes] = {}
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            with suppress(FileNotFoundError):
                if path.is_file():
                    found[path] = path.read_bytes()
    return found
