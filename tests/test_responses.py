"""`/v1/responses` and `/v1/conversations` through a real gate, by the official client: what lasts, what stops."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from codexgate.backends.codex import Codex, CodexOptions
from codexgate.backends.demo import Demo, DemoOptions
from codexgate.backends.ollama import Ollama, OllamaOptions
from codexgate.events import Done, TextDelta
from codexgate.ports import Backend
from codexgate.stores.responses import Limits
from codexgate.stores.sqlite import Threads
from codexgate.stores.sqlite_responses import Responses
from tests.servers.codex_home import MODEL as CODEX_MODEL
from tests.servers.codex_home import make_codex_home
from tests.servers.gateway import client, serving
from tests.servers.ollama import ScriptedOllama, call, done, say
from tests.servers.responses import ScriptedResponses
from tests.servers.scripted import Scripted
from tests.support import files_in, run

MODEL = "scripted"
LIMITS = Limits()
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "strict": False,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@asynccontextmanager
async def gate(
    folder: Path, *backends: Backend, limits: Limits = LIMITS
) -> AsyncIterator[openai.AsyncOpenAI]:
    """A gate whose responses are kept in `folder`, and outlive it."""
    async with serving(*backends, kept=Responses(folder / "responses.db", limits=limits)) as url:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as made:
            yield made


def echoing(*texts: str) -> Scripted:
    return Scripted(*(TextDelta(text, "m") for text in texts or ("hello",)), Done("stop"))


def asked_of(backend: Scripted, at: int = -1) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in backend.requests[at].messages]


def test_a_conversation_survives_a_restart_of_the_gate(tmp_path: Path) -> None:
    async def scenario() -> None:
        backend = echoing("one")
        async with gate(tmp_path, backend) as api:
            first = await api.responses.create(model=MODEL, input="a", instructions="Be brief.")
        async with gate(tmp_path, backend) as api:
            second = await api.responses.create(model=MODEL, input="b", previous_response_id=first.id)
            assert second.previous_response_id == first.id
            assert asked_of(backend) == [("user", "a"), ("assistant", "one"), ("user", "b")]
            await api.responses.create(model=MODEL, input="c", previous_response_id=second.id)
            assert [text for _, text in asked_of(backend)] == ["a", "one", "b", "one", "c"]
            assert (await api.responses.retrieve(first.id)).output_text == "one"

    run(scenario())


def test_one_response_can_be_gone_on_with_twice(tmp_path: Path) -> None:
    async def scenario() -> None:
        backend = echoing("one")
        async with gate(tmp_path, backend) as api:
            first = await api.responses.create(model=MODEL, input="a")
            for text in ("b", "c"):
                await api.responses.create(model=MODEL, input=text, previous_response_id=first.id)
                assert [said for _, said in asked_of(backend)] == ["a", "one", text]

    run(scenario())


def test_what_is_not_to_be_stored_leaves_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        backend = echoing()
        async with gate(tmp_path, backend) as api:
            answer = await api.responses.create(model=MODEL, input="SECRET WORDS", store=False)
            assert answer.output_text == "hello"
            with pytest.raises(openai.NotFoundError) as missing:
                await api.responses.retrieve(answer.id)
            assert missing.value.code == "response_not_found"
            assert backend.requests[0].chat == ""

    run(scenario())
    assert not [file for file, content in files_in(tmp_path).items() if b"SECRET" in content]


def test_a_deleted_response_is_gone_and_so_is_what_was_asked(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gate(tmp_path, echoing()) as api:
            answer = await api.responses.create(model=MODEL, input="a")
            await api.responses.delete(answer.id)
            for lost in (api.responses.retrieve(answer.id), api.responses.delete(answer.id)):
                with pytest.raises(openai.NotFoundError):
                    await lost
            with pytest.raises(openai.NotFoundError):
                await api.responses.create(model=MODEL, input="b", previous_response_id=answer.id)

    run(scenario())


def test_another_caller_sees_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gate(tmp_path, echoing()) as api:
            mine = await api.responses.create(model=MODEL, input="a")
            talk = await api.conversations.create()
            other = api.with_options(api_key="other")
            for denied in (
                other.responses.retrieve(mine.id),
                other.responses.delete(mine.id),
                other.responses.cancel(mine.id),
                other.conversations.retrieve(talk.id),
                other.responses.create(model=MODEL, input="b", previous_response_id=mine.id),
                other.responses.create(model=MODEL, input="b", conversation=talk.id),
            ):
                with pytest.raises(openai.NotFoundError):
                    await denied

    run(scenario())


def test_a_streamed_answer_is_kept_when_its_end_is_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gate(tmp_path, echoing("a", "b")) as api:
            async with api.responses.stream(model=MODEL, input="x") as stream:
                async for event in stream:
                    if event.type == "response.completed":
                        assert (await api.responses.retrieve(event.response.id)).output_text == "ab"
                assert (await stream.get_final_response()).output_text == "ab"

    run(scenario())


def test_the_whole_input_is_listed_in_pages(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gate(tmp_path, echoing("one")) as api:
            first = await api.responses.create(model=MODEL, input="a")
            second = await api.responses.create(model=MODEL, input="b", previous_response_id=first.id)
            page = await api.responses.input_items.list(second.id, limit=2, order="asc")
            listed: list[Any] = [item async for item in page]
            assert [item.content[0].text for item in listed] == ["a", "one", "b"]
            with pytest.raises(openai.BadRequestError):
                await api.responses.input_items.list(second.id, limit=101)

    run(scenario())


def test_an_item_is_found_by_its_id(tmp_path: Path) -> None:
    async def scenario() -> None:
        backend = echoing("one")
        async with gate(tmp_path, backend) as api:
            first = await api.responses.create(model=MODEL, input="a")
            again: Any = [
                {"type": "item_reference", "id": first.output[0].id},
                {"role": "user", "content": "b"},
            ]
            await api.responses.create(model=MODEL, input=again)
            assert asked_of(backend) == [("assistant", "one"), ("user", "b")]
            again[0]["id"] = "msg_1"
            with pytest.raises(openai.BadRequestError) as missing:
                await api.responses.create(model=MODEL, input=again)
            assert missing.value.code == "item_not_found"

    run(scenario())


def test_one_request_reads_no_endless_number_of_responses(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gate(tmp_path, echoing()) as api:
            asked: Any = [{"type": "item_reference", "id": f"msg_{n:032x}0001"} for n in range(101)]
            with pytest.raises(openai.BadRequestError, match="items of 101 responses; at most 100"):
                await api.responses.create(model=MODEL, input=asked)

    run(scenario())


def test_a_store_that_is_down_is_not_taken_for_an_item_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "responses.db").write_bytes(b"no database" * 1000)

    async def scenario() -> None:
        async with gate(tmp_path, echoing()) as api:
            with pytest.raises(openai.InternalServerError) as caught:
                reference: Any = {"type": "item_reference", "id": f"msg_{'0' * 32}0001"}
                await api.responses.create(model=MODEL, input=[reference], store=False)
            assert (caught.value.status_code, caught.value.code) == (503, "response_store_unavailable")

    run(scenario())


def test_a_response_that_cannot_be_kept_is_answered_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "responses.db").write_bytes(b"no database" * 1000)

    async def scenario() -> None:
        for backend, length in ((echoing("one", "two"), 6), (Scripted(TextDelta("one"), Done("length")), 3)):
            async with gate(tmp_path, backend) as api:
                answer: Any = await api.responses.create(model=MODEL, input="a")
                assert (len(answer.output_text), answer.to_dict()["store"]) == (length, False)
                with pytest.raises(openai.InternalServerError):
                    await api.responses.retrieve(answer.id)
                events: list[Any] = [
                    event async for event in await api.responses.create(model=MODEL, input="a", stream=True)
                ]
                assert [event.sequence_number for event in events] == list(range(len(events)))
                assert [event.response.to_dict()["store"] for event in (events[0], events[-1])] == [
                    True,
                    False,
                ]
                assert (
                    events[-1].response.status
                    == answer.status
                    == ("completed" if length == 6 else "incomplete")
                )
                assert [event.type for event in events].count(events[-1].type) == 1
                with pytest.raises(openai.InternalServerError):
                    await api.responses.create(model=MODEL, input="a", background=True)

    run(scenario())


def test_a_conversation_collects_what_was_asked_and_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        backend = echoing("one")
        async with gate(tmp_path, backend) as api:
            hello: Any = [{"type": "message", "role": "user", "content": "hello"}]
            talk = await api.conversations.create(items=hello, metadata={"topic": "x"})
            answer = await api.responses.create(model=MODEL, input="a", conversation=talk.id)
            assert answer.conversation is not None and answer.conversation.id == talk.id
        async with gate(tmp_path, backend) as api:
            await api.responses.create(model=MODEL, input="b", conversation=talk.id)
            assert [text for _, text in asked_of(backend)] == ["hello", "a", "one", "b"]
            items: list[Any] = [item async for item in await api.conversations.items.list(talk.id, limit=2)]
            assert [item.content[0].text for item in reversed(items)] == ["hello", "a", "one", "b", "one"]
            await api.conversations.items.delete(items[0].id, conversation_id=talk.id)
            with pytest.raises(openai.NotFoundError):
                await api.conversations.items.retrieve(items[0].id, conversation_id=talk.id)
            changed = await api.conversations.update(talk.id, metadata={"topic": "y"})
            assert changed.metadata == {"topic": "y"}
            assert (await api.conversations.delete(talk.id)).deleted
            with pytest.raises(openai.NotFoundError):
                await api.conversations.retrieve(talk.id)

    run(scenario())


def test_two_answers_are_never_added_to_one_conversation_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        hold = asyncio.Event()
        backend = Scripted(TextDelta("a"), hold, Done("stop"))
        async with gate(tmp_path, backend) as api:
            talk = await api.conversations.create()
            first = asyncio.create_task(api.responses.create(model=MODEL, input="1", conversation=talk.id))
            await backend.begun.wait()
            with pytest.raises(openai.ConflictError) as busy:
                await api.responses.create(model=MODEL, input="2", conversation=talk.id)
            assert busy.value.code == "conversation_locked"
            hold.set()
            await first
            await api.responses.create(model=MODEL, input="3", conversation=talk.id)

    run(scenario())


async def talk_of(api: openai.AsyncOpenAI, id: str) -> list[str]:
    items: list[Any] = [item async for item in await api.conversations.items.list(id, order="asc")]
    return [item.content[0].text for item in items]


@pytest.mark.parametrize("how", ["whole", "streamed", "background", "followed"])
@pytest.mark.parametrize("why", ["deleted", "full"])
def test_an_answer_that_does_not_come_into_its_conversation_arrives_and_says_so(
    tmp_path: Path, how: str, why: str
) -> None:
    """Kept by itself, it says so there too."""

    async def scenario() -> None:
        go = asyncio.Event()
        backend = Scripted(TextDelta("one", "m"), go, Done("stop"))
        limits = Limits(count=2 if why == "full" else 10)
        async with gate(tmp_path, backend, limits=limits) as api:
            talk = await api.conversations.create(items=[{"role": "user", "content": "hello"}])
            asked: dict[str, Any] = {"model": MODEL, "input": "a", "conversation": talk.id}
            asked["stream"] = how in ("streamed", "followed")
            asked["background"] = how in ("background", "followed")

            async def answered() -> Any:
                told: Any = await api.responses.create(**asked)
                if how == "background":
                    return await finished(api, told.id)
                if how == "whole":
                    return told
                events = [event async for event in told]
                assert [event.sequence_number for event in events] == list(range(len(events)))
                assert [event.type for event in events].count("response.completed") == 1
                assert events[0].response.conversation.id == talk.id
                return events[-1].response

            answer = asyncio.create_task(answered())
            await backend.begun.wait()
            if why == "deleted":
                await api.conversations.delete(talk.id)
            go.set()
            told = await answer
            assert (told.status, told.output_text, told.conversation) == ("completed", "one", None)
            assert told.to_dict()["store"] is True
            assert (await api.responses.retrieve(told.id)).to_dict() == told.to_dict()
            if why == "full":
                assert await talk_of(api, talk.id) == ["hello"]

    run(scenario())


# What runs without its client


async def finished(api: openai.AsyncOpenAI, id: str) -> Any:
    while (answer := await api.responses.retrieve(id)).status in ("queued", "in_progress"):
        await asyncio.sleep(0.01)
    return answer


def test_a_background_answer_is_made_without_its_client(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gate(tmp_path, echoing("a", "b")) as api:
            begun = await api.responses.create(model=MODEL, input="x", background=True)
            assert begun.status == "queued"
            assert (await finished(api, begun.id)).output_text == "ab"

    run(scenario())


def test_cancelling_stops_the_model(tmp_path: Path) -> None:
    async def scenario() -> None:
        backend = Scripted(TextDelta("a"), asyncio.Event(), Done("stop"))
        async with gate(tmp_path, backend) as api:
            begun = await api.responses.create(model=MODEL, input="x", background=True)
            await backend.begun.wait()
            assert (await api.responses.cancel(begun.id)).status == "cancelled"
            await backend.left.wait()
            kept = await api.responses.retrieve(begun.id)
            assert (kept.status, kept.output_text) == ("cancelled", "a")
            assert (await api.responses.cancel(begun.id)).status == "cancelled"
        async with gate(tmp_path, backend) as api:
            assert (await api.responses.retrieve(begun.id)).status == "cancelled"

    run(scenario())


def test_another_caller_neither_sees_nor_stops_what_runs(tmp_path: Path) -> None:
    async def scenario() -> None:
        go = asyncio.Event()
        backend = Scripted(TextDelta("a"), go, Done("stop"))
        async with gate(tmp_path, backend) as api:
            begun = await api.responses.create(model=MODEL, input="x", background=True)
            await backend.begun.wait()
            other = api.with_options(api_key="other")
            for denied in (
                other.responses.retrieve(begun.id),
                other.responses.retrieve(begun.id, stream=True),
                other.responses.cancel(begun.id),
                other.responses.delete(begun.id),
            ):
                with pytest.raises(openai.NotFoundError):
                    await denied
            go.set()
            assert (await finished(api, begun.id)).status == "completed"

    run(scenario())


def test_only_a_background_answer_can_be_cancelled(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gate(tmp_path, echoing()) as api:
            answer = await api.responses.create(model=MODEL, input="x")
            with pytest.raises(openai.ConflictError) as refused:
                await api.responses.cancel(answer.id)
            assert refused.value.code == "not_cancellable"

    run(scenario())


def test_any_gate_on_the_same_store_can_cancel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codexgate.responses.BEAT", 0.02)

    async def scenario() -> None:
        backend = Scripted(TextDelta("a"), asyncio.Event(), Done("stop"))
        async with gate(tmp_path, backend) as one, gate(tmp_path, echoing()) as two:
            begun = await one.responses.create(model=MODEL, input="x", background=True)
            await backend.begun.wait()
            assert (await two.responses.cancel(begun.id)).status == "cancelled"
            await backend.left.wait()

    run(scenario())


def test_a_background_stream_can_be_left_and_taken_up_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        hold = asyncio.Event()
        backend = Scripted(TextDelta("a"), TextDelta("b"), hold, TextDelta("c"), Done("stop"))
        async with gate(tmp_path, backend) as api:
            seen: list[Any] = []
            stream = await api.responses.create(model=MODEL, input="x", background=True, stream=True)
            async for event in stream:
                seen.append(event)
                if event.type == "response.output_text.delta" and event.delta == "b":
                    break
            await stream.close()
            id = seen[0].response.id
            hold.set()
            rest = await api.responses.retrieve(id, stream=True, starting_after=seen[-1].sequence_number)
            seen += [event async for event in rest]
            assert [event.sequence_number for event in seen] == list(range(len(seen)))
            assert seen[-1].type == "response.completed" and seen[-1].response.output_text == "abc"
        async with gate(tmp_path, backend) as api:
            with pytest.raises(openai.ConflictError) as over:
                await api.responses.retrieve(id, stream=True)
            assert over.value.code == "not_streamable"

    run(scenario())


def test_a_gate_that_stops_says_so_in_what_is_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        backend = Scripted(TextDelta("a"), asyncio.Event(), Done("stop"))
        async with gate(tmp_path, backend) as api:
            begun = await api.responses.create(model=MODEL, input="x", background=True)
            await backend.begun.wait()
        async with gate(tmp_path, backend) as api:
            kept = await api.responses.retrieve(begun.id)
            assert kept.status == "failed" and kept.error is not None and "stopped" in kept.error.message

    run(scenario())


def test_an_answer_whose_gate_was_killed_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with gate(tmp_path, Scripted(TextDelta("a"), asyncio.Event(), Done("stop"))) as api:
            begun = await api.responses.create(model=MODEL, input="x", background=True)
            async with gate(tmp_path, echoing()) as other:
                assert (await other.responses.retrieve(begun.id)).status in ("queued", "in_progress")
                monkeypatch.setattr("codexgate.responses.LOST", -1.0)
                assert (await other.responses.retrieve(begun.id)).status == "failed"

    run(scenario())


# How it looks on the wire


def test_leaving_a_stream_stops_the_model(tmp_path: Path) -> None:
    async def scenario() -> None:
        backend = Scripted(TextDelta("a"), asyncio.Event(), Done("stop"))
        async with gate(tmp_path, backend) as api:
            stream = await api.responses.create(model=MODEL, input="x", stream=True)
            async for event in stream:
                if event.type == "response.output_text.delta":
                    break
            await stream.close()
            await backend.left.wait()

    run(scenario())


def test_a_websocket_is_refused_so_that_clients_fall_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(echoing(), kept=Responses(tmp_path / "r.db")) as url, client(url) as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect("/v1/responses")
            assert refused.value.status == 426
            async with session.get("/v1/responses") as answer:
                assert (answer.status, answer.headers["Allow"]) == (405, "POST")

    run(scenario())


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"{", "invalid_json", None),
        (b'{"model":"none","input":"x"}', "model_not_found", "model"),
        (
            b'{"model":"scripted","input":"x","previous_response_id":"resp_x"}',
            "response_not_found",
            "previous_response_id",
        ),
        (
            b'{"model":"scripted","input":"x","conversation":"conv_x"}',
            "conversation_not_found",
            "conversation",
        ),
    ],
    ids=["json", "model", "previous", "conversation"],
)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_what_cannot_be_answered_is_a_status(
    tmp_path: Path, body: bytes, code: str, param: str | None, streamed: bool
) -> None:
    async def scenario() -> None:
        sent = body.replace(b'"input"', b'"stream":true,"input"') if streamed else body
        headers = {"Content-Type": "application/json"}
        async with serving(echoing(), kept=Responses(tmp_path / "r.db")) as url, client(url) as session:
            async with session.post("/v1/responses", data=sent, headers=headers) as answer:
                assert answer.status in (400, 404)
                error = (await answer.json())["error"]
                assert (error["code"], error["param"]) == (code, param)

    run(scenario())


def test_tools_left_out_are_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gate(tmp_path, echoing()) as api:
            asked: Any = {"model": MODEL, "input": "x", "temperature": 0.5, "tools": [{"type": "web_search"}]}
            raw = await api.responses.with_raw_response.create(**asked)
            assert raw.headers["X-Codexgate-Ignored"] == "temperature, tools.web_search"

    run(scenario())


# On other backends


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_tools_on_ollama(tmp_path: Path, streamed: bool) -> None:
    async def scenario() -> None:
        async with ScriptedOllama() as ollama:
            async with gate(tmp_path, Ollama(OllamaOptions(url=ollama.url))) as api:
                ollama.next(
                    say(thinking="hm"),
                    say(
                        calls=[
                            call("weather", {"city": "Köln"}),
                            call("weather", {"city": "Ulm"}, "call_2", 1),
                        ]
                    ),
                    done(prompt=9, completion=8),
                )
                asked: Any
                if streamed:
                    async with api.responses.stream(
                        model="qwen3:8b", input="where?", tools=[WEATHER]
                    ) as stream:
                        asked = await stream.get_final_response()
                else:
                    asked = await api.responses.create(model="qwen3:8b", input="where?", tools=[WEATHER])
                calls: list[Any] = [item for item in asked.output if item.type == "function_call"]
                assert [json.loads(item.arguments)["city"] for item in calls] == ["Köln", "Ulm"]
                assert asked.usage is not None and asked.usage.input_tokens == 9
                results: Any = [
                    {"type": "function_call_output", "call_id": item.call_id, "output": "sunny"}
                    for item in calls
                ]
                ollama.next(say("Both."), done())
                told = await api.responses.create(
                    model="qwen3:8b", input=results, previous_response_id=asked.id, tools=[WEATHER]
                )
                assert told.output_text == "Both."
                messages = ollama.chats()[-1]["messages"]
                assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool"]
                assert messages[1]["thinking"] == "hm" and messages[2]["tool_name"] == "weather"

    run(scenario())


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_tools_side_by_side_on_the_demo_model(tmp_path: Path, streamed: bool) -> None:
    async def scenario() -> None:
        tools: Any = [WEATHER, {**WEATHER, "name": "time"}]
        async with gate(tmp_path, Demo(DemoOptions(pace=0))) as api:
            asked: Any
            if streamed:
                async with api.responses.stream(
                    model="demo", input="time and weather", tools=tools
                ) as stream:
                    asked = await stream.get_final_response()
            else:
                asked = await api.responses.create(model="demo", input="time and weather", tools=tools)
            assert [item.name for item in asked.output] == ["weather", "time"]
            messages: Any = [{"role": "user", "content": "time and weather"}]
            functions: Any = [
                {"type": "function", "function": {"name": tool["name"], "parameters": tool["parameters"]}}
                for tool in tools
            ]
            chat = await api.chat.completions.create(model="demo", messages=messages, tools=functions)
            assert len(chat.choices[0].message.tool_calls or []) == 2

    run(scenario())


def test_structured_output_is_parsed_by_the_client(tmp_path: Path) -> None:
    async def scenario() -> None:
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
        wanted: Any = {"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}}
        async with gate(tmp_path, Demo(DemoOptions(pace=0))) as api:
            answer = await api.responses.create(model="demo", input="x", text=wanted)
            assert isinstance(json.loads(answer.output_text)["n"], int)
            assert (
                await api.responses.input_tokens.count(model="demo", input="hello there")
            ).input_tokens > 1

    run(scenario())


def test_a_continued_response_goes_on_with_the_codex_thread(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ScriptedResponses() as provider:
            home = make_codex_home(tmp_path / "home", provider.url)
            environ = {**os.environ, "CODEX_HOME": str(home), "HOME": str(home)}
            codex = Codex(
                CodexOptions(), tmp_path / "data", environ, threads=Threads(tmp_path / "t.db"), wait=10
            )
            async with gate(tmp_path, codex) as api:
                first: Any = await api.responses.create(model=CODEX_MODEL, input="SC:text one")
                second: Any = await api.responses.create(
                    model=CODEX_MODEL, input="SC:text two", previous_response_id=first.id
                )
                assert first.thread_id == second.thread_id
                assert (first.turn_number, second.turn_number) == (1, 2)
                alone: Any = await api.responses.create(model=CODEX_MODEL, input="SC:text three", store=False)
                assert getattr(alone, "thread_id", None) != first.thread_id

    run(scenario())
