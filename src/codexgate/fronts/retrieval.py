"""Memories for a question, as every caller's format has them: how a body asks, how an answer cites.

Source: docs/http.md, section Retrieval.
"""

from typing import Annotated, Any

import msgspec

from ..chat import Retrieval
from ..events import Retrieved


class RetrievalBody(msgspec.Struct):
    """The field `retrieval`."""

    namespace: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None
    limit: Annotated[int, msgspec.Meta(ge=0, le=50)] | None = None


def retrieval(read: RetrievalBody | None) -> Retrieval | None:
    """What a body asks for; `None` where it does not say."""
    return Retrieval(read.namespace or "", read.max_tokens, read.limit) if read else None


def retrieval_context(event: Retrieved) -> dict[str, Any]:
    """What was put before the question."""
    cited = [msgspec.to_builtins(one) for one in event.citations]
    return {"citations": cited, "tokens_injected": event.tokens}
