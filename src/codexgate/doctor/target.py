"""Which server is meant: Codex's, the gate's Ollama, the gate itself; and whose model."""

import ipaddress
import shlex
from urllib.parse import urlsplit

import msgspec

from ..backends.ollama import address
from ..settings import Settings
from .words import Asked

DEFAULT = "http://127.0.0.1:11434"
USUAL = "http://localhost:11434/v1"
"""Where Codex looks when nobody names a server."""
OTHERS = ("codex", "demo", "local")
"""Backends that are always there, whose models Ollama has not."""


class Target(msgspec.Struct, frozen=True):
    """A base URL, and who named it."""

    url: str
    source: str
    """`--url`, or the variable."""


def codex_oss(asked: Asked) -> Target:
    """What `codex --oss` asks: it reads these two variables, and never `OLLAMA_HOST`."""
    environ = asked.environ
    if asked.url:
        return Target(asked.url, "--url")
    if url := environ.get("CODEX_OSS_BASE_URL", "").strip():
        return Target(url, "CODEX_OSS_BASE_URL")
    if port := environ.get("CODEX_OSS_PORT", "").strip():
        return Target(f"http://localhost:{port}/v1", "CODEX_OSS_PORT")
    return Target(USUAL, "")


def root(url: str) -> str:
    """The root of the server that a base URL names, however it is spelled."""
    return address(url).removesuffix("/v1").rstrip("/")


def is_loopback(url: str) -> bool:
    """Whether the server is on this machine."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def gate_url(settings: Settings) -> str:
    """Where a gate with these settings is reached from this machine."""
    host = settings.server.host
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{settings.server.port}"
    if found.is_unspecified:
        found = ipaddress.ip_address("127.0.0.1" if found.version == 4 else "::1")
    return f"http://{f'[{found}]' if found.version == 6 else found}:{settings.server.port}"


def ollama_model(asked: Asked) -> str:
    """The model of `--model` as Ollama knows it; empty when another backend has it, or none is asked for."""
    name = _unaliased(asked)
    if name.startswith("ollama/"):
        return name.removeprefix("ollama/")
    return "" if _backend(asked) and not asked.url else name


def other_backend(asked: Asked) -> str:
    """The backend that has the wanted model by its name, if that is neither Codex nor Ollama; else empty."""
    found = _backend(asked)
    return "" if found in ("codex", "ollama") else found


def _backend(asked: Asked) -> str:
    name = _unaliased(asked).partition("/")[0]
    return name if name in OTHERS or name in asked.settings.openai else ""


def _unaliased(asked: Asked) -> str:
    alias = asked.settings.aliased.get(asked.model)
    return asked.model if alias is None else alias.model


def start_codex(base_url: str, model: str) -> str:
    """The command that starts Codex against the server at `base_url`."""
    chosen = shlex.quote(model or "MODEL")
    return f"CODEX_OSS_BASE_URL={shlex.quote(base_url)} codex --oss --local-provider ollama -m {chosen}"


def pull(asked: Asked, url: str, model: str) -> str:
    """The command that installs `model` in the Ollama at `url`."""
    ours = root(asked.settings.ollama.url) == root(url)
    where = "" if ours else f"CODEXGATE_OLLAMA_URL={shlex.quote(root(url))} "
    return f"{where}codexgate models pull {shlex.quote(model)}"
