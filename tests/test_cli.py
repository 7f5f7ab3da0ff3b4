"""The command line as a whole: help, versions, exit codes, colours, completions, `serve`."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from codexgate.cli import main, serve, terminal
from codexgate.errors import STATUS, Fault, GateError
from codexgate.settings import load_settings

from .servers.program import COMMAND, codexgate, environment

IMPORTED = re.compile(r"^import time:.*\| +(\S+)$", re.MULTILINE)


def imported(home: Path, *arguments: str) -> set[str]:
    """The outermost names of every module that a command imports."""
    found = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "codexgate", *arguments],
        capture_output=True,
        text=True,
        env=environment(home),
        cwd=home,
        check=True,
    )
    return {name.partition(".")[0] for name in IMPORTED.findall(found.stderr)}


def test_version(tmp_path: Path) -> None:
    for arguments in (["--version"], ["--color", "never", "--version"]):
        found = codexgate(tmp_path, *arguments)
        assert re.fullmatch(rb"codexgate \d+\.\d+\.\d+\S*\n", found.stdout)
        assert (found.returncode, found.stderr) == (0, b"")


def test_version_imports_nothing(tmp_path: Path) -> None:
    assert not {"typer", "msgspec", "asyncio", "re"} & imported(tmp_path, "--version")


def test_small_commands_import_nothing_heavy(tmp_path: Path) -> None:
    heavy = {"aiohttp", "pydantic", "rich", "prompt_toolkit"}
    assert not (heavy | {"asyncio", "sqlite3"}) & imported(tmp_path, "--help")
    assert not heavy & imported(tmp_path, "models")
    assert not heavy & imported(tmp_path, "chat", "hi")


def test_help_lists_every_command_in_80_columns(tmp_path: Path) -> None:
    found = codexgate(tmp_path, "--help").stdout.decode()
    for name, (_, help) in main.COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(help)}$", found, re.MULTILINE)
    assert max(map(len, found.split("\n"))) <= 80
    assert codexgate(tmp_path).returncode == 2


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_has_help_and_a_stub_that_agrees(name: str, tmp_path: Path) -> None:
    assert main.load(name).name == name
    found = codexgate(tmp_path, name, "--help")
    assert found.returncode == 0
    assert found.stdout.startswith(b"Usage: codexgate " + name.encode())
    assert max(map(len, found.stdout.decode().split("\n"))) <= 80


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["chta"], 2, "Did you mean 'chat'?"),
        (["--color", "blue", "models"], 2, "'blue' is none of auto, always, never"),
        (["chat", "--max-tokens", "0", "hi"], 2, "0 is not at least 1"),
        (["chat", "--temperature", "warm", "hi"], 2, "'warm' is not a number"),
        (["chat", "--codex-sandbox", "none", "hi"], 2, "is none of read-only"),
        (["chat"], 2, "There is nothing to ask"),
        (["chat", "-m", "nope", "hi"], 5, "The model 'nope' does not exist"),
        (["chat", "--config", "no.toml", "hi"], 2, "no.toml"),
        (["models", "pull", "x"], 6, "No backend here can install models"),
        (["models", "show", "a\x1b[2Jb"], 5, "a\\x1b[2Jb"),
        (["serve", "--host", "0.0.0.0"], 4, "needs an API key. Make one: codexgate key make"),
    ],
)
def test_exit_codes(arguments: list[str], code: int, said: str, tmp_path: Path) -> None:
    found = codexgate(tmp_path, *arguments)
    assert found.returncode == code
    assert said in found.stderr.decode()
    assert b"Traceback" not in found.stderr
    assert b"\x1b" not in found.stderr
    assert found.stdout == b""


def test_an_error_is_json_too_where_json_was_asked_for(tmp_path: Path) -> None:
    found = codexgate(tmp_path, "models", "show", "nope", "--json")
    line = json.loads(found.stderr.splitlines()[-1])
    assert line["error"]["kind"] == "not_found"
    assert line["error"]["code"] == "model_not_found"


def test_every_kind_has_an_exit_code() -> None:
    codes = {kind: terminal.exit_code(Fault(kind, "x")) for kind in STATUS}
    assert {kind for kind, code in codes.items() if code == 1} == {
        *("method_not_allowed", "conflict", "too_large", "misdirected", "unsupported_media"),
        "upgrade_refused",
        *("rate_limited", "internal", "upstream"),
    }
    assert codes["unavailable"] == codes["timeout"] == 6
    assert codes["authentication"] == codes["permission"] == 4


def test_colour_is_for_terminals_unless_asked_for(tmp_path: Path) -> None:
    assert b"\x1b" not in codexgate(tmp_path, "models").stdout
    assert b"\x1b[1m" in codexgate(tmp_path, "--color", "always", "models").stdout


class _Tty:
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("choice", "variables", "wanted"),
    [
        ("auto", {}, True),
        ("auto", {"NO_COLOR": "1"}, False),
        ("auto", {"NO_COLOR": ""}, True),
        ("auto", {"TERM": "dumb"}, False),
        ("always", {"NO_COLOR": "1"}, True),
        ("never", {}, False),
    ],
)
def test_who_decides_on_colour(
    choice: terminal.Colour, variables: dict[str, str], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert terminal.wants_colour(choice, _Tty()) is wanted  # type: ignore[arg-type]


def complete(home: Path, words: str, **more: str) -> list[str]:
    asked = {"_CODEXGATE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "", **more}
    asked["COMP_CWORD"] = str(len(words.split(" ")) - 1)
    found = codexgate(home, more=asked)
    assert found.stderr == b""
    return found.stdout.decode().split()


def test_completion_knows_commands_flags_and_models(tmp_path: Path) -> None:
    assert complete(tmp_path, "codexgate c") == ["chat", "connect", "config"]
    assert complete(tmp_path, "codexgate chat --mo") == ["--model"]
    assert complete(tmp_path, "codexgate chat -m ") == ["demo"]
    assert complete(tmp_path, "codexgate models show d") == ["demo", "demo-embed"]
    assert complete(tmp_path, "codexgate serve --model x") == []


def test_completion_is_silent_when_it_cannot_know(tmp_path: Path) -> None:
    assert complete(tmp_path, "codexgate chat -m ", CODEXGATE_NONSENSE="1") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, tmp_path: Path) -> None:
    named = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    found = codexgate(tmp_path, "--show-completion", shell, more=named)
    assert b"_CODEXGATE_COMPLETE" in found.stdout


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["--help"], ["models"], ["models", "--json"], ["chat", "x"], ["chat", "x", "--json"]],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_is_told_nothing(arguments: list[str], unbuffered: str, tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    found = subprocess.run(
        [*COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env=environment(tmp_path, {"PYTHONUNBUFFERED": unbuffered}),
        check=False,
    )
    os.close(theirs)
    assert (found.returncode, found.stderr) == (1, b"")


# serve


class Served:
    """A gate that is served by a process."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "serve", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(home),
            cwd=home,
        )

    def read_until(self, words: str) -> str:
        assert self.process.stderr is not None
        seen = ""
        for line in self.process.stderr:
            seen += line
            if words in line:
                return seen
        raise AssertionError(f"it ended before it said {words!r}: {seen}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=15)
        return self.process.returncode, out, err


def test_serve_prints_a_banner_and_serves(tmp_path: Path) -> None:
    served = Served(tmp_path, "--port", "0")
    said = served.read_until("model = ")
    url = re.search(r'base_url = "(http://127\.0\.0\.1:\d+/v1)"', said)
    assert url
    assert f" on {url[1].removesuffix('/v1')}\n" in said
    assert re.search(r"^  demo +built in, 2 models$", said, re.MULTILINE)
    assert re.search(rf"^  data +{re.escape(str(tmp_path / 'kept'))}$", said, re.MULTILINE)
    assert re.search(r"^  key +none; `codexgate key make` makes one$", said, re.MULTILINE)
    assert 'api_key = "none"' in said
    assert 'model = "demo"' in said
    assert re.search(r'service\.init driver=demo .*routes="\d+, see http://\S+/docs"', said)
    with urllib.request.urlopen(f"{url[1]}/models", timeout=5) as answer:
        assert json.load(answer)["data"][0]["id"] == "demo"
    code, out, _ = served.stop()
    assert (code, out) == (0, "")


def test_serve_in_json_says_everything_in_the_log(tmp_path: Path) -> None:
    served = Served(tmp_path, "--port", "0", "--log-format", "json")
    line = json.loads(served.read_until("service.init"))
    assert line["url"].startswith("http://127.0.0.1:")
    assert line["driver"] == "demo"
    code, _, rest = served.stop(signal.SIGINT)
    assert code == 0
    assert all(json.loads(line) for line in rest.splitlines())


def test_serve_on_a_unix_socket_is_its_owners_alone(tmp_path: Path) -> None:
    served = Served(tmp_path, "--uds", "s", "--log-format", "text")
    served.read_until("curl --unix-socket")
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) & 0o077 == 0
    assert served.stop()[0] == 0


def test_serve_names_a_taken_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = codexgate(tmp_path, "serve", "--port", str(port))
    assert found.returncode == 1
    assert found.stderr.decode().count("\n") == 1
    assert f"127.0.0.1:{port} is taken" in found.stderr.decode()


def test_serve_tells_the_key_from_where_it_is_but_never_the_key(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("cg-secret\n")
    key.chmod(0o600)
    served = Served(tmp_path, "--port", "0", "--api-key-file", str(key))
    said = served.read_until("model = ")
    assert f"set in {key}" in said
    assert "cg-secret" not in said + served.stop()[2]


@pytest.mark.parametrize(
    ("flags", "has_key", "refused"),
    [
        ({}, False, ""),
        ({"server.host": "::1"}, False, ""),
        ({"server.host": "localhost"}, False, ""),
        ({"server.host": "127.0.0.2"}, False, ""),
        ({"server.host": "0.0.0.0"}, False, "needs an API key"),
        ({"server.host": "::"}, False, "needs an API key"),
        ({"server.host": "example.org"}, False, "needs an API key"),
        ({"server.host": "0.0.0.0"}, True, ""),
        ({"codex.sandbox": "workspace-write"}, False, "needs an API key"),
        ({"codex.sandbox": "workspace-write"}, True, ""),
        ({"codex.sandbox": "workspace-write", "server.host": "0.0.0.0"}, True, ""),
        ({"codex.sandbox": "danger-full-access"}, False, "needs an API key"),
        ({"codex.sandbox": "danger-full-access"}, True, ""),
        ({"codex.sandbox": "danger-full-access", "server.host": "0.0.0.0"}, True, "is not served on 0.0.0.0"),
        ({"codex.sandbox": "danger-full-access", "backends": ["demo"]}, False, ""),
    ],
)
def test_serve_refuses_an_open_door(
    flags: dict[str, object], has_key: bool, refused: str, tmp_path: Path
) -> None:
    settings = load_settings(flags, environ={}, cwd=tmp_path).settings
    if not refused:
        serve.refuse_open_door(settings, has_key=has_key)
        return
    with pytest.raises(GateError, match=refused) as raised:
        serve.refuse_open_door(settings, has_key=has_key)
    assert terminal.exit_code(raised.value.fault) == 4
