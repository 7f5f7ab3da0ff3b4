"""Streams over real sockets: cancellation in every phase, keepalives, stalls, draining."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from codexgate.errors import Fault
from codexgate.events import Done, Event, Failed, Notice, TextDelta, Usage
from codexgate.records import ResponseRecord
from codexgate.server import reply
from codexgate.server.app import Listen
from codexgate.stores.sqlite_responses import Responses
from tests.servers.gateway import client, serving
from tests.servers.scripted import Scripted
from tests.support import run

CHAT = "/v1/chat/completions"
JSON = {"Content-Type": "application/json"}
SOON = 10.0
"""Seconds in which a client's leaving must have stopped the work upstream: before a keepalive is due."""


def body(stream: bool, **fields: Any) -> bytes:
    asked = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}], "stream": stream, **fields}
    return msgspec.json.encode(asked)


async def begin(url: str, stream: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A chat request on a socket of its own."""
    port = int(url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = body(stream)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    return reader, writer


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("phase", ["before the first event", "in the middle"])
def test_leaving_stops_the_work(phase: str, stream: bool) -> None:
    async def scenario() -> None:
        held = asyncio.Event()
        steps: list[Any] = [] if phase == "before the first event" else [TextDelta("a")]
        backend = Scripted(*steps, held, Done("stop"))
        async with serving(backend) as url:
            reader, writer = await begin(url, stream)
            await backend.begun.wait()
            if steps and stream:
                await reader.readuntil(b'"content":"a"')
            writer.close()
            await asyncio.wait_for(backend.left.wait(), SOON)
            assert backend.open == 0

    run(scenario())


def test_leaving_while_waiting_for_a_place_leaves_the_queue() -> None:
    async def scenario() -> None:
        go = asyncio.Event()
        backend = Scripted(go, Done("stop"))
        async with serving(backend, listen=Listen(drain=0, max_streams=1)) as url:
            _, first = await begin(url, stream=True)
            await backend.begun.wait()
            _, second = await begin(url, stream=True)
            second.close()
            first.close()
            await asyncio.wait_for(backend.left.wait(), SOON)
            go.set()
            async with (
                client(url) as session,
                session.post(CHAT, data=body(stream=False), headers=JSON) as answer,
            ):
                assert answer.status == 200

    run(scenario())


def stream_of(*steps: Any, listen: Listen | None = None, **fields: Any) -> bytes:
    async def scenario() -> bytes:
        async with serving(Scripted(*steps), listen=listen) as url, client(url) as session:
            async with session.post(CHAT, data=body(stream=True, **fields), headers=JSON) as answer:
                assert answer.status == 200
                assert answer.headers["Cache-Control"] == "no-cache, no-transform"
                assert answer.headers["X-Accel-Buffering"] == "no"
                return await answer.read()

    return run(scenario())


def test_a_quiet_stream_is_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "QUIET", 0.01)
    monkeypatch.setattr(reply, "EVERY", 0.01)

    async def scenario() -> bytes:
        go = asyncio.Event()
        async with serving(Scripted(go, TextDelta("a"), Done("stop"))) as url, client(url) as session:
            async with session.post(CHAT, data=body(stream=True), headers=JSON) as answer:
                early = await answer.content.readuntil(b": keepalive\n\n: keepalive\n\n")
                go.set()
                return early + await answer.read()

    sent = run(scenario())
    assert sent.startswith(b": keepalive\n\n")
    assert sent.endswith(b"data: [DONE]\n\n")


def test_a_failure_after_the_answer_began_is_a_frame() -> None:
    sent = stream_of(TextDelta("a"), Failed(Fault("upstream", "cut")))
    assert b'"content":"a"' in sent
    assert sent.endswith(b'"error":{"message":"cut","type":"upstream_error","param":null,"code":null}}\n\n')
    assert b"[DONE]" not in sent


def test_text_and_failure_in_one_read_lose_no_text() -> None:
    sent = stream_of([TextDelta("a"), Failed(Fault("upstream", "cut"))])
    assert b'"content":"a"' in sent


def test_a_notice_does_not_hide_a_refusal() -> None:
    async def scenario() -> int:
        backend = Scripted(
            Notice("retry", "again"), Usage(), Failed(Fault("rate_limited", "later", retry_after=2))
        )
        async with serving(backend) as url, client(url) as session:
            async with session.post(CHAT, data=body(stream=True), headers=JSON) as answer:
                assert answer.headers["Retry-After"] == "2"
                return answer.status

    assert run(scenario()) == 429


def test_events_of_one_read_are_one_write() -> None:
    events: list[Event] = [TextDelta(str(n)) for n in range(50)]
    sent = stream_of([*events, Done("stop")])
    texts = [
        msgspec.json.decode(line[6:])["choices"][0]["delta"].get("content")
        for line in sent.split(b"\n\n")[1:51]
    ]
    assert texts == [str(n) for n in range(50)]


def test_a_backend_that_stops_without_an_end_is_a_failure() -> None:
    assert b"stopped in the middle" in stream_of(TextDelta("a"))


def test_a_reader_that_stalls_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "STALL", 0.2)
    monkeypatch.setattr(reply, "QUIET", 0.05)
    monkeypatch.setattr(reply, "EVERY", 0.05)

    async def scenario() -> None:
        flood: list[Any] = [TextDelta("x" * 100_000)] * 2000
        backend = Scripted(*flood, Done("stop"))
        async with serving(backend) as url:
            _, writer = await begin(url, stream=True)  # and never reads
            await backend.left.wait()
            writer.close()

    run(scenario())


def test_draining_ends_streams_with_an_error_frame() -> None:
    async def scenario() -> bytes:
        held = asyncio.Event()
        backend = Scripted(TextDelta("a"), held, Done("stop"))
        async with client("http://unused") as session:
            async with serving(backend) as url:  # drain=0: no time to finish
                answer = await session.post(f"{url}{CHAT}", data=body(stream=True), headers=JSON)
                await answer.content.readuntil(b'"content":"a"')
            sent = await answer.read()
            assert backend.left.is_set()
            return sent

    sent = run(scenario())
    assert b'"code":"draining"' in sent
    assert b"[DONE]" not in sent


def drained(tmp_path: Path, **fields: Any) -> list[Any]:
    """The events of a streamed response whose gate is stopped in the middle."""

    async def scenario() -> bytes:
        backend = Scripted(TextDelta("a"), asyncio.Event(), Done("stop"))
        asked = msgspec.json.encode({"model": "scripted", "input": "hi", "stream": True, **fields})
        async with client("http://unused") as session:
            async with serving(backend, kept=Responses(tmp_path / "responses.db")) as url:
                answer = await session.post(f"{url}/v1/responses", data=asked, headers=JSON)
                begun = await answer.content.readuntil(b'"delta":"a"')
            return begun + await answer.read()

    frames = run(scenario()).split(b"\n\n")[:-1]
    events = [msgspec.json.decode(frame.partition(b"\ndata: ")[2]) for frame in frames]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def test_draining_ends_a_streamed_response_as_failed_and_not_kept(tmp_path: Path) -> None:
    *_, last = drained(tmp_path)
    assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
    assert "shutting down" in last["response"]["error"]["message"]
    assert last["response"]["output"][0]["content"][0]["text"] == "a"
    assert last["response"]["store"] is False


class Keeping(Responses):
    """A store that is never done with a response."""

    begun: asyncio.Event

    async def save(self, record: ResponseRecord) -> None:
        self.begun.set()
        await asyncio.Event().wait()


def test_draining_while_an_answer_is_kept_tells_it_and_that_it_is_not(tmp_path: Path) -> None:
    async def scenario() -> bytes:
        store = Keeping(tmp_path / "responses.db")
        store.begun = asyncio.Event()
        backend = Scripted(TextDelta("a"), Done("stop"))
        asked = b'{"model":"scripted","input":"hi","stream":true}'
        async with client("http://unused") as session:
            async with serving(backend, kept=store) as url:
                answer = await session.post(f"{url}/v1/responses", data=asked, headers=JSON)
                await store.begun.wait()
            return await answer.read()

    last = msgspec.json.decode(run(scenario()).split(b"\n\n")[-2].partition(b"\ndata: ")[2])
    assert (last["type"], last["response"]["store"]) == ("response.completed", False)


def test_draining_sends_away_who_follows_a_response_in_the_background(tmp_path: Path) -> None:
    *_, last = drained(tmp_path, background=True)
    assert (last["type"], last["code"], last["param"]) == ("error", "draining", None)
    assert "shutting down" in last["message"]


def test_draining_lets_a_short_answer_finish() -> None:
    async def scenario() -> bytes:
        go = asyncio.Event()
        backend = Scripted(TextDelta("a"), go, TextDelta("b"), Done("stop"))
        async with client("http://unused") as session:
            async with serving(backend, listen=Listen(drain=10)) as url:
                answer = await session.post(f"{url}{CHAT}", data=body(stream=True), headers=JSON)
                await answer.content.readuntil(b'"content":"a"')
                asyncio.get_running_loop().call_soon(go.set)
            return await answer.read()

    assert run(scenario()).endswith(b"data: [DONE]\n\n")
