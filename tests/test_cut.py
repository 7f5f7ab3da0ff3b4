"""Ending an answer where the caller said, for a backend that cannot be told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexgate.chat import Sampling
from codexgate.cut import Cut
from codexgate.events import Commentary, Done, Event, ReasoningDelta, TextDelta, Usage
from codexgate.fold import fold
from codexgate.order import Order


def cut(events: list[Event], *stop: str, max_tokens: int | None = None) -> tuple[list[Event], bool]:
    watching = Cut(Sampling(stop=stop, max_tokens=max_tokens))
    shown = [one for event in events for one in watching.feed(event)]
    order = Order()
    for event in shown:
        order.feed(event)
    order.close()
    return shown, watching.over


END: list[Event] = [Usage(1, 1), Done("stop")]


@given(
    st.lists(st.text("abS", min_size=1, max_size=4), min_size=1, max_size=8),
    st.lists(st.text("abS", min_size=1, max_size=3), max_size=3),
)
def test_any_chunking_ends_before_the_first_stop(deltas: list[str], stops: list[str]) -> None:
    shown, over = cut([*(TextDelta(delta, "m") for delta in deltas), *END], *stops)
    text = "".join(deltas)
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    assert fold(shown).text == (text[: min(ends)[1]] if ends else text)
    assert over == bool(ends)


def test_a_stop_does_not_reach_from_one_message_into_the_next() -> None:
    shown, over = cut([TextDelta("a ST", "1"), TextDelta("OP b", "2"), *END], "STOP")
    assert (fold(shown).messages, over) == ((("1", "a ST"), ("2", "OP b")), False)


@pytest.mark.parametrize(
    ("limit", "text", "reason"),
    [(1, "four", "length"), (3, "four more eig", "length"), (9, "four more eight", "stop")],
)
def test_the_limit_is_estimated_from_characters(limit: int, text: str, reason: str) -> None:
    reply = fold(cut([TextDelta("four more eight", "m"), *END], max_tokens=limit)[0])
    assert (reply.text, reply.reason) == (text[: limit * 4], reason)


def test_thinking_counts() -> None:
    shown, over = cut([ReasoningDelta("12345678"), TextDelta("more"), *END], max_tokens=1)
    assert (shown, over) == ([ReasoningDelta("1234"), Done("length")], True)


def test_everything_else_passes_as_it_is() -> None:
    events: list[Event] = [Commentary("I look", "1"), TextDelta("a", "2"), *END]
    assert cut(events) == (events, False)
