"""One short question to a server, whose failure is an answer too."""

from http import HTTPStatus
from typing import Any

import msgspec

from ..backends.http import Http
from ..errors import Fault, GateError

CONNECT = 0.8
"""Seconds for a server to take a connection."""
ANSWER = 1.2
"""Seconds for it to answer: both together are less than what a check has."""
LARGEST = 4 * 2**20
"""Bytes of an answer that are read."""


class Answer(msgspec.Struct, frozen=True):
    """What came back."""

    status: int = 0
    """0 when nothing did."""
    body: bytes = b""
    server: str = ""
    """What it calls itself."""
    fault: Fault | None = None
    """Why nothing did."""

    @property
    def ok(self) -> bool:
        """Whether it is there."""
        return self.status == HTTPStatus.OK

    @property
    def refused(self) -> bool:
        """Nobody took the connection."""
        return self.fault is not None and self.fault.kind == "unavailable"

    def json(self) -> Any:
        """The body as JSON; `None` when it is none."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def field(self, name: str) -> Any:
        """A field of a JSON object; `None` when there is none."""
        value = self.json()
        return value.get(name) if isinstance(value, dict) else None

    def __str__(self) -> str:
        return str(self.status) if self.fault is None else self.fault.message


async def ask(url: str, path: str = "", body: object = None, *, connect: float = CONNECT) -> Answer:
    """GET `url` + `path`, or POST `body` as JSON; follows no redirect and asks no proxy."""
    method = "GET" if body is None else "POST"
    data = None if body is None else msgspec.json.encode(body)
    try:
        http = Http(url, connect_timeout=connect)
    except GateError as error:
        return Answer(fault=error.fault)
    try:
        async with http.send(method, path, data, first_byte_timeout=ANSWER, idle_timeout=ANSWER) as response:
            return Answer(response.status, await response.read(LARGEST), response.headers.get("server", ""))
    except GateError as error:
        return Answer(fault=error.fault)
    finally:
        await http.aclose()
