"""Models as lines of text and as JSON. Pure: knows neither the gate nor where the lines go."""

import shutil
from datetime import UTC, datetime
from typing import Any, NamedTuple, get_args

from ..records import Ability, Model
from .terminal import Paint, escape_line

GAP = 2
LEAST = 10
"""Columns that the abilities get at least; they fold, the other columns give way one by one."""
_GIVE_WAY = ("LOADED", "CONTEXT", "SIZE", "BACKEND")


class _Column(NamedTuple):
    title: str
    cells: list[str]

    @property
    def width(self) -> int:
        return max(len(cell) for cell in [self.title, *self.cells])


def terminal_width() -> int:
    """Columns of the terminal; 80 when it does not say."""
    return shutil.get_terminal_size().columns


def model_table(models: list[Model], paint: Paint, width: int | None) -> list[str]:
    """One line per model under a header, in `width` columns if it is given.

    Abilities fold into further lines; where even that is too wide, columns are left out.
    """
    columns = [
        _Column("ID", [escape_line(model.id) for model in models]),
        _Column("BACKEND", [escape_line(model.backend) for model in models]),
        _Column("SIZE", [size(model.size) for model in models]),
        _Column("CONTEXT", [context(model.context) for model in models]),
        _Column("LOADED", ["yes" if model.loaded else "" for model in models]),
        _Column("ABILITIES", [" ".join(abilities(model)) for model in models]),
    ]
    room = columns[-1].width
    if width is not None:
        for title in _GIVE_WAY:
            if _room(columns, width) >= LEAST:
                break
            columns = [column for column in columns if column.title != title]
        room = max(LEAST, min(room, _room(columns, width)))
    header = _row([column.title for column in columns], columns, room)
    lines = [paint(line, "bold") for line in header]
    for cells in zip(*(column.cells for column in columns), strict=True):
        lines += _row(list(cells), columns, room)
    return lines


def model_card(model: Model) -> list[str]:
    """Everything known of `model`, a line each."""
    facts = {
        "id": model.id,
        "backend": model.backend,
        "owner": model.owned_by,
        "created": f"{datetime.fromtimestamp(model.created, UTC):%Y-%m-%d %H:%M} UTC"
        if model.created
        else "",
        "size": size(model.size),
        "context": f"{model.context:,} tokens" if model.context else "",
        "abilities": ", ".join(abilities(model)),
        "loaded": "yes" if model.loaded else "no",
        **model.details,
    }
    shown = {escape_line(name): escape_line(fact) for name, fact in facts.items() if fact}
    width = max(map(len, shown)) + GAP
    return [f"{name:{width}}{fact}" for name, fact in shown.items()]


def model_object(model: Model) -> dict[str, Any]:
    """A model as JSON; what is unknown is null."""
    return {
        "id": model.id,
        "backend": model.backend,
        "owned_by": model.owned_by or None,
        "created": model.created or None,
        "size": model.size or None,
        "context": model.context or None,
        "abilities": abilities(model),
        "loaded": model.loaded,
        "details": model.details,
    }


def abilities(model: Model) -> list[str]:
    """What the model can, always in the same order."""
    return [ability for ability in get_args(Ability) if ability in model.abilities]


def size(count: int) -> str:
    """Bytes for people, as in `4.7 GB`; nothing when unknown."""
    number = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.95:
            return "" if not count else f"{number:.{0 if unit == 'B' else 1}f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def context(tokens: int) -> str:
    """Tokens for people, as in `128k`: in thousands as vendors name windows, else in 1024s."""
    if not tokens:
        return ""
    if tokens < 1000:
        return str(tokens)
    return f"{tokens // 1000}k" if tokens % 1000 == 0 or tokens % 1024 else f"{tokens // 1024}k"


def _room(columns: list[_Column], width: int) -> int:
    return width - sum(column.width + GAP for column in columns[:-1])


def _row(cells: list[str], columns: list[_Column], room: int) -> list[str]:
    folded = _fold(cells[-1], room)
    first = "".join(f"{cell:{column.width + GAP}}" for cell, column in zip(cells, columns[:-1], strict=False))
    indent = " " * len(first)
    return [f"{indent if at else first}{line}".rstrip() for at, line in enumerate(folded)]


def _fold(words: str, room: int) -> list[str]:
    lines = [""]
    for word in words.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > room:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines
