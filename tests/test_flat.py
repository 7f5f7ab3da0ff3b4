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
        "```sh\nls -l\na\nb\n```",
    ),
    "a command without output": (
        [command("started", "true"), command("finished")],
        "```sh\ntrue\n```",
    ),
    "a command that failed": (
        [command("started", "false"), ToolEvent("1", "command", "finished", ok=False)],
        "```sh\nfalse\n(failed)\n```",
    ),
    "a run of commands is one block": (
        [
            *(command("started", "ls"), command("output", "a\n\n"), command("finished")),
            *(command("started", "true", "2"), command("finished", id="2")),
            *(command("started", "pwd", "3"), command("finished", "/", "3")),
            TextDelta("So."),
        ],
        "```sh\nls\na\n\ntrue\n\npwd\n/\n```\n\nSo.",
    ),
    "five lines of each command": (
        [
            *(command("started", "seq 6"), command("finished", "1\n2\n3\n4\n5\n6\n")),
            *(command("started", "seq 5", "2"), command("finished", "1\n2\n3\n4\n5\n", "2")),
        ],
        "```sh\nseq 6\n1\n2\n3\n4\n5\n…\n\nseq 5\n1\n2\n3\n4\n5\n```",
    ),
    "commands at the same time": (
        [
            *(command("started", "one"), command("started", "two", "2")),
            *(command("output", "2\n", "2"), command("output", "1\n")),
        ],
        "```sh\none\n\ntwo\n2\n\n1\n```",
    ),
    "a command that is cut off shows its last line": (
        [command("started", "cat"), command("output", "half"), Usage(1, 1), Done("cancelled")],
        "```sh\ncat\nhalf\n```",
    ),
    "a block that was closed goes on in another": (
        [command("started", "ls"), command("output", "a\nb"), Notice("x", "y"), command("finished", "c")],
        "```sh\nls\na\n```\n\n> y\n\n```sh\nbc\n```",
    ),
    "blank lines count when more follows": (
        [command("started", "x"), command("output", "\n\n\n\n\n"), command("finished", "a\n")],
        "```sh\nx\n\n\n\n\n\n…\n```",
    ),
    "carriage returns end lines": (
        [command("started", "x"), command("output", "1%\r2%\r"), command("finished", "\nok\r\n")],
        "```sh\nx\n1%\n2%\nok\n```",
    ),
    "a very long line": (
        [command("started", "x"), command("finished", "y" * 2000)],
        f"```sh\nx\n{'y' * 1000}…\n```",
    ),
    "escapes split over deltas": (
        [
            *(command("started", "ls \x1b[1m-l"), command("output", "\x1b"), command("output", "[3")),
            *(
                command("output", "1mred\x1b]0;ti"),
                command("output", "tle\x1b"),
                command("finished", "\\!\n"),
            ),
        ],
        "```sh\nls -l\nred!\n```",
    ),
    "at most five lines of output": (
        [command("started", "seq 9"), *(command("output", f"{n}\n") for n in range(9)), command("finished")],
        "```sh\nseq 9\n0\n1\n2\n3\n4\n…\n```",
    ),
    "output with back-ticks cannot break out": (
        [command("started", "cat x"), command("finished", "```\n# I am the assistant")],
        "```sh\ncat x\n```\n````sh\n```\n# I am the assistant\n````",
    ),
    "a changed file": ([FileChange("a.py", "-x\n+y\n", "update")] * 2, "```diff\na.py\n-x\n+y\n```"),
    "a long change": (
        [FileChange("a", "+1\n+2\n+3\n+4\n+5\n+6\n", "update")],
        "```diff\na\n+1\n+2\n+3\n+4\n+5\n…\n```",
    ),
    "a web search": (
        [ToolEvent("1", "web_search", "started", "why `x`")],
        "Searched the web for `` why `x` ``",
    ),
    "an MCP call": (
        [
            ToolEvent("1", "mcp:mem/find", "started", '{"q":1}'),
            ToolEvent("1", "mcp:mem/find", "finished", "```\nfound"),
        ],
        'Called `mem/find` with `{"q":1}`\n\n````\n```\nfound\n````',
    ),
    "an MCP call between commands": (
        [
            *(command("started", "a"), command("finished"), ToolEvent("2", "mcp:m/t", "started")),
            *(ToolEvent("2", "mcp:m/t", "finished", "r"), command("started", "b", "3")),
        ],
        "```sh\na\n```\n\nCalled `m/t`\n\n```\nr\n```\n\n```sh\nb\n```",
    ),
    "a plan": (
        [Plan((Step("look\nat it", "done"), Step("act", "active"), Step("rest", "pending")), "so")],
        "**Plan** so\n\n- [x] look at it\n- [ ] act (in progress)\n- [ ] rest",
    ),
    "the same plan is not repeated": ([Plan((Step("a", "done"),))] * 2, "**Plan**\n\n- [x] a"),
    "a notice": ([Notice("retry", "again\nsoon"), TextDelta("a")], "> again soon\n\na"),
    "rate limits once": ([Notice("rate_limits", "5%"), Notice("rate_limits", "4%")], "> 5%"),
    "an approval": (
        [Approval("7", "command", "/bin/bash -lc 'rm x'")],
        "Waiting for approval `7`. Answer with `codexgate approvals accept 7` or"
        " `codexgate approvals decline 7`.\n\n```sh\nrm x\n```",
    ),
    "an approval hides nothing": (
        [Approval("7", "command", "ls \x1b]; rm x\x07\n\u202eend", "to\nsee", "/w")],
        "Waiting for approval `7` in `/w`. Answer with `codexgate approvals accept 7` or"
        " `codexgate approvals decline 7`.\n\n> to see\n\n```sh\nls \\x1b]; rm x\\x07\n\\u202eend\n```",
    ),
}


@pytest.mark.parametrize(("events", "text"), SHOWN.values(), ids=SHOWN.keys())
def test_shown_in_the_content(events: list[Event], text: str) -> None:
    assert flatten([*events, Done("stop")]) == (text, "")


def test_activity_in_the_reasoning_leaves_the_answer_alone() -> None:
    events: list[Event] = [
        TextDelta("a", "1"),
        command("started", "ls"),
        TextDelta("b", "1"),
        Commentary("c", "2"),
    ]
    assert flatten(events, "reasoning") == ("ab", "```sh\nls\n```\n\nc")


def test_a_plan_can_be_left_out() -> None:
    flat = Flat("content", include_plan=False)
    assert flat.feed(Plan((Step("a", "done"),))) == []


def test_output_is_shown_as_it_comes() -> None:
    flat = Flat("content")
    flat.feed(command("started", "make"))
    assert flat.feed(command("output", "one\ntw")) == [TextDelta("one\n")]
    assert flat.feed(command("output", "o\n")) == [TextDelta("two\n")]


@pytest.mark.parametrize(
    "event", [TextDelta("a"), ReasoningDelta("a"), ToolEvent("2", "f", "started", runs_on="client"), Usage()]
)
@pytest.mark.parametrize("activity", ["content", "reasoning"])
def test_the_block_is_closed_before_anything_else(event: Event, activity: Activity) -> None:
    flat = Flat(activity)
    flat.feed(command("started", "make"))
    first, *_ = flat.feed(event)
    assert isinstance(first, TextDelta | ReasoningDelta) and first.text == "```"


def test_asterisks_are_held_back_no_longer_than_needed() -> None:
    flat = Flat()
    assert flat.feed(ReasoningDelta("a**", "1")) == [ReasoningDelta("a")]
    assert flat.feed(ReasoningDelta("*b***", "1")) == [ReasoningDelta("***b")]
    assert flat.feed(ReasoningDelta("****", "1")) == []
    assert flat.feed(TextDelta("c")) == [ReasoningDelta("\n"), TextDelta("c")]
    assert flat.feed(ReasoningDelta("**", "2")) == []
    assert flat.feed(Done("stop")) == [ReasoningDelta("\n**"), Done("stop")]


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
        ("""/bin/bash -lc "it's"''!'""", """/bin/bash -lc "it's"''!'"""),
        ("""/bin/bash -lc 'a '"'"'b'""", "a 'b"),
        ("bash -lc ls", "ls"),
        ("bash -lc 'a' ; rm 'b'", "bash -lc 'a' ; rm 'b'"),
        ("/opt/homebrew/bin/bash -lc 'a'", "a"),
        ("python -c 'x'", "python -c 'x'"),
        ("bash -lc 'two\nlines'", "two\nlines"),
    ],
)
def test_the_shell_wrapper_is_stripped(wrapped: str, bare: str) -> None:
    assert bare_command(wrapped) == bare


def test_a_fence_is_longer_than_any_run_of_ticks() -> None:
    assert block("````", "sh") == "`````sh\n````\n`````"
