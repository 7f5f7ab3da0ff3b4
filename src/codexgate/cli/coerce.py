"""The values of flags, read without pydantic.

Typer asks pydantic about every flag, also one that nobody gave; loading it takes longer than
all else that a small command does. Flags here are texts, numbers, paths and choices. Where Typer
knows nothing of `_runtime_param` this has no effect, and Typer reads the values itself.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer


def _text(text: str) -> str:
    """What can be sent and kept: of the arguments only a path may be any bytes."""
    text.encode()
    return text


def _number(text: str) -> float:
    """What can be written in JSON: neither `nan` nor `inf`."""
    found = float(text)
    if not math.isfinite(found):
        raise ValueError(text)
    return found


_READ: dict[Any, tuple[Callable[[str], Any], str]] = {
    str: (_text, "text in UTF-8"),
    bool: (bool, "true or false"),
    int: (int, "a whole number"),
    float: (_number, "a number"),
    Path: (Path, "a path"),
}


def lighten(command: Any) -> None:
    """Let `command`, a click command, and its subcommands read their values here."""
    for param in command.get_params(typer.Context(command)):  # with `--help`, which is made on demand
        kind = param.type_descriptor.annotation
        kind = get_args(kind)[0] if get_origin(kind) is list else kind
        if kind in _READ or get_origin(kind) is Literal:
            param._runtime_param = _Plain(kind)
    for inner in getattr(command, "commands", {}).values():
        lighten(inner)


class _Plain:
    """Stands in for Typer's own `RuntimeParam`."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def coerce(self, value: Any, *, param: Any, ctx: Any) -> Any:
        """The value or, of a repeatable flag, the values. Raises BadParameter."""
        try:
            if param.multiple or param.nargs == -1:
                return [self._read(each, param) for each in value or ()]
            return None if value is None else self._read(value, param)
        except ValueError as error:
            raise typer.BadParameter(str(error), ctx=ctx, param=param) from None

    def _read(self, value: Any, param: Any) -> Any:
        choices = get_args(self._kind)
        if choices:
            if value not in choices:
                raise ValueError(f"{value!r} is none of {', '.join(choices)}.")
            return value
        read, words = _READ[self._kind]
        try:
            found = read(value)
        except ValueError:
            raise ValueError(f"{value!r} is not {words}.") from None
        if self._kind in (int, float) and not _at_least(param) <= found <= _at_most(param):
            raise ValueError(f"{value} is not {_range(param)}.")
        return found


def _at_least(param: Any) -> float:
    return -math.inf if param.min is None else float(param.min)


def _at_most(param: Any) -> float:
    return math.inf if param.max is None else float(param.max)


def _range(param: Any) -> str:
    if param.max is None:
        return f"at least {param.min:g}"
    return f"at most {param.max:g}" if param.min is None else f"between {param.min:g} and {param.max:g}"
