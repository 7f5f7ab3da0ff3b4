"""A static model: every token has a vector, a text the mean of its tokens' vectors.

Source: WordLlama (its README, "How it works"): trained so that the first 64, 128 or 256 values
serve alone (Matryoshka). No window: a text may be as long as it is. Blocking; safe in threads.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from ...records import Embeddings

STEP = 256 * 1024
"""Characters of one step."""


class Table:
    """The model, loaded."""

    def __init__(self, weights: Path, tokenizer: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._vectors: NDArray[np.float32] = load_file(weights)["embedding.weight"].astype(np.float32)

    def embed(self, texts: Sequence[str], dimensions: int) -> Iterator[Embeddings | None]:
        """See `backend.Encoder`."""
        means: list[NDArray[np.float32]] = []
        tokens = 0
        for number, step in enumerate(_steps(texts)):
            if number:
                yield None
            for each in self._tokenizer.encode_batch_fast(step, add_special_tokens=False):
                ids = each.ids or [0]  # the unknown token's, for a text that is none
                tokens += len(ids)
                means.append(self._vectors[ids, :dimensions].mean(axis=0))
        made = np.stack(means)
        made /= np.linalg.norm(made, axis=1, keepdims=True)
        yield Embeddings(tuple(map(tuple, made.tolist())), tokens)


def _steps(texts: Sequence[str]) -> Iterator[list[str]]:
    step: list[str] = []
    size = 0
    for text in texts:
        if step and size + len(text) > STEP:
            yield step
            step, size = [], 0
        step.append(text)
        size += len(text)
    yield step
