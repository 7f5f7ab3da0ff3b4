"""The API key: made, kept in a file that only its owner can read, and found again.

Standard library only. It must not know how a key is compared or sent, and it never logs one.
"""

import os
import secrets
import shlex
import stat
import tempfile
from pathlib import Path
from typing import NamedTuple

from . import folders
from .config import Secret
from .errors import Fault, GateError
from .settings import Settings

PREFIX = "cg-"
LONGEST = 4096
"""Bytes of a key file that are looked at."""


class Key(NamedTuple):
    """The key that requests must bring."""

    secret: Secret
    file: Path | None
    """Where it is kept; `None` when it stands in the settings themselves."""


def effective(settings: Settings) -> Key | None:
    """The key in force: `server.api_key`, else the key file; `None` when there is none.

    Raises GateError (`authentication`) for a key file that was named and is not there, that
    others can read, or that holds no key.
    """
    server = settings.server
    if server.api_key:
        key = server.api_key.reveal().encode("utf-8", "replace")
        return Key(Secret(_checked(key, "server.api_key", "Give it one, or take it out.")), None)
    file = key_file(settings)
    if server.api_key_file is None and not file.exists():
        return None
    return Key(Secret(read(file)), file)


def key_file(settings: Settings) -> Path:
    """Where the key is kept, or would be."""
    return settings.server.api_key_file or settings.data_dir / "api-key"


def read(file: Path) -> str:
    """Return the key in `file`. Raises GateError (`authentication`) as `effective` does."""
    try:
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe must not hang us
        with os.fdopen(descriptor, "rb") as opened:
            mode = os.fstat(descriptor).st_mode
            data = opened.read(LONGEST) if stat.S_ISREG(mode) else None
    except FileNotFoundError as error:
        raise _bad(f"There is no key file {file}.", "Make one: codexgate key make") from error
    except OSError as error:
        raise _bad(f"The key file {file} cannot be read: {error.strerror}.") from error
    if data is None:
        raise _bad(f"{file} is no file.", "Name another file.")
    if not data.strip():
        raise _bad(f"There is no key in {file}.", "Make one: codexgate key rotate")
    key = _checked(data, f"The key file {file}", "Put a key there, or name another file.")
    if os.name == "posix" and mode & 0o077:
        advice = f"Run: chmod 600 {shlex.quote(str(file))}"
        raise _bad(f"Others can read the key file {file} (mode {stat.S_IMODE(mode):04o}).", advice)
    return key


def make(file: Path) -> str:
    """Make a key, keep it in `file` and return it.

    Raises GateError: `conflict` when the file is there, `permission` when it cannot be written.
    """
    if file.exists():
        advice = "Replace it: codexgate key rotate"
        raise GateError(Fault("conflict", f"There is a key in {file} already.", advice, "key_exists"))
    return rotate(file)


def rotate(file: Path) -> str:
    """Put a new key into `file` and return it; whoever reads meanwhile gets the old one or the new.

    Raises GateError: `conflict` when the file holds something else, `permission` when it cannot be
    written; then what was there stays.
    """
    file = file.resolve()  # a link to it stays a link
    if _holds_something_else(file):
        advice = "Name another file in server.api_key_file."
        raise GateError(Fault("conflict", f"{file} holds something else than a key.", advice, "key_file"))
    key = PREFIX + secrets.token_urlsafe(32)
    try:
        folders.make(file.parent)
        _replace(file, f"{key}\n".encode())
    except OSError as error:
        raise GateError(
            Fault("permission", f"The key file {file} cannot be written: {error.strerror}.", code="key_file")
        ) from error
    return key


def _replace(file: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(descriptor)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the new name is only there for good when the folder is on disk too
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _holds_something_else(file: Path) -> bool:
    if not file.is_file():
        return file.exists()
    try:
        data = file.read_bytes()
    except OSError:  # it may be a key
        return False
    return bool(data.strip()) and _word(data) is None


def _checked(data: bytes, whose: str, advice: str) -> str:
    key = _word(data)
    if key is None:
        raise _bad(f"{whose} does not hold one word of printable ASCII.", advice)
    return key


def _word(data: bytes) -> str | None:
    """The key in `data`. What cannot stand in an `Authorization` header as one word can never be sent."""
    key = data.decode("ascii", "replace").strip()
    return key if 0 < len(key) < LONGEST and all("!" <= char <= "~" for char in key) else None


def _bad(message: str, advice: str = "") -> GateError:
    return GateError(Fault("authentication", message, advice, "key_file"))
