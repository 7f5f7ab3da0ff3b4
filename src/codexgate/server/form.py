"""A form (`multipart/form-data`, RFC 7578), read piece by piece within limits of time and size.

The guard has let the request in and looked at its head; a byte of the body is read here first. Keeps
nothing in memory but one piece, and short fields. Knows nothing of files.
"""

import asyncio
import warnings
from collections.abc import AsyncGenerator, Awaitable
from typing import TypeVar

from aiohttp import BadContentDispositionHeader, BadContentDispositionParam, BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from ..errors import Fault, GateError, invalid
from . import guard

T = TypeVar("T")

# What a client writes wrongly is its error, and not for our log: warnings print it, and keep each for ever.
for _warning in (BadContentDispositionHeader, BadContentDispositionParam):
    warnings.simplefilter("ignore", _warning)

PIECE = 64 * 1024
"""Bytes that are read at once."""
PACE = 16 * 1024
"""Bytes that have to come in a second, once the time of any body is over."""
PARTS = 32
"""Parts of a form."""
FIELD = 1024
"""Bytes of a part that is not the file."""


class Form:
    """The body of one request, which has at most `limit` bytes beside its fields."""

    def __init__(self, request: web.Request, limit: int) -> None:
        """Raises GateError: too large, as far as the head tells."""
        if (request.content_length or 0) > limit + PARTS * (FIELD + PIECE):
            raise GateError(Fault("too_large", f"The body is larger than {limit} bytes."))
        self._request = request
        self._began = asyncio.get_running_loop().time()
        self._came = 0
        """Bytes."""

    async def parts(self) -> AsyncGenerator[BodyPartReader]:
        """Its parts, in the order they come. Raises GateError when it is no form, or comes too slowly."""
        try:
            reader = await self._request.multipart()
            for _ in range(PARTS):
                part = await self._read(reader.next())
                if part is None:
                    return
                if not isinstance(part, BodyPartReader):
                    raise ValueError("a part has parts itself")
                yield part
        except (ValueError, RuntimeError, HttpProcessingError) as error:
            raise _unreadable(error) from error
        raise invalid(f"The form has more than {PARTS} parts.", code="invalid_form")

    async def pieces(self, part: BodyPartReader) -> AsyncGenerator[bytes]:
        """The content of `part`. Raises GateError when it is cut, or comes too slowly."""
        try:
            while not part.at_eof():
                piece = await self._read(part.read_chunk(PIECE))
                self._came += len(piece)
                yield piece
        except (ValueError, RuntimeError) as error:
            raise _unreadable(error) from error

    async def text(self, part: BodyPartReader) -> str:
        """The content of a short part. Raises GateError for a long one."""
        data = b""
        async for piece in self.pieces(part):
            data += piece
            if len(data) > FIELD:
                raise invalid(f"The field `{part.name}` is too long.", part.name or "", "invalid_form")
        return data.decode("utf-8", "replace")

    async def _read(self, reading: Awaitable[T]) -> T:
        """One read: within the time of a body, and all of them with some pace."""
        now = asyncio.get_running_loop().time()
        end = min(now, self._began + self._came / PACE) + guard.BODY_TIME
        try:
            async with asyncio.timeout_at(end):
                return await reading
        except TimeoutError:
            raise invalid("The body came too slowly.") from None


def _unreadable(error: Exception) -> GateError:
    # What the parser says of a part's head repeats what was sent.
    reason = "the head of a part cannot be read" if isinstance(error, HttpProcessingError) else error
    return invalid(f"The body is not a form: {reason}.", code="invalid_form")
