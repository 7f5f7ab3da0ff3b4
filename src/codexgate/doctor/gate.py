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

from .. import apikey
from ..config import FILE_VARIABLE
from ..errors import Fault, GateError
from ..records import Model
from ..settings import Settings
from . import whose
from .reach import hear
from .target import gate_url
from .words import Asked, Check, Remedy, Row

SERVE = Remedy("Start it.", "codexgate serve")


def settings_row(fault: Fault) -> Row:
    """The settings cannot be read; everything else is looked at with the defaults."""
    why = "No command of the gate starts with these settings; below, the defaults are looked at."
    place, _, _ = fault.message.partition(": ")
    file, colon, line = place.rpartition(":")
    text = fault.advice or "Mend its value; docs/settings.md says what each can be."
    if re.fullmatch("[A-Z0-9_]+", place):
        remedy = Remedy(text, f"unset {place}")
    elif colon and line.isdecimal():
        remedy = Remedy(text, f"${{EDITOR:-vi}} +{line} {shlex.quote(file)}")
    else:
        text = fault.advice or "Name a settings file that can be read."
        remedy = Remedy(text, f"export {FILE_VARIABLE}=FILE")
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
        remedy = Remedy("Take another port.", "codexgate serve --port 8141")
        if problem == errno.EADDRNOTAVAIL:
            remedy = Remedy("Take an address of this machine.", "codexgate serve --host 127.0.0.1")
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


async def look_at_start(asked: Asked) -> list[Row]:
    """Whether the gate would start with settings that can be read, and yet may name what is not there."""
    id, fault = "gate.start", await _refused(asked.settings)
    if fault is None:
        return [Row(id, "gate", "ok", "The gate starts with these settings.")]
    variable = f"CODEXGATE_{fault.param}".replace(".", "_").upper()
    named = [name for name in asked.environ if name == variable or name.startswith(f"{variable}_")]
    text = f"{fault.advice} Mend its value, or take it out.".lstrip()
    remedy = Remedy(f"{text} This shows where it stands.", "codexgate config")
    if fault.param and named:
        remedy = Remedy(text, f"unset {' '.join(sorted(named))}")
    why = "`codexgate serve` says so, and ends."
    return [Row(id, "gate", "fail", fault.message, why, remedy, {"param": fault.param})]


async def _refused(settings: Settings) -> Fault | None:
    """Why the gate cannot be made of these settings; nothing is started, asked or written."""
    from ..assemble import BACKENDS, open_gate  # every backend, for this alone

    folder, used = settings.codex.cwd, "codex" in (settings.backends or BACKENDS)
    if folder and used and not await asyncio.to_thread(_is_folder, folder):
        return Fault("invalid_request", f"codex.cwd: {folder} is no folder.", param="codex.cwd")
    try:
        async with open_gate(settings):
            return None
    except GateError as error:
        return error.fault


def _is_folder(path: Path) -> bool:
    try:
        return path.expanduser().is_dir()
    except (OSError, RuntimeError):  # it may not be seen; `~NAME` of nobody
        return False


async def look_at_model(asked: Asked) -> list[Row]:
    """Whether another backend than Ollama, whose models have checks of their own, has the wanted model."""
    id, found = "gate.model", await whose.look(asked)
    if isinstance(found, Model):
        can = ", ".join(sorted(found.abilities))
        details = {"backend": found.backend}
        return [Row(id, "gate", "ok", f"{asked.model} is there ({can}).", details=details)]
    if found is None or not whose.backend(asked):  # it may be one that Ollama could install
        return []
    command = "codexgate models" if found.kind == "not_found" else ""
    remedy = Remedy(found.advice or "Take one that is there.", command)
    return [Row(id, "gate", "fail", found.message, "A request for it ends so.", remedy)]


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
    Check(("gate.start",), "gate", look_at_start),
    Check(("gate.model",), "gate", look_at_model, 4.5),
)
