"""`codexgate config` and `codexgate key`: the effective settings, and the API key.

They show and change; what a setting means is not known here. A secret is shown by `key show`,
`key make` and `key rotate` alone.
"""

import sys
from pathlib import Path

import typer

from .. import apikey
from ..config import Loaded, masked
from ..errors import Fault, GateError
from ..settings import Settings, load_settings
from .terminal import AsJson, ConfigFile, config_file, escape_line, json_text, wants_colour

key = typer.Typer(help="Show, make or rotate the API key.")


def config(ctx: typer.Context, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show the effective settings, each with the place it came from; secrets are masked."""
    loaded = _load(ctx, config)
    values = masked(loaded.settings)
    if as_json:
        typer.echo(
            json_text({name: {"value": values[name], "source": loaded.sources[name]} for name in values})
        )
    else:
        rows = [(name, _text(value), loaded.sources[name]) for name, value in values.items()]
        _table(rows, colour=wants_colour(ctx.obj.colour, sys.stdout))
    for name in loaded.ignored:
        typer.echo(f"{name} is set, but not to anything of use here; it is left alone.", err=True)


@key.callback(invoke_without_command=True)
def state(ctx: typer.Context, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show, make or rotate the API key; alone: say whether there is one, and where."""
    if ctx.invoked_subcommand:
        return
    loaded = _load(ctx, config)
    found = apikey.effective(loaded.settings)
    file = apikey.key_file(loaded.settings)
    where = f"file {file}" if found is None or found.file else loaded.sources["server.api_key"]
    if as_json:
        typer.echo(json_text({"state": "set" if found else "none", "where": where}))
    elif found:
        typer.echo(f"set: {where}")
    else:
        typer.echo(f"none: `codexgate key make` puts one into {file}")


@key.command()
def show(ctx: typer.Context, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Print the key."""
    found = apikey.effective(_load(ctx, config).settings)
    if found is None:
        raise GateError(Fault("authentication", "There is no API key.", "Make one: codexgate key make"))
    _print_key(found.secret.reveal(), found.file, as_json)


@key.command()
def make(ctx: typer.Context, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Make a key, keep it in the key file and print it."""
    loaded = _load(ctx, config)
    file = apikey.key_file(loaded.settings)
    _print_key(apikey.make(file), file, as_json)
    _say_what_changes(loaded)


@key.command()
def rotate(ctx: typer.Context, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Replace the key by a new one and print it; the old one is gone."""
    loaded = _load(ctx, config)
    file = apikey.key_file(loaded.settings)
    _print_key(apikey.rotate(file), file, as_json)
    _say_what_changes(loaded)


def _load(ctx: typer.Context, config: Path | None) -> Loaded[Settings]:
    return load_settings(config=config or config_file(ctx))


def _print_key(text: str, file: Path | None, as_json: bool) -> None:
    typer.echo(json_text({"key": text, "file": file}) if as_json else text)


def _say_what_changes(loaded: Loaded[Settings]) -> None:
    if loaded.settings.server.api_key:
        source = loaded.sources["server.api_key"]
        typer.echo(f"But server.api_key ({source}) is set, and it counts before the file.", err=True)
    else:
        typer.echo("A running gate takes it when it is told to (SIGHUP), or started anew.", err=True)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ", ".join(value)
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else json_text(value)


def _table(rows: list[tuple[str, str, str]], *, colour: bool) -> None:
    from rich.console import Console  # 50 ms that only this table needs
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, style in (("SETTING", ""), ("VALUE", ""), ("SOURCE", "dim")):
        table.add_column(title, style=style, overflow="fold")
    for row in rows:
        table.add_row(*(Text(escape_line(cell)) for cell in row))
    Console(force_terminal=colour, no_color=not colour, highlight=False).print(table)
