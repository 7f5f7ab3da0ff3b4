"""What is seen of an answer: in a pipe, as JSON, and on a terminal while it streams."""

import io
import itertools
import json
from collections.abc import Iterable, Sequence
from os import terminal_size
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import ConsoleDimensions

from codexgate.cli.markdown import Growing, layout_console, separated
from codexgate.cli.render import Json, Plain, Status, View
from codexgate.cli.screen import Screen
from codexgate.cli.terminal import Paint, escape, escape_line, json_text
from codexgate.cli.terminal_view import Rendered
from codexgate.errors import Fault
from codexgate.events import (
    Approval,
    Citation,
    Commentary,
    Done,
    Event,
    Failed,
    FileChange,
    Notice,
    Plan,
    ReasoningDelta,
    Retrieved,
    Step,
    TextDelta,
    ToolEvent,
    Usage,
)
from codexgate.fold import fold

from .servers.terminal import Terminal

ANSWER = """# Title

A paragraph with **bold** words, `code` and [a link](https://example.org).
Its second line.

Setext
------

1. one
2. two
   - nested 字字字字
     with more

```python
def f():

    return "x"
```

| a | b |
|---|--:|
| 1 | 2 |

> quoted
lazily

- - -
<b>not swallowed</b>
* a

* loose

    indented code

The end"""


class Clock:
    """Stands still until a test moves it on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def status(file: Any = None, *, shown: bool = False, clock: Clock | None = None) -> Status:
    return Status(file or io.StringIO(), Paint(False), shown=shown, clock=clock or Clock())


def show(view: View, events: Sequence[Event], clock: Clock | None = None) -> None:
    clock = clock or Clock()
    view.begin("m")
    for event in events:
        clock.now += 1
        view.feed(event)
        view.flush()
    view.close(fold(events), "s")


def rendered(file: Any, *, colour: bool = False, clock: Clock | None = None) -> Rendered:
    clock = clock or Clock()
    return Rendered(file, status(clock=clock), colour=colour, clock=clock)


def on_terminal(
    events: Sequence[Event], *, colour: bool = False, rows: int = 24, width: int = 60
) -> Terminal:
    terminal, clock = Terminal(rows), Clock()
    view = rendered(terminal, colour=colour, clock=clock)
    view._console.size = ConsoleDimensions(width, rows)
    show(view, events, clock)
    assert terminal.columns_used <= width
    return terminal


def chunks(text: str, cuts: Iterable[int]) -> list[str]:
    places = [0, *sorted({cut % (len(text) + 1) for cut in cuts}), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(places) if a < b]


# Pipe and JSON


def piped(*events: Event, **options: Any) -> bytes:
    out = io.BytesIO()
    show(Plain(out, status(), **({"escaped": False} | options)), events)
    return out.getvalue()


def test_a_pipe_gets_the_text_as_it_was_written() -> None:
    text = "a\x1b[31m\r\n\u2028é\u0301\t\0字"
    assert piped(TextDelta(text[:4]), TextDelta(text[4:]), Done("stop")) == text.encode() + b"\n"


@pytest.mark.parametrize(("text", "ending"), [("a", "\n"), ("a\n", ""), ("a\n\n", ""), ("", "")])
def test_a_piped_answer_ends_with_a_newline(text: str, ending: str) -> None:
    events = [TextDelta(text)] if text else []
    assert piped(*events, Done("stop")) == (text + ending).encode()


def test_a_pipe_gets_no_activity_and_two_messages_apart() -> None:
    events: list[Event] = [
        ReasoningDelta("hm"),
        Commentary("first", "c"),
        ToolEvent("1", "command", "started", "ls"),
        TextDelta("one", "a"),
        Plan((Step("x", "done"),)),
        TextDelta("two", "b"),
        Done("stop"),
    ]
    assert piped(*events) == b"one\n\ntwo\n"


def test_without_streaming_everything_comes_at_the_end() -> None:
    out = io.BytesIO()
    view = Plain(out, status(), escaped=False, stream=False)
    view.begin("m")
    view.feed(TextDelta("a"))
    view.flush()
    assert out.getvalue() == b""
    view.close(fold([TextDelta("a"), Done("stop")]), "")
    assert out.getvalue() == b"a\n"


def test_a_notice_goes_to_standard_error() -> None:
    told = io.StringIO()
    view = Plain(io.BytesIO(), status(told), escaped=False)
    view.feed(Notice("reroute", "another\x1b model"))
    assert told.getvalue() == "codexgate: another\\x1b model\n"


@pytest.mark.parametrize("lines", [False, True])
def test_json_tells_a_notice_once(lines: bool) -> None:
    out, told = io.BytesIO(), io.StringIO()
    show(Json(out, status(told), lines=lines), [Notice("k", "no\x1b memory"), Done("stop")])
    assert told.getvalue() == ("" if lines else "codexgate: no\\x1b memory\n")
    assert (b'"type":"notice"' in out.getvalue()) == lines


@pytest.mark.parametrize("lines", [False, True])
def test_json_has_what_was_put_before_the_question(lines: bool) -> None:
    out = io.BytesIO()
    events: list[Event] = [
        Retrieved((Citation("m1", "work", "notes.md", 0.5),), 7, "block"),
        TextDelta("a"),
        Done("stop"),
    ]
    show(Json(out, status(), lines=lines), events)
    assert json.loads(out.getvalue().splitlines()[-1])["retrieval_context"] == {
        "citations": [{"id": "m1", "namespace": "work", "source": "notes.md", "score": 0.5}],
        "tokens_injected": 7,
    }


def test_json_is_one_object() -> None:
    out = io.BytesIO()
    events: list[Event] = [ReasoningDelta("hm"), TextDelta("a\x9b"), Usage(3, 4, 1, 2), Done("length")]
    show(Json(out, status(), lines=False), events)
    assert out.getvalue().count(b"\n") == 1
    assert b"\\u009b" in out.getvalue()
    assert json.loads(out.getvalue()) == {
        "model": "m",
        "text": "a\x9b",
        "reasoning": "hm",
        "tool_calls": [],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 4,
            "total_tokens": 7,
            "reasoning_tokens": 1,
            "cached_tokens": 2,
            "estimated": False,
        },
        "retrieval_context": None,
        "finish_reason": "length",
        "session": "s",
    }


def test_json_lines_have_every_event_and_end_with_the_answer() -> None:
    out = io.BytesIO()
    events: list[Event] = [
        ReasoningDelta("hm"),
        Commentary("so"),
        ToolEvent("1", "command", "started", "ls"),
        FileChange("p", "+x", "add"),
        Plan((Step("x", "done"),)),
        Notice("k", "n"),
        TextDelta("a"),
        Usage(1, 1),
        Done("stop"),
    ]
    show(Json(out, status(), lines=True), events)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    kinds = ["reasoning", "commentary", "tool", "file", "plan", "notice", "text", "answer"]
    assert [line["type"] for line in lines] == kinds
    assert lines[-1]["text"] == "a"


def test_a_failed_answer_is_no_json_object() -> None:
    out = io.BytesIO()
    show(Json(out, status(), lines=False), [TextDelta("a"), Failed(Fault("upstream", "no"))])
    assert out.getvalue() == b""


def test_the_status_line_tells_model_time_and_tokens() -> None:
    told = io.StringIO()
    events: list[Event] = [TextDelta("a"), Usage(3, 4, estimated=True), Done("length")]
    show(Plain(io.BytesIO(), status(told, shown=True), escaped=False), events)
    assert told.getvalue() == "m · 0.0 s · about 3 + 4 tokens · cut at the token limit\n"


# Escaping


@given(st.text())
def test_nothing_but_text_newline_and_tab_reaches_a_terminal(text: str) -> None:
    for shown in (escape(text), "".join(escape(char) for char in text)):
        assert shown == escape(text)
        assert all(char.isprintable() or char in "\n\t\u200c\u200d" for char in shown)


@pytest.mark.parametrize(
    "text",
    [
        "e\u0301",
        "字",
        "👨\u200d👩\u200d👧",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "a\n\tb",
        "ß",
    ],
)
def test_text_of_every_script_survives(text: str) -> None:
    assert escape(text) == text


@pytest.mark.parametrize(
    ("char", "shown"),
    [
        ("\x1b", "\\x1b"),
        ("\r", "\\x0d"),
        ("\x9b", "\\x9b"),
        ("\u202e", "\\u202e"),
        ("\u2028", "\\u2028"),
        ("\U000e0041", "\\U000e0041"),
        ("\ud800", "\\ud800"),
        ("\xa0", " "),
    ],
)
def test_what_a_terminal_could_act_on_is_written_out(char: str, shown: str) -> None:
    assert escape(char) == shown


def test_a_name_stays_in_its_line() -> None:
    assert escape_line("a\nb\tc\x07") == "a\\x0ab\\x09c\\x07"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_survives_its_escaping(text: str) -> None:
    line = json_text({"t": text})
    assert json.loads(line) == {"t": text}
    assert line.isprintable()


# The terminal


def blocks_of(pieces: list[str]) -> list[str]:
    growing = Growing(layout_console(io.StringIO(), colour=True))
    done: list[list[str]] = []
    for piece in pieces:
        growing.feed(piece)
        growing.unfinished()
        done += growing.finished()
    return separated(done + growing.rest())


@settings(max_examples=60)
@given(st.lists(st.integers(0, len(ANSWER))))
def test_a_text_looks_the_same_however_it_was_cut(cuts: list[int]) -> None:
    assert blocks_of(chunks(ANSWER, cuts)) == blocks_of([ANSWER])


_LINE = st.sampled_from(
    [
        *ANSWER.split("\n"),
        *("", "```", "~~~", "- a", "  - b", "1. x", "> q", "---", "===", "    code", "a | b", "-|-", "text"),
    ]
)


@settings(max_examples=150)
@given(st.lists(_LINE, max_size=25).map("\n".join), st.lists(st.integers(0, 500)))
def test_any_text_looks_the_same_however_it_was_cut(text: str, cuts: list[int]) -> None:
    assert blocks_of(chunks(text, cuts)) == blocks_of([text])


@settings(max_examples=40)
@given(st.lists(st.integers(0, len(ANSWER)), max_size=30), st.integers(4, 30))
def test_the_screen_ends_as_if_it_was_drawn_once(cuts: list[int], rows: int) -> None:
    pieces = [TextDelta(piece, "a") for piece in chunks(ANSWER, cuts)]
    streamed = on_terminal([*pieces, Done("stop")], rows=rows, colour=True)
    whole = on_terminal([TextDelta(ANSWER, "a"), Done("stop")], rows=500)
    assert streamed.text == whole.text


def test_a_block_longer_than_the_screen_shows_its_tail_and_comes_out_whole() -> None:
    lines = [f"line {number}\n" for number in range(100)]
    events: list[Event] = [TextDelta("```\n"), *map(TextDelta, lines), TextDelta("```\n"), Done("stop")]
    assert on_terminal(events, rows=10).text == "".join(lines).rstrip()


def test_only_the_last_block_is_drawn_again() -> None:
    terminal, clock = Terminal(), Clock()
    view = rendered(terminal, clock=clock)
    view.begin("m")
    view.feed(TextDelta("first\n\nsec"))
    clock.now = 2
    view.flush()
    assert terminal.text == "first\n\nsec\n\nm · 2 s"
    view.feed(TextDelta("ond"))
    clock.now = 3
    view.flush()
    assert terminal.lines[2] == "second"
    view.close(fold([Done("stop")]), "")
    assert terminal.text == "first\n\nsecond"


def test_a_half_written_marker_is_not_shown() -> None:
    growing = Growing(layout_console(io.StringIO(), colour=False))
    growing.feed("text\n-")
    assert growing.unfinished() == ["text"]


def test_reasoning_is_dim_and_apart_from_the_answer() -> None:
    out = io.StringIO()
    show(rendered(out, colour=True), [ReasoningDelta("hm\x1b"), TextDelta("so"), Done("stop")])
    assert "\x1b[2mhm\\x1b" in out.getvalue()
    assert on_terminal([ReasoningDelta("hm"), TextDelta("so"), Done("stop")]).text == "hm\n\nso"


def test_activity_is_shown_as_it_happens() -> None:
    output = "".join(f"{number}\x1b\r\n" for number in range(8))
    events: list[Event] = [
        Plan((Step("look", "active"), Step("mend", "pending")), "Do it"),
        Plan((Step("look", "active"), Step("mend", "pending")), "Do it"),
        Commentary("I look", "c"),
        ToolEvent("1", "command", "started", "/bin/bash -lc 'ls -l'"),
        ToolEvent("1", "command", "output", output),
        ToolEvent("1", "command", "finished", "", ok=False),
        ToolEvent("2", "mcp:s/t", "started", '{"a": 1}'),
        ToolEvent("2", "mcp:s/t", "finished", "fine"),
        FileChange("a\x07.py", "@@ -1 +1 @@\n-old\n+new", "update"),
        FileChange("b.py", "new\nfile\n", "add"),
        FileChange("c.py", "", "delete"),
        Notice("limit", "80 % is used"),
        Approval("1", "command", "rm x"),
        TextDelta("done", "a"),
        Usage(1, 1),
        Done("stop"),
    ]
    seen = on_terminal(events).text.split("\n\n")
    assert seen == [
        "Plan Do it\n▸ look\n· mend",
        "I look",
        "$ ls -l\n  … 3 more lines\n" + "\n".join(f"  {n}\\x1b" for n in range(3, 8)) + "\n  failed",
        's/t {"a": 1}\n  fine',
        "changed a\\x07.py\n@@ -1 +1 @@\n-old\n+new",
        "added b.py\nnew\nfile",
        "deleted c.py",
        "! 80 % is used",
        "Waits for approval of command: rm x",
        "done",
    ]


def test_a_diff_is_coloured() -> None:
    out = io.StringIO()
    show(rendered(out, colour=True), [FileChange("a", "-old\n+new", "update"), Done("stop")])
    assert "\x1b[31m-old" in out.getvalue()
    assert "\x1b[32m+new" in out.getvalue()


def test_a_running_command_is_seen_and_kept_when_the_turn_breaks_off() -> None:
    terminal, clock = Terminal(), Clock()
    view = rendered(terminal, clock=clock)
    view.begin("m")
    clock.now = 2
    view.feed(ToolEvent("1", "command", "started", "sleep 9"))
    view.feed(ToolEvent("1", "command", "output", "zz\n"))
    view.flush()
    assert terminal.text.startswith("$ sleep 9\n  zz")
    view.close(fold([]), "")
    assert terminal.text == "$ sleep 9\n  zz\n  interrupted"


@settings(max_examples=100)
@given(st.lists(st.text(min_size=1), max_size=5), st.text())
def test_no_text_of_a_model_moves_the_cursor(texts: list[str], name: str) -> None:
    events: list[Event] = [ReasoningDelta(text) for text in texts]
    events += [
        ToolEvent("1", name, "started", name),
        ToolEvent("1", name, "output", name),
        ToolEvent("1", name, "finished", name),
        FileChange(name, name, "update"),
        Plan((Step(name, "done"),), name),
        Notice(name, name),
        *[TextDelta(text) for text in texts],
        Done("stop"),
    ]
    on_terminal(events)  # Terminal fails on any sequence that is not ours


def test_a_terminal_made_narrower_is_counted_anew() -> None:
    written = io.StringIO()
    columns = [40, 20]
    screen = Screen(written, lambda: terminal_size((columns[0], 24)))
    screen.draw([], ["x" * 35, ""])
    columns.pop(0)
    screen.draw([], ["y"])
    assert "\x1b[3A" in written.getvalue()
