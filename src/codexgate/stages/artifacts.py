"""A Markdown file of every exchange, as a `ports.Stage`: the outermost, so that it sees what callers see.

Written after the answer, in a thread: it delays nothing and fails nothing. How a file looks is the
business of `exchange`.
"""

import asyncio
import logging
import os
import re
import secrets
import tempfile
import time
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec

from .. import folders
from ..errors import Fault, GateError
from ..ports import Batches, Route, Run
from .exchange import Exchange, masking

INDEX = "index.md"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

log = logging.getLogger(__name__)


class ArtifactOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of exchanges."""

    dir: Annotated[
        Path | None,
        msgspec.Meta(
            description="Folder that keeps a Markdown file of every exchange; nothing is kept without."
        ),
    ] = None


class Artifacts:
    """Keeps exchanges in `folder`, which is made when it is needed; several gates may share it."""

    def __init__(self, folder: Path, keys: Sequence[str] = ()) -> None:
        """`keys` are masked wherever they appear, as is what looks like a key."""
        self._folder = folder
        self._mask = masking(keys)
        self._writing: set[asyncio.Task[None]] = set()
        self._works = True
        """The last file could be written."""
        self._last = 0

    async def __call__(self, route: Route, run: Run) -> Batches:
        """Answer `route`, and keep what was asked and said."""
        began = self._now()
        exchange = Exchange(route.request, route.model.id, route.backend.name, began)
        try:
            async with aclosing(run(route)) as batches:
                async for batch in batches:
                    for event in batch:
                        exchange.feed(event)
                    yield batch
            exchange.stop()
        except GateError as error:
            exchange.fault = error.fault
            raise
        except Exception:
            exchange.fault = Fault("internal", "codexgate failed while it was answering.")
            raise
        finally:
            task = asyncio.create_task(self._keep(exchange, began))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def aclose(self) -> None:
        """Wait until everything is written."""
        if self._writing:
            await asyncio.wait(self._writing)

    def _now(self) -> datetime:
        """The time, in microseconds that no other exchange of this gate has."""
        self._last = max(self._last + 1, time.time_ns() // 1000)
        return _EPOCH + timedelta(microseconds=self._last)

    async def _keep(self, exchange: Exchange, began: datetime) -> None:
        reason = ""
        try:
            await asyncio.to_thread(self._write, exchange, began)
        except OSError as error:
            reason = f"{self._folder}: {error.strerror}"
        except Exception:
            log.exception("artifacts.crash")
            return
        if self._works == bool(reason):
            self._works = not reason
            log.log(
                logging.WARNING if reason else logging.INFO,
                "artifacts.down" if reason else "artifacts.up",
                extra={"fields": {"reason": reason}},
            )

    def _write(self, exchange: Exchange, began: datetime) -> None:
        # Times tell the exchanges of one gate apart, ids those of several.
        id = re.sub(r"[^A-Za-z0-9_-]", "_", exchange.id)[:80] or secrets.token_hex(8)
        name = f"{began:%Y%m%d-%H%M%S-%f}-{id}.md"
        folders.make(self._folder)
        _put(self._folder / name, exchange.render(self._mask))
        _append(self._folder / INDEX, exchange.line(name, self._mask))


def _put(file: Path, text: str) -> None:
    """Make `file`, mode 0600, whole or not at all. Raises OSError."""
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=".")
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(text.encode("utf-8", "replace"))
            opened.flush()
            os.fsync(descriptor)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _append(file: Path, line: str) -> None:
    """Add one line, in one write: what several gates append does not mix. Raises OSError."""
    # Not through a link: an agent may be able to write where the artifacts are, but not what we can.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(file, flags, 0o600)
    try:
        os.write(descriptor, line.encode("utf-8", "replace"))
    finally:
        os.close(descriptor)
