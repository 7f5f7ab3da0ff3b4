"""OpenAI's legacy completions: events to chunks, replies to a body.

Source: OpenAI API reference, "The completion object", which is also the shape of a chunk. Pure:
ids and times are handed in. A completion is text alone: thinking and an agent's activity are
no part of it, so it is fed with flattened events (`flat.Flat`).
"""

from typing import Any

import msgspec

from ..events import Done, Event, Failed, Logprob, Reason, TextDelta, Usage
from ..fold import Reply
from ..sse import DONE, frame
from .openai_error import body as error_body
from .openai_usage import total, usage_object

_FINISH: dict[Reason, str] = {"length": "length", "content_filter": "content_filter"}
"""Every other end is `stop`."""
_encode = msgspec.json.Encoder().encode


class Meta(msgspec.Struct, frozen=True):
    """What every chunk of one answer repeats, and what its choices begin with."""

    id: str
    """`cmpl-…`"""
    created: int
    """Unix seconds."""
    model: str
    """As the caller asked for it."""
    each: int = 1
    """Choices for each prompt; those of the first prompt come first."""
    echo: tuple[str, ...] = ()
    """The prompts, if they are to stand before what the model wrote."""

    def prefix(self, index: int) -> str:
        """What the choice begins with."""
        return self.echo[index // self.each] if self.echo else ""


class Choices:
    """Writes the choices of one streamed answer side by side."""

    def __init__(self, meta: Meta, *, include_usage: bool = False) -> None:
        self._meta = meta
        self._include_usage = include_usage
        head = {"id": meta.id, "object": "text_completion", "created": meta.created, "model": meta.model}
        self._head = b"data: " + _encode(head)[:-1] + b',"choices":['
        self._lengths: dict[int, int] = {}
        """Characters of each choice so far, by its index."""

    def feed(self, index: int, event: Event) -> bytes:
        """The frames that an event of one choice becomes; its failure is the stream's."""
        match event:
            case TextDelta():
                return self._begin(index) + self._text(index, event.text, event.logprobs)
            case Done():
                return self._begin(index) + self._chunk(_choice(index, "", None, _finish(event.reason)))
            case _:
                return b""

    def close(self, usage: Usage | None, event: Done | Failed) -> bytes:
        """The end: the usage of all choices if it was asked for, then the one end of the stream."""
        end = DONE if isinstance(event, Done) else frame(_encode(error_body(event.fault)))
        if usage is None or not self._include_usage:
            return end
        return self._head + b'],"usage":' + _encode(usage_object(usage)) + b"}\n\n" + end

    def _begin(self, index: int) -> bytes:
        if index in self._lengths:
            return b""
        self._lengths[index] = 0
        prefix = self._meta.prefix(index)
        return self._text(index, prefix) if prefix else b""

    def _text(self, index: int, text: str, logprobs: tuple[Logprob, ...] = ()) -> bytes:
        before = self._lengths[index]
        self._lengths[index] += len(text)
        return self._chunk(_choice(index, text, _logprobs(logprobs, before), None))

    def _chunk(self, choice: dict[str, Any]) -> bytes:
        return self._head + _encode(choice) + b"]}\n\n"


def render(replies: list[Reply], meta: Meta) -> dict[str, Any]:
    """The body of an answer that is not streamed; one choice per reply, none of them failed."""
    usages = {index: reply.usage for index, reply in enumerate(replies) if reply.usage}
    return {
        "id": meta.id,
        "object": "text_completion",
        "created": meta.created,
        "model": meta.model,
        "choices": [
            _choice(
                index, meta.prefix(index) + reply.text, _logprobs(reply.logprobs, 0), _finish(reply.reason)
            )
            for index, reply in enumerate(replies)
        ],
        "usage": usage_object(total(usages, meta.each)),
    }


def _choice(index: int, text: str, logprobs: dict[str, Any] | None, finish: str | None) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish}


def _finish(reason: Reason | None) -> str:
    return _FINISH.get(reason or "stop", "stop")


def _logprobs(logprobs: tuple[Logprob, ...], at: int) -> dict[str, Any] | None:
    """In the legacy shape: lists side by side; `at`: characters of the choice before them."""
    if not logprobs:
        return None
    offsets = []
    for one in logprobs:
        offsets.append(at)
        at += len(one.token)
    return {
        "tokens": [one.token for one in logprobs],
        "token_logprobs": [one.logprob for one in logprobs],
        "top_logprobs": [{top.token: top.logprob for top in one.top} for one in logprobs],
        "text_offset": offsets,
    }
