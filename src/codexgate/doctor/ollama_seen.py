"""What an Ollama answers, and what surrounds it: asked once, for the rows of `ollama` and `ollama_models`."""

import asyncio
import os
import re
import shutil
from contextlib import suppress

import msgspec

from ..backends.ollama import OllamaOptions
from ..dialects.ollama import models as catalog
from ..errors import GateError
from . import through
from .reach import Answer, ask, hear
from .target import DEFAULT, codex_oss, gate_url, is_loopback, root
from .whose import ollama_model
from .words import Asked, Remedy

PROMPT = 9000
"""Tokens that Codex sends with its first request: 17 kB of instructions and 18 kB of tools."""
FEW = 4
"""Loaded models that are asked about."""
GATE = "codexgate"
"""How a gate calls itself."""
PROGRAM = 1.2
"""Seconds for `ollama --version`."""


class Seen(msgspec.Struct, frozen=True):
    """What the server answers, and what is known of its surroundings."""

    asked: Asked
    url: str
    model: str
    """The wanted one, as Ollama knows it; empty when none is."""
    version: Answer
    tags: Answer
    running: Answer
    shown: Answer | None
    elsewhere: str = ""
    """Where an Ollama answers, when none does at `url`."""
    program: str = ""
    """The version of the `ollama` program; empty when there is none, or it does not tell."""
    installed: bool = False
    """Whether there is such a program."""
    gate: bool = False
    """Whether a gate runs where the settings say."""
    locked: bool = False
    """Whether our gate wants a key."""
    embedders: frozenset[str] = frozenset()
    """What is loaded with a small window and cannot chat: nobody sends it what Codex sends."""

    @property
    def wanted(self) -> bool:
        """Whether somebody wants an Ollama: then its absence is a failure."""
        named = (
            bool(self.asked.environ.get("OLLAMA_HOST", "").strip())
            or self.asked.settings.ollama.url != OllamaOptions().url
        )
        return bool(self.asked.url or self.model or named or "ollama" in self.asked.settings.backends)

    @property
    def answers(self) -> bool:
        """Whether what answers is an Ollama."""
        return self.tags.lists("models")

    @property
    def through_gate(self) -> bool:
        """Whether what answers is a gate, or Codex is sent to one."""
        if self.asked.url:
            return self.tags.headers.get("server") == GATE
        return root(codex_oss(self.asked).url) == root(gate_url(self.asked.settings))

    @property
    def names(self) -> list[str]:
        """The models that are installed."""
        with suppress(GateError):
            return [tag.name for tag in catalog.tags(self.tags.body)] if self.tags.ok else []
        return []

    @property
    def name(self) -> str:
        """The wanted model as it is installed; empty when it is not."""
        return next((each for each in (self.model, f"{self.model}:latest") if each in self.names), "")

    @property
    def capabilities(self) -> list[str] | None:
        """What the wanted model can; `None` when it is not told."""
        return _can(self.shown)


async def see(asked: Asked) -> Seen:
    """Ask: first what every server is asked, then, if it is an Ollama, what is loaded and the model.

    With `--url` that server alone is asked, and no program that would ask it.
    """
    url = root(asked.url or asked.settings.ollama.url)
    name, version, tags, program, gate, locked = await asyncio.gather(
        ollama_model(asked),
        hear(asked, url, "/api/version"),
        hear(asked, url, "/api/tags"),
        _program(asked, url),
        _gate_runs(asked),
        through.is_locked(asked.settings),
    )
    installed = binary(asked) is not None
    seen = Seen(asked, url, name, version, tags, Answer(), None, "", program, installed, gate, locked)
    if not seen.answers:
        elsewhere = await _elsewhere() if tags.refused and not asked.url and url != DEFAULT else ""
        return msgspec.structs.replace(seen, elsewhere=elsewhere)
    running, shown = await asyncio.gather(
        hear(asked, url, "/api/ps"), hear(asked, url, "/api/show", {"model": name}) if name else _nothing()
    )
    seen = msgspec.structs.replace(seen, running=running, shown=shown)
    return msgspec.structs.replace(seen, embedders=await _embedders(seen))


def start(asked: Asked) -> Remedy:
    """Start an Ollama on this machine, which has to be there for that."""
    if binary(asked) is None:
        return Remedy("Install it: https://ollama.com/download")
    return Remedy("Start it.", "ollama serve")


def binary(asked: Asked) -> str | None:
    """The `ollama` program of this machine; `None` where there is none."""
    return shutil.which("ollama", path=asked.environ.get("PATH", ""))


async def _embedders(seen: Seen) -> frozenset[str]:
    """Those of the loaded models with a small window that only embed; the wanted one, or a few."""
    small = [name for name, size in windows(seen.running).items() if 0 < size < PROMPT]
    if seen.model:
        return frozenset(small if "completion" not in (seen.capabilities or ["completion"]) else ())
    told: dict[str, list[str] | None] = {}
    with suppress(GateError):  # newer versions tell it in their list
        told = {tag.name: tag.capabilities for tag in catalog.tags(seen.tags.body)}
    unknown = [name for name in small if told.get(name) is None][:FEW]
    shown = await asyncio.gather(
        *(hear(seen.asked, seen.url, "/api/show", {"model": name}) for name in unknown)
    )
    told |= {name: _can(answer) for name, answer in zip(unknown, shown, strict=True)}
    return frozenset(name for name in small if "completion" not in (told.get(name) or ["completion"]))


async def _gate_runs(asked: Asked) -> bool:
    if asked.url:
        return False
    return (await hear(asked, gate_url(asked.settings), "/health")).headers.get("server") == GATE


def windows(running: Answer) -> dict[str, int]:
    """The models in memory, and how many tokens each was loaded for."""
    with suppress(GateError):
        return catalog.running(running.body) if running.ok else {}
    return {}


def _can(shown: Answer | None) -> list[str] | None:
    """What a model can; `None` when it is not told."""
    with suppress(GateError):
        return catalog.show(shown.body).capabilities if shown and shown.ok else None
    return None


async def _nothing() -> None:
    return None


async def _elsewhere() -> str:
    """Ollama's usual address, if one answers there."""
    return DEFAULT if (await ask(DEFAULT, "/api/version")).ok else ""


async def _program(asked: Asked, url: str) -> str:
    """The version of the `ollama` program, which asks the server for its own and tells when they differ."""
    program = binary(asked)
    if program is None or asked.url or not is_loopback(url):
        return ""
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "--version",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**asked.environ, "OLLAMA_HOST": url},
        )
    except OSError:
        return ""
    try:
        async with asyncio.timeout(PROGRAM):
            told = (await process.communicate())[0].decode(errors="replace")
    except TimeoutError:
        return ""
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, 9)
    found = re.search(r"client version is v?(\d+\.\d+\.\d+)", told) or re.search(
        r"version is v?(\d+\.\d+\.\d+)", told
    )
    return found[1] if found else ""
