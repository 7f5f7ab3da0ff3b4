"""What Ollama's native API means: requests, transcripts, errors and models, by table."""

import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any, get_args

import pytest

from codexgate.chat import (
    ChatRequest,
    Document,
    Effort,
    Format,
    Image,
    Message,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
)
from codexgate.dialects.ollama import ask as asking
from codexgate.dialects.ollama import errors, models
from codexgate.dialects.ollama.decode import Decoder
from codexgate.errors import Fault, GateError
from codexgate.events import Done, Event, Failed, ReasoningDelta, TextDelta, ToolEvent, Usage
from codexgate.lines import Lines
from codexgate.order import Order
from codexgate.records import Progress

ASK = (Message("user", (Text("hi"),)),)
WEATHER = Tool("weather", "Looks outside.", {"type": "object", "properties": {"city": {"type": "string"}}})
TIME = Tool("time")


def ask(*messages: Message, thinks: bool = False, **settings: Any) -> dict[str, Any]:
    return asking.ask(ChatRequest("m", messages or ASK, **settings), thinks=thinks)


# Requests


def test_a_plain_request_says_everything_that_ollama_would_guess() -> None:
    assert ask() == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "truncate": False,
        "shift": False,
    }


SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "max tokens is num_predict, never num_ctx": (
        {"sampling": Sampling(max_tokens=5)},
        {"options": {"num_predict": 5}},
    ),
    "sampling": (
        {
            "sampling": Sampling(
                temperature=0.0,
                top_p=0.5,
                seed=1,
                presence_penalty=0.1,
                frequency_penalty=0.2,
                stop=("a",),
                logprobs=True,
            )
        },
        {
            "options": {
                "temperature": 0.0,
                "top_p": 0.5,
                "seed": 1,
                "presence_penalty": 0.1,
                "frequency_penalty": 0.2,
                "stop": ["a"],
            }
        },
    ),
    "options of its own, the caller's sampling over them": (
        {
            "options": {"num_ctx": 4096, "keep_alive": "10m", "think": True, "temperature": 1, "top_k": 3},
            "sampling": Sampling(temperature=0.5),
        },
        {
            "keep_alive": "10m",
            "think": True,
            "options": {"num_ctx": 4096, "temperature": 0.5, "top_k": 3},
        },
    ),
    "json": ({"format": Format("json")}, {"format": "json"}),
    "schema": ({"format": Format("schema", {"type": "object"})}, {"format": {"type": "object"}}),
    "a schema that allows everything": ({"format": Format("schema")}, {"format": "json"}),
    "effort of a model that thinks": ({"effort": "xhigh", "thinks": True}, {"think": "max"}),
    "no effort of a model that thinks": ({"effort": "none", "thinks": True}, {"think": False}),
    "effort of a model that does not": ({"effort": "high"}, {}),
    "tool_choice none": ({"tools": (TIME,), "tool_choice": ToolChoice("none")}, {}),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings(case: str) -> None:
    given, members = SETTINGS[case]
    assert json.loads(json.dumps(ask(**given))) == {**ask(), **members}


def test_tools() -> None:
    weather = {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Looks outside.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
    bare = {"name": "time", "description": "", "parameters": {"type": "object", "properties": {}}}
    both = [weather, {"type": "function", "function": bare}]
    assert ask(tools=(WEATHER, TIME))["tools"] == both
    assert ask(tools=(WEATHER, TIME), tool_choice=ToolChoice("required"))["tools"] == both
    assert ask(tools=(WEATHER, TIME), tool_choice=ToolChoice("named", "weather"))["tools"] == [weather]


MESSAGES: dict[str, tuple[Message, dict[str, Any]]] = {
    "developer": (Message("developer", (Text("be"),)), {"role": "system", "content": "be"}),
    "parts make one message": (
        Message("user", (Text("a"), Image("image/png", "QQ=="), Text("b"), Image("image/png", "Qg=="))),
        {"role": "user", "content": "ab", "images": ["QQ==", "Qg=="]},
    ),
    "assistant": (
        Message(
            "assistant",
            (Text("x"),),
            tool_calls=(ToolCall("1", "f", '{"a": "\\u00e9"}'), ToolCall("2", "g", "")),
            reasoning="hm",
        ),
        {
            "role": "assistant",
            "content": "x",
            "thinking": "hm",
            "tool_calls": [
                {"id": "1", "function": {"index": 0, "name": "f", "arguments": {"a": "é"}}},
                {"id": "2", "function": {"index": 1, "name": "g", "arguments": {}}},
            ],
        },
    ),
    "tool with a name": (
        Message("tool", (Text("r"),), name="f", tool_call_id="1"),
        {"role": "tool", "content": "r", "tool_name": "f", "tool_call_id": "1"},
    ),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_messages(case: str) -> None:
    message, written = MESSAGES[case]
    assert ask(message)["messages"] == [written]


def test_the_name_of_a_tool_message_is_that_of_its_call() -> None:
    calls = (ToolCall("1", "f", "{}"), ToolCall("2", "g", "{}"))
    results = [Message("tool", (Text("r"),), tool_call_id=id) for id in ("2", "1", "3")]
    written = ask(Message("assistant", tool_calls=calls), *results)["messages"]
    assert [message["tool_name"] for message in written[1:]] == ["g", "f", ""]


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "messages": ("messages", {"messages": ()}),
    "tool_choice without tools": ("tool_choice", {"tool_choice": ToolChoice("required")}),
    "tool_choice of no tool": ("tool_choice", {"tools": (TIME,), "tool_choice": ToolChoice("named", "x")}),
    "effort": ("reasoning_effort", {"effort": "hard"}),
    "file": ("messages[0].content", {"messages": (Message("user", (Document("a.pdf"),)),)}),
    **{
        f"arguments {text}": (
            "messages[0].tool_calls[1].function.arguments",
            {
                "messages": (
                    Message("assistant", tool_calls=(ToolCall("", "f", ""), ToolCall("", "f", text))),
                )
            },
        )
        for text in ("[]", "{", '"{}"', "null", "[" * 100_000)
    },
}


def test_every_effort_is_one_of_ollamas_and_another_is_refused_with_those_there_are() -> None:
    assert set(asking.THINK) == set(get_args(Effort))
    with pytest.raises(GateError, match=r"no reasoning effort 'hard'\. There are none, minimal, low, medium"):
        ask(Message("user", (Text("x"),)), effort="hard")


@pytest.mark.parametrize("case", REFUSED)
def test_what_ollama_cannot_be_asked(case: str) -> None:
    param, settings = REFUSED[case]
    with pytest.raises(GateError) as raised:
        asking.ask(ChatRequest("m", **{"messages": ASK, **settings}), thinks=True)
    assert (raised.value.fault.kind, raised.value.fault.param) == ("invalid_request", param)


# Transcripts

START = '{"model":"m","created_at":"2026-08-21T10:00:00.1Z","message":{"role":"assistant","content":"'
END = '"},"done":false}'
DONE = '{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"%s"%s}'
STOP = DONE % ("stop", ',"total_duration":5043500667,"prompt_eval_count":26,"eval_count":282')


def said(text: str) -> str:
    return START + text + END


def called(*calls: str) -> str:
    return '{"message":{"role":"assistant","content":"","tool_calls":[' + ",".join(calls) + ']},"done":false}'


def call(id: str, name: str, arguments: str) -> list[Event]:
    return [
        ToolEvent(id, name, "started", runs_on="client"),
        ToolEvent(id, name, "arguments", arguments, runs_on="client"),
        ToolEvent(id, name, "finished", runs_on="client"),
    ]


USED = Usage(prompt=26, completion=282)
UPSTREAM = Failed(Fault("upstream", ""))
"""Stands for any failure of this kind."""

TRANSCRIPTS: dict[str, tuple[Sequence[str], list[Event]]] = {
    "repeated deltas are not dropped": (
        (said("ha"), said("ha"), said(" "), said(" "), STOP),
        [TextDelta("ha"), TextDelta("ha"), TextDelta(" "), TextDelta(" "), USED, Done("stop")],
    ),
    "line separators and escapes inside a text": (
        (said("a\u2028b\u0085c\\r\\n\\u0000\\ud83d\\ude00é"), STOP),
        [TextDelta("a\u2028b\u0085c\r\n\0😀é"), USED, Done("stop")],
    ),
    "thinking before and beside the text": (
        (
            '{"message":{"role":"assistant","content":"","thinking":"hm"},"done":false}',
            '{"message":{"role":"assistant","content":"so","thinking":"m"},"done":false}',
            STOP,
        ),
        [ReasoningDelta("hm"), ReasoningDelta("m"), TextDelta("so"), USED, Done("stop")],
    ),
    "calls in one line and over several, also without ids": (
        (
            called(
                '{"id":"call_1","function":{"index":0,"name":"f","arguments":{"a": 1.0}}}',
                '{"function":{"index":1,"name":"g","arguments":{}}}',
            ),
            called('{"id":"call_1","function":{"name":"f","arguments":null}}'),
            STOP,
        ),
        [
            *call("call_1", "f", '{"a": 1.0}'),
            *call("id1", "g", "{}"),
            *call("id2", "f", "{}"),
            USED,
            Done("tool_calls"),
        ],
    ),
    "text beside a call": (
        (said("let me"), called('{"id":"1","function":{"name":"f","arguments":{"é":"\\u00e9"}}}'), STOP),
        [TextDelta("let me"), *call("1", "f", '{"é":"\\u00e9"}'), USED, Done("tool_calls")],
    ),
    "cut short after a call": (
        (called('{"id":"1","function":{"name":"f","arguments":{}}}'), DONE % ("length", "")),
        [*call("1", "f", "{}"), Done("length")],
    ),
    "zero counters vanish": ((said("a"), DONE % ("length", "")), [TextDelta("a"), Done("length")]),
    "a cached prompt is not counted": (
        (DONE % ("stop", ',"eval_count":3'),),
        [Usage(prompt=0, completion=3), Done("stop")],
    ),
    "text on the last line": (
        ('{"message":{"content":"all"},"done":true,"done_reason":"stop"}',),
        [TextDelta("all"), Done("stop")],
    ),
    "empty lines and unknown members": (
        ("", '{"message":{"content":"a","new":[{}]},"logprobs":[],"done":false}', "", "{}", STOP),
        [TextDelta("a"), USED, Done("stop")],
    ),
    "null where a list or text could be": (
        ('{"message":{"content":null,"thinking":null,"tool_calls":null},"done":false}', STOP),
        [USED, Done("stop")],
    ),
    "error midway has status 200": (
        (said("a"), '{"error":"an error was encountered while running the model"}'),
        [TextDelta("a"), UPSTREAM],
    ),
    "error before anything": (('{"error":"llama runner process has terminated"}',), [UPSTREAM]),
    "an empty error": (('{"error":""}',), [UPSTREAM]),
    "the context overflows midway": (
        (said("a"), '{"error":"input exceeds maximum context length"}'),
        [TextDelta("a"), Failed(Fault("invalid_request", ""))],
    ),
    "cut before the end": ((said("a"),), [TextDelta("a"), UPSTREAM]),
    "nothing at all": ((), [UPSTREAM]),
    "the runner went away": ((said("a"), DONE % ("", "")), [TextDelta("a"), UPSTREAM]),
    "no reason given": ((said("a"), '{"done":true}'), [TextDelta("a"), UPSTREAM]),
    "loaded, not answered": ((DONE % ("load", ""),), [UPSTREAM]),
    **{
        f"garbage {number}": ((said("a"), garbage, said("b"), STOP), [TextDelta("a"), UPSTREAM])
        for number, garbage in enumerate(
            (
                "<html>",
                "null",
                "[]",
                "1",
                '{"message":{"content":1}}',
                '{"message":',
                '{"error":{"message":"no"}}',
                said("\\ud800"),
                called('{"id":"1"}'),
                called('{"function":{"name":"f","arguments":"text"}}'),
                called('{"function":{"name":"f","arguments":[]}}'),
                "[" * 100_000,
            )
        )
    },
}


def decode(
    lines: Iterable[bytes], decoder: Decoder | None = None, step: int | None = None, rest: bytes = b""
) -> list[Event]:
    """What comes of `lines`, sent in pieces of `step` bytes, with the law of order watching."""
    ids = (f"id{number}" for number in itertools.count(1))
    decoder = decoder or Decoder(lambda: next(ids), model="m")
    data = b"".join(line + b"\n" for line in lines) + rest
    splitter, order, events = Lines(), Order(), []
    for at in range(0, len(data), step or max(1, len(data))):
        for line in splitter.feed(data[at : at + step] if step else data):
            events += decoder.feed(line)
    events += decoder.end()
    for event in events:
        order.feed(event)
    order.close()
    return events


def plain(events: list[Event]) -> list[Event]:
    """Without the words of failures."""
    return [Failed(Fault(event.fault.kind, "")) if isinstance(event, Failed) else event for event in events]


@pytest.mark.parametrize("case", TRANSCRIPTS)
def test_transcripts(case: str) -> None:
    texts, events = TRANSCRIPTS[case]
    lines = [text.encode() for text in texts]
    assert plain(decode(lines)) == events
    if sum(map(len, lines)) < 10_000:
        assert plain(decode(lines, step=1)) == events
        assert plain(decode(lines, rest=b'{"message"')) == events


@pytest.mark.parametrize("case", [case for case in TRANSCRIPTS if "garbage" not in case])
def test_nothing_follows_the_end(case: str) -> None:
    texts, events = TRANSCRIPTS[case]
    if not texts or texts[-1] == said("a"):
        return
    lines = [text.encode() for text in (*texts, said("late"), STOP, '{"error":"late"}', "garbage")]
    assert plain(decode(lines)) == events


def test_bytes_that_are_not_utf8() -> None:
    for line in (
        said("\xff").encode("latin-1"),
        called('{"function":{"name":"f","arguments":{"a":"\xff"}}}').encode("latin-1"),
    ):
        assert plain(decode([line, STOP.encode()])) == [UPSTREAM]


def test_a_cut_at_every_byte_is_one_failure() -> None:
    texts, events = TRANSCRIPTS["thinking before and beside the text"]
    data = "".join(text + "\n" for text in texts).encode()
    for cut in range(len(data)):
        decoded = decode([], rest=data[:cut])
        assert plain(decoded)[-1] == UPSTREAM
        assert decoded[:-1] == events[: len(decoded) - 1]
    assert decode([], rest=data) == events


def test_a_line_of_ten_megabytes() -> None:
    text = "é" * 5_000_000
    assert decode([said(text).encode(), STOP.encode()], step=65536) == [TextDelta(text), USED, Done("stop")]


def test_a_call_that_must_be_made() -> None:
    def forced(*texts: str) -> list[Event]:
        decoder = Decoder(lambda: "id", must_call=True)
        return decode([text.encode() for text in texts], decoder)

    made = called('{"id":"1","function":{"name":"f","arguments":{}}}')
    # What was not asked for is not shown; so a failure is the first thing, and a real status.
    assert forced(said("Sure!"), made, STOP) == [*call("1", "f", "{}"), USED, Done("tool_calls")]
    [failed] = forced(said("I would rather not."), STOP)
    assert isinstance(failed, Failed)
    assert (failed.fault.kind, failed.fault.code) == ("upstream", "tool_not_called")
    assert forced(said("I wou"), DONE % ("length", "")) == [Done("length")]


# Errors

ERRORS: dict[str, tuple[int, bytes, str, str, str]] = {
    "unknown model": (404, b'{"error":"model \'m\' not found"}', "not_found", "model_not_found", "model"),
    "unknown model, embed": (
        404,
        b'{"error":"model \\"m\\" not found, try pulling it first"}',
        "not_found",
        "model_not_found",
        "model",
    ),
    "unknown route": (404, b"404 page not found", "upstream", "", ""),
    "no tools": (400, b'{"error":"reg/m does not support tools"}', "invalid_request", "", "tools"),
    "no chat": (400, b'{"error":"\\"m\\" does not support chat"}', "invalid_request", "", "model"),
    "no thinking": (
        400,
        b'{"error":"\\"m\\" does not support thinking"}',
        "invalid_request",
        "",
        "reasoning_effort",
    ),
    "too long": (
        400,
        b'{"error":"the input length exceeds the context length"}',
        "invalid_request",
        "context_length_exceeded",
        "messages",
    ),
    "too long, by the runner": (
        500,
        b'{"error":"the input exceeds the context window"}',
        "invalid_request",
        "context_length_exceeded",
        "messages",
    ),
    "bad format": (500, b'{"error":"invalid format: 1"}', "invalid_request", "", "response_format"),
    "bad option": (
        500,
        b'{"error":"option \\"seed\\" must be of type integer"}',
        "invalid_request",
        "",
        "options",
    ),
    "other bad request": (400, b'{"error":"json: cannot unmarshal"}', "invalid_request", "", ""),
    "sign in": (
        401,
        b'{"error":"unauthorized","signin_url":"https://ollama.com"}',
        "authentication",
        "",
        "",
    ),
    "cloud disabled": (403, b'{"error":"cloud is disabled"}', "permission", "", ""),
    "too old": (412, b'{"error":"requires a newer version of Ollama"}', "unavailable", "ollama_too_old", ""),
    "many requests": (429, b'{"error":"slow down"}', "rate_limited", "", ""),
    "busy": (503, b'{"error":"server busy, please try again."}', "unavailable", "", ""),
    "busy proxy": (503, b"<html>busy</html>", "unavailable", "", ""),
    "no memory": (
        500,
        b'{"error":"model requires more system memory (9 GiB) than is available"}',
        "unavailable",
        "",
        "",
    ),
    "other": (500, b'{"error":"llama runner process has terminated"}', "upstream", "", ""),
    "other, no reason": (502, b"", "upstream", "", ""),
    "redirect": (307, b"", "upstream", "", ""),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case: str) -> None:
    status, body, kind, code, param = ERRORS[case]
    fault = errors.fault(status, body, "m")
    assert (fault.kind, fault.code, fault.param) == (kind, code, param)
    if body.startswith(b"{"):
        assert json.loads(body)["error"] in fault.message
    assert fault.retryable == (status in (429, 503) or (case.startswith("other") and status >= 500))


def test_an_unknown_model_is_told_how_to_come_by_it() -> None:
    fault = errors.fault(404, b'{"error":"model \'{x}\' not found"}', "{x}")
    assert fault.advice == "Install it: codexgate models pull {x}"


@pytest.mark.parametrize(
    ("reason", "name"),
    [("model 'demo' not found", "demo"), ('model "a/b:c" not found, try pulling it first', "a/b:c")]
    + [(f"model {name} not found", "NAME") for name in ("", "'a; rm b'", "which was asked for")],
)
def test_of_what_was_passed_on_the_model_is_named_as_ollama_names_it(reason: str, name: str) -> None:
    fault = errors.relay_fault(400, json.dumps({"error": reason}).encode())
    assert fault.advice == f"Install it: codexgate models pull {name}"


PULLS = {
    "pull model manifest: file does not exist": "model_not_found",
    "pull model manifest: 412: \\n\\nThe model you are pulling requires a newer version of Ollama.": "ollama_too_old",
    'Get "https://registry.ollama.ai/v2/": dial tcp: lookup registry.ollama.ai: no such host': "registry_unreachable",
    "max retries exceeded: unexpected EOF": "registry_unreachable",
    "write /models/blobs/x: no space left on device": "disk_full",
    "something else": "",
}


@pytest.mark.parametrize("reason", PULLS)
def test_pulls_that_fail(reason: str) -> None:
    with pytest.raises(GateError) as raised:
        models.progress(b'{"error":"%s"}' % reason.replace('"', '\\"').encode(), "m")
    assert raised.value.fault.code == PULLS[reason]
    assert reason[:20] in raised.value.fault.message


@pytest.mark.parametrize("line", [b"", b"garbage", b"{}", b"null"])
def test_lines_of_a_pull_that_are_none(line: bytes) -> None:
    with pytest.raises(GateError) as raised:
        models.progress(line, "m")
    assert raised.value.fault.kind == "upstream"


def test_news_of_a_pull() -> None:
    assert models.progress(b'{"status":"pulling manifest"}', "m") == Progress("pulling manifest")
    line = b'{"status":"pulling ab","digest":"sha256:ab","total":9000000000,"completed":1}'
    assert models.progress(line, "m") == Progress("pulling ab", "sha256:ab", 9_000_000_000, 1)


# Models

TAG = b"""{"models":[{"name":"me/qwen3:8b","model":"me/qwen3:8b","modified_at":"2025-06-30T12:00:00.123456789-07:00",
"size":5225388164,"digest":"500a","details":{"parent_model":"","format":"gguf","family":"qwen3","families":null,
"parameter_size":"8.2B","quantization_level":"Q4_K_M"}}]}"""
SHOW = b"""{"modelfile":"","details":{},"model_info":{"general.architecture":"qwen3","general.parameter_count":81,
"qwen3.context_length":40960,"tokenizer.ggml.tokens":null},
"capabilities":["completion","tools","thinking","insert","new"]}"""


def test_a_model() -> None:
    [tag] = models.tags(TAG)
    running = models.running(b'{"models":[{"name":"me/qwen3:8b","context_length":4096}]}')
    model = models.model(tag, models.show(SHOW), "ollama", running)
    assert (model.id, model.backend, model.owned_by) == ("me/qwen3:8b", "ollama", "me")
    assert model.created == 1751310000
    assert model.abilities == {"chat", "tools", "thinking", "insert"}
    assert (model.context, model.size, model.loaded) == (40960, 5225388164, True)
    assert model.details == {
        "format": "gguf",
        "family": "qwen3",
        "parameters": "8.2B",
        "quantization": "Q4_K_M",
        "digest": "500a",
        "loaded_context": "4096",
    }


def test_a_model_of_which_little_is_known() -> None:
    [tag] = models.tags(b'{"models":[{"name":"m:latest","modified_at":"yesterday"}]}')
    model = models.model(tag, None, "ollama", {})
    assert (model.created, model.owned_by, model.context, model.loaded) == (0, "library", 0, False)
    assert model.abilities == {"chat"}


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        ("2025-06-30T12:00:00Z", 1751284800),
        ("2025-06-30T12:00:00.123456789+05:30", 1751265000),
        ("0001-01-01T00:00:00Z", -62135596800),
        ("2025-06-30", 0),
        ("", 0),
    ],
)
def test_moments(moment: str, seconds: int) -> None:
    tag = models.Tag("m", modified_at=moment)
    assert models.model(tag, None, "ollama", {}).created == max(0, seconds)


def test_lists_may_be_null() -> None:
    assert models.tags(b'{"models":null}') == []
    assert models.running(b'{"models":null}') == {}
    assert models.show(b'{"model_info":null,"capabilities":null}').context == 0
    assert models.version(b'{"version":"0.13.5"}') == "0.13.5"


@pytest.mark.parametrize("body", [b"", b"Ollama is running", b"[]", b'{"models":1}', b"\xff"])
def test_answers_that_are_not_ollamas(body: bytes) -> None:
    for read in models.tags, models.running, models.version:
        with pytest.raises(GateError) as raised:
            read(body)
        assert raised.value.fault.kind == "upstream"
