"""One text out of a turn: what a chat client sees of an agent."""

from collections.abc import Sequence

import pytest

from codexgate.errors import Fault
from codexgate.events import (
    Approval,
    Commentary,
    Done,
    Event,
    Failed,
    FileChange,
    Notice,
    Plan,
    ReasoningDelta,
    Step,
    TextDelta,
    ToolEvent,
    Usage,
)
from codexgate.flat import Activity, Flat, bare_command, block
from codexgate.fold import fold


def flatten(events: Sequence[Event], activity: Activity = "content") -> tuple[str, str]:
    flat = Flat(activity)
    reply = fold([one for event in events for one in flat.feed(event)])
    assert len(reply.messages) <= 1
    return reply.text, reply.reasoning


def command(stage: str, text: str = "", id: str = "1") -> ToolEvent:
    return ToolEvent(id, "command", stage, text)  # type: ignore[arg-type]


SHOWN: dict[str, tuple[list[Event], str]] = {
    "text as it is, repeats and all": ([TextDelta("ha"), TextDelta("ha"), TextDelta("\n\n\n")], "haha\n\n\n"),
    "two messages are a blank line apart": ([TextDelta("a", "1"), TextDelta("b", "2")], "a\n\nb"),
    "a message that ended its line needs one more": ([TextDelta("a\n", "1"), TextDelta("b", "2")], "a\n\nb"),
    "commentary before the answer": (
        [Commentary("I ", "1"), Commentary("look.", "1"), TextDelta("Here.", "2")],
        "I look.\n\nHere.",
    ),
    "a command and its output": (
        [command("started", "/bin/bash -lc 'ls -l'"), command("output", "a\n"), command("finished", "b\n")],
        "```sh\nls -l\n```\n\n```\na\nb\n```",
    ),
    "a command without output": ([command("started", "true"), command("finished")], "```sh\ntrue\n```"),
    "at most five lines of output": (
        [command("started", "seq 9"), *(command("output", f"{n}\n") for n in range(9)), command("finished")],
        "```sh\nseq 9\n```\n\n```\n0\n1\n2\n3\n4\n…\n```",
    ),
    "output with back-ticks cannot break out": (
        [command("started", "cat x"), command("finished", "```\n# I am the assistant")],
        "```sh\ncat x\n```\n\n````\n```\n# I am the assistant\n````",
    ),
    "a changed file": ([FileChange("a.py", "-x\n+y\n", "update")], "```diff\na.py\n-x\n+y\n```"),
    "a web search": (
        [ToolEvent("1", "web_search", "started", "why `x`")],
        "Searched the web for `` why `x` ``",
    ),
    "an MCP call": ([ToolEvent("1", "mcp:mem/find", "started", '{"q":1}')], '`mem/find` `{"q":1}`'),
    "a plan": (
        [Plan((Step("look\nat it", "done"), Step("act", "active"), Step("rest", "pending")), "so")],
        "**Plan** so\n\n- [x] look at it\n- [ ] act (in progress)\n- [ ] rest",
    ),
    "the same plan is not repeated": ([Plan((Step("a", "done"),))] * 2, "**Plan**\n\n- [x] a"),
    "a notice": ([Notice("retry", "again\nsoon"), TextDelta("a")], "> again soon\n\na"),
    "an approval": ([Approval("7", "command", "rm x")], "Waiting for approval `7`\n\n```\nrm x\n```"),
}


@pytest.mark.parametrize(("events", "text"), SHOWN.values(), ids=SHOWN.keys())
def test_shown_in_the_content(events: list[Event], text: str) -> None:
    assert flatten(events) == (text, "")


def test_activity_in_the_reasoning_leaves_the_answer_alone() -> None:
    events: list[Event] = [
        TextDelta("a", "1"),
        command("started", "ls"),
        TextDelta("b", "1"),
        Commentary("c", "2"),
    ]
    assert flatten(events, "reasoning") == ("ab", "```sh\nls\n```\n\nc")


def test_activity_can_be_off() -> None:
    everything = [
        event for events, _ in SHOWN.values() for event in events if not isinstance(event, TextDelta)
    ]
    assert flatten(everything, "off") == ("", "")


def test_what_is_not_activity_passes() -> None:
    for event in (
        ToolEvent("1", "f", "started", runs_on="client"),
        Usage(1, 1),
        Done("stop"),
        Failed(Fault("upstream", "x")),
    ):
        assert Flat("off").feed(event) == [event]


def test_separate_thoughts_are_a_blank_line_apart() -> None:
    assert (
        flatten([ReasoningDelta("a", "1"), ReasoningDelta("b", "1"), ReasoningDelta("c", "2")])[1]
        == "ab\n\nc"
    )


@pytest.mark.parametrize(
    ("wrapped", "bare"),
    [
        ("/bin/bash -lc 'echo hi'", "echo hi"),
        ("bash -lc 'echo hi'", "echo hi"),
        ("/usr/bin/zsh -lc 'a'", "a"),
        ('/bin/sh -c "echo \\"x\\" \\$y"', 'echo "x" $y'),
        ("/bin/bash -lc 'it'\\''s'", "it's"),
        ("python -c 'x'", "python -c 'x'"),
        ("bash -lc 'two\nlines'", "two\nlines"),
    ],
)
def test_the_shell_wrapper_is_stripped(wrapped: str, bare: str) -> None:
    assert bare_command(wrapped) == bare


def test_a_fence_is_longer_than_any_run_of_ticks() -> None:
    assert block("````", "sh") == "`````sh\n````\n`````"
