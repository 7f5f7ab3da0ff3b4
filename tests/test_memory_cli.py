"""`codexgate memory`: every command as a process of its own, on the store and the models it has by itself."""

import json
import os
import pty
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from codexgate.cli.documents import Documents
from codexgate.cli.memory_import import BATCH, Import, Options, Tally
from codexgate.cli.memory_view import entry_table, match_table
from codexgate.cli.progress import Counting
from codexgate.cli.terminal import Paint
from codexgate.records import Entry, Match

from .servers.postgres import Postgres, unhurried
from .servers.program import COMMAND, codexgate, environment
from .soak_memory import Figures, InPostgres, Place, Sqlite, kill, undisturbed
from .test_cli import complete
from .test_imports import CHATGPT, CLAUDE, CSV, ENTITY, MARKDOWN, MEM0, OURS, RELATION, lines

DOCS = Path(__file__).parent.parent / "docs"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def memory(home: Path, *arguments: str, stdin: bytes = b"", code: int = 0, provider: str = "demo") -> str:
    """What a command writes to standard output; it has to end with `code`."""
    return told(home, *arguments, stdin=stdin, code=code, provider=provider)[0]


def told(
    home: Path, *arguments: str, stdin: bytes = b"", code: int = 0, provider: str = "demo"
) -> tuple[str, str]:
    more = {"CODEXGATE_EMBEDDINGS_PROVIDER": provider}
    found = codexgate(home, "memory", *arguments, stdin=stdin, more=more)
    assert found.returncode == code, found.stderr.decode()
    return found.stdout.decode(), found.stderr.decode()


def exported(home: Path, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in memory(home, "export", *arguments).splitlines()]


def contents(home: Path) -> list[str]:
    return sorted(entry["content"] for entry in exported(home))


@contextmanager
def at_terminal(
    home: Path, *arguments: str, out: Path | None = None
) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """A command at a terminal of 80 columns: what somebody types into and reads from, and the process.

    `out`: the file that its standard output goes to.
    """
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    more = {"CODEXGATE_EMBEDDINGS_PROVIDER": "demo", "NO_COLOR": "1"}
    file = os.open(out, os.O_WRONLY | os.O_CREAT) if out else os.dup(theirs)
    process = subprocess.Popen(
        [*COMMAND, "memory", *arguments],
        stdin=theirs,
        stdout=file,
        stderr=theirs,
        env=environment(home, more),
        cwd=home,
        start_new_session=True,
    )
    os.close(theirs)
    os.close(file)
    try:
        yield ours, process
        process.wait(40)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def seen(home: Path, *arguments: str, typed: str = "", out: Path | None = None) -> str:
    """Everything that a terminal is shown, and no command may take longer than somebody waits."""
    with at_terminal(home, *arguments, out=out) as (keys, _):
        os.write(keys, typed.encode())
        shown = b""
        while select.select([keys], [], [], 40)[0]:
            try:
                data = os.read(keys, 65536)
            except OSError:  # Linux: the process is gone
                break
            if not data:
                break
            shown += data
    return shown.decode()


# Keeping one


def test_a_text_is_kept_once_and_its_id_is_printed(tmp_path: Path) -> None:
    id = memory(tmp_path, "persist", "the deploy key is in the safe").strip()
    assert UUID.fullmatch(id)
    out, err = told(tmp_path, "persist", "the  deploy key is in the safe\n")
    assert (out, err) == (f"{id}\n", "codexgate: it was there already.\n")


def test_everything_that_can_be_said_of_it(tmp_path: Path) -> None:
    said = ["-n", "work", "--summary", "keys", "--tag", "ops", "--tag", "safe", "--meta", "a=b=c"]
    entry = json.loads(memory(tmp_path, "persist", "in the safe", *said, "--json"))
    assert UUID.fullmatch(entry.pop("id")) and entry.pop("created") > 0 and entry.pop("hash")
    assert entry == {
        "namespace": "work",
        "content": "in the safe",
        "summary": "keys",
        "tags": ["ops", "safe"],
        "metadata": {"a": "b=c"},
        "source": "cli",
        "accessed": None,
        "model": "demo/demo-embed",
        "dimension": 256,
        "deduped": False,
    }


def test_a_file_and_standard_input_are_kept_too(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("from a file\n")
    memory(tmp_path, "persist", "--file", "note.txt")
    memory(tmp_path, "persist", stdin="from a pipe, für dich\n".encode())
    memory(tmp_path, "persist", "-", stdin=b"by a dash")
    memory(tmp_path, "persist", "--file", "-", stdin=b"by a file that is a dash")
    assert [(each["content"], each["source"]) for each in exported(tmp_path)] == [
        ("from a file", "note.txt"),
        ("from a pipe, für dich", "cli"),
        ("by a dash", "cli"),
        ("by a file that is a dash", "cli"),
    ]


def test_an_empty_argument_is_not_a_reason_to_read_what_was_piped_in(tmp_path: Path) -> None:
    """As in a loop `while read line; do codexgate memory persist "$line"; done`, whose input it would eat."""
    assert "`content` is empty" in told(tmp_path, "persist", "", stdin=b"the next line", code=2)[1]
    assert exported(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["persist", "x", "--file", "x"], 2, "exclude each other"),
        (["persist", "--file", "none"], 2, "none cannot be read: No such file or directory."),
        (["persist", "x", "--meta", "x"], 2, "'x' is not KEY=VALUE"),
        (["persist"], 2, "there is nothing to keep"),
        (["persist", "x" * 50_001], 2, "50,001 characters"),
        (["persist", "x" * 50_001], 2, "`codexgate memory import FILE` cuts"),
        (["retrieve", "x", "-k", "51"], 2, "'-k': 51 is not between 1 and 50"),
        (["retrieve", "x", "--since", "soon"], 2, "'soon' is no time"),
        (["retrieve", "x", "-n", "a", "--all"], 2, "exclude each other"),
        (["import", "none"], 5, "There is no file none."),
        (["export", "-o", "none/x"], 2, "cannot be written"),
        (["delete"], 2, "either ids or a --namespace"),
        (["delete", "x", "--namespace", "y"], 2, "either ids or a --namespace"),
        (["delete", "-n", "y"], 2, "write it out: --namespace"),
        (["delete", "--namespace", "y"], 2, "Say --yes"),
        (["delete", "--namespace", "y", "--yes"], 5, "nothing in the namespace y"),
        (["delete", "x"], 5, "Nothing has this id; nothing was deleted."),
        (["delete", "x", "y"], 5, "Nothing has these ids; nothing was deleted."),
        (["reembed", "-n", "y"], 5, "nothing in the namespace y. `codexgate memory namespaces` shows"),
    ],
)
def test_what_cannot_be_is_told_and_never_asked(
    arguments: Sequence[str], code: int, message: str, tmp_path: Path
) -> None:
    out, err = told(tmp_path, *arguments, code=code)
    assert out == ""
    assert message in " ".join(err.split())
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [["persist"], ["import", "-"], ["delete", "--namespace", "x"]])
def test_a_closed_standard_input_is_no_reason_to_hang_or_crash(arguments: list[str], tmp_path: Path) -> None:
    words = " ".join([*COMMAND, "memory", *arguments])
    found = subprocess.run(
        ["sh", "-c", f"exec {words} <&-"],
        env=environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        timeout=50,
        check=False,
    )
    assert found.returncode == 2
    assert b"Traceback" not in found.stderr


# Finding


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A home with a few memories of 2025 and one of now."""
    old = [
        {
            "content": f"the {word} report of the ocean",
            "created": "2025-01-0{n}",
            "tags": [word],
            "namespace": ns,
        }
        for n, (word, ns) in enumerate([("red", "default"), ("green", "default"), ("blue", "sea")], 1)
    ]
    for n, each in enumerate(old, 1):
        each["created"] = f"2025-01-0{n}"
    memory(tmp_path, "import", "-", stdin=lines(old).encode())
    memory(tmp_path, "persist", "the new report of the ocean")
    return tmp_path


def found(home: Path, *arguments: str) -> set[str]:
    matches = json.loads(memory(home, "retrieve", "report of the ocean", "--json", *arguments))
    return {match["content"].split()[1] for match in matches}


def test_what_is_looked_through(kept: Path) -> None:
    assert found(kept) == {"red", "green", "new"}
    assert found(kept, "-n", "sea") == {"blue"}
    assert (
        found(kept, "-n", "sea", "-n", "default") == {"red", "green", "blue", "new"} == found(kept, "--all")
    )
    assert found(kept, "--tag", "red") == {"red"}
    assert found(kept, "--all", "--since", "2025-01-02") == {"green", "blue", "new"}
    assert found(kept, "--since", "12h") == {"new"} == found(kept, "--since", "7d")
    assert len(found(kept, "-k", "1")) == 1


def test_in_a_pipe_the_texts_and_where_they_come_from(tmp_path: Path) -> None:
    (tmp_path / "guide.md").write_text(MARKDOWN)
    memory(tmp_path, "import", "guide.md")
    out = memory(tmp_path, "retrieve", "add a backend", "-k", "1")
    assert out == "[guide.md:5]\n## Add a backend\n\n```sh\n# no heading\n```\n"
    assert memory(tmp_path, "retrieve", "add a backend", "-n", "other") == ""


def test_where_nothing_is_found_it_is_told_why(kept: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    for home, arguments, said in (
        (kept, ["retrieve", "x", "-n", "see"], "There is no memory in 'see'. Did you mean sea?"),
        (kept, ["retrieve", "x", "--tag", "none"], "nothing matches."),
        (kept, ["list", "-n", "none"], "There is no memory in 'none'."),
        (kept, ["list", "--tag", "none"], "nothing matches."),
        (empty, ["retrieve", "x"], "there is no memory yet."),
        (empty, ["list"], "there is no memory yet."),
        (empty, ["namespaces"], "there is no memory yet."),
    ):
        assert told(home, *arguments) == ("", f"codexgate: {said}\n")
        assert told(home, *arguments, "--json") == ("[]\n", f"codexgate: {said}\n")


def test_a_match_says_why(tmp_path: Path) -> None:
    memory(tmp_path, "persist", "the ocean report")
    (match,) = json.loads(memory(tmp_path, "retrieve", "ocean report", "--json"))
    assert match["why"] == ["meaning", "words"]
    assert 0 <= match["distance"] < 1 and match["score"] > 0


@pytest.mark.timeout(180)
def test_the_sentence_of_the_readme(tmp_path: Path) -> None:
    shutil.copytree(DOCS, tmp_path / "docs")
    more = {"CODEXGATE_OLLAMA_URL": "http://127.0.0.1:9"}  # what embeds by default where no Ollama is
    command = [*COMMAND, "memory", "import", "docs/"]
    subprocess.run(command, env=environment(tmp_path, more), cwd=tmp_path, timeout=120, check=True)
    found = codexgate(tmp_path, "memory", "retrieve", "how do I add a backend", more=more)
    out = found.stdout.decode()
    assert out.startswith("[docs/guide.md:")
    assert out.splitlines()[1] == "## Add a backend"


def test_a_chat_is_given_the_memories_of_a_namespace(tmp_path: Path) -> None:
    memory(tmp_path, "persist", "-n", "sea", "the ocean report is blue")
    more = {"CODEXGATE_EMBEDDINGS_PROVIDER": "demo"}
    asked = ["chat", "-m", "demo", "--json", "the ocean report?"]
    plain = json.loads(codexgate(tmp_path, *asked, more=more).stdout)["text"]
    with_memory = json.loads(codexgate(tmp_path, *asked, "--memory", "sea", more=more).stdout)["text"]
    words = [int(re.search(r"wrote (\d+) words", text)[1]) for text in (plain, with_memory)]  # type: ignore[index]
    assert words[0] == 3 < words[1]


# Importing


def test_every_format_from_one_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    folder = home / "things"
    (folder / "deep").mkdir(parents=True)
    files: dict[str, str | bytes] = {
        "ours.jsonl": lines([OURS]),
        "mem0.json": json.dumps({"results": [MEM0]}),
        "deep/chatgpt.json": json.dumps([CHATGPT]),
        "deep/claude.json": json.dumps([CLAUDE]),
        "memory.jsonl": lines([ENTITY, RELATION]),
        "table.csv": b"\xef\xbb\xbf" + CSV.encode(),
        "guide.md": MARKDOWN,
        "note.txt": "A note.\n",
        "utf16.txt": "Ein Gruß.\n".encode("utf-16"),
        "LICENSE": "Do what you like.\n",
    }
    passed_by: dict[str, str | bytes] = {
        ".hidden/note.md": "no",
        ".note.md": "no",
        "node_modules/x/README.md": "no",
        "package.json": '{"name": "x"}',
        "other.csv": "a,b\n1,2\n",
        "picture.png": b"\x89PNG\r\n\x1a\n",
        "binary": b"\x7fELF\0\0",
        "program.py": "print()",
    }
    for name, text in (files | passed_by).items():
        file = folder / name
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)
    (folder / "deep" / "up").symlink_to(folder)
    os.mkfifo(folder / "pipe.txt")
    out, err = told(home, "import", "things")
    assert (out, err) == ("", "codexgate: 17 imported, 0 there already, 0 failed, 6 files passed by.\n")
    assert len(contents(home)) == 17
    sources = {entry["source"] for entry in exported(home)}
    assert {"cli", "mem0", "chatgpt", "claude", "server-memory", "me"} < sources
    assert {"things/guide.md", "things/note.txt", "things/LICENSE", "things/table.csv"} < sources
    assert told(home, "import", "things/")[1].startswith("codexgate: 0 imported, 17 there already,")


def test_bad_lines_are_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    rows = [
        '{"content":"a"}',
        "oops",
        '{"content":""}',
        '{"content":"b","tags":["' + "x" * 300 + '"]}',
        '{"content":"c"}',
        "oops",
    ]
    (tmp_path / "x.jsonl").write_text("\n".join(rows))
    _, err = told(tmp_path, "import", "x.jsonl", code=1)
    *bad, summary = err.splitlines()
    assert [line.partition(": ")[0] for line in bad] == [f"x.jsonl:{n}" for n in (2, 3, 4, 6)]
    assert bad[0] == "x.jsonl:2: This is not JSON: invalid character (byte 0)."
    assert summary == "codexgate: 2 imported, 0 there already, 4 failed."
    assert contents(tmp_path) == ["a", "c"]


@pytest.mark.parametrize("bad", ["oops", '{"content":""}'])
def test_strictly_the_first_failure_is_the_end(bad: str, tmp_path: Path) -> None:
    rows = [
        *(f'{{"content":"a {n}"}}' for n in range(130)),
        bad,
        '{"content":"b"}',
        "oops",
        *(f'{{"content":"b {n}"}}' for n in range(200)),
    ]
    text = "\n".join(rows).encode()
    first, sums = told(tmp_path, "import", "--strict", "--dry-run", "-", stdin=text, code=1)[1].splitlines()
    assert sums == "codexgate: 130 would be imported, 1 failed."
    again, sums = told(tmp_path, "import", "--strict", "-", stdin=text, code=1)[1].splitlines()
    assert first.startswith("-:131: ") and first == again
    assert sums == "codexgate: 130 imported, 0 there already, 1 failed."
    assert contents(tmp_path) == sorted(f"a {n}" for n in range(130))


def test_strictly_a_folder_that_cannot_be_read_is_a_failure_too(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").write_text("a")
    (tmp_path / "notes" / "lost.md").symlink_to("nowhere")
    told(tmp_path, "import", "--strict", "notes", code=1)
    assert contents(tmp_path) == []


def test_what_cannot_be_read_at_all(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": 1}')
    (tmp_path / "binary").write_bytes(b"\0\1")
    (tmp_path / "good.txt").write_text("good")
    (tmp_path / "export.zip").write_bytes(b"PK\3\4\0")
    err = told(tmp_path, "import", "x.json", "binary", "export.zip", "good.txt", code=1)[1]
    assert err.splitlines() == [
        "x.json: Neither an export that is known here nor a table with a column `content`; see --format.",
        "binary: It is no text.",
        "export.zip: It is no text. Unpack a zip file and name what is in it.",
        "codexgate: 1 imported, 0 there already, 3 failed.",
    ]
    memory(tmp_path, "import", "--format", "text", "x.json")
    assert contents(tmp_path) == ["good", '{"a": 1}']


def test_a_namespace_and_tags_for_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(lines([OURS, {"content": "a", "tags": ["b"]}]))
    memory(tmp_path, "import", "x.jsonl")
    memory(tmp_path, "import", "x.jsonl", "-n", "copy", "--tag", "b", "--tag", "new")
    entries = exported(tmp_path)
    assert [(each["namespace"], each["tags"]) for each in entries] == [
        ("work", ["ops"]),
        ("copy", ["ops", "b", "new"]),
        ("default", ["b"]),
        ("copy", ["b", "new"]),
    ]
    assert len({each["id"] for each in entries}) == 4


def test_a_rehearsal_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(lines([{"content": "a"}, {"content": "b"}]))
    out, err = told(tmp_path, "import", "--dry-run", "--json", "x.jsonl")
    first, second, sums = map(json.loads, out.splitlines())
    assert (first["content"], first["file"], first["line"]) == ("a", "x.jsonl", 1)
    assert (second["line"], sums["imported"]) == (2, 2)
    assert err == "codexgate: 2 would be imported, 0 failed.\n"
    assert not (tmp_path / "kept" / "memory.db").exists()
    assert exported(tmp_path) == []


def test_a_rehearsal_refuses_what_would_be_refused(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(
        lines([{"content": " "}, {"content": "x" * 50_001}, {"content": "a", "namespace": "n" * 201}])
    )
    rehearsed = told(tmp_path, "import", "--dry-run", "x.jsonl", code=1)[1].splitlines()
    assert rehearsed[:-1] == told(tmp_path, "import", "x.jsonl", code=1)[1].splitlines()[:-1]
    assert rehearsed[-1] == "codexgate: 0 would be imported, 3 failed."


def test_a_namespace_of_another_model_ends_an_import_once(tmp_path: Path) -> None:
    memory(tmp_path, "persist", "the first", provider="local-fast")
    rows = lines([{"content": "elsewhere", "namespace": "n"}, *({"content": f"{n}"} for n in range(600))])
    (tmp_path / "x.jsonl").write_text(rows)
    err = told(tmp_path, "import", "x.jsonl", code=1)[1]
    sums, reason = err.splitlines()
    assert sums == "codexgate: 1 imported, 0 there already, 0 failed."
    assert "256" in reason and "codexgate memory reembed --namespace default" in reason


def test_every_entry_and_the_sums_as_json(tmp_path: Path) -> None:
    text = lines([{"content": "a"}, {"content": "a "}, {"x": 1}])
    *rows, sums = map(
        json.loads, memory(tmp_path, "import", "-", "--json", stdin=text.encode(), code=1).splitlines()
    )
    assert [(row["file"], row["line"], row["deduped"]) for row in rows] == [("-", 1, False), ("-", 2, True)]
    assert rows[0]["id"] == rows[1]["id"]
    assert sums == {"imported": 1, "present": 1, "failed": 1, "skipped": 0}


def test_an_export_that_is_imported_is_the_same_memory(
    kept: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    memory(kept, "persist", "with \x1b[31m and \u2028", "--meta", "a=b", "--tag", "t", "--summary", "s")
    memory(kept, "retrieve", "what is green?")  # when it was found goes with it
    assert {each["accessed"] is None for each in exported(kept)} == {True, False}
    memory(kept, "export", "--vectors", "-o", "all.jsonl")
    other = tmp_path_factory.mktemp("other")
    memory(other, "import", str(kept / "all.jsonl"))
    assert exported(other) == exported(kept)
    assert len(exported(other)) == 5
    for ours, theirs in zip(exported(kept, "--vectors"), exported(other, "--vectors"), strict=True):
        assert theirs["vector"] == pytest.approx(ours["vector"], abs=1e-6)
        assert len(theirs["vector"]) == 256
    assert {each["namespace"] for each in exported(kept, "-n", "sea")} == {"sea"}


def test_an_export_is_the_same_memory_in_the_other_store_and_back(
    kept: Path, tmp_path_factory: pytest.TempPathFactory, postgres: Postgres
) -> None:
    elsewhere = {"CODEXGATE_EMBEDDINGS_PROVIDER": "demo", "CODEXGATE_MEMORY_DATABASE_URL": postgres.url}
    ours = memory(kept, "export").encode()
    assert codexgate(kept, "memory", "import", "-", stdin=ours, more=elsewhere).returncode == 0
    theirs = codexgate(kept, "memory", "export", more=elsewhere).stdout
    back = tmp_path_factory.mktemp("back")
    memory(back, "import", "-", stdin=theirs)
    assert ours == theirs == memory(back, "export").encode()
    assert len(ours.splitlines()) == 4


def test_an_export_into_a_file_is_whole_or_not_there(kept: Path) -> None:
    file = kept / "all.jsonl"
    file.write_text("old")
    more = {"CODEXGATE_MEMORY_DATABASE_URL": "postgresql://127.0.0.1:9/x"}
    failed = codexgate(kept, "memory", "export", "-o", "all.jsonl", more=more)
    assert failed.returncode == 6
    assert file.read_text() == "old"
    assert sorted(each.name for each in kept.iterdir() if "jsonl" in each.name) == ["all.jsonl"]
    memory(kept, "export", "-o", "all.jsonl")
    assert len(file.read_text().splitlines()) == 4
    assert memory(kept, "export", "-o", "/dev/null") == ""
    assert (
        memory(kept, "export", "-o", "/dev/stdout") == memory(kept, "export", "-o", "-") == file.read_text()
    )
    assert not (kept / "-").exists()


def test_folders_that_cannot_be_entered_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.md").write_text("a")
    (tmp_path / "lost.md").symlink_to("nowhere")

    def scandir(path: Path) -> Any:
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return original(path)

    original = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    seen = Documents([str(tmp_path)])
    assert [document.path for document in seen.found] == [f"{tmp_path.name}/a.md"]
    assert seen.unreadable == [
        f"{tmp_path}/closed: Permission denied.",
        f"{tmp_path}/lost.md: No such file or directory.",
    ]


def test_a_store_that_cannot_be_used_is_told_in_one_line(tmp_path: Path) -> None:
    more = {"CODEXGATE_MEMORY_DATABASE_URL": "postgresql://127.0.0.1:9/x"}
    for command in (["list"], ["retrieve", "x"], ["persist", "x"]):
        failed = codexgate(tmp_path, "memory", *command, more=more)
        assert failed.returncode == 6
        (line,) = failed.stderr.decode().splitlines()
        assert line == (
            "codexgate: Postgres at 127.0.0.1:9/x cannot be used: connection refused. "
            "Is it running? `codexgate config` says where memory.database_url comes from."
        )


def test_a_model_that_fails_beside_others_is_told(tmp_path: Path) -> None:
    memory(tmp_path, "persist", "tea is in the cupboard")
    memory(tmp_path, "persist", "-n", "fast", "coffee is in the cupboard", provider="local-fast")
    with sqlite3.connect(tmp_path / "kept" / "memory.db") as database:
        database.execute("UPDATE space SET model = 'gone/model' WHERE model LIKE 'local%'")
    out, err = told(tmp_path, "retrieve", "--all", "what is in the cupboard?")
    assert "tea is" in out
    assert err == ("codexgate: What is kept was embedded by gone, which is not known here.\n")


def test_the_only_model_that_fails_is_told_once(tmp_path: Path) -> None:
    memory(tmp_path, "persist", "tea is in the cupboard")
    with sqlite3.connect(tmp_path / "kept" / "memory.db") as database:
        database.execute("UPDATE space SET model = 'gone/model'")
    out, err = told(tmp_path, "retrieve", "what is in the cupboard?", code=6)
    assert (out, err.count("embedded by gone")) == ("", 1)


# Crashes


COUNT = 1200


def importing(home: Path, path: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [*COMMAND, "memory", "import", "--json", path],
        env=environment(home, {"CODEXGATE_EMBEDDINGS_PROVIDER": "demo"}),
        cwd=home,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


KILLS = 5
"""Of one test; 50 in all. `make soak-memory` kills a thousand times."""


@pytest.mark.parametrize(
    ("way", "seed"), [*(("an import", seed) for seed in range(3)), ("two imports", 0), ("a gate", 0)]
)
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@pytest.mark.timeout(180)
def test_nothing_acknowledged_is_lost_or_there_twice_after_kills(
    kind: str,
    way: str,
    seed: int,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unhurried(monkeypatch)
    place: Place = Sqlite(tmp_path)
    if kind == "postgres":
        place = InPostgres(request.getfixturevalue("postgres"))
    figures = Figures()
    kill(tmp_path, place, undisturbed(tmp_path, place), way, KILLS, seed, figures)
    assert figures.kills.total() >= KILLS
    assert figures.lost + figures.doubled + figures.wrong == []


def test_an_import_that_is_interrupted_goes_on(tmp_path: Path) -> None:
    texts = [f"memory number {n}" for n in range(COUNT)]
    (tmp_path / "all.jsonl").write_text(lines({"content": text} for text in texts))
    with importing(tmp_path, "all.jsonl") as process:
        assert process.stdout and process.stderr
        acknowledged = [process.stdout.readline()]
        process.send_signal(signal.SIGINT)
        acknowledged += process.stdout.read().splitlines()
        *_, first, second = process.stderr.read().decode().splitlines()  # on a slow machine after its counts
    assert process.returncode == 130
    assert first == "codexgate: interrupted; what is imported stays, and the same command goes on from there."
    assert "imported" in second
    ids = {row["id"] for row in map(json.loads, acknowledged) if "id" in row}
    before = {each["id"]: each for each in exported(tmp_path)}
    assert 0 < len(ids) < COUNT and ids <= set(before)
    memory(tmp_path, "import", "all.jsonl")
    after = {each["id"]: each for each in exported(tmp_path)}
    assert before.items() <= after.items()
    assert sorted(each["content"] for each in after.values()) == sorted(texts)


def test_an_import_that_waits_for_standard_input_can_be_interrupted(tmp_path: Path) -> None:
    with importing(tmp_path, "-") as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(lines({"content": f"{n}" + "x" * 900} for n in range(BATCH)).encode())
        process.stdin.flush()
        process.stdout.readline()  # a batch is kept, and now it waits
        process.send_signal(signal.SIGINT)
        err = process.stderr.read()
    assert process.returncode == 130
    assert b"interrupted" in err
    assert len(contents(tmp_path)) == BATCH


# Looking through, forgetting, embedding anew


def test_the_newest_are_listed_first(kept: Path) -> None:
    words = [line.split()[-5] for line in memory(kept, "list").splitlines()[1:]]
    assert memory(kept, "list").splitlines()[0].split() == ["ID", "CREATED", "NAMESPACE", "SUMMARY"]
    assert words == ["new", "blue", "green", "red"]
    listed = json.loads(memory(kept, "list", "-n", "default", "-k", "2", "--json"))
    assert [each["content"].split()[1] for each in listed] == ["new", "green"]
    assert len(json.loads(memory(kept, "list", "-k", "0", "--json"))) == 4


def test_namespaces_with_what_embedded_them(kept: Path) -> None:
    rows = [line.split() for line in memory(kept, "namespaces").splitlines()]
    assert rows == [
        ["NAMESPACE", "ENTRIES", "DIMENSION", "MODEL"],
        ["default", "3", "256", "demo/demo-embed"],
        ["sea", "1", "256", "demo/demo-embed"],
    ]
    assert json.loads(memory(kept, "namespaces", "--json"))[1] == {
        "name": "sea",
        "entries": 1,
        "model": "demo/demo-embed",
        "dimension": 256,
    }
    assert memory(kept, "namespaces", provider="demo") != ""


def test_entries_and_namespaces_are_forgotten(kept: Path) -> None:
    first, second, *_ = [each["id"] for each in exported(kept, "-n", "default")]
    assert told(kept, "delete", first) == ("", "codexgate: 1 entry is deleted.\n")
    assert "1 of 2 were deleted" in told(kept, "delete", first, second, code=5)[1]
    assert "1 entry is deleted" in told(kept, "delete", "--namespace", "sea", "--yes")[1]
    assert len(contents(kept)) == 1


def test_a_person_is_asked_before_a_namespace_is_forgotten(kept: Path) -> None:
    assert "nothing was deleted" in seen(kept, "delete", "--namespace", "sea", typed="n\n")
    assert "Delete everything in sea? [y/N]" in seen(kept, "delete", "--namespace", "sea", typed="y\n")
    assert len(exported(kept, "-n", "sea")) == 0


def test_embedding_anew(kept: Path) -> None:
    other = told(kept, "persist", "a text for a model of another kind", provider="local-fast", code=1)[1]
    command = re.search(r"Run: codexgate memory (reembed .*)", other)
    assert command and "256" in other
    assert (
        told(kept, *command[1].split(), provider="local-fast")[1]
        == "codexgate: default: 3 entries are embedded anew.\n"
    )
    assert told(kept, "reembed", provider="local-fast")[1] == "codexgate: sea: 1 entry is embedded anew.\n"
    assert told(kept, "reembed", provider="local-fast")[1] == "codexgate: there is nothing to embed anew.\n"
    assert {each["model"] for each in json.loads(memory(kept, "namespaces", "--json"))} == {
        "local/local-fast"
    }


def test_namespaces_are_completed(kept: Path) -> None:
    for words, completed in [
        ("memory list -n s", "sea"),
        ("chat --memory d", "default"),
        ("memory reembed -m demo", "demo-embed"),
    ]:
        assert complete(kept, f"codexgate {words}") == [completed]


# On a terminal


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\u2066 über 漢字 👩‍👩‍👧 " + "long " * 40


def test_nothing_that_is_kept_steers_the_terminal(tmp_path: Path) -> None:
    name = "na\x1b[31mme.md"
    (tmp_path / name).write_text(f"# {HOSTILE}\n\nocean {HOSTILE}\n")
    hostile = {"content": f"ocean {HOSTILE}", "summary": HOSTILE, "source": HOSTILE, "tags": [HOSTILE[:50]]}
    (tmp_path / "x.jsonl").write_text(lines([hostile]))
    (tmp_path / "bad\x1b[31m.jsonl").write_text("oops")
    for arguments in (
        ["import", name, "x.jsonl", "bad\x1b[31m.jsonl"],
        ["import", "--json", "--dry-run", name, "x.jsonl"],
        ["retrieve", "ocean", "--all"],
        ["retrieve", "ocean", "--json"],
        ["list"],
        ["list", "--json"],
        ["export"],
        ["namespaces"],
        ["retrieve", HOSTILE[:60], "--since", HOSTILE[:20]],
    ):
        shown = seen(tmp_path, *arguments)
        assert shown
        kept_by_the_bar = (
            re.sub(r"\x1b\[(?:\?25[lh]|\d?[AK]|2K|1A)", "", shown) if arguments[0] == "import" else shown
        )
        assert not re.search(
            "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", kept_by_the_bar
        ), arguments


def test_tables_fit_80_columns(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(
        lines({"content": f"ocean {n} {HOSTILE}", "namespace": f"long {n} " * 9} for n in range(3))
    )
    memory(tmp_path, "import", "x.jsonl")
    for arguments in (["retrieve", "ocean", "--all"], ["list"], ["namespaces"]):
        rows = seen(tmp_path, *arguments).splitlines()
        assert len(rows) == 4
        assert max(map(cell_len, rows)) <= 80
        assert arguments[0] != "list" or UUID.fullmatch(rows[1].split()[0])


def test_a_terminal_sees_a_table_of_what_matches(kept: Path) -> None:
    rows = seen(kept, "retrieve", "the red report of the ocean", "-k", "1").splitlines()
    assert rows[0].split() == ["DISTANCE", "WHY", "WHERE", "SUMMARY"]
    assert re.fullmatch(r"0\.\d{3}     meaning words  - +the red report of the ocean", rows[1])
    assert seen(kept, "retrieve", "x", "--tag", "none") == "codexgate: nothing matches.\r\n"


def test_a_terminal_sees_a_bar_while_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(lines({"content": f"memory number {n}"} for n in range(300)))
    shown = seen(tmp_path, "import", "x.jsonl")
    assert "100%  300 entries" in shown
    assert "/s" in shown
    assert shown.endswith("codexgate: 300 imported, 0 there already, 0 failed.\r\n")


def test_no_import_is_done_before_its_end(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(lines({"content": f"{n}"} for n in range(2 * BATCH + 1)))
    shown: list[tuple[int, float | None]] = []
    news = Counting(lambda done, part: shown.append((done, part)), pytest.fail)
    Import(Documents([str(tmp_path / "x.jsonl")]), Options(), Tally(), news).rehearse()
    assert [done for done, _ in shown] == [BATCH, 2 * BATCH, 2 * BATCH + 1]
    assert [part == 1.0 for _, part in shown] == [False, False, True]


def test_a_bar_takes_nothing_of_what_is_printed(tmp_path: Path) -> None:
    name = "long " * 15 + ".jsonl"
    (tmp_path / name).write_text(lines([*({"content": f"memory number {n}"} for n in range(99)), {"x": 1}]))
    shown = seen(tmp_path, "import", "--json", name, out=tmp_path / "out.jsonl")
    assert f"{name}:100: Object missing required field `content`." in shown
    assert "{" not in shown
    *rows, sums = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert [row["line"] for row in rows] == [*range(1, 100)] and sums["imported"] == 99
    printed = re.findall(r"\{.*\}", seen(tmp_path, "import", "--json", name))  # a line each, however long
    assert [json.loads(row) for row in printed[:-1]] == [row | {"deduped": True} for row in rows]


def test_a_namespace_may_look_like_markup(tmp_path: Path) -> None:
    memory(tmp_path, "persist", "a", "-n", "[/x]")
    assert "100%  1 entries of [/x]" in seen(tmp_path, "reembed", "-n", "[/x]")


# Tables


ENTRY = Entry("0" * 36, "n", "content", "summary", source="a.md", metadata={"lines": "7-9"})


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_tables_fit(width: int) -> None:
    match = Match(ENTRY, 0.1, ("meaning", "words"), 0.5)
    for table in (match_table([match], Paint(False), width), entry_table([ENTRY], Paint(False), width)):
        assert max(map(cell_len, table)) <= max(width, 70)


def test_a_match_by_words_alone_has_no_distance() -> None:
    table = match_table([Match(ENTRY, None, ("words",), 0.5)], Paint(False), 80)
    assert table[1].split() == ["-", "words", "a.md:7", "summary"]


def test_in_a_pipe_a_table_is_as_wide_as_it_is() -> None:
    long = Entry("0" * 36, "n", "c", "summary " * 40)
    assert entry_table([long], Paint(False), None)[1].endswith("summary summary")
