"""`codexgate models`: list, show, pull, remove and warm up models.

Knows no backend: what can be installed, the gate tells. How tables and progress
look is `table`'s and `progress`'s.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Annotated, TypeVar

import typer

from ..assemble import open_gate
from ..gate import Gate
from ..records import Health, Model
from ..settings import Settings, load_settings
from . import table
from .complete import model_ids
from .terminal import (
    AsJson,
    ConfigFile,
    Paint,
    config_file,
    confirmed,
    json_text,
    print_line,
    say,
    wants_colour,
)

T = TypeVar("T")

app = typer.Typer(help="List, show, pull, remove and warm up models; alone: list.")

Id = Annotated[str, typer.Argument(metavar="ID", autocompletion=model_ids, show_default=False)]


@app.callback(invoke_without_command=True)
def models(ctx: typer.Context, as_json: AsJson = False, config: ConfigFile = None) -> None:  # noqa: ARG001
    """List, show, pull, remove and warm up models; alone: list."""
    if ctx.invoked_subcommand:
        return
    settings = _settings(ctx)
    found, health = _with_gate(settings, look)
    if as_json:
        print_line(json_text([table.model_object(model) for model in found]))
    else:
        paint = Paint(wants_colour(ctx.obj.colour, sys.stdout))
        width = table.terminal_width() if sys.stdout.isatty() else None
        for line in table.model_table(found, paint, width):
            print_line(line)
    for name, seen in health.items():
        if seen.state == "down" or (seen.state == "absent" and name in settings.backends):
            say(f"{name}: {seen.text}")


@app.command()
def show(ctx: typer.Context, id: Id, as_json: AsJson = False, config: ConfigFile = None) -> None:  # noqa: ARG001
    """Show everything that is known of a model."""
    model = _with_gate(_settings(ctx), lambda gate: gate.model(id))
    for line in [json_text(table.model_object(model))] if as_json else table.model_card(model):
        print_line(line)


@app.command()
def pull(ctx: typer.Context, id: Id, config: ConfigFile = None) -> None:  # noqa: ARG001
    """Install a model; a download that was cut goes on where it stopped."""
    from .progress import progress  # bars are wanted by this command alone

    colour = wants_colour(ctx.obj.colour, sys.stderr)

    async def install(gate: Gate) -> None:
        async with aclosing(gate.pull(id)) as news:
            with progress(sys.stderr, colour=colour) as show_news:
                async for each in news:
                    show_news(each)

    try:
        _with_gate(_settings(ctx), install)
    except KeyboardInterrupt:
        say(f"interrupted; what was loaded is kept, `codexgate models pull {id}` goes on from there.")
        raise
    say(f"{id} is installed.")


@app.command()
def rm(
    ctx: typer.Context,
    id: Id,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: ConfigFile = None,  # noqa: ARG001
) -> None:
    """Delete a model from disk."""

    async def find(gate: Gate) -> Model:
        model = await gate.model(id)
        gate.installer(model)
        return model

    model = _with_gate(_settings(ctx), find)
    size = f" ({table.size(model.size)})" if model.size else ""
    if not yes and not confirmed(f"Delete {model.id}{size} from disk?"):
        say("nothing was deleted.")
        raise typer.Exit(1)
    _with_gate(_settings(ctx), lambda gate: gate.remove(model))
    say(f"{model.id} is deleted.")


@app.command()
def warm(ctx: typer.Context, id: Id, config: ConfigFile = None) -> None:  # noqa: ARG001
    """Load a model into memory, so that its next answer begins at once."""

    async def load(gate: Gate) -> str:
        model = await gate.model(id)
        await gate.warm(model)
        return model.id

    say(f"{_with_gate(_settings(ctx), load)} is in memory.")


async def look(gate: Gate) -> tuple[list[Model], dict[str, Health]]:
    """Every model, and how each backend fares."""
    models, health = await asyncio.gather(gate.models(), gate.health())
    return models, health


def _settings(ctx: typer.Context) -> Settings:
    return load_settings(config=config_file(ctx)).settings


def _with_gate(settings: Settings, use: Callable[[Gate], Awaitable[T]]) -> T:
    async def open_and_use() -> T:
        async with open_gate(settings) as gate:
            return await use(gate)

    return asyncio.run(open_and_use())
