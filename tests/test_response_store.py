"""The suite of the ports `ResponseStore` and `ConversationStore`; every store is one class in `STORES`.

Then what one store alone has.
"""

import asyncio
import logging
import os
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codexgate.assemble import make_responses
from codexgate.config import Secret
from codexgate.errors import GateError
from codexgate.records import ConversationRecord, Item, ResponseRecord
from codexgate.settings import Settings
from codexgate.stores import breaker, postgres_responses, sqlite_responses
from codexgate.stores import postgres as database
from codexgate.stores.database import HASTE, Database
from codexgate.stores.postgres import CONNECTIONS, Connection
from codexgate.stores.postgres_responses import PostgresResponses
from codexgate.stores.responses import Limits, ResponseOptions, Store
from codexgate.stores.sqlite_responses import Responses
from tests.servers.postgres import OTHERS, Postgres, unhurried
from tests.servers.worker import working
from tests.support import UNHURRIED, run, states, works_again

NOW = 1_000_000
DAY = 24 * 3600
LIMITS = Limits()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who tests the deadline undoes it."""
    unhurried(monkeypatch)


class Place:
    """Where one test's store is: opened any number of times, also by other processes, and aged."""

    kind: str
    where: str

    def __init__(self) -> None:
        self.now = float(NOW)

    def open(self, limits: Limits = LIMITS, ttl: float = 30 * DAY) -> Store:
        raise NotImplementedError

    def clock(self) -> float:
        return self.now


class SqlitePlace(Place):
    kind = "sqlite"

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__()
        folder: Path = request.getfixturevalue("tmp_path")
        self.where = str(folder / "deep" / "responses.db")

    def open(self, limits: Limits = LIMITS, ttl: float = 30 * DAY) -> Store:
        return Responses(Path(self.where), ttl=ttl, limits=limits, clock=self.clock)


class PostgresPlace(Place):
    kind = "postgres"

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__()
        self.where = request.getfixturevalue("postgres").url

    def open(self, limits: Limits = LIMITS, ttl: float = 30 * DAY) -> Store:
        return PostgresResponses(self.where, ttl=ttl, limits=limits, clock=self.clock)


STORES: dict[str, type[SqlitePlace | PostgresPlace]] = {"sqlite": SqlitePlace, "postgres": PostgresPlace}


@pytest.fixture(params=STORES)
def place(request: pytest.FixtureRequest) -> Place:
    return STORES[request.param](request)


def on(place: Place, body: Callable[[Store], Awaitable[None]], **options: Any) -> None:
    """Run `body` on the store, and close it."""

    async def bounded() -> None:
        store = place.open(**options)
        try:
            await body(store)
        finally:
            await store.aclose()
            await store.aclose()

    run(bounded())


def record(id: str, owner: str = "me", previous: str = "", **others: Any) -> ResponseRecord:
    fields: dict[str, Any] = {
        "created": NOW,
        "status": "completed",
        "body": f'{{"id": "{id}"}}'.encode(),
    } | others
    return ResponseRecord(id=id, owner=owner, previous=previous, **fields)


def conversation(id: str = "conv_1", owner: str = "me", **metadata: str) -> ConversationRecord:
    return ConversationRecord(id, owner, NOW, metadata)


def made(*ids: str) -> list[Item]:
    return [Item(id, f'{{"id": "{id}"}}'.encode()) for id in ids]


async def fails(operation: Awaitable[Any], code: str) -> GateError:
    """The error of `operation`, which must fail in that way."""
    with pytest.raises(GateError) as caught:
        await operation
    assert caught.value.fault.code == code
    if code == "response_store_unavailable":
        assert caught.value.fault.kind == "unavailable"
        assert caught.value.fault.retryable
    return caught.value


async def down(operation: Awaitable[Any]) -> str:
    return str(await fails(operation, "response_store_unavailable"))


# Responses


ODD = "a\0b\n\r\u2028\u0085\x1b[31mü😀".encode()


@pytest.mark.parametrize(
    "kept",
    [
        record("resp_1"),
        record("resp_1", status="in_progress", touched=1.25, input=b'[{"id": "x"}]', previous="resp_0"),
        record("resp_1", body=ODD, input=ODD),
        record("resp_1", body=b"", input=b"\xff\xfe"),
        record("resp_1", body=os.urandom(1000) * 5000, input=b"x" * 3_000_000),
        record("resp_ü 'x' %s :id \"", owner="%"),
        record("r" * 256),
    ],
    ids=["least", "all", "odd", "no-text", "big", "odd-id", "long-id"],
)
def test_what_was_saved_is_loaded_after_a_restart(place: Place, kept: ResponseRecord) -> None:
    on(place, lambda store: store.save(kept))

    async def again(store: Store) -> None:
        assert await store.load(kept.id, kept.owner) == kept

    on(place, again)


def test_saving_again_replaces_all_of_it(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.save(record("resp_1", status="queued", previous="resp_0", input=b"[1]"))
        final = record("resp_1", body=b"{}", touched=2.0, created=NOW + 1)
        await store.save(final)
        assert await store.load("resp_1", "me") == final

    on(place, body)


def test_a_response_is_its_owners_alone(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.save(record("resp_1"))
        for owner in ("you", "", "ME", "me "):
            await fails(store.load("resp_1", owner), "response_not_found")
            await fails(store.history("resp_1", owner), "response_not_found")
            await fails(store.cancel("resp_1", owner), "response_not_found")
            await fails(store.delete("resp_1", owner), "response_not_found")
            await fails(store.save(record("resp_1", owner, body=b"stolen")), "response_not_found")
        assert await store.load("resp_1", "me") == record("resp_1")
        assert not await store.touch("resp_1")

    on(place, body)


@pytest.mark.parametrize("id", ["resp_x", "", "a\0b", "\udcff", "a\nb", "x" * 257, "\x1b[31m"])
def test_what_is_not_there_is_not_found(place: Place, id: str) -> None:
    async def body(store: Store) -> None:
        await store.save(record("resp_1"))
        for operation in (
            store.load(id, "me"),
            store.history(id, "me"),
            store.delete(id, "me"),
            store.touch(id),
            store.cancel(id, "me"),
        ):
            error = await fails(operation, "response_not_found")
            assert error.fault.kind == "not_found"
            assert error.fault.message.isprintable()

    on(place, body)


def test_what_is_deleted_is_gone_with_its_input_and_nothing_else(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.save(record("resp_1"))
        await store.save(record("resp_2"))
        await store.delete("resp_1", "me")
        await fails(store.load("resp_1", "me"), "response_not_found")
        await fails(store.delete("resp_1", "me"), "response_not_found")
        assert await store.load("resp_2", "me") == record("resp_2")
        await store.save(record("resp_1", "you"))  # the id is free again
        assert await store.load("resp_1", "you") == record("resp_1", "you")

    on(place, body)


def test_who_runs_a_response_says_so_and_hears_of_a_wish_to_cancel(place: Place) -> None:
    async def body(store: Store) -> None:
        other = place.open()
        await store.save(record("resp_1", status="queued"))
        assert await store.touch("resp_1") is False
        place.now += 5.5
        assert await store.touch("resp_1") is False
        assert (await store.load("resp_1", "me")).touched == NOW + 5.5
        await other.cancel("resp_1", "me")
        await store.save(record("resp_1", status="in_progress", touched=NOW + 6.0))
        assert await store.touch("resp_1") is True
        assert await store.touch("resp_1") is True
        assert (await other.load("resp_1", "me")).status == "in_progress"
        await other.aclose()

    on(place, body)


def test_a_response_is_kept_for_its_time_after_it_was_made(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.save(record("resp_1"))
        await store.save(record("resp_2", created=NOW + DAY))
        place.now += 30 * DAY - 1
        await store.save(record("resp_1"))  # does not make it younger
        await store.load("resp_1", "me")
        place.now += 1
        for operation in (
            store.load("resp_1", "me"),
            store.history("resp_1", "me"),
            store.delete("resp_1", "me"),
            store.touch("resp_1"),
            store.cancel("resp_1", "me"),
        ):
            await fails(operation, "response_not_found")
        assert (await store.load("resp_2", "me")).id == "resp_2"

    on(place, body)


def test_what_has_run_out_is_deleted_by_the_next_writes(place: Place) -> None:
    async def body(store: Store) -> None:
        for number in range(5):
            await store.save(record(f"resp_{number}"))
        place.now += 31 * DAY
        await store.save(record("resp_new", created=int(place.now)))
        place.now -= 31 * DAY
        for number in range(5):
            await fails(store.load(f"resp_{number}", "me"), "response_not_found")
        await store.load("resp_new", "me")

    on(place, body)


def test_without_a_time_a_response_is_kept_for_ever(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.save(record("resp_1"))
        place.now += 100_000 * DAY
        await store.save(record("resp_2"))
        assert await store.load("resp_1", "me") == record("resp_1")

    on(place, body, ttl=0)


# Histories


def test_a_history_is_whole_and_oldest_first(place: Place) -> None:
    async def body(store: Store) -> None:
        records = [record("a"), record("b", previous="a"), record("c", previous="b", body=ODD)]
        for each in (*reversed(records), record("d", previous="a"), record("e")):
            await store.save(each)
        assert await store.history("c", "me") == tuple(records)
        assert await store.history("a", "me") == (record("a"),)
        assert [each.id for each in await store.history("d", "me")] == ["a", "d"]

    on(place, body)


def test_a_history_lasts_as_long_as_its_newest_link(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.save(record("a"))
        await store.save(record("b", created=NOW + DAY, previous="a"))
        await store.save(record("c", created=NOW + 20 * DAY, previous="b"))
        await store.save(record("d", created=NOW + 2 * DAY, previous="b"))  # shortens nothing
        await store.save(record("a"))  # nor does this
        place.now = NOW + 50 * DAY - 1
        assert [each.id for each in await store.history("c", "me")] == ["a", "b", "c"]
        await fails(store.load("d", "me"), "response_not_found")
        place.now += 1
        for id in "abc":
            await fails(store.load(id, "me"), "response_not_found")

    on(place, body)


def test_what_runs_out_while_it_is_gone_on_with_is_still_there(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.save(record("a"))
        place.now = NOW + 31 * DAY
        await store.save(record("b", created=NOW + 29 * DAY, previous="a"))
        assert [each.id for each in await store.history("b", "me")] == ["a", "b"]

    on(place, body)


def test_nobody_lengthens_the_time_of_anothers_response(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.save(record("a"))
        await store.save(record("b", "you", created=NOW + 20 * DAY, previous="a"))
        await fails(store.save(record("a", "you", created=NOW + 20 * DAY)), "response_not_found")
        place.now = NOW + 30 * DAY
        await fails(store.load("a", "me"), "response_not_found")

    on(place, body)


def test_a_history_in_a_circle_is_lengthened_once(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.save(record("a", previous="b"))
        await store.save(record("b", created=NOW + DAY, previous="a"))
        await store.save(record("a", created=NOW + 2 * DAY, previous="b"))
        place.now = NOW + 31 * DAY
        for id in "ab":
            await store.load(id, "me")

    on(place, body)


@pytest.mark.parametrize("how", ["deleted", "foreign", "never", "odd"])
def test_a_missing_link_is_named(place: Place, how: str) -> None:
    async def body(store: Store) -> None:
        link = "\0" if how == "odd" and place.kind == "sqlite" else "b"
        await store.save(record("a"))
        if how in ("deleted", "foreign"):
            await store.save(record("b", "me" if how == "deleted" else "you", previous="a"))
        if how == "deleted":
            await store.delete("b", "me")
        await store.save(record("c", previous=link))
        error = await fails(store.history("c", "me"), "response_not_found")
        assert link == "\0" or "'b'" in error.fault.message

    on(place, body)


def test_a_long_history_is_read_within_the_time_of_a_call(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(store: Store) -> None:
        for number in range(1000):
            await store.save(record(str(number), previous=str(number - 1) if number else ""))
        monkeypatch.undo()
        assert [each.id for each in await store.history("999", "me")] == list(map(str, range(1000)))

    on(place, body)


@pytest.mark.parametrize("limits", [Limits(count=4), Limits(size=40)])
def test_a_history_is_bounded(place: Place, limits: Limits) -> None:
    async def body(store: Store) -> None:
        for name, previous in ("ab", "bc", "cd", "de", "e "):
            await store.save(record(name, previous=previous.strip(), body=b"x" * 8))
        assert len(await store.history("b", "me")) == 4
        error = await fails(store.history("a", "me"), "history_too_long")
        assert error.fault.kind == "too_large"
        await store.save(record("e", previous="a"))
        await fails(store.history("a", "me"), "history_too_long")  # for ever in a circle

    on(place, body, limits=limits)


# Conversations


def test_a_conversation_is_kept_with_its_items_over_a_restart(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.create_conversation(conversation(topic="ü", x=""), [Item("msg_1", ODD), *made("z", "a")])
        await store.add_items("conv_1", "me", [Item("msg_2", b"x" * 3_000_000)])
        await store.add_items("conv_1", "me", [])
        await store.create_conversation(conversation("conv_2"), made("msg_1"))

    on(place, body)

    async def again(store: Store) -> None:
        place.now += 100_000 * DAY  # conversations do not run out
        assert await store.load_conversation("conv_1", "me") == conversation(topic="ü", x="")
        items = await store.items("conv_1", "me")
        assert items == (Item("msg_1", ODD), *made("z", "a"), Item("msg_2", b"x" * 3_000_000))
        assert await store.items("conv_2", "me") == tuple(made("msg_1"))

    on(place, again)


def test_the_metadata_of_a_conversation_is_replaced(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.create_conversation(conversation(a="1", b="2"), made("x"))
        metadata = {"c": "\0'%s", "😀": "\u2028"}
        changed = ConversationRecord("conv_1", "me", NOW, metadata)
        assert await store.update_conversation("conv_1", "me", metadata) == changed
        assert await store.load_conversation("conv_1", "me") == changed
        assert await store.items("conv_1", "me") == tuple(made("x"))

    on(place, body)


def test_a_conversation_is_its_owners_alone(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.create_conversation(conversation(), made("x"))
        for id, owner in [
            ("conv_1", "you"),
            ("conv_1", ""),
            ("conv_2", "me"),
            ("\0", "me"),
            ("\udcff", "me"),
        ]:
            for operation in (
                store.load_conversation(id, owner),
                store.update_conversation(id, owner, {}),
                store.delete_conversation(id, owner),
                store.add_items(id, owner, made("y")),
                store.items(id, owner),
                store.delete_item(id, owner, "x"),
            ):
                error = await fails(operation, "conversation_not_found")
                assert error.fault.kind == "not_found"
        for owner in ("me", "you"):
            await fails(
                store.create_conversation(conversation(owner=owner), made("y")), "conversation_exists"
            )
        assert await store.load_conversation("conv_1", "me") == conversation()
        assert await store.items("conv_1", "me") == tuple(made("x"))

    on(place, body)


def test_a_deleted_conversation_takes_its_items_along(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.create_conversation(conversation(), made("x", "y"))
        await store.create_conversation(conversation("conv_2"), made("x"))
        await store.delete_conversation("conv_1", "me")
        await fails(store.items("conv_1", "me"), "conversation_not_found")
        await store.create_conversation(conversation())
        assert await store.items("conv_1", "me") == ()
        assert await store.items("conv_2", "me") == tuple(made("x"))

    on(place, body)


def test_an_item_is_taken_out_and_the_others_keep_their_order(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.create_conversation(conversation(), made("a", "b", "c"))
        await store.delete_item("conv_1", "me", "c")
        for missing in ("c", "\0", ""):
            error = await fails(store.delete_item("conv_1", "me", missing), "item_not_found")
            assert error.fault.kind == "not_found"
        await store.delete_item("conv_1", "me", "a")
        await store.add_items("conv_1", "me", made("a", "0"))
        assert await store.items("conv_1", "me") == tuple(made("b", "a", "0"))

    on(place, body)


@pytest.mark.parametrize(
    ("items", "code"),
    [
        (made("new", "a"), "item_exists"),
        (made("new", "new"), "item_exists"),
        (made("new", ""), ""),
        (made("new", "a\0b"), ""),
        (made("new", "x" * 257), ""),
    ],
)
def test_items_are_added_all_or_none(place: Place, items: list[Item], code: str) -> None:
    async def body(store: Store) -> None:
        await store.create_conversation(conversation(), made("a"))
        error = await fails(store.add_items("conv_1", "me", items), code)
        assert error.fault.kind == "invalid_request"
        assert await store.items("conv_1", "me") == tuple(made("a"))
        if items[-1].id != "a":
            await fails(store.create_conversation(conversation("conv_2"), items), code)
            await fails(store.load_conversation("conv_2", "me"), "conversation_not_found")

    on(place, body)


@pytest.mark.parametrize("limits", [Limits(count=3), Limits(size=39)])
def test_a_conversation_is_bounded(place: Place, limits: Limits) -> None:
    async def body(store: Store) -> None:
        await fails(store.create_conversation(conversation(), made("a", "b", "c", "d")), "history_too_long")
        await store.create_conversation(conversation(), made("a", "b"))
        await fails(store.add_items("conv_1", "me", made("c", "d")), "history_too_long")
        await store.add_items("conv_1", "me", made("c"))
        await fails(store.add_items("conv_1", "me", made("d")), "history_too_long")
        assert await store.items("conv_1", "me") == tuple(made("a", "b", "c"))

    on(place, body, limits=limits)


# Several gates on one store


WORKER = """
import asyncio, sys
from itertools import count
from pathlib import Path
from codexgate.records import Item, ResponseRecord

def store(kind, where):
    if kind == "sqlite":
        from codexgate.stores.database import Database
        from codexgate.stores.sqlite_responses import Responses
        Database.do.__defaults__ = ({UNHURRIED},)
        return Responses(Path(where), clock=lambda: 1_000_000)
    from codexgate.stores.postgres_responses import PostgresResponses
    from pytest import MonkeyPatch
    from tests.servers.postgres import unhurried
    unhurried(MonkeyPatch())
    return PostgresResponses(where, clock=lambda: 1_000_000)

def record(name):
    return ResponseRecord(name, "me", 1_000_000, "completed", b"x" * 20_000)

async def acknowledge(responses, name):
    for number in count():
        await responses.save(record(f"{name}.{number}"))
        print(f"{name}.{number}", flush=True)

async def write(responses, name):
    async def writer(part):
        for number in range(10):
            id = f"{name}.{part}.{number}"
            await responses.save(record(id))
            await responses.add_items("conv_1", "me", [Item(id, b"{}"), Item(id + "'", b"{}")])
    await asyncio.gather(*map(writer, range(4)))
    print("done", flush=True)

async def main(kind, where, task, name):
    responses = store(kind, where)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await globals()[task](responses, name)
    await responses.aclose()

asyncio.run(main(*sys.argv[1:]))
""".replace("{UNHURRIED}", str(UNHURRIED))


def test_eight_writers_of_two_gates_lose_nothing(place: Place) -> None:
    on(place, lambda store: store.create_conversation(conversation()))
    with ExitStack() as stack:
        workers = [
            stack.enter_context(working(WORKER, place.kind, place.where, "write", name)) for name in "ab"
        ]
        assert [each.line() for each in workers] == ["ready"] * 2
        for each in workers:
            each.go_on()
        assert [each.line() for each in workers] == ["done"] * 2
    names = {f"{gate}.{part}.{number}" for gate in "ab" for part in range(4) for number in range(10)}

    async def body(store: Store) -> None:
        ids = [item.id for item in await store.items("conv_1", "me")]
        assert set(ids[::2]) == names
        assert ids[1::2] == [f"{id}'" for id in ids[::2]]  # what came together stands together
        for name in names:
            await store.load(name, "me")

    on(place, body)


def test_what_was_acknowledged_outlives_a_kill(place: Place) -> None:
    with working(WORKER, place.kind, place.where, "acknowledge", "a") as other:
        assert other.line() == "ready"
        other.go_on()
        acknowledged = [other.line() for _ in range(20)] + other.kill()

    async def body(store: Store) -> None:
        for id in acknowledged:
            assert (await store.load(id, "me")).body == b"x" * 20_000
        await store.save(record("resp_1"))

    on(place, body)


def test_gates_that_come_first_at_the_same_time_make_the_store_once(place: Place) -> None:
    async def body(store: Store) -> None:
        stores = [place.open() for _ in range(8)]
        await asyncio.gather(*(each.save(record(str(number))) for number, each in enumerate(stores)))
        for number in range(8):
            await store.load(str(number), "me")
        for each in stores:
            await each.aclose()

    on(place, body)


def test_a_store_may_be_used_in_one_loop_after_the_other(place: Place) -> None:
    store = place.open()
    run(store.save(record("resp_1")))
    assert run(store.load("resp_1", "me")) == record("resp_1")
    run(store.aclose())
    assert run(store.load("resp_1", "me")) == record("resp_1")
    run(store.aclose())


def test_a_store_of_a_newer_version_is_left_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sqlite_responses if place.kind == "sqlite" else postgres_responses
    with monkeypatch.context() as newer:
        newer.setattr(module, "MIGRATIONS", (*module.MIGRATIONS, "SELECT 1"))
        on(place, lambda store: store.save(record("resp_1")))

    async def body(store: Store) -> None:
        assert "newer codexgate" in await down(store.load("resp_1", "me"))
        assert "newer codexgate" in await down(store.save(record("resp_2")))

    on(place, body)


def test_migrations_go_on_where_the_store_stands(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    on(place, lambda store: store.save(record("resp_1")))
    module, table = (
        (sqlite_responses, "response")
        if place.kind == "sqlite"
        else (postgres_responses, "codexgate.response")
    )
    more = f"ALTER TABLE {table} ADD COLUMN extra TEXT; UPDATE {table} SET extra = 'x';"
    monkeypatch.setattr(module, "MIGRATIONS", (*module.MIGRATIONS, more))

    async def body(store: Store) -> None:
        assert await store.load("resp_1", "me") == record("resp_1")

    on(place, body)
    on(place, body)


# The settings choose


def test_without_a_url_it_is_sqlite(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, responses=ResponseOptions(ttl=0))
    run(make_responses(settings).save(record("resp_1")))
    assert run(make_responses(settings).load("resp_1", "me")).id == "resp_1"  # made long ago
    assert (tmp_path / "responses.db").exists()


def test_with_a_url_it_is_postgres(tmp_path: Path, postgres: Postgres) -> None:
    options = ResponseOptions(database_url=Secret(postgres.url))

    async def body() -> None:
        store = make_responses(Settings(data_dir=tmp_path, responses=options))
        now = int(time.time())
        await store.save(record("resp_1", created=now - 31 * DAY))
        await store.save(record("resp_2", created=now - 29 * DAY))
        await fails(store.load("resp_1", "me"), "response_not_found")
        await store.load("resp_2", "me")
        await store.aclose()

    run(body())
    assert not list(tmp_path.iterdir())


def test_only_who_sets_a_url_loads_the_library() -> None:
    check = "import sys, codexgate.assemble; sys.exit('psycopg' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


# SQLite alone


def test_the_files_are_their_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "r.db"
    run(Responses(path).save(record("resp_1")))
    with sqlite3.connect(path) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM response").fetchall()
        run(Responses(path).save(record("resp_2")))
        files = sorted(path.parent.iterdir())
        assert [file.name for file in files] == ["r.db", "r.db-shm", "r.db-wal"]
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    reader.close()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_an_unusable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "text.db").write_bytes(b"not a database, but long enough to be read as one" * 50)

    async def body() -> None:
        for path in (tmp_path / "file" / "r.db", tmp_path / "text.db"):
            store = Responses(path)
            for operation in (
                store.save(record("a")),
                store.load("a", "me"),
                store.touch("a"),
                store.items("a", "me"),
            ):
                assert f"{path} cannot be used" in await down(operation)

    run(body())


def test_a_file_that_somebody_keeps_to_himself_is_given_up_within_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Database.do, "__defaults__", (HASTE,))

    async def body() -> None:
        store = Responses(tmp_path / "r.db")
        await store.save(record("resp_1", created=int(time.time())))
        holder = sqlite3.connect(tmp_path / "r.db", isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        async with asyncio.timeout(4):  # SQLite's own patience is longer
            writes = (
                store.save(record("resp_2")),
                store.touch("resp_1"),
                store.create_conversation(conversation()),
            )
            assert all("locked" in text for text in await asyncio.gather(*map(down, writes)))
        holder.close()
        await store.touch("resp_1")

    run(body())


# Postgres alone


@pytest.mark.parametrize("connected", [True, False])
def test_a_frozen_server_is_given_up_and_found_again(
    postgres: Postgres, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, connected: bool
) -> None:
    caplog.set_level(logging.INFO)

    async def body() -> None:
        maker, store = (PostgresResponses(postgres.url, clock=lambda: NOW) for _ in range(2))
        await maker.save(record("resp_1"))
        await maker.aclose()
        if connected:
            await asyncio.gather(*(store.touch("resp_1") for _ in range(4)))
        postgres.freeze()
        monkeypatch.undo()
        monkeypatch.setattr(breaker, "time", SimpleNamespace(monotonic=lambda: 0.0))
        async with asyncio.timeout(UNHURRIED):
            calls = [store.touch("resp_1") for _ in range(24)]
            told = await asyncio.gather(*map(down, calls))
            name = f"Postgres at 127.0.0.1:{postgres.port}/postgres"
            assert f"{name} cannot be used: no answer within 2 s. {RUNNING}" in told
        unhurried(monkeypatch)
        async with asyncio.timeout(UNHURRIED / 2):  # then nobody even asks
            await down(store.load("resp_1", "me"))
        postgres.thaw()
        monkeypatch.setattr(breaker, "time", time)
        await works_again(lambda: store.touch("resp_1"))
        await store.load("resp_1", "me")  # answers belong to their questions
        await store.aclose()

    run(body())
    assert states(caplog) == ["response_store.down", "response_store.up"]


def test_who_leaves_a_frozen_server_leaves_at_once(postgres: Postgres) -> None:

    async def body() -> None:
        store = PostgresResponses(postgres.url, clock=lambda: NOW)
        await store.save(record("resp_1"))
        postgres.freeze()
        task = asyncio.create_task(store.load("resp_1", "me"))
        await asyncio.wait({task}, timeout=0.2)
        assert not task.done()
        task.cancel()
        await asyncio.wait({task}, timeout=UNHURRIED / 2)
        assert task.cancelled()
        postgres.thaw()
        await works_again(lambda: store.touch("resp_1"))
        await store.aclose()

    run(body())


def test_a_server_that_goes_and_comes_back_is_found_again(
    postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def body() -> None:
        store = PostgresResponses(postgres.url, clock=lambda: NOW)
        postgres.kill()
        assert (
            f"Postgres at 127.0.0.1:{postgres.port}/postgres cannot be used: connection refused"
            in await down(store.load("resp_1", "me"))
        )
        await asyncio.to_thread(postgres.start)
        await works_again(lambda: store.save(record("resp_1")))
        postgres.kill()
        await down(store.load("resp_1", "me"))
        await asyncio.to_thread(postgres.start)
        await works_again(lambda: store.touch("resp_1"))
        assert await store.history("resp_1", "me")
        await store.aclose()

    run(body())
    assert states(caplog) == ["response_store.down", "response_store.up"] * 2


def test_connections_that_were_ended_meanwhile_are_not_used(postgres: Postgres) -> None:

    async def body() -> None:
        store = PostgresResponses(postgres.url, clock=lambda: NOW)
        await store.save(record("resp_1"))
        await asyncio.gather(*(store.touch("resp_1") for _ in range(8)))
        postgres.run(f"SELECT pg_terminate_backend(pid, 5000) {OTHERS}")
        await store.touch("resp_1")
        await store.aclose()

    run(body())


def test_connections_are_few(postgres: Postgres) -> None:

    async def body() -> None:
        store = PostgresResponses(postgres.url, clock=lambda: NOW)
        await store.save(record("resp_1"))
        await asyncio.gather(*(store.load("resp_1", "me") for _ in range(60)))
        [(used,)] = postgres.run(f"SELECT count(*) {OTHERS}")
        assert 1 < used <= CONNECTIONS
        await store.aclose()

    run(body())


def test_the_server_gives_up_a_little_before_we_do(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    sent: list[object] = []
    execute = Connection.execute

    async def heard(connection: Connection, query: Any, *more: Any) -> Any:
        sent.append(query)
        return await execute(connection, query, *more)

    monkeypatch.setattr(Connection, "execute", heard)

    async def body() -> None:
        store = PostgresResponses(postgres.url, clock=lambda: NOW)
        await store.save(record("resp_1"))
        await store.aclose()

    run(body())
    assert sent[0] == database.BEGIN.format(limit=1800).encode()


def test_a_locked_table_holds_up_nobody_for_long_and_nothing_else(
    postgres: Postgres, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BEGIN", database.BEGIN.format(limit=1800))

    async def body() -> None:
        import psycopg

        store = PostgresResponses(postgres.url, clock=lambda: NOW)
        await store.save(record("resp_1"))
        with psycopg.connect(postgres.url) as holder:
            holder.execute("LOCK TABLE codexgate.response IN ACCESS EXCLUSIVE MODE")
            async with asyncio.timeout(UNHURRIED / 2):
                calls = asyncio.gather(*(down(store.touch("resp_1")) for _ in range(4)))
                await store.create_conversation(conversation(), made("x"))
                assert all("refused" in text for text in await calls)
            await store.items("conv_1", "me")
        await store.touch("resp_1")
        await store.aclose()

    run(body())
    assert states(caplog) == []


def test_who_may_not_make_tables_is_told_and_may_later(postgres: Postgres) -> None:
    postgres.run("DROP ROLE IF EXISTS poor; CREATE ROLE poor LOGIN")

    async def body() -> None:
        store = PostgresResponses(postgres.url.replace("postgres@", "poor@"), clock=lambda: NOW)
        assert "CREATE SCHEMA codexgate" in await down(store.save(record("resp_1")))
        postgres.run("CREATE SCHEMA codexgate AUTHORIZATION poor")
        await store.save(record("resp_1"))
        postgres.run("DROP SCHEMA codexgate CASCADE; CREATE SCHEMA codexgate AUTHORIZATION poor")
        assert "UndefinedTable" in await down(store.load("resp_1", "me"))
        await fails(store.load("resp_1", "me"), "response_not_found")  # made anew
        await store.aclose()

    run(body())


WHERE = "`codexgate config` says where responses.database_url comes from."
RUNNING = f"Is it running? {WHERE}"
EXAMPLE = "It looks like postgresql://user:password@host:5432/name."


@pytest.mark.parametrize(
    ("url", "reason", "advice"),
    [
        ("guarded:s3cret@127.0.0.1:{port}/{name}", "it does not accept this user and password", WHERE),
        ("guarded@127.0.0.1:{port}/{name}", "it wants a password", "It goes into the URL: postgresql://"),
        ("barred:s3cret@127.0.0.1:{port}/{name}", "it does not let this user in from here", "pg_hba.conf"),
        ("postgres:s3cret@127.0.0.1:{port}/nothing", "it has no such database or user", WHERE),
        ("postgres:s3cret@no-such-host.invalid/{name}", "unknown host", WHERE),
        ("postgres:s3cret@127.0.0.1:{port}/{name}?sslmode=require", "it does not speak TLS", "?sslmode="),
        ("postgres:s3cret@/{name}?host=/nowhere", "nothing listens there", RUNNING),
        ("postgres:s3cret@127.0.0.1:1/{name}", "connection refused", RUNNING),
    ],
)
def test_why_a_server_cannot_be_used_and_what_to_do_is_said_without_secrets(
    shared_postgres: Postgres, caplog: pytest.LogCaptureFixture, url: str, reason: str, advice: str
) -> None:
    caplog.set_level(logging.INFO)

    async def body() -> None:
        address = url.format(port=shared_postgres.port, name="postgres")
        store = PostgresResponses(f"postgresql://{address}")
        with pytest.raises(GateError, match=reason) as caught:
            await store.load("resp_1", "me")
        assert advice in caught.value.fault.advice
        assert caught.value.__suppress_context__
        said = repr(caught.value.fault) + caplog.text + repr([record.__dict__ for record in caplog.records])
        assert "s3cret" not in said
        await store.aclose()

    run(body())
    assert states(caplog) == ["response_store.down"]


def test_a_socket_does_as_well(postgres: Postgres) -> None:
    url = f"postgresql://postgres@:{postgres.port}/postgres?host={postgres.folder}"

    async def body() -> None:
        store = PostgresResponses(url, clock=lambda: NOW)
        await store.save(record("resp_1"))
        assert await store.load("resp_1", "me") == record("resp_1")
        await store.aclose()

    run(body())


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("s3cret", EXAMPLE),
        ("mysql://me:s3cret@host/x", EXAMPLE),
        ("host=host password=s3cret", EXAMPLE),
        ("postgresql://me:s3cret@host:port/x", EXAMPLE),
        ("postgresql://me:s3cret@host:99999/x", EXAMPLE),
        ("postgresql://me:s3cret@host/x?colour=s3cret", EXAMPLE),
        ("postgresql://me:s3cret%zz@host/x", EXAMPLE),
        ("postgresql://me:s3cret@host/x?sslmode=s3cret", "verify-full"),
    ],
)
def test_an_unusable_url_is_refused_and_not_shown(url: str, advice: str) -> None:
    with pytest.raises(GateError) as caught:
        PostgresResponses(url)
    assert caught.value.fault.code == "invalid_setting"
    assert caught.value.fault.param == "responses.database_url"
    assert advice in caught.value.fault.advice
    assert "s3cret" not in repr(caught.value.fault)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("url", "environ", "mode"),
    [
        ("postgresql://127.0.0.1/x", {}, "prefer"),
        ("postgresql://localhost:5432/x", {}, "prefer"),
        ("postgresql://[::1]/x", {}, "prefer"),
        ("postgresql:///x", {}, "prefer"),
        ("postgresql:///x?host=/run/postgresql", {}, "prefer"),
        ("postgresql://db.example/x", {}, "require"),
        ("postgresql://10.0.0.1/x", {}, "require"),
        ("postgresql://localhost,db.example/x", {}, "require"),
        ("postgresql://localhost.example/x", {}, "require"),
        ("postgresql:///x", {"PGHOST": "db.example"}, "require"),
        ("postgresql:///x?service=far", {}, "require"),
        ("postgresql://localhost/x?hostaddr=10.0.0.1", {}, "require"),
        ("postgresql://db.example/x", {"PGSSLMODE": "disable"}, None),
        ("postgresql://127.0.0.1/x", {"PGSSLMODE": "verify-full"}, None),
        ("postgresql://db.example/x?sslmode=disable", {"PGSSLMODE": "require"}, "disable"),
    ],
)
def test_what_leaves_the_machine_is_encrypted_unless_somebody_says_otherwise(
    url: str, environ: dict[str, str], mode: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGSSLMODE", "PGHOST", "PGHOSTADDR", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    asked: list[dict[str, Any]] = []

    async def connect(**parameters: Any) -> Connection:
        asked.append(parameters)
        raise OSError

    monkeypatch.setattr(Connection, "connect", connect)
    run(down(PostgresResponses(url).touch("resp_1")))
    assert [parameters.get("sslmode") for parameters in asked] == [mode]
