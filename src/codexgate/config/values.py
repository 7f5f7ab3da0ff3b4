"""One value of a setting: converted to its type, or refused in words.

Knows types, not layers: `source` is the text that a layer gives (`file PATH:LINE`, `environment
NAME`, `flag --NAME`). A refusal never repeats a text: it may be a secret in the wrong place.
"""

import math
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from ..errors import GateError, invalid

MASK = "********"


class Secret:
    """Text that shows itself only to who calls `reveal`: not to `str`, `repr`, a log or JSON."""

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return MASK if self._text else ""


def convert(
    key: str, wanted: Any, value: object, source: str, *, strict: bool = True, folder: Path | None = None
) -> object:
    """Return `value` as the type `wanted`; text that spells a number will do unless `strict`.

    A relative path is seen from `folder`. Raises GateError when it cannot be that type.
    """

    def custom(cls: type, value: object) -> object:
        if cls is Secret and isinstance(value, str):
            return Secret(value)
        if cls is Path and isinstance(value, str | Path) and str(value):
            path = Path(value).expanduser()
            return folder / path if folder else path
        raise TypeError(cls)

    try:
        converted = msgspec.convert(value, wanted, strict=strict, dec_hook=custom)
    except (msgspec.ValidationError, RuntimeError) as error:  # RuntimeError: `~somebody` has no home
        raise wrong(key, wanted, value, source) from error
    if isinstance(converted, float) and not math.isfinite(converted):
        raise wrong(key, wanted, value, source)
    return converted


def bare(wanted: Any) -> inspect.Type:
    """The type that `wanted` describes, its annotations taken off."""
    info = inspect.type_info(wanted)
    return info.type if isinstance(info, inspect.Metadata) else info


def words(info: inspect.Type) -> str:
    """What a value of this type is called: `a whole number from 0 to 65535`."""
    match info:
        case inspect.Metadata():
            return words(info.type)
        case inspect.UnionType():
            return " or ".join(words(each) for each in info.types if not isinstance(each, inspect.NoneType))
        case inspect.LiteralType():
            empty = ["or empty"] if "" in info.values else []
            return "one of " + ", ".join([*(str(each) for each in info.values if each != ""), *empty])
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return "a whole number" + _bounds(info)
        case inspect.FloatType():
            return "a number" + _bounds(info)
        case inspect.CollectionType() | inspect.VarTupleType():
            return f"a list of {words(info.item_type)}"
        case inspect.DictType() | inspect.StructType():
            return "a table"
        case inspect.CustomType(cls=cls) if cls is Path:
            return "a path"
        case _:
            return "text"


def _bounds(info: inspect.IntType | inspect.FloatType) -> str:
    if info.ge is not None and info.le is not None:
        return f" from {info.ge:g} to {info.le:g}"
    bounds = ((" of at least", info.ge), (" above", info.gt), (" of at most", info.le), (" below", info.lt))
    return "".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)


def _seen(wanted: inspect.Type, value: object) -> str:
    match value:
        case bool():
            return "true or false"
        case int() | float():
            is_number = isinstance(wanted, inspect.IntType | inspect.FloatType)
            return f"the number {value}" if is_number else "a number"
        case str():
            another = "another " if isinstance(wanted, inspect.LiteralType) else ""
            return f"{another}text" if value else "empty text"
        case dict():
            return "a table"
        case list() | tuple():
            return "a list"
        case _:
            return "a date or time"


def wrong(key: str, wanted: Any, value: object, source: str) -> GateError:
    """`value` is not what `key` must be."""
    info = bare(wanted)
    choices = {str(each): str(each) for each in info.values} if isinstance(info, inspect.LiteralType) else {}
    near = nearest(value.lower(), choices) if isinstance(value, str) else ""
    if not near:
        return refuse(source, f"{key} must be {words(info)}, got {_seen(info, value)}.", key)
    # So much like one of ours that it is no secret.
    message = f"{key} must be {words(info)}, got '{value}'."
    return refuse(source, message, key, f"Did you mean {near}?")


def unknown(name: str, source: str, *candidates: Mapping[str, str], like: str) -> GateError:
    """There is no setting called `name`; one is suggested whose key in `candidates` is `like` it."""
    near = nearest(like, *candidates)
    advice = f"Did you mean {near}?" if near else "`codexgate config` lists every setting."
    where, message = source.partition(" ")[2], f"{name} is not a setting."
    return invalid(message if where == name else f"{where}: {message}", name, "invalid_setting", advice)


def refuse(source: str, message: str, key: str = "", advice: str = "") -> GateError:
    """What is said at `source` cannot be."""
    return invalid(f"{source.partition(' ')[2]}: {message}", key, "invalid_setting", advice)


def nearest(name: str, *candidates: Mapping[str, str]) -> str:
    """What the key most like `name` stands for, in the first mapping that has one like it, or empty."""
    for each in candidates:
        if near := get_close_matches(name, each, 1):
            return each[near[0]]
    return ""
