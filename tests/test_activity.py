"""What the client sees of an agent: recorded turns, and what no output of a tool can do."""

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from codexgate.activity import LINES_SHOWN, Controls, Fence, Output, Stars, clean
from codexgate.events import (
    Commentary,
    Done,
    Event,
    FileChange,
    Notice,
    Plan,
    ReasoningDelta,
    Step,
    TextDelta,
    ToolEvent,
)
from codexgate.flat import Activity, Flat
from codexgate.fold import Reply, fold

from .test_codex_dialect import turns


def flatten(events: Sequence[Event], activity: Activity = "content") -> Reply:
    flat = Flat(activity)
    return fold([one for event in events for one in flat.feed(event)])


FAILED = "(failed)"
RAN = "I will run a command.\n\n```sh\n{}\n```\n\nCommand done. Output was seen."
CALLED = 'Called `memsrv/echo` with `{{"text":"ping"}}`\n\n```\n{}\n```\n\nMCP said so.'
ASKED = "echo escalated > /outside/esc.txt; echo ok"
ADDED = "```diff\n/workspace/hello.txt\nhello world\nsecond line\n```"
CHANGED = "```diff\n/workspace/hello.txt\n@@ -1,2 +1,2 @@\n-hello world\n+hello codex\n second line\n```"

SEEN: dict[str, str] = {
    "deltas_are_repeated_by_the_completed_item": "Hello from the fake model. This is a plain text answer.",
    "commentary_is_glued_to_the_answer": "first message\n\nsecond message",
    "reasoning_parts_run_together": "Answer after reasoning.",
    "command_output_is_lost_or_doubled": RAN.format(
        "echo data > written.txt && cat written.txt; touch /tmp/out_$$ || echo denied\ndata"
    ),
    "approval_is_never_answered": RAN.format(f"{ASKED}\nok"),
    "declined_command_ends_the_turn": RAN.format(f"{ASKED}\n(declined)"),
    "cancelled_approval_is_reported_as_an_answer": (
        f"I will run a command.\n\n```sh\n{ASKED}\n(declined)\n```"
    ),
    "output_after_the_end_opens_a_new_answer": (
        "```sh\nfor i in 1 2 3 4 5 6 7 8; do echo tick $i; sleep 0.5; done\ntick 2\n```"
    ),
    "diff_is_shown_again_and_again": f"{ADDED}\n\n{CHANGED}\n\nPatched.",
    "heredoc_patch_is_shown_as_a_command": f"{ADDED}\n\nPatched via shell.",
    "web_search_query_is_shown_empty": ("Searched the web for `codex app server`\n\nFound it on the web."),
    "mcp_result_is_not_shown": CALLED.format("echo: {'text': 'ping'}"),
    "mcp_call_refused_by_policy_is_shown_as_success": CALLED.format(
        f"MCP tool call requires approval, but approval policy is never\n{FAILED}"
    ),
    "plan_is_merged_instead_of_replaced": (
        "**Plan** starting\n\n- [ ] look (in progress)\n- [ ] act\n\n"
        "**Plan**\n\n- [x] look\n- [x] act\n\nPlan finished."
    ),
    "unreachable_upstream_waits_for_ever": "\n\n".join(f"> Reconnecting... {n}/5" for n in range(1, 6)),
}


@pytest.mark.parametrize(("name", "text"), SEEN.items(), ids=SEEN.keys())
def test_a_recorded_turn_is_seen_as(name: str, text: str) -> None:
    ((events, _),) = turns(name)
    assert flatten(events).text == text
    told = flatten(events, "reasoning")
    off = flatten(events, "off")
    assert (
        told.text
        == off.text
        == "\n\n".join(
            text for _, text in fold([event for event in events if isinstance(event, TextDelta)]).messages
        )
    )


def test_recorded_thoughts_are_beside_the_answer() -> None:
    ((events, _),) = turns("reasoning_parts_run_together")
    assert flatten(events, "off").reasoning == (
        "**Thinking about it**\n\nFirst I consider the question.\n\n"
        "**Deciding**\n\nThen I decide.\n\nraw chain of thought text here"
    )


STRIPPED = {
    "colours": ("\x1b[31mred\x1b[0m \x9b1mbold", "red bold"),
    "a title ended by BEL": ("a\x1b]0;title\x07b", "ab"),
    "a link ended by ST": ("\x1b]8;;http://x\x1b\\y\x1b]8;;\x1b\\", "y"),
    "a string of C1": ("a\x90q\x9cb\x9dq\x07c", "abc"),
    "privacy messages and the like": ("a\x1b^x\x1b\\b\x1b_y\x1b\\c\x1bXz\x1b\\d\x1bPp\x1b\\e", "abcde"),
    "a string broken off by an escape": ("\x1b]0;a\x1b[1mb", "b"),
    "a string broken off by CAN": ("\x1b]0;a\x18b", "b"),
    "escapes of two bytes": ("\x1b7a\x1b8\x1b=b\x1bc", "ab"),
    "escapes with more before the last": ("\x1b(Ba\x1b#8", "a"),
    "single characters": ("a\x00\x07\x08\x0b\x0c\x7f\x85b\t\n\r", "ab\t\n\r"),
    "no sequence at all": ("\x1b[" + "1" * 70 + "m", "1" * 70 + "m"),
    "a sequence that never ends": ("a\x1b]0;" + "x" * 99, "a"),
    "text": ("é 漢 👩‍👩 \u00a0", "é 漢 👩‍👩 \u00a0"),
}


@pytest.mark.parametrize(("text", "stripped"), STRIPPED.values(), ids=STRIPPED.keys())
def test_control_sequences_are_removed_wherever_they_are_cut(text: str, stripped: str) -> None:
    for at in range(len(text) + 1):
        controls = Controls()
        assert controls.strip(text[:at]) + controls.strip(text[at:]) == stripped
    controls = Controls()
    assert "".join(map(controls.strip, text)) == stripped


def test_an_endless_sequence_is_not_kept() -> None:
    controls = Controls()
    for _ in range(9):
        controls.strip("\x1b]" + "x" * 999)
    assert len(controls._held) < 9


# What a hostile tool would print: Q is what the tests look for, the rest what Markdown listens to.
hostile = st.text(
    st.sampled_from("QQq`~ \n\r\t>#-*_<![]()|\\&$\x1b[]0;m\x07\x9b\x9c\x00é"), max_size=80
) | st.lists(
    st.sampled_from(
        [
            "Q",
            "```",
            "````",
            "`````",
            " ```",
            "\t```",
            "```sh",
            "~~~",
            "\n",
            "\r",
            "\r\n",
            "\x1b[0m",
            "<!--",
            "- ",
        ]
    ),
    max_size=30,
).map("".join)


@st.composite
def pieces(draw: st.DrawFn, texts: st.SearchStrategy[str] = hostile) -> tuple[str, list[str]]:
    text = draw(texts)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    return text, [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@given(pieces())
def test_output_is_the_same_however_it_is_cut(cut: tuple[str, list[str]]) -> None:
    text, parts = cut
    whole, pieced = Output(), Output()
    expected = whole.feed(text) + whole.rest()
    assert [line for part in parts for line in pieced.feed(part)] + pieced.rest() == expected
    assert len(expected) <= LINES_SHOWN + 1
    lines = clean(text).rstrip().split("\n")
    if len(expected) <= LINES_SHOWN:
        assert [line.rstrip() for line in expected] == [line.rstrip() for line in lines if lines != [""]]


@given(pieces(st.text(st.sampled_from("***a\n"), max_size=40)))
def test_thoughts_are_the_same_however_they_are_cut(cut: tuple[str, list[str]]) -> None:
    text, parts = cut
    stars = Stars()
    assert "".join(map(stars.feed, parts)) + stars.rest() == re.sub(r"\*{4,}", "\n", text)


BETWEEN: list[Event] = [TextDelta("more", "m"), ReasoningDelta("why", "r")]


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    """A turn of an agent whose tools print what they like; only they say Q."""
    events: list[Event] = []
    for n in range(draw(st.integers(1, 6))):
        id = str(n)
        what = draw(
            st.sampled_from(["command", "command", "mcp", "file", "text", "thought", "plan", "notice"])
        )
        text, parts = draw(pieces())
        if what in ("command", "mcp"):
            name = "command" if what == "command" else "mcp:a/b"
            events.append(ToolEvent(id, name, "started", draw(hostile)))
            for part in parts:
                events.append(ToolEvent(id, name, "output", part))
                if draw(st.booleans()):
                    events.append(draw(st.sampled_from(BETWEEN)))
            if draw(st.booleans()):
                events.append(ToolEvent(id, name, "finished", draw(hostile), ok=draw(st.booleans())))
        else:
            others: dict[str, list[Event]] = {
                "file": [FileChange(text, draw(hostile), "update")],
                "text": [TextDelta(f"word {n}\n", f"t{n}")],
                "thought": [ReasoningDelta("a **", f"r{n}"), ReasoningDelta("**b", f"r{n}")],
                "plan": [Plan((Step("look", "done"), Step("act", "active")))],
                "notice": [Notice("x", "again"), Commentary("so ", f"c{n}"), Commentary("then", f"c{n}")],
            }
            events += others[what]
    return [*events, Done("stop")]


def outside(markdown: str) -> list[str]:
    """What of a text a reader of Markdown sees outside code."""
    return [
        part.content + part.info
        for token in MarkdownIt("commonmark").parse(markdown)
        for part in token.children or [token]
        if part.type not in ("fence", "code_block", "code_inline")
    ]


@given(answers(), st.sampled_from(["content", "reasoning"]))
def test_no_output_breaks_out_of_its_block(events: list[Event], activity: Activity) -> None:
    reply = flatten(events, activity)
    shown = reply.text if activity == "content" else reply.reasoning
    assert not [text for text in outside(shown) if "Q" in text]
    lines = shown.split("\n")
    for token in MarkdownIt("commonmark").parse(shown):
        if token.type == "fence":
            assert token.map is not None
            assert lines[token.map[1] - 1] == token.markup
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown)


@given(answers(), st.lists(st.text(min_size=1), max_size=9), st.sampled_from(["off", "reasoning"]))
def test_the_answer_is_exactly_what_the_model_wrote(
    events: list[Event], texts: list[str], activity: Activity
) -> None:
    rest = [event for event in events if not isinstance(event, TextDelta)]
    mixed: list[Event] = []
    for n, event in enumerate(rest):
        mixed += [TextDelta(text, "1") for text in texts[n : n + 1]] + [event]
    assert flatten(mixed, activity).text == "".join(texts[: len(rest)])


@given(answers())
def test_what_is_cut_elsewhere_reads_the_same(events: list[Event]) -> None:
    single: list[Event] = []
    for event in events:
        if isinstance(event, ToolEvent) and event.stage == "output":
            single += [ToolEvent(event.call_id, event.name, "output", char) for char in event.text]
        else:
            single.append(event)
    assert flatten(single).text == flatten(events).text


@given(st.lists(hostile.map(lambda text: clean(text).replace("\n", " ")), min_size=1, max_size=9))
def test_a_block_holds_its_lines(lines: list[str]) -> None:
    fence = Fence("sh")
    written = "".join(fence.write([line]) for line in lines) + fence.close()
    tokens = MarkdownIt("commonmark").parse(written)
    assert {token.type for token in tokens} == {"fence"}
    assert "".join(token.content for token in tokens) == "".join(f"{line}\n" for line in lines)
