"""Whose the wanted model is: asked once in a run, of the backends of the gate as a request would ask them.

Ollama has checks of its own: a model that is installed there, or named as its, is nobody else's.
"""

import asyncio
import tempfile
from contextlib import suppress
from pathlib import Path

import msgspec

from ..dialects.ollama import models as catalog
from ..errors import Fault, GateError
from ..records import Model
from .reach import hear
from .target import root
from .words import Asked

BUILT_IN = ("codex", "ollama", "demo", "local")
"""Backends that are always there."""
PATIENCE = 2.0
"""Seconds that the backends have to list their models."""


async def look(asked: Asked) -> Model | Fault | None:
    """The model as another backend than Ollama has it, or why none does; `None` when it is Ollama's.

    With `--url` it is that server's, whatever it is called: nobody is asked.
    """
    if not asked.model or asked.url or backend(asked) == "ollama":
        return None
    if "whose" not in asked.heard:
        asked.heard["whose"] = asyncio.ensure_future(_look(asked))
    found: Model | Fault | None = await asyncio.shield(asked.heard["whose"])  # others wait for it too
    return found


async def ollama_model(asked: Asked) -> str:
    """The model of `--model` as Ollama knows it; empty when another backend has it, or none is asked for."""
    found = await look(asked)
    if isinstance(found, Model) or (found and backend(asked)):
        return ""
    return _unaliased(asked).removeprefix("ollama/")


async def is_nobodys(asked: Asked) -> bool:
    """Whether Ollama may install the wanted model: no other backend has it, as far as all of them tell."""
    found = await look(asked)
    return found is None or (isinstance(found, Fault) and found.code == "model_not_found")


def backend(asked: Asked) -> str:
    """The backend that the wanted model names (`box/tiny`); empty when it names none."""
    name, slash, _ = _unaliased(asked).partition("/")
    return name if slash and (name in BUILT_IN or name in asked.settings.openai) else ""


def _unaliased(asked: Asked) -> str:
    alias = asked.settings.aliased.get(asked.model)
    return asked.model if alias is None else alias.model


async def _look(asked: Asked) -> Model | Fault | None:
    from ..assemble import backend_names, open_gate  # every backend, for this alone

    name, named = _unaliased(asked), backend(asked)
    if not named:
        tags = await hear(asked, root(asked.settings.ollama.url), "/api/tags")
        with suppress(GateError):
            if tags.ok and {tag.name for tag in catalog.tags(tags.body)} & {name, f"{name}:latest"}:
                return None
    try:
        used = asked.settings.backends or backend_names(asked.settings)
        # One that is named is asked alone, if the gate uses it.
        chosen = tuple(each for each in used if each == named or (named not in used and each != "ollama"))
        if not chosen:
            return Fault("not_found", "The gate uses Ollama alone.", code="model_not_found")
        with tempfile.TemporaryDirectory(prefix="codexgate-doctor-", ignore_cleanup_errors=True) as folder:
            # Codex makes a home of its own there, so that nothing is written into the user's.
            settings = msgspec.structs.replace(
                asked.settings,
                backends=chosen,
                data_dir=Path(folder),
                codex=msgspec.structs.replace(asked.settings.codex, use_host_config=False),
            )
            async with open_gate(settings) as gate, asyncio.timeout(PATIENCE):
                return await gate.model(asked.model)
    except GateError as error:
        return error.fault
    except TimeoutError:
        who = named or "A backend"
        return Fault(
            "timeout", f"{who} did not list its models within {PATIENCE:g} s.", "Restart it: it hangs."
        )
