"""What a conversation is worth: what of it is new, what it leaves open, what of it fits."""

import pytest

from codexgate.chat import Image, Message, StoredFile, Text, ToolCall
from codexgate.history import continued, fit, is_same, settled, size, tokens

History = tuple[Message, ...]


def talk(script: str) -> History:
    """Messages by their beginnings: `u` user, `a` an answer, `c1,2` calls of those ids, `t1` a result, `s` system."""
    return tuple(map(message, script.split()))


def message(word: str) -> Message:
    match word[0]:
        case "u":
            return Message("user", (Text(word),))
        case "a":
            return Message("assistant", (Text(word),))
        case "c":
            calls = tuple(ToolCall(id, "f", "{}") for id in word[1:].split(","))
            return Message("assistant", tool_calls=calls)
        case "t":
            return Message("tool", (Text(word),), tool_call_id=word[1:])
        case _:
            return Message("system", (Text(word),))


def script(messages: History) -> str:
    """The opposite of `talk`; a result that was made up is `-`."""
    return " ".join(map(word, messages))


def word(message: Message) -> str:
    if message.tool_calls:
        return "c" + ",".join(call.id for call in message.tool_calls)
    return "-" + message.tool_call_id if message.text == "No result was sent." else message.text


# What is new

CONTINUED = {
    "the first messages": ("", "u1", "u1"),
    "a history that others began": ("", "u1 a1 u2", "u1 a1 u2"),
    "only what is new": ("u1 a1", "u2", "u1 a1 u2"),
    "several new messages": ("u1 a1", "u2 u3", "u1 a1 u2 u3"),
    "the same question again": ("u1 a1", "u1", "u1 a1 u1"),
    "the whole history": ("u1 a1 u2 a2", "u1 a1 u2 a2 u3", "u1 a1 u2 a2 u3"),
    "the whole history and answers of its own": ("u1 a1", "u1 a1 u2 a2 u3", "u1 a1 u2 a2 u3"),
    "the end of the history": ("u1 a1 u2 a2 u3 a3", "u3 a3 u4", "u1 a1 u2 a2 u3 a3 u4"),
    "the last answer and what follows": ("u1 a1", "a1 u2", "u1 a1 u2"),
    "the history, and nothing new": ("u1 a1", "u1 a1", "u1 a1"),
    "the results of calls": ("u1 c1,2", "t1 t2", "u1 c1,2 t1 t2"),
    "calls and their results": ("u1 a1 u2 c1", "c1 t1", "u1 a1 u2 c1 t1"),
    "the whole history in the middle of a call": ("u1 c1", "u1 c1 t1", "u1 c1 t1"),
    "asked again": ("u1 a1 u2 a2", "u1 a1 u2", "u1 a1 u2"),
    "asked again, where all turns are alike": ("u1 a1 u1 a1", "u1 a1 u1", "u1 a1 u1"),
    "an edited question": ("u1 a1 u2 a2", "u1 a1 u3", "u1 a1 u3"),
    "an edited first question": ("u1 a1 u2 a2", "u9 a9 u2", "u9 a9 u2"),
    "an edited answer": ("u1 a1 u2 a2", "u1 a9 u2 a2 u3", "u1 a9 u2 a2 u3"),
    "another conversation": ("u1 a1", "u7 a7 u8", "u7 a7 u8"),
}


@pytest.mark.parametrize(("kept", "sent", "meant"), CONTINUED.values(), ids=CONTINUED.keys())
def test_what_is_meant_by_what_is_sent(kept: str, sent: str, meant: str) -> None:
    assert script(continued(talk(kept), talk(sent))) == meant


def assistant(*texts: str) -> Message:
    return Message("assistant", tuple(map(Text, texts)))


SAME: dict[str, tuple[Message, Message]] = {
    "trimmed": (assistant(" yes\n"), assistant("yes")),
    "thinking put into it": (assistant("yes"), assistant("<details>\nhm</details>\nyes")),
    "activity put before and into it": (
        assistant("I look.", "\n\nFound."),
        assistant("```sh\nls\n```\n\nI look.\n\n```sh\ncat x\n```\n\nFound."),
    ),
    "in other parts": (assistant("a", "\n\nb"), assistant("a\n\nb")),
    "thinking dropped": (Message("assistant", (Text("a"),), reasoning="hm"), assistant("a")),
    "a call without the text before it": (
        Message("assistant", (Text("I look."),), tool_calls=(ToolCall("1", "f", '{"a": 1}'),)),
        Message("assistant", tool_calls=(ToolCall("1", "f", '{"a":1}'),)),
    ),
    "no answer at all": (assistant(), assistant()),
    "a question in parts": (Message("user", (Text("a"), Text("b"))), Message("user", (Text(" ab "),))),
}
OTHER: dict[str, tuple[Message, Message]] = {
    "another role": (Message("user", (Text("a"),)), assistant("a")),
    "another answer": (assistant("a"), assistant("b")),
    "an answer without its second half": (assistant("a", "b"), assistant("a")),
    "an answer without its first half": (assistant("a", "b"), assistant("b")),
    "halves the other way round": (assistant("a", "b"), assistant("b a")),
    "another question": (Message("user", (Text("a"),)), Message("user", (Text("a b"),))),
    "another picture": (
        Message("user", (Text("a"), Image("image/png", "x"))),
        Message("user", (Text("a"), Image("image/png", "y"))),
    ),
    "another file": (Message("user", (StoredFile("1"),)), Message("user", (StoredFile("2"),))),
    "another call": (message("c1"), message("c2")),
    "a call instead of an answer": (assistant("a"), message("c1")),
    "the result of another call": (message("t1"), message("t2")),
}


@pytest.mark.parametrize(("kept", "sent"), SAME.values(), ids=SAME.keys())
def test_what_clients_do_to_messages_is_forgiven(kept: Message, sent: Message) -> None:
    assert is_same(kept, sent)


@pytest.mark.parametrize(("kept", "sent"), OTHER.values(), ids=OTHER.keys())
def test_what_means_something_else_is_something_else(kept: Message, sent: Message) -> None:
    assert not is_same(kept, sent)


# What was left open

SETTLED = {
    "nothing open": ("u1 c1 t1 a1 u2", "u1 c1 t1 a1 u2"),
    "calls that wait": ("u1 c1,2", "u1 c1,2"),
    "a question instead of a result": ("u1 c1 u2", "u1 c1 -1 u2"),
    "one result of two": ("u1 c1,2 t2", "u1 c1,2 t2 -1"),
    "one result of two, then a question": ("u1 c1,2 t1 u2", "u1 c1,2 t1 -2 u2"),
    "several times": ("u1 c1 u2 c2 c3 t3", "u1 c1 -1 u2 c2 -2 c3 t3"),
    "a result that nobody asked for": ("u1 a1 t9", "u1 a1 t9"),
}


@pytest.mark.parametrize(("left", "settled_"), SETTLED.values(), ids=SETTLED.keys())
def test_no_call_stays_without_a_result(left: str, settled_: str) -> None:
    assert script(settled(talk(left))) == settled_


# What fits

FIT = {
    "all of it": (9, "s u1 a1 u2", "s u1 a1 u2"),
    "without the oldest turn": (4, "s u1 a1 u2 a2 u3", "s u2 a2 u3"),
    "turns go whole": (4, "u1 a1 u2 c1 t1 a2 u3", "u3"),
    "a call and its results are one": (3, "u1 c1,2 t1 t2 c3 t3", "u1 c3 t3"),
    "the oldest steps of the last turn": (5, "u0 a0 u1 c1 t1 c2 t2 c3 t3", "u1 c2 t2 c3 t3"),
    "the last question stays": (1, "s u1 a1 u2 c1 t1", "s u2 c1 t1"),
    "instructions stay wherever they are": (3, "s1 u1 a1 s2 u2", "s1 s2 u2"),
    "a question alone": (0, "u1", "u1"),
    "no question at all": (1, "s a1 a2", "s a2"),
    "instructions alone": (0, "s", "s"),
    "two questions at once": (1, "u1 u2", "u2"),
}


@pytest.mark.parametrize(("limit", "whole", "left"), FIT.values(), ids=FIT.keys())
def test_the_oldest_goes_and_nothing_is_torn_apart(limit: int, whole: str, left: str) -> None:
    assert script(fit(talk(whole), limit, lambda _: 1)) == left


@pytest.mark.parametrize(
    ("measured", "least", "most"),
    [
        (Message("user"), 1, 10),
        (Message("user", (Text("word " * 1000),)), 1000, 1500),
        (Message("user", (Text("日本" * 1000),)), 1000, 2500),
        (Message("user", (Image("image/png", "x" * 1_000_000),)), 500, 2000),
        (Message("user", (StoredFile("file-1"),)), 500, 2000),
        (Message("assistant", tool_calls=(ToolCall("1", "f", "x" * 4000),)), 1000, 1100),
    ],
)
def test_tokens_are_estimated(measured: Message, least: int, most: int) -> None:
    assert least <= tokens(measured) <= most


def test_sizes_are_those_of_what_is_kept() -> None:
    picture = Message("user", (Text("ü" * 100), Image("image/png", "x" * 1000)))
    assert 1200 <= size(picture) <= 1500
