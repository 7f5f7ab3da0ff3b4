"""Settings of the Codex backend."""

from pathlib import Path
from typing import Annotated

import msgspec

from ...dialects.codex.ask import Sandbox


class CodexOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator may set; nothing of it can come from a request."""

    binary: Annotated[
        str,
        msgspec.Meta(description="The `codex` program; empty: the packaged one, else the one on `PATH`."),
    ] = ""
    cwd: Annotated[
        Path | None, msgspec.Meta(description="Folder that Codex works in; by default an empty private one.")
    ] = None
    sandbox: Annotated[
        Sandbox,
        msgspec.Meta(
            description="What its commands may do: `read-only`, `workspace-write` or `danger-full-access`."
        ),
    ] = "read-only"
    models: Annotated[
        tuple[str, ...], msgspec.Meta(description="Models to offer beside those that Codex lists.")
    ] = ()
    plain: Annotated[
        bool,
        msgspec.Meta(description="A system message replaces Codex's own instructions."),
    ] = False
    use_host_config: Annotated[
        bool,
        msgspec.Meta(description="Let the MCP servers, hooks and notifications of `config.toml` run."),
    ] = False
    turn_timeout: Annotated[float, msgspec.Meta(gt=0, description="Longest turn (seconds).")] = 1800.0
    idle_timeout: Annotated[
        float, msgspec.Meta(gt=0, description="Longest silence within a turn (seconds).")
    ] = 120.0
