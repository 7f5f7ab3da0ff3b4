"""Folders that are their maker's alone, and that one process at a time may hold."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import Fault, GateError

HOLDER = "gate.lock"
"""The file in a held folder that says by whom. It is never removed: somebody may be waiting for it."""


def make(folder: Path) -> None:
    """Make `folder` with mode 0700, unless it is there. Raises OSError.

    The parents that have to be made get that mode too; `Path.mkdir` would leave them to the umask.
    """
    if folder.is_dir():
        return
    if folder != folder.parent:
        make(folder.parent)
    folder.mkdir(0o700, exist_ok=True)


@contextmanager
def held(folder: Path) -> Iterator[Callable[[str], None]]:
    """Hold `folder` until the context is left, or the process dies; yields what tells others where we are.

    Raises GateError of kind `conflict` when another process holds it. A folder that cannot be written is
    nobody's to hold, nor is any on Windows.
    """
    try:
        make(folder)
        file = os.open(folder / HOLDER, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        yield lambda _: None
        return

    def tell(where: str) -> None:
        os.ftruncate(file, 0)
        os.pwrite(file, f"process {os.getpid()}{where and f', {where}'}".encode(), 0)

    try:
        if not _alone(file):
            holder = os.pread(file, 200, 0).decode("utf-8", "replace")
            message = f"Another gate uses {folder}: {holder}."
            advice = "Stop it, or give this one its own: CODEXGATE_DATA_DIR=FOLDER codexgate serve"
            raise GateError(Fault("conflict", message, advice))
        tell("")
        yield tell
    finally:
        os.close(file)


if sys.platform == "win32":

    def _alone(_: int) -> bool:
        return True
else:
    import fcntl

    def _alone(file: int) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            return True
        return True
