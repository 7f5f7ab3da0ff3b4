"""The way through the gate, where the direct one does not work: the remedies that lead Codex there."""

import asyncio
import shlex

from .. import apikey
from ..errors import GateError
from ..settings import Settings
from .target import gate_url, start_codex
from .words import Asked, Remedy


async def is_locked(settings: Settings) -> bool:
    """Whether the gate wants a key; it does not start with one that cannot be used."""
    try:
        return await asyncio.to_thread(apikey.effective, settings) is not None
    except GateError:
        return True


def command(asked: Asked, model: str, *variables: str, locked: bool) -> str:
    """The command that leads Codex to the gate with these settings: `codex --oss` sends no key."""
    if not locked:
        return start_codex(f"{gate_url(asked.settings)}/v1", model)
    return " ".join((*variables, connect(model)))


def connect(model: str, url: str = "") -> str:
    """The command that shows how Codex reaches the gate at `url`, else that of the settings, with its key."""
    flags = {"--url": url, "-m": model}
    given = [f"{name} {shlex.quote(value)}" for name, value in flags.items() if value]
    return " ".join(("codexgate connect codex", *given))


def before(asked: Asked, model: str, *variables: str, locked: bool) -> Remedy:
    """Put the gate before a server that these variables name."""
    serve = " ".join((*variables, "codexgate serve"))
    then = "let Codex reach it as a provider, which has a key" if locked else "start Codex against the gate"
    text = f"Put the gate in front of it, which has every route:\n  {serve}\nThen {then}:"
    return Remedy(text, command(asked, model, *variables, locked=locked))
