"""`codexgate chat`: as a process in pipes and on a terminal, and its turns in this process."""

import asyncio
import errno
import io
import json
import os
import pty
import re
import select
import signal
import stat
import subprocess
import termios
import time
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from codexgate import sniff
from codexgate.backends.demo import Demo, DemoOptions
from codexgate.chat import ChatRequest, Image, Message, Part, Text
from codexgate.cli import attach, turn
from codexgate.cli.render import Plain, Status
from codexgate.cli.repl import is_unfinished
from codexgate.cli.terminal import Paint
from codexgate.cli.turn import Conversation, Options
from codexgate.errors import Fault, GateError
from codexgate.events import Done, Event, Failed, TextDelta, Usage
from codexgate.gate import Alias, Gate
from codexgate.server.app import Listen
from codexgate.stores.sqlite import Sessions

from .servers.gateway import serving
from .servers.program import COMMAND, codexgate, environment
from .servers.scripted import Scripted
from .support import run

PNG = b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
DEMO = (
    "You wrote {}, beginning with “{}”.\n\n"
    "I am **demo**, the model built into codexgate: I do not think, I show that the gate works.\n\n"
    "- the same question always gets this same answer\n"
    "- it streams, word by word\n"
    "- `codexgate models` lists the models that do think\n"
)


# In a pipe


def test_a_pipe_gets_the_answer_and_nothing_else(tmp_path: Path) -> None:
    found = codexgate(tmp_path, "chat", "-m", "demo", "hi")
    assert found.stdout.decode() == DEMO.format("1 word", "hi")
    assert (found.returncode, found.stderr) == (0, b"")


def test_a_namespace_without_a_memory_is_told(tmp_path: Path) -> None:
    more = {"CODEXGATE_EMBEDDINGS_PROVIDER": "demo"}
    codexgate(tmp_path, "memory", "persist", "the key is in the safe", "-n", "notes", more=more)
    for name, said in (
        ("notes", ""),
        ("note", "codexgate: There is no memory in 'note'. Did you mean notes?\n"),
        ("x", "codexgate: There is no memory in 'x'.\n"),
    ):
        found = codexgate(tmp_path, "chat", "--memory", name, "where is the key", more=more)
        assert (found.returncode, found.stderr.decode()) == (0, said)


@pytest.mark.parametrize("json_too", [[], ["--json"]])
def test_a_memory_that_fails_is_told_once(json_too: list[str], tmp_path: Path) -> None:
    more = {"CODEXGATE_MEMORY_DATABASE_URL": "postgresql://127.0.0.1:9/x"}
    found = codexgate(tmp_path, "chat", "--memory", "notes", "hi", *json_too, more=more)
    assert found.returncode == 0
    assert found.stderr.decode() == (
        "codexgate: The question goes on without memories. "
        "Postgres at 127.0.0.1:9/x cannot be used: connection refused.\n"
    )


def test_a_gate_that_runs_is_asked_in_place_of_an_own_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        aliases = {"mine": Alias(model="demo", system="Be brief.")}
        listen = Listen(drain=0, key="cg-there")
        async with serving(Demo(DemoOptions(pace=0)), listen=listen, aliases=aliases) as url:

            async def ask(*words: str, key: str = "cg-there") -> tuple[int, str, str]:
                more = {"CODEXGATE_SERVER_API_KEY": key, "CODEXGATE_BACKENDS": "ollama"}
                program = partial(codexgate, tmp_path, "chat", "--url", url, *words, more=more)
                ended = await asyncio.to_thread(program)
                return ended.returncode, ended.stdout.decode(), ended.stderr.decode()

            for model in ([], ["-m", "demo"], ["-m", "demo/demo"], ["-m", "mine"]):
                assert await ask("hi", *model) == (0, DEMO.format("1 word", "hi"), "")
            assert (await ask("hi", "-m", "mine", "--session", "a"))[0] == 0
            again = json.loads((await ask("more", "--session", "a", "--json"))[1])
            assert (again["model"], again["finish_reason"], again["session"]) == ("demo", "stop", "a")
            told = "codexgate: gate: The model 'none' does not exist here. Did you mean mine? `codexgate models` lists the models.\n"
            assert await ask("hi", "-m", "none") == (5, "", told)
            code, _, why = await ask("hi", key="cg-other")
            assert code == 4 and "wants another API key" in why
            for more in (
                ("--cwd", "."),
                ("--codex-sandbox", "danger-full-access"),
                ("--codex-approvals", "ask"),
            ):
                code, _, why = await ask("hi", *more)
                assert code == 2 and "for the gate at --url to say" in why

    run(scenario())


def test_an_argument_of_other_bytes_is_refused_and_a_files_name_may_be_any(tmp_path: Path) -> None:
    for words in (["h\udcff"], ["hi", "-s", "\udcff"], ["hi", "--session", "\udcff"]):
        found = codexgate(tmp_path, "chat", *words)
        assert found.returncode == 2 and b"is not text in UTF-8" in found.stderr
    (tmp_path / "n\udcff.txt").write_text("some words")
    found = codexgate(tmp_path, "chat", "see", "-f", "n\udcff.txt")
    assert found.returncode == 0 and "n\ufffd.txt some words" in found.stdout.decode()


def test_what_is_piped_in_is_appended_to_the_prompt(tmp_path: Path) -> None:
    found = codexgate(tmp_path, "chat", "review this", stdin=b"a diff\n")
    assert found.stdout.decode() == DEMO.format("4 words", "review this a diff")
    assert codexgate(tmp_path, "chat", stdin=b"alone\n").stdout.decode() == DEMO.format("1 word", "alone")


def test_files_go_along(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("some words")
    (tmp_path / "picture.txt").write_bytes(PNG)
    found = codexgate(tmp_path, "chat", "see", "-f", "notes.txt", "-f", "picture.txt")
    assert "and 1 picture, beginning with “see ```notes.txt some words ```”" in found.stdout.decode()


def test_json(tmp_path: Path) -> None:
    found = codexgate(tmp_path, "chat", "--json", "--effort", "low", "hi")
    assert found.stdout.count(b"\n") == 1
    answer = json.loads(found.stdout)
    assert answer["model"] == "demo"
    assert answer["text"] == DEMO.format("1 word", "hi")
    assert answer["reasoning"] == "The last message is a user message of 1 word."
    assert answer["finish_reason"] == "stop"
    lines = codexgate(tmp_path, "chat", "--json", "--stream", "hi").stdout.splitlines()
    assert "".join(json.loads(line)["text"] for line in lines[:-1]) == json.loads(lines[-1])["text"]


def test_a_schema_is_obeyed(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"type": "object", "properties": {"ok": {"type": "boolean"}}}')
    found = codexgate(tmp_path, "chat", "--schema", "s.json", "hi")
    assert found.stdout == b'{"ok":true}\n'


def test_a_session_goes_on_in_another_process(tmp_path: Path) -> None:
    for arguments in (["--session", "s", "one"], ["--session", "t", "two"], ["-c", "three"]):
        assert codexgate(tmp_path, "chat", *arguments).returncode == 0
    sessions = Sessions(tmp_path / "kept" / "sessions.db")
    assert [m.text for m in run(sessions.load("t")) if m.role == "user"] == ["two", "three"]
    assert [m.text for m in run(sessions.load("s")) if m.role == "user"] == ["one"]
    assert stat.S_IMODE((tmp_path / "kept" / "sessions.db").stat().st_mode) == 0o600


def test_an_unnamed_chat_can_be_continued_too(tmp_path: Path) -> None:
    assert codexgate(tmp_path, "chat", "-c", "x").returncode == 5
    codexgate(tmp_path, "chat", "one")
    assert json.loads(codexgate(tmp_path, "chat", "-c", "two", "--json").stdout)["session"].startswith(
        "chat-"
    )
    sessions = Sessions(tmp_path / "kept" / "sessions.db")
    assert len(run(sessions.keys())) == 1


def test_an_unusable_data_folder_does_not_stop_a_chat(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    found = codexgate(tmp_path, "chat", "hi")
    assert found.stdout.decode() == DEMO.format("1 word", "hi")
    assert found.returncode == 0
    assert b"This turn was not kept" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-f", "none.txt", "hi"], "none.txt cannot be read"),
        (["-f", "binary", "hi"], "binary is neither text nor a picture"),
        (["--schema", "binary", "hi"], "binary is not JSON"),
        (["--schema", "list.json", "hi"], "list.json is not a JSON Schema"),
        (["--session", "a", "-c", "hi"], "exclude each other"),
    ],
)
def test_what_cannot_be_sent_is_a_usage_error(arguments: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\x7fELF\0\xff")
    (tmp_path / "list.json").write_text("[]")
    found = codexgate(tmp_path, "chat", *arguments)
    assert (found.returncode, found.stdout) == (2, b"")
    assert said in found.stderr.decode()


def test_ctrl_c_ends_with_130_and_keeps_what_came(tmp_path: Path) -> None:
    slow = {"CODEXGATE_DEMO_PACE": "0.2"}
    with subprocess.Popen(
        [*COMMAND, "chat", "hi"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(tmp_path, slow),
    ) as process:
        assert process.stdout is not None
        begun = process.stdout.read(8)
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert DEMO.format("1 word", "hi").encode().startswith((begun + rest).rstrip(b"\n"))
    assert rest.endswith(b"\n")
    assert b"Traceback" not in err


# On a terminal


class Keyboard:
    """The other end of a terminal on which a process runs."""

    def __init__(self, descriptor: int, process: subprocess.Popen[bytes]) -> None:
        self._descriptor = descriptor
        self.process = process
        self.seen = b""

    def type(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def read_until(self, words: str, seconds: float = 30) -> str:
        end = time.monotonic() + seconds
        while words.encode() not in self.seen:
            ready, _, _ = select.select([self._descriptor], [], [], end - time.monotonic())
            assert ready, f"{words!r} was not seen: {self.seen!r}"
            assert self._read(), f"it ended before {words!r}: {self.seen!r}"
        before, self.seen = self.seen.split(words.encode(), 1)
        return before.decode() + words

    def read_all(self) -> str:
        while self._read():
            pass
        return self.seen.decode()

    def _read(self) -> bool:
        try:
            data = os.read(self._descriptor, 65536)
        except OSError as error:
            if error.errno == errno.EIO:  # Linux: the process is gone
                return False
            raise
        self.seen += data
        if b"\x1b[6n" in data:  # prompt_toolkit asks where the cursor is
            os.write(self._descriptor, b"\x1b[1;1R")
        return bool(data)


@contextmanager
def at_terminal(
    home: Path, *arguments: str, pace: str = "0", more: Mapping[str, str] | None = None
) -> Iterator[Keyboard]:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    more = {"CODEXGATE_DEMO_PACE": pace, **(more or {})}
    process = subprocess.Popen(
        [*COMMAND, "chat", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(home, more),
        cwd=home,
        start_new_session=True,
        preexec_fn=lambda: __import__("fcntl").ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    try:
        yield Keyboard(ours, process)
        process.wait(30)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_a_terminal_sees_markdown_and_a_status_line(tmp_path: Path) -> None:
    with at_terminal(tmp_path, "hi \x1b[31m") as keyboard:
        seen = keyboard.read_all()
    assert "beginning with “hi \\x1b[31m”" in seen
    assert "I am \x1b[1mdemo\x1b[0m" in seen
    assert "**" not in seen
    assert re.search(r"demo · \d+\.\d s", seen.splitlines()[-1])
    assert keyboard.process.returncode == 0


def test_raw_on_a_terminal_is_plain_but_escaped(tmp_path: Path) -> None:
    with at_terminal(tmp_path, "--raw", "hi \x1b[31m") as keyboard:
        seen = keyboard.read_all()
    assert seen.startswith("You wrote 2 words, beginning with “hi \\x1b[31m”.\r\n\r\nI am **demo**")


def test_ctrl_c_on_a_terminal(tmp_path: Path) -> None:
    with at_terminal(tmp_path, "hi", pace="0.1") as keyboard:
        keyboard.read_until("You")
        keyboard.type("\x03")
        seen = keyboard.read_all()
    assert keyboard.process.returncode == 130
    assert "Traceback" not in seen


def test_without_a_prompt_a_terminal_converses(tmp_path: Path) -> None:
    with at_terminal(tmp_path) as keyboard:
        keyboard.read_until("/help helps")
        keyboard.type("one two\r")
        keyboard.read_until("2 words")
        keyboard.read_until("tokens")
        keyboard.type("```\rx\r```\r")
        keyboard.read_until("3 words")
        keyboard.read_until("tokens")
        keyboard.type("/model nope\r")
        keyboard.read_until("does not exist")
        keyboard.type("/model demo\r")
        keyboard.read_until("answers from here on")
        keyboard.type("/session\r")
        keyboard.read_until("* chat-")
        keyboard.type("/nonsense\r")
        keyboard.read_until("There is no /nonsense")
        keyboard.type("/quit\r")
        keyboard.read_all()
    assert keyboard.process.returncode == 0
    history = tmp_path / "kept" / "history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert "one two" in history.read_text()
    sessions = Sessions(tmp_path / "kept" / "sessions.db")
    [key] = run(sessions.keys())
    assert [m.text for m in run(sessions.load(key))][::2] == ["one two", "```\nx\n```"]


def test_a_conversation_names_its_model_and_breaks_no_word(tmp_path: Path) -> None:
    with at_terminal(tmp_path, more={"COLUMNS": "40"}) as keyboard:
        assert "demo · /help helps" in keyboard.read_until("/help helps")
        keyboard.type("/help\r")
        helped = keyboard.read_until("leaves.")
        keyboard.type("/model xylophone-of-nobody\r")
        refused = keyboard.read_until("\nmodels.")
        keyboard.type("/model\r")
        keyboard.read_until("demo\r\n")
        keyboard.type("/quit\r")
        keyboard.read_all()
    assert f"show or change the\r\n{' ' * 17}model\r\n" in helped
    assert "The model\r\n'xylophone-of-nobody' does not exist\r\nhere." in refused


def test_ctrl_c_in_a_conversation_stops_the_answer_and_twice_leaves(tmp_path: Path) -> None:
    with at_terminal(tmp_path, pace="0.1") as keyboard:
        keyboard.read_until("/help helps")
        keyboard.type("hi\r")
        keyboard.read_until("You wrote")
        keyboard.type("\x03")
        keyboard.read_until("interrupted")
        keyboard.read_until(">")
        keyboard.type("\x03")
        keyboard.read_all()
    assert keyboard.process.returncode == 130
    assert not run(Sessions(tmp_path / "kept" / "sessions.db").keys())


@pytest.mark.parametrize(
    ("text", "unfinished"),
    [("a", False), ("a\\", True), ("```py\nx", True), ("```\nx\n```", False), ("", False)],
)
def test_when_enter_means_a_new_line(text: str, unfinished: bool) -> None:
    assert is_unfinished(text) is unfinished


# What is sent along


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"RIFF\0\0\0\0WAVE", ""),
        (b"<svg/>", ""),
        (b"", ""),
    ],
)
def test_a_picture_is_known_by_its_content(data: bytes, media_type: str) -> None:
    assert sniff.image_type(data) == media_type


def test_a_message_is_put_together(tmp_path: Path) -> None:
    note = tmp_path / "a`b\n.md"
    note.write_bytes(b"\xef\xbb\xbf```\ncode\n```\n")
    picture = tmp_path / "p"
    picture.write_bytes(PNG)
    text, image = attach.parts("ask", b"piped\n\n", [picture, note])
    assert text == Text("ask\n\npiped\n\n````a'b .md\n```\ncode\n```\n````")
    assert isinstance(image, Image)
    assert (image.media_type, b64decode(image.data)) == ("image/png", PNG)


def test_a_piped_picture_is_attached() -> None:
    assert attach.parts("", PNG, []) == (Image("image/png", attach.parts("", PNG, [])[0].data),)  # type: ignore[union-attr]


# Turns


class Shown:
    """A view into memory."""

    def __init__(self) -> None:
        self.out = io.BytesIO()
        self.err = io.StringIO()
        self.view = Plain(self.out, Status(self.err, Paint(False), shown=True), escaped=False)

    @property
    def text(self) -> str:
        return self.out.getvalue().decode()


ASKED = (Text("hi"),)
ANSWERED: list[Event] = [TextDelta("so"), Usage(1, 2), Done("stop")]


def ask(backend: Scripted, options: Options | None = None, parts: tuple[Part, ...] = ASKED) -> Shown:
    shown = Shown()
    run(Conversation(Gate([backend], strict=True), options or Options()).ask(parts, shown.view))
    return shown


def test_options_reach_the_model() -> None:
    backend = Scripted(ANSWERED)
    ask(backend, Options(model="scripted", system="be", effort="low", max_tokens=5, temperature=0.5))
    (request,) = backend.requests
    assert request == ChatRequest(
        model="scripted",
        messages=(Message("system", (Text("be"),)), Message("user", ASKED)),
        sampling=request.sampling,
        effort="low",
    )
    assert (request.sampling.max_tokens, request.sampling.temperature) == (5, 0.5)


def test_settings_that_a_backend_ignores_are_named() -> None:
    shown = ask(Scripted(ANSWERED), Options(temperature=0.5, max_tokens=4))
    assert shown.err.getvalue().startswith("codexgate: scripted ignores temperature.\n")


def test_a_failure_after_some_text_keeps_the_text() -> None:
    backend = Scripted([TextDelta("half")], [Failed(Fault("timeout", "It took too long."))])
    shown = Shown()
    with pytest.raises(GateError, match="It took too long") as raised:
        run(Conversation(Gate([backend]), Options()).ask(ASKED, shown.view))
    assert raised.value.fault.kind == "timeout"
    assert shown.text == "half\n"
    assert shown.err.getvalue() == ""


def test_text_is_shown_before_the_answer_is_whole() -> None:
    async def turn_by_turn() -> None:
        hold = asyncio.Event()
        backend, shown = Scripted([TextDelta("first ")], hold, [TextDelta("last"), Done("stop")]), Shown()
        task = asyncio.create_task(Conversation(Gate([backend]), Options()).ask(ASKED, shown.view))
        while not shown.text:
            await asyncio.sleep(0)
        assert shown.text == "first "
        hold.set()
        await task
        assert shown.text == "first last\n"

    run(turn_by_turn())


def test_cancelling_stops_the_model_and_keeps_nothing(tmp_path: Path) -> None:
    async def cancelled() -> None:
        backend, shown = Scripted([TextDelta("half")], asyncio.Event()), Shown()
        talk = Conversation(Gate([backend]), Options(), Sessions(tmp_path / "s.db"), "s")
        task = asyncio.create_task(talk.ask(ASKED, shown.view))
        while not shown.text:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert backend.closed == 1
        assert shown.text == "half\n"
        assert await Sessions(tmp_path / "s.db").load("s") == ()

    run(cancelled())


def test_a_conversation_is_sent_along_and_a_failed_turn_is_not(tmp_path: Path) -> None:
    async def turns() -> list[list[str]]:
        backend, sessions = Scripted(ANSWERED), Sessions(tmp_path / "s.db")
        talk = Conversation(Gate([backend]), Options(system="be"), sessions, "s")
        await talk.ask((Text("1"),), Shown().view)
        backend.steps = [[Failed(Fault("upstream", "no"))]]
        with pytest.raises(GateError):
            await talk.ask((Text("2"),), Shown().view)
        backend.steps = [ANSWERED]
        again = Conversation(Gate([backend]), Options(system="other"), sessions, "s")
        await again.ask((Text("3"),), Shown().view)
        return [[message.text for message in request.messages] for request in backend.requests]

    assert run(turns()) == [["be", "1"], ["be", "1", "so", "2"], ["other", "1", "so", "3"]]
    kept = [message.text for message in run(Sessions(tmp_path / "s.db").load("s"))]
    assert kept == ["be", "1", "so", "3", "so"]


def test_only_so_many_unnamed_conversations_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "UNNAMED_KEPT", 2)
    sessions = Sessions(tmp_path / "s.db")

    async def keep_many() -> tuple[str, ...]:
        for key in ("chat-1", "mine", "chat-2", "chat-3", "chat-4"):
            await sessions.append(key, [Message("user", ASKED)])
        await turn.forget_unnamed(sessions)
        return await sessions.keys()

    assert run(keep_many()) == ("chat-4", "chat-3", "mine")
