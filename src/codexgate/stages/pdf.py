"""The text of a PDF, read in a process of its own.

A PDF is a program for a reader written in Python: it can loop, or unfold to gigabytes. A thread could
not be ended; a process is killed at its limits, and keeps the gate's event loop free. This module is
also the program of that process: it gets the PDF on standard input, writes the text to standard
output, and its exit code is the number of a `_REFUSALS`.
"""

import asyncio
import contextlib
import io
import sys
from enum import IntEnum

from ..errors import GateError, invalid

TIME = 30.0
"""Seconds for one PDF."""
MEMORY = 2 * 1024**3
"""Bytes of address space of the process."""
PAGES = 2000
TEXT = 2_000_000
"""Characters of its text."""


class _Refusal(IntEnum):
    """Exit codes; 1 is Python's own for whatever the library raised."""

    ENCRYPTED = 3
    TOO_LONG = 4
    NO_TEXT = 5


async def text_of(data: bytes, name: str) -> str:
    """The text of all pages. Raises GateError (invalid_request, `file_unreadable`) naming the file."""
    # -P: what lies in the working folder is not imported.
    command = (sys.executable, "-P", "-m", __name__)
    pipe, nowhere = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    child = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=nowhere)
    try:
        async with asyncio.timeout(TIME):
            said, _ = await child.communicate(data)
    except TimeoutError:
        raise _unreadable(f"The PDF {name} took longer than {TIME:g} s to read.") from None
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    match child.returncode:
        case 0:
            return said.decode()
        case _Refusal.ENCRYPTED:
            raise _unreadable(f"The PDF {name} is encrypted.", "Send it without a password.")
        case _Refusal.TOO_LONG:
            limits = f"{PAGES} pages or {TEXT} characters"
            raise _unreadable(f"The PDF {name} has more than {limits}.", "Send a part of it.")
        case _Refusal.NO_TEXT:
            advice = "Send its pages as pictures to a model that sees."
            raise _unreadable(f"The PDF {name} has no text; it may have been scanned.", advice)
        case _:
            raise _unreadable(f"The PDF {name} is broken and cannot be read.")


def _unreadable(message: str, advice: str = "") -> GateError:
    return invalid(message, code="file_unreadable", advice=advice)


def _read(data: bytes) -> str | _Refusal:
    from pypdf import PasswordType, PdfReader

    reader = PdfReader(io.BytesIO(data))
    if reader.is_encrypted and reader.decrypt("") == PasswordType.NOT_DECRYPTED:
        return _Refusal.ENCRYPTED
    if len(reader.pages) > PAGES:
        return _Refusal.TOO_LONG
    texts: list[str] = []
    size = 0
    for page in reader.pages:
        text = page.extract_text()
        texts.append(text.strip())
        size += len(text)
        if size > TEXT:
            return _Refusal.TOO_LONG
    return "\n\n".join(filter(None, texts)) or _Refusal.NO_TEXT


def _main() -> int:
    from pypdf.errors import DependencyError, FileNotDecryptedError

    with contextlib.suppress(ImportError, ValueError, OSError):  # not every system has these limits
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (int(TIME), int(TIME)))
    try:
        read = _read(sys.stdin.buffer.read())
    except (DependencyError, FileNotDecryptedError):  # AES, for which pypdf needs another library
        return _Refusal.ENCRYPTED
    if isinstance(read, _Refusal):
        return read
    sys.stdout.buffer.write(read.encode("utf-8", "replace"))
    return 0


if __name__ == "__main__":
    sys.exit(_main())
