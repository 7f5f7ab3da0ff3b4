"""Embedding models that come with the gate, as files in packages; they never need a network.

`local` is the best that could be had that way, `local-fast` a table of vectors. Which they
are, why, and how good: docs/embeddings.md. The libraries that run them are loaded with the
first model.
"""

from .backend import Local

__all__ = ["Local"]
