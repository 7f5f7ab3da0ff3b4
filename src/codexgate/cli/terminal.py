"""What the commands share when they speak to a person: exit codes, escaping, colour, errors.

Must not know a command, an event or a backend, and imports nothing heavy: `--help` passes here.
"""

import os
import re
import sys
import unicodedata
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TextIO

import msgspec
import typer

from ..errors import Fault, Kind, invalid

Colour = Literal["auto", "always", "never"]

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="PATH", help="Settings file to read instead of the one found."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

INTERRUPTED = 130
_EXIT: dict[Kind, int] = {
    "invalid_request": 2,
    "authentication": 4,
    "permission": 4,
    "not_found": 5,
    "unavailable": 6,
    "timeout": 6,
}
_NO_LOGIN = ("codex_signed_out", "unauthorized")
"""Not of the caller's kind on the wire: there, it is the gate that is not let in."""
_KEPT = "\n\t\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"
"""Not printable to Python, but text: Persian is spelled with one joiner, emoji with the other."""
_STYLES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "cyan": 36}
_UNPRINTABLE_JSON = re.compile(r"[^\x00-\x1f\x20-\x7e]")


class Globals(NamedTuple):
    """The flags that stand before the command; `ctx.obj` of every command."""

    colour: Colour = "auto"


def config_file(ctx: typer.Context) -> Path | None:
    """The `--config` that stands nearest to the command."""
    at: Any = ctx
    while at is not None:
        if at.params.get("config"):
            return Path(at.params["config"])
        at = at.parent
    return None


class Paint:
    """Styles for short texts; without colour it returns them as they are."""

    def __init__(self, on: bool) -> None:
        self.on = on

    def __call__(self, text: str, *styles: str) -> str:
        """`text` in `styles`: bold, dim, red, green, yellow, cyan."""
        if not self.on or not styles:
            return text
        return f"\x1b[{';'.join(str(_STYLES[style]) for style in styles)}m{text}\x1b[0m"


def existing_folder(path: Path) -> Path:
    """The folder at `path`, in full. Raises GateError (`invalid_request`) when it is none."""
    try:
        folder = path.expanduser().resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise invalid(f"There is no folder {path}.", "cwd") from error
    if not folder.is_dir():
        raise invalid(f"{path} is not a folder.", "cwd")
    return folder


def exit_code(fault: Fault) -> int:
    """The exit code of a command that ended with `fault`: 1, or what its kind says, or a missing login."""
    return _EXIT["authentication"] if fault.code in _NO_LOGIN else _EXIT.get(fault.kind, 1)


def wants_colour(choice: Colour, file: TextIO) -> bool:
    """Whether to colour what goes to `file`. Source: no-color.org, a set NO_COLOR counts unless empty."""
    if choice != "auto":
        return choice == "always"
    return file.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def escape(text: str) -> str:
    """`text` with everything written out that is not printable text, newline or tab.

    Works on single characters, so pieces of a text may be escaped one by one.
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def escape_line(text: str) -> str:
    """`text` escaped, in one line."""
    return escape(text).replace("\n", "\\x0a").replace("\t", "\\x09")


def json_text(value: Any) -> str:
    """`value` as one line of JSON that a terminal cannot act on: JSON's own escapes stand for the rest."""
    return _UNPRINTABLE_JSON.sub(_json_escape, msgspec.json.encode(value, enc_hook=str).decode())


def print_line(text: str) -> None:
    """Write to standard output."""
    sys.stdout.write(f"{text}\n")


def say(text: str) -> None:
    """Tell a person something, in a line on standard error."""
    sys.stderr.write(f"codexgate: {escape_line(text).strip()}\n")
    sys.stderr.flush()


def confirmed(question: str) -> bool:
    """Whether a person says yes. Raises GateError where there is nobody to ask."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise invalid("There is nobody to ask.", advice="Say --yes to delete without asking.")
    sys.stderr.write(f"{escape_line(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def show_fault(fault: Fault, *, as_json: bool = False) -> None:
    """Tell a failure on standard error: for people, and then for programs when they asked for JSON."""
    sys.stderr.write(escape(f"codexgate: {fault.text}") + "\n")
    if as_json:
        error = {"kind": fault.kind, "message": fault.message, "advice": fault.advice, "code": fault.code}
        sys.stderr.write(json_text({"error": error}) + "\n")
    sys.stderr.flush()


def _shown(char: str) -> str:
    if char.isprintable() or char in _KEPT:
        return char
    if unicodedata.category(char) == "Zs":  # no-break and other blanks: text, and looks like this
        return " "
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(found: re.Match[str]) -> str:
    char, code = found[0], ord(found[0])
    if char.isprintable():
        return char
    if code < 0x10000:
        return f"\\u{code:04x}"
    return f"\\u{0xD7C0 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"  # RFC 8259, section 7
