"""Tokens counted where the backend gives none: of all that went in and came out, and marked as estimated."""

import json
import os
import threading
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from codexgate import tokens
from codexgate.backends.codex import Codex, CodexOptions
from codexgate.backends.demo import Demo, DemoOptions
from codexgate.chat import ChatRequest, Format, Image, Message, Part, Text, Tool, ToolCall
from codexgate.errors import Fault
from codexgate.events import Commentary, Done, Event, Failed, ReasoningDelta, TextDelta, ToolEvent, Usage
from codexgate.gate import Gate
from codexgate.ports import Backend, Stage
from codexgate.records import Memory
from codexgate.stages.retrieval import Memories
from codexgate.stages.usage import MESSAGE, PICTURE, count_usage, estimate
from tests.servers.codex_home import MODEL, make_codex_home
from tests.servers.gateway import client, serving
from tests.servers.responses import ScriptedResponses
from tests.servers.scripted import Scripted
from tests.support import run

CHAT = "/v1/chat/completions"


def message(text: str, role: Any = "user", *more: Part, **fields: Any) -> Message:
    return Message(role, (Text(text), *more), **fields)


# What is counted

TOOL = Tool("find", "Finds things.", {"type": "object", "properties": {"q": {"type": "string"}}})
ASKED: dict[str, tuple[ChatRequest, list[str], int]] = {
    "a question": (ChatRequest("m", (message("why is it so?"),)), ["why is it so?"], 0),
    "system, history and results of tools": (
        ChatRequest(
            "m",
            (
                message("be kind", "system"),
                message("where?"),
                message(
                    "I look.", "assistant", reasoning="hm", tool_calls=(ToolCall("c", "find", '{"q": 1}'),)
                ),
                message("under the bed", "tool", tool_call_id="c"),
            ),
        ),
        ["be kind", "where?", "I look.", "hm", "find", '{"q": 1}', "under the bed"],
        0,
    ),
    "tools": (
        ChatRequest("m", (message("where?"),), tools=(TOOL,)),
        ["where?", "Finds things.", '{"type":"object","properties":{"q":{"type":"string"}}}'],
        0,
    ),
    "a schema": (
        ChatRequest("m", (message("x"),), format=Format("schema", {"type": "integer"})),
        ["x", '{"type":"integer"}'],
        0,
    ),
    "pictures": (
        ChatRequest(
            "m", (message("see", "user", Image("image/png", "AAAA" * 10**6), Image("image/png", "")),)
        ),
        ["see"],
        2,
    ),
}


@pytest.mark.parametrize(("request_", "texts", "pictures"), ASKED.values(), ids=ASKED.keys())
def test_all_that_goes_in_is_counted(request_: ChatRequest, texts: list[str], pictures: int) -> None:
    counted = estimate(request_, []).prompt
    least = sum(map(tokens.count, texts)) + PICTURE * pictures + MESSAGE * (len(request_.messages) + 1)
    assert least <= counted <= least + 25  # names and brackets around a tool


def test_a_text_to_go_on_with_is_counted_as_it_is() -> None:
    request = ChatRequest("m", (message("once upon"),), raw=True, suffix=" the end")
    assert estimate(request, []).prompt == tokens.count("once upon") + tokens.count(" the end")


# When it is counted

QUESTION = (message("why?"),)
CALL = (
    ToolEvent("c", "find", "started", runs_on="client"),
    ToolEvent("c", "find", "arguments", '{"q":', runs_on="client"),
    ToolEvent("c", "find", "arguments", "1}", runs_on="client"),
    ToolEvent("c", "find", "finished", runs_on="client"),
)
PROMPT = 2 * MESSAGE + 2


def counted(said: str, thought: str = "") -> Usage:
    reasoning = tokens.count(thought)
    return Usage(PROMPT, tokens.count(said) + reasoning, reasoning, estimated=True)


DONE = Done("stop")
BROKE = Failed(Fault("upstream", "It broke."))
ANSWERS: dict[str, tuple[list[Any], Usage | None]] = {
    "counted by the backend": ([TextDelta("so"), Usage(7, 8), DONE], Usage(7, 8)),
    "counted, with its end": ([TextDelta("so"), [Usage(7, 8), DONE]], Usage(7, 8)),
    "not counted": ([TextDelta("be"), TextDelta("cause"), DONE], counted("because")),
    "not counted, in one read": ([[TextDelta("so"), DONE]], counted("so")),
    "with thoughts": ([ReasoningDelta("let me think"), TextDelta("so"), DONE], counted("so", "let me think")),
    "with calls of the client's tools": ([*CALL, Done("tool_calls")], counted('find{"q":1}')),
    "with commentary": ([Commentary("I look"), TextDelta("so", "a"), DONE], counted("I lookso")),
    "with an agent's own tools": (
        [ToolEvent("a", "command", "started", "ls"), ToolEvent("a", "command", "finished", "x" * 99), DONE],
        counted(""),
    ),
    "broken off": ([TextDelta("half"), BROKE], counted("half")),
    "broken off, counted": ([TextDelta("half"), Usage(7, 8), BROKE], Usage(7, 8)),
    "refused": ([BROKE], None),
}


def answer(backend: Backend, request: ChatRequest) -> list[Event]:
    async def scenario() -> list[Event]:
        gate = Gate([backend], stages=[count_usage], strict=True)
        async with aclosing(gate.stream(await gate.route(request))) as batches:
            return [event async for batch in batches for event in batch]

    return run(scenario())


@pytest.mark.parametrize(("steps", "usage"), ANSWERS.values(), ids=ANSWERS.keys())
def test_usage_is_the_backends_or_estimated_just_before_the_end(
    steps: list[Any], usage: Usage | None
) -> None:
    events = answer(Scripted(*steps), ChatRequest("scripted", QUESTION))
    assert [event for event in events if isinstance(event, Usage)] == ([usage] if usage else [])
    assert isinstance(events[-1], Done | Failed)
    assert usage is None or events[-2] == usage


def test_counting_stays_off_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()
    count = tokens.count

    def spy(text: str) -> int:
        threads.add(threading.get_ident())
        return count(text)

    monkeypatch.setattr(tokens, "count", spy)
    answer(Scripted(TextDelta("so"), DONE), ChatRequest("scripted", QUESTION))
    assert threads and threading.get_ident() not in threads


def test_the_built_in_model_counts_for_itself() -> None:
    events = answer(Demo(DemoOptions(pace=0)), ChatRequest("demo", QUESTION))
    (usage,) = [event for event in events if isinstance(event, Usage)]
    assert not usage.estimated


# Over HTTP


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_callers_are_told_that_it_is_estimated(stream: bool) -> None:
    async def scenario() -> dict[str, Any]:
        body = {
            "model": "scripted",
            "messages": [{"role": "user", "content": "why?"}],
            "stream": stream,
            "stream_options": {"include_usage": True} if stream else None,
        }
        async with (
            serving(Scripted(TextDelta("so"), DONE), stages=[count_usage]) as url,
            client(url) as session,
        ):
            async with session.post(CHAT, json=body) as reply:
                text = await reply.text()
                assert reply.status == 200, text
        if not stream:
            return dict(json.loads(text))
        *_, last = [frame[6:] for frame in text.split("\n\n") if frame.startswith("data: {")]
        return dict(json.loads(last))

    usage = run(scenario())["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (
        PROMPT,
        1,
        PROMPT + 1,
    )
    assert usage["estimated"] is True


def test_memories_that_were_put_in_are_counted() -> None:
    class Known:
        async def retrieve(self, *_: object) -> tuple[Memory, ...]:
            return (Memory("m", "work", "The office is in Bonn.", "notes.md"),)

    async def scenario() -> dict[str, Any]:
        body = {"model": "scripted", "messages": [{"role": "user", "content": "why?"}], "retrieval": {}}
        stages: list[Stage] = [Memories(Known()), count_usage]
        async with serving(Scripted(TextDelta("so"), DONE), stages=stages) as url, client(url) as session:
            async with session.post(CHAT, json=body) as reply:
                return dict(await reply.json())

    told = run(scenario())
    assert told["usage"]["prompt_tokens"] >= PROMPT + told["retrieval_context"]["tokens_injected"]


CUTS: list[dict[str, Any]] = [{"max_tokens": 1}, {"stop": ["three"]}]


@pytest.mark.parametrize("cut", CUTS, ids=["max_tokens", "stop"])
def test_a_codex_turn_that_was_cut_is_counted_here_and_a_whole_one_by_codex(
    tmp_path: Path, cut: dict[str, Any]
) -> None:
    async def scenario() -> list[dict[str, Any]]:
        async with ScriptedResponses() as provider:
            home = make_codex_home(tmp_path / "home", provider.url)
            environ = {**os.environ, "CODEX_HOME": str(home), "HOME": str(home)}
            codex = Codex(CodexOptions(), tmp_path / "data", environ)
            async with serving(codex, stages=[count_usage]) as url, client(url) as session:
                told = []
                for fields in ({}, cut):
                    messages = [{"role": "user", "content": "SC:echo one two three four"}]
                    async with session.post(
                        CHAT, json={"model": MODEL, "messages": messages, **fields}
                    ) as reply:
                        told.append((await reply.json())["usage"])
                return told

    whole, short = run(scenario())
    assert whole["total_tokens"] == 120 and "estimated" not in whole
    assert short["estimated"] is True and short["prompt_tokens"] > 0 and 0 < short["completion_tokens"] < 5
