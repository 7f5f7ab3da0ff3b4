"""Which model turns memories into vectors, and its vectors: checked, in batches, in time.

Knows embedding models by their ports; nothing of where vectors are kept. A model is named
`PROVIDER/MODEL`, as in `ollama/nomic-embed-text:latest`.
"""

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Literal, Protocol

import msgspec
from msgspec import Meta

from .config import Secret
from .errors import Fault, GateError, invalid
from .ports import Backend, Embedder
from .recall import reembed

HOSTED = "https://api.openai.com/v1"
HOSTED_MODEL = ("text-embedding-3-small", 1536)
SELF_HOSTED_MODEL = ("qwen3-embedding:0.6b", 1024)
BATCH = 64
"""Texts of one call to a server."""
LOCAL_BATCH = 512
"""Texts of one call to a packaged model, which sorts them by length."""
FEW = 16
"""Vectors that are looked at in less time than it takes to hand them to a thread."""
BATCH_CHARACTERS = 400_000
LOOK = 2.0
"""Seconds that Ollama has to tell whether it has an embedding model."""
REMOTE = frozenset(("openai", "ollama"))
"""Providers that may not answer."""

Vector = tuple[float, ...]


class Provider(Backend, Embedder, Protocol):
    """Something that has embedding models."""


class EmbeddingOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What turns memories into vectors."""

    provider: Annotated[
        Literal["", "openai", "ollama", "local", "local-fast", "demo"],
        Meta(
            description="Whose model embeds; empty: a server that is set here, else Ollama's, else `local`."
        ),
    ] = ""
    base_url: Annotated[
        str, Meta(description="OpenAI-compatible server that embeds, as `http://gpu-box:8000/v1`.")
    ] = ""
    api_key: Annotated[Secret, Meta(description="Key that is sent to it; alone it chooses nothing.")] = (
        Secret()
    )
    model: Annotated[str, Meta(description="The model; empty: the provider's first or usual one.")] = ""
    dimension: Annotated[
        int, Meta(ge=0, le=16_000, description="Length of the vectors; 0: what the model gives.")
    ] = 0
    timeout: Annotated[
        float, Meta(gt=0, description="Time that a server has for one batch of texts (seconds).")
    ] = 15
    max_input_chars: Annotated[
        int, Meta(ge=1, description="Characters of one text at most; a longer one is refused.")
    ] = 60_000


class Embedding:
    """The model that the settings mean, and those that embedded what is kept already."""

    def __init__(self, providers: Mapping[str, Callable[[], Provider]], options: EmbeddingOptions) -> None:
        """`providers`: what makes them, by name; made when needed, and closed with this."""
        self._makers = providers
        self._made: dict[str, Provider] = {}
        self._options = options
        self._chosen: tuple[str, int] | None = _settled(options)
        self._choosing = asyncio.Lock()
        self._shortened: set[str] = set()
        """Models that have to be asked for a length: their own is another."""
        self._sizes: dict[str, int] = {}

    @property
    def model(self) -> str:
        """What embeds new namespaces; empty until it is known."""
        return self._chosen[0] if self._chosen else ""

    async def choose(self) -> tuple[str, int]:
        """What embeds new namespaces, and the length of its vectors; 0: what it gives.

        Chosen once: what a model has embedded is found by that model only. Raises GateError.
        """
        async with self._choosing:
            if self._chosen is None:
                found = await self._look()
                self._chosen = (found, self._options.dimension)
        return self._chosen

    def may_go_on(self, model: str) -> bool:
        """Whether the settings leave it to `model` to embed more, because it has embedded before."""
        settled = _settled(self._options)
        if settled is not None:
            return settled[0] == model
        return not self._options.provider or model.startswith(f"{self._options.provider}/")

    def named(self, model: str) -> str:
        """The `PROVIDER/MODEL` that a person means by `model`."""
        provider, slash, _ = model.partition("/")
        if slash and provider in self._makers:
            return _tagged(model)
        if model in ("local", "local-fast"):
            return f"local/{model}"
        if model in ("demo", "demo-embed"):
            return "demo/demo-embed"
        provider = self.model.partition("/")[0]
        return _tagged(f"{provider if provider in REMOTE else 'ollama'}/{model}")

    def check(self, text: str, param: str) -> None:
        """Refuse a text that is longer than the settings let through. Raises GateError."""
        limit = self._options.max_input_chars
        if len(text) > limit:
            message = f"The text to be embedded has {len(text):,} characters; at most {limit:,} are."
            raise invalid(message, param, "embedding_input_too_large", "Split it.")

    async def size(self, model: str) -> int:
        """The length of its vectors. Raises GateError."""
        if model not in self._sizes:
            await self.embed(["?"], model)
        return self._sizes[model]

    async def embed(self, texts: Sequence[str], model: str, dimension: int = 0) -> list[Vector]:
        """A unit vector for each of `texts`, of length `dimension` unless that is 0.

        Raises GateError: the provider's; `embedding_timeout`; `dimension_mismatch` with both numbers.
        """
        name, _, id = model.partition("/")
        provider = self._provider(name)
        if name not in REMOTE and model not in self._sizes:
            known = [each.id for each in await provider.models() if "embedding" in each.abilities]
            if known and id not in known:
                raise GateError(
                    Fault(
                        "not_found",
                        f"There is no embedding model '{model}'.",
                        f"There is {' and '.join(f'{name}/{each}' for each in known)}.",
                        "model_not_found",
                    )
                )
        vectors: list[Vector] = []
        for batch in _batches(texts, BATCH if name in REMOTE else LOCAL_BATCH):
            found = await self._embed(provider, model, id, batch, dimension)
            few = len(found) <= FEW
            vectors += _units(found, model) if few else await asyncio.to_thread(_units, found, model)
        return vectors

    async def aclose(self) -> None:
        """Close every provider."""
        for provider in self._made.values():
            await provider.aclose()

    def _provider(self, name: str) -> Provider:
        if name not in self._makers:
            message = f"What is kept was embedded by {name}, which is not known here."
            advice = "Embed it anew: codexgate memory reembed"
            raise GateError(Fault("unavailable", message, advice, "embedding_failed"))
        if name == "openai" and not (self._options.base_url or self._options.api_key):
            message = "OpenAI embeds only with a key, and embeddings.api_key is empty."
            advice = "Set OPENAI_API_KEY, or embeddings.provider to local."
            raise GateError(Fault("unavailable", message, advice, "embedding_failed"))
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    async def _embed(
        self, provider: Provider, model: str, id: str, texts: list[str], dimension: int
    ) -> tuple[Vector, ...]:
        """Vectors as they come, of the right length. A length is asked for only where it has to be."""
        asked = dimension if dimension and model in self._shortened else None
        found = await self._ask(provider, id, texts, asked)
        size = len(found[0])
        self._sizes[model] = size
        if dimension in (0, size):
            return found
        try:
            found = await self._ask(provider, id, texts, dimension)
        except GateError as error:
            if error.fault.kind != "invalid_request":
                raise
        if len(found[0]) != dimension:
            message = f"{model} makes vectors with {size} dimensions; {dimension} are wanted."
            meant = (model, dimension) == self._chosen  # by the settings, and else by what is kept
            begin = f"Set embeddings.dimension to {size}, and run" if meant else "Run"
            advice = f"{begin}: {reembed('', model)}"
            raise GateError(Fault("conflict", message, advice, "dimension_mismatch"))
        self._shortened.add(model)
        self._sizes[model] = dimension
        return found

    async def _ask(
        self, provider: Provider, id: str, texts: list[str], dimension: int | None
    ) -> tuple[Vector, ...]:
        limit = self._options.timeout if provider.name in REMOTE else None
        try:
            async with asyncio.timeout(limit):
                return (await provider.embed(id, texts, dimension)).vectors
        except TimeoutError:
            message = f"The embedding model {id} did not answer within {limit:g} s."
            fault = Fault(
                "timeout", message, "Is it still being loaded?", "embedding_timeout", retryable=True
            )
            raise GateError(fault) from None

    async def _look(self) -> str:
        """A model that is here."""
        if self._options.provider in ("", "ollama"):
            try:
                async with asyncio.timeout(LOOK):
                    models = await self._provider("ollama").models()
            except (GateError, TimeoutError):
                models = ()
                if self._options.provider:
                    raise
            for id in sorted(model.id for model in models if "embedding" in model.abilities):
                return f"ollama/{id}"
            if self._options.provider:
                advice = "Get one: codexgate models pull nomic-embed-text"
                message = "Ollama has no embedding model."
                raise GateError(Fault("unavailable", message, advice, "embedding_failed"))
        here = {model.id for model in await self._provider("local").models()}
        return "local/local" if "local" in here or not here else "local/local-fast"


def _settled(options: EmbeddingOptions) -> tuple[str, int] | None:
    """What the settings say without a look at what is there."""
    provider = options.provider
    if not provider and (options.base_url or (options.model and options.api_key)):
        provider = "openai"
    match provider:
        case "openai":
            usual = SELF_HOSTED_MODEL if options.base_url and HOSTED not in options.base_url else HOSTED_MODEL
            model, dimension = (options.model, 0) if options.model else usual
            return f"openai/{model}", options.dimension or dimension
        case "local" | "local-fast":
            return f"local/{options.model or provider}", options.dimension
        case "demo":
            return f"demo/{options.model or 'demo-embed'}", options.dimension
    return (_tagged(f"ollama/{options.model}"), options.dimension) if options.model else None


def _tagged(model: str) -> str:
    """With the tag that Ollama's models have."""
    return f"{model}:latest" if model.startswith("ollama/") and ":" not in model else model


def _batches(texts: Sequence[str], most: int) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and (len(batch) == most or size + len(text) > BATCH_CHARACTERS):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch


def _units(vectors: Sequence[Vector], model: str) -> list[Vector]:
    return [_unit(vector, model) for vector in vectors]


def _unit(vector: Vector, model: str) -> Vector:
    norm = math.hypot(*vector)
    if not norm or not math.isfinite(norm):
        raise GateError(
            Fault("upstream", f"{model} made a vector that points nowhere.", code="embedding_failed")
        )
    if abs(norm - 1) < 1e-6:
        return vector
    return tuple(value / norm for value in vector)
