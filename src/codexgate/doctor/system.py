"""Checks of this machine: who may come in, who may read, room on the disk, the clock, containers.

Knows files, modes and clocks; of servers only that they say what time it is.
"""

import asyncio
import os
import shlex
import shutil
import socket
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

from .. import apikey, door
from ..backends.ollama import address
from ..errors import GateError
from ..settings import NAME, Settings
from .reach import ANSWER, CONNECT, ask
from .target import gate_url, is_loopback
from .words import Asked, Check, Remedy, Row, Status

BIND = "system.bind"
KEY = "system.key"
DATA = "system.data"
DISK = "system.disk"
CLOCK = "system.clock"
CONTAINER = "system.container"

LOW, FULL = 2 << 30, 200 << 20
"""Bytes that are free: little, and too little for anything."""
PATIENCE = 2 * (CONNECT + ANSWER) + 0.5
"""Seconds of what asks two servers one after the other."""
SKEW = 60.0
"""Seconds that two clocks may differ: less is how long an answer takes."""
THROUGH = 0o011
"""The bits of a folder's mode by which its group, and all others, may go through it."""
FILES = 1_000
"""Files of the data folder whose mode is looked at."""
DOCKER_HOST = "host.docker.internal"
ROOT = Path("/")
"""Of the file system that tells what this machine runs in."""


async def look_at_access(asked: Asked) -> list[Row]:
    """Who may use the gate from elsewhere, and who may read its key and data."""
    return await asyncio.to_thread(lambda: [*_key(asked.settings), _data(asked.settings, asked.home)])


def _key(settings: Settings) -> Iterator[Row]:
    try:
        key = apikey.effective(settings)
    except GateError as error:
        command = error.fault.advice.partition(": ")[2]
        safe = command.startswith("chmod 600 ")
        why = f"The gate does not start with it{': a key that others can read lets them in' * safe}."
        remedy = Remedy("Mend it.", command, safe=safe)
        if settings.server.api_key:
            remedy = Remedy("Give it one word, or take it out.", "export CODEXGATE_SERVER_API_KEY=KEY")
        elif not command:
            remedy = Remedy("Name a file that holds the key.", "export CODEXGATE_SERVER_API_KEY_FILE=FILE")
        yield Row(KEY, "system", "fail", error.fault.message, why, remedy)
        yield Row(
            BIND, "system", "skipped", "Without a key that can be used it does not matter where it listens."
        )
        return
    if key is None:
        yield Row(KEY, "system", "ok", "There is no key: every program on this machine may use the gate.")
    else:
        kept = "stands in the settings" if key.file is None else f"is in {key.file}, for its owner alone"
        yield Row(KEY, "system", "ok", f"The key {kept}.")
    host = settings.server.host
    try:
        door.refuse_open(settings, has_key=key is not None)
    except GateError as error:
        command = error.fault.advice.partition(": ")[2]
        remedy = Remedy("Make a key, or allow less.", command, safe=True)
        if not command:
            remedy = Remedy(error.fault.advice, "export CODEXGATE_SERVER_HOST=127.0.0.1")
        why = "Who reaches it could use it, and what Codex may do; so the gate does not start."
        yield Row(BIND, "system", "fail", error.fault.message, why, remedy)
    else:
        alone = door.is_loopback(host)
        yield Row(BIND, "system", "ok", f"The gate listens on {host}{' alone' if alone else ', with a key'}.")


def _data(settings: Settings, home: Path) -> Row:
    folder = settings.data_dir
    try:
        status = folder.stat()
        if not stat.S_ISDIR(status.st_mode):
            return _unusable("fail", f"{folder} is no folder.")
        mode = stat.S_IMODE(status.st_mode)
        readable = _readable(folder, mode & THROUGH)
    except FileNotFoundError:
        there = _nearest(folder)
        if os.access(there, os.W_OK | os.X_OK):
            return Row(DATA, "system", "skipped", f"{folder} is made when it is needed.")
        return _unusable("warning", f"{folder} cannot be made: {there} is not writable.")
    except OSError as error:
        return _unusable("fail", f"{folder} cannot be read: {error.strerror}.")
    if os.name != "posix" or not mode & 0o077:
        return Row(DATA, "system", "ok", f"{folder} is its owner's alone.")
    why = "Chats, files and memories are kept there: other users of this machine could read them."
    # Nobody else may need the folder; one such as /tmp or the home is no folder of the gate's alone. That it
    # is root's says nothing (/etc, /srv); that it is the gate's only its name.
    real, user = folder.resolve(), os.geteuid()
    ours = real.name == NAME
    mine = status.st_uid == user and (ours or user != 0 or real.is_relative_to(home))
    shared = mode & stat.S_ISVTX or real in (home, *home.parents) or not mine
    text = "Keep others out." if ours else "Keep others out, if nothing but the gate needs the folder."
    remedy = Remedy(text, f"chmod 700 {shlex.quote(str(folder))}", safe=ours)
    if shared:
        command = f"export CODEXGATE_DATA_DIR={shlex.quote(str(folder / NAME))}"
        remedy = Remedy("Others have a right to this folder: take one of your own.", command)
    details = {"mode": f"{mode:04o}", "readable": [path.name for path in readable[:10]]}
    if readable:
        summary = f"Others can come into {folder} (mode {mode:04o}) and read {readable[0].name}."
        return Row(DATA, "system", "fail", summary, why, remedy, details)
    summary = f"Others can come into {folder} (mode {mode:04o}); so far they can read no file there."
    return Row(DATA, "system", "warning", summary, why, remedy, details)


def _unusable(status: Status, summary: str) -> Row:
    why = "The gate keeps chats, files and memories there, and cannot."
    remedy = Remedy("Name a folder of your own.", "export CODEXGATE_DATA_DIR=FOLDER")
    return Row(DATA, "system", status, summary, why, remedy)


def _readable(folder: Path, way: int) -> list[Path]:
    """The files in it that others can come to and read; `way`: the bits of `THROUGH` that lead there."""
    found: list[Path] = []
    folders, looked = [(folder, way)], 0
    while folders and looked < FILES:
        here, way = folders.pop()
        for path in islice(here.iterdir() if way else (), FILES - looked):
            looked += 1
            with suppress(OSError):  # it is gone by now
                mode = path.lstat().st_mode
                if stat.S_ISDIR(mode):
                    folders.append((path, way & mode))
                elif stat.S_ISREG(mode) and way & mode >> 2:
                    found.append(path)
    return found


async def look_at_disk(asked: Asked) -> list[Row]:
    """Room where the data is kept, or will be."""
    folder = asked.settings.data_dir
    there, free = await asyncio.to_thread(_room, folder)
    status: Status = "ok" if free >= LOW else "warning" if free >= FULL else "fail"
    summary = f"{free / 2**30:.1f} GiB are free where {folder} is."
    if status == "ok":
        return [Row(DISK, "system", status, summary, details={"free": free})]
    why = "When the disk is full nothing is kept any more, and no model can be installed."
    most = "~" if there.is_relative_to(asked.home) else shlex.quote(str(there))
    remedy = Remedy("Make room; this shows what takes most.", f"du -xh -d 2 {most} | sort -h | tail")
    return [Row(DISK, "system", status, summary, why, remedy, {"free": free})]


def _room(folder: Path) -> tuple[Path, int]:
    """The nearest folder that is there, and the bytes that are free where it is."""
    there = _nearest(folder)
    return there, shutil.disk_usage(there).free


def _nearest(folder: Path) -> Path:
    """`folder`, or of those around it the nearest that is there and can be seen."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if os.access(path, os.F_OK))


async def look_at_clock(asked: Asked) -> list[Row]:
    """The time here against that of the servers that are set, by the `Date` of their answers."""
    settings = asked.settings
    urls = {
        address(settings.ollama.url),
        gate_url(settings),
        *(each.base_url for each in settings.openai.values()),
    }
    told = dict(zip(urls, await asyncio.gather(*map(_skew, urls)), strict=True))
    known = {_place(url): skew for url, skew in told.items() if skew is not None}
    if not known:
        return [
            Row(CLOCK, "system", "skipped", "No server is there whose clock this one could be held against.")
        ]
    where, worst = max(known.items(), key=lambda each: abs(each[1]))
    details = {"seconds": {url: round(skew, 1) for url, skew in known.items()}}
    if abs(worst) <= SKEW:
        return [Row(CLOCK, "system", "ok", f"The clock agrees with that of {where}.", details=details)]
    way = "ahead of" if worst > 0 else "behind"
    summary = f"This machine's clock is {_length(abs(worst))} {way} that of {where}."
    why = "Certificates and logins count as expired or not yet valid, and what is kept gets wrong times."
    remedy = Remedy("Let it be set by the network.", "timedatectl set-ntp true")
    return [Row(CLOCK, "system", "warning" if abs(worst) < 600 else "fail", summary, why, remedy, details)]


async def _skew(url: str) -> float | None:
    """Seconds that this clock is ahead of a server's; `None` when it does not say."""
    headers = (await ask(url, "/")).headers
    with suppress(KeyError, ValueError, TypeError, OverflowError):
        age = float(headers.get("age", 0))  # of an answer out of a cache (RFC 9111, section 5.1)
        return time.time() - age - parsedate_to_datetime(headers["date"]).timestamp()
    return None


def _length(seconds: float) -> str:
    for size, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} seconds"


async def look_at_container(asked: Asked) -> list[Row]:
    """Whether 127.0.0.1 means what somebody thinks it means."""
    return [await _contained(asked, ROOT, (DOCKER_HOST, *gateways(ROOT)))]


async def _contained(asked: Asked, root: Path, outside: Sequence[str]) -> Row:
    """`root`: of the file system that tells; `outside`: names of the machine around this one."""
    inside = await asyncio.to_thread(where, root)
    if not inside:
        return Row(CONTAINER, "system", "ok", "This is neither a container nor WSL.")
    url = address(asked.settings.ollama.url)
    if not is_loopback(url):
        text = f"This is {inside}; Ollama is looked for elsewhere ({_place(url)})."
        return Row(CONTAINER, "system", "ok", text)
    if not (await ask(url, "/api/version")).refused:
        return Row(CONTAINER, "system", "ok", f"This is {inside}, and something listens at {_place(url)}.")
    others = [f"http://{host}:{urlsplit(url).port or 80}" for host in outside]
    answers = await asyncio.gather(*(ask(other, "/api/version") for other in others))
    found = next((other for other, answer in zip(others, answers, strict=True) if answer.ok), "")
    if not found and "OLLAMA_HOST" not in asked.environ and "CODEXGATE_OLLAMA_URL" not in asked.environ:
        text = f"This is {inside}: 127.0.0.1 is it alone, not the machine around it."
        return Row(CONTAINER, "system", "skipped", text)
    summary = f"This is {inside}: {_place(url)} is looked for inside, where no Ollama is."
    summary = f"{summary} One answers at {found}." if found else summary
    why = f"127.0.0.1 is {inside} itself, not the machine on which Ollama runs."
    # Ours counts more than Ollama's own variable, and so does a settings file.
    given = asked.environ.get("OLLAMA_HOST", "")
    counts = address(given) == url and "CODEXGATE_OLLAMA_URL" not in asked.environ
    name = "OLLAMA_HOST" if given and counts else "CODEXGATE_OLLAMA_URL"
    remedy = Remedy("Use the machine's own name.", f"export {name}={shlex.quote(found or others[0])}")
    return Row(CONTAINER, "system", "warning", summary, why, remedy, {"inside": inside, "tried": others})


def gateways(root: Path) -> tuple[str, ...]:
    """Where everything leads that is not here: in WSL and on a bridge of Docker the machine around it."""
    with suppress(OSError, ValueError, IndexError):
        for line in (root / "proc/net/route").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1] == "00000000":  # the default; addresses are hexadecimal, in this machine's order
                return (socket.inet_ntoa(int(fields[2], 16).to_bytes(4, sys.byteorder)),)
    return ()


def where(root: Path) -> str:
    """What this machine runs in, for people; empty when nothing shows. Linux alone tells."""
    if (root / ".dockerenv").exists() or (root / "run/.containerenv").exists():
        return "a container"
    with suppress(OSError):
        if "microsoft" in (root / "proc/version").read_text().lower():
            return "WSL"
    return ""


def _place(url: str) -> str:
    split = urlsplit(url)
    return f"{split.scheme}://{split.netloc.rpartition('@')[2]}"


CHECKS = (
    Check((BIND, KEY, DATA), "system", look_at_access),
    Check((DISK,), "system", look_at_disk),
    Check((CLOCK,), "system", look_at_clock, PATIENCE),
    Check((CONTAINER,), "system", look_at_container, PATIENCE),
)
