"""Markdown and plain text in pieces: by headings, then by size, with a little said twice.

A piece is short enough to be near to one subject, and long enough to be understood alone. Each
knows its lines, and in Markdown the headings above it, which are its summary.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TextIO

from ..records import Draft
from .items import NOT_UTF8, Bad, Found, Item, is_raw, key

SIZE = 1000
"""Characters of a piece at most: about what the packaged model sees at once (docs/embeddings.md)."""
OVERLAP = 150
"""Characters of a piece that the next one begins with: what was said last may be spoken of there."""
TITLE = 200
"""Characters of a heading that are shown."""

_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*\n?")  # CommonMark, 4.2
_UNDERLINE = re.compile(r" {0,3}(=+|-{2,})[ \t]*\n?")  # CommonMark, 4.3; one dash is an empty list item
_TITLE = re.compile(r" {0,3}[^\s>|#*+-].*\n")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ENDS = (
    re.compile(r"\n\s*\n"),
    re.compile(r"\n"),
    re.compile(r"[.!?…\u3002\uff01\uff1f]\s*"),
    re.compile(r"\s"),
)
"""Where a piece is cut, the best places first."""


class Piece(NamedTuple):
    """A part of a text."""

    text: str
    first: int
    """Line that it begins in, from 1."""
    last: int


class Cutter:
    """Cuts a text that comes bit by bit into pieces of at most `SIZE` characters."""

    def __init__(self, line: int = 1) -> None:
        """`line`: where the text begins."""
        self._line = line
        self._text = ""
        self._new = 0
        """What stands before this was in the last piece."""

    def feed(self, text: str) -> Iterator[Piece]:
        """Add `text`; yields the pieces that are full."""
        self._text += text
        while len(self._text) > SIZE:
            end = _end(self._text)
            yield from self._piece(end)
            begin = _begin(self._text, end)
            self._line += self._text.count("\n", 0, begin)
            self._text, self._new = self._text[begin:], end - begin

    def rest(self) -> Iterator[Piece]:
        """The last piece, if anything new is in it; another text can follow."""
        yield from self._piece(len(self._text))
        self._line += self._text.count("\n")
        self._text, self._new = "", 0

    def _piece(self, end: int) -> Iterator[Piece]:
        if self._text[self._new : end].strip():
            text = self._text[:end]
            first = self._line + text.count("\n", 0, len(text) - len(text.lstrip()))
            text = text.strip()
            yield Piece(text, first, first + text.count("\n"))


def pieces(text: str) -> Iterator[Piece]:
    """The pieces of a text that is there as a whole."""
    cutter = Cutter()
    yield from cutter.feed(text)
    yield from cutter.rest()


def read_text(stream: TextIO, path: str) -> Iterator[Item]:
    """The pieces of a plain text."""
    cutter = Cutter()
    for line in _lines(stream):
        if isinstance(line, Bad):
            yield line
            yield from _found(cutter.feed("\n"), path)
        else:
            yield from _found(cutter.feed(line), path)
    yield from _found(cutter.rest(), path)


def read_markdown(stream: TextIO, path: str) -> Iterator[Item]:
    """The pieces of a Markdown text, none of which goes on beyond a heading."""
    cutter, trail, fence = Cutter(), _Trail(), _Fence()
    body = False  # something else than headings was there since the last piece
    for line, following in _pairs(_lines(stream)):
        if isinstance(line, Bad):
            yield line
            yield from _found(cutter.feed("\n"), path, trail.text)
            continue
        heading = None if fence.holds(line) else _heading(line, following)
        if heading:
            if body:
                yield from _found(cutter.rest(), path, trail.text)
            body = False
            trail.enter(*heading)
        elif line.strip():
            body = True
        yield from _found(cutter.feed(line), path, trail.text)
    yield from _found(cutter.rest(), path, trail.text)


class _Trail:
    """The headings above a place."""

    def __init__(self) -> None:
        self._headings: list[tuple[int, str]] = []

    def enter(self, level: int, title: str) -> None:
        """A heading begins."""
        while self._headings and self._headings[-1][0] >= level:
            self._headings.pop()
        if title:
            self._headings.append((level, title[:TITLE]))

    @property
    def text(self) -> str:
        """All of them, the outermost first."""
        return " › ".join(title for _, title in self._headings)  # noqa: RUF001 - a sign of its own


class _Fence:
    """Knows whether a line is code, or a preamble: nothing in those is a heading."""

    def __init__(self) -> None:
        self._fence = ""
        self._begun = False

    def holds(self, line: str) -> bool:
        """Whether `line`, the next one, is no Markdown."""
        stripped = line.strip()
        if self._fence:
            # CommonMark, 4.5: as long as the opening one at least, and nothing after it.
            if stripped.startswith(self._fence) and not stripped.strip(self._fence[0]):
                self._fence = ""
            return True
        if not self._begun and stripped == "---":
            self._fence = "---"
        elif found := _FENCE.match(line):
            self._fence = found[1]
        self._begun = True
        return bool(self._fence)


def _heading(line: str, following: str) -> tuple[int, str] | None:
    if found := _HEADING.fullmatch(line):
        return len(found[1]), (found[2] or "").strip()
    if _TITLE.fullmatch(line) and (found := _UNDERLINE.fullmatch(following)):
        return 1 if "=" in found[1] else 2, line.strip()
    return None


def _pairs(lines: Iterable[str | Bad]) -> Iterator[tuple[str | Bad, str]]:
    """Each line with the one that follows it."""
    before: str | Bad | None = None
    for line in lines:
        if before is not None:
            yield before, line if isinstance(line, str) else ""
        before = line
    if before is not None:
        yield before, ""


def _lines(stream: TextIO) -> Iterator[str | Bad]:
    """The lines of `stream`; a very long one comes in several strings."""
    number = 1
    while line := stream.readline(SIZE * 16):
        ended = line.endswith(("\n", "\r"))  # the stream splits at either
        if is_raw(line):
            yield Bad(NOT_UTF8, number)
        else:
            yield line.rstrip("\r\n") + "\n" if ended else line
        number += ended


def _found(found: Iterable[Piece], path: str, summary: str = "") -> Iterator[Found]:
    for piece in found:
        lines = str(piece.first) if piece.first == piece.last else f"{piece.first}-{piece.last}"
        metadata = {"path": path, "lines": lines}
        draft = Draft(piece.text, "", summary, (), metadata, path, key(path, summary, piece.text))
        yield Found(draft, piece.first)


def _end(text: str) -> int:
    """Where the piece that `text` begins with ends."""
    for ends in _ENDS:
        found = [place.end() for place in ends.finditer(text, SIZE // 2, SIZE)]
        if found:
            return found[-1]
    return SIZE


def _begin(text: str, end: int) -> int:
    """Where the piece after `end` begins: at a line or else at a word, in the last characters."""
    for ends in (_ENDS[1], _ENDS[3]):
        if found := ends.search(text, end - OVERLAP, end):
            return found.end()
    return end
