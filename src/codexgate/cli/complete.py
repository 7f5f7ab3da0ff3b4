"""Tab completion of names that the gate knows: quick or nothing, never a word of its own on the terminal."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable

import typer

from ..assemble import backend_names, open_gate, open_memory
from ..records import Ability
from ..settings import Settings, load_settings
from ..stores.sqlite import Sessions
from .terminal import config_file

PATIENCE = 1.0
"""Seconds that a person waits for a completion."""

Find = Callable[[Settings], Coroutine[None, None, Iterable[str]]]


def model_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """The ids of models that begin with `incomplete`; none when they cannot be had in time."""
    return _beginning(ctx, incomplete, lambda settings: _models(settings))


def chat_models(ctx: typer.Context, incomplete: str) -> list[str]:
    """The ids of models that chat."""
    return _beginning(ctx, incomplete, lambda settings: _models(settings, "chat"))


def embedding_models(ctx: typer.Context, incomplete: str) -> list[str]:
    """The ids of models that embed."""
    return _beginning(ctx, incomplete, lambda settings: _models(settings, "embedding"))


def namespaces(ctx: typer.Context, incomplete: str) -> list[str]:
    """The names of namespaces of the memory."""
    return _beginning(ctx, incomplete, _namespaces)


def sessions(ctx: typer.Context, incomplete: str) -> list[str]:
    """The names of conversations, the one used last first."""
    return _beginning(ctx, incomplete, _sessions)


def backends(ctx: typer.Context, incomplete: str) -> list[str]:
    """The names of backends."""
    return _beginning(ctx, incomplete, _backends)


def check_ids(incomplete: str) -> list[str]:
    """The ids of the doctor's checks, and what they begin with."""
    from ..doctor.run import ids

    known = ids()
    found = [*dict.fromkeys(id.partition(".")[0] for id in known), *known]
    return [each for each in found if each.startswith(incomplete)]


def _beginning(ctx: typer.Context, incomplete: str, find: Find) -> list[str]:
    try:
        settings = load_settings(config=config_file(ctx)).settings
        found = asyncio.run(asyncio.wait_for(find(settings), PATIENCE))
    except Exception:  # whatever it is, a traceback between the keystrokes helps nobody
        return []
    return [each for each in found if each.startswith(incomplete)]


async def _models(settings: Settings, ability: Ability | None = None) -> list[str]:
    async with open_gate(settings) as gate:
        models = [model for model in await gate.models() if ability is None or ability in model.abilities]
        return [model.id for model in models] + [*gate.aliases] * (ability != "embedding")


async def _sessions(settings: Settings) -> Iterable[str]:
    file = settings.data_dir / "sessions.db"
    return await Sessions(file).keys() if file.exists() else ()


async def _backends(settings: Settings) -> list[str]:
    return backend_names(settings)


async def _namespaces(settings: Settings) -> list[str]:
    async with open_memory(settings) as memory:
        return [name for name, *_ in await memory.namespaces()]
