"""A settings file in TOML, read into values that know the line they stand on.

Knows the schema's settings; must not know which file it is or what other layers say.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from .schema import Setting, by_last_name
from .values import convert, refuse, unknown, wrong

Place = tuple[str, ...]
"""Where in the tables a value stands: `("server", "port")`. Names may have dots of their own."""

_HEADER = re.compile(r"\s*(\[.*\])\s*(?:#.*)?$")
_NAME = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_KEY = re.compile(rf"\s*({_NAME}(?:\s*\.\s*{_NAME})*)\s*=")


def read(path: Path, known: Mapping[str, Setting]) -> dict[str, tuple[object, str]]:
    """By key the values in the file, and for each its source, `file PATH:LINE`.

    An entry of a table has a key of its own: `aliases.fast`. Raises GateError.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise refuse(f"file {path}", f"the file cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise refuse(f"file {path}", "the file is not UTF-8 text.") from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        why, _, where = str(error).removesuffix(")").partition(" (at ")
        line = re.match(r"line (\d+)", where)
        number = int(line[1]) if line else text.count("\n") + 1
        raise refuse(f"file {path}:{number}", f"this is not TOML: {why}.") from error
    file = _File(path, _lines(text), known)
    return {".".join(place): (value, file.source(place)) for place, value in file.values(data)}


class _File(msgspec.Struct):
    path: Path
    lines: Mapping[Place, int]
    known: Mapping[str, Setting]

    def values(self, data: Mapping[str, Any], table: Place = ()) -> Iterator[tuple[Place, object]]:
        for name, value in data.items():
            place = (*table, name)
            key = ".".join(place)
            setting = self.known.get(key)
            if setting and setting.entry:
                for each, entry in self._table(place, value).items():
                    yield (*place, each), self._entry(setting, (*place, each), entry)
            elif setting:
                yield place, self._value(place, setting.wanted, value)
            elif any(each.startswith(f"{key}.") for each in self.known):
                yield from self.values(self._table(place, value), place)
            else:
                near = self._siblings(table), by_last_name(self.known)
                raise unknown(key, self.source(place), *near, like=name)

    def _siblings(self, table: Place) -> dict[str, str]:
        depth = len(table) + 1
        places = (tuple(key.split(".")) for key in self.known)
        return {place[depth - 1]: ".".join(place[:depth]) for place in places if place[: depth - 1] == table}

    def source(self, place: Place) -> str:
        while place and place not in self.lines:
            place = place[:-1]  # what is inside an inline table stands on the table's line
        return f"file {self.path}:{self.lines.get(place, 1)}"

    def _value(self, place: Place, wanted: Any, value: object) -> object:
        # A path in a file is meant as seen from that file, wherever the gate is started.
        return convert(".".join(place), wanted, value, self.source(place), folder=self.path.parent)

    def _table(self, place: Place, value: object) -> Mapping[str, Any]:
        if isinstance(value, dict):
            return value
        raise wrong(".".join(place), dict, value, self.source(place))

    def _entry(self, table: Setting, place: Place, value: object) -> object:
        if not isinstance(value, dict) or not table.entry:
            return self._value(place, table.wanted, value)
        key = ".".join(place)
        fields = {field.name: field for field in structs.fields(table.entry)}
        for name in value:
            if name not in fields:
                near = {each: f"{key}.{each}" for each in fields}
                raise unknown(f"{key}.{name}", self.source((*place, name)), near, like=name)
        for name, field in fields.items():
            if field.required and name not in value:
                raise refuse(self.source(place), f"{key} needs {name}.", key)
        return table.entry(
            **{name: self._value((*place, name), fields[name].type, each) for name, each in value.items()}
        )


def _lines(text: str) -> dict[Place, int]:
    """Where each table and key of a TOML text stands, the first line being 1.

    `tomllib` does not tell. A line inside a multi-line string may look like a key; then, at the
    worst, an error names a wrong line.
    """
    found: dict[Place, int] = {}
    table: Place = ()
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER.match(line):
            table = _place(header[1])
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            found.setdefault(table + _place(f"{key[1]}=0"), number)
    return found


def _place(toml: str) -> Place:
    """Where a header or a key alone, itself TOML, points to; `()` when it is not one."""
    try:
        node: Any = tomllib.loads(toml)
    except tomllib.TOMLDecodeError:
        return ()
    place = []
    while isinstance(node, dict) and node:
        name, node = next(iter(node.items()))
        place.append(name)
    return tuple(place)
