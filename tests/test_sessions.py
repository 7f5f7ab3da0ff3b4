"""Sessions: the gate keeps the history, its client sends only what is new; over real sockets and stores."""

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from codexgate.backends.codex import Codex, CodexOptions
from codexgate.backends.demo import Demo, DemoOptions
from codexgate.backends.ollama import Ollama, OllamaOptions
from codexgate.chat import ChatRequest, Message, Text
from codexgate.errors import Fault
from codexgate.events import Done, Event, Failed, Notice, TextDelta, Usage
from codexgate.gate import Alias, Gate
from codexgate.ports import Backend, SessionStore
from codexgate.records import Ability, Model
from codexgate.stages import sessions
from codexgate.stages.sessions import Sessions, session_key
from codexgate.stores import sqlite
from codexgate.stores.redis import RedisSessions
from codexgate.stores.sqlite import Threads
from tests.servers.codex_home import MODEL, make_codex_home
from tests.servers.gateway import client, serving
from tests.servers.ollama import Cut, ScriptedOllama, done
from tests.servers.ollama import call as ollama_call
from tests.servers.ollama import say as ollama_say
from tests.servers.responses import Call, ScriptedResponses, texts
from tests.servers.responses import Text as Said
from tests.servers.scripted import Scripted
from tests.servers.valkey import Valkey
from tests.support import run

CHAT = "/v1/chat/completions"
Body = dict[str, Any]
Open = Callable[[], SessionStore]
CHATS: frozenset[Ability] = frozenset({"chat"})
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


class Echo(Scripted):
    """Answers every text with itself, in capitals; `context` is its model's window in tokens."""

    def __init__(self, context: int = 0) -> None:
        super().__init__(models=[Model("scripted", "scripted", abilities=CHATS, context=context)])
        self.usage = Usage(1, 1)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[list[Event]]:
        self.requests.append(request)
        for letter in request.messages[-1].text.upper():
            yield [TextDelta(letter, "m")]
        yield [self.usage]
        yield [Done("stop")]

    @property
    def heard(self) -> list[str]:
        """What the model was told last: the first letter of each role, and the text."""
        return [f"{message.role[0]}:{message.text}" for message in self.requests[-1].messages]


@pytest.fixture(params=["sqlite", "redis"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same store, once more each time, as every gate does."""
    if request.param == "sqlite":
        return lambda: sqlite.Sessions(tmp_path / "sessions.db")
    valkey: Valkey = request.getfixturevalue("valkey")
    return lambda: RedisSessions(valkey.url)


@asynccontextmanager
async def gate(
    store: SessionStore, *backends: Backend, wait: float = 10, strict: bool = False
) -> AsyncIterator["Talk"]:
    """A client of a gate that keeps sessions in `store`."""
    stage = Sessions(store, wait=wait, strict=strict)
    async with serving(*backends, stages=[stage]) as url, client(url) as session:
        yield Talk(session, store)
    await store.aclose()


class Talk:
    def __init__(self, session: aiohttp.ClientSession, store: SessionStore) -> None:
        self.session = session
        self.store = store

    async def say(self, *said: str, id: str = "s", **more: Any) -> Body:
        """Send what the user and the assistant said, in turns. Returns the answer, with its status."""
        roles = ("user", "assistant")
        messages = [{"role": roles[at % 2], "content": text} for at, text in enumerate(said)]
        return await self.post(messages, session_id=id, **more)

    async def post(
        self, messages: Sequence[Body], *, headers: dict[str, str] | None = None, **more: Any
    ) -> Body:
        body = {"messages": messages, **more}
        async with self.session.post(CHAT, json=body, headers=headers) as answer:
            if answer.content_type == "application/json":
                return {"status": answer.status, **await answer.json()}
            return {"status": answer.status, **whole((await answer.read()).decode())}

    async def kept(self, id: str = "s", key: str = "") -> list[str]:
        """The texts of a session of whoever sends `key`."""
        return [message.text for message in await self.messages(id, key)]

    async def messages(self, id: str = "s", key: str = "") -> tuple[Message, ...]:
        sent = f"Bearer {key}" if key else ""
        return await self.store.load(session_key(hashlib.sha256(sent.encode()).hexdigest(), id))


def whole(stream: str) -> Body:
    """The answer that a stream adds up to."""
    frames = [line.removeprefix("data: ") for line in stream.split("\n") if line.startswith("data: ")]
    chunks = [json.loads(frame) for frame in frames if frame != "[DONE]"]
    if "error" in chunks[-1]:
        return {"error": chunks[-1]["error"], "ended": frames[-1] == "[DONE]"}
    message: Body = {"role": "assistant", "content": "", "reasoning_content": ""}
    for chunk in chunks:
        for choice in chunk["choices"]:
            for name in ("content", "reasoning_content"):
                message[name] += choice["delta"].get(name) or ""
    return {"choices": [{"message": message}], "ended": frames[-1] == "[DONE]"}


def text(answer: Body) -> str:
    assert answer["status"] == 200, answer
    return str(answer["choices"][0]["message"]["content"])


def notices(answer: Body) -> str:
    """What was told beside the answer."""
    return str(answer["choices"][0]["message"].get("reasoning_content") or "")


# Going on


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_sends_what_is_new_and_the_model_sees_all(open_store: Open, stream: bool) -> None:
    async def scenario() -> None:
        model = Echo()
        async with gate(open_store(), model) as talk:
            assert text(await talk.say("one", stream=stream)) == "ONE"
            assert text(await talk.say("two", stream=stream)) == "TWO"
            assert text(await talk.say("three", id="other", stream=stream)) == "THREE"
            assert model.heard == ["u:three"]
            assert text(await talk.say("four", stream=stream)) == "FOUR"
            assert model.heard == ["u:one", "a:ONE", "u:two", "a:TWO", "u:four"]
            assert await talk.kept() == ["one", "ONE", "two", "TWO", "four", "FOUR"]

    run(scenario())


def test_a_restart_of_the_gate_forgets_nothing(open_store: Open) -> None:
    async def scenario() -> None:
        for said, heard in (("one", ["u:one"]), ("two", ["u:one", "a:ONE", "u:two"])):
            model = Echo()
            async with gate(open_store(), model) as talk:
                await talk.say(said)
                assert model.heard == heard

    run(scenario())


def test_the_header_counts_when_the_body_names_none(open_store: Open) -> None:
    async def scenario() -> None:
        model, header = Echo(), {"X-Codexgate-Session": "h"}
        async with gate(open_store(), model) as talk:
            await talk.post([{"role": "user", "content": "one"}], headers=header)
            await talk.post([{"role": "user", "content": "two"}], headers=header, session_id=None)
            await talk.post([{"role": "user", "content": "three"}], headers=header, session_id="b")
            assert await talk.kept("h") == ["one", "ONE", "two", "TWO"]
            assert await talk.kept("b") == ["three", "THREE"]

    run(scenario())


def test_a_request_without_a_session_keeps_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gate(sqlite.Sessions(tmp_path / "s.db"), Echo()) as talk:
            assert text(await talk.post([{"role": "user", "content": "one"}])) == "ONE"

    run(scenario())
    assert not list(tmp_path.iterdir())


def test_another_key_sees_nothing(open_store: Open) -> None:
    async def scenario() -> None:
        model = Echo()
        async with gate(open_store(), model) as talk:
            for key in ("mine", "yours", "mine"):
                await talk.say(f"i am {key}", headers={"Authorization": f"Bearer {key}"})
            assert model.heard == ["u:i am mine", "a:I AM MINE", "u:i am mine"]
            assert await talk.kept(key="yours") == ["i am yours", "I AM YOURS"]
            assert await talk.kept() == []

    run(scenario())


def test_no_two_callers_share_a_key_however_they_are_named() -> None:
    keys = {
        session_key(*pair) for pair in (("a", "bc"), ("ab", "c"), ("", "abc"), ('a","', "b"), ("a", '","b'))
    }
    assert len(keys) == 5


@pytest.mark.parametrize("id", ["a b", "ü", "x" * 201, "a\n"])
def test_what_is_no_id_is_refused(tmp_path: Path, id: str) -> None:
    async def scenario() -> Body:
        async with gate(sqlite.Sessions(tmp_path / "s.db"), Echo()) as talk:
            return await talk.say("one", id=id)

    answer = run(scenario())
    assert (answer["status"], answer["error"]["param"]) == (400, "session_id")


def test_a_session_has_one_answer(tmp_path: Path) -> None:
    async def scenario() -> Body:
        async with gate(sqlite.Sessions(tmp_path / "s.db"), Demo(DemoOptions(pace=0))) as talk:
            return await talk.say("one", n=2)

    answer = run(scenario())
    assert (answer["status"], answer["error"]["param"]) == (400, "n")


# Clients that send more than what is new


def test_a_client_that_sends_its_whole_history_is_recognised(open_store: Open) -> None:
    async def scenario() -> None:
        model = Echo()
        async with gate(open_store(), model) as talk:
            await talk.say("one")
            await talk.say("one", " ONE\n", "two")
            await talk.say("one", "> shown by us\n\nONE", "two", "TWO", "three")
            assert model.heard == ["u:one", "a:ONE", "u:two", "a:TWO", "u:three"]
            assert await talk.kept() == ["one", "ONE", "two", "TWO", "three", "THREE"]

    run(scenario())


def test_an_edited_history_takes_the_place_of_what_was_kept(open_store: Open) -> None:
    async def scenario() -> None:
        model = Echo()
        async with gate(open_store(), model) as talk:
            for said in ("one", "two", "three"):
                await talk.say(said)
            await talk.say("one", "ONE", "changed")
            assert model.heard == ["u:one", "a:ONE", "u:changed"]
            assert await talk.kept() == ["one", "ONE", "changed", "CHANGED"]
            await talk.say("four")
            assert model.heard == ["u:one", "a:ONE", "u:changed", "a:CHANGED", "u:four"]

    run(scenario())


# Instructions


def test_instructions_are_replaced_and_never_pile_up(open_store: Open) -> None:
    async def scenario() -> None:
        model = Echo()
        steps = [
            (["be brief"], "one", ["s:be brief", "u:one"]),
            ([], "two", ["s:be brief", "u:one", "a:ONE", "u:two"]),
            (["be brief"], "three", ["s:be brief", "u:one", "a:ONE", "u:two", "a:TWO", "u:three"]),
            (
                ["be long"],
                "four",
                ["s:be long", "u:one", "a:ONE", "u:two", "a:TWO", "u:three", "a:THREE", "u:four"],
            ),
        ]
        async with gate(open_store(), model) as talk:
            for system, said, heard in steps:
                given = [{"role": "system", "content": content} for content in system]
                await talk.post([*given, {"role": "user", "content": said}], session_id="s")
                assert model.heard == heard
            assert (await talk.kept()).count("be brief") == 0
            assert (await talk.kept())[:2] == ["be long", "one"]

    run(scenario())


def test_instructions_of_an_alias_do_not_drive_out_the_clients(tmp_path: Path) -> None:
    async def scenario() -> list[list[str]]:
        model = Echo()
        stage = Sessions(sqlite.Sessions(tmp_path / "s.db"), wait=1, strict=True)
        gate = Gate([model], stages=[stage], aliases={"terse": Alias(model="scripted", system="alias")})
        heard = []
        for system in ("mine", "", "other", ""):
            given = (Message("system", (Text(system),)),) if system else ()
            said = Message("user", (Text("hi"),))
            route = await gate.route(ChatRequest("terse", (*given, said), session="s"))
            async for _ in gate.stream(route):
                pass
            heard.append([word for word in model.heard if word[0] == "s"])
        await gate.aclose()
        return heard

    assert run(scenario()) == [["s:alias", "s:mine"]] * 2 + [["s:alias", "s:other"]] * 2


# Tools


def test_a_tool_round_trip_needs_only_the_result(open_store: Open) -> None:
    async def scenario() -> None:
        async with ScriptedOllama() as ollama:
            async with gate(open_store(), Ollama(OllamaOptions(url=ollama.url))) as talk:
                more: Body = {"model": "qwen3:8b", "tools": [WEATHER]}
                ollama.next(ollama_say(calls=[ollama_call("weather", {"city": "Oslo"})]), done())
                asked = await talk.say("weather?", **more)
                [call] = asked["choices"][0]["message"]["tool_calls"]
                result = {"role": "tool", "tool_call_id": call["id"], "content": "rain"}
                ollama.next(ollama_say("It rains."), done())
                assert text(await talk.post([result], session_id="s", **more)) == "It rains."
                told = [(said["role"], said["content"]) for said in ollama.chats()[-1]["messages"]]
                assert told == [("user", "weather?"), ("assistant", ""), ("tool", "rain")]
                assert [message.role for message in await talk.messages()] == [
                    "user",
                    "assistant",
                    "tool",
                    "assistant",
                ]

    run(scenario())


def test_a_call_that_is_left_behind_gets_a_result_all_the_same(tmp_path: Path) -> None:
    async def scenario() -> list[tuple[str, str]]:
        async with ScriptedOllama() as ollama:
            store = sqlite.Sessions(tmp_path / "s.db")
            async with gate(store, Ollama(OllamaOptions(url=ollama.url))) as talk:
                ollama.next(ollama_say(calls=[ollama_call("weather", {"city": "Oslo"})]), done())
                await talk.say("weather?", model="qwen3:8b", tools=[WEATHER])
                await talk.say("never mind", model="qwen3:8b", tools=[WEATHER], tool_choice="none")
            return [(said["role"], said["content"]) for said in ollama.chats()[-1]["messages"]]

    assert run(scenario()) == [
        ("user", "weather?"),
        ("assistant", ""),
        ("tool", "No result was sent."),
        ("user", "never mind"),
    ]


# Several at once


def test_eight_writers_at_two_gates_lose_nothing(open_store: Open) -> None:
    async def scenario() -> None:
        models = Echo(), Echo()
        async with gate(open_store(), models[0]) as one, gate(open_store(), models[1]) as other:
            said = [f"w{number}" for number in range(8)]
            answers = await asyncio.gather(
                *((one, other)[at % 2].say(word, stream=at % 3 == 0) for at, word in enumerate(said))
            )
            assert [text(answer) for answer in answers] == [word.upper() for word in said]
            kept = await one.kept()
            assert sorted(kept[::2]) == said
            assert kept[1::2] == [word.upper() for word in kept[::2]]
            seen = [len(request.messages) for model in models for request in model.requests]
            assert sorted(seen) == list(range(1, 16, 2))  # each saw all before it

    run(scenario())


def test_who_waits_too_long_is_told_and_another_session_is_free(open_store: Open) -> None:
    async def scenario() -> None:
        go = asyncio.Event()
        backend = Scripted(go, [TextDelta("x"), Done("stop")])
        async with gate(open_store(), backend, wait=0.1) as talk:
            first = asyncio.create_task(talk.say("one"))
            await backend.begun.wait()
            busy = await talk.say("two")
            assert (busy["status"], busy["error"]["code"]) == (409, "session_busy")
            other = asyncio.create_task(talk.say("three", id="other"))
            go.set()
            assert [text(await first), text(await other)] == ["x", "x"]

    run(scenario())


# What is kept, and when


def test_a_turn_is_kept_before_its_end_is_told(open_store: Open) -> None:
    async def scenario() -> None:
        backend = Echo()
        async with gate(open_store(), backend) as talk:
            body = {"messages": [{"role": "user", "content": "one"}], "session_id": "s", "stream": True}
            async with talk.session.post(CHAT, json=body) as answer:
                async for line in answer.content:
                    if b'"finish_reason":"stop"' in line:
                        break
                assert await talk.kept() == ["one", "ONE"]

    run(scenario())


def test_who_hears_of_the_end_may_go_on_at_once(open_store: Open) -> None:
    async def scenario() -> None:
        store = open_store()
        gate = Gate([Echo()], stages=[Sessions(store, wait=0, strict=True)], strict=True)
        asked = ChatRequest("scripted", (Message("user", (Text("one"),)),), session="s")
        async with AsyncExitStack() as turns:
            for _ in range(2):
                turn = await turns.enter_async_context(aclosing(gate.stream(await gate.route(asked))))
                while (await anext(turn))[-1] != Done("stop"):
                    pass
        await store.aclose()

    run(scenario())


FAILING: dict[str, list[Event]] = {
    "at once": [Failed(Fault("upstream", "no"))],
    "in the middle": [TextDelta("half"), Failed(Fault("upstream", "no"))],
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("events", FAILING.values(), ids=FAILING.keys())
def test_a_failed_turn_leaves_no_trace(tmp_path: Path, events: list[Event], stream: bool) -> None:
    async def scenario() -> None:
        backend = Scripted(*events)
        async with gate(sqlite.Sessions(tmp_path / "s.db"), backend) as talk:
            assert "error" in await talk.say("one", stream=stream)
            assert await talk.kept() == []
            backend.steps = [[TextDelta("fine"), Done("stop")]]
            await talk.say("one")
            assert await talk.kept() == ["one", "fine"]

    run(scenario())


def test_a_cut_upstream_leaves_no_trace(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ScriptedOllama() as ollama:
            store = sqlite.Sessions(tmp_path / "s.db")
            async with gate(store, Ollama(OllamaOptions(url=ollama.url))) as talk:
                ollama.next(ollama_say("half"), Cut())
                assert "error" in await talk.say("one", model="qwen3:8b", stream=True)
                assert await talk.kept() == []

    run(scenario())


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_stops_the_model_and_frees_the_session(open_store: Open, stream: bool) -> None:
    async def scenario() -> None:
        backend = Scripted([TextDelta("half")], asyncio.Event(), Done("stop"))
        async with gate(open_store(), backend) as talk:
            leaving = asyncio.create_task(talk.say("one", stream=stream))
            await backend.begun.wait()
            leaving.cancel()
            await backend.left.wait()
            backend.steps = [[TextDelta("fine"), Done("stop")]]
            assert text(await talk.say("two")) == "fine"
            assert await talk.kept() == ["two", "fine"]

    run(scenario())


def test_an_answer_of_several_messages_is_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        backend = Scripted([TextDelta("a", "1"), TextDelta("b", "2"), Usage(1, 2), Done("length")])
        async with gate(sqlite.Sessions(tmp_path / "s.db"), backend) as talk:
            answer = text(await talk.say("one"))
            await talk.say("one", answer, "two")
            [first, *_] = backend.requests[1:]
            assert answer == "a\n\nb"
            assert [message.text for message in first.messages] == ["one", "a\n\nb", "two"]

    run(scenario())


# What fits


@pytest.mark.parametrize("stream", [False, True])
def test_what_does_not_fit_is_left_out_and_told_and_kept(tmp_path: Path, stream: bool) -> None:
    async def scenario() -> None:
        model = Echo(context=400)
        async with gate(sqlite.Sessions(tmp_path / "s.db"), model) as talk:
            system = {"role": "system", "content": "be"}
            for number in range(4):
                said = [system, {"role": "user", "content": str(number) * 200}]
                await talk.post(said, session_id="s", stream=stream)
            answer = await talk.say("4" * 200, stream=stream)
            assert "The 4 oldest of 10 messages were left out: scripted sees 400 tokens" in notices(answer)
            assert [word[:3] for word in model.heard] == ["s:b", "u:2", "a:2", "u:3", "a:3", "u:4"]
            assert len(await talk.kept()) == 11

    run(scenario())


WINDOWS: dict[str, tuple[Body, dict[str, Any], dict[str, str], int]] = {
    "as the model can": ({}, {}, {}, 1000),
    "as it is loaded": ({}, {}, {"loaded_context": "400"}, 400),
    "as it is asked for": ({}, {"num_ctx": 300}, {"loaded_context": "400"}, 300),
    "no larger than the model can": ({}, {"num_ctx": 5000}, {}, 1000),
}


@pytest.mark.parametrize(("more", "options", "details", "window"), WINDOWS.values(), ids=WINDOWS.keys())
def test_the_window_is_the_one_that_counts(
    tmp_path: Path, more: Body, options: dict[str, Any], details: dict[str, str], window: int
) -> None:
    async def scenario() -> str:
        model = Echo()
        model._models = (Model("scripted", "scripted", context=1000, details=details),)
        stage = Sessions(sqlite.Sessions(tmp_path / "s.db"), wait=1, strict=True)
        gate = Gate([model], stages=[stage], aliases={"a": Alias(model="scripted", options=options)})
        told = ""
        for _ in range(3):
            said = Message("user", (Text("x" * 1500),))
            route = await gate.route(ChatRequest("a", (said,), session="s"))
            async for batch in gate.stream(route):
                told += "".join(event.text for event in batch if isinstance(event, Notice))
        await gate.aclose()
        return told

    assert f"sees {window} tokens" in run(scenario())


def test_a_session_that_grows_for_ever_loses_its_oldest_turns_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MESSAGES", 8)

    async def scenario() -> None:
        async with gate(sqlite.Sessions(tmp_path / "s.db"), Echo()) as talk:
            for number in range(4):
                assert not notices(await talk.say(f"q{number}"))
            assert "The 4 oldest messages of this session were forgotten" in notices(await talk.say("q4"))
            assert await talk.kept() == ["q2", "Q2", "q3", "Q3", "q4", "Q4"]
            assert not notices(await talk.say("q5"))

    run(scenario())


# Without the store


@pytest.mark.parametrize("stream", [False, True])
def test_without_its_store_a_chat_goes_on_with_what_was_sent(tmp_path: Path, stream: bool) -> None:
    async def scenario() -> None:
        (tmp_path / "file").touch()
        model = Echo()
        async with gate(sqlite.Sessions(tmp_path / "file" / "s.db"), model) as talk:
            answer = await talk.say("one", "ONE", "two", stream=stream)
            assert text(answer) == "TWO"
            assert "the model sees only what was sent" in notices(answer)
            assert model.heard == ["u:one", "a:ONE", "u:two"]
            assert model.requests[-1].chat == ""
        async with gate(sqlite.Sessions(tmp_path / "file" / "s.db"), model, strict=True) as talk:
            answer = await talk.say("one", stream=stream)
            assert (answer["status"], answer["error"]["code"]) == (503, "session_store_unavailable")
            assert len(model.requests) == 1

    run(scenario())


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_a_store_that_dies_under_a_turn(own_valkey: Valkey, strict: bool, stream: bool) -> None:
    async def scenario() -> None:
        go = asyncio.Event()
        backend = Scripted([TextDelta("answer")], go, [Usage(1, 1)], [Done("stop")])
        async with gate(RedisSessions(own_valkey.url), backend, strict=strict) as talk:
            asking = asyncio.create_task(talk.say("one", stream=stream))
            await backend.begun.wait()
            own_valkey.stop()
            go.set()
            answer = await asking
            if strict:
                assert answer["error"]["code"] == "session_store_unavailable"
                assert not answer.get("ended")
            else:
                assert text(answer) == "answer"
                assert "this turn is not kept" in notices(answer)
            own_valkey.start()
            with own_valkey.client() as plain:
                while not plain.keys("codexgate:session:*"):
                    await talk.say("two")
            assert await talk.kept() == ["two", "answer"]

    run(scenario())


# Backends that keep chats themselves


def test_a_backend_that_keeps_chats_goes_on_with_the_sessions(tmp_path: Path) -> None:
    async def scenario() -> list[ChatRequest]:
        model = Echo()
        async with gate(sqlite.Sessions(tmp_path / "s.db"), model) as talk:
            await talk.say("one")
            await talk.say("two")
            await talk.say("three", id="other")
            await talk.say("four", headers={"X-OpenWebUI-Chat-Id": "mine"})
        return model.requests

    chats = [request.chat for request in run(scenario())]
    assert chats[0] == chats[1] != chats[2]
    assert chats[0].startswith("session-")
    assert chats[3] == "mine"


@asynccontextmanager
async def codex_gate(tmp_path: Path, provider: ScriptedResponses) -> AsyncIterator[Talk]:
    """A gate with the real Codex, over what earlier ones kept."""
    home = make_codex_home(tmp_path / "home", provider.url)
    environ = {**os.environ, "CODEX_HOME": str(home), "HOME": str(home)}
    threads = Threads(tmp_path / "threads.db")
    codex = Codex(CodexOptions(), tmp_path / "data", environ, threads=threads, wait=10)
    async with gate(sqlite.Sessions(tmp_path / "s.db"), codex) as talk:
        yield talk


def test_on_codex_a_session_is_one_thread_also_after_restarts(tmp_path: Path) -> None:
    async def scenario() -> None:
        answers = []
        async with ScriptedResponses() as provider:
            for said in ("SC:echo one", "SC:twomsg", "SC:echo three"):
                async with codex_gate(tmp_path, provider) as talk:
                    answers.append(await talk.say(said, model=MODEL))
        assert [text(answer) for answer in answers] == ["one", "second message", "three"]
        assert [answer["turn_number"] for answer in answers] == [1, 2, 3]
        assert len({answer["thread_id"] for answer in answers}) == 1
        heard = [
            (item["role"], texts(item))
            for item in provider.requests[-1]["input"]
            if item.get("type") == "message" and item["role"] in ("user", "assistant")
        ]
        assert [(role, said) for role, said in heard if not said.startswith("<")] == [
            ("user", "SC:echo one"),
            ("assistant", "one"),
            ("user", "SC:twomsg"),
            ("assistant", "first message"),
            ("assistant", "second message"),
            ("user", "SC:echo three"),
        ]

    run(scenario())


def test_on_codex_a_tool_round_trip_needs_only_the_result(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ScriptedResponses() as provider, codex_gate(tmp_path, provider) as talk:
            provider.script("tools", [Call("weather", {"city": "Oslo"})], [Said("It rains.")])
            more: Body = {"model": MODEL, "tools": [WEATHER]}
            asked = await talk.say("SC:tools", **more)
            [call] = asked["choices"][0]["message"]["tool_calls"]
            result = {"role": "tool", "tool_call_id": call["id"], "content": "rain"}
            assert text(await talk.post([result], session_id="s", **more)) == "It rains."
            assert len(provider.requests) == 2  # the turn that waited went on
            last = await talk.say("SC:echo done", **more)
            assert (text(last), last["thread_id"]) == ("done", asked["thread_id"])
            assert len(await talk.kept()) == 6

    run(scenario())
