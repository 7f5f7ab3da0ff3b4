"""Whole turns of the real Codex binary against a scripted Responses provider on loopback."""

import asyncio
import os
import signal
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexgate.backends.codex import Codex, CodexOptions, host
from codexgate.chat import ChatRequest, Format, Image, Message, Text
from codexgate.dialects.codex import wire
from codexgate.errors import GateError
from codexgate.events import (
    Commentary,
    Done,
    Event,
    Failed,
    FileChange,
    Notice,
    Plan,
    ReasoningDelta,
    Step,
    TextDelta,
    ToolEvent,
    Usage,
)
from codexgate.fold import fold
from codexgate.gate import Gate
from tests.servers import responses
from tests.servers.codex_home import MODEL, make_codex_home
from tests.servers.codex_lines import recorded
from tests.servers.gateway import serving
from tests.servers.responses import Hold, ScriptedResponses
from tests.support import UNHURRIED, run, unhurried


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No deadline of ours is tested here."""
    unhurried(monkeypatch, "backends.codex.backend.PROBE", "backends.codex.child.HUNG")


@dataclass
class Bench:
    """A Codex backend and the model server behind it."""

    codex: Codex
    gate: Gate
    provider: ScriptedResponses
    home: Path


@asynccontextmanager
async def bench(tmp_path: Path, extra: str = "", **options: Any) -> AsyncIterator[Bench]:
    async with ScriptedResponses() as provider:
        home = make_codex_home(tmp_path / "home", provider.url, extra)
        environ = {**os.environ, "CODEX_HOME": str(home), "HOME": str(home)}
        codex = Codex(CodexOptions(**options), tmp_path / "data", environ)
        gate = Gate([codex], strict=True)
        try:
            yield Bench(codex, gate, provider, home)
        finally:
            await gate.aclose()


async def answer(bench: Bench, *messages: str | Message, **fields: Any) -> list[Event]:
    """All events of one turn; a string is a user message."""
    said = tuple(Message("user", (Text(one),)) if isinstance(one, str) else one for one in messages)
    route = await bench.gate.route(ChatRequest(MODEL, said, **fields))
    async with aclosing(bench.gate.stream(route)) as batches:
        return [event async for batch in batches for event in batch]


def turn(tmp_path: Path, text: str, **options: Any) -> list[Event]:
    async def scenario() -> list[Event]:
        async with bench(tmp_path, **options) as codex:
            return await answer(codex, text)

    return run(scenario())


def test_text_arrives_delta_by_delta_with_usage(tmp_path: Path) -> None:
    assert turn(tmp_path, "SC:plain") == [
        TextDelta("Hello ", "msg_2"),
        TextDelta("from ", "msg_2"),
        TextDelta("the model.", "msg_2"),
        Usage(prompt=100, completion=20, reasoning=5, cached=40),
        Done("stop"),
    ]


def test_identical_deltas_are_kept(tmp_path: Path) -> None:
    assert fold(turn(tmp_path, "SC:repeat")).text == "haha"


def test_reasoning(tmp_path: Path) -> None:
    events = turn(tmp_path, "SC:reason")
    reply = fold(events)
    assert reply.reasoning == "**Thinking**\n\nfirst\n\nsecond\n\nraw thought"
    assert reply.text == "Thought."
    assert isinstance(events[0], ReasoningDelta)


def test_a_command_is_shown_and_its_two_steps_are_counted_once(tmp_path: Path) -> None:
    events = turn(tmp_path, "SC:command")
    assert [event for event in events if isinstance(event, Commentary)] == [Commentary("I look.", "msg_2")]
    told = [event for event in events if isinstance(event, ToolEvent)]
    started, *parts, finished = told  # of a slow command in parts, too
    assert {part.stage for part in parts} <= {"output"}
    assert (started.stage, started.name, started.runs_on) == ("started", "command", "backend")
    assert "echo one; echo two" in started.text
    assert (finished.stage, finished.text, finished.ok) == ("finished", "one\ntwo\n", True)
    assert events[-2:] == [Usage(prompt=200, completion=40, reasoning=10, cached=80), Done("stop")]


def test_a_plan(tmp_path: Path) -> None:
    plans = [event for event in turn(tmp_path, "SC:plan") if isinstance(event, Plan)]
    assert plans == [
        Plan((Step("look", "active"), Step("act", "pending")), "two steps"),
        Plan((Step("look", "done"), Step("act", "done")), "two steps"),
    ]


def test_a_file_change_where_the_operator_allows_it(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    events = turn(tmp_path, "SC:patch", cwd=folder, sandbox="workspace-write")
    changes = [event for event in events if isinstance(event, FileChange)]
    assert changes == [FileChange(str(folder / "hello.txt"), "hello\nworld\n", "add")]
    assert (folder / "hello.txt").read_text() == "hello\nworld\n"


FAILURES = {
    "SC:e400": ("upstream", "other"),
    "SC:e401": ("upstream", "httpConnectionFailed"),
    "SC:e404": ("upstream", "httpConnectionFailed"),  # 0.169 has a word of its own for it
    "SC:e429": ("rate_limited", "responseTooManyFailedAttempts"),
    "SC:e500": ("upstream", "internalServerError"),
    "SC:e503": ("unavailable", "serverOverloaded"),
    "SC:quota": ("rate_limited", "usageLimitExceeded"),
    "SC:context": ("invalid_request", "context_length_exceeded"),
    "SC:cut": ("upstream", "other"),
    "SC:eof": ("upstream", "other"),
    "SC:incomplete": ("upstream", "other"),
}


def test_each_failure_is_one_with_codexs_word_as_the_code(tmp_path: Path) -> None:
    async def scenario() -> dict[str, list[Event]]:
        async with bench(tmp_path) as codex:
            return {word: await answer(codex, word) for word in FAILURES}

    for word, events in run(scenario()).items():
        failed = [event.fault for event in events if isinstance(event, Failed)]
        assert [(fault.kind, fault.code) for fault in failed] == [FAILURES[word]], word
        assert failed[0].message


def test_a_retry_that_says_something_else_is_a_failure_not_a_mixture(tmp_path: Path) -> None:
    async def scenario() -> list[Event]:
        async with bench(tmp_path) as codex:
            make_codex_home(codex.home, codex.provider.url, stream_max_retries=1)
            codex.codex = Codex(
                CodexOptions(), tmp_path / "data", {**os.environ, "CODEX_HOME": str(codex.home)}
            )
            codex.gate = Gate([codex.codex], strict=True)
            try:
                return await answer(codex, "SC:flaky")
            finally:
                await codex.gate.aclose()

    events = run(scenario())
    assert fold(events).text == "half an "
    assert [event for event in events if isinstance(event, Notice)]
    assert isinstance(events[-1], Failed)


def test_the_conversation_reaches_the_model_in_order(tmp_path: Path) -> None:
    async def scenario() -> list[dict[str, Any]]:
        async with bench(tmp_path) as codex:
            await answer(
                codex,
                Message("system", (Text("be kind"),)),
                "first",
                Message("assistant", (Text("indeed"),)),
                Message("developer", (Text("be brief"),)),
                Message("user", (Text("SC:plain"), Image("image/png", PIXEL))),
                effort="low",
            )
            return codex.provider.requests

    (request,) = run(scenario())
    said = [
        (item["role"], part.get("text", part["type"]))
        for item in request["input"]
        for part in item["content"]
    ]
    told = [
        one for one in said if one[1] in ("be kind\n\nbe brief", "first", "indeed", "SC:plain", "input_image")
    ]
    assert told == [
        ("developer", "be kind\n\nbe brief"),
        ("user", "first"),
        ("assistant", "indeed"),
        ("user", "SC:plain"),
        ("user", "input_image"),
    ]


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def test_a_conversation_may_end_with_the_assistant(tmp_path: Path) -> None:
    async def scenario() -> list[Event]:
        async with bench(tmp_path) as codex:
            return await answer(codex, "SC:plain", Message("assistant", (Text("Hello"),)))

    assert run(scenario())[-1] == Done("stop")


def test_an_answer_follows_the_schema_it_was_given(tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }

    async def scenario() -> list[Event]:
        async with bench(tmp_path) as codex:
            return await answer(codex, "SC:schema", format=Format("schema", schema))

    assert set(msgspec.json.decode(fold(run(scenario())).text)) == {"a"}


def test_the_official_client_lists_chats_and_streams(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as codex, serving(codex.codex) as url:
            async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any") as client:
                models = [model.id async for model in client.models.list()]
                assert models[0] == MODEL and "gpt-5.5" in models
                assert (await client.models.retrieve(MODEL)).id == MODEL
                hello: Any = [{"role": "user", "content": "SC:repeat"}]
                whole = await client.chat.completions.create(model=MODEL, messages=hello)
                assert whole.choices[0].message.content == "haha"
                assert whole.usage is not None and whole.usage.total_tokens == 120
                stream = await client.chat.completions.create(
                    model=f"codex/{MODEL}",
                    messages=hello,
                    stream=True,
                    stream_options={"include_usage": True},
                )
                chunks = [chunk async for chunk in stream]
                texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
                assert "".join(text or "" for text in texts) == "haha"
                assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 20
                schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
                wanted: Any = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
                ask: Any = [{"role": "user", "content": "SC:schema"}]
                typed = await client.chat.completions.create(
                    model=MODEL, messages=ask, response_format=wanted
                )
                assert isinstance(msgspec.json.decode(typed.choices[0].message.content or "")["n"], int)

    run(scenario())


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Every line that was sent to the child."""
    return recorded(monkeypatch)


def interrupts(sent: list[dict[str, Any]]) -> int:
    return sum(line.get("method") == wire.TURN_INTERRUPT for line in sent)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("phase", ["before the first event", "in the middle"])
def test_leaving_interrupts_once_and_frees_the_model(
    tmp_path: Path, sent: list[dict[str, Any]], phase: str, stream: bool
) -> None:
    async def scenario() -> None:
        hold = Hold()
        async with bench(tmp_path) as codex, serving(codex.codex) as url:
            steps: list[Any] = [responses.Part("a"), hold, responses.Part("b")]
            codex.provider.script("held", [responses.Hang()] if "before" in phase else steps)
            body = {"model": MODEL, "messages": [{"role": "user", "content": "SC:held"}], "stream": stream}
            writer = await post(url, body)
            await codex.provider.arrived.wait()
            if "middle" in phase:
                await hold.reached.wait()
            writer.close()
            await asyncio.wait_for(codex.provider.closed_early.wait(), UNHURRIED)
            await asyncio.wait_for(codex.provider.idle.wait(), UNHURRIED)
            assert (await answer(codex, "SC:plain"))[-1] == Done("stop")
        assert interrupts(sent) == 1

    run(scenario())


async def post(url: str, body: dict[str, Any]) -> asyncio.StreamWriter:
    """A chat request on a socket that nobody reads."""
    port = int(url.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    data = msgspec.json.encode(body)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    )
    writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    return writer


def test_leaving_before_the_ids_are_known_starts_no_turn(tmp_path: Path, sent: list[dict[str, Any]]) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as codex:
            route = await codex.gate.route(ChatRequest(MODEL, (Message("user", (Text("SC:slow"),)),)))
            batches = codex.gate.stream(route)
            first = asyncio.ensure_future(anext(batches))
            while not any(line.get("method") == wire.THREAD_START for line in sent):
                await asyncio.sleep(0)
            first.cancel()
            await asyncio.wait({first})
            await batches.aclose()
            await codex.gate.aclose()
            assert not codex.provider.requests

    run(scenario())
    assert interrupts(sent) == 0


def test_a_command_that_runs_is_ended_with_its_turn(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as codex:
            route = await codex.gate.route(ChatRequest(MODEL, (Message("user", (Text("SC:sleepcmd"),)),)))
            async with aclosing(codex.gate.stream(route)) as batches:
                async for batch in batches:
                    if any(isinstance(event, ToolEvent) for event in batch):
                        break
                await until(lambda: running("sleep 300"))
            await until(lambda: not running("sleep 300"))

    run(scenario())


async def until(condition: Any) -> None:
    """Wait for something outside this process; bounded by the test's own limit."""
    while not condition():
        await asyncio.sleep(0.01)


def running(command: str) -> list[int]:
    """Processes below this one whose command line holds `command`."""
    return [pid for pid, line in descendants().items() if command in line]


def descendants() -> dict[int, str]:
    parents: dict[int, tuple[int, str]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            parents[int(path.name)] = (parent, (path / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except (OSError, ValueError):
            continue
    found: dict[int, str] = {}
    for pid, (parent, line) in parents.items():
        while parent in parents and parent != os.getpid():
            parent = parents[parent][0]
        if parent == os.getpid():
            found[pid] = line
    return found


def test_a_killed_child_fails_its_turn_once_and_the_next_request_works(tmp_path: Path) -> None:
    async def scenario() -> None:
        hold = Hold()
        async with bench(tmp_path) as codex:
            codex.provider.script("held", [responses.Part("a"), hold])
            held = asyncio.create_task(answer(codex, "SC:held"))
            await hold.reached.wait()
            child = (await codex.codex._supervisor.child())._process.pid
            os.kill(child, signal.SIGKILL)
            events = await held
            (failed,) = (event for event in events if isinstance(event, Failed))
            assert failed.fault.code == "codex_exited" and failed.fault.retryable
            assert "SIGKILL" in failed.fault.message
            assert (await answer(codex, "SC:plain"))[-1] == Done("stop")
            assert not Path(f"/proc/{child}").exists(), "a zombie is left"
        assert not running("app-server")

    run(scenario())


def test_a_child_that_keeps_dying_is_left_alone(tmp_path: Path) -> None:
    program = tmp_path / "codex"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)

    async def scenario() -> list[Any]:
        codex = Codex(
            CodexOptions(binary=str(program)), tmp_path, {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        )
        faults = []
        for _ in range(8):
            with pytest.raises(GateError) as failed:
                await codex.models()
            faults.append(failed.value.fault)
        await codex.aclose()
        return faults

    faults = run(scenario())
    assert "exited with 3" in faults[0].message
    assert faults[-1].code == "codex_crashing" and faults[-1].retry_after > 0


def test_without_a_program_it_is_absent_and_says_how_to_install_it(tmp_path: Path) -> None:
    codex = Codex(CodexOptions(binary="no-such-codex"), tmp_path, {"PATH": ""})
    health = run(codex.probe())
    assert (health.state, "pip install" in health.advice) == ("absent", True)


def test_a_folder_that_is_gone_is_not_the_programs_fault(tmp_path: Path) -> None:
    codex = Codex(CodexOptions(cwd=tmp_path / "gone"), tmp_path / "data")
    health = run(codex.probe())
    assert health.state == "down"
    assert health.summary == f"Codex cannot work in {tmp_path / 'gone'}: No such file or directory."


def test_a_question_that_codex_does_not_take_is_too_long(tmp_path: Path) -> None:
    (failed,) = [event.fault for event in turn(tmp_path, "x" * (2**20 + 1)) if isinstance(event, Failed)]
    assert (failed.kind, failed.code, failed.param, failed.retryable) == (
        "invalid_request",
        "context_length_exceeded",
        "messages",
        False,
    )


@pytest.mark.parametrize(
    ("provider", "advice"),
    [
        ({}, "Check the provider's key, at `model_providers.scripted`."),
        ({"env_key": "A_KEY"}, "Check the provider's key, in the environment variable A_KEY."),
        ({"requires_openai_auth": True}, ""),
    ],
)
def test_who_is_not_let_in_by_a_provider_is_told_its_own_way(
    provider: dict[str, Any], advice: str, tmp_path: Path
) -> None:
    assert host.read(make_codex_home(tmp_path, "http://127.0.0.1:1", **provider)).signing_in == advice


def test_a_login_does_not_help_with_a_provider_of_ones_own(tmp_path: Path) -> None:
    (failed,) = [event.fault for event in turn(tmp_path, "SC:e401") if isinstance(event, Failed)]
    assert failed.advice == "Check the provider's key, at `model_providers.scripted`."


def test_without_a_login_nothing_is_offered(tmp_path: Path) -> None:
    async def scenario() -> None:
        home = tmp_path / "home"
        home.mkdir()
        codex = Codex(
            CodexOptions(), tmp_path / "data", {**os.environ, "CODEX_HOME": str(home), "HOME": str(home)}
        )
        with pytest.raises(GateError, match="not signed in") as refused:
            await codex.models()
        assert "login" in refused.value.fault.advice
        assert (await codex.probe()).state == "down"
        await codex.aclose()

    run(scenario())


def test_a_turn_without_news_is_given_up(tmp_path: Path, sent: list[dict[str, Any]]) -> None:
    events = turn(tmp_path, "SC:hang", idle_timeout=4.0)  # a cold Codex begins within
    (failed,) = (event for event in events if isinstance(event, Failed))
    assert failed.fault.kind == "timeout" and "codex.idle_timeout" in failed.fault.advice
    assert interrupts(sent) == 1


HOSTILE = """
notify = ["touch", "{canary}-notify"]
developer_instructions = "HOSTILE TEXT"

[mcp_servers.evil]
command = "touch"
args = ["{canary}-mcp"]
"""


def test_the_hosts_configuration_runs_nothing_and_allows_nothing(
    tmp_path: Path, sent: list[dict[str, Any]]
) -> None:
    """Its MCP servers, notifications, exec rules and instructions; and nothing is written there."""
    canary = tmp_path / "canary"

    async def scenario() -> None:
        async with bench(tmp_path) as codex:
            config = (codex.home / "config.toml").read_text()
            codex.home.joinpath("config.toml").write_text(
                HOSTILE.format(canary=canary).replace("[mcp", f"{config}\n[mcp")
            )
            codex.home.joinpath("AGENTS.md").write_text("HOSTILE TEXT")
            codex.home.joinpath("rules").mkdir()
            codex.home.joinpath("rules/default.rules").write_text(
                'prefix_rule(pattern=["touch"], decision="allow")\n'
            )
            before = {path: path.stat().st_mtime_ns for path in codex.home.rglob("*") if path.is_file()}
            other = Codex(
                CodexOptions(),
                tmp_path / "data",
                {**os.environ, "CODEX_HOME": str(codex.home), "HOME": str(codex.home)},
            )
            gate = Gate([other], strict=True)
            route = await gate.route(
                ChatRequest(MODEL, (Message("user", (Text(f"SC:run touch {canary}-rule"),)),))
            )
            events = [event async for batch in gate.stream(route) for event in batch]
            await gate.aclose()
            assert events[-1] == Done("stop")
            assert "Read-only file system" in told(codex.provider)
            assert "HOSTILE" not in str(codex.provider.requests)
            assert {path: path.stat().st_mtime_ns for path in before} == before
            assert not [
                path
                for path in codex.home.iterdir()
                if path.name not in ("config.toml", "AGENTS.md", "rules", "sessions")
            ]

    run(scenario())
    assert not list(tmp_path.glob("canary*"))
    methods = {line["method"] for line in sent if "method" in line}
    assert methods <= {
        wire.INITIALIZE,
        wire.INITIALIZED,
        wire.ACCOUNT_READ,
        wire.MODEL_LIST,
        wire.THREAD_START,
        wire.THREAD_INJECT,
        wire.THREAD_UNSUBSCRIBE,
        wire.TURN_START,
    }


def told(provider: ScriptedResponses) -> str:
    """What the last command said to the model: one that the sandbox stops is not always an item."""
    return str(provider.requests[-1]["input"][-1]["output"])


def test_by_default_a_turn_can_neither_write_nor_reach_the_network(tmp_path: Path) -> None:
    script = "import socket; socket.socket()"

    async def scenario() -> tuple[str, str]:
        async with bench(tmp_path) as codex:
            await answer(codex, f"SC:run touch {tmp_path}/written written")
            wrote = told(codex.provider)
            await answer(codex, f"SC:run {sys.executable} -c '{script}'")
            return wrote, told(codex.provider)

    wrote, connected = run(scenario())
    assert wrote.count("Read-only file system") == 2
    assert "Operation not permitted" in connected
    assert not (tmp_path / "written").exists()


def test_commands_do_not_see_the_providers_keys(tmp_path: Path) -> None:
    async def scenario() -> str:
        async with ScriptedResponses() as provider:
            home = make_codex_home(tmp_path / "home", provider.url, env_key="PROVIDER_KEY")
            environ = {
                **os.environ,
                "CODEX_HOME": str(home),
                "PROVIDER_KEY": "sk-canary",
                "CODEXGATE_SERVER_API_KEY": "cg-canary",
            }
            codex = Codex(CodexOptions(), tmp_path / "data", environ)
            gate = Gate([codex], strict=True)
            await answer(
                Bench(codex, gate, provider, home), "SC:run env; cat /proc/*/environ 2>&1 | tr '\\0' ' '"
            )
            await gate.aclose()
            assert provider.headers[0]["authorization"] == "Bearer sk-canary"
            return told(provider)

    assert "PATH=" in (seen := run(scenario()))
    assert "canary" not in seen


def test_threads_are_freed(tmp_path: Path) -> None:
    """An abandoned thread costs the child a megabyte, and some hundreds of them its file descriptors."""

    async def scenario() -> list[str]:
        async with bench(tmp_path) as codex:
            for _ in range(3):
                await answer(codex, "SC:plain")
            child = await codex.codex._supervisor.child()
            while threads := msgspec.json.decode(await child.ask("thread/loaded/list", {}))["data"]:
                await asyncio.sleep(0.01)
            return list(threads)

    assert run(scenario()) == []


TOML = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(TOML)
def test_settings_are_written_as_they_were_read(value: Any) -> None:
    assert tomllib.loads(f"x = {host.toml(value)}") == {"x": value}


def test_the_private_home_is_ours_alone(tmp_path: Path) -> None:
    user = make_codex_home(tmp_path / "user", "http://x/v1", env_key="SOME_KEY", request_max_retries=None)
    read = host.read(user)
    home = host.private_home(read, tmp_path / "private")
    host.private_home(read, tmp_path / "private")  # a second start finds it as the first left it
    assert (home.stat().st_mode & 0o777, (home / "config.toml").stat().st_mode & 0o777) == (0o700, 0o600)
    assert (home / "auth.json").readlink() == user / "auth.json"
    assert read.env_keys == {"SOME_KEY"}
    written = tomllib.loads((home / "config.toml").read_text())
    assert written["model_providers"]["scripted"]["request_max_retries"] == 1
    assert written["model_providers"]["scripted"]["stream_max_retries"] == 0
