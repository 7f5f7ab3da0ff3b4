"""What `codexgate memory import` does: files to drafts, drafts to the memory, in batches.

What was kept stays kept, however it ends: by its key a draft is the same entry whenever it comes,
so the same command goes on where the last one stopped. Files are read between the batches and in
the main thread, so that Ctrl-C is heard also while standard input says nothing.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import msgspec

from ..assemble import open_memory
from ..drafts import entry_of
from ..errors import GateError
from ..imports.formats import Format, detect, read
from ..imports.items import Bad, Item
from ..memory import Memory
from ..records import Draft
from ..settings import Settings
from .documents import Document, Documents, Opened, opened
from .memory_view import draft_object
from .progress import Counting
from .terminal import json_text

BATCH = 256
"""Drafts that are embedded together and kept in one transaction."""
NEARLY = 0.99
"""The part that is shown when all is read and not yet kept."""

BINARY = "It is no text."
ZIP = "It is no text. Unpack a zip file and name what is in it."
UNKNOWN = "Neither an export that is known here nor a table with a column `content`; see --format."


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What is to become of what is found."""

    namespace: str = ""
    """Empty: the one that a file names, or else the default one."""
    default: str = "default"
    """The namespace of what names none."""
    tags: tuple[str, ...] = ()
    format: Format | None = None
    strict: bool = False
    as_json: bool = False


class Tally(msgspec.Struct):
    """What an import did."""

    imported: int = 0
    present: int = 0
    """Were there already."""
    failed: int = 0
    skipped: int = 0
    """Files of folders that are no documents."""

    def text(self, dry_run: bool) -> str:
        """One line."""
        done = "would be imported" if dry_run else "imported"
        parts = [f"{self.imported:,} {done}"]
        parts += [f"{self.present:,} there already"] * (not dry_run)
        parts += [f"{self.failed:,} failed"]
        parts += [f"{self.skipped:,} {'file' if self.skipped == 1 else 'files'} passed by"] * (
            self.skipped > 0
        )
        return f"{', '.join(parts)}."


class Read(NamedTuple):
    """A draft on its way, or why there is none, and where it comes from."""

    document: Document
    line: int
    draft: Draft | None
    reason: str = ""


class Import:
    """One run over some files."""

    def __init__(self, files: Documents, options: Options, tally: Tally, news: Counting) -> None:
        """`tally` counts what becomes of them, also for whoever looks at it after a failure."""
        self._files = files
        self._options = options
        self._tally = tally
        self._news = news
        piped = any(document.file is None for document in files.found)
        self._size = 0 if piped else sum(document.size for document in files.found)
        """Bytes of all; 0 when unknown."""
        tally.skipped += files.skipped

    def run(self, settings: Settings) -> None:
        """Keep everything. Raises GateError when the memory fails, not when a draft does."""
        with asyncio.Runner() as runner:
            closing = AsyncExitStack()
            memory = runner.run(closing.enter_async_context(open_memory(settings)))
            try:
                self._each(lambda batch: self._keep(runner, memory, batch), checked=self._options.strict)
            finally:
                runner.run(closing.aclose())

    def rehearse(self) -> None:
        """Keep nothing, and show what would be kept."""
        self._each(self._show, checked=True)

    def _each(self, use: Callable[[list[Read]], None], *, checked: bool) -> None:
        """Hand what is read to `use`, many at once; in strict mode up to the first failure."""
        batch: list[Read] = []
        for problem in self._files.unreadable:
            self._fail(problem)
            if self._is_over:
                return
        for document, item, done in self._read():
            batch.append(self._taken(document, item, checked))
            if len(batch) == BATCH or (self._options.strict and batch[-1].reason):
                use(batch)
                batch = []
                if self._is_over:
                    return
                self._show_progress(min(done / self._size, NEARLY) if self._size else None)
        use(batch)
        self._show_progress(1.0)

    def _taken(self, document: Document, item: Item, checked: bool) -> Read:
        """What is to become of an item; `checked`: whether its draft can be kept is looked at now."""
        if isinstance(item, Bad):
            return Read(document, item.line, None, item.message)
        draft = self._filled(item.draft)
        try:
            if checked:
                entry_of(draft, draft.namespace, time.time())
        except GateError as error:
            return Read(document, item.line, None, error.fault.text)
        return Read(document, item.line, draft)

    def _show_progress(self, part: float | None) -> None:
        self._news.show(self._tally.imported + self._tally.present, part)

    @property
    def _is_over(self) -> bool:
        return self._options.strict and self._tally.failed > 0

    def _read(self) -> Iterator[tuple[Document, Item, int]]:
        """What the files hold, with the bytes of all of them that are read."""
        done = 0
        for document in self._files.found:
            try:
                with opened(document) as file:
                    for item in self._items(document, file):
                        yield document, item, done + (file.bytes.read_so_far if file else 0)
            except OSError as error:
                yield document, Bad(f"It cannot be read: {error.strerror}.", 0), done
            done += document.size

    def _items(self, document: Document, file: Opened | None) -> Iterator[Item]:
        if file is None:
            return self._refused(document, ZIP if document.path.lower().endswith(".zip") else BINARY)
        format = self._options.format or detect(file.head, document.path)
        if format is None:
            return self._refused(document, UNKNOWN)
        return read(file.text, document.path, format, file.head)

    def _refused(self, document: Document, reason: str) -> Iterator[Bad]:
        """Nobody named what stands in a folder by chance."""
        if document.named:
            yield Bad(reason, 0)
        else:
            self._tally.skipped += 1

    def _keep(self, runner: asyncio.Runner, memory: Memory, batch: list[Read]) -> None:
        drafts = [each.draft for each in batch if each.draft]
        outcomes = iter(runner.run(memory.persist_many(drafts, force=True)))
        mismatch: GateError | None = None
        for each in batch:
            if not each.draft:
                self._fail(f"{_place(each)}: {each.reason}")
                continue
            kept = next(outcomes)
            if isinstance(kept, GateError):
                if kept.fault.code == "dimension_mismatch":
                    mismatch = kept
                else:
                    self._fail(f"{_place(each)}: {kept.fault.text}")
                continue
            if kept.deduped:
                self._tally.present += 1
            else:
                self._tally.imported += 1
            self._tell(each, {"id": kept.entry.id, "deduped": kept.deduped})
        sys.stdout.flush()  # whoever reads it may count on what it says
        if mismatch:  # which no draft is to blame for, and all that follow would meet
            raise mismatch

    def _show(self, batch: list[Read]) -> None:
        for each in batch:
            if each.draft:
                self._tally.imported += 1
                self._tell(each, draft_object(each.draft))
            else:
                self._fail(f"{_place(each)}: {each.reason}")

    def _filled(self, draft: Draft) -> Draft:
        namespace = self._options.namespace or draft.namespace or self._options.default
        moved = draft.namespace not in ("", namespace)  # an id is one entry's, which may be here too
        return msgspec.structs.replace(
            draft,
            namespace=namespace,
            key=f"{namespace}: {draft.key}" if moved else draft.key,
            tags=tuple(dict.fromkeys((*draft.tags, *self._options.tags))),
        )

    def _tell(self, each: Read, what: dict[str, Any]) -> None:
        if self._options.as_json:
            place = {"file": each.document.shown, "line": each.line}
            sys.stdout.write(json_text(place | what) + "\n")

    def _fail(self, line: str) -> None:
        self._tally.failed += 1
        self._news.say(line)


def _place(each: Read) -> str:
    return f"{each.document.shown}:{each.line}" if each.line else each.document.shown
