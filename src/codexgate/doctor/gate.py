"""Checks of the gate itself: does it run, and can it listen where it shall.

`gate.settings` is made by who reads the settings: without them no check can run.
"""

import asyncio
import errno
import os
import re
import shlex
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from .. import apikey
from ..errors import Fault, GateError
from .reach import hear
from .target import gate_url, other_backend
from .words import Asked, Check, Remedy, Row

SERVE = Remedy("Start it.", "codexgate serve")


def settings_row(fault: Fault) -> Row:
    """The settings cannot be read; everything else is looked at with the defaults."""
    why = "No command of the gate starts with these settings; below, the defaults are looked at."
    place, _, _ = fault.message.partition(": ")
    file, colon, line = place.rpartition(":")
    if re.fullmatch("[A-Z0-9_]+", place):
        mend = f"unset {place}"
    elif colon and line.isdecimal():
        mend = f"${{EDITOR:-vi}} +{line} {shlex.quote(file)}"
    else:  # a flag; the settings file cannot be read
        mend = ""
    remedy = Remedy(fault.advice or "Mend its value; docs/settings.md says what each can be.", mend)
    return Row("gate.settings", "gate", "fail", fault.message, why, remedy, {"param": fault.param})


def ignored_row(names: tuple[str, ...]) -> Row:
    """Settings that can be read; of other programs' variables some make no sense here."""
    if not names:
        return Row("gate.settings", "gate", "ok", "The settings can be read.")
    summary = f"{', '.join(names)}: set, but not to anything of use here."
    why = "The variable of another program is left alone, and the default counts."
    remedy = Remedy("Mend its value, or unset it.", f"unset {' '.join(names)}")
    return Row("gate.settings", "gate", "warning", summary, why, remedy, {"ignored": list(names)})


async def look(asked: Asked) -> list[Row]:
    """Whether the gate's port is the gate's, free, or somebody else's."""
    id, server = "gate.port", asked.settings.server
    if not server.port:
        return [Row(id, "gate", "skipped", "The gate takes any free port.")]
    url = gate_url(asked.settings)
    answer = await hear(asked, url, "/health")
    details = {"url": url, "GET /health": str(answer)}
    if answer.headers.get("server") == "codexgate":
        return [await _running(asked, url, details)]
    problem = await asyncio.to_thread(_bind, server.host, server.port)
    if not problem:
        text = f"{url} is free; `codexgate serve` starts the gate there."
        return [Row(id, "gate", "ok", text, details=details)]
    if problem != errno.EADDRINUSE:
        why = "The gate cannot listen there."
        remedy = Remedy("Take another address or port.", "codexgate serve --port 8141")
        summary = f"{server.host}:{server.port}: {os.strerror(problem)}."
        return [Row(id, "gate", "fail", summary, why, remedy, details)]
    who = await asyncio.to_thread(listener, server.port)
    by = f" by {who}" if who else ""
    why = "`codexgate serve` cannot start, and clients of the gate talk with somebody else."
    remedy = Remedy("Stop it, or take another port.", f"codexgate serve --port {server.port % 65535 + 1}")
    return [
        Row(id, "gate", "fail", f"Port {server.port} is taken{by}.", why, remedy, {**details, "who": who})
    ]


async def _running(asked: Asked, url: str, details: dict[str, Any]) -> Row:
    """A gate that runs, and whether it asks for the key that there is now."""
    try:
        key = await asyncio.to_thread(apikey.effective, asked.settings)
    except GateError:  # `system.key` says so
        key = None
    if key is None or not (await hear(asked, url, "/v1/models")).ok:
        return Row("gate.port", "gate", "ok", f"The gate answers at {url}.", details=details)
    summary = f"The gate answers at {url}, also to who has no key."
    why = "It was started before there was the key, which it reads at its start: nobody is kept out."
    remedy = Remedy("Stop it and start it anew.", "codexgate serve")
    return Row("gate.port", "gate", "warning", summary, why, remedy, details)


async def look_at_model(asked: Asked) -> list[Row]:
    """Whether another backend than Codex and Ollama, which have checks of their own, has the wanted model."""
    id, backend = "gate.model", other_backend(asked)
    if not backend or asked.url:
        return []
    from ..assemble import open_gate  # every backend, for this alone

    settings = msgspec.structs.replace(asked.settings, backends=(backend,))
    try:
        async with open_gate(settings) as opened:
            model = await opened.model(asked.model)
    except GateError as error:
        why = "A request for it ends so."
        command = "codexgate models" if error.fault.kind == "not_found" else ""
        remedy = Remedy(error.fault.advice or "Take one that is there.", command)
        return [Row(id, "gate", "fail", error.fault.message, why, remedy)]
    can = ", ".join(sorted(model.abilities))
    return [Row(id, "gate", "ok", f"{asked.model} is there ({can}).", details={"backend": backend})]


def listener(port: int, proc: Path = Path("/proc")) -> str:
    """The program that listens on TCP `port`, as `python3 (pid 12)`; empty when it cannot be seen."""
    sockets = set()
    for table in ("net/tcp", "net/tcp6"):
        with suppress(OSError, ValueError, IndexError):
            for line in (proc / table).read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == "0A" and int(words[1].rpartition(":")[2], 16) == port:
                    sockets.add(f"socket:[{words[9]}]")
    if not sockets:
        return ""
    for process in proc.glob("[0-9]*"):
        with suppress(OSError):  # it is another user's, or has just ended
            for link in (process / "fd").iterdir():
                with suppress(OSError):
                    if str(link.readlink()) in sockets:
                        return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return ""


def _bind(host: str, port: int) -> int:
    """Why the port cannot be had, as an error number; 0 when it can."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return errno.EADDRNOTAVAIL
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(address)
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL) or len(found) == 1:
                return error.errno or errno.EIO
    return 0


CHECKS = (
    Check(("gate.port",), "gate", look, 3.0),
    Check(("gate.model",), "gate", look_at_model, 3.0),
)
