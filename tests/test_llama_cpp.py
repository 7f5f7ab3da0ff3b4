"""A real model behind a real server: llama.cpp through a gate, with the official client.

Nothing here asks how fast or how clever it is.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import openai
import pytest

from codexgate.backends.openai import OpenAI, OpenAIOptions
from tests.servers.gateway import serving
from tests.servers.llama_cpp import WINDOW, llama_cpp
from tests.support import run

MODEL = "llama/smollm2"
HELLO: Any = [{"role": "user", "content": "Count from one to ten."}]


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    with llama_cpp() as url:
        yield url


@asynccontextmanager
async def bench(upstream: str) -> AsyncIterator[openai.AsyncOpenAI]:
    backend = OpenAI(OpenAIOptions(base_url=f"{upstream}/v1"), name="llama")
    async with serving(backend) as url:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
            yield client


def test_its_model_is_listed(upstream: str) -> None:
    async def test() -> None:
        async with bench(upstream) as client:
            [model] = [model async for model in client.models.list()]
            assert (model.id, model.owned_by) == ("smollm2", "llamacpp")
        backend = OpenAI(OpenAIOptions(base_url=f"{upstream}/v1"), name="llama")
        [known] = await backend.models()
        assert known.context == WINDOW and known.abilities == {"chat"}
        await backend.aclose()

    run(test())


def test_a_chat(upstream: str) -> None:
    async def test() -> None:
        async with bench(upstream) as client:
            asked: Any = {"model": MODEL, "messages": HELLO, "max_tokens": 8, "temperature": 0, "seed": 1}
            whole = await client.chat.completions.create(**asked)
            text = whole.choices[0].message.content
            assert text and whole.usage
            assert whole.choices[0].finish_reason == "length" and whole.usage.completion_tokens == 8
            assert whole.usage.prompt_tokens > 8
            asked |= {"stream": True, "stream_options": {"include_usage": True}}
            chunks = [chunk async for chunk in await client.chat.completions.create(**asked)]
            said = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
            assert "".join(said) == text
            assert chunks[-1].usage and chunks[-1].usage.completion_tokens == 8

    run(test())


def test_a_schema_is_kept(upstream: str) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9}}, "required": ["n"]}
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}

    async def test() -> None:
        async with bench(upstream) as client:
            whole = await client.chat.completions.create(
                model=MODEL, messages=HELLO, response_format=wanted, max_tokens=64, temperature=0
            )
            assert isinstance(json.loads(whole.choices[0].message.content or "")["n"], int)

    run(test())


def test_a_text_is_gone_on_with(upstream: str) -> None:
    async def test() -> None:
        async with bench(upstream) as client:
            whole = await client.completions.create(model=MODEL, prompt="One, two,", max_tokens=4)
            assert whole.choices[0].text and whole.usage and whole.usage.completion_tokens == 4

    run(test())


def test_what_does_not_fit_is_told(upstream: str) -> None:
    async def test() -> None:
        async with bench(upstream) as client:
            long: Any = [{"role": "user", "content": "one " * 2 * WINDOW}]
            with pytest.raises(openai.BadRequestError) as refused:
                await client.chat.completions.create(model=MODEL, messages=long)
            assert refused.value.code == "context_length_exceeded"

    run(test())


def test_leaving_early_frees_the_server(upstream: str) -> None:
    async def busy() -> bool:
        async with aiohttp.ClientSession(upstream) as session, session.get("/slots") as response:
            return any(slot["is_processing"] for slot in await response.json())

    async def test() -> None:
        async with bench(upstream) as client:
            endless: Any = {"n_predict": -1, "ignore_eos": True}
            asked = await client.chat.completions.create(
                model=MODEL, messages=HELLO, stream=True, max_tokens=WINDOW, extra_body=endless
            )
            async for chunk in asked:
                if chunk.choices[0].delta.content:
                    break
            assert await busy()
            await asked.close()
            while await busy():
                await asyncio.sleep(0.01)  # it has no other way to tell

    run(test())
