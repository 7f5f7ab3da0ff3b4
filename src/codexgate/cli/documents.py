"""The files that `memory` reads and writes: found in folders, opened as text, replaced as a whole.

Knows what a text is and nothing of what stands in it.
"""

import codecs
import io
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO, cast

from .. import sniff
from ..errors import Fault, GateError, invalid
from ..imports.formats import DOCUMENTS, HEAD

STDIN = "-"
SKIPPED = frozenset({"node_modules", "bower_components", "__pycache__", "site-packages", "venv"})
"""Folders of what others wrote or machines made; so are hidden ones."""


class Document(NamedTuple):
    """A file that is to be read."""

    file: Path | None
    """`None`: standard input."""
    path: str
    """What its entries know it by: as it was named, but with nothing of this machine before that."""
    shown: str
    """As it was named."""
    size: int = 0
    """Bytes; 0 when unknown."""
    named: bool = True
    """Somebody named it; else it was found in a folder."""


class Opened(NamedTuple):
    """A file that is being read."""

    text: TextIO
    """Line ends as they are; what is no UTF-8 in surrogates."""
    head: str
    """How it begins."""
    bytes: "Counted"


class Counted(io.RawIOBase):
    """Bytes from a file, of which some have been looked at already."""

    def __init__(self, head: bytes, rest: io.BufferedReader) -> None:
        self._head = head
        self._rest = rest
        self.read_so_far = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, into: memoryview) -> int:  # type: ignore[override]
        """Read into a buffer; how many bytes."""
        if self._head:
            data, self._head = self._head[: len(into)], self._head[len(into) :]
        else:
            data = self._rest.read1(len(into))  # what there is: a pipe need not be full
        into[: len(data)] = data
        self.read_so_far += len(data)
        return len(data)


class Documents:
    """The files that some paths name and their folders hold, in order."""

    def __init__(self, paths: list[str]) -> None:
        """Raises GateError (`not_found`) for a path that there is not."""
        self.found: list[Document] = []
        self.skipped = 0
        """How many files of the folders are no documents."""
        self.unreadable: list[str] = []
        """What of the folders cannot be looked at, and why."""
        for name in paths:
            path = Path(name)
            if not (name == STDIN or (name and path.exists())):
                raise GateError(Fault("not_found", f"There is no file {name}.", code="file_not_found"))
            if name == STDIN:
                self.found.append(Document(None, STDIN, STDIN))
            elif path.is_dir():
                self._enter(path, path, set())
            else:
                self.found.append(Document(path, _label(path), name, path.stat().st_size))

    def _enter(self, root: Path, folder: Path, seen: set[tuple[int, int]]) -> None:
        """Take what is in `folder`, by name; links are followed, and no folder is entered twice."""
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                return
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
        except OSError as error:
            self.unreadable.append(f"{folder}: {error.strerror}.")
            return
        for name in names:
            file = folder / name
            if not file.is_dir():
                self._take(root, file)
            elif name not in SKIPPED:
                self._enter(root, file, seen)

    def _take(self, root: Path, file: Path) -> None:
        try:
            status = file.stat()
        except OSError as error:  # a link that leads nowhere
            self.unreadable.append(f"{file}: {error.strerror}.")
            return
        if stat.S_ISREG(status.st_mode) and file.suffix.lower() in DOCUMENTS:
            path = _label(root, file.relative_to(root))
            self.found.append(Document(file, path, str(file), status.st_size, named=False))
        else:
            self.skipped += 1


@contextmanager
def opened(document: Document) -> Iterator[Opened | None]:
    """The text of `document`; `None` when it is none. Raises OSError."""
    with _open(document.file) as file:
        head = file.read(HEAD)
        encoding = "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
        binary = b"\0" in head or sniff.is_pdf(head) or sniff.image_type(head)
        if binary and encoding != "utf-16":
            yield None
            return
        count = Counted(head, file)
        buffer = io.BufferedReader(count, HEAD)
        with io.TextIOWrapper(buffer, encoding, errors="surrogateescape", newline="") as text:
            yield Opened(text, codecs.decode(head, encoding, "replace"), count)


@contextmanager
def _open(path: Path | None) -> Iterator[io.BufferedReader]:
    if path:
        with path.open("rb") as file:
            yield file
    elif sys.stdin is None:
        raise invalid("Standard input is closed.")
    else:
        yield cast("io.BufferedReader", sys.stdin.buffer)


def _label(path: Path, inner: Path = Path()) -> str:
    if path.is_absolute() or ".." in path.parts:
        path = Path(path.resolve().name)
    return os.fsencode((path / inner).as_posix()).decode("utf-8", "replace")


def read_text(file: Path | None) -> str:
    """All of a file, or of standard input (also as `-`), as a text. Raises GateError."""
    file = None if file == Path(STDIN) else file
    try:
        with _open(file) as opened:
            text = sniff.text(opened.read())
    except OSError as error:
        raise invalid(f"{file} cannot be read: {error.strerror}.") from error
    if text is None:
        raise invalid(f"{file or 'What was piped in'} is no text.")
    return text.strip("\r\n")


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A file that takes the place of `path` when all is written, and else leaves no trace.

    Raises GateError.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe, or /dev/null
            with path.open("w", encoding="utf-8") as file:
                yield file
            return
        path = path.resolve()
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            try:
                yield cast("TextIO", file)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise invalid(f"{path} cannot be written: {error.strerror}.") from error
