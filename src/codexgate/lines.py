"""Bytes in, whole LF-ended lines out, under a size limit.

Splits on the LF byte only: JSON strings may hold U+2028, U+0085 or a bare CR, on which
`str.splitlines` would cut a record in two. Knows nothing of what a line means.
"""


class LineTooLong(ValueError):
    """An unfinished line grew past the limit; the stream cannot be trusted any more."""


class Lines:
    """An incremental line splitter."""

    def __init__(self, limit: int = 32 * 1024 * 1024) -> None:
        """`limit`: bytes that one line may have, its LF not counted."""
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes, without LF or CRLF; none is an empty list.

        Raises LineTooLong when a line is longer than the limit.
        """
        if b"\n" not in data:
            self._keep(data)
            return []
        head, *rest = data.split(b"\n")
        self._keep(head)
        lines = [b"".join(self._parts), *rest[:-1]]
        self._parts, self._size = [], 0
        self._keep(rest[-1])
        if any(len(line) > self._limit for line in lines):
            raise LineTooLong(f"a line is longer than {self._limit} bytes")
        return [line[:-1] if line.endswith(b"\r") else line for line in lines]

    def rest(self) -> bytes:
        """Return what came after the last LF: at the end of a good stream, nothing."""
        return b"".join(self._parts)

    def _keep(self, data: bytes) -> None:
        if data:
            self._parts.append(data)
            self._size += len(data)
        if self._size > self._limit:
            raise LineTooLong(f"a line is longer than {self._limit} bytes")
