"""OzwellAI's dialect: what its reference server was seen to do, without what it got wrong.

The numbers are those of the recorded pairs. Held as properties, not phrases: the demo model says
something else, but as reliably.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from codexgate.backends.demo import Demo, DemoOptions
from codexgate.backends.ollama import Ollama, OllamaOptions
from codexgate.chat import ChatRequest, Message, Sampling, Text
from codexgate.errors import Fault, GateError
from codexgate.events import Done, Event, Failed, Notice, ReasoningDelta, TextDelta, ToolEvent, Usage
from codexgate.fold import fold
from codexgate.fronts.ozwell_responses import Encoder, Meta, Parsed, parse, render
from codexgate.server.routes import endpoints
from codexgate.stores.files import Files
from tests.servers.gateway import client, serving
from tests.servers.ollama import ScriptedOllama
from tests.servers.scripted import Scripted
from tests.support import run

META = Meta("resp-1", 7, "m")
BROKEN = Failed(Fault("upstream", "It broke.", code="broken"))
RESPONSES = "/ozwell/v1/responses"


# What is read


def read(**body: object) -> Parsed:
    return parse(msgspec.json.encode({"model": "m", "input": "hello", **body}))


def test_one_text_is_asked() -> None:
    asked = read(instructions="be brief", max_tokens=5, temperature=0.5, stream=True, shade="green")
    assert asked == Parsed(
        ChatRequest(
            "m",
            (Message("system", (Text("be brief"),)), Message("user", (Text("hello"),))),
            sampling=Sampling(max_tokens=5, temperature=0.5),
        ),
        stream=True,
        unknown=("shade",),
    )
    assert read(max_tokens=None).request.sampling == Sampling()
    assert read(max_output_tokens=3).request.sampling == Sampling(max_tokens=3)


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "items": ({"input": [{"role": "user", "content": "hello"}]}, "input"),  # r12
    "no input": ({"input": None}, "input"),
    "a number, which is no text": ({"input": 7}, "input"),
    "a limit below one": ({"max_tokens": -1}, "max_tokens"),
    "heat": ({"temperature": 9}, "temperature"),
    "tools": ({"tools": [{"type": "function"}]}, "tools"),
    "an earlier response": ({"previous_response_id": "resp-0"}, "previous_response_id"),
    "a conversation": ({"conversation": "conv_1"}, "conversation"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_named(case: str) -> None:
    body, param = REFUSED[case]
    with pytest.raises(GateError) as refused:
        read(**body)
    assert (refused.value.fault.kind, refused.value.fault.param) == ("invalid_request", param)


# What is written

WHOLE = {
    "id": "resp-1",
    "object": "response",
    "created": 7,
    "model": "m",
    "output": "Hi.  You",
    "usage": {"input_tokens": 2, "output_tokens": 3, "total_tokens": 5},
}
ANSWER: list[Event] = [
    ReasoningDelta("hm"),
    Notice("retry", "again"),
    TextDelta("Hi."),
    ToolEvent("1", "command", "started", "ls"),
    TextDelta("  You"),
    Usage(prompt=2, completion=3),
    Done("stop"),
]


def written(events: Sequence[Event]) -> list[tuple[str, Any]]:
    encoder = Encoder(META)
    return parsed(b"".join(map(encoder.feed, events)))


def parsed(stream: bytes) -> list[tuple[str, Any]]:
    frames = [frame for frame in stream.decode().split("\n\n") if frame and not frame.startswith(":")]
    named = [frame.removeprefix("event: ").split("\ndata: ") for frame in frames]
    return [(name, data if data == "[DONE]" else msgspec.json.decode(data)) for name, data in named]


def test_the_four_events() -> None:  # r11
    assert written(ANSWER) == [
        ("start", {"id": "resp-1", "created": 7, "model": "m"}),
        ("content", {"id": "resp-1", "type": "content", "content": "Hi."}),
        ("content", {"id": "resp-1", "type": "content", "content": "  You"}),
        ("completion", WHOLE),
        ("done", "[DONE]"),
    ]


def test_a_whole_answer_is_the_completion_of_a_stream() -> None:  # r10
    assert render(fold(ANSWER), META) == WHOLE


def test_an_answer_without_a_word_has_its_events() -> None:
    assert [name for name, _ in written([Done("stop")])] == ["start", "completion", "done"]


def test_a_failure_is_an_event_and_the_last() -> None:
    *_, (name, data) = written([TextDelta("Hi"), BROKEN])
    assert (name, data["error"]["code"]) == ("error", "broken")


# Over a socket


@asynccontextmanager
async def serving_demo() -> AsyncIterator[aiohttp.ClientSession]:
    async with serving(Demo(DemoOptions(pace=0))) as url, client(url) as http:
        yield http


async def ask(http: aiohttp.ClientSession, **body: object) -> Any:
    async with http.post(RESPONSES, json={"model": "demo", "input": "hello", **body}) as answer:
        assert answer.status == 200
        return await answer.json()


def test_the_same_question_has_the_same_answer() -> None:
    async def scenario() -> None:
        async with serving_demo() as http:
            for limit in (3, 5, 150, None):
                first, again = [await ask(http, max_tokens=limit) for _ in range(2)]
                assert first["output"] == again["output"]
                assert first["usage"] == again["usage"]
                assert first["id"] != again["id"] and first["id"].startswith("resp-")
            assert (await ask(http, max_tokens=3))["usage"]["output_tokens"] <= 3
            assert (await ask(http))["output"] != (await ask(http, input="another one"))["output"]

    run(scenario())


@pytest.mark.parametrize("limit", [None, 1, 3, 40])
def test_a_stream_adds_up_to_the_whole(limit: int | None) -> None:
    async def scenario() -> None:
        async with serving_demo() as http:
            whole = await ask(http, max_tokens=limit)
            body = {"model": "demo", "input": "hello", "max_tokens": limit, "stream": True}
            async with http.post(RESPONSES, json=body) as answer:
                assert answer.content_type == "text/event-stream"
                assert answer.headers["X-Request-Id"]
                events = parsed(await answer.read())
            texts = [data["content"] for name, data in events if name == "content"]
            (completion,) = [data for name, data in events if name == "completion"]
            assert "".join(texts) == completion["output"] == whole["output"]
            assert completion["usage"] == whole["usage"]
            assert events[-1] == ("done", "[DONE]")

    run(scenario())


def test_every_model_speaks_it() -> None:
    async def scenario() -> None:
        async with ScriptedOllama() as ollama:
            async with serving(Ollama(OllamaOptions(url=ollama.url))) as url, client(url) as http:
                answer = await ask(http, model="llama3.2", instructions="be brief", max_tokens=2)
                assert (answer["model"], answer["output"]) == ("llama3.2", "You said:")
                assert [message["role"] for message in ollama.chats()[0]["messages"]] == ["system", "user"]

    run(scenario())


def test_a_failure_before_the_first_word_is_a_status_and_later_an_event() -> None:
    async def scenario() -> None:
        for steps, status in (([BROKEN], 502), ([TextDelta("Hi"), BROKEN], 200)):
            async with serving(Scripted(*steps)) as url, client(url) as http:
                body = {"model": "scripted", "input": "hello", "stream": True}
                async with http.post(RESPONSES, json=body) as answer:
                    assert answer.status == status
                    if status == 200:
                        name, data = parsed(await answer.read())[-1]
                        assert (name, data["error"]["code"]) == ("error", "broken")
                async with http.post(RESPONSES, json=body | {"stream": False}) as answer:
                    assert answer.status == 502

    run(scenario())


def test_leaving_stops_the_work() -> None:
    async def scenario() -> None:
        backend = Scripted(TextDelta("Hi"), asyncio.Event(), Done("stop"))
        async with serving(backend) as url, client(url) as http:
            answer = await http.post(RESPONSES, json={"model": "scripted", "input": "hello", "stream": True})
            answer.close()
            await backend.left.wait()

    run(scenario())


def test_errors_have_one_shape_and_the_right_status() -> None:
    async def scenario() -> None:
        async with serving_demo() as http:
            for body, status in (
                ({"model": "nope", "input": "a"}, 404),
                ({"model": "demo"}, 400),
                ({"model": "demo", "input": ["a"]}, 400),
            ):
                async with http.post(RESPONSES, json=body) as answer:
                    error = (await answer.json())["error"]
                    assert (answer.status, set(error)) == (status, {"message", "type", "param", "code"})

    run(scenario())


# The rest of the surface


def test_all_else_is_there_as_under_v1() -> None:
    rows = {(row.method, row.path) for row in endpoints()}
    for method, path in rows:
        route = path.removeprefix("/v1")
        if route == path or route.startswith(("/responses", "/conversations")):
            continue
        assert (method, f"/ozwell/v1{route}") in rows


def test_files_as_they_were_recorded(tmp_path: Path) -> None:  # r15 to r18
    base = "/ozwell/v1/files"

    async def scenario(http: aiohttp.ClientSession) -> None:
        async with http.get(base) as listed:
            assert (await listed.json())["data"] == []
        for purpose in ("batch", None):
            form = aiohttp.FormData()
            form.add_field("file", b"0123456789", filename="a.txt")
            if purpose:
                form.add_field("purpose", purpose)
            async with http.post(base, data=form) as sent:
                file = await sent.json()
                assert (sent.status, file["object"], file["bytes"]) == (200, "file", 10)
                assert (file["filename"], file["purpose"]) == ("a.txt", purpose or "assistants")
            async with http.get(f"{base}/{file['id']}/content") as content:
                assert await content.read() == b"0123456789"
                assert "a.txt" in content.headers["Content-Disposition"]
            async with http.delete(f"{base}/{file['id']}") as deleted:
                assert await deleted.json() == {"id": file["id"], "object": "file", "deleted": True}
            async with http.delete(f"{base}/{file['id']}") as gone:
                assert gone.status == 404

    async def with_files() -> None:
        files = Files(tmp_path)
        await files.open()
        try:
            async with serving(Demo(), files=files) as url, client(url) as http:
                await scenario(http)
        finally:
            await files.aclose()

    run(with_files())
