"""The labelled set: notes, and queries of which each means one of them. Knows nothing of the memory.

`notes.tsv` is written by hand. Its kinds: `paraphrase`, the query has hardly a word of its note;
`identifier`, it is a name, a code or a command; `near-alike`, other notes differ in little but a name
or a number.
"""

import csv
from pathlib import Path
from typing import NamedTuple

KINDS = ("paraphrase", "identifier", "near-alike")
COLUMNS = ["id", "note", "query", "kind"]
FILE = Path(__file__).with_name("notes.tsv")


class Query(NamedTuple):
    """What somebody looks for, and the id of the note that is meant."""

    text: str
    id: str
    kind: str


class Labelled(NamedTuple):
    """Notes by id, and queries of them."""

    notes: dict[str, str]
    queries: list[Query]

    def first(self, count: int) -> "Labelled":
        """The first `count` notes with their queries."""
        notes = dict(list(self.notes.items())[:count])
        return Labelled(notes, [query for query in self.queries if query.id in notes])


def read(path: Path = FILE) -> Labelled:
    """The set in a file: columns id, note, query, kind. A row without a note is one more query of its id.

    Raises ValueError for a row that says something else.
    """
    labelled = Labelled({}, [])
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, "excel-tab", quoting=csv.QUOTE_NONE)
        if next(rows, None) != COLUMNS:
            raise ValueError(f"{path.name}: the columns are {', '.join(COLUMNS)}")
        for number, row in enumerate(rows, 2):
            if len(row) != len(COLUMNS) or not row[2] or row[3] not in KINDS:
                raise ValueError(f"{path.name}:{number}: not an id, a note, a query and a kind")
            id, note, text, kind = row
            if bool(note) == (id in labelled.notes):
                raise ValueError(f"{path.name}:{number}: {id} has {'two notes' if note else 'no note'}")
            if note:
                labelled.notes[id] = note
            labelled.queries.append(Query(text, id, kind))
    return labelled
