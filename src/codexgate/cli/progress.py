"""The progress of long work: bars on a terminal, now and then a line elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TextIO

from rich import progress as bar
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ..records import Progress
from . import table
from .terminal import escape_line

EVERY = 5.0
"""Seconds between two lines about the same."""


@contextmanager
def progress(file: TextIO, *, colour: bool) -> Iterator[Callable[[Progress], None]]:
    """What to call with every piece of news while the context is open; shown on `file`."""
    if not file.isatty():
        yield _Lines(file).feed
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
    )
    with _bars(file, columns, colour) as bars:
        yield _Parts(bars).feed


class Counting(NamedTuple):
    """A long work that is counted."""

    show: Callable[[int, float | None], None]
    """What is done so far: how many, and what part of all that is (0 to 1); `None` when nobody knows."""
    say: Callable[[str], None]
    """Tell a line, above the bar if there is one."""


@contextmanager
def counting(file: TextIO, what: str, *, colour: bool) -> Iterator[Counting]:
    """A bar with rate and remaining time on a terminal, elsewhere a line now and then; of so many `what`."""
    what = escape_line(what)
    if not file.isatty():
        counts = _Counts(file, what)
        yield Counting(counts.show, counts.say)
        return
    columns = (
        BarColumn(bar_width=None),
        TextColumn("{task.fields[part]}{task.fields[done]:,} {task.description}", markup=False),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(compact=True),
    )
    begun = time.monotonic()
    with _bars(file, columns, colour) as bars:
        task = bars.add_task(what, total=None, part="", done=0, rate=0.0)

        def show(done: int, part: float | None) -> None:
            rate = done / max(time.monotonic() - begun, 0.001)
            if part is None:
                bars.update(task, done=done, rate=rate)
            else:
                bars.update(task, total=1.0, completed=part, part=f"{part:4.0%}  ", done=done, rate=rate)

        yield Counting(show, lambda line: bars.console.print(escape_line(line)))


def _bars(file: TextIO, columns: Sequence[ProgressColumn], colour: bool) -> bar.Progress:
    """Bars above which is printed what a terminal shows, as it is; what goes elsewhere is none of theirs."""
    console = Console(
        file=file,
        color_system="standard" if colour else None,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )
    return bar.Progress(*columns, console=console, expand=True, redirect_stdout=sys.stdout.isatty())


class _Parts:
    """A bar for every part and, once there are two, one for all of them."""

    def __init__(self, bars: bar.Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._news: dict[str, Progress] = {}
        self._status = ""

    def feed(self, news: Progress) -> None:
        """Move the bars."""
        if not news.total:
            if news.status != self._status:
                self._bars.console.print(escape_line(news.status))
            self._status = news.status
            return
        if news.part not in self._tasks:
            self._tasks[news.part] = self._bars.add_task(_name(news.part), total=news.total)
        self._news[news.part] = news
        self._bars.update(self._tasks[news.part], completed=news.completed, total=news.total)
        if len(self._news) > 1:
            self._all()

    def _all(self) -> None:
        if "" not in self._tasks:
            self._tasks[""] = self._bars.add_task("total")
        parts = [news for part, news in self._news.items() if part]
        total, completed = sum(news.total for news in parts), sum(news.completed for news in parts)
        self._bars.update(self._tasks[""], total=total, completed=completed)


class _Lines:
    """A line when something new begins, when it is complete, and every few seconds between."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._last = ("", "")
        self._said = 0.0

    def feed(self, news: Progress) -> None:
        """Say it, if it is worth a line."""
        what = (news.status, news.part)
        complete = 0 < news.total <= news.completed
        if what == self._last and not complete and time.monotonic() - self._said < EVERY:
            return
        if what == self._last and complete and self._said == float("inf"):
            return
        self._last, self._said = what, float("inf") if complete else time.monotonic()
        amount = f" {table.size(news.completed) or '0 B'} of {table.size(news.total)}" if news.total else ""
        self._file.write(f"{escape_line(news.status)}{amount}\n")
        self._file.flush()


class _Counts:
    """A line about the count every few seconds; what it came to in the end, others tell."""

    def __init__(self, file: TextIO, what: str) -> None:
        self._file = file
        self._what = what
        self._said = time.monotonic()

    def show(self, done: int, part: float | None) -> None:
        """Say it, if it is time."""
        if part == 1.0 or time.monotonic() - self._said < EVERY:
            return
        self._said = time.monotonic()
        self.say(f"{done:,} {self._what}" + ("" if part is None else f", {part:.0%}"))

    def say(self, line: str) -> None:
        """Write a line."""
        self._file.write(f"{escape_line(line)}\n")
        self._file.flush()


def _name(part: str) -> str:
    return escape_line(part.removeprefix("sha256:"))[:12]
