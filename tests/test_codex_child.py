"""A child that dies, hangs, floods or talks nonsense: one clear fault for whoever waited, then a new one."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from codexgate.backends.codex import Codex, CodexOptions, child, reap, supervisor
from codexgate.chat import ChatRequest, Message, Text
from codexgate.events import Done, Event, Failed, TextDelta
from codexgate.fold import fold
from codexgate.gate import Gate
from tests.support import run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at in /proc")

FAKE = Path(__file__).parent / "servers/fake_codex.py"
CYCLES = 3
SOON = 10.0
"""Seconds in which a turn works again."""
HUNG, HASTY = 8.0, 0.5
"""Seconds after which a child is taken for one that hangs: one that lives, on a busy machine; one that does not."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything as it is but sooner, and restarts without end."""
    monkeypatch.setattr(child, "QUIET", 0.1)
    monkeypatch.setattr(child, "HUNG", HUNG)
    monkeypatch.setattr(child, "MISSES", 3)
    monkeypatch.setattr(child, "PATIENCE", 1.0)
    monkeypatch.setattr(child, "PAUSES", (0.01, 0.02, 0.04))
    monkeypatch.setattr(supervisor, "STARTS", 1000)
    monkeypatch.setattr(supervisor, "BACKOFF", 0.0)


def fake(folder: Path) -> Path:
    """The fake app-server as a program."""
    program = folder / "codex"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {FAKE} "$@"\n')
    program.chmod(0o755)
    return program


@asynccontextmanager
async def serving(tmp_path: Path) -> AsyncIterator[tuple[Gate, Codex]]:
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    codex = Codex(CodexOptions(binary=str(fake(tmp_path))), tmp_path / "data", environ)
    gate = Gate([codex], strict=True)
    try:
        yield gate, codex
    finally:
        await gate.aclose()


async def answer(gate: Gate, word: str, begun: asyncio.Event | None = None) -> list[Event]:
    """All events of a turn; `begun` is set at the first."""
    route = await gate.route(ChatRequest("fake", (Message("user", (Text(word),)),)))
    events: list[Event] = []
    async with aclosing(gate.stream(route)) as batches:
        async for batch in batches:
            events += batch
            if begun is not None:
                begun.set()
    return events


def failures(events: list[Event]) -> list[str]:
    return [event.fault.code for event in events if isinstance(event, Failed)]


async def pid_of(codex: Codex) -> int:
    return (await codex._supervisor.child())._process.pid


async def until(condition: Any) -> None:
    """Wait for something outside this process; bounded by the test's own limit."""
    while not condition():
        await asyncio.sleep(0.01)


def exists(pid: int) -> bool:
    """Whether there is such a process; a zombie counts."""
    return Path(f"/proc/{pid}").exists()


def sleepers() -> list[int]:
    """What `orphans` has started."""
    mark = f"{reap.NAME}={reap.new_mark()}".rpartition("-")[0].encode()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if b"sleep" in (path / "cmdline").read_bytes() and mark in (path / "environ").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("killed", "codex_exited"),
        ("exits", "codex_exited"),
        ("closed", "codex_exited"),
        ("stopped", "codex_hung"),
        ("babble", "codex_hung"),
        ("too_long", "codex_protocol"),
    ],
)
def test_all_turns_of_a_lost_child_fail_once_and_the_next_one_works(
    tmp_path: Path, word: str, code: str
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (gate, codex):
            for _ in range(1 if word == "babble" else CYCLES):
                begun = asyncio.Event()
                other = asyncio.create_task(answer(gate, "hold", begun))
                await begun.wait()
                lost = await pid_of(codex)
                child.HUNG = HASTY if code == "codex_hung" else HUNG
                assert failures(await answer(gate, word)) == [code]
                assert failures(await other) == [code]
                child.HUNG = HUNG
                since = time.monotonic()
                assert fold(await answer(gate, "plain")).text == "fine"
                assert time.monotonic() - since < SOON
                await until(lambda lost=lost: not exists(lost))

    run(scenario())


def test_a_child_that_stopped_while_nobody_looked_costs_no_turn(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (gate, codex):
            await answer(gate, "plain")
            stopped = await pid_of(codex)
            lost = await codex._supervisor.child()
            os.kill(stopped, signal.SIGSTOP)
            child.QUIET, child.HUNG = 0.0, HASTY
            turn = asyncio.create_task(answer(gate, "plain"))
            await until(lambda: lost.gone is not None)
            child.HUNG = HUNG
            assert fold(await turn).text == "fine"
            await until(lambda: not exists(stopped))

    run(scenario())


def test_a_slow_child_is_not_taken_for_a_dead_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (gate, codex):
            begun = asyncio.Event()
            held = asyncio.create_task(answer(gate, "hold", begun))
            await begun.wait()
            pid = await pid_of(codex)
            live = await codex._supervisor.child()
            for _ in range(CYCLES):
                heard = live._heard
                await until(lambda heard=heard: live._heard != heard)  # asked, and answered
            assert (await pid_of(codex), held.done()) == (pid, False)
            held.cancel()
            await asyncio.wait({held})

    run(scenario())


@pytest.mark.parametrize("word", ["garbage", "noisy"])
def test_nonsense_and_a_long_log_disturb_nobody(tmp_path: Path, word: str) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (gate, codex):
            pid = await pid_of(codex)
            for _ in range(CYCLES if word == "garbage" else 1):
                assert fold(await answer(gate, word)).text == "fine"
            assert await pid_of(codex) == pid

    run(scenario())


def test_a_line_of_ten_megabytes_comes_whole(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (gate, _):
            assert fold(await answer(gate, "long")).text == "x" * 10_000_000

    run(scenario())


def resident() -> int:
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_a_flood_fails_the_turn_that_does_not_read_it_and_no_other(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (gate, codex):
            route = await gate.route(ChatRequest("fake", (Message("user", (Text("flood"),)),)))
            before = resident()
            async with aclosing(gate.stream(route)) as batches:
                first = await anext(batches)
                live = await codex._supervisor.child()
                (inbox,) = live._inboxes.values()
                while inbox._fault is None:  # the others go on meanwhile
                    assert fold(await answer(gate, "plain")).text == "fine"
                rest = [event async for batch in batches for event in batch]
            assert isinstance(first[-1], TextDelta)
            assert failures(rest) == ["too_slow"]
            assert resident() - before < 3 * child.INBOX_LIMIT
            assert live.gone is None
            assert fold(await answer(gate, "plain")).text == "fine"

    run(scenario())


@pytest.mark.parametrize(("times", "last"), [(3, Done("stop")), (4, "codex_overloaded")])
def test_what_a_busy_child_refuses_is_asked_again_a_few_times(tmp_path: Path, times: int, last: Any) -> None:
    async def scenario() -> list[Event]:
        async with serving(tmp_path) as (gate, _):
            return await answer(gate, f"overloaded={times}")

    events = run(scenario())
    assert last in (events[-1], *failures(events))


def test_one_that_ignores_every_wish_is_killed(tmp_path: Path) -> None:
    async def scenario() -> int:
        async with serving(tmp_path) as (gate, codex):
            await answer(gate, "stubborn")
            return await pid_of(codex)

    assert not exists(run(scenario()))


@pytest.mark.parametrize("way", ["killed", "hung", "ended"])
def test_nothing_that_a_child_started_is_left(tmp_path: Path, way: str) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (gate, codex):
            begun = asyncio.Event()
            held = asyncio.create_task(answer(gate, "orphans", begun))
            await begun.wait()
            await until(lambda: len(sleepers()) == 3)
            pid = await pid_of(codex)
            if way != "ended":
                child.HUNG = HASTY if way == "hung" else HUNG
                os.kill(pid, signal.SIGKILL if way == "killed" else signal.SIGSTOP)
                assert failures(await held) == ["codex_exited" if way == "killed" else "codex_hung"]
            else:
                held.cancel()
                await asyncio.wait({held})
                await gate.aclose()
            await until(lambda: not sleepers())

    run(scenario())


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> str:
    """As in a container of our own: the gates of other tests, which look for leftovers too, find none here."""
    namespace = f"9{os.getpid()}"
    monkeypatch.setattr(reap, "_namespace", lambda: namespace)
    return namespace


def test_what_a_dead_gate_left_is_ended_and_nothing_else(elsewhere: str) -> None:
    """Also when the dead gate's pid is another process's by now: the decoy."""

    def sleep(**environ: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["/bin/sleep", "60"], env=environ, start_new_session=True)

    decoy = sleep()
    namespace, pid, started, _ = reap.new_mark().split("-")
    looked = reap._look(decoy.pid)
    assert looked is not None
    spared = [
        decoy,
        sleep(CODEXGATE_CHILD=reap.new_mark()),
        sleep(CODEXGATE_CHILD=f"{namespace}-{decoy.pid}-{looked.started}-1"),
        sleep(CODEXGATE_CHILD=f"1{namespace}-{decoy.pid}-1-1"),
        sleep(CODEXGATE_CHILD="nonsense"),
        sleep(X=f"CODEXGATE_CHILD={namespace}-{decoy.pid}-1-1"),
    ]
    left = [
        sleep(CODEXGATE_CHILD=f"{namespace}-{decoy.pid}-{looked.started - 1}-1"),
        sleep(CODEXGATE_CHILD=f"{namespace}-{pid}-{int(started) - 1}-7"),
    ]
    shell = "env -i /bin/sh -c 'echo up; exec /bin/sleep 60' & wait; exec /bin/sleep 60"  # or it ends by itself first
    mark = {"CODEXGATE_CHILD": f"{namespace}-{decoy.pid}-1-2"}
    family = subprocess.Popen(["/bin/sh", "-c", shell], env=mark, stdout=subprocess.PIPE)
    left.append(family)
    try:
        assert family.stdout is not None and family.stdout.readline() == b"up\n"
        reap.end_leftovers()
        assert family.stdout.read() == b"", "its child bears no mark, but goes with it"
        assert [process.wait(timeout=20) for process in left] == [-signal.SIGKILL] * 3
        assert [process.poll() for process in spared] == [None] * len(spared)
    finally:
        for process in spared + left:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def test_a_gate_that_was_started_from_a_leftover_does_not_end_itself(elsewhere: str) -> None:
    script = (
        "from codexgate.backends.codex import reap; "
        f"reap._namespace = lambda: '{elsewhere}'; reap.end_leftovers(); print('lives')"
    )
    environ = {**os.environ, reap.NAME: f"{elsewhere}-1-1-1"}
    assert subprocess.check_output([sys.executable, "-c", script], env=environ, text=True) == "lives\n"


def test_the_next_start_ends_what_a_killed_gate_left(tmp_path: Path) -> None:
    """Two of the cycles of `make soak`: with the real Codex, and commands that run."""
    from tests import soak_codex

    async def scenario() -> soak_codex.Figures:
        figures = soak_codex.Figures()
        async with soak_codex.provider() as scripted:
            await soak_codex.kill(scripted.url, tmp_path, 2, figures)
        return figures

    figures = run(scenario())
    assert (figures.cycles.total(), figures.wrong) == (2, [])
