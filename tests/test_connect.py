"""`codexgate connect`: what each client is told, by which gate and model, and what the program does."""

import asyncio
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from codexgate.backends.demo import Demo, DemoOptions
from codexgate.backends.ollama import OllamaOptions
from codexgate.cli import offer, remote
from codexgate.cli.connect import clients as completions
from codexgate.connect.clients import CLIENTS, Places, Target, advise, quoted, shortly
from codexgate.errors import GateError
from codexgate.gate import Alias
from codexgate.records import Ability, Model
from codexgate.settings import ServerOptions, Settings

from .servers.gateway import serving
from .servers.program import codexgate
from .support import run

yaml: Any = pytest.importorskip("yaml")

CHAT: frozenset[Ability] = frozenset({"chat", "tools"})
QWEN = Model("qwen3:8b", "ollama", abilities=CHAT, context=40_960)
PLACES = Places(
    codex=Path("/h/.codex/codexgate.config.toml"),
    llm=Path("/h/llm/extra-openai-models.yaml"),
    aider=Path("/h/.aider.conf.yml"),
    continue_=Path("/h/.continue/config.yaml"),
    vscode=Path("/h/Code/User/chatLanguageModels.json"),
)
OPEN = Target(url="http://127.0.0.1:8140", model=QWEN)
LOCKED = Target(url="https://gate.example", model=QWEN, needs_key=True)
LISTED = Path("/d/codex-models.json")


# What each client is told


def test_the_gate_says_of_itself_what_each_client_is_told() -> None:
    models = {"gpt": Model("gpt", "codex", abilities=CHAT, context=272_000), "qwen3:8b": QWEN}
    shown = {each.about: each.text for each in shortly(OPEN.url, models, "", needs_key=False)}
    assert shown["For codex --oss:"] in told("codex", OPEN)  # no Codex inside of Codex
    gpt = Target(url=OPEN.url, model=Model("gpt", ""))
    assert shown["For Open WebUI:"] in told("open-webui", gpt)
    assert 'model = "gpt"' in shown["For OpenAI clients:"]
    chosen = [each.text for each in shortly(OPEN.url, models, "qwen3:8b", needs_key=False)]
    assert all("qwen3:8b" in text and "gpt" not in text for text in chosen)
    locked = {each.about: each.text for each in shortly(LOCKED.url, models, "qwen3:8b", needs_key=True)}
    assert locked["For Open WebUI:"] in told("open-webui", LOCKED)
    assert "For codex --oss:" not in locked
    [socket] = shortly("unix:/s", models, "qwen3:8b", needs_key=False)
    assert socket.text in told("curl", Target(url="unix:/s", model=QWEN))


def told(client: str, target: Target) -> str:
    """All snippets, each under what it is for or where it goes."""
    snippets = advise(client, target, PLACES).snippets
    return "\n".join(f"[{snippet.file or snippet.about}]\n{snippet.shown}" for snippet in snippets)


OPENLY = {
    "codex": """\
[Without a file:]
CODEX_OSS_BASE_URL=http://127.0.0.1:8140/v1 \\
codex exec --oss --local-provider ollama -m qwen3:8b \\
  "…"
[/h/.codex/codexgate.config.toml]
model = "qwen3:8b"
model_provider = "codexgate"
model_providers.codexgate.name = "codexgate"
model_providers.codexgate.base_url = "http://127.0.0.1:8140/v1"
model_providers.codexgate.wire_api = "responses"
[With that file, a profile of its own:]
codex -p codexgate""",
    "open-webui": """\
[In a shell:]
export OPENAI_API_BASE_URL=http://127.0.0.1:8140/v1
export OPENAI_API_KEY=none
export DEFAULT_MODELS=qwen3:8b
export ENABLE_FORWARD_USER_INFO_HEADERS=true
open-webui serve""",
    "llm": """\
[/h/llm/extra-openai-models.yaml]
- model_id: "codexgate/qwen3:8b"
  aliases: [codexgate]
  model_name: "qwen3:8b"
  api_base: "http://127.0.0.1:8140/v1"
  supports_tools: true
  supports_schema: true
[Then:]
llm -m codexgate "…\"""",
    "aider": """\
[/h/.aider.conf.yml]
model: "openai/qwen3:8b"
openai-api-base: "http://127.0.0.1:8140/v1"
openai-api-key: none""",
    "continue": """\
[/h/.continue/config.yaml]
models:
  - name: codexgate
    provider: openai
    model: "qwen3:8b"
    apiBase: "http://127.0.0.1:8140/v1"
    apiKey: none
    roles: [chat, edit, apply]
    capabilities: [tool_use]
    defaultCompletionOptions:
      contextLength: 40960""",
    "vscode": """\
[/h/Code/User/chatLanguageModels.json]
[
  {
    "name": "codexgate",
    "vendor": "customendpoint",
    "apiType": "chat-completions",
    "apiKey": "none",
    "models": [
      {
        "id": "qwen3:8b",
        "name": "qwen3:8b (codexgate)",
        "url": "http://127.0.0.1:8140/v1/chat/completions",
        "toolCalling": true,
        "vision": false,
        "maxInputTokens": 32768,
        "maxOutputTokens": 8192
      }
    ]
  }
]""",
    "openai-python": """\
[In Python:]
from openai import OpenAI

client = OpenAI(
    base_url="http://127.0.0.1:8140/v1",
    api_key="none",
)
answer = client.responses.create(
    model="qwen3:8b", input="Why?"
)
print(answer.output_text)""",
    "curl": """\
[In a shell:]
curl http://127.0.0.1:8140/v1/chat/completions \\
  -H 'Content-Type: application/json' \\
  -d '{"model": "qwen3:8b", "messages": [{"role": "user", "content": "Why?"}]}'""",
}
WITH_A_KEY = {
    "codex": """\
[/h/.codex/codexgate.config.toml]
model = "qwen3:8b"
model_provider = "codexgate"
model_providers.codexgate.name = "codexgate"
model_providers.codexgate.base_url = "https://gate.example/v1"
model_providers.codexgate.wire_api = "responses"
model_providers.codexgate.env_key = "GATE_API_KEY"
[The key, where Codex runs:]
export GATE_API_KEY="$(codexgate key show)"
[With that file, a profile of its own:]
codex -p codexgate""",
    "open-webui": """\
[In a shell:]
export OPENAI_API_BASE_URL=https://gate.example/v1
export OPENAI_API_KEY="$(codexgate key show)"
export DEFAULT_MODELS=qwen3:8b
export ENABLE_FORWARD_USER_INFO_HEADERS=true
open-webui serve""",
    "llm": """\
[/h/llm/extra-openai-models.yaml]
- model_id: "codexgate/qwen3:8b"
  aliases: [codexgate]
  model_name: "qwen3:8b"
  api_base: "https://gate.example/v1"
  api_key_name: codexgate
  supports_tools: true
  supports_schema: true
[The key, once:]
llm keys set codexgate --value "$(codexgate key show)"
[Then:]
llm -m codexgate "…\"""",
    "aider": """\
[/h/.aider.conf.yml]
model: "openai/qwen3:8b"
openai-api-base: "https://gate.example/v1"
[The key, where aider runs:]
export OPENAI_API_KEY="$(codexgate key show)\"""",
    "continue": """\
[/h/.continue/config.yaml]
models:
  - name: codexgate
    provider: openai
    model: "qwen3:8b"
    apiBase: "https://gate.example/v1"
    apiKey: ${{ secrets.GATE_API_KEY }}
    roles: [chat, edit, apply]
    capabilities: [tool_use]
    defaultCompletionOptions:
      contextLength: 40960
[The key, once:]
(umask 077; echo GATE_API_KEY="$(codexgate key show)" >> /h/.continue/.env)""",
    "vscode": OPENLY["vscode"]
    .replace('    "apiKey": "none",\n', "")
    .replace("http://127.0.0.1:8140", "https://gate.example"),
    "openai-python": """\
[In a shell:]
export OPENAI_API_KEY="$(codexgate key show)"
[In Python:]
from openai import OpenAI

client = OpenAI(
    base_url="https://gate.example/v1",
)
answer = client.responses.create(
    model="qwen3:8b", input="Why?"
)
print(answer.output_text)""",
    "curl": """\
[In a shell:]
curl https://gate.example/v1/chat/completions \\
  -H "Authorization: Bearer $(codexgate key show)" \\
  -H 'Content-Type: application/json' \\
  -d '{"model": "qwen3:8b", "messages": [{"role": "user", "content": "Why?"}]}'""",
}


@pytest.mark.parametrize("client", CLIENTS)
def test_what_a_client_is_told(client: str) -> None:
    assert told(client, OPEN) == OPENLY[client]
    assert told(client, LOCKED) == WITH_A_KEY[client]


@pytest.mark.parametrize("client", CLIENTS)
def test_what_a_client_is_told_fits_a_terminal(client: str) -> None:
    for target in (OPEN, LOCKED):
        assert max(map(len, told(client, target).splitlines())) <= 80


@pytest.mark.parametrize("client", CLIENTS)
def test_the_key_is_shown_only_when_it_is_given_and_never_goes_into_a_file(client: str) -> None:
    target = Target(url=LOCKED.url, model=QWEN, needs_key=True, key="cg-'$(x)")
    advice = advise(client, target, PLACES)
    texts = [snippet.text for snippet in advice.snippets if not snippet.file]
    assert any("cg-" in text for text in [*texts, *advice.notes])
    assert not any("cg-" in snippet.text for snippet in advice.snippets if snippet.file)


@pytest.mark.skipif(os.name != "posix", reason="a shell")
def test_names_and_keys_are_single_words_to_a_shell(tmp_path: Path) -> None:
    model = Model("it's $(touch oops) `x`", "")
    target = Target(url="http://h", model=model, needs_key=True, key="""k'"$(touch oops)""")
    (tmp_path / "curl").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "curl").chmod(0o755)
    (shown,) = advise("curl", target, PLACES).snippets
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ran = subprocess.run(["sh", "-c", shown.text], env=environ, cwd=tmp_path, capture_output=True, text=True)
    words = ran.stdout.splitlines()
    assert words[words.index("-H") + 1] == f"Authorization: Bearer {target.key}"
    assert json.loads(words[words.index("-d") + 1])["model"] == model.id
    assert not (tmp_path / "oops").exists()


STRANGE = 'a"b\\c\nd\x7f\x85\u2028é𝄞: #x'


def test_any_name_is_a_string_of_toml_yaml_and_json() -> None:
    written = quoted(STRANGE)
    assert tomllib.loads(f"x = {written}")["x"] == STRANGE
    assert yaml.safe_load(f"x: {written}")["x"] == STRANGE
    assert json.loads(written) == STRANGE


@pytest.mark.parametrize("client", sorted(CLIENTS.keys() - {"curl", "openai-python"}))
def test_most_clients_have_no_unix_sockets(client: str) -> None:
    with pytest.raises(GateError, match=r"Unix socket.*--url"):
        advise(client, Target(url="unix:/run/gate.sock", model=QWEN), PLACES)


def test_curl_and_python_reach_a_unix_socket() -> None:
    target = Target(url="unix:/run/my gate.sock", model=QWEN)
    assert "curl --unix-socket '/run/my gate.sock' http://localhost/v1/" in told("curl", target)
    assert 'HTTPTransport(uds="/run/my gate.sock")' in told("openai-python", target)
    compile(advise("openai-python", target, PLACES).snippets[-1].text, "snippet", "exec")


def test_codex_is_told_where_its_list_of_models_is() -> None:
    text = told("codex", Target(url=OPEN.url, model=QWEN, catalog=LISTED))
    assert f"""-c model_catalog_json='"{LISTED}"' \\""" in text
    assert f'model_catalog_json = "{LISTED}"\n' in text


# Which gate, which model


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("http://h:1", "http://h:1"),
        ("http://h:1/v1/", "http://h:1"),
        ("https://h/gate/v1", "https://h/gate"),
        ("http://[::1]:80/", "http://[::1]:80"),
        ("unix:/run/gate.sock", "unix:/run/gate.sock"),
    ],
)
def test_the_url_is_taken_as_people_write_it(url: str, meant: str) -> None:
    assert remote.root(url) == meant


@pytest.mark.parametrize(
    "url", ["", "h:1", "ftp://h", "unix:", "http://u:secret@h", 'http://h/"', "http://h/\n"]
)
def test_no_other_url_is_taken_and_none_is_repeated(url: str) -> None:
    with pytest.raises(GateError) as caught:
        remote.root(url)
    assert "secret" not in caught.value.fault.text


def test_the_url_of_the_settings_is_one_that_can_be_reached() -> None:
    assert remote.listens_at(ServerOptions(host="0.0.0.0", port=81)) == "http://127.0.0.1:81"
    assert remote.listens_at(ServerOptions(host="::", port=81)) == "http://[::1]:81"
    assert remote.listens_at(ServerOptions(host="gate", port=81)) == "http://gate:81"
    with pytest.raises(GateError, match="--url"):
        remote.listens_at(ServerOptions(port=0))


def test_a_window_is_what_the_model_gets() -> None:
    models = {
        "q": QWEN,
        "big": Model("big", "ollama", abilities=CHAT, context=262_144),
        "upstream": Model("upstream", "other", abilities=CHAT, context=262_144),
        "gpt": Model("gpt", "codex", abilities=CHAT, context=272_000),
        "embed": Model("embed", "ollama", abilities=frozenset({"embedding"}), context=512),
        "unknown": Model("unknown", "other", abilities=CHAT),
    }
    limited = Settings(ollama=OllamaOptions(max_num_ctx=65_536))
    assert offer.windows(models, limited) == {"q": 40_960, "big": 65_536, "upstream": 262_144}
    fixed = Settings(ollama=OllamaOptions(num_ctx=8192))
    assert offer.windows(models, fixed) == {"q": 8192, "big": 8192, "upstream": 262_144}
    assert offer.windows(models, limited, {"big": Alias(model="big", options={"num_ctx": 100_000})}) == {
        "q": 40_960,
        "big": 65_536,
        "upstream": 262_144,
    }
    free = Settings(ollama=OllamaOptions(max_num_ctx=0))
    assert offer.windows(models, free)["big"] == 262_144


@asynccontextmanager
async def small_gate(*ids: str, show: bool = True) -> AsyncIterator[tuple[str, list[str]]]:
    """A server with the routes that are asked; and the keys that came."""
    keys: list[str] = []

    async def models(request: web.Request) -> web.Response:
        keys.append(request.headers.get("Authorization", ""))
        return web.json_response({"object": "list", "data": [{"id": id, "owned_by": "x"} for id in ids]})

    async def shown(request: web.Request) -> web.Response:
        model = (await request.json())["model"]
        abilities = ["embedding"] if "embed" in model else ["completion", "tools"]
        return web.json_response({"capabilities": abilities, "model_info": {"qwen3.context_length": 40960}})

    app = web.Application()
    app.router.add_get("/v1/models", models)
    if show:
        app.router.add_post("/api/show", shown)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", keys
    finally:
        await runner.cleanup()


async def program(home: Path, *arguments: str, more: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `codexgate connect …`."""
    variables = {"CODEXGATE_SERVER_PORT": "9", **(more or {})}
    ended = await asyncio.to_thread(codexgate, home, "connect", *arguments, more=variables)
    return ended.returncode, ended.stdout.decode(), ended.stderr.decode()


def test_a_gate_that_runs_is_asked_for_its_models(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with small_gate("embed:1b", "qwen3:8b", "demo") as (url, keys):
            port = url.rpartition(":")[2]
            code, out, _ = await program(tmp_path, "llm", "--json", more={"CODEXGATE_SERVER_PORT": port})
            assert (code, json.loads(out)["model"], json.loads(out)["url"]) == (0, "qwen3:8b", url)
            more = {"CODEXGATE_SERVER_API_KEY": "cg-secret"}
            code, out, err = await program(tmp_path, "llm", "--url", f"{url}/v1", "-m", "qwen", more=more)
            assert (code, err) == (
                0,
                "codexgate: The gate has no model 'qwen' now. Did you mean qwen3:8b?\n",
            )
            assert 'model_name: "qwen"' in out
            assert "cg-secret" not in out
            assert keys[-1] == "Bearer cg-secret"
            code, out, _ = await program(tmp_path, "codex", "--json", "--url", url)
            listed = json.loads(out)["catalog"]
            assert listed["windows"] == {"qwen3:8b": 40_960, "demo": 40_960}
            kept = json.loads(Path(listed["file"]).read_text())["models"]
            assert [model["slug"] for model in kept] == ["qwen3:8b", "demo"]
            code, out, _ = await program(tmp_path, "curl", "--show-key", "--url", url, more=more)
            assert "Bearer cg-secret" in out
        async with small_gate("text", show=False) as (url, _):
            code, out, _ = await program(tmp_path, "curl", "--url", url)
            assert (code, '"model": "text"' in out) == (0, True)
            code, out, err = await program(tmp_path, "codex", "--url", url)
            assert (code, "model_catalog_json" in out) == (0, False)
            assert err == "codexgate: How much text sees at once is not known, so Codex cannot be told.\n"

    run(scenario())


def test_the_gate_tells_what_its_models_can_and_how_much_they_see() -> None:
    async def scenario() -> dict[str, Model]:
        async with serving(Demo(DemoOptions(pace=0))) as url:
            return await remote.models(url, "")

    found = run(scenario())
    assert found["demo"].context == 128_000
    assert {"chat", "tools"} <= found["demo"].abilities
    assert found["demo-embed"].abilities == {"embedding"}


def test_without_a_gate_the_models_are_looked_up_here(tmp_path: Path) -> None:
    async def scenario() -> None:
        for client in CLIENTS:
            code, out, err = await program(tmp_path, client)
            assert (code, err) == (0, "")
            assert "demo" in out
            assert "\x1b" not in out
            assert max(map(len, out.replace(str(tmp_path), "~").splitlines())) <= 80

    run(scenario())


def test_how_it_fails(tmp_path: Path) -> None:
    async def scenario() -> None:
        for arguments, code, message in (
            (["codx"], 2, "There is no client 'codx'. Did you mean codex?"),
            (["openwebui"], 2, "Did you mean open-webui?"),
            (["zzz"], 2, "There are codex, open-webui,"),
            (["llm", "--write", "--undo"], 2, "opposites"),
            (["llm", "--url", "http://127.0.0.1:9"], 6, "refused the connection"),
            (["llm", "--url", "gate"], 2, "must look like"),
            (["aider", "--undo"], 5, "nothing of ours"),
            (["curl", "--undo"], 5, "Nothing is ever written for curl."),
            (["vscode", "--write"], 1, "Nothing was written. VS Code writes"),
        ):
            found, _, err = await program(tmp_path, *arguments)
            assert (found, message in err) == (code, True), err
        more = {"CODEXGATE_BACKENDS": "ollama", "CODEXGATE_OLLAMA_URL": "http://127.0.0.1:9"}
        assert (await program(tmp_path, "llm", more=more))[0] == 6
        code, out, _ = await program(tmp_path, "llm", "-m", "qwen3:8b", more=more)
        assert (code, '"qwen3:8b"' in out) == (0, True)

    run(scenario())


def test_names_of_clients_are_completed() -> None:
    assert completions("co") == ["codex", "continue"]


# Written by the program


@pytest.mark.parametrize(
    ("client", "file"),
    [
        ("llm", "config/io.datasette.llm/extra-openai-models.yaml"),
        ("aider", ".aider.conf.yml"),
        ("continue", ".continue/config.yaml"),
        ("codex", ".codex/codexgate.config.toml"),
    ],
)
def test_the_program_writes_and_undoes(tmp_path: Path, client: str, file: str) -> None:
    path = tmp_path / file
    more = {"CODEXGATE_SERVER_PORT": "9"}
    written = codexgate(tmp_path, "connect", client, "--write", more=more)
    assert written.returncode == 0, written.stderr
    assert written.stdout.decode().startswith(f"Written: {path}\n")
    assert "127.0.0.1:9/v1" in path.read_text()
    assert codexgate(tmp_path, "connect", client, "--write", more=more).stdout.startswith(b"Unchanged: ")
    undone = codexgate(tmp_path, "connect", client, "--undo", "--json", more=more)
    assert json.loads(undone.stdout)["files"] == [{"file": str(path), "done": "removed", "backup": None}]
    assert not path.exists()
    assert not (tmp_path / "kept/codex-models.json").exists()


def test_an_old_configuration_of_continue_is_not_put_out_of_use(tmp_path: Path) -> None:
    (tmp_path / ".continue").mkdir()
    (tmp_path / ".continue/config.json").write_text("{}")
    refused = codexgate(tmp_path, "connect", "continue", "--write", more={"CODEXGATE_SERVER_PORT": "9"})
    assert (refused.returncode, b"out of use" in refused.stderr) == (2, True)
    assert not (tmp_path / ".continue/config.yaml").exists()


def test_llm_lists_and_asks_what_was_written(tmp_path: Path) -> None:
    more = {"CODEXGATE_SERVER_PORT": "9", "LLM_USER_PATH": str(tmp_path / "llm")}
    (tmp_path / "llm").mkdir()
    extra = tmp_path / "llm/extra-openai-models.yaml"
    extra.write_text("# mine\n- model_id: mine\n  model_name: mine\n")
    assert codexgate(tmp_path, "connect", "llm", "--write", more=more).returncode == 0
    command = [sys.executable, "-m", "llm", "models", "list"]
    environ = {**os.environ, "LLM_USER_PATH": str(tmp_path / "llm"), "LLM_LOAD_PLUGINS": ""}
    listed = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=50)
    assert "OpenAI Chat: mine\n" in listed.stdout
    assert "OpenAI Chat: codexgate/demo (aliases: codexgate)\n" in listed.stdout
