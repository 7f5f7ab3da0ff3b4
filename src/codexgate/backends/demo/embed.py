"""Vectors that need no model: texts of like words and like spellings are near each other.

Feature hashing (Weinberger et al., 2009): every word, pair of words and run of three letters
adds to a few coordinates that its hash picks. The same text always gets the same vector, on
every machine; different texts get different ones. It knows nothing of meaning. Pure.
"""

import hashlib
import math
import re
import struct
from collections import Counter
from collections.abc import Iterator, Sequence

from ...errors import invalid
from ...records import Embeddings

DIMENSIONS = 256
MOST = 4096

_WORD = re.compile(r"\w+")
_PICKS = struct.Struct("<4I")
"""Of one hash: four coordinates, each with a sign. Four, so that one collision spoils little."""


def embed(model: str, texts: Sequence[str], dimensions: int | None = None) -> Embeddings:
    """Unit vectors of `texts`. Raises GateError, in the name of `model`, for more than `MOST` dimensions."""
    size = DIMENSIONS if dimensions is None else dimensions
    if not 1 <= size <= MOST:
        raise invalid(f"{model} has 1 to {MOST} dimensions, not {size}.", "dimensions")
    words = sum(len(_WORD.findall(text)) or 1 for text in texts)
    return Embeddings(tuple(_vector(text, size) for text in texts), words)


def _vector(text: str, size: int) -> tuple[float, ...]:
    sums = [0.0] * size
    for feature, weight in _weights(text):
        for pick in _PICKS.unpack(
            hashlib.blake2b(feature.encode("utf-8", "replace"), digest_size=16).digest()
        ):
            sums[(pick >> 1) % size] += weight if pick & 1 else -weight
    norm = math.hypot(*sums)
    if not norm:  # in one or two dimensions all may cancel out
        sums[0] = norm = 1.0
    return tuple(value / norm for value in sums)


def _weights(text: str) -> Iterator[tuple[str, float]]:
    """The features of `text`; what is there often counts more, but not that much more."""
    yield f"text {text}", 0.1  # so that no two texts are the same
    for feature, count in Counter(_features(text)).items():
        yield feature, math.sqrt(count)


def _features(text: str) -> Iterator[str]:
    before = ""
    for word in _WORD.findall(text.casefold()):
        yield f"word {word}"
        yield f"pair {before} {word}"
        before = word
        framed = f"^{word}$"
        for at in range(len(framed) - 2):
            yield f"part {framed[at : at + 3]}"
