"""Rows about models of an Ollama: is the wanted one there and fit for Codex, is what is loaded fit for use.

The registry is asked once, and only about a model that was asked for and is not installed.
"""

import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..dialects.ollama import models as catalog
from ..errors import GateError
from . import registry, through, whose
from .ollama_seen import PROMPT, Seen, windows
from .target import is_loopback, pull, start_codex
from .words import Remedy, Row, Status

ADVISED = 65_536
"""Tokens of context that Ollama's documentation advises for agents."""
GPUS = (Path("/dev/nvidia0"), Path("/dev/kfd"))
GROWS = "The gate loads a model as large as a request needs."
NEAR, MANY = 3, 2_000
"""Names that are suggested, and that are compared."""


def context(seen: Seen) -> list[Row]:
    """Whether what Codex sends fits into the window that a model is loaded with."""
    id, sizes = "ollama.context", windows(seen.running)
    set_to = seen.asked.environ.get("OLLAMA_CONTEXT_LENGTH", "").strip()
    details: dict[str, Any] = {"loaded": sizes, "OLLAMA_CONTEXT_LENGTH": set_to}
    if seen.model:
        sizes = {name: size for name, size in sizes.items() if name == seen.name}
    sizes = {name: size for name, size in sizes.items() if name not in seen.embedders}
    why = f"Codex begins with about {PROMPT:,} tokens. Ollama cuts what does not fit, without a word. {GROWS}"
    own = 0
    if seen.shown is not None and seen.shown.ok:
        with suppress(GateError):
            own = catalog.show(seen.shown.body).context
    if 0 < own < PROMPT:
        summary = f"{seen.model} sees {own:,} tokens at most."
        remedy = Remedy("Take a model that sees more.", "codexgate models")
        return [Row(id, "ollama", "fail", summary, why, remedy, details)]
    # The gate may have loaded it, for a request that was small: Codex may get another window.
    status: Status = "fail" if seen.model and not seen.gate else "warning"
    for name, size in sizes.items():
        if 0 < size < PROMPT:
            summary = f"{name} is loaded with a window of {size:,} tokens."
            if seen.through_gate:
                return [Row(id, "ollama", "ok", f"{summary} {GROWS}", details=details)]
            return [Row(id, "ollama", status, summary, why, _more(seen, name), details)]
    ours = is_loopback(seen.url) and not seen.through_gate and not sizes
    if ours and re.fullmatch("[0-9]{1,9}", set_to) and 0 < int(set_to) < PROMPT:
        summary = f"OLLAMA_CONTEXT_LENGTH={set_to} is the window of every model."
        return [Row(id, "ollama", status, summary, why, _more(seen, seen.model), details)]
    if not seen.name and not sizes:
        return []
    known = f"{next(iter(sizes.values())):,} tokens" if sizes else "its window is known once it is loaded"
    return [Row(id, "ollama", "ok", f"{seen.name or 'What is loaded'}: {known}.", details=details)]


def gpu(seen: Seen) -> list[Row]:
    """Whether a model that is loaded is in the memory of the GPU that there is."""
    listed = seen.running.field("models") if seen.running.ok else None
    entries = [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []
    told = [each for each in entries if _is_count(each.get("size_vram")) and _is_count(each.get("size"))]
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


async def wanted(seen: Seen) -> list[Row]:
    """Whether the wanted model is there, and fit for Codex."""
    details = {"model": seen.model, "installed": seen.names}
    if not seen.name:
        near = nearest(seen.model, seen.names)
        instead = f" Near: {', '.join(near)}." if near else ""
        command = pull(seen.asked, seen.url, seen.model)
        # Another backend may have a model of that name: then no download is what is missing.
        sure = await whose.is_nobodys(seen.asked)
        remedy = Remedy("Install it, or name one that is there.", command, safe=sure)
        why = "Codex begins to download it; a name that is misspelled ends in: file does not exist."
        summary = f"{seen.model} is not installed.{instead}"
        missing = Row("ollama.model.installed", "ollama", "fail", summary, why, remedy, details)
        if seen.asked.url:  # nobody else is asked
            return [missing]
        if not is_loopback(seen.url):
            text = "Ollama is on another machine: whether it reaches its registry cannot be seen from here."
            return [missing, Row(registry.ID, "network", "skipped", text)]
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
    names = names[:MANY]  # comparing takes 20 µs each
    family = name.partition(":")[0]
    same = [each for each in names if each.partition(":")[0] == family]
    return list(dict.fromkeys([*same, *get_close_matches(name, names, NEAR, 0.5)]))[:NEAR]


def _more(seen: Seen, model: str) -> Remedy:
    gate = "the gate, which runs:" if seen.gate else "the gate (`codexgate serve`):"
    text = f"Start Ollama with OLLAMA_CONTEXT_LENGTH={ADVISED}, or go through {gate}"
    return Remedy(text, through.command(seen.asked, model, locked=seen.locked))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
