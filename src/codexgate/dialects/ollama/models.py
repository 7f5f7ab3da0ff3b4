"""What Ollama says of its models, and of their installation: /api/tags, show, ps, version and pull.

Pure. Source: Ollama, api/types.go and docs/api.md. Lists may be `null`, zeros are left out, and old
servers know fewer fields.
"""

import re
from calendar import timegm
from typing import TypeVar

import msgspec

from ...errors import Fault, GateError
from ...records import Ability, Model, Progress
from .errors import pull_fault

T = TypeVar("T")

_MOMENT = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d+)?(?:Z|([+-])(\d\d):(\d\d))$")
"""RFC 3339, as Go writes it."""


class _Details(msgspec.Struct):
    format: str = ""
    family: str = ""
    parameter_size: str = ""
    quantization_level: str = ""


class Tag(msgspec.Struct):
    """One entry of GET /api/tags."""

    name: str
    digest: str = ""
    """Of what the name stands for now; everything that `Shown` says hangs on it."""
    size: int = 0
    modified_at: str = ""
    details: _Details | None = None
    capabilities: list[str] | None = None
    remote_host: str = ""


class Shown(msgspec.Struct):
    """What POST /api/show says beyond that."""

    capabilities: list[str] | None = None
    """`None` before Ollama 0.6.4."""
    model_info: dict[str, msgspec.Raw] | None = None

    @property
    def context(self) -> int:
        """Tokens that the model can see at once; 0 when unknown."""
        info = self.model_info or {}
        found = next((info[key] for key in info if key.endswith(".context_length")), b"0")
        return int(found) if re.fullmatch(rb"\d{1,9}", bytes(found)) else 0


class _Running(msgspec.Struct):
    name: str
    context_length: int = 0


class _Tags(msgspec.Struct):
    models: list[Tag] | None = None


class _Ps(msgspec.Struct):
    models: list[_Running] | None = None


class _Version(msgspec.Struct):
    version: str


class _News(msgspec.Struct):
    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0


_ABILITIES: dict[str, Ability] = {
    "completion": "chat",
    "tools": "tools",
    "vision": "vision",
    "thinking": "thinking",
    "embedding": "embedding",
    "insert": "insert",
}


def tags(body: bytes) -> list[Tag]:
    """The models that GET /api/tags lists; it says `null` when there are none. Raises GateError."""
    return _read(body, _Tags).models or []


def show(body: bytes) -> Shown:
    """What POST /api/show says. Raises GateError."""
    return _read(body, Shown)


def running(body: bytes) -> dict[str, int]:
    """The models in memory by GET /api/ps, and how many tokens each was loaded for. Raises GateError."""
    return {model.name: model.context_length for model in _read(body, _Ps).models or []}


def version(body: bytes) -> str:
    """Ollama's version by GET /api/version. Raises GateError."""
    return _read(body, _Version).version


def progress(line: bytes, model: str) -> Progress:
    """One line of POST /api/pull. Raises GateError, also for the line that says why it failed."""
    try:
        news = msgspec.json.decode(line, type=_News)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # A pull that fails has status 200: its first line was out before the registry was asked.
        raise GateError(pull_fault(line, model)) from None
    return Progress(news.status, news.digest, news.total, news.completed)


def abilities(capabilities: list[str] | None) -> frozenset[Ability]:
    """Our words for a model's capabilities; of an old server, which tells none, a plain chat model's."""
    if capabilities is None:
        return frozenset(("chat",))
    return frozenset(_ABILITIES[name] for name in capabilities if name in _ABILITIES)


def model(tag: Tag, shown: Shown | None, backend: str, running: dict[str, int]) -> Model:
    """Everything known of one model; `shown` is `None` when it could not be had."""
    shown = shown or Shown(tag.capabilities)
    details = tag.details or _Details()
    told = {
        "format": details.format,
        "family": details.family,
        "parameters": details.parameter_size,
        "quantization": details.quantization_level,
        "digest": tag.digest,
        "remote": tag.remote_host,
        "loaded_context": str(running.get(tag.name) or ""),
    }
    return Model(
        id=tag.name,
        backend=backend,
        created=_seconds(tag.modified_at),
        owned_by=tag.name.split("/")[-2] if "/" in tag.name else "library",
        abilities=abilities(shown.capabilities),
        context=shown.context,
        size=tag.size,
        loaded=tag.name in running,
        details={name: value for name, value in told.items() if value},
    )


def _seconds(moment: str) -> int:
    found = _MOMENT.match(moment)
    if not found:
        return 0
    *numbers, sign, hours, minutes = found.groups("0")
    offset = int(hours) * 3600 + int(minutes) * 60
    seconds = timegm(tuple(map(int, numbers))) - (offset if sign == "+" else -offset)
    return max(0, seconds)  # Go's zero time is in the year 1


def _read(body: bytes, type: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        message = "Ollama's answer is not of its protocol."
        raise GateError(Fault("upstream", message, "Is it Ollama, and up to date?")) from None
