"""The suite of the port `SessionStore`; every store is one maker in `MAKERS`. Then what only SQLite has."""

import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from codexgate.chat import Document, Image, Message, Text, ToolCall
from codexgate.errors import GateError
from codexgate.ports import SessionStore
from codexgate.stores import sqlite
from codexgate.stores.sqlite import Sessions

Maker = Callable[[Path], SessionStore]

MAKERS: dict[str, Maker] = {"sqlite": lambda folder: Sessions(folder / "deep" / "sessions.db")}


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], SessionStore]:
    """Opens the same store, as another process would."""
    return lambda: MAKERS[request.param](tmp_path)


def said(text: str) -> Message:
    return Message("user", (Text(text),))


def test_what_was_appended_is_there_in_order(make: Callable[[], SessionStore]) -> None:
    make().append("a", [said("1"), said("2")])
    make().append("a", [said("3")])
    assert make().load("a") == (said("1"), said("2"), said("3"))


def test_every_field_of_a_message_is_kept(make: Callable[[], SessionStore]) -> None:
    parts = (Text("x\0\u2028"), Image("image/png", "aGk="), Document("d.pdf", "application/pdf", "aGk="))
    call = ToolCall("1", "f", '{"a": 1}')
    messages = (Message("assistant", parts, "n", (call,), reasoning="hm"), Message("tool", tool_call_id="1"))
    make().append("a", messages)
    assert make().load("a") == messages


def test_an_unknown_key_is_empty(make: Callable[[], SessionStore]) -> None:
    assert make().load("a") == ()
    assert make().latest() is None
    assert make().keys() == ()


def test_keys_come_by_last_use(make: Callable[[], SessionStore]) -> None:
    for key in ("a", "b", "c", "a"):
        make().append(key, [said(key)])
    assert make().keys() == ("a", "c", "b")
    assert make().latest() == "a"


@pytest.mark.parametrize("key", ["ü/../x", "a'b", "%", "x" * 1000, "a\0b"])
def test_any_text_is_a_key(make: Callable[[], SessionStore], key: str) -> None:
    make().append(key, [said("1")])
    make().append(key + "y", [said("2")])
    assert make().load(key) == (said("1"),)


def test_what_is_deleted_is_gone_and_nothing_else(make: Callable[[], SessionStore]) -> None:
    make().append("a", [said("1")])
    make().append("b", [said("2")])
    make().delete("a")
    make().delete("a")
    assert make().keys() == ("b",)
    assert make().load("a") == ()


def test_appending_nothing_makes_no_key(make: Callable[[], SessionStore]) -> None:
    make().append("a", [])
    assert make().keys() == ()


def test_writers_at_once_lose_nothing(make: Callable[[], SessionStore]) -> None:
    def write(name: int) -> None:
        for number in range(20):
            make().append("a", [said(f"{name}.{number}"), said(f"{name}.{number}'")])

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    texts = [message.text for message in make().load("a")]
    assert len(texts) == 160
    assert all(second == f"{first}'" for first, second in zip(texts[::2], texts[1::2], strict=True))


# SQLite alone


def test_the_files_are_their_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "s.db"
    Sessions(path).append("a", [said("1")])
    with sqlite3.connect(path) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM message").fetchall()
        Sessions(path).append("a", [said("2")])
        files = sorted(path.parent.iterdir())
        assert [file.name for file in files] == ["s.db", "s.db-shm", "s.db-wal"]
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    reader.close()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    Sessions(path).append("a", [said("1")])
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(GateError, match="newer codexgate"):
        Sessions(path).load("a")


def test_migrations_go_on_where_the_file_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.db"
    Sessions(path).append("a", [said("1")])
    more = "ALTER TABLE message ADD COLUMN extra TEXT; UPDATE message SET extra = 'x';"
    monkeypatch.setattr(sqlite, "MIGRATIONS", (*sqlite.MIGRATIONS, more))
    assert Sessions(path).load("a") == (said("1"),)
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (2,)
        assert database.execute("SELECT extra FROM message").fetchall() == [("x",)]
    database.close()


@pytest.mark.parametrize("content", [b"not a database, but long enough to be read as one" * 50])
def test_an_unusable_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.db"
    path.write_bytes(content)
    with pytest.raises(GateError, match=r"s\.db cannot be used"):
        Sessions(path).append("a", [said("1")])


def test_an_unusable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(GateError, match=r"s\.db cannot be used"):
        Sessions(tmp_path / "file" / "s.db").load("a")


WRITER = """
import sys
from pathlib import Path
from codexgate.chat import Message, Text
from codexgate.stores.sqlite import Sessions
sessions = Sessions(Path(sys.argv[1]))
for number in range(10_000):
    sessions.append("a", [Message("user", (Text(f"{number} {half}"),)) for half in "ab"])
    print(number, flush=True)
"""


def test_a_writer_that_is_killed_loses_nothing_acknowledged_and_leaves_no_halves(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    acknowledged = -1
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for line in writer.stdout:
                acknowledged = int(line)
                if acknowledged == 30:
                    break
            writer.kill()
        texts = [message.text for message in Sessions(path).load("a")]
        last = int(texts[-1].split()[0])
        assert acknowledged <= last
        assert texts[-2:] == [f"{last} a", f"{last} b"]
        assert len(texts) % 2 == 0
        Sessions(path).delete("a")
