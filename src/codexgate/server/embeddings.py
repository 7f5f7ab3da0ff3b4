"""`POST /v1/embeddings`."""

import asyncio
import time
from collections.abc import Sequence

import msgspec
from aiohttp import web

from ..errors import GateError
from ..events import Usage
from ..fronts import openai_embeddings
from ..gate import Gate
from ..records import Embeddings
from ..tokens import decode
from .context import CORE
from .guard import BODY, TRACE, reply_json

LIMIT = 16 * 1024 * 1024
"""Bytes of a body: what the front lets through, every character of it escaped."""
BATCH = 128
"""Texts that a backend is asked for at once; between two batches others get their turn."""


async def embeddings(request: web.Request) -> web.Response:
    """Vectors of texts. Nothing is sent before all of them are there."""
    gate, trace = request.app[CORE].gate, request[TRACE]
    # Hundreds of texts, or the vectors of them, take longer than others should wait.
    asked = await asyncio.to_thread(openai_embeddings.parse, request[BODY])
    model = await gate.model(asked.model)
    trace.model, trace.backend, trace.unknown = model.id, model.backend, asked.unknown
    texts = await asyncio.to_thread(_texts, asked.inputs)
    began = time.monotonic()
    made = await embed(gate, asked.model, texts, asked.dimensions)
    trace.upstream = time.monotonic() - began
    trace.usage = Usage(prompt=made.tokens, estimated=made.estimated)
    body = await asyncio.to_thread(openai_embeddings.render, made, asked.model, asked.format)
    return reply_json(msgspec.Raw(body))


async def embed(gate: Gate, model: str, texts: Sequence[str], dimensions: int | None) -> Embeddings:
    """Vectors of `texts`, which are asked for in batches. Raises GateError."""
    batches = [
        await gate.embed(model, texts[at : at + BATCH], dimensions) for at in range(0, len(texts), BATCH)
    ]
    return Embeddings(
        vectors=tuple(vector for batch in batches for vector in batch.vectors),
        tokens=sum(batch.tokens for batch in batches),
        estimated=any(batch.estimated for batch in batches),
    )


def _texts(inputs: tuple[str | tuple[int, ...], ...]) -> list[str]:
    """What is to be embedded as text: backends have tokenizers of their own."""
    try:
        return [each if isinstance(each, str) else decode(each, "cl100k_base") for each in inputs]
    except GateError as error:
        raise GateError(msgspec.structs.replace(error.fault, param="input")) from None
