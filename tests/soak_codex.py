"""Kills children and gates many times, and counts what is left: `make soak`.

    python -m tests.soak_codex [--cycles 1000] [--kills 200] [--gates 6]

Part one: children that are killed, stopped, that exit, close their output or talk nonsense, the real
Codex with a command running outside any sandbox and the fake one. Part two: whole gates that get
`kill -9`, half of them with a stopped child that cannot notice; the next start must find what they
left, and harm nothing else. Ends with status 1 when a figure is missed.
"""

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codexgate.backends.codex import Codex, CodexOptions, reap, supervisor
from codexgate.chat import ChatRequest, Message, Text
from codexgate.events import Done, Event, Failed, TextDelta, ToolEvent
from codexgate.gate import Gate
from tests.servers.codex_home import MODEL, make_codex_home
from tests.servers.responses import Command, ScriptedResponses
from tests.servers.responses import Text as Say
from tests.test_codex_child import fake

SOON = 5.0
"""Seconds in which a turn must work again."""
REAL = (signal.SIGKILL, signal.SIGSTOP)
FAKE = ("exits", "closed", "too_long", "garbage", "stopped", "killed")
SLEEPS = "sleep 4000 & (setsid sleep 4000 &); sleep 4000"
"""A command and two that it leaves behind, one of them in a session of its own."""
RUNNING = 3
WIDTH = 34


@dataclass
class Figures:
    """What was counted, by way of failing."""

    cycles: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    told: dict[str, float] = field(default_factory=dict)
    """Longest time in seconds until the turn was told."""
    again: dict[str, float] = field(default_factory=dict)
    """Longest time in seconds that the next turn took."""

    def note(self, way: str, told: float, again: float) -> None:
        self.cycles[way] += 1
        self.told[way] = max(told, self.told.get(way, 0))
        self.again[way] = max(again, self.again.get(way, 0))


def make_codex(folder: Path, binary: str = "", provider: str = "http://127.0.0.1:9/v1") -> Codex:
    folder.mkdir(parents=True, exist_ok=True)
    home = make_codex_home(folder / "home", provider)
    options = CodexOptions(binary=binary, sandbox="danger-full-access")
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "CODEX_HOME": str(home)}
    return Codex(options, folder / "data", environ)


@asynccontextmanager
async def gate_on(codex: Codex) -> AsyncIterator[Gate]:
    gate = Gate([codex], strict=True)
    try:
        yield gate
    finally:
        await gate.aclose()


@asynccontextmanager
async def provider() -> AsyncIterator[ScriptedResponses]:
    async with ScriptedResponses() as scripted:
        scripted.script("sleeps", [Command(SLEEPS, wait=30_000)], [Say("done")])
        yield scripted


async def answer(gate: Gate, model: str, text: str, begun: asyncio.Event | None = None) -> list[Event]:
    route = await gate.route(ChatRequest(model, (Message("user", (Text(text),)),)))
    events: list[Event] = []
    async with aclosing(gate.stream(route)) as batches:
        async for batch in batches:
            events += batch
            if begun is not None and any(isinstance(event, TextDelta | ToolEvent) for event in batch):
                begun.set()
    return events


def marked(prefix: str, word: bytes = b"") -> list[int]:
    """Processes, zombies too, that bear a mark that begins so and whose command holds `word`."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            bears = f"{reap.NAME}={prefix}".encode() in (path / "environ").read_bytes()
            if bears and word in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return found


def mark_of(pid: int) -> str:
    """The part of a mark that tells the gate."""
    looked = reap._look(pid)
    return f"{reap._namespace()}-{pid}-{looked.started if looked else 0}-"


def zombies() -> list[int]:
    """Children of this process that nobody has waited for."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (path / "stat").read_bytes().rpartition(b")")[2].split()[:2]
        except OSError:
            continue
        if state == b"Z" and int(parent) == os.getpid():
            found.append(int(path.name))
    return found


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


async def real_cycle(gate: Gate, codex: Codex, number: signal.Signals, figures: Figures) -> None:
    begun = asyncio.Event()
    turn = asyncio.create_task(answer(gate, MODEL, "SC:sleeps", begun))
    await begun.wait()
    child = await codex._supervisor.child()
    await until(lambda: len(marked(child._mark, b"sleep\x004000")) >= RUNNING)
    since = time.monotonic()
    os.kill(child._process.pid, number)
    failed = await turn
    await check(gate, MODEL, f"real {number.name}", failed, time.monotonic() - since, figures)
    if left := marked(child._mark):
        figures.wrong.append(f"real {number.name}: left {left}")


async def fake_cycle(gate: Gate, word: str, figures: Figures) -> None:
    since = time.monotonic()
    failed = await answer(gate, "fake", word)
    await check(gate, "fake", f"fake {word}", failed, time.monotonic() - since, figures)


async def check(gate: Gate, model: str, way: str, events: list[Event], told: float, figures: Figures) -> None:
    """One clear failure (garbage: none), and the next turn works, soon."""
    failures = sum(isinstance(event, Failed) for event in events)
    since = time.monotonic()
    last = (await answer(gate, model, "plain"))[-1]
    again = time.monotonic() - since
    figures.note(way, told, again)
    if failures != (way != "fake garbage") or last != Done("stop") or again > SOON:
        figures.wrong.append(f"{way}: {failures} failures, then {last} after {again:.1f} s")


async def crash(url: str, folder: Path, cycles: int, figures: Figures) -> None:
    """The cycles of one worker: one gate on the real Codex, one on the fake."""
    real, pretended = (
        make_codex(folder / "real", provider=url),
        make_codex(folder / "fake", str(fake(folder))),
    )
    async with gate_on(real) as gate, gate_on(pretended) as other:
        for _ in range(cycles):
            if random.random() < 0.5:
                await real_cycle(gate, real, random.choice(REAL), figures)
            else:
                await fake_cycle(other, random.choice(FAKE), figures)


async def kill(url: str, folder: Path, kills: int, figures: Figures) -> None:
    """Kill gates in the middle of a command; what is left must be gone after the next start."""
    for cycle in range(kills):
        way = ("gate killed", "gate killed, child stopped")[cycle % 2]
        arguments = ("-m", "tests.soak_codex", "--be-gate", url, str(folder / "killed"))
        gate = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=subprocess.PIPE)
        assert gate.stdout is not None
        mark = mark_of(gate.pid)
        child = int(await gate.stdout.readline())
        await until(lambda mark=mark: len(marked(mark, b"sleep\x004000")) >= RUNNING)
        if "stopped" in way:
            os.kill(child, signal.SIGSTOP)
        gate.kill()
        await gate.wait()
        since = time.monotonic()
        async with gate_on(make_codex(folder / "next", provider=url)) as following:
            last = (await answer(following, MODEL, "plain"))[-1]
        figures.note(way, 0, time.monotonic() - since)
        if last != Done("stop"):
            figures.wrong.append(f"{way}: then {last}")
        if left := [pid for pid in marked(mark) if reap._look(pid)]:
            figures.wrong.append(f"{way}: left {left}")


async def be_gate(url: str, folder: Path) -> None:
    """A gate with a running command; prints its child's pid, and waits to be killed."""
    codex = make_codex(folder / str(os.getpid()), provider=url)
    async with gate_on(codex) as gate:
        begun = asyncio.Event()
        turn = asyncio.create_task(answer(gate, MODEL, "SC:sleeps", begun))
        await begun.wait()
        print((await codex._supervisor.child())._process.pid, flush=True)  # noqa: T201
        await turn


def decoys() -> list[subprocess.Popen[bytes]]:
    """Processes that must not be touched: one has the pid of a gate that died, one a living gate's mark."""
    plain = subprocess.Popen(["sleep", "9000"])
    return [plain, subprocess.Popen(["sleep", "9000"], env={**os.environ, reap.NAME: reap.new_mark()})]


def leftover(pid: int) -> subprocess.Popen[bytes]:
    """What a gate that had this pid left behind, before another process had it."""
    forged = {**os.environ, reap.NAME: f"{reap._namespace()}-{pid}-1-1"}
    return subprocess.Popen(["sleep", "9000"], env=forged)


async def soak(cycles: int, kills: int, gates: int) -> int:
    figures = Figures()
    spared = decoys()
    left = leftover(spared[0].pid)
    with tempfile.TemporaryDirectory() as name:
        async with provider() as scripted:
            url, folder = scripted.url, Path(name)
            share = [cycles // gates + (n < cycles % gates) for n in range(gates)]
            await asyncio.gather(
                *(crash(url, folder / f"crash{n}", count, figures) for n, count in enumerate(share))
            )
            ended = left.poll() is not None
            crashed = zombies(), [pid for pid in marked(mark_of(os.getpid())) if pid != spared[1].pid]
            share = [kills // gates + (n < kills % gates) for n in range(gates)]
            await asyncio.gather(
                *(kill(url, folder / f"kill{n}", count, figures) for n, count in enumerate(share))
            )
    unharmed = [process.poll() for process in spared] == [None, None]
    for process in (*spared, left):
        process.kill()
        process.wait()
    show(figures)
    orphans = crashed[1] + marked(f"{reap._namespace()}-")
    totals = {
        "zombies": len(crashed[0] + zombies()),
        "orphans": len(orphans),
        "wrong": len(figures.wrong),
        "decoys harmed": 0 if unharmed else 1,
        "leftover of a reused pid spared": 0 if ended else 1,
    }
    for what, count in totals.items():
        print(f"{what:{WIDTH}}{count:>7}")  # noqa: T201
    return int(any(totals.values()))


def show(figures: Figures) -> None:
    print(f"{'way':{WIDTH}}{'cycles':>7}{'told s':>9}{'next s':>9}")  # noqa: T201
    for way, count in sorted(figures.cycles.items()):
        print(f"{way:{WIDTH}}{count:>7}{figures.told[way]:>9.2f}{figures.again[way]:>9.2f}")  # noqa: T201
    for line in figures.wrong[:20]:
        print(f"WRONG {line}")  # noqa: T201


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill children and gates, and count what is left.")
    parser.add_argument("--cycles", type=int, default=1000, help="children lost")
    parser.add_argument(
        "--kills", type=int, default=-1, help="gates killed; by default a fifth of the cycles"
    )
    parser.add_argument("--gates", type=int, default=6, help="how many at once")
    parser.add_argument("--be-gate", nargs=2, metavar=("URL", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.be_gate:
        asyncio.run(be_gate(options.be_gate[0], Path(options.be_gate[1])))
        return 0
    supervisor.STARTS, supervisor.BACKOFF = 10**9, 0.0  # the budget would stop us after six
    kills = options.kills if options.kills >= 0 else options.cycles // 5
    return asyncio.run(soak(options.cycles, kills, options.gates))


if __name__ == "__main__":
    sys.exit(main())
