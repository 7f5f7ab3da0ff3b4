"""The command line as a whole: help, versions, exit codes, colours, completions, `serve`."""

import json
import os
import pty
import re
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from codexgate import door
from codexgate.cli import main, serve, terminal
from codexgate.errors import STATUS, Fault, GateError
from codexgate.records import Health
from codexgate.settings import load_settings

from .servers.program import COMMAND, codexgate, environment

MAKES = re.compile(r"\b(mkdir|makedirs)\(")
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
        (["chat", "--temperature", "nan", "hi"], 2, "'nan' is not a number"),
        (["chat", "--effort", "silly", "hi"], 2, "'silly' is none of minimal, low, medium, high"),
        (["chat", "--codex-sandbox", "none", "hi"], 2, "is none of read-only"),
        (["chat"], 2, "There is nothing to ask"),
        (["chat", "-m", "nope", "hi"], 5, "The model 'nope' does not exist"),
        (["chat", "--config", "no.toml", "hi"], 2, "no.toml"),
        (["models", "pull", "x"], 6, "No backend here can install models"),
        (["models", "show", "a\x1b[2Jb"], 5, "a\\x1b[2Jb"),
        (["serve", "--backend", "codex", "--codex-cwd", "no"], 2, "There is no folder no."),
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


def test_a_missing_login_has_the_exit_code_of_one(tmp_path: Path) -> None:
    more = {"CODEXGATE_BACKENDS": "codex", "CODEX_HOME": str(tmp_path / "none")}
    found = codexgate(tmp_path, "chat", "-m", "codex/x", "hi", more=more)
    assert (found.returncode, b"Codex is not signed in." in found.stderr) == (4, True)


@pytest.mark.parametrize(
    ("message", "advice", "text"),
    [
        ("It is down.", "Start it.", "It is down. Start it."),
        ("Ollama: file does not exist", "See the names.", "Ollama: file does not exist. See the names."),
        ("Is it there?", "Look.", "Is it there? Look."),
        ("not found", "", "not found"),
        ("", "Start it.", "Start it."),
    ],
)
def test_what_happened_and_what_to_do_are_two_sentences(message: str, advice: str, text: str) -> None:
    assert Fault("upstream", message, advice).text == Health("down", message, advice=advice).text == text


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


PATIENT = """
import codexgate.cli.complete
codexgate.cli.complete.PATIENCE = 15.0
from codexgate.__main__ import main
main()
"""
"""The program with more time for a completion than a person has: the machine may be busy."""


def complete(home: Path, words: str, **more: str) -> list[str]:
    asked = {"_CODEXGATE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "", **more}
    asked["COMP_CWORD"] = str(len(words.split(" ")) - 1)
    command = [sys.executable, "-c", PATIENT]
    found = subprocess.run(command, env=environment(home, asked), cwd=home, capture_output=True, timeout=30)
    assert found.stderr == b""
    return found.stdout.decode().split()


def test_completion_knows_commands_flags_and_models(tmp_path: Path) -> None:
    assert complete(tmp_path, "codexgate c") == ["chat", "connect", "config"]
    assert complete(tmp_path, "codexgate chat --mo") == ["--model"]
    assert complete(tmp_path, "codexgate chat -m ") == ["demo"]
    assert complete(tmp_path, "codexgate models show d") == ["demo", "demo-embed"]
    assert complete(tmp_path, "codexgate serve --model x") == []
    assert complete(tmp_path, "codexgate serve --backend ") == ["codex", "ollama", "demo", "local"]
    assert complete(tmp_path, "codexgate chat --session ") == []
    codexgate(tmp_path, "chat", "--session", "work", "hi")
    assert complete(tmp_path, "codexgate chat --session w") == ["work"]


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


def redirected(home: Path, redirections: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command by a shell, its streams as `redirections` say."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirections}', "sh", *COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment(home),
        cwd=home,
        timeout=50,
        check=False,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["--help"],
        ["models"],
        ["models", "--json"],
        ["chat", "x"],
        ["config"],
        ["chat", "x", "--json"],
    ],
)
@pytest.mark.parametrize(
    ("redirection", "why"), [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")]
)
def test_an_output_that_cannot_be_written_is_told_in_a_line(
    arguments: list[str], redirection: str, why: str, tmp_path: Path
) -> None:
    found = redirected(tmp_path, redirection, *arguments)
    assert (found.returncode, found.stdout) == (1, b"")
    assert found.stderr.decode() == f"codexgate: The output cannot be written: {why}.\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
@pytest.mark.parametrize(
    ("redirections", "arguments", "code"),
    [
        ("2>/dev/full", ["chat", "-m", "nope", "x"], 5),
        ("2>&-", ["chat", "-m", "nope", "x"], 5),
        ("2>/dev/full", ["chat", "--effort", "silly", "x"], 2),
        ("2>/dev/full", ["chat", "--memory", "nope", "x"], 0),
        ("2>&-", ["models"], 0),
        ("<&-", ["chat", "x"], 0),
        ("<&-", ["chat"], 2),
        ("0>there", ["chat", "x"], 2),
        ("<&- >&- 2>&-", ["models"], 1),
    ],
)
def test_streams_that_cannot_be_used_change_no_exit_code(
    redirections: str, arguments: list[str], code: int, tmp_path: Path
) -> None:
    found = redirected(tmp_path, redirections, *arguments)
    assert found.returncode == code
    assert b"Traceback" not in found.stderr
    assert bool(found.stdout) == (code == 0)


@pytest.mark.parametrize(
    "arguments",
    [["chat", "hi"], ["models"], ["memory", "persist", "x"], ["key", "make"], ["connect", "codex"]],
    ids=" ".join,
)
def test_what_is_made_for_the_data_is_its_owners_alone(arguments: list[str], tmp_path: Path) -> None:
    """Whatever command is the first; with the packaged Codex, which gets a home of its own there."""
    kept = tmp_path / "a" / "b" / "kept"
    names = {"CODEXGATE_DATA_DIR": str(kept), "CODEXGATE_BACKENDS": "codex,demo"}
    before = os.umask(0o022)
    try:
        codexgate(tmp_path, *arguments, more=names)
    finally:
        os.umask(before)
    folders = [kept, kept.parent, kept.parent.parent, *filter(Path.is_dir, kept.iterdir())]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in folders}
    assert set(modes.values()) == {0o700}, modes


def test_folders_are_made_in_one_place() -> None:
    package = Path(main.__file__).parent.parent
    makers = {path.stem for path in package.rglob("*.py") if MAKES.search(path.read_text("utf-8"))}
    assert makers == {"folders", "worktree"}  # which makes one in git's own


# serve


class Served:
    """A gate that is served by a process."""

    def __init__(self, home: Path, *arguments: str, more: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "serve", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(home, more),
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
        out, err = self.process.communicate(timeout=30)
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
    with urllib.request.urlopen(f"{url[1]}/models", timeout=30) as answer:
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


def test_a_hangup_reads_the_settings_anew(tmp_path: Path) -> None:
    def asked(key: str = "") -> tuple[int, set[str]]:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        request = urllib.request.Request(f"{url}/v1/models/nick", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, {json.load(answer)["id"]}
        except urllib.error.HTTPError as error:
            return error.code, set()

    def hang_up(text: str, event: str) -> dict[str, Any]:
        file.write_text(text)
        served.process.send_signal(signal.SIGHUP)
        told: dict[str, Any] = json.loads(served.read_until(event).splitlines()[-1])
        return told

    file = tmp_path / "gate.toml"
    file.write_text("")
    served = Served(tmp_path, "--port", "0", "--log-format", "json", "--config", str(file))
    url = json.loads(served.read_until("service.init"))["url"]
    assert asked() == (404, set())
    told = hang_up(
        '[server]\napi_key = "secret"\n[aliases]\nnick = "demo"\n[retrieval]\nlimit = 3\n[codex]\nidle_timeout = 9.0\n[ollama]\nnum_ctx = 4096\n',
        "settings.reread",
    )
    assert told["after_restart"] == "codex.idle_timeout,ollama.num_ctx,retrieval.limit"
    assert asked() == (401, set())
    assert asked("secret")[0] == 200
    told = hang_up("[server]\napi_kye = 1\n", "settings.refused")
    assert "api_kye" in told["reason"]
    assert asked("secret")[0] == 200, "what was good before still counts"
    hang_up("", "settings.reread")
    assert asked() == (404, set())
    assert served.stop()[0] == 0


OWN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_gate_goes_with_its_terminal(tmp_path: Path) -> None:
    ours, its = pty.openpty()
    served = subprocess.Popen(
        [sys.executable, "-c", OWN_TERMINAL, *COMMAND, "serve", "--port", "0"],
        stdin=its,
        stdout=its,
        stderr=its,
        env=environment(tmp_path),
        start_new_session=True,
    )
    os.close(its)
    said = b""
    while b"codexgate connect CLIENT" not in said:
        said += os.read(ours, 4096)
    os.close(ours)
    try:
        assert served.wait(timeout=30) == 0
    finally:
        served.kill()
        served.wait()


def test_what_a_hangup_changes_is_documented() -> None:
    text = (Path(main.__file__).parents[3] / "docs" / "settings.md").read_text("utf-8")
    section = text.split("## While it runs")[1].split("\n## ")[0]
    assert set(re.findall(r"`([a-z_.]+)`", section)) == serve.REREAD | {"after_restart"}


def test_a_hangup_opens_no_door(tmp_path: Path) -> None:
    file = tmp_path / "gate.toml"
    file.write_text('[server]\nhost = "0.0.0.0"\napi_key = "secret"\n')
    served = Served(tmp_path, "--port", "0", "--log-format", "json", "--config", str(file))
    port = json.loads(served.read_until("service.init"))["url"].rpartition(":")[2]
    file.write_text('[server]\nhost = "127.0.0.1"\n')  # which is not where it listens
    served.process.send_signal(signal.SIGHUP)
    assert "0.0.0.0 needs an API key" in served.read_until("settings.refused")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=30)
    served.stop()


def test_nor_does_one_that_gives_a_name_a_sandbox(tmp_path: Path) -> None:
    file = tmp_path / "gate.toml"
    file.write_text('[aliases.nick]\nmodel = "demo"\n')
    more = {"CODEXGATE_BACKENDS": "demo,codex", "CODEXGATE_CODEX_BINARY": str(tmp_path / "none")}
    served = Served(tmp_path, "--port", "0", "--log-format", "json", "--config", str(file), more=more)
    port = json.loads(served.read_until("service.init"))["url"].rpartition(":")[2]
    file.write_text('[aliases.writer]\nmodel = "demo"\nsandbox = "workspace-write"\n')
    served.process.send_signal(signal.SIGHUP)
    assert "sandbox workspace-write needs an API key" in served.read_until("settings.refused")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models/writer", timeout=30)
    served.stop()


def test_serve_on_a_unix_socket_is_its_owners_alone(tmp_path: Path) -> None:
    served = Served(tmp_path, "--uds", "s", "--log-format", "text")
    said = served.read_until("curl --unix-socket")
    assert re.search(r"service\.init .*routes=\d+$", said, re.MULTILINE)
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) & 0o077 == 0
    assert served.stop()[0] == 0


def ask_at(path: Path, request: bytes) -> bytes:
    """What a gate at the Unix socket answers, to its end."""
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(30)
        caller.connect(str(path))
        caller.sendall(request)
        return b"".join(iter(lambda: caller.recv(65536), b""))


def test_serve_leaves_a_live_gate_its_socket_and_takes_a_dead_ones(tmp_path: Path) -> None:
    asked = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    first = Served(tmp_path, "--uds", "s")
    first.read_until("curl --unix-socket")
    found = codexgate(tmp_path, "serve", "--uds", "s", more={"CODEXGATE_DATA_DIR": str(tmp_path / "other")})
    assert found.returncode == 1
    assert found.stderr == b"codexgate: s is taken. Stop what listens there, or take another path.\n"
    assert b" 200 " in ask_at(tmp_path / "s", asked)
    first.stop(signal.SIGKILL)
    assert (tmp_path / "s").is_socket()
    next_one = Served(tmp_path, "--uds", "s")
    next_one.read_until("curl --unix-socket")
    assert b" 200 " in ask_at(tmp_path / "s", asked)
    assert next_one.stop()[0] == 0


def test_a_second_gate_on_a_data_folder_names_the_first_and_ends(tmp_path: Path) -> None:
    first = Served(tmp_path, "--port", "0")
    url = re.search(r"http://127\.0\.0\.1:\d+", first.read_until("model = "))
    assert url
    found = codexgate(tmp_path, "serve", "--port", "0")
    assert (found.returncode, found.stderr.decode()) == (
        1,
        f"codexgate: Another gate uses {tmp_path / 'kept'}: process {first.process.pid}, {url[0]}. "
        "Stop it, or give this one its own: CODEXGATE_DATA_DIR=FOLDER codexgate serve\n",
    )
    assert codexgate(tmp_path, "chat", "hi").returncode == 0  # who is no gate may come in
    first.stop(signal.SIGKILL)
    next_one = Served(tmp_path, "--port", "0")
    next_one.read_until("model = ")
    assert next_one.stop()[0] == 0


def test_serve_leaves_what_is_no_socket(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("mine")
    found = codexgate(tmp_path, "serve", "--uds", "s")
    assert (found.returncode, found.stderr) == (
        1,
        b"codexgate: s is there, and no socket. Take another path.\n",
    )
    assert (tmp_path / "s").read_text() == "mine"
    found = codexgate(tmp_path, "serve", "--uds", "s" * 200)
    assert (found.returncode, found.stderr.count(b"\n"), b"too long" in found.stderr) == (1, 1, True)


@pytest.mark.parametrize("numbers", [("SIGINT", "SIGINT"), ("SIGTERM", "SIGTERM"), ("SIGINT", "SIGTERM")])
def test_a_second_signal_ends_serve_at_once_and_streams_are_told(
    numbers: tuple[str, str], tmp_path: Path
) -> None:
    served = Served(tmp_path, "--uds", "s", more={"CODEXGATE_DEMO_PACE": "1"})
    served.read_until("curl --unix-socket")
    body = b'{"model": "demo", "stream": true, "messages": [{"role": "user", "content": "hi"}]}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(30)
        caller.connect(str(tmp_path / "s"))
        caller.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        told = b""
        while b"You" not in told:
            told += caller.recv(65536)
        served.process.send_signal(signal.Signals[numbers[0]])
        served.read_until("service.stop")
        code, out, err = served.stop(signal.Signals[numbers[1]])
        assert (code, out, err.count("Traceback")) == (130, "", 0), err
        told += b"".join(iter(lambda: caller.recv(65536), b""))
    assert b'"error"' in told and told.endswith(b"0\r\n\r\n")


def test_serve_tells_which_names_of_the_settings_no_model_has(tmp_path: Path) -> None:
    (tmp_path / "codexgate.toml").write_text(
        'default_model = "nosuch"\n[aliases]\ngood = "demo"\nbad = "nope"\n'
    )
    served = Served(tmp_path, "--port", "0")
    said = served.read_until("model = ")
    assert re.search(r"model\.missing setting=default_model reason=.*'nosuch' does not exist", said)
    assert re.search(r"model\.missing setting=aliases\.bad reason=.*'nope', for which 'bad' stands", said)
    assert "setting=aliases.good" not in said
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
        ({"aliases.x": "read-only"}, False, ""),
        ({"aliases.x": "read-only", "codex.sandbox": "workspace-write"}, False, "needs an API key"),
        ({"aliases.x": "workspace-write"}, False, "sandbox workspace-write needs an API key"),
        ({"aliases.x": "danger-full-access"}, True, ""),
        (
            {"aliases.x": "danger-full-access", "aliases.y": "read-only", "server.host": "0.0.0.0"},
            True,
            "danger-full-access is not served on 0.0.0.0",
        ),
    ],
)
def test_serve_refuses_an_open_door(
    flags: dict[str, object], has_key: bool, refused: str, tmp_path: Path
) -> None:
    names = {
        key.removeprefix("aliases."): value for key, value in flags.items() if key.startswith("aliases.")
    }
    file = tmp_path / "gate.toml"
    file.write_text(
        "".join(f'[aliases.{name}]\nmodel = "m"\nsandbox = "{value}"\n' for name, value in names.items())
    )
    flags = {key: value for key, value in flags.items() if not key.startswith("aliases.")}
    settings = load_settings(flags, environ={}, cwd=tmp_path, config=file).settings
    if not refused:
        door.refuse_open(settings, has_key=has_key)
        return
    with pytest.raises(GateError, match=refused) as raised:
        door.refuse_open(settings, has_key=has_key)
    assert terminal.exit_code(raised.value.fault) == 4
