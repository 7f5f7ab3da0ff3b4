"""Memories as lines of text and as JSON. Pure: knows neither the memory nor where the lines go."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ..records import Draft, Entry, Match, Vectored
from .terminal import Paint, escape_line

GAP = 2
MOST = {"WHERE": 26, "NAMESPACE": 20}
"""Columns of a terminal that these take at most."""


def match_table(matches: Sequence[Match], paint: Paint, width: int) -> list[str]:
    """A line for each match: how far it is from the question, why, where it stands, what it is about."""
    several = _several([match.entry for match in matches])
    columns = {
        "DISTANCE": ["-" if match.distance is None else f"{match.distance:.3f}" for match in matches],
        "WHY": [" ".join(match.why) for match in matches],
        "WHERE": [where(match.entry, several) for match in matches],
        "SUMMARY": [match.entry.summary for match in matches],
    }
    return _table(columns, paint, width)


def match_text(match: Match) -> str:
    """Where a match stands, and the whole of it."""
    return f"[{where(match.entry) or match.entry.id}]\n{match.entry.content}\n"


def entry_table(entries: Sequence[Entry], paint: Paint, width: int | None) -> list[str]:
    """A line for each entry; where `width` is short the namespace only if there are several."""
    columns = {"ID": [entry.id for entry in entries], "CREATED": [_date(entry.created) for entry in entries]}
    if width is None or _several(entries):
        columns["NAMESPACE"] = [entry.namespace for entry in entries]
    columns["SUMMARY"] = [entry.summary for entry in entries]
    return _table(columns, paint, width)


def namespace_table(
    namespaces: Sequence[tuple[str, int, str, int]], paint: Paint, width: int | None
) -> list[str]:
    """A line for each namespace."""
    columns = {
        "NAMESPACE": [name for name, *_ in namespaces],
        "ENTRIES": [f"{count:,}" for _, count, _, _ in namespaces],
        "DIMENSION": [str(dimension) for *_, dimension in namespaces],
        "MODEL": [model for _, _, model, _ in namespaces],
    }
    return _table(columns, paint, width)


def where(entry: Entry, namespaced: bool = False) -> str:
    """The file and line that an entry comes from, or whatever it comes from."""
    lines = entry.metadata.get("lines")
    place = f"{entry.source}:{lines.partition('-')[0]}" if isinstance(lines, str) else entry.source
    return f"{entry.namespace}: {place}" if namespaced else place


def entry_object(entry: Entry) -> dict[str, Any]:
    """An entry as JSON, as `export` writes it and `import` reads it; times in Unix seconds."""
    return {
        "id": entry.id,
        "namespace": entry.namespace,
        "content": entry.content,
        "summary": entry.summary,
        "tags": entry.tags,
        "metadata": entry.metadata,
        "source": entry.source,
        "created": entry.created,
        "accessed": entry.accessed or None,
        "model": entry.model,
        "dimension": entry.dimension,
        "hash": entry.digest,
    }


def vectored_object(found: Vectored) -> dict[str, Any]:
    """An entry with its vector, if it comes with it."""
    vector = {"vector": found.vector} if found.vector else {}
    return entry_object(found.entry) | vector


def match_object(match: Match) -> dict[str, Any]:
    """A match as JSON."""
    found = {"score": match.score, "distance": match.distance, "why": match.why}
    return entry_object(match.entry) | found


def draft_object(draft: Draft) -> dict[str, Any]:
    """A draft as JSON, as an import would keep it."""
    return {
        "namespace": draft.namespace,
        "content": draft.content,
        "summary": draft.summary,
        "tags": draft.tags,
        "metadata": draft.metadata,
        "source": draft.source,
        "created": draft.created or None,
    }


def _several(entries: Sequence[Entry]) -> bool:
    return len({entry.namespace for entry in entries}) > 1


def _date(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d}"


def _table(columns: Mapping[str, Sequence[str]], paint: Paint, width: int | None) -> list[str]:
    """Cells under titles; the last column takes what the others leave of `width`, if it is given."""
    from rich.cells import cell_len, set_cell_size  # neither JSON nor texts need it

    def fitted(text: str, size: int) -> str:
        return set_cell_size(text, size) if cell_len(text) <= size else set_cell_size(text, size - 1) + "…"

    def line(cells: Sequence[str]) -> str:
        return (" " * GAP).join(map(fitted, cells, widths)).rstrip()

    shown = {title: [*map(escape_line, cells)] for title, cells in columns.items()}
    widths = [max(map(cell_len, (title, *cells))) for title, cells in shown.items()]
    if width is not None:
        widths = [min(size, MOST.get(title, size)) for title, size in zip(shown, widths, strict=True)]
        left = width - sum(widths[:-1]) - GAP * (len(widths) - 1)
        widths[-1] = max(len([*shown][-1]), left)
    return [paint(line([*shown]), "bold"), *map(line, zip(*shown.values(), strict=True))]
