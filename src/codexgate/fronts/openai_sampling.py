"""How tokens are picked: what bodies of OpenAI's chats and completions share.

Source: OpenAI API reference, "Create chat completion" and "Create completion".
"""

from typing import Annotated

import msgspec

from ..chat import Sampling

_Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]


class Sampled(msgspec.Struct):
    """The part of a body that says it."""

    stop: str | list[str] | None = None
    seed: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None

    def sampling(self, max_tokens: int | None, logprobs: bool | None, top_logprobs: int | None) -> Sampling:
        """All of it, with what the two formats say in words of their own."""
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logprobs=logprobs,
            top_logprobs=top_logprobs,
            max_tokens=max_tokens,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
        )
