"""What the doctor says to run works when it is pasted, and does no more than it says; and nothing is cried over.

A command is judged by what a shell makes of it. A set-up that is unusual and well gets no alarm.
"""

import asyncio
import os
import pty
import shlex
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from codexgate.backends.codex.find import find_binary
from codexgate.backends.ollama import OllamaOptions
from codexgate.config import Secret
from codexgate.doctor import (
    codex,
    embeddings,
    mask,
    network,
    ollama,
    ollama_models,
    ollama_seen,
    oss,
    run,
    services,
    system,
    target,
)
from codexgate.doctor.reach import Answer
from codexgate.doctor.words import Asked, Remedy, Row
from codexgate.embedding import EmbeddingOptions
from codexgate.errors import GateError
from codexgate.server.app import Listen
from codexgate.settings import ServerOptions, Settings
from tests.causes.bench import DEADLINES, patient
from tests.servers.faulty import Faulty, only_v1, program, search_path, tag
from tests.servers.faulty import ollama as good
from tests.servers.gateway import serving
from tests.servers.ollama import ScriptedOllama
from tests.servers.program import COMMAND, codexgate, environment
from tests.servers.scripted import Scripted
from tests.support import run as bounded
from tests.support import unhurried

MODEL = "qwen3:8b"


@pytest.fixture(autouse=True)
def time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """No deadline of a single look is tested here."""
    unhurried(monkeypatch, *DEADLINES)


def shell(command: str, home: Path, **more: str) -> str:
    """What a shell prints that runs `command`; programs named in it only print their words."""
    bin = home / "bin"
    for name in ("codex", "codexgate", "ollama"):
        text = 'env | grep -E "^(CODEX|CODEXGATE)_" | sort; echo "$(basename "$0")"; printf "[%s]" "$@"; echo'
        program(bin / name, text)
    environ = {"HOME": str(home), "PATH": search_path(bin), **more}
    ran = subprocess.run(
        ["/bin/bash", "-c", command], env=environ, cwd=home, capture_output=True, check=False
    )
    return ran.stdout.decode()


# Pasted


@pytest.mark.parametrize("home", ["frida", "my home", "o'hara", "a$(touch pwned)b"])
def test_a_command_about_the_home_works_though_the_home_is_masked(home: str, tmp_path: Path) -> None:
    folder = tmp_path / home / "my data"
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    row = Row("a.row", "system", "fail", "x", remedy=Remedy("x", f"chmod 700 {shlex.quote(str(folder))}"))
    shown = mask.Mask((), tmp_path / home, "").row(row).remedy
    assert shown and str(tmp_path / home) not in shown.command
    shell(shown.command, tmp_path / home)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert not list(tmp_path.rglob("pwned"))


def test_codex_is_started_where_the_server_is_however_its_address_is_spelled(tmp_path: Path) -> None:
    for url in ("http://[::1]:8140/v1", "http://h/$(touch pwned)/v1", "http://h/a b;touch pwned"):
        out = shell(target.start_codex(url, "it's:8b"), tmp_path)
        assert f"CODEX_OSS_BASE_URL={url}\n" in out and "[it's:8b]" in out
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize("value", ["http://[::1]", "http://h/$(touch pwned)", "http://h;touch pwned;"])
def test_what_a_variable_holds_is_no_command(value: str, tmp_path: Path) -> None:
    given = Asked(Settings(), {"OLLAMA_HOST": value, "CODEX_OSS_BASE_URL": value}, tmp_path, MODEL)
    for row in bounded(oss.look(given)):
        shell(row.remedy.command if row.remedy else "", tmp_path)
    assert not list(tmp_path.rglob("pwned"))


def test_a_pull_goes_to_the_server_that_misses_the_model(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Faulty(good()) as server:
            given = Asked(
                Settings(), {"HTTPS_PROXY": "http://proxy.invalid:1"}, tmp_path, "tiny:1b", f"{server.url}/v1"
            )
            rows = {row.id: row for row in await ollama.look(given)}
            remedy = rows["ollama.model.installed"].remedy
            assert remedy is not None
            command = f"CODEXGATE_OLLAMA_URL={server.url} codexgate models pull tiny:1b"
            assert (remedy.command, remedy.safe) == (command, True)

    bounded(scenario())


def test_fix_pulls_there_and_looks_at_all_that_hangs_on_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ScriptedOllama() as there, ScriptedOllama() as ours:
            more = {"CODEXGATE_OLLAMA_URL": ours.url, "HTTPS_PROXY": "http://proxy.invalid:1"}
            arguments = ("--url", there.url, "-m", "tiny", "--only", "ollama.model,ollama.registry")
            ran = await asyncio.to_thread(patient, tmp_path, *arguments, "--fix", "--yes", more=more)
            out = ran.stdout.decode()
            assert "✓ ollama.model.installed    tiny:latest is installed" in out, out + ran.stderr.decode()
            assert "✓ ollama.model.kind" in out
            assert ("tiny:latest" in there.models, "tiny:latest" in ours.models) == (True, False)

    bounded(scenario())


def test_the_variable_of_a_server_has_a_name_that_a_shell_takes() -> None:
    assert network.variable("openai.my-server.base_url", {}) == "CODEXGATE_OPENAI_MY_SERVER_BASE_URL"


def test_the_variable_to_mend_is_the_one_that_counts() -> None:
    ours, theirs = "CODEXGATE_EMBEDDINGS_BASE_URL", "OPENAI_API_BASE_URL"
    for environ, name in (({}, ours), ({theirs: "http://h"}, theirs), ({theirs: "a", ours: "b"}, ours)):
        assert network.variable("embeddings.base_url", environ) == name


@pytest.mark.parametrize(("url", "there"), [("", True), ("http://127.0.0.1:8000/v1", False)])
def test_only_ollama_itself_is_restarted_by_a_command(
    url: str, there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "SYSTEMD", tmp_path / "nowhere")
    nothing = Answer()
    given = Asked(Settings(), {}, tmp_path, "", url)
    seen = ollama_seen.Seen(given, target.root(url or target.DEFAULT), "", nothing, nothing, nothing, None)
    assert ("ollama serve" in ollama._restart(seen).command) == there


# Run by --fix


def fixing(home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    return patient(home, "--fix", "--yes", *arguments, more=more)


def test_a_key_that_is_made_is_not_shown(tmp_path: Path) -> None:
    ran = fixing(tmp_path, "--only", "system.bind,system.key", CODEXGATE_SERVER_HOST="0.0.0.0")
    key = (tmp_path / "kept/api-key").read_text().strip()
    assert (ran.returncode, key.encode() in ran.stdout + ran.stderr) == (0, False)
    assert b"The key is in ~" in ran.stdout, "what hangs on the remedy is looked at again"


def test_a_remedy_is_for_the_settings_that_were_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f'data_dir = "{tmp_path}/mine"\n[server]\nhost = "0.0.0.0"\n')
    environ = environment(tmp_path)
    del environ["CODEXGATE_DATA_DIR"]
    command = [*COMMAND, "doctor", "--fix", "--yes", "--config", str(file), "--only", "system.bind"]
    ran = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, timeout=30, check=False)
    assert (ran.returncode, (tmp_path / "mine/api-key").exists()) == (0, True), ran.stderr


def test_what_a_remedy_complains_of_is_masked(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("cg-0123456789\n")
    key.chmod(0o644)
    program(tmp_path / "bin/chmod", 'echo "chmod: $2: Operation not permitted" >&2; exit 1')
    more = {"CODEXGATE_SERVER_API_KEY_FILE": str(key), "PATH": search_path(tmp_path / "bin")}
    ran = fixing(tmp_path, "--only", "system.key", **more)
    assert (ran.returncode, b"chmod: ~/key: Operation not permitted" in ran.stderr) == (1, True), ran.stderr
    assert str(tmp_path).encode() not in ran.stdout + ran.stderr


def test_ctrl_c_at_the_question_ends_it(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("cg-0123456789\n")
    key.chmod(0o644)
    ours, theirs = pty.openpty()
    environ = environment(tmp_path, {"CODEXGATE_SERVER_API_KEY_FILE": str(key)})
    command = [*COMMAND, "doctor", "--only", "system.key", "--fix"]
    piped = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=theirs, stdout=piped, stderr=piped, env=environ, cwd=tmp_path
    ) as process:
        assert process.stderr is not None
        while b"[y/N]" not in process.stderr.read1():  # type: ignore[attr-defined]
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    os.close(ours)
    os.close(theirs)
    assert (process.returncode, b"Traceback" in said) == (130, False), said


# Where it is run


@pytest.mark.parametrize("how", ["<&-", "</dev/null", "| cat", "2>&-"])
def test_it_runs_wherever_it_is_put(how: str, tmp_path: Path) -> None:
    line = f"{shlex.join(COMMAND)} doctor --fix --only system {how}"
    ran = subprocess.run(
        ["/bin/sh", "-c", line], env=environment(tmp_path), cwd=tmp_path, capture_output=True
    )
    assert b"Traceback" not in ran.stdout + ran.stderr
    assert b"nobody to ask" in ran.stderr or how == "2>&-"


def test_settings_that_cannot_be_read_are_told_whatever_was_asked(tmp_path: Path) -> None:
    more = {"CODEXGATE_SERVER_PORT": "many"}
    ran = codexgate(tmp_path, "doctor", "--only", "system.disk", more=more)
    assert (ran.returncode, b"gate.settings" in ran.stdout) == (1, True)


SLOW = """
import socket, time
real = socket.getaddrinfo
socket.getaddrinfo = lambda host, *a, **k: time.sleep(60) if host == "slow.invalid" else real(host, *a, **k)
from codexgate.__main__ import main
main()
"""
"""The doctor where the name server does not answer."""


def test_a_name_server_that_is_silent_does_not_hold_the_end_up(tmp_path: Path) -> None:
    environ = environment(tmp_path, {"CODEXGATE_OPENAI_X_BASE_URL": "http://slow.invalid/v1"})
    command = [COMMAND[0], "-c", SLOW, "doctor", "--only", "network"]
    ran = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, timeout=30)
    assert (ran.returncode, b"takes no connection within" in b" ".join(ran.stdout.split())) == (1, True)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("olama", "ollama"),
        ("codex.lgin", "codex.login"),
        ("shim", "ollama.pull.shim"),
        ("zzz", "There are gate"),
    ],
)
def test_a_check_that_is_not_there_is_answered_with_those_that_are_near(name: str, advice: str) -> None:
    with pytest.raises(GateError) as told:
        run.wanted([name])
    assert advice in told.value.fault.advice


def test_what_a_store_logs_does_not_stand_between_the_rows(tmp_path: Path) -> None:
    more = {"CODEXGATE_THREADS_REDIS_URL": "redis://127.0.0.1:1"}
    ran = codexgate(tmp_path, "doctor", "--only", "stores.redis", more=more)
    assert (ran.returncode, ran.stderr) == (1, b"")


# Words that are no secrets


@pytest.mark.parametrize("placeholder", ["ollama", "codexgate", "none", "openai"])
def test_what_stands_where_a_key_is_not_needed_is_no_secret(placeholder: str, tmp_path: Path) -> None:
    hidden = mask.of(Asked(Settings(), {"OPENAI_API_KEY": placeholder}, tmp_path))
    text = f"Start it: {placeholder} serve"
    assert hidden.text(text) == text
    settings = Settings(server=ServerOptions(api_key=Secret(placeholder)))
    assert mask.of(Asked(settings, {}, tmp_path)).text(text) == text


@pytest.mark.parametrize("user", ["redis", "postgres", "openai", "npm"])
def test_a_user_whose_name_is_a_program_does_not_spoil_a_command(user: str) -> None:
    command = "sudo -u postgres psql && systemctl restart redis && npm install -g @openai/codex"
    assert mask.Mask((), Path(f"/home/{user}"), user).command(command) == command


@pytest.mark.parametrize("spell", [str, quote, lambda home: quote(home, safe="")])
def test_the_home_is_hidden_in_an_address_too(spell: Any) -> None:
    hidden = mask.Mask((), Path("/home/frïda müller"), "frïda müller")
    shown = hidden.text(f"sqlite:///{spell('/home/frïda müller')}/x")
    assert "frïda" not in shown and "fr%C3%AFda" not in shown


# No alarm


def rows(found: list[Row]) -> Mapping[str, Row]:
    return {row.id: row for row in found}


def test_a_model_that_only_embeds_needs_no_large_window(tmp_path: Path) -> None:
    loaded = {**tag("nomic-embed-text:latest"), "size_vram": 5_000_000_000, "context_length": 2048}
    models = {MODEL: ("completion", "tools"), "nomic-embed-text:latest": ("embedding",)}

    async def scenario() -> None:
        async with Faulty({**good(models), "/api/ps": {"models": [loaded]}}) as server:
            given = Asked(Settings(ollama=OllamaOptions(url=server.url)), {"PATH": str(tmp_path)}, tmp_path)
            assert "ollama.context" not in rows(await ollama.look(given))
            server.routes["/api/ps"] = {"models": [{**loaded, "name": MODEL}]}
            given = msgspec.structs.replace(given, heard={})
            assert rows(await ollama.look(given))["ollama.context"].status == "warning"

    bounded(scenario())


@pytest.mark.parametrize("listed", [None, []])
def test_an_ollama_without_models_is_an_ollama(listed: Any, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Faulty({**good({}), "/api/tags": {"models": listed}}) as server:
            found = rows(await oss.look(Asked(Settings(), {}, tmp_path, "", f"{server.url}/v1")))
            assert found["ollama.pull.shim"].status == "ok"

    bounded(scenario())


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_wants_a_key_is_no_wrong_address(status: int, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Faulty({"/v1/models": status, "/api/tags": status}) as server:
            found = rows(await oss.look(Asked(Settings(), {}, tmp_path, MODEL, f"{server.url}/v1/")))
            row = found["ollama.pull.shim"]
            assert row.remedy and "sends none" in row.why and "API_KEY=KEY codexgate serve" in row.remedy.text
            assert "ollama.base_url" not in found, "what a server refuses says nothing of how it is spelled"

    bounded(scenario())


def test_a_host_may_be_named_without_a_scheme(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Faulty(only_v1(MODEL)) as server:
            given = Asked(Settings(), {}, tmp_path, "", server.url.removeprefix("http://"))
            assert rows(await oss.look(given))["ollama.base_url"].status == "ok"

    bounded(scenario())


@pytest.mark.parametrize(
    ("environ", "status"),
    [
        ({"HTTPS_PROXY": "http://p:1"}, "ok"),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "*"}, "ok"),
        ({"HTTP_PROXY": "http://p:1", "no_proxy": "localhost,127.0.0.0/8"}, "ok"),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "localhost"}, "warning"),
        ({"HTTP_PROXY": "http://p:1", "no_proxy": "example.org"}, "fail"),
        ({"all_proxy": "socks5://p:1"}, "fail"),
    ],
)
def test_a_proxy_is_a_failure_where_it_catches_what_is_asked(
    environ: dict[str, str], status: str, tmp_path: Path
) -> None:
    (row,) = bounded(oss.look_at_proxy(Asked(Settings(), environ, tmp_path)))
    assert row.status == status
    if row.remedy:
        said = shell(f"{row.remedy.command}; env | grep -i no_proxy", tmp_path, **environ)
        after = environ | dict(line.split("=", 1) for line in said.splitlines())
        (row,) = bounded(oss.look_at_proxy(Asked(Settings(), after, tmp_path)))
        assert row.status == "ok"


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("https://203.0.113.1/v1", "skipped"),
        ("127.0.0.1:8000", "fail"),
        ("http://localhost:8000/v1", "fail"),
        ("http://127.0.0.5:8000/v1", "fail"),
    ],
)
def test_of_a_proxy_before_a_server_that_is_named_only_that_server_counts(
    url: str, status: str, tmp_path: Path
) -> None:
    environ = {"HTTP_PROXY": "http://p:1", "NO_PROXY": "example.org"}
    given = Asked(Settings(), environ, tmp_path, "", url)
    (row,) = bounded(oss.look_at_proxy(given))
    assert row.status == status
    if row.remedy:
        value = row.remedy.command.partition("=")[2]
        assert value.startswith("example.org,localhost,127.0.0.1") and value.count("127.0.0.1") == 1
        given = msgspec.structs.replace(given, environ={**environ, "NO_PROXY": value})
        (row,) = bounded(oss.look_at_proxy(given))
        assert row.status == "ok"


ROUTES = "/v1/chat/completions /v1/completions/ /v1/models /v1/responses /v1/embeddings /api/tags /api/chat"


@pytest.mark.parametrize("key", ["", "sk-theirs"])
@pytest.mark.parametrize("route", ROUTES.split())
def test_the_address_of_a_route_leads_to_the_base_url(route: str, key: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Faulty(only_v1(MODEL)) as server:
            server.key = key
            given = Asked(Settings(), {}, tmp_path, MODEL, f"{server.url}{route}")
            row = rows(await oss.look(given))["ollama.pull.shim"]
            command = f"codexgate doctor --url {server.url}/v1"
            assert (row.status, row.remedy and row.remedy.command) == ("fail", command)

    bounded(scenario())


@pytest.mark.parametrize("key", ["", "cg-theirs"])
@pytest.mark.parametrize("path", ["/openai/v1", "/ozwell/v1", "/openai/v1/chat/completions"])
def test_a_gate_is_never_put_in_front_of_a_gate(path: str, key: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Scripted(), listen=Listen(key=key, drain=0), described=False) as gate:
            given = Asked(Settings(), {}, tmp_path, "", f"{gate}{path}")
            row = rows(await oss.look(given))["ollama.pull.shim"]
            assert row.remedy and row.remedy.command == f"codexgate doctor --url {gate}/v1"
            given = Asked(Settings(), {}, tmp_path, MODEL, f"{gate}/v1")
            row = rows(await oss.look(given))["ollama.pull.shim"]
            command = f"codexgate connect codex --url {gate} -m {MODEL}" if key else ""
            assert (row.remedy.command if row.remedy else "") == command

    bounded(scenario())


@pytest.mark.parametrize(
    ("value", "command"),
    [
        ("http://127.0.0.9", "export OLLAMA_HOST=http://127.0.0.9:11434"),
        ("http://127.0.0.9/ollama", "export OLLAMA_HOST=http://127.0.0.9:11434/ollama"),
        ("http://[::1]/v1", "export OLLAMA_HOST='http://[::1]:11434'"),
        ("unix:///x", "unset OLLAMA_HOST"),
        ("http://h:99999", "unset OLLAMA_HOST"),
    ],
)
def test_a_port_is_put_where_a_port_stands(
    value: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with Faulty(good()) as usual:
            monkeypatch.setattr(oss, "DEFAULT", usual.url)
            row = rows(await oss.look(Asked(Settings(), {"OLLAMA_HOST": value}, tmp_path)))["ollama.host"]
            assert row.remedy and row.remedy.command == command

    bounded(scenario())


def test_the_registry_is_not_asked_from_here_for_an_ollama_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ollama_models, "is_loopback", lambda _: False)

    async def scenario() -> None:
        async with Faulty(good()) as there, Faulty({}) as theirs:
            settings = Settings(ollama=OllamaOptions(url=there.url))
            found = rows(await ollama.look(Asked(settings, {}, tmp_path, f"{theirs.url}/library/tiny:1b")))
            assert found["ollama.model.installed"].status == "fail"
            assert (found["ollama.registry"].status, theirs.seen) == ("skipped", [])

    bounded(scenario())


def test_a_gate_with_a_key_is_reached_as_a_provider(tmp_path: Path) -> None:
    loaded = {**tag(MODEL), "size_vram": 5_000_000_000, "context_length": 2048}

    async def scenario() -> None:
        async with Faulty({**good(), "/api/ps": {"models": [loaded]}}) as server:
            for key, begins in (("", "CODEX_OSS_BASE_URL="), ("cg-ours", "codexgate connect codex -m")):
                settings = Settings(
                    data_dir=tmp_path,
                    ollama=OllamaOptions(url=server.url),
                    server=ServerOptions(api_key=Secret(key)),
                )
                row = rows(await ollama.look(Asked(settings, {}, tmp_path, MODEL)))["ollama.context"]
                assert row.remedy and row.remedy.command.startswith(begins)

    bounded(scenario())


def test_an_address_that_is_none_is_not_said_to_hang(tmp_path: Path) -> None:
    for url in ("http://[::1", "ftp://h", "http://h:99999", "http://a b"):
        settings = Settings(ollama=OllamaOptions(url=url))
        found = bounded(ollama.look(Asked(settings, {"PATH": str(tmp_path)}, tmp_path, MODEL)))
        assert found[0].status == "fail" and "hangs" not in found[0].why
        assert bounded(oss.look_at_proxy(Asked(settings, {"HTTP_PROXY": "http://p:1"}, tmp_path)))


def test_a_sandbox_that_nobody_uses_is_no_failure(tmp_path: Path) -> None:
    real = find_binary("")
    text = f'case "$1" in sandbox) echo "bwrap: Permission denied"; exit 1;; *) exec {real} "$@";; esac'
    binary = str(program(tmp_path / "codex", text))
    settings = msgspec.structs.replace(
        Settings(), codex=msgspec.structs.replace(Settings().codex, binary=binary)
    )
    given = Asked(settings, {"PATH": search_path()}, tmp_path)
    assert rows(bounded(codex.look(given)))["codex.sandbox"].status == "warning"
    (tmp_path / ".codex").mkdir()
    assert rows(bounded(codex.look(given)))["codex.sandbox"].status == "fail"


def test_a_data_folder_that_cannot_be_made_is_told_and_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and real(path, mode))  # for root
    given = Asked(Settings(data_dir=tmp_path / "a/b"), {}, tmp_path)
    row = rows(bounded(system.look_at_access(given)))["system.data"]
    assert (row.status, "is not writable" in row.summary) == ("warning", True)
    assert rows(bounded(system.look_at_disk(given)))["system.disk"].status == "ok"


def test_the_date_of_an_answer_out_of_a_cache_is_no_clock_that_is_off(tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n%sContent-Length: 0\r\n\r\n"

    async def skew(more: bytes) -> float | None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head % more)
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            return await system._skew(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    fresh = bounded(skew(b""))
    assert fresh is not None and fresh > 0
    cached = bounded(skew(b"Age: %d\r\n" % fresh))
    assert cached is not None and abs(cached) < system.SKEW
    assert bounded(skew(b"Age: soon\r\n")) is None


def test_with_url_only_that_server_is_looked_at(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Faulty(good()) as ours:
            settings = Settings(
                ollama=OllamaOptions(url=ours.url),
                embeddings=EmbeddingOptions(provider="ollama", model="bge"),
            )
            given = Asked(settings, {}, tmp_path, "", "http://127.0.0.1:9/v1")
            assert (await embeddings.look(given), ours.seen) == ([], [])

    bounded(scenario())
