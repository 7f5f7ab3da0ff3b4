"""The layers and their order.

Knows how each layer spells a setting's name. What a value must be is `values`, what settings
there are is `schema`.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import inspect, structs

from ..errors import GateError
from .file import read
from .schema import PREFIX, Setting, by_last_name, walk
from .values import bare, convert, refuse, unknown

S = TypeVar("S", bound=msgspec.Struct)

FILE_VARIABLE = "CODEXGATE_CONFIG"
"""Names the settings file, so it is no setting itself."""

_CLUSTER_NAME = re.compile(r"_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)$")
_CLUSTER_VALUE = re.compile(r"(tcp|udp|sctp)://")
"""Kubernetes gives every pod beside a service called `codexgate` variables like
`CODEXGATE_SERVICE_HOST` and `CODEXGATE_PORT=tcp://10.0.0.1:80`; they are nobody's settings."""

_Layer = dict[str, tuple[object, str]]
"""By key (of a table: `TABLE.ENTRY`) the value, converted, and its source."""


class Foreign(msgspec.Struct, frozen=True):
    """A variable of another program, from which one of our settings can be read."""

    key: str
    read: Callable[[str], str | None] = str
    """Turns the variable's text into ours; `None` when it makes no sense for `key`."""


class Loaded(msgspec.Struct, Generic[S], frozen=True):
    """Settings, and where each of them came from."""

    settings: S
    sources: dict[str, str]
    """By key: `default`, `file PATH:LINE`, `environment NAME` or `flag --NAME`."""
    ignored: tuple[str, ...] = ()
    """Foreign variables whose value makes no sense here. They were not set for us, so they must
    not stop us either."""


def load(
    schema: type[S],
    *,
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
    flag_names: Mapping[str, str] | None = None,
    foreign: Mapping[str, Foreign] | None = None,
) -> Loaded[S]:
    """Read every layer and lay it over the defaults of `schema`.

    `flags` has values by key, `None` and empty lists meaning "not given"; `flag_names` tells by
    key how a flag is spelled where `--SECTION-KEY` is not it. Of the `foreign` variables of one
    key the first that is set counts. A layer is checked also where another one overrides it.
    Raises GateError (`invalid_request`, code `invalid_setting`).
    """
    known = {setting.key: setting for setting in walk(schema)}
    environ = environ or {}
    given = read(file, known) if file else {}
    fields = _fields(known, given, environ, foreign or {})
    named = known | {key: setting for settings in fields.values() for key, setting in settings.items()}
    others, ignored = _from_foreign(environ, foreign or {}, named)
    given |= others
    given |= _from_environment(environ, named)
    given |= _from_flags(flags or {}, flag_names or {}, known)
    for entry, settings in fields.items():
        ignored += _fill_in(given, entry, settings, known[entry.partition(".")[0]])
    sources = {key: "default" for key, setting in known.items() if not setting.entry}
    sources |= {key: source for key, (_, source) in given.items()}
    return Loaded(_lay_over(schema(), given), sources, ignored)


def _lay_over(base: Any, given: _Layer, prefix: str = "") -> Any:
    changes: dict[str, object] = {}
    for field in structs.fields(base):
        key, value = prefix + field.name, getattr(base, field.name)
        if isinstance(value, msgspec.Struct):
            changes[field.name] = _lay_over(value, given, f"{key}.")
        elif key in given:
            changes[field.name] = given[key][0]
        elif isinstance(value, dict):
            table = f"{key}."
            changes[field.name] = value | {
                name.removeprefix(table): entry
                for name, (entry, _) in given.items()
                if name.startswith(table)
            }
    return structs.replace(base, **changes)


def _fields(
    known: Mapping[str, Setting], given: _Layer, environ: Mapping[str, str], foreign: Mapping[str, Foreign]
) -> dict[str, dict[str, Setting]]:
    """The settings in entries of tables that variables can name: by entry (`openai.gpu`), then by key."""
    found: dict[str, dict[str, Setting]] = {}
    for table in known.values():
        start, ends = f"{table.key}.", [field.key.split(".")[-1].upper() for field in table.fields("NAME")]
        if not ends:
            continue
        spelled = re.compile(f"{PREFIX}{table.key.upper()}_(\\w+?)_(?:{'|'.join(ends)})", re.ASCII)
        keys = [*given, *(variable.key.rpartition(".")[0] for variable in foreign.values())]
        names = [key.removeprefix(start) for key in keys if key.startswith(start)]
        taken = {field.variable for name in names for field in table.fields(name)}
        names += [
            match[1].lower()
            for variable in environ
            if variable not in taken and (match := spelled.fullmatch(variable))
        ]
        for name in names:
            found[start + name] = {field.key: field for field in table.fields(name)}
    return found


def _fill_in(given: _Layer, entry: str, fields: Mapping[str, Setting], table: Setting) -> tuple[str, ...]:
    """Put what variables say of `entry` into it; returns the names of those that cannot make one.

    Raises GateError when our own variables leave out what an entry must have.
    """
    parts = {key.rpartition(".")[2]: given.pop(key) for key in fields if key in given}
    if not parts:
        return ()
    values = {name: value for name, (value, _) in parts.items()}
    sources = [source for _, source in parts.values()]
    if entry in given:
        base, source = given[entry]
        assert isinstance(base, msgspec.Struct)
        given[entry] = (structs.replace(base, **values), ", ".join([source, *sources]))
        return ()
    assert table.entry is not None
    needed = [field.name for field in structs.fields(table.entry) if field.required]
    missing = [name for name in needed if name not in values]
    if not missing:
        given[entry] = (table.entry(**values), ", ".join(sources))
        return ()
    for source in sources:
        if source.startswith(f"environment {PREFIX}"):
            raise refuse(source, f"{entry} needs {missing[0]}.", entry)
    return tuple(source.removeprefix("environment ") for source in sources)


def _from_environment(environ: Mapping[str, str], known: Mapping[str, Setting]) -> _Layer:
    variables = {setting.variable: setting for setting in known.values() if setting.variable}
    layer: _Layer = {}
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX) or name == FILE_VARIABLE or not text.strip():
            continue
        if _CLUSTER_NAME.search(name) or _CLUSTER_VALUE.match(text):
            continue
        source = f"environment {name}"
        if name not in variables:
            raise _unknown(name, source, known)
        layer[variables[name].key] = (_from_text(variables[name], text, source), source)
    return layer


def _unknown(name: str, source: str, known: Mapping[str, Setting]) -> GateError:
    variables = {key: setting.variable for key, setting in known.items() if setting.variable}
    whole = {key.replace(".", "_"): variable for key, variable in variables.items()}
    last = {each: variables[key] for each, key in by_last_name(variables).items()}
    return unknown(name, source, whole, last, like=name.removeprefix(PREFIX).lower())


def _from_foreign(
    environ: Mapping[str, str], foreign: Mapping[str, Foreign], known: Mapping[str, Setting]
) -> tuple[_Layer, tuple[str, ...]]:
    layer: _Layer = {}
    ignored = []
    for name, variable in foreign.items():
        text, source = environ.get(name, "").strip(), f"environment {name}"
        if not text or variable.key in layer:
            continue
        ours = variable.read(text)
        if ours is None:
            ignored.append(name)
            continue
        try:
            layer[variable.key] = (_from_text(known[variable.key], ours, source), source)
        except GateError:
            ignored.append(name)
    return layer, tuple(ignored)


def _from_flags(
    flags: Mapping[str, object], names: Mapping[str, str], known: Mapping[str, Setting]
) -> _Layer:
    layer: _Layer = {}
    for key, value in flags.items():
        if value is not None and value not in ([], ()):
            source = "flag " + names.get(key, "--" + key.replace(".", "-").replace("_", "-"))
            layer[key] = (convert(key, known[key].wanted, value, source, strict=False), source)
    return layer


def _from_text(setting: Setting, text: str, source: str) -> object:
    value: object = text.strip()
    if isinstance(bare(setting.wanted), inspect.CollectionType | inspect.VarTupleType):
        value = [part.strip() for part in text.split(",") if part.strip()]
    return convert(setting.key, setting.wanted, value, source, strict=False)
