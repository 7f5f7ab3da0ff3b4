"""The `openai` backends over real sockets, against a scripted server, alone and behind a gate."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import openai
import pytest

from codexgate.assemble import BACKENDS, make_backends
from codexgate.backends.openai import OpenAI, OpenAIOptions
from codexgate.chat import ChatRequest, Message, Sampling, Text, Tool, ToolChoice
from codexgate.config import Secret
from codexgate.errors import Fault, GateError
from codexgate.events import Done, Event, Failed, TextDelta, Usage
from codexgate.fold import Reply, fold
from codexgate.order import Order
from codexgate.ports import Backend, Embedder
from codexgate.settings import Settings
from tests.servers import gateway
from tests.servers.openai import (
    AT,
    DONE,
    Cut,
    Refusal,
    ScriptedOpenAI,
    Whole,
    call,
    chunk,
    delta,
    end,
    frame,
    say,
    usage,
)
from tests.support import UNHURRIED, run, unhurried

TOOL = Tool("weather", parameters={"type": "object", "properties": {"city": {"type": "string"}}})
KEY = "k-s3cret"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who tests a deadline sets a short one."""
    unhurried(monkeypatch, "backends.openai.PROBE", "backends.openai.TAIL")


@asynccontextmanager
async def serving(
    models: Any = None, *, path: str = "", key: str = "", names: tuple[str, ...] = (), **options: Any
) -> AsyncIterator[tuple[ScriptedOpenAI, OpenAI]]:
    async with ScriptedOpenAI(models) as server:
        settings = OpenAIOptions(base_url=server.url + path, api_key=Secret(key), models=names, **options)
        backend = OpenAI(settings, name="gpu")
        try:
            yield server, backend
        finally:
            await backend.aclose()


def ask(text: str = "hi", **settings: Any) -> ChatRequest:
    return ChatRequest("m", (Message("user", (Text(text),)),), **settings)


async def events_of(backend: OpenAI, request: ChatRequest) -> list[Event]:
    order, events = Order(), []
    async for batch in backend.stream(request):
        assert batch
        for event in batch:
            order.feed(event)
            events.append(event)
    order.close()
    return events


async def reply_of(backend: OpenAI, request: ChatRequest) -> Reply:
    return fold(await events_of(backend, request))


async def fault_of(backend: OpenAI, request: ChatRequest) -> Fault:
    """The fault of an answer that is nothing but a failure."""
    [failed] = await events_of(backend, request)
    assert isinstance(failed, Failed)
    return failed.fault


# The backend


def test_it_is_a_backend_and_an_embedder() -> None:
    backend: Backend = OpenAI(OpenAIOptions(base_url="http://127.0.0.1:1/v1"), name="gpu")
    assert isinstance(backend, Embedder)
    assert "documents" not in backend.honours
    assert "documents" in OpenAI(OpenAIOptions(base_url="https://api.openai.com/v1"), name="gpt").honours


@pytest.mark.parametrize("path", ["", "/"])
@pytest.mark.parametrize("key", ["", KEY])
def test_an_answer(path: str, key: str) -> None:
    async def test() -> None:
        async with serving(path=path, key=key) as (server, backend):
            reply = await reply_of(backend, ask(sampling=Sampling(max_tokens=5)))
            assert (reply.text, reply.reason, reply.usage) == ("You said: hi", "stop", Usage(3, 2))
            [seen] = server.seen
            assert seen.path == "/v1/chat/completions"
            assert seen.body["max_tokens"] == 5 and "max_completion_tokens" not in seen.body
            assert seen.headers.get("authorization", "") == (f"Bearer {key}" if key else "")

    run(test())


def test_a_text_to_go_on_with() -> None:
    async def test() -> None:
        async with serving() as (server, backend):
            assert (await reply_of(backend, ask("Once", raw=True, suffix="end"))).text == "Once!"
            [seen] = server.seen
            assert (seen.path, seen.body["prompt"], seen.body["suffix"]) == ("/v1/completions", "Once", "end")

    run(test())


def test_an_answer_that_is_no_stream() -> None:
    async def test() -> None:
        async with serving() as (server, backend):
            message = {"role": "assistant", "content": "hi"}
            server.next(Whole({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}))
            assert (await events_of(backend, ask())) == [TextDelta("hi"), Done("stop")]

    run(test())


def test_one_connection_serves_one_answer_after_the_other() -> None:
    async def test() -> None:
        async with serving() as (server, backend):
            for _ in range(5):
                assert (await reply_of(backend, ask())).text == "You said: hi"
            assert len(server.connections) == 1

    run(test())


FAILURES: dict[str, tuple[tuple[Any, ...], str]] = {
    "cut before the first byte": ((Cut(),), "upstream"),
    "cut midway": ((say("a"), Cut()), "upstream"),
    "cut within a chunk": ((say("a"), b'data: {"cho', Cut()), "upstream"),
    "an end without a reason": ((say("a"),), "upstream"),
    "an error midway": ((say("a"), {"error": {"message": "boom"}}, DONE), "upstream"),
    "garbage": ((say("a"), b"data: garbage\n\n", end(), DONE), "upstream"),
    "silence midway": ((say("a"), asyncio.Event), "timeout"),
    "silence": ((asyncio.Event,), "timeout"),
}
SHORT: dict[str, dict[str, Any]] = {
    "silence": {"first_token_timeout": 0.5},
    "silence midway": {"idle_timeout": 0.5},
}
"""The deadlines that are tested."""


@pytest.mark.parametrize("case", FAILURES)
def test_failures_are_one_event(case: str) -> None:
    steps, kind = FAILURES[case]

    async def test() -> None:
        async with serving(**SHORT.get(case, {})) as (server, backend):
            server.next(*(step() if step is asyncio.Event else step for step in steps))
            *before, failed = await events_of(backend, ask())
            assert isinstance(failed, Failed)
            assert failed.fault.kind == kind
            assert before == ([TextDelta("a")] if say("a") in steps else [])
            # And the next answer is whole, however long it takes.
            backend._options = OpenAIOptions(base_url=server.url)
            assert (await reply_of(backend, ask())).text == "You said: hi"

    run(test())


def test_who_said_why_it_ended_need_not_say_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codexgate.backends.openai.GRACE", 0.1)

    async def test() -> None:
        async with serving() as (server, backend):
            for last in (Cut(), asyncio.Event()):
                server.next(say("a"), end(), last)
                assert await events_of(backend, ask()) == [TextDelta("a"), Done("stop")]

    run(test())


def test_refusals_keep_the_servers_words_and_no_secrets() -> None:
    async def test() -> None:
        async with serving(key=KEY) as (server, backend):
            server.next(Refusal(401, f"Incorrect API key provided: {KEY}."))
            fault = await fault_of(backend, ask())
            assert (fault.status, fault.code) == (502, "upstream_key_refused")
            assert fault.text == "gpu: Incorrect API key provided: ********. Check openai.gpu.api_key."
            server.next(Refusal(429, "Slow down.", {"Retry-After": "7"}))
            fault = await fault_of(backend, ask())
            assert (fault.kind, fault.retry_after) == ("rate_limited", 7.0)
            server.next(Refusal(307, b"", {"Location": f"{server.url}/elsewhere"}))
            fault = await fault_of(backend, ask())
            assert "not followed" in fault.message
            assert len(server.bodies()) == 3

    run(test())


def test_a_tool_that_had_to_be_called_and_was_not() -> None:
    async def test() -> None:
        async with serving() as (server, backend):
            server.next(say("No."), end(), DONE)
            request = ask(tools=(TOOL,), tool_choice=ToolChoice("required"))
            assert (await fault_of(backend, request)).code == "tool_not_called"
            assert server.bodies()[0]["tool_choice"] == "required"

    run(test())


def test_nobody_there() -> None:
    async def test() -> None:
        backend = OpenAI(OpenAIOptions(base_url="http://127.0.0.1:1/v1", api_key=Secret(KEY)), name="gpu")
        fault = await fault_of(backend, ask())
        assert fault.kind == "unavailable" and "openai.gpu.base_url" in fault.advice
        with pytest.raises(GateError):
            await backend.models()
        assert (await backend.probe()).state == "down"

    run(test())


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://x", f"http://x:y@ {KEY}", "http://a/?key=b"])
def test_an_address_that_is_none_is_refused_without_being_told(url: str) -> None:
    with pytest.raises(GateError) as refused:
        OpenAI(OpenAIOptions(base_url=url), name="gpu")
    assert "openai.gpu.base_url" in refused.value.fault.message and KEY not in refused.value.fault.text


@pytest.mark.parametrize("before", [0, 1, 3], ids=["before the first token", "after one", "after three"])
@pytest.mark.parametrize("how", ["close", "cancel"])
def test_leaving_reaches_the_upstream(before: int, how: str) -> None:
    async def consume(stream: AsyncGenerator[list[Event]], reached: asyncio.Event) -> None:
        seen = 0
        async with aclosing(stream):
            async for batch in stream:
                seen += len(batch)
                if seen >= before:
                    reached.set()
                    if how == "close":
                        return

    async def test() -> None:
        async with serving() as (server, backend):
            server.next(*[say("a")] * before, asyncio.Event())
            reached = asyncio.Event()
            task = asyncio.create_task(consume(backend.stream(ask()), reached))
            await (reached if before else server.arrived).wait()
            if how == "cancel" or not before:
                task.cancel()
            await asyncio.wait_for(server.left.wait(), UNHURRIED)
            await asyncio.wait([task])
            assert server.open == 0

    run(test())


# Models


def test_models_are_asked_for_or_set() -> None:
    async def test() -> None:
        async with serving() as (server, backend):
            asked = {model.id: model for model in await backend.models()}
            assert {id: set(model.abilities) for id, model in asked.items()} == {
                "m": {"chat"},
                "m-embed": {"embedding"},
            }
            assert (asked["m"].created, asked["m"].owned_by, asked["m"].backend) == (AT, "them", "gpu")
        strange: Any
        for strange in (Refusal(404, b"404 page not found"), {"models": []}):
            async with serving(strange) as (server, backend):
                with pytest.raises(GateError, match=r"name its models: openai\.gpu\.models"):
                    await backend.models()
        async with serving(names=("a", "b")) as (server, backend):
            assert [model.id for model in await backend.models()] == ["a", "b"]
            assert server.seen == []

    run(test())


PROBES: dict[str, tuple[Any, tuple[str, ...], tuple[str, str]]] = {
    "two models": (None, (), ("ready", "2 models")),
    "Ollama": (
        {"data": [{"id": "qwen3:8b", "owned_by": "library"}]},
        (),
        ("ready", "Ollama's /v1, 1 model"),
    ),
    "no list": (Refusal(404, b""), (), ("down", "gpu answered 404 without a reason.")),
    "broken": (Refusal(500, "Oh."), ("a",), ("down", "gpu: Oh.")),
    "moved": (
        Refusal(301, b""),
        ("a",),
        ("down", "gpu answered 301: it wants to be asked elsewhere, which is not followed."),
    ),
    "no list, but set": (Refusal(404, b""), ("a",), ("ready", "1 model")),
    "our key is wrong": (Refusal(401, "No."), ("a",), ("down", "gpu: No.")),
}


@pytest.mark.parametrize("case", PROBES)
def test_probe(case: str) -> None:
    models, names, seen = PROBES[case]

    async def test() -> None:
        async with serving(models, names=names) as (_, backend):
            health = await backend.probe()
            assert (health.state, health.summary) == seen

    run(test())


def test_probe_of_what_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codexgate.backends.openai.PROBE", 0.05)

    async def test() -> None:
        async with await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            backend = OpenAI(OpenAIOptions(base_url=f"http://127.0.0.1:{port}/v1"), name="gpu")
            health = await backend.probe()
            assert (health.state, bool(health.advice)) == ("down", True)
            await backend.aclose()

    run(test())


def test_vectors() -> None:
    async def test() -> None:
        async with serving() as (server, backend):
            found = await backend.embed("m-embed", ["a", "b"], 2)
            assert (found.vectors, found.tokens) == (((0.5, 0.5), (1.5, 1.5)), 4)
            [body] = server.bodies()
            assert (body["encoding_format"], body["dimensions"], body["input"]) == ("float", 2, ["a", "b"])
            server.next(Refusal(400, {"message": "Too long.", "param": "input", "code": None}))
            with pytest.raises(GateError) as refused:
                await backend.embed("m-embed", ["a"])
            assert (refused.value.fault.kind, refused.value.fault.param) == ("invalid_request", "input")

    run(test())


# Which there are


def names_of(settings: Settings) -> list[str]:
    return [backend.name for backend in make_backends(settings)]


def test_servers_come_between_ollama_and_the_demo() -> None:
    servers = {name: OpenAIOptions(base_url="http://127.0.0.1:1/v1") for name in ("gpu", "llama")}
    everything = names_of(Settings(openai=servers))
    assert everything == ["codex", "ollama", "gpu", "llama", "demo", "local"]
    assert names_of(Settings(openai=servers, backends=("llama", "demo"))) == ["llama", "demo"]
    with pytest.raises(GateError, match="Did you mean llama"):
        names_of(Settings(openai=servers, backends=("lama",)))


@pytest.mark.parametrize("name", [*BACKENDS, "a/b", "", "-a", "ä"])
def test_a_name_that_no_server_can_have(name: str) -> None:
    with pytest.raises(GateError, match="cannot be called"):
        names_of(Settings(openai={name: OpenAIOptions(base_url="http://127.0.0.1:1/v1")}))


# Behind a gate


@asynccontextmanager
async def bench(**options: Any) -> AsyncIterator[tuple[ScriptedOpenAI, openai.AsyncOpenAI]]:
    async with serving(**options) as (server, backend), gateway.serving(backend) as url:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="theirs", max_retries=0) as client:
            yield server, client


HELLO: Any = [{"role": "user", "content": "hello"}]
WEATHER: Any = {"type": "function", "function": {"name": "weather", "parameters": TOOL.parameters}}


def test_a_client_never_reaches_the_upstream_with_its_own_key() -> None:
    async def test() -> None:
        async with bench(key=KEY) as (server, client):
            assert {model.id async for model in client.models.list()} == {"m", "m-embed"}
            await client.chat.completions.create(model="gpu/m", messages=HELLO, user="me", seed=1)
            assert {seen.headers["authorization"] for seen in server.seen} == {f"Bearer {KEY}"}
            [body] = server.bodies()
            assert body["model"] == "m" and body["seed"] == 1 and "user" not in body

    run(test())


def test_a_stream_adds_up() -> None:
    texts = ["plain", "ha", "ha", " ", "\n\ndata: [DONE]\n\n", "\u2028\r\n\x00\x1b[2J", "🙂"]

    async def test() -> None:
        async with bench() as (server, client):
            server.next(delta(role="assistant", content=""), *map(say, texts), end(), usage(9, 8), DONE)
            stream = await client.chat.completions.create(
                model="m", messages=HELLO, stream=True, stream_options={"include_usage": True}
            )
            chunks = [one async for one in stream]
            deltas = [one.choices[0].delta for one in chunks if one.choices]
            assert [delta.content for delta in deltas if delta.content] == texts
            assert [delta.role for delta in deltas].count("assistant") == 1
            assert len({one.id for one in chunks}) == 1 and chunks[0].id != "chatcmpl-theirs"
            assert {one.model for one in chunks} == {"m"}
            assert chunks[-1].usage and chunks[-1].usage.total_tokens == 17

    run(test())


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_parallel_tools(streamed: bool) -> None:
    async def test() -> None:
        async with bench() as (server, client):
            server.next(
                call(0, "a", "weather", ""),
                call(1, "b", "weather", ""),
                call(0, None, None, '{"city":'),
                call(1, None, None, '{"city": "Ulm"}'),
                call(0, None, None, ' "Köln"}'),
                end("tool_calls"),
                usage(1, 2),
                DONE,
            )
            asked: Any = {"model": "m", "messages": HELLO, "tools": [WEATHER]}
            if streamed:
                async with client.chat.completions.stream(**asked) as stream:
                    whole = await stream.get_final_completion()
            else:
                whole = await client.chat.completions.create(**asked)
            assert whole.choices[0].finish_reason == "tool_calls"
            calls = whole.choices[0].message.tool_calls or []
            assert [(one.id, json.loads(one.function.arguments)["city"]) for one in calls] == [
                ("a", "Köln"),
                ("b", "Ulm"),
            ]
            said: list[Any] = [
                *HELLO,
                {"role": "assistant", "tool_calls": [one.model_dump(include={"id", "type", "function"}) for one in calls]},
                *({"role": "tool", "tool_call_id": one.id, "content": "sunny"} for one in calls),
            ]  # fmt: skip
            await client.chat.completions.create(model="m", messages=said, tools=[WEATHER])
            told = server.bodies()[-1]["messages"]
            assert told[1]["tool_calls"][0]["id"] == "a"
            assert told[2] == {"role": "tool", "content": "sunny", "tool_call_id": "a"}

    run(test())


def test_structured_output() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}

    async def test() -> None:
        async with bench() as (server, client):
            server.next(say('{"n": 1}'), end(), usage(1, 1), DONE)
            whole = await client.chat.completions.create(model="m", messages=HELLO, response_format=wanted)
            assert json.loads(whole.choices[0].message.content or "") == {"n": 1}
            assert server.bodies()[0]["response_format"] == wanted

    run(test())


def test_fields_that_are_passed_over_are_told() -> None:
    async def test() -> None:
        async with bench() as (server, client):
            strange: Any = {"verbosity": "low", "top_k": 1, "x\r\nSet-Cookie: a": 1, "y" * 100: 1}
            create = client.chat.completions.with_raw_response.create
            raw = await create(model="m", messages=HELLO, extra_body=strange)
            assert raw.headers["X-Codexgate-Ignored"] == f"verbosity, top_k, x??Set-Cookie??a, {'y' * 64}"
            raw = await create(model="m", messages=HELLO, extra_body={f"f{n}": n for n in range(100)})
            assert raw.headers["X-Codexgate-Ignored"].split(", ") == [f"f{n}" for n in range(32)]
            assert not {"verbosity", "top_k", "f1"} & {*server.bodies()[0], *server.bodies()[1]}
            raw = await create(model="m", messages=HELLO)
            assert "X-Codexgate-Ignored" not in raw.headers

    run(test())


def test_embeddings() -> None:
    async def test() -> None:
        async with bench() as (_, client):
            found = await client.embeddings.create(model="m-embed", input=["a", "b"])
            assert [one.embedding for one in found.data] == [[0.5] * 3, [1.5] * 3]
            assert found.usage.prompt_tokens == 4

    run(test())


@pytest.mark.parametrize("name", ["emb", "all-mpnet-base-v2", "m-embed"])
def test_a_model_of_which_only_the_name_is_known_answers_for_itself(name: str) -> None:
    async def test() -> None:
        async with bench(names=(name,)) as (_, client):
            assert (await client.embeddings.create(model=name, input="a")).data
            assert (await client.chat.completions.create(model=name, messages=HELLO)).choices

    run(test())


def test_what_a_server_says_of_its_model_is_believed() -> None:
    async def test() -> None:
        async with bench(models={"data": [{"id": "m-embed", "type": "chat"}]}) as (server, client):
            with pytest.raises(openai.NotFoundError, match="The model 'm-embed' does not embed"):
                await client.embeddings.create(model="m-embed", input="a")
            assert not server.bodies()

    run(test())


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("phase", ["before the first token", "in the middle"])
def test_a_clients_leaving_closes_the_connection_upstream(phase: str, streamed: bool) -> None:
    async def read(client: openai.AsyncOpenAI, first: asyncio.Event) -> None:
        if not streamed:
            await client.chat.completions.create(model="m", messages=HELLO)
            return
        async for one in await client.chat.completions.create(model="m", messages=HELLO, stream=True):
            if one.choices[0].delta.content:
                first.set()

    async def test() -> None:
        async with bench() as (server, client):
            first = asyncio.Event()
            server.next(*([say("a")] if phase == "in the middle" else []), asyncio.Event(), end())
            asking = asyncio.create_task(read(client, first))
            await server.arrived.wait()
            if phase == "in the middle" and streamed:
                await first.wait()
            asking.cancel()
            await asyncio.wait({asking})
            await asyncio.wait_for(server.left.wait(), UNHURRIED)
            assert server.open == 0

    run(test())


def test_what_the_upstream_refuses_is_refused_with_its_reason() -> None:
    async def test() -> None:
        async with bench(key=KEY) as (server, client):
            for stream in (True, False):
                long = {"message": "maximum context length is 8", "code": "context_length_exceeded"}
                server.next(Refusal(400, long))
                with pytest.raises(openai.BadRequestError, match="maximum context") as refused:
                    await client.chat.completions.create(model="m", messages=HELLO, stream=stream)
                assert refused.value.code == "context_length_exceeded"
                server.next(Refusal(401, f"No: {KEY}"))
                with pytest.raises(openai.InternalServerError) as broken:  # not theirs to mend
                    await client.chat.completions.create(model="m", messages=HELLO, stream=stream)
                assert broken.value.status_code == 502 and KEY not in str(broken.value)

    run(test())


# Bytes that are passed on


async def stream_of(*steps: bytes, include_usage: bool = False) -> list[bytes]:
    """The data of every frame that a client gets; each step is seen here before the next one is sent."""
    held = [asyncio.Event() for _ in steps]
    asked: Any = {"model": "m", "messages": HELLO, "stream": True}
    if include_usage:
        asked["stream_options"] = {"include_usage": True}
    got = b""
    async with serving() as (server, backend), gateway.serving(backend) as url, gateway.client(url) as client:
        server.next(*(each for pair in zip(steps, held, strict=True) for each in pair))
        async with client.post("/v1/chat/completions", json=asked) as response:
            for go in held:
                got += await response.content.readany()
                go.set()
            got += await response.content.read()
    return [each.removeprefix(b"data: ") for each in got.split(b"\n\n") if each.startswith(b"data: ")]


def odd(text: str, **more: Any) -> bytes:
    """A text with things beside it that the gate knows nothing of."""
    fields = {"content": text, "mood": {"happy": 1.50}}
    strange = chunk({"index": 0, "delta": fields, "finish_reason": None}, obfuscation="😀x", **more)
    return frame(strange)


TAIL = frame(end()) + frame(usage(3, 2)) + DONE


def test_what_stands_beside_a_text_reaches_the_client_byte_for_byte() -> None:
    async def test() -> None:
        first, *rest, finish, done = await stream_of(frame(say("a")), odd("b"), odd("c") + odd("d"), TAIL)
        head = first.partition(b',"choices"')[0]
        assert b'"model":"m"' in head and b"theirs" not in head
        _, passed = rest[0], rest[1:]
        for got, sent in zip(passed, map(odd, "bcd"), strict=True):
            assert got == head + b',"choices"' + sent.partition(b',"choices"')[2].removesuffix(b"\n\n")
        assert b'"finish_reason":"stop"' in finish and done == b"[DONE]"

    run(test())


def test_passed_and_encoded_frames_keep_their_order() -> None:
    async def test() -> None:
        frames = await stream_of(
            frame(say("a")),
            odd("b"),
            odd("c") + frame(call(0, "x", "f", "{}")),
            odd("d"),
            frame(delta(content="e", reasoning_content="hm")),
            odd("f"),
            frame(end("tool_calls")) + frame(usage(3, 2)) + DONE,
            include_usage=True,
        )
        chunks = [json.loads(each) for each in frames[:-1]]
        deltas = [each["choices"][0]["delta"] for each in chunks if each["choices"]]
        assert "".join(each.get("content") or "" for each in deltas) == "abcdef"
        assert [each["reasoning_content"] for each in deltas if "reasoning_content" in each] == ["hm"]
        calls = [piece for each in deltas for piece in each.get("tool_calls", ())]
        assert [piece["id"] for piece in calls if "id" in piece] == ["x"]
        assert len({(each["id"], each["created"], each["model"]) for each in chunks}) == 1
        # Nobody said `"usage": null`, as a client that asked for usage may expect: nothing is passed on.
        assert all("usage" in each and "obfuscation" not in each for each in chunks)
        assert [each["usage"]["total_tokens"] for each in chunks if each["usage"]] == [5]

    run(test())


def test_with_usage_asked_for_frames_are_passed_on_that_say_it_is_to_come() -> None:
    async def test() -> None:
        frames = await stream_of(frame(say("a")), odd("b", usage=None), odd("c"), TAIL, include_usage=True)
        assert [b"obfuscation" in each for each in frames if b'"content":"' in each][-2:] == [True, False]
        assert all(b'"usage"' in each for each in frames[:-1])

    run(test())
