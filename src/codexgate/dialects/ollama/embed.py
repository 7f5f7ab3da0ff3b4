"""Vectors by POST /api/embed. Source: Ollama, api/types.go (`EmbedRequest`) and server/routes.go.

Pure. Ollama normalises what it gives.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ...errors import Fault, GateError, invalid
from ...records import Embeddings
from .ask import settings


class _Answer(msgspec.Struct):
    embeddings: tuple[tuple[float, ...], ...] = ()
    prompt_eval_count: int = 0


_decode = msgspec.json.Decoder(_Answer).decode


def ask(
    model: str, texts: Sequence[str], dimensions: int | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The body. `options` as in `ChatRequest.options`.

    `truncate` is off, so that a text that does not fit is an error and never a vector of its
    beginning.
    """
    body: dict[str, Any] = {"model": model, "input": list(texts), "truncate": False}
    if dimensions is not None:
        body["dimensions"] = dimensions
    return body | settings(dict(options))


def read(answer: bytes, count: int, dimensions: int | None) -> Embeddings:
    """The `count` vectors of an answer. Takes time where there are many.

    Raises GateError of kind `invalid_request` when the model cannot have `dimensions`: Ollama
    ignores those that it cannot have. Of kind `upstream` when the answer is none.
    """
    try:
        found = _decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise GateError(Fault("upstream", "Ollama's vectors cannot be read.")) from None
    lengths = {len(vector) for vector in found.embeddings}
    if len(found.embeddings) != count or len(lengths) != 1 or 0 in lengths:
        message = (
            f"Ollama gave {len(found.embeddings)} vectors of lengths {sorted(lengths)} for {count} texts."
        )
        raise GateError(Fault("upstream", message))
    (length,) = lengths
    if dimensions is not None and length != dimensions:
        raise invalid(f"The model's vectors have {length} dimensions, not {dimensions}.", "dimensions")
    return Embeddings(found.embeddings, found.prompt_eval_count)


def fault(reason: Fault) -> Fault:
    """Why Ollama refused, in terms of this request: a text that does not fit is no conversation."""
    if reason.code != "context_length_exceeded":
        return reason
    return msgspec.structs.replace(
        reason, param="input", advice="Send shorter texts, or give the model more room (`num_ctx`)."
    )
