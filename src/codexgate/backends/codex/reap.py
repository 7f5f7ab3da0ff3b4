"""Ends what a child has left running: the commands of one that was killed, or of a gate that was.

A command of Codex's runs in a session of its own, so no signal to the child's group reaches it,
and outside a sandbox it outlives a killed child. So each child's environment, and through its
configuration each command's, holds a mark that says whose it is: the child's number and the
identity of the gate that started it. A process is ended because it bears the mark, or has an
ancestor or a session leader that does; never because of a remembered pid, which another process
may have by now. Knows nothing of Codex but that. Linux only; elsewhere there is never a mark.
"""

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

NAME = "CODEXGATE_CHILD"
"""The variable that holds the mark."""
ROUNDS = 100
"""Looks, 10 ms apart, until nothing is left: what is ended may be starting others at that moment."""

_PROC = Path("/proc")
_numbers = itertools.count(1)


class _Process(NamedTuple):
    parent: int
    session: int
    started: int
    """In ticks since the machine started; with the pid, which process this is."""


def new_mark() -> str:
    """A mark for one child of this gate; empty where there is no way to find it again."""
    gate = _look(os.getpid()) if sys.platform == "linux" else None
    return f"{_namespace()}-{os.getpid()}-{gate.started}-{next(_numbers)}" if gate else ""


def end(mark: str) -> None:
    """Kill everything that bears `mark`, and its descendants. Blocks until it is gone, for about a second."""
    if mark:
        _end(lambda found: found == mark)


def end_leftovers() -> None:
    """Kill what the children of gates that are no more have left. Blocks like `end`."""
    if sys.platform == "linux":
        _end(_orphaned)


def _end(ours: Callable[[str], bool]) -> None:
    for _ in range(ROUNDS):
        family = _family(ours)
        if not family:
            return
        for pid, started in family.items():
            _kill(pid, started)
        time.sleep(0.01)


def _orphaned(mark: str) -> bool:
    """Whether the gate that made `mark` is gone. One in another container cannot be told: it is not."""
    namespace, _, rest = mark.partition("-")
    try:
        pid, started, _ = map(int, rest.split("-"))
    except ValueError:
        return False
    gate = _look(pid)
    return namespace == _namespace() and (gate is None or gate.started != started)


def _family(ours: Callable[[str], bool]) -> dict[int, int]:
    """Pid and start of each living process that is ours or comes from one that is."""
    processes = {int(path.name): found for path in _PROC.glob("[0-9]*") if (found := _look(int(path.name)))}
    spared = set(_lineage(processes))
    near = {_mark(pid) for pid in spared}  # who was started from a leftover lives in it, not with it
    family = {pid for pid in processes if (mark := _mark(pid)) and ours(mark) and mark not in near}
    grew = bool(family)
    while grew:
        more = {pid for pid, one in processes.items() if one.parent in family or one.session in family}
        grew = not more <= family
        family |= more
    return {pid: processes[pid].started for pid in family - spared}


def _lineage(processes: dict[int, _Process]) -> Iterator[int]:
    """Our own pid and our ancestors'."""
    pid = os.getpid()
    while pid in processes:
        yield pid
        pid = processes[pid].parent


def _kill(pid: int, started: int) -> None:
    """Kill `pid`, if it still is the process that started then."""
    if sys.platform != "linux":
        return
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    try:
        found = _look(pid)
        if found is not None and found.started == started:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError:
        pass
    finally:
        os.close(handle)


def _look(pid: int) -> _Process | None:
    """A living process; a zombie is none. Source: proc(5), `stat`: after the name in brackets."""
    try:
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else _Process(int(fields[1]), int(fields[3]), int(fields[19]))


def _mark(pid: int) -> str:
    try:
        environ = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return ""
    _, named, rest = (b"\0" + environ).partition(f"\0{NAME}=".encode())
    return rest.partition(b"\0")[0].decode("ascii", "replace") if named else ""


def _namespace() -> str:
    """Which pids we see: in another container the same numbers are others."""
    try:
        return str((_PROC / "self/ns/pid").stat().st_ino)
    except OSError:
        return "0"
