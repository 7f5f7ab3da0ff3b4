"""What the user's own Codex configuration means to us, and what of it is shut out.

The login and the model providers of `CODEX_HOME/config.toml` are used; whatever in it runs
programs or changes what Codex may do is not, unless the operator says so.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec


class Host(msgspec.Struct, frozen=True):
    """The parts of the user's configuration that we look at."""

    model: str = ""
    """The model that Codex would use by itself."""
    provider: str = ""
    """The model provider, if it is not the built-in one."""
    env_keys: frozenset[str] = frozenset()
    """Variables that providers take their keys from."""
    mcp_servers: tuple[str, ...] = ()


def read(home: Path) -> Host:
    """Read `config.toml` in `home`; one that is missing or broken counts as empty.

    Codex itself says what is wrong with a broken one, in better words.
    """
    try:
        config = tomllib.loads((home / "config.toml").read_text("utf-8"))
    except (OSError, ValueError):
        return Host()
    providers = _table(config, "model_providers")
    return Host(
        model=str(config.get("model", "")),
        provider=str(config.get("model_provider", "")),
        env_keys=frozenset(name for provider in providers.values() for name in _env_keys(provider)),
        mcp_servers=tuple(_table(config, "mcp_servers")),
    )


def _env_keys(provider: Any) -> list[str]:
    """Of one provider: `env_key`, and the variables that its headers are filled from."""
    if not isinstance(provider, Mapping):
        return []
    headers = provider.get("env_http_headers")
    names = [provider.get("env_key"), *(headers.values() if isinstance(headers, Mapping) else [])]
    return [name for name in names if isinstance(name, str)]


def _table(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = config.get(key)
    return found if isinstance(found, Mapping) else {}


def arguments(host: Host, use_host_config: bool) -> list[str]:
    """Command line of the child."""
    return []


def thread_config(host: Host, use_host_config: bool) -> dict[str, Any]:
    """Configuration of every thread."""
    return {}
