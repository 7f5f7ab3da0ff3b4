"""Kills imports and gates many times, and counts what the memory has lost or has twice: `make soak-memory`.

    python -m tests.soak_memory [--kills 1000] [--seed 0]

Every kill is a `kill -9` of a real process, on SQLite and on a real Postgres: an import, at any moment of
its life or just when it writes; two imports at once, of the same lines from both ends; a gate among calls of
`persist_memory`. Acknowledged is what a process has said: a line of `import --json`, the answer to a call.
It must be in the store, as it would be had nobody been killed. A store is killed on one to `MOST` times, each
process going on where the last one stopped, then once to the end: every text is there exactly once. Ends
with status 1 when a figure is missed.
"""

import argparse
import asyncio
import hashlib
import json
import math
import random
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import msgspec
import psycopg

from codexgate.cli.memory_import import BATCH
from codexgate.ports import MemoryStore
from codexgate.records import Filter, Vectored
from codexgate.stores.postgres_memory import PostgresMemories
from codexgate.stores.sqlite_memory import Memories
from tests.servers.postgres import Postgres
from tests.servers.program import COMMAND, environment

TEXTS = tuple(
    f"memory {hashlib.sha256(b'%d' % n).hexdigest()[:16]} of the sea, number {n}" for n in range(600)
)
"""Two whole batches of an import, and a part of one."""
CALLED = TEXTS[:48]
"""Those that a gate is called with."""
AT_ONCE = 8
"""Calls under way at one gate."""
MOST = 4
"""Kills on one store, at most."""
LOOKED_FOR = 3
"""Texts that are looked for in a store when it is complete."""
PATIENCE = 30.0
"""Seconds in which anything ends that nobody kills."""
GLANCE = 0.0005
"""Seconds between two looks at what a process has written."""

STATELESS = {
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": "2026-07-28",
    "Mcp-Method": "tools/call",
    "Mcp-Name": "persist_memory",
}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "soak", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}

Told = dict[str, str]
"""What was acknowledged: by text, the id."""
Way = Callable[["Trial"], int]
"""Starts processes, kills them, and looks; returns how many it killed: some end before."""


@dataclass
class Figures:
    """What was counted, by way."""

    stores: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    moments: Counter[tuple[str, str]] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


MOMENTS = ("none", "some", "untold")
"""What a store held when something was killed: nothing; texts, all acknowledged; and texts that nobody had
been told of yet, so that the kill fell between a commit and its acknowledgement."""


class Place(Protocol):
    """A store that processes are told to use."""

    name: str
    variables: dict[str, str]

    def clear(self) -> None:
        """It has never been used."""

    def written(self) -> int:
        """A number that changes when a process keeps something."""

    def look(self, texts: Sequence[str]) -> tuple[list[Vectored], list[str]]:
        """What is in it, and what is wrong with it; `texts` are looked for. Nobody may be using it."""


class Sqlite:
    """A file. What looks at it takes a copy: only who is killed next may mend what a kill has left."""

    name = "SQLite"

    def __init__(self, home: Path) -> None:
        self.variables: dict[str, str] = {}
        self._folder = home / "kept"

    def clear(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def written(self) -> int:
        try:
            return (self._folder / "memory.db-wal").stat().st_size
        except FileNotFoundError:
            return 0

    def look(self, texts: Sequence[str]) -> tuple[list[Vectored], list[str]]:
        with tempfile.TemporaryDirectory() as name:
            file = Path(name) / "memory.db"
            for suffix in ("", "-wal"):
                if (self._folder / f"memory.db{suffix}").exists():
                    shutil.copyfile(self._folder / f"memory.db{suffix}", f"{file}{suffix}")
            found, faults = asyncio.run(read(Memories(file), texts))
            with closing(sqlite3.connect(file)) as database:
                return found, faults + file_faults(database, found)


def file_faults(database: sqlite3.Connection, entries: Sequence[Vectored]) -> list[str]:
    """What is wrong with the file, or does not agree within it."""
    database.execute("INSERT INTO word (word) VALUES ('integrity-check')")  # raises
    words = Counter(
        word
        for entry in (each.entry for each in entries)
        for word in {*entry.content.replace(",", "").split(), *entry.tags}
    )
    numbers = database.execute("SELECT id FROM entry ORDER BY id").fetchall()
    last = database.execute("SELECT last FROM space").fetchall()
    agree = {
        "integrity": database.execute("PRAGMA integrity_check").fetchall() == [("ok",)],
        "entries": len(numbers) == len(entries),
        "texts of the index": database.execute("SELECT rowid FROM word ORDER BY 1").fetchall() == numbers,
        "words of the index": dict(database.execute("SELECT term, doc FROM word_count").fetchall()) == words,
        "vectors": database.execute("SELECT entry FROM vector ORDER BY 1").fetchall() == numbers,
        "last vector": last == numbers[-1:],
    }
    return [f"SQLite: {what}" for what, holds in agree.items() if not holds]


class InPostgres:
    """A server's one database."""

    name = "Postgres"

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self._watch: psycopg.Connection[Any] | None = None
        self.variables = {"CODEXGATE_MEMORY_DATABASE_URL": server.url}

    def clear(self) -> None:
        self._server.clear()

    def written(self) -> int:
        if self._watch is None:
            self._watch = psycopg.connect(self._server.url, autocommit=True)
        try:
            row = self._watch.execute("SELECT count(*) FROM memories.entries").fetchone()
        except psycopg.Error:  # there is no such table yet
            return 0
        return int(row[0]) if row else 0

    def look(self, texts: Sequence[str]) -> tuple[list[Vectored], list[str]]:
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        found, faults = asyncio.run(read(PostgresMemories(self._server.url), texts))
        self._server.run("CREATE EXTENSION IF NOT EXISTS amcheck")
        indexes = "SELECT indexrelid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
        ours = "indrelid = 'memories.entries'::regclass AND relam = (SELECT oid FROM pg_am WHERE amname = 'btree')"
        self._server.run(f"SELECT bt_index_check(indexrelid, true) FROM ({indexes} WHERE {ours}) AS each")
        (count,) = self._server.run("SELECT count(*) FROM memories.entries WHERE content_digest IS NOT NULL")[
            0
        ]
        return found, faults + ["Postgres: digests"] * (count != len(found))


async def read(store: MemoryStore, texts: Sequence[str]) -> tuple[list[Vectored], list[str]]:
    """All that is in it; and those of `texts` that are not found by what they mean or say."""
    found = [each async for batch in store.all(Filter(), vectors=True) for each in batch]
    faults = []
    for each in found:
        entry = each.entry
        if entry.content in texts:
            near = await store.near(each.vector, entry.model, Filter(), 1)
            worded = await store.worded(entry.content.split()[1], Filter(), 5)
            if [other.id for other, _ in near] != [entry.id] or [other.id for other in worded] != [entry.id]:
                faults.append(f"not found: {entry.content}")
    await store.aclose()
    return found, faults


# Processes


class Process:
    """A command of codexgate in `folder`, on a store; what it says goes into files."""

    def __init__(self, home: Path, folder: Path, place: Place, *arguments: str) -> None:
        self._out, self._err = folder / "out", folder / "err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                [*COMMAND, *arguments],
                env=environment(home, {"CODEXGATE_EMBEDDINGS_PROVIDER": "demo", **place.variables}),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> bool:
        """Whether there was still something to kill."""
        self._process.kill()
        return self._process.wait() == -signal.SIGKILL

    def close(self) -> None:
        """Nothing is left of it, whatever came between."""
        if self.lives:
            self.kill()

    def end(self, number: signal.Signals | None = None) -> str:
        """Wait for the end, that of a signal if there is one; empty, or why it is no good end."""
        if number is not None:
            self._process.send_signal(number)
        try:
            code = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            return "did not end"
        return f"ended with {code}: {self._err.read_text()[-300:]}" if code else ""


class Importing(Process):
    """An import of all `TEXTS`, forwards or backwards."""

    def __init__(self, home: Path, place: Place, *, backwards: bool = False) -> None:
        self._texts = TEXTS[::-1] if backwards else TEXTS
        folder = home / ("back" if backwards else "forth")  # not a part of what an entry is known by
        folder.mkdir(exist_ok=True)
        write_lines(folder / "all.jsonl", self._texts)
        super().__init__(home, folder, place, "memory", "import", "--json", "all.jsonl")

    def told(self) -> Told:
        """A line that is not whole was not told."""
        rows = [json.loads(row) for row in self._rows()]
        return {self._texts[row["line"] - 1]: row["id"] for row in rows if "id" in row}

    def sums(self) -> dict[str, int]:
        """The last line of one that has come to its end."""
        return dict(json.loads("".join(self._rows()[-1:]) or "{}"))

    def _rows(self) -> list[str]:
        return self._out.read_text().split("\n")[:-1]


def write_lines(file: Path, texts: Sequence[str]) -> None:
    """As lines to import, each with its own time, so that two stores of them are alike."""
    made = (
        {"content": text, "created": 1.7e9 + int(text.rpartition(" ")[2]), "tags": ["a", "b"]}
        for text in texts
    )
    file.write_text("".join(f"{json.dumps(each)}\n" for each in made))


class Gate(Process):
    """A gate that serves."""

    def __init__(self, home: Path, place: Place) -> None:
        super().__init__(home, home, place, "serve", "--port", "0", "--log-format", "json")
        end = time.monotonic() + PATIENCE
        while not (line := self._line(b"service.init")):
            assert self.lives and time.monotonic() < end, self._err.read_text()
            time.sleep(GLANCE)
        self.url: str = json.loads(line)["url"]

    def _line(self, word: bytes) -> bytes:
        lines = self._err.read_bytes().splitlines(keepends=True)
        return next((line for line in lines if word in line and line.endswith(b"\n")), b"")


async def call(session: aiohttp.ClientSession, text: str) -> dict[str, Any]:
    """What `persist_memory` answers."""
    params = {"name": "persist_memory", "arguments": {"content": text}, "_meta": META}
    message = {"jsonrpc": "2.0", "id": text, "method": "tools/call", "params": params}
    async with session.post("/mcp", data=json.dumps(message), headers=STATELESS) as answer:
        said = await answer.json()
    if "result" not in said or said["result"].get("isError"):
        raise AssertionError(f"{text}: {said}")
    return dict(said["result"]["structuredContent"])


async def call_all(url: str, tell: Callable[[str, dict[str, Any]], object]) -> None:
    """Call with all of `CALLED`, `AT_ONCE`; `tell` is told of every answer. A gate that dies ends it."""
    waiting = iter(CALLED)

    async def some(session: aiohttp.ClientSession) -> None:
        for text in waiting:
            tell(text, await call(session, text))

    async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(PATIENCE)) as session:
        outcomes = await asyncio.gather(*(some(session) for _ in range(AT_ONCE)), return_exceptions=True)
    for outcome in outcomes:
        if outcome is not None and not isinstance(outcome, aiohttp.ClientError):
            raise outcome


# Trials


class Expected(msgspec.Struct, frozen=True):
    """What is in a store where nobody was killed, and how long it took."""

    entries: dict[str, tuple[Any, ...]]
    seconds: float


def compared(each: Vectored) -> tuple[Any, ...]:
    """What must be the same, however it came in; vectors as float32, which both stores keep."""
    return (*msgspec.structs.astuple(each.entry), struct.pack(f"{len(each.vector)}f", *each.vector))


def undisturbed(home: Path, place: Place) -> Expected:
    """An import that nobody kills."""
    place.clear()
    begun = time.monotonic()
    run = Importing(home, place)
    failure = run.end()
    seconds = time.monotonic() - begun
    found, faults = place.look(TEXTS[:LOOKED_FOR])
    assert not failure and not faults, (failure, faults)
    assert sorted(each.entry.content for each in found) == sorted(TEXTS) == sorted(run.told())
    assert all(len(each.vector) == each.entry.dimension > 0 for each in found)
    return Expected({each.entry.content: compared(each) for each in found}, seconds)


class Trial:
    """One store: used and killed, again and again, and at last to the end."""

    def __init__(self, home: Path, place: Place, expected: Expected, rng: random.Random) -> None:
        self.home = home
        self.place = place
        self.rng = rng
        self.told: Told = {}
        self.there: Told = {}
        """What the last look has found: by text, the id."""
        self.wrong: list[str] = []
        self.lost: list[str] = []
        self.doubled: list[str] = []
        self._expected = expected
        place.clear()

    def wait_for_a_moment(self, process: Process) -> None:
        """Any of its life, or when it has kept something for the nth time: at once, or a little later."""
        left = 1 - len(self.there) / len(TEXTS)
        batches = math.ceil(left * len(TEXTS) / BATCH)
        if batches == 0 or self.rng.random() < 0.5:
            end, writes = self.rng.uniform(0, self._expected.seconds * (1 + left) / 2), 0
        else:
            end, writes = self._expected.seconds * 2, self.rng.randint(1, batches)
        end += time.monotonic()
        seen = self.place.written()
        while time.monotonic() < end and process.lives:
            if writes and (now := self.place.written()) != seen:
                seen, writes = now, writes - 1
                if not writes:
                    time.sleep(self.rng.choice((0, 0, self.rng.uniform(0, 0.005))))
                    return
            time.sleep(GLANCE)

    def end(self, process: Process, number: signal.Signals | None = None) -> None:
        """See it end, as it should."""
        if failure := process.end(number):
            self.wrong.append(failure)

    def tell(self, told: Told) -> None:
        """Note what was acknowledged; one text has one id, whoever says it."""
        for text, id in told.items():
            if self.told.setdefault(text, id) != id:
                self.doubled.append(f"two ids of {text}")

    def look(self, texts: Sequence[str] = (), *, imported: bool = True) -> None:
        """Look at everything. What a gate was told has ids and times of its own, and no tags."""
        found, faults = self.place.look(texts)
        self.wrong += faults
        self.there = {each.entry.content: each.entry.id for each in found}
        self.lost += [text for text, id in self.told.items() if self.there.get(text) != id]
        twice = 2 * len(found) - len(self.there) - len({each.entry.id for each in found})
        self.doubled += [f"{len(found)} entries of {len(self.there)} texts"] * twice
        part = slice(None) if imported else slice(-1, None)
        for each in found:
            if compared(each)[part] != self._expected.entries.get(each.entry.content, ())[part]:
                self.wrong.append(f"other than it would be: {each.entry}")

    @property
    def moment(self) -> str:
        """Which of `MOMENTS` it was that the last look has seen."""
        if not self.there:
            return "none"
        return "untold" if len(self.there) > len(self.told) else "some"


def one_import(trial: Trial) -> int:
    run = Importing(trial.home, trial.place)
    trial.wait_for_a_moment(run)
    killed = run.kill()
    if not killed:
        trial.end(run)
    trial.tell(run.told())
    trial.look()
    return int(killed)


def two_imports(trial: Trial) -> int:
    """Of the same lines; one of them is killed, and sometimes the other too."""
    runs = [Importing(trial.home, trial.place, backwards=backwards) for backwards in (False, True)]
    trial.rng.shuffle(runs)
    doomed = runs[: trial.rng.randint(1, 2)]
    killed = 0
    for run in runs:
        if run in doomed:
            trial.wait_for_a_moment(run)
        if run in doomed and run.kill():
            killed += 1
        else:
            trial.end(run)
    for run in runs:
        trial.tell(run.told())
    trial.look()
    return killed


def one_gate(trial: Trial) -> int:
    """Killed when it has answered so many calls, and others are under way."""
    enough = trial.rng.randrange(len(CALLED) - AT_ONCE)
    later = trial.rng.uniform(0, 0.01)
    answered: Told = {}

    async def scenario() -> None:
        reached = asyncio.Event()

        def tell(text: str, answer: dict[str, Any]) -> None:
            answered[text] = answer["memory"]["id"]
            if len(answered) > enough:
                reached.set()

        calling = asyncio.create_task(call_all(gate.url, tell))
        await reached.wait()
        await asyncio.sleep(later)
        gate.kill()
        await calling

    with closing(Gate(trial.home, trial.place)) as gate:
        asyncio.run(asyncio.wait_for(scenario(), PATIENCE))
    trial.tell(answered)
    trial.look(imported=False)
    return 1


def complete_import(trial: Trial) -> None:
    """The same command again, to its end."""
    before = len(trial.there)
    run = Importing(trial.home, trial.place)
    trial.end(run)
    trial.tell(run.told())
    if run.sums() != {"imported": len(TEXTS) - before, "present": before, "failed": 0, "skipped": 0}:
        trial.wrong.append(f"{before} were there, and then {run.sums()}")
    trial.look(trial.rng.sample(TEXTS, LOOKED_FOR))
    trial.lost += sorted(set(TEXTS) - trial.there.keys())


def complete_calls(trial: Trial) -> None:
    """The same calls again, and the gate stopped as one does."""
    missing = set(CALLED) - trial.there.keys()
    fresh: set[str] = set()

    def tell(text: str, answer: dict[str, Any]) -> None:
        trial.tell({text: answer["memory"]["id"]})
        if not answer["deduped"]:
            fresh.add(text)

    with closing(Gate(trial.home, trial.place)) as gate:
        asyncio.run(asyncio.wait_for(call_all(gate.url, tell), PATIENCE))
        trial.end(gate, signal.SIGTERM)
    if fresh != missing:
        trial.wrong.append(f"{len(missing)} were missing, and {len(fresh)} are said to be new")
    trial.look(trial.rng.sample(CALLED, LOOKED_FOR), imported=False)
    trial.lost += sorted(set(CALLED) - trial.there.keys())


WAYS: dict[str, tuple[Way, Callable[[Trial], None]]] = {
    "an import": (one_import, complete_import),
    "two imports": (two_imports, complete_import),
    "a gate": (one_gate, complete_calls),
}
SHARES = {"an import": 0.6, "two imports": 0.2, "a gate": 0.2}


def kill(
    home: Path, place: Place, expected: Expected, way: str, kills: int, seed: object, figures: Figures
) -> None:
    """Kill so many times, on as many stores as it takes."""
    rng = random.Random(f"{place.name} {way} {seed}")
    attempt, complete = WAYS[way]
    name = f"{place.name}, {way}"
    while figures.kills[name] < kills:
        trial = Trial(home, place, expected, rng)
        for _ in range(rng.randint(1, MOST)):
            killed = attempt(trial)
            figures.kills[name] += killed
            figures.moments[name, trial.moment] += killed
            if not killed:
                break
        complete(trial)
        figures.stores[name] += 1
        for all, its in (
            (figures.lost, trial.lost),
            (figures.doubled, trial.doubled),
            (figures.wrong, trial.wrong),
        ):
            all += [f"{name}, store {figures.stores[name]}: {each}" for each in dict.fromkeys(its)]


def soak(kills: int, seed: int) -> int:
    """Both stores side by side."""
    figures = Figures()
    begun = time.monotonic()

    def on(place: Place, folder: Path) -> None:
        expected = undisturbed(folder, place)
        for way, share in SHARES.items():
            kill(folder, place, expected, way, round(kills * share / 2), seed, figures)
            print(f"{time.monotonic() - begun:6.0f} s  {place.name}, {way}", flush=True)  # noqa: T201

    server = Postgres()
    try:
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            with ThreadPoolExecutor() as pool:
                ends = [
                    pool.submit(on, Sqlite(Path(one)), Path(one)),
                    pool.submit(on, InPostgres(server), Path(other)),
                ]
    finally:
        server.remove()
    show(figures)
    for end in ends:
        end.result()
    return int(any((figures.lost, figures.doubled, figures.wrong)))


def show(figures: Figures) -> None:
    print(f"{'way':24}{'kills':>7}{'stores':>8}" + "".join(f"{each:>8}" for each in MOMENTS))  # noqa: T201
    for name, count in figures.kills.items():
        moments = "".join(f"{figures.moments[name, each]:>8}" for each in MOMENTS)
        print(f"{name:24}{count:>7}{figures.stores[name]:>8}{moments}")  # noqa: T201
    print(f"{'all':24}{figures.kills.total():>7}{figures.stores.total():>8}")  # noqa: T201
    for what in ("lost", "doubled", "wrong"):
        lines = getattr(figures, what)
        print(f"{what:24}{len(lines):>7}")  # noqa: T201
        for line in lines[:20]:
            print(f"  {line}")  # noqa: T201


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill imports and gates, and count what the memory lost.")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="another one kills at other moments")
    options = parser.parse_args()
    return soak(options.kills, options.seed)


if __name__ == "__main__":
    sys.exit(main())
