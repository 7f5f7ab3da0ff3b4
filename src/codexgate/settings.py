"""The settings there are, and where they are looked for.

The only module that knows every section. What a backend can be told stands beside the backend.
It makes nothing: no folder, no file, no live object.
"""

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
import platformdirs

from .backends.codex.options import CodexOptions
from .backends.demo import DemoOptions
from .backends.ollama import OllamaOptions, address
from .backends.openai import OpenAIOptions
from .config import FILE_VARIABLE, Foreign, Loaded, Secret, load
from .embedding import EmbeddingOptions
from .errors import GateError, invalid
from .gate import Alias
from .logs import Level, LogFormat
from .stages.artifacts import ArtifactOptions
from .stages.retrieval import RetrievalOptions
from .stores.files import FileOptions
from .stores.memory import MemoryOptions
from .stores.responses import ResponseOptions
from .stores.threads import ThreadOptions

NAME = "codexgate"
FILE = "codexgate.toml"


def _said(description: str) -> msgspec.Meta:
    return msgspec.Meta(description=description)


def _data_dir() -> Path:
    return platformdirs.user_data_path(NAME, appauthor=False)


class ServerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where the gate listens and whom it lets in."""

    host: Annotated[str, _said("Address to listen on; anything but loopback needs an API key.")] = "127.0.0.1"
    port: Annotated[
        int, msgspec.Meta(ge=0, le=65535, description="TCP port; 0 takes any free one and prints it.")
    ] = 8140
    api_key: Annotated[Secret, _said("The API key itself; a key file keeps it out of this file.")] = Secret()
    api_key_file: Annotated[
        Path | None, _said("File with the API key, mode 0600; else `api-key` in `data_dir` if it is there.")
    ] = None
    allowed_hosts: Annotated[
        tuple[str, ...], _said("Further names under which the gate may be addressed (`Host` header).")
    ] = ()
    allowed_origins: Annotated[
        tuple[str, ...], _said("Web pages that may call the gate, as `https://chat.example`.")
    ] = ()
    chat_headers: Annotated[
        tuple[str, ...], _said("Request headers that name the chat a request goes on with.")
    ] = ("X-OpenWebUI-Chat-Id", "X-Session-Id")
    max_connections: Annotated[int, msgspec.Meta(ge=1, description="Connections open at once.")] = 256
    max_streams: Annotated[int, msgspec.Meta(ge=1, description="Answers in progress at once.")] = 64
    drain: Annotated[
        float,
        msgspec.Meta(ge=0, description="Time that answers in progress get when the gate stops (seconds)."),
    ] = 10


class LogOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the log looks like."""

    format: Annotated[LogFormat, _said("One event a line, for people or for programs.")] = "text"
    level: Annotated[Level, _said("The least severe events that are logged.")] = "info"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set."""

    data_dir: Annotated[
        Path, _said("Folder of everything the gate keeps; by default the user data folder of the system.")
    ] = msgspec.field(default_factory=_data_dir)
    default_model: Annotated[str, _said("Model of a request that names none; else the first one found.")] = ""
    backends: Annotated[tuple[str, ...], _said("Backends to use; by default all that are found.")] = ()
    server: ServerOptions = ServerOptions()
    codex: CodexOptions = CodexOptions()
    ollama: OllamaOptions = OllamaOptions()
    openai: Annotated[
        dict[str, OpenAIOptions],
        _said("An OpenAI-compatible server; NAME is its name in model ids, as in `NAME/ID`."),
    ] = {}
    demo: DemoOptions = DemoOptions()
    threads: ThreadOptions = ThreadOptions()
    responses: ResponseOptions = ResponseOptions()
    files: FileOptions = FileOptions()
    memory: MemoryOptions = MemoryOptions()
    embeddings: EmbeddingOptions = EmbeddingOptions()
    retrieval: RetrievalOptions = RetrievalOptions()
    artifacts: ArtifactOptions = ArtifactOptions()
    log: LogOptions = LogOptions()
    aliases: Annotated[
        dict[str, str | Alias],
        _said("A model under another name: its id, or a table with settings of its own."),
    ] = {}

    @property
    def aliased(self) -> dict[str, Alias]:
        """The aliases, the short ones written out."""
        return {
            name: Alias(model=alias) if isinstance(alias, str) else alias
            for name, alias in self.aliases.items()
        }


def load_settings(
    flags: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    config: Path | None = None,
) -> Loaded[Settings]:
    """Read the effective settings; `flags` are by key (`server.port`), `config` is `--config`.

    Raises GateError (`invalid_request`, code `invalid_setting`) for whatever is wrong in any layer.
    """
    environ = os.environ if environ is None else environ
    try:
        here = cwd or Path.cwd()
    except OSError as error:
        message = f"The folder that this was started in cannot be used: {error.strerror}."
        raise invalid(message, advice="Go to another one: cd ~", code="invalid_setting") from error
    file = find_file(config, environ, here)
    loaded = load(Settings, file=file, environ=environ, flags=flags, flag_names=FLAGS, foreign=FOREIGN)
    if file == here / FILE and file != config:
        _keep_authority(loaded, file)
    _check(loaded)
    return loaded


def find_file(config: Path | None, environ: Mapping[str, str], cwd: Path) -> Path | None:
    """The settings file: `--config`, `$CODEXGATE_CONFIG`, in `cwd`, or in the user's folder.

    One that was named is returned whether it is there or not. Raises GateError for a file in
    `cwd` that somebody else may have put there.
    """
    if config:
        return config
    if named := environ.get(FILE_VARIABLE, "").strip():
        return Path(named).expanduser()
    if (here := cwd / FILE).exists():
        return _trusted(here)
    home = platformdirs.user_config_path(NAME, appauthor=False) / FILE
    return home if home.exists() else None


def _trusted(file: Path) -> Path:
    # A settings file names programs to run. In a folder like /tmp anybody could leave one for us,
    # as with git's `safe.directory` (CVE-2022-24765).
    if hasattr(os, "geteuid") and os.geteuid() != 0 and file.stat().st_uid not in (0, os.geteuid()):
        advice = f"If you trust it, name it: --config {file}"
        raise invalid(f"{file} belongs to another user.", code="invalid_setting", advice=advice)
    return file


def _keep_authority(loaded: Loaded[Settings], file: Path) -> None:
    # A cloned repository may bring a settings file of its own, and it is the user's by owner.
    # Being in its folder is not yet a wish that it decides what may run.
    servers = [key for key in loaded.sources if key.startswith("openai.")]
    sandboxes = [f"aliases.{name}" for name, alias in loaded.settings.aliased.items() if alias.sandbox]
    for key in (*AUTHORITY, *servers, *sandboxes):  # a server may be sent a key of the environment
        if loaded.sources[key].startswith("file "):
            message = f"{key} is not taken from the folder one happens to be in."
            raise _wrong(loaded, key, message, f"Name the file if you trust it: --config {file}")


def _check(loaded: Loaded[Settings]) -> None:
    """What no single value tells: an alias of an alias, a misplaced sandbox, an empty key, two sizes."""
    aliases = loaded.settings.aliased
    for name, alias in aliases.items():
        other = aliases.get(alias.model)
        if other and other.model != alias.model:  # one of its own name gives a model other settings
            key, near = f"aliases.{name}", "" if other.model in aliases else other.model
            advice = f"Did you mean {near}?" if near else "`codexgate models` lists the models."
            raise _wrong(loaded, key, f"{key} must be a model, but '{alias.model}' is an alias too.", advice)
        if "sandbox" in alias.options:  # no backend would heed it there
            key = f"aliases.{name}"
            raise _wrong(loaded, key, f"{key}.options.sandbox is not a setting.", f"It is {key}.sandbox.")
    sizes = loaded.settings.ollama
    if 0 < sizes.max_num_ctx < sizes.num_ctx:
        message = "ollama.num_ctx is larger than ollama.max_num_ctx."
        raise _wrong(loaded, "ollama.num_ctx", message, f"Set ollama.max_num_ctx to {sizes.num_ctx} too.")
    key = "server.api_key"
    if not loaded.settings.server.api_key and loaded.sources[key] != "default":
        advice = "Leave it out, or make one: codexgate key make"
        raise _wrong(loaded, key, f"{key} is empty.", advice)


def _wrong(loaded: Loaded[Settings], key: str, message: str, advice: str) -> GateError:
    place = loaded.sources[key].partition(" ")[2]
    return invalid(f"{place}: {message}", key, "invalid_setting", advice)


AUTHORITY = (
    "codex.binary",
    "codex.cwd",
    "codex.sandbox",
    "codex.use_host_config",
    "codex.approvals",
    "codex.memory_url",
    "server.host",
    "threads.redis_url",
    "responses.database_url",
    "memory.database_url",
    "embeddings.provider",
    "embeddings.base_url",
    "artifacts.dir",
    "data_dir",
)
"""Settings that decide what may run and who may come in."""


# What others call our settings


def _ollama_url(text: str) -> str | None:
    url = address(text)
    try:
        split = urlsplit(url)
        usable = split.scheme in ("http", "https") and split.hostname and split.port != 0
    except ValueError:  # a port that is none
        return None
    return url if usable else None


def _http_url(text: str) -> str | None:
    return text if text.lower().startswith(("http://", "https://")) else None


def _redis_url(text: str) -> str | None:
    return text if text.startswith(("redis://", "rediss://", "unix://")) else None


def _postgres_url(text: str) -> str | None:
    return text if text.startswith(("postgres://", "postgresql://")) else None


def _seconds(text: str) -> str | None:
    """Of milliseconds."""
    return str(int(text) / 1000) if text.isascii() and text.isdigit() and int(text) else None


def _count(text: str) -> str | None:
    return text if text.isascii() and text.isdigit() and int(text) else None


def _ip_address(text: str) -> str | None:
    # Some shells and conda put the machine's or the compiler's name into HOST; listening there
    # was nobody's wish.
    try:
        return text if text == "localhost" else str(ipaddress.ip_address(text))
    except ValueError:
        return None


FOREIGN = {
    "OLLAMA_HOST": Foreign("ollama.url", _ollama_url),
    "LLAMA_BASE_URL": Foreign("openai.llama.base_url", _http_url),
    "LLAMA_API_KEY": Foreign("openai.llama.api_key"),
    "LLAMA_MODELS": Foreign("openai.llama.models"),
    "DATABASE_URL": Foreign("memory.database_url", _postgres_url),
    "OPENAI_API_KEY": Foreign("embeddings.api_key"),
    "OPENAI_API_BASE_URL": Foreign("embeddings.base_url", _http_url),
    "OPENAI_API_BASE": Foreign("embeddings.base_url", _http_url),
    "OPENAI_EMBEDDING_MODEL": Foreign("embeddings.model"),
    "OPENAI_EMBEDDING_DIMENSION": Foreign("embeddings.dimension", _count),
    "OPENAI_EMBEDDING_TIMEOUT_MS": Foreign("embeddings.timeout", _seconds),
    "OPENAI_EMBEDDING_MAX_INPUT_CHARS": Foreign("embeddings.max_input_chars", _count),
    "CODEX_CWD": Foreign("codex.cwd"),
    "JANGAR_MODELS": Foreign("codex.models"),
    "JANGAR_DEFAULT_MODEL": Foreign("default_model"),
    "JANGAR_REDIS_URL": Foreign("threads.redis_url", _redis_url),
    "REDIS_URL": Foreign("threads.redis_url", _redis_url),
    "JANGAR_MCP_URL": Foreign("codex.memory_url", _http_url),
    "JANGAR_CHAT_KEY_PREFIX": Foreign("threads.chat_prefix"),
    "JANGAR_WORKTREE_KEY_PREFIX": Foreign("threads.worktree_prefix"),
    "HOST": Foreign("server.host", _ip_address),
    "PORT": Foreign("server.port"),
}
"""Variables that people coming here already have set, below `CODEXGATE_*` in order."""

FLAGS = {
    "server.host": "--host",
    "server.port": "--port",
    "server.api_key_file": "--api-key-file",
    "default_model": "--model",
    "backends": "--backend",
    "retrieval.namespace": "--memory",
    "artifacts.dir": "--artifacts",
}
"""Flags that are not spelled `--SECTION-KEY`."""
