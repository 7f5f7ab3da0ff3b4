"""A client's own tools on a Codex model: the turn waits, the client runs them, the turn goes on.

One conversation with the model all the while: the provider's log shows it.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import openai
import pytest

from codexgate.backends.codex import Codex, CodexOptions, backend
from codexgate.backends.codex.approvals import Desk
from codexgate.backends.codex.child import Told
from codexgate.backends.codex.run import Run
from codexgate.backends.codex.turn import Turn
from codexgate.chat import ChatRequest, Message, Tool
from codexgate.chat import Text as Said
from codexgate.dialects.codex import ask, wire
from codexgate.fold import fold
from codexgate.jsonrpc import Request, RequestId, receive
from codexgate.server.app import Listen
from codexgate.stores.sqlite import Threads
from tests.servers.codex_home import MODEL, make_codex_home
from tests.servers.codex_lines import recorded
from tests.servers.gateway import serving
from tests.servers.responses import Call, ScriptedResponses, Text
from tests.support import run, unhurried

Body = dict[str, Any]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No deadline of ours is tested here."""
    unhurried(monkeypatch, "backends.codex.turn.CLOSING", "backends.codex.child.HUNG")


def tool(name: str) -> Any:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    return {
        "type": "function",
        "function": {"name": name, "description": "The weather.", "parameters": parameters},
    }


ASK: list[Any] = [{"role": "user", "content": "SC:tools"}]


@asynccontextmanager
async def bench(
    tmp_path: Path, *answers: Any, **options: Any
) -> AsyncIterator[tuple[ScriptedResponses, openai.AsyncOpenAI, Codex]]:
    async with ScriptedResponses() as provider:
        provider.script("tools", *answers)
        home = make_codex_home(tmp_path / "home", provider.url)
        environ = {**os.environ, "CODEX_HOME": str(home), "HOME": str(home)}
        codex = Codex(
            CodexOptions(**options), tmp_path / "data", environ, threads=Threads(tmp_path / "threads.db")
        )
        async with serving(codex, listen=Listen(drain=0)) as url:
            async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="one", max_retries=0) as client:
                yield provider, client, codex


def assistant(calls: list[Any]) -> Any:
    called = [
        {
            "id": c.id,
            "type": "function",
            "function": {"name": c.function.name, "arguments": c.function.arguments},
        }
        for c in calls
    ]
    return {"role": "assistant", "content": None, "tool_calls": called}


def result(call: Any, text: str) -> Any:
    return {"role": "tool", "tool_call_id": call.id, "content": text}


def outputs(request: Body) -> list[str]:
    """The results of tools that the model was sent."""
    found = [item["output"] for item in request["input"] if item["type"] == "function_call_output"]
    return [one if isinstance(one, str) else "".join(part.get("text", "") for part in one) for one in found]


@pytest.mark.parametrize("chat", [None, "c1"], ids=["alone", "in a chat"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_the_same_turn_goes_on_with_the_result(tmp_path: Path, streamed: bool, chat: str | None) -> None:
    async def scenario() -> None:
        answers = [[Call("weather", {"city": "Ulm"})], [Text("It is sunny.")]]
        async with bench(tmp_path, *answers) as (provider, client, codex):
            extra: Any = {"X-OpenWebUI-Chat-Id": chat} if chat else {}
            said = list(ASK)
            calls, finish = await calling(client, said, streamed, extra)
            assert finish == "tool_calls"
            assert [(c.function.name, json.loads(c.function.arguments)) for c in calls] == [
                ("weather", {"city": "Ulm"})
            ]
            said += [assistant(calls), result(calls[0], "sunny, 21°")]
            after = await client.chat.completions.create(
                model=MODEL, messages=said, tools=[tool("weather")], extra_headers=extra
            )
            assert (after.choices[0].message.content, after.choices[0].finish_reason) == (
                "It is sunny.",
                "stop",
            )
            assert after.usage is not None and after.usage.total_tokens == 240
            assert len(provider.requests) == 2
            assert outputs(provider.requests[1]) == ["sunny, 21°"]
            assert provider.requests[0]["prompt_cache_key"] == provider.requests[1]["prompt_cache_key"]
            assert not codex._parked
            if chat:
                said += [
                    {"role": "assistant", "content": "It is sunny."},
                    {"role": "user", "content": "SC:plain"},
                ]
                more = await client.chat.completions.create(
                    model=MODEL, messages=said, tools=[tool("weather")], extra_headers=extra
                )
                assert more.choices[0].message.content == "Hello from the model."
                assert provider.requests[2]["prompt_cache_key"] == provider.requests[0]["prompt_cache_key"]

    run(scenario())


async def calling(
    client: openai.AsyncOpenAI, said: list[Any], streamed: bool, extra: Any = None
) -> tuple[list[Any], str | None]:
    """The calls of an answer, and how it ended."""
    if not streamed:
        whole = await client.chat.completions.create(
            model=MODEL, messages=said, tools=[tool("weather")], extra_headers=extra
        )
        return list(whole.choices[0].message.tool_calls or []), whole.choices[0].finish_reason
    async with client.chat.completions.stream(
        model=MODEL, messages=said, tools=[tool("weather")], extra_headers=extra
    ) as stream:
        final = await stream.get_final_completion()
    return list(final.choices[0].message.tool_calls or []), final.choices[0].finish_reason


def test_two_calls_of_one_model_step_reach_the_client_and_both_results_the_model(tmp_path: Path) -> None:
    """Codex 0.163 asks for one after the other, in any order, so they are two answers; 0.169 asks at once (below)."""

    async def scenario() -> None:
        answers = [
            [Call("weather", {"city": "Ulm"}), Call("weather", {"city": "Köln"})],
            [Text("Both sunny.")],
        ]
        async with bench(tmp_path, *answers) as (provider, client, _):
            said = list(ASK)
            cities: list[str] = []
            while len(cities) < 2:
                calls, finish = await calling(client, said, streamed=True)
                assert finish == "tool_calls"
                cities += [json.loads(call.function.arguments)["city"] for call in calls]
                said += [
                    assistant(calls),
                    *(result(call, f"{call.function.arguments} sunny") for call in calls),
                ]
            assert sorted(cities) == ["Köln", "Ulm"]
            after = await client.chat.completions.create(model=MODEL, messages=said, tools=[tool("weather")])
            assert after.choices[0].message.content == "Both sunny."
            results = [
                json.loads(one.removesuffix(" sunny"))["city"] for one in outputs(provider.requests[1])
            ]
            assert sorted(results) == ["Köln", "Ulm"]
            assert len(provider.requests) == 2

    run(scenario())


class Recorded:
    """A turn that says what a recording says, and stops where the recording waits for an answer."""

    thread = "t"

    def __init__(self, name: str) -> None:
        lines = (Path(__file__).parent / "recordings" / f"{name}.jsonl").read_bytes().splitlines()
        told = [msgspec.json.decode(line) for line in lines]
        self.answered: dict[RequestId, Any] = {}
        self._waits = False
        self._told: list[Told] = []
        for one in told:
            message = one["msg"]
            if (
                one["dir"].startswith("server")
                and "method" in message
                and "threadId" in message.get("params", {})
            ):
                self._told.append(receive(msgspec.json.encode(message)))  # type: ignore[arg-type]

    async def read(self) -> list[Told]:
        if self._waits and not self.answered:
            await asyncio.Event().wait()
        one = self._told.pop(0)
        self._waits = (
            isinstance(one, Request)
            and not isinstance(self._told[0], Request)
            and "tool/call" not in str(self._told[1:2])
        )
        return [one]

    def answer(self, id: RequestId, result: Body | None) -> None:
        self.answered[id] = result

    async def leave(self, ended: bool) -> None:
        assert ended


def test_two_calls_at_once_are_two_calls_of_one_answer_whatever_the_order_of_the_results() -> None:
    async def scenario() -> None:
        turn = Recorded("parallel_tool_calls_are_mixed_up")
        request = ChatRequest("m", (Message("user", (Said("x"),)),), tools=(Tool("lookup_ticket"),))
        waiting = Run(cast("Turn", turn), request, CodexOptions(), Desk(1))
        first = fold([event async for batch in waiting.events() for event in batch])
        assert [call.arguments for call in first.tool_calls] == ['{"id":"T-1"}', '{"id":"T-2"}']
        results = [
            Message("tool", (Said(f"res {call.arguments}"),), tool_call_id=call.id)
            for call in reversed(first.tool_calls)
        ]
        waiting.go_on(msgspec.structs.replace(request, messages=(*request.messages, *results)))
        assert {id: given["contentItems"][0]["text"] for id, given in turn.answered.items()} == {
            0: 'res {"id":"T-1"}',
            1: 'res {"id":"T-2"}',
        }
        second = fold([event async for batch in waiting.events() for event in batch])
        assert (second.text, second.reason) == ("both looked up.", "stop")
        await waiting.finish()

    run(scenario())


def test_a_turn_that_waited_too_long_falls_back_to_the_whole_history(tmp_path: Path) -> None:
    async def scenario() -> None:
        answers = [[Call("weather", {"city": "Ulm"})], [Text("It is sunny.")]]
        async with bench(tmp_path, *answers, tool_timeout=0.1) as (provider, client, codex):
            calls, _ = await calling(client, list(ASK), streamed=False)
            while codex._parked:
                await asyncio.sleep(0.01)
            provider.default = [[Text("Sunny, I read.")]]
            provider.script("tools", [Text("Sunny, I read.")])
            said = [*ASK, assistant(calls), result(calls[0], "sunny")]
            after = await client.chat.completions.create(model=MODEL, messages=said, tools=[tool("weather")])
            assert after.choices[0].message.content == "Sunny, I read."
            assert outputs(provider.requests[-1]) == ["sunny"]

    run(scenario())


def test_what_one_caller_left_open_is_not_anothers(tmp_path: Path) -> None:
    async def scenario() -> None:
        answers = [[Call("weather", {"city": "Ulm"})], [Text("It is sunny.")]]
        async with bench(tmp_path, *answers) as (provider, client, codex):
            calls, _ = await calling(client, list(ASK), streamed=False)
            provider.script("tools", [Text("Another turn.")])
            said = [*ASK, assistant(calls), result(calls[0], "stolen")]
            other = client.with_options(api_key="two")
            after = await other.chat.completions.create(model=MODEL, messages=said, tools=[tool("weather")])
            assert after.choices[0].message.content == "Another turn."
            assert codex._parked, "the first caller's turn still waits"

    run(scenario())


def test_a_chat_that_goes_on_without_the_results_ends_the_turn_that_waits(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path, [Call("weather", {"city": "Ulm"})], [Text("never")]) as (_, client, codex):
            extra = {"X-OpenWebUI-Chat-Id": "c1"}
            await calling(client, list(ASK), streamed=False, extra=extra)
            after = await client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "SC:plain"}], extra_headers=extra
            )
            assert after.choices[0].message.content == "Hello from the model."
            assert not codex._parked

    run(scenario())


def test_a_tool_named_like_one_of_codexs_own_is_the_clients(tmp_path: Path) -> None:
    """Codex takes such a name without a word, and then calls its own tool."""

    async def scenario() -> None:
        answers = [[Call(ask.tool_name("exec_command"), {"city": "Ulm"})], [Text("Done.")]]
        async with bench(tmp_path, *answers) as (_, client, _codex):
            whole = await client.chat.completions.create(
                model=MODEL, messages=ASK, tools=[tool("exec_command"), tool("get.weather")]
            )
            (call,) = whole.choices[0].message.tool_calls or []
            assert call.type == "function" and call.function.name == "exec_command"

    run(scenario())


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("weather", "weather"),
        ("shell", "client_shell"),
        ("get.weather", "client_get_weather"),
        ("client_x", "client_client_x"),
        ("mcp__x__y", "client_mcp__x__y"),
    ],
)
def test_names_that_codex_is_told(name: str, told: str) -> None:
    assert ask.tool_name(name) == told


def test_leaving_a_turn_that_waits_for_nothing_sends_no_interrupt_while_it_is_parked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = recorded(monkeypatch)

    async def scenario() -> None:
        async with bench(tmp_path, [Call("weather", {"city": "Ulm"})], [Text("x")]) as (_, client, codex):
            await calling(client, list(ASK), streamed=True)
            assert codex._parked
            assert not [line for line in sent if line.get("method") == wire.TURN_INTERRUPT]

    run(scenario())
    assert len([line for line in sent if line.get("method") == wire.TURN_INTERRUPT]) == 1, (
        "closing the gate ends it"
    )


async def asked(
    client: openai.AsyncOpenAI, said: list[Any], chat: str = "", model: str = MODEL, **extra: Any
) -> Any:
    """The whole answer to `said`."""
    headers = {"X-OpenWebUI-Chat-Id": chat} if chat else {}
    return await client.chat.completions.create(
        model=model, messages=said, tools=[tool("weather")], extra_headers=headers, **extra
    )


def called(answer: Any) -> list[Any]:
    """The calls of `answer`."""
    return answer.choices[0].message.tool_calls or []


def user(text: str) -> Any:
    return {"role": "user", "content": text}


NUMBERED = [Call("weather", {"city": "Ulm"}, id="call_0")]
"""A call as of a model that numbers them, in every chat from the beginning."""


@pytest.mark.parametrize(
    ("chats", "keys"),
    [(("", ""), ("one", "one")), (("a", "b"), ("one", "one")), (("", ""), ("one", "two"))],
    ids=["alone", "two chats", "two callers"],
)
def test_results_reach_the_turn_that_asked_though_models_repeat_their_ids(
    tmp_path: Path, chats: tuple[str, str], keys: tuple[str, str]
) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as (provider, client, codex):
            turns = []
            for word, chat, key in zip(("first", "second"), chats, keys, strict=True):
                provider.script(word, NUMBERED, [Text(f"Of the {word}.")])
                own = client.with_options(api_key=key)
                said = [user(f"SC:{word}")]
                calls = called(await asked(own, said, chat))
                turns.append((word, own, [*said, assistant(calls), result(calls[0], word)], chat))
            for word, own, said, chat in turns:
                answer = await asked(own, said, chat)
                assert answer.choices[0].message.content == f"Of the {word}."
                assert outputs(provider.requests[-1]) == [word]
            assert len(provider.requests) == 4 and not codex._parked

    run(scenario())


@pytest.mark.parametrize("other", ["model", "chat", "question"])
def test_results_for_something_else_than_what_waits_are_a_turn_of_their_own(
    tmp_path: Path, other: str
) -> None:
    async def scenario() -> None:
        async with bench(tmp_path, NUMBERED, [Text("Old.")], models=("other",)) as (provider, client, _):
            calls = called(await asked(client, ASK, "c1"))
            provider.script("tools", [Text("New.")])
            asks = user("SC:tools, and in Köln?") if other == "question" else ASK[0]
            said = [asks, assistant(calls), result(calls[0], "sunny")]
            chat, model = ("c2" if other == "chat" else "c1"), ("other" if other == "model" else MODEL)
            answer = await asked(client, said, chat, model)
            assert answer.choices[0].message.content == "New."
            assert provider.requests[-1]["model"] == model
            assert asks["content"] in json.dumps(provider.requests[-1]["input"], ensure_ascii=False)

    run(scenario())


def test_a_title_that_is_asked_for_meanwhile_leaves_the_turn_waiting(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path, NUMBERED, [Text("It is sunny.")]) as (provider, client, _):
            calls = called(await asked(client, ASK, "c1"))
            await asked(client, [user("### Task:\nName this chat. SC:plain")], "c1")
            said = [*ASK, assistant(calls), result(calls[0], "sunny")]
            assert (await asked(client, said, "c1")).choices[0].message.content == "It is sunny."
            assert len(provider.requests) == 3

    run(scenario())


def test_every_answer_of_a_turn_names_its_thread(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path, NUMBERED, [Text("It is sunny.")]) as (_, client, _codex):
            first = await asked(client, ASK, "c1")
            calls = called(first)
            second = await asked(client, [*ASK, assistant(calls), result(calls[0], "sunny")], "c1")
            assert (first.thread_id, first.turn_number) == (second.thread_id, second.turn_number)

    run(scenario())


@pytest.mark.parametrize("choices", [("none", "auto"), ("auto", "none")], ids=" then ".join)
def test_each_turn_of_a_chat_has_the_tools_of_its_own_request(
    tmp_path: Path, choices: tuple[str, str]
) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as (provider, client, _):
            said: list[Any] = []
            for choice in choices:
                said.append(user(f"SC:plain {choice}"))
                answer = await asked(client, said, "c1", tool_choice=choice)
                said.append({"role": "assistant", "content": answer.choices[0].message.content})
                offered = [each.get("name") for each in provider.requests[-1]["tools"]]
                assert ("weather" in offered) == (choice == "auto")

    run(scenario())


def test_results_that_come_without_the_tools_leave_the_thread_what_it_was(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path, NUMBERED, [Text("It is sunny.")]) as (provider, client, _):
            calls = called(await asked(client, ASK, "c1"))
            said = [*ASK, assistant(calls), result(calls[0], "sunny")]
            await asked(client, said, "c1", tool_choice="none")
            said += [{"role": "assistant", "content": "It is sunny."}, user("SC:plain")]
            await asked(client, said, "c1")
            assert len({request["prompt_cache_key"] for request in provider.requests}) == 1

    run(scenario())


@pytest.mark.parametrize("chat", ["", "c1"], ids=["alone", "in a chat"])
def test_results_for_a_codex_that_has_died_are_told_to_the_next(tmp_path: Path, chat: str) -> None:
    async def scenario() -> None:
        async with bench(tmp_path, NUMBERED) as (provider, client, codex):
            calls = called(await asked(client, ASK, chat))
            child = await codex._supervisor.child()
            child._process.kill()
            while child.gone is None:
                await asyncio.sleep(0.01)
            provider.script("tools", [Text("Sunny, I read.")])
            answer = await asked(client, [*ASK, assistant(calls), result(calls[0], "sunny")], chat)
            assert answer.choices[0].message.content == "Sunny, I read."
            assert outputs(provider.requests[-1]) == ["sunny"]
            assert not codex._parked

    run(scenario())


def test_of_too_many_turns_that_wait_the_oldest_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "PARKED", 2)

    async def scenario() -> None:
        async with bench(tmp_path, NUMBERED) as (provider, client, codex):
            waiting = [called(await asked(client, ASK)) for _ in range(3)]
            assert len(codex._parked) == 2
            provider.script("tools", [Text("Sunny.")])
            for calls in waiting:
                answer = await asked(client, [*ASK, assistant(calls), result(calls[0], "sunny")])
                assert answer.choices[0].message.content == "Sunny."
            threads = [request["prompt_cache_key"] for request in provider.requests]
            assert [one == other for one, other in zip(threads, threads[3:], strict=False)] == [
                False,
                True,
                True,
            ]

    run(scenario())


def test_a_turn_without_an_end_is_given_up_with_its_limit_named(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path, turn_timeout=0.5) as (_, client, _codex):
            with pytest.raises(openai.APIStatusError) as refused:
                await asked(client, [user("SC:hang")])
            assert "after 0.5 s" in refused.value.message and "codex.turn_timeout" in refused.value.message

    run(scenario())
