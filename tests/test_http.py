"""The HTTP client over real sockets, against a server that sends exactly the bytes a case says."""

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from codexgate.backends import http
from codexgate.backends.http import Http, Response
from codexgate.errors import GateError
from tests.support import UNHURRIED, run

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Raw:
    """A server of single exchanges: each connection answers its requests with scripted bytes.

    A step is bytes to send, an event to wait for, or `None` to close; after the last step of an
    answer the connection waits for the next request.
    """

    def __init__(self, *answers: Sequence[bytes | asyncio.Event | None]) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.connections = 0
        self.closed = asyncio.Event()
        """A client has closed."""
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if task := asyncio.current_task():
            self.tasks.add(task)
        try:
            while await self.receive(reader):
                for step in self.answers.pop(0):
                    if step is None:
                        return
                    if isinstance(step, asyncio.Event):
                        await first(step.wait(), reader.read(1))
                        if not step.is_set():
                            return
                    else:
                        writer.write(step)
                        await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()
            self.closed.set()

    async def receive(self, reader: asyncio.StreamReader) -> bool:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        size = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")), 0
        )
        self.requests.append(head + await reader.readexactly(size))
        return True


async def first(*waits: Awaitable[object]) -> None:
    """Wait for one of them."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def talking(*answers: Sequence[bytes | asyncio.Event | None]) -> AsyncGenerator[tuple[Raw, Http]]:
    raw = Raw(*answers)
    server = await asyncio.start_server(raw.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = Http(f"http://127.0.0.1:{port}/base/", connect_timeout=UNHURRIED, headers={"X-Key": "k"})
    async with server:
        try:
            yield raw, client
        finally:
            await client.aclose()
            await asyncio.gather(*raw.tasks)


async def get(client: Http, limit: int = 1 << 20, timeout: float = 5) -> tuple[int, bytes]:
    async with client.send("GET", "/x", None, first_byte_timeout=timeout, idle_timeout=timeout) as response:
        return response.status, await response.read(limit)


def failure(exchange: Callable[[], Awaitable[object]]) -> str:
    """The kind of failure that `exchange` ends with."""

    async def failing() -> str:
        with pytest.raises(GateError) as raised:
            await exchange()
        return raised.value.fault.kind

    return run(failing())


def test_what_is_sent() -> None:
    async def test() -> None:
        async with talking([OK]) as (raw, client):
            async with client.send(
                "POST", "/api/chat", b'{"a":1}', first_byte_timeout=5, idle_timeout=5
            ) as response:
                assert await response.read(10) == b"ok"
            head, body = raw.requests[0].split(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            assert lines[0] == "POST /base/api/chat HTTP/1.1"
            assert body == b'{"a":1}'
            assert f"Host: {client.where.removeprefix('http://').removesuffix('/base')}" in lines
            assert {"X-Key: k", "Content-Type: application/json", "Content-Length: 7"} <= set(lines)

    run(test())


ANSWERS = {
    "length": (OK, 200, b"ok"),
    "chunked": (CHUNKED + b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: x\r\n\r\n", 200, b"hello"),
    "no body": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "empty": (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", 503, b""),
    "interim answer first": (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, 200, b"ok"),
    "redirect is not followed": (
        b"HTTP/1.1 307 Gone\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        307,
        b"",
    ),
}


@pytest.mark.parametrize("case", ANSWERS)
@pytest.mark.parametrize("step", [1, 1000], ids=["byte by byte", "whole"])
def test_answers_keep_their_connection(case: str, step: int) -> None:
    sent, status, body = ANSWERS[case]

    async def test() -> None:
        pieces = [sent[at : at + step] for at in range(0, len(sent), step)]
        async with talking(pieces, [OK]) as (raw, client):
            assert await get(client) == (status, body)
            assert await get(client) == (200, b"ok")
            assert raw.connections == 1

    run(test())


def test_answer_without_length_ends_with_its_connection() -> None:
    async def test() -> None:
        async with talking([b"HTTP/1.1 200 OK\r\n\r\nto the", b" end", None], [OK]) as (raw, client):
            assert await get(client) == (200, b"to the end")
            assert await get(client) == (200, b"ok")
            assert raw.connections == 2

    run(test())


NOT_REUSED = {
    "connection close": OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
    "HTTP 1.0": OK.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "a second answer that nobody asked for": OK + OK,
    "garbage after the answer": OK + b"garbage",
}


@pytest.mark.parametrize("case", NOT_REUSED)
def test_answers_that_end_their_connection(case: str) -> None:
    async def test() -> None:
        async with talking([NOT_REUSED[case]], [OK]) as (raw, client):
            assert await get(client) == (200, b"ok")
            assert await get(client) == (200, b"ok")
            assert raw.connections == 2

    run(test())


def test_unasked_bytes_on_an_idle_connection_close_it() -> None:
    async def test() -> None:
        late = asyncio.Event()
        async with talking([OK, late, OK], [OK]) as (raw, client):
            await get(client)
            late.set()
            await raw.closed.wait()
            assert await get(client) == (200, b"ok")
            assert raw.connections == 2

    run(test())


def test_stale_connection_is_retried_once() -> None:
    async def test() -> None:
        # The second request reaches the kept connection, which closes without a word.
        async with talking([OK], [None], [OK]) as (raw, client):
            await get(client)
            assert await get(client) == (200, b"ok")
            assert raw.connections == 2
            assert len(raw.requests) == 3

    run(test())


def test_fresh_connection_is_not_retried() -> None:
    async def test() -> None:
        async with talking([None], [OK]) as (raw, client):
            with pytest.raises(GateError) as raised:
                await get(client)
            assert raised.value.fault.kind == "upstream"
            assert raw.connections == 1

    run(test())


def test_kept_connection_that_had_begun_to_answer_is_not_retried() -> None:
    async def test() -> None:
        async with talking([OK], [b"HTTP/1.1 2", None], [OK]) as (raw, client):
            await get(client)
            with pytest.raises(GateError):
                await get(client)
            assert raw.connections == 1

    run(test())


BROKEN = {
    "not HTTP": b"SSH-2.0-OpenSSH\r\n",
    "bad chunk size": CHUNKED + b"zz\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "upgrade": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "endless head": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2 * http.HEAD,
    "too long for its reader": b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 2_000_000,
}


@pytest.mark.parametrize("case", BROKEN)
def test_garbage_is_a_fault_of_the_upstream(case: str) -> None:
    async def exchange() -> None:
        async with talking([BROKEN[case], asyncio.Event()]) as (_, client):
            await get(client)

    assert failure(exchange) == "upstream"


@pytest.mark.parametrize("sent", [OK, CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"], ids=["length", "chunked"])
def test_a_cut_at_every_byte_is_a_fault(sent: bytes) -> None:
    async def test() -> None:
        for cut in range(len(sent)):
            async with talking([sent[:cut], None]) as (_, client):
                with pytest.raises(GateError) as raised:
                    await get(client)
                assert raised.value.fault.kind == "upstream"

    run(test())


def test_what_came_before_a_cut_is_delivered() -> None:
    async def test() -> None:
        async with talking([CHUNKED + b"5\r\nhello\r\n", None]) as (_, client):
            async with client.send("GET", "/", None, first_byte_timeout=5, idle_timeout=5) as response:
                assert await anext(response) == b"hello"
                with pytest.raises(GateError):
                    await anext(response)

    run(test())


def test_time_outs() -> None:
    async def exchange(*steps: bytes | asyncio.Event) -> None:
        async with talking([*steps, asyncio.Event()]) as (_, client):
            async with client.send("GET", "/", None, first_byte_timeout=0.05, idle_timeout=0.02) as response:
                await response.read(100)

    assert failure(lambda: exchange()) == "timeout"
    assert failure(lambda: exchange(CHUNKED)) == "timeout"
    assert failure(lambda: exchange(CHUNKED + b"2\r\nok\r\n")) == "timeout"


def test_each_time_out_has_its_turn() -> None:
    async def test() -> None:
        async with talking([CHUNKED + b"2\r\nok\r\n", asyncio.Event()]) as (_, client):
            async with client.send("GET", "/", None, first_byte_timeout=50, idle_timeout=0.05) as response:
                assert await anext(response) == b"ok"
                with pytest.raises(GateError) as raised:
                    await anext(response)
            assert raised.value.fault.kind == "timeout"

    run(test())


def test_an_answer_that_came_while_the_loop_was_stalled_counts() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            client = Http(f"http://127.0.0.1:{listener.getsockname()[1]}", connect_timeout=UNHURRIED)
            asked = asyncio.create_task(get(client, timeout=5))
            server, _ = await loop.sock_accept(listener)
            with server:
                await loop.sock_recv(server, 1000)
                server.sendall(OK[:-1])
                later = loop.time() + 10
                loop.time = lambda: later  # type: ignore[method-assign]
                for _ in range(3):  # the news, and the timer
                    await asyncio.sleep(0)
                server.sendall(OK[-1:])
                assert await asked == (200, b"ok")
        await client.aclose()

    run(scenario())


def test_a_connection_that_closes_while_idle_is_forgotten() -> None:
    async def test() -> None:
        close = asyncio.Event()
        async with talking([OK, close, None]) as (raw, client):
            await get(client)
            close.set()
            await raw.closed.wait()
            while client._open:
                await asyncio.sleep(0)
            assert not client._idle

    run(test())


def test_a_kept_connection_that_is_silent_is_a_time_out_and_not_retried() -> None:
    async def test() -> None:
        async with talking([OK], [asyncio.Event()], [OK]) as (raw, client):
            await get(client)
            with pytest.raises(GateError) as raised:
                await get(client, timeout=0.05)
            assert raised.value.fault.kind == "timeout"
            assert raw.connections == 1

    run(test())


def test_a_slow_reader_does_not_time_out() -> None:
    async def test() -> None:
        go = asyncio.Event()
        async with talking([CHUNKED + b"2\r\nok\r\n", go, b"0\r\n\r\n"]) as (_, client):
            async with client.send("GET", "/", None, first_byte_timeout=5, idle_timeout=0.05) as response:
                assert await anext(response) == b"ok"
                go.set()
                await asyncio.sleep(0.1)  # the one thing here that is about time itself
                while not response.complete:
                    await asyncio.sleep(0)
                assert await response.read(10) == b""

    run(test())


def test_refused() -> None:
    async def test() -> None:
        with socket.socket() as deaf:  # nobody else is given its port meanwhile
            deaf.bind(("127.0.0.1", 0))
            port = deaf.getsockname()[1]
            client = Http(f"http://127.0.0.1:{port}", connect_timeout=UNHURRIED, advice="Start it.")
            with pytest.raises(GateError) as raised:
                await get(client)
        fault = raised.value.fault
        assert (fault.kind, fault.advice, fault.retryable) == ("unavailable", "Start it.", True)
        assert client.where in fault.message

    run(test())


@pytest.mark.parametrize(
    "url",
    ["http://no-such-host.invalid", "http://" + "a" * 70 + ".b", "http://127.0.0.1:99999"],
    ids=["unknown", "label too long", "port too high"],
)
def test_hosts_that_cannot_be(url: str) -> None:
    assert failure(lambda: get(Http(url, connect_timeout=2))) == "unavailable"


def test_tls_that_is_none() -> None:
    async def exchange() -> None:
        async with talking([b"plain text\r\n\r\n"]) as (_, client):
            secure = client.where.replace("http:", "https:")
            await get(Http(secure, connect_timeout=0.5))

    assert failure(exchange) == "unavailable"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:1",
        "ftp://h",
        "http://",
        "http://h/a b",
        "http://h/\r\nX: y",
        "http://h?q",
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(GateError) as raised:
        Http(url, connect_timeout=1)
    assert raised.value.fault.kind == "invalid_request"


def test_a_scheme_may_be_spelled_in_capitals() -> None:
    assert Http("HTTP://h:1/V1", connect_timeout=1).where == "http://h:1/V1"


def test_a_password_goes_into_a_header_and_nowhere_else() -> None:
    async def test() -> None:
        async with talking([OK]) as (raw, client):
            secret = Http(client.where.replace("//", "//me:s3%40cret@"), connect_timeout=UNHURRIED)
            assert secret.where == client.where
            await get(secret)
            await secret.aclose()
            assert b"Authorization: Basic bWU6czNAY3JldA==\r\n" in raw.requests[0]
        with pytest.raises(GateError) as raised:
            Http("http://me:s3cret@h:x", connect_timeout=2)
        assert "s3cret" not in str(raised.value)

    run(test())


def test_a_header_cannot_write_lines_of_its_own() -> None:
    with pytest.raises(GateError):
        Http("http://h", connect_timeout=1, headers={"Authorization": "Bearer x\r\nX: y"})


def test_each_read_is_delivered_joined() -> None:
    async def test() -> None:
        body = b"".join(b"1\r\n%c\r\n" % byte for byte in b"many chunks") + b"0\r\n\r\n"
        async with talking([CHUNKED + body]) as (_, client):
            async with client.send("GET", "/", None, first_byte_timeout=5, idle_timeout=5) as response:
                assert [data async for data in response] == [b"many chunks"]

    run(test())


def test_back_pressure() -> None:
    size = 64 * 1024 * 1024

    async def test() -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
        sending = asyncio.Event()
        block = b"x" * (1024 * 1024)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head)
            for _ in range(size // len(block)):
                writer.write(block)
                await writer.drain()
            sending.set()
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            client = Http(url, connect_timeout=UNHURRIED)
            async with client.send("GET", "/", None, first_byte_timeout=5, idle_timeout=5) as response:
                for _ in range(2000):
                    await asyncio.sleep(0)
                assert not sending.is_set()
                largest = total = 0
                async for data in response:
                    largest, total = max(largest, len(data)), total + len(data)
            assert total == size
            assert largest < 3 * http.UNREAD
            await client.aclose()

    run(test())


@pytest.mark.parametrize(
    "sent", [[], [CHUNKED], [CHUNKED + b"2\r\nok\r\n"]], ids=["head", "first byte", "midway"]
)
def test_leaving_closes_the_connection(sent: list[bytes]) -> None:
    async def read(client: Http) -> None:
        async with client.send("GET", "/", None, first_byte_timeout=50, idle_timeout=50) as response:
            async for _ in response:
                pass

    async def test() -> None:
        async with talking([*sent, asyncio.Event()]) as (raw, client):
            task = asyncio.create_task(read(client))
            while len(raw.requests) < 1:
                await asyncio.sleep(0)
            task.cancel()
            await raw.closed.wait()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(test())


def test_closing_fails_what_is_in_progress() -> None:
    async def test() -> None:
        async with talking([asyncio.Event()]) as (raw, client):
            task = asyncio.create_task(get(client))
            while not raw.requests:
                await asyncio.sleep(0)
            await client.aclose()
            await client.aclose()
            with pytest.raises(GateError):
                await task

    run(test())


def test_connections_are_shared_one_request_at_a_time() -> None:
    async def test() -> None:
        together = [OK] * 8
        async with talking(*([answer] for answer in together * 2)) as (raw, client):
            await asyncio.gather(*(get(client) for _ in together))
            assert raw.connections == 8
            await asyncio.gather(*(get(client) for _ in together))
            assert raw.connections == 8

    run(test())


def test_drain_gives_up() -> None:
    async def drained(response: Response, patience: float) -> None:
        assert await anext(response) == b"ok"
        await response.drain(patience)

    async def test() -> None:
        cases: list[tuple[bytes | asyncio.Event, float, int]] = [
            (b"0\r\n\r\n", UNHURRIED, 1),
            (asyncio.Event(), 0.02, 2),
        ]
        for end, patience, connections in cases:
            async with talking([CHUNKED + b"2\r\nok\r\n", end], [OK]) as (raw, client):
                async with client.send("GET", "/", None, first_byte_timeout=5, idle_timeout=5) as response:
                    await drained(response, patience)
                await get(client)
                assert raw.connections == connections

    run(test())


def test_https() -> None:
    client = Http("https://h:8443/", connect_timeout=1)
    assert client.where == "https://h:8443"
    assert isinstance(client._ssl, ssl.SSLContext)
    assert client._ssl.verify_mode == ssl.CERT_REQUIRED
