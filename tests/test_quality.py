"""The set that the memory's quality is measured with is in order, and so is what measures it."""

import json
import re
from pathlib import Path

import pytest

from tests.quality.__main__ import main, score
from tests.quality.labelled import COLUMNS, KINDS, read

SET = read()
WORD = re.compile(r"[^\W_]+")


def test_there_are_enough_notes_and_queries_of_every_kind() -> None:
    assert len(SET.notes) >= 220
    assert len(SET.queries) >= 200
    assert all(sum(query.kind == kind for query in SET.queries) >= 30 for kind in KINDS)


def test_every_query_means_a_note_and_every_note_is_meant() -> None:
    assert {query.id for query in SET.queries} == SET.notes.keys()


def test_nothing_is_there_twice() -> None:
    assert len({query.text.casefold() for query in SET.queries}) == len(SET.queries)
    assert len({note.casefold() for note in SET.notes.values()}) == len(SET.notes)


def test_a_paraphrase_has_few_of_its_notes_words() -> None:
    def long(text: str) -> set[str]:
        return {word for word in WORD.findall(text.casefold()) if len(word) > 3}

    shared = [
        len(long(query.text) & long(SET.notes[query.id]))
        for query in SET.queries
        if query.kind == "paraphrase"
    ]
    assert max(shared) <= 2
    assert sum(shared) / len(shared) < 0.5


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (["id\tnote"], "columns"),
        (["a\tA note.\tA query?"], "not an id, a note, a query and a kind"),
        (["a\tA note.\tA query?\tguess"], "not an id, a note, a query and a kind"),
        (["a\t\tA query?\tparaphrase"], "a has no note"),
        (["a\tA note.\tA query?\tparaphrase", "a\tAnother.\tAnother?\tparaphrase"], "a has two notes"),
    ],
)
def test_a_row_that_is_wrong_is_told_with_its_reason(tmp_path: Path, rows: list[str], reason: str) -> None:
    path = tmp_path / "notes.tsv"
    header = [] if reason == "columns" else ["\t".join(COLUMNS)]
    path.write_text("\n".join([*header, *rows]), "utf-8")
    with pytest.raises(ValueError, match=reason):
        read(path)


def test_figures_are_of_the_places_where_notes_were_found() -> None:
    assert score([1, 2, 5, 10, 0]) == pytest.approx((0.2, 0.6, (1 + 1 / 2 + 1 / 5 + 1 / 10) / 5))


def test_the_table_has_a_row_for_each_way_and_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--model", "demo", "--notes", "20"])
    lines = capsys.readouterr().out.splitlines()
    first = SET.first(20)
    assert lines[0] == f"20 notes, {len(first.queries)} queries"
    assert [line.split()[0] for line in lines[4:]] == ["words", "demo", "demo+words"]
    assert all(len(line) <= 80 for line in lines)


def test_programs_get_the_same_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--model", "demo", "--notes", "20", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["notes"] == 20
    assert report["scores"].keys() == {"words", "demo", "demo+words"}
    for by_kind in report["scores"].values():
        assert all(0 <= figures["recall_1"] <= figures["recall_5"] <= 1 for figures in by_kind.values())
        assert 0 < by_kind["all"]["mrr"] <= 1


def test_the_default_finds_far_more_than_words_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["--model", "local", "--notes", "60", "--json"])
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert scores["local+words"]["all"]["recall_1"] > 2 * scores["words"]["all"]["recall_1"]
