"""Texts to vectors: POST /embeddings. Source: OpenAI API reference, "Create embeddings". Pure."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

import msgspec

from ...errors import Fault, GateError, invalid
from ...records import Embeddings
from .errors import Upstream


class _Vector(msgspec.Struct):
    embedding: tuple[float, ...]
    index: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    total_tokens: int | None = None


class _Answer(msgspec.Struct):
    data: list[_Vector]
    usage: _Usage | None = None


_read = msgspec.json.Decoder(_Answer).decode


def ask(model: str, texts: Sequence[str], dimensions: int | None) -> dict[str, Any]:
    """The body of POST /embeddings. Floats, because not every server can do base64."""
    body: dict[str, Any] = {"model": model, "input": list(texts), "encoding_format": "float"}
    return body | ({"dimensions": dimensions} if dimensions is not None else {})


def embeddings(body: bytes, count: int, dimensions: int | None, upstream: Upstream) -> Embeddings:
    """The `count` vectors of an answer, in the order of their texts.

    Raises GateError: `upstream` for vectors that cannot be right, `invalid_request` (param
    `dimensions`) for a length that the model cannot give. Slow for many: run it in a thread.
    """
    try:
        read = _read(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _wrong(upstream, "something that is no list of vectors") from None
    if len(read.data) != count:
        raise _wrong(upstream, f"{len(read.data)} vectors for {count} texts")
    placed = {at if each.index is None else each.index: each.embedding for at, each in enumerate(read.data)}
    if placed.keys() != set(range(count)):
        raise _wrong(upstream, "vectors whose places are not those of the texts")
    vectors = tuple(placed[at] for at in range(count))
    lengths = set(map(len, vectors))
    if len(lengths) > 1 or 0 in lengths or not all(all(map(isfinite, vector)) for vector in vectors):
        raise _wrong(upstream, "vectors that are empty, not finite or of different lengths")
    if dimensions is not None and lengths != {dimensions}:
        raise invalid(
            f"The model gives vectors of {lengths.pop()} numbers, not of {dimensions}.", "dimensions"
        )
    usage = read.usage or _Usage()
    return Embeddings(vectors, usage.prompt_tokens or usage.total_tokens or 0)


def _wrong(upstream: Upstream, what: str) -> GateError:
    return GateError(Fault("upstream", f"{upstream.name} answered with {what}.", retryable=True))
