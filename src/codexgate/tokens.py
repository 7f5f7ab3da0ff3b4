"""Texts and tokens as OpenAI's models count them, offline.

For figures that no backend gives, and for clients that send token ids instead of texts. It
knows no model's own tokenizer: for other models its counts are estimates. The first use loads
an encoding, which takes half a second; after that a million characters take about 30 ms. So
whoever may meet either on an event loop calls from a thread.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

from .errors import invalid

EncodingName = Literal["o200k_base", "cl100k_base"]

SLICE = 50_000
"""Characters looked at in one go; each is four tokens at most, and the library takes 200,000."""


def count(text: str, encoding: EncodingName = "o200k_base") -> int:
    """How many tokens `text` is; above `SLICE` characters right to one token for each slice."""
    if not text:
        return 0
    encode = _load(encoding).encode_ordinary
    return sum(len(encode(text[at : at + SLICE])) for at in range(0, len(text), SLICE))


def decode(tokens: Sequence[int], encoding: EncodingName) -> str:
    """The text of `tokens`; bytes that are no UTF-8 become U+FFFD.

    Raises GateError of kind `invalid_request` for an id that is not of `encoding`.
    """
    try:
        if not tokens or min(tokens) >= 0:  # the library counts negative ones from the end
            return str(_load(encoding).decode(tokens))
    except KeyError:
        pass
    raise invalid(f"Not every token id is one of {encoding}'s.")


@cache
def _load(encoding: EncodingName) -> Any:
    import bpe_openai  # type: ignore[import-untyped]

    return bpe_openai.get_encoding(encoding)
