"""The bottom of a terminal: what is printed for good, and below it lines that are drawn again.

Knows cursor movements and widths, not what is shown. Every change is one write, and a line is
replaced in place rather than cleared first, so nothing flickers and nothing stands there twice.
"""

import re
from collections.abc import Callable, Sequence
from os import terminal_size
from typing import TextIO

from rich.cells import cell_len

_STYLE = re.compile(r"\x1b\[[0-9;]*m")


class Screen:
    """Draws on `file`, a terminal; the cursor stays below the lines that may change."""

    def __init__(self, file: TextIO, size: Callable[[], terminal_size]) -> None:
        """`size` tells columns and rows, asked at each drawing."""
        self._file = file
        self._size = size
        self._live: list[str] = []

    def draw(self, done: Sequence[str], live: Sequence[str]) -> None:
        """Print the lines `done` for good where the live ones stood, and `live` below them.

        Of `live` only as many of the last lines are shown as the terminal has room for: what has
        scrolled away cannot be drawn again.
        """
        room = self._size().lines - 1
        shown = list(live[-room:]) if room > 0 else []
        if not done and shown == self._live:
            return
        up = self._rows(self._live)
        moves = f"\x1b[{up}A" if up else ""
        lines = "".join(f"\x1b[2K{line}\n" for line in [*done, *shown])
        self._file.write(f"\r{moves}{lines}\x1b[J" if up else f"{lines}")
        self._file.flush()
        self._live = shown

    def _rows(self, lines: list[str]) -> int:
        """Rows that `lines` take up now: a terminal made narrower has folded them."""
        columns = max(1, self._size().columns)
        return sum(max(1, -(-cell_len(_STYLE.sub("", line)) // columns)) for line in lines)
