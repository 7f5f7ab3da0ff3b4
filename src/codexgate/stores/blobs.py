"""Bytes on disk: written so that they are whole or nothing, read without following anything.

What `stores.files` keeps beside its index. Everything here blocks. Knows no index, no owner and no name.
"""

import errno
import hashlib
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from ..errors import Fault, GateError, store_unavailable

if sys.platform == "win32":

    def alone(_: int) -> bool:
        """Nobody can tell, so nothing is cleared away."""
        return False

    def share(_: int) -> None:
        """There is nothing to hold."""
else:
    import fcntl

    def alone(descriptor: int) -> bool:
        """Lock the open file unless somebody else holds it."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def share(descriptor: int) -> None:
        """Hold the open file together with others; waits for one who is alone."""
        fcntl.flock(descriptor, fcntl.LOCK_SH)


PIECE = 256 * 1024
"""Bytes that are read, or gathered and written, at once."""

unavailable = partial(store_unavailable, "file_store_unavailable")
"""The store cannot be used now (503)."""


class Lost(Exception):
    """What should be read is not there any more, or not as it was written."""


class Writer:
    """Bytes on their way to disk, at `path` until they are whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()

    def write(self, pieces: Iterable[bytes]) -> None:
        """Add `pieces`; the first call makes the file. Raises GateError."""
        with faults(self._path):
            file = self._open()
            for piece in pieces:
                self._hash.update(piece)
                file.write(piece)

    def finish(self, name: str) -> str:
        """Put them, durably, under `name` in their folder; returns their SHA-256. Raises GateError."""
        with faults(self._path):
            file = self._open()
            file.flush()
            os.fsync(file.fileno())
            self._path.rename(self._path.with_name(name))
            _sync_folder(self._path.parent)
        return self._hash.hexdigest()

    def drop(self) -> None:
        """Let go of the file, which is removed unless it was finished."""
        if self._file is not None:
            with suppress(OSError):  # what is still to be written may not fit
                self._file.close()
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _open(self) -> BinaryIO:
        if self._file is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            self._file = os.fdopen(os.open(self._path, flags, 0o600), "wb")
        return self._file


class Reader:
    """Bytes on their way from `path`, where there must be `size` of them."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self._left = size
        self._file: BinaryIO | None = None

    def read(self) -> bytes:
        """The next piece; empty at the end. Raises Lost."""
        try:
            if self._file is None:
                self._file = self._open()
            piece = self._file.read(PIECE)
        except OSError as error:
            raise Lost from error
        self._left -= len(piece)
        if not piece and self._left:
            raise Lost
        return piece

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def _open(self) -> BinaryIO:
        # No link is followed and no pipe waited for, whatever somebody else has put there.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        descriptor = os.open(self._path, flags | getattr(os, "O_BINARY", 0))
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size != self._size:
            os.close(descriptor)
            raise Lost
        return os.fdopen(descriptor, "rb")


@contextmanager
def faults(path: Path) -> Iterator[None]:
    """Turn what goes wrong with `path` within the context into a GateError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full() from error
        raise unavailable(f"{path.parent} cannot be written: {error.strerror}.") from error


def disk_full() -> GateError:
    """There is no room for it (503)."""
    message = "The disk that files are kept on is full."
    return GateError(Fault("unavailable", message, "Delete files, or free space on it.", "disk_full"))


def _sync_folder(folder: Path) -> None:
    if sys.platform != "win32":  # which cannot open a folder, and has the name on disk already
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
