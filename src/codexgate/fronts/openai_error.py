"""OpenAI's error body: `{"error": {"message", "type", "param", "code"}}`.

Source: OpenAI API reference, "Error codes"; the same for every route of the surface, and as
the last frame of a stream that failed.
"""

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


def unreadable(error: Exception) -> GateError:
    """What is wrong with a body that `msgspec` could not read, in terms of its fields."""
    if isinstance(error, RecursionError):
        return invalid("The body is nested too deeply.", code="invalid_json")
    if not isinstance(error, msgspec.ValidationError):
        return invalid(f"The body is not valid JSON: {error}", code="invalid_json")
    what, _, where = str(error).partition(" - at `$")
    return invalid(f"{what}.", param=where.rstrip("`").lstrip("."))


UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What `msgspec.json` raises for bytes that are not what was asked for."""
