"""What a check is, and what it tells. Values only; knows no check, no terminal, no socket."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from ..settings import Settings

Status = Literal["ok", "warning", "fail", "skipped"]
Category = Literal["codex", "ollama", "gate", "memory", "network", "system", "client"]

DEADLINE = 2.0
"""Seconds that one check has."""
WHOLE = 9.0
"""Seconds that all of them have together: of the ten of a whole run, one is for its start and its end."""


class Remedy(msgspec.Struct, frozen=True):
    """What to do about it."""

    text: str
    command: str = ""
    """The one command that mends it; empty when there is none."""
    safe: bool = False
    """`--fix` may run `command`: it takes nothing away and can be repeated."""


class Row(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    id: str
    """Stable: `ollama.pull.shim`."""
    category: Category
    status: Status
    summary: str
    """What was seen; one line."""
    why: str = ""
    """Why it matters; of rows that are not ok."""
    remedy: Remedy | None = None
    details: dict[str, Any] = {}
    """For programs, and for people who ask for more: what was asked and answered. No secret."""
    duration: float = 0.0
    """Seconds; the runner fills it in."""


class Asked(msgspec.Struct, frozen=True):
    """What the doctor was asked, and where it looks."""

    settings: Settings
    environ: Mapping[str, str]
    home: Path
    model: str = ""
    """`--model`: the model that shall be used."""
    url: str = ""
    """`--url`: the server that `codex --oss` or a client shall use; empty: what is set, or the gate."""
    heard: dict[str, asyncio.Future[Any]] = {}
    """What servers answered in this run, by request (`reach.hear`): none is asked the same thing twice."""


Look = Callable[[Asked], Awaitable[list[Row]]]


class Check(msgspec.Struct, frozen=True):
    """One check; it may tell several rows, all of ids in `ids`."""

    ids: tuple[str, ...]
    category: Category
    look: Look
    deadline: float = DEADLINE
