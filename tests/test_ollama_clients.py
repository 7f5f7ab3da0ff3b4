"""The official `ollama` client against the gate: every kind of backend looks like an Ollama to it."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import ollama
import pytest

from codexgate.backends.demo import Demo, DemoOptions
from codexgate.backends.ollama import Ollama, OllamaOptions
from codexgate.backends.openai import OpenAI, OpenAIOptions
from codexgate.events import (
    Commentary,
    Done,
    Event,
    FileChange,
    Plan,
    Step,
    TextDelta,
    ThreadStarted,
    ToolEvent,
    Usage,
)
from codexgate.gate import Alias, Gate
from codexgate.records import Model
from tests.servers.gateway import serving
from tests.servers.ollama import ScriptedOllama
from tests.servers.openai import DONE, ScriptedOpenAI, call, end, usage
from tests.servers.scripted import Scripted
from tests.support import run

HELLO = [{"role": "user", "content": "hello"}]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(32)
AGENT: list[Event] = [
    ThreadStarted("t1", 1),
    Commentary("Looking.", "c"),
    Plan((Step("look", "active"),)),
    ToolEvent("x", "command", "started", "ls"),
    ToolEvent("x", "command", "finished", "README\n"),
    FileChange("a.py", "+x", "update"),
    TextDelta("One file.", "m"),
    Usage(10, 5),
    Done("stop"),
]


def weather(city: str) -> str:
    """Tell the weather.

    Args:
        city: where

    """
    return f"sunny in {city}"


class Bench:
    """A client, and what is behind the gate that it talks to."""

    def __init__(self, client: ollama.AsyncClient, behind: ScriptedOllama, upstream: ScriptedOpenAI) -> None:
        self.client, self.behind, self.upstream = client, behind, upstream


@asynccontextmanager
async def bench(**aliases: Alias) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as open:
        behind = await open.enter_async_context(ScriptedOllama())
        upstream = await open.enter_async_context(ScriptedOpenAI())
        agent = Model("agent", "scripted", abilities=frozenset({"chat", "thinking", "tools"}))
        backends = (
            Ollama(OllamaOptions(url=behind.url)),
            OpenAI(OpenAIOptions(base_url=upstream.url), name="up"),
            Scripted(*AGENT, models=[agent]),
            Demo(DemoOptions(pace=0)),
        )
        url = await open.enter_async_context(serving(*backends, aliases=aliases))
        yield Bench(await open.enter_async_context(ollama.AsyncClient(url)), behind, upstream)


CHATTING = ["demo", "qwen3:8b", "m", "agent", "up/m", "ollama/llama3.2"]
EMBEDDING = ["demo-embed", "nomic-embed-text", "m-embed"]


def test_every_model_is_listed_by_the_name_to_ask_for_it() -> None:
    async def scenario() -> None:
        async with bench(fast=Alias(model="qwen3:8b"), gone=Alias(model="nowhere")) as at:
            models = {model.model: model for model in (await at.client.list()).models}
            assert set(models) == {*at.behind.models, "m", "m-embed", "agent", "demo", "demo-embed", "fast"}
            assert all(model.digest and len(model.digest) == 64 for model in models.values())
            real = models["qwen3:8b"]
            assert real.modified_at and real.modified_at.year == 2026
            assert real.details and real.details.quantization_level == "Q4_K_M"
            assert models["fast"].digest == real.digest
            for name in models:
                shown = await at.client.show(str(name))
                assert shown.capabilities and shown.template == ""
                assert shown.modelinfo and "general.architecture" in shown.modelinfo

    run(scenario())


def test_what_a_model_can_do_is_shown() -> None:
    async def scenario() -> None:
        async with bench() as at:
            shown = await at.client.show("qwen3:8b")
            assert shown.capabilities == ["completion", "tools", "thinking"]
            assert shown.modelinfo and shown.modelinfo["fake.context_length"] == 40960
            assert (await at.client.show("nomic-embed-text")).capabilities == ["embedding"]
            assert "insert" in ((await at.client.show("demo")).capabilities or [])
            with pytest.raises(ollama.ResponseError) as missing:
                await at.client.show("qwen3:9b")
            assert (missing.value.error, missing.value.status_code) == ("model 'qwen3:9b' not found", 404)

    run(scenario())


def test_what_is_in_memory_is_told() -> None:
    async def scenario() -> None:
        async with bench() as at:
            await at.client.generate("llama3.2", "")
            running = {model.model: model for model in (await at.client.ps()).models}
            assert running["llama3.2:latest"].context_length
            await at.client.generate("llama3.2", "", keep_alive=0)
            assert "llama3.2:latest" not in {model.model for model in (await at.client.ps()).models}

    run(scenario())


@pytest.mark.parametrize("model", CHATTING)
def test_a_stream_adds_up_to_what_comes_whole(model: str) -> None:
    async def scenario() -> None:
        async with bench() as at:
            whole = await at.client.chat(model, HELLO)
            parts = [part async for part in await at.client.chat(model, HELLO, stream=True)]
            assert whole.message.content
            assert "".join(part.message.content or "" for part in parts) == whole.message.content
            thought = "".join(part.message.thinking or "" for part in parts)
            assert thought == (whole.message.thinking or "")
            assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
            for last in (whole, parts[-1]):
                assert (last.model, last.done_reason) == (model, "stop")
                assert last.eval_count and last.prompt_eval_count
                assert last.total_duration and last.created_at and last.created_at.endswith("Z")

    run(scenario())


@pytest.mark.parametrize("model", CHATTING)
def test_a_text_is_gone_on_with(model: str) -> None:
    async def scenario() -> None:
        async with bench() as at:
            whole = await at.client.generate(model, "hello", system="Be short.")
            parts = [
                part
                async for part in await at.client.generate(model, "hello", system="Be short.", stream=True)
            ]
            assert whole.response
            assert "".join(part.response or "" for part in parts) == whole.response
            assert parts[-1].done_reason == "stop"

    run(scenario())  # fmt: skip


def test_an_agents_work_is_its_thinking() -> None:
    async def scenario() -> None:
        async with bench() as at:
            told = (await at.client.chat("agent", HELLO)).message
            assert told.content == "One file."
            assert told.thinking and all(
                part in told.thinking for part in ("Looking.", "ls", "README", "a.py")
            )
            assert not told.tool_calls

    run(scenario())


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("model", ["demo", "qwen3:8b", "m"])
def test_a_tool_round_trip(model: str, streamed: bool) -> None:
    async def scenario() -> None:
        async with bench() as at:
            pieces = (call(0, "call_1", "weather", '{"ci'), call(0, None, None, 'ty":"Ulm"}'))
            at.upstream.next(*pieces, end("tool_calls"), usage(3, 2), DONE)
            history: list[Any] = list(HELLO)
            calls: list[Any] = []
            if streamed:
                async for part in await at.client.chat(model, history, tools=[weather], stream=True):
                    calls += part.message.tool_calls or []
            else:
                calls += (await at.client.chat(model, history, tools=[weather])).message.tool_calls or []
            assert [(made.function.name, list(made.function.arguments)) for made in calls] == [
                ("weather", ["city"])
            ]
            history += [
                {"role": "assistant", "tool_calls": calls},
                {"role": "tool", "tool_name": "weather", "content": "sunny"},
            ]
            after = await at.client.chat(model, history, tools=[weather])
            assert after.done_reason == "stop" and "sunny" in (after.message.content or "")
            if model == "m":
                (_, made, answered) = at.upstream.bodies()[-1]["messages"]
                assert made["tool_calls"][0]["id"] == answered["tool_call_id"]

    run(scenario())  # fmt: skip


@pytest.mark.parametrize("model", ["demo", "qwen3:8b"])
def test_an_answer_follows_its_schema(model: str) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}

    async def scenario() -> None:
        async with bench() as at:
            told = await at.client.chat(model, HELLO, format=schema)
            assert isinstance(msgspec.json.decode(told.message.content or "")["n"], int)
            text = await at.client.generate(model, "hello", format="json")
            assert isinstance(msgspec.json.decode(text.response or ""), dict)

    run(scenario())


def test_thinking_is_asked_for_and_not() -> None:
    async def scenario() -> None:
        async with bench() as at:
            assert (await at.client.chat("demo", HELLO, think="high")).message.thinking
            assert (await at.client.chat("qwen3:8b", HELLO, think=True)).message.thinking
            assert not (await at.client.chat("qwen3:8b", HELLO, think=False)).message.thinking
            with pytest.raises(ollama.ResponseError, match="does not support thinking") as refused:
                await at.client.chat("llama3.2", HELLO, think=True)
            assert refused.value.status_code == 400

    run(scenario())


def test_pictures_and_options_go_through() -> None:
    async def scenario() -> None:
        async with bench() as at:
            seen = [{"role": "user", "content": "what is this?", "images": [PNG]}]
            assert "1 picture" in ((await at.client.chat("demo", seen)).message.content or "")
            told = await at.client.chat(
                "gemma3:4b", seen, options={"num_predict": 1, "top_k": 2}, keep_alive="5m"
            )
            assert told.done_reason == "length"
            (sent,) = at.behind.chats()
            assert (sent["options"]["top_k"], sent["keep_alive"]) == (2, "5m")

    run(scenario())  # fmt: skip


@pytest.mark.parametrize("model", EMBEDDING)
def test_texts_become_vectors(model: str) -> None:
    async def scenario() -> None:
        async with bench() as at:
            one = await at.client.embed(model, "hello")
            two = await at.client.embed(model, ["hello", "world"])
            assert (len(one.embeddings), len(two.embeddings)) == (1, 2)
            assert one.prompt_eval_count and one.total_duration
            old = await at.client.embeddings(model, "hello")
            assert list(old.embedding) == list(one.embeddings[0])
            assert list((await at.client.embed(model, [])).embeddings) == []

    run(scenario())


def test_a_model_is_installed_with_news_and_deleted() -> None:
    async def scenario() -> None:
        async with bench() as at:
            news = [each async for each in await at.client.pull("tiny", stream=True)]
            assert (news[0].status, news[-1].status) == ("pulling manifest", "success")
            assert [(each.completed, each.total) for each in news if each.digest] == [
                (None, 100),
                (40, 100),
                (100, 100),
            ]
            assert (await at.client.pull("tiny")).status == "success"
            assert len(at.behind.chats("/api/pull")) == 1
            assert (await at.client.chat("tiny", HELLO)).message.content
            assert (await at.client.delete("tiny")).status == "success"
            with pytest.raises(ollama.ResponseError, match="not found"):
                await at.client.chat("tiny", HELLO)

    run(scenario())  # fmt: skip


def test_a_pull_that_fails_raises_with_the_reason() -> None:
    async def scenario() -> None:
        async with bench() as at:
            with pytest.raises(ollama.ResponseError, match=r"file does not exist.*Did you mean qwen3:8b"):
                async for _ in await at.client.pull("qwen:8b", stream=True):
                    pass
            with pytest.raises(ollama.ResponseError, match="file does not exist") as failed:
                await at.client.pull("qwen:8b")
            assert failed.value.status_code == 404

    run(scenario())


def test_a_model_is_copied_and_made(tmp_path: Path) -> None:
    weights = tmp_path / "weights.gguf"
    weights.write_bytes(bytes(1_000_000))

    async def scenario() -> None:
        async with bench() as at:
            assert (await at.client.copy("llama3.2", "mine")).status == "success"
            assert (await at.client.chat("mine", HELLO)).message.content
            digest = await at.client.create_blob(weights)
            assert digest == f"sha256:{hashlib.sha256(weights.read_bytes()).hexdigest()}"
            made = [each async for each in await at.client.create("new", files={"a": digest}, stream=True)]
            assert made[-1].status == "success"
            assert (await at.client.show("new")).capabilities
            with pytest.raises(ollama.ResponseError, match="signed in"):
                async for _ in await at.client.push("new", stream=True):
                    pass

    run(scenario())


def test_a_name_out_of_the_settings_is_not_deleted_with_its_model() -> None:
    async def scenario() -> None:
        async with bench(fast=Alias(model="qwen3:8b")) as at:
            with pytest.raises(ollama.ResponseError, match="only another name"):
                await at.client.delete("fast")
            assert (await at.client.chat("fast", HELLO)).message.content

    run(scenario())


def test_exact_names_come_before_those_without_their_tag() -> None:
    async def scenario() -> None:
        first = Scripted(models=[Model("x:latest", "scripted")])
        second = Scripted(name="second", models=[Model("x", "second"), Model("y", "second")])
        gate = Gate([first, second])
        try:
            await gate.models()
            found = [(await gate.model(name)).backend for name in ("x", "x:latest", "y:latest")]
            assert found == ["second", "scripted", "second"]
        finally:
            await gate.aclose()

    run(scenario())
