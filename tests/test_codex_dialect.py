"""The Codex dialect against recorded transcripts, each named after the failure it guards."""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from codexgate.chat import ChatRequest, Document, Format, Image, Message, Text, Tool, ToolCall, ToolChoice
from codexgate.dialects.codex import ask, wire
from codexgate.dialects.codex.decode import Decoder
from codexgate.errors import GateError
from codexgate.events import (
    Approval,
    Commentary,
    Done,
    Event,
    Failed,
    FileChange,
    Notice,
    Plan,
    Reason,
    ReasoningDelta,
    Step,
    TextDelta,
    ToolEvent,
    Usage,
)
from codexgate.fold import fold
from codexgate.order import Order

RECORDINGS = Path(__file__).parent / "recordings"
OLD = "legacy_events_double_every_delta"


def turns(name: str) -> Iterator[tuple[list[Event], Decoder]]:
    """The events of each turn of a recording, in the order in which the turns end."""
    decoders: defaultdict[str, Decoder] = defaultdict(Decoder)
    events: defaultdict[str, list[Event]] = defaultdict(list)
    for line in (RECORDINGS / f"{name}.jsonl").read_bytes().splitlines():
        told = msgspec.json.decode(line)["msg"]
        if not isinstance(told, dict) or "method" not in told or "id" in told:
            continue
        thread = told.get("params", {}).get("threadId", "")
        read = decoders[thread].feed(told["method"], msgspec.Raw(json.dumps(told.get("params", {})).encode()))
        events[thread] += read
        if told["method"] == wire.TURN_COMPLETED:
            yield events.pop(thread), decoders.pop(thread)


def one(name: str) -> list[Event]:
    """The events of a recording that holds one turn."""
    ((events, _),) = turns(name)
    return events


@pytest.mark.parametrize("name", sorted(path.stem for path in RECORDINGS.glob("*.jsonl")))
def test_every_turn_keeps_the_law_and_holds_nothing_unknown(name: str) -> None:
    for events, decoder in turns(name):
        order = Order()
        for event in events:
            order.feed(event)
        order.close()
        assert not decoder.undecodable
        if name != OLD:
            assert not decoder.unknown


Text_ = str
ANSWERS: dict[str, tuple[Text_, Reason]] = {
    "deltas_are_repeated_by_the_completed_item": (
        "Hello from the fake model. This is a plain text answer.",
        "stop",
    ),
    "commentary_is_glued_to_the_answer": ("second message", "stop"),
    "reasoning_parts_run_together": ("Answer after reasoning.", "stop"),
    "command_output_is_lost_or_doubled": ("Command done. Output was seen.", "stop"),
    "failed_command_is_shown_as_success": ("Command done. Output was seen.", "stop"),
    "declined_command_ends_the_turn": ("Command done. Output was seen.", "stop"),
    "error_answer_to_an_approval_hangs_the_turn": ("Command done. Output was seen.", "stop"),
    "cancelled_approval_is_reported_as_an_answer": ("", "cancelled"),
    "text_without_deltas_is_lost": ("minimal answer", "stop"),
    "completed_turn_without_items_is_an_error": ("", "stop"),
    "unknown_tool_call_ends_the_turn": ("ok, no such tool.", "stop"),
}


@pytest.mark.parametrize(("name", "answer"), ANSWERS.items(), ids=ANSWERS.keys())
def test_answers(name: str, answer: tuple[str, Reason]) -> None:
    reply = fold(one(name))
    assert (reply.text, reply.reason) == answer


FAILURES: dict[str, tuple[str, str]] = {
    "bad_request_upstream_becomes_500": ("upstream", "other"),
    "missing_login_becomes_500": ("upstream", "httpConnectionFailed"),
    "unknown_model_becomes_500": ("not_found", "model_not_found"),
    "rate_limit_becomes_500": ("rate_limited", "responseTooManyFailedAttempts"),
    "retry_is_shown_as_the_end": ("upstream", "internalServerError"),
    "overload_becomes_500": ("unavailable", "serverOverloaded"),
    "full_context_is_reported_as_a_server_error": ("invalid_request", "context_length_exceeded"),
    "quota_is_reported_as_a_rate_limit": ("rate_limited", "usageLimitExceeded"),
    "upstream_rate_limit_ends_the_turn_at_once": ("rate_limited", "rateLimitExceeded"),
    "server_error_upstream_has_two_error_frames": ("upstream", "other"),
    "cut_answer_is_reported_as_complete": ("upstream", "other"),
    "cut_stream_is_reported_as_complete": ("upstream", "other"),
    "end_of_stream_counts_as_completion": ("upstream", "other"),
    "unreachable_upstream_waits_for_ever": ("upstream", "httpConnectionFailed"),
    "retried_text_is_sent_twice": ("upstream", "responseStreamDisconnected"),
}


@pytest.mark.parametrize(("name", "failure"), FAILURES.items(), ids=FAILURES.keys())
def test_failures_are_told_once(name: str, failure: tuple[str, str]) -> None:
    events = one(name)
    faults = [event.fault for event in events if isinstance(event, Failed)]
    assert [(fault.kind, fault.code) for fault in faults] == [failure]
    assert faults[0].message


def test_a_login_that_is_missing_is_told_how_to_be_made() -> None:
    fault = fold(one("missing_login_becomes_500")).fault
    assert fault is not None and "codex login" in fault.advice


def test_a_providers_refusal_is_its_sentence() -> None:
    fault = fold(one("bad_request_upstream_becomes_500")).fault
    assert fault is not None and fault.message == "Unsupported parameter: foo"


def test_commentary_is_not_answer() -> None:
    events = one("commentary_is_glued_to_the_answer")
    said = [event for event in events if isinstance(event, Commentary | TextDelta)]
    assert [type(event) for event in said] == [Commentary, Commentary, TextDelta, TextDelta]
    assert "".join(event.text for event in said[:2]) == "first message"


def test_reasoning_parts_are_apart() -> None:
    texts = [event.text for event in one("reasoning_parts_run_together") if isinstance(event, ReasoningDelta)]
    assert "".join(texts) == (
        "**Thinking about it**\n\nFirst I consider the question.\n\n"
        "**Deciding**\n\nThen I decide.\n\nraw chain of thought text here"
    )


def tools(name: str) -> list[tuple[str, str, str, bool]]:
    return [(e.name, e.stage, e.text, e.ok) for e in one(name) if isinstance(e, ToolEvent)]


def test_a_commands_output_is_complete_and_once() -> None:
    (name, _, command, _), *output, (_, stage, rest, ok) = tools("command_output_is_lost_or_doubled")
    assert (name, stage, ok) == ("command", "finished", True)
    assert command.startswith("/bin/bash -lc 'echo data")
    assert "".join(text for *_, text, _ in output) + rest == "data\n"


@pytest.mark.parametrize("name", ["failed_command_is_shown_as_success", "declined_command_ends_the_turn"])
def test_a_command_that_failed_is_not_ok(name: str) -> None:
    assert [ok for _, stage, _, ok in tools(name) if stage == "finished"] == [False]
    declined = [event.declined for event in one(name) if isinstance(event, ToolEvent)]
    assert declined[-1] is name.startswith("declined")


def test_a_web_search_has_its_query() -> None:
    assert tools("web_search_query_is_shown_empty") == [
        ("web_search", "started", "codex app server", True),
        ("web_search", "finished", "", True),
    ]


def test_an_mcp_call_has_arguments_and_result() -> None:
    assert tools("mcp_result_is_not_shown") == [
        ("mcp:memsrv/echo", "started", '{"text":"ping"}', True),
        ("mcp:memsrv/echo", "finished", "echo: {'text': 'ping'}", True),
    ]


def test_a_plan_replaces_the_one_before() -> None:
    assert [event for event in one("plan_is_merged_instead_of_replaced") if isinstance(event, Plan)] == [
        Plan((Step("look", "active"), Step("act", "pending")), "starting"),
        Plan((Step("look", "done"), Step("act", "done"))),
    ]


@pytest.mark.parametrize("name", ["diff_is_shown_again_and_again", "heredoc_patch_is_shown_as_a_command"])
def test_a_file_change_is_shown_as_what_it_is(name: str) -> None:
    changes = [event for event in one(name) if isinstance(event, FileChange)]
    assert changes and all(change.diff for change in changes)
    assert len(set(changes)) == len(changes)


def test_usage_is_what_this_turn_added() -> None:
    usages = [
        [event for event in events if isinstance(event, Usage)]
        for events, _ in turns("usage_of_earlier_turns_is_counted_again")
    ]
    assert usages and all(
        usage == [Usage(prompt=100, completion=20, reasoning=5, cached=40)] for usage in usages
    )


def test_nothing_is_told_after_the_end() -> None:
    decoder = Decoder()
    assert decoder.feed(wire.TURN_COMPLETED, raw(turn={"id": "1", "status": "interrupted"})) == [
        Done("cancelled")
    ]
    assert decoder.feed(wire.AGENT_MESSAGE_DELTA, raw(itemId="1", delta="late")) == []


def test_an_old_version_tells_everything_twice_and_we_once() -> None:
    assert fold(one(OLD)).text == "Answer after reasoning."


def test_output_that_comes_after_a_commands_end_is_late() -> None:
    item = {
        "type": "commandExecution",
        "id": "c",
        "command": "ls",
        "status": "completed",
        "aggregatedOutput": "a\n",
    }
    decoder = Decoder()
    events = decoder.feed(wire.ITEM_STARTED, raw(item=item)) + decoder.feed(
        wire.ITEM_COMPLETED, raw(item=item)
    )
    assert [event.stage for event in events if isinstance(event, ToolEvent)] == ["started", "finished"]
    assert decoder.feed(wire.COMMAND_OUTPUT_DELTA, raw(itemId="c", delta="late")) == []
    assert decoder.feed(wire.ITEM_COMPLETED, raw(item=item)) == []


def raw(**params: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(params))


def retried(first: str, *again: str) -> list[Event]:
    """A message that is cut after `first`, and what the retry says instead."""
    decoder = Decoder()
    events = decoder.feed(wire.AGENT_MESSAGE_DELTA, raw(itemId="1", delta=first))
    events += decoder.feed(wire.ERROR, raw(error={"message": "Reconnecting"}, willRetry=True))
    for delta in again:
        events += decoder.feed(wire.AGENT_MESSAGE_DELTA, raw(itemId="2", delta=delta))
    events += decoder.feed(
        wire.ITEM_COMPLETED, raw(item={"type": "agentMessage", "id": "2", "text": "".join(again)})
    )
    return events + decoder.feed(wire.TURN_COMPLETED, raw(turn={"id": "t", "status": "completed"}))


def test_a_retry_that_repeats_itself_goes_on_where_it_stopped() -> None:
    assert retried("one two", "one", " two", " three") == [
        TextDelta("one two", "1"),
        Notice("retry", "Reconnecting"),
        TextDelta(" three", "1"),
        Done("stop"),
    ]


@pytest.mark.parametrize("again", [["another answer"], ["one"], []])
def test_a_retry_that_says_something_else_is_a_failure(again: list[str]) -> None:
    *_, end = retried("one two", *again)
    assert isinstance(end, Failed) and end.fault.retryable


def test_what_cannot_be_decoded_is_passed_over() -> None:
    decoder = Decoder()
    assert decoder.feed(wire.ITEM_STARTED, msgspec.Raw(b'{"item":7}')) == []
    assert decoder.feed("item/someday", msgspec.Raw(b"{}")) == []
    assert (dict(decoder.undecodable), dict(decoder.unknown)) == ({wire.ITEM_STARTED: 1}, {"item/someday": 1})
    assert decoder.feed(wire.AGENT_MESSAGE_DELTA, raw(itemId="1", delta="on")) == [TextDelta("on", "1")]


HERE = ask.Authority(cwd="/private", config={"a": 1})


def user(text: str) -> Message:
    return Message("user", (Text(text),))


def test_a_plan_is_made_of_constants_and_texts() -> None:
    request = ChatRequest(
        "m",
        (
            Message("system", (Text("be kind"),)),
            user("first"),
            Message("assistant", (Text("second"),), tool_calls=(ToolCall("c", "f", "{}"),)),
            Message("tool", (Text("42"),), tool_call_id="c"),
            Message("developer", (Text("be brief"),)),
            Message("user", (Text("look"), Image("image/png", "AA=="), Document("a.pdf"))),
        ),
        effort="high",
        format=Format("schema", {"type": "object"}),
        options={"sandbox": "danger-full-access", "cwd": "/", "config": {"x": 1}},
    )
    assert ask.fresh(request, HERE) == ask.Plan(
        thread={
            "model": "m",
            "cwd": "/private",
            "sandbox": "read-only",
            "approvalPolicy": "never",
            "ephemeral": True,
            "config": {"a": 1},
            "developerInstructions": "be kind\n\nbe brief",
        },
        history=[
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "first"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "second"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "42"},
        ],
        turn={
            "input": [
                {"type": "text", "text": "look"},
                {"type": "image", "url": "data:image/png;base64,AA=="},
                {"type": "text", "text": "[file] a.pdf"},
            ],
            "model": "m",
            "cwd": "/private",
            "approvalPolicy": "never",
            "sandboxPolicy": {"type": "readOnly", "networkAccess": False},
            "effort": "high",
            "outputSchema": {"type": "object"},
        },
    )


def test_plain_puts_the_system_message_in_codexs_place() -> None:
    request = ChatRequest("m", (Message("system", (Text("be kind"),)), user("hi")))
    thread = ask.fresh(request, msgspec.structs.replace(HERE, plain=True)).thread
    assert (thread["baseInstructions"], "developerInstructions" in thread) == ("be kind", False)


def test_a_workspace_that_may_be_written_is_that_folder_alone() -> None:
    authority = msgspec.structs.replace(HERE, sandbox="workspace-write")
    made = ask.fresh(ChatRequest("m", (user("hi"),)), authority)
    assert made.thread["sandbox"] == "workspace-write"
    assert made.turn["sandboxPolicy"] == {
        "type": "workspaceWrite",
        "writableRoots": [],
        "networkAccess": False,
        "excludeTmpdirEnvVar": True,
        "excludeSlashTmp": True,
    }


def test_a_tool_that_must_be_called_is_refused() -> None:
    request = ChatRequest("m", (user("hi"),), tools=(Tool("f"),), tool_choice=ToolChoice("required"))
    with pytest.raises(GateError) as refused:
        ask.fresh(request, HERE)
    assert refused.value.fault.param == "tool_choice"


def test_history_may_be_told_as_one_text() -> None:
    messages = (user("first"), Message("assistant", (Text("second"),)), user("third"))
    plan = ask.fresh(ChatRequest("m", messages), msgspec.structs.replace(HERE, history="transcript"))
    assert plan.history == []
    assert plan.turn["input"] == [
        {"type": "text", "text": "user: first\nassistant: second"},
        {"type": "text", "text": "third"},
    ]


def test_a_codex_that_cannot_be_told_messages_is_told_a_text() -> None:
    messages = (user("first"), Message("assistant", (Text("second"),)), user("third"))
    plan = ask.told_as_text(ask.fresh(ChatRequest("m", messages), HERE))
    assert plan.history == []
    assert [part["text"] for part in plan.turn["input"]] == ["user: first\nassistant: second", "third"]


def test_a_resumed_thread_gets_sandbox_and_configuration_again_and_only_what_is_new() -> None:
    request = ChatRequest(
        "m",
        (user("first"), Message("assistant", (Text("x"),)), user("and"), user("third")),
        tools=(Tool("f"),),
    )
    plan = ask.resumed(request, request.messages[2:], "t1", HERE)
    assert plan.resume == "t1"
    assert plan.thread == {
        "model": "m",
        "cwd": "/private",
        "sandbox": "read-only",
        "approvalPolicy": "never",
        "config": {"a": 1},
        "threadId": "t1",
        "excludeTurns": True,
    }
    assert plan.history == [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "and"}]}
    ]
    assert plan.turn["input"] == [{"type": "text", "text": "third"}]


def test_an_errand_can_run_nothing() -> None:
    authority = msgspec.structs.replace(HERE, sandbox="danger-full-access", asks=True)
    plan = ask.task(ChatRequest("m", (user("### Task: x"),), tools=(Tool("f"),)), authority, "small")
    assert (plan.thread["sandbox"], plan.thread["approvalPolicy"], plan.thread["ephemeral"]) == (
        "read-only",
        "never",
        True,
    )
    assert plan.thread["environments"] == plan.turn["environments"] == []
    assert (plan.thread["model"], "dynamicTools" in plan.thread) == ("small", False)


def test_who_may_be_asked_is_told_to_codex() -> None:
    plan = ask.fresh(ChatRequest("m", (user("hi"),)), msgspec.structs.replace(HERE, asks=True))
    assert plan.thread["approvalPolicy"] == plan.turn["approvalPolicy"] == "on-request"


def questions(name: str) -> list[tuple[str, Approval]]:
    """What a recording asks, as it would be put to a person."""
    decoder = Decoder()
    found: list[tuple[str, Approval]] = []
    for line in (RECORDINGS / f"{name}.jsonl").read_bytes().splitlines():
        told = msgspec.json.decode(line)["msg"]
        if not isinstance(told, dict) or "method" not in told:
            continue
        params = msgspec.Raw(json.dumps(told.get("params", {})).encode())
        if "id" in told and told["method"] in (wire.COMMAND_APPROVAL, wire.FILE_APPROVAL, wire.ELICITATION):
            found.append((told["method"], decoder.approval("q", told["method"], params)))
        elif "id" not in told:
            decoder.feed(told["method"], params)
    return found


def test_a_question_says_what_would_be_done() -> None:
    ((_, command),) = questions("approval_is_never_answered")
    assert command == Approval(
        "q",
        "command",
        "/bin/bash -lc 'echo escalated > /outside/esc.txt; echo ok'",
        "need to write outside the workspace",
        "/workspace",
    )
    (_, change), *_ = questions("file_approval_has_no_changes_in_it")
    assert (change.action, change.detail) == ("file_change", "/workspace/hello.txt")
    ((_, call),) = questions("elicitation_is_answered_like_an_approval")
    assert call.action == "tool" and call.detail.startswith("memsrv: ")


@pytest.mark.parametrize("method", [wire.COMMAND_APPROVAL, wire.FILE_APPROVAL, wire.ELICITATION])
def test_a_yes_is_for_once(method: str) -> None:
    yes = ask.decision(method, accept=True)
    assert yes == {"decision": "accept"} or yes == {"action": "accept", "content": None, "_meta": None}
    assert ask.decision(method, accept=False) == ask.answer(method)


@pytest.mark.parametrize("name", [name for name in sorted(vars(wire)) if name.endswith("APPROVAL")])
def test_every_approval_is_declined(name: str) -> None:
    assert ask.answer(getattr(wire, name)) == {"decision": "decline"}


@pytest.mark.parametrize(
    "method", [wire.ELICITATION, wire.TOOL_CALL, wire.USER_INPUT, "item/permissions/requestApproval", "x"]
)
def test_nothing_else_is_granted_either(method: str) -> None:
    answer = ask.answer(method)
    assert answer is None or not any(
        answer.get(key) in ("accept", True) for key in ("action", "success", "decision")
    )
