"""A machine on which everything works, and what is done to it: the words that causes are written in.

Variables are a user's own: settings are read from them, and a command that a row names is run by a
shell that has them and whose exports are kept. Facts that no test can make (a full disk, a container,
a GPU) are put in where the doctor reads them.
"""

import asyncio
import json
import re
import shlex
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from codexgate import apikey
from codexgate.assemble import open_core
from codexgate.doctor import mask, ollama, ollama_models, ollama_seen, oss, run, services, system, target
from codexgate.doctor.run import Found
from codexgate.doctor.words import Asked, Remedy, Row, Status
from codexgate.server.app import Listen, listening
from codexgate.settings import load_settings
from tests.servers.codex_home import make_codex_home
from tests.servers.faulty import Answer, Faulty, Json, program, search_path
from tests.servers.faulty import ollama as good
from tests.servers.ports import own_port
from tests.servers.postgres import Postgres
from tests.servers.program import COMMAND, environment
from tests.servers.valkey import Valkey

MODEL = "qwen3:8b"
PASSWORD = "hunter2-secret"
"""Stands in no row."""
GATE = 8140
PATIENCE = 8.0
"""Seconds for whatever the doctor waits for, on a machine that has much else to do."""
DOCTORS = "codex.RUN network.PATIENCE network.LISTING ollama_seen.PROGRAM reach.CONNECT reach.ANSWER whose.PATIENCE".split()
DEADLINES = (*(f"doctor.{name}" for name in DOCTORS), "stores.postgres.DEADLINE", "stores.redis.DEADLINE")
"""What the doctor waits for, by name below `codexgate`."""
PATIENT = f"""
import msgspec
from codexgate.cli import doctor
from codexgate.doctor import card, card_server, codex, network, ollama_seen, reach, run, whose
{" = ".join(DOCTORS)} = card_server.QUICK = {PATIENCE}
doctor.WHOLE = card.WHOLE = run.examine.__kwdefaults__["whole"] = {4 * PATIENCE}
known = tuple(msgspec.structs.replace(check, deadline={3 * PATIENCE}) for check in run.checks())
run.checks = lambda: known
from codexgate.__main__ import main
main()
"""
"""The doctor with time for a machine that has much else to do."""
PLENTY = 40 << 30
"""Bytes that are free on the bench's disk."""


class Usage(NamedTuple):
    """What `shutil.disk_usage` tells."""

    free: int


@dataclass
class Bench:
    """Codex, an Ollama, a gate that may start, and a user's variables: what a cause then spoils."""

    folder: Path
    """The user's home."""
    server: Faulty
    """The Ollama."""
    other: Faulty
    """A server that does not run yet."""
    patch: pytest.MonkeyPatch
    closing: AsyncExitStack
    environ: dict[str, str] = field(default_factory=dict)
    model: str = MODEL
    url: str = ""
    """`--url`."""
    usual: dict[str, str] = field(default_factory=dict)
    """What stands in the table for what is another each time, as a port."""
    command: str = ""
    """What the row that was found says to run."""
    value: str = ""
    """What a person puts for the word at its end, as `URL`."""
    redis: Valkey | None = None
    certificates: ssl.SSLContext | None = None
    """Of the server with TLS that the settings name."""
    postgres: Postgres | None = None
    """A real one, for causes of Postgres."""

    @property
    def codex_home(self) -> Path:
        return self.folder / "codex-home"

    @property
    def data(self) -> Path:
        return self.folder / "kept"

    def asked(self) -> Asked:
        settings = load_settings(environ=self.environ, cwd=self.folder).settings
        return Asked(settings, self.environ, self.folder, self.model, self.url)

    def stands_for(self, port: int, usual: int) -> None:
        self.usual[rf"(?<!\d){port}(?!\d)"] = str(usual)

    def plain(self, text: str) -> str:
        """`text` as it would be where everything has its usual place."""
        for each, usual in self.usual.items():
            text = re.sub(each, usual, text)
        return text

    async def obey(self, command: str) -> None:
        """Do in a shell what a row says; what is exported stays."""
        if self.value:
            command = re.sub(r"(?<==)URL$|\bFILE\b", shlex.quote(self.value), command)
        shell = ("/bin/sh", "-c", f"{{ {command}; }} >&2 && {sys.executable} -c '{_TELL}'")
        status, out, said = await self.run(*shell)
        assert status == 0, (command, said)
        self.environ = json.loads(out)

    async def run(self, *command: str) -> tuple[int | None, bytes, bytes]:
        """How a program of the user's ends, and what it writes to each output."""
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self.folder,
            env=self.environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, said = await process.communicate()
        return process.returncode, out, said


_TELL = "import json, os; print(json.dumps(dict(os.environ)))"

Step = Callable[[Bench], Awaitable[None] | None]
Look = Callable[..., Awaitable[dict[str, Found]]]
"""The rows of a bench, by id: of some families (`ollama`), or all."""


async def take(step: Step, bench: Bench) -> None:
    if (doing := step(bench)) is not None:
        await doing


async def checks(bench: Bench, *families: str) -> dict[str, Found]:
    """What the checks of these families tell, or all; with time for a machine that has much else to do."""
    asked = bench.asked()
    if file := bench.environ.get("SSL_CERT_FILE"):
        bench.patch.setenv("SSL_CERT_FILE", str(bench.folder / file))
    ids = run.wanted(families)
    chosen = [check for check in run.checks() if ids & {*check.ids}]
    told = await asyncio.gather(*(check.look(asked) for check in chosen))
    hidden = mask.of(asked)
    for check, rows in zip(chosen, told, strict=True):
        assert {row.id for row in rows} <= {*check.ids} and PASSWORD not in str(rows)
    found = [row for rows in told for row in rows if row.id in ids]
    return {row.id: Found(hidden.row(row), row.remedy.command if row.remedy else "") for row in found}


def patient(
    home: Path, *arguments: str, more: Mapping[str, str] | None = None, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run `codexgate doctor` as `codexgate` runs a command, with time for a busy machine."""
    return subprocess.run(
        [sys.executable, "-c", PATIENT, "doctor", *arguments],
        input=stdin,
        capture_output=True,
        env=environment(home, more),
        cwd=home,
        timeout=5 * PATIENCE,
        check=False,
    )


def doctor(*flags: str, command: Sequence[str] = (sys.executable, "-c", PATIENT)) -> Look:
    """What the program tells, in a process of its own."""

    async def look(bench: Bench, *families: str) -> dict[str, Found]:
        only = [word for family in families for word in ("--only", family)]
        _, out, said = await bench.run(*command, "doctor", "--json", "--model", bench.model, *only, *flags)
        assert out, said
        return {row.id: Found(row, row.remedy.command if row.remedy else "") for row in _rows(out)}

    return look


def _rows(report: bytes) -> Iterator[Row]:
    for told in json.loads(report)["checks"]:
        why = told["details"].pop("why", "")
        remedy = Remedy(**told["remedy"]) if told["remedy"] else None
        yield Row(told["id"], told["category"], told["status"], told["summary"], why, remedy, told["details"])


@dataclass(frozen=True)
class Cause:
    """What is wrong, the row that names it, and what mends it."""

    number: int
    """Of what kind it is; several causes may be of one, and 0 is of none."""
    what: str
    id: str
    spoil: Step
    says: str
    """Part of the row's summary."""
    command: str = ""
    """The whole command of the row."""
    text: str = ""
    """The whole text before it, where the command alone does not say what is to be done."""
    mend: Step | None = None
    """What the command does, where it cannot be run here; `None`: a shell runs it."""
    status: Status = "fail"
    look: Look = checks


def table(causes: tuple[Cause, ...]) -> str:
    """The causes in Markdown, by their kind."""
    lines = ["| | what is wrong | row | what mends it |", "| --- | --- | --- | --- |"]
    for cause in sorted(causes, key=lambda each: each.number or len(causes)):
        mends = " ".join(f"{cause.text} `{cause.command}`".removesuffix("``").split())
        cells = (str(cause.number or ""), cause.what, f"`{cause.id}`", mends)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


# Steps


def environ(**values: str) -> Step:
    """Variables; `URL` in a value stands for the Ollama's, `PORT` for its port, `OTHER` for the other's."""

    def change(bench: Bench) -> None:
        for name, value in values.items():
            value = value.replace("URL", bench.server.url).replace("PORT", str(bench.server.port))
            bench.environ[name] = value.replace("OTHER", str(bench.other.port))
            if not value:
                del bench.environ[name]

    return change


async def obey(bench: Bench) -> None:
    """Run the row's command."""
    await bench.obey(bench.command)


async def pulled(bench: Bench) -> None:
    """The model is installed by hand."""
    await bench.obey(f"codexgate models pull {bench.model}")


def patience(seconds: float) -> Step:
    """How long the doctor waits, where something hangs."""

    def change(bench: Bench) -> None:
        for name in DEADLINES:
            bench.patch.setattr(f"codexgate.{name}", seconds)

    return change


def model(name: str) -> Step:
    def change(bench: Bench) -> None:
        bench.model = name.replace("OTHER", bench.other.url)

    return change


def both(*steps: Step) -> Step:
    async def change(bench: Bench) -> None:
        for step in steps:
            await take(step, bench)

    return change


def serves(made: Callable[[], dict[str, Answer]]) -> Step:
    """The Ollama becomes another server."""

    def change(bench: Bench) -> None:
        bench.server.routes = made()

    return change


def routes(**changes: Any) -> Step:
    """The Ollama answers otherwise at some paths (`api_tags=404`)."""

    def change(bench: Bench) -> None:
        for name, answer in changes.items():
            bench.server.routes["/" + name.replace("_", "/")] = answer

    return change


def with_other(made: Callable[[], dict[str, Answer]]) -> Step:
    """The other server runs too."""

    async def change(bench: Bench) -> None:
        bench.other.routes = made()
        await bench.other.stop()
        await bench.other.start()

    return change


def pulls(*can: str) -> Step:
    """The Ollama installs whatever it is asked for, and that can do so much."""
    models = {MODEL: ("completion", "tools")}

    def change(bench: Bench) -> None:
        def pull(asked: Json) -> bytes:
            name = asked["model"] if ":" in asked["model"] else f"{asked['model']}:latest"
            bench.server.routes |= good({**models, name: can or models[MODEL]})
            return b'{"status": "success"}\n'

        bench.server.routes["/api/pull"] = pull

    return change


async def gate(bench: Bench) -> None:
    """The gate runs, and `codex --oss` is sent to it."""
    settings = bench.asked().settings
    core = await bench.closing.enter_async_context(open_core(settings))
    key = apikey.effective(settings)
    listen = Listen(port=settings.server.port, key=key.secret.reveal() if key else "", drain=0)
    running = listening(core, listen)
    bench.environ["CODEX_OSS_BASE_URL"] = (await bench.closing.enter_async_context(running)).url + "/v1"


@asynccontextmanager
async def bench(folder: Path) -> AsyncIterator[Bench]:
    """Everything works, and nothing of the machine below is seen."""
    with pytest.MonkeyPatch.context() as patch:
        async with AsyncExitStack() as closing, Faulty(good()) as server, Faulty({}) as other:
            await other.stop()
            made = Bench(folder, server, other, patch, closing)
            make_codex_home(made.codex_home, "http://127.0.0.1:9/v1")
            made.data.mkdir(mode=0o700)
            config = folder / "codexgate.toml"
            config.touch()
            program(folder / "bin/codexgate", f'exec {shlex.join(COMMAND)} "$@"')
            gate = own_port()
            made.environ = {
                "PATH": search_path(folder / "bin"),
                "HOME": str(folder),
                "CODEX_HOME": str(made.codex_home),
                "CODEX_OSS_BASE_URL": f"{server.url}/v1",
                "CODEXGATE_BACKENDS": "codex,ollama",
                "CODEXGATE_CONFIG": str(config),
                "CODEXGATE_DATA_DIR": str(made.data),
                "CODEXGATE_OLLAMA_URL": server.url,
                "CODEXGATE_SERVER_PORT": str(gate),
            }
            for port, usual in ((server.port, 11434), (other.port, 8000), (gate, GATE)):
                made.stands_for(port, usual)
            (folder / "run/systemd/system").mkdir(parents=True)
            patch.setattr(system, "ROOT", folder)
            patch.setattr(services, "SYSTEMD", folder / "run/systemd/system")
            patch.setattr(ollama_models, "GPUS", ())
            for module in (ollama, ollama_seen, oss):
                patch.setattr(module, "DEFAULT", server.url)
            patch.setattr(target, "USUAL", f"{other.url}/v1")
            patience(PATIENCE)(made)
            patch.setattr("shutil.disk_usage", lambda _: Usage(PLENTY))
            yield made
            await other.stop()
