"""One short question to a server, whose failure is an answer too; in one run each is asked once."""

import asyncio
import ssl
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec

from ..backends.http import Http
from ..errors import Fault, GateError
from .words import Asked

CONNECT = 0.8
"""Seconds for a server to take a connection."""
ANSWER = 1.2
"""Seconds for it to answer, to the last byte: both together are less than what a check has."""
LARGEST = 4 * 2**20
"""Bytes of an answer that are read."""


class Answer(msgspec.Struct, frozen=True):
    """What came back."""

    status: int = 0
    """0 when nothing did."""
    body: bytes = b""
    headers: Mapping[str, str] = {}
    """By lower-case name."""
    fault: Fault | None = None
    """Why nothing did."""
    distrusted: bool = False
    """Somebody took the connection, and has no TLS that can be trusted; `network.tls` tells why."""

    @property
    def ok(self) -> bool:
        """Whether it is there."""
        return self.status == HTTPStatus.OK

    @property
    def refused(self) -> bool:
        """Nobody took the connection."""
        return self.fault is not None and self.fault.kind == "unavailable" and not self.distrusted

    @property
    def late(self) -> bool:
        """The connection was taken, and no whole answer came in time."""
        return self.fault is not None and self.fault.kind == "timeout"

    def lists(self, name: str) -> bool:
        """Whether it is a JSON object with this field; a list of nothing may be `null`."""
        value = self.json() if self.ok else None
        return isinstance(value, dict) and name in value

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


async def hear(asked: Asked, url: str, path: str = "", body: object = None) -> Answer:
    """As `ask`, but once in a run: whoever asks the same again gets the same answer."""
    request = f"{url}{path}{'' if body is None else msgspec.json.encode(body).decode()}"
    if request not in asked.heard:
        asked.heard[request] = asyncio.ensure_future(ask(url, path, body))
    answer: Answer = await asyncio.shield(asked.heard[request])  # somebody else may wait for it
    return answer


def heard(asked: Asked, url: str) -> dict[str, Answer]:
    """What the server at `url` was asked in this run, by path (and body), and what it answered."""
    late = Answer(fault=Fault("timeout", f"{url} did not answer in time."))
    return {
        request.removeprefix(url): each.result() if each.done() and not each.cancelled() else late
        for request, each in asked.heard.items()
        if request.startswith(f"{url}/")
    }


async def ask(url: str, path: str = "", body: object = None) -> Answer:
    """GET `url` + `path`, or POST `body` as JSON; follows no redirect and asks no proxy.

    Over after `CONNECT` + `ANSWER` seconds, however slowly the bytes come; never raises.
    """
    method = "GET" if body is None else "POST"
    data = None if body is None else msgspec.json.encode(body)
    try:
        http = Http(url, connect_timeout=CONNECT)
    except GateError as error:
        return Answer(fault=error.fault)
    try:
        async with (
            asyncio.timeout(CONNECT + ANSWER),
            http.send(method, path, data, first_byte_timeout=ANSWER, idle_timeout=ANSWER) as response,
        ):
            return Answer(response.status, await response.read(LARGEST), response.headers)
    except GateError as error:
        return Answer(fault=error.fault, distrusted=isinstance(error.__cause__, ssl.SSLError))
    except TimeoutError:  # it sends a byte now and then
        return Answer(fault=Fault("timeout", f"{http.where} did not answer in time."))
    finally:
        await http.aclose()
