"""all-MiniLM-L6-v2 on ONNX Runtime: token ids to hidden states, their mean as the vector.

Source: the model's card, "Usage": the mean over all tokens, then unit length; trained on up to
256 tokens. Its weights are int8, its sums float32, so that a text gets the same vector alone
and in a batch. Blocking; safe in several threads.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when it is loaded; it would write to HOME and ask Microsoft

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ...records import Embeddings

WINDOW = 256
"""Tokens of one piece, the two around it included."""
STEP = 1024
"""Tokens of one step, filling included: more take more memory and are no faster."""
THREADS = 4
"""More help one text little, and take from others."""

_Floats = NDArray[np.float32]
_Piece = tuple[int, list[int]]
"""The text it is of, and its token ids."""


class MiniLM:
    """The model, loaded."""

    def __init__(self, model: Path, tokenizer: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_truncation()  # the file says 128
        self._tokenizer.no_padding()
        self._begin, self._end = self._tokenizer.encode("").ids
        options = ort.SessionOptions()
        options.intra_op_num_threads = min(THREADS, os.cpu_count() or 1)
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # others want the cores
        options.log_severity_level = 3
        self._session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    def embed(self, texts: Sequence[str], dimensions: int) -> Iterator[Embeddings | None]:
        """See `backend.Encoder`. Texts of like length are worked on together, whatever their order."""
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        pieces = [(at, piece) for at, each in enumerate(encoded) for piece in _cut(each.ids)]
        sums = np.zeros((len(texts), dimensions), np.float32)
        for number, step in enumerate(_steps(pieces)):
            if number:
                yield None
            vectors = self._run([ids for _, ids in step])
            for (at, ids), vector in zip(step, vectors, strict=True):
                sums[at] += vector * max(len(ids), 1)
        sums /= np.linalg.norm(sums, axis=1, keepdims=True)
        yield Embeddings(tuple(map(tuple, sums.tolist())), sum(len(ids) + 2 for _, ids in pieces))

    def _run(self, pieces: Sequence[list[int]]) -> _Floats:
        """A unit vector for each piece."""
        longest = max(map(len, pieces)) + 2
        ids = np.zeros((len(pieces), longest), np.int64)
        mask = np.zeros_like(ids)
        for at, piece in enumerate(pieces):
            ids[at, : len(piece) + 2] = [self._begin, *piece, self._end]
            mask[at, : len(piece) + 2] = 1
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (hidden,) = self._session.run(None, given)
        means: _Floats = np.einsum("bth,bt->bh", hidden, mask.astype(np.float32))
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        return means


def _cut(ids: list[int]) -> list[list[int]]:
    """Pieces of about equal length that fit the window, so that none is a mere scrap."""
    count = -(-len(ids) // (WINDOW - 2)) or 1
    size = -(-len(ids) // count) or 1
    return [ids[at : at + size] for at in range(0, len(ids) or 1, size)]


def _steps(pieces: list[_Piece]) -> Iterator[list[_Piece]]:
    """The pieces, the short ones first, in groups of at most `STEP` tokens when filled up."""
    step: list[_Piece] = []
    for piece in sorted(pieces, key=lambda piece: len(piece[1])):
        if step and (len(step) + 1) * (len(piece[1]) + 2) > STEP:
            yield step
            step = []
        step.append(piece)
    yield step
