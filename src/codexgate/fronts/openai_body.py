"""How a JSON body is read into the struct that understands it.

`msgspec` is strict, as it should be, but for one thing: to JSON Schema, and so to OpenAI's clients
in languages with one kind of number, 8.0 is an integer.
"""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from .openai_error import UNREADABLE, unreadable

T = TypeVar("T", bound=msgspec.Struct)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def parser(type: type[T]) -> Callable[[bytes], tuple[T, tuple[str, ...]]]:
    """A function from a body to a `type` and the names of the fields that it passes over.

    Raises GateError (invalid_request) naming the field at fault.
    """
    decode, known = reader(type), frozenset(type.__struct_fields__)

    def parse(body: bytes) -> tuple[T, tuple[str, ...]]:
        try:
            given = (name for name, value in _fields(body).items() if bytes(value) != b"null")
            return decode(body), tuple(name for name in given if name not in known)
        except UNREADABLE as error:
            raise unreadable(error) from error

    return parse


def reader(type: type[T]) -> Callable[[bytes], T]:
    """A function from a body to a `type`; raises what `openai_error.UNREADABLE` names."""
    decode = msgspec.json.Decoder(type).decode

    def read(body: bytes) -> T:
        try:
            try:
                return decode(body)
            except msgspec.ValidationError as error:
                if "got `float`" not in str(error):
                    raise
            return decode(msgspec.json.encode(_whole(msgspec.json.decode(body))))
        except msgspec.ValidationError as error:
            raise _with_choices(error, type) from error

    return read


def _with_choices(error: msgspec.ValidationError, type: Any) -> msgspec.ValidationError:
    """`error`; where a value is none of those there are, one that names them."""
    what, _, where = str(error).partition(" - at `$")
    if not what.startswith("Invalid "):
        return error
    choices = _choices(inspect.type_info(type), re.findall(r"[^.\[\]`]+", where))
    if not choices:
        return error
    return msgspec.ValidationError(f"Expected one of {', '.join(choices)} - at `${where}")


def _choices(info: inspect.Type, steps: list[str]) -> list[str]:
    """The values there are at the end of `steps`: names of fields, and whatever for an item."""
    match info:
        case inspect.Metadata():
            return _choices(info.type, steps)
        case inspect.UnionType():
            return [choice for each in info.types for choice in _choices(each, steps)]
        case inspect.LiteralType() if not steps:
            return [str(value) for value in info.values]
        case inspect.StructType() if steps == [info.tag_field]:
            return [str(info.tag)]
        case inspect.StructType() if steps:
            inner = [field.type for field in info.fields if field.encode_name == steps[0]]
            return [choice for each in inner for choice in _choices(each, steps[1:])]
        case inspect.CollectionType() if steps:
            return _choices(info.item_type, steps[1:])
        case inspect.DictType() if steps:
            return _choices(info.value_type, steps[1:])
    return []


def _whole(value: Any) -> Any:
    """`value` with its whole numbers written as such."""
    match value:
        case float() if value.is_integer() and abs(value) < 2**63:
            return int(value)
        case list():
            return [_whole(each) for each in value]
        case dict():
            return {name: _whole(each) for name, each in value.items()}
        case _:
            return value
