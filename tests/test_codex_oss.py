"""The sentence this project began with: `codex --oss` against an OpenAI-compatible service, with the real Codex.

A scripted native Ollama is behind the gate; Codex is the program of the wheel, a process of its own.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from codexgate.backends.codex.find import find_binary
from codexgate.backends.demo import Demo, DemoOptions
from codexgate.backends.ollama import Ollama, OllamaOptions
from codexgate.server import app as server
from codexgate.stages.written import read_written_calls
from codexgate.stores.sqlite_responses import Responses
from tests.servers.gateway import serving
from tests.servers.ollama import ScriptedOllama, call, done, say
from tests.support import run

MODEL = "qwen3:8b"
PATCH = """apply_patch <<'EOF'
*** Begin Patch
*** Update File: notes.txt
@@
-one
+two
*** End Patch
EOF
"""


@dataclass
class Bench:
    """A folder to work in, a gate, and what was asked of it."""

    url: str
    ollama: ScriptedOllama
    folder: Path
    home: Path
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    """Method, path and status of every request."""

    async def codex(self, *arguments: str) -> tuple[int, str, str]:
        """Run `codex`; returns its status and what it wrote."""
        process = await asyncio.create_subprocess_exec(
            str(find_binary("", os.environ)),
            *arguments,
            cwd=self.folder,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.home),
                "CODEX_HOME": str(self.home),
                "CODEX_OSS_BASE_URL": f"{self.url}/v1",
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    def shell(self, command: str) -> None:
        """The next answer of the model is a call of Codex's shell."""
        self.ollama.next(say(calls=[call("exec_command", {"cmd": command})]), done())

    def refused(self) -> list[tuple[str, str, int]]:
        return [request for request in self.asked if request[2] >= 400]


@asynccontextmanager
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    asked: list[tuple[str, str, int]] = []
    make_app = server.make_app

    def listening_in(*arguments: Any) -> web.Application:
        app = make_app(*arguments)

        async def note(request: web.Request, response: web.StreamResponse) -> None:
            asked.append((request.method, request.path, response.status))

        app.on_response_prepare.append(note)
        return app

    monkeypatch.setattr(server, "make_app", listening_in)
    folder, home = tmp_path / "work", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    (folder / "notes.txt").write_text("one\n")
    async with ScriptedOllama() as ollama:
        kept = Responses(tmp_path / "responses.db")
        backend = Ollama(OllamaOptions(url=ollama.url))
        demo = Demo(DemoOptions(pace=0))
        async with serving(backend, demo, kept=kept, stages=[read_written_calls]) as url:
            yield Bench(url, ollama, folder, home, asked)


OSS = ("--oss", "--local-provider", "ollama", "-m", MODEL)
EXEC = ("exec", "--skip-git-repo-check", "-s", "workspace-write")


def script(bench: Bench) -> None:
    """Three commands, a patch, and an answer."""
    bench.shell("ls")
    bench.shell("cat notes.txt")
    bench.shell("echo done > made.txt")
    bench.shell(PATCH)
    bench.ollama.next(say("I changed the notes."), done())


def test_codex_oss_works_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with bench(tmp_path, monkeypatch) as gate:
            script(gate)
            status, out, err = await gate.codex(*EXEC, *OSS, "change the notes")
            assert (status, "I changed the notes." in out) == (0, True), err
            assert (gate.folder / "notes.txt").read_text() == "two\n"
            assert (gate.folder / "made.txt").read_text() == "done\n"
            assert gate.refused() == []
            assert ("GET", "/api/tags", 200) in gate.asked
            told = gate.ollama.chats()[-1]["messages"]
            outputs = [message for message in told if message["role"] == "tool"]
            assert len(outputs) == 4 and "one" in outputs[1]["content"]

            gate.ollama.next(say("Two, as I said."), done())
            status, out, err = await gate.codex(*EXEC, *OSS, "resume", "--last", "what now?")
            assert (status, "Two, as I said." in out) == (0, True), err
            again = gate.ollama.chats()[-1]["messages"]
            assert [message["content"] for message in again if message["role"] == "user"][-1] == "what now?"
            assert "I changed the notes." in [message["content"] for message in again]
            assert gate.refused() == []

    run(scenario())


def test_the_demo_model_of_the_banner_runs_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with bench(tmp_path, monkeypatch) as gate:
            status, out, err = await gate.codex(*EXEC, *OSS[:-1], "demo", "ls")
            assert (status, "Process exited with code 0" in out, "notes.txt" in out) == (0, True, True), err

    run(scenario())


def test_codex_with_a_provider_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with bench(tmp_path, monkeypatch) as gate:
            script(gate)
            provider = {"name": "gate", "base_url": f"{gate.url}/v1", "wire_api": "responses"}
            lines = [f"{key} = {json.dumps(value)}" for key, value in provider.items()]
            text = f'model = "{MODEL}"\nmodel_provider = "gate"\n\n[model_providers.gate]\n'
            (gate.home / "config.toml").write_text(text + "\n".join(lines) + "\n")
            status, out, err = await gate.codex(*EXEC, "change the notes")
            assert (status, "I changed the notes." in out) == (0, True), err
            assert (gate.folder / "notes.txt").read_text() == "two\n"
            assert gate.refused() == []

    run(scenario())


def test_a_call_that_the_model_wrote_as_text_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with bench(tmp_path, monkeypatch) as gate:
            wanted = json.dumps({"name": "exec_command", "arguments": {"cmd": "echo hi > made.txt"}})
            gate.ollama.next(say(f"<tool_call>\n{wanted}"), say("\n</tool_call>"), done())
            gate.ollama.next(say("Made."), done())
            status, out, err = await gate.codex(*EXEC, *OSS, "make it")
            assert (status, "Made." in out) == (0, True), err
            assert (gate.folder / "made.txt").read_text() == "hi\n"

    run(scenario())


def test_without_ollamas_routes_it_is_the_error_of_the_story(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def only_v1(request: web.Request) -> web.Response:
        assert request.path == "/v1/models"
        return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    async def scenario() -> None:
        app = web.Application()
        app.router.add_get("/v1/models", only_v1)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        async with bench(tmp_path, monkeypatch) as gate:
            gate.ollama.next(say("Hello."), done())
            fine = await gate.codex(*EXEC, *OSS, "hello")
            gate.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            broken = await gate.codex(*EXEC, *OSS, "hello")
        await runner.cleanup()
        assert fine[0] == 0 and "Hello." in fine[1]
        assert broken[0] != 0 and "failed to start pull: HTTP 404" in broken[2]

    run(scenario())
