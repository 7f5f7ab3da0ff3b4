"""OpenAI's chat completions: what is read, what is refused, what is written."""

from typing import Literal

import msgspec
import pytest

from codexgate.chat import (
    ChatRequest,
    Document,
    Format,
    Image,
    Message,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
)
from codexgate.errors import Fault, GateError
from codexgate.events import Done, Event, Failed, Notice, ReasoningDelta, TextDelta, ToolEvent, Usage
from codexgate.fold import fold
from codexgate.fronts import openai_chat
from codexgate.fronts.openai_chat_request import Parsed, parse
from codexgate.fronts.openai_usage import usage_object

USER = {"role": "user", "content": "hi"}
META = openai_chat.Meta("chatcmpl-1", 7, "m")


def read(**body: object) -> Parsed:
    return parse(msgspec.json.encode({"model": "m", "messages": [USER], **body}))


def allowed(mode: str, *tools: object) -> dict[str, object]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def messages(*given: object) -> tuple[Message, ...]:
    return read(messages=list(given)).request.messages


READ: dict[str, tuple[object, Message]] = {
    "a string": (USER, Message("user", (Text("hi"),))),
    "parts": (
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        Message("user", (Text("a"), Text("b"))),
    ),
    "a picture": (
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}],
        },
        Message("user", (Image("image/png", "AA=="),)),
    ),
    "a picture to be looked at closely": (
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "high"}}
            ],
        },
        Message("user", (Image("image/png", "AA==", "high"),)),
    ),
    "a file": (
        {
            "role": "user",
            "content": [
                {
                    "type": "file",
                    "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="},
                }
            ],
        },
        Message("user", (Document("a.pdf", "application/pdf", "AA=="),)),
    ),
    "null content beside calls": (
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        Message("assistant", tool_calls=(ToolCall("1", "f", "{}"),)),
    ),
    "a tool's answer": (
        {"role": "tool", "tool_call_id": "1", "content": "42"},
        Message("tool", (Text("42"),), tool_call_id="1"),
    ),
    "a function's answer, as it was before tools": (
        {"role": "function", "name": "f", "content": "42"},
        Message("tool", (Text("42"),), name="f", tool_call_id="f"),
    ),
    "reasoning sent back": (
        {"role": "assistant", "content": "a", "reasoning_content": "b"},
        Message("assistant", (Text("a"),), reasoning="b"),
    ),
}


@pytest.mark.parametrize(("given", "message"), READ.values(), ids=READ.keys())
def test_reads_messages(given: object, message: Message) -> None:
    assert messages(given) == (message,)


def test_reads_everything_else() -> None:
    schema = {"type": "object"}
    parsed = read(
        stream=True,
        stream_options={"include_usage": True, "include_plan": False},
        tools=[{"type": "function", "function": {"name": "f", "description": "d", "parameters": schema}}],
        tool_choice={"type": "function", "function": {"name": "f"}},
        parallel_tool_calls=False,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": schema, "strict": True},
        },
        stop="x",
        seed=1,
        max_tokens=5,
        max_completion_tokens=6,
        temperature=0,
        top_p=1,
        reasoning_effort="low",
        n=2,
    )
    assert parsed == Parsed(
        request=ChatRequest(
            model="m",
            messages=(Message("user", (Text("hi"),)),),
            tools=(Tool("f", "d", schema),),
            tool_choice=ToolChoice("named", "f"),
            parallel_tool_calls=False,
            sampling=Sampling(temperature=0, top_p=1, seed=1, max_tokens=6, stop=("x",)),
            effort="low",
            format=Format("schema", schema, "n", strict=True),
        ),
        stream=True,
        include_usage=True,
        include_plan=False,
        choices=2,
        unknown=(),
    )


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_a_model_is_offered_no_tools_but_those_that_are_allowed(mode: Literal["auto", "required"]) -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("delete_all", "lookup")]
    request = read(tools=tools, tool_choice=allowed(mode, *tools[1:])).request
    assert (request.tools, request.tool_choice) == ((Tool("lookup"),), ToolChoice(mode))


def test_null_is_absent() -> None:
    names = [
        "stream",
        "stream_options",
        "tools",
        "tool_choice",
        "response_format",
        "stop",
        "seed",
        "n",
        "functions",
    ]
    assert read(**dict.fromkeys(names), temperature=None).request == read().request


def test_unknown_fields_are_passed_over_and_named() -> None:
    assert read(user="me", metadata={}, logit_bias={}).unknown == ("user", "metadata", "logit_bias")


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "no messages": ({"messages": []}, "messages"),
    "a role that is none": ({"messages": [{"role": "boss", "content": ""}]}, "messages[0].role"),
    "content that is a number": ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
    "a part of unknown type": (
        {"messages": [USER, {"role": "user", "content": [{"type": "video"}]}]},
        "messages[1].content[0].type",
    ),
    "a remote picture": (
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/a.png"}}]}
            ]
        },
        "messages[0].content[0].image_url.url",
    ),
    "a remote picture that looks like one that is here": (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "http://x;base64,AA=="}}],
                }
            ]
        },
        "messages[0].content[0].image_url.url",
    ),
    "a tool message without its call": (
        {"messages": [{"role": "tool", "content": "x"}]},
        "messages[0].tool_call_id",
    ),
    "a choice that is not among the tools": (
        {"tool_choice": {"type": "function", "function": {"name": "g"}}},
        "tool_choice",
    ),
    "required without tools": ({"tool_choice": "required"}, "tool_choice"),
    "an allowed tool that is not there": (
        {"tool_choice": allowed("auto", {"type": "function", "function": {"name": "g"}})},
        "tool_choice",
    ),
    "required, and none allowed": ({"tool_choice": allowed("required")}, "tool_choice"),
    "a choice of nothing": ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.allowed_tools"),
    "a schema that is not there": ({"response_format": {"type": "json_schema"}}, "response_format"),
    "temperature out of range": ({"temperature": 3}, "temperature"),
    "a negative limit": ({"max_tokens": -1}, "max_tokens"),
    "no choice at all": ({"n": 0}, "n"),
    "functions, which came before tools": ({"functions": [{"name": "f"}]}, "functions"),
    "audio": ({"modalities": ["text", "audio"]}, "modalities"),
    "a logit bias": ({"logit_bias": {"50256": -100}}, "logit_bias"),
}


@pytest.mark.parametrize(("fields", "param"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_and_names_the_field(fields: dict[str, object], param: str) -> None:
    with pytest.raises(GateError) as refused:
        read(**fields)
    assert (refused.value.fault.kind, refused.value.fault.param) == ("invalid_request", param)


def said_of(body: bytes) -> str:
    with pytest.raises(GateError) as refused:
        parse(body)
    return refused.value.fault.message


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"temperature": 9}, "Invalid value for `temperature`: expected a number <= 2."),
        ({"n": 200}, "Invalid value for `n`: expected a whole number <= 128."),
        ({"model": 5}, "Invalid value for `model`: expected text or null, got a whole number."),
        ({"messages": [{}]}, "`messages[0].role` is missing."),
        (
            {"messages": [{"role": "w" * 10_000, "content": "x"}]},
            "Invalid value for `messages[0].role`: expected one of "
            "assistant, developer, function, system, tool, user.",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "smell"}]}]},
            "Invalid value for `messages[0].content[0].type`: expected one of text, image_url, file, refusal.",
        ),
    ],
)
def test_a_refusal_names_the_field_and_what_it_takes(fields: dict[str, object], said: str) -> None:
    """OpenAI's client shows the message and nothing else."""
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}
    assert said_of(msgspec.json.encode(body)) == said


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[]", "Invalid body: expected an object, got an array."),
        (b'{"messages":[],"model":"\xff"}', "The body is not UTF-8 text."),
        (b"{", "The body is not valid JSON: Input data was truncated."),
    ],
)
def test_a_body_that_is_none_is_told_in_plain_words(body: bytes, said: str) -> None:
    assert said_of(body) == said


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}x",
        b"NaN",
        b'{"messages":[{"role":"user","content":"\\ud800"}]}',
        b"\xff",
    ]
    + [b"[" * 100_000, b'{"messages":' + b"[" * 5_000 + b"]" * 5_000 + b"}", b'{"a":' * 20_000],
)
def test_what_is_not_json_is_an_invalid_request(body: bytes) -> None:
    with pytest.raises(GateError) as refused:
        parse(body)
    assert refused.value.fault.kind == "invalid_request"


def chunk(delta: str, finish: str = "null", tail: str = "") -> str:
    return (
        'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m",'
        f'"choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}}}]{tail}}}\n\n'
    )


ROLE = chunk('{"role":"assistant","content":""}')
USAGE = Usage(prompt=3, completion=2, reasoning=1, cached=1)
USAGE_CHUNK = (
    'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m","choices":[],"usage":'
    '{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"prompt_tokens_details":{"cached_tokens":1},'
    '"completion_tokens_details":{"reasoning_tokens":1}}}\n\n'
)
FAULT = Fault("upstream", "It broke.", "Try again.", "other", retryable=True)
ERROR = 'data: {"error":{"message":"It broke. Try again.","type":"upstream_error","param":null,"code":"other"}}\n\n'
CALL: list[Event] = [
    ToolEvent("c1", "f", "started", runs_on="client"),
    ToolEvent("c1", "f", "arguments", '{"a":', runs_on="client"),
    ToolEvent("c2", "g", "started", runs_on="client"),
    ToolEvent("c1", "f", "arguments", "1}", runs_on="client"),
    ToolEvent("c1", "f", "finished", runs_on="client"),
    ToolEvent("c2", "g", "finished", runs_on="client"),
    Done("tool_calls"),
]

WRITTEN: dict[str, tuple[list[Event], str]] = {
    "text": (
        [TextDelta("ha"), TextDelta("ha"), USAGE, Done("stop")],
        ROLE + chunk('{"content":"ha"}') * 2 + chunk("{}", '"stop"') + "data: [DONE]\n\n",
    ),
    "text that would break a frame": (
        [TextDelta("\n\ndata: [DONE]\n\n\r\u2028\0"), Done("length")],
        ROLE
        + chunk('{"content":"\\n\\ndata: [DONE]\\n\\n\\r\u2028\\u0000"}')
        + chunk("{}", '"length"')
        + "data: [DONE]\n\n",
    ),
    "thinking": ([ReasoningDelta("hm")], ROLE + chunk('{"reasoning_content":"hm"}')),
    "two calls, numbered, each with an id": (
        CALL,
        ROLE
        + chunk(
            '{"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"f","arguments":""}}]}'
        )
        + chunk('{"tool_calls":[{"index":0,"function":{"arguments":"{\\"a\\":"}}]}')
        + chunk(
            '{"tool_calls":[{"index":1,"id":"c2","type":"function","function":{"name":"g","arguments":""}}]}'
        )
        + chunk('{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}')
        + chunk("{}", '"tool_calls"')
        + "data: [DONE]\n\n",
    ),
    "a backend's own call is not the client's": (
        [ToolEvent("1", "command", "started", "ls"), Notice("x", "y")],
        ROLE,
    ),
    "a failure is the last frame, without finish or DONE": (
        [TextDelta("a"), Failed(FAULT)],
        ROLE + chunk('{"content":"a"}') + ERROR,
    ),
    "an answer without text": ([Done("stop")], ROLE + chunk("{}", '"stop"') + "data: [DONE]\n\n"),
}


@pytest.mark.parametrize(("events", "stream"), WRITTEN.values(), ids=WRITTEN.keys())
def test_streams(events: list[Event], stream: str) -> None:
    encoder = openai_chat.Encoder(META)
    assert b"".join(encoder.feed(event) for event in events).decode() == stream


@pytest.mark.parametrize("end", [Done("stop"), Failed(FAULT)])
def test_usage_comes_after_the_finish_and_before_a_failure(end: Done | Failed) -> None:
    encoder = openai_chat.Encoder(META, include_usage=True)
    events: list[Event] = [TextDelta("a"), USAGE, end]
    frames = b"".join(encoder.feed(event) for event in events).decode()
    before = "".join(
        chunk(delta, tail=',"usage":null')
        for delta in ('{"role":"assistant","content":""}', '{"content":"a"}')
    )
    finish = chunk("{}", '"stop"', ',"usage":null') + USAGE_CHUNK + "data: [DONE]\n\n"
    assert frames == before + (finish if isinstance(end, Done) else USAGE_CHUNK + ERROR)


def test_renders_a_whole_answer() -> None:
    reply = fold([ReasoningDelta("hm"), TextDelta("a"), USAGE, Done("stop")])
    assert openai_chat.render([reply], META) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "a", "refusal": None, "reasoning_content": "hm"},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": usage_object(USAGE),
    }


def test_renders_calls_with_null_content() -> None:
    choice = openai_chat.render([fold(CALL)], META)["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert [call["function"] for call in choice["message"]["tool_calls"]] == [
        {"name": "f", "arguments": '{"a":1}'},
        {"name": "g", "arguments": ""},
    ]


@pytest.mark.parametrize("field", ["reasoning", "both"])
def test_reasoning_has_the_name_that_the_setting_picks(field: openai_chat.ReasoningField) -> None:
    meta = msgspec.structs.replace(META, reasoning=field)
    message = openai_chat.render([fold([ReasoningDelta("hm"), Done("stop")])], meta)["choices"][0]["message"]
    assert ("reasoning" in message, "reasoning_content" in message) == (True, field == "both")
