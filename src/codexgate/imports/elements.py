"""The objects of the first array of a JSON text, one after the other, however large the array.

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


def elements(stream: TextIO, longest: int = LONGEST) -> Iterator[tuple[int, str] | Bad]:
    """Line and text of each object in the first array of `stream`.

    A last `Bad` tells why the end was not reached.
    """
    depth = array = 0
    begin: int | None = None
    buffer, at, line = "", 0, 1
    while piece := stream.read(max(READ, len(buffer))):  # a long string is looked at anew each time
        buffer += piece
        while token := _TOKEN.search(buffer, at):
            if token[0][0] == '"':
                if not token[1]:
                    at = token.start()
                    break
            elif token[0] in "[{":
                depth += 1
                if token[0] == "[" and not array:
                    array = depth
                elif array and depth == array + 1:
                    begin = token.start()
            else:
                depth -= 1
                if array and depth == array and begin is not None:
                    yield line + buffer.count("\n", 0, begin), buffer[begin : token.end()]
                    begin = None
                elif array and depth < array:
                    return
            at = token.end()
        else:
            at = len(buffer)
        done = at if begin is None else begin
        line += buffer.count("\n", 0, done)
        buffer, at, begin = buffer[done:], at - done, None if begin is None else 0
        if len(buffer) > longest:
            yield Bad(f"One element has more than {longest:,} characters; what follows was not read.", line)
            return
    yield Bad("The file ends in the middle." if array else "There is no JSON array here.", line)
