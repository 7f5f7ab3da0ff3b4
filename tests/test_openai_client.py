"""The official `openai` client against the gate, with a scripted native Ollama behind it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from codexgate.backends.ollama import Ollama, OllamaOptions
from tests.servers.gateway import serving
from tests.servers.ollama import Cut, FakeModel, Refusal, ScriptedOllama, call, done, say
from tests.support import run

MODEL = "qwen3:8b"
SOON = 10.0
"""Seconds in which a client's leaving must have freed the model: before anything is written again."""
HELLO: Any = [{"role": "user", "content": "hello"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@asynccontextmanager
async def bench() -> AsyncIterator[tuple[ScriptedOllama, openai.AsyncOpenAI]]:
    async with ScriptedOllama() as ollama:
        async with serving(Ollama(OllamaOptions(url=ollama.url, num_ctx=8192))) as url:
            async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
                yield ollama, client


def test_lists_and_retrieves_models() -> None:
    async def scenario() -> None:
        async with bench() as (ollama, client):
            models = {model.id: model async for model in client.models.list()}
            assert set(models) == set(ollama.models)
            assert models[MODEL].created > 1_600_000_000
            assert (await client.models.retrieve(MODEL)).id == MODEL
            with pytest.raises(openai.NotFoundError) as missing:
                await client.models.retrieve("qwen3:9b")
            assert missing.value.code == "model_not_found" and MODEL in str(missing.value)

    run(scenario())


TEXTS = ["plain", "ha", "ha", " ", "\n\ndata: [DONE]\n\n", "\u2028\r\n\x00\x1b[2J", "🙂", "ha"]


def test_the_stream_adds_up_to_the_models_text_byte_for_byte() -> None:
    async def scenario() -> None:
        async with bench() as (ollama, client):
            ollama.next(*(say(text) for text in TEXTS), done(prompt=9, completion=8))
            stream = await client.chat.completions.create(
                model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
            )
            chunks = [chunk async for chunk in stream]
            deltas = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
            assert [delta for delta in deltas if delta] == TEXTS
            assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
            assert chunks[-1].usage is not None
            assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (9, 8)
            ollama.next(*(say(text) for text in TEXTS), done())
            whole = await client.chat.completions.create(model=MODEL, messages=HELLO)
            assert whole.choices[0].message.content == "".join(TEXTS)

    run(scenario())


def test_thinking_is_beside_the_answer() -> None:
    async def scenario() -> None:
        async with bench() as (ollama, client):
            ollama.next(say(thinking="hm"), say("yes"), done())
            message = (await client.chat.completions.create(model=MODEL, messages=HELLO)).choices[0].message
            assert (message.content, message.model_dump()["reasoning_content"]) == ("yes", "hm")

    run(scenario())


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_a_tool_round_trip(streamed: bool) -> None:
    async def scenario() -> None:
        async with bench() as (ollama, client):
            ollama.next(
                say(calls=[call("weather", {"city": "Köln"}), call("weather", {"city": "Ulm"}, "call_2", 1)]),
                done(),
            )
            calls = await ask_with_tools(client, streamed)
            assert [(c["name"], json.loads(c["arguments"])["city"]) for c in calls] == [
                ("weather", "Köln"),
                ("weather", "Ulm"),
            ]
            said: list[Any] = [
                *HELLO,
                {
                    "role": "assistant",
                    "tool_calls": [
                        {
                            "id": c["id"],
                            "type": "function",
                            "function": {"name": c["name"], "arguments": c["arguments"]},
                        }
                        for c in calls
                    ],
                },
                *({"role": "tool", "tool_call_id": c["id"], "content": "sunny"} for c in calls),
            ]
            after = await client.chat.completions.create(model=MODEL, messages=said, tools=[WEATHER])
            assert after.choices[0].finish_reason == "stop"
            told = ollama.chats()[-1]["messages"]
            assert told[1]["tool_calls"][0]["function"]["arguments"] == {"city": "Köln"}
            assert [message["tool_name"] for message in told[2:]] == ["weather", "weather"]

    run(scenario())


async def ask_with_tools(client: openai.AsyncOpenAI, streamed: bool) -> list[dict[str, str]]:
    """The calls of one answer, put together as a client does: by index."""
    if not streamed:
        whole = await client.chat.completions.create(model=MODEL, messages=HELLO, tools=[WEATHER])
        assert whole.choices[0].finish_reason == "tool_calls"
        return [
            {"id": c.id, "name": c.function.name, "arguments": c.function.arguments}
            for c in whole.choices[0].message.tool_calls or []
            if c.type == "function"
        ]
    calls: dict[int, dict[str, str]] = {}
    stream = await client.chat.completions.create(model=MODEL, messages=HELLO, tools=[WEATHER], stream=True)
    async for chunk in stream:
        for delta in chunk.choices[0].delta.tool_calls or []:
            assert delta.function is not None
            known = calls.setdefault(
                delta.index, {"id": delta.id or "", "name": delta.function.name or "", "arguments": ""}
            )
            known["arguments"] += delta.function.arguments or ""
    return [calls[index] for index in sorted(calls)]


def test_an_answer_follows_its_schema() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}

    async def scenario() -> None:
        async with bench() as (ollama, client):
            wanted: Any = {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": schema, "strict": True},
            }
            whole = await client.chat.completions.create(model=MODEL, messages=HELLO, response_format=wanted)
            assert isinstance(json.loads(whole.choices[0].message.content or "")["n"], int)
            assert ollama.chats()[-1]["format"] == schema

    run(scenario())


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("phase", ["before the first token", "in the middle"])
def test_leaving_closes_the_connection_to_ollama(phase: str, streamed: bool) -> None:
    async def scenario() -> None:
        async with bench() as (ollama, client):
            ollama.loaded[MODEL] = 8192  # a cold load would be held: see test_ollama_window.py
            held = asyncio.Event()
            ollama.next(*([say("a")] if phase == "in the middle" else []), held, say("b"), done())
            asking = asyncio.create_task(read(client, streamed))
            await ollama.arrived.wait()
            if phase == "in the middle" and streamed:
                await first.wait()
            asking.cancel()
            await asyncio.wait({asking})
            await asyncio.wait_for(ollama.left.wait(), SOON)
            assert (ollama.open, ollama.abandoned) == (0, 1)

    first = asyncio.Event()

    async def read(client: openai.AsyncOpenAI, streamed: bool) -> None:
        if not streamed:
            await client.chat.completions.create(model=MODEL, messages=HELLO)
            return
        async for chunk in await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True):
            if chunk.choices[0].delta.content:
                first.set()

    run(scenario())


REFUSALS: dict[str, tuple[Refusal, type[openai.APIStatusError], str]] = {
    "too long": (
        Refusal(400, "the prompt exceeds the context length of the model"),
        openai.BadRequestError,
        "context_length_exceeded",
    ),
    "no tools": (Refusal(400, "qwen3:8b does not support tools"), openai.BadRequestError, ""),
    "busy": (Refusal(503, "server busy, please try again"), openai.InternalServerError, ""),
    "broken": (Refusal(500, "llama runner process has terminated"), openai.InternalServerError, ""),
}


@pytest.mark.parametrize(("refusal", "error", "code"), REFUSALS.values(), ids=REFUSALS.keys())
def test_what_ollama_refuses_is_refused_with_its_reason(
    refusal: Refusal, error: type[openai.APIStatusError], code: str
) -> None:
    async def scenario() -> None:
        async with bench() as (ollama, client):
            for stream in (True, False):
                ollama.next(refusal)
                with pytest.raises(error) as refused:
                    await client.chat.completions.create(model=MODEL, messages=HELLO, stream=stream)
                assert str(refusal.reason)[:20] in str(refused.value)
                assert not code or refused.value.code == code

    run(scenario())


def test_a_stream_that_is_cut_is_an_error_to_the_client() -> None:
    async def scenario() -> None:
        async with bench() as (ollama, client):
            ollama.next(say("a"), Cut())
            with pytest.raises(openai.APIError):
                async for _ in await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True):
                    pass

    run(scenario())


def test_answers_go_over_one_connection() -> None:
    async def scenario() -> int:
        async with bench() as (ollama, client):
            await client.models.list()
            for _ in range(5):
                await client.chat.completions.create(model=MODEL, messages=HELLO)
            return len(ollama.connections)

    assert run(scenario()) <= 4


def test_a_model_that_only_embeds_does_not_chat() -> None:
    embed = FakeModel("nomic-embed-text:latest", capabilities=("embedding",))

    async def scenario() -> None:
        async with (
            ScriptedOllama([embed]) as ollama,
            serving(Ollama(OllamaOptions(url=ollama.url, num_ctx=8192))) as url,
        ):
            async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
                with pytest.raises(openai.NotFoundError, match="does not chat"):
                    await client.chat.completions.create(model="nomic-embed-text", messages=HELLO)

    run(scenario())
