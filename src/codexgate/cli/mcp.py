"""`codexgate mcp`: the memory for an MCP client that starts its servers itself, over stdio.

Standard output is the client's alone. The protocol is a library's, and the tools are those of
`/mcp`; here are only the lines, in and out. No gate has to run.
Source: Model Context Protocol 2025-11-25, "Transports", "stdio".
"""

import asyncio
import contextlib
import os
import threading

import typer

from .. import logs
from ..assemble import open_memory
from ..errors import GateError
from ..lines import Lines, LineTooLong
from ..server.mcp import LIMIT, check
from ..settings import Settings, load_settings
from .terminal import ConfigFile, config_file

AHEAD = 16
"""Reads that may wait to be handled; then the client has to."""


def mcp(ctx: typer.Context, config: ConfigFile = None) -> None:  # noqa: ARG001 - config_file finds it
    """Serve the memory to an MCP client over stdio."""
    settings = load_settings(config=config_file(ctx)).settings
    logs.configure(settings.log.format, settings.log.level)
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    from aiohttp_tiny_mcp.server.stdio import serve_stdio, write_stdout

    from ..server.mcp_tools import REVISIONS, registry

    async with open_memory(settings) as memory:
        await serve_stdio(registry(memory), _Input(0), write_stdout, adapters=REVISIONS)


class _Input(asyncio.StreamReader):
    """Lines of a file, as the library reads them; read in a thread, as not every file can be waited for."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._reads: asyncio.Queue[bytes] = asyncio.Queue(AHEAD)
        self._lines = Lines(LIMIT)
        self._waiting: list[bytes] = []
        self._ended = False
        loop = asyncio.get_running_loop()
        # A daemon: a read that nobody wants any more must not keep the process.
        threading.Thread(target=self._read, args=(descriptor, loop), daemon=True).start()

    async def readline(self) -> bytes:
        """The next line; empty at the end. What must not be handled comes as a line that is no JSON."""
        while not self._waiting and not self._ended:
            data = await self._reads.get()
            self._ended = not data
            try:
                read = self._lines.feed(data or b"\n")  # what is left without an end is a line too
                self._waiting = [line for line in read if line.strip()]
            except LineTooLong:
                self._lines = Lines(LIMIT)
                self._waiting = [UNREADABLE]
        if not self._waiting:
            return b""
        line = self._waiting.pop(0)
        try:
            check(line)
        except GateError:
            return UNREADABLE
        return line

    def _read(self, descriptor: int, loop: asyncio.AbstractEventLoop) -> None:
        data = b" "
        with contextlib.suppress(RuntimeError):  # the loop is closed
            while data:
                try:
                    data = os.read(descriptor, 64 * 1024)
                except OSError:
                    data = b""
                asyncio.run_coroutine_threadsafe(self._reads.put(data), loop).result()


UNREADABLE = b"!"
