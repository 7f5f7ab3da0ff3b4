"""A terminal in memory: what somebody in front of it would see, scrolled-away lines included."""

import re

from rich.cells import cell_len

_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_PIECE = re.compile(r"\x1b\[(\d*)([AKJ])|([\r\n])|([^\x1b\r\n]+)")


class Terminal:
    """Understands what `Screen` writes: up, erase, styles, line ends. Anything else is an error."""

    def __init__(self, rows: int = 24) -> None:
        self._rows = rows
        self.lines = [""]
        self._row = 0
        self.columns_used = 0

    def write(self, text: str) -> int:
        at, plain = 0, _STYLE.sub("", text)
        while at < len(plain):
            found = _PIECE.match(plain, at)
            assert found, f"unknown to this terminal: {plain[at : at + 20]!r}"
            at = found.end()
            self._do(found)
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True

    @property
    def text(self) -> str:
        return "\n".join(self.lines).rstrip("\n")

    def _do(self, found: re.Match[str]) -> None:
        count, verb, end, words = found.groups()
        if verb == "A":
            self._row -= int(count or 1)
            assert self._row >= max(0, len(self.lines) - self._rows), "the cursor left the screen"
        elif verb == "K":
            self.lines[self._row] = ""
        elif verb == "J":
            del self.lines[self._row + 1 :]
            self.lines[self._row] = ""
        elif end == "\n":
            self._row += 1
            if self._row == len(self.lines):
                self.lines.append("")
        elif words:
            assert self.lines[self._row] == "", "written over what was there"
            self.lines[self._row] = words
            self.columns_used = max(self.columns_used, cell_len(words))
