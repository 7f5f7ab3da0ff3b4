"""The context a model is loaded with: large enough, in steps, not reloaded for nothing, and never cut silently."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from codexgate import tokens
from codexgate.backends.ollama import Ollama, OllamaOptions
from codexgate.chat import ChatRequest, Image, Message, Text, Tool
from codexgate.dialects.ollama.window import choose, estimate
from codexgate.gate import Alias
from codexgate.server import reply
from codexgate.sse import KEEPALIVE, LOADING
from tests.servers.gateway import client, serving
from tests.servers.ollama import Refusal, ScriptedOllama, done, say
from tests.support import run

MODEL = "qwen3:8b"
WINDOW = 40_960
"""Of that model, as the scripted Ollama shows it."""
EMBEDS = "nomic-embed-text"


@pytest.mark.parametrize(
    ("needed", "most", "loaded", "wanted"),
    [
        (100, 40_960, 0, 8192),
        (8192, 40_960, 0, 8192),
        (8193, 40_960, 0, 16_384),
        (33_000, 40_960, 0, 40_960),
        (99_000, 40_960, 0, 40_960),
        (5000, 40_960, 16_384, 16_384),
        (99_000, 40_960, 40_960, 40_960),
        (20_000, 40_960, 16_384, 32_768),
        (100, 2048, 0, 2048),
    ],
)
def test_the_window_is_a_step_that_is_large_enough(needed: int, most: int, loaded: int, wanted: int) -> None:
    assert choose(needed, most, loaded) == wanted


TEXTS = {
    "prose": "The quick brown fox jumps over the lazy dog. " * 200,
    "code": "for name in names:\n    total += count(name, encoding='utf-8')\n" * 200,
    "Chinese": "敏捷的棕色狐狸跳过懒狗。" * 200,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_an_estimate_is_on_the_safe_side(text: str) -> None:
    guess = estimate(ChatRequest("m", (Message("user", (Text(text),)),)))
    assert 0.9 * tokens.count(text) <= guess < 3 * tokens.count(text)


def test_pictures_and_tools_count() -> None:
    bare = ChatRequest("m", (Message("user", (Text("hi"),)),))
    picture = ChatRequest("m", (Message("user", (Text("hi"), Image("image/png", "aGk="))),))
    tools = ChatRequest("m", bare.messages, tools=(Tool("f", "x" * 3000),))
    assert estimate(picture) > estimate(bare) + 1000 and estimate(tools) > estimate(bare) + 900


@asynccontextmanager
async def bench(**options: Any) -> AsyncIterator[tuple[ScriptedOllama, aiohttp.ClientSession]]:
    async with ScriptedOllama() as ollama:
        async with serving(Ollama(OllamaOptions(url=ollama.url, **options))) as url, client(url) as session:
            yield ollama, session


async def post(session: aiohttp.ClientSession, words: int, **fields: Any) -> tuple[int, Any, str]:
    """Ask with a prompt of that many words; returns status, body and the header about the context."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "abc " * words}], **fields}
    async with session.post("/v1/chat/completions", json=body) as answer:
        return answer.status, await answer.json(), answer.headers.get("X-Codexgate-Context", "")


def test_requests_of_all_sizes_load_a_model_a_few_times_only() -> None:
    async def scenario() -> None:
        async with bench() as (ollama, session):
            for words in (1, 200, 10, 900, 5, 4000, 100, 5000, 1, 14_000, 20, 200):
                status, _, context = await post(session, words)
                assert status == 200 and int(context.split("/")[1]) >= words
            assert ollama.loads == [(MODEL, 8192), (MODEL, 16_384), (MODEL, 32_768)]
            assert all(chat["truncate"] is chat["shift"] is False for chat in ollama.chats())

    run(scenario())


def test_what_somebody_else_has_loaded_is_used_as_it_is() -> None:
    async def scenario() -> None:
        async with bench() as (ollama, session):
            ollama.loaded[MODEL] = 16_384
            assert (await post(session, 1))[2].endswith("/16384")
            assert ollama.loads == []

    run(scenario())


def test_a_prompt_larger_than_the_window_names_both_numbers() -> None:
    async def scenario() -> None:
        async with bench() as (ollama, session):
            status, body, _ = await post(session, WINDOW + 500)
            error = body["error"]
            assert (status, error["code"]) == (400, "context_length_exceeded")
            assert {chat["options"]["num_ctx"] for chat in ollama.chats()} == {WINDOW}
            assert str(WINDOW) in error["message"] and "about 4146" in error["message"]
            status, _, context = await post(session, WINDOW - 500)
            assert status == 200 and context.endswith(f"/{WINDOW}")

    run(scenario())


def test_a_guess_that_was_too_low_is_no_failure() -> None:
    async def scenario() -> None:
        async with bench() as (ollama, session):
            ollama.next(Refusal(400, "the input length exceeds the context length"))
            status, _, context = await post(session, 3000)
            assert status == 200 and context.endswith("/16384")
            assert [chat["options"]["num_ctx"] for chat in ollama.chats()] == [8192, 16_384]

    run(scenario())


def test_no_more_than_the_operator_allows() -> None:
    async def scenario() -> None:
        async with bench(max_num_ctx=8192) as (ollama, session):
            status, body, _ = await post(session, 9000)
            assert status == 400 and "8192" in body["error"]["message"]
            assert "max_num_ctx" in body["error"]["message"]
            assert (await post(session, 7000))[0] == 200
            assert {chat["options"]["num_ctx"] for chat in ollama.chats()} == {8192}

    run(scenario())


def test_a_fixed_window_stays_fixed() -> None:
    async def scenario() -> None:
        async with bench(num_ctx=6000) as (ollama, session):
            for words in (1, 5000):
                assert (await post(session, words))[0] == 200
            assert ollama.loads == [(MODEL, 6000)]

    run(scenario())


ASKED: dict[str, tuple[str, object, int]] = {
    "less than may be had": (MODEL, 6000, 6000),
    "more than the operator allows": (MODEL, 131_072, 16_384),
    "more than the model can": ("llama3.2:latest", 99_999_999, 8192),
    "in another spelling": (MODEL, 1e6, 16_384),
}


@pytest.mark.parametrize(("model", "asked", "given"), ASKED.values(), ids=ASKED)
def test_a_client_gets_no_larger_window_than_there_is(model: str, asked: object, given: int) -> None:
    """Neither by a chat, nor by a text to go on with, nor by a load."""
    hello = {"model": model, "options": {"num_ctx": asked}, "stream": False}

    async def scenario() -> None:
        async with bench(max_num_ctx=16_384) as (ollama, session):
            for path, more in (
                ("/api/chat", {"messages": [{"role": "user", "content": "hi"}]}),
                ("/api/generate", {"prompt": "hi"}),
                ("/api/chat", {"messages": []}),
            ):
                async with session.post(path, json={**hello, **more}) as answer:
                    assert answer.status == 200
                    context = answer.headers.get("X-Codexgate-Context", f"/{given}")
                    assert context.endswith(f"/{given}")
                assert ollama.seen[-1].body["options"]["num_ctx"] == given
            assert ollama.loads == [(model, given)]

    run(scenario())


def test_nor_does_anybody_when_the_operator_allows_all() -> None:
    """The model's own length is the end of it, whoever has set more: for every model, or for a name."""

    async def scenario() -> None:
        async with ScriptedOllama() as ollama:
            backend = Ollama(OllamaOptions(url=ollama.url, num_ctx=1_000_000, max_num_ctx=0))
            aliases = {"long": Alias(model=MODEL, options={"num_ctx": 2_000_000})}
            async with serving(backend, aliases=aliases) as url, client(url) as session:
                for model in (MODEL, "long"):
                    assert (await post(session, 1, model=model))[2].endswith(f"/{WINDOW}")
                async with session.post("/v1/embeddings", json={"model": EMBEDS, "input": "hi"}) as answer:
                    assert answer.status == 200
                assert ollama.seen[-1].body["options"]["num_ctx"] == 2048
                assert ollama.loads == [(MODEL, WINDOW)]

    run(scenario())


@pytest.mark.parametrize("size", [0, -5, 8192.5, "8k", True, [8192]])
@pytest.mark.parametrize("messages", [[], [{"role": "user", "content": "hi"}]], ids=["load", "chat"])
def test_a_window_that_is_no_size_is_refused(size: object, messages: list[Any]) -> None:
    async def scenario() -> None:
        async with bench() as (ollama, session):
            body = {"model": MODEL, "messages": messages, "options": {"num_ctx": size}}
            async with session.post("/api/chat", json=body) as answer:
                assert answer.status == 400
                assert (await answer.json())["error"] == "`num_ctx` must be a whole number of at least 1."
            assert ollama.chats() == []

    run(scenario())


def test_the_answer_has_room() -> None:
    async def scenario() -> None:
        async with bench() as (ollama, session):
            await post(session, 1, max_tokens=20_000)
            assert ollama.loads == [(MODEL, 32_768)]

    run(scenario())


def test_the_context_is_told_before_a_stream_and_counted_after_an_answer() -> None:
    async def scenario() -> None:
        async with bench() as (ollama, session):
            ollama.next(say("a"), done(prompt=5, completion=2))
            assert (await post(session, 1))[2] == "7/8192"
            more = asyncio.Event()
            ollama.next(say("a"), more, done())
            body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "stream": True}
            async with session.post("/v1/chat/completions", json=body) as answer:
                assert answer.headers["X-Codexgate-Context"] == "9/8192"
                more.set()
                await answer.read()

    run(scenario())


# Cold loads


def test_a_slow_load_says_so_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "QUIET", 0.2)
    monkeypatch.setattr(reply, "EVERY", 0.2)

    async def scenario() -> None:
        async with bench() as (ollama, session):
            loaded = asyncio.Event()
            ollama.next(loaded, say("a"), done())
            body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": True}
            async with session.post("/v1/chat/completions", json=body) as answer:
                early = await answer.content.readuntil(LOADING)
                assert early.removesuffix(LOADING).replace(KEEPALIVE, b"") == b""  # said before it was known
                loaded.set()
                assert b'"content":"a"' in await answer.read()

    run(scenario())


@pytest.mark.parametrize("hold", [True, False], ids=["held", "not held"])
def test_an_impatient_client_does_not_end_a_load(hold: bool) -> None:
    async def scenario() -> None:
        async with bench(hold_load=hold) as (ollama, session):
            loaded = asyncio.Event()
            ollama.next(loaded, say("a"), done())
            asking = asyncio.create_task(post(session, 1))
            await ollama.arrived.wait()
            while not ollama.chats():
                await asyncio.sleep(0.01)
            asking.cancel()
            await asyncio.wait({asking})
            if not hold:
                await ollama.left.wait()
                return
            again = asyncio.create_task(post(session, 1))  # does not cut it short either
            while len(ollama.chats()) < 2:
                await asyncio.sleep(0.01)
            assert ollama.abandoned == 0
            loaded.set()
            assert (await again)[0] == 200
            assert ollama.loads == [(MODEL, 8192)]

    run(scenario())


def test_a_load_that_is_held_ends_with_the_gate() -> None:
    async def scenario() -> None:
        async with ScriptedOllama() as ollama:
            ollama.next(asyncio.Event())
            async with serving(Ollama(OllamaOptions(url=ollama.url))) as url, client(url) as session:
                asking = asyncio.create_task(post(session, 1))
                while not ollama.chats():
                    await asyncio.sleep(0.01)
                asking.cancel()
                await asyncio.wait({asking})
            await ollama.left.wait()

    run(scenario())
