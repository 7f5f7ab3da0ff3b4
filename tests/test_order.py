"""The law of event order, one row a rule."""

import pytest

from codexgate.errors import Fault
from codexgate.events import (
    Commentary,
    Done,
    Event,
    Failed,
    Notice,
    ReasoningDelta,
    Retrieved,
    TextDelta,
    ThreadStarted,
    ToolEvent,
    Usage,
    Window,
)
from codexgate.order import Order, OrderError

FAILED = Failed(Fault("upstream", "broken"))


def call(stage: str, id: str = "1", name: str = "f", runs_on: str = "client") -> ToolEvent:
    return ToolEvent(id, name, stage, runs_on=runs_on)  # type: ignore[arg-type]


LAWFUL: dict[str, list[Event]] = {
    "text then the end": [TextDelta("a", "1"), Done("stop")],
    "identical deltas": [TextDelta("ha"), TextDelta("ha"), Done("stop")],
    "usage just before the end": [TextDelta("a"), Usage(1, 1), Done("stop")],
    "usage before a failure": [Usage(1, 1), FAILED],
    "commentary, then the answer": [Commentary("a", "1"), TextDelta("b", "2"), Done("stop")],
    "a backend's tool within an answer": [
        call("started", runs_on="backend"),
        call("output", runs_on="backend"),
        call("finished", runs_on="backend"),
        TextDelta("a"),
        Done("stop"),
    ],
    "two client calls side by side": [
        call("started", "1"),
        call("started", "2"),
        call("arguments", "1"),
        call("finished", "1"),
        call("finished", "2"),
        Done("tool_calls"),
    ],
    "cut by the token limit in a call": [call("started"), Done("length")],
}

LAWFUL["a thread first"] = [Notice("x", "y"), ThreadStarted("t"), TextDelta("a"), Done("stop")]
LAWFUL["what is known before"] = [
    Retrieved((), 0),
    Notice("x", "y"),
    Window(1, 2),
    ThreadStarted("t"),
    Done("stop"),
]
UNLAWFUL: dict[str, list[Event]] = {
    "something after the end": [Done("stop"), TextDelta("a")],
    "two ends": [Done("stop"), FAILED],
    "text after usage": [Usage(1, 1), TextDelta("a")],
    "a thread in the middle": [TextDelta("a"), ThreadStarted("t")],
    "two threads": [ThreadStarted("t"), ThreadStarted("t")],
    "two windows": [Window(1, 2), Window(1, 2)],
    "a retrieval in the middle": [TextDelta("a"), Retrieved((), 0)],
    "two usages": [Usage(1, 1), Usage(1, 1)],
    "an empty text": [TextDelta("")],
    "an empty thought": [ReasoningDelta("")],
    "a message taken up again": [TextDelta("a", "1"), TextDelta("b", "2"), TextDelta("c", "1")],
    "a call that starts twice": [call("started"), call("started")],
    "arguments of a call that has not started": [call("arguments")],
    "a call that changes its name": [call("started"), call("arguments", name="g")],
    "a call that changes who runs it": [call("started"), call("finished", runs_on="backend")],
    "output after the end of a call": [call("started"), call("finished"), call("output")],
    "tool_calls without a call": [Done("tool_calls")],
    "tool_calls with an unfinished call": [call("started"), Done("tool_calls")],
    "stop with a client call": [call("started"), call("finished"), Done("stop")],
}


@pytest.mark.parametrize("events", LAWFUL.values(), ids=LAWFUL.keys())
def test_lawful(events: list[Event]) -> None:
    order = Order()
    for event in events:
        order.feed(event)
    order.close()


@pytest.mark.parametrize("events", UNLAWFUL.values(), ids=UNLAWFUL.keys())
def test_unlawful(events: list[Event]) -> None:
    order = Order()
    for event in events[:-1]:
        order.feed(event)
    with pytest.raises(OrderError):
        order.feed(events[-1])


def test_an_answer_without_an_end_is_unlawful() -> None:
    order = Order()
    order.feed(TextDelta("a"))
    with pytest.raises(OrderError, match="without Done or Failed"):
        order.close()
