"""What OpenAI's API means in all its servers' hands: requests, streams, errors and models, by table."""

import itertools
import json
from collections.abc import Iterable
from typing import Any

import pytest

from codexgate.chat import (
    ChatRequest,
    Document,
    Format,
    Image,
    Message,
    Sampling,
    StoredFile,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
)
from codexgate.dialects.openai import ask as asking
from codexgate.dialects.openai import embeddings, errors, models
from codexgate.dialects.openai.decode import Decoder
from codexgate.dialects.openai.errors import Upstream
from codexgate.dialects.openai.stream import Stream
from codexgate.errors import Fault, GateError
from codexgate.events import Done, Event, Failed, Logprob, ReasoningDelta, TextDelta, ToolEvent, Usage
from codexgate.fold import fold
from codexgate.lines import LineTooLong
from codexgate.order import Order
from codexgate.ports import Frames
from tests.servers.openai import DONE, Body, call, chunk, delta, end, frame, say, usage

GPU = Upstream("gpu", "k-s3cret")
ASK = (Message("user", (Text("hi"),)),)
WEATHER = Tool("weather", "Looks outside.", {"type": "object", "properties": {"city": {"type": "string"}}})
STREAMED = {"stream": True, "stream_options": {"include_usage": True}}


# Requests


def ask(*messages: Message, strict: bool = False, **settings: Any) -> dict[str, Any]:
    return asking.ask(ChatRequest("m", messages or ASK, **settings), strict=strict)


def test_a_plain_request_asks_for_a_stream_with_usage() -> None:
    assert ask() == {"model": "m", "messages": [{"role": "user", "content": "hi"}], **STREAMED}


FUNCTION = {"name": "weather", "description": "Looks outside.", "parameters": WEATHER.parameters}
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "max_tokens, which everybody reads": ({"sampling": Sampling(max_tokens=5)}, {"max_tokens": 5}),
    "max_completion_tokens, which OpenAI reads": (
        {"sampling": Sampling(max_tokens=5), "strict": True},
        {"max_completion_tokens": 5},
    ),
    "sampling": (
        {"sampling": Sampling(temperature=0, top_p=0.5, seed=1, stop=("a",), logprobs=True, top_logprobs=2)},
        {"temperature": 0, "top_p": 0.5, "seed": 1, "stop": ("a",), "logprobs": True, "top_logprobs": 2},
    ),
    "effort": ({"effort": "low"}, {"reasoning_effort": "low"}),
    "json": ({"format": Format("json")}, {"response_format": {"type": "json_object"}}),
    "schema": (
        {"format": Format("schema", {"type": "object"}, "n", True)},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
            }
        },
    ),
    "tools": ({"tools": (WEATHER,)}, {"tools": [{"type": "function", "function": FUNCTION}]}),
    "a strict tool without parameters": (
        {"tools": (Tool("now", strict=True),)},
        {
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "now",
                        "description": "",
                        "parameters": {"type": "object", "properties": {}},
                        "strict": True,
                    },
                }
            ]
        },
    ),
    "choice": (
        {"tools": (WEATHER,), "tool_choice": ToolChoice("named", "weather"), "parallel_tool_calls": False},
        {
            "tools": [{"type": "function", "function": FUNCTION}],
            "tool_choice": {"type": "function", "function": {"name": "weather"}},
            "parallel_tool_calls": False,
        },
    ),
    "a choice without tools, which OpenAI refuses": (
        {"tool_choice": ToolChoice("none"), "parallel_tool_calls": True},
        {},
    ),
    "options beside": ({"options": {"top_k": 4, "min_p": 0.1}}, {"top_k": 4, "min_p": 0.1}),
    "options never replace what is asked": (
        {"options": {"stream": False, "model": "x", "max_tokens": 9}, "sampling": Sampling(max_tokens=5)},
        {"max_tokens": 5},
    ),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings(case: str) -> None:
    settings, more = SETTINGS[case]
    assert ask(**settings) == {**ask(), **more}


MESSAGES: dict[str, tuple[Message, dict[str, Any]]] = {
    "developer is system": (Message("developer", (Text("a"),)), {"role": "system", "content": "a"}),
    "texts are one": (
        Message("user", (Text("a"), Text("b")), "joe"),
        {"role": "user", "content": "ab", "name": "joe"},
    ),
    "nothing": (Message("assistant"), {"role": "assistant", "content": ""}),
    "picture and file": (
        Message(
            "user", (Text("a"), Image("image/png", "QQ=="), Document("a.pdf", "application/pdf", "QQ=="))
        ),
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "a"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ=="}},
                {
                    "type": "file",
                    "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QQ=="},
                },
            ],
        },
    ),
    "a picture to be looked at closely": (
        Message("user", (Image("image/png", "QQ==", "high"),)),
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ==", "detail": "high"}}
            ],
        },
    ),
    "calls and thoughts": (
        Message("assistant", tool_calls=(ToolCall("c1", "f", '{"a": 1}'),), reasoning="hm"),
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
            ],
            "reasoning_content": "hm",
        },
    ),
    "result": (
        Message("tool", (Text("sunny"),), tool_call_id="c1"),
        {"role": "tool", "content": "sunny", "tool_call_id": "c1"},
    ),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_messages(case: str) -> None:
    message, written = MESSAGES[case]
    assert ask(message)["messages"] == [written]


def test_openai_itself_is_not_sent_thoughts() -> None:
    assert "reasoning_content" not in ask(Message("assistant", reasoning="hm"), strict=True)["messages"][0]
    hosts = (
        "api.openai.com",
        "eu.api.openai.com",
        "x.openai.azure.com",
        "localhost",
        "api.openai.com.evil.example",
    )
    assert [host for host in hosts if asking.is_openai(host)] == list(hosts[:3])


def test_a_file_that_nobody_put_in_is_refused() -> None:
    with pytest.raises(GateError) as refused:
        ask(Message("user", (Text("a"), StoredFile("file-1"))))
    assert refused.value.fault.param == "messages[0].content[1]"


def test_a_text_to_go_on_with() -> None:
    sampling = Sampling(max_tokens=3, logprobs=True, top_logprobs=2)
    request = ChatRequest("m", ASK, raw=True, suffix="!", sampling=sampling, options={"top_k": 1})
    assert asking.ask_raw(request) == {
        "model": "m",
        "prompt": "hi",
        "suffix": "!",
        "max_tokens": 3,
        "logprobs": 2,
        "top_k": 1,
        **STREAMED,
    }
    assert asking.ask_raw(ChatRequest("m", ASK, raw=True)) == {"model": "m", "prompt": "hi", **STREAMED}


# Answers


def decoder(**settings: Any) -> Decoder:
    ids = (f"new_{number}" for number in itertools.count(1))
    return Decoder(lambda: next(ids), GPU, **settings)


def decode(*pieces: bytes | Body, must_call: bool = False) -> list[Event]:
    """The events of an answer, which are held to the law of event order."""
    reading, events = decoder(must_call=must_call), []
    for piece in pieces:
        events += reading.feed(piece if isinstance(piece, bytes) else frame(piece))
    events += reading.end()
    return lawful(events)


def lawful(events: Iterable[Event]) -> list[Event]:
    order, seen = Order(), list(events)
    for event in seen:
        order.feed(event)
    order.close()
    return seen


def started(id: str, name: str, *pieces: str, ends: bool = True) -> list[Event]:
    return [
        ToolEvent(id, name, "started", runs_on="client"),
        *(ToolEvent(id, name, "arguments", piece, runs_on="client") for piece in pieces),
        *([ToolEvent(id, name, "finished", runs_on="client")] if ends else []),
    ]


HA: list[Event] = [TextDelta("ha"), TextDelta("ha"), Done("stop")]
LOGPROBS = {
    "content": [
        {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -1}]}
    ]
}
A_LIKELY = (Logprob("a", -0.5, (97,), (Logprob("b", -1),)),)
OLD_LOGPROBS = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"b": -1}], "text_offset": [0]}

ANSWERS: dict[str, tuple[tuple[bytes | Body, ...], list[Event]]] = {
    "repeats are legitimate": ((say("ha"), say("ha"), end(), DONE), HA),
    "no [DONE]": ((say("ha"), say("ha"), end()), HA),
    "no reason": ((say("ha"), say("ha"), DONE), HA),
    "nothing to say": ((end(), DONE), [Done("stop")]),
    "nothing follows": ((say("ha"), say("ha"), end(), DONE, say("late")), HA),
    "length": ((say("a"), end("length"), DONE), [TextDelta("a"), Done("length")]),
    "filter": ((end("content_filter"), DONE), [Done("content_filter")]),
    "another word for stop": ((say("a"), end("eos_token")), [TextDelta("a"), Done("stop")]),
    "usage after the end": (
        (
            say("a"),
            end(),
            usage(9, 4, prompt_tokens_details={"cached_tokens": 3}, completion_tokens_details={"reasoning_tokens": 2}),
            DONE,
        ),
        [TextDelta("a"), Usage(9, 4, 2, 3), Done("stop")],
    ),
    "usage with the end": (
        (say("a"), {**end(), "usage": {"prompt_tokens": 9, "completion_tokens": 4}}),
        [TextDelta("a"), Usage(9, 4), Done("stop")],
    ),
    "usage with every chunk, zero or growing": (
        (
            {**say("a"), "usage": {"prompt_tokens": 0, "completion_tokens": 0}},
            {**say("b"), "usage": {"prompt_tokens": 9, "completion_tokens": 1}},
            {**end(), "usage": {"prompt_tokens": 9, "completion_tokens": 2}},
        ),
        [TextDelta("a"), TextDelta("b"), Usage(9, 2), Done("stop")],
    ),
    "null for everything": (
        (
            chunk(
                {
                    "index": 0,
                    "delta": {"content": "a", "tool_calls": None, "refusal": None, "function_call": None},
                    "logprobs": None,
                    "finish_reason": None,
                },
                usage=None,
                error=None,
            ),
            end(),
        ),
        [TextDelta("a"), Done("stop")],
    ),
    "thoughts under their three names, once": (
        (
            delta(reasoning_content="a"),
            delta(reasoning="b"),
            delta(reasoning_text="c"),
            delta(reasoning="d", reasoning_content="d"),
            end(),
        ),
        [*map(ReasoningDelta, "abcd"), Done("stop")],
    ),
    "content in pieces": (
        (
            delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]),
            delta(content=[{"type": "text", "text": "a"}]),
            end(),
        ),
        [ReasoningDelta("hm"), TextDelta("a"), Done("stop")],
    ),
    "a refusal is what was said": ((delta(refusal="No."), end()), [TextDelta("No."), Done("stop")]),
    "log probabilities": (
        (chunk({"index": 0, "delta": {"content": "a"}, "logprobs": LOGPROBS}), end()),
        [TextDelta("a", logprobs=A_LIKELY), Done("stop")],
    ),
    "those of half a character": (
        (chunk({"index": 0, "delta": {"content": ""}, "logprobs": LOGPROBS}), say("ä"), end()),
        [TextDelta("ä", logprobs=A_LIKELY), Done("stop")],
    ),
    "a text to go on with": (
        (chunk({"index": 0, "text": "a", "logprobs": OLD_LOGPROBS, "finish_reason": "length"}), DONE),
        [TextDelta("a", logprobs=(Logprob("a", -0.5, None, (Logprob("b", -1),)),)), Done("length")],
    ),
    "another choice was not asked for": (
        (say("a"), chunk({"index": 1, "delta": {"content": "x"}, "finish_reason": "length"}), end()),
        [TextDelta("a"), Done("stop")],
    ),
    "comments, names, ids and blank lines": (
        (b": hello\n\n\n\nevent: x\nid: 1\n" + frame(say("a")) + b":\n\n" + frame(end()),),
        [TextDelta("a"), Done("stop")],
    ),
    "CR LF, no blank after the colon": (
        (frame(say("a")).replace(b": {", b":{").replace(b"\n", b"\r\n"), frame(end())),
        [TextDelta("a"), Done("stop")],
    ),
    "data in several lines": (
        (frame(say("a")).replace(b',"choices"', b',\ndata:"choices"'), frame(end())),
        [TextDelta("a"), Done("stop")],
    ),
    "an answer that is no stream": (
        (
            b' {"choices":[{"message":{"role":"assistant","content":"a","reasoning":"hm"},',
            b'"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n',
        ),
        [ReasoningDelta("hm"), TextDelta("a"), Usage(1, 1), Done("stop")],
    ),
}  # fmt: skip

CALLS: dict[str, tuple[tuple[Body, ...], list[Event]]] = {
    "in pieces, side by side": (
        (call(0, "a", "f", ""), call(1, "b", "g", '{"x'), call(0, None, None, "{}"), call(1, None, None, '":1}')),
        [
            *started("a", "f", ends=False),
            *started("b", "g", '{"x', ends=False),
            ToolEvent("a", "f", "arguments", "{}", runs_on="client"),
            ToolEvent("b", "g", "arguments", '":1}', runs_on="client"),
            ToolEvent("a", "f", "finished", runs_on="client"),
            ToolEvent("b", "g", "finished", runs_on="client"),
        ],
    ),
    "whole": ((call(0, "a", "f", "{}"),), started("a", "f", "{}")),
    "without ids": ((call(0, None, "f", "{}"),), started("new_1", "f", "{}")),
    "without arguments": ((call(0, "a", "f", None),), started("a", "f", "{}")),
    "with null for arguments": ((call(0, "a", "f", ""), call(0, None, None, "")), started("a", "f", "{}")),
    "arguments as an object": ((call(0, "a", "f", {"x": 1}),), started("a", "f", '{"x":1}')),
    "without an index": (
        (call(None, "a", "f", '{"x'), call(None, None, None, '":1}')),
        started("a", "f", '{"x', '":1}'),
    ),
    "without index and id, the name repeated": (
        (call(None, None, "f", '{"x'), call(None, None, "f", '":1}')),
        started("new_1", "f", '{"x', '":1}'),
    ),
    "the name and the id repeated": (
        (call(0, "a", "f", '{"x'), call(0, "a", "f", '":1}')),
        started("a", "f", '{"x', '":1}'),
    ),
    "the name after the id": ((call(0, "a", None, '{"x'), call(0, None, "f", '":1}')), started("a", "f", '{"x":1}')),
    "as a function call of old": ((delta(function_call={"name": "f"}), delta(function_call={"arguments": "{}"})), started("new_1", "f", "{}")),
}  # fmt: skip

SEVERAL: dict[str, tuple[Body, ...]] = {
    "one after the other": (call(0, "a", "f", '{"x":1}'), call(1, "b", "f", "{}")),
    "all under one index": (call(0, "a", "f", '{"x":1}'), call(0, "b", "f", "{}")),
    "all under one index, without ids": (call(0, None, "f", '{"x":1}'), call(0, None, "f", "{}")),
    "without an index": (call(None, "a", "f", '{"x":1}'), call(None, "b", "f", "{}")),
    "without anything": (call(None, None, "f", '{"x":1}'), call(None, None, "f", "{}")),
    "with one id for all": (call(0, "a", "f", '{"x":1}'), call(1, "a", "f", "{}")),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_answers(case: str) -> None:
    pieces, events = ANSWERS[case]
    assert decode(*pieces) == events


@pytest.mark.parametrize("case", ANSWERS)
def test_answers_that_come_byte_by_byte_are_the_same(case: str) -> None:
    pieces, events = ANSWERS[case]
    data = b"".join(piece if isinstance(piece, bytes) else frame(piece) for piece in pieces)
    assert decode(*(data[at : at + 1] for at in range(len(data)))) == events


@pytest.mark.parametrize("case", CALLS)
@pytest.mark.parametrize("reason", ["tool_calls", "function_call", "stop"])
def test_calls(case: str, reason: str) -> None:
    pieces, events = CALLS[case]
    assert decode(*pieces, end(reason), DONE) == [*events, Done("tool_calls")]


@pytest.mark.parametrize("case", SEVERAL)
def test_several_calls_are_several(case: str) -> None:
    made = fold(decode(*SEVERAL[case], end("tool_calls"))).tool_calls
    assert [(one.name, one.arguments) for one in made] == [("f", '{"x":1}'), ("f", "{}")]
    assert len({one.id for one in made}) == 2


def test_a_call_that_was_cut_by_the_limit_is_not_finished() -> None:
    events = decode(call(0, "a", "f", '{"x'), end("length"))
    assert events == [*started("a", "f", '{"x', ends=False), Done("length")]


def test_an_answer_that_must_call_shows_nothing_before_it_does() -> None:
    pieces = (say("Let me see."), call(0, "a", "f", "{}"), end("tool_calls"))
    shown = [TextDelta("Let me see."), *started("a", "f", "{}"), Done("tool_calls")]
    assert decode(*pieces, must_call=True) == shown
    [failed] = decode(say("No."), end(), DONE, must_call=True)
    assert isinstance(failed, Failed) and failed.fault.code == "tool_not_called"
    assert decode(say("No"), end("length"), must_call=True) == [TextDelta("No"), Done("length")]


BROKEN: dict[str, tuple[tuple[bytes | Body, ...], str]] = {
    "cut": ((say("a"),), "was cut off"),
    "cut after a line": ((frame(end())[:-1],), "was cut off"),
    "nothing at all": ((), "was cut off"),
    "only [DONE]": ((DONE,), "ended without an answer"),
    "garbage": ((say("a"), b"data: oops\n\n", end()), "not of its protocol"),
    "a list": ((b"data: []\n\n",), "not of its protocol"),
    "not UTF-8": ((b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n',), "not of its protocol"),
    "nested": ((b"data: " + b"[" * 100_000 + b"\n\n",), "not of its protocol"),
    "half a body": ((b'{"choices":[',), "not of its protocol"),
    "a reason that is none": ((say("a"), end("error")), "stopped with 'error'"),
    "calls that are none": ((end("tool_calls"),), "called none"),
    "a call of nothing": ((call(0, "a", None, "{}"), end("tool_calls")), "without its name"),
    "an error": ((say("a"), {"error": {"message": "boom"}}, end()), "gpu: boom"),
    "an error in a word": ((say("a"), {"error": "boom"}, DONE), "gpu: boom"),
    "an error without an envelope": (({"object": "error", "message": "boom", "code": 500},), "gpu: boom"),
    "an error of old": ((b'error: {"message": "boom"}\n\n',), "gpu: boom"),
    "an error after the reason": ((end(), {"error": "boom"}), "gpu: boom"),
    "an error that is no stream": ((b'{"error": {"message": "boom"}}',), "gpu: boom"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_answers_are_one_failure(case: str) -> None:
    pieces, said = BROKEN[case]
    *before, failed = decode(*pieces)
    assert isinstance(failed, Failed) and failed.fault.kind == "upstream"
    assert said in failed.fault.message
    assert before in ([], [TextDelta("a")])


def test_the_kind_of_an_error_within_an_answer_is_kept() -> None:
    [failed] = decode({"error": {"message": "slow down", "code": 429}})
    assert isinstance(failed, Failed) and failed.fault.kind == "rate_limited"
    [failed] = decode({"error": {"message": "too long", "code": "context_length_exceeded"}})
    assert isinstance(failed, Failed) and failed.fault.code == "context_length_exceeded"


def test_a_cut_at_every_byte_has_one_end() -> None:
    steps = [delta(role="assistant"), delta(reasoning="hm"), say("ä"), call(0, "a", "f", "{}")]
    data = b"".join(map(frame, (*steps, end("tool_calls"), usage(1, 2)))) + DONE
    whole = decode(data)
    said_why = data.index(b"data: ", data.index(b'"finish_reason":"tool_calls"'))
    for cut in range(len(data)):
        events = decode(data[:cut])
        assert [type(event) for event in events if isinstance(event, Done | Failed)] == [type(events[-1])]
        assert isinstance(events[-1], Done) == (cut >= said_why), cut
    assert whole[-2:] == [Usage(1, 2), Done("tool_calls")]


def test_a_failure_of_the_connection_after_the_reason_is_none() -> None:
    reading = decoder()
    reading.feed(frame(say("a")) + frame(end()))
    assert reading.answered
    assert reading.end(Fault("timeout", "silence")) == [Done("stop")]
    assert reading.end() == []


@pytest.mark.parametrize("data", [b"data: " + b"x" * 11, b"data: xxxx\n" * 3, b"{" * 11])
def test_nothing_grows_without_end(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codexgate.dialects.openai.stream.LIMIT", 10)
    with pytest.raises(LineTooLong):
        Stream().feed(data)
    [failed] = decoder().feed(data)
    assert isinstance(failed, Failed) and "endless" in failed.fault.message


# Bytes that go on as they are


def raw_of(*pieces: bytes | Body) -> bytes | None:
    """What may be passed on of one read, under another head."""
    events = decoder().feed(b"".join(piece if isinstance(piece, bytes) else frame(piece) for piece in pieces))
    return events.raw.replace(events.head, b"data: {HEAD") if isinstance(events, Frames) else None


def test_texts_may_go_on_as_they_are() -> None:
    strange = chunk(
        {"index": 0, "delta": {"content": "ä", "mood": "😀"}, "finish_reason": None},
        system_fingerprint="fp",
        obfuscation="xx",
    )
    rest = frame(strange).partition(b'"theirs"')[2]
    assert raw_of(strange) == b"data: {HEAD" + rest
    assert raw_of(delta(role="assistant", content=""), strange, strange) == 2 * (b"data: {HEAD" + rest)
    spaced = b"data: " + json.dumps(strange, ensure_ascii=False).encode() + b"\n\n"
    assert raw_of(spaced) == b"data: {HEAD" + spaced.partition(b'"theirs"')[2]
    head = frame(strange).partition(b',"choices"')[0].removeprefix(b"data: ").decode()
    assert (raw_of(say(head)) or b"").count(b"{HEAD") == 1  # a text that looks like a head is none


ENCODED: dict[str, tuple[bytes | Body, ...]] = {
    "a role, which is told once": (delta(role="assistant", content="a"),),
    "a thought, whose field a setting picks": (delta(reasoning="a"),),
    "a refusal": (delta(refusal="a"),),
    "a call": (call(0, "a", "f", "{}"),),
    "both": (delta(content="a", reasoning="b"),),
    "a reason": (delta("length", content="a"),),
    "text, then the end": (say("a"), end(), DONE),
    "usage": ({**say("a"), "usage": {"prompt_tokens": 1, "completion_tokens": 1}},),
    "log probabilities": (
        chunk({"index": 0, "delta": {"content": "a"}, "logprobs": LOGPROBS, "finish_reason": None}),
    ),
    "another choice": (
        chunk({"index": 0, "delta": {"content": "a"}, "finish_reason": None}, {"index": 1, "delta": {}}),
    ),
    "no reason why not": (chunk({"index": 0, "delta": {"content": "a"}}),),
    "another order": (frame(say("a")).replace(b'"id":"chatcmpl-theirs",', b""),),
    "another answer": (say("a"), {**say("b"), "id": "chatcmpl-other"}),
    "several lines": (frame(say("a")).replace(b',"choices"', b',\ndata: "choices"'),),
    "a CR that would end a line": (frame(say("a")).replace(b'"choices"', b'"x":\r1,"choices"'),),
    "what is not UTF-8": (frame(say("a")).replace(b'"choices"', b'"x":"\xff","choices"'),),
}


@pytest.mark.parametrize("case", ENCODED)
def test_anything_else_is_written_anew(case: str) -> None:
    assert raw_of(*ENCODED[case]) is None


# Errors


def refusal(status: int, body: Any, **headers: str) -> Fault:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return errors.fault(GPU, status, data, told, now=1_000_000_000.0)


LONG = "This model's maximum context length is 8192 tokens."
REFUSALS: dict[str, tuple[int, Any, tuple[str, str, str]]] = {
    "OpenAI's": (
        400,
        {"error": {"message": "Bad value.", "param": "seed", "code": "invalid_value"}},
        ("invalid_request", "invalid_value", "seed"),
    ),
    "too long": (400, {"error": {"message": LONG}}, ("invalid_request", "context_length_exceeded", "messages")),
    "too long, by its code": (
        400,
        {"error": {"message": "Oh.", "code": "context_length_exceeded", "param": "input"}},
        ("invalid_request", "context_length_exceeded", "input"),
    ),
    "too long for llama.cpp": (
        400,
        {"error": {"message": "the request exceeds the available context size", "code": 400}},
        ("invalid_request", "context_length_exceeded", "messages"),
    ),
    "vLLM's": (400, {"object": "error", "message": "Bad.", "code": 400}, ("invalid_request", "", "")),
    "FastAPI's": (422, {"detail": [{"loc": ["body"], "msg": "field required"}]}, ("invalid_request", "", "")),
    "FastAPI's sentence": (422, {"detail": "No."}, ("invalid_request", "", "")),
    "Gemini's": (400, [{"error": {"message": "Bad.", "code": 400}}], ("invalid_request", "", "")),
    "our key": (401, {"error": {"message": "Incorrect API key"}}, ("upstream", "upstream_key_refused", "")),
    "our rights": (403, {"error": "forbidden"}, ("upstream", "upstream_key_refused", "")),
    "our key, as a 400": (400, {"error": {"message": "API key not valid."}}, ("upstream", "upstream_key_refused", "")),
    "no model": (404, {"error": {"message": "The model `x` does not exist"}}, ("not_found", "model_not_found", "model")),
    "no path": (404, b"404 page not found", ("upstream", "", "")),
    "no method": (405, {"detail": "Method Not Allowed"}, ("upstream", "", "")),
    "slow": (408, b"", ("timeout", "", "")),
    "large": (413, b"", ("too_large", "", "")),
    "too often": (429, {"error": {"message": "Slow down."}}, ("rate_limited", "", "")),
    "broken": (500, {"error": {"message": "CUDA out of memory"}}, ("upstream", "", "")),
    "behind nginx": (502, b"<html><h1>Bad Gateway</h1></html>", ("upstream", "", "")),
    "busy": (503, {"error": {"message": "Loading model"}}, ("unavailable", "", "")),
    "behind a slow one": (504, b"<!DOCTYPE html>", ("timeout", "", "")),
    "moved": (308, b"", ("upstream", "upstream_moved", "")),
    "a teapot": (418, b"\x00\xff", ("upstream", "", "")),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case: str) -> None:
    status, body, (kind, code, param) = REFUSALS[case]
    fault = refusal(status, body)
    assert (fault.kind, fault.code, fault.param) == (kind, code, param)
    assert fault.message.startswith("gpu") and "<" not in fault.message


def test_a_servers_own_words_are_kept_but_for_secrets() -> None:
    text = f"Incorrect key: k-s3cret, sk-proj-abcd1234, Bearer zzz. {'x' * 1000}"
    fault = refusal(400, {"error": {"message": text}})
    assert fault.message.startswith("gpu: Incorrect key: ********, ********, ********")
    assert len(fault.message) == len("gpu: ") + 500
    assert errors.fault(Upstream("gpu"), 401, b"").advice == "Set openai.gpu.api_key."
    assert refusal(401, b"").advice == "Check openai.gpu.api_key."
    assert refusal(502, b"<html>").message == "gpu answered 502 with a page instead of an error."
    assert "base_url" in refusal(404, b"").advice and "base_url" in refusal(307, b"").advice


WAITS = {
    "7": 7.0,
    "0.5": 0.5,
    "999999999": 3600.0,
    "1e9": 0.0,
    "-1": 0.0,
    "soon": 0.0,
    "": 0.0,
    "Sun, 09 Sep 2001 01:46:50 GMT": 10.0,
    "Sun, 09 Sep 2001 01:46:30 GMT": 0.0,
    "Sun, 09 Sep 2021 01:46:30 GMT": 3600.0,
    "Sun, 99 Sep 9999999 01:46:30 GMT": 0.0,
}


@pytest.mark.parametrize("value", WAITS)
def test_how_long_to_wait(value: str) -> None:
    for status in (429, 503):
        fault = refusal(status, {"error": {"message": "Slow down."}}, retry_after=value)
        assert (fault.retry_after, fault.retryable) == (WAITS[value], True)


def test_what_is_spent_does_not_come_back_by_waiting() -> None:
    fault = refusal(429, {"error": {"message": "No credit.", "code": "insufficient_quota"}}, retry_after="7")
    assert (fault.kind, fault.retryable, fault.retry_after) == ("rate_limited", False, 0.0)
    assert not refusal(400, {"error": "no"}).retryable and refusal(500, {"error": "no"}).retryable


# Models


def listed(body: Any) -> list[models.Entry]:
    return models.entries(json.dumps(body).encode(), GPU)


@pytest.mark.parametrize(
    "body", [{"object": "list", "data": [{"id": "m"}]}, [{"id": "m"}, {"id": ""}, {"id": "m"}, {}]]
)
def test_a_list_with_or_without_its_envelope(body: Any) -> None:
    assert [entry.id for entry in listed(body)] == ["m"]


def test_no_models() -> None:
    assert listed({"object": "list", "data": None}) == []


@pytest.mark.parametrize("body", [{}, {"data": "x"}, "x"])
def test_a_list_that_is_none(body: Any) -> None:
    with pytest.raises(GateError, match="not OpenAI's"):
        listed(body)


WINDOWS: list[tuple[dict[str, Any], int]] = [
    ({"max_model_len": 4096}, 4096),
    ({"context_length": 131072.0}, 131072),
    ({"context_window": 8192}, 8192),
    ({"meta": {"n_ctx": 512, "n_ctx_train": 8192}}, 512),
    ({"meta": {"n_ctx_train": 8192}}, 8192),
    ({"meta": None, "context_length": "many"}, 0),
    ({"context_length": -1}, 0),
]


@pytest.mark.parametrize(("entry", "context"), WINDOWS)
def test_windows(entry: dict[str, Any], context: int) -> None:
    [found] = listed([{"id": "m", "created": 7, "owned_by": "them", **entry}])
    model = models.model(found, "gpu")
    assert (model.id, model.backend, model.created, model.owned_by) == ("m", "gpu", 7, "them")
    assert model.context == context


ABILITIES: list[tuple[dict[str, Any], set[str]]] = [
    ({"id": "gpt-5"}, {"chat"}),
    ({"id": "text-embedding-3-small"}, {"embedding"}),
    ({"id": "BAAI/bge-m3"}, {"embedding"}),
    ({"id": "vectors", "type": "embedding"}, {"embedding"}),
    ({"id": "whisper-1"}, set()),
    ({"id": "m", "supported_parameters": ["tools", "reasoning"]}, {"chat", "tools", "thinking"}),
    ({"id": "m", "architecture": {"input_modalities": ["text", "image"]}}, {"chat", "vision"}),
    ({"id": "m", "capabilities": {"function_calling": True, "vision": False}}, {"chat", "tools"}),
    ({"id": "m", "capabilities": ["completion", "multimodal"]}, {"chat", "vision"}),
]


@pytest.mark.parametrize(("entry", "abilities"), ABILITIES)
def test_abilities_are_guessed_modestly(entry: dict[str, Any], abilities: set[str]) -> None:
    [found] = listed([entry])
    assert models.model(found, "gpu").abilities == abilities


def test_ollama_behind_its_v1_is_told_apart() -> None:
    found = listed({"data": [{"id": "qwen3:8b", "owned_by": "library"}]})
    assert models.is_ollama(found) and not models.is_ollama(listed([{"id": "m"}]))
    assert models.model(found[0], "gpu").details == {"server": "Ollama's /v1"}


# Embeddings


def vectors(data: Any, count: int = 2, dimensions: int | None = None) -> Any:
    return embeddings.embeddings(json.dumps({"data": data}).encode(), count, dimensions, GPU)


def test_vectors_come_in_the_order_of_their_texts() -> None:
    assert embeddings.ask("m", ["a"], 2) == {
        "model": "m",
        "input": ["a"],
        "encoding_format": "float",
        "dimensions": 2,
    }
    assert embeddings.ask("m", ["a"], None) == {"model": "m", "input": ["a"], "encoding_format": "float"}
    swapped = [{"index": 1, "embedding": [2, 0]}, {"index": 0, "embedding": [1.5, 0]}]
    assert vectors(swapped).vectors == ((1.5, 0.0), (2.0, 0.0))
    assert vectors([{"embedding": [1]}, {"embedding": [2]}]).vectors == ((1.0,), (2.0,))
    body = b'{"data":[{"embedding":[1]}],"usage":{"prompt_tokens":4,"total_tokens":4}}'
    assert embeddings.embeddings(body, 1, None, GPU).tokens == 4


WRONG: dict[str, Any] = {
    "too few": [{"embedding": [1]}],
    "the same place twice": [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [1]}],
    "a place too far": [{"index": 1, "embedding": [1]}, {"index": 2, "embedding": [1]}],
    "different lengths": [{"embedding": [1]}, {"embedding": [1, 2]}],
    "empty": [{"embedding": []}, {"embedding": []}],
    "base64": [{"embedding": "AACAPw=="}, {"embedding": "AACAPw=="}],
    "not a number": [{"embedding": [None]}, {"embedding": [1]}],
}


@pytest.mark.parametrize("case", WRONG)
def test_vectors_that_cannot_be_right(case: str) -> None:
    with pytest.raises(GateError) as refused:
        vectors(WRONG[case])
    assert refused.value.fault.kind == "upstream"


@pytest.mark.parametrize("number", ["1e999", "NaN", "-Infinity"])
def test_numbers_that_are_not_finite(number: str) -> None:
    with pytest.raises(GateError):
        embeddings.embeddings(b'{"data":[{"embedding":[%s]}]}' % number.encode(), 1, None, GPU)


def test_a_length_that_the_model_does_not_give() -> None:
    with pytest.raises(GateError) as refused:
        vectors([{"embedding": [1, 2]}], 1, 3)
    assert (refused.value.fault.kind, refused.value.fault.param) == ("invalid_request", "dimensions")
