"""`make bench-memory`: what the memory does in a second at 100,000 entries, on both stores.

Measured in one run beside what limits it: the bare model for imports, a bare NumPy product of matrix and
vector for questions. Not part of `make test`.
"""

import argparse
import asyncio
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codexgate.assemble import open_memory
from codexgate.backends.local import Local
from codexgate.config import Secret
from codexgate.embedding import EmbeddingOptions
from codexgate.errors import GateError
from codexgate.memory import Memory
from codexgate.records import Draft, Filter
from codexgate.settings import Settings
from codexgate.stores.memory import MemoryOptions
from tests.servers.postgres import Postgres

BATCH = 512
"""Entries of one call."""
AT_ONCE = 2
"""Calls under way: while one writes, the next is embedded."""
QUESTIONS = 200
SYLLABLES = "ba ke li mo nu ra se ti vo za dro ple sku tra fen gor hil jam".split()


def texts(count: int, seed: int = 1) -> list[str]:
    """Sentences of about 25 words, of which few are common and many rare, as in a language."""
    dice = random.Random(seed)
    known = ["".join(dice.choices(SYLLABLES, k=dice.randint(2, 4))) for _ in range(30_000)]
    weights = list(accumulate(1 / (rank + 10) for rank in range(len(known))))
    return [
        " ".join(dice.choices(known, cum_weights=weights, k=dice.randint(10, 40))).capitalize()
        + f" {number}."
        for number in range(count)
    ]


@asynccontextmanager
async def memory(folder: Path, model: str, url: str) -> AsyncIterator[Memory]:
    settings = Settings(
        data_dir=folder,
        embeddings=EmbeddingOptions(provider="local", model=model),
        memory=MemoryOptions(database_url=Secret(url)),
    )
    async with open_memory(settings) as opened:
        yield opened


async def fill(opened: Memory, all_texts: Sequence[str]) -> float:
    """Entries a second."""
    batches = iter([all_texts[at : at + BATCH] for at in range(0, len(all_texts), BATCH)])

    async def work() -> None:
        for batch in batches:
            for kept in await opened.persist_many([Draft(text) for text in batch], force=True):
                if isinstance(kept, GateError):
                    raise kept

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return len(all_texts) / (time.perf_counter() - began)


async def embed_only(model: str, all_texts: Sequence[str]) -> float:
    """Texts a second of the bare model."""
    local = Local()
    await local.embed(model, all_texts[:10])
    began = time.perf_counter()
    for at in range(0, len(all_texts), BATCH):
        await local.embed(model, all_texts[at : at + BATCH])
    rate = len(all_texts) / (time.perf_counter() - began)
    await local.aclose()
    return rate


async def ask(
    opened: Memory, questions: Sequence[str], wanted: Filter, matrix: NDArray[np.float32]
) -> tuple[list[float], list[float]]:
    """Milliseconds of each question, and of bare products before and after them.

    Not between them: the threads of a product go on looking for work for many milliseconds.
    """
    took, bare = [], products(matrix)
    await asyncio.sleep(1)
    await opened.retrieve(questions[0], wanted)
    for question in questions:
        began = time.perf_counter()
        await opened.retrieve(question, wanted)
        took.append((time.perf_counter() - began) * 1000)
    return sorted(took), sorted(bare + products(matrix))


def products(matrix: NDArray[np.float32]) -> list[float]:
    """Milliseconds of each of some products of all vectors and one."""
    took = []
    for vector in matrix[:QUESTIONS].copy():
        began = time.perf_counter()
        matrix @ vector
        took.append((time.perf_counter() - began) * 1000)
    return took


def row(*cells: object) -> None:
    shown = [f"{cell:,.1f}" if isinstance(cell, float) else str(cell) for cell in cells]
    print("| " + " | ".join(shown) + " |", flush=True)  # noqa: T201


def percentile(took: Sequence[float], part: float) -> float:
    return took[min(int(len(took) * part), len(took) - 1)]


async def measure(model: str, count: int, dimension: int, server: Postgres | None = None) -> None:
    kind, url = ("sqlite", "") if server is None else ("postgres", server.url)
    kept = texts(count)
    matrix = np.random.default_rng(1).standard_normal((count, dimension), np.float32)
    questions = [" ".join(text.split()[:6]) for text in random.Random(2).sample(kept, QUESTIONS)]
    with tempfile.TemporaryDirectory(prefix="cg-bench-") as folder:
        async with memory(Path(folder), model, url) as opened:
            rate = await fill(opened, kept)
            if (
                server is not None
            ):  # what it does by itself within a minute, at the cost of who asks meanwhile
                server.run("VACUUM ANALYZE memories.entries")
            for name, wanted in (("all", Filter()), ("one namespace", Filter(("default",)))):
                took, bare = await ask(opened, questions, wanted, matrix)
                p50, product = statistics.median(took), statistics.median(bare)
                row(kind, model, name, rate, p50, percentile(took, 0.99), product, p50 / product)
        if kind == "sqlite":
            command = [sys.executable, "-m", "codexgate", "memory", "retrieve", questions[0]]
            environ = {"CODEXGATE_DATA_DIR": folder, "CODEXGATE_EMBEDDINGS_PROVIDER": model, "PATH": ""}
            began = time.perf_counter()
            ran = await asyncio.to_thread(subprocess.run, command, env=environ, capture_output=True)
            took = [(time.perf_counter() - began) * 1000]
            row(kind, model, f"a fresh process (exit {ran.returncode})", "", took[0], "", "", "")


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--model", default="local-fast")
    parser.add_argument("--store", choices=("sqlite", "postgres"), action="append")
    asked = parser.parse_args()
    dimension = {"local": 384, "local-fast": 256}[asked.model]
    sample = texts(min(asked.count, 20_000 if asked.model == "local-fast" else 2_000))
    row("store", "model", "questions", "entries/s", "p50 ms", "p99 ms", "bare product ms", "ratio")
    row(*["---"] * 8)
    row("the bare model", asked.model, "", await embed_only(asked.model, sample), "", "", "", "")
    for kind in asked.store or ("sqlite", "postgres"):
        if kind == "sqlite":
            await measure(asked.model, asked.count, dimension)
        else:
            server = Postgres(buffers="128MB")  # what it has when nobody says anything
            try:
                await measure(asked.model, asked.count, dimension, server)
            finally:
                server.remove()


if __name__ == "__main__":
    asyncio.run(main())
