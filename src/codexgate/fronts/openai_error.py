"""OpenAI's error body: `{"error": {"message", "type", "param", "code"}}`.

Source: OpenAI API reference, "Error codes"; the same for every route of the surface, and as
the last frame of a stream that failed.
"""

import re
from typing import Any

import msgspec

from ..errors import Fault, GateError, Kind, invalid

_TYPES: dict[Kind, str] = {
    "authentication": "authentication_error",
    "permission": "permission_error",
    "not_found": "not_found_error",
    "rate_limited": "rate_limit_error",
    "internal": "server_error",
    "upstream": "upstream_error",
    "unavailable": "server_error",
    "timeout": "timeout_error",
}


def body(fault: Fault) -> dict[str, Any]:
    """The error object of `fault`; `error` is always an object."""
    return {
        "error": {
            "message": fault.text,
            "type": _TYPES.get(fault.kind, "invalid_request_error"),
            "param": fault.param or None,
            "code": fault.code or None,
        }
    }


def unreadable(error: Exception, at: str = "") -> GateError:
    """What is wrong with a body that `msgspec` could not read, in terms of its fields.

    `at`: the field that was read, where it was not the whole.
    """
    if isinstance(error, RecursionError):
        return invalid("The body is nested too deeply.", at, "invalid_json")
    if isinstance(error, UnicodeDecodeError):
        return invalid("The body is not UTF-8 text.", at, "invalid_json")
    if not isinstance(error, msgspec.ValidationError):
        return invalid(f"The body is not valid JSON: {error}.", at, "invalid_json")
    what, _, inside = str(error).partition(" - at `$")
    field = f"{at}{inside.rstrip('`')}".lstrip(".")
    if missing := _MISSING.fullmatch(what):
        field = f"{field}.{missing[1]}".lstrip(".")
        return invalid(f"`{field}` is missing.", field)
    subject = f"Invalid value for `{field}`" if field else "Invalid body"
    return invalid(f"{subject}: {_told(what)}.", field)


def _told(what: str) -> str:
    """What `msgspec` says of a value, in the words of JSON."""
    if unknown := _UNKNOWN.fullmatch(what):
        return f"{unknown[1][:_SHOWN]} is none that is known"
    what = _TYPE.sub(_in_words, what)
    return _POINT_ZERO.sub("", what[:1].lower() + what[1:])


def _in_words(types: re.Match[str]) -> str:
    return " or ".join(_WORDS.get(each, each) for each in types[1].split(" | "))


_MISSING = re.compile("Object missing required field `(.*)`")
_UNKNOWN = re.compile("Invalid (?:enum )?value (.*)", re.DOTALL)
_TYPE = re.compile("`([^`]*)`")
_POINT_ZERO = re.compile(r"(?<=\d)\.0\b")
_SHOWN = 40
"""Characters of a value that is no name."""
_WORDS = {
    "str": "text",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "array": "an array",
    "object": "an object",
}
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What `msgspec.json` raises for bytes that are not what was asked for."""
