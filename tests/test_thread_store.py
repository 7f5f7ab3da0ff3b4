"""The suite of the port `ThreadStore`; every store is one class in `STORES`. Then what one store alone has."""

import asyncio
import fcntl
import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from codexgate.assemble import make_threads
from codexgate.config import Secret
from codexgate.errors import GateError
from codexgate.ports import ThreadStore
from codexgate.records import ThreadRecord
from codexgate.settings import Settings, load_settings
from codexgate.stores import breaker, redis, sqlite
from codexgate.stores.database import HASTE, Database
from codexgate.stores.redis import RedisThreads
from codexgate.stores.sqlite import Threads
from codexgate.stores.threads import ThreadOptions, unavailable
from tests.servers.ports import own_port
from tests.servers.valkey import Valkey
from tests.servers.worker import working
from tests.support import UNHURRIED, run, states, unhurried, works_again

WEEK = 7 * 24 * 3600


class Place:
    """Where one test's store is: opened any number of times, also by other processes, and aged."""

    lease = 0.0
    """Seconds after which a lock that is not renewed is free, where locks are leases."""

    def open(self) -> ThreadStore:
        raise NotImplementedError

    @property
    def words(self) -> tuple[str, str]:
        """For `WORKER`: which store, and where."""
        raise NotImplementedError

    def pass_time(self, seconds: float) -> None:
        raise NotImplementedError


class SqlitePlace(Place):
    def __init__(self, folder: Path, valkey: "Valkey") -> None:
        self.path = folder / "deep" / "threads.db"
        self.now = 1_000_000.0

    def open(self) -> ThreadStore:
        return Threads(self.path, clock=lambda: self.now)

    @property
    def words(self) -> tuple[str, str]:
        return "sqlite", str(self.path)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds


class RedisPlace(Place):
    lease = redis.LEASE

    def __init__(self, folder: Path, valkey: "Valkey") -> None:
        self.valkey = valkey

    def open(self) -> ThreadStore:
        return RedisThreads(self.valkey.url)

    @property
    def words(self) -> tuple[str, str]:
        return "redis", self.valkey.url

    def pass_time(self, seconds: float) -> None:
        with self.valkey.client() as client:
            for key in client.scan_iter():
                client.pexpire(key, client.pttl(key) - int(seconds * 1000))


STORES: dict[str, type[SqlitePlace | RedisPlace]] = {"sqlite": SqlitePlace, "redis": RedisPlace}


@pytest.fixture(params=STORES)
def place(request: pytest.FixtureRequest, tmp_path: Path, valkey: Valkey) -> Place:
    return STORES[request.param](tmp_path, valkey)


SOON = 4.0
"""Seconds for what takes less than one; the library's own patience is longer."""
WORKER = """
import asyncio, sys
from pathlib import Path

def store(kind, where):
    if kind == "sqlite":
        from codexgate.stores.database import Database
        from codexgate.stores.sqlite import Threads
        Database.do.__defaults__ = ({UNHURRIED},)
        return Threads(Path(where))
    from codexgate.stores import redis
    redis.DEADLINE = {UNHURRIED}
    return redis.RedisThreads(where)

async def hold(threads):
    async with threads.lock("a", 0):
        print("held", flush=True)
        await asyncio.to_thread(sys.stdin.readline)

async def count(threads):
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    numbers = []
    async def writer():
        for _ in range(50):
            numbers.append(await threads.begin("a"))
    await asyncio.gather(writer(), writer())
    print(*numbers, flush=True)

async def main(task, *where):
    threads = store(*where)
    await globals()[task](threads)
    await threads.aclose()

asyncio.run(main(*sys.argv[1:]))
""".replace("{UNHURRIED}", str(UNHURRIED))


async def fails(operation: Any, kind: str = "unavailable") -> GateError:
    """The error of `operation`, which must fail in that way."""
    with pytest.raises(GateError) as caught:
        await operation
    assert caught.value.fault.kind == kind
    assert caught.value.fault.retryable
    if kind == "unavailable":
        assert caught.value.fault.code == "thread_store_unavailable"
    return caught.value


async def enter(threads: ThreadStore, wait: float, chat: str = "a") -> None:
    async with threads.lock(chat, wait):
        pass


# What is kept


def test_an_unknown_chat_is_empty(place: Place) -> None:
    async def test() -> None:
        threads = place.open()
        assert await threads.load("a") == ThreadRecord()
        assert await threads.worktree("a") == ""
        assert await threads.worktrees() == frozenset()
        await threads.aclose()

    run(test())


def test_what_was_saved_is_loaded_by_another_gate(place: Place) -> None:
    async def test() -> None:
        one, other = place.open(), place.open()
        assert await one.begin("a") == 1
        await one.save("a", "thread-1", ["x", "ü"])
        assert await other.load("a") == ThreadRecord("thread-1", 1, ("x", "ü"))
        await other.save("a", "thread-2", ())
        assert await one.begin("a") == 2
        assert await one.load("a") == ThreadRecord("thread-2", 2)
        assert await one.load("b") == ThreadRecord()
        await one.aclose()
        await other.aclose()

    run(test())


def test_the_turn_goes_on_over_forgetting(place: Place) -> None:
    async def test() -> None:
        threads = place.open()
        await threads.begin("a")
        await threads.save("a", "thread-1", ["x"])
        await threads.forget("a")
        await threads.forget("never seen")
        assert await threads.load("a") == ThreadRecord("", 1)
        assert await threads.begin("a") == 2
        await threads.aclose()

    run(test())


@pytest.mark.parametrize(
    "chat", ["ü/../x", "a'b", "%", "*", "x" * 1000, "a\0b", "", "a:lock", "\udcff", "a b"]
)
def test_any_text_is_a_chat(place: Place, chat: str) -> None:
    async def test() -> None:
        threads = place.open()
        async with threads.lock(chat, 0), threads.lock(chat + "y", 0):
            await threads.begin(chat)
            await threads.save(chat, "thread-1", ["x"])
            await threads.save(chat + "y", "thread-2", ["y"])
            await threads.keep_worktree(chat, "oslo")
        assert await threads.load(chat) == ThreadRecord("thread-1", 1, ("x",))
        assert await threads.worktrees() == {"oslo"}
        await threads.aclose()

    run(test())


def test_a_chat_is_kept_for_seven_days_after_its_last_write(place: Place) -> None:
    async def test() -> None:
        threads = place.open()
        writes = (
            lambda: threads.begin("a"),
            lambda: threads.save("a", "thread-1", ["x"]),
            lambda: threads.keep_worktree("a", "oslo"),
            lambda: threads.begin("a"),
        )
        for write in writes:
            await write()
            place.pass_time(WEEK / 2)
        await threads.begin("b")
        assert await threads.load("a") == ThreadRecord("thread-1", 2, ("x",))
        assert await threads.worktree("a") == "oslo"
        place.pass_time(WEEK / 2 + 1)
        assert await threads.load("a") == ThreadRecord()
        assert await threads.worktree("a") == ""
        assert await threads.worktrees() == frozenset()
        assert (await threads.load("b")).turn == 1
        assert await threads.begin("a") == 1
        assert await threads.worktree("a") == ""
        await threads.aclose()

    run(test())


def test_worktrees_by_name(place: Place) -> None:
    async def test() -> None:
        threads = place.open()
        await threads.keep_worktree("a", "oslo")
        await threads.keep_worktree("b", "rome")
        await threads.begin("c")
        assert await threads.worktree("a") == "oslo"
        assert await threads.worktrees() == {"oslo", "rome"}
        await threads.keep_worktree("a", "lima")
        await threads.keep_worktree("b", "")
        await threads.keep_worktree("b", "")
        await threads.forget("a")
        assert await threads.worktrees() == {"lima"}
        assert await threads.worktree("b") == ""
        await threads.aclose()

    run(test())


def test_writers_in_several_processes_lose_nothing(place: Place) -> None:
    with ExitStack() as stack:
        workers = [stack.enter_context(working(WORKER, "count", *place.words)) for _ in range(4)]
        assert [each.line() for each in workers] == ["ready"] * 4
        for each in workers:
            each.go_on()
        numbers = [int(word) for each in workers for word in each.line().split()]
    assert sorted(numbers) == list(range(1, 401))


# Who may go on


@pytest.mark.parametrize("gates", [1, 2])
def test_a_lock_is_held_by_one_at_a_time(place: Place, gates: int) -> None:
    async def test() -> None:
        opened = [place.open() for _ in range(gates)]
        inside: list[int] = []

        async def turn(number: int) -> None:
            async with opened[number % gates].lock("a", 10):
                inside.append(number)
                await opened[number % gates].begin("a")
                assert inside.pop() == number
                assert not inside

        await asyncio.gather(*map(turn, range(6)))
        assert (await opened[0].load("a")).turn == 6
        for threads in opened:
            await threads.aclose()

    run(test())


def test_who_waits_too_long_is_told(place: Place) -> None:
    async def test() -> None:
        one, other = place.open(), place.open()
        async with one.lock("a", 0):
            error = await fails(enter(one, 0), "conflict")
            assert error.fault.code == "chat_busy"
            started = time.monotonic()
            await fails(enter(other, 0.2), "conflict")
            assert time.monotonic() - started >= 0.2
            await enter(other, 0, "b")
        await enter(other, 0)
        await one.aclose()
        await other.aclose()

    run(test())


def test_a_lock_is_let_go_however_its_turn_ends(place: Place) -> None:
    async def test() -> None:
        threads = place.open()
        with pytest.raises(KeyError):
            async with threads.lock("a", 0):
                raise KeyError
        held = asyncio.Event()

        async def turn() -> None:
            async with threads.lock("a", 0):
                held.set()
                await asyncio.Event().wait()

        holder = asyncio.create_task(turn())
        await held.wait()
        waiter = asyncio.create_task(enter(threads, 10))
        await fails(enter(threads, 0.1), "conflict")  # by now the waiter waits
        for task in (waiter, holder):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await enter(threads, 0)
        await threads.aclose()

    run(test())


def test_who_lives_keeps_a_lock_over_its_lease(place: Place) -> None:
    async def test() -> None:
        one, other = place.open(), place.open()
        async with one.lock("a", 0):
            await fails(enter(other, place.lease + 1), "conflict")
        await enter(other, 0)
        await one.aclose()
        await other.aclose()

    run(test())


def test_a_lock_holds_across_processes(place: Place) -> None:
    async def test() -> None:
        threads = place.open()
        with working(WORKER, "hold", *place.words) as other:
            assert other.line() == "held"
            await fails(enter(threads, 0), "conflict")
            waiter = asyncio.create_task(enter(threads, 10))
            other.go_on()
            await waiter
        await threads.aclose()

    run(test())


def test_a_killed_holder_lets_go_soon(place: Place) -> None:
    async def test() -> None:
        threads = place.open()
        with working(WORKER, "hold", *place.words) as other:
            assert other.line() == "held"
            await fails(enter(threads, 0), "conflict")
            other.kill()
            await enter(threads, UNHURRIED)
        await threads.aclose()

    run(test())


# The settings choose


def test_without_a_url_it_is_sqlite(tmp_path: Path) -> None:
    async def test() -> None:
        await make_threads(Settings(data_dir=tmp_path)).begin("a")

    run(test())
    assert (tmp_path / "threads.db").exists()


def test_with_a_url_it_is_redis(tmp_path: Path, valkey: Valkey) -> None:
    options = ThreadOptions(redis_url=Secret(valkey.url), ttl=50, chat_prefix="c::", worktree_prefix="w:")

    async def test() -> None:
        threads = make_threads(Settings(data_dir=tmp_path, threads=options))
        await threads.begin("a")
        await threads.keep_worktree("a", "oslo")
        await threads.aclose()
        await threads.aclose()

    run(test())
    assert not list(tmp_path.iterdir())
    with valkey.client() as client:
        assert client.hgetall("c:a") == {"turn": "1"}
        assert client.hgetall("w:a") == {"name": "oslo"}
        assert 40 < client.ttl("c:a") <= 50 and 40 < client.ttl("w:a") <= 50


def test_only_who_sets_a_url_loads_the_library() -> None:
    check = "import sys, codexgate.assemble; sys.exit('redis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_the_variables_of_jangar_count() -> None:
    environ = {
        "REDIS_URL": "redis://other",
        "JANGAR_REDIS_URL": "rediss://:s3cret@host:1/2",
        "JANGAR_CHAT_KEY_PREFIX": "c:",
        "JANGAR_WORKTREE_KEY_PREFIX": "w",
    }
    options = load_settings(environ=environ).settings.threads
    assert options.redis_url.reveal() == environ["JANGAR_REDIS_URL"]
    assert (options.chat_prefix, options.worktree_prefix) == ("c:", "w")
    loaded = load_settings(environ={"REDIS_URL": "redis://other", "JANGAR_REDIS_URL": "valkey"})
    assert loaded.settings.threads.redis_url.reveal() == "redis://other"
    assert loaded.ignored == ("JANGAR_REDIS_URL",)


# SQLite alone


def test_an_unusable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    async def test() -> None:
        threads = Threads(tmp_path / "file" / "threads.db")
        for operation in (threads.begin("a"), threads.load("a"), threads.worktrees(), enter(threads, 0)):
            assert "cannot be" in str(await fails(operation))

    run(test())


def test_a_file_that_somebody_keeps_to_himself_is_given_up_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Database.do, "__defaults__", (HASTE,))

    async def test() -> None:
        threads = Threads(tmp_path / "threads.db")
        await threads.begin("a")
        with sqlite3.connect(tmp_path / "threads.db", isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")
            with monkeypatch.context() as patch:
                patch.delattr(sqlite3, "connect")  # who waits does so with what is open
                async with asyncio.timeout(SOON):
                    assert "locked" in str(await fails(threads.begin("a")))
            other.execute("ROLLBACK")
        other.close()
        assert await threads.begin("a") == 2

    run(test())


def test_locks_leave_no_files(tmp_path: Path) -> None:
    async def test() -> None:
        threads = Threads(tmp_path / "threads.db")
        async with threads.lock("a", 0), threads.lock("b", 0):
            assert len(list((tmp_path / "threads.locks").iterdir())) == 2
        assert not list((tmp_path / "threads.locks").iterdir())

    run(test())


def test_a_file_that_its_holder_removed_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "lock"
    lock = fcntl.flock

    def slowly(descriptor: int, how: int) -> None:
        file.unlink()  # what the holder before does between our opening and our locking
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", slowly)
    assert sqlite._take(file) is None
    monkeypatch.undo()
    taken = sqlite._take(file)
    assert taken is not None and sqlite._take(file) is None
    os.close(taken)


# Redis alone


def test_what_jangar_wrote_carries_on(valkey: Valkey) -> None:
    async def test() -> None:
        threads = RedisThreads(valkey.url)
        with valkey.client() as client:
            client.hset("openwebui:chat:a", mapping={"thread": "thread-1", "turn": "7"})
            client.hset("openwebui:worktree:a", mapping={"name": "oslo"})
            assert await threads.load("a") == ThreadRecord("thread-1", 7)
            assert await threads.worktree("a") == "oslo"
            assert await threads.worktrees() == {"oslo"}
            assert await threads.begin("a") == 8
            await threads.save("a", "thread-2", ["x"])
            kept = client.hgetall("openwebui:chat:a")
            assert (kept["thread"], kept["turn"]) == ("thread-2", "8")
            assert json.loads(kept["signature"]) == {"thread": "thread-2", "digests": ["x"]}
            assert WEEK - 10 < client.ttl("openwebui:chat:a") <= WEEK
            assert WEEK - 10 < client.ttl("openwebui:worktree:a") <= WEEK
            client.hset("openwebui:chat:a", mapping={"thread": "thread-3"})
            assert await threads.load("a") == ThreadRecord("thread-3", 8)
        await threads.aclose()

    run(test())


@pytest.mark.parametrize("field", [{"turn": "many"}, {"signature": "{"}, {"thread": b"\xff"}, None])
def test_what_is_no_chat_is_refused_and_nothing_else(valkey: Valkey, field: Any) -> None:
    async def test() -> None:
        threads = RedisThreads(valkey.url)
        with valkey.client() as client:
            if field:
                client.hset("openwebui:chat:a", mapping=field)
            else:
                client.set("openwebui:chat:a", "text")
            client.set("openwebui:worktree:a", "text")
        await fails(threads.load("a"))
        assert await threads.begin("b") == 1
        assert await threads.worktrees() == frozenset()
        await threads.aclose()

    run(test())


def test_names_of_many_worktrees_and_none_of_others(valkey: Valkey) -> None:
    async def test() -> None:
        threads = RedisThreads(valkey.url, worktree_prefix="[w]*")
        with valkey.client() as client, client.pipeline() as pipeline:
            for number in range(2500):
                pipeline.hset(f"[w]*:{number}", "name", f"n{number}")
                pipeline.hset(f"wx:{number}", "name", f"other{number}")
            pipeline.execute()
        assert await threads.worktrees() == {f"n{number}" for number in range(2500)}
        await threads.aclose()

    run(test())


def test_locks_leave_no_keys_and_a_lock_of_another_is_left_alone(valkey: Valkey) -> None:
    async def test() -> None:
        threads = RedisThreads(valkey.url)
        with valkey.client() as client:
            async with threads.lock("a", 0):
                assert client.keys() == ["openwebui:chat-lock:a"]
                assert 0 < client.pttl("openwebui:chat-lock:a") <= 4000
            assert client.keys() == []
            async with threads.lock("a", 0):
                client.set("openwebui:chat-lock:a", "somebody else")
            assert client.get("openwebui:chat-lock:a") == "somebody else"
        await threads.aclose()

    run(test())


@pytest.mark.parametrize("connected", [True, False])
def test_a_frozen_server_is_given_up_and_found_again(
    own_valkey: Valkey, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, connected: bool
) -> None:
    caplog.set_level(logging.INFO)

    async def test() -> None:
        threads = RedisThreads(own_valkey.url)
        if connected:
            await asyncio.gather(*(threads.begin("a") for _ in range(4)))
        own_valkey.send(signal.SIGSTOP)
        monkeypatch.undo()
        async with asyncio.timeout(SOON):
            for operation in (threads.load("a"), threads.begin("a"), enter(threads, 5)):
                assert "250 ms" in str(await fails(operation))
        own_valkey.send(signal.SIGCONT)
        unhurried(monkeypatch, "stores.redis.DEADLINE")
        await works_again(lambda: threads.load("a"))
        await threads.save("a", "thread-1", ["x"])  # answers belong to their questions
        assert (await threads.load("a")).thread == "thread-1"
        await enter(threads, UNHURRIED)
        await threads.aclose()

    run(test())
    assert states(caplog) == ["thread_store.down", "thread_store.up"]


def test_while_a_server_is_away_one_a_second_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    away = breaker.Breaker("thread_store", "Redis", lambda message, advice, _: unavailable(message, advice))
    away.enter()
    away.failed("no answer")
    for moment, tries in ((100.9, False), (101.0, True), (101.1, False), (102.0, True)):
        now = moment
        if tries:
            away.enter()
        else:
            with pytest.raises(GateError, match="no answer"):
                away.enter()
    away.worked()
    away.enter()


def test_a_server_that_freezes_under_a_turn_does_not_hold_it(
    own_valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        threads = RedisThreads(own_valkey.url)
        turn = threads.lock("a", 0)
        await turn.__aenter__()
        own_valkey.send(signal.SIGSTOP)
        monkeypatch.undo()
        async with asyncio.timeout(SOON):
            await turn.__aexit__(None, None, None)
        own_valkey.send(signal.SIGCONT)
        unhurried(monkeypatch, "stores.redis.DEADLINE")
        await works_again(lambda: threads.load("a"))
        await enter(threads, UNHURRIED)
        await threads.aclose()

    run(test())


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis://127.0.0.1:{closed}/0", "nothing listens there"),
        ("redis://localhost:{closed}/0", "nothing listens there"),  # of two addresses
        ("unix:///nowhere/redis.sock", "nothing listens there"),
        ("redis://no-such-host.invalid/0", "unknown host"),
        ("rediss://127.0.0.1:{talker}/0", "it does not speak TLS"),
        ("redis://127.0.0.1:{talker}/0", "no connection"),
    ],
)
def test_why_redis_cannot_be_used_is_said_in_our_words_with_what_to_do(
    url: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unhurried(monkeypatch, "stores.redis.DEADLINE")

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    async def test() -> None:
        async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
            talker = server.sockets[0].getsockname()[1]
            threads = RedisThreads(url.format(closed=own_port(), talker=talker))
            error = await fails(threads.load("a"))
            await threads.aclose()
        assert error.fault.message.endswith(f" cannot be used: {reason}.")
        assert error.fault.advice == redis.ADVICE

    run(test())


def test_a_server_that_goes_and_comes_back_gives_the_lock_to_who_had_it(
    own_valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def test() -> None:
        one, other = RedisThreads(own_valkey.url), RedisThreads(own_valkey.url)
        async with one.lock("a", 0):
            own_valkey.stop()
            error = await fails(one.begin("a"))
            assert f"Redis at 127.0.0.1:{own_valkey.port} cannot be used" in str(error)
            own_valkey.start()
            await works_again(lambda: one.load("a"))
            with own_valkey.client() as client:
                while not client.exists("openwebui:chat-lock:a"):
                    await asyncio.sleep(0.02)
            await fails(enter(other, 0), "conflict")
        await enter(other, 0)
        await one.aclose()
        await other.aclose()

    run(test())
    assert states(caplog) == ["thread_store.down", "thread_store.up"]


def test_who_lost_a_lock_says_so(
    valkey: Valkey, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codexgate.stores.redis.LEASE", 0.2)

    async def test() -> None:
        threads = RedisThreads(valkey.url)
        async with threads.lock("a", 0):
            with valkey.client() as client:
                client.set("openwebui:chat-lock:a", "somebody else")
            while not states(caplog):
                await asyncio.sleep(0.02)
        await threads.aclose()

    run(test())
    assert states(caplog) == ["thread_store.lock_lost"]


@pytest.mark.parametrize("user", ["", "me"])
def test_a_wrong_password_is_named_and_not_shown(
    own_valkey: Valkey, caplog: pytest.LogCaptureFixture, user: str
) -> None:
    with own_valkey.client() as client:
        client.config_set("requirepass", "right")
    caplog.set_level(logging.DEBUG)

    async def test() -> None:
        threads = RedisThreads(own_valkey.url.replace("//", f"//{user}:s3cret@"))
        error = await fails(threads.load("a"))
        assert "does not accept this user and password" in str(error)
        assert error.__suppress_context__
        await threads.aclose()
        said = repr(error.fault) + caplog.text + repr([record.__dict__ for record in caplog.records])
        assert "s3cret" not in said
        right = RedisThreads(own_valkey.url.replace("//", "//:right@"))
        assert await right.begin("a") == 1
        await right.aclose()
        without = RedisThreads(own_valkey.url)
        assert "does not accept" in str(await fails(without.load("a")))
        await without.aclose()

    run(test())


def test_a_password_for_a_server_without_is_not_shown(valkey: Valkey) -> None:
    async def test() -> None:
        threads = RedisThreads(valkey.url.replace("//", "//me:s3cret@"))
        assert "s3cret" not in repr((await fails(threads.load("a"))).fault)
        await threads.aclose()

    run(test())


@pytest.mark.parametrize(
    "url",
    [
        "s3cret",
        "http://me:s3cret@host",
        "redis://me:s3cret@host:port",
        "redis://me:s3cret@host:99999",
        "redis://me:s3cret@host?colour=red",
        "redis://me:s3cret@host?max_connections=s3cret",
    ],
)
def test_an_unusable_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(GateError) as caught:
        RedisThreads(url)
    assert caught.value.fault.code == "invalid_setting"
    assert caught.value.fault.param == "threads.redis_url"
    assert "s3cret" not in repr(caught.value.fault)


def test_options_in_the_url_cannot_undo_ours(valkey: Valkey) -> None:
    options = "decode_responses=true&retry_on_timeout=true&socket_timeout=30&protocol=3"

    async def test() -> None:
        threads = RedisThreads(f"{valkey.url}?{options}")
        await threads.save("a", "thread-1", ["x"])
        assert await threads.load("a") == ThreadRecord("thread-1", 0, ("x",))
        await threads.aclose()

    run(test())
