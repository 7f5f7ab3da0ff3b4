"""One live `codex app-server`: its process, its pipes, and who waits for what it says.

Carries messages; what they mean is the dialect's. All turns share one pair of pipes, so what
comes is handed out by thread. When the child goes, or says nothing any more, everybody who waits
is told why, once, and nothing that it started is left.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ... import jsonrpc
from ...dialects.codex import wire
from ...errors import Fault, GateError
from ...lines import Lines, LineTooLong
from . import reap

LINE_LIMIT = 32 * 1024 * 1024
"""Bytes of one line: pictures are echoed whole; 10 MB were seen."""
INBOX_LIMIT = 64 * 1024 * 1024
"""Bytes that may wait for one turn's reader; beyond it the reader is given up, not the child."""
OVERHEAD = 512
"""Bytes that a waiting message takes beside its own."""
IN_FLIGHT = 64
"""Requests at once: from about 200 on the app-server leaves some without any answer."""
PATIENCE = 2.0
"""Seconds for each step of a stop: end of input, TERM, KILL."""
QUIET = 1.0
"""Seconds of silence after which a child that others wait for is asked whether it lives.

One that is not silent is asked every `HUNG` seconds: what it says may be nonsense."""
HUNG = 3.5
"""Seconds without a byte after that question: it hangs. A busy one was seen to take 2.5."""
MISSES = 6
"""Such questions in a row without their answer, however much else came: it is out of its mind."""
PAUSES = (0.1, 0.4, 1.6)
"""Seconds before each repeat of a request that the child was too busy to take."""

OVERLOADED = "codex_overloaded"
_TOO_LONG = "exceeds the maximum length"
"""Of one turn's input, 1,048,576 characters; its history may be longer."""

_route = msgspec.json.Decoder(wire.Routed).decode
log = logging.getLogger(__name__)

Answer = Callable[[str], dict[str, Any] | None]


Told = jsonrpc.Notification | jsonrpc.Request
"""What a thread is told, and what it is asked."""


class Inbox:
    """What one thread was told and nobody has read yet."""

    def __init__(self) -> None:
        self._waiting: list[Told] = []
        self._size = 0
        self._fault: Fault | None = None
        self._news = asyncio.Event()

    async def read(self) -> list[Told]:
        """All that waits, at least one. Raises GateError when the child is gone."""
        await self._news.wait()
        if not self._waiting:
            assert self._fault is not None
            raise GateError(self._fault)
        waiting, self._waiting, self._size = self._waiting, [], 0
        if self._fault is None:
            self._news.clear()
        return waiting

    def put(self, told: Told) -> None:
        """Take one in."""
        if self._fault is not None:
            return
        self._size += len(memoryview(told.params)) + OVERHEAD
        if self._size > INBOX_LIMIT:
            self._waiting = []
            self.close(Fault("upstream", "The answer was not read fast enough.", code="too_slow"))
        else:
            self._waiting.append(told)
            self._news.set()

    def close(self, fault: Fault) -> None:
        """Nothing more will come, because of `fault`."""
        self._fault = self._fault or fault
        self._news.set()


class Child:
    """A running app-server. Made by `start`; once `gone` is set it is never used again."""

    def __init__(self, process: asyncio.subprocess.Process, answer: Answer, mark: str = "") -> None:
        """`mark`: what `reap` knows its processes by."""
        self.gone: Fault | None = None
        """Why it ended, once it has."""
        self._process = process
        self._answer = answer
        self._mark = mark
        self._heard: float | None = None
        """When it last wrote anything. Until the first byte it is starting, however long that takes."""
        self._proved = time.monotonic()
        """When it was last asked whether it lives, and answered."""
        self._missed = 0
        self._ids = itertools.count(1)
        self._asked: dict[jsonrpc.RequestId, asyncio.Future[msgspec.Raw]] = {}
        self._inboxes: dict[str, Inbox] = {}
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        pumps = (self._read(), self._drain_log(), self._watch())
        self._tasks = [asyncio.create_task(pump) for pump in pumps]

    @classmethod
    async def start(
        cls, binary: Path, arguments: Sequence[str], environ: Mapping[str, str], cwd: str, answer: Answer
    ) -> "Child":
        """Start the program. Raises GateError when it cannot be run."""
        if mark := reap.new_mark():
            environ = {**environ, reap.NAME: mark}
            arguments = (*arguments, "-c", f'shell_environment_policy.set.{reap.NAME}="{mark}"')
        try:
            process = await asyncio.create_subprocess_exec(
                str(binary),
                "app-server",
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environ,
                cwd=cwd,
                umask=0o077,
                start_new_session=True,  # a Ctrl-C at the gate is not for it
            )
        except OSError as error:
            message = f"Codex cannot be run: {binary}: {error.strerror}."
            if error.filename == cwd:
                message = f"Codex cannot work in {cwd}: {error.strerror}."
            raise GateError(Fault("unavailable", message, code="codex_not_runnable")) from error
        return cls(process, answer, mark)

    async def ask(self, method: str, params: object, timeout: float = 30.0) -> msgspec.Raw:
        """The result of one request. Raises GateError: refused, unanswered in `timeout` s, or gone.

        What the child was too busy to take is asked again a few times: it has not been begun.
        """
        try:
            async with asyncio.timeout(timeout):
                for pause in PAUSES:
                    try:
                        return await self._ask(method, params)
                    except GateError as error:
                        if error.fault.code != OVERLOADED:
                            raise
                    await asyncio.sleep(pause)
                return await self._ask(method, params)
        except TimeoutError:
            message = f"Codex did not answer {method} within {timeout:g} s."
            raise GateError(Fault("timeout", message, code="codex_timeout", retryable=True)) from None

    async def tell(self, method: str) -> None:
        """Send a notification."""
        await self._send(jsonrpc.notification(method))

    def listen(self, thread: str) -> Inbox:
        """Hand what comes for `thread` to an inbox, until `forget`."""
        inbox = self._inboxes[thread] = Inbox()
        if self.gone is not None:
            inbox.close(self.gone)
        return inbox

    def forget(self, thread: str) -> None:
        """Nobody reads what comes for `thread` any more."""
        self._inboxes.pop(thread, None)

    async def lives(self) -> bool:
        """Whether it still answers; one that does not is killed, and everybody who waits is told."""
        asked = time.monotonic()
        if self.gone is not None or self._heard is None:
            return self.gone is None
        if asked - self._heard < QUIET and asked - self._proved < HUNG:
            return True
        try:
            async with asyncio.timeout(HUNG):
                with contextlib.suppress(GateError):  # a refusal is an answer too
                    await self._request(wire.ACCOUNT_READ, {})
            self._missed, self._proved = 0, asked
        except TimeoutError:
            self._missed += 1
            if self._heard < asked or self._missed >= MISSES:
                message = "The Codex process did not answer any more and was ended."
                self._lose(Fault("upstream", message, "Send the request again.", "codex_hung", "", True))
                await self._kill()
        return self.gone is None

    async def stop(self) -> None:
        """End the process and all it started: end of input, then TERM, then KILL. May be called twice."""
        self._lose(Fault("unavailable", "Codex was stopped.", code="codex_stopped", retryable=True))
        assert self._process.stdin is not None
        self._process.stdin.close()
        if not await self._exits():
            self._signal(signal.SIGTERM)
            await self._exits()
        await self._kill()
        await self._exits()
        await asyncio.wait(self._tasks[:2], timeout=PATIENCE)  # at the end of both pipes they are closed
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def _exits(self) -> bool:
        """Whether the process ends within `PATIENCE`."""
        if self._process.returncode is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), PATIENCE)
        return self._process.returncode is not None

    async def _kill(self) -> None:
        """Kill whatever is left of it and of what it started."""
        await asyncio.to_thread(reap.end, self._mark)  # first: afterwards nobody knows whose child is whose
        self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))  # Windows has but one way

    def _signal(self, number: int) -> None:
        """To it alone: its commands are in sessions of their own.

        Not by the process object, which looks whether it has ended and so takes the exit status
        away from asyncio.
        """
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self._process.pid, number)

    async def _ask(self, method: str, params: object) -> msgspec.Raw:
        async with self._slots:
            return await self._request(method, params)

    async def _request(self, method: str, params: object) -> msgspec.Raw:
        if self.gone is not None:
            raise GateError(self.gone)
        id = next(self._ids)
        answered: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
        answered.add_done_callback(_seen)
        self._asked[id] = answered
        try:
            await self._send(jsonrpc.request(id, method, params))
            return await answered
        finally:
            self._asked.pop(id, None)

    async def _watch(self) -> None:
        """Find out when it hangs, as long as anybody waits for it."""
        while self.gone is None:
            await asyncio.sleep(QUIET / 2)
            if self._process.returncode is not None:
                self._lose(await self._farewell())
                await self._kill()  # what it started may hold its output open, so that no end comes
            elif self._asked or self._inboxes:
                await self.lives()

    async def _send(self, line: bytes) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(line)
            await stdin.drain()
        except (ConnectionError, RuntimeError):
            # The reader finds out why; it has the exit status.
            if self.gone is None:
                await asyncio.wait({self._tasks[0]}, timeout=PATIENCE)
                self._lose(_GONE)
            raise GateError(self.gone or _GONE) from None

    async def _read(self) -> None:
        """The pump: bytes, lines, messages, whoever waits for them."""
        stdout = self._process.stdout
        assert stdout is not None
        lines = Lines(LINE_LIMIT)
        try:
            while data := await stdout.read(256 * 1024):
                self._heard = time.monotonic()
                for line in lines.feed(data):
                    self._take(line)
            self._lose(await self._farewell())
        except LineTooLong as error:
            self._lose(Fault("upstream", f"Codex broke its protocol: {error}.", code="codex_protocol"))
        await self._kill()
        while await stdout.read(256 * 1024):
            pass  # what is unread keeps the pipe open

    async def _farewell(self) -> Fault:
        """Why nothing more comes."""
        if not await self._exits():
            how = "closed its output and was ended"
        elif (status := self._process.returncode or 0) < 0:
            how = f"was killed by {signal.Signals(-status).name}"
        else:
            how = f"exited with {status}"
        message = f"The Codex process {how}."
        return Fault("upstream", message, "Send the request again.", "codex_exited", "", True)

    def _take(self, line: bytes) -> None:
        try:
            message = jsonrpc.receive(line)
        except jsonrpc.ProtocolError as error:
            log.debug("codex.garbage", extra={"fields": {"line": str(error)}})
            return
        match message:
            case jsonrpc.Notification():
                inbox = self._inboxes.get(_thread_of(message.params))
                if inbox is not None:
                    inbox.put(message)
            case jsonrpc.Request():
                inbox = self._inboxes.get(_thread_of(message.params))
                if inbox is not None:
                    inbox.put(message)  # its turn decides; it must
                else:
                    self.answer(message.id, self._answer(message.method))
            case jsonrpc.Result(id=id, value=value):
                if (asked := self._asked.get(id)) is not None and not asked.done():
                    asked.set_result(value)
            case jsonrpc.Error(id=id):
                if (asked := self._asked.get(id)) is not None and not asked.done():
                    asked.set_exception(GateError(_refused(message)))

    def answer(self, id: jsonrpc.RequestId, result: dict[str, Any] | None) -> None:
        """Answer what the child asked; `None` refuses it. A child that is gone needs no answer.

        Does not wait until it is written: the reader answers too, and has to go on reading.
        """
        stdin = self._process.stdin
        assert stdin is not None
        if result is None:
            line = jsonrpc.error(id, jsonrpc.METHOD_NOT_FOUND, "not supported")
        else:
            line = jsonrpc.result(id, result)
        with contextlib.suppress(ConnectionError, RuntimeError):
            stdin.write(line)

    def _lose(self, fault: Fault) -> None:
        if self.gone is not None:
            return
        self.gone = fault
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(GateError(fault))
        for inbox in self._inboxes.values():
            inbox.close(fault)

    async def _drain_log(self) -> None:
        """Read its log, always: a full pipe stops the child."""
        stderr = self._process.stderr
        assert stderr is not None
        while data := await stderr.read(64 * 1024):
            if log.isEnabledFor(logging.DEBUG):
                log.debug("codex.log", extra={"fields": {"text": data.decode(errors="replace")}})


_GONE = Fault("upstream", "The Codex process is gone.", "Send the request again.", "codex_exited", "", True)


def _seen(answered: asyncio.Future[msgspec.Raw]) -> None:
    """Whoever asked may be gone before the refusal comes; asyncio would log that."""
    if not answered.cancelled():
        answered.exception()


def _thread_of(params: msgspec.Raw) -> str:
    try:
        return _route(params).thread_id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def _refused(error: jsonrpc.Error) -> Fault:
    """Nearly all of its errors have one code and only a text to tell them apart."""
    if error.code == -32001:  # "Server overloaded; retry later."
        return Fault("unavailable", error.message, code=OVERLOADED, retryable=True, retry_after=1.0)
    message = f"Codex refused: {error.message}"
    if _TOO_LONG in error.message:
        code = "context_length_exceeded"
        return Fault("invalid_request", message, "Shorten the last message.", code, "messages")
    return Fault("upstream", message, code="codex_refused")
