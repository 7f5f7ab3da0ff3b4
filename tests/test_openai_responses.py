"""Events to Responses: which events a stream tells, in which order, and what the object at its end holds."""

import json
from typing import Any

import msgspec
import pytest

from codexgate.errors import Fault
from codexgate.events import (
    Approval,
    Commentary,
    Done,
    Event,
    Failed,
    FileChange,
    Logprob,
    Plan,
    ReasoningDelta,
    Step,
    TextDelta,
    ThreadStarted,
    ToolEvent,
    Usage,
)
from codexgate.flat import Activity
from codexgate.fronts.openai_responses import Encoder, Meta, item_id, owner
from codexgate.fronts.openai_responses_request import parse
from codexgate.fronts.openai_tools import Toolbox, ToolSpec
from tests.servers.published import published

ECHO = parse(b'{"input": "hello"}').echo
META = Meta("resp_00", 1_700_000_000, "qwen3:8b", ECHO)


def told(
    *events: Event, toolbox: Toolbox | None = None, activity: Activity = "reasoning", meta: Meta = META
) -> list[Any]:
    """What a client reads, each event checked against what it must have."""
    encoder = Encoder(meta, toolbox, activity)
    read = []
    for frame in b"".join(encoder.feed(event) for event in events).decode().split("\n\n")[:-1]:
        name, data = frame.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        schema = published().schema("POST", "/responses", "text/event-stream")
        assert schema is not None and published().mismatch(schema, event) == ""
        read.append(event)
    assert [event["sequence_number"] for event in read] == list(range(len(read)))
    return read


def names(events: list[Any]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def output(events: list[Any]) -> list[Any]:
    return list(events[-1]["response"]["output"])


TEXT = ["output_item.added", "content_part.added"]
TEXT_END = ["output_text.done", "content_part.done", "output_item.done"]
BEGIN = ["created", "in_progress"]


def test_a_text_is_a_message_that_opens_grows_and_closes() -> None:
    events = told(TextDelta("a", "m"), TextDelta("b", "m"), Usage(3, 2, 1, 1), Done("stop"))
    assert names(events) == [*BEGIN, *TEXT, "output_text.delta", "output_text.delta", *TEXT_END, "completed"]
    (message,) = output(events)
    assert (message["content"][0]["text"], message["status"], message["id"]) == (
        "ab",
        "completed",
        "msg_000000",
    )
    assert events[-1]["response"]["usage"] == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 5,
    }


def test_repeats_are_kept_and_deltas_add_up() -> None:
    texts = ["ha", "ha", " ", "\n\ndata: x\n\n", "\u2028\r\x00\x1b", "🙂", "ha"]
    events = told(*(TextDelta(text, "m") for text in texts), Done("stop"))
    assert [event["delta"] for event in events if "delta" in event] == texts
    assert output(events)[0]["content"][0]["text"] == "".join(texts)


def test_each_message_of_a_turn_is_an_item_of_its_own() -> None:
    events = told(TextDelta("one", "1"), TextDelta("two", "2"), Done("stop"))
    assert [item["content"][0]["text"] for item in output(events)] == ["one", "two"]


def test_thinking_is_a_reasoning_item_before_the_message() -> None:
    events = told(ReasoningDelta("h"), ReasoningDelta("m"), TextDelta("yes"), Done("stop"))
    assert names(events)[2:9] == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
    ]
    thought, message = output(events)
    assert (thought["type"], thought["summary"][0]["text"], message["type"]) == ("reasoning", "hm", "message")


def test_thinking_can_be_handed_back_by_who_keeps_nothing() -> None:
    meta = Meta("resp_00", 0, "m", ECHO, encrypted=True)
    thought = output(told(ReasoningDelta("hm"), TextDelta("x"), Done("stop"), meta=meta))[0]
    assert thought["encrypted_content"]


def call(name: str, arguments: str, id: str = "call_1") -> list[Event]:
    return [
        ToolEvent(id, name, "started", runs_on="client"),
        *(
            ToolEvent(id, name, "arguments", piece, runs_on="client")
            for piece in arguments.partition(":")
            if piece
        ),
        ToolEvent(id, name, "finished", runs_on="client"),
    ]


def test_a_function_call_streams_its_arguments() -> None:
    events = told(*call("weather", '{"city":"Ulm"}'), Done("tool_calls"))
    assert names(events)[2:] == [
        "output_item.added",
        *["function_call_arguments.delta"] * 3,
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    (item,) = output(events)
    assert (item["type"], item["call_id"], item["name"]) == ("function_call", "call_1", "weather")
    assert item["arguments"] == '{"city":"Ulm"}'


def toolbox(*specs: dict[str, Any]) -> Toolbox:
    made = Toolbox()
    made.add([ToolSpec(**spec) for spec in specs], "tools")
    return made


CALLS: list[tuple[str, dict[str, Any], str, str, dict[str, Any]]] = [
    ("custom", {"type": "custom", "name": "patch"}, "patch", '{"input":"a\\nb"}', {"type": "custom_tool_call", "name": "patch", "input": "a\nb"}),
    ("custom, other key", {"type": "custom", "name": "patch"}, "patch", '{"text":"a"}', {"input": "a"}),
    ("custom, no JSON", {"type": "custom", "name": "patch"}, "patch", "*** Begin", {"input": "*** Begin"}),
    (
        "namespace",
        {"type": "namespace", "name": "mcp__db", "tools": [ToolSpec("function", "read")]},
        "mcp__db__read",
        "{}",
        {"type": "function_call", "namespace": "mcp__db", "name": "read", "arguments": "{}"},
    ),
    ("tool search", {"type": "tool_search"}, "tool_search", '{"query":"db"}', {"type": "tool_search_call", "execution": "client", "arguments": {"query": "db"}}),
    ("local shell", {"type": "local_shell"}, "local_shell", '{"command":["ls"]}', {"type": "local_shell_call", "action": {"type": "exec", "command": ["ls"], "env": {}}}),
    ("shell", {"type": "shell"}, "shell", '{"commands":["ls"]}', {"type": "shell_call", "action": {"commands": ["ls"], "timeout_ms": None, "max_output_length": None}}),
    ("patch", {"type": "apply_patch"}, "apply_patch", '{"type":"delete_file","path":"a"}', {"type": "apply_patch_call", "operation": {"type": "delete_file", "path": "a"}}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "name", "arguments", "wanted"), [row[1:] for row in CALLS], ids=[row[0] for row in CALLS]
)
def test_a_call_comes_back_as_the_tool_that_was_offered(
    spec: dict[str, Any], name: str, arguments: str, wanted: dict[str, Any]
) -> None:
    offered = toolbox(spec)
    assert [tool.name for tool in offered.tools] == [name]
    (item,) = output(told(*call(name, arguments), Done("tool_calls"), toolbox=offered))
    assert {key: item[key] for key in wanted} == wanted
    assert (item["call_id"], item["status"]) == ("call_1", "completed")


def test_parallel_calls_are_items_side_by_side() -> None:
    events = told(*call("a", "{}", "1"), *call("b", "{}", "2"), Done("tool_calls"))
    assert [(item["call_id"], item["name"]) for item in output(events)] == [("1", "a"), ("2", "b")]


def test_what_the_backend_ran_is_never_a_call_for_the_client() -> None:
    events = told(
        ToolEvent("c", "command", "started", "ls"),
        ToolEvent("c", "command", "output", "a\n"),
        ToolEvent("c", "command", "finished", ok=False),
        ToolEvent("w", "web_search", "started", "cats"),
        ToolEvent("w", "web_search", "finished"),
        ToolEvent("m", "mcp:memories/find", "started", "{}"),
        ToolEvent("m", "mcp:memories/find", "finished", "found"),
        TextDelta("done"),
        Done("stop"),
    )
    command, search, served, _ = output(events)
    assert (command["type"], command["code"], command["status"]) == ("code_interpreter_call", "ls", "failed")
    assert command["outputs"] == [{"type": "logs", "logs": "a\n"}]
    assert (search["type"], search["action"]["query"]) == ("web_search_call", "cats")
    assert (served["server_label"], served["name"], served["output"]) == ("memories", "find", "found")
    assert not [
        item for item in output(events) if item["type"] in ("function_call", "shell_call", "local_shell_call")
    ]


ACTIVITY: tuple[Event, ...] = (
    Commentary("I look.", "c"),
    Plan((Step("look", "done"),)),
    FileChange("a.txt", "+a", "add"),
    TextDelta("It is there.", "m"),
    Done("stop"),
)


def test_an_agents_word_about_its_work_is_beside_the_answer() -> None:
    thought, answer = output(told(*ACTIVITY))
    assert "I look." in thought["summary"][0]["text"] and "+a" in thought["summary"][0]["text"]
    assert answer["content"][0]["text"] == "It is there."
    remark, answer = output(told(*ACTIVITY, activity="content"))
    assert (remark["phase"], answer.get("phase")) == ("commentary", None)
    (answer,) = output(told(*ACTIVITY, activity="off"))
    assert answer["content"][0]["text"] == "It is there."


def test_an_approval_is_an_item_that_says_what_waits() -> None:
    events = told(Approval("apr_1", "command", "rm -rf x", "cleaning", "/w"), TextDelta("x"), Done("stop"))
    asked = output(events)[0]
    assert (asked["type"], asked["id"], asked["name"]) == ("mcp_approval_request", "apr_1", "command")
    assert json.loads(asked["arguments"])["detail"] == "rm -rf x"


ENDS: list[tuple[Event, str, str, Any]] = [
    (Done("stop"), "completed", "completed", None),
    (Done("length"), "incomplete", "incomplete", {"reason": "max_output_tokens"}),
    (Done("content_filter"), "incomplete", "incomplete", {"reason": "content_filter"}),
    (Done("cancelled"), "incomplete", "cancelled", None),
]


@pytest.mark.parametrize(
    ("end", "name", "status", "details"), ENDS, ids=[row[2] + str(row[3]) for row in ENDS]
)
def test_how_it_ended(end: Event, name: str, status: str, details: Any) -> None:
    events = told(TextDelta("a"), end)
    response = events[-1]["response"]
    assert (names(events)[-1], response["status"], response["incomplete_details"]) == (name, status, details)
    assert response["output"][0]["status"] == ("completed" if status == "completed" else "incomplete")


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault("upstream", "Gone."), "server_error"),
        (Fault("rate_limited", "Slow down."), "rate_limit_exceeded"),
        (Fault("invalid_request", "Too long.", code="context_length_exceeded"), "context_length_exceeded"),
    ],
    ids=["server", "rate", "context"],
)
def test_a_failure_is_the_last_event_and_keeps_what_came(fault: Fault, code: str) -> None:
    events = told(TextDelta("half"), ToolEvent("c", "command", "started", "ls"), Failed(fault))
    response = events[-1]["response"]
    assert (names(events)[-1], response["status"], response["error"]["code"]) == ("failed", "failed", code)
    assert [item["status"] for item in response["output"]] == ["completed", "incomplete"]


def test_the_thread_stands_beside_the_response() -> None:
    response = told(ThreadStarted("t1", 2), TextDelta("a"), Done("stop"))[-1]["response"]
    assert (response["thread_id"], response["turn_number"]) == ("t1", 2)


def test_log_probabilities_ride_on_the_deltas() -> None:
    likely = Logprob("a", -0.5, (97,), (Logprob("b", -1.0, (98,)),))
    events = told(TextDelta("a", "", (likely,)), TextDelta("b", "", (likely,)), Done("stop"))
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    assert [len(delta["logprobs"]) for delta in deltas] == [1, 1]
    assert len(output(events)[0]["content"][0]["logprobs"]) == 2


def test_an_item_tells_the_response_it_is_of() -> None:
    assert owner(item_id("message", "resp_abc", 3)) == "resp_abc"


def test_a_response_that_was_not_begun_can_end() -> None:
    encoder = Encoder(META)
    assert b"response.failed" in encoder.fail(Fault("unavailable", "No."))
    assert encoder.fail(Fault("unavailable", "Twice.")) == b""


@pytest.mark.parametrize("read", [[], [TextDelta("a")]], ids=["alone", "with-text"])
def test_an_end_is_told_anew_with_what_turned_out_otherwise(read: list[Event]) -> None:
    encoder = Encoder(msgspec.structs.replace(META, conversation="conv_1"))
    before = encoder.feed(TextDelta("x"))
    told = b"".join(encoder.feed(event) for event in [*read, Done("stop")])
    told = encoder.amend(told, conversation=None)
    told = encoder.amend(told, store=False)
    events = [json.loads(frame.split("\ndata: ")[1]) for frame in (before + told).decode().split("\n\n")[:-1]]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert names(events).count("completed") == 1
    assert events[0]["response"]["conversation"] == {"id": "conv_1"}
    assert events[-1]["response"] == encoder.response()
    assert (events[-1]["response"]["conversation"], events[-1]["response"]["store"]) == (None, False)
