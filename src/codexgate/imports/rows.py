"""Tables as comma-separated values whose columns have names; `content` is the one that has to be there.

Source: RFC 4180, and what spreadsheets make of it: semicolons and tabs, and a byte order mark.
"""

import csv
from collections import deque
from collections.abc import Iterator
from typing import TextIO

from ..records import Draft
from .items import LONGEST_LINE, Bad, Found, Item, key, lines, moment

OURS = ("content", "namespace", "summary", "tags", "source", "created")
DELIMITERS = ",;\t"


def delimiter(first: str) -> str:
    """What separates the columns in a header that has one called `content`; empty when it has none."""
    for each in DELIMITERS:
        if "content" in _names(next(csv.reader([first], delimiter=each), [])):
            return each
    return ""


def read_rows(stream: TextIO, path: str) -> Iterator[Item]:
    """A draft for each row; columns with other names than ours become metadata."""
    header = stream.readline(65536)
    separator = delimiter(header)
    if not separator:
        yield Bad("The first line names no column `content`.", 1)
        return
    names = _names(next(csv.reader([header], delimiter=separator)))
    csv.field_size_limit(LONGEST_LINE)  # a cell that is too long for a memory is told as that
    source = _Source(stream)
    rows = csv.reader(source, delimiter=separator, strict=True)
    while True:
        line = source.number + 1
        source.begin()
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            told = str(error)
            yield Bad(f"{told[:1].upper()}{told[1:]}.", line)
            source.back()
            continue
        if not any(row):
            continue
        try:
            yield Found(_draft(names, row, path), line)
        except ValueError as error:
            yield Bad(f"{error}.", line)


class _Source:
    """Lines for a `csv.reader`, counted after the header."""

    def __init__(self, stream: TextIO) -> None:
        self._lines = lines(stream)
        self._again: deque[tuple[int, str] | Bad] = deque()
        self._row: list[tuple[int, str] | Bad] = []
        self.number = 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self._row.append(line)
        self.number += 1
        if isinstance(line, Bad):
            raise csv.Error(line.message.removesuffix("."))
        return line[1]

    def begin(self) -> None:
        """A row begins."""
        self._row.clear()

    def back(self) -> None:
        """Hand out again what the row took after its first line: a quote that nothing closes takes it all."""
        taken = self._row[1:]
        self._again.extendleft(reversed(taken))
        self.number -= len(taken)


def _names(row: list[str]) -> list[str]:
    return [name.strip().lower() if name.strip().lower() in OURS else name.strip() for name in row]


def _draft(names: list[str], row: list[str], path: str) -> Draft:
    if len(row) > len(names):
        raise ValueError(f"The row has {len(row)} cells, the header {len(names)}")
    cells = dict(zip(names, row, strict=False))
    content = cells.get("content", "")
    if not content.strip():
        raise ValueError("The row has no content")
    return Draft(
        content,
        cells.get("namespace", ""),
        cells.get("summary", ""),
        tuple(filter(None, map(str.strip, cells.get("tags", "").replace(";", ",").split(",")))),
        {name: cell for name, cell in cells.items() if name and name not in OURS and cell},
        cells.get("source") or path,
        key(path, *row),
        moment(cells.get("created")),
    )
