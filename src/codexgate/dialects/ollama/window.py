"""How large a context a request needs, in steps: Ollama loads a model anew for every other `num_ctx`.

Pure. The count is a guess from bytes: whether a prompt really fits is Ollama's to say, and it is
told to (`truncate`, `shift` in `ask`); then there is a next step. Source: Ollama, docs/faq.md.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from ...chat import ChatRequest, Image
from ...errors import invalid

BYTES = 3
"""Of a token: English has four and a half, Chinese three, code full of signs two."""
PICTURE = 1600
"""Tokens of a picture, in the models that take the most for one."""
MESSAGE = 8
"""Tokens that a template puts around a message."""
ROOM = 4096
"""Tokens left for an answer that has no limit of its own: models that think say much."""
SMALLEST = 8192
UNKNOWN = 32_768
"""The most that a model is given which does not tell what it can see."""


def estimate(request: ChatRequest) -> int:
    """About how many tokens the prompt of `request` is, without counting."""
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts(request))
    parts = [part for message in request.messages for part in message.parts]
    pictures = sum(isinstance(part, Image) for part in parts)
    return size // BYTES + PICTURE * pictures + MESSAGE * len(request.messages)


def texts(request: ChatRequest) -> Iterator[str]:
    """Every text that goes into the prompt."""
    for message in request.messages:
        yield message.text
        yield message.reasoning
        for call in message.tool_calls:
            yield call.name
            yield call.arguments
    if request.tools:
        yield msgspec.json.encode(request.tools).decode()
    yield request.suffix


def bounded(options: Mapping[str, Any], *limits: int) -> dict[str, Any]:
    """`options` whose `num_ctx`, where they have one, is no larger than any of `limits` (0: no limit).

    It is memory: each token of it takes some, used or not. Raises GateError for one that is no size.
    """
    found = {name: value for name, value in options.items() if value is not None}
    if "num_ctx" in found:
        size = found["num_ctx"]
        if isinstance(size, float) and size.is_integer():
            size = int(size)  # 1e5: to Ollama every number of JSON is one
        if type(size) is not int or size < 1:
            raise invalid("`num_ctx` must be a whole number of at least 1.", "options")
        found["num_ctx"] = min([size, *filter(None, limits)])
    return found


def choose(needed: int, most: int, loaded: int) -> int:
    """The `num_ctx` for a prompt and answer of `needed` tokens, where `most` can be had.

    `loaded`: what the model is in memory with, 0 when it is not: if that is enough it stays.
    """
    if loaded >= min(needed, most):
        return loaded
    size = SMALLEST
    while size < needed:
        size *= 2
    return min(size, most)
