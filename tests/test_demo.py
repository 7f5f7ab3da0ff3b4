"""The demo model: deterministic, and right in everything that a client may ask of a model."""

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexgate.backends.demo import Demo, DemoOptions
from codexgate.backends.demo.backend import READ, answer
from codexgate.backends.demo.sample import SIZE, sample
from codexgate.chat import ChatRequest, Format, Message, Sampling, Text, Tool, ToolChoice
from codexgate.events import Done, ToolEvent, Usage
from codexgate.fold import fold
from codexgate.order import Order
from tests.support import run

WEATHER = Tool(
    "weather", parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
)


def ask(text: str = "hello there", **fields: Any) -> ChatRequest:
    return ChatRequest("demo", (Message("user", (Text(text),)),), **fields)


@given(
    st.text(), st.sampled_from(["", "low"]), st.none() | st.integers(1, 9), st.sampled_from([(), ("demo",)])
)
def test_same_input_same_output_and_always_lawful(
    text: str, effort: str, limit: int | None, stop: tuple[str, ...]
) -> None:
    request = ask(text, effort=effort, sampling=Sampling(max_tokens=limit, stop=stop))
    events = answer(request)
    assert events == answer(request)
    order = Order()
    for event in events:
        order.feed(event)
    order.close()
    assert isinstance(events[-2], Usage)


def test_it_thinks_when_it_is_asked_to() -> None:
    assert fold(answer(ask())).reasoning == ""
    assert fold(answer(ask(effort="high"))).reasoning != ""


def test_limits_and_stops() -> None:
    whole = fold(answer(ask())).text
    cut = fold(answer(ask(sampling=Sampling(max_tokens=3))))
    assert (cut.reason, whole.startswith(cut.text), cut.text.count(" ")) == ("length", True, 2)
    stopped = fold(answer(ask(sampling=Sampling(stop=("demo",)))))
    assert (stopped.reason, stopped.text) == ("stop", whole[: whole.index("demo")])


@pytest.mark.parametrize(
    ("text", "parallel", "called"),
    [
        ("time and weather, please", None, ["weather", "time"]),
        ("time and weather, please", False, ["weather"]),
        ("what time is it?", None, ["time"]),
        ("hello", None, ["weather"]),
    ],
)
def test_tools_that_the_message_names_are_called_side_by_side(
    text: str, parallel: bool | None, called: list[str]
) -> None:
    request = ask(text, tools=(WEATHER, Tool("time", parameters={})), parallel_tool_calls=parallel)
    calls = fold(answer(request)).tool_calls
    assert [call.name for call in calls] == called
    assert all(isinstance(json.loads(call.arguments), dict) for call in calls)
    assert len({call.id for call in calls}) == len(calls)


def test_a_tool_round_trip() -> None:
    request = ask("Berlin", tools=(WEATHER,))
    called = fold(answer(request))
    (call,) = called.tool_calls
    assert (called.reason, call.name, json.loads(call.arguments)) == (
        "tool_calls",
        "weather",
        {"city": "Berlin"},
    )
    result = Message("tool", (Text("sunny"),), tool_call_id=call.id)
    after = ChatRequest(
        "demo", (*request.messages, Message("assistant", tool_calls=(call,)), result), tools=(WEATHER,)
    )
    assert fold(answer(after)).text == "The tool answered: sunny"


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        (ToolChoice("none"), []),
        (ToolChoice("required"), ["weather"]),
        (ToolChoice("named", "other"), ["other"]),
    ],
)
def test_tool_choice(choice: ToolChoice, called: list[str]) -> None:
    request = ask(tools=(WEATHER, Tool("other")), tool_choice=choice)
    names = [
        event.name for event in answer(request) if isinstance(event, ToolEvent) and event.stage == "started"
    ]
    assert names == called


SCHEMAS: list[dict[str, Any]] = [
    {
        "type": "object",
        "properties": {"a": {"type": "integer", "minimum": 5}, "b": {"type": ["string", "null"]}},
    },
    {"type": "array", "items": {"enum": ["x", "y"]}, "minItems": 3},
    {"$ref": "#/$defs/n", "$defs": {"n": {"type": "number", "exclusiveMinimum": 2, "maximum": 3}}},
    {"anyOf": [{"type": "boolean"}, {"type": "string"}]},
    {"allOf": [{"type": "object"}, {"properties": {"c": {"const": 7}}, "required": ["c"]}]},
    {"type": "string", "minLength": 12, "maxLength": 14},
    {"type": "integer", "minimum": 1.5, "maximum": 2.5},
    {
        "type": "object",
        "properties": {"cmd": {"type": "string"}, "shell": {"const": "sh"}},
        "required": ["cmd"],
    },
    {"type": "object", "properties": {"next": {"$ref": "#"}}},
    {},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_a_sample_satisfies_its_schema(schema: dict[str, Any]) -> None:
    if "next" not in str(schema):  # a recursive one without an end has no finite instance but null
        jsonschema.validate(sample(schema), schema)
    assert sample(schema) == sample(schema)
    json.dumps(sample(schema))


@pytest.mark.parametrize(
    ("schema", "text", "written"),
    [
        ({"type": "number"}, "hi", "1"),  # what Codex calls its counts, into which 1.0 does not go
        ({"type": "number", "minimum": 250}, "hi", "250"),
        ({"type": "number"}, "wait 2.5 s", "2.5"),
        ({"type": "integer"}, "wait 2.5 s", "2"),
        ({"type": "integer"}, "9" * 400, "1"),
        (
            {"type": "object", "properties": {"a": {"type": "string"}, "b": {}}, "required": ["a"]},
            "x",
            '{"a":"x"}',
        ),
    ],
)
def test_arguments_are_what_a_strict_reader_takes(schema: dict[str, Any], text: str, written: str) -> None:
    request = ask(text, tools=(Tool("wait", parameters={"type": "object", "properties": {"v": schema}}),))
    (call,) = fold(answer(request)).tool_calls
    assert call.arguments == '{"v":' + written + "}"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"effort": "high"},
        {"raw": True},
        {"raw": True, "suffix": "the end"},
        {"format": Format("json")},
        {"format": Format("schema", SCHEMAS[0])},
        {"tools": (WEATHER, Tool("time"))},
    ],
    ids=str,
)
def test_the_middle_of_a_long_text_is_not_read(fields: dict[str, Any]) -> None:
    """It answers on the loop, on which everybody else's answers are made too."""
    one, other = ("y " * READ + middle + " y" * READ for middle in ("what time is it?", "what_tide_is_it?"))
    assert answer(ask(one, **fields)) == answer(ask(other, **fields))


NESTED = {"type": "object", "properties": {name: {"$ref": "#"} for name in "abcdefghij"}}


@pytest.mark.parametrize(
    "schema",
    [
        NESTED,
        {"type": "array", "items": {"const": "x" * 1000}, "minItems": 10**9},
        {"type": "array", "items": NESTED, "minItems": 10**9},
        {"type": "string", "minLength": 10**9},
        {"type": "object", "properties": {str(key): {} for key in range(100_000)}},
    ],
    ids=lambda schema: str(schema)[:60],
)
def test_a_small_schema_gets_no_huge_value(schema: dict[str, Any]) -> None:
    assert len(json.dumps(sample(schema))) < 2 * SIZE


def test_of_a_long_result_the_beginning_is_repeated() -> None:
    result = Message("tool", (Text("y " * 2_000_000),))
    assert len(fold(answer(ChatRequest("demo", (result,)))).text) < 2 * READ


def test_a_long_prompt_is_counted_by_its_beginning() -> None:
    def prompt(text: str) -> int:
        return next(event.prompt for event in answer(ask(text)) if isinstance(event, Usage))

    assert (prompt("hello there"), prompt("four " * 100_000)) == (2, 100_000)
    assert fold(answer(ask("four " * 100_000))).text.startswith("You wrote more than 2,000 words,")


def test_the_answer_has_the_format_that_was_asked_for() -> None:
    reply = fold(answer(ask(format=Format("schema", SCHEMAS[0]))))
    jsonschema.validate(json.loads(reply.text), SCHEMAS[0])
    assert "answer" in json.loads(fold(answer(ask(format=Format("json")))).text)


def test_the_backend_gives_what_answer_says() -> None:
    async def scenario() -> list[object]:
        demo = Demo(DemoOptions(pace=0))
        return [event async for batch in demo.stream(ask()) for event in batch]

    events = run(scenario())
    assert events == answer(ask())
    assert events[-1] == Done("stop")
