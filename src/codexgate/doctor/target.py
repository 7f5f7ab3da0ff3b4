"""Which server is meant: Codex's, the gate's Ollama, the gate itself."""

import ipaddress
import shlex
from urllib.parse import urlsplit

import msgspec

from .. import door
from ..backends.ollama import address
from ..settings import Settings
from .words import Asked, Remedy

DEFAULT = "http://127.0.0.1:11434"
USUAL = "http://localhost:11434/v1"
"""Where Codex looks when nobody names a server."""


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
        return door.is_loopback(urlsplit(url).hostname or "")
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


def start_codex(base_url: str, model: str) -> str:
    """The command that starts Codex against the server at `base_url`."""
    chosen = shlex.quote(model or "MODEL")
    return f"CODEX_OSS_BASE_URL={shlex.quote(base_url)} codex --oss --local-provider ollama -m {chosen}"


def look_at_tls(asked: Asked) -> Remedy:
    """What to do about a server whose TLS cannot be trusted: its own row has what mends it."""
    url = f" --url {shlex.quote(asked.url)}" if asked.url else ""
    return Remedy(
        "The row network.tls says why, and what mends it.", f"codexgate doctor{url} --only network.tls"
    )


def pull(asked: Asked, url: str, model: str) -> str:
    """The command that installs `model` in the Ollama at `url`."""
    ours = root(asked.settings.ollama.url) == root(url)
    where = "" if ours else f"CODEXGATE_OLLAMA_URL={shlex.quote(root(url))} "
    return f"{where}codexgate models pull {shlex.quote(model)}"
