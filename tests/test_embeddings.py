"""`POST /v1/embeddings` on every kind of backend, by the clients that people use."""

import asyncio
import base64
import gzip
import hashlib
import io
import json
import math
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import msgspec
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexgate.backends.demo import Demo
from codexgate.backends.demo.embed import embed
from codexgate.backends.local import Local
from codexgate.backends.ollama import Ollama, OllamaOptions
from codexgate.errors import GateError
from codexgate.fronts.openai_embeddings import parse, render
from codexgate.records import Embeddings
from codexgate.server.embeddings import BATCH
from codexgate.tokens import SLICE, count, decode
from tests.servers.gateway import client, serving
from tests.servers.ollama import Refusal, ScriptedOllama
from tests.support import run

NOMIC = "nomic-embed-text"
MODELS = {"demo-embed": 256, NOMIC: 32, "local": 384, "local-fast": 256}
"""One of each kind, and the length of its vectors."""


@asynccontextmanager
async def bench(**options: Any) -> AsyncIterator[tuple[ScriptedOllama, openai.AsyncOpenAI]]:
    async with ScriptedOllama() as ollama:
        backends = Ollama(OllamaOptions(url=ollama.url, **options)), Demo(), Local()
        async with serving(*backends) as url:
            async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
                yield ollama, client


async def vectors(client: openai.AsyncOpenAI, model: str, input: Any, **more: Any) -> list[list[float]]:
    made = await client.embeddings.create(model=model, input=input, **more)
    assert [one.index for one in made.data] == list(range(len(made.data)))
    assert made.model == model
    return [one.embedding for one in made.data]


def dot(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def close(one: Sequence[float], other: Sequence[float]) -> bool:
    return one == pytest.approx(other, abs=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_base64_which_the_sdk_asks_for_by_default_and_floats_are_the_same_vectors(model: str) -> None:
    async def scenario() -> None:
        async with bench() as (_, client):
            texts = ["a red car", "ein rotes Auto", "🙂"]
            default = await vectors(client, model, texts)
            floats = await vectors(client, model, texts, encoding_format="float")
            assert [len(vector) for vector in default] == [MODELS[model]] * 3
            assert all(close(*pair) for pair in zip(default, floats, strict=True))
            assert all(math.hypot(*vector) == pytest.approx(1, abs=1e-5) for vector in default)
            assert len({tuple(vector) for vector in default}) == 3

    run(scenario())


@pytest.mark.parametrize("model", MODELS)
def test_one_text_a_list_of_it_and_its_tokens_are_the_same(model: str) -> None:
    async def scenario() -> None:
        async with bench() as (_, client):
            (text,) = await vectors(client, model, "hello world")
            for form in (["hello world"], [15339, 1917], [[15339, 1917]]):
                (same,) = await vectors(client, model, form)
                assert close(same, text), form

    run(scenario())


def test_many_texts_come_back_in_their_order_from_bounded_batches() -> None:
    async def scenario() -> None:
        async with bench() as (ollama, client):
            texts = [f"text {number}" for number in range(BATCH + 3)]
            many = await vectors(client, NOMIC, texts)
            assert [len(body["input"]) for body in ollama.chats("/api/embed")] == [BATCH, 3]
            for at in (0, BATCH - 1, BATCH, BATCH + 2):
                (alone,) = await vectors(client, NOMIC, texts[at])
                assert close(many[at], alone)

    run(scenario())


def test_usage_is_of_all_batches() -> None:
    async def scenario() -> None:
        async with bench() as (_, client):
            made = await client.embeddings.create(model=NOMIC, input=["ab"] * (BATCH + 1))
            assert made.usage.prompt_tokens == made.usage.total_tokens == BATCH + 1

    run(scenario())


def test_ollama_is_asked_for_whole_texts_with_its_settings() -> None:
    async def scenario() -> None:
        async with bench(keep_alive="10m", num_ctx=512) as (ollama, client):
            await vectors(client, NOMIC, "hello", dimensions=8)
            (body,) = ollama.chats("/api/embed")
            assert body == {
                "model": f"{NOMIC}:latest",
                "input": ["hello"],
                "truncate": False,
                "dimensions": 8,
                "keep_alive": "10m",
                "options": {"num_ctx": 512},
            }

    run(scenario())


DIMENSIONS = [
    *(("demo-embed", size) for size in (1, 8, 4096)),
    (NOMIC, 8),
    ("local", 384),
    *(("local-fast", size) for size in (64, 128, 256)),
]


@pytest.mark.parametrize(("model", "size"), DIMENSIONS)
def test_dimensions_are_honoured(model: str, size: int) -> None:
    async def scenario() -> None:
        async with bench() as (_, client):
            (vector,) = await vectors(client, model, "hello", dimensions=size)
            assert len(vector) == size and math.hypot(*vector) == pytest.approx(1, abs=1e-5)

    run(scenario())


OTHERS = [("demo-embed", 4097), (NOMIC, 33), ("local", 256), ("local-fast", 100), ("demo-embed", 0)]


@pytest.mark.parametrize(("model", "size"), OTHERS)
def test_dimensions_that_a_model_cannot_have_are_refused(model: str, size: int) -> None:
    async def scenario() -> None:
        async with bench() as (_, client):
            with pytest.raises(openai.BadRequestError) as refused:
                await vectors(client, model, "hello", dimensions=size)
            assert refused.value.param == "dimensions" and (not size or str(size) in str(refused.value))

    run(scenario())


REFUSED: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "no such model": ({"model": "nomic-embed"}, 404, "model", "model_not_found"),
    "a model that chats": ({"model": "demo"}, 404, "model", "no_embedding"),
    "a model of Ollama that chats": ({"model": "qwen3:8b"}, 404, "model", "no_embedding"),
    "no model": ({"model": None}, 400, "model", ""),
    "no input": ({"input": None}, 400, "input", ""),
    "an empty text": ({"input": ""}, 400, "input", ""),
    "no texts": ({"input": []}, 400, "input", ""),
    "an empty text among others": ({"input": ["a", ""]}, 400, "input[1]", ""),
    "no tokens": ({"input": [[1], []]}, 400, "input[1]", ""),
    "a mixture": ({"input": ["a", 1]}, 400, "input", ""),
    "another mixture": ({"input": [[1], 1]}, 400, "input", ""),
    "a number": ({"input": 1}, 400, "input", ""),
    "a token that is none": ({"input": [10**6]}, 400, "input", ""),
    "a negative token": ({"input": [-1]}, 400, "input", ""),
    "too many texts": ({"input": ["a"] * 2049}, 400, "input", ""),
    "too long a text": ({"input": ["a", "b" * 200_001]}, 400, "input[1]", ""),
    "too many tokens in one": ({"input": [1] * 50_001}, 400, "input", ""),
    "too much together": ({"input": ["a" * 200_000] * 7}, 400, "input", ""),
    "another format": ({"encoding_format": "hex"}, 400, "encoding_format", ""),
    "dimensions of another kind": ({"dimensions": "8"}, 400, "dimensions", ""),
}


def test_what_is_wrong_is_refused_by_the_name_of_its_field() -> None:
    async def scenario() -> None:
        async with ScriptedOllama() as ollama:
            async with serving(Ollama(OllamaOptions(url=ollama.url)), Demo()) as url, client(url) as http:
                for case, (fields, status, param, code) in REFUSED.items():
                    body = {"model": "demo-embed", "input": "a"} | fields
                    data = io.BytesIO(json.dumps(body).encode())
                    headers = {"Content-Type": "application/json"}
                    async with http.post("/v1/embeddings", data=data, headers=headers) as answer:
                        error = (await answer.json())["error"]
                        told = answer.status, error["param"], error["code"] or ""
                        assert told == (status, param, code), (case, error)

    run(scenario())


def test_fields_that_are_not_understood_are_passed_over() -> None:
    body = {"model": "m", "input": "a", "user": "me", "input_type": "query"}
    assert parse(json.dumps(body).encode()).unknown == ("input_type",)


OLLAMA_FAILS: dict[str, tuple[Any, int, str, str]] = {
    "too long": (
        Refusal(400, "the input length exceeds the context length"),
        400,
        "input",
        "context_length_exceeded",
    ),
    "gone": (
        Refusal(404, f'model "{NOMIC}" not found, try pulling it first'),
        404,
        "model",
        "model_not_found",
    ),
    "too few vectors": (b'{"embeddings":[[1]]}\n', 502, "", ""),
    "vectors of several lengths": (b'{"embeddings":[[1],[1,2]]}\n', 502, "", ""),
    "empty vectors": (b'{"embeddings":[[],[]]}\n', 502, "", ""),
    "no JSON": (b"<html>\n", 502, "", ""),
}


@pytest.mark.parametrize(("step", "status", "param", "code"), OLLAMA_FAILS.values(), ids=OLLAMA_FAILS.keys())
def test_what_goes_wrong_at_ollama_is_told(step: Any, status: int, param: str, code: str) -> None:
    async def scenario() -> None:
        async with bench() as (ollama, client):
            ollama.next(step)
            with pytest.raises(openai.APIStatusError) as refused:
                await vectors(client, NOMIC, ["a", "b"])
            error = refused.value
            assert (error.status_code, error.param or "", error.code or "") == (status, param, code)

    run(scenario())


def test_a_client_that_leaves_stops_the_work_upstream() -> None:
    async def scenario() -> None:
        async with bench() as (ollama, client):
            ollama.next(asyncio.Event())
            asking = asyncio.create_task(vectors(client, NOMIC, "a"))
            await ollama.arrived.wait()
            asking.cancel()
            await asyncio.wait({asking})
            await ollama.left.wait()

    run(scenario())


def test_every_base_path_has_it() -> None:
    async def scenario() -> None:
        async with serving(Demo()) as url, client(url) as http:
            for base in ("/v1", "/openai/v1", "/ozwell/v1"):
                asked = {"model": "demo-embed", "input": "a", "dimensions": 2}
                async with http.post(f"{base}/embeddings", json=asked) as answer:
                    assert answer.status == 200 and answer.headers["X-Codexgate-Backend"] == "demo"

    run(scenario())


def test_the_answer_is_openais_to_the_letter() -> None:
    made = Embeddings(((0.5, -1.0), (0.25, 2.0)), tokens=3)
    assert json.loads(render(made, "m", "float")) == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5, -1.0]},
            {"object": "embedding", "index": 1, "embedding": [0.25, 2.0]},
        ],
        "model": "m",
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }
    written = json.loads(render(made, "m", "base64"))["data"][1]["embedding"]
    assert struct.unpack("<2f", base64.b64decode(written)) == (0.25, 2.0)
    guessed = msgspec.structs.replace(made, estimated=True)
    assert json.loads(render(guessed, "m", "float"))["usage"]["estimated"] is True


# LangChain, which sends texts or the tokens that tiktoken makes of them


@pytest.fixture
def tiktoken_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiktoken downloads its encodings; the one it needs lies in a package of ours already."""
    packed = files("bpe_openai").joinpath("data/cl100k_base.tiktoken.gz").read_bytes()
    url = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
    (tmp_path / hashlib.sha1(url.encode()).hexdigest()).write_bytes(gzip.decompress(packed))
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))


@pytest.mark.usefixtures("tiktoken_offline")
@pytest.mark.parametrize("tokens", [False, True], ids=["texts", "tokens"])
def test_langchain_gets_the_same_vectors(tokens: bool) -> None:
    from langchain_openai import OpenAIEmbeddings

    async def scenario() -> None:
        async with serving(Demo()) as url, httpx.AsyncClient() as http:
            made = OpenAIEmbeddings(
                http_async_client=http,
                model="demo-embed",
                base_url=f"{url}/v1",
                api_key="any",  # type: ignore[arg-type]
                check_embedding_ctx_length=tokens,
            )
            texts = ["a red car", "zwei grüne Häuser"]
            found = await made.aembed_documents(texts)
            assert all(close(*pair) for pair in zip(found, embed("demo-embed", texts).vectors, strict=True))
            assert close(await made.aembed_query(texts[0]), found[0])

    run(scenario())


# The demo model


@given(st.text(min_size=1), st.integers(1, 64))
def test_demo_gives_every_text_one_unit_vector(text: str, size: int) -> None:
    made = embed("demo-embed", [text], size)
    assert made == embed("demo-embed", [text], size)
    ((*vector,),) = made.vectors
    assert len(vector) == size and math.hypot(*vector) == pytest.approx(1)


def test_demo_puts_texts_of_like_words_near_each_other() -> None:
    asked, near, typo, far = embed(
        "demo-embed",
        [
            "how do I reset my password",
            "resetting a forgotten password",
            "how do i reset my pasword",
            "the cat sleeps in the sun",
        ],
    ).vectors
    assert dot(asked, typo) > dot(asked, near) > dot(asked, far) + 0.1


def test_demo_tells_apart_what_has_the_same_words() -> None:
    one, other = embed("demo-embed", ["dog bites man", "man bites dog"]).vectors
    assert one != other


# Tokens


@given(st.text())
def test_tokens_are_counted_as_they_are_made(text: str) -> None:
    assert (count(text) == 0) == (not text)
    assert count(text, "cl100k_base") <= len(text.encode("utf-8", "replace"))


def test_long_texts_are_counted_in_slices() -> None:
    word = " hello"
    times = 2 * SLICE // len(word) + 1
    assert times <= count(word * times) <= times + 3
    assert count("🏴" * (SLICE + 1)) > SLICE  # four tokens and more for one character


@pytest.mark.parametrize("bad", [[-1], [100_256], [10**9], [2**70]], ids=str)
def test_an_id_that_is_no_token_is_refused(bad: list[int]) -> None:
    with pytest.raises(GateError) as refused:
        decode(bad, "cl100k_base")
    assert refused.value.fault.kind == "invalid_request"


def test_tokens_become_the_text_they_are_of() -> None:
    assert decode([15339, 1917], "cl100k_base") == "hello world"
    assert decode([], "o200k_base") == ""
