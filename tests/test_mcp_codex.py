"""Threads of the real Codex have the gate's memory by themselves, with a key that opens nothing else."""

import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from codexgate.assemble import open_memory
from codexgate.backends.codex import Codex, CodexOptions
from codexgate.core import Core
from codexgate.dialects.codex import ask
from codexgate.embedding import EmbeddingOptions
from codexgate.errors import GateError
from codexgate.gate import Gate
from codexgate.memory import Memory
from codexgate.records import Draft
from codexgate.server.app import Listen, listening
from codexgate.settings import Settings, load_settings
from codexgate.stores.sqlite import Threads
from tests.servers.codex_home import MODEL, make_codex_home
from tests.servers.gateway import client, serving
from tests.servers.notebook import Notebook
from tests.servers.responses import Call, ScriptedResponses, Text
from tests.servers.scripted import Scripted
from tests.support import files_in, run

KEY = "cg-secret"
Body = dict[str, Any]


def remember(content: str) -> Call:
    return Call("persist_memory", {"content": content, "tags": ["a"]}, namespace="mcp__memories")


def recall(query: str) -> Call:
    return Call("retrieve_memory", {"query": query}, namespace="mcp__memories")


@dataclass
class Bench:
    """One gate with Codex and a memory."""

    session: aiohttp.ClientSession
    provider: ScriptedResponses
    memory: Memory
    codex: Codex
    folder: Path

    async def say(self, text: str, chat: str = "") -> str:
        """Ask Codex; returns its answer."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": text}]}
        headers = {"X-OpenWebUI-Chat-Id": chat} if chat else {}
        async with self.session.post("/v1/chat/completions", json=body, headers=headers) as answer:
            read: Body = await answer.json()
            assert answer.status == 200, read
            return str(read["choices"][0]["message"]["content"])

    def outputs(self) -> list[str]:
        """What the model was told of its calls, in the last request."""
        items = self.provider.requests[-1]["input"]
        return [str(item["output"]) for item in items if item["type"] == "function_call_output"]

    def tools(self) -> set[str]:
        """The tools that the model was offered in the last request, those of servers by the server's name."""
        return {str(tool.get("name")) for tool in self.provider.requests[-1]["tools"]}


@asynccontextmanager
async def gate(
    tmp_path: Path, *, environ: Mapping[str, str] | None = None, key: str = KEY, **options: Any
) -> AsyncIterator[Bench]:
    settings = Settings(data_dir=tmp_path / "data", embeddings=EmbeddingOptions(provider="demo"))
    async with ScriptedResponses() as provider, open_memory(settings) as memory:
        home = make_codex_home(tmp_path / "home", provider.url)
        told = {**os.environ, "CODEX_HOME": str(home), "HOME": str(home), **(environ or {})}
        threads = Threads(tmp_path / "threads.db")
        codex = Codex(CodexOptions(**options), settings.data_dir, told, threads=threads)
        listen = Listen(key=key, drain=0)
        async with serving(codex, memory=memory, listen=listen) as url, client(url) as session:
            session.headers.update({"Authorization": f"Bearer {key}", "X-Codexgate-Activity": "off"})
            yield Bench(session, provider, memory, codex, tmp_path)


def test_a_turn_keeps_a_memory_and_finds_it(tmp_path: Path) -> None:
    """Under the defaults, where Codex may write nothing and nobody is asked."""

    async def scenario() -> None:
        async with gate(tmp_path) as bench:
            await bench.memory.persist(Draft("The office is in Bonn."))
            bench.provider.script("both", [remember("Anna runs it.")], [recall("office")], [Text("done")])
            assert await bench.say("SC:both") == "done"
            kept, found = bench.outputs()
            assert '"ok":true' in kept and "Anna runs it." in kept
            assert "The office is in Bonn." in found
            (match,) = await bench.memory.retrieve("Anna runs it.", limit=1)
            entry = match.entry
            assert (entry.content, entry.tags, entry.source) == ("Anna runs it.", ("a",), "mcp")

    run(scenario())


def test_a_chat_that_goes_on_still_has_it_and_an_errand_never(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gate(tmp_path) as bench:
            bench.provider.script("keep", [remember("a b c")], [Text("kept")])
            bench.provider.script("find", [recall("a b c")], [Text("found")])
            first = {"role": "user", "content": "SC:keep"}
            assert await bench.say("SC:keep", "c1") == "kept"
            talk = [first, {"role": "assistant", "content": "kept"}, {"role": "user", "content": "SC:find"}]
            body = {"model": MODEL, "messages": talk}
            headers = {"X-OpenWebUI-Chat-Id": "c1"}
            async with bench.session.post("/v1/chat/completions", json=body, headers=headers) as answer:
                assert (await answer.json())["turn_number"] == 2
            assert "a b c" in bench.outputs()[-1]
            assert "mcp__memories" in bench.tools()
            await bench.say("### Task:\nGenerate a title.\nSC:plain", "c1")
            assert "mcp__memories" not in bench.tools()

    run(scenario())


def test_its_key_opens_the_memory_alone_and_lies_nowhere(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gate(tmp_path) as bench:
            await bench.say("SC:run env; cat /proc/$PPID/environ | tr '\\0' '\\n'; cat /proc/$PPID/cmdline")
            server = bench.codex._authority.config[ask.MCP_SERVERS]["memories"]
            header = server["http_headers"]["Authorization"]
            inner = header.removeprefix("Bearer ")
            assert len(inner) > 40
            bench.session.headers["Authorization"] = header
            ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
            async with bench.session.post("/mcp", json=ping) as answer:
                assert answer.status == 200
            for method, path in (
                ("GET", "/v1/models"),
                ("POST", "/v1/chat/completions"),
                ("GET", "/metrics"),
            ):
                async with bench.session.request(method, path, json={}) as answer:
                    assert answer.status == 401
            assert inner not in json.dumps(bench.provider.requests)
            files = files_in(bench.folder)
            assert len(files) > 3
            assert [path for path, content in files.items() if inner.encode() in content] == []

    run(scenario())


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_is_not_asked_for_it(name: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gate(tmp_path, environ={name: "http://127.0.0.1:9"}) as bench:
            bench.provider.script("keep", [remember("a")], [Text("kept")])
            assert await bench.say("SC:keep") == "kept"
            assert '"ok":true' in bench.outputs()[0]

    run(scenario())


def test_another_memory_may_stand_in_its_place(tmp_path: Path) -> None:
    async def scenario() -> None:
        notebook = Notebook()
        async with serving(Scripted(), memory=notebook) as other:
            async with gate(tmp_path, memory_url=f"{other}/mcp") as bench:
                bench.provider.script("keep", [remember("a")], [Text("kept")])
                assert await bench.say("SC:keep") == "kept"
                assert [entry.content for entry in notebook.entries] == ["a"]
                assert await bench.memory.retrieve("a") == ()

    run(scenario())


def test_the_variable_of_the_service_before_names_that_memory(tmp_path: Path) -> None:
    environ = {"JANGAR_MCP_URL": "http://memory.example/mcp"}
    loaded = load_settings(environ=environ, cwd=tmp_path)
    assert loaded.settings.codex.memory_url == "http://memory.example/mcp"
    assert loaded.sources["codex.memory_url"] == "environment JANGAR_MCP_URL"
    (tmp_path / "codexgate.toml").write_text('[codex]\nmemory_url = "http://evil.example/mcp"\n')
    with pytest.raises(GateError, match=r"codex\.memory_url"):  # a folder does not choose who is told
        load_settings(environ={}, cwd=tmp_path)


class Listener(Scripted):
    """A backend that calls tools by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.servers: list[tuple[str, str, str]] = []

    def connect(self, name: str, url: str, key: str) -> None:
        self.servers.append((name, url, key))


@pytest.mark.parametrize(
    ("host", "told"), [("127.0.0.1", "127.0.0.1"), ("localhost", "localhost"), ("0.0.0.0", "127.0.0.1")]
)
def test_an_agent_is_told_an_address_that_answers(host: str, told: str) -> None:
    async def scenario() -> None:
        agent = Listener()
        core = Core(Gate([agent]), memory=Notebook())
        async with listening(core, Listen(host=host, port=0, drain=0)) as running:
            ((name, url, key),) = agent.servers
            assert (name, url) == ("memories", running.url.replace(host, told) + "/mcp")
            async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:
                async with session.post(url, json={"jsonrpc": "2.0", "id": 1, "method": "ping"}) as answer:
                    assert answer.status == 200

    run(scenario())


def test_an_agent_is_told_nothing_where_it_could_not_come(tmp_path: Path) -> None:
    async def scenario() -> None:
        agent = Listener()
        async with listening(
            Core(Gate([agent]), memory=Notebook()), Listen(uds=str(tmp_path / "s"), drain=0)
        ):
            pass
        async with listening(Core(Gate([agent])), Listen(port=0, drain=0)):
            pass
        assert agent.servers == []

    run(scenario())
