"""Runs the checks: all at once, each within its deadline, rows as they finish, masked.

The one place that knows every module of checks. It knows no terminal, and no check by name.
"""

import asyncio
import importlib
import time
from collections.abc import AsyncGenerator, Collection, Iterable
from difflib import get_close_matches
from functools import cache
from typing import Any

import msgspec

from ..errors import invalid
from . import mask
from .words import WHOLE, Asked, Check, Row

MODULES = ("codex", "ollama", "oss", "embeddings", "gate", "stores", "system", "network")
"""Each has `CHECKS`; imported when they are run, for some bring libraries along."""
OTHERS = ("gate.settings",)
"""Ids of rows that no check makes: without settings there is nobody to ask one."""
LONGEST, MOST = 2_000, 50
"""Characters of a text, entries of a list or an object that a row shows: a server may send megabytes."""
SUMMARY = 400
"""Characters of a summary."""


class Found(msgspec.Struct, frozen=True):
    """A row, and what the mask took out of it."""

    row: Row
    """Masked: this may be shown."""
    command: str
    """The remedy's command as it can be run."""


@cache
def checks() -> tuple[Check, ...]:
    """Every check there is."""
    modules = [importlib.import_module(f".{name}", __package__) for name in MODULES]
    return tuple(check for module in modules for check in module.CHECKS)


def ids() -> tuple[str, ...]:
    """The ids of all rows that may be told."""
    return (*OTHERS, *(id for check in checks() for id in check.ids))


def wanted(only: Iterable[str]) -> frozenset[str]:
    """The ids that `only` names, each whole or by its beginning (`ollama`); all when it names none.

    Raises GateError (`invalid_request`, code `unknown_check`) for a name that begins none.
    """
    names, known = [*only], ids()
    found = set()
    for name in names:
        matching = {id for id in known if id == name or id.startswith(f"{name}.")}
        if not matching:
            heads = [*dict.fromkeys(id.partition(".")[0] for id in known)]
            near = [id for id in known if name in id.split(".")][:3]
            near = near or get_close_matches(name, [*heads, *known], 3, 0.5)
            advice = f"Did you mean {' or '.join(near)}?" if near else f"There are {', '.join(heads)}."
            raise invalid(f"There is no check '{name}'.", "only", "unknown_check", advice)
        found |= matching
    return frozenset(found or known)


def together(id: str) -> frozenset[str]:
    """The ids that are told by the same look as `id`; it alone when no check tells it."""
    return frozenset(next((check.ids for check in checks() if id in check.ids), (id,)))


async def examine(
    asked: Asked,
    only: Collection[str] = (),
    *,
    hidden: mask.Mask | None = None,
    whole: float = WHOLE,
    among: Collection[Check] | None = None,
) -> AsyncGenerator[Found]:
    """Look, and hand out rows as they are found; `only`: ids of the rows that are wanted.

    `hidden`: where there is a mask for `asked` already. Never takes longer than `whole` seconds; what has
    not come by then is told as late. Raises nothing.
    """
    end = asyncio.get_running_loop().time() + whole
    hidden = hidden or await mask.in_time(asked)
    chosen = [check for check in (checks() if among is None else among) if not only or {*check.ids} & {*only}]
    tasks = [asyncio.create_task(_look(check, asked, end)) for check in chosen]
    try:
        for done in asyncio.as_completed(tasks):
            for row in await done:
                if not only or row.id in only:
                    # Cut after masking: half of a secret would not be known for one.
                    yield Found(_short(hidden.row(row)), row.remedy.command if row.remedy else "")
    finally:
        for task in tasks:
            task.cancel()


async def _look(check: Check, asked: Asked, end: float) -> list[Row]:
    """What one check finds; whatever happens to it becomes a row of its first id."""
    begun = time.monotonic()
    limit = min(check.deadline, end - asyncio.get_running_loop().time())
    looking = asyncio.ensure_future(check.look(asked))
    try:
        done, _ = await asyncio.wait((looking,), timeout=limit)
        late = f"This check did not end within {limit:.1f} s."
        rows = looking.result() if done else [_broken(check, late)]
    except Exception as error:
        rows = [_broken(check, f"This check itself failed: {type(error).__name__}: {error}")]
    finally:
        looking.cancel()
    duration = time.monotonic() - begun
    return [msgspec.structs.replace(row, duration=row.duration or duration) for row in rows]


def _broken(check: Check, summary: str) -> Row:
    why = "What it looks at is not known; the other rows do not hang on it."
    return Row(check.ids[0], check.category, "fail", summary, why)


def _short(row: Row) -> Row:
    return msgspec.structs.replace(row, summary=_cut(row.summary, SUMMARY), details=_cut(row.details))


def _cut(value: Any, most: int = LONGEST) -> Any:
    """A JSON value, its long texts, lists and objects cut; `most`: characters of a text."""
    match value:
        case str() if len(value) > most:
            return f"{value[: most // 2]} … {value[-most // 2 :]}"
        case list():
            more = [f"… and {len(value) - MOST} more"] * (len(value) > MOST)
            return [*map(_cut, value[:MOST]), *more]
        case dict():
            return {_cut(name): _cut(each) for name, each in [*value.items()][:MOST]}
    return value
