"""What aiohttp leaves open about connections: how many, and how long a head may take to arrive.

A protocol around aiohttp's own. The guard tells it when a head has arrived and when the
answer is finished; it knows nothing else of requests.
"""

import asyncio
from collections.abc import Callable

HEAD_TIME = 10.0
"""Seconds from a connection's or request's first byte to the end of its head."""

BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Type: application/json\r\nContent-Length: 111\r\n\r\n"
    b'{"error":{"message":"Too many connections; try again.","type":"server_error",'
    b'"param":null,"code":"overloaded"}}'
)


class Connections:
    """Makes the protocols of one server and counts them."""

    def __init__(self, inner: Callable[[], asyncio.Protocol], limit: int) -> None:
        """`inner` makes aiohttp's protocol; more than `limit` connections are turned away."""
        self._inner = inner
        self.limit = limit
        self.open: set[Connection] = set()

    def __call__(self) -> "Connection":
        """Make the protocol of one new connection."""
        return Connection(self, self._inner())


class Connection(asyncio.Protocol):
    """One connection: passes everything on, and closes when a head dawdles."""

    def __init__(self, all: Connections, inner: asyncio.Protocol) -> None:
        self._all = all
        self._inner = inner
        self._transport: asyncio.BaseTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._busy = False

    def head_arrived(self) -> None:
        """A whole head is here; the guard's own limits take over."""
        self._busy = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def answered(self) -> None:
        """The answer is finished; the next byte begins a new head."""
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock, or turn the connection away."""
        self._transport = transport
        if len(self._all.open) >= self._all.limit:
            assert isinstance(transport, asyncio.WriteTransport)
            transport.write(BUSY)
            transport.close()
            return
        self._all.open.add(self)
        self._expect_head()
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Pass it on."""
        if self not in self._all.open:
            return
        if not self._busy and self._timer is None:
            self._expect_head()
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass it on."""
        return self._inner.eof_received() if self in self._all.open else None

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        if self in self._all.open:
            self._all.open.discard(self)
            self.head_arrived()
            self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass it on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._inner.resume_writing()

    def _expect_head(self) -> None:
        assert self._transport is not None
        self._timer = asyncio.get_running_loop().call_later(HEAD_TIME, self._transport.close)
