"""Checks of Ollama itself: is it there, and new enough; `ollama_models` has what is about its models.

Asks only what takes it milliseconds; nothing is loaded, nothing pulled.
"""

import re

from . import ollama_models, registry, services
from .ollama_seen import Seen, see, start
from .target import DEFAULT, is_loopback, look_at_tls
from .words import Asked, Check, Remedy, Row, Status

LEAST = (0, 13, 4)
"""Codex wants this version or newer: older ones have no /v1/responses. Source: codex-rs/ollama."""


async def look(asked: Asked) -> list[Row]:
    """Everything about the server at `--url`, or the gate's own Ollama."""
    seen = await see(asked)
    if asked.model and not seen.model:
        return [Row("ollama.server", "ollama", "skipped", f"{asked.model} is no model of Ollama's.")]
    rows = [server(seen)]
    if not seen.answers:
        return rows
    rows += [version(seen), *ollama_models.context(seen), *ollama_models.gpu(seen)]
    if seen.model:
        rows += await ollama_models.wanted(seen)
    return rows


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
        return row("fail", f"Nothing at {seen.url}, but an Ollama at {seen.elsewhere}.", why, remedy)
    if seen.tags.late:
        why = "It hangs, or the answer is lost on its way; clients wait for it for minutes."
        return row("fail", str(seen.tags), why, _restart(seen))
    if seen.tags.distrusted:
        return row("fail", str(seen.tags), "Clients of it end so.", look_at_tls(seen.asked))
    if not seen.tags.refused:
        why = "The address is wrong, or what listens there is something else."
        command = "codexgate doctor --url URL" if seen.asked.url else "export CODEXGATE_OLLAMA_URL=URL"
        return row("fail", str(seen.tags), why, Remedy("Say where Ollama is, as http://HOST:PORT.", command))
    if not seen.wanted and not seen.installed:
        return row("skipped", "Ollama is not installed, and nothing asks for it.")
    why = "Codex says: No running Ollama server detected."
    if seen.asked.url:
        remedy = Remedy("Start the server, or name the right port.", "codexgate doctor --url URL")
        return row("fail", str(seen.tags), why, remedy)
    if not is_loopback(seen.url):
        remedy = Remedy("Start it there, or say where it is.", "export CODEXGATE_OLLAMA_URL=URL")
        return row("fail", str(seen.tags), why, remedy)
    return row("fail" if seen.wanted else "warning", str(seen.tags), why, start(seen.asked))


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
        remedy = _restart(seen)
        summary = f"The `ollama` program is {seen.program}, the server that runs is {text}."
        return Row(id, "ollama", "warning", summary, why, remedy, details)
    return Row(id, "ollama", "ok", f"Ollama {text} is new enough for Codex.", details=details)


def _restart(seen: Seen) -> Remedy:
    if seen.asked.url or not is_loopback(seen.url):  # it may be another program's
        return Remedy("Restart the server.")
    # A second `ollama serve` beside the first finds the port taken.
    by_systemd = services.SYSTEMD.exists()
    command = "sudo systemctl restart ollama" if by_systemd else "pkill -x ollama; ollama serve"
    return Remedy("Restart the server.", command)


def _numbers(text: str) -> tuple[int, ...]:
    found = re.match(r"v?(\d{1,9})\.(\d{1,9})\.(\d{1,9})", text)
    return tuple(map(int, found.groups())) if found else (0, 0, 0)


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
