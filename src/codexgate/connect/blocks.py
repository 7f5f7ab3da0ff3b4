"""Our part of somebody's configuration file: a block between two marks, and the rest as it was.

Pure: text in, text out. TOML is read to be sure of what comes out. There is no reader of YAML
here, so only what is plainly laid out is touched: for anything else the person is told.
"""

import re
import tomllib
from collections.abc import Callable
from typing import Any, NamedTuple

from ..errors import GateError, invalid
from .clients import Format

BEGIN, END = "# >>> codexgate", "# <<< codexgate"
MARK = "\ufeff"
"""Some editors begin a file with it."""

_KEY = re.compile(r"""("[^"]*"|'[^']*'|[A-Za-z_][^\s:#]*)\s*:(?:\s+(.*))?$""")
_OPENED = re.compile(r"""(?:^|:\s+|-\s+)(["'\[{])(.*)$""")
_BREAK = re.compile("[\r\x85\u2028\u2029]")
"""Where YAML 1.1 ends a line beside where everybody does."""
_CLOSES = {'"': '"', "'": "'", "[": "]", "{": "}"}


def put(text: str, ours: str, format: Format) -> str:
    """`text` with our part in it, in the place of what we put there before.

    Raises GateError where the file is broken, says something else about the same, or is laid out
    in a way that cannot be told from a broken one.
    """
    return _PUT[format](take_out(text), ours.split("\n"), _line_end(text))


def has_block(text: str) -> bool:
    """Whether our part is in `text`. Raises GateError when it has lost one of its marks."""
    return _find(text) is not None


def take_out(text: str) -> str:
    """`text` without our part. Raises GateError when that has lost one of its marks."""
    found = _find(text)
    return text if found is None else text[: found[0]] + text[found[1] :]


def _find(text: str) -> tuple[int, int] | None:
    marks: dict[str, list[tuple[int, int]]] = {BEGIN: [], END: []}
    at = 0
    for line in _split(text):
        if (mark := line.strip().lstrip(MARK)) in marks:
            marks[mark].append((at + line.startswith(MARK), at + len(line)))
        at += len(line)
    if not marks[BEGIN] and not marks[END]:
        return None
    if len(marks[BEGIN]) == len(marks[END]) == 1 and marks[BEGIN] < marks[END]:
        return marks[BEGIN][0][0], marks[END][0][1]
    raise _unsafe(f"The marks `{BEGIN}` and `{END}` do not stand around one block any more.")


def _split(text: str) -> list[str]:
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _block(ours: list[str], end: str, indent: int = 0) -> str:
    return "".join(f"{' ' * indent}{line}{end}" for line in (BEGIN, *ours, END))


def _append(text: str, block: str, end: str) -> str:
    return text + (end if text and not text.endswith("\n") else "") + block


# TOML


def _put_toml(text: str, ours: list[str], end: str) -> str:
    """At the top: what stands below a table's head belongs to that table."""
    mark = MARK if text.startswith(MARK) else ""
    text = text.removeprefix(mark)
    theirs, added = _toml(text), tomllib.loads("\n".join(ours))
    if clash := _clash(theirs, added):
        raise _taken(clash)
    merged = _block(ours, end) + text
    try:
        fits = tomllib.loads(merged) == _merged(theirs, added)
    except tomllib.TOMLDecodeError:  # a table there is written so that nothing can be added to it
        fits = False
    if not fits:
        raise _unsafe("Our settings cannot stand beside what is there.")
    return mark + merged


def _toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise _unsafe(f"It is not TOML: {error}.") from error


def _clash(theirs: dict[str, Any], ours: dict[str, Any], above: str = "") -> str:
    """The first key that both have; tables may be in both."""
    for key in filter(theirs.__contains__, ours):
        if not isinstance(ours[key], dict) or not isinstance(theirs[key], dict):
            return f"{above}{key}"
        if inner := _clash(theirs[key], ours[key], f"{above}{key}."):
            return inner
    return ""


def _merged(theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    inner = {key: _merged(theirs[key], ours[key]) for key in ours.keys() & theirs.keys()}
    return {**theirs, **ours, **inner}


# YAML


class _Line(NamedTuple):
    number: int
    """From 1."""
    indent: int
    text: str
    """Without what stands around it."""
    after: int
    """Where the next line begins in the whole text."""


def _put_list(text: str, ours: list[str], end: str) -> str:
    lines = _lines(text)
    indent = lines[0].indent if lines else 0
    for line in lines:
        if line.indent < indent or (line.indent == indent and not _is_item(line.text)):
            raise _unclear(line)
    _refuse_double(lines, ours[0].removeprefix("- "))
    return _append(text, _block(ours, end, indent), end)


def _put_map(text: str, ours: list[str], end: str) -> str:
    theirs = _keys(_lines(text))
    for line in ours:
        if found := theirs.get(line.partition(":")[0]):
            raise _taken(line.partition(":")[0], found)
    return _append(text, _block(ours, end), end)


def _put_models(text: str, ours: list[str], end: str) -> str:
    """An item of the list `models`, the first one: what follows it is not ours to end."""
    lines = _lines(text)
    whole = ["models:", *(f"  {line}" for line in ours)]
    if not lines:
        head = ["name: codexgate", "version: 1.0.0", "schema: v1"]
        return _append(text, _block([*head, *whole], end), end)
    models = _keys(lines).get("models")
    if models is None:
        return _append(text, _block(whole, end), end)
    _refuse_double(lines, ours[0].removeprefix("- "))
    below = next((line for line in lines if line.number > models.number), None)
    listed = below is not None and _is_item(below.text)
    if models.text.partition(":")[2].partition(" #")[0].strip() or (below and below.indent and not listed):
        raise _unclear(models)
    indent = below.indent if below and listed else 2
    before, after = text[: models.after], text[models.after :]
    return _append(before, _block(ours, end, indent), end) + after


def _lines(text: str) -> list[_Line]:
    """The lines that say something. Raises GateError for one that cannot be understood alone."""
    lines: list[_Line] = []
    at = 0
    for number, line in enumerate(_split(text), 1):
        at += len(line)
        content = line.removeprefix(MARK).strip()
        if not content or content.startswith("#") or (content == "---" and not lines):
            continue
        indent = len(line) - len(line.lstrip(" "))
        found = _Line(number, indent, content, at)
        opened = _OPENED.search(content)
        if line[indent] == "\t" or content.startswith(("---", "...", "%")) or _BREAK.search(content):
            raise _unclear(found)
        if opened and _CLOSES[opened[1]] not in opened[2]:
            raise _unclear(found)
        lines.append(found)
    return lines


def _keys(lines: list[_Line]) -> dict[str, _Line]:
    """The keys of the whole document, which must be a mapping in block style."""
    keys: dict[str, _Line] = {}
    for line in lines:
        if line.indent or (keys and _is_item(line.text)):
            if not keys:
                raise _unclear(line)
            continue
        found = _KEY.match(line.text)
        name = found[1].strip("\"'") if found else ""
        if not name or name in keys:
            raise _unclear(line)
        keys[name] = line
    return keys


def _refuse_double(lines: list[_Line], ours: str) -> None:
    """`ours`: what tells our item from others, as `name: codexgate`."""
    key, _, value = ours.partition(": ")
    for line in lines:
        found = _KEY.match(line.text.removeprefix("- ").lstrip())
        theirs = (found[2] or "").partition(" #")[0].strip() if found else ""
        if found and found[1] == key and theirs.strip("\"'") == value.strip('"'):
            raise _taken(ours, line)


def _is_item(text: str) -> bool:
    return text == "-" or text.startswith("- ")


def _unclear(line: _Line) -> GateError:
    return _unsafe(f"Line {line.number} cannot be understood with certainty.")


def _taken(key: str, line: _Line | None = None) -> GateError:
    where = f" in line {line.number}" if line else ""
    return _unsafe(f"`{key}` is set there already{where}.", "Take it out, or paste our settings by hand.")


def _unsafe(message: str, advice: str = "Paste our settings by hand: leave out --write.") -> GateError:
    return invalid(message, code="unsafe_merge", advice=advice)


_PUT: dict[Format, Callable[[str, list[str], str], str]] = {
    "toml": _put_toml,
    "yaml list": _put_list,
    "yaml map": _put_map,
    "yaml models": _put_models,
}
