"""A sans-IO peer of the line-framed JSON-RPC that the Codex app-server speaks.

Bytes of one line in, one message out, and the other way round; ids are counted here, so a
conversation can be written down whole. Knows neither pipes nor methods. Both sides may ask.
Source: the app-server sends no `jsonrpc` member and numbers its own requests from 0.
"""

from typing import Any

import msgspec

METHOD_NOT_FOUND = -32601

RequestId = int | str


class Result(msgspec.Struct, frozen=True):
    """The other side answered our request."""

    id: RequestId
    value: msgspec.Raw


class Error(msgspec.Struct, frozen=True):
    """The other side refused our request."""

    id: RequestId
    code: int
    message: str


class Notification(msgspec.Struct, frozen=True):
    """The other side tells something and wants no answer."""

    method: str
    params: msgspec.Raw


class Request(msgspec.Struct, frozen=True):
    """The other side asks; unanswered, its work hangs."""

    id: RequestId
    method: str
    params: msgspec.Raw


Incoming = Result | Error | Notification | Request


class ProtocolError(ValueError):
    """A line that is not a message of this protocol."""


class _ErrorBody(msgspec.Struct):
    code: int = 0
    message: str = ""


class _Line(msgspec.Struct):
    method: str | None = None
    id: RequestId | None = None
    params: msgspec.Raw = msgspec.Raw(b"{}")
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: _ErrorBody | None = None


_decode = msgspec.json.Decoder(_Line).decode
_encode = msgspec.json.Encoder().encode


def receive(line: bytes) -> Incoming:
    """Read one line. Raises ProtocolError when it is not a message."""
    try:
        read = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"not a message: {line[:80]!r}") from error
    if read.method is not None:
        if read.id is None:
            return Notification(read.method, read.params)
        return Request(read.id, read.method, read.params)
    if read.id is None:
        raise ProtocolError(f"neither a method nor an id: {line[:80]!r}")
    if read.error is not None:
        return Error(read.id, read.error.code, read.error.message)
    if read.result is msgspec.UNSET:
        raise ProtocolError(f"neither a result nor an error: {line[:80]!r}")
    return Result(read.id, read.result)


def notification(method: str) -> bytes:
    """A line that tells `method` and expects nothing back."""
    return _encode({"method": method}) + b"\n"


def request(id: RequestId, method: str, params: object) -> bytes:
    """A line that asks `method`."""
    return _encode({"id": id, "method": method, "params": params}) + b"\n"


def result(id: RequestId, value: Any) -> bytes:
    """A line that answers the request `id`."""
    return _encode({"id": id, "result": value}) + b"\n"


def error(id: RequestId, code: int, message: str) -> bytes:
    """A line that refuses the request `id`."""
    return _encode({"id": id, "error": {"code": code, "message": message}}) + b"\n"
