"""Checks of Ollama itself: is it there, new enough, has it the model, and is that fit for the purpose.

Asks only what takes it milliseconds; nothing is loaded, nothing pulled. The registry is asked once, and
only about a model that was asked for and is not installed.
"""

import asyncio
import os
import re
import shlex
import shutil
from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from ..backends.ollama import OllamaOptions
from ..dialects.ollama import models as catalog
from ..errors import GateError
from . import registry
from .reach import Answer, ask
from .target import DEFAULT, gate_url, is_loopback, ollama_model, root, start_codex
from .words import Asked, Check, Remedy, Row, Status

LEAST = (0, 13, 4)
"""Codex wants this version or newer: older ones have no /v1/responses. Source: codex-rs/ollama."""
PROMPT = 9000
"""Tokens that Codex sends with its first request: 17 kB of instructions and 18 kB of tools."""
ADVISED = 65_536
"""Tokens of context that Ollama's documentation advises for agents."""
GPUS = (Path("/dev/nvidia0"), Path("/dev/kfd"))
PROGRAM = 1.2
"""Seconds for `ollama --version`."""
NEAR = 3
"""Names that are suggested."""


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
        """Whether what answers is an Ollama; one without models lists `null`."""
        listed = self.tags.json() if self.tags.ok else None
        return isinstance(listed, dict) and "models" in listed

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
        if self.shown is None or not self.shown.ok:
            return None
        with suppress(GateError):
            return catalog.show(self.shown.body).capabilities
        return None


async def look(asked: Asked) -> list[Row]:
    """Everything about the server at `--url`, or the gate's own Ollama."""
    if asked.model and not asked.url and not ollama_model(asked):
        return [Row("ollama.server", "ollama", "skipped", f"{asked.model} is no model of Ollama's.")]
    seen = await see(asked)
    rows = [server(seen)]
    if not seen.answers:
        return rows
    rows += [version(seen), *context(seen), *gpu(seen)]
    if seen.model:
        rows += await model(seen)
    return rows


async def see(asked: Asked) -> Seen:
    """Ask."""
    url = root(asked.url or asked.settings.ollama.url)
    name = ollama_model(asked)
    show = ask(url, "/api/show", {"model": name}) if name else _nothing()
    version, tags, running, shown, program = await asyncio.gather(
        ask(url, "/api/version"),
        ask(url, "/api/tags"),
        ask(url, "/api/ps"),
        show,
        _program(asked.environ, url),
    )
    elsewhere = "" if tags.status or url == DEFAULT else await _elsewhere()
    installed = bool(shutil.which("ollama", path=asked.environ.get("PATH", "")))
    return Seen(asked, url, name, version, tags, running, shown, elsewhere, program, installed)


def server(seen: Seen) -> Row:
    """Whether it is there."""

    def row(status: Status, summary: str, why: str = "", remedy: Remedy | None = None) -> Row:
        details = {"url": seen.url, "GET /api/version": str(seen.version), "GET /api/tags": str(seen.tags)}
        return Row("ollama.server", "ollama", status, summary, why, remedy, details)

    if seen.answers:
        number = seen.version.field("version")
        count = len(seen.names)
        return row(
            "ok",
            f"Ollama {number or ''} at {seen.url}, {count} model{'s' * (count != 1)}.".replace("  ", " "),
        )
    if seen.tags.status:
        if seen.asked.url:
            return row("skipped", f"{seen.url} is no Ollama.")
        why = "The gate takes its models from there."
        remedy = Remedy("Say where Ollama is.", f"export CODEXGATE_OLLAMA_URL={DEFAULT}")
        return row("fail", f"What answers at {seen.url} is no Ollama ({seen.tags}).", why, remedy)
    if seen.elsewhere:
        why = "Codex says: No running Ollama server detected."
        remedy = Remedy("Use that address.", f"export CODEXGATE_OLLAMA_URL={seen.elsewhere}")
        if seen.asked.url:
            remedy = Remedy("Use that address.", f"codexgate doctor --url {seen.elsewhere}/v1")
        return row("fail", f"Nothing at {seen.url}, but an Ollama at {seen.elsewhere}.", why, remedy)
    if not seen.tags.refused:
        why = "It hangs, or the answer is lost on its way; clients wait for it for minutes."
        return row("fail", str(seen.tags), why, Remedy("Restart it.", _restart(seen)))
    if not seen.wanted and not seen.installed:
        return row("skipped", "Ollama is not installed, and nothing asks for it.")
    why = "Codex says: No running Ollama server detected."
    if seen.asked.url:
        return row("fail", str(seen.tags), why, Remedy("Start the server, or name the right port."))
    if not seen.installed and is_loopback(seen.url):
        return row("fail", str(seen.tags), why, Remedy("Install it: https://ollama.com/download"))
    return row("fail" if seen.wanted else "warning", str(seen.tags), why, Remedy("Start it.", "ollama serve"))


def version(seen: Seen) -> Row:
    """Whether it is new enough for Codex, and not older than its own program."""
    text = str(seen.version.field("version") or "")
    numbers = _numbers(text)
    details = {"server": text, "program": seen.program}
    id, direct = "ollama.version", bool(seen.asked.url or seen.model)
    if not any(numbers):
        return Row(
            id,
            "ollama",
            "ok",
            "It does not tell its version; Codex takes that for new enough.",
            details=details,
        )
    if numbers < LEAST:
        least = ".".join(map(str, LEAST))
        why = f"Codex says: Ollama {text} is too old. Through the gate it works."
        summary = f"Ollama {text} is too old: `codex --oss` wants {least} or newer."
        return Row(id, "ollama", "fail" if direct else "warning", summary, why, registry.UPDATE, details)
    if _numbers(seen.program) > numbers:
        why = "The update is installed but the old server still runs; new models are refused with 412."
        remedy = Remedy("Restart the server.", _restart(seen))
        summary = f"The `ollama` program is {seen.program}, the server that runs is {text}."
        return Row(id, "ollama", "warning", summary, why, remedy, details)
    return Row(id, "ollama", "ok", f"Ollama {text} is new enough for Codex.", details=details)


def context(seen: Seen) -> list[Row]:
    """Whether what Codex sends fits into the window that a model is loaded with."""
    id = "ollama.context"
    sizes: dict[str, int] = {}
    with suppress(GateError):
        sizes = catalog.running(seen.running.body) if seen.running.ok else {}
    set_to = seen.asked.environ.get("OLLAMA_CONTEXT_LENGTH", "").strip()
    details: dict[str, Any] = {"loaded": sizes, "OLLAMA_CONTEXT_LENGTH": set_to}
    if seen.model:
        sizes = {name: size for name, size in sizes.items() if name == seen.name}
    why = (
        f"Codex begins with about {PROMPT:,} tokens. Ollama cuts what does not fit, without a word. "
        "The gate loads a model as large as a request needs."
    )
    own = 0
    if seen.shown is not None and seen.shown.ok:
        with suppress(GateError):
            own = catalog.show(seen.shown.body).context
    if 0 < own < PROMPT:
        summary = f"{seen.model} sees {own:,} tokens at most."
        remedy = Remedy("Take a model that sees more.", "codexgate models")
        return [Row(id, "ollama", "fail", summary, why, remedy, details)]
    status: Status = "fail" if seen.model and not _is_gate(seen) else "warning"
    for name, size in sizes.items():
        if 0 < size < PROMPT:
            summary = f"{name} is loaded with a window of {size:,} tokens."
            return [Row(id, "ollama", status, summary, why, _more(seen), details)]
    if set_to.isdigit() and 0 < int(set_to) < PROMPT and is_loopback(seen.url) and not sizes:
        summary = f"OLLAMA_CONTEXT_LENGTH={set_to} is the window of every model."
        return [Row(id, "ollama", status, summary, why, _more(seen), details)]
    if not seen.model and not sizes:
        return []
    known = f"{next(iter(sizes.values())):,} tokens" if sizes else "its window is known once it is loaded"
    return [Row(id, "ollama", "ok", f"{seen.name or 'What is loaded'}: {known}.", details=details)]


def gpu(seen: Seen) -> list[Row]:
    """Whether a model that is loaded is in the memory of the GPU that there is."""
    listed = seen.running.field("models") if seen.running.ok else None
    entries = [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []
    told = [each for each in entries if isinstance(each.get("size_vram"), int) and each.get("size")]
    slow = {str(each.get("name")): each for each in told if each["size_vram"] < each["size"]}
    there = is_loopback(seen.url) and any(path.exists() for path in GPUS)
    slow = {name: each for name, each in slow.items() if each["size_vram"] or there}
    if not slow:
        return [Row("ollama.gpu", "ollama", "ok", "What is loaded is on the GPU.")] if told and there else []
    parts = {name: 100 * each["size_vram"] // each["size"] for name, each in slow.items()}
    summary = ", ".join(f"{part} % of {name}" for name, part in parts.items()) + " is in the GPU's memory."
    why = "The rest is computed by the CPU, many times slower."
    remedy = Remedy(
        "Take a smaller model or window, or unload others.", f"ollama stop {shlex.quote(next(iter(slow)))}"
    )
    return [Row("ollama.gpu", "ollama", "warning", summary, why, remedy, {"models": slow})]


async def model(seen: Seen) -> list[Row]:
    """Whether the wanted model is there, and fit for Codex."""
    details = {"model": seen.model, "installed": seen.names}
    if not seen.name:
        near = nearest(seen.model, seen.names)
        instead = f" Near: {', '.join(near)}." if near else ""
        pull = f"codexgate models pull {shlex.quote(seen.model)}"
        remedy = Remedy("Install it, or name one that is there.", pull, safe=True)
        why = "Codex begins to download it; a name that is misspelled ends in: file does not exist."
        summary = f"{seen.model} is not installed.{instead}"
        missing = Row("ollama.model.installed", "ollama", "fail", summary, why, remedy, details)
        return [missing, *await registry.look(seen.model, seen.asked.environ)]
    rows = [Row("ollama.model.installed", "ollama", "ok", f"{seen.name} is installed.", details=details)]
    if seen.name != seen.model:
        why = f"Codex compares whole names, takes {seen.model} for missing and pulls it."
        remedy = Remedy("Say the tag.", start_codex(f"{seen.url}/v1", seen.name))
        summary = f"{seen.model} is installed as {seen.name}."
        rows.append(Row("ollama.model.tag", "ollama", "warning", summary, why, remedy))
    return rows + _abilities(seen)


def _abilities(seen: Seen) -> list[Row]:
    can = seen.capabilities
    if can is None:
        return []
    details = {"capabilities": can}
    if "completion" not in can:
        what = "embeds, and cannot chat" if "embedding" in can else "cannot chat"
        why = 'A chat with it ends in: "…" does not support chat.'
        remedy = Remedy("Take a chat model.", "codexgate models")
        summary = f"{seen.name} {what}."
        return [Row("ollama.model.kind", "ollama", "fail", summary, why, remedy, details)]
    rows = [Row("ollama.model.kind", "ollama", "ok", f"{seen.name} chats.", details=details)]
    if "tools" in can:
        return [*rows, Row("ollama.model.tools", "ollama", "ok", f"{seen.name} uses tools.", details=details)]
    why = "Codex works by tools; Ollama refuses each of its requests: … does not support tools."
    remedy = Remedy("Take a model that can use tools.", "codexgate models")
    summary = f"{seen.name} cannot use tools."
    return [*rows, Row("ollama.model.tools", "ollama", "fail", summary, why, remedy, details)]


def nearest(name: str, names: list[str]) -> list[str]:
    """The installed names that are most like `name`: of its family first."""
    family = name.partition(":")[0]
    same = [each for each in names if each.partition(":")[0] == family]
    return list(dict.fromkeys([*same, *get_close_matches(name, names, NEAR, 0.5)]))[:NEAR]


def _more(seen: Seen) -> Remedy:
    text = f"Go through the gate, or start Ollama with OLLAMA_CONTEXT_LENGTH={ADVISED}."
    return Remedy(text, start_codex(f"{gate_url(seen.asked.settings)}/v1", seen.model))


def _is_gate(seen: Seen) -> bool:
    return seen.url == root(gate_url(seen.asked.settings))


def _restart(seen: Seen) -> str:
    systemd = Path("/run/systemd/system").exists() and is_loopback(seen.url)
    return "sudo systemctl restart ollama" if systemd else "ollama serve"


def _numbers(text: str) -> tuple[int, ...]:
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", text)
    return tuple(map(int, found.groups())) if found else (0, 0, 0)


async def _nothing() -> None:
    return None


async def _elsewhere() -> str:
    """Ollama's usual address, if one answers there."""
    return DEFAULT if (await ask(DEFAULT, "/api/version")).ok else ""


async def _program(environ: Mapping[str, str], url: str) -> str:
    """The version of the `ollama` program, which asks the server for its own and tells when they differ."""
    program = shutil.which("ollama", path=environ.get("PATH", ""))
    if program is None or not is_loopback(url):
        return ""
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "--version",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**environ, "OLLAMA_HOST": url},
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


CHECKS = (
    Check(
        (
            "ollama.server",
            "ollama.version",
            "ollama.model.installed",
            "ollama.model.tag",
            "ollama.model.kind",
            "ollama.model.tools",
            "ollama.context",
            "ollama.gpu",
            "ollama.registry",
        ),
        "ollama",
        look,
        5.0,
    ),
)
