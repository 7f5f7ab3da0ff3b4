"""A git worktree for each chat, so that chats do not edit each other's files.

Drives the `git` program and knows its repository layout; must know neither chats nor Codex, nor what is
done in a worktree. What Codex may have written there is never trusted: worktrees are found through
the repository's own records, and git runs without hooks, monitors, prompts or the gate's environment.
"""

import asyncio
import contextlib
import logging
import os
import re
import secrets
import signal
import time
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from ...errors import Fault, GateError

DEADLINE = 30.0
"""Seconds for one run of git."""
TRIES = 3
"""Of a command that finds a lock of another git."""
WAIT = 0.5
"""Seconds between them."""
STALE = 120.0
"""Seconds after which a lock is a dead git's."""
GRACE = 60.0
"""Seconds for which what was just handed out is not cleaned up: who cleans may have looked up which
names are kept before that one was."""
PATIENCE = 2.0
"""Seconds for git to tidy up after TERM, before KILL."""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_LOCKED = re.compile(r"Unable to create '([^']+\.lock)': File exists")
_KEPT = re.compile(r"contains modified or untracked files|containing submodules|cannot remove a locked")
"""Why `git worktree remove` refuses without `--force`: there is something to lose."""
_MARK = "codexgate"
"""A file in the records of a worktree that we made; its time is when it was last handed out."""
_OPTIONS = ("core.hooksPath=/dev/null", "core.fsmonitor=false", "gc.auto=0", "maintenance.auto=0")
_INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "XDG_CONFIG_HOME", "SYSTEMROOT")
_ENVIRON = {
    "LC_ALL": "C",  # its messages are read
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "true",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",  # a partial clone fetches what it checks out
    "GIT_OPTIONAL_LOCKS": "0",
}
_ADJECTIVES = "amber bold brisk calm clear crisp deft eager fair fleet keen mild neat quiet sunny".split()
_NOUNS = "ash birch brook cedar cliff cove dune elm fern glade heath larch marsh oak reef ridge".split()

log = logging.getLogger(__name__)


class _Told(NamedTuple):
    code: int
    out: str
    error: str

    @property
    def reason(self) -> str:
        """What git says went wrong, without its prefix."""
        *_, last = [line for line in self.error.splitlines() if line.strip()] or [f"exit code {self.code}"]
        fatal = [line for line in self.error.splitlines() if line.startswith(("fatal: ", "error: "))]
        return (fatal[0] if fatal else last).removeprefix("fatal: ").removeprefix("error: ").rstrip(".")


class Worktrees:
    """The worktrees of the git repository at `folder`: `<folder>/.worktrees/NAME` on the branch NAME.

    One at a time is made or removed. Methods raise GateError with the code `worktree_failed` and
    git's own reason.
    """

    def __init__(self, folder: Path, *, grace: float = GRACE) -> None:
        """`grace`: seconds for which `clean` leaves a worktree alone that was just handed out."""
        self._folder = folder.absolute()
        self._root = self._folder / ".worktrees"
        self._grace = grace
        self._lock = asyncio.Lock()

    def new_name(self, taken: Collection[str]) -> str:
        """A name that is not in `taken` and has no folder here: two words and hexadecimal digits."""
        size = 2
        while True:
            name = f"{secrets.choice(_ADJECTIVES)}-{secrets.choice(_NOUNS)}-{secrets.token_hex(size)}"
            if name not in taken and not (self._root / name).exists():
                return name
            size += 1  # so it ends, however many are taken

    async def allocate(self, name: str) -> Path:
        """The folder of the worktree `name`, which is made if it is not there.

        On the branch `name` if there is one, else on a new one from HEAD.
        """
        async with self._lock:
            common = await self._common()
            path = self._path(name)
            record = _record(common, path)
            if record is None or not (path / ".git").is_file():
                await self._add(name, path, common, missing=record is not None)
            elif (record / _MARK).exists():
                _mark(record)
            return path

    async def remove(self, name: str) -> bool:
        """Remove a worktree that `allocate` made, if nothing is lost; its branch stays.

        False: there is none, or it holds changes, untracked files or commits on no branch.
        """
        async with self._lock:
            record = self._ours(await self._common()).get(name)
            return record is not None and await self._remove(name, record)

    async def clean(self, kept: frozenset[str]) -> list[str]:
        """Remove what `remove` would, of all names that are not in `kept`; the names that are gone."""
        async with self._lock:
            gone = []
            for name, record in self._ours(await self._common()).items():
                try:
                    if name not in kept and _age(record) >= self._grace and await self._remove(name, record):
                        gone.append(name)
                except GateError as error:  # the others need not stay because of this one
                    fields = {"name": name, "reason": error.fault.message}
                    log.warning("worktree.kept", extra={"fields": fields})
            return gone

    async def _common(self) -> Path:
        """The folder with the repository's records, shared by all of its worktrees."""
        told = await _run(self._folder, "rev-parse", "--git-common-dir")
        if told.code == 0:
            return (self._folder / told.out.removesuffix("\n")).resolve()
        if "not a git repository" in told.reason or "cannot change to" in told.reason:
            advice = "Run `git init` and commit something there, or set `codex.cwd` to a repository."
            raise _failed(f"Worktrees need a git repository, and {self._folder} is none.", advice)
        raise _failed(f"The git repository {self._folder} cannot be used: {told.reason}.")

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise _failed(f"'{name[:40]}' cannot be the name of a worktree.")
        path = self._root / name
        for part in (self._root, path):  # a link could lead out of the repository
            if part.is_symlink() or (part.exists() and not part.is_dir()):
                raise _failed(f"{part} is in the way: it is not a folder.", "Move it away.")
        return path

    async def _add(self, name: str, path: Path, common: Path, *, missing: bool) -> None:
        _exclude(common, self._root.name)
        if missing:
            await self._git(common, "worktree", "prune")
        branch = f"refs/heads/{name}"
        if (await _run(self._folder, "show-ref", "--verify", "--quiet", branch)).code:
            await self._git(common, "branch", "--no-track", name, "HEAD")
        await self._git(common, "worktree", "add", "--quiet", str(path), name)
        record = _record(common, path)
        if record is None:
            raise _failed(f"git made no records of the worktree '{name}'.")
        _mark(record)

    def _ours(self, common: Path) -> dict[str, Path]:
        """The records of the worktrees that we made here, by name."""
        root = self._root.resolve()
        marked = [mark.parent for mark in sorted((common / "worktrees").glob(f"*/{_MARK}"))]
        found = {_place(record): record for record in marked}
        return {place.name: record for place, record in found.items() if place.parent == root}

    async def _remove(self, name: str, record: Path) -> bool:
        if not _is_on_a_branch(record):
            return False
        told = await self._git_told(record.parent.parent, "worktree", "remove", str(self._root / name))
        if told.code and not _KEPT.search(told.error):
            raise _failed(f"The worktree '{name}' cannot be removed: {told.reason}.")
        return not told.code

    async def _git(self, common: Path, *arguments: str) -> None:
        told = await self._git_told(common, *arguments)
        if told.code:
            locked = bool(_LOCKED.search(told.error))
            raise _failed(f"git {' '.join(arguments[:2])} failed: {told.reason}.", retryable=locked)

    async def _git_told(self, common: Path, *arguments: str) -> _Told:
        """Run git; again, when another git holds a lock."""
        for _ in range(TRIES - 1):
            told = await _run(self._folder, *arguments)
            locked = _LOCKED.search(told.error)
            if not told.code or not locked:
                return told
            if not _unlock(self._folder / locked[1], common):
                await asyncio.sleep(WAIT)
        return await _run(self._folder, *arguments)


def _place(record: Path) -> Path:
    """Where the worktree of `record` is. Source: gitrepository-layout(5), `worktrees/<id>/gitdir`."""
    try:
        return (record / (record / "gitdir").read_text("utf-8").removesuffix("\n")).parent.resolve()
    except (OSError, ValueError):
        return Path()


def _record(common: Path, path: Path) -> Path | None:
    place = path.resolve()
    return next((record for record in (common / "worktrees").glob("*") if _place(record) == place), None)


def _mark(record: Path) -> None:
    with contextlib.suppress(OSError):  # what is not marked is never cleaned up, which loses nothing
        (record / _MARK).touch()


def _age(record: Path) -> float:
    """Seconds since the worktree was last handed out; 0 when its records are gone."""
    try:
        return time.time() - (record / _MARK).stat().st_mtime
    except OSError:
        return 0.0


def _is_on_a_branch(record: Path) -> bool:
    """Whether what was committed there can be found again by the name of a branch."""
    try:
        return (record / "HEAD").read_text("utf-8").startswith("ref: refs/heads/")
    except (OSError, ValueError):
        return False


def _exclude(common: Path, folder: str) -> None:
    """Keep `folder` out of `git status`, without a change to the repository's files."""
    file = common / "info" / "exclude"
    try:
        file.parent.mkdir(exist_ok=True)
        text = file.read_text("utf-8", "surrogateescape") if file.exists() else ""
        if f"{folder}/" not in text.splitlines():
            with file.open("a", encoding="utf-8") as appended:
                appended.write("\n" * (text[-1:] not in ("", "\n")) + f"{folder}/\n")
    except OSError as error:
        raise _failed(f"{file} cannot be written: {error.strerror}.") from error


def _unlock(lock: Path, common: Path) -> bool:
    """Remove a lock that a dead git has left in the repository; whether it is gone."""
    try:
        lock = lock.resolve()
        if not lock.is_relative_to(common):
            return False
        if time.time() - lock.stat().st_mtime > STALE:
            lock.unlink()
            log.warning("worktree.unlocked", extra={"fields": {"lock": str(lock)}})
        return not lock.exists()
    except FileNotFoundError:
        return True
    except OSError:
        return False


async def _run(folder: Path, *arguments: str) -> _Told:
    options = [part for option in _OPTIONS for part in ("-c", option)]
    environ = {name: os.environ[name] for name in _INHERITED if name in os.environ} | _ENVIRON
    try:
        process = await asyncio.create_subprocess_exec(
            "git",
            *("-C", str(folder), *options, *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environ,
            start_new_session=True,  # git's own helpers end with it
        )
    except OSError as error:
        raise _failed(f"git cannot be run: {error.strerror}.", "Install git.") from error
    try:
        async with asyncio.timeout(DEADLINE):
            out, error_out = await process.communicate()
    except TimeoutError as error:
        message = f"git {arguments[0]} was given up after {DEADLINE:g} s."
        raise _failed(message, retryable=True) from error
    finally:
        if process.returncode is None:
            await _end(process)
    return _Told(process.returncode or 0, os.fsdecode(out), error_out.decode(errors="replace"))


async def _end(process: asyncio.subprocess.Process) -> None:
    """Stop git; at TERM it removes its locks and what is half made."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await process.wait()
                return


def _failed(message: str, advice: str = "", *, retryable: bool = False) -> GateError:
    # Not `unavailable`: a store that is down is told from a worktree that cannot be made by its kind.
    return GateError(Fault("internal", message, advice, "worktree_failed", retryable=retryable))
