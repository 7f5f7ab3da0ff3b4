"""`truncation: "auto"`: what of a conversation is asked again, and what is never left out."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import openai
import pytest

from codexgate.backends.ollama import Ollama, OllamaOptions
from codexgate.chat import ChatRequest, Message, Text, ToolCall
from codexgate.errors import Fault
from codexgate.events import Done, Event, Failed, Notice, TextDelta, ThreadStarted, Window
from codexgate.history import tokens
from codexgate.order import Order
from codexgate.ports import Route
from codexgate.records import Model
from codexgate.stages.truncation import truncate
from codexgate.stores.sqlite_responses import Responses
from tests.servers.gateway import serving
from tests.servers.ollama import ScriptedOllama
from tests.servers.scripted import Scripted
from tests.support import run

TOO_LONG = Failed(Fault("invalid_request", "Too long.", code="context_length_exceeded"))


class Narrow:
    """A backend's answers to at most `limit` tokens."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.asked: list[tuple[str, ...]] = []

    async def run(self, route: Route) -> AsyncGenerator[list[Event]]:
        messages = route.request.messages
        self.asked.append(tuple(message.text or message.role for message in messages))
        yield [Notice("loading", "Loading."), ThreadStarted("t", True)]
        yield [Window(5, self.limit)]
        if sum(map(tokens, messages)) > self.limit:
            yield [TOO_LONG]
        else:
            yield [TextDelta("fine", "m"), Done("stop")]


def answer(messages: list[Message], limit: int, *, wanted: bool = True) -> tuple[Narrow, list[Event]]:
    """What a backend of that window is asked, and what its caller hears."""
    narrow = Narrow(limit)
    request = ChatRequest("m", tuple(messages), truncate=wanted)
    route = Route(Scripted(), Model(id="m", backend="scripted"), request)
    order = Order()

    async def scenario() -> list[Event]:
        events = [event async for batch in truncate(route, narrow.run) for event in batch]
        for event in events:
            order.feed(event)
        order.close()
        return events

    return narrow, run(scenario())


def said(role: str, text: str) -> Message:
    return Message(role, (Text(text),))  # type: ignore[arg-type]


LONG = "word " * 80
CONVERSATION = [
    said("system", "Be brief."),
    said("user", f"1 {LONG}"),
    said("assistant", f"2 {LONG}"),
    said("user", f"3 {LONG}"),
    Message("assistant", tool_calls=(ToolCall("c", "look", "{}"),)),
    Message("tool", (Text(f"5 {LONG}"),), "look", tool_call_id="c"),
    said("user", "6"),
]


@pytest.mark.parametrize(
    ("limit", "left"),
    [
        (1000, ["Be brief.", "1", "2", "3", "assistant", "5", "6"]),
        (400, ["Be brief.", "3", "assistant", "5", "6"]),
        (30, ["Be brief.", "6"]),
    ],
)
def test_the_oldest_turns_go_until_the_rest_fits(limit: int, left: list[str]) -> None:
    narrow, events = answer(CONVERSATION, limit)
    assert [text.split(" word")[0] for text in narrow.asked[-1]] == left
    assert events[-1] == Done("stop")
    assert [event for event in events if isinstance(event, ThreadStarted | Window)] == [
        ThreadStarted("t", True),
        Window(5, limit),
    ]
    told = [event.text for event in events if isinstance(event, Notice) and event.kind == "history_trimmed"]
    assert len(told) == len(narrow.asked) - 1
    if told:
        assert f"The {7 - len(left)} oldest of 7 messages were left out" in told[-1]


def test_what_can_never_fit_is_the_error_that_it_was() -> None:
    narrow, events = answer([said("system", LONG), said("user", LONG)], 10)
    assert len(narrow.asked) == 1 and events[-1] == TOO_LONG


def test_who_did_not_ask_for_it_gets_the_error() -> None:
    narrow, events = answer(CONVERSATION, 400, wanted=False)
    assert len(narrow.asked) == 1 and events[-1] == TOO_LONG


def test_an_answer_that_has_begun_is_never_asked_for_again() -> None:
    asked = 0

    async def begun(route: Route) -> AsyncGenerator[list[Event]]:
        nonlocal asked
        asked += 1
        yield [TextDelta("half", "m")]
        yield [TOO_LONG]

    async def scenario() -> list[Event]:
        route = Route(
            Scripted(), Model(id="m", backend="s"), ChatRequest("m", tuple(CONVERSATION), truncate=True)
        )
        return [event async for batch in truncate(route, begun) for event in batch]

    assert run(scenario()) == [TextDelta("half", "m"), TOO_LONG] and asked == 1


def test_whoever_leaves_meanwhile_ends_the_work() -> None:
    closed = asyncio.Event()

    async def slow(route: Route) -> AsyncGenerator[list[Event]]:
        try:
            yield [Notice("loading", "Loading.")]
            await asyncio.Event().wait()
        finally:
            closed.set()

    async def scenario() -> None:
        route = Route(
            Scripted(), Model(id="m", backend="s"), ChatRequest("m", tuple(CONVERSATION), truncate=True)
        )
        batches = truncate(route, slow)
        assert await anext(batches) == [Notice("loading", "Loading.")]
        await batches.aclose()
        assert closed.is_set()

    run(scenario())


def test_a_response_that_goes_on_with_a_long_one_is_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ScriptedOllama() as ollama:
            backend = Ollama(OllamaOptions(url=ollama.url, max_num_ctx=4096))
            kept = Responses(tmp_path / "responses.db")
            async with (
                serving(backend, kept=kept, stages=[truncate]) as url,
                openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as api,
            ):
                model = "qwen3:8b"
                first = await api.responses.create(model=model, input="abc " * 3000)
                second = "def " * 3000
                with pytest.raises(openai.BadRequestError, match="context length"):
                    await api.responses.create(model=model, input=second, previous_response_id=first.id)
                answer = await api.responses.create(
                    model=model, input=second, previous_response_id=first.id, truncation="auto"
                )
                assert (answer.status, answer.truncation) == ("completed", "auto")
                assert [message["content"] for message in ollama.chats()[-1]["messages"]] == [second]

    run(scenario())
