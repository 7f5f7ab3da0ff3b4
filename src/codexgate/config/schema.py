"""What settings a schema has: walked, described for people, shown with its secrets masked.

Knows neither files nor variables' values. A schema is a msgspec struct; see the package.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import msgspec
from msgspec import inspect, structs

from .values import MASK, Secret, words

PREFIX = "CODEXGATE_"


class Setting(msgspec.Struct, frozen=True):
    """One setting of a schema, or one table of entries."""

    key: str
    """Such as `server.port`."""
    wanted: Any
    """The type of its value; of a table, of each entry."""
    field: structs.FieldInfo
    entry: type[msgspec.Struct] | None = None
    """Of a table: the struct that an entry is, unless it is written shorter."""

    @property
    def variable(self) -> str:
        """Its name in the environment; empty for a table, which is not one value."""
        return "" if self.entry else PREFIX + re.sub(r"[.-]", "_", self.key).upper()

    def fields(self, name: str) -> "Iterator[Setting]":
        """The settings in the entry `name`; none where it may be written shorter: it is one value then."""
        if self.entry is not None and self.entry is self.wanted:
            for field in structs.fields(self.entry):
                yield Setting(f"{self.key}.{name}.{field.name}", field.type, field)


class Row(msgspec.Struct, frozen=True):
    """One setting, told to people."""

    key: str
    type: str
    default: str
    """Empty when there is none, or when it depends on the machine."""
    environment: str
    """Empty when it cannot be set there."""
    description: str


def walk(schema: type[msgspec.Struct], prefix: str = "") -> Iterator[Setting]:
    """Every setting, in the schema's order."""
    for field in structs.fields(schema):
        key = prefix + field.name
        bare = get_args(field.type)[0] if get_origin(field.type) is Annotated else field.type
        if section := _struct_in(bare):
            yield from walk(section, f"{key}.")
        elif get_origin(bare) is dict:
            value = get_args(bare)[1]
            yield Setting(key, value, field, _struct_in(value, *get_args(value)))
        else:
            yield Setting(key, field.type, field)


def by_last_name(keys: Iterable[str]) -> dict[str, str]:
    """Keys by what stands after their section: `port` is `server.port`."""
    return {key.rpartition(".")[2]: key for key in keys}


def describe(schema: type[msgspec.Struct]) -> tuple[Row, ...]:
    """Every setting in the schema's order; an entry of a table is called `NAME`."""
    rows = []
    for setting in walk(schema):
        if not setting.entry:
            rows.append(_row(setting.key, setting.field, setting.variable))
            continue
        key = f"{setting.key}.NAME"
        rows.append(_row(key, setting.field, "", words(inspect.type_info(setting.wanted))))
        variables = {each.key: each.variable for each in setting.fields("NAME")}
        for field in structs.fields(setting.entry):
            each = f"{key}.{field.name}"
            rows.append(_row(each, field, variables.get(each, "")))
    return tuple(rows)


def masked(settings: msgspec.Struct) -> dict[str, object]:
    """Every setting by its key as JSON values, with secrets and passwords in URLs masked.

    An entry of a table has a key of its own: `aliases.fast`.
    """
    shown: dict[str, object] = {}
    for setting in walk(type(settings)):
        value: Any = settings
        for name in setting.key.split("."):
            value = getattr(value, name)
        if setting.entry:
            shown |= {f"{setting.key}.{name}": _plain(entry) for name, entry in value.items()}
        else:
            shown[setting.key] = _plain(value)
    return shown


def _struct_in(*types: Any) -> type[msgspec.Struct] | None:
    return next((each for each in types if isinstance(each, type) and issubclass(each, msgspec.Struct)), None)


def _row(key: str, field: structs.FieldInfo, variable: str, type: str = "") -> Row:
    info = inspect.type_info(field.type)
    schema = (info.extra_json_schema or {}) if isinstance(info, inspect.Metadata) else {}
    return Row(key, type or words(info), _default(field.default), variable, schema.get("description", ""))


def _default(value: object) -> str:
    match value:
        case None | Secret() | msgspec.NODEFAULT:
            return ""
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case tuple() | list():
            return ",".join(map(str, value))
        case _:
            return str(value)


def _plain(value: object) -> object:
    match value:
        case Secret() | Path():
            return str(value)
        case str():
            return re.sub(r"://[^/\s@]*@", f"://{MASK}@", value)
        case msgspec.Struct():
            return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
        case dict():
            return {str(name): _plain(each) for name, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(each) for each in value]
        case _:
            return value
