"""Servers that behave wrongly, on loopback ports: an Ollama whose answers can be bent, and worse.

An answer is a status, a body, both, or what is done with the connection. A path that is not there
is answered as Ollama's router does. Knows nothing of the doctor.
"""

import asyncio
import json
import os
import stat
import textwrap
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

Json = dict[str, Any]
Answer = int | bytes | Json | tuple[int, Json] | Callable[[Json], Any]
"""A status · a body as it is · a JSON body · both · what becomes of the request's JSON."""

HANG = b"\0hang"
"""The connection is taken and nothing comes."""
GARBAGE = b"\0garbage"
"""What comes is no HTTP."""


class Faulty:
    """A server of `routes`, by path; an asynchronous context manager."""

    def __init__(self, routes: Mapping[str, Answer], host: str = "127.0.0.1") -> None:
        self.routes = dict(routes)
        self.host = host
        self.port = 0
        self.headers: dict[str, str] = {}
        """Of every answer."""
        self.key = ""
        """Whoever does not bring it gets 401; empty: nobody has to."""
        self.seen: list[str] = []
        """The request lines that came."""
        self._server: asyncio.Server | None = None
        self._serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Nothing listens any more; the port stays this server's for a later start."""
        if self._server:
            self._server.close()
            serving = self._serving
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)
            await _cut(serving.values())
            await self._server.wait_closed()
            self._serving = {}
            self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving[task] = writer
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, *headers = head.split("\r\n")
            sizes = [each.partition(":")[2] for each in headers if each.lower().startswith("content-length")]
            body = await reader.readexactly(int(sizes[0])) if sizes else b""
            self.seen.append(line.rpartition(" ")[0])
            known = not self.key or f"Authorization: Bearer {self.key}" in headers
            await self._answer(writer, line.split()[1] if known else "", json.loads(body) if body else {})
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, path: str, asked: Json) -> None:
        answer: Any = self.routes.get(path, 404) if path else 401
        if callable(answer):
            answer = answer(asked)
        status, body = answer if isinstance(answer, tuple) else (200, answer)
        if isinstance(answer, int):
            status, body = answer, b"404 page not found"
        if body == HANG:
            await asyncio.Event().wait()
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Length": str(len(data)), "Connection": "close", **self.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        whole = f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + data
        writer.write(b"220 smtp.example ESMTP\r\n" if body == GARBAGE else whole)
        await writer.drain()


@asynccontextmanager
async def silent() -> AsyncIterator[int]:
    """The port of a server that takes every connection and never says anything."""
    taken: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: taken.append(writer), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await _cut(taken)


async def _cut(writers: Iterable[asyncio.StreamWriter]) -> None:
    """End these connections, and wait until nothing of them is open."""
    for writer in writers:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


def tag(name: str) -> Json:
    """An entry of /api/tags."""
    return {"name": name, "model": name, "size": 5_000_000_000, "digest": name.encode().hex()}


def ollama(
    models: Mapping[str, tuple[str, ...]] | None = None, *, version: str = "0.13.5", context: int = 40960
) -> dict[str, Answer]:
    """The routes of a good Ollama, with the models of these capabilities."""
    models = {"qwen3:8b": ("completion", "tools")} if models is None else models

    def show(asked: Json) -> Answer:
        name = asked["model"] if ":" in asked["model"] else f"{asked['model']}:latest"
        if name not in models:
            return 404, {"error": f"model '{asked['model']}' not found"}
        return {"capabilities": list(models[name]), "model_info": {"fake.context_length": context}}

    listed = [{"id": name, "object": "model"} for name in models]
    return {
        "/api/version": {"version": version},
        "/api/tags": {"models": [tag(name) for name in models]},
        "/api/ps": {"models": []},
        "/api/show": show,
        "/v1/models": {"object": "list", "data": listed or None},
    }


def only_v1(*models: str) -> dict[str, Answer]:
    """The routes of a server that speaks OpenAI's API alone: the one of the story."""
    return {"/v1/models": {"object": "list", "data": [{"id": name, "object": "model"} for name in models]}}


def program(path: Path, text: str) -> Path:
    """A program at `path`: a shell script of `text`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{textwrap.dedent(text)}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def search_path(*folders: Path) -> str:
    """A `PATH` that begins with `folders`."""
    return os.pathsep.join([*map(str, folders), "/usr/bin", "/bin"])
