"""`codexgate models`: tables, cards and JSON, and what is installed through a backend that can."""

import asyncio
import io
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from codexgate.cli import models, table
from codexgate.cli.progress import counting, progress
from codexgate.cli.terminal import Paint
from codexgate.errors import GateError
from codexgate.gate import Gate
from codexgate.records import Health, Model, Progress

from .servers.ollama import ScriptedOllama
from .servers.program import COMMAND, codexgate, environment
from .servers.scripted import Installing, Scripted
from .support import run

PLAIN = Paint(False)
MODELS = [
    Model(
        id="qwen3-coder:30b-a3b-instruct",
        backend="ollama",
        size=18_556_699_314,
        context=262_144,
        abilities=frozenset({"thinking", "chat", "tools", "vision"}),
    ),
    Model(
        id="nomic\x1b[31m",
        backend="ollama",
        size=274_302_450,
        abilities=frozenset({"embedding"}),
        loaded=True,
    ),
    Model(id="demo", backend="demo", context=128_000, abilities=frozenset({"chat"}), loaded=True),
]


# Tables


def test_the_table_is_aligned_and_escaped() -> None:
    assert table.model_table(MODELS, PLAIN, None) == [
        "ID                            BACKEND  SIZE      CONTEXT  LOADED  ABILITIES",
        "qwen3-coder:30b-a3b-instruct  ollama   18.6 GB   256k             chat tools vision thinking",
        "nomic\\x1b[31m                 ollama   274.3 MB           yes     embedding",
        "demo                          demo               128k     yes     chat",
    ]


def test_on_a_narrow_terminal_abilities_fold() -> None:
    assert table.model_table(MODELS[:1], PLAIN, 80) == [
        "ID                            BACKEND  SIZE     CONTEXT  LOADED  ABILITIES",
        "qwen3-coder:30b-a3b-instruct  ollama   18.6 GB  256k             chat tools",
        "                                                                 vision thinking",
    ]


@pytest.mark.parametrize("width", range(40, 120))
def test_the_table_fits(width: int) -> None:
    lines = table.model_table(MODELS, PLAIN, width)
    assert max(cell_len(line) for line in lines) <= width
    assert all(any(line.startswith(model.id[:5]) for line in lines) for model in MODELS)


def test_a_table_of_nothing_is_its_header() -> None:
    assert table.model_table([], PLAIN, 80) == ["ID  BACKEND  SIZE  CONTEXT  LOADED  ABILITIES"]


@pytest.mark.parametrize(
    ("bytes", "shown"),
    [(0, ""), (1, "1 B"), (999_949, "999.9 kB"), (999_950, "1.0 MB"), (5 * 10**12, "5.0 TB")],
)
def test_sizes(bytes: int, shown: str) -> None:
    assert table.size(bytes) == shown


@pytest.mark.parametrize(
    ("tokens", "shown"),
    [
        (0, ""),
        (512, "512"),
        (4096, "4k"),
        (32_768, "32k"),
        (128_000, "128k"),
        (131_072, "128k"),
        (40_960, "40k"),
    ],
)
def test_contexts(tokens: int, shown: str) -> None:
    assert table.context(tokens) == shown


def test_a_card_tells_what_is_known() -> None:
    model = Model(id="m", backend="b", created=86400, size=5, details={"family": "x\ny"})
    assert table.model_card(model) == [
        "id       m",
        "backend  b",
        "created  1970-01-02 00:00 UTC",
        "size     5 B",
        "loaded   no",
        "family   x\\x0ay",
    ]


# The program


def test_listing_and_showing(tmp_path: Path) -> None:
    found = codexgate(tmp_path, "models")
    assert found.stdout.decode().splitlines()[1].split() == [
        *("demo", "demo", "128k", "yes", "chat", "tools", "vision", "thinking", "insert")
    ]
    (model, _) = json.loads(codexgate(tmp_path, "models", "--json").stdout)
    assert model == json.loads(codexgate(tmp_path, "models", "show", "demo", "--json").stdout)
    assert model["context"] == 128_000
    assert model["created"] is None
    assert b"context      128,000 tokens\n" in codexgate(tmp_path, "models", "show", "demo/demo").stdout


def test_nothing_is_asked_without_a_terminal(tmp_path: Path) -> None:
    for arguments in (["rm", "demo"], ["rm", "demo", "--yes"], ["warm", "demo"]):
        found = codexgate(tmp_path, "models", *arguments)
        assert found.returncode == 2
        assert b"cannot be installed or removed" in found.stderr


# With an Ollama


async def with_ollama(home: Path, url: str, *arguments: str) -> tuple[int, str, str]:
    process = await started(home, url, *arguments)
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def started(home: Path, url: str, *arguments: str) -> asyncio.subprocess.Process:
    more = {"CODEXGATE_BACKENDS": "ollama,demo", "CODEXGATE_OLLAMA_URL": url}
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=pipe,
        stderr=pipe,
        env=environment(home, more),
        cwd=home,
    )


def test_models_are_installed_warmed_and_deleted(tmp_path: Path) -> None:
    async def life() -> None:
        async with ScriptedOllama() as server:
            code, out, err = await with_ollama(tmp_path, server.url, "models", "pull", "tiny")
            assert (code, out) == (0, "")
            assert err.splitlines()[0] == "pulling manifest"
            assert err.splitlines()[-1] == "codexgate: tiny is installed."
            assert "tiny:latest" in (await with_ollama(tmp_path, server.url, "models"))[1]
            code, _, err = await with_ollama(tmp_path, server.url, "models", "warm", "ollama/tiny")
            assert (code, err) == (0, "codexgate: tiny:latest is in memory.\n")
            assert "tiny:latest" in server.loaded
            code, _, err = await with_ollama(tmp_path, server.url, "models", "rm", "tiny")
            assert code == 2
            assert "Say --yes" in err
            assert "tiny:latest" in server.models
            code, _, err = await with_ollama(tmp_path, server.url, "models", "rm", "tiny", "--yes")
            assert (code, err) == (0, "codexgate: tiny:latest is deleted.\n")
            assert "tiny:latest" not in server.models

    run(life())


def test_an_interrupted_pull_says_that_it_can_go_on(tmp_path: Path) -> None:
    async def interrupted() -> None:
        async with ScriptedOllama() as server:
            server.next_pull({"status": "pulling manifest"}, asyncio.Event())
            process = await started(tmp_path, server.url, "models", "pull", "tiny")
            assert process.stderr is not None
            assert await process.stderr.readline() == b"pulling manifest\n"
            process.send_signal(signal.SIGINT)
            _, err = await process.communicate()
            assert process.returncode == 130
            assert err.decode().startswith(
                "codexgate: interrupted; what was loaded is kept, `codexgate models"
            )
            await server.left.wait()

    run(interrupted())


def test_an_ollama_that_is_down_is_named_and_the_others_are_listed(tmp_path: Path) -> None:
    url = "http://127.0.0.1:9"
    code, out, err = run(with_ollama(tmp_path, url, "models"))
    assert code == 0
    assert out.splitlines()[1].startswith("demo")
    assert err.startswith("codexgate: ollama: ")
    assert run(with_ollama(tmp_path, url, "chat", "-m", "ollama/x", "hi"))[0] == 6
    assert run(with_ollama(tmp_path, url, "models", "pull", "x"))[0] == 6


# Use cases


def test_a_backend_that_is_down_is_named() -> None:
    backend = Scripted()
    backend.health = Health("down", "refused the connection.", advice="Start it.")
    found, health = run(models.look(Gate([backend])))
    assert found == []
    assert health["scripted"].state == "down"


def test_the_prefix_chooses_the_installer_else_the_first_that_can() -> None:
    async def install(gate: Gate, name: str) -> None:
        async for _ in gate.pull(name):
            pass

    able, unable = Installing(), Scripted()
    unable.name = "other"
    for name in ("library/qwen3:8b", "scripted/qwen3"):
        run(install(Gate([unable, able]), name))
    assert able.done == [("pull", "library/qwen3:8b"), ("pull", "qwen3")]
    for name, backends in (("x", [unable]), ("other/x", [unable, able])):
        with pytest.raises(GateError, match="No backend here can install models"):
            run(install(Gate(backends), name))


@pytest.mark.parametrize("name", ["built-in", "other/built-in"])
def test_no_registry_is_asked_for_a_model_that_comes_with_its_backend(name: str) -> None:
    async def install() -> list[Progress]:
        return [each async for each in Gate([able, unable]).pull(name)]

    able, unable = Installing(), Scripted(models=(Model("built-in", "other"),), name="other")
    assert (run(install()), able.done) == ([], [])


def test_the_owner_of_a_model_can_remove_it() -> None:
    backend = Installing()
    model = Model(id="scripted", backend="scripted")
    assert Gate([backend]).installer(model) is backend
    with pytest.raises(GateError, match="cannot be installed"):
        Gate([Scripted()]).installer(model)


# Progress


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_elsewhere_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codexgate.cli.progress.EVERY", 3600.0)
    file = io.StringIO()
    with progress(file, colour=False) as show:
        for news in [
            Progress("pulling manifest"),
            *(Progress("pulling a", "sha256:a", 1000, done) for done in (0, 10, 500, 1000, 1000)),
            Progress("pulling b\x1b", "sha256:b", 10, 10),
            Progress("success"),
        ]:
            show(news)
    assert file.getvalue().splitlines() == [
        "pulling manifest",
        "pulling a 0 B of 1.0 kB",
        "pulling a 1.0 kB of 1.0 kB",
        "pulling b\\x1b 10 B of 10 B",
        "success",
    ]


def test_progress_on_a_terminal_is_a_bar_for_each_part_and_the_total(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    file = Tty()
    with progress(file, colour=False) as show:
        show(Progress("pulling manifest\x1b[2J"))
        show(Progress("pulling", "sha256:0123456789abcdef", 4_000_000, 4_000_000))
        show(Progress("pulling", "sha256:fedcba9876543210", 2_000_000, 1_000_000))
    seen = file.getvalue()
    last = seen[seen.rindex("0123456789ab") :]
    assert "manifest\\x1b[2J" in seen
    assert "4.0/4.0 MB" in last
    assert "fedcba987654" in last
    assert "5.0/6.0 MB" in last[last.index("total") :]


def test_a_count_elsewhere_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    for every, counted in ((0.0, ["256 entries of \\x1b, 50%", "1,300 entries of \\x1b"]), (3600.0, [])):
        monkeypatch.setattr("codexgate.cli.progress.EVERY", every)
        file = io.StringIO()
        with counting(file, "entries of \x1b", colour=False) as news:
            news.show(256, 0.5)
            news.show(1300, None)
            news.say("x:100: bad\x1b")
            news.show(2000, 1.0)  # what it came to is told by others
        assert file.getvalue().splitlines() == [*counted, "x:100: bad\\x1b"]


def test_a_count_on_a_terminal_is_a_bar_below_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    file = Tty()
    with counting(file, "entries of [/x]", colour=False) as news:
        news.show(256, None)
        news.say("em.jsonl:100: [b]bad[/b] " + "long " * 30)
        unknown = file.getvalue()
        news.show(600, 1.0)
    assert "em.jsonl:100: [b]bad[/b] " + "long " * 30 in unknown
    assert "%" not in unknown and "--:--" not in unknown
    assert "100%  600 entries of [/x]" in file.getvalue()


@pytest.mark.parametrize("show", [progress, counting])
def test_what_is_printed_elsewhere_passes_no_bar(show: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out, file = io.StringIO(), Tty()
    monkeypatch.setattr("sys.stdout", out)
    with show(file, "entries", colour=False) if show is counting else show(file, colour=False):
        sys.stdout.write("x" * 200 + "\n")
    assert out.getvalue() == "x" * 200 + "\n"
    assert "x" not in file.getvalue()
