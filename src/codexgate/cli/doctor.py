"""`codexgate doctor`: why it does not work, row by row, and what mends it.

Shows what `doctor.run` finds and, with `--fix`, runs the remedies that take nothing away. It knows no
check; without a terminal it never asks, and whatever hangs, it ends.
"""

import asyncio
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import typer

from .. import __version__
from ..config import FILE_VARIABLE, Loaded
from ..doctor import gate, mask, reach, registry, run
from ..doctor.run import Found
from ..doctor.target import gate_url, pull, root
from ..doctor.words import DEADLINE, WHOLE, Asked, Row, Status
from ..errors import GateError, invalid
from ..settings import Settings, load_settings
from .complete import check_ids, model_ids
from .terminal import (
    INTERRUPTED,
    AsJson,
    ConfigFile,
    Paint,
    config_file,
    escape,
    escape_line,
    json_text,
    say,
    wants_colour,
)

SCHEMA = 1
"""Of the report that `--json` prints."""
WIDTH = 80
ID = 25
"""Columns of an id."""
FIX = 600.0
"""Seconds that one remedy may take, a pull excepted."""
_MARKS: dict[Status, tuple[str, str, str]] = {
    "ok": ("✓", "ok", "green"),
    "warning": ("!", "!!", "yellow"),
    "fail": ("✗", "XX", "red"),
    "skipped": ("·", "--", "dim"),
}
"""By status: the mark, what stands for it where that cannot be written, and its style."""
_PULL = re.compile(r"(?:CODEXGATE_OLLAMA_URL=(\S+) )?codexgate models pull (\S+)")


def doctor(
    ctx: typer.Context,
    model: Annotated[
        str,
        typer.Option("--model", "-m", metavar="ID", help="Can this model be used?", autocompletion=model_ids),
    ] = "",
    url: Annotated[str, typer.Option(metavar="URL", help="Judge this server: a compatibility card.")] = "",
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID,…", help="These checks alone, whole or by a beginning.", autocompletion=check_ids
        ),
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Run the remedies that take nothing away.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before each of them.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show what was asked and answered.")
    ] = False,
    as_json: AsJson = False,
    config: ConfigFile = None,  # noqa: ARG001 - config_file finds it
) -> None:
    """Find out why Codex, Ollama, the gate or a client does not work, and what mends it."""
    if fix and not yes and not (sys.stdin and sys.stdin.isatty()):
        raise invalid("There is nobody to ask.", advice="Say --fix --yes to run the remedies without asking.")
    loaded, first = _load(ctx)
    environ = dict(os.environ)
    if file := config_file(ctx):
        environ[FILE_VARIABLE] = str(file)  # remedies are for the same settings
    asked = Asked(loaded.settings, environ, Path.home(), model, url)
    names = [name.strip() for each in only or () for name in each.split(",") if name.strip()]
    ids = run.wanted(names or (["ollama", "network.tls"] if url else []))
    ink = Paint(wants_colour(ctx.obj.colour, sys.stdout))
    report = _Report(asked, None if as_json else ink, verbose=verbose, all=bool(names))
    logging.getLogger().addHandler(logging.NullHandler())  # what libraries log is told by a row
    asyncio.run(_examine(report, first, ids, with_card=bool(url) and not names, fix=fix, yes=yes))


class _Report:
    """What was found, shown as it comes."""

    def __init__(self, asked: Asked, paint: Paint | None, *, verbose: bool, all: bool) -> None:
        """`paint`: `None` shows nothing until the end, and then JSON; `all`: also what was skipped."""
        self.asked = asked
        self.found: list[Found] = []
        self.card: Any = None
        self._paint = paint
        self._verbose = verbose
        self._all = all or verbose
        self._signs = "utf" in (sys.stdout.encoding or "").lower()

    @property
    def failed(self) -> bool:
        return any(each.row.status == "fail" for each in self.found)

    @property
    def overall(self) -> Status:
        seen = {each.row.status for each in self.found}
        return next((status for status in ("fail", "warning") if status in seen), "ok")

    def add(self, found: Found) -> None:
        """Take a row in; one of an id that is there already stands beside it."""
        self.found.append(found)
        if self._paint is not None and (self._all or found.row.status != "skipped"):
            self.write("\n".join(self._lines(found.row, self._paint)))

    def replace(self, ids: frozenset[str], rows: list[Found]) -> None:
        """Take the rows of a second look in, for those of the first; `ids`: what was looked at."""
        self.found = [each for each in self.found if each.row.id not in ids]
        for each in rows:
            self.add(each)

    def write(self, text: str) -> None:
        """Write what is ready, so that nobody waits for it."""
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def end(self) -> None:
        """Sum up."""
        if self._paint is None:
            self.write(json_text(self._object()))
            return
        if self.card is not None:
            from ..doctor.card import lines

            self.write("\n" + "\n".join(escape_line(line) for line in lines(self.card, WIDTH)))
        count = {status: sum(each.row.status == status for each in self.found) for status in _MARKS}
        parts = [f"{count['ok']} ok"]
        parts += [f"{count['warning']} warning{'s' * (count['warning'] != 1)}"] * bool(count["warning"])
        parts += [f"{count['fail']} failed"] * bool(count["fail"])
        skipped = f"{count['skipped']} skipped" + ("" if self._all else " (--verbose shows them)")
        parts += [skipped] * bool(count["skipped"])
        self.write("\n" + self._paint(", ".join(parts), "bold"))

    def _lines(self, row: Row, paint: Paint) -> list[str]:
        sign, plain, style = _MARKS[row.status]
        mark = sign if self._signs else plain
        indent = " " * (len(mark) + 1 + ID + 1)
        first = f"{mark} {row.id:{ID}} "
        body = _fold(row.summary, first, indent)
        lines = [paint(mark, style) + body[0][len(mark) :], *body[1:]]
        if row.status in ("warning", "fail"):
            lines += _fold(row.why, "    ", "    ") if row.why else []
        if row.remedy and row.status != "ok":
            arrow = "→" if self._signs else "->"
            for line in row.remedy.text.splitlines():
                command = line.startswith("  ")  # a first command: in one line too
                lines += [f"    {escape_line(line)}"] if command else _fold(line, "    ", "    ")
            if row.remedy.command:  # in one line, to be copied
                lines.append("    " + paint(f"{arrow} {escape_line(row.remedy.command)}", "cyan"))
        if self._verbose:
            told = {name: json_text(value) for name, value in row.details.items()}
            told["ms"] = f"{row.duration * 1000:.0f}"
            for name, value in told.items():
                lines += [paint(line, "dim") for line in _fold(f"{name}: {value}", "    ", "      ")]
        return lines

    def _object(self) -> dict[str, Any]:
        report: dict[str, Any] = {
            "schema_version": SCHEMA,
            "generated_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "version": __version__,
            "overall": self.overall,
            "checks": [_row_object(each.row) for each in self.found],
        }
        if self.card is not None:
            report["card"] = msgspec.to_builtins(self.card)
        return report


def _row_object(row: Row) -> dict[str, Any]:
    remedy = row.remedy and {"text": row.remedy.text, "command": row.remedy.command}
    return {
        "id": row.id,
        "category": row.category,
        "status": row.status,
        "summary": row.summary,
        "details": row.details | ({"why": row.why} if row.why else {}),
        "remedy": remedy,
        "duration_ms": round(row.duration * 1000),
    }


def _load(ctx: typer.Context) -> tuple[Loaded[Settings], Row]:
    """The settings; where they cannot be read, the defaults, and a row that says so."""
    try:
        loaded = load_settings(config=config_file(ctx))
    except GateError as error:
        return Loaded(Settings(), {}), gate.settings_row(error.fault)
    return loaded, gate.ignored_row(loaded.ignored)


async def _examine(
    report: _Report, first: Row, ids: frozenset[str], *, with_card: bool, fix: bool, yes: bool
) -> NoReturn:
    """Look, judge, mend, sum up, and end the process."""
    begun = time.monotonic()
    task = asyncio.current_task()
    assert task is not None
    with suppress(NotImplementedError):  # Windows; asyncio's own handler may come just before the loop sleeps
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
    try:
        hidden = await mask.in_time(report.asked)
        if first.id in ids or first.status == "fail":
            report.add(Found(hidden.row(first), first.remedy.command if first.remedy else ""))
        left = WHOLE - (time.monotonic() - begun)
        async with aclosing(run.examine(report.asked, ids, hidden=hidden, whole=left)) as rows:
            async for found in rows:
                report.add(found)
        if with_card:
            report.card = await _judge(report.asked, hidden, begun)
        if fix:
            await _mend(report, hidden, ids, yes)
        report.end()
    except asyncio.CancelledError:  # Ctrl-C
        await _leave(INTERRUPTED)
    await _leave(1 if report.failed else 0)


async def _leave(code: int) -> NoReturn:
    """End the process now.

    Python would wait for its threads, and one may hang for minutes: in the name server, of whose answer
    nobody waited any more, or on a dead disk.
    """
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=1)  # they end what they started
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def _judge(asked: Asked, hidden: mask.Mask, begun: float) -> Any:
    """The card of the server at `--url`; our key goes only to our gate, another one to its own server.

    `begun`: when the run did; what the checks took is not there for a model that is silent.
    """
    from .. import apikey
    from ..doctor.card import judge

    key, where = "", root(asked.url)
    if where == root(gate_url(asked.settings)):
        with suppress(GateError, TimeoutError):  # `system.key` says so
            found = await asyncio.wait_for(asyncio.to_thread(apikey.effective, asked.settings), DEADLINE)
            key = found.secret.reveal() if found else ""
    for options in asked.settings.openai.values():
        if root(options.base_url) == where:
            key = options.api_key.reveal()
    left = max(0.0, WHOLE - (time.monotonic() - begun))
    told = reach.heard(asked, where)
    return await judge(asked.url, model=asked.model, key=key, hide=hidden.text, heard=told, silent=left)


# Remedies


async def _mend(report: _Report, hidden: mask.Mask, ids: frozenset[str], yes: bool) -> None:
    """Run the remedies that are safe, and look again at what they were for; `ids`: of the rows wanted."""
    for each in [each for each in report.found if each.row.status in ("warning", "fail")]:
        remedy = each.row.remedy
        if remedy is None or not remedy.safe or not each.command:
            continue
        if not yes and not await _agreed(remedy.command):
            say(f"not run: {remedy.command}")
            continue
        say(f"running: {remedy.command}")
        failure = await _run(report.asked, hidden, each.command)
        again = run.together(each.row.id) & ids
        anew = msgspec.structs.replace(report.asked, heard={})
        found = [seen async for seen in run.examine(anew, again)]
        if failure is not None:
            found = [seen for seen in found if seen.row.id != failure.id]
            found.append(Found(hidden.row(failure), ""))
        report.replace(again | {failure.id} if failure else again, found)


async def _run(asked: Asked, hidden: mask.Mask, command: str) -> Row | None:
    """Run one remedy, never by a shell; returns the row that says why a pull failed."""
    if found := _PULL.fullmatch(command):
        url, model = (shlex.split(each)[0] if each else "" for each in found.groups())
        return await _pull(asked, url or asked.settings.ollama.url, model)
    words = shlex.split(command)
    if words[0] == "codexgate":
        words = [sys.executable, "-m", "codexgate", *words[1:]]
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            env=dict(asked.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # a key that was made
            stderr=subprocess.PIPE,
        )
    except OSError as error:
        say(f"it did not work: {error.strerror}")
        return None
    try:
        _, said = await asyncio.wait_for(process.communicate(), FIX)
    except TimeoutError:
        process.kill()
        say(f"it did not end within {FIX:.0f} s.")
        return None
    for line in hidden.text(said.decode(errors="replace")).splitlines():
        say(line)
    if process.returncode:
        say(f"it ended with {process.returncode}.")
    return None


async def _pull(asked: Asked, url: str, model: str) -> Row | None:
    """Install a model in the Ollama at `url`, with progress; the row of why it cannot be."""
    from ..backends.ollama import Ollama
    from .progress import progress

    server = Ollama(msgspec.structs.replace(asked.settings.ollama, url=url))
    colour = wants_colour("auto", sys.stderr)
    try:
        async with aclosing(server.pull(model)) as news:
            with progress(sys.stderr, colour=colour) as show:
                async for each in news:
                    show(each)
    except GateError as error:
        return registry.pull_row(model, error.fault, pull(asked, url, model))
    finally:
        await server.aclose()
    return None


async def _agreed(command: str) -> bool:
    sys.stderr.write(f"Run {escape_line(command)}? [y/N] ")
    sys.stderr.flush()
    # In a thread: the loop has to hear of Ctrl-C.
    return (await asyncio.to_thread(sys.stdin.readline)).strip().lower() in ("y", "yes")


def _fold(text: str, first: str, indent: str) -> list[str]:
    """`text` in lines of `WIDTH` columns, after `first` and under `indent`."""
    lines: list[str] = []
    for line in escape(text).splitlines() or [""]:
        lines += textwrap.wrap(
            line,
            WIDTH,
            initial_indent=first if not lines else indent,
            subsequent_indent=indent,
            break_on_hyphens=False,
        ) or [first.rstrip()]
    return lines
