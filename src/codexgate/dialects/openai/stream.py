"""Bytes to the data of whole server-sent events. Source: WHATWG HTML, section "Server-sent events".

A bare CR ends no line here: no server writes one. A body that is one JSON text, from servers that do
not stream, is kept until it is asked for. Knows nothing of what the data means.
"""

from ...lines import Lines, LineTooLong

LIMIT = 32 * 1024 * 1024
"""Bytes of one line, of one event, and of a body that is no stream."""
_BLANK = b" \t\r\n\xef\xbb\xbf"


class Stream:
    """An incremental reader of one body."""

    def __init__(self) -> None:
        self._begun = False
        self._lines = Lines(LIMIT)
        self._data: list[bytes] = []
        """Of the event that is not yet over."""
        self._whole: bytearray | None = None
        """The body, if it is no stream."""

    def feed(self, data: bytes) -> list[bytes]:
        """The data of each event that `data` completes. Raises LineTooLong."""
        if not self._begun:
            data = data.lstrip(_BLANK)
            self._begun = bool(data)
            if data.startswith((b"{", b"[")):
                self._whole = bytearray()
        if self._whole is not None:
            self._whole += data
            if len(self._whole) > LIMIT:
                raise LineTooLong(f"a body is longer than {LIMIT} bytes")
            return []
        return self._events(self._lines.feed(data))

    def rest(self) -> bytes:
        """The whole body if it was no stream, else nothing: an event without its blank line is none."""
        return bytes(self._whole or b"")

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events = []
        for line in lines:
            if not line:
                if self._data:
                    events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                    self._data = []
                continue
            name, _, value = line.partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
                if len(self._data) > 1 and sum(map(len, self._data)) > LIMIT:
                    raise LineTooLong(f"an event is longer than {LIMIT} bytes")
            elif name == b"error":  # how old llama.cpp servers say that an answer broke
                self._data.append(b'{"error":' + value + b"}")
        return events
