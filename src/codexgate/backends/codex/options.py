"""Settings of the Codex backend."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from ...chat import Sandbox
from ...dialects.codex.ask import History


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
    history: Annotated[
        History,
        msgspec.Meta(
            description="How a new thread is told what was said: as `items`, or as one text (`transcript`)."
        ),
    ] = "items"
    activity: Annotated[
        Literal["auto", "content", "reasoning", "off"],
        msgspec.Meta(
            description="Where commands, changes and plans are shown; `auto`: by the kind of client."
        ),
    ] = "auto"
    approvals: Annotated[
        Literal["never", "ask"],
        msgspec.Meta(description="Whether Codex may ask a person to go beyond the sandbox."),
    ] = "never"
    task_model: Annotated[
        str, msgspec.Meta(description="Model for a client's own errands, such as titles; empty: the chat's.")
    ] = ""
    memory_url: Annotated[
        str, msgspec.Meta(description="MCP server of the memory that Codex uses; empty: this gate's own.")
    ] = ""
    worktrees: Annotated[
        bool, msgspec.Meta(description="Give each chat a git worktree of its own, below `codex.cwd`.")
    ] = False
    use_host_config: Annotated[
        bool,
        msgspec.Meta(description="Let the MCP servers, hooks and notifications of `config.toml` run."),
    ] = False
    turn_timeout: Annotated[float, msgspec.Meta(gt=0, description="Longest turn (seconds).")] = 1800.0
    idle_timeout: Annotated[
        float, msgspec.Meta(gt=0, description="Longest silence within a turn (seconds).")
    ] = 120.0
    approval_timeout: Annotated[
        float, msgspec.Meta(gt=0, description="Time to decide an approval; then it is declined (seconds).")
    ] = 120.0
    tool_timeout: Annotated[
        float, msgspec.Meta(gt=0, description="Time for a client to run its tools in a turn (seconds).")
    ] = 600.0
