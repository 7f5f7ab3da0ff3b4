"""The doctor about Codex: the real program, with surroundings or a wrapper that spoil one thing at a time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from codexgate.backends.codex.find import find_binary
from codexgate.backends.codex.options import CodexOptions
from codexgate.doctor import codex
from codexgate.doctor.words import Asked, Row, Status
from codexgate.settings import Settings
from tests.servers.codex_home import make_codex_home
from tests.servers.faulty import program, search_path
from tests.support import run

REAL = find_binary("")


@dataclass
class Bench:
    """A Codex whose provider needs no login, and a wrapper around it that can be told to misbehave."""

    folder: Path
    binary: str = ""
    wanted: bool = True
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home = make_codex_home(self.folder / "codex-home", "http://127.0.0.1:9/v1")

    def asked(self) -> Asked:
        settings = Settings(
            codex=CodexOptions(binary=self.binary), backends=("codex",) if self.wanted else ()
        )
        environ = {
            "PATH": search_path(self.folder / "bin"),
            "HOME": str(self.folder),
            "CODEX_HOME": str(self.home),
            **self.environ,
        }
        return Asked(settings, environ, self.folder, self.folder)

    def config(self, text: str) -> None:
        (self.home / "config.toml").write_text(text)

    async def look(self) -> dict[str, Row]:
        (check,) = codex.CHECKS
        return {row.id: row for row in await check.look(self.asked())}


Step = Callable[[Bench], None]


@dataclass(frozen=True)
class Cause:
    """What is wrong, the row that names it, and what mends it."""

    what: str
    id: str
    spoil: Step
    says: str
    status: Status = "fail"
    remedy: str = ""
    """Part of the command or text that mends it."""
    mend: Step | None = None
    """By default the program and the home of before."""


def wrapped(**cases: str) -> Step:
    """A program that does something of its own for some of Codex's commands, by their first word."""

    def change(bench: Bench) -> None:
        lines = [f"{name.replace('_', '-')}) {text} ;;" for name, text in cases.items()]
        text = "\n".join(['case "${1#--}" in', *lines, f'*) exec {REAL} "$@" ;;', "esac"])
        bench.binary = str(program(bench.folder / "bin/wrapped", text))

    return change


def config(text: str) -> Step:
    return lambda bench: bench.config(text)


def missing(bench: Bench) -> None:
    bench.binary = str(bench.folder / "bin/nowhere")


def npm(bench: Bench) -> None:
    script = bench.folder / "lib/node_modules/@openai/codex/bin/codex.js"
    bench.binary = str(program(script, ""))
    script.write_text("#!/usr/bin/env node\n// Unified entry point for the Codex CLI.\n")


def no_home(bench: Bench) -> None:
    bench.home.rename(bench.folder / "elsewhere")


def with_home(bench: Bench) -> None:
    (bench.folder / "elsewhere").rename(bench.home)


def another_protocol(bench: Bench) -> None:
    """A Codex that calls a method otherwise than we do."""
    change = 'find "$5" -name "*.json" -exec sed -i s,turn/start\\",turn/begin\\", {} +'
    wrapped(app_server=f'{REAL} "$@" && {change}')(bench)


def say(text: str, status: int = 0) -> str:
    return f'echo "{text}"; exit {status}'


PROVIDER = 'model_provider = "x"\n[model_providers.x]\nname = "x"\nbase_url = "http://127.0.0.1:9/v1"\n'

CAUSES = (
    Cause(
        "no Codex where the settings name one", "codex.program", missing, "is no program", remedy="setting"
    ),
    Cause(
        "npm's script without its program",
        "codex.program",
        npm,
        "finds no Codex for this machine",
        remedy="npm install -g @openai/codex --include=optional",
    ),
    Cause(
        "a Codex that is too old",
        "codex.version",
        wrapped(version=say("codex-cli 0.23.0")),
        "Codex 0.23.0 is too old",
        remedy="npm install -g @openai/codex",
    ),
    Cause(
        "a program that is no Codex", "codex.version", wrapped(version=say("hello")), "did not work: hello"
    ),
    Cause("a Codex that hangs", "codex.version", wrapped(version="sleep 60"), "did not end within"),
    Cause(
        "a Codex that is not signed in",
        "codex.login",
        config(""),
        "not signed in",
        remedy="login",
        mend=config(PROVIDER + 'wire_api = "responses"\n'),
    ),
    Cause(
        "a `CODEX_HOME` that is not there",
        "codex.config",
        no_home,
        "is no folder",
        remedy="mkdir -p",
        mend=with_home,
    ),
    Cause(
        'a `config.toml` with `wire_api = "chat"`',
        "codex.config",
        config(PROVIDER + 'wire_api = "chat"\n'),
        "no longer supported",
        remedy='wire_api = "responses"',
        mend=config(PROVIDER + 'wire_api = "responses"\n'),
    ),
    Cause(
        "a `config.toml` with a reserved provider id",
        "codex.config",
        config('[model_providers.ollama]\nname = "x"\nbase_url = "http://127.0.0.1:9/v1"\n'),
        "reserved built-in provider IDs",
        remedy="another name",
        mend=config(PROVIDER),
    ),
    Cause(
        "a `config.toml` that is no TOML",
        "codex.config",
        config("model = \n"),
        "Codex refuses its settings",
        remedy="config.toml",
        mend=config(PROVIDER),
    ),
    Cause(
        "a sandbox that cannot start",
        "codex.sandbox",
        wrapped(sandbox=say("bwrap: setting up uid map: Permission denied", 1)),
        "uid map: Permission denied",
        remedy="sysctl",
    ),
    Cause(
        "an app-server with another protocol",
        "codex.protocol",
        another_protocol,
        "lacks turn/start",
        "warning",
        "pip install",
    ),
)


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.what)
def test_a_cause_is_named_and_mended(cause: Cause, tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path)
        cause.spoil(bench)
        row = (await bench.look())[cause.id]
        assert row.status == cause.status, row
        assert cause.says in row.summary, row
        assert row.why and row.remedy is not None
        assert cause.remedy in f"{row.remedy.text} {row.remedy.command}"
        bench.binary = ""
        if cause.mend is not None:
            cause.mend(bench)
        after = await bench.look()
        assert {row.id: row for row in after.values() if row.status != "ok"} == {}

    run(scenario())


def test_nothing_is_written_into_the_users_home(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    rows = run(bench.look())
    assert [*rows] == "codex.program codex.version codex.login codex.sandbox codex.protocol".split()
    assert {row.status for row in rows.values()} == {"ok"}
    assert sorted(tmp_path.rglob("*")) == before


def test_what_nobody_asked_for_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, wanted=False)
    bench.config("")
    assert run(bench.look())["codex.login"].status == "warning"
    monkeypatch.setattr(codex, "find_binary", lambda *_: None)
    assert [row.status for row in run(bench.look()).values()] == ["skipped"]


def test_keys_of_the_environment_do_not_reach_it(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    bench = Bench(tmp_path, environ={"OPENAI_API_KEY": "sk-planted", "CODEXGATE_SERVER_API_KEY": "planted"})
    wrapped(version=f'env > {seen}; exec {REAL} "$@"')(bench)
    run(bench.look())
    assert "planted" not in seen.read_text()
