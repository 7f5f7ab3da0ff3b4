"""The server that a compatibility card judges: asked little, in short words, each time with an end.

Knows how requests are sent and answers taken apart, not what any of them should be. Nothing that a
server sends is trusted: not its size, not its shape, not what it repeats of a key.
"""

import asyncio
import time
from base64 import b64encode
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from ..backends.http import Http, Response
from ..backends.ollama import address
from ..dialects.openai.ask import is_openai
from ..errors import Fault, GateError, invalid
from ..lines import Lines, LineTooLong
from . import reach

MOST = 25
"""Requests of one card and of the checks before it."""
REFUSED = frozenset((401, 403))
EACH, QUICK = 10.0, 3.0
"""Seconds that one answer has, a model's loading included, and what no model is needed for."""
CONNECT = 2.0
LARGE = 1 << 20
"""Bytes of one answer that are read."""
QUOTE = 110
"""Characters of a server's own words that are repeated."""


Hide = Callable[[str], str]
"""A text without what nobody shall see."""


class Answer(msgspec.Struct, frozen=True):
    """A whole answer."""

    status: int
    text: str
    data: Any = None
    """The body as JSON; `None` when it is none."""


class Stream(msgspec.Struct, frozen=True):
    """An answer that was streamed, or a refusal to."""

    status: int
    text: str = ""
    """Of a refusal, what it said."""
    events: tuple[Any, ...] = ()
    """The JSON of every `data:` line."""
    is_stream: bool = False
    ended: bool = False
    """The last line was `data: [DONE]`."""


class Server:
    """One server, for one card. Raises GateError for an address that is none."""

    def __init__(
        self, url: str, key: str = "", hide: Hide = str, heard: Mapping[str, reach.Answer] = {}
    ) -> None:
        """`url`: its root, or that with `/v1`; without a scheme it is read as Ollama's address.

        `key`: its bearer token; `hide` and `heard`: see `judge`.
        """
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = Http(address(url), connect_timeout=CONNECT, headers=headers)
        try:
            host = urlsplit(self._http.where).hostname or ""
        except ValueError:  # brackets around what is no IPv6 address
            raise invalid("A server's address must look like http://HOST:PORT.") from None
        self._secrets, self._hide = tuple(_secrets(url, key)), hide
        self.where = self._http.where
        """Its root, without a password."""
        # What was late is asked again, with more time; what was refused, with the key.
        self._heard = {
            path: answer
            for path, answer in heard.items()
            if not answer.late and not (key and answer.status in REFUSED)
        }
        self.asked = len(heard)
        """Requests so far, the doctor's own included."""
        self.comments, self.silence = 0, 0.0
        """Of all streams so far: comment lines, the longest pause in seconds."""
        self.limit = "max_completion_tokens" if is_openai(host) else "max_tokens"
        """How it calls the most tokens that an answer may have."""

    async def get(self, path: str) -> Answer:
        """What it answers to a GET, or has answered to that before. Raises GateError."""
        if (known := self._heard.get(path)) is not None:
            if known.fault is not None:
                raise GateError(known.fault)
            return _answer(known.status, known.body)
        return await self._ask("GET", path, None, QUICK)

    async def post(self, path: str, body: Any) -> Answer:
        """What it answers to a POST of `body` as JSON, or of bytes as they are. Raises GateError."""
        return await self._ask("POST", path, body if isinstance(body, bytes) else msgspec.json.encode(body))

    async def stream(self, path: str, body: Any) -> Stream:
        """What it streams, read to its end. Raises GateError."""
        lines, events, begun = Lines(LARGE), list[Any](), time.monotonic()
        comments, silence, ended, size = 0, 0.0, False, 0
        async with self._sent("POST", path, msgspec.json.encode(body)) as response:
            kind = response.headers.get("content-type", "")
            if response.status != 200 or "event-stream" not in kind:
                data = await response.read(LARGE)
                return Stream(response.status, data.decode(errors="replace"))
            async for data in response:
                now = time.monotonic()
                silence, begun = max(silence, now - begun), now
                size += len(data)
                for line in _lines(lines, data, size):
                    comments += line.startswith(b":")
                    if line.startswith(b"data:"):
                        ended = line[5:].strip() == b"[DONE]"
                        events += [] if ended else [_json(line[5:])]
        self.comments += comments
        self.silence = max(self.silence, silence)
        return Stream(response.status, "", tuple(events), True, ended)

    @asynccontextmanager
    async def begun(self, path: str, body: Any) -> AsyncGenerator[bool]:
        """A stream of which something has come, or not: then false. It is left when the block is."""
        async with self._sent("POST", path, msgspec.json.encode(body)) as response:
            if response.status == 200:
                async for data in response:
                    if b"data:" in data:
                        yield True
                        return
            yield False

    def quote(self, text: str, most: int = QUOTE) -> str:
        """A few of its own words, on one line, without the key; `most`: characters."""
        for secret in self._secrets:
            text = text.replace(secret, "…")
        text = self._hide(text)
        shown = "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))
        return shown if len(shown) <= most else f"{shown[: most - 1]}…"

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def _ask(self, method: str, path: str, body: bytes | None, most: float = 0) -> Answer:
        async with self._sent(method, path, body, most) as response:
            data = await response.read(LARGE)
        return _answer(response.status, data)

    @asynccontextmanager
    async def _sent(
        self, method: str, path: str, body: bytes | None, most: float = 0
    ) -> AsyncGenerator[Response]:
        most = most or EACH
        if self.asked >= MOST:
            raise GateError(Fault("rate_limited", f"{MOST} requests were spent before."))
        self.asked += 1
        try:
            async with (
                asyncio.timeout(most),
                self._http.send(method, path, body, first_byte_timeout=most, idle_timeout=most) as response,
            ):
                yield response
        except TimeoutError:
            raise GateError(Fault("timeout", f"There was no whole answer within {most:.0f} s.")) from None


def _answer(status: int, data: bytes) -> Answer:
    return Answer(status, data.decode(errors="replace"), _json(data))


def _secrets(url: str, key: str) -> Iterator[str]:
    """What it was sent and could repeat: the key, the password in its address, both as HTTP has them."""
    if key:
        yield key
    with suppress(ValueError):
        split = urlsplit(url)
        if split.password:
            yield split.password
            yield unquote(split.password)
        if split.username:
            yield b64encode(unquote(split.netloc.rpartition("@")[0]).encode()).decode()


def _lines(lines: Lines, data: bytes, size: int) -> list[bytes]:
    try:
        if size <= LARGE:
            return lines.feed(data)
    except LineTooLong:
        pass
    raise GateError(Fault("upstream", f"It streamed more than {LARGE} bytes."))


def _json(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return None
