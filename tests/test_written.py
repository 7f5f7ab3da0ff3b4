"""Calls that models write as text: which text is a call, what passes at once, and that nothing is lost."""

import itertools
import json

import pytest

from codexgate.events import Done, Event, ReasoningDelta, TextDelta, Usage
from codexgate.fold import fold
from codexgate.order import Order
from codexgate.written import Written

CALL = '{"name": "shell", "arguments": {"cmd": "ls"}}'


def read(*pieces: str, end: str = "stop") -> tuple[str, list[tuple[str, str]], str | None]:
    """Text, calls and reason of an answer that came in `pieces`."""
    ids = itertools.count()
    written = Written(("shell", "patch"), lambda: f"call_{next(ids)}")
    order = Order()
    events: list[Event] = []
    given: list[Event] = [*(TextDelta(piece, "m") for piece in pieces), Usage(1, 1), Done(end)]  # type: ignore[arg-type]
    for event in given:
        for one in written.feed(event):
            order.feed(one)
            events.append(one)
    order.close()
    reply = fold(events)
    return reply.text, [(call.name, call.arguments) for call in reply.tool_calls], reply.reason


LS = ("shell", '{"cmd":"ls"}')
CALLS = {
    "JSON alone": (CALL, "", [LS]),
    "with blanks around": (f"\n  {CALL}\n", "", [LS]),
    "parameters": ('{"name": "shell", "parameters": {"cmd": "ls"}}', "", [LS]),
    "arguments as text": (json.dumps({"name": "shell", "arguments": '{"cmd":"ls"}'}), "", [LS]),
    "OpenAI's shape": (json.dumps({"type": "function", "function": {"name": "shell", "arguments": {"cmd": "ls"}}}), "", [LS]),
    "a list": (f"[{CALL}, {CALL}]", "", [LS, LS]),
    "a list of its own": (json.dumps({"tool_calls": [{"name": "shell", "arguments": {"cmd": "ls"}}]}), "", [LS]),
    "one on each line": (f"{CALL}\n{CALL}", "", [LS, LS]),
    "a fence": (f"```json\n{CALL}\n```", "", [LS]),
    "a plain fence": (f"```\n{CALL}\n```", "", [LS]),
    "tags": (f"<tool_call>\n{CALL}\n</tool_call>", "", [LS]),
    "tags after words": (f"I look.\n<tool_call>{CALL}</tool_call>", "I look.\n", [LS]),
    "two in tags": (f"<tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>", "", [LS, LS]),
    "tags not closed": (f"<tool_call>\n{CALL}", "", [LS]),
}  # fmt: skip

TEXTS = {
    "words": "Hello, world.",
    "a function that was not offered": '{"name": "format_disk", "arguments": {}}',
    "JSON that is an answer": '{"answer": 42}',
    "JSON with a name of its own": '{"name": "Ada", "born": 1815}',
    "a list of numbers": "[1, 2, 3]",
    "half a call": '{"name": "shell", "arguments": {',
    "a call in the middle of words": f"You could call {CALL} now.",
    "a fence of code": "```python\nprint(1)\n```",
    "a fence of JSON": '```json\n{"a": 1}\n```',
    "a tag that is none": "<tool_calls> are <b>bold</b>",
    "a tag around words": "<tool_call>nothing</tool_call> done",
    "less than": "1 < 2 and <tool_cal",
    "blanks first": "\n\n  Hello",
}


def pieces(text: str) -> list[list[str]]:
    """The text whole, character by character, and cut in two at every place."""
    return [[text], list(text), *([text[:at], text[at:]] for at in range(1, len(text)))]


@pytest.mark.parametrize(("text", "rest", "calls"), CALLS.values(), ids=CALLS)
def test_a_written_call_is_a_call(text: str, rest: str, calls: list[tuple[str, str]]) -> None:
    for parts in pieces(text):
        assert read(*parts) == (rest, calls, "tool_calls")


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_everything_else_is_text(text: str) -> None:
    for parts in pieces(text):
        assert read(*parts) == (text, [], "stop")


def test_an_answer_that_was_cut_is_no_call() -> None:
    assert read(CALL, end="length") == (CALL, [], "length")


def test_words_pass_as_they_come() -> None:
    written = Written(("shell",), lambda: "call")
    assert [written.feed(TextDelta(text, "m")) for text in ("Hel", "lo ", "{", "x")] == [
        [TextDelta(text, "m")] for text in ("Hel", "lo ", "{", "x")
    ]
    assert written.feed(ReasoningDelta("hm")) == [ReasoningDelta("hm")]


def test_a_huge_answer_is_not_held_for_ever() -> None:
    written = Written(("shell",), lambda: "call")
    passed = [event for _ in range(300) for event in written.feed(TextDelta("{" + "x" * 1000, "m"))]
    assert len(passed) > 0
