"""What the user's own Codex configuration means to us, and what of it is shut out.

Overrides on the command line cannot shut out a host's configuration: tables merge, so
`mcp_servers={}` removes no server, and a rule like `prefix_rule(["touch"], "allow")` in
`rules/` lets a command run outside every sandbox. So the child gets a home of its own, made
anew at each start: the login and the threads are the user's, by links; of `config.toml` only
what chooses a model and a provider is taken over.
"""

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ... import folders

ARGUMENTS = tuple(
    part
    for setting in (
        "notify=[]",
        "features.hooks=false",
        "features.apps=false",
        "features.plugins=false",
        "features.remote_plugin=false",
        "features.skill_mcp_dependency_install=false",
        "project_doc_max_bytes=0",
        "skills.include_instructions=false",
        "skills.bundled.enabled=false",
        "shell_environment_policy.inherit=core",
    )
    for part in ("-c", setting)
)
"""What a private home alone does not stop: defaults, what lies in the folder it works in, and the
child's own environment, in which commands would otherwise read the providers' keys."""

BOUNDED = ("-c", "features.unbounded_connection_retries=false", "-c", "thread_unload_delay_secs=0")
"""A model server that is down is an error, not something to wait for for ever; and a thread that
was unsubscribed from is freed at once, where by default it stays, about 1 MB each."""

RETRIES = {"request_max_retries": 1, "stream_max_retries": 1}
"""Of each provider, unless the user has set them: by default a 500 costs 30 requests and 25 s."""

LINKED = ("auth.json", ".env", "sessions", "archived_sessions")
"""Codex writes through these links: a refreshed login is refreshed for the user too."""

TAKEN = (
    "model",
    "model_provider",
    "model_providers",
    "openai_base_url",
    "chatgpt_base_url",
    "oss_provider",
    "model_catalog_json",
    "model_context_window",
    "model_auto_compact_token_limit",
    "model_reasoning_effort",
    "model_reasoning_summary",
    "model_verbosity",
    "service_tier",
    "cli_auth_credentials_store",
    "forced_login_method",
    "forced_chatgpt_workspace_id",
)
"""The settings of the user's `config.toml` that neither run anything nor allow anything."""


class Host(msgspec.Struct, frozen=True):
    """The user's configuration, as far as it is taken over."""

    home: Path
    """The user's `CODEX_HOME`."""
    settings: dict[str, Any] = {}

    @property
    def model(self) -> str:
        """The model that Codex would use by itself; empty when none is set."""
        return str(self.settings.get("model", ""))

    @property
    def provider(self) -> str:
        """The model provider; empty for the built-in one."""
        return str(self.settings.get("model_provider", ""))

    @property
    def signing_in(self) -> str:
        """What to do when the provider lets nobody in; empty where a login of Codex's own does it."""
        provider = self.settings.get("model_providers", {}).get(self.provider, {})
        if not provider or provider.get("requires_openai_auth"):
            return ""
        key = provider.get("env_key")
        where = f"in the environment variable {key}" if key else f"at `model_providers.{self.provider}`"
        return f"Check the provider's key, {where}."

    @property
    def env_keys(self) -> frozenset[str]:
        """The variables that providers take their keys from."""
        found: set[str] = set()
        for provider in self.settings.get("model_providers", {}).values():
            found.add(provider.get("env_key", ""))
            found.update(provider.get("env_http_headers", {}).values())
        return frozenset(found - {""})


def read(home: Path) -> Host:
    """Read `config.toml` in `home`; one that is missing or broken counts as empty."""
    try:
        config = tomllib.loads((home / "config.toml").read_text("utf-8"))
    except (OSError, ValueError):
        return Host(home)
    settings = {key: config[key] for key in TAKEN if key in config}
    providers = settings.get("model_providers", {})
    settings["model_providers"] = {
        name: {**RETRIES, **provider} for name, provider in providers.items() if isinstance(provider, Mapping)
    }
    if catalog := settings.get("model_catalog_json"):
        settings["model_catalog_json"] = str(home / str(catalog))  # relative ones are relative to it
    return Host(home, settings)


def private_home(host: Host, path: Path) -> Path:
    """Make the child's home at `path`, which is ours alone. Raises OSError.

    A file, not arguments: provider tables may hold keys, and everybody can read an argument.
    """
    folders.make(path)
    path.chmod(0o700)
    config = path / "config.toml"
    config.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(config, flags, 0o600), "w", encoding="utf-8") as file:
        file.write("".join(f"{key} = {toml(value)}\n" for key, value in host.settings.items()))
    for name in LINKED:
        link, target = path / name, host.home / name
        if not link.is_symlink():
            if link.is_dir():
                continue  # threads of a time when the user had none
            link.unlink(missing_ok=True)
            if name == "sessions":
                folders.make(target)
            link.symlink_to(target)
    return path


def thread_config(cwd: str, use_host_config: bool) -> dict[str, Any]:
    """Configuration of every thread: plans are made, and the folder stays untrusted.

    An untrusted folder's own `.codex/` is not read. Left undecided, a sandbox that may write
    would make Codex note the folder as trusted, for good.
    """
    config: dict[str, Any] = {"tools": {"update_plan": {"enabled": True}}}
    if not use_host_config:
        config["projects"] = {cwd: {"trust_level": "untrusted"}}
    return config


def toml(value: Any) -> str:
    """`value`, as `tomllib` read it, as TOML on one line. JSON's strings are TOML's but for DEL."""
    match value:
        case bool() | int() | float() | str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list():
            return f"[{', '.join(toml(one) for one in value)}]"
        case dict():
            return "{" + ", ".join(f"{toml(str(key))} = {toml(one)}" for key, one in value.items()) + "}"
        case _:  # dates and times
            return value.isoformat() if hasattr(value, "isoformat") else toml(str(value))
