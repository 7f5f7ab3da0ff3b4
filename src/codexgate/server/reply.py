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

from ..errors import Fault, GateError
from ..events import Done, Event, Failed, Notice, Retrieved, ThreadStarted, Usage, Window
from ..fold import Fold, Reply
from ..sse import HEADERS, KEEPALIVE, LOADING
from .guard import TRACE, Trace, refuse

QUIET = 1.0
"""Seconds before the first keepalive: Open WebUI gives up on streams that stay empty."""
EVERY = 5.0
"""Seconds of silence between keepalives."""
CALM = 60.0
"""Seconds of silence in a stream that has no comments; Node's own client gives up after 300."""
STALL = 30.0
"""Seconds that one write may wait for a reader."""

DRAINED = Fault("unavailable", "codexgate is shutting down.", "Send the request again.", "draining", "", True)

Batches = AsyncGenerator[list[Event]]
Encode = Callable[[list[Event]], bytes]
"""What a front makes of the events of one read."""
Idle = Callable[[], bytes]
"""What can be said when there is nothing to say."""


async def stream(
    request: web.Request, batches: Batches, encode: Encode, headers: dict[str, str], idle: Idle | None = None
) -> web.StreamResponse:
    """Answer with a stream, or with an error status if it fails before anything of it is there.

    `idle`: of a stream that is no stream of events, and so has no comments.
    """
    line = Line(request, headers, idle)
    streams = request.app[STREAMS]
    streams.add(line)
    try:
        async with aclosing(batches):
            begun = await _first(batches, line)
            request[TRACE].upstream = time.monotonic() - request[TRACE].began
            if not line.response.prepared and (fault := _refusal(begun)) is not None:
                return refuse(request, fault)
            await line.send(begun, encode)
            async for batch in batches:
                await line.send(batch, encode)
    except asyncio.CancelledError:
        if not line.ended:  # the client left
            raise
        _this_task().uncancel()
        await line.send([Failed(DRAINED)], encode)
    finally:
        line.close()
        streams.discard(line)
    return line.response


async def pass_on(
    request: web.Request,
    pieces: AsyncGenerator[bytes],
    fail: Callable[[Fault], bytes],
    headers: dict[str, str],
    idle: Idle,
) -> web.StreamResponse:
    """Answer with bytes as they come. What fails before the first has a status, later `fail`'s last word."""
    line = Line(request, headers, idle)
    streams = request.app[STREAMS]
    streams.add(line)
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                await line.write(piece)
        await line.write(b"", over=True)
    except GateError as error:
        if not line.response.prepared:
            raise
        request[TRACE].fault = error.fault
        await line.write(fail(error.fault), over=True)
    except asyncio.CancelledError:
        if not line.ended:  # the client left
            raise
        _this_task().uncancel()
        await line.write(fail(DRAINED), over=True)
    finally:
        line.close()
        streams.discard(line)
    return line.response


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


class Line:
    """One stream on its way out: opened by the first thing to say, kept alive while there is none.

    A timer, not a task, looks after it: most answers are over before it ever runs.
    """

    def __init__(self, request: web.Request, headers: dict[str, str], idle: Idle | None = None) -> None:
        self.response = web.StreamResponse(headers={**HEADERS, **headers})
        self.ended = False
        """It was told to end before its answer did."""
        self._request = request
        self._task = _this_task()
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        """When the last write began, or was finished if none is under way."""
        self._writing = False
        self._beat: asyncio.Task[None] | None = None
        self._keepalive = KEEPALIVE
        self._idle = idle or (lambda: self._keepalive)
        self._quiet, self._every = (CALM, CALM) if idle else (QUIET, EVERY)
        self._timer = self._loop.call_later(self._quiet, self._look)

    def end(self) -> None:
        """Stop the answer; its stream ends with an error frame."""
        self.ended = True
        self._task.cancel()

    def close(self) -> None:
        """Nothing more will be said."""
        self._timer.cancel()

    def expect(self, batch: list[Event]) -> None:
        """Take note of what is known before anything is said."""
        _note_window(self._request[TRACE], batch)
        if any(isinstance(event, Notice) and event.kind == "loading" for event in batch):
            self._keepalive = LOADING

    async def send(self, batch: list[Event], encode: Encode) -> None:
        """Send one read's events in one write, waiting while the reader is slow."""
        _note(self._request[TRACE], batch)
        data = encode(batch)
        over = isinstance(batch[-1], Done | Failed)
        if data or over:
            await self.write(data, over)

    async def write(self, data: bytes, over: bool = False) -> None:
        """Send bytes, waiting while the reader is slow; `over`: they are the last."""
        if self._beat is not None:
            await asyncio.wait({self._beat})
        await self._write(data, over)

    async def _write(self, data: bytes, over: bool) -> None:
        self._since, self._writing = self._loop.time(), True
        if not self.response.prepared:
            await self.response.prepare(self._request)
        if over:  # with the end of the body, in one packet
            await self.response.write_eof(data)
        else:
            await self.response.write(data)
        self._since, self._writing = self._loop.time(), False

    def _look(self) -> None:
        """Hang up on a reader that stalls; say something when there was silence."""
        limit = STALL if self._writing else self._every if self.response.prepared else self._quiet
        silent = self._loop.time() - self._since
        if silent < limit:
            self._timer = self._loop.call_later(limit - silent, self._look)
        elif not self._writing:
            if data := self._idle():
                self._beat = self._loop.create_task(self._write(data, over=False))
            self._timer = self._loop.call_later(self._every, self._look)
        elif self._request.transport is not None:
            self._request.transport.abort()  # which cancels the handler, and so the work upstream


STREAMS = web.AppKey("streams", set[Line])
_BEFORE = (Notice, ThreadStarted, Retrieved, Window, Usage)
"""Events that are not yet anything of an answer."""


async def _first(batches: Batches, line: "Line") -> list[Event]:
    """The beginning of an answer, as far as it shows whether there will be one."""
    begun: list[Event] = []
    async for batch in batches:
        begun += batch
        if not all(isinstance(event, _BEFORE) for event in batch):
            break
        line.expect(batch)
    return begun


def _refusal(begun: list[Event]) -> Fault | None:
    """Why there will be no answer, if it failed before anything of it was there."""
    *before, last = begun
    nothing = all(isinstance(event, _BEFORE) for event in before)
    return last.fault if nothing and isinstance(last, Failed) else None


def _this_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task


def _note(trace: Trace, batch: list[Event]) -> None:
    if trace.first is None:
        _note_window(trace, batch)
        if not all(isinstance(event, _BEFORE) for event in batch):
            trace.first = time.monotonic() - trace.began
    for event in batch[-2:]:  # by the law of event order they come last
        if isinstance(event, Usage):
            trace.usage = event
        elif isinstance(event, Failed):
            trace.fault = event.fault


def _note_window(trace: Trace, batch: list[Event]) -> None:
    for event in batch:
        if isinstance(event, Window):
            trace.window = event
