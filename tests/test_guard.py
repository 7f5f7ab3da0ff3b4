"""Who may come in, with what: every refusal happens before a backend hears of the request."""

import asyncio
import random
from collections.abc import Mapping
from contextlib import suppress

import aiohttp
import msgspec
import pytest

from codexgate.errors import Fault, GateError
from codexgate.events import Done, Failed, TextDelta
from codexgate.server import connection, guard
from codexgate.server.app import Listen
from tests.servers.gateway import client, serving
from tests.servers.scripted import Scripted
from tests.support import run

CHAT = "/v1/chat/completions"
GOOD = b'{"model":"scripted","messages":[{"role":"user","content":"hi"}]}'
JSON = {"Content-Type": "application/json"}
KEY = "cg-secret-\u00e9"


def ask(
    method: str = "POST",
    path: str = CHAT,
    headers: Mapping[str, str] = JSON,
    body: bytes = GOOD,
    listen: Listen | None = None,
) -> tuple[int, Mapping[str, str], bytes, int]:
    """Status, headers, body, and how many requests reached the backend."""

    async def scenario() -> tuple[int, Mapping[str, str], bytes, int]:
        backend = Scripted(TextDelta("hello"), Done("stop"))
        async with serving(backend, listen=listen) as url, client(url) as session:
            async with session.request(method, path, headers=headers, data=body or None) as answer:
                return answer.status, answer.headers, await answer.read(), len(backend.requests)

    return run(scenario())


REFUSED: dict[str, tuple[dict[str, str], int, str | None]] = {
    "a foreign Host": ({"Host": "evil.example"}, 421, "host_not_allowed"),
    "our name at another port": ({"Host": "127.0.0.1:1"}, 421, "host_not_allowed"),
    "our name without the port": ({"Host": "localhost"}, 421, "host_not_allowed"),
    "a foreign Origin": ({"Origin": "https://evil.example"}, 403, "origin_not_allowed"),
    "the null Origin": ({"Origin": "null"}, 403, "origin_not_allowed"),
    "a cross-site page without Origin": ({"Sec-Fetch-Site": "cross-site"}, 403, "origin_not_allowed"),
    "a form's content type": ({"Content-Type": "text/plain"}, 415, None),
    "no content type": ({"Content-Type": ""}, 415, None),
    "a compressed body": ({"Content-Encoding": "gzip"}, 415, None),
}


@pytest.mark.parametrize(("headers", "status", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(headers: dict[str, str], status: int, code: str | None) -> None:
    # A body that claims to be compressed must not be unpacked by anybody, so it is sent as it is.
    got, sent, body, reached = ask(headers={**JSON, **headers})
    assert (got, reached) == (status, 0)
    error = msgspec.json.decode(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert sent["Content-Type"].startswith("application/json")


def raw(*lines: str) -> bytes:
    """What the gate answers to a request written by hand; `PORT` in a line becomes its port."""

    async def scenario() -> bytes:
        backend = Scripted(Done("stop"))
        async with serving(backend) as url:
            port = url.rpartition(":")[2]
            reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
            writer.write("\r\n".join([*lines, "Connection: close", "", ""]).replace("PORT", port).encode())
            answer = await reader.read()
            writer.close()
            assert not backend.requests
            return answer

    return run(scenario())


@pytest.mark.parametrize(
    "lines",
    [
        ("GET /v1/models HTTP/1.0",),
        ("GET /v1/models HTTP/1.1", "Host: 127.0.0.1:PORT", "Host: evil.example"),
        ("GET http://evil.example/v1/models HTTP/1.1", "Host: 127.0.0.1:PORT"),
        ("GET /v1/models HTTP/1.1", "Host: evil.example\t"),
    ],
    ids=["no Host", "two Hosts", "an absolute address", "a padded foreign Host"],
)
def test_exactly_one_host_and_it_is_ours(lines: tuple[str, ...]) -> None:
    status = raw(*lines).split(b" ")[1]
    assert status in (b"400", b"421")


UNREADABLE: dict[str, tuple[str, ...]] = {
    "no HTTP": ("hello",),
    "a header with a control character": (
        "GET /health HTTP/1.1",
        "Host: 127.0.0.1:PORT",
        "Authorization: Bearer sk-\x01",
    ),
    "a line without end": (f"GET /{'a' * 10_000} HTTP/1.1", "Host: 127.0.0.1:PORT"),
}


@pytest.mark.parametrize("lines", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_cannot_be_read_is_refused_in_our_shape(
    lines: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    head, _, body = raw(*lines).partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == b"400"
    assert b"Server: codexgate" in head
    assert msgspec.json.decode(body)["error"]["type"] == "invalid_request_error"
    assert b"sk-" not in body
    assert "sk-" not in caplog.text


@pytest.mark.parametrize("host", ["localhost:PORT", "127.0.0.1:PORT", "[::1]:PORT", "LOCALHOST:PORT"])
def test_our_own_names_are_served(host: str) -> None:
    assert raw("GET /health HTTP/1.1", f"Host: {host}").startswith(b"HTTP/1.1 200")


def test_a_page_has_one_origin() -> None:
    ours = "Origin: http://127.0.0.1:PORT"
    lines = ("GET /v1/models HTTP/1.1", "Host: 127.0.0.1:PORT", ours)
    assert b" 200 " in raw(*lines).partition(b"\r\n")[0]
    assert b" 403 " in raw(*lines, ours).partition(b"\r\n")[0]


def test_a_listed_host_and_origin_are_served() -> None:
    listen = Listen(drain=0, allowed_hosts=("gate.example",), allowed_origins=("https://chat.example",))
    headers = {**JSON, "Host": "gate.example", "Origin": "https://chat.example"}
    status, sent, _, _ = ask(headers=headers, listen=listen)
    assert status == 200
    assert sent["Access-Control-Allow-Origin"] == "https://chat.example"
    preflight = {"Origin": "https://chat.example", "Access-Control-Request-Method": "POST"}
    status, sent, _, _ = ask("OPTIONS", headers=preflight, body=b"", listen=listen)
    assert (status, sent["Access-Control-Allow-Origin"]) == (204, "https://chat.example")
    assert "Access-Control-Allow-Credentials" not in sent
    status, sent, _, _ = ask(
        "OPTIONS", headers={**preflight, "Origin": "https://evil.example"}, body=b"", listen=listen
    )
    assert (status, "Access-Control-Allow-Origin" in sent) == (403, False)


BEARERS: dict[str, tuple[dict[str, str], int]] = {
    "none": ({}, 401),
    "a wrong one": ({"Authorization": "Bearer nope"}, 401),
    "a wrong one that is not ASCII": ({"Authorization": "Bearer \u00fc"}, 401),
    "an empty one": ({"Authorization": "Bearer "}, 401),
    "another scheme": ({"Authorization": f"Basic {KEY}"}, 401),
    "in another header": ({"X-Api-Key": KEY}, 401),
    "the right one": ({"Authorization": f"Bearer {KEY}"}, 200),
    "the right one, scheme in small letters": ({"Authorization": f"bearer {KEY}"}, 200),
}


@pytest.mark.parametrize(("headers", "status"), BEARERS.values(), ids=BEARERS.keys())
def test_with_a_key_only_its_bearer_comes_in(headers: dict[str, str], status: int) -> None:
    listen = Listen(drain=0, key=KEY)
    got, sent, body, reached = ask(headers={**JSON, **headers}, listen=listen)
    assert (got, reached) == (status, int(status == 200))
    if status == 401:
        assert sent["WWW-Authenticate"] == "Bearer"
        assert KEY.encode() not in body


def test_the_key_is_asked_for_before_the_body_is_read() -> None:
    async def scenario() -> bytes:
        async with serving(Scripted(Done("stop")), listen=Listen(drain=0, key=KEY)) as url:
            port = int(url.rpartition(":")[2])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: 1000000\r\n\r\n".encode())  # and never a byte of it
            status = await reader.readline()
            writer.close()
            return status

    assert run(scenario()).startswith(b"HTTP/1.1 401")


def test_without_a_key_any_bearer_will_do() -> None:
    assert ask(headers={**JSON, "Authorization": "Bearer anything"})[0] == 200


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_health_needs_no_key(path: str) -> None:
    assert ask("GET", path, {}, b"", Listen(drain=0, key=KEY))[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/v1/models/../chat/completions/x", 404),
        ("GET", CHAT, 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/health", 405),
        ("GET", "/v1/models/none", 404),
    ],
)
def test_routing_errors_have_the_shape_too(method: str, path: str, status: int) -> None:
    got, sent, body, _ = ask(method, path, {}, b"")
    assert got == status
    message = msgspec.json.decode(body)["error"]["message"]
    assert ("/docs" in message) == (status == 404 and "none" not in path)
    assert ("Allow" in sent) == (status == 405)


@pytest.mark.parametrize(
    ("given", "kept"), [("my-id_1.2", True), ("bad id", False), ("x" * 129, False), ("", False)]
)
def test_every_answer_has_a_request_id(given: str, kept: bool) -> None:
    _, sent, _, _ = ask("GET", "/v1/models", {"X-Request-Id": given}, b"")
    assert (sent["X-Request-Id"] == given) == kept
    assert sent["X-Request-Id"]
    assert float(sent["X-Codexgate-Overhead-Ms"]) >= 0


@pytest.mark.parametrize("size", [2000, 1_000_000], ids=["with its head", "after its head"])
@pytest.mark.parametrize("told", [True, False], ids=["of a size that is told", "in chunks"])
def test_a_body_over_the_limit(size: int, told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = guard.Policy("chat", body="json", limit=1000)
    monkeypatch.setattr("codexgate.server.routes.Policy", lambda *args, **kwargs: policy)
    body = GOOD[:-1] + b" " * size + b"}"
    if told:
        assert ask(body=body)[0] == 413
        return

    async def scenario() -> bytes:
        backend = Scripted(Done("stop"))
        async with serving(backend) as url:
            port = int(url.rpartition(":")[2])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
            chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk)
            status = await reader.readline()
            writer.close()
            assert not backend.requests
            return status

    assert b" 413 " in run(scenario())


def malformed(count: int) -> list[bytes]:
    """Good bodies, broken in `count` ways: cut, bytes changed, types changed, nonsense."""
    chance = random.Random(20261121)
    nonsense: list[object] = [
        None,
        1,
        -1,
        1e308,
        True,
        "x",
        [],
        {},
        [[]],
        {"a": {}},
        "\0",
        [1, "a"],
        {"role": 1},
    ]
    bodies: list[bytes] = []
    while len(bodies) < count:
        kind = chance.randrange(4)
        if kind == 0:
            bodies.append(GOOD[: chance.randrange(len(GOOD))])
        elif kind == 1:
            broken = bytearray(GOOD)
            for _ in range(chance.randint(1, 4)):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
            bodies.append(bytes(broken))
        elif kind == 2:
            field = chance.choice(
                ["messages", "tools", "stop", "n", "response_format", "stream_options", "max_tokens"]
            )
            bodies.append(
                msgspec.json.encode({"model": "scripted", "messages": [], field: chance.choice(nonsense)})
            )
        else:
            bodies.append(chance.randbytes(chance.randint(1, 60)))
    return bodies


def test_a_thousand_malformed_bodies() -> None:
    """Each is answered in the right shape, none is a server error, none reaches a backend unread."""

    async def scenario() -> None:
        backend = Scripted(TextDelta("hello"), Done("stop"))
        async with serving(backend) as url, client(url) as session:
            for body in malformed(1000):
                before = len(backend.requests)
                async with session.post(CHAT, data=body, headers=JSON) as answer:
                    read = msgspec.json.decode(await answer.read())
                if answer.status == 200:  # a broken byte may leave a body that is well formed
                    assert len(backend.requests) == before + 1
                    continue
                assert answer.status in (400, 404), (answer.status, body)
                assert set(read["error"]) == {"message", "type", "param", "code"}
                assert len(backend.requests) == before

    run(scenario())


def test_a_head_that_dawdles_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_TIME", 0.05)

    async def scenario() -> None:
        async with serving(Scripted(Done("stop"))) as url:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            writer.write(b"GET /v1/models HTTP/1.1\r\nHost: ")
            with suppress(ConnectionResetError):  # what it had not even read is another way to be told
                assert await reader.read() == b""
            writer.close()

    run(scenario())


def test_a_body_that_dawdles_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_TIME", 0.05)

    async def scenario() -> bytes:
        async with serving(Scripted(Done("stop"))) as url:
            port = int(url.rpartition(":")[2])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: 100\r\n\r\n{{".encode())
            status = await reader.readline()
            writer.close()
            return status

    assert b" 400 " in run(scenario())


def test_connections_over_the_limit_are_turned_away() -> None:
    async def scenario() -> tuple[bytes, bytes]:
        async with serving(Scripted(Done("stop")), listen=Listen(drain=0, max_connections=1)) as url:
            port = int(url.rpartition(":")[2])
            _, first = await asyncio.open_connection("127.0.0.1", port)
            reader, second = await asyncio.open_connection("127.0.0.1", port)
            answer = await reader.read()
            for writer in (first, second):
                writer.close()
            head, _, body = answer.partition(b"\r\n\r\n")
            return head, body

    head, body = run(scenario())
    assert head.startswith(b"HTTP/1.1 503") and b"Retry-After: 1" in head
    assert msgspec.json.decode(body)["error"]["code"] == "overloaded"


def test_answers_over_the_limit_wait_and_then_come_back_later() -> None:
    async def scenario() -> list[int]:
        go = asyncio.Event()
        backend = Scripted(go, Done("stop"))
        async with serving(backend, listen=Listen(drain=0, max_streams=1)) as url, client(url) as session:

            async def post() -> int:
                async with session.post(CHAT, data=GOOD, headers=JSON) as answer:
                    assert ("Retry-After" in answer.headers) == (answer.status == 429)
                    return answer.status

            first = asyncio.create_task(post())
            await backend.begun.wait()
            others = [asyncio.create_task(post()) for _ in range(2)]  # for one place in the queue
            (refused,), (waiting,) = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
            go.set()
            return [await first, await waiting, await refused]

    assert run(scenario()) == [200, 200, 429]


def test_who_leaves_the_queue_gives_its_place_away() -> None:
    async def scenario() -> None:
        slots = guard.Slots(1)

        async def hold() -> None:
            async with slots:
                pass

        async with slots:
            for _ in range(3):  # the queue has one place
                waiting = asyncio.create_task(hold())
                await asyncio.sleep(0)
                with pytest.raises(GateError):
                    await hold()
                waiting.cancel()
                await asyncio.wait({waiting})
            assert not slots.idle.is_set()
        assert slots.idle.is_set()

    run(scenario())


def test_a_failure_before_the_answer_has_its_own_status() -> None:
    async def scenario() -> tuple[int, bytes]:
        fault = Fault("invalid_request", "Too long: 9000 of 4096 tokens.", code="context_length_exceeded")
        async with serving(Scripted(Failed(fault))) as url, client(url) as session:
            body = GOOD[:-1] + b',"stream":true}'
            async with session.post(CHAT, data=body, headers=JSON) as answer:
                return answer.status, await answer.read()

    status, body = run(scenario())
    assert status == 400
    assert msgspec.json.decode(body)["error"]["code"] == "context_length_exceeded"


def test_aiohttp_is_one_that_closes_what_it_should() -> None:
    assert tuple(int(part) for part in aiohttp.__version__.split(".")[:3]) >= (3, 14, 4)
