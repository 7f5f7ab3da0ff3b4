"""Who may say yes: the question at the terminal, `codexgate approvals`, and what `serve` tells of it."""

import asyncio
import io
import json
import os
import pty
import re
import subprocess
import termios
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Literal, TextIO

import msgspec
import pytest

from codexgate import door
from codexgate.chat import ChatRequest, Text
from codexgate.cli import remote, serve
from codexgate.cli.consent import QUESTION, Consent
from codexgate.cli.render import Status
from codexgate.cli.terminal import Paint
from codexgate.cli.terminal_view import Rendered
from codexgate.cli.turn import Conversation, Options
from codexgate.errors import Fault, GateError
from codexgate.events import Approval, Done, Event, TextDelta, ToolEvent
from codexgate.gate import Gate
from codexgate.records import PendingApproval
from codexgate.server.app import Listen
from codexgate.settings import ServerOptions, load_settings

from .servers.codex_home import MODEL, make_codex_home
from .servers.gateway import serving
from .servers.ports import own_port
from .servers.program import codexgate
from .servers.responses import ScriptedResponses
from .servers.scripted import Scripted
from .support import run
from .test_chat_cli import Keyboard, at_terminal

ASKED = (Text("hi"),)
KEY = "cg-right"


class Asking(Scripted):
    """A scripted backend that goes on after each `Approval` only when somebody decided it."""

    def __init__(self, *approvals: Approval, lasts: int = 100) -> None:
        started = ToolEvent("c", "command", "started", "rm x")
        super().__init__([started, *approvals])
        self.decided: dict[str, bool] = {}
        expires = int(time.time()) + lasts
        self._waiting = {
            one.id: PendingApproval(
                one.id, one.action, one.detail, one.reason, one.cwd, "scripted", expires - lasts, expires
            )
            for one in approvals
        }
        self.all_decided = asyncio.Event()

    async def stream(self, request: ChatRequest) -> AsyncGenerator[list[Event]]:
        async with aclosing(super().stream(request)) as batches:
            async for batch in batches:
                yield batch
            await self.all_decided.wait()
            said = " ".join(f"{id}={accept}" for id, accept in self.decided.items())
            yield [ToolEvent("c", "command", "finished"), TextDelta(said), Done("stop")]

    def approvals(self) -> tuple[PendingApproval, ...]:
        return tuple(self._waiting.values())

    def decide(self, id: str, accept: bool) -> None:
        if id not in self._waiting:
            raise GateError(Fault("not_found", f"No approval '{id}' waits."))
        del self._waiting[id]
        self.decided[id] = accept
        if not self._waiting:
            self.all_decided.set()


COMMAND = Approval("1", "command", "rm x", "to be rid of it", "/w")


# At the terminal


class Person:
    """Who sits at the other end of a terminal."""

    def __init__(self, keys: int, theirs: TextIO) -> None:
        self._keys = keys
        self.theirs = theirs
        self._seen = ""

    def type(self, text: str) -> None:
        os.write(self._keys, text.encode())

    async def sees(self, words: str) -> str:
        """What was written up to `words`, since the last look."""
        while words not in self._seen:
            try:
                self._seen += os.read(self._keys, 65536).decode()
            except BlockingIOError:
                await asyncio.sleep(0.01)
        before, self._seen = self._seen.split(words, 1)
        return before + words


@contextmanager
def person() -> Iterator[Person]:
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    with os.fdopen(theirs, "w") as terminal:
        yield Person(ours, terminal)
    os.close(ours)


def talk(backend: Asking, someone: Person) -> "asyncio.Task[str]":
    """One turn, shown on the person's terminal; comes to its text."""
    consent = Consent(Paint(False), someone.theirs, someone.theirs)
    status = Status(someone.theirs, Paint(False), shown=True)
    view = Rendered(someone.theirs, status, colour=False)
    conversation = Conversation(Gate([backend], strict=True), Options(), consent=consent)

    async def ask() -> str:
        return (await conversation.ask(ASKED, view)).text

    return asyncio.create_task(ask())


@pytest.mark.parametrize(
    ("typed", "accepted"),
    [
        ("y\n", True),
        (" YES \n", True),
        ("n\n", False),
        ("\n", False),
        ("yy\n", False),
        ("\x04", False),
        ("ny\x7f\x7fy\n", True),
    ],
)
def test_only_a_yes_allows(typed: str, accepted: bool) -> None:
    async def asked() -> None:
        backend = Asking(COMMAND)
        with person() as someone:
            before = termios.tcgetattr(someone.theirs)
            turn = talk(backend, someone)
            told = await someone.sees(f"{QUESTION} ")
            assert told.split("\r\n")[-5:] == [
                "scripted asks to run this command:",
                "  $ rm x",
                "  in: /w",
                "  reason: to be rid of it",
                f"{QUESTION} ",
            ]
            assert termios.tcgetattr(someone.theirs) == before
            someone.type(typed)
            assert await turn == f"1={accepted}"
            after = await someone.sees(f"1={accepted}")
            assert "$ rm x" in after
            assert termios.tcgetattr(someone.theirs) == before

    run(asked())


async def turns() -> None:
    """Let the loop go round until everything was done that is due without time."""
    for _ in range(100):
        await asyncio.sleep(0)


def test_nothing_is_drawn_while_the_question_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codexgate.cli.turn.PACE", 0)

    async def asked() -> None:
        with person() as someone:
            turn = talk(Asking(COMMAND), someone)
            await someone.sees(f"{QUESTION} ")
            await turns()
            someone.type("n\n")
            assert (await someone.sees("1=False")).startswith("n\r\n")
            await turn

    run(asked())


def test_what_was_typed_before_the_question_is_no_answer() -> None:
    async def asked() -> None:
        with person() as someone:
            someone.type("y\ny\ny")
            await someone.sees("y\r\ny\r\ny")  # the terminal has it; it was only on its way
            turn = talk(Asking(COMMAND), someone)
            await someone.sees(f"{QUESTION} ")
            await turns()
            assert not turn.done()
            someone.type("\n")
            assert await turn == "1=False"

    run(asked())


def test_one_is_asked_after_the_other() -> None:
    async def asked() -> None:
        change = Approval("2", "file_change", "a.py\nb.py")
        tool = Approval("3", "tool", "server: may I?")
        with person() as someone:
            turn = talk(Asking(COMMAND, change, tool), someone)
            for answer, words in (("y", "$ rm x"), ("n", "  a.py\r\n  b.py"), ("y", "  server: may I?")):
                assert words in await someone.sees(f"{QUESTION} ")
                someone.type(f"{answer}\n")
            assert await turn == "1=True 2=False 3=True"

    run(asked())


def test_the_deadline_takes_the_question_back_and_declines() -> None:
    async def asked() -> None:
        with person() as someone:
            turn = talk(Asking(COMMAND, lasts=4), someone)  # of these a part is over: whole seconds
            await someone.sees(f"{QUESTION} ")
            someone.type("y")  # not yet said
            told = await someone.sees("it is declined.")
            assert told == "y\rNobody answered in time; it is declined."
            assert await turn == "1=False"

    run(asked())


def test_what_was_decided_elsewhere_is_not_asked_and_a_late_yes_is_told() -> None:
    async def asked() -> None:
        backend = Asking(COMMAND, Approval("2", "command", "rm y"))
        with person() as someone:
            turn = talk(backend, someone)
            await someone.sees(f"{QUESTION} ")
            backend.decide("2", True)
            backend.decide("1", False)
            someone.type("y\n")
            assert await turn == "2=True 1=False"
            assert QUESTION not in await someone.sees("! No approval '1' waits.")

    run(asked())


def test_cancelling_declines_and_gives_the_keyboard_back() -> None:
    async def asked() -> None:
        backend = Asking(COMMAND)
        with person() as someone:
            turn = talk(backend, someone)
            await someone.sees(f"{QUESTION} ")
            turn.cancel()
            with pytest.raises(asyncio.CancelledError):
                await turn
            assert backend.decided == {"1": False}
            assert backend.open == 0
            assert not asyncio.get_running_loop().remove_reader(someone.theirs)

    run(asked())


def test_a_keyboard_that_is_gone_declines() -> None:
    async def asked() -> None:
        ours, theirs = pty.openpty()
        with os.fdopen(theirs, "w") as keyboard:
            waiting = PendingApproval("1", "command", "x", expires=int(time.time()) + 100)
            answer = asyncio.create_task(Consent(Paint(False), keyboard, io.StringIO())(waiting))
            await asyncio.sleep(0)
            os.close(ours)
            assert await answer is False

    run(asked())


EVIL = "a\x1b[2Jb\rc\x07d\u202ee\x9bf"
SHOWN = "a\\x1b[2Jb\\x0dc\\x07d\\u202ee\\x9bf"


@pytest.mark.parametrize("action", ["command", "file_change", "tool"])
def test_no_control_character_reaches_the_terminal(action: Literal["command", "file_change", "tool"]) -> None:
    async def asked() -> str:
        with person() as someone:
            screen = io.StringIO()
            waiting = PendingApproval("1", action, f"{EVIL}\n{EVIL}", EVIL, EVIL, EVIL, 0, 0)
            assert not await Consent(Paint(False), someone.theirs, screen)(waiting)
            return screen.getvalue()

    told = run(asked())
    assert told.count(SHOWN) == 5
    assert set(told) - {"\n", "\r"} == set(filter(str.isprintable, told))
    assert told.count("\r") == 1  # ours, at the deadline


# With the real Codex


@asynccontextmanager
async def codex_at_terminal(tmp_path: Path, *arguments: str) -> AsyncIterator[tuple[Keyboard, Path]]:
    """`codexgate chat --codex-approvals ask` on a terminal, and the folder that Codex works in."""
    work = tmp_path / "work"
    work.mkdir()
    async with ScriptedResponses() as provider:
        home = make_codex_home(tmp_path / "codex", provider.url)
        more = {"CODEX_HOME": str(home), "CODEXGATE_BACKENDS": "codex"}
        ask = ["--codex-approvals", "ask", "--cwd", str(work), "-m", MODEL]
        with at_terminal(tmp_path, *ask, *arguments, more=more) as keyboard:
            yield keyboard, work


async def until(keyboard: Keyboard, words: str) -> str:
    return await asyncio.to_thread(keyboard.read_until, words)


@pytest.mark.parametrize("answer", ["y", "n"])
def test_codex_asks_at_the_terminal(answer: str, tmp_path: Path) -> None:
    async def asked() -> None:
        async with codex_at_terminal(tmp_path, "SC:escalate touch canary; echo out") as (keyboard, work):
            told = await until(keyboard, f"{QUESTION}\x1b[0m ")
            assert "touch canary; echo out" in told and str(work) in told and "it must" in told
            assert not (work / "canary").exists()
            keyboard.type(f"{answer}\r")
            told = await until(keyboard, "Command done.")
            await asyncio.to_thread(keyboard.read_all)
            assert (work / "canary").exists() is (answer == "y")
            assert ("declined" in told, "failed" in told) == (answer == "n", False)
        assert keyboard.process.returncode == 0

    run(asked())


def test_ctrl_c_at_the_question_declines_and_ends_the_turn(tmp_path: Path) -> None:
    async def asked() -> None:
        async with codex_at_terminal(tmp_path, "SC:escalate touch canary") as (keyboard, work):
            await until(keyboard, f"{QUESTION}\x1b[0m ")
            keyboard.type("\x03")
            rest = await asyncio.to_thread(keyboard.read_all)
            assert "Traceback" not in rest and "Command done" not in rest
            assert "Declined; it was not done." in rest and "interrupted" in rest
            assert not (work / "canary").exists()
        assert keyboard.process.returncode == 130

    run(asked())


def test_a_conversation_asks_and_goes_on(tmp_path: Path) -> None:
    async def asked() -> None:
        async with codex_at_terminal(tmp_path) as (keyboard, work):
            await until(keyboard, "/help helps")
            for answer, words in (("\x03", "interrupted"), ("y\r", "Command done.")):
                await until(keyboard, ">")
                keyboard.type("SC:escalate touch canary\r")
                await until(keyboard, f"{QUESTION}\x1b[0m ")
                keyboard.type(answer)
                await until(keyboard, words)
                assert (work / "canary").exists() is (answer == "y\r")
            await until(keyboard, ">")
            keyboard.type("/quit\r")
            await asyncio.to_thread(keyboard.read_all)
        assert keyboard.process.returncode == 0

    run(asked())


def test_where_nobody_can_be_asked_it_is_a_usage_error(tmp_path: Path) -> None:
    found = codexgate(tmp_path, "chat", "--codex-approvals", "ask", "hi")
    assert (found.returncode, found.stdout) == (2, b"")
    assert "nobody whom Codex could ask" in found.stderr.decode()


def test_a_setting_for_others_does_not_stop_a_pipe(tmp_path: Path) -> None:
    found = codexgate(tmp_path, "chat", "hi", more={"CODEXGATE_CODEX_APPROVALS": "ask"})
    assert found.returncode == 0


def test_the_folder_has_to_be_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, said in (("none", "There is no folder none."), ("file", "file is not a folder.")):
        found = codexgate(tmp_path, "chat", "--cwd", path, "hi")
        assert (found.returncode, found.stderr.decode()) == (2, f"codexgate: {said}\n")


# `codexgate approvals`


class Gates:
    """A gate that listens, and the command that talks to it."""

    def __init__(self, url: str, home: Path) -> None:
        self.url = url
        self._home = home

    async def call(self, *arguments: str, key: str = "") -> subprocess.CompletedProcess[bytes]:
        more = {"CODEXGATE_SERVER_API_KEY": key} if key else {}
        words = ["approvals", *arguments, "--url", self.url]
        return await asyncio.to_thread(codexgate, self._home, *words, more=more)


@asynccontextmanager
async def gate(tmp_path: Path, backend: Scripted, key: str = "") -> AsyncIterator[Gates]:
    async with serving(backend, listen=Listen(drain=0, key=key)) as url:
        yield Gates(url, tmp_path)


def test_what_waits_is_listed_and_decided(tmp_path: Path) -> None:
    async def asked() -> None:
        backend = Asking(COMMAND, Approval("2", "file_change", "a.py"), lasts=1000)
        async with gate(tmp_path, backend) as gates:
            listed = await gates.call()
            header, *rows = listed.stdout.decode().splitlines()
            assert header.split() == ["ID", "ACTION", "DETAIL", "FOLDER", "LEFT"]
            assert re.fullmatch(r"1 +command +rm x +/w +(9\d\d|1000) s", rows[0].strip())
            assert (len(rows), listed.returncode, listed.stderr) == (2, 0, b"")
            first = json.loads((await gates.call("--json")).stdout)[0]
            assert 900 <= first.pop("seconds_left") <= 1000
            assert first == msgspec.to_builtins(backend.approvals()[0])
            said = await gates.call("accept", "1")
            assert (said.returncode, said.stderr) == (0, b"codexgate: 1 is accepted.\n")
            said = await gates.call("decline", "2")
            assert (said.returncode, said.stderr) == (0, b"codexgate: 2 is declined.\n")
            assert backend.decided == {"1": True, "2": False}
            none = await gates.call()
            assert (none.returncode, none.stdout, none.stderr) == (0, b"", b"codexgate: nothing waits.\n")
            assert (await gates.call("--json")).stdout == b"[]\n"

    run(asked())


def test_an_unknown_id_is_not_found(tmp_path: Path) -> None:
    async def asked() -> None:
        async with gate(tmp_path, Asking(COMMAND)) as gates:
            for id in ("7", "../models", "a b?\x1b"):
                found = await gates.call("accept", id)
                assert found.returncode == 5
                assert b"waits. It may have been decided" in found.stderr
                assert b"\x1b" not in found.stderr

    run(asked())


def test_the_key_goes_along(tmp_path: Path) -> None:
    async def asked() -> None:
        backend = Asking(COMMAND)
        async with gate(tmp_path, backend, KEY) as gates:
            assert (await gates.call("accept", "1")).returncode == 4
            assert (await gates.call(key="cg-wrong")).returncode == 4
            assert backend.decided == {}
            assert (await gates.call("accept", "1", key=KEY)).returncode == 0
            assert backend.decided == {"1": True}

    run(asked())


def test_where_nothing_listens(tmp_path: Path) -> None:
    port = own_port()
    found = codexgate(tmp_path, "approvals", more={"CODEXGATE_SERVER_PORT": str(port)})
    assert found.returncode == 6
    assert f"http://127.0.0.1:{port} refused the connection" in found.stderr.decode()
    assert codexgate(tmp_path, "approvals", "--url", "nonsense").returncode == 2


def test_something_else_that_listens_is_no_gate(tmp_path: Path) -> None:
    async def asked() -> None:
        async with ScriptedResponses() as provider:
            for arguments in ((), ("accept", "1")):
                found = await Gates(provider.url, tmp_path).call(*arguments)
                assert found.returncode == 1
                assert b"does not answer as a gate does" in found.stderr

    run(asked())


def test_the_list_is_escaped(tmp_path: Path) -> None:
    async def asked() -> None:
        async with gate(tmp_path, Asking(Approval("1", "command", EVIL, EVIL, EVIL))) as gates:
            listed = ""
            for arguments in ((), ("--json",)):
                listed = (await gates.call(*arguments)).stdout.decode()
                assert set(listed) - {"\n"} == set(filter(str.isprintable, listed))
            assert json.loads(listed)[0]["detail"] == EVIL

    run(asked())


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "localhost"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
        ("fd00::1", "[fd00::1]"),
    ],
)
def test_where_the_gate_is_reached(host: str, reached: str) -> None:
    assert remote.listens_at(ServerOptions(host=host, port=81)) == f"http://{reached}:81"


def test_a_port_that_nobody_knows() -> None:
    with pytest.raises(GateError, match="--url"):
        remote.listens_at(ServerOptions(port=0))


# `codexgate serve`


def test_who_asks_must_not_be_able_to_say_yes_himself(tmp_path: Path) -> None:
    settings = load_settings({"codex.approvals": "ask"}, environ={}, cwd=tmp_path).settings
    door.refuse_open(settings, has_key=True)
    with pytest.raises(GateError, match="approvals needs an API key"):
        door.refuse_open(settings, has_key=False)


def banner(tmp_path: Path, flags: dict[str, object], *backends: str) -> str:
    async def told() -> str:
        settings = load_settings({"data_dir": tmp_path, **flags}, environ={}, cwd=tmp_path).settings
        gate = Gate([Scripted(name=name) for name in backends])
        return await serve.banner(gate, "http://127.0.0.1:1", settings, None, Paint(False))

    return run(told())


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("", "SQLite, {data}/threads.db"),
        ("redis://user:secret@cache:6379/0", "Redis, cache:6379/0"),
        ("rediss://[::1]:6380/1?password=sec@ret", "Redis, [::1]:6380/1"),
        ("unix:///run/redis.sock?password=secret", "Redis, /run/redis.sock"),
        ("redis://user:sec/ret@cache", "Redis"),
    ],
)
def test_the_banner_tells_where_threads_live(url: str, shown: str, tmp_path: Path) -> None:
    told = banner(tmp_path, {"threads.redis_url": url}, "codex")
    assert f"  threads {shown.format(data=tmp_path)}\n" in told
    assert "ret" not in told
    assert "  threads " not in banner(tmp_path, {}, "demo")


@pytest.mark.parametrize(
    ("host", "told"), [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("10.0.0.1", "10.0.0.1")]
)
def test_the_banner_names_an_address_that_can_be_reached(host: str, told: str, tmp_path: Path) -> None:
    assert f'  base_url = "http://{told}:1/v1"\n' in banner(tmp_path, {"server.host": host}, "demo")


def test_the_banner_tells_how_to_answer(tmp_path: Path) -> None:
    asked = banner(tmp_path, {"codex.approvals": "ask"}, "codex")
    assert "  codexgate approvals accept ID --url http://127.0.0.1:1\n" in asked
    assert "approvals" not in banner(tmp_path, {}, "codex")
    assert "approvals" not in banner(tmp_path, {"codex.approvals": "ask"}, "demo")
