"""The objects of a JSON text, one after the other, however many there are.

Finds where each begins and ends and leaves its meaning to a decoder. Knows no format.
"""

import re
from collections.abc import Iterator
from typing import TextIO

from .items import Bad

LONGEST = 64 * 1024 * 1024
"""Characters of one object: a conversation of years."""
READ = 256 * 1024

# A string, whose end may be yet to come, or a bracket.
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+("?)|[\[\]{}]', re.DOTALL)


def elements(
    stream: TextIO, longest: int = LONGEST, *, array: bool = True
) -> Iterator[tuple[int, str] | Bad]:
    """Line and text of each object in the first array of `stream`; without `array`, of those outside of any.

    What stands among them and is no object is `Bad`. A last `Bad` tells why the end was not reached.
    """
    return _Scan(stream, longest, array).run()


class _Scan:
    """One way through a text, of which no more is held than the object that is being read."""

    def __init__(self, stream: TextIO, longest: int, array: bool) -> None:
        self._stream = stream
        self._longest = longest
        self._depth = 0
        self._outer = None if array else 0
        """The depth that the objects stand in, once it is known."""
        self._buffer = ""
        self._line = 1
        self._counted = 0
        """Where in the buffer `_line` was counted to."""
        self._at = 0
        self._begin: int | None = None
        """Of the object that is being read."""
        self._end = 0
        """Of the one before."""
        self._over = False

    def run(self) -> Iterator[tuple[int, str] | Bad]:
        # A long string is looked at anew each time.
        while piece := self._stream.read(max(READ, len(self._buffer))):
            self._buffer += piece
            while token := _TOKEN.search(self._buffer, self._at):
                if token[0] in "[{":
                    yield from self._enter(token)
                elif token[0] in "]}":
                    yield from self._leave(token)
                elif not token[1]:
                    self._at = token.start()
                    break
                if self._over:
                    return
                self._at = token.end()
            else:
                self._at = len(self._buffer)
            self._let_go()
            if len(self._buffer) > self._longest:
                most = f"One element has more than {self._longest:,} characters"
                yield Bad(f"{most}; what follows was not read.", self._line)
                return
        yield from self._last()

    def _enter(self, token: re.Match[str]) -> Iterator[Bad]:
        self._depth += 1
        if self._outer is None and token[0] == "[":
            self._outer, self._end = self._depth, token.end()
        elif self._outer is not None and self._depth == self._outer + 1:
            self._begin = token.start()
            yield from self._others(self._begin)

    def _leave(self, token: re.Match[str]) -> Iterator[tuple[int, str] | Bad]:
        self._depth -= 1
        if self._outer is None or self._depth > self._outer:
            return
        if self._depth == self._outer and self._begin is not None:
            self._end = token.end()
            yield self._line_of(self._begin), self._buffer[self._begin : self._end]
            self._begin = None
        elif self._depth < self._outer:
            self._over = True
            yield from self._others(token.start())
            # Of an array in an object, what follows belongs to that.
            if self._depth < 0 or (self._depth == 0 and self._has_more(token.end())):
                yield Bad("What follows was not read.", self._line_of(token.start()))

    def _others(self, until: int) -> Iterator[Bad]:
        """What is no object, after the last one."""
        if other := self._buffer[self._end : until].strip(" \t\r\n,"):
            yield Bad("This is no object.", self._line_of(self._buffer.index(other, self._end)))

    def _has_more(self, at: int) -> bool:
        rest = self._buffer[at:]
        while not rest.strip():
            if not (rest := self._stream.read(READ)):
                return False
        return True

    def _let_go(self) -> None:
        """Of what has been read."""
        done = self._at if self._outer is None else self._end if self._begin is None else self._begin
        self._line_of(done)
        self._buffer, self._at, self._end, self._counted = self._buffer[done:], self._at - done, 0, 0
        self._begin = None if self._begin is None else 0

    def _last(self) -> Iterator[Bad]:
        if self._outer is None:
            yield Bad("There is no JSON array here.", self._line)
        elif self._outer or self._begin is not None:
            yield Bad("The file ends in the middle.", self._line)
        else:
            yield from self._others(len(self._buffer))

    def _line_of(self, at: int) -> int:
        """The line of a place, which is not before one that was asked for."""
        self._line += self._buffer.count("\n", self._counted, at)
        self._counted = at
        return self._line
