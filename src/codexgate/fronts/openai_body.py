"""How a JSON body is read into the struct that understands it.

`msgspec` is strict, as it should be, but for one thing: to JSON Schema, and so to OpenAI's clients
in languages with one kind of number, 8.0 is an integer.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

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
            return decode(body), tuple(name for name in _fields(body) if name not in known)
        except UNREADABLE as error:
            raise unreadable(error) from error

    return parse


def reader(type: type[T]) -> Callable[[bytes], T]:
    """A function from a body to a `type`; raises what `openai_error.UNREADABLE` names."""
    decode = msgspec.json.Decoder(type).decode

    def read(body: bytes) -> T:
        try:
            return decode(body)
        except msgspec.ValidationError as error:
            if "got `float`" not in str(error):
                raise
        return decode(msgspec.json.encode(_whole(msgspec.json.decode(body))))

    return read


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
