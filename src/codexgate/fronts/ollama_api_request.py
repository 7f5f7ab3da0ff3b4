"""The requests of Ollama's API: bytes to values.

Source: Ollama, api/types.go, docs/api.md. The structs below are also the list of fields that are
understood; nulls are absent, and what is not understood is passed over and named in `unknown`. A
field whose neglect would change the meaning is refused by name. On purpose nothing is ever
truncated, whatever `truncate` and `shift` say. What a chat is made of is read by `ollama_messages`.
"""

import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec

from ..chat import ChatRequest, Format, Message, Sampling, Text, Tool
from ..errors import invalid
from .ollama_messages import MessageItem, images, messages
from .openai_body import reader
from .openai_error import UNREADABLE, unreadable
from .retrieval import RetrievalBody, retrieval

T = TypeVar("T")

EFFORTS = {"low": "low", "medium": "medium", "high": "high", "max": "xhigh"}
_NEVER = re.compile(r"[+-]?0+(\.0*)?(ns|us|µs|ms|s|m|h)?")
"""A duration of nothing, as Go writes it."""
MOST = 4096
"""Texts of one request for vectors, which are larger than texts."""


class Parsed(msgspec.Struct, frozen=True):
    """A chat or a text as it was asked for."""

    request: ChatRequest
    """Without messages nothing is to be answered: the model is loaded, or let go of."""
    options: dict[str, Any]
    """What only Ollama's models understand: `num_ctx`, `keep_alive`."""
    stream: bool
    unknown: tuple[str, ...]
    """Fields that were passed over."""

    @property
    def unloads(self) -> bool:
        """The model is not to stay in memory."""
        keep = self.options.get("keep_alive")
        return keep == 0 or (isinstance(keep, str) and _NEVER.fullmatch(keep) is not None)


class Embed(msgspec.Struct, frozen=True):
    """Texts whose vectors are wanted."""

    model: str
    texts: tuple[str, ...]
    """None of them empty."""
    dimensions: int | None
    unknown: tuple[str, ...]


class Named(msgspec.Struct, frozen=True):
    """A request that is about a model."""

    model: str
    stream: bool


class _Function(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class _Tool(msgspec.Struct):
    function: _Function


class NamedBody(msgspec.Struct):
    """What is asked about one model."""

    model: str | None = None
    name: str | None = None
    """What `model` was called before."""
    stream: bool | None = None


class _Ask(msgspec.Struct):
    model: str | None = None
    stream: bool | None = None
    format: str | dict[str, Any] | None = None
    options: dict[str, Any] | None = None
    keep_alive: int | float | str | None = None
    think: bool | str | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    truncate: bool | None = None
    shift: bool | None = None
    retrieval: RetrievalBody | None = None
    """Not Ollama's."""


class ChatBody(_Ask):
    """`POST /api/chat`."""

    messages: list[MessageItem] | None = None
    tools: list[_Tool] | None = None


class GenerateBody(_Ask):
    """`POST /api/generate`."""

    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    template: str | None = None
    context: list[int] | None = None
    raw: bool | None = None
    images: list[str] | None = None


class EmbedBody(msgspec.Struct):
    """`POST /api/embed`."""

    model: str | None = None
    input: str | list[str] | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None
    truncate: bool | None = None


class EmbeddingsBody(msgspec.Struct):
    """`POST /api/embeddings`."""

    model: str | None = None
    prompt: str | None = None


class CopyBody(msgspec.Struct):
    """`POST /api/copy`."""

    source: str | None = None
    destination: str | None = None


_Whole = (
    Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    | Annotated[float, msgspec.Meta(ge=-(2.0**63), lt=2.0**63)]
)
"""Go cuts what is behind the point."""


class Options(msgspec.Struct):
    """The options that every backend understands."""

    temperature: float | None = None
    top_p: float | None = None
    seed: _Whole | None = None
    num_predict: _Whole | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None


_read_chat = reader(ChatBody)
_read_generate = reader(GenerateBody)
_read_embed = reader(EmbedBody)
_read_embeddings = reader(EmbeddingsBody)
_read_named = reader(NamedBody)
_read_copy = reader(CopyBody)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def parse_chat(body: bytes) -> Parsed:
    """Read `POST /api/chat`. Raises GateError (invalid_request) naming the field at fault, as all here do."""
    read, unknown = _read(_read_chat, body)
    tools = tuple(
        Tool(each.function.name, each.function.description or "", each.function.parameters or {})
        for each in read.tools or ()
    )
    return _parsed(read, unknown, messages(read.messages or ()), tools=tools)


def parse_generate(body: bytes) -> Parsed:
    """Read `POST /api/generate`: a chat of one message, unless its text is to be gone on with as it is."""
    read, unknown = _read(_read_generate, body)
    if read.raw and (read.template or read.system or read.context):
        raise invalid("raw mode does not support template, system, or context", "raw")
    for name in ("template", "context"):
        if getattr(read, name):
            advice = "Leave it out; `/api/chat` takes a whole conversation."
            raise invalid(f"`{name}` is not supported, and would change the answer.", name, advice=advice)
    continues, pictures = bool(read.raw or read.suffix), images(read.images, "images")
    if continues and pictures:
        raise invalid("Pictures have no place in a text that is gone on with.", "images")
    if not read.prompt:
        return _parsed(read, unknown, ())
    told = (Message("system", (Text(read.system),)),) if read.system else ()
    asked = Message("user", (Text(read.prompt), *pictures))
    parsed = _parsed(read, unknown, (*told, asked), raw=continues, suffix=read.suffix or "")
    return msgspec.structs.replace(parsed, options=parsed.options | {"raw": True}) if read.raw else parsed


def parse_embed(body: bytes) -> Embed:
    """Read `POST /api/embed`. An empty text alone, or no text, is nothing to embed."""
    read, unknown = _read(_read_embed, body)
    given = read.input or ()
    texts = (given,) if isinstance(given, str) else tuple(given)
    if len(texts) > MOST:
        raise invalid(f"`input` has {len(texts)} texts; {MOST} are the most of one request.", "input")
    for at, text in enumerate(texts):
        if not text:
            raise invalid(f"`input[{at}]` is empty.", f"input[{at}]")
    return Embed(_model(read.model), texts, read.dimensions, unknown)


def parse_embeddings(body: bytes) -> Embed:
    """Read `POST /api/embeddings`, the older route, which takes one text."""
    read, unknown = _read(_read_embeddings, body)
    return Embed(_model(read.model), (read.prompt,) if read.prompt else (), None, unknown)


def parse_named(body: bytes) -> Named:
    """Read what is asked about one model: to show it, install it, delete it, push or create it."""
    read, _ = _read(_read_named, body)
    return Named(_model(read.model or read.name), read.stream is not False)


def parse_copy(body: bytes) -> tuple[str, str]:
    """Read `POST /api/copy`: source and destination."""
    read, _ = _read(_read_copy, body)
    if not read.source or not read.destination:
        raise invalid("source and destination are required", "destination" if read.source else "source")
    return read.source, read.destination


def _read(read: Callable[[bytes], T], body: bytes) -> tuple[T, tuple[str, ...]]:
    """The body, and the names of the fields that are passed over."""
    if not body:
        raise invalid("missing request body")
    try:
        asked = read(body)
        names = getattr(asked, "__struct_fields__", ())
        return asked, tuple(name for name in _fields(body) if name not in names)
    except UNREADABLE as error:
        raise unreadable(error) from error


def _model(name: str | None) -> str:
    if not name:
        raise invalid("model is required", "model")
    return name


def _parsed(
    read: _Ask,
    unknown: tuple[str, ...],
    messages: tuple[Message, ...],
    *,
    tools: tuple[Tool, ...] = (),
    raw: bool = False,
    suffix: str = "",
) -> Parsed:
    options = {name: value for name, value in (read.options or {}).items() if value is not None}
    sampling = _sampling(options, read)
    options = {name: value for name, value in options.items() if name not in Options.__struct_fields__}
    if read.keep_alive is not None:
        options["keep_alive"] = read.keep_alive
    request = ChatRequest(
        model=_model(read.model),
        messages=messages,
        tools=tools,
        sampling=sampling,
        effort=_effort(read.think),
        format=_format(read.format),
        retrieval=retrieval(read.retrieval),
        raw=raw,
        suffix=suffix,
    )
    return Parsed(request, options, read.stream is not False, unknown)


def _sampling(options: dict[str, Any], read: _Ask) -> Sampling:
    try:
        asked = msgspec.convert(options, Options)
    except msgspec.ValidationError as error:
        raise unreadable(error, "options") from None
    limit = int(asked.num_predict or 0)
    return Sampling(
        temperature=asked.temperature,
        top_p=asked.top_p,
        seed=None if asked.seed is None else int(asked.seed),
        presence_penalty=asked.presence_penalty,
        frequency_penalty=asked.frequency_penalty,
        logprobs=read.logprobs or None,
        top_logprobs=read.top_logprobs if read.logprobs else None,
        max_tokens=limit if limit > 0 else None,  # -1 and -2: as long as it takes
        stop=(asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop or ()),
    )


def _effort(think: bool | str | None) -> str:
    """`true` is as much as a model thinks by itself."""
    if think is None or isinstance(think, bool):
        return {None: "", True: "medium", False: "none"}[think]
    if think not in EFFORTS:
        raise invalid(
            f'invalid think value: \'{think[:20]}\' (must be "high", "medium", "low", "max", true, or false)',
            "think",
        )
    return EFFORTS[think]


def _format(format: str | dict[str, Any] | None) -> Format:
    if not format:
        return Format()
    if isinstance(format, dict):
        return Format("schema", format)
    if format != "json":
        raise invalid(f"invalid format: '{format[:20]}'; expected \"json\" or a JSON schema", "format")
    return Format("json")
