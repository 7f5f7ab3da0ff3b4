"""Makes a CODEX_HOME whose only model provider is a scripted one, so that the real Codex needs no account."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PROVIDER = "scripted"
MODEL = "scripted-model"


def make_codex_home(path: Path, provider_url: str, extra: str = "", **provider: Any) -> Path:
    """Write `path`/config.toml and return `path`.

    `provider` overrides or adds keys of the provider's table (`stream_max_retries=2`, `env_key="KEY"`;
    `None` leaves one out); `extra` is TOML put at the end, such as a table of MCP servers.
    """
    path.mkdir(parents=True, exist_ok=True)
    keys: dict[str, Any] = {
        "name": PROVIDER,
        "base_url": provider_url,
        "wire_api": "responses",
        "request_max_retries": 0,
        "stream_max_retries": 0,
        **provider,
    }
    top = _lines({"model_provider": PROVIDER, "model": MODEL})
    path.joinpath("config.toml").write_text(f"{top}\n[model_providers.{PROVIDER}]\n{_lines(keys)}\n{extra}\n")
    return path


def _lines(keys: Mapping[str, Any]) -> str:
    """TOML lines; a JSON scalar is also TOML."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items() if value is not None)
