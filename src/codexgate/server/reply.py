"""Events to a socket: the one place where an answer leaves the gate over HTTP.

It peeks at the first event, so that a refusal upstream is a real 4xx or 5xx; later failures
are frames in the stream. It keeps silent streams alive, gives a stalled reader up, and closes
the events' generator in every way out, which is what stops the work upstream. It knows no
front: encoding is a function from an event to bytes.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from aiohttp import web

from ..errors import Fault
from ..events import Event, Failed, Notice, Usage
from ..fold import Fold, Reply
from ..sse import HEADERS, KEEPALIVE
from .guard import TRACE, Trace, refuse

QUIET = 1.0
"""Seconds before the first keepalive: Open WebUI gives up on streams that stay empty."""
EVERY = 5.0
"""Seconds of silence between keepalives."""
STALL = 30.0
"""Seconds that one write may wait for a reader."""

DRAINED = Fault("unavailable", "codexgate is shutting down.", "Send the request again.", "draining", "", True)

Batches = AsyncGenerator[list[Event]]


async def stream(
    request: web.Request, batches: Batches, encode: Callable[[Event], bytes], headers: dict[str, str]
) -> web.StreamResponse:
    """Answer with a stream, or with an error status if the first event is `Failed`."""
    trace = request[TRACE]
    async with aclosing(batches):
        first = asyncio.ensure_future(_first(batches))
        try:
            await asyncio.wait({first}, timeout=QUIET)
            if first.done() and (fault := _refusal(first.result())) is not None:
                return refuse(request, fault)
            trace.upstream = time.monotonic() - trace.began
            response = web.StreamResponse(headers={**HEADERS, **headers})
            await response.prepare(request)
            await _pump(request, Line(request, response), first, batches, encode)
            return response
        finally:
            if not first.done():
                first.cancel()
                await asyncio.wait({first})


async def whole(request: web.Request, batches: Batches, flatten: Callable[[Event], list[Event]]) -> Reply:
    """Collect an answer that is not streamed."""
    trace = request[TRACE]
    folding = Fold()
    async with aclosing(batches):
        async for batch in batches:
            _note(trace, batch)
            for event in batch:
                for flat in flatten(event):
                    folding.feed(flat)
    trace.upstream = time.monotonic() - trace.began
    return folding.reply()


async def _pump(
    request: web.Request,
    line: "Line",
    first: asyncio.Future[list[Event]],
    batches: Batches,
    encode: Callable[[Event], bytes],
) -> None:
    streams = request.app[STREAMS]
    streams.add(line)
    watch = asyncio.create_task(line.watch())
    try:
        if not first.done():
            await line.write(KEEPALIVE)
        batch = await first
        while batch:
            _note(request[TRACE], batch)
            await line.write(b"".join([encode(event) for event in batch]))
            batch = await _next(batches)
    except asyncio.CancelledError:
        if not line.ended:  # the client left
            raise
        _this_task().uncancel()
        request[TRACE].fault = DRAINED
        await line.write(encode(Failed(DRAINED)))
    finally:
        watch.cancel()
        streams.discard(line)


class Line:
    """One open stream: when it was last written to, and whether it was told to end."""

    def __init__(self, request: web.Request, response: web.StreamResponse) -> None:
        self._response = response
        self._transport = request.transport
        self._task = _this_task()
        self._last = time.monotonic()
        self._writing = False
        self.ended = False

    def end(self) -> None:
        """Stop the answer; its stream ends with an error frame."""
        self.ended = True
        self._task.cancel()

    async def write(self, data: bytes) -> None:
        """Send `data`, waiting while the reader is slow."""
        if data:
            self._writing = True
            await self._response.write(data)
            self._writing, self._last = False, time.monotonic()

    async def watch(self) -> None:
        """Keep a silent stream alive and hang up on a reader that stalls. Runs until cancelled."""
        while True:
            silent = time.monotonic() - self._last
            limit = STALL if self._writing else EVERY
            if silent < limit:
                await asyncio.sleep(min(limit - silent, EVERY))
            elif self._writing:
                if self._transport is not None:
                    self._transport.abort()  # which cancels the handler, and so the work upstream
                return
            else:
                self._last = time.monotonic()
                await self._response.write(KEEPALIVE)


STREAMS = web.AppKey("streams", set[Line])


async def _first(batches: Batches) -> list[Event]:
    """The beginning of an answer, as far as it shows whether there will be one."""
    begun: list[Event] = []
    async for batch in batches:
        begun += batch
        if not all(isinstance(event, Notice | Usage) for event in batch):
            break
    return begun


def _refusal(begun: list[Event]) -> Fault | None:
    """Why there will be no answer, if it failed before anything of it was there."""
    *before, last = begun
    nothing = all(isinstance(event, Notice | Usage) for event in before)
    return last.fault if nothing and isinstance(last, Failed) else None


async def _next(batches: Batches) -> list[Event]:
    return await anext(batches, [])


def _this_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task


def _note(trace: Trace, batch: list[Event]) -> None:
    if trace.first is None:
        trace.first = time.monotonic() - trace.began
    for event in batch[-2:]:  # by the law of event order they come last
        if isinstance(event, Usage):
            trace.usage = event
        elif isinstance(event, Failed):
            trace.fault = event.fault
