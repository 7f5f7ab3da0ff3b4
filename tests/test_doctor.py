"""The doctor itself: how it runs checks, what it hides, what `codexgate doctor` shows and does."""

import asyncio
import base64
import json
import os
import pty
import pwd
import re
import signal
import subprocess
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from rich.cells import cell_len

from codexgate.backends.openai import OpenAIOptions
from codexgate.cli.complete import check_ids
from codexgate.config import Secret
from codexgate.doctor import gate, mask, run
from codexgate.doctor.words import Asked, Check, Row
from codexgate.errors import Fault, GateError
from codexgate.settings import ServerOptions, Settings
from tests.causes import CAUSES
from tests.causes.bench import DEADLINES, patient
from tests.servers.codex_home import make_codex_home
from tests.servers.compatible import Compatible
from tests.servers.faulty import HANG, Faulty, ollama, only_v1, search_path, silent
from tests.servers.gateway import serving
from tests.servers.ollama import ScriptedOllama
from tests.servers.program import COMMAND, environment
from tests.servers.scripted import Scripted
from tests.support import LIMIT, unhurried
from tests.support import run as bounded

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/doctor.md").read_text("utf-8")
SECRET = "s3cr+t/é%Z9x"
MODEL = "qwen3:8b"


@pytest.fixture(autouse=True)
def time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """No deadline of a single look is tested here."""
    unhurried(monkeypatch, *DEADLINES)


def asked(home: Path, **more: Any) -> Asked:
    return Asked(**{"settings": Settings(), "environ": {}, "home": home, **more})


# Running


def check(id: str, look: Callable[[Asked], Awaitable[list[Row]]], deadline: float = 2.0) -> Check:
    return Check((id,), "gate", look, deadline)


def collect(home: Path, *checks: Check, whole: float = 10.0) -> list[run.Found]:
    async def scenario() -> list[run.Found]:
        return [found async for found in run.examine(asked(home), among=checks, whole=whole)]

    return bounded(scenario())


async def fine(_: Asked) -> list[Row]:
    return [Row("a.fine", "gate", "ok", "Fine.")]


async def crash(_: Asked) -> list[Row]:
    raise ZeroDivisionError("by zero")


async def hang(_: Asked) -> list[Row]:
    await asyncio.Event().wait()
    return []


def test_a_check_that_crashes_or_hangs_is_a_row_and_spoils_no_other(tmp_path: Path) -> None:
    found = collect(tmp_path, check("a.crash", crash), check("a.hang", hang, 0.05), check("a.fine", fine))
    rows = {each.row.id: each for each in found}
    assert rows["a.fine"].row.status == "ok"
    assert rows["a.crash"].row.status == "fail" and "ZeroDivisionError" in rows["a.crash"].row.summary
    assert rows["a.hang"].row.status == "fail" and "did not end" in rows["a.hang"].row.summary


def test_the_whole_ends_whatever_a_check_allows_itself(tmp_path: Path) -> None:
    (found,) = collect(tmp_path, check("a.hang", hang, 3600.0), whole=0.05)
    assert "did not end within" in found.row.summary


def test_rows_come_as_they_are_found(tmp_path: Path) -> None:
    async def scenario() -> None:
        go = asyncio.Event()

        async def wait(_: Asked) -> list[Row]:
            await go.wait()
            return [Row("a.wait", "gate", "ok", "Waited.")]

        rows = run.examine(
            asked(tmp_path), among=[check("a.wait", wait, LIMIT), check("a.fine", fine)], whole=LIMIT
        )
        assert (await anext(rows)).row.id == "a.fine"
        go.set()
        assert [found.row.id async for found in rows] == ["a.wait"]

    bounded(scenario())


def test_ids_are_unique_and_named_by_their_beginning() -> None:
    ids = run.ids()
    assert len(ids) == len(set(ids))
    assert run.wanted(["ollama.pull.shim"]) == {"ollama.pull.shim"}
    assert run.wanted(["ollama.model"]) == {id for id in ids if id.startswith("ollama.model.")}
    assert run.wanted([]) == set(ids)
    with pytest.raises(GateError, match="no check 'olama'"):
        run.wanted(["olama"])


def test_ids_complete() -> None:
    assert check_ids("olla")[:2] == ["ollama", "ollama.server"]
    assert check_ids("codex.s") == ["codex.sandbox"]


# Hiding


def spelled(secret: str) -> list[str]:
    data = secret.encode()
    inside = [base64.b64encode(before + data + b"xyz").decode() for before in (b"", b"u", b"us", b"usr:")]
    inside += [base64.urlsafe_b64encode(data).decode()]
    return [secret, quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1], data.hex(), *inside]


def test_a_secret_is_hidden_in_whatever_spelling(tmp_path: Path) -> None:
    settings = Settings(server=ServerOptions(api_key=Secret(SECRET)))
    hidden = mask.of(asked(tmp_path, settings=settings))
    for text in spelled(SECRET):
        shown = hidden.text(f"before {text} after")
        assert text not in shown and shown.startswith("before ") and shown.endswith(" after")
        assert len(shown) < len("before  after") + len(text)


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("OPENAI_API_KEY", SECRET, SECRET),
        ("HF_TOKEN", SECRET, SECRET),
        ("PGPASSWORD", SECRET, SECRET),
        ("HTTPS_PROXY", f"http://me:{quote(SECRET, safe='')}@proxy:3128", SECRET),
        ("WHATEVER", "redis://:pl4nted@cache", "pl4nted"),
        ("WHATEVER", "postgresql://cache/x?user=me&password=pl4n%24ted", "pl4n$ted"),
        ("OLLAMA_HOST", "me:pl4nted@gpu:11434", "pl4nted"),
        ("https_proxy", " pl4nted@proxy:3128", "pl4nted"),
        ("CODEX_OSS_BASE_URL", "me:pl4nted@[no address", "pl4nted"),
    ],
)
def test_secrets_of_the_environment_are_hidden(name: str, value: str, secret: str, tmp_path: Path) -> None:
    hidden = mask.of(asked(tmp_path, environ={name: value}))
    shown = json.dumps(hidden.value({f"k{value}": [value, secret, {"x": f"at {value} and {secret}"}]}))
    assert secret not in shown and quote(secret, safe="") not in shown


def test_home_and_user_are_hidden_and_words_are_not() -> None:
    hidden = mask.Mask((), Path("/home/frida"), "frida")
    assert (
        hidden.text("/home/frida/.codex and /home/frida.old, by frida")
        == "~/.codex and /home/USER.old, by USER"
    )
    assert hidden.text("/Users/frida/x, friday") == "/Users/USER/x, friday"
    service = mask.Mask((), Path("/usr/share/ollama"), "ollama")
    assert service.text("ollama in /usr/share/ollama") == "ollama in ~"


@pytest.mark.parametrize("user", ["user", "disk", "model", "full", "frida"])
def test_the_name_of_a_user_is_hidden_where_it_is_one_and_no_word_of_ours_is(user: str) -> None:
    hidden = mask.Mask((), Path(f"/data/homes/{user}"), user)
    prose = f"When the {user} is full, no {user} is kept; this user may. GET /v1/{user}"
    assert hidden.text(prose) == prose
    assert (
        hidden.text(f"/data/homes/{user}/x /home/{user}.old /Users/{user}/y")
        == "~/x /home/USER.old /Users/USER/y"
    )
    for told in (
        'role "{}" does not exist',
        "USER={} is set",
        "{}@box: no",
        "logged in as {}.",
        "by {}",
        "owner: {}",
    ):
        assert hidden.text(told.format(user)) == told.format("USER")
    if user not in ("user", "model"):  # folders have these names too
        assert hidden.text(f"/srv/{user}/a, /srv/{user}.") == "/srv/USER/a, /srv/USER."


def test_the_home_of_the_account_is_hidden_whatever_home_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = pwd.struct_passwd(("frida", "x", 1, 1, "", "/data/homes/frida", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: account)
    for home, shown in (("/", "~USER/x"), (tmp_path, "~USER/x"), ("/data/homes/frida", "~/x")):
        assert mask.of(asked(Path(home))).text("/data/homes/frida/x") == shown


def test_a_disk_that_hangs_does_not_hold_the_mask_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    monkeypatch.setattr(mask, "key_file", lambda _: never.wait())
    monkeypatch.setattr(mask, "DEADLINE", 0.05)

    async def scenario() -> None:
        hidden = await mask.in_time(asked(tmp_path, environ={"HF_TOKEN": "pl4nted"}))
        assert hidden.text(f"pl4nted in {tmp_path}") == "******** in ~"
        never.set()

    bounded(scenario())


def test_the_key_file_is_hidden(tmp_path: Path) -> None:
    (tmp_path / "api-key").write_text(f"cg-{'k' * 20}\n")
    hidden = mask.of(asked(tmp_path, settings=Settings(data_dir=tmp_path)))
    assert "kkkk" not in hidden.text(f"it is cg-{'k' * 20}")


def test_a_pipe_is_no_key_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "api-key", 0o600)
    ran = doctor(tmp_path, "--only", "system.key", more={"CODEXGATE_DATA_DIR": str(tmp_path)})
    assert (ran.returncode, b"is no file" in ran.stdout) == (1, True)


# The gate's port


def on(port: int, home: Path) -> Asked:
    return asked(home, settings=Settings(server=ServerOptions(port=port)))


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux tells who listens")
def test_a_port_that_is_taken_is_told_with_who_took_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Faulty({}) as other:
            (row,) = await gate.look(on(other.port, tmp_path))
            assert f"(pid {os.getpid()})" in row.summary
            await other.stop()
            (row,) = await gate.look(on(other.port, tmp_path))
            assert (row.status, "is free" in row.summary) == ("ok", True)

    bounded(scenario())


def test_a_gate_on_its_port_is_the_gate(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Scripted(), described=False) as url:
            (row,) = await gate.look(on(int(url.rpartition(":")[2]), tmp_path))
            assert (row.status, row.summary) == ("ok", f"The gate answers at {url}.")

    bounded(scenario())


@pytest.mark.parametrize(
    ("model", "status", "says"),
    [
        ("demo", "ok", "demo is there"),
        ("demo-embed", "ok", "demo-embed is there (embedding)"),
        ("big", "ok", "big is there"),
        ("codex/gpt", "fail", "The model 'codex/gpt' does not exist here"),
        ("gpu/big", "ok", "gpu/big is there"),
        ("gpu/small", "fail", "gpu/small"),
    ],
)
def test_a_model_of_another_backend(model: str, status: str, says: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Faulty(only_v1("big")) as server:
            servers = {"gpu": OpenAIOptions(base_url=f"{server.url}/v1")}
            settings = Settings(data_dir=tmp_path, openai=servers, backends=("ollama", "gpu", "demo"))
            (row,) = await gate.look_at_model(asked(tmp_path, settings=settings, model=model))
            assert (row.status, says in row.summary) == (status, True), row

    bounded(scenario())


def test_settings_that_cannot_be_read_are_a_row() -> None:
    row = gate.settings_row(Fault("invalid_request", "a.toml:1: x is not a setting.", "Did you mean y?"))
    assert row.status == "fail" and row.remedy and row.remedy.text == "Did you mean y?"
    assert gate.ignored_row(()).status == "ok"
    assert gate.ignored_row(("OLLAMA_HOST",)).status == "warning"


# The command


def doctor(
    home: Path, *arguments: str, more: dict[str, str] | None = None, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    made = make_codex_home(home / "codex-home", "http://127.0.0.1:9/v1")
    variables = {"CODEX_HOME": str(made), "CODEXGATE_SERVER_PORT": "0", **(more or {})}
    return patient(home, *arguments, more=variables, stdin=stdin)


async def doctor_async(home: Path, *arguments: str, **more: str) -> tuple[int, str, str]:
    """The same while the loop serves."""
    ran = await asyncio.to_thread(doctor, home, *arguments, more=more)
    return ran.returncode, ran.stdout.decode(), ran.stderr.decode()


async def well(home: Path, *arguments: str) -> tuple[int, str, str]:
    """Beside a good Ollama, whatever there is on this machine."""
    async with Faulty(ollama()) as server:
        variables = {"CODEXGATE_OLLAMA_URL": server.url, "CODEX_OSS_BASE_URL": f"{server.url}/v1"}
        return await doctor_async(home, *arguments, PATH=search_path(), **variables)


def test_where_all_is_well_it_says_so(tmp_path: Path) -> None:
    code, out, said = bounded(well(tmp_path))
    assert (code, said) == (0, "")
    told = re.search(r"^(\d+) ok, (\d+) skipped \(--verbose shows them\)$", out.splitlines()[-1])
    assert told, out
    assert [line[:1] for line in out.splitlines()].count("·") == 0
    _, more, _ = bounded(well(tmp_path, "--verbose"))
    assert [line[:1] for line in more.splitlines()].count("·") == int(told[2])
    assert "\x1b" not in out
    assert max(cell_len(line) for line in out.splitlines()) <= 80


def test_the_report_as_json(tmp_path: Path) -> None:
    _, out, _ = bounded(well(tmp_path, "--json"))
    report = json.loads(out)
    assert [*report] == ["schema_version", "generated_at", "version", "overall", "checks"]
    assert (report["schema_version"], report["overall"]) == (1, "ok")
    for row in report["checks"]:
        assert [*row] == "id category status summary details remedy duration_ms".split()
        assert row["id"] in run.ids()
    assert str(tmp_path) not in out


def test_the_server_of_the_story(tmp_path: Path) -> None:
    """`codex --oss` against it says `failed to start pull: HTTP 404 Not Found`; see test_codex_oss."""

    async def scenario() -> None:
        async with Faulty(only_v1(MODEL)) as server:
            arguments = ("--model", MODEL, "--url", f"{server.url}/v1", "--only", "ollama")
            code, out, _ = await doctor_async(tmp_path, *arguments, CODEXGATE_SERVER_PORT="8140")
            assert code == 1
            assert f"✗ {'ollama.pull.shim':25}" in out
            assert "no /api/tags (404)" in " ".join(out.split())
            start = (
                "CODEX_OSS_BASE_URL=http://127.0.0.1:8140/v1 codex --oss --local-provider ollama -m qwen3:8b"
            )
            assert f"→ {start}\n" in out
            server.routes = ollama()
            code, out, _ = await doctor_async(tmp_path, *arguments)
            assert (code, "✗" in out) == (0, False), out

    bounded(scenario())


def test_a_server_that_is_named_gets_a_card(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Scripted(), described=False) as url:
            code, out, _ = await doctor_async(tmp_path, "--url", url, "--json")
        report = json.loads(out)
        assert {"models", "chat", "/api/tags"} <= {row["feature"] for row in report["card"]["rows"]}
        assert {row["category"] for row in report["checks"]} <= {"ollama", "network"}
        assert code == 0

    bounded(scenario())


SHORT = """
import codexgate.cli.doctor as doctor, codexgate.doctor.reach as reach
doctor.WHOLE, reach.ANSWER = 4.0, 0.3
from codexgate.__main__ import main
main()
"""
"""The doctor with less patience."""


@pytest.mark.parametrize("server", ["that says nothing", "whose model says nothing"])
def test_a_card_has_what_the_checks_left_of_the_time(server: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with silent() as port, Compatible("a stall") as slow:
            url = f"http://127.0.0.1:{port}" if server == "that says nothing" else slow.url
            process = await asyncio.create_subprocess_exec(
                *(COMMAND[0], "-c", SHORT, "doctor", "--json", "--url", url),
                env=environment(tmp_path),
                cwd=tmp_path,
                stdout=subprocess.PIPE,
            )
            out, _ = await process.communicate()
        rows = {row["feature"]: row for row in json.loads(out)["card"]["rows"]}
        assert rows["chat"]["verdict"] == "skipped"
        assert re.fullmatch("no time was left after [0-4] s", rows["chat"]["evidence"])
        assert rows["models"]["verdict"] == ("skipped" if server.startswith("that") else "yes")

    bounded(scenario())


def test_it_neither_asks_nor_hangs_without_a_terminal(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Faulty({"/api/tags": HANG, "/api/version": HANG, "/v1/models": HANG}) as server:
            environ = environment(tmp_path, {"CODEXGATE_OLLAMA_URL": server.url})
            process = await asyncio.create_subprocess_exec(
                "/bin/sh",
                "-c",
                'exec "$@" <&-',
                "sh",
                *COMMAND,
                "doctor",
                "--only",
                "ollama",
                env=environ,
                cwd=tmp_path,
                stdout=subprocess.PIPE,
            )
            out, _ = await process.communicate()
            assert (process.returncode, "did not answer in time" in " ".join(out.decode().split())) == (
                1,
                True,
            )

    bounded(scenario())


def test_who_may_not_be_asked_has_to_say_yes(tmp_path: Path) -> None:
    ran = doctor(tmp_path, "--fix")
    assert (ran.returncode, b"--fix --yes" in ran.stderr) == (2, True)


def test_an_unknown_check_is_a_mistake(tmp_path: Path) -> None:
    ran = doctor(tmp_path, "--only", "nonsense")
    assert (ran.returncode, b"no check 'nonsense'" in ran.stderr) == (2, True)


def test_fix_installs_a_model_that_is_missing_and_looks_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ScriptedOllama() as server:
            arguments = ("--model", "tiny", "--only", "ollama.model.installed")
            variables = {"CODEXGATE_OLLAMA_URL": server.url, "HTTPS_PROXY": "http://proxy.invalid:1"}
            code, out, _ = await doctor_async(tmp_path, *arguments, **variables)
            assert (code, "→ codexgate models pull tiny" in out) == (1, True)
            code, out, err = await doctor_async(tmp_path, *arguments, "--fix", "--yes", **variables)
            assert (code, "tiny:latest is installed" in out) == (0, True), out + err
            assert "success" in err

    bounded(scenario())


def test_fix_narrows_what_others_can_read(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("cg-0123456789\n")
    key.chmod(0o644)
    more = {"CODEXGATE_SERVER_API_KEY_FILE": str(key)}
    assert doctor(tmp_path, "--only", "system.key", more=more).returncode == 1
    assert key.stat().st_mode & 0o777 == 0o644, "without --fix nothing is changed"
    ran = doctor(tmp_path, "--only", "system.key", "--fix", "--yes", more=more)
    assert (ran.returncode, key.stat().st_mode & 0o777) == (0, 0o600), ran.stdout


@pytest.mark.parametrize(("answer", "mode"), [(b"\n", 0o644), (b"no\n", 0o644), (b"y\n", 0o600)])
def test_on_a_terminal_a_remedy_is_run_after_a_yes(answer: bytes, mode: int, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("cg-0123456789\n")
    key.chmod(0o644)
    ours, theirs = pty.openpty()
    os.write(ours, answer)
    environ = environment(tmp_path, {"CODEXGATE_SERVER_API_KEY_FILE": str(key)})
    command = [*COMMAND, "doctor", "--only", "system.key", "--fix"]
    ran = subprocess.run(command, stdin=theirs, capture_output=True, env=environ, cwd=tmp_path, timeout=30)
    os.close(ours)
    os.close(theirs)
    assert b"? [y/N]" in ran.stderr
    assert (key.stat().st_mode & 0o777, ran.returncode) == (mode, 0 if mode == 0o600 else 1)


def test_broken_settings_do_not_stop_it(tmp_path: Path) -> None:
    ran = doctor(tmp_path, "--only", "gate", more={"CODEXGATE_SERVER_PORT": "many"})
    assert ran.returncode == 1
    assert b"gate.settings" in ran.stdout and b"gate.port" in ran.stdout


PLANTED = {
    "CODEXGATE_SERVER_API_KEY": "pl4nted-key-1",
    "CODEXGATE_THREADS_REDIS_URL": "redis://:pl4nted-key-2@127.0.0.1:1/0",
    "CODEXGATE_OPENAI_GPU_BASE_URL": "http://127.0.0.1:1/v1",
    "CODEXGATE_OPENAI_GPU_API_KEY": "pl4nted-key-3",
    "CODEXGATE_OLLAMA_URL": "http://me:pl4nted-key-4@127.0.0.1:1",
    "OPENAI_API_KEY": "pl4nted-key-5",
    "HTTP_PROXY": "http://me:pl4nted-key-6@proxy.invalid:1",
    "CODEX_OSS_BASE_URL": "http://me:pl4nted-key-7@127.0.0.1:1/v1",
    "OLLAMA_HOST": "http://me:pl4nted-key-8@127.0.0.1:1",
}
SCHEMELESS = {
    "CODEXGATE_OLLAMA_URL": "me:pl4nted-key-4@127.0.0.1:1",
    "HTTP_PROXY": "me:pl4nted-key-6@proxy.invalid:1",
    "CODEX_OSS_BASE_URL": "me:pl4nted-key-7@127.0.0.1:1",
    "OLLAMA_HOST": "pl4nted-key-8@127.0.0.1:1",
}


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        (["--json"], {}),
        (["--verbose"], {}),
        (["--json"], SCHEMELESS),
        (["--verbose"], SCHEMELESS),
        (["--json"], {"CODEX_OSS_BASE_URL": "http://127.0.0.1:1/v1?token=pl4nted-key-7"}),
        (["--json", "--url", PLANTED["CODEX_OSS_BASE_URL"]], {}),
        (["--json", "--url", "me:pl4nted-key-9@127.0.0.1:1"], {}),
        (["--verbose", "--url", "pl4nted-key-9@127.0.0.1:1"], {}),
        (["--json", "--url", "http://127.0.0.1:1/v1?api_key=pl4nted-key-9"], {}),
        (["--verbose", "--url", "127.0.0.1:1/v1?a=b&key=pl4nted-key-9"], {}),
    ],
)
def test_planted_secrets_are_in_no_output(arguments: list[str], more: dict[str, str], tmp_path: Path) -> None:
    ran = doctor(tmp_path, *arguments, more=PLANTED | more)
    shown = (ran.stdout + ran.stderr).decode()
    assert ran.returncode == 1 and "127.0.0.1:1" in shown
    for number in range(1, 10):
        for piece in spelled(f"pl4nted-key-{number}"):
            assert piece not in shown, piece
    assert str(tmp_path) not in shown


HANGING = """
import asyncio, sys, threading
from codexgate.doctor import run
from codexgate.doctor.words import Check

async def look(asked):
    await asyncio.to_thread(threading.Event().wait)
    return []

checks = (Check(("gate.port",), "gate", look, float(sys.argv.pop())),)
run.checks = lambda: checks
from codexgate.__main__ import main
main()
"""
"""The doctor with a check that waits in a thread for what never comes, as for a name server or a dead disk."""


def test_a_thread_that_hangs_does_not_hold_the_end_up(tmp_path: Path) -> None:
    command = [COMMAND[0], "-c", HANGING, "doctor", "--only", "gate.port", "0.1"]
    ran = subprocess.run(command, env=environment(tmp_path), cwd=tmp_path, capture_output=True, timeout=30)
    assert (ran.returncode, b"did not end within" in ran.stdout) == (1, True), ran.stderr


def test_ctrl_c_ends_it_whatever_hangs(tmp_path: Path) -> None:
    command = [COMMAND[0], "-c", HANGING, "doctor", "--only", "gate", "60"]
    process = subprocess.Popen(
        command,
        env=environment(tmp_path),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert b"gate.settings" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, b"Traceback" in said) == (130, False), said


# Its page


def test_every_check_has_a_section() -> None:
    sections = re.findall(r"^### `([\w.]+)`$", PAGE, re.MULTILINE)
    assert sorted(sections) == sorted(run.ids())


def test_a_section_mends_by_the_command_of_its_row() -> None:
    sections = dict(re.findall(r"^### `([\w.]+)`\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
    for cause in CAUSES:
        head = " ".join(cause.command.split()[:2])
        if head.startswith("chmod"):
            assert head in sections[cause.id], cause.id
    assert "chmod -R" not in PAGE


def test_every_section_says_what_why_and_what_to_do() -> None:
    for section in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]:
        assert all(f"**{word}.**" in section for word in ("What", "Why", "Mend")), section
