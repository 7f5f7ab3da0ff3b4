"""The command line: the table of commands, the flags before them, and how a command ends.

A command's module is imported only when that command is run, or asked for its own help or
completions: `codexgate --help` reads the table. Nothing here knows what a command does.
"""

import importlib
import logging
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from .. import __version__
from ..errors import GateError
from .coerce import lighten
from .terminal import Colour, ConfigFile, Globals, exit_code, show_fault

COMMANDS = {
    "serve": ("serve:serve", "Run the gate in the foreground."),
    "chat": ("chat:chat", "Ask a model; without a prompt on a terminal, talk with it."),
    "approvals": ("approvals:app", "List what a running gate waits for, and decide it."),
    "models": ("models:app", "List, show, pull, remove and warm up models."),
    "doctor": ("doctor:doctor", "Find out why it does not work, and what mends it."),
    "memory": ("memory:app", "Keep, find, import, export, list and forget memories."),
    "mcp": ("mcp:mcp", "Serve the memory to an MCP client over stdio."),
    "connect": ("connect:connect", "Show or write the settings of other programs for this gate."),
    "config": ("config:config", "Show the effective settings and where each comes from."),
    "key": ("config:key", "Show, make or rotate the API key."),
}
"""By name: the module in this folder with the function or Typer application, and a line of help."""


class _Lazy(TyperGroup):
    """A group whose commands are stubs until one of them is wanted."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, (_, help) in COMMANDS.items():
            self.add_command(TyperCommand(name, help=help))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, stub, rest = super().resolve_command(ctx, args)
        return name, stub and load(str(name)), rest


app = typer.Typer(cls=_Lazy, rich_markup_mode=None, no_args_is_help=True, pretty_exceptions_enable=False)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"codexgate {__version__}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    color: Annotated[Colour, typer.Option(help="Colour what is shown; NO_COLOR is respected.")] = "auto",
    config: ConfigFile = None,  # noqa: ARG001 - config_file finds it
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """One local port for the Codex agent, Ollama's models and one memory."""
    logging.getLogger("codexgate").addHandler(logging.NullHandler())  # a command tells what went wrong itself
    ctx.obj = Globals(color)


def load(name: str) -> Any:
    """Import the command `name` of `COMMANDS` and return it as the click command that it is."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    found = getattr(importlib.import_module(f".{module}", __package__), attribute)
    if isinstance(found, typer.Typer):
        commands = found
    else:
        commands = typer.Typer()
        commands.command(name)(found)
    commands.rich_markup_mode = None
    commands._add_completion = False
    command = get_command(commands)
    command.name = name
    lighten(command)
    return command


def run() -> int:
    """Run the command line of this process and return its exit code; no failure shows a traceback."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        command = get_command(app)
        lighten(command)
        command(prog_name="codexgate")
    except GateError as error:
        show_fault(error.fault, as_json="--json" in sys.argv)
        return exit_code(error.fault)
    return 0
