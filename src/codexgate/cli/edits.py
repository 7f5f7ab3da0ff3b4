"""Writes our part into somebody's configuration file, and takes it out again.

A file is replaced whole or not at all, keeps its mode and owner, and what it was before lies beside
it. A link stays a link. What may be merged is decided by `connect.blocks`.
"""

import os
import stat
import tempfile
from pathlib import Path
from typing import NamedTuple

from .. import folders
from ..connect import blocks
from ..connect.clients import Snippet
from ..errors import Fault, GateError, invalid

SUFFIX = ".codexgate-backup"
LARGEST = 4 * 2**20
"""Bytes of a configuration file."""
_PRIVATE = 0o600


class Edit(NamedTuple):
    """What became of a file."""

    file: Path
    done: str
    """`written`, `unchanged`, `restored`, `taken out` or `removed`."""
    backup: Path | None = None
    """Where the file lies as it was."""


class _Found(NamedTuple):
    data: bytes
    text: str
    status: os.stat_result


def write(snippet: Snippet) -> Edit:
    """Put `snippet` into its file. Raises GateError when that is not safe or not possible."""
    assert snippet.file and snippet.format
    file = snippet.file
    found = _read(file)
    before = found.text if found else ""
    try:
        after = blocks.put(before, snippet.text, snippet.format)
        fresh = found is not None and not blocks.has_block(before)
    except GateError as error:
        raise _about(file, error) from error
    backup = _backup(file)
    if found and after == before:
        return Edit(file, "unchanged", backup if backup.exists() else None)
    if found and fresh:
        replace(backup, found.data, found.status)
    replace(file, after.encode(), found.status if found else None)
    return Edit(file, "written", backup if backup.exists() else None)


def undo(file: Path) -> Edit:
    """Make `file` what it was; what was changed in it since stays. Raises GateError.

    The backup is put back when our part is all that came since, else our part is taken out.
    """
    found, backup = _read(file), _backup(file)
    try:
        ours = found and blocks.has_block(found.text)
    except GateError as error:
        raise _about(file, error) from error
    if not found or not ours:
        raise GateError(Fault("not_found", f"There is nothing of ours in {file}.", code="nothing_to_undo"))
    rest = blocks.take_out(found.text)
    kept = _read(backup)
    if kept and rest in (kept.text, f"{kept.text}\n", f"{kept.text}\r\n"):
        replace(file, kept.data, found.status)
        backup.unlink()
        return Edit(file, "restored")
    if not kept and not rest.strip():
        _refuse_read_only(file, found.status)
        file.resolve().unlink()
        return Edit(file, "removed")
    replace(file, rest.encode(), found.status)
    return Edit(file, "taken out", backup if kept else None)


def replace(file: Path, data: bytes, like: os.stat_result | None = None) -> None:
    """Make `data` the content of `file`, or of what it is a link to, at once; durable when this returns.

    `like`: whose mode and owner it gets; else it is its maker's alone. Raises GateError (`permission`).
    """
    if like:
        _refuse_read_only(file, like)
    try:
        file = file.resolve()
        folders.make(file.parent)
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(data)
                opened.flush()
                if like and os.name == "posix":
                    if (like.st_uid, like.st_gid) != (os.geteuid(), os.fstat(descriptor).st_gid):
                        os.fchown(descriptor, like.st_uid, like.st_gid)
                    os.fchmod(descriptor, stat.S_IMODE(like.st_mode))
                os.fsync(descriptor)
            Path(name).replace(file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _refused(f"{file} cannot be written: {error.strerror}.") from error


def _read(file: Path) -> _Found | None:
    try:
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe must not hang us
        with os.fdopen(descriptor, "rb") as opened:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
                raise invalid(f"{file} is no configuration file.", code="unsafe_merge")
            data = opened.read()
        return _Found(data, data.decode(), status)
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise invalid(f"{file} is not UTF-8.", code="unsafe_merge") from error
    except OSError as error:
        raise _refused(f"{file} cannot be read: {error.strerror}.") from error


def _backup(file: Path) -> Path:
    return file.with_name(file.name + SUFFIX)


def _refuse_read_only(file: Path, status: os.stat_result) -> None:
    # A new file could take its place all the same; that somebody locked it is a wish.
    if not status.st_mode & stat.S_IWUSR:
        raise _refused(f"{file} is read-only.")


def _about(file: Path, error: GateError) -> GateError:
    fault = error.fault
    return invalid(f"{file}: {fault.message}", code=fault.code, advice=fault.advice)


def _refused(message: str) -> GateError:
    return GateError(Fault("permission", message, code="not_writable"))
