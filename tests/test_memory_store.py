"""The suite of the port `MemoryStore`; every store is one class in `STORES`. Then what one store alone has."""

import asyncio
import math
import random
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from codexgate.errors import GateError
from codexgate.ports import MemoryStore
from codexgate.recall import digest
from codexgate.records import Entry, Filter, Kept, Vectored
from codexgate.stores.postgres_memory import PostgresMemories
from codexgate.stores.sqlite_memory import Memories
from tests.servers.postgres import Postgres, unhurried
from tests.support import UNHURRIED, run, works_again

NOW = 1_700_000_000.25
ALL = Filter()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who tests the deadline undoes it."""
    unhurried(monkeypatch)


class Place:
    """Where one test's store is: opened any number of times, also by other processes."""

    kind: str
    where: str

    def open(self) -> MemoryStore:
        raise NotImplementedError


class SqlitePlace(Place):
    kind = "sqlite"

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.where = str(request.getfixturevalue("tmp_path") / "deep" / "memory.db")

    def open(self) -> MemoryStore:
        return Memories(Path(self.where), clock=lambda: NOW + 60)


class PostgresPlace(Place):
    kind = "postgres"

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.where = request.getfixturevalue("postgres").url

    def open(self) -> MemoryStore:
        return PostgresMemories(self.where, clock=lambda: NOW + 60)


STORES: dict[str, type[SqlitePlace | PostgresPlace]] = {"sqlite": SqlitePlace, "postgres": PostgresPlace}


@pytest.fixture(params=STORES)
def place(request: pytest.FixtureRequest) -> Place:
    return STORES[request.param](request)


def on(place: Place, body: Callable[[MemoryStore], Awaitable[None]]) -> None:
    """Run `body` on the store, and close it."""

    async def bounded() -> None:
        store = place.open()
        try:
            await body(store)
        finally:
            await store.aclose()
            await store.aclose()

    run(bounded())


def entry(content: str, namespace: str = "default", **others: Any) -> Entry:
    made = Entry(
        id=str(uuid.uuid5(uuid.NAMESPACE_OID, namespace + content)),
        namespace=namespace,
        content=content,
        summary=content[:300],
        created=NOW,
        model="demo/three",
        dimension=3,
        digest=digest(content),
    )
    return msgspec.structs.replace(made, **others)


def pointing(made: Entry, *vector: float) -> Vectored:
    """With a vector of unit length."""
    norm = math.hypot(*vector)
    made = msgspec.structs.replace(made, dimension=len(vector))
    return Vectored(made, tuple(value / norm for value in vector))


def plain(content: str, namespace: str = "default", **others: Any) -> Vectored:
    return pointing(entry(content, namespace, **others), 1, 0, 0)


def contents(entries: Sequence[Entry]) -> list[str]:
    return sorted(each.content for each in entries)


async def everything(store: MemoryStore, wanted: Filter = ALL, *, vectors: bool = False) -> list[Vectored]:
    return [each async for batch in store.all(wanted, vectors=vectors) for each in batch]


async def fails(operation: Awaitable[Any], code: str) -> str:
    """The error of `operation`, which must fail in that way."""
    with pytest.raises(GateError) as caught:
        await operation
    assert caught.value.fault.code == code
    return str(caught.value)


# What is kept


ODD = "a\0b'\"\\{},;--%s %(x)s :id $1 \n\r\t\u2028\u0085\x1b[31m \x10 \x100 ü 😀 ') DROP TABLE entry; --"


@pytest.mark.parametrize(
    "made",
    [
        entry("least"),
        entry(
            "all of it",
            "team/ü 'x' %s",
            summary="a summary",
            tags=("a", "b c", "{}", '"', ",", "NULL", "ü"),
            metadata={"n": 1, "f": 1.5, "none": None, "yes": True, "in": {"list": [1, "x", {"y": []}]}},
            source="notes/a b.md",
            created=NOW + 1 / 3,
        ),
        entry(ODD, summary=ODD, source=ODD, metadata={ODD: [ODD, {"k": ODD}], "\\u0000": "\\u0010"}),
        entry("x" * 50_000, summary="y" * 5_000),
        entry("ß" * 50_000, metadata={"big": 10**30, "small": 1e-300, "minus": -0.5}),
        entry(" \n surrounded \n ", created=1.0),
    ],
    ids=["least", "all", "odd", "long", "numbers", "blank"],
)
def test_what_was_added_is_there_after_a_restart_as_it_went_in(place: Place, made: Entry) -> None:
    made = msgspec.structs.replace(made, created=round(made.created, 6))

    async def keep(store: MemoryStore) -> None:
        assert await store.add([pointing(made, 3, 4, 0)]) == (Kept(made),)

    async def again(store: MemoryStore) -> None:
        assert await store.load([made.id]) == (made,)
        (found,) = await everything(store, vectors=True)
        assert found.entry == made
        assert found.vector == pytest.approx((0.6, 0.8, 0), abs=1e-7)
        assert await everything(store) == [Vectored(made, ())]

    on(place, keep)
    on(place, again)


def test_the_same_content_in_a_namespace_is_one_entry(place: Place) -> None:
    async def body(store: MemoryStore) -> None:
        first, second = entry("The same.", id=str(uuid.uuid4())), entry("The  same. ", id=str(uuid.uuid4()))
        elsewhere = entry("The same.", "other")
        assert first.digest == second.digest
        assert await store.add([pointing(first, 1, 0, 0)]) == (Kept(first),)
        assert await store.add([pointing(second, 1, 0, 0)]) == (Kept(first, deduped=True),)
        assert await store.add([pointing(elsewhere, 1, 0, 0)]) == (Kept(elsewhere),)
        assert await store.known("default", [first.digest, digest("unknown")]) == {first.digest: first}
        assert await store.known("nowhere", [first.digest]) == {}

    on(place, body)


def test_the_same_id_is_one_entry_whatever_it_says_now(place: Place) -> None:
    async def body(store: MemoryStore) -> None:
        first = entry("As it was.")
        changed = entry("As it is now.", id=first.id)
        await store.add([pointing(first, 1, 0, 0)])
        assert await store.add([pointing(changed, 1, 0, 0)]) == (Kept(first, deduped=True),)
        assert await store.load([first.id]) == (first,)

    on(place, body)


def test_duplicates_within_one_call_are_one_entry(place: Place) -> None:
    async def body(store: MemoryStore) -> None:
        first = entry("Twice.", id=str(uuid.uuid4()))
        kept = await store.add([plain("Once."), pointing(first, 1, 0, 0), plain("Twice."), plain("Once.")])
        assert [each.deduped for each in kept] == [False, False, True, True]
        assert kept[2].entry == first
        assert contents([each.entry for each in await everything(store)]) == ["Once.", "Twice."]

    on(place, body)


def test_all_of_a_call_is_kept_or_nothing(place: Place) -> None:
    async def body(store: MemoryStore) -> None:
        await store.add([plain("first")])
        bad = pointing(entry("of another model", model="demo/two"), 1, 0)
        await fails(store.add([plain("second"), bad]), "dimension_mismatch")
        assert contents([each.entry for each in await everything(store)]) == ["first"]

    on(place, body)


@pytest.mark.parametrize(
    ("model", "vector", "said"),
    [
        ("demo/two", (1.0, 0.0), ("demo/three with 3", "demo/two makes vectors with 2")),
        ("demo/three", (1.0, 0.0), ("demo/three with 3", "demo/three makes vectors with 2")),
        ("demo/other", (1.0, 0.0, 0.0), ("demo/three with 3", "demo/other makes vectors with 3")),
    ],
)
def test_a_namespace_holds_vectors_of_one_model_and_says_how_to_change_it(
    place: Place, model: str, vector: tuple[float, ...], said: tuple[str, str]
) -> None:
    async def body(store: MemoryStore) -> None:
        await store.add([plain("first", "my notes")])
        other = pointing(entry("second", "my notes", model=model), *vector)
        error = await fails(store.add([other]), "dimension_mismatch")
        assert all(part in error for part in said)
        assert f"codexgate memory reembed --namespace 'my notes' --model {model}" in error
        elsewhere = pointing(entry("second", "elsewhere", model=model), *vector)
        assert await store.add([elsewhere]) == (Kept(elsewhere.entry),)
        assert await store.namespaces() == (
            ("elsewhere", 1, model, len(vector)),
            ("my notes", 1, "demo/three", 3),
        )

    on(place, body)


def test_a_namespace_that_was_cleared_may_be_another_models(place: Place) -> None:
    async def body(store: MemoryStore) -> None:
        await store.add([plain("first"), plain("second")])
        assert await store.clear("default") == 2
        assert await store.clear("default") == 0
        assert await store.namespaces() == ()
        other = pointing(entry("first", model="demo/two"), 1, 0)
        assert await store.add([other]) == (Kept(other.entry),)
        assert await store.models() == (("demo/two", 2),)
        assert [found for found, _ in await store.near((1, 0), "demo/two", ALL, 5)] == [other.entry]

    on(place, body)


def test_what_is_deleted_is_found_by_nothing_any_more(place: Place) -> None:
    async def body(store: MemoryStore) -> None:
        kept, gone = entry("the kept word"), entry("the gone word")
        await store.add([pointing(kept, 1, 0, 0), pointing(gone, 0, 1, 0)])
        assert [each for each, _ in await store.near((0, 1, 0), "demo/three", ALL, 1)] == [gone]
        assert await store.delete([gone.id, gone.id, str(uuid.uuid4()), "no id"]) == 1
        assert await store.delete([]) == 0
        assert [each for each, _ in await store.near((0, 1, 0), "demo/three", ALL, 5)] == [kept]
        assert await store.worded("gone", ALL, 5) == ()
        assert await store.load([gone.id, "no id"]) == ()
        assert await store.known("default", [gone.digest]) == {}
        assert await store.add([pointing(gone, 0, 0, 1)]) == (Kept(gone),)
        assert [each for each, _ in await store.near((0, 0, 1), "demo/three", ALL, 1)] == [gone]

    on(place, body)


@pytest.mark.parametrize("newest_first", [False, True])
def test_everything_comes_in_the_order_of_its_making_in_batches(place: Place, newest_first: bool) -> None:
    async def body(store: MemoryStore) -> None:
        made = [plain(f"entry {number}", created=NOW - number % 7) for number in range(1_200)]
        for at in range(0, len(made), 400):
            await store.add(made[at : at + 400])
        batches = [batch async for batch in store.all(ALL, newest_first=newest_first)]
        assert len(batches) > 1
        assert all(batches)
        found = [each.entry for batch in batches for each in batch]
        created = sorted((each.entry.created for each in made), reverse=newest_first)
        assert [each.created for each in found] == created
        assert {each.id for each in found} == {each.entry.id for each in made}
        assert len(found) == len(made)

    on(place, body)


def test_what_was_found_is_told_when(place: Place) -> None:
    async def body(store: MemoryStore) -> None:
        first, second = entry("first"), entry("second")
        await store.add([pointing(first, 1, 0, 0), pointing(second, 1, 0, 0)])
        await store.touch([first.id, str(uuid.uuid4()), "no id"])
        accessed = {each.id: each.accessed for each in await store.load([first.id, second.id])}
        assert accessed == {first.id: NOW + 60, second.id: 0}

    on(place, body)


# What is found


def test_the_nearest_come_first_with_their_distance(place: Place) -> None:
    async def body(store: MemoryStore) -> None:
        made = [
            pointing(entry("east"), 1, 0, 0),
            pointing(entry("north-east"), 1, 1, 0),
            pointing(entry("north"), 0, 1, 0),
            pointing(entry("west"), -1, 0, 0),
        ]
        await store.add(made)
        found = await store.near((1, 0, 0), "demo/three", ALL, 10)
        assert [(each.content, round(distance, 4)) for each, distance in found] == [
            ("east", 0),
            ("north-east", 0.2929),
            ("north", 1),
            ("west", 2),
        ]
        assert len(await store.near((1, 0, 0), "demo/three", ALL, 2)) == 2
        assert await store.near((1, 0, 0), "demo/other", ALL, 2) == ()
        assert "demo/three with 3" in await fails(
            store.near((1, 0), "demo/three", ALL, 2), "dimension_mismatch"
        )

    on(place, body)


def test_among_many_the_nearest_are_those_that_arithmetic_says(place: Place) -> None:
    dice = random.Random(7)
    vectors = [[dice.gauss(0, 1) for _ in range(8)] for _ in range(1_500)]
    made = [
        pointing(entry(f"n{at}", namespace=f"space {at % 3}", tags=("even",) if at % 2 == 0 else ()), *vector)
        for at, vector in enumerate(vectors)
    ]
    asked = made[42].vector

    def nearest(meant: Callable[[Entry], bool], limit: int) -> list[str]:
        by = sorted(
            (each for each in made if meant(each.entry)),
            key=lambda each: -sum(a * b for a, b in zip(asked, each.vector, strict=True)),
        )
        return [each.entry.content for each in by[:limit]]

    async def body(store: MemoryStore) -> None:
        for at in range(0, len(made), 500):
            await store.add(made[at : at + 500])
        cases: list[tuple[Filter, Callable[[Entry], bool]]] = [
            (ALL, lambda each: True),
            (Filter(("space 1",)), lambda each: each.namespace == "space 1"),
            (Filter(("space 1", "space 2", "none")), lambda each: each.namespace != "space 0"),
            (Filter(("space 0",), ("even",)), lambda each: each.namespace == "space 0" and bool(each.tags)),
        ]
        for wanted, meant in cases:
            found = await store.near(asked, "demo/three", wanted, 10)
            assert [each.content for each, _ in found] == nearest(meant, 10)

    on(place, body)


PHRASES = (
    "Deployments happen on Tuesday.",
    "The deploy key rotates every month.",
    "Zürich has the largest office.",
    "snake_case or kebab-case in src/app/main.py",
    "nothing of the kind",
)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("deploy", {0, 1}),
        ("DEPLOYMENTS", {0}),
        ("rotates office", {1, 2}),
        ("zürich", {2}),
        ("kebab", {3}),
        ("snake", {3}),
        ("app", {3}),
        ("absent", set()),
        ("", set()),
        ('"', set()),
        ("office NOT (x", {2}),
        ("office AND (month", {1, 2}),
        ('month* NEAR("x" ^', {1}),
        ("text:office -month", {1, 2}),
        ("office'); DROP TABLE entry; --", {2}),
        ("month | ! & <-> :* \\ '", {1}),
        ("\0office\x1b", {2}),
    ],
)
def test_words_find_what_holds_them_or_begins_so_and_no_search_language_is_spoken(
    place: Place, query: str, found: set[int]
) -> None:
    async def body(store: MemoryStore) -> None:
        await store.add([plain(phrase) for phrase in PHRASES])
        worded = await store.worded(query, ALL, 10)
        assert {each.content for each in worded} == {PHRASES[at] for at in found}
        assert len(await store.worded("deploy", ALL, 1)) == 1

    on(place, body)


def test_summary_and_tags_are_words_too(place: Place) -> None:
    async def body(store: MemoryStore) -> None:
        made = entry("content", summary="about bicycles", tags=("garage-door",))
        await store.add([pointing(made, 1, 0, 0)])
        for query in ("bicycles", "garage", "door"):
            assert await store.worded(query, ALL, 10) == (made,)

    on(place, body)


FILTERED = [
    entry("one", "a", tags=("x", "y"), metadata={"k": "v", "n": 1, "on": True}, created=100.0),
    entry("two", "a", tags=("x",), metadata={"k": "v", "n": 1.5, "in": {"a": 1, "b": 2}}, created=200.0),
    entry("three", "b", tags=("x y",), metadata={"k": "w", "none": None, "on": 1}, created=300.0),
    entry("four", "c", metadata={"k": ["v"], "n": "1", "it's": 'a "b"'}, created=400.0),
]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(), {"one", "two", "three", "four"}),
        (Filter(("a",)), {"one", "two"}),
        (Filter(("b", "c", "none")), {"three", "four"}),
        (Filter(("' OR 1=1 --",)), set()),
        (Filter(tags=("x",)), {"one", "two"}),
        (Filter(tags=("x", "y")), {"one"}),
        (Filter(tags=("x y",)), {"three"}),
        (Filter(metadata={"k": "v"}), {"one", "two"}),
        (Filter(metadata={"k": ["v"]}), {"four"}),
        (Filter(metadata={"n": 1}), {"one"}),
        (Filter(metadata={"n": 1.5}), {"two"}),
        (Filter(metadata={"n": "1"}), {"four"}),
        (Filter(metadata={"on": True}), {"one"}),
        (Filter(metadata={"on": 1}), {"three"}),
        (Filter(metadata={"none": None}), {"three"}),
        (Filter(metadata={"in": {"b": 2, "a": 1}}), {"two"}),
        (Filter(metadata={"in": {"a": 1}}), set()),
        (Filter(metadata={"it's": 'a "b"'}), {"four"}),
        (Filter(metadata={"k": "v", "n": 1}), {"one"}),
        (Filter(since=200.0), {"two", "three", "four"}),
        (Filter(until=200.0), {"one"}),
        (Filter(("a",), ("x",), {"k": "v"}, 150.0, 250.0), {"two"}),
    ],
)
def test_a_filter_means_the_same_however_one_looks(place: Place, wanted: Filter, found: set[str]) -> None:
    async def body(store: MemoryStore) -> None:
        await store.add(
            [pointing(msgspec.structs.replace(e, content=f"word {e.content}"), 1, 0, 0) for e in FILTERED]
        )
        near = [each for each, _ in await store.near((1, 0, 0), "demo/three", wanted, 10)]
        listed = [each.entry for each in await everything(store, wanted)]
        for entries in (near, listed, await store.worded("word", wanted, 10)):
            assert {each.content.removeprefix("word ") for each in entries} == found
            assert len(entries) == len(found)

    on(place, body)


def test_which_models_are_in_which_namespaces(place: Place) -> None:
    async def body(store: MemoryStore) -> None:
        assert await store.models() == ()
        assert await store.models(("a",)) == ()
        await store.add([plain("1", "a"), plain("2", "a"), plain("3", "b")])
        await store.add([pointing(entry("4", "c", model="openai/some/model:x"), 1, 0)])
        await store.add([pointing(entry("5", "d", model="openai/local/x"), 1, 0)])
        assert set(await store.models()) == {
            ("demo/three", 3),
            ("openai/some/model:x", 2),
            ("openai/local/x", 2),
        }
        assert await store.models(("a", "b")) == (("demo/three", 3),)
        assert await store.models(("c", "none")) == (("openai/some/model:x", 2),)

    on(place, body)


# Vectors anew


def test_new_vectors_wait_beside_the_old_until_all_are_there(place: Place) -> None:
    async def body(store: MemoryStore) -> None:
        other = place.open()
        first, second = entry("first"), entry("second")
        await store.add([pointing(first, 1, 0, 0), pointing(second, 0, 1, 0), plain("third", "other")])
        assert len(await other.near((1, 0, 0), "demo/three", ALL, 5)) == 3
        await store.stage("demo/two", [(first.id, (1.0, 0.0)), (str(uuid.uuid4()), (1.0, 0.0))])
        assert await store.staged("default", "demo/two") == {first.id}
        assert await store.staged("other", "demo/two") == frozenset()
        assert await store.switch("default", "demo/two") == 0
        assert [e for e, _ in await store.near((0, 1, 0), "demo/three", ALL, 1)] == [second]
        await store.stage("demo/two", [(second.id, (0.0, 1.0)), (first.id, (0.0, -1.0))])
        assert await store.models(("default",)) == (("demo/three", 3),)
        assert await store.switch("default", "demo/two") == 2
        for each in (store, other):
            assert await each.models(("default",)) == (("demo/two", 2),)
            found = await each.near((0, 1), "demo/two", ALL, 5)
            assert [(e.content, e.model, e.dimension, round(d, 3)) for e, d in found] == [
                ("second", "demo/two", 2, 0),
                ("first", "demo/two", 2, 2),
            ]
            assert len(await each.near((1, 0, 0), "demo/three", ALL, 5)) == 1
        assert await store.staged("default", "demo/two") == frozenset()
        assert await store.switch("default", "demo/two") == 0
        await store.add([pointing(entry("fourth", model="demo/two"), 1, 0)])
        assert len(await other.near((0, 1), "demo/two", ALL, 5)) == 3
        await other.aclose()

    on(place, body)


def test_the_same_model_may_embed_anew_and_in_another_length(place: Place) -> None:
    async def body(store: MemoryStore) -> None:
        first = entry("first")
        await store.add([pointing(first, 1, 0, 0)])
        await store.stage("demo/three", [(first.id, (1.0, 0.0))])
        await store.stage("demo/three", [(first.id, (0.0, 1.0, 0.0))])
        assert await store.switch("default", "demo/three") == 1
        ((_, distance),) = await store.near((0, 1, 0), "demo/three", ALL, 5)
        assert distance == pytest.approx(0, abs=1e-6)

    on(place, body)


def test_what_comes_in_meanwhile_keeps_the_switch_from_happening(place: Place) -> None:
    async def body(store: MemoryStore) -> None:
        first, late = entry("first"), entry("late")
        await store.add([pointing(first, 1, 0, 0)])
        await store.stage("demo/two", [(first.id, (1.0, 0.0))])
        await store.add([pointing(late, 1, 0, 0)])
        assert await store.switch("default", "demo/two") == 0
        await store.delete([late.id])
        assert await store.switch("default", "demo/two") == 1

    on(place, body)


# Several at once


def test_what_one_adds_and_deletes_another_sees_at_once(place: Place) -> None:
    async def body(store: MemoryStore) -> None:
        other = place.open()
        await store.add([plain("old")])
        assert len(await other.near((1, 0, 0), "demo/three", ALL, 9)) == 1
        for number in range(5):
            made = pointing(entry(f"new {number}"), 0, 1, 0)
            await store.add([made])
            assert (await other.near((0, 1, 0), "demo/three", ALL, 1))[0][1] == pytest.approx(0, abs=1e-6)
            assert len(await other.near((0, 1, 0), "demo/three", ALL, 9)) == number + 2
        await store.delete([entry("new 0").id, entry("old").id])
        assert contents([e for e, _ in await other.near((1, 0, 0), "demo/three", ALL, 9)]) == [
            "new 1",
            "new 2",
            "new 3",
            "new 4",
        ]
        await other.add([plain("back")])
        assert len(await store.near((1, 0, 0), "demo/three", ALL, 9)) == 5
        await other.aclose()

    on(place, body)


WRITER = """
import asyncio, sys
from pathlib import Path
from pytest import MonkeyPatch
from tests.test_memory_store import Memories, PostgresMemories, plain, unhurried

async def main():
    kind, where, name, count = sys.argv[1:]
    unhurried(MonkeyPatch())
    store = Memories(Path(where)) if kind == "sqlite" else PostgresMemories(where)
    for at in range(int(count)):
        made = [plain(f"{name} {at} {n}") for n in range(5)] + [plain(f"shared {at}")]
        for kept in await store.add(made if name < "c" else made[::-1]):
            if not kept.deduped:
                print(kept.entry.id, flush=True)

asyncio.run(main())
"""


def writer(place: Place, name: str, count: int) -> subprocess.Popen[bytes]:
    """A process that adds entries and prints the id of each when it is kept."""
    command = [sys.executable, "-c", WRITER, place.kind, place.where, name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent)


def test_four_processes_write_at_once_and_nothing_is_lost_or_there_twice(place: Place) -> None:
    on(place, lambda store: store.namespaces())  # type: ignore[arg-type,return-value]
    processes = [writer(place, name, 12) for name in "abcd"]
    told = [process.communicate()[0].decode().split() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4

    async def body(store: MemoryStore) -> None:
        found = [each.entry for each in await everything(store)]
        assert sorted(each.id for each in found) == sorted(id for ids in told for id in ids)
        assert len({each.digest for each in found}) == len(found) == 4 * 12 * 5 + 12
        assert len(await store.near((1, 0, 0), "demo/three", ALL, 999)) == len(found)

    on(place, body)


def test_what_was_acknowledged_survives_the_kill_of_its_writer(place: Place) -> None:
    process = writer(place, "a", 100_000)
    assert process.stdout is not None
    told = [process.stdout.readline().decode().strip() for _ in range(50)]
    process.send_signal(signal.SIGKILL)
    told += process.communicate()[0].decode().split("\n")[:-1]  # the last may be cut

    async def body(store: MemoryStore) -> None:
        found = [each.entry for each in await everything(store)]
        assert {*told} <= {each.id for each in found}
        assert len({each.digest for each in found}) == len(found)
        assert len(found) % 6 == 0  # calls are whole
        assert len(await store.worded("shared", ALL, 10_000)) == len(found) // 6
        await store.add([plain("afterwards")])

    on(place, body)


# SQLite alone


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "memory.db"


def test_the_file_is_its_owners_alone(file: Path) -> None:
    run(Memories(file).add([plain("first")]))
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in file.parent.iterdir()} == {0o600}


@pytest.mark.parametrize(
    ("spoil", "advice"),
    [
        ("text", "file is not a database. Move it away"),
        ("folder", "`codexgate config` says where data_dir comes from."),
        ("newer", "Update this one."),
    ],
)
def test_a_file_that_cannot_be_used_is_said_to_be(file: Path, spoil: str, advice: str) -> None:
    file.parent.mkdir()
    if spoil == "text":
        file.write_text("no database at all, but a text\n" * 100)
    elif spoil == "folder":
        file.mkdir()
    else:
        with sqlite3.connect(file) as database:
            database.execute("PRAGMA user_version = 99")
    error = run(fails(Memories(file).add([plain("first")]), "memory_store_unavailable"))
    assert str(file) in error and advice in error


def test_a_writer_waits_for_another_process(file: Path) -> None:
    async def body() -> None:
        store = Memories(file)
        await store.add([plain("first")])
        with sqlite3.connect(file, isolation_level=None) as database:
            database.execute("BEGIN IMMEDIATE")
            adding = asyncio.create_task(store.add([plain("second")]))
            assert len(await store.near((1, 0, 0), "demo/three", ALL, 9)) == 1  # readers do not wait
            assert not adding.done()
            database.execute("COMMIT")
        (kept,) = await adding
        assert not kept.deduped

    run(body())


@pytest.mark.parametrize("newest_first", [False, True])
def test_no_batch_of_a_namespace_sorts_all_of_it(
    file: Path, monkeypatch: pytest.MonkeyPatch, newest_first: bool
) -> None:
    said: list[str] = []
    connect = sqlite3.connect

    def heard(*place: Any, **how: Any) -> sqlite3.Connection:
        database: sqlite3.Connection = connect(*place, **how)
        database.set_trace_callback(said.append)
        return database

    monkeypatch.setattr(sqlite3, "connect", heard)

    async def body(store: MemoryStore) -> None:
        await store.add([plain("first"), plain("second", "other")])
        assert [batch async for batch in store.all(Filter(("other",)), newest_first=newest_first)]
        await store.aclose()

    run(body(Memories(file)))
    asked = [one.replace("Inf", "9e999") for one in said if "ORDER BY entry.created" in one]
    assert asked
    with sqlite3.connect(file) as database:
        plans = [row[3] for one in asked for row in database.execute(f"EXPLAIN QUERY PLAN {one}")]
    assert not any("TEMP B-TREE" in step for step in plans), plans


# Postgres alone


BEFORE = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE SCHEMA memories;
CREATE TABLE memories.entries (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    execution_id uuid,
    task_name text NOT NULL,
    task_description text,
    repository_ref text NOT NULL DEFAULT 'main',
    repository_commit text,
    repository_path text,
    summary text NOT NULL,
    content text NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    tags text[] NOT NULL DEFAULT '{}',
    source text NOT NULL,
    embedding vector(3) NOT NULL,
    encoder_model text NOT NULL,
    encoder_version text,
    last_accessed_at timestamptz,
    next_review_at timestamptz
);
CREATE INDEX ON memories.entries USING ivfflat (embedding vector_cosine_ops) WITH (lists = 1);
INSERT INTO memories.entries (created_at, task_name, summary, content, tags, source, embedding, encoder_model)
VALUES ('2025-01-01Z', 'default', 'old', 'An old memory.', '{a}', 'jangar.mcp', '[1,0,0]', 'three'),
    ('2025-01-02Z', 'default', 'old', 'An old  memory. ', '{}', 'jangar.mcp', '[1,0,0]', 'three'),
    ('2025-01-03Z', 'default', 'new', 'Another one.', '{}', 'jangar.mcp', '[0,1,0]', 'three');
"""


def test_the_table_of_the_service_before_is_used_as_it_is(postgres: Postgres) -> None:
    postgres.run(BEFORE)

    async def body() -> None:
        store = PostgresMemories(postgres.url)
        assert await store.namespaces() == (("default", 3, "openai/three", 3),)
        found = await store.near((1, 0, 0), "openai/three", Filter(("default",)), 2)
        assert [each.content for each, _ in found] == ["An old memory.", "An old  memory. "]
        assert found[0][0].digest == found[1][0].digest == digest("An old memory.")
        assert contents(await store.worded("old", ALL, 9)) == ["An old  memory. ", "An old memory."]
        again = pointing(entry("An old memory.", model="openai/three"), 1, 0, 0)
        assert await store.add([again]) == (Kept(found[0][0], deduped=True),)
        new = pointing(entry("Of today.", model="openai/three"), 0, 0, 1)
        assert await store.add([new]) == (Kept(new.entry),)
        short = pointing(entry("Short.", "elsewhere", model="demo/two"), 1, 0)
        error = await fails(store.add([short]), "dimension_mismatch")
        assert "with 3 dimensions" in error
        assert "with 2" in error
        assert error.endswith("codexgate memory reembed --model demo/two")
        await store.aclose()

    run(body())
    # The service before still writes and reads.
    postgres.run(
        "INSERT INTO memories.entries (task_name, summary, content, source, embedding, encoder_model) "
        "VALUES ('default', 'x', 'From the other side.', 'jangar.mcp', '[0,1,1]', 'three')"
    )
    assert postgres.run("SELECT encoder_model FROM memories.entries WHERE content = 'Of today.'") == [
        ("three",)
    ]

    async def later() -> None:
        store = PostgresMemories(postgres.url)
        assert contents(await store.worded("side", ALL, 9)) == ["From the other side."]
        await store.aclose()

    run(later())


def test_a_column_of_one_dimension_gives_way_to_vectors_of_another(postgres: Postgres) -> None:
    postgres.run(BEFORE)

    async def body() -> None:
        store = PostgresMemories(postgres.url)
        ids = [each.entry.id for each in await everything(store)]
        await store.stage("demo/two", [(id, (1.0, 0.0)) for id in ids])
        assert await store.switch("default", "demo/two") == 3
        assert await store.models() == (("demo/two", 2),)
        assert len(await store.near((1, 0), "demo/two", ALL, 9)) == 3
        await store.add([pointing(entry("New.", "other"), 1, 0, 0)])
        await store.aclose()

    run(body())


def test_who_keeps_his_vectors_when_a_column_gives_way_keeps_an_index(postgres: Postgres) -> None:
    postgres.run(BEFORE)

    async def body() -> None:
        store = PostgresMemories(postgres.url)
        await store.add([plain("Of three.", "other")])
        ids = [each.entry.id for each in await everything(store, Filter(("default",)))]
        await store.stage("demo/two", [(id, (1.0, 0.0)) for id in ids])
        await store.switch("default", "demo/two")
        await store.aclose()

    run(body())
    indexes = postgres.run("SELECT indexname FROM pg_indexes WHERE indexname LIKE 'entries_hnsw%' ORDER BY 1")
    assert indexes == [("entries_hnsw_2",), ("entries_hnsw_3",)]


def test_an_empty_column_of_one_dimension_gives_way_at_once(postgres: Postgres) -> None:
    postgres.run(BEFORE)
    postgres.run("DELETE FROM memories.entries")

    async def body() -> None:
        store = PostgresMemories(postgres.url)
        for size in (2, 4, 2):
            made = [pointing(entry(f"{n}", f"of {size}", model=f"demo/{size}"), *[1] * size) for n in "ab"]
            assert len(await store.add(made)) == 2
            assert len(await store.near(made[0].vector, f"demo/{size}", ALL, 9)) == 2
        await store.aclose()

    run(body())
    indexes = postgres.run("SELECT indexname FROM pg_indexes WHERE indexname LIKE 'entries_hnsw%' ORDER BY 1")
    assert indexes == [("entries_hnsw_2",), ("entries_hnsw_4",)]


def test_among_thousands_the_index_finds_the_nearest(postgres: Postgres) -> None:
    dice = random.Random(3)
    made = [
        pointing(entry(f"n{at}", f"space {at % 2}"), *(dice.gauss(0, 1) for _ in range(16)))
        for at in range(5_000)
    ]

    async def body() -> None:
        store = PostgresMemories(postgres.url)
        for at in range(0, len(made), 1_000):
            await store.add(made[at : at + 1_000])
        valid = "SELECT count(*) FROM pg_index JOIN pg_class ON oid = indexrelid WHERE indisvalid AND relname = 'entries_hnsw_16'"
        while postgres.run(valid) != [(1,)]:  # it is made meanwhile
            await asyncio.sleep(0.05)
        for each in made[::500]:
            for wanted in (ALL, Filter((each.entry.namespace,))):
                found = await store.near(each.vector, "demo/three", wanted, 20)
                assert found[0][0] == each.entry
                assert len(found) == 20
        await store.aclose()

        used = "SELECT idx_scan > 0 FROM pg_stat_user_indexes WHERE indexrelname = 'entries_hnsw_16'"
        while postgres.run(used) != [(True,)]:  # it counts when a session has ended
            await asyncio.sleep(0.05)

    run(body())


def test_big_vectors_are_searched_too(postgres: Postgres) -> None:
    async def body() -> None:
        store = PostgresMemories(postgres.url)
        for size in (2_000, 3_072, 4_096):
            namespace = f"of {size}"
            made = [
                pointing(
                    entry(str(at), namespace, model=f"demo/{size}"),
                    *([0.0] * at),
                    1,
                    *([0.0] * (size - at - 1)),
                )
                for at in range(3)
            ]
            await store.add(made)
            found = await store.near(made[1].vector, f"demo/{size}", ALL, 1)
            assert [(each.content, round(distance, 3)) for each, distance in found] == [("1", 0)]
        await store.aclose()

    run(body())
    indexes = postgres.run("SELECT indexname FROM pg_indexes WHERE indexname LIKE 'entries_hnsw%' ORDER BY 1")
    assert [name for (name,) in indexes] == ["entries_hnsw_2000", "entries_hnsw_3072"]


def test_a_database_of_an_older_version_is_brought_up_to_date(postgres: Postgres) -> None:
    async def body() -> None:
        store = PostgresMemories(postgres.url)
        (kept,) = await store.add([plain("first")])
        await store.aclose()
        postgres.run("DROP TABLE codexgate.memory_found")
        postgres.run("UPDATE codexgate.version SET number = 1 WHERE part = 'memory'")
        postgres.run("UPDATE memories.entries SET last_accessed_at = to_timestamp(5)")
        store = PostgresMemories(postgres.url, clock=lambda: 9.0)
        assert [each.accessed for each in await store.load([kept.entry.id])] == [5.0]
        await store.touch([kept.entry.id])
        assert [each.accessed for each in await store.load([kept.entry.id])] == [9.0]
        await store.aclose()

    run(body())


def test_without_the_extension_it_says_what_to_run(postgres: Postgres) -> None:
    postgres.run("DROP EXTENSION IF EXISTS vector CASCADE")
    postgres.run("DROP ROLE IF EXISTS plain_user")
    postgres.run("CREATE ROLE plain_user LOGIN")
    postgres.run("GRANT CREATE ON DATABASE postgres TO plain_user")

    async def body() -> None:
        store = PostgresMemories(postgres.url.replace("postgres@", "plain_user@"))
        # pgvector is no trusted extension: only a superuser may create it.
        error = await fails(store.add([plain("first")]), "memory_store_unavailable")
        assert "CREATE EXTENSION vector;" in error
        postgres.run("CREATE EXTENSION vector")
        (kept,) = await store.add([plain("first")])  # tried again on the next call
        assert not kept.deduped
        await store.aclose()

    try:
        run(body())
    finally:
        postgres.clear()
        postgres.run("DROP OWNED BY plain_user")
        postgres.run("DROP ROLE plain_user")


def test_no_statement_holds_a_value(postgres: Postgres) -> None:
    """Whatever the texts are, the server is sent the same statements."""

    def sent(word: str) -> set[str]:
        postgres.run("ALTER SYSTEM SET log_statement = 'all'")
        postgres.run("SELECT pg_reload_conf()")
        log = postgres.folder / "log"
        before = log.stat().st_size

        async def body() -> None:
            store = PostgresMemories(postgres.url)
            made = entry(word, word, tags=(word,), metadata={word: word}, source=word, model=f"demo/{word}")
            await store.add([pointing(made, 1, 0, 0)])
            wanted = Filter((word,), (word,), {word: word}, since=1.0, until=NOW * 2)
            await store.known(word, [made.digest])
            await store.near((1, 0, 0), made.model, wanted, 5)
            await store.worded(word, wanted, 5)
            await everything(store, wanted, vectors=True)
            await store.load([made.id])
            await store.touch([made.id])
            await store.stage(word, [(made.id, (1.0, 0.0))])
            await store.staged(word, word)
            await store.switch(word, word)
            await store.namespaces()
            await store.models((word,))
            await store.models()
            await store.delete([made.id])
            await store.clear(word)
            await store.aclose()

        try:
            run(body())
        finally:
            postgres.run("ALTER SYSTEM RESET log_statement")
            postgres.run("SELECT pg_reload_conf()")
        with log.open() as lines:
            lines.seek(before)
            text = re.sub(r"^\d{4}-.*? \[\d+\] ", "@@", lines.read(), flags=re.MULTILINE)
        found = re.findall(r"@@LOG: +(?:statement|execute [^:]*): (.*?)(?=@@|\Z)", text, re.DOTALL)
        return {" ".join(statement.split()) for statement in found}

    postgres.run("CREATE EXTENSION IF NOT EXISTS vector")  # which a first store would send, and no other
    ordinary = sent("ordinary")
    assert len(ordinary) > 15
    for odd in ("word'; DROP TABLE memories.entries; --", 'word"b\\', "$1 %s {0} $$ DO", "ü\u2028😀 word"):
        postgres.clear()
        assert sent(odd) == ordinary


def test_a_server_that_is_away_is_told_in_time_and_found_again(postgres: Postgres) -> None:
    async def body() -> None:
        store = PostgresMemories(postgres.url)
        await store.add([plain("first")])
        postgres.kill()
        await fails(store.near((1, 0, 0), "demo/three", ALL, 1), "memory_store_unavailable")
        postgres.start()
        await works_again(lambda: store.load([entry("first").id]))
        assert len(await store.load([entry("first").id])) == 1
        await store.aclose()

    run(body())


def test_a_frozen_server_holds_nobody(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        store = PostgresMemories(postgres.url)
        await store.add([plain("first")])
        postgres.freeze()
        monkeypatch.undo()
        async with asyncio.timeout(UNHURRIED):
            await fails(store.worded("first", ALL, 1), "memory_store_unavailable")
        await store.aclose()

    run(body())
