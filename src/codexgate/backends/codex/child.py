"""One live `codex app-server`: its process, its pipes, and who waits for what it says.

Carries messages; what they mean is the dialect's. All turns share one pair of pipes, so what
comes is handed out by thread. When the child goes, everybody who waits is told why, once.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ... import jsonrpc
from ...dialects.codex import wire
from ...errors import Fault, GateError
from ...lines import Lines, LineTooLong

LINE_LIMIT = 32 * 1024 * 1024
"""Bytes of one line: pictures are echoed whole; 10 MB were seen."""
INBOX_LIMIT = 64 * 1024 * 1024
"""Bytes that may wait for one turn's reader; beyond it the reader is given up, not the child."""
IN_FLIGHT = 64
"""Requests at once: from about 200 on the app-server leaves some without any answer."""
PATIENCE = 2.0
"""Seconds for each step of a stop: end of input, TERM, KILL."""

_route = msgspec.json.Decoder(wire.Routed).decode
log = logging.getLogger(__name__)

Answer = Callable[[str], dict[str, Any] | None]


class Inbox:
    """What one thread was told and nobody has read yet."""

    def __init__(self) -> None:
        self._waiting: list[jsonrpc.Notification] = []
        self._size = 0
        self._fault: Fault | None = None
        self._news = asyncio.Event()

    async def read(self) -> list[jsonrpc.Notification]:
        """All that waits, at least one. Raises GateError when the child is gone."""
        await self._news.wait()
        if not self._waiting:
            assert self._fault is not None
            raise GateError(self._fault)
        waiting, self._waiting, self._size = self._waiting, [], 0
        if self._fault is None:
            self._news.clear()
        return waiting

    def put(self, notification: jsonrpc.Notification) -> None:
        """Take one in."""
        self._size += len(memoryview(notification.params))
        if self._size > INBOX_LIMIT:
            self.close(Fault("upstream", "The answer was not read fast enough.", code="too_slow"))
        if self._fault is None:
            self._waiting.append(notification)
            self._news.set()

    def close(self, fault: Fault) -> None:
        """Nothing more will come, because of `fault`."""
        self._fault = self._fault or fault
        self._news.set()


class Child:
    """A running app-server. Made by `start`; once `gone` is set it is never used again."""

    def __init__(self, process: asyncio.subprocess.Process, answer: Answer) -> None:
        self.gone: Fault | None = None
        """Why it ended, once it has."""
        self._process = process
        self._answer = answer
        self._ids = itertools.count(1)
        self._asked: dict[jsonrpc.RequestId, asyncio.Future[msgspec.Raw]] = {}
        self._inboxes: dict[str, Inbox] = {}
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._drain_log())]

    @classmethod
    async def start(
        cls, binary: Path, arguments: Sequence[str], environ: Mapping[str, str], cwd: str, answer: Answer
    ) -> "Child":
        """Start the program. Raises GateError when it cannot be run."""
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
                start_new_session=True,  # its commands go with it, and a Ctrl-C at the gate is not theirs
            )
        except OSError as error:
            message = f"Codex cannot be run: {binary}: {error.strerror}."
            raise GateError(Fault("unavailable", message, code="codex_not_runnable")) from error
        return cls(process, answer)

    async def ask(self, method: str, params: object, timeout: float = 30.0) -> msgspec.Raw:
        """The result of one request. Raises GateError: refused, unanswered in `timeout` s, or gone."""
        async with self._slots:
            if self.gone is not None:
                raise GateError(self.gone)
            id = next(self._ids)
            answered: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
            self._asked[id] = answered
            try:
                await self._send(jsonrpc.request(id, method, params))
                async with asyncio.timeout(timeout):
                    return await answered
            except TimeoutError:
                message = f"Codex did not answer {method} within {timeout:g} s."
                raise GateError(Fault("timeout", message, code="codex_timeout", retryable=True)) from None
            finally:
                self._asked.pop(id, None)

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

    async def stop(self) -> None:
        """End the process and all it started: end of input, then TERM, then KILL. May be called twice."""
        self._lose(Fault("unavailable", "Codex was stopped.", code="codex_stopped", retryable=True))
        assert self._process.stdin is not None
        self._process.stdin.close()
        for hint in (None, signal.SIGTERM, signal.SIGKILL):
            if hint is not None:
                self._signal(hint)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), PATIENCE)
                break
        self._signal(signal.SIGKILL)  # what is left of its group
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)

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
            raise GateError(self.gone or _GONE) from None

    async def _read(self) -> None:
        """The pump: bytes, lines, messages, whoever waits for them."""
        stdout = self._process.stdout
        assert stdout is not None
        lines = Lines(LINE_LIMIT)
        try:
            while data := await stdout.read(256 * 1024):
                for line in lines.feed(data):
                    await self._take(line)
        except LineTooLong as error:
            self._lose(Fault("upstream", f"Codex broke its protocol: {error}.", code="codex_protocol"))
            self._signal(signal.SIGKILL)
            return
        status = await self._process.wait()
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with {status}"
        message = f"The Codex process {how}."
        self._lose(Fault("upstream", message, "Send the request again.", "codex_exited", "", True))

    async def _take(self, line: bytes) -> None:
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
                await self._reply(message)
            case jsonrpc.Result(id=id, value=value):
                if (asked := self._asked.get(id)) is not None and not asked.done():
                    asked.set_result(value)
            case jsonrpc.Error(id=id):
                if (asked := self._asked.get(id)) is not None and not asked.done():
                    asked.set_exception(GateError(_refused(message)))

    async def _reply(self, request: jsonrpc.Request) -> None:
        answer = self._answer(request.method)
        if answer is None:
            line = jsonrpc.error(request.id, jsonrpc.METHOD_NOT_FOUND, "not supported")
        else:
            line = jsonrpc.result(request.id, answer)
        with contextlib.suppress(GateError):
            await self._send(line)

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


def _thread_of(params: msgspec.Raw) -> str:
    try:
        return _route(params).thread_id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def _refused(error: jsonrpc.Error) -> Fault:
    """Nearly all of its errors have one code and only a text to tell them apart."""
    if error.code == -32001:  # "Server overloaded; retry later."
        return Fault("unavailable", error.message, code="codex_overloaded", retryable=True, retry_after=1.0)
    return Fault("upstream", f"Codex refused: {error.message}", code="codex_refused")
