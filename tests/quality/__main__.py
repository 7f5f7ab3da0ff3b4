"""`make quality`: how often the memory finds what is meant, by words, by meaning, and by both together.

Each packaged model has a memory of its own, with all notes of the set, in a SQLite file. No network.
"""

import argparse
import asyncio
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from codexgate.backends.demo import Demo
from codexgate.backends.local import Local
from codexgate.embedding import Embedding, EmbeddingOptions
from codexgate.memory import Memory
from codexgate.records import Draft, Entry, Filter, Kept
from codexgate.stores.sqlite_memory import Memories
from tests.quality.labelled import KINDS, Labelled, read

MODELS = ("local-fast", "local")
"""What `embeddings.provider` can be without a network."""
DEPTH = 10
"""Places that are looked at; what comes later counts as not found."""

Ranks = list[int]
"""The place of each query's note, from 1; 0: not found."""


class Score(NamedTuple):
    """How well queries were answered, each from 0 to 1."""

    recall_1: float
    """How many found their note in the first place."""
    recall_5: float
    mrr: float
    """The mean of 1/place."""


def score(ranks: Ranks) -> Score:
    """What the places of at least one query's note come to."""
    return Score(
        sum(rank == 1 for rank in ranks) / len(ranks),
        sum(0 < rank <= 5 for rank in ranks) / len(ranks),
        sum(1 / rank for rank in ranks if rank) / len(ranks),
    )


async def measure(labelled: Labelled, models: Sequence[str]) -> dict[str, Ranks]:
    """The places that every way of finding gives. Raises GateError."""
    ways: dict[str, Ranks] = {}
    for model in models:
        with tempfile.TemporaryDirectory() as folder:
            ways |= await _measure(labelled, model, Path(folder) / "memory.db")
    return ways


async def _measure(labelled: Labelled, model: str, path: Path) -> dict[str, Ranks]:
    options = EmbeddingOptions(provider=model)  # type: ignore[arg-type]  # one of the names that it takes
    embedding = Embedding({"local": Local, "demo": Demo}, options)
    store = Memories(path)
    memory = Memory(store, embedding)
    try:
        kept = await memory.persist_many([Draft(note) for note in labelled.notes.values()], force=True)
        id, size = await embedding.choose()
        vectors = await embedding.embed([query.text for query in labelled.queries], id, size)
        pairs = zip(labelled.notes, kept, strict=True)
        ids = {each.entry.id: name for name, each in pairs if isinstance(each, Kept)}

        def place(entries: Sequence[Entry], meant: str) -> int:
            return next((rank for rank, entry in enumerate(entries, 1) if ids[entry.id] == meant), 0)

        worded, near, fused = Ranks(), Ranks(), Ranks()
        for query, vector in zip(labelled.queries, vectors, strict=True):
            worded.append(place(await store.worded(query.text, Filter(), DEPTH), query.id))
            nearest = await store.near(vector, id, Filter(), DEPTH)
            near.append(place([entry for entry, _ in nearest], query.id))
            matches = await memory.retrieve(query.text, limit=DEPTH)
            fused.append(place([match.entry for match in matches], query.id))
    finally:
        await memory.aclose()
    return {"words": worded, model: near, f"{model}+words": fused}


def scores(labelled: Labelled, ways: dict[str, Ranks]) -> dict[str, dict[str, Score]]:
    """By way of finding, and by kind of query, of the kinds that there are; the first is "all"."""
    of = [query.kind for query in labelled.queries]
    return {
        way: {"all": score(ranks)}
        | {
            kind: score([rank for rank, its in zip(ranks, of, strict=True) if its == kind])
            for kind in KINDS
            if kind in of
        }
        for way, ranks in ways.items()
    }


def table(labelled: Labelled, found: dict[str, dict[str, Score]]) -> str:
    """Of at most 80 columns: a row for each way, three figures for each kind."""
    kinds = list(next(iter(found.values())))
    counts = {kind: sum(query.kind == kind for query in labelled.queries) for kind in kinds}
    counts["all"] = len(labelled.queries)
    lines = [
        " " * 16 + "".join(f"  {f'{kind} {counts[kind]}':14}" for kind in kinds),
        " " * 16 + "   R@1  R@5  MRR" * len(kinds),
    ]
    for way, by_kind in found.items():
        figures = "".join("  " + " ".join(f"{figure:.2f}" for figure in each) for each in by_kind.values())
        lines.append(f"{way:16}{figures}")
    return "\n".join(line.rstrip() for line in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, or with `--json` the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.quality", description="How well the memory finds.")
    parser.add_argument("--model", action="append", choices=[*MODELS, "demo"], help="instead of both models")
    parser.add_argument("--notes", type=int, help="only the first ones of the set")
    parser.add_argument("--json", action="store_true", help="figures for programs")
    options = parser.parse_args(arguments)
    labelled = read()
    if options.notes:
        labelled = labelled.first(options.notes)
    found = scores(labelled, asyncio.run(measure(labelled, options.model or MODELS)))
    if options.json:
        figures = {way: {kind: each._asdict() for kind, each in by.items()} for way, by in found.items()}
        print(json.dumps({"notes": len(labelled.notes), "queries": len(labelled.queries), "scores": figures}))  # noqa: T201
    else:
        print(f"{len(labelled.notes)} notes, {len(labelled.queries)} queries\n\n{table(labelled, found)}")  # noqa: T201


if __name__ == "__main__":
    main()
