"""What can be set about Ollama, and what people mean by its address."""

from typing import Annotated

import msgspec
from msgspec import Meta

DEFAULT = "http://127.0.0.1:11434"


class OllamaOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What can be set about Ollama."""

    url: Annotated[str, Meta(description="Where Ollama listens.")] = DEFAULT
    num_ctx: Annotated[
        int,
        Meta(ge=0, description="Context that every model is loaded with (tokens); 0: as each request needs."),
    ] = 0
    max_num_ctx: Annotated[
        int,
        Meta(
            ge=0,
            description="Largest context that a model is loaded with, whoever asks (tokens); 0: its own.",
        ),
    ] = 131_072
    hold_load: Annotated[
        bool, Meta(description="Let a model be loaded to its end when the client that wanted it has left.")
    ] = True
    keep_alive: Annotated[
        str,
        Meta(description="How long a model stays in memory, as `10m`; `-1`: for ever; empty: Ollama's own."),
    ] = ""
    connect_timeout: Annotated[
        float, Meta(gt=0, description="Time that Ollama has to accept a connection (seconds).")
    ] = 2
    first_token_timeout: Annotated[
        float, Meta(gt=0, description="Time that a model has for its first word, loading included (seconds).")
    ] = 300
    idle_timeout: Annotated[
        float, Meta(gt=0, description="Longest pause within an answer before it counts as lost (seconds).")
    ] = 120


def address(text: str) -> str:
    """The URL of Ollama's root that people mean by `text`, as in `OLLAMA_HOST` or an OpenAI base URL.

    Without a scheme the port is 11434, with one the scheme's own (Ollama, envconfig/config.go); an
    address to listen on is reached on loopback; a trailing `/v1` is not part of the root.
    """
    scheme, _, rest = text.strip(" \t\"'").rpartition("://")
    authority, _, path = rest.partition("/")
    user, at, authority = authority.rpartition("@")
    if authority.count(":") > 1 and "[" not in authority:
        authority = f"[{authority}]"
    host, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        host, port = authority, ""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104
    if not scheme and not port:
        port = "11434"
    path = "/" + path.strip("/")
    path = path.removesuffix("/v1").rstrip("/")
    return f"{scheme or 'http'}://{user}{at}{host}{':' + port if port else ''}{path}"
