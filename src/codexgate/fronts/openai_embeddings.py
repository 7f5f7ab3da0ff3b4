"""OpenAI's embeddings: a body to the texts that are to be embedded, vectors to a body.

Source: OpenAI API reference, "Create embeddings". Pure; it knows no model. Token ids stay ids:
turning them into text takes an encoding, which is the caller's to load.
"""

import struct
from base64 import b64encode
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec

from ..errors import invalid
from ..records import Embeddings
from .openai_body import parser
from .openai_parts import texts_or_ids

Format = Literal["float", "base64"]

MAX_INPUTS = 2048
"""Inputs of one request, as at OpenAI."""
MAX_TOKENS = 50_000
"""Of one input. OpenAI's models see 8192; others see more, or an input piece by piece."""
MAX_TOTAL = 300_000
"""Tokens of all inputs together, as at OpenAI."""
PER_TOKEN = 4
"""Characters that count as one token here, where a bound is needed and not a bill."""


class Parsed(msgspec.Struct, frozen=True):
    """A request as it was asked."""

    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    """Texts, or the token ids (`cl100k_base`) of texts; never empty, nor is any of them."""
    dimensions: int | None
    format: Format
    unknown: tuple[str, ...]
    """Fields that were passed over."""


class _Body(msgspec.Struct):
    input: str | list[str | int | list[int]] | None = None
    model: str | None = None
    encoding_format: Format | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None
    user: str | None = None


_read = parser(_Body)


def parse(body: bytes) -> Parsed:
    """Read a request body. Raises GateError (invalid_request) naming the field at fault."""
    read, unknown = _read(body)
    if not read.model:
        advice = "`codexgate models` lists those that embed."
        raise invalid("`model` is missing; an embedding is of one model.", "model", advice=advice)
    inputs = texts_or_ids(read.input, "input")
    _check_sizes(inputs, one=not isinstance(read.input, list) or isinstance(read.input[0], int))
    return Parsed(read.model, inputs, read.dimensions, read.encoding_format or "float", unknown)


def render(embeddings: Embeddings, model: str, format: Format) -> bytes:
    """The answer's body. `model`: as the caller asked for it. Takes time where there is much.

    Vectors are written one by one: the JSON library lets no other thread run while it writes.
    """
    write = _base64 if format == "base64" else tuple
    counts: dict[str, Any] = {"prompt_tokens": embeddings.tokens, "total_tokens": embeddings.tokens}
    return msgspec.json.encode(
        {
            "object": "list",
            "data": [
                msgspec.Raw(
                    msgspec.json.encode({"object": "embedding", "index": index, "embedding": write(vector)})
                )
                for index, vector in enumerate(embeddings.vectors)
            ],
            "model": model,
            "usage": counts | ({"estimated": True} if embeddings.estimated else {}),
        }
    )


def _check_sizes(inputs: Sequence[str | tuple[int, ...]], *, one: bool) -> None:
    """`one`: the request has no array of inputs, so a fault is not at a place in it."""
    if len(inputs) > MAX_INPUTS:
        message = f"`input` has {len(inputs)} elements; {MAX_INPUTS} are the most of one request."
        raise invalid(message, "input", advice="Send them in several requests.")
    total = 0
    for index, each in enumerate(inputs):
        at = "input" if one else f"input[{index}]"
        size = -(-len(each) // PER_TOKEN) if isinstance(each, str) else len(each)
        if not size:
            raise invalid(f"`{at}` is empty.", at)
        if size > MAX_TOKENS:
            what = f"{len(each)} characters" if isinstance(each, str) else f"{len(each)} tokens"
            limit = MAX_TOKENS * PER_TOKEN if isinstance(each, str) else MAX_TOKENS
            raise invalid(f"`{at}` has {what}; {limit} are the most of one input.", at)
        total += size
    if total > MAX_TOTAL:
        message = f"All inputs are about {total} tokens; {MAX_TOTAL} are the most of one request."
        raise invalid(message, "input", advice="Send them in several requests.")


def _base64(vector: Sequence[float]) -> str:
    """The vector as OpenAI's SDKs read it: little-endian float32."""
    return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
