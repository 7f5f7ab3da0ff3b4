"""The `llm` program and library against the gate, as an OpenAI-compatible server of two models."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import llm
import pytest

from codexgate.backends.demo import Demo, DemoOptions
from codexgate.backends.demo.backend import answer
from codexgate.chat import ChatRequest, Message, Text
from codexgate.core import Core
from codexgate.fold import fold
from codexgate.gate import Alias, Gate
from codexgate.server.app import Listen, listening
from tests.support import run

EXTRA = """
- model_id: gate-chat
  model_name: demo
  api_base: {url}/v1
  supports_tools: true
  supports_schema: true
  vision: true
- model_id: gate-text
  model_name: demo
  api_base: {url}/v1
  completion: true
"""


@asynccontextmanager
async def home(folder: Path) -> AsyncIterator[dict[str, str]]:
    """Variables of a home of `llm` that knows the gate."""
    demo = Demo(DemoOptions(pace=0))
    # llm names OpenAI's embedding models in its code; the gate gives them another meaning.
    gate = Gate([demo], aliases={"text-embedding-3-small": Alias(model="demo-embed")}, strict=True)
    try:
        async with listening(Core(gate), Listen(port=0, drain=0)) as running:
            (folder / "extra-openai-models.yaml").write_text(EXTRA.format(url=running.url), "utf-8")
            yield {
                "LLM_USER_PATH": str(folder),
                "LLM_LOAD_PLUGINS": "",
                "OPENAI_API_KEY": "any",
                "OPENAI_BASE_URL": f"{running.url}/v1",
            }
    finally:
        await gate.aclose()


def program(variables: dict[str, str], *arguments: str, stdin: str = "") -> str:
    """What `llm` prints."""
    ended = subprocess.run(
        [sys.executable, "-m", "llm", *arguments],
        input=stdin,
        capture_output=True,
        env={**os.environ, **variables},
        text=True,
        timeout=50,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.rstrip("\n")


def said(prompt: str, raw: bool = False) -> str:
    """What the demo model answers."""
    return fold(answer(ChatRequest("demo", (Message("user", (Text(prompt),)),), raw=raw))).text.rstrip("\n")


CALLS: dict[str, tuple[list[str], str]] = {
    "a chat, streamed": (["-m", "gate-chat", "why is it so?"], said("why is it so?")),
    "a chat, whole": (["-m", "gate-chat", "--no-stream", "why?"], said("why?")),
    "a chat, asynchronously": (["-m", "gate-chat", "--async", "why?"], said("why?")),
    "a text, streamed": (["-m", "gate-text", "Once upon"], said("Once upon", raw=True)),
    "a text, whole": (["-m", "gate-text", "--no-stream", "Once upon"], said("Once upon", raw=True)),
}


@pytest.mark.parametrize("case", CALLS)
def test_the_program_prints_the_answer(case: str, tmp_path: Path) -> None:
    arguments, expected = CALLS[case]

    async def scenario() -> str:
        async with home(tmp_path) as variables:
            return await asyncio.to_thread(program, variables, *arguments)

    assert run(scenario()) == expected


def test_the_program_lists_the_models_of_the_gate(tmp_path: Path) -> None:
    async def scenario() -> list[str]:
        async with home(tmp_path) as variables:
            url = variables["OPENAI_BASE_URL"]
            listed = await asyncio.to_thread(program, variables, "openai", "endpoint", url, "--models")
            return listed.split()

    assert "demo" in run(scenario())


def test_the_program_embeds(tmp_path: Path) -> None:
    async def scenario() -> list[float]:
        async with home(tmp_path) as variables:
            text = await asyncio.to_thread(program, variables, "embed", "-m", "3-small", "-c", "hello")
            return [float(number) for number in json.loads(text)]

    assert sum(number * number for number in run(scenario())) == pytest.approx(1, abs=1e-4)


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], Any]:
    """Runs a function of a test beside the gate, in a thread of its own."""

    def runs(function: Callable[[], Any]) -> Any:
        async def scenario() -> Any:
            async with home(tmp_path) as variables:
                for name, value in variables.items():
                    monkeypatch.setenv(name, value)
                return await asyncio.to_thread(function)

        return run(scenario())

    return runs


Library = Callable[[Callable[[], Any]], Any]


def test_a_conversation(library: Library) -> None:
    def talk() -> list[str]:
        conversation = llm.get_model("gate-chat").conversation()
        return [conversation.prompt(text).text() for text in ("one", "two words")]

    assert [text.rstrip("\n") for text in library(talk)] == [said("one"), said("two words")]


def test_a_schema(library: Library) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}

    def ask() -> Any:
        return json.loads(llm.get_model("gate-chat").prompt("a number", schema=schema).text())

    assert isinstance(library(ask)["n"], int)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_tools_are_called_and_their_results_read(library: Library, stream: bool) -> None:
    asked: list[str] = []

    def weather(city: str) -> str:
        """The weather in a city."""
        asked.append(city)
        return "sunny"

    def ask() -> str:
        return str(llm.get_model("gate-chat").chain("Berlin", tools=[weather], stream=stream).text())

    assert library(ask).endswith("The tool answered: sunny")
    assert asked == ["Berlin"]


def test_usage_is_read(library: Library) -> None:
    def ask() -> Any:
        return llm.get_model("gate-chat").prompt("hello").usage()

    usage = library(ask)
    assert usage.input > 0 and usage.output > 0
