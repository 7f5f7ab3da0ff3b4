"""Tab completion of model ids: quick or nothing, and never a word of its own on the terminal."""

import asyncio

import typer

from ..assemble import open_gate
from ..settings import load_settings
from .terminal import config_file

PATIENCE = 1.0
"""Seconds that a person waits for a completion."""


def model_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """The ids that begin with `incomplete`; none when they cannot be had in time."""
    try:
        ids = asyncio.run(asyncio.wait_for(_ids(ctx), PATIENCE))
    except Exception:  # whatever it is, a traceback between the keystrokes helps nobody
        return []
    return [id for id in ids if id.startswith(incomplete)]


async def _ids(ctx: typer.Context) -> list[str]:
    settings = load_settings(config=config_file(ctx)).settings
    async with open_gate(settings) as gate:
        return [*(model.id for model in await gate.models()), *gate.aliases]
