"""Readers of what others have kept: each format from a sample, what is wrong told with its line."""

import io
import json
import sys
import tracemalloc
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest

from codexgate.imports.elements import elements
from codexgate.imports.formats import Format, detect, read
from codexgate.imports.items import LONGEST_LINE, NOT_UTF8, Bad, Found, moment
from codexgate.imports.text import OVERLAP, SIZE, pieces
from codexgate.records import Draft


def found(text: str, format: Format | None = None, path: str = "x") -> list[Found | Bad]:
    format = format or detect(text, path)
    assert format
    return [*read(io.StringIO(text, newline=""), path, format, text)]


def drafts(text: str, format: Format | None = None, path: str = "x") -> list[Draft]:
    items = found(text, format, path)
    assert [item for item in items if isinstance(item, Bad)] == []
    return [item.draft for item in items if isinstance(item, Found)]


def lines(objects: Iterable[Any]) -> str:
    return "".join(f"{json.dumps(each)}\n" for each in objects)


# Samples

OURS = {
    "id": "0b7f0a3e-6f0e-4d67-9d55-51d5a3e3d7d0",
    "namespace": "work",
    "content": "The deploy key is rotated in May.",
    "summary": "keys",
    "tags": ["ops"],
    "metadata": {"n": 1},
    "source": "cli",
    "created": 1700000000.25,
    "accessed": None,
    "model": "local/local",
    "dimension": 384,
    "hash": "00",
    "vector": [0.0, 1.0],
}
MEM0 = {
    "id": "892db2ae",
    "memory": "Likes tea more than coffee",
    "hash": "ab",
    "user_id": "anna",
    "categories": ["food"],
    "metadata": {"via": "chat"},
    "created_at": "2024-07-20T01:30:36.275141-07:00",
    "updated_at": None,
}
ENTITY = {
    "type": "entity",
    "name": "Anna",
    "entityType": "person",
    "observations": ["likes tea", "lives in Ulm"],
}
RELATION = {"type": "relation", "from": "Anna", "to": "Acme", "relationType": "works_at"}


def said(id: str, parent: str | None, role: str, *parts: Any, **more: Any) -> tuple[str, dict[str, Any]]:
    content = {"content_type": "text", "parts": parts}
    message = {"id": id, "author": {"role": role}, "content": content, "create_time": 100.0, **more}
    return id, {"id": id, "message": message, "parent": parent, "children": []}


CHATGPT = {
    "title": "Bread",
    "create_time": 90.0,
    "mapping": dict(
        [
            ("root", {"id": "root", "message": None, "parent": None, "children": ["s"]}),
            said("s", "root", "system", ""),
            said("q", "s", "user", "How long does dough rise?"),
            said("old", "q", "assistant", "An hour."),
            said("t", "q", "assistant", "search('dough')", recipient="browser"),
            said("a", "t", "assistant", "Two hours, in the cold a night.", {"asset_pointer": "file://x"}),
            said("q2", "a", "user", "And rye?", create_time=200.0),
            said("a2", "q2", "assistant", "Longer."),
        ]
    ),
    "current_node": "a2",
    "conversation_id": "c-1",
}
CLAUDE = {
    "uuid": "u-1",
    "name": "Tea",
    "created_at": "2025-01-02T03:04:05.000000Z",
    "account": {"uuid": "me"},
    "chat_messages": [
        {
            "uuid": "m1",
            "sender": "human",
            "text": "How hot?",
            "content": [{"type": "text", "text": "How hot?"}],
            "attachments": [{"file_name": "tea.txt", "extracted_content": "Green tea is tender."}],
            "created_at": "2025-01-02T03:04:06Z",
        },
        {
            "uuid": "m2",
            "sender": "assistant",
            "text": "80 °C.",
            "content": [{"type": "tool_use", "name": "x", "input": {}}, {"type": "text", "text": "80 °C."}],
            "attachments": [],
        },
        {"uuid": "m3", "sender": "human", "text": "Thanks", "content": [], "attachments": []},
    ],
}
CSV = 'Content,namespace,summary,tags,source,created,Colour\n"Two\nlines",n,s,"a, b;c",me,2026-01-31,red\nplain\n'
MARKDOWN = "# Guide\n\nIntro.\n\n## Add a backend\n\n```sh\n# no heading\n```\n\nBuild\n=====\nmake\n"


# What an export of ours says


def test_an_export_of_ours_is_read_whole_and_its_id_is_its_key() -> None:
    (draft,) = drafts(lines([OURS]))
    assert draft == Draft(
        content="The deploy key is rotated in May.",
        namespace="work",
        summary="keys",
        tags=("ops",),
        metadata={"n": 1},
        source="cli",
        key="0b7f0a3e-6f0e-4d67-9d55-51d5a3e3d7d0",
        created=1700000000.25,
    )


def test_a_line_may_hold_no_more_than_its_content() -> None:
    (draft,) = drafts('{"content":"a"}', path="notes.jsonl")
    assert (draft.content, draft.namespace, draft.source, draft.created) == ("a", "", "notes.jsonl", 0)
    assert draft.key.startswith("notes.jsonl#")


# What others' say


def test_mem0() -> None:
    for text in (lines([MEM0]), json.dumps([MEM0]), json.dumps({"count": 1, "results": [MEM0]}, indent=2)):
        (draft,) = drafts(text)
        assert (draft.content, draft.tags, draft.source) == ("Likes tea more than coffee", ("food",), "mem0")
        assert draft.metadata == {"via": "chat", "user_id": "anna"}
        assert draft.created == pytest.approx(1721464236.275141)
        assert draft.key.startswith("mem0:892db2ae#")


def test_server_memory() -> None:
    items = drafts(lines([ENTITY, RELATION, {"type": "entity", "name": "Ulm", "entityType": "city"}]))
    assert [(item.content, item.tags) for item in items] == [
        ("Anna: likes tea", ("person",)),
        ("Anna: lives in Ulm", ("person",)),
        ("Anna works at Acme", ("relation",)),
        ("Ulm: city", ("city",)),
    ]
    assert items[0].metadata == {"entity": "Anna", "type": "person"}
    assert items[2].metadata == {"from": "Anna", "relation": "works_at", "to": "Acme"}


def test_chatgpt_questions_with_their_answers_on_the_branch_shown_last() -> None:
    first, second = drafts(json.dumps([CHATGPT]))
    assert first.content == "User: How long does dough rise?\n\nAssistant: Two hours, in the cold a night."
    assert first.summary == "Bread: How long does dough rise?"
    assert first.metadata == {"conversation": "c-1", "title": "Bread"}
    assert (first.source, first.created) == ("chatgpt", 100)
    assert second.content == "User: And rye?\n\nAssistant: Longer."
    assert second.created == 200


def test_a_conversation_whose_tree_is_broken_is_read_by_time_and_ends() -> None:
    broken = {**CHATGPT, "current_node": "gone"}
    assert "An hour." in drafts(json.dumps([broken]))[0].content
    loop = {**CHATGPT, "current_node": "q", "mapping": dict([said("q", "q", "user", "hi")])}
    assert [each.content for each in drafts(json.dumps([loop]))] == ["User: hi"]


def test_claude_with_the_text_of_what_was_attached() -> None:
    first, second = drafts(json.dumps([CLAUDE], indent=1))
    assert first.content == "User: How hot?\n\nGreen tea is tender.\n\nAssistant: 80 °C."
    assert first.summary == "Tea: How hot?"
    assert first.created == moment("2025-01-02T03:04:06Z")
    assert second.content == "User: Thanks"
    assert second.created == moment("2025-01-02T03:04:05Z")


def test_a_long_answer_is_several_memories_of_one_question() -> None:
    answer = " ".join(f"Sentence {n} says something." for n in range(200))
    long = {**CLAUDE, "chat_messages": [CLAUDE["chat_messages"][2], {"sender": "assistant", "text": answer}]}  # type: ignore[index]
    items = drafts(json.dumps([long]))
    assert len(items) > 3
    assert {item.summary for item in items} == {"Tea: Thanks"}
    assert len({item.key for item in items}) == len(items)


def test_csv_by_the_names_of_its_columns() -> None:
    first, second = drafts(CSV)
    assert (first.content, first.namespace, first.summary) == ("Two\nlines", "n", "s")
    assert (first.tags, first.source, first.metadata) == (("a", "b", "c"), "me", {"Colour": "red"})
    assert first.created == moment("2026-01-31")
    assert (second.content, second.source, second.metadata) == ("plain", "x", {})
    assert [each.content for each in drafts("id;content\r\n1;a\r\n")] == ["a"]


def test_markdown_by_headings_which_are_the_summary() -> None:
    items = [item for item in found(MARKDOWN, path="docs/guide.md") if isinstance(item, Found)]
    assert [(item.line, item.draft.summary, item.draft.metadata["lines"]) for item in items] == [
        (1, "Guide", "1-3"),
        (5, "Guide \u203a Add a backend", "5-9"),
        (11, "Build", "11-13"),
    ]
    assert items[1].draft.content == "## Add a backend\n\n```sh\n# no heading\n```"
    assert items[1].draft.metadata["path"] == items[1].draft.source == "docs/guide.md"


def test_headings_without_a_text_stand_with_what_follows() -> None:
    (item,) = drafts("# A\n\n## B\n\ntext\n", "markdown")
    assert (item.content, item.summary) == ("# A\n\n## B\n\ntext", "A \u203a B")


def test_a_preamble_holds_no_headings() -> None:
    items = drafts("---\ntitle: x\n# y\n---\n# Z\n\ntext\n", "markdown")
    assert [item.summary for item in items] == ["", "Z"]


# Pieces


def test_pieces_are_short_and_nothing_is_lost_between_them() -> None:
    text = "\n\n".join(" ".join(f"word{n}.{m}" for m in range(40)) for n in range(30))
    cut = [*pieces(text)]
    assert all(SIZE // 2 <= len(piece.text) <= SIZE for piece in cut[:-1])
    assert set(text.split()) == {word for piece in cut for word in piece.text.split()}
    rows = text.split("\n")
    for piece in cut:
        assert piece.text.split("\n")[0] in rows[piece.first - 1]
        assert piece.text.split("\n")[-1] in rows[piece.last - 1]


def test_a_piece_begins_with_what_the_one_before_ended_with() -> None:
    text = " ".join(f"{n:04}" for n in range(1000))
    cut = [piece.text for piece in pieces(text)]
    for before, after in pairwise(cut):
        again = after[: after.index(before[-4:]) + 4]
        assert before.endswith(again)
        assert 4 <= len(again) <= OVERLAP


@pytest.mark.parametrize("text", ["", "\n \n", "x" * 5000, "\n" * 5000 + "x", "é" * SIZE, "a " * 3000 + "\n"])
def test_any_text_has_pieces_of_its_own_characters(text: str) -> None:
    cut = [piece.text for piece in pieces(text)]
    assert bool(cut) == bool(text.strip())
    assert all(piece in text and len(piece) <= SIZE for piece in cut)


def test_of_an_edited_text_only_what_changed_is_new() -> None:
    sections = [f"# S{n}\n\nText of {n}.\n\n" for n in range(9)]
    before = {item.key for item in drafts("".join(sections), "markdown")}
    sections.insert(0, "# New\n\nText.\n\n")
    assert len({item.key for item in drafts("".join(sections), "markdown")} - before) == 1


# Formats


@pytest.mark.parametrize(
    ("head", "name", "format"),
    [
        (lines([OURS]), "x", "codexgate"),
        (
            lines([{**OURS, "content": 'they write "memory": "x"', "metadata": {"memory": "x"}}]),
            "x",
            "codexgate",
        ),
        ('{"cut', "x.jsonl", "codexgate"),
        (lines([MEM0]), "x.json", "mem0"),
        (json.dumps([CHATGPT]), "conversations.json", "chatgpt"),
        (json.dumps([CLAUDE]), "conversations.json", "claude"),
        (lines([ENTITY]), "memory.json", "server-memory"),
        (lines([RELATION]), "memory.jsonl", "server-memory"),
        (CSV, "x", "csv"),
        ("a\tcontent\n", "x.tsv", "csv"),
        ("a,b\n1,2\n", "x.csv", None),
        ('{"name":"p","dependencies":{}}', "package.json", None),
        ("# A\n", "README", "markdown"),
        ("content, as they say\n", "x.md", "markdown"),
        ("# not a heading", "x.txt", "text"),
        ("Dear Anna,\n", "x", "text"),
        ("", "x.txt", "text"),
        ("[1] a footnote\n", "x.txt", "text"),
        ("Dear Anna,\rall is well.\r", "x.txt", "text"),
        ("content,a\rb,c\r", "x", "csv"),
        ("", "x.json", "text"),
        ("\r\n", "x.csv", "text"),
    ],
)
def test_the_format_is_told_by_the_content(head: str, name: str, format: str | None) -> None:
    assert detect(head, name) == format


# What is wrong


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "This is not JSON: it ends in the middle."),
        ('{"content":"\\ud800"}', "This holds half of a character (a lone surrogate)."),
        ('{"content":"\\udc00"}', "This holds half of a character (a lone surrogate)."),
        ('{"content":"a\\ud800\\u0041"}', "This holds half of a character (a lone surrogate)."),
        ('{"content":"\\\\ud800","x":', "This is not JSON: it ends in the middle."),
        ("oops", "This is not JSON: invalid character (byte 0)."),
        ("[]", "Expected `object`, got `array`."),
        ('{"summary":"x"}', "Object missing required field `content`."),
        ('{"content":1}', "Expected `str`, got `int` - at `$.content`."),
        (
            '{"content":"a","created":"yesterday"}',
            "'yesterday' is no time: neither Unix seconds nor ISO 8601.",
        ),
        ('{"content":"a","created":1700000000000}', "1.7e+12 is no time in Unix seconds."),
        ('{"content":"a","id":5}', "Expected `str | null`, got `int` - at `$.id`."),
        ('{"content":"a","x":' + "[" * 100_000, "This is nested too deeply."),
        ('{"content":"\udcff"}', NOT_UTF8),
        ('{"content":"' + "a" * LONGEST_LINE + '"}', f"The line is longer than {LONGEST_LINE:,} characters."),
    ],
)
def test_a_bad_line_is_told_and_the_others_are_read(line: str, message: str) -> None:
    first, bad, last = found(f'{{"content":"a"}}\n{line}\r\n\n{{"content":"b"}}', "codexgate")
    assert isinstance(first, Found) and isinstance(last, Found)
    assert bad == Bad(message, 2)
    assert (last.draft.content, last.line) == ("b", 4)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,b,c", "The row has 3 cells, the header 2."),
        (",b", "The row has no content."),
        ('"a"b,c', "',' expected after '\"'."),
        ("\udcff,b", NOT_UTF8),
    ],
)
def test_a_bad_row_is_told_and_the_others_are_read(row: str, message: str) -> None:
    _, bad, last = found(f"content,x\na,b\n{row}\n\nlast,b\n", "csv")
    assert bad == Bad(message, 3)
    assert isinstance(last, Found) and (last.draft.content, last.line) == ("last", 5)


def test_a_quote_that_nothing_closes_takes_no_other_row() -> None:
    rows = "".join(f"row {n},x\n" for n in range(100))
    for wrong in ('"open,x\n', 'open,"x\n'):
        first, bad, *others = found(f'content,x\n"a\nb",x\n{wrong}{rows}', "csv")
        assert isinstance(first, Found) and first.draft.content == "a\nb"
        assert isinstance(bad, Bad) and bad.line == 4
        assert [(each.line, each.draft.content) for each in others if isinstance(each, Found)] == [
            (n + 5, f"row {n}") for n in range(100)
        ]
    first, bad, second, third, last = found('content\na\n"open\nb\n"c"\nd\n', "csv")
    assert (bad.line, isinstance(bad, Bad)) == (3, True)
    assert [each.draft.content for each in (first, second, third, last) if isinstance(each, Found)] == [
        *"abcd"
    ]


def test_a_cell_may_be_longer_than_a_memory_which_is_told_by_who_keeps_it() -> None:
    cell = "long\n" * 100_000
    (draft, other) = drafts(f'content\n"{cell}"\nb\n', "csv")
    assert (draft.content, other.content) == (cell, "b")


def test_a_conversation_of_another_shape_does_not_hide_the_others() -> None:
    text = json.dumps([{"mapping": {"a": {"message": 1}}}, CHATGPT], indent=1)
    bad, *others = found(text, "chatgpt")
    assert isinstance(bad, Bad) and bad.line == 2 and "$.mapping" in bad.message
    assert len(others) == 2


@pytest.mark.parametrize("format", ["chatgpt", "claude"])
def test_an_array_that_is_cut_off_is_told(format: Format) -> None:
    whole = json.dumps([CHATGPT if format == "chatgpt" else CLAUDE] * 2)
    *_, bad = found(whole[: len(whole) - 100], format)
    assert bad == Bad("The file ends in the middle.", 1)


def test_an_array_that_is_none_is_told() -> None:
    assert found("[", "mem0") == [Bad("The file ends in the middle.", 1)]
    assert [*elements(io.StringIO("{}"))] == [Bad("There is no JSON array here.", 1)]


@pytest.mark.parametrize(
    ("sample", "format"),
    [(OURS, "codexgate"), (CHATGPT, "chatgpt"), (MEM0, "mem0")],
    ids=["ours", "chatgpt", "mem0"],
)
def test_an_object_over_several_lines_is_read_as_one(sample: dict[str, Any], format: Format) -> None:
    text = json.dumps(sample, indent=2)
    assert drafts(text) == drafts(json.dumps(sample), format) != []
    first, *_ = found(f"{text}\r\n{text}\n")
    *_, last = found(f"{text}\r\n{text}\n")
    assert isinstance(first, Found) and first.line == 1
    assert isinstance(last, Found) and last.line == text.count("\n") + 2
    assert drafts(f"{text}{text}") == 2 * drafts(text)


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ('[{"content":"a"},\n5, "x",\n{"content":"b"}, null\n]', [(2, "no object"), (3, "no object")]),
        ('[{"content":"a"}]\n[{"content":"b"}]\n', [(1, "not read")]),
        ('[{"content":"a"}]\n' + " " * 600_000 + "x", [(1, "not read")]),
        ('[{"content":"a"}]\n' + " " * 600_000, []),
        ('{\n"content":"a"\n}\noops\n{"content":"b"}', [(4, "no object")]),
        ('{\n"content":"a"\n}\noops', [(4, "no object")]),
        ('{\n"content":"a"\n}}\n{"content":"b"}', [(3, "not read")]),
        ('{\n"content":"a",', [(1, "in the middle")]),
        ('{"page": 1, "results": [{"memory":"a"}], "more": [5]}', []),
    ],
)
def test_nothing_in_an_array_or_behind_it_is_lost_in_silence(text: str, bad: list[tuple[int, str]]) -> None:
    told = [(each.line, each.message) for each in found(text) if isinstance(each, Bad)]
    assert [line for line, _ in told] == [line for line, _ in bad]
    assert all(part in message for (_, message), (_, part) in zip(told, bad, strict=True))


def test_lines_may_end_as_they_like() -> None:
    text = "# Title\none\n\n# Other\ntwo\n"
    for end in ("\r", "\r\n"):
        for format in ("markdown", "text"):
            assert found(text.replace("\n", end), format) == found(text, format)
    assert [each.content for each in drafts("content,x\ra,b\rc,d\r", "csv")] == ["a", "c"]


def test_text_that_is_no_utf_8_is_told_with_its_line() -> None:
    items = found("good\nb\udce4d\nlast\n", "text")
    assert Bad(NOT_UTF8, 2) in items
    (draft,) = [item.draft for item in items if isinstance(item, Found)]
    assert draft.content == "good\n\nlast"


# Arrays


def test_objects_of_an_array_are_found_wherever_the_reads_cut_them(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = [{"a": '}{][\\"', "b": [{"c": "\n\\"}]}, {}, {"é": [[]]}]
    text = '{"n": "[", "results":\n' + json.dumps([1, *objects, "x"], indent=1, ensure_ascii=False) + "}"
    for size in (1, 2, 3, 7, 1000):
        monkeypatch.setattr("codexgate.imports.elements.READ", size)
        seen = [each for each in elements(io.StringIO(text)) if not isinstance(each, Bad)]
        assert [json.loads(each) for _, each in seen] == objects
        assert [line for line, _ in seen] == [4, 12, 13]


def test_an_object_without_an_end_is_not_kept_in_memory() -> None:
    seen = [*elements(io.StringIO('[{"a": "' + "x" * 10_000_000), longest=1000)]
    assert isinstance(seen[-1], Bad) and "1,000 characters" in seen[-1].message


class Endless(io.TextIOBase):
    """A text of many megabytes that is made while it is read."""

    def __init__(self, first: str, line: str, count: int) -> None:
        self._first, self._line, self._left = first, line, count

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]
        self._left -= 1
        line, self._first = self._first or self._line, ""
        return line if self._left >= 0 else ""

    def read(self, size: int | None = -1, /) -> str:
        return "".join(self.readline() for _ in range(100))


@pytest.mark.parametrize("format", ["codexgate", "csv", "markdown", "text", "chatgpt"])
def test_a_large_file_takes_little_memory(format: Format) -> None:
    line = {
        "codexgate": json.dumps({"content": "x" * 5000}) + "\n",
        "csv": "y" * 5000 + "\n",
        "chatgpt": json.dumps(CHATGPT) + ",\n",
    }.get(format, "word " * 1000 + "\n")
    first = {"csv": "content\n", "chatgpt": "[\n"}.get(format, line)
    stream = Endless(first, line, 1500)
    tracemalloc.start()
    count = len([None for _ in read(stream, "x", format, first)])  # type: ignore[arg-type]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count > 1000
    assert peak < 3_000_000


# Times


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, 0),
        ("", 0),
        (12.5, 12.5),
        ("12.5", 12.5),
        ("1970-01-02", 86400),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:01Z", 1),
    ],
)
def test_moments(text: str | float | None, seconds: float) -> None:
    assert moment(text) == seconds


@pytest.mark.parametrize("text", ["tomorrow", "nan", "inf", "-5", sys.float_info.max, 1.7e12])
def test_what_is_no_moment(text: str | float) -> None:
    with pytest.raises(ValueError, match="is no time"):
        moment(text)
