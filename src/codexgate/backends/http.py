"""A lean HTTP/1.1 client of one server: keep-alive, streaming, cheap time-outs.

aiohttp's client costs half of a request and 200 ms of import, so this is a protocol on the
`httptools` parser and little else. It follows no redirects, reads no proxy variables, asks for no
compression, cannot HEAD, and knows nothing of what the bytes mean. Only GateError leaves:
`unavailable` no connection · `timeout` no byte in time · `upstream` a cut or garbled answer.
"""

import asyncio
import re
import socket
import ssl
from base64 import b64encode
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Self, cast
from urllib.parse import unquote

import httptools

from ..errors import Fault, GateError, Kind, invalid

UNREAD = 256 * 1024  # bytes that may wait for their reader before the socket is no longer read
HEAD = 64 * 1024  # bytes that an answer's head may have
IDLE = 64  # connections kept for later
_ADDRESS = re.compile(r"(?ai)(https?)://(?:([^/@\s]+)@)?([\w.-]+|\[[\da-fA-F:.]+])(:\d{1,5})?(/[\w.~%/-]*)?")
_REASONS: dict[type[Exception], str] = {
    TimeoutError: "did not accept a connection in time",
    ConnectionRefusedError: "refused the connection: nothing listens there",
    socket.gaierror: "has a host name that cannot be resolved",
    ssl.SSLError: "has no TLS that can be trusted",
    OSError: "cannot be reached",
    Exception: "is no valid address",
}


class Http:
    """A client of the server at `base_url`."""

    def __init__(
        self, base_url: str, *, connect_timeout: float, headers: Mapping[str, str] = {}, advice: str = ""
    ) -> None:
        """Connects only when something is sent. Raises GateError when `base_url` is no http(s) address.

        `connect_timeout`: seconds, name look-up and TLS included; `headers` go with every request;
        `advice`: what a person can do when nothing answers there.
        """
        match = _ADDRESS.fullmatch(base_url)
        if not match:
            raise invalid("An upstream's address must look like http://HOST:PORT.")  # it may hold a password
        scheme, user, host, port, path = match.groups("")
        scheme = scheme.lower()
        self._host, self._path = host.strip("[]"), path.rstrip("/")
        self._port = int(port[1:] or (443 if scheme == "https" else 80))
        self._ssl = ssl.create_default_context() if scheme == "https" else None
        self._timeout, self._advice = connect_timeout, advice
        self.where = f"{scheme}://{host}{port}{self._path}"  # for people: without the password
        login = {"Authorization": f"Basic {b64encode(unquote(user).encode()).decode()}"} if user else {}
        sent = {
            "Host": host + port,
            "Accept-Encoding": "identity",
            "User-Agent": "codexgate",
            **login,
            **headers,
        }
        if not all(value.isascii() and value.isprintable() for value in sent.values()):
            raise invalid("A header of an upstream holds characters that HTTP does not allow.")
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()

    @asynccontextmanager
    async def send(
        self, method: str, path: str, body: bytes | None, *, first_byte_timeout: float, idle_timeout: float
    ) -> AsyncGenerator["Response"]:
        """Send one request with a JSON `body`; the answer's head has come when the block is entered.

        Leaving the block before the body's end closes the connection at once: that is how a
        cancellation reaches the other side. The limits are seconds of waiting for the other side,
        until the first body byte and between reads; a reader's own time is free. Raises GateError.
        """
        head = f"{method} {self._path}{path} HTTP/1.1\r\n{self._headers}"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        response = await self._ask(f"{head}\r\n".encode() + (body or b""), first_byte_timeout)
        response.idle_timeout, connection = idle_timeout, response.connection
        try:
            yield response
        finally:
            if connection.release() and len(self._idle) < IDLE:
                self._idle.append(connection)
            else:
                connection.abort()

    async def aclose(self) -> None:
        """Close every connection, also those in use; returns when their sockets are closed."""
        while self._open:
            for connection in tuple(self._open):
                connection.abort()
            await asyncio.sleep(0)

    async def _ask(self, message: bytes, timeout: float) -> "Response":
        if self._idle:
            kept = self._idle.pop()
            try:
                return await kept.ask(message, timeout)
            except GateError:
                if not kept.stale:  # closed just as it was used again (RFC 9112, 9.3.1)
                    raise
        return await (await self._connect()).ask(message, timeout)

    async def _connect(self) -> "_Connection":
        connection = _Connection(self.where, self._open, self._idle)
        try:
            async with asyncio.timeout(self._timeout):
                connect = asyncio.get_running_loop().create_connection
                await connect(lambda: connection, self._host, self._port, ssl=self._ssl)
        except (OSError, UnicodeError, OverflowError) as error:
            reason = next(text for kind, text in _REASONS.items() if isinstance(error, kind))
            advice = self._advice if isinstance(error, OSError) else "Correct the address."
            fault = Fault("unavailable", f"{self.where} {reason}.", advice, retryable=True)
            raise GateError(fault) from error
        return connection


class Response:
    """An answer; its body can be read once, and only inside the `async with` that gave it."""

    def __init__(self, connection: "_Connection", timeout: float) -> None:
        self.status, self.complete, self.reusable = 0, False, False
        self.headers: dict[str, str] = {}  # by lower-case name; of a repeated header the last
        self.connection = connection
        self.idle_timeout = self._timeout = timeout
        self._unread: list[bytes] = []
        self.size = 0  # bytes that wait for a reader, framing included
        # The parser looks this up once: body parts go into the list without a Python frame.
        self.on_body = self._unread.append

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """All body bytes that came since the last call, at least one. Raises GateError."""
        while not self._unread:
            if self.complete:
                raise StopAsyncIteration
            await self.connection.wait(self._timeout)
        self._timeout = self.idle_timeout
        data = self._unread[0] if len(self._unread) == 1 else b"".join(self._unread)
        self._unread.clear()
        self.connection.transport.resume_reading()
        self.size = 0
        return data

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises GateError, also when it has more than `limit` bytes."""
        body = bytearray()
        async for data in self:
            body += data
            if len(body) > limit:
                raise self.connection.fault("upstream", f"answered with more than {limit} bytes")
        return bytes(body)

    async def drain(self, timeout: float) -> None:
        """Throw the rest away to keep the connection; gives up after `timeout` seconds without a byte."""
        self.wait_at_most(timeout)
        with suppress(GateError):
            async for _ in self:
                pass

    def wait_at_most(self, timeout: float) -> None:
        """From now on, give up after `timeout` seconds without a byte."""
        self._timeout = self.idle_timeout = timeout

    def on_message_begin(self) -> None:  # noqa: D102
        if self.complete:
            raise ValueError("more answers than requests")

    def on_header(self, name: bytes, value: bytes) -> None:  # noqa: D102
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:  # noqa: D102
        status = self.connection.parser.get_status_code()
        if status < 200:
            self.headers.clear()  # an interim answer (100 Continue); the real one follows
        else:
            self.status = status

    def on_message_complete(self) -> None:  # noqa: D102
        self.complete = self.status > 0
        self.reusable = self.connection.parser.should_keep_alive()


class _Connection(asyncio.Protocol):
    """One socket, with one request on it at a time."""

    def __init__(self, where: str, open: set["_Connection"], idle: list["_Connection"]) -> None:
        self._where, self._open, self._idle = where, open, idle
        self._loop = asyncio.get_running_loop()
        self._response: Response | None = None
        self._received, self._deadline = False, 0.0
        self._failure: GateError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def ask(self, message: bytes, timeout: float) -> Response:
        """Send `message` and wait for the head of its answer; closes the connection on any failure."""
        self._response = response = Response(self, timeout)
        self.parser = httptools.HttpResponseParser(response)
        self._received = False
        self.transport.write(message)
        try:
            while not response.status:
                await self.wait(timeout)
        except BaseException:
            self.abort()
            raise
        return response

    def release(self) -> bool:
        """The answer is not wanted any more; false when the connection cannot be used again."""
        response, self._response = self._response, None
        unsent = self.transport.is_closing() or self.transport.get_write_buffer_size() > 0
        if unsent or not response or not response.complete or not response.reusable:
            return False
        self.transport.resume_reading()
        return True

    @property
    def stale(self) -> bool:
        """The other side closed without a word: the request was not looked at."""
        return not self._received and self._failure is not None and self._failure.fault.kind == "upstream"

    def abort(self) -> None:
        """Close now, without a goodbye."""
        if self._timer:
            self._timer.cancel()
        self.transport.abort()

    def fault(self, kind: Kind, what: str) -> GateError:
        """A failure of this connection under our own name."""
        return GateError(Fault(kind, f"{self._where} {what}.", retryable=True))

    async def wait(self, timeout: float) -> None:
        """Wait for news from the socket, at most `timeout` seconds. Raises GateError."""
        if self._failure:
            raise self._failure
        self._deadline = self._loop.time() + timeout
        if self._timer and self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = None
        # A timer that is too early moves along when it fires: no task and no timer for each read.
        self._timer = self._timer or self._loop.call_at(self._deadline, self._tick)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _tick(self) -> None:
        self._timer = None
        if not self._waiter or self._waiter.done():  # after a stall of the loop news may come with the timer
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._tick)
        else:
            self._fail("timeout", "did not answer in time")

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, kind: Kind, what: str) -> None:
        self._failure = self._failure or self.fault(kind, what)
        self.abort()
        self._wake()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._open.add(self)

    def data_received(self, data: bytes) -> None:
        response = self._response
        if not response:
            self._fail("upstream", "spoke without being asked")  # the next answer would be off by one
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail("upstream", "did not answer in proper HTTP")
        self._received = True
        response.size += len(data)
        if not response.status and response.size > HEAD:
            self._fail("upstream", "answered with an endless head")
        if response.size > UNREAD:
            self.transport.pause_reading()
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        response = self._response
        if response and response.status and not error and not self._failure:
            # An answer without a length ends with its connection (RFC 9112, 6.3).
            response.complete |= response.headers.keys().isdisjoint(("content-length", "transfer-encoding"))
        self._fail("upstream", "closed the connection before its answer was complete")
        self._open.discard(self)
        if self in self._idle:
            self._idle.remove(self)
