"""The request of OpenAI's legacy completions: bytes to texts to go on with, and how.

Source: OpenAI API reference, "Create completion". As in chats, the struct below is the list of
fields that are understood, nulls are absent, and a field whose neglect would change the
meaning is refused by name. OpenAI's default of 16 tokens is not ours: without `max_tokens`
the model ends where it ends.
"""

from typing import Annotated, Any

import msgspec

from ..chat import ChatRequest, Message, Text
from ..errors import invalid
from .openai_body import parser
from .openai_parts import texts_or_ids
from .openai_sampling import Sampled

MOST = 128
"""Choices that one request may ask for: prompts times `n`."""

_Token = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
_Tokens = tuple[int, ...]


class Parsed(msgspec.Struct, frozen=True):
    """A completion as it was asked for."""

    request: ChatRequest
    """Without its message; see `ask`."""
    prompts: tuple[str | _Tokens, ...]
    """Texts, or the token ids of texts (`cl100k_base`)."""
    choices: int
    """For each prompt."""
    echo: bool
    stream: bool
    include_usage: bool
    unknown: tuple[str, ...]
    """Fields that were passed over."""


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Body(Sampled):
    prompt: str | list[str | _Token | list[_Token]] | None = None
    model: str | None = None
    suffix: str | None = None
    echo: bool | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=MOST)] | None = None
    best_of: int | None = None
    logprobs: Annotated[int, msgspec.Meta(ge=0, le=5)] | None = None
    logit_bias: dict[str, Any] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None
    user: str | None = None


_read = parser(_Body)


def parse(body: bytes) -> Parsed:
    """Read a request body. Raises GateError (invalid_request) naming the field at fault."""
    read, unknown = _read(body)
    prompts, choices = texts_or_ids(read.prompt, "prompt"), read.n or 1
    if len(prompts) * choices > MOST:
        raise invalid(f"{len(prompts)} prompts times `n` are more than {MOST} choices.", "prompt")
    _refuse(read)
    return Parsed(
        request=ChatRequest(
            read.model or "",
            (),
            sampling=read.sampling(read.max_tokens, None if read.logprobs is None else True, read.logprobs),
            raw=True,
            suffix=read.suffix or "",
        ),
        prompts=prompts,
        choices=choices,
        echo=bool(read.echo),
        stream=bool(read.stream),
        include_usage=bool(read.stream_options and read.stream_options.include_usage),
        unknown=unknown,
    )


def ask(asked: Parsed, text: str) -> ChatRequest:
    """The request for one of its prompts, as text. Raises GateError for an empty one."""
    if not text:
        raise invalid("A prompt is empty; there is nothing to go on with.", "prompt")
    return msgspec.structs.replace(asked.request, messages=(Message("user", (Text(text),)),))


def _refuse(read: _Body) -> None:
    """What cannot be done, and would change the answer if it were left undone."""
    if read.best_of is not None and read.best_of > 1:
        advice = "Leave it out, or ask for `n` answers and choose."
        raise invalid(
            "`best_of` above 1 is not supported: answers are not compared here.", "best_of", "", advice
        )
    if read.logit_bias:
        raise invalid(
            "`logit_bias` is not supported, and leaving it out would change the answer.", "logit_bias"
        )
    if read.echo and read.logprobs is not None:
        raise invalid("The log probabilities of an echoed prompt are not known here.", "logprobs")
