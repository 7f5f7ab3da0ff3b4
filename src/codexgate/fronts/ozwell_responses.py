"""The OzwellAI reference server's dialect of `/v1/responses`: one text in, one text out.

Source: behaviour of that server, recorded in facts/ozwell-and-codex-context.md, sections 1.4 and
1.8. What it got wrong is not repeated: deltas add up to `output`, and a failure is an event.
Pure: ids and times are handed in; fed with flattened events (`flat.Flat`).
"""

from typing import Annotated, Any

import msgspec

from ..chat import ChatRequest, Message, Sampling, Text
from ..errors import invalid
from ..events import Done, Event, Failed, TextDelta, Usage
from ..fold import Reply
from ..sse import named
from .openai_body import parser
from .openai_error import body as error_body

_Count = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
_encode = msgspec.json.Encoder().encode


class Parsed(msgspec.Struct, frozen=True):
    """A response as it was asked for."""

    request: ChatRequest
    stream: bool
    unknown: tuple[str, ...]
    """Fields that were passed over."""


class Meta(msgspec.Struct, frozen=True):
    """What one answer is called."""

    id: str
    """`resp-…`"""
    created: int
    """Unix seconds."""
    model: str
    """As the caller asked for it."""


class _Body(msgspec.Struct):
    input: str
    model: str | None = None
    instructions: str | None = None
    stream: bool | None = None
    max_tokens: _Count | None = None
    max_output_tokens: _Count | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    tools: list[Any] | None = None
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None


_REFUSED = ("tools", "previous_response_id", "conversation")
"""What this dialect has no answer to, and whose neglect would change the meaning."""

_read = parser(_Body)


def parse(body: bytes) -> Parsed:
    """Read a request body. Raises GateError (invalid_request) naming the field at fault."""
    read, unknown = _read(body)
    for name in _REFUSED:
        if getattr(read, name):
            raise invalid(f"`{name}` is not part of this dialect.", name, advice="Ask `/v1/responses`.")
    told = (Message("system", (Text(read.instructions),)),) if read.instructions else ()
    return Parsed(
        request=ChatRequest(
            model=read.model or "",
            messages=(*told, Message("user", (Text(read.input),) if read.input else ())),
            sampling=Sampling(
                temperature=read.temperature,
                top_p=read.top_p,
                max_tokens=read.max_output_tokens or read.max_tokens,
            ),
        ),
        stream=bool(read.stream),
        unknown=unknown,
    )


class Encoder:
    """Writes one streamed answer: `start`, `content` …, `completion` and `done`, or `error`."""

    def __init__(self, meta: Meta) -> None:
        self._meta = meta
        self._begun = False
        self._output: list[str] = []
        self._usage: Usage | None = None

    def feed(self, event: Event) -> bytes:
        """The frames that `event` becomes; empty for what is not part of the answer's text."""
        match event:
            case TextDelta():
                self._output.append(event.text)
                content = {"id": self._meta.id, "type": "content", "content": event.text}
                return self._start() + named("content", _encode(content))
            case Usage():
                self._usage = event
                return b""
            case Done():
                whole = _response("".join(self._output), self._usage, self._meta)
                return self._start() + named("completion", _encode(whole)) + named("done", b"[DONE]")
            case Failed():
                return self._start() + named("error", _encode(error_body(event.fault)))
            case _:
                return b""

    def _start(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return named("start", _encode(self._meta))


def render(reply: Reply, meta: Meta) -> dict[str, Any]:
    """The body of an answer that is not streamed and did not fail."""
    return _response(reply.text, reply.usage, meta)


def _response(output: str, usage: Usage | None, meta: Meta) -> dict[str, Any]:
    usage = usage or Usage()
    return {
        "id": meta.id,
        "object": "response",
        "created": meta.created,
        "model": meta.model,
        "output": output,
        "usage": {
            "input_tokens": usage.prompt,
            "output_tokens": usage.completion,
            "total_tokens": usage.prompt + usage.completion,
        },
    }
