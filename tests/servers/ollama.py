"""A scripted Ollama on a loopback port: real sockets, its native API, its refusals.

Behaves as facts/ollama-api.md says and knows nothing of the gate. Without a script it answers by
itself: text, thinking, JSON that conforms to `format`, a tool call and then text about its result.
A test scripts answers out of steps, and pauses with events, never with sleeps:

    async with ScriptedOllama() as ollama:
        go = asyncio.Event()
        ollama.next(say("Hel"), go, say("lo"), done())   # the next chat
        ollama.next(Refusal(503, "server busy"))          # the one after it
        ...; go.set(); await ollama.left.wait()           # a client closed early

By hand: `python -m tests.servers.ollama --port 11435`.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from aiohttp import web

from .ollama_model import (
    AT,
    MODELS,
    Body,
    FakeModel,
    Refused,
    answer,
    call,
    check,
    done,
    embed,
    refuse,
    say,
    whole,
)

__all__ = ["Cut", "FakeModel", "Refusal", "ScriptedOllama", "call", "done", "say"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Refusal:
    """Instead of a stream: a status and `{"error": reason}`, or bytes as they are."""

    status: int
    reason: str | bytes


@dataclass(frozen=True)
class Cut:
    """The connection breaks here."""


Step = Body | bytes | asyncio.Event | Refusal | Cut
"""A line · bytes as they are · a pause until the event is set · an end."""


@dataclass(frozen=True)
class Seen:
    """A request that came."""

    method: str
    path: str
    body: Body = field(default_factory=dict)


class ScriptedOllama:
    """The server; an asynchronous context manager."""

    def __init__(self, models: Sequence[FakeModel] = MODELS, *, version: str = "0.13.5") -> None:
        self.models = {model.name: model for model in models}
        self.version = version
        self.registry = {"tiny:latest": FakeModel("tiny:latest")}
        """What can be pulled."""
        self.blobs: dict[str, int] = {}
        """Files by digest, and their sizes."""
        self.loaded: dict[str, int] = {}
        """Models in memory, and the context they were loaded with."""
        self.loads: list[tuple[str, int]] = []
        """Every time that a model was read from disk, and its context."""
        self.seen: list[Seen] = []
        self.open = 0
        """Streams that are being answered."""
        self.abandoned = 0
        """Answers that a client left before their end."""
        self.arrived = asyncio.Event()
        """A chat or pull has come."""
        self.left = asyncio.Event()
        """A client closed early."""
        self.always: dict[str, Sequence[Step]] = {}
        """The answer to every chat with a model."""
        self.broken: set[str] = set()
        """Models that `/api/show` fails on."""
        self.connections: set[int] = set()
        """Client ports that were seen: how many connections there were."""
        self._next: deque[Sequence[Step]] = deque()
        self._pulls: deque[Sequence[Step]] = deque()
        self.url = ""
        self._runner: web.AppRunner | None = None

    def next(self, *steps: Step) -> None:
        """Answer the next unscripted chat with `steps`."""
        self._next.append(steps)

    def next_pull(self, *steps: Step) -> None:
        """Answer the next unscripted pull with `steps`."""
        self._pulls.append(steps)

    def chats(self, path: str = "/api/chat") -> list[Body]:
        """The bodies of all chats, or of what was asked at `path`."""
        return [seen.body for seen in self.seen if seen.path == path]

    async def start(self, port: int = 0) -> None:
        app = web.Application(client_max_size=2**30, middlewares=[refusals])
        app.router.add_get("/", self._root)
        app.router.add_get("/api/version", self._version)
        app.router.add_get("/api/tags", self._tags)
        app.router.add_get("/api/ps", self._ps)
        app.router.add_post("/api/show", self._show)
        app.router.add_post("/api/chat", self._streamed(self._chat))
        app.router.add_post("/api/generate", self._streamed(self._generate))
        app.router.add_post("/api/embed", self._streamed(self._embed))
        app.router.add_post("/api/pull", self._streamed(self._pull))
        app.router.add_delete("/api/delete", self._delete)
        app.router.add_post("/api/copy", self._copy)
        app.router.add_post("/api/create", self._streamed(self._create))
        app.router.add_post("/api/push", self._streamed(self._push))
        app.router.add_head("/api/blobs/{digest}", self._has_blob)
        app.router.add_post("/api/blobs/{digest}", self._add_blob)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    # Routes

    async def _root(self, request: web.Request) -> web.Response:
        return web.Response(text="Ollama is running")

    async def _version(self, request: web.Request) -> web.Response:
        self._note(request)
        return web.json_response({"version": self.version})

    async def _tags(self, request: web.Request) -> web.Response:
        self._note(request)
        return web.json_response({"models": [model.tag for model in self.models.values()] or None})

    async def _ps(self, request: web.Request) -> web.Response:
        self._note(request)
        listed = [{**self.models[name].tag, "context_length": size} for name, size in self.loaded.items()]
        return web.json_response({"models": listed})

    async def _show(self, request: web.Request) -> web.Response:
        model = self._model(await self._read(request))
        if model.name in self.broken:
            refuse(500, "open blob: no such file or directory")
        info = {"general.architecture": "fake", "fake.context_length": model.context}
        return web.json_response(
            {
                "modelfile": f"FROM {model.name}",
                "parameters": "",
                "template": "{{ .Prompt }}",
                "details": model.details,
                "model_info": info,
                "capabilities": list(model.capabilities),
                "modified_at": AT,
            }
        )

    async def _delete(self, request: web.Request) -> web.Response:
        del self.models[self._model(await self._read(request)).name]
        return web.Response()

    async def _copy(self, request: web.Request) -> web.Response:
        body = await self._read(request)
        source = self._model({"model": body["source"]})
        name = tagged(body["destination"])
        self.models[name] = replace(source, name=name)
        return web.Response()

    async def _create(self, request: web.Request) -> web.StreamResponse:
        body = await self._read(request)
        for digest in body.get("files", {}).values():
            if digest not in self.blobs:
                refuse(400, f"blob {digest} not found")
        source = self._model({"model": body["from"]}) if "from" in body else FakeModel(body["model"])
        name = tagged(body["model"])
        self.models[name] = replace(source, name=name)
        return await self._tell(request, body, {"status": "writing manifest"}, {"status": "success"})

    async def _push(self, request: web.Request) -> web.StreamResponse:
        """Scripted as a pull; else nobody is signed in, as is told in the stream."""
        body = await self._read(request)
        self._model(body)
        if self._pulls:
            return await self._play(request, self._pulls.popleft())
        reason = {"error": "you must be signed in to push"}
        return await self._tell(request, body, {"status": "retrieving manifest"}, reason)

    async def _tell(self, request: web.Request, body: Body, *lines: Body) -> web.StreamResponse:
        return await self._play(request, lines if body.get("stream", True) else lines[-1:])

    async def _has_blob(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if request.match_info["digest"] in self.blobs else 404)

    async def _add_blob(self, request: web.Request) -> web.Response:
        """Only how large it is, and what it should be, is kept."""
        digest, size = hashlib.sha256(), 0
        async for piece in request.content.iter_any():
            digest.update(piece)
            size += len(piece)
        named = request.match_info["digest"]
        if named != f"sha256:{digest.hexdigest()}":
            refuse(400, f'digest mismatch, expected "{named}", got "sha256:{digest.hexdigest()}"')
        self.blobs[named] = size
        return web.Response(status=201)

    async def _pull(self, request: web.Request) -> web.StreamResponse:
        body = await self._read(request)
        steps = self._pulls.popleft() if self._pulls else self._fetch(body)
        return await self._play(request, steps)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await self._read(request)
        model = self._model(body)
        check(body, model)
        size = body.get("options", {}).get("num_ctx", 4096)
        if self.loaded.get(model.name) != size:
            self.loads.append((model.name, size))
        self.loaded[model.name] = size
        if not body.get("messages"):
            if body.get("keep_alive") == 0:
                del self.loaded[model.name]
            reason = "load" if model.name in self.loaded else "unload"
            return web.json_response({**done(reason, 0, 0), "model": body["model"]})
        steps = self._next.popleft() if self._next else self.always.get(model.name)
        if steps is None:
            steps = list(answer(body, model))
        if body.get("stream", True):
            return await self._play(request, steps)
        return web.json_response(whole([step for step in steps if isinstance(step, dict)]))

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        """A chat of one message, but for the names of things; scripted with the same steps."""
        body = await self._read(request)
        if not body.get("model"):
            refuse(404, "model '' not found")
        model = self._model(body)
        prompt, suffix = body.get("prompt", ""), body.get("suffix", "")
        if suffix and "insert" not in model.capabilities:
            refuse(400, f"registry.ollama.ai/library/{model.name} does not support insert")
        text = f"{prompt} … {suffix}" if suffix else prompt
        chat = {**body, "messages": [{"role": "user", "content": text}]}
        check(chat, model)
        if not prompt:
            return web.json_response(generated({**done("load", 0, 0), "model": body["model"]}))
        steps = self._next.popleft() if self._next else list(answer(chat, model))
        if body.get("stream", True):
            return await self._play(
                request, [generated(step) if isinstance(step, dict) else step for step in steps]
            )
        return web.json_response(generated(whole([step for step in steps if isinstance(step, dict)])))

    async def _embed(self, request: web.Request) -> web.StreamResponse:
        """Vectors; scripted with the same steps."""
        body = await self._read(request)
        model = self._model(body)
        return await self._play(request, self._next.popleft() if self._next else [embed(body, model)])

    # How it answers

    def _streamed(self, handler: Handler) -> Handler:
        async def counted(request: web.Request) -> web.StreamResponse:
            self.open += 1
            self.arrived.set()
            try:
                return await handler(request)
            except (asyncio.CancelledError, ConnectionError):
                self.abandoned += 1
                self.left.set()
                raise
            finally:
                self.open -= 1

        return counted

    async def _play(self, request: web.Request, steps: Sequence[Step]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        for step in steps:
            match step:
                case asyncio.Event():
                    await step.wait()
                case Refusal(status, bytes() as body):
                    return web.Response(status=status, body=body)
                case Refusal(status, str() as reason):
                    return web.json_response({"error": reason}, status=status)
                case Cut():
                    assert request.transport
                    request.transport.abort()
                    return response
                case _:
                    # The head goes out with the first line, as in Ollama.
                    if not response.prepared:
                        await response.prepare(request)
                    await response.write(
                        step if isinstance(step, bytes) else json.dumps(step).encode() + b"\n"
                    )
        if not response.prepared:
            await response.prepare(request)
        await response.write_eof()
        return response

    def _fetch(self, body: Body) -> list[Step]:
        name = tagged(body.get("model") or body.get("name") or "")
        steps: list[Step] = [{"status": "pulling manifest"}]
        if name not in self.registry and name not in self.models:
            return [*steps, {"error": "pull model manifest: file does not exist"}]
        digest = "sha256:" + "ab" * 32
        layer = {"status": "pulling abababababab", "digest": digest, "total": 100}
        steps += [{**layer, "completed": completed} for completed in (0, 40, 100)]
        self.models.setdefault(name, self.registry.get(name, FakeModel(name)))
        last = ("verifying sha256 digest", "writing manifest", "success")
        return [*steps, *({"status": status} for status in last)]

    # What it reads

    def _note(self, request: web.Request, body: Body | None = None) -> None:
        self.seen.append(Seen(request.method, request.path, body or {}))
        if request.transport:
            self.connections.add(request.transport.get_extra_info("peername")[1])

    async def _read(self, request: web.Request) -> Body:
        data = await request.read()
        if not data:
            refuse(400, "missing request body")
        try:
            body = json.loads(data)
        except ValueError as error:
            refuse(400, f"invalid character: {error}")
        if not isinstance(body, dict):
            refuse(400, "json: cannot unmarshal into Go value of type api.ChatRequest")
        self._note(request, body)
        return body

    def _model(self, body: Body) -> FakeModel:
        name = body.get("model") or body.get("name") or ""
        if not name:
            refuse(400, "model is required")
        if tagged(name) not in self.models:
            refuse(404, f"model '{name}' not found")
        return self.models[tagged(name)]


def generated(line: Body) -> Body:
    """A line of /api/chat as one of /api/generate."""
    message = line.get("message", {})
    said = {"response" if name == "content" else name: message[name] for name in message if name != "role"}
    return {name: value for name, value in line.items() if name != "message"} | said


def tagged(name: str) -> str:
    """A model's full name."""
    return name if ":" in name else f"{name}:latest"


@web.middleware
async def refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refused as refused:
        status, reason = refused.args
        return web.json_response({"error": reason}, status=status)


async def serve(port: int) -> None:
    """Serve until interrupted."""
    ollama = ScriptedOllama()
    await ollama.start(port)
    print(ollama.url, flush=True)  # noqa: T201
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=11435)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(parser.parse_args().port))
