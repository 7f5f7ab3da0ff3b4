"""Several answers to one question: side by side in one stream, each with its index, with one end."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import openai
import pytest

from codexgate.backends.demo import Demo, DemoOptions
from codexgate.chat import ChatRequest
from codexgate.errors import Fault
from codexgate.events import Done, Event, Failed, Reason, ReasoningDelta, TextDelta, ToolEvent, Usage
from codexgate.fronts import openai_chat
from codexgate.fronts.openai_usage import total
from codexgate.server.choices import TOGETHER
from tests.servers.gateway import client, serving
from tests.servers.scripted import Scripted, Step
from tests.support import run

HELLO: Any = [{"role": "user", "content": "hello"}]
META = openai_chat.Meta("chatcmpl-1", 7, "m")
BROKEN = Failed(Fault("upstream", "It broke.", code="broken"))


def usage(prompt: int, completion: int) -> Usage:
    return Usage(prompt=prompt, completion=completion)


class Several(Scripted):
    """Answers the first question by the first list of steps, the second by the second, and so on."""

    def __init__(self, *answers: Sequence[Step], honours: Sequence[str] = ("n",)) -> None:
        super().__init__(honours=honours)
        self._answers = itertools.cycle(answers)
        self.most = 0
        """Answers that were in progress at the same time."""
        self.full = asyncio.Event()
        """Set when they were as many as may be."""

    async def stream(self, request: ChatRequest) -> AsyncGenerator[list[Event]]:
        each = Scripted(*next(self._answers))
        self.open += 1
        self.most = max(self.most, self.open)
        self.begun.set()
        if self.open == TOGETHER:
            self.full.set()
        try:
            async for batch in each.stream(request):
                yield batch
        finally:
            self.open -= 1
            self.closed += 1
            if not self.open:
                self.left.set()


# What is written


def feed(*events: tuple[int, Event], include_usage: bool = False) -> list[Any]:
    writer = openai_chat.Choices(META, 2, include_usage=include_usage)
    return parse(b"".join(writer.feed(index, event) for index, event in events))


def parse(stream: bytes) -> list[Any]:
    frames = [frame.removeprefix(b"data: ") for frame in stream.split(b"\n\n") if not frame.startswith(b":")]
    assert frames.pop() == b""
    return [frame.decode() if frame == b"[DONE]" else msgspec.json.decode(frame) for frame in frames]


def test_chunks_of_several_answers_carry_their_index() -> None:
    chunks = feed(
        (1, TextDelta("b")), (0, TextDelta("a")), (1, TextDelta("B")), (0, Done("length")), (1, Done("stop"))
    )
    told = [
        (choice["index"], choice["delta"], choice["finish_reason"])
        for chunk in chunks
        for choice in chunk["choices"]
    ]
    assert told == [
        (1, {"role": "assistant", "content": ""}, None),
        (1, {"content": "b"}, None),
        (0, {"role": "assistant", "content": ""}, None),
        (0, {"content": "a"}, None),
        (1, {"content": "B"}, None),
        (0, {}, "length"),
        (1, {}, "stop"),
    ]


def test_thinking_and_calls_stay_with_their_answer() -> None:
    chunks = feed(
        (1, ReasoningDelta("hm")),
        (0, ToolEvent("c0", "f", "started", runs_on="client")),
        (1, ToolEvent("c1", "f", "started", runs_on="client")),
    )
    deltas = [(chunk["choices"][0]["index"], chunk["choices"][0]["delta"]) for chunk in chunks]
    assert (1, {"reasoning_content": "hm"}) in deltas
    assert [
        (at, call["index"], call["id"]) for at, delta in deltas for call in delta.get("tool_calls", [])
    ] == [
        (0, 0, "c0"),
        (1, 0, "c1"),
    ]


def test_there_is_one_end() -> None:
    writer = openai_chat.Choices(META, 2, include_usage=True)
    assert feed((0, BROKEN)) == []  # the stream's, not the answer's
    *_, counted, end = parse(writer.close(usage(3, 4), Done("stop")))
    assert (counted["choices"], counted["usage"]["total_tokens"], end) == ([], 7, "[DONE]")
    counted, end = parse(openai_chat.Choices(META, 2, include_usage=True).close(usage(3, 4), BROKEN))
    assert (counted["usage"]["total_tokens"], end["error"]["code"]) == (7, "broken")


TOTALS: dict[str, tuple[dict[int, Usage], int, Usage]] = {
    "nothing is known": ({}, 2, Usage()),
    "two answers to one prompt": ({0: usage(5, 1), 1: usage(5, 2)}, 2, usage(5, 3)),
    "two prompts": ({0: usage(5, 1), 1: usage(7, 2)}, 1, usage(12, 3)),
    "two answers to each of two prompts": (
        {0: usage(5, 1), 1: usage(5, 1), 2: usage(7, 1), 3: usage(7, 1)},
        2,
        usage(12, 4),
    ),
    "one is estimated": ({0: usage(1, 1), 1: Usage(1, 1, 0, 0, True)}, 2, Usage(1, 2, 0, 0, True)),
}


@pytest.mark.parametrize("case", TOTALS)
def test_a_prompt_counts_once_and_answers_add_up(case: str) -> None:
    usages, each, expected = TOTALS[case]
    assert total(usages, each) == expected


# Over a socket


@asynccontextmanager
async def asking(backend: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    async with serving(backend) as url:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as asked:
            yield asked


def said(text: str, reason: Reason = "stop") -> list[Step]:
    return [TextDelta(text), [usage(5, 1), Done(reason)]]


def test_answers_come_as_they_are_ready() -> None:
    async def scenario() -> list[tuple[int, str | None]]:
        second_is_over = asyncio.Event()
        backend = Several([TextDelta("a"), second_is_over, *said("A", "length")], said("b"))
        seen = []
        async with asking(backend) as asked:
            stream = await asked.chat.completions.create(
                model="scripted", messages=HELLO, n=2, stream=True, stream_options={"include_usage": True}
            )
            async for chunk in stream:
                if chunk.usage:
                    assert (chunk.usage.prompt_tokens, chunk.usage.completion_tokens) == (5, 2)
                for choice in chunk.choices:
                    seen.append((choice.index, choice.finish_reason or choice.delta.content))
                    if choice.delta.content == "b":
                        second_is_over.set()
            return [one for one in seen if one[1]]

    seen = run(scenario())
    assert [what for index, what in seen if index == 0] == ["a", "A", "length"]
    assert [what for index, what in seen if index == 1] == ["b", "stop"]
    assert seen.index((1, "b")) < seen.index((0, "A"))


def test_streamed_and_whole_are_the_same() -> None:
    async def scenario() -> None:
        async with asking(Demo(DemoOptions(pace=0))) as asked:
            whole = await asked.chat.completions.create(model="demo", messages=HELLO, n=3)
            texts = ["", "", ""]
            async for chunk in await asked.chat.completions.create(
                model="demo", messages=HELLO, n=3, stream=True
            ):
                for choice in chunk.choices:
                    texts[choice.index] += choice.delta.content or ""
            assert [choice.message.content for choice in whole.choices] == texts
            assert [choice.index for choice in whole.choices] == [0, 1, 2]

    run(scenario())


def test_many_are_worked_on_a_few_at_a_time() -> None:
    async def scenario() -> None:
        go = asyncio.Event()
        backend = Several([go, *said("x")])
        async with asking(backend) as asked:
            answer = asyncio.create_task(
                asked.chat.completions.create(model="scripted", messages=HELLO, n=3 * TOGETHER)
            )
            await backend.full.wait()
            go.set()
            assert len((await answer).choices) == 3 * TOGETHER
            assert backend.most == TOGETHER

    run(scenario())


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("said_before", [True, False], ids=["in the middle", "at once"])
def test_the_first_failure_fails_all(streamed: bool, said_before: bool) -> None:
    async def scenario() -> None:
        never, fail = asyncio.Event(), asyncio.Event()
        first: list[Step] = [TextDelta("a"), never, *said("b")] if said_before else [never, *said("b")]
        backend = Several(first, [fail, [usage(5, 1), BROKEN]])
        async with serving(backend) as url, client(url) as http:
            body = {"model": "scripted", "messages": HELLO, "n": 2, "stream": streamed}
            sent = asyncio.create_task(
                http.post("/v1/chat/completions", json=body | {"stream_options": {"include_usage": True}})
            )
            await backend.begun.wait()
            if streamed and said_before:
                answer = await sent  # its head is here with the first word
                fail.set()
                *_, counted, error = parse(await answer.read())
                assert (answer.status, counted["usage"]["completion_tokens"]) == (200, 1)
                assert error["error"]["code"] == "broken"
            else:
                fail.set()
                answer = await sent
                assert (answer.status, (await answer.json())["error"]["code"]) == (502, "broken")
            await backend.left.wait()
            assert backend.open == 0

    run(scenario())


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_leaving_stops_all_of_them(streamed: bool) -> None:
    async def scenario() -> None:
        never = asyncio.Event()
        backend = Several([TextDelta("a"), never, *said("b")])
        async with serving(backend) as url, client(url) as http:
            body = {"model": "scripted", "messages": HELLO, "n": 3, "stream": streamed}
            sent = asyncio.create_task(http.post("/v1/chat/completions", json=body))
            await backend.begun.wait()
            if streamed:
                (await sent).close()
            else:
                sent.cancel()
            await backend.left.wait()
            assert backend.open == 0

    run(scenario())


def test_what_is_done_after_an_answer_is_done() -> None:
    async def scenario() -> int:
        put_away = 0

        class Tidy(Several):
            async def stream(self, request: ChatRequest) -> AsyncGenerator[list[Event]]:
                nonlocal put_away
                async for batch in super().stream(request):
                    yield batch
                await asyncio.sleep(0)
                put_away += 1

        async with asking(Tidy(said("a"), said("b"))) as asked:
            async for _ in await asked.chat.completions.create(
                model="scripted", messages=HELLO, n=2, stream=True
            ):
                pass
        return put_away

    assert run(scenario()) == 2


REFUSED: dict[str, tuple[Sequence[str], int, str]] = {
    "more than OpenAI has": (["n"], 129, ""),
    "a backend that answers once": ([], 2, ""),
    "a session, which goes on with one of them": (["n"], 2, "mine"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_what_is_refused(case: str, streamed: bool) -> None:
    honours, count, session = REFUSED[case]

    async def scenario() -> None:
        async with asking(Several(said("a"), honours=honours)) as asked:
            with pytest.raises(openai.BadRequestError) as refused:
                await asked.chat.completions.create(
                    model="scripted",
                    messages=HELLO,
                    n=count,
                    stream=streamed,
                    extra_body={"session_id": session} if session else None,
                )
            assert refused.value.param == "n"

    run(scenario())
