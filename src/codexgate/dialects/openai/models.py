"""What an OpenAI-compatible server says of its models: GET /models.

Source: OpenAI API reference, "Models"; what stands beside its four fields is by vLLM, llama.cpp,
OpenRouter, Groq, Mistral, Together and LM Studio. Pure.
"""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from ...errors import Fault, GateError
from ...records import Ability, Model
from .errors import Upstream

_EMBEDS = re.compile(r"embed|\b(bge|gte|e5)-|minilm", re.IGNORECASE)
_OTHER = re.compile(
    r"whisper|\btts\b|dall-e|-image|moderation|rerank|transcribe|realtime|sora|stable-diffusion|flux",
    re.IGNORECASE,
)
"""Names of models that neither chat nor embed."""
OLLAMA = "Ollama's /v1"
"""What `details` calls the server that owns its models as `library`."""


class Entry(msgspec.Struct):
    """One model as it is listed; any field may be of any type."""

    id: Any = None
    created: Any = None
    owned_by: Any = None
    type: Any = None
    context_length: Any = None
    max_context_length: Any = None
    context_window: Any = None
    max_model_len: Any = None
    meta: Any = None
    architecture: Any = None
    capabilities: Any = None
    supported_parameters: Any = None


class _List(msgspec.Struct):
    data: list[Entry] | None


_read = msgspec.json.Decoder(_List | list[Entry]).decode


def entries(body: bytes, upstream: Upstream) -> list[Entry]:
    """The models in the answer to GET /models; Ollama says `null` when there are none. Raises GateError."""
    try:
        read = _read(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        message = f"{upstream.name} lists its models in a way that is not OpenAI's."
        raise GateError(Fault("upstream", message)) from None
    listed = read if isinstance(read, list) else read.data or []
    found = {entry.id: entry for entry in listed if isinstance(entry.id, str) and entry.id}
    return list(found.values())


def is_ollama(listed: Iterable[Entry]) -> bool:
    """Whether these are Ollama's: it calls the owner of the models in its registry `library`."""
    return any(entry.owned_by == "library" for entry in listed)


def model(entry: Entry, backend: str) -> Model:
    """Everything known of one model, or guessed from its name."""
    meta = entry.meta if isinstance(entry.meta, dict) else {}
    windows = (
        meta.get("n_ctx"),  # what is loaded; n_ctx_train is what could be
        entry.max_model_len,
        entry.context_length,
        entry.context_window,
        entry.max_context_length,
        meta.get("n_ctx_train"),
    )
    return Model(
        id=entry.id,
        backend=backend,
        created=_number(entry.created),
        owned_by=entry.owned_by if isinstance(entry.owned_by, str) else "",
        abilities=_abilities(entry),
        guessed=not any((entry.type, entry.capabilities, entry.architecture, entry.supported_parameters)),
        context=next(filter(None, map(_number, windows)), 0),
        details={"server": OLLAMA} if entry.owned_by == "library" else {},
    )


def named(id: str, backend: str) -> Model:
    """A model of which nothing is known but its name."""
    return model(Entry(id=id), backend)


def _abilities(entry: Entry) -> frozenset[Ability]:
    kind = entry.type if isinstance(entry.type, str) else ""
    told = _words(entry.capabilities)
    if "embedding" in kind or "embedding" in told or (not kind and _EMBEDS.search(entry.id)):
        return frozenset(("embedding",))
    if _OTHER.search(entry.id):
        return frozenset()  # unknown: whoever asks for it gets the server's own answer
    architecture = entry.architecture if isinstance(entry.architecture, dict) else {}
    seen = _words(architecture.get("input_modalities"))
    takes = _words(entry.supported_parameters)
    guessed: dict[Ability, bool] = {
        "chat": True,
        "tools": "tools" in takes | told or "function_calling" in told,
        "vision": "image" in seen or bool(told & {"vision", "multimodal"}) or kind == "vlm",
        "thinking": "reasoning" in takes | told or "thinking" in told,
    }
    return frozenset(ability for ability, has in guessed.items() if has)


def _words(value: object) -> set[str]:
    """The words of a list, or those that are true in a table."""
    if isinstance(value, dict):
        return {str(name) for name, has in value.items() if has is True}
    return {word for word in value if isinstance(word, str)} if isinstance(value, list) else set()


def _number(value: object) -> int:
    return int(value) if isinstance(value, int | float) and 0 < value < 2**53 else 0
