"""`codexgate mcp`: the memory for an MCP client that starts its servers itself, over stdio.

Standard output is the client's alone. The protocol is a library's, and the tools are those of
`/mcp`; here are only the lines, in and out. No gate has to run.
Source: Model Context Protocol 2025-11-25, "Transports", "stdio".
"""

import asyncio
import contextlib
import os
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import typer

from .. import logs
from ..assemble import open_memory
from ..errors import GateError, invalid
from ..fronts import mcp_memory
from ..server.mcp import LIMIT, check
from ..settings import Settings, load_settings
from .terminal import ConfigFile, config_file

AHEAD = 16
"""Reads that may wait to be handled; then the client has to."""
EDGE = 512
"""Bytes at either end of a line that is too long, which tell whose it is."""

_ID = rb'"id"\s*:\s*(-?\d{1,15}|"[^"\\]*")\s*'
_VERSION = rb'"jsonrpc"\s*:\s*"2\.0"\s*'
_FIRST = re.compile(rb"\s*\{\s*(?:" + _VERSION + rb",\s*)?" + _ID + rb"[,}]")
_LAST = re.compile(rb",\s*" + _ID + rb"(?:,\s*" + _VERSION + rb")?\}\s*\Z")


def mcp(ctx: typer.Context, config: ConfigFile = None) -> None:  # noqa: ARG001 - config_file finds it
    """Serve the memory to an MCP client over stdio."""
    settings = load_settings(config=config_file(ctx)).settings
    logs.configure(settings.log.format, settings.log.level)
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    from aiohttp_tiny_mcp.server.stdio import serve_stdio, write_stdout

    from ..server.mcp_tools import REVISIONS, registry

    async with open_memory(settings) as memory:
        await serve_stdio(registry(memory), _Input(0, write_stdout), write_stdout, adapters=REVISIONS)


class _Input(asyncio.StreamReader):
    """Lines of a file, as the library reads them; read in a thread, as not every file can be waited for."""

    def __init__(self, descriptor: int, refuse: Callable[[Mapping[str, Any]], None]) -> None:
        """`refuse` is given the answer to a line that the library must not see."""
        super().__init__()
        self._refuse = refuse
        self._reads: asyncio.Queue[bytes] = asyncio.Queue(AHEAD)
        self._line = bytearray()
        """What came of the next line; of one that is too long its two ends."""
        self._size = 0
        self._waiting: list[bytes] = []
        self._ended = False
        loop = asyncio.get_running_loop()
        # A daemon: a read that nobody wants any more must not keep the process.
        threading.Thread(target=self._read, args=(descriptor, loop), daemon=True).start()

    async def readline(self) -> bytes:
        """The next line; empty at the end."""
        while not self._waiting and not self._ended:
            data = await self._reads.get()
            self._ended = not data
            self._feed(data or b"\n")  # what is left without an end is a line too
        return self._waiting.pop(0) if self._waiting else b""

    def _feed(self, data: bytes) -> None:
        first, *others = data.split(b"\n")
        self._add(first)
        for other in others:
            self._end()
            self._add(other)

    def _add(self, data: bytes) -> None:
        self._line += data
        self._size += len(data)
        if self._size > LIMIT:
            del self._line[EDGE:-EDGE]

    def _end(self) -> None:
        line, size = bytes(self._line), self._size
        self._line.clear()
        self._size = 0
        try:
            if size > LIMIT:
                raise invalid(f"The message is larger than {LIMIT} bytes.")
            if line.strip():
                check(line)
                self._waiting.append(line)
        except GateError as error:
            self._refuse(mcp_memory.error(error.fault) | {"id": _id(line)})

    def _read(self, descriptor: int, loop: asyncio.AbstractEventLoop) -> None:
        data = b" "
        with contextlib.suppress(RuntimeError):  # the loop is closed
            while data:
                try:
                    data = os.read(descriptor, 64 * 1024)
                except OSError:
                    data = b""
                asyncio.run_coroutine_threadsafe(self._reads.put(data), loop).result()


def _id(line: bytes) -> int | str | None:
    """The id of a request that is not read, as clients write it: at the very beginning or at the very end."""
    found = _FIRST.match(line) or _LAST.search(line[-EDGE:])
    try:
        return msgspec.json.decode(found[1], type=int | str) if found else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
