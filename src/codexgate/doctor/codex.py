"""Checks of Codex: the program, its version, its settings and login, its sandbox and its protocol.

Every question is a short run of the program. But for the login it gets a home of its own that is
thrown away, so that nothing is written into the user's.
"""

import asyncio
import os
import re
import shlex
import shutil
import signal
import tempfile
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from ..backends.codex import host
from ..backends.codex.find import INSTALL, child_environ, find_binary
from ..config import MASK
from . import protocol
from .words import Asked, Check, Remedy, Row, Status

LEAST = (0, 98, 0)
"""The oldest version that the gate is tested with; see docs/codex.md."""
RUN = 1.6
"""Seconds for one run: 0.1 are usual."""
LONGEST = 64 * 1024
"""Bytes that are read of what it writes."""
PACKAGED = "pip install --upgrade 'codexgate[codex]'"
"""Installs the program that comes along."""
QUOTED = re.compile(
    r"""((?:invalid (?:type|value): [\w ]+|unknown variant) )("(?:[^"\\]|\\.)*"|`.*?`(?=, expected|\s*\Z))""",
    re.DOTALL,
)
"""A value that does not fit, as Codex quotes it: it may be a secret in the wrong place."""
RESERVED = ("lmstudio", "ollama", "openai")
"""Provider ids that Codex keeps for its own."""
WIRE = (r"(wire_api[^=]*= *).chat.", r'\1"responses"')
NAMES = (r"(model_providers?[^a-zA-Z0-9]+)({})([^a-zA-Z0-9_-])", r"\1my-\2\3")
"""What is replaced in a line of `config.toml` and by what, for `sed -E` and `re` alike; `{}`: ids."""


class Ran(msgspec.Struct, frozen=True):
    """How a run ended."""

    status: int | None
    """`None` when it did not end in time, or could not begin."""
    text: str
    """What it wrote to either output; or why it could not be run."""


async def look(asked: Asked) -> list[Row]:
    """All of them; where there is no program, or it cannot run, no more is asked."""
    binary = await asyncio.to_thread(_find, asked)
    row = program(asked, binary)
    if binary is None or row.status != "ok":
        return [row]
    with tempfile.TemporaryDirectory(prefix="codexgate-doctor-", ignore_cleanup_errors=True) as folder:
        environ = {**child_environ(asked.environ, frozenset()), "CODEX_HOME": folder}
        ran = await run(binary, ("--version",), environ, folder)
        rows = [version(asked, binary, ran)]
        if ran.status != 0:
            return [row, *rows]
        rows += await asyncio.gather(
            _login(asked, binary),
            _sandbox(asked, binary, environ, folder),
            _protocol(binary, environ, folder),
        )
    return [row, *rows]


def program(asked: Asked, binary: Path | None) -> Row:
    """Whether there is one, and it is no wrapper without its program."""
    id, configured = "codex.program", asked.settings.codex.binary
    wanted = bool(configured) or _wanted(asked)
    details = {"binary": binary, "codex.binary": configured}
    if binary is None and configured:
        why = "The setting codex.binary names it; without it there are no Codex models."
        text = "Take the setting out: the packaged program, or the one on PATH, is found."
        remedy = Remedy(f"{text} This shows where it stands.", "codexgate config")
        if asked.environ.get("CODEXGATE_CODEX_BINARY"):
            remedy = Remedy(text, "unset CODEXGATE_CODEX_BINARY")
        return Row(id, "codex", "fail", f"{configured} is no program.", why, remedy, details)
    if binary is None:
        why = "Without it there are no Codex models, and no `codex --oss`."
        remedy = Remedy(INSTALL, "npm install -g @openai/codex")
        return Row(
            id, "codex", "fail" if wanted else "skipped", "Codex is not installed.", why, remedy, details
        )
    if binary.name == "codex.js" or binary.suffix in (".cmd", ".ps1"):
        why = (
            "It is npm's script, and the program that it starts is not there: npm left out what is optional."
        )
        remedy = Remedy(
            "Install it again, with its optional parts.", "npm install -g @openai/codex --include=optional"
        )
        return Row(id, "codex", "fail", f"{binary} finds no Codex for this machine.", why, remedy, details)
    text = "Codex came along with the gate." if _packaged(binary) else f"Codex is {binary}."
    return Row(id, "codex", "ok", text, details=details)


def version(asked: Asked, binary: Path, ran: Ran) -> Row:
    """Whether it runs, and is new enough."""
    id, details = "codex.version", {"codex --version": ran.text, "status": ran.status}
    found = re.search(r"codex-cli v?(\d+)\.(\d+)\.(\d+)(\S*)", ran.text)
    if ran.status != 0 or not found:
        why = "Whatever it is, it does not answer as Codex does."
        summary = f"`{binary.name} --version` did not work: {_last(ran) or 'it said nothing'}"
        return Row(id, "codex", "fail", summary, why, _newer(binary), details)
    text = ".".join(found.groups()[:3]) + found[4]
    if tuple(map(int, found.groups()[:3])) < LEAST:
        why = "Older ones speak another protocol, and `codex --oss` of theirs another API."
        summary = f"Codex {text} is too old: {'.'.join(map(str, LEAST))} is the oldest that works."
        return Row(
            id, "codex", "fail" if _wanted(asked) else "warning", summary, why, _newer(binary), details
        )
    return Row(id, "codex", "ok", f"Codex {text}", details=details)


async def _login(asked: Asked, binary: Path) -> Row:
    """Whether it accepts the user's settings, and whether it has a login where it needs one."""
    home = _home(asked)
    read = await asyncio.to_thread(host.read, home)
    if not await asyncio.to_thread(home.is_dir):
        if asked.environ.get("CODEX_HOME"):
            summary, why = f"CODEX_HOME={home} is no folder.", "Codex does not start without it."
            remedy = Remedy("Make it, or unset the variable.", f"mkdir -p {shlex.quote(str(home))}")
            return Row("codex.config", "codex", "fail", summary, why, remedy)
        return login(asked, binary, read, Ran(1, "Not logged in"))
    environ = {**child_environ(asked.environ, frozenset()), "CODEX_HOME": str(home)}
    ran = await run(binary, ("login", "status"), environ, str(home))
    return await asyncio.to_thread(login, asked, binary, read, ran)


def login(asked: Asked, binary: Path, read: host.Host, ran: Ran) -> Row:
    """What `codex login status` says, which reads the settings first; reads the file that it refuses."""
    text = QUOTED.sub(rf"\1{MASK}", ran.text)
    refused = re.search(r"Error loading config\S*: (.*)", text)
    if refused:
        text = text[: refused.end()]  # some versions show the line itself below
    details: dict[str, Any] = {"codex login status": text, "status": ran.status, "provider": read.provider}
    status: Status = "fail" if _wanted(asked) else "warning"
    if refused:
        return _refused(refused[1], _home(asked) / "config.toml", details)
    if read.provider not in ("", "openai"):
        text = f"Codex uses the provider {read.provider} and needs no login."
        return Row("codex.login", "codex", "ok", text, details=details)
    if ran.status == 0:
        return Row("codex.login", "codex", "ok", "Codex is signed in.", details=details)
    if "not logged in" in ran.text.lower():
        remedy = Remedy("Sign in.", f"{_typed(asked, binary)} login")
        why = "Its models answer 401 without a login. `codex --oss` needs none."
        return Row("codex.login", "codex", status, "Codex is not signed in.", why, remedy, details)
    summary = f"`codex login status`: {_last(ran) or 'it said nothing'}"
    if ran.status is None:  # a busy machine is slow
        why, remedy = "Whether it is signed in is not known.", _by_hand(asked, binary, "login status")
        return Row("codex.login", "codex", "warning", summary, why, remedy, details)
    why, remedy = "Its models may not answer.", Remedy("Sign in anew.", f"{_typed(asked, binary)} login")
    return Row("codex.login", "codex", status, summary, why, remedy, details)


def _refused(reason: str, config: Path, details: dict[str, Any]) -> Row:
    why = "Codex does not start with it, neither by itself nor behind the gate."
    place = re.match(r"(.*?config\.toml)(?::(\d+):\d+)?:? ", reason)
    file = place[1] if place else str(config)
    edit = f"${{EDITOR:-vi}} +{(place and place[2]) or 1}"
    text, changes = f"Mend {file}.", _changes(Path(file))
    if "wire_api" in reason:
        text = 'Set wire_api = "responses", and let the provider be the gate: it speaks that.'
    elif "reserved built-in provider IDs" in reason:
        text = "Give your provider another name; the address of Ollama is CODEX_OSS_BASE_URL."
    else:
        changes = []
    if changes:
        expressions = (word for old, new in changes for word in ("-e", f"s/{old}/{new}/g"))
        edit = f"sed -E -i.bak {shlex.join(expressions)}"
    remedy = Remedy(text, f"{edit} {shlex.quote(file)}")
    return Row("codex.config", "codex", "fail", f"Codex refuses its settings: {reason}", why, remedy, details)


def _changes(config: Path) -> list[tuple[str, str]]:
    """What makes all of the providers well, as `WIRE`; empty where it takes an editor."""
    try:
        text = config.read_text("utf-8")
        chat, ids = _spoilt(text)
        changes = [WIRE] * chat + [(NAMES[0].format("|".join(ids)), NAMES[1])] * bool(ids)
        for old, new in changes:
            text = "\n".join(re.sub(old, new, line) for line in text.splitlines())
        return [] if any(_spoilt(text)) else changes
    except (OSError, ValueError, AttributeError):  # it is gone, or no TOML, or has no tables there
        return []


def _spoilt(config: str) -> tuple[bool, list[str]]:
    """Whether a provider has the old API, and which of them have reserved ids."""
    providers = tomllib.loads(config).get("model_providers", {})
    chat = any(each.get("wire_api") == "chat" for each in providers.values())
    return chat, [id for id in RESERVED if id in providers]


async def _sandbox(asked: Asked, binary: Path, environ: Mapping[str, str], folder: str) -> Row:
    """Whether a command can run in its sandbox. Where it cannot, every command of every model fails."""
    id = "codex.sandbox"
    ran = await run(binary, ("sandbox", "--", "/bin/sh", "-c", "exit 0"), environ, folder)
    if ran.status == 2 and "Usage" in ran.text:  # before 0.144 the system's name came first
        system = "macos" if os.uname().sysname == "Darwin" else "linux"
        ran = await run(binary, ("sandbox", system, "--", "/bin/sh", "-c", "exit 0"), environ, folder)
    details = {"codex sandbox": ran.text, "status": ran.status}
    if ran.status == 0:
        return Row(id, "codex", "ok", "A command runs in the sandbox of Codex.", details=details)
    if ran.status == 2 and "Usage" in ran.text:
        return Row(id, "codex", "skipped", "This Codex has no way to try its sandbox.", details=details)
    why = "Codex closes up then: each command of a model fails, and the model is left to guess why."
    if re.search(r"bwrap|namespace|uid_map|Operation not permitted|Permission denied", ran.text):
        remedy = Remedy(
            "Allow user namespaces (AppArmor, Docker's seccomp), or run Codex where they are allowed.",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        )
    else:
        remedy = _by_hand(asked, binary, "sandbox -- true")
    used = _wanted(asked) or await asyncio.to_thread(_home(asked).is_dir)
    status: Status = "fail" if used and ran.status is not None else "warning"  # a busy machine is slow
    return Row(id, "codex", status, f"The sandbox does not start: {_last(ran)}", why, remedy, details)


async def _protocol(binary: Path, environ: Mapping[str, str], folder: str) -> Row:
    """Whether all that the gate uses is in the protocol of this version."""
    id, out = "codex.protocol", str(Path(folder) / "schema")
    arguments = ("app-server", "generate-json-schema", "--experimental", "--out", out)
    ran = await run(binary, arguments, environ, folder)
    try:
        schema = await asyncio.to_thread(_read, Path(out) / protocol.BUNDLE)
        lost = protocol.drift(schema)
    except (OSError, msgspec.DecodeError, AttributeError, TypeError):
        text = "This Codex does not tell its protocol."
        return Row(id, "codex", "skipped", text, details={"said": ran.text, "status": ran.status})
    if not lost:
        return Row(id, "codex", "ok", "All that the gate uses is in its protocol.")
    why = "What is missing is passed over, or refused: parts of an answer may be lost."
    some = f"{', '.join(lost[:3])}{' …' if len(lost) > 3 else ''}"
    remedy = Remedy("Take the version that comes along.", PACKAGED)
    return Row(id, "codex", "warning", f"Its protocol lacks {some}", why, remedy, {"missing": lost})


async def run(binary: Path, arguments: tuple[str, ...], environ: Mapping[str, str], cwd: str) -> Ran:
    """Run the program for at most `RUN` seconds, without a terminal or input; it and its children end."""
    try:
        process = await asyncio.create_subprocess_exec(
            str(binary),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(environ),
            cwd=cwd,
            start_new_session=True,
        )
    except OSError as error:
        return Ran(None, f"it cannot be run: {error.strerror}")
    assert process.stdout is not None
    text = b""
    try:
        async with asyncio.timeout(RUN):
            while data := await process.stdout.read(LONGEST):
                text = (text + data)[-LONGEST:]
            return Ran(await process.wait(), text.decode(errors="replace"))
    except TimeoutError:
        return Ran(None, f"it did not end within {RUN:g} s")
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)


def _find(asked: Asked) -> Path | None:
    try:
        return find_binary(asked.settings.codex.binary, asked.environ)
    except OSError:  # it is there, but cannot be read
        found = shutil.which(asked.settings.codex.binary or "codex", path=asked.environ.get("PATH"))
        return Path(found) if found else None


def _home(asked: Asked) -> Path:
    """Where Codex keeps its settings and its login; it is not there when nobody has used it."""
    return Path(asked.environ.get("CODEX_HOME") or asked.home / ".codex")


def _typed(asked: Asked, binary: Path) -> str:
    """How a person calls the program: by its name where that means this one."""
    named = not _packaged(binary) and not asked.settings.codex.binary
    return "codex" if named else shlex.quote(str(binary))


def _by_hand(asked: Asked, binary: Path, arguments: str) -> Remedy:
    return Remedy("Try it by hand and read what it says.", f"{_typed(asked, binary)} {arguments}")


def _newer(binary: Path) -> Remedy:
    """How a newer one is installed, as this one was."""
    return Remedy("Install a newer one.", PACKAGED if _packaged(binary) else "npm install -g @openai/codex")


def _packaged(binary: Path) -> bool:
    return "codex_cli_bin" in binary.parts


def _wanted(asked: Asked) -> bool:
    """Whether somebody asked for Codex: then what is missing is a failure."""
    return "codex" in asked.settings.backends or asked.model.startswith("codex/")


def _last(ran: Ran) -> str:
    """The line that tells most: an error, else the last one."""
    lines = [
        line.strip()
        for line in ran.text.splitlines()
        if line.strip() and not line.startswith("WARNING: proceeding")
    ]
    told = [
        line for line in lines if re.search(r"error|fail|denied|not permitted|bwrap", line, re.IGNORECASE)
    ]
    return (told or lines or [""])[-1]


def _read(file: Path) -> Any:
    return msgspec.json.decode(file.read_bytes())


CHECKS = (
    Check(
        ("codex.program", "codex.version", "codex.config", "codex.login", "codex.sandbox", "codex.protocol"),
        "codex",
        look,
        5.0,
    ),
)
