"""What a reader yields, and what readers share. Knows no format."""

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TextIO

import msgspec

from ..records import Draft

LONGEST_LINE = 4 * 1024 * 1024
"""Characters of one line that is one record: the largest entry with its vector is a tenth of it."""

_RAW = re.compile("[\udc80-\udcff]")
"""Bytes that were no UTF-8, as `surrogateescape` hands them on."""


class Found(msgspec.Struct, frozen=True):
    """A draft, and where it begins."""

    draft: Draft
    line: int


class Bad(msgspec.Struct, frozen=True):
    """Something that cannot be read, and where."""

    message: str
    line: int


Item = Found | Bad


def lines(stream: TextIO) -> Iterator[tuple[int, str] | Bad]:
    """The lines of `stream`, numbered from 1; one that is too long or not UTF-8 is bad."""
    number = 0
    while line := stream.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE and not line.endswith("\n"):
            while (rest := stream.readline(LONGEST_LINE)) and not rest.endswith("\n"):
                pass
            yield Bad(f"The line is longer than {LONGEST_LINE:,} characters.", number)
        elif is_raw(line):
            yield Bad(NOT_UTF8, number)
        else:
            yield number, line


NOT_UTF8 = "This is not UTF-8. Save the file as UTF-8, or convert it with `iconv`."


def is_raw(text: str) -> bool:
    """It has bytes in it that were no UTF-8."""
    return not text.isascii() and _RAW.search(text) is not None


def key(origin: str, *parts: str) -> str:
    """What an import knows a draft by: where it comes from, and what it says."""
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
    return f"{origin}#{digest[:32]}"


def moment(value: float | str | None) -> float:
    """Unix seconds of a time in them or in ISO 8601, by itself in UTC; 0 when there is none.

    Raises ValueError.
    """
    if value is None or value == "":
        return 0.0
    if isinstance(value, str):
        value = _seconds(value.strip())
    if not 0 <= value < 1e11:  # the year 5138; milliseconds are beyond it, and so are NaN and infinity
        raise ValueError(f"{value:g} is no time in Unix seconds")
    return value


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time: neither Unix seconds nor ISO 8601") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
