"""The suite of the port `SessionStore`; every store is one class in `STORES`. Then what one store alone has."""

import asyncio
import logging
import signal
import sqlite3
import stat
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from codexgate.assemble import make_sessions
from codexgate.chat import Document, Image, Message, StoredFile, Text, ToolCall
from codexgate.config import Secret
from codexgate.errors import GateError
from codexgate.ports import SessionStore
from codexgate.settings import Settings
from codexgate.stores import sqlite
from codexgate.stores.redis import RedisSessions
from codexgate.stores.sqlite import Sessions
from codexgate.stores.threads import ThreadOptions
from tests.servers.valkey import Valkey
from tests.servers.worker import working
from tests.support import UNHURRIED, run, states, unhurried, works_again

TTL = 1000


class Place:
    """Where one test's store is: opened any number of times, also by other processes, and aged."""

    words: tuple[str, str]
    """For `WORKER`: which store, and where."""

    def open(self) -> SessionStore:
        raise NotImplementedError

    def pass_time(self, seconds: float) -> None:
        raise NotImplementedError


class SqlitePlace(Place):
    def __init__(self, folder: Path, valkey: Valkey) -> None:
        self.path = folder / "deep" / "sessions.db"
        self.now = 1_000_000.0
        self.words = "sqlite", str(self.path)

    def open(self) -> SessionStore:
        return Sessions(self.path, ttl=TTL, clock=lambda: self.now)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds


class RedisPlace(Place):
    def __init__(self, folder: Path, valkey: Valkey) -> None:
        self.valkey = valkey
        self.words = "redis", valkey.url

    def open(self) -> SessionStore:
        return RedisSessions(self.valkey.url, ttl=TTL)

    def pass_time(self, seconds: float) -> None:
        with self.valkey.client() as client:
            for key in client.scan_iter():
                client.pexpire(key, client.pttl(key) - int(seconds * 1000))


STORES: dict[str, type[SqlitePlace | RedisPlace]] = {"sqlite": SqlitePlace, "redis": RedisPlace}


@pytest.fixture(params=STORES)
def place(request: pytest.FixtureRequest, tmp_path: Path, valkey: Valkey) -> Place:
    return STORES[request.param](tmp_path, valkey)


WORKER = """
import asyncio, sys
from pathlib import Path
from codexgate.chat import Message, Text

def store(kind, where):
    if kind == "sqlite":
        from codexgate.stores.database import Database
        from codexgate.stores.sqlite import Sessions
        Database.do.__defaults__ = ({UNHURRIED},)
        return Sessions(Path(where))
    from codexgate.stores import redis
    redis.DEADLINE = {UNHURRIED}
    return redis.RedisSessions(where)

async def hold(sessions):
    async with sessions.lock("a", 0):
        print("held", flush=True)
        await asyncio.to_thread(sys.stdin.readline)

async def write(sessions):
    for number in range(10_000):
        await sessions.append("a", [Message("user", (Text(f"{number} {half}"),)) for half in "ab"])
        print(number, flush=True)

asyncio.run(globals()[sys.argv[1]](store(*sys.argv[2:])))
""".replace("{UNHURRIED}", str(UNHURRIED))


def said(text: str) -> Message:
    return Message("user", (Text(text),))


def texts(messages: tuple[Message, ...]) -> list[str]:
    return [message.text for message in messages]


async def fails(operation: Coroutine[Any, Any, object], kind: str, code: str) -> GateError:
    """The error of `operation`, which must fail in that way."""
    with pytest.raises(GateError) as caught:
        await operation
    fault = caught.value.fault
    assert (fault.kind, fault.code, fault.retryable) == (kind, code, True)
    return caught.value


async def is_unavailable(operation: Coroutine[Any, Any, object]) -> GateError:
    return await fails(operation, "unavailable", "session_store_unavailable")


async def enter(sessions: SessionStore, wait: float, key: str = "a") -> None:
    async with sessions.lock(key, wait):
        pass


# What is kept


def test_what_was_appended_is_there_in_order_for_another_gate(place: Place) -> None:
    async def test() -> None:
        one, other = place.open(), place.open()
        await one.append("a", [said("1"), said("2")])
        await other.append("a", [said("3")])
        assert texts(await one.load("a")) == ["1", "2", "3"]
        assert await one.load("b") == ()
        await one.aclose()
        await other.aclose()
        await other.aclose()

    run(test())


def test_what_replaces_is_alone(place: Place) -> None:
    async def test() -> None:
        sessions = place.open()
        await sessions.append("b", [said("other")])
        await sessions.append("a", [said("1"), said("2")])
        await sessions.replace("a", [said("3")])
        await sessions.append("a", [said("4")])
        assert texts(await sessions.load("a")) == ["3", "4"]
        await sessions.replace("a", [])
        await sessions.replace("never seen", [])
        assert await sessions.load("a") == ()
        assert texts(await sessions.load("b")) == ["other"]
        await sessions.aclose()

    run(test())


def test_every_field_of_a_message_is_kept(place: Place) -> None:
    parts = (
        Text("x\0\u2028"),
        Image("image/png", "aGk="),
        Document("d.pdf", "application/pdf", "aGk="),
        StoredFile("file-1"),
    )
    call = ToolCall("1", "f", '{"a": 1}')
    messages = (Message("assistant", parts, "n", (call,), reasoning="hm"), Message("tool", tool_call_id="1"))

    async def test() -> None:
        sessions = place.open()
        await sessions.append("a", messages)
        assert await sessions.load("a") == messages
        await sessions.aclose()

    run(test())


@pytest.mark.parametrize("key", ["ü/../x", "a'b", "%", "*", "x" * 1000, "a\0b", "", "a b"])
def test_any_text_is_a_key(place: Place, key: str) -> None:
    async def test() -> None:
        sessions = place.open()
        async with sessions.lock(key, 0), sessions.lock(key + "y", 0):
            await sessions.append(key, [said("1")])
            await sessions.append(key + "y", [said("2")])
        assert texts(await sessions.load(key)) == ["1"]
        await sessions.aclose()

    run(test())


def test_a_session_is_kept_for_a_while_after_its_last_write(place: Place) -> None:
    async def test() -> None:
        sessions = place.open()
        await sessions.append("a", [said("1")])
        await sessions.append("b", [said("other")])
        place.pass_time(TTL / 2)
        await sessions.append("a", [said("2")])
        place.pass_time(TTL / 2 + 1)
        assert texts(await sessions.load("a")) == ["1", "2"]
        assert await sessions.load("b") == ()
        place.pass_time(TTL)
        assert await sessions.load("a") == ()
        await sessions.append("a", [said("3")])
        assert texts(await sessions.load("a")) == ["3"]
        await sessions.aclose()

    run(test())


def test_writers_at_once_lose_nothing_and_mix_nothing(place: Place) -> None:
    async def test() -> tuple[Message, ...]:
        opened = [place.open() for _ in range(4)]

        async def write(name: int) -> None:
            for number in range(10):
                text = f"{name}.{number}"
                await opened[name].append("a", [said(text), said(f"{text}'")])

        await asyncio.gather(*map(write, range(4)))
        kept = await opened[0].load("a")
        for sessions in opened:
            await sessions.aclose()
        return kept

    kept = texts(run(test()))
    assert len(set(kept)) == 80
    assert all(second == f"{first}'" for first, second in zip(kept[::2], kept[1::2], strict=True))


def test_a_writer_that_is_killed_loses_nothing_acknowledged_and_leaves_no_halves(place: Place) -> None:
    for _ in range(2):
        with working(WORKER, "write", *place.words) as other:
            acknowledged = 0
            while acknowledged < 30:
                acknowledged = int(other.line())
            other.kill()

        async def test() -> list[str]:
            sessions = place.open()
            kept = texts(await sessions.load("a"))
            await sessions.replace("a", [])
            await sessions.aclose()
            return kept

        kept = run(test())
        last = int(kept[-1].split()[0])
        assert acknowledged <= last
        assert kept == [f"{number} {half}" for number in range(last + 1) for half in "ab"]


# Who may go on


def test_who_waits_too_long_is_told(place: Place) -> None:
    async def test() -> None:
        one, other = place.open(), place.open()
        async with one.lock("a", 0):
            await fails(enter(one, 0), "conflict", "session_busy")
            await fails(enter(other, 0.1), "conflict", "session_busy")
            await enter(other, 0, "b")
        await enter(other, 0)
        await one.aclose()
        await other.aclose()

    run(test())


def test_a_lock_holds_across_processes_and_ends_with_its_holder(place: Place) -> None:
    async def test() -> None:
        sessions = place.open()
        with working(WORKER, "hold", *place.words) as other:
            assert other.line() == "held"
            await fails(enter(sessions, 0), "conflict", "session_busy")
            other.kill()
            await enter(sessions, UNHURRIED)
        await sessions.aclose()

    run(test())


# The settings choose


def test_without_a_url_it_is_sqlite_and_not_the_terminals_file(tmp_path: Path) -> None:
    run(make_sessions(Settings(data_dir=tmp_path)).append("a", [said("1")]))
    assert [path.name for path in tmp_path.glob("*.db")] == ["gate-sessions.db"]


def test_with_a_url_it_is_redis(tmp_path: Path, valkey: Valkey) -> None:
    options = ThreadOptions(redis_url=Secret(valkey.url), ttl=50, session_prefix="s::")

    async def test() -> None:
        sessions = make_sessions(Settings(data_dir=tmp_path, threads=options))
        await sessions.append("a", [said("1")])
        await sessions.aclose()

    run(test())
    assert not list(tmp_path.iterdir())
    with valkey.client() as client:
        assert client.llen("s:a") == 1
        assert 40 < client.ttl("s:a") <= 50


# SQLite alone


def test_keys_come_by_last_use(tmp_path: Path) -> None:
    async def test() -> None:
        sessions = Sessions(tmp_path / "s.db")
        assert (await sessions.latest(), await sessions.keys()) == (None, ())
        await sessions.append("none", [])
        for key in ("a", "b", "c", "a"):
            await sessions.append(key, [said(key)])
        assert await sessions.keys() == ("a", "c", "b")
        assert await sessions.latest() == "a"
        await sessions.delete("a")
        await sessions.delete("a")
        assert await sessions.keys() == ("c", "b")
        assert await sessions.load("a") == ()

    run(test())


def test_the_files_are_their_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "s.db"
    run(Sessions(path).append("a", [said("1")]))
    with sqlite3.connect(path) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM message").fetchall()
        run(Sessions(path).append("a", [said("2")]))
        files = sorted(path.parent.iterdir())
        assert [file.name for file in files] == ["s.db", "s.db-shm", "s.db-wal"]
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    reader.close()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    run(Sessions(path).append("a", [said("1")]))
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    assert "newer codexgate" in str(run(is_unavailable(Sessions(path).load("a"))))


def test_what_the_first_version_wrote_is_kept_for_good(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with sqlite3.connect(path) as database:
        database.executescript(sqlite.MIGRATIONS[0])
        body = '{"role": "user", "parts": [{"type": "text", "text": "1"}]}'
        database.execute("INSERT INTO message (session, body) VALUES ('a', ?)", (body,))
        database.execute("PRAGMA user_version = 1")
    database.close()
    assert run(Sessions(path).load("a")) == (said("1"),)
    assert run(Sessions(path, clock=lambda: 1e12).keys()) == ("a",)


def test_migrations_go_on_where_the_file_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.db"
    run(Sessions(path).append("a", [said("1")]))
    more = "ALTER TABLE message ADD COLUMN extra TEXT; UPDATE message SET extra = 'x';"
    monkeypatch.setattr(sqlite, "MIGRATIONS", (*sqlite.MIGRATIONS, more))
    assert run(Sessions(path).load("a")) == (said("1"),)
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (len(sqlite.MIGRATIONS),)
        assert database.execute("SELECT extra FROM message").fetchall() == [("x",)]
    database.close()


def test_an_unusable_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    path.write_bytes(b"not a database, but long enough to be read as one" * 50)
    for place in (path, path / "in a file" / "s.db"):
        assert f"{place} cannot be used" in str(run(is_unavailable(Sessions(place).load("a"))))
    assert "cannot be locked" in str(run(is_unavailable(enter(Sessions(path / "x" / "s.db"), 0))))


# Redis alone


def test_locks_leave_no_keys(valkey: Valkey) -> None:
    async def test() -> None:
        sessions = RedisSessions(valkey.url)
        with valkey.client() as client:
            async with sessions.lock("a", 0):
                assert client.keys() == ["codexgate:session-lock:a"]
            assert client.keys() == []
        await sessions.aclose()

    run(test())


@pytest.mark.parametrize("content", ["list", "text"])
def test_what_is_no_session_is_refused_and_left_alone(valkey: Valkey, content: str) -> None:
    async def test() -> None:
        sessions = RedisSessions(valkey.url)
        with valkey.client() as client:
            if content == "list":
                client.rpush("codexgate:session:a", "{")
            else:
                client.set("codexgate:session:a", "text")
                await is_unavailable(sessions.append("a", [said("1")]))
                assert client.get("codexgate:session:a") == "text"
            await is_unavailable(sessions.load("a"))
            await sessions.append("b", [said("1")])
        await sessions.aclose()

    run(test())


def test_a_server_that_is_away_is_told_and_found_again(
    own_valkey: Valkey, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)

    async def test() -> None:
        sessions = RedisSessions(own_valkey.url)
        await sessions.append("a", [said("1")])
        own_valkey.send(signal.SIGSTOP)
        monkeypatch.undo()
        assert "250 ms" in str(await is_unavailable(sessions.load("a")))
        await is_unavailable(sessions.append("a", [said("never kept")]))
        await is_unavailable(enter(sessions, 5))
        own_valkey.send(signal.SIGCONT)
        unhurried(monkeypatch, "stores.redis.DEADLINE")
        await works_again(lambda: sessions.append("a", [said("2")]))
        assert texts(await sessions.load("a")) == ["1", "2"]
        await sessions.aclose()

    run(test())
    assert states(caplog) == ["session_store.down", "session_store.up"]
