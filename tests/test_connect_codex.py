"""The real Codex with what `codexgate connect codex` tells it: the profile, the command, the list of models."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from codexgate.backends.codex.find import find_binary
from codexgate.connect import catalog
from codexgate.records import Ability, Model

from .servers.ollama import FakeModel, ScriptedOllama
from .servers.program import codexgate
from .servers.responses import Command, ScriptedResponses, Text, Usage
from .support import run

CHAT: frozenset[Ability] = frozenset({"chat", "tools"})
STRANGE = 'a"b\\c\nd\x7f\x85\u2028é𝄞: #x'

CODEX = find_binary("")
pytestmark = pytest.mark.skipif(CODEX is None, reason="Codex is not installed")


async def codex(home: Path, *arguments: str, shell: bool = False) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the real Codex; `shell`: as a line names it."""
    pipe = asyncio.subprocess.PIPE
    assert CODEX
    path = f"{CODEX.parent}:{os.environ['PATH']}"
    environ = {"PATH": path, "HOME": str(home), "CODEX_HOME": str(home / ".codex")}
    (home / ".codex").mkdir(exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        *(["sh", "-c", *arguments] if shell else [str(CODEX), *arguments]),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=pipe,
        stderr=pipe,
        env=environ,
        cwd=home,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def written_for_codex(home: Path, context: int) -> AsyncIterator[ScriptedResponses]:
    """A Codex that was connected to a gate with one local model of that window, as the provider plays it."""
    model = FakeModel("tiny:latest", capabilities=("completion", "tools"), context=context)
    async with ScriptedOllama([model]) as ollama, ScriptedResponses() as provider:
        (home / ".codex").mkdir()
        (home / ".codex/config.toml").write_text('model = "gpt-5.5"\n')
        more = {
            "CODEXGATE_BACKENDS": "ollama",
            "CODEXGATE_OLLAMA_URL": ollama.url,
            "CODEXGATE_SERVER_PORT": provider.url.removesuffix("/v1").rpartition(":")[2],
        }
        written = await asyncio.to_thread(codexgate, home, "connect", "codex", "--write", more=more)
        assert (written.returncode, written.stderr) == (0, b"")
        yield provider


def test_codex_takes_the_profile_and_the_list_of_models(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with written_for_codex(tmp_path, 32_768) as provider:
            code, out, err = await codex(tmp_path, "exec", "-p", "codexgate", "--skip-git-repo-check", "hi")
            assert code == 0, err
            assert out == "Hello from the model.\n"
            assert "model: tiny:latest\nprovider: codexgate\n" in err
            assert "Model metadata" not in err
            (request,) = provider.requests
            assert request["model"] == "tiny:latest"
            assert catalog.INSTRUCTIONS in json.dumps(request["input"], ensure_ascii=False).replace(
                "\\n", "\n"
            ).replace('\\"', '"')
            assert "apply_patch" in [tool.get("name") for tool in request["tools"]]
            listed = f'model_catalog_json="{tmp_path / "kept/codex-models.json"}"'
            code, out, err = await codex(tmp_path, "debug", "models", "-c", listed)
            (model,) = json.loads(out)["models"]
            assert (model["slug"], model["context_window"]) == ("tiny:latest", 32_768)

    run(scenario())


@pytest.mark.parametrize(("context", "compacts"), [(8192, True), (65_536, False)])
def test_codex_compacts_before_the_window_overflows(tmp_path: Path, context: int, compacts: bool) -> None:
    async def scenario() -> None:
        async with written_for_codex(tmp_path, context) as provider:
            provider.default = [[Usage(input=6500, output=50), Command("echo hi")], [Text("The end.")]]
            code, out, err = await codex(tmp_path, "exec", "-p", "codexgate", "--skip-git-repo-check", "hi")
            assert (code, out) == (0, "The end.\n")
            assert ("context compacted" in err) is compacts
            assert len(provider.requests) == (3 if compacts else 2)

    run(scenario())


def test_codex_takes_every_kind_of_model(tmp_path: Path) -> None:
    able: frozenset[Ability] = frozenset({"chat", "tools", "vision", "thinking"})
    models = {
        "able": Model("able", "ollama", abilities=able, context=1_048_576, details={"parameters": "8B"}),
        "lib/small:1b": Model("small", "x", abilities=frozenset({"chat"}), context=512),
        STRANGE: Model(STRANGE, "x", abilities=CHAT, context=8192),
    }
    windows = {name: model.context for name, model in models.items()}
    (tmp_path / "models.json").write_bytes(catalog.render(windows, models))

    async def scenario() -> None:
        listed = f'model_catalog_json="{tmp_path / "models.json"}"'
        code, out, err = await codex(tmp_path, "debug", "models", "-c", listed)
        assert code == 0, err
        found = {model["slug"]: model for model in json.loads(out)["models"]}
        assert {slug: model["context_window"] for slug, model in found.items()} == windows
        assert found["able"]["input_modalities"] == ["text", "image"]
        assert [level["effort"] for level in found["able"]["supported_reasoning_levels"]] == [
            *catalog.EFFORTS
        ]
        assert found["lib/small:1b"]["supported_reasoning_levels"] == []

    run(scenario())


@asynccontextmanager
async def oss_gate(asked: list[Any]) -> AsyncIterator[str]:
    """What `codex --oss` needs of a gate; `asked`: the bodies of its model requests."""

    async def respond(request: web.Request) -> web.Response:
        asked.append(await request.json())
        content = [{"type": "output_text", "text": "From the gate."}]
        item = {"type": "message", "id": "msg_1", "role": "assistant", "content": content}
        events: list[dict[str, Any]] = [
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": {"id": "resp_1"}},
        ]
        text = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
        return web.Response(text=text, content_type="text/event-stream")

    async def tags(_: web.Request) -> web.Response:
        return web.json_response({"models": [{"name": "tiny:latest"}]})

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": []})

    app = web.Application(client_max_size=2**24)
    app.router.add_get("/v1/models", models)
    app.router.add_get("/api/tags", tags)
    app.router.add_post("/v1/responses", respond)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield str(runner.addresses[0][1])
    finally:
        await runner.cleanup()


@pytest.mark.skipif(os.name != "posix", reason="a shell")
def test_the_command_without_a_file_works_as_it_is_printed(tmp_path: Path) -> None:
    async def scenario() -> None:
        asked: list[Any] = []
        model = FakeModel("tiny:latest", capabilities=("completion", "tools"), context=16_384)
        async with ScriptedOllama([model]) as ollama, oss_gate(asked) as port:
            more = {
                "CODEXGATE_BACKENDS": "ollama",
                "CODEXGATE_OLLAMA_URL": ollama.url,
                "CODEXGATE_SERVER_PORT": port,
            }
            told = await asyncio.to_thread(codexgate, tmp_path, "connect", "codex", "--json", more=more)
            line = json.loads(told.stdout)["snippets"][0]["text"].replace(
                "exec", "exec --skip-git-repo-check", 1
            )
            code, out, err = await codex(tmp_path, line, shell=True)
            assert (code, out) == (0, "From the gate.\n"), err
            assert "Model metadata" not in err
            assert asked[0]["model"] == "tiny:latest"

    run(scenario())
