"""Chats that last, on the real Codex binary: what goes upstream, and what survives.

The provider's log shows what Codex sends to the model: a thread that goes on holds the history
itself, so only what is new is in our requests, and the model sees everything exactly once.
"""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from codexgate.backends.codex import Codex, CodexOptions
from codexgate.dialects.codex import wire
from codexgate.errors import Fault, GateError
from codexgate.ports import ThreadStore
from codexgate.stores.redis import RedisThreads
from codexgate.stores.sqlite import Threads
from tests.servers.codex_home import MODEL, make_codex_home
from tests.servers.codex_lines import recorded
from tests.servers.gateway import client, serving
from tests.servers.responses import Hold, Part, ScriptedResponses, Text, texts
from tests.servers.valkey import Valkey
from tests.support import LIMIT, run, unhurried

CHAT = "/v1/chat/completions"
Body = dict[str, Any]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No deadline of ours is tested here."""
    unhurried(monkeypatch, "backends.codex.turn.CLOSING", "backends.codex.child.HUNG")


@dataclass
class Bench:
    """One gate with a Codex backend that remembers chats."""

    session: aiohttp.ClientSession
    provider: ScriptedResponses
    codex: Codex
    home: Path

    async def say(self, *said: str, chat: str = "c1", stream: bool = False, **fields: Any) -> Body:
        """Send a conversation: what the user and the assistant said, in turns. Returns the answer."""
        roles = ("user", "assistant")
        messages = [{"role": roles[at % 2], "content": text} for at, text in enumerate(said)]
        return await self.post(messages, chat=chat, stream=stream, **fields)

    async def post(self, messages: list[Body], *, chat: str = "c1", **fields: Any) -> Body:
        headers = {"X-OpenWebUI-Chat-Id": chat} if chat else {}
        body = {"model": MODEL, "messages": messages, **fields}
        async with self.session.post(CHAT, json=body, headers=headers) as answer:
            read: Body = await answer.json()
            return {"status": answer.status, **read}


Open = Callable[[Path], ThreadStore]


@pytest.fixture(params=["sqlite", "redis"])
def open_store(request: pytest.FixtureRequest) -> Open:
    """Opens the store of a folder, once more each time, as every gate does."""
    if request.param == "sqlite":
        return lambda folder: Threads(folder / "threads.db")
    valkey: Valkey = request.getfixturevalue("valkey")
    return lambda folder: RedisThreads(valkey.url)


@asynccontextmanager
async def gate(
    tmp_path: Path,
    provider: ScriptedResponses,
    store: ThreadStore | None = None,
    strict: bool = False,
    **options: Any,
) -> AsyncIterator[Bench]:
    """A gate over the Codex home and the store of `tmp_path`, which outlive it."""
    home = make_codex_home(tmp_path / "home", provider.url)
    environ = {**os.environ, "CODEX_HOME": str(home), "HOME": str(home)}
    threads = store or Threads(tmp_path / "threads.db")
    codex = Codex(
        CodexOptions(**options), tmp_path / "data", environ, threads=threads, wait=10, strict=strict
    )
    async with serving(codex) as url, client(url) as session:
        yield Bench(session, provider, codex, home)


def content(answer: Body) -> str:
    assert answer["status"] == 200, answer
    return str(answer["choices"][0]["message"]["content"])


def conversation(body: Body) -> list[tuple[str, str]]:
    """What the model was sent of a chat: role and text, Codex's own preamble left out."""
    said = [(item["role"], texts(item)) for item in body["input"] if item.get("type") == "message"]
    return [(role, text) for role, text in said if role in ("user", "assistant") and not text.startswith("<")]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Body]:
    """Every line that was sent to a child."""
    return recorded(monkeypatch)


def methods(sent: list[Body], *wanted: str) -> list[str]:
    return [line["method"] for line in sent if line.get("method") in wanted]


def told(sent: list[Body]) -> list[str]:
    """The texts that we gave to turns."""
    return [
        "".join(part["text"] for part in line["params"]["input"])
        for line in sent
        if line.get("method") == wire.TURN_START
    ]


def test_a_chat_goes_on_with_its_thread_and_sends_only_what_is_new(
    tmp_path: Path, sent: list[Body], open_store: Open
) -> None:
    async def scenario() -> list[Body]:
        async with ScriptedResponses() as provider, gate(tmp_path, provider, open_store(tmp_path)) as bench:
            first = await bench.say("SC:echo one")
            second = await bench.say("SC:echo one", f" {content(first)}\n", "SC:echo two")
            third = await bench.say("SC:echo one", "one", "SC:echo two", "two", "SC:echo three")
            assert [content(answer) for answer in (first, second, third)] == ["one", "two", "three"]
            assert [answer["turn_number"] for answer in (first, second, third)] == [1, 2, 3]
            assert len({answer["thread_id"] for answer in (first, second, third)}) == 1
            return provider.requests

    requests = run(scenario())
    assert methods(sent, wire.THREAD_START, wire.THREAD_RESUME, wire.THREAD_INJECT) == [
        wire.THREAD_START,
        wire.THREAD_RESUME,
        wire.THREAD_RESUME,
    ]
    assert told(sent) == ["SC:echo one", "SC:echo two", "SC:echo three"]
    assert conversation(requests[-1]) == [
        ("user", "SC:echo one"),
        ("assistant", "one"),
        ("user", "SC:echo two"),
        ("assistant", "two"),
        ("user", "SC:echo three"),
    ]


def test_usage_is_each_turns_own(tmp_path: Path) -> None:
    async def scenario() -> list[int]:
        async with ScriptedResponses() as provider, gate(tmp_path, provider) as bench:
            first = await bench.say("SC:echo one")
            second = await bench.say("SC:echo one", "one", "SC:echo two")
            return [answer["usage"]["total_tokens"] for answer in (first, second)]

    assert run(scenario()) == [120, 120]


def test_a_restart_of_the_gate_forgets_nothing(tmp_path: Path, sent: list[Body], open_store: Open) -> None:
    async def scenario() -> None:
        async with ScriptedResponses() as provider:
            async with gate(tmp_path, provider, open_store(tmp_path)) as bench:
                first = await bench.say("SC:echo one")
            async with gate(tmp_path, provider, open_store(tmp_path)) as bench:
                second = await bench.say("SC:echo one", "one", "SC:echo two")
            assert (content(second), second["turn_number"]) == ("two", 2)
            assert first["thread_id"] == second["thread_id"]

    run(scenario())
    assert methods(sent, wire.THREAD_START, wire.THREAD_RESUME) == [wire.THREAD_START, wire.THREAD_RESUME]


OTHER_HISTORIES: dict[str, list[str]] = {
    "edited": ["SC:echo changed", "one", "SC:echo two"],
    "regenerated": ["SC:echo one"],
    "with another answer": ["SC:echo one", "not what was said", "SC:echo two"],
}


@pytest.mark.parametrize("said", OTHER_HISTORIES.values(), ids=OTHER_HISTORIES.keys())
def test_another_history_is_another_thread(tmp_path: Path, sent: list[Body], said: list[str]) -> None:
    async def scenario() -> Body:
        async with ScriptedResponses() as provider, gate(tmp_path, provider) as bench:
            first = await bench.say("SC:echo one")
            second = await bench.say(*said)
            assert first["thread_id"] != second["thread_id"]
            assert second["turn_number"] == 2
            return provider.requests[-1]

    request = run(scenario())
    assert [text for _, text in conversation(request)] == said
    assert wire.THREAD_RESUME not in methods(sent, wire.THREAD_RESUME)


def test_a_rollout_that_is_gone_is_recovered_from_once_with_the_whole_history(
    tmp_path: Path, sent: list[Body], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What was not resumed is never closed: who waits for that has no time left for the test.
    monkeypatch.setattr("codexgate.backends.codex.turn.CLOSING", LIMIT)

    async def scenario() -> Body:
        async with ScriptedResponses() as provider:
            async with gate(tmp_path, provider) as bench:
                await bench.say("SC:echo one")
            for rollout in (tmp_path / "home" / "sessions").rglob("*.jsonl"):
                rollout.unlink()
            async with gate(tmp_path, provider) as bench:
                second = await bench.say("SC:echo one", "one", "SC:echo two")
            assert (content(second), second["turn_number"]) == ("two", 2)
            return provider.requests[-1]

    request = run(scenario())
    assert [text for _, text in conversation(request)] == ["SC:echo one", "one", "SC:echo two"]
    assert methods(sent, wire.THREAD_START, wire.THREAD_RESUME) == [
        wire.THREAD_START,
        wire.THREAD_RESUME,
        wire.THREAD_START,
    ]


def test_a_turn_that_failed_is_not_gone_on_with(tmp_path: Path, sent: list[Body]) -> None:
    async def scenario() -> None:
        async with ScriptedResponses() as provider, gate(tmp_path, provider) as bench:
            await bench.say("SC:echo one")
            failed = await bench.say("SC:echo one", "one", "SC:e500")
            assert failed["status"] == 502
            after = await bench.say("SC:echo one", "one", "SC:echo two")
            assert content(after) == "two"

    run(scenario())
    assert methods(sent, wire.THREAD_START, wire.THREAD_RESUME) == [
        wire.THREAD_START,
        wire.THREAD_RESUME,
        wire.THREAD_START,
    ]


@pytest.mark.parametrize("gates", [1, 2], ids=["one gate", "two gates on one store"])
def test_two_requests_of_a_chat_come_one_after_the_other(
    tmp_path: Path, gates: int, open_store: Open
) -> None:
    async def scenario() -> None:
        hold = Hold()
        async with ScriptedResponses() as provider, gate(tmp_path, provider, open_store(tmp_path)) as bench:
            provider.script("held", [Part("a"), hold, Part("b")])

            async def both(other: Bench) -> None:
                first = asyncio.create_task(bench.say("SC:held"))
                await hold.reached.wait()
                second = asyncio.create_task(other.say("SC:echo two"))
                third = asyncio.create_task(other.say("SC:echo free", chat="c2"))
                assert content(await third) == "free"  # another chat is not held up
                assert provider.open == 1 and not second.done()
                hold.go.set()
                answers = [await first, await second]
                assert [content(answer) for answer in answers] == ["ab", "two"]
                assert [answer["turn_number"] for answer in answers] == [1, 2]

            if gates == 1:
                await both(bench)
            else:
                async with gate(tmp_path / "second", provider, open_store(tmp_path)) as other:
                    await both(other)

    run(scenario())


class Broken:
    """A store that cannot be reached."""

    def __getattr__(self, name: str) -> Any:
        async def fail(*args: Any) -> Any:
            raise GateError(Fault("unavailable", "The store does not answer."))

        return fail

    def lock(self, chat: str, wait: float) -> AbstractAsyncContextManager[None]:
        raise GateError(Fault("unavailable", "The store does not answer."))

    async def aclose(self) -> None:
        pass


def test_without_the_store_a_turn_runs_with_its_whole_history(tmp_path: Path) -> None:
    async def scenario() -> tuple[Body, Body]:
        async with ScriptedResponses() as provider, gate(tmp_path, provider, Broken()) as bench:
            answer = await bench.say("SC:echo one", "one", "SC:echo two")
            return answer, provider.requests[-1]

    answer, request = run(scenario())
    assert content(answer).endswith("two") and "not remembered" in content(answer)
    assert "thread_id" not in answer
    assert [text for _, text in conversation(request)] == ["SC:echo one", "one", "SC:echo two"]


def test_strict_without_the_store_is_unavailable(tmp_path: Path) -> None:
    async def scenario() -> Body:
        async with ScriptedResponses() as provider, gate(tmp_path, provider, Broken(), strict=True) as bench:
            answer = await bench.say("SC:echo one")
            assert not provider.requests
            return answer

    assert run(scenario())["status"] == 503


TASK = "### Task:\nGenerate a concise title.\nSC:echo A Title"


def test_open_webuis_own_errands_do_not_touch_the_chat(tmp_path: Path, sent: list[Body]) -> None:
    async def scenario() -> list[Body]:
        async with ScriptedResponses() as provider, gate(tmp_path, provider, task_model="small") as bench:
            first = await bench.say("SC:echo one")
            title = await bench.say(TASK)
            assert (content(title), "thread_id" in title) == ("A Title", False)
            second = await bench.say("SC:echo one", "one", "SC:echo two")
            assert (second["thread_id"], second["turn_number"]) == (first["thread_id"], 2)
            return provider.requests

    _, errand, _ = run(scenario())
    assert errand["model"] == "small"
    assert not [
        tool for tool in errand["tools"] if tool.get("name") in ("exec_command", "shell", "write_stdin")
    ]


def test_leaving_in_the_middle_frees_the_chat(tmp_path: Path) -> None:
    async def scenario() -> None:
        hold = Hold()
        async with ScriptedResponses() as provider, gate(tmp_path, provider) as bench:
            provider.script("held", [Part("a"), hold, Part("b")])
            leaving = asyncio.create_task(bench.say("SC:held"))
            await hold.reached.wait()
            leaving.cancel()
            await asyncio.wait({leaving})
            after = await bench.say("SC:echo two")
            assert (content(after), after["turn_number"]) == ("two", 2)

    run(scenario())


@pytest.mark.parametrize("id", ["has blanks", "x" * 201, "umläut"])
def test_a_chat_id_that_is_none_is_refused(tmp_path: Path, id: str) -> None:
    async def scenario() -> Body:
        async with ScriptedResponses() as provider, gate(tmp_path, provider) as bench:
            return await bench.say("SC:echo one", chat=id)

    assert run(scenario())["status"] == 400


def test_chunks_tell_thread_and_turn(tmp_path: Path) -> None:
    async def scenario() -> list[Body]:
        async with ScriptedResponses() as provider, gate(tmp_path, provider) as bench:
            body = {"model": MODEL, "messages": [{"role": "user", "content": "SC:plain"}], "stream": True}
            async with bench.session.post(CHAT, json=body, headers={"X-Session-Id": "c1"}) as answer:
                lines = (await answer.text()).split("\n\n")
                return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]

    chunks = run(scenario())
    assert len({chunk["thread_id"] for chunk in chunks}) == 1
    assert {chunk["turn_number"] for chunk in chunks} == {1}


def test_stop_and_max_tokens_are_kept_by_cutting(tmp_path: Path, sent: list[Body]) -> None:
    async def scenario() -> None:
        async with ScriptedResponses() as provider, gate(tmp_path, provider) as bench:
            provider.script("long", [Text(["one two ", "thr", "ee four"])])
            stopped = await bench.say("SC:long", chat="", stop=["three"])
            assert (content(stopped), stopped["choices"][0]["finish_reason"]) == ("one two ", "stop")
            cut = await bench.say("SC:long", chat="", max_tokens=1)
            assert (content(cut), cut["choices"][0]["finish_reason"]) == ("one ", "length")

    run(scenario())


def git(folder: Path, *words: str) -> str:
    env = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "x",
        "GIT_AUTHOR_EMAIL": "x",
        "GIT_COMMITTER_NAME": "x",
        "GIT_COMMITTER_EMAIL": "x",
    }
    return subprocess.run(
        ["git", *words], cwd=folder, env=env, check=True, capture_output=True, text=True
    ).stdout


def test_each_chat_works_in_a_worktree_of_its_own(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    git(repository, "init", "-q")
    (repository / "a.txt").write_text("committed")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "first")

    async def scenario() -> list[str]:
        options: dict[str, Any] = {"cwd": repository, "worktrees": True, "sandbox": "workspace-write"}
        async with ScriptedResponses() as provider, gate(tmp_path, provider, **options) as bench:
            folders: list[str] = []
            for chat, said in (
                ("c1", ["SC:run pwd; echo new > b.txt"]),
                ("c2", ["SC:run pwd"]),
                ("c1", ["SC:run pwd; echo new > b.txt", "Command done.", "SC:run pwd; cat b.txt"]),
            ):
                await bench.say(*said, chat=chat)
                folders.append(str(provider.requests[-1]["input"][-1]["output"]))
            return folders

    first, second, third = run(scenario())
    places = [
        next(line for line in said.splitlines() if ".worktrees" in line) for said in (first, second, third)
    ]
    assert places[0] == places[2] != places[1]
    assert "new" in third.splitlines(), "the chat's changes are still there"
    assert (repository / "a.txt").read_text() == "committed" and not (repository / "b.txt").exists()
    assert git(repository, "status", "--porcelain") == ""
    assert len(list((repository / ".worktrees").iterdir())) == 2
