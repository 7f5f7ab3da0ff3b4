"""A scripted OpenAI-compatible server on a loopback port: real sockets, chunks as OpenAI writes them.

Knows nothing of the gate. A test scripts answers out of steps, and pauses with events, never with sleeps:

    async with ScriptedOpenAI() as upstream:
        go = asyncio.Event()
        upstream.next(say("Hel"), go, say("lo"), end(), usage(3, 2), DONE)   # the next answer
        upstream.next(Refusal(429, "slow down", {"Retry-After": "7"}))       # the one after it
        ...; go.set(); await upstream.left.wait()                            # a client closed early

Without a script a chat is answered by what was said last.
"""

import asyncio
import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

Body = dict[str, Any]

DONE = b"data: [DONE]\n\n"
AT = 1_700_000_000


@dataclass(frozen=True)
class Refusal:
    """Instead of a stream: a status and OpenAI's error object, or bytes as they are."""

    status: int
    reason: str | bytes | Body
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Whole:
    """Instead of a stream: one JSON body."""

    body: Any


@dataclass(frozen=True)
class Cut:
    """The connection breaks here."""


Step = Body | bytes | asyncio.Event | Refusal | Whole | Cut
"""A chunk · bytes as they are · a pause until the event is set · an end."""


@dataclass(frozen=True)
class Seen:
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]
    body: Body = field(default_factory=dict)


def chunk(*choices: Body, **more: Any) -> Body:
    """A chunk of a streamed chat."""
    head = {"id": "chatcmpl-theirs", "object": "chat.completion.chunk", "created": AT, "model": "theirs"}
    return {**head, "choices": list(choices), **more}


def delta(reason: str | None = None, **fields: Any) -> Body:
    """A chunk with a delta of these fields."""
    return chunk({"index": 0, "delta": fields, "finish_reason": reason})


def say(text: str) -> Body:
    """A piece of text."""
    return delta(content=text)


def call(index: int | None, id: str | None, name: str | None, arguments: Any) -> Body:
    """A piece of a tool call; what is `None` is left out."""
    function = {"name": name, "arguments": arguments}
    piece = {"index": index, "id": id, "function": {k: v for k, v in function.items() if v is not None}}
    return delta(tool_calls=[{key: value for key, value in piece.items() if value is not None}])


def end(reason: str = "stop") -> Body:
    """The chunk that says why the answer ended."""
    return delta(reason)


def usage(prompt: int, completion: int, **details: Any) -> Body:
    """The chunk after that."""
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return chunk(usage={**counts, **details})


def frame(step: Body) -> bytes:
    """A chunk as OpenAI sends it."""
    return b"data: " + json.dumps(step, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


class ScriptedOpenAI:
    """The server; an asynchronous context manager."""

    def __init__(self, models: Any = None) -> None:
        listed = [{"id": id, "object": "model", "created": AT, "owned_by": "them"} for id in ("m", "m-embed")]
        self.models: Any = models or {"object": "list", "data": listed}
        """The answer to GET /models: a body or a refusal."""
        self.seen: list[Seen] = []
        self.arrived, self.left = asyncio.Event(), asyncio.Event()
        """A request has come; a client closed early."""
        self.open = 0
        """Answers under way."""
        self.connections: set[int] = set()
        self._next: deque[Sequence[Step]] = deque()
        self.url = ""
        """With `/v1`."""
        self._runner: web.AppRunner | None = None

    def next(self, *steps: Step) -> None:
        """Answer the next unscripted POST with `steps`."""
        self._next.append(steps)

    def bodies(self) -> list[Body]:
        """What was posted."""
        return [seen.body for seen in self.seen if seen.method == "POST"]

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**30)
        app.router.add_get("/v1/models", self._models)
        for path in ("chat/completions", "completions", "embeddings"):
            app.router.add_post(f"/v1/{path}", self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._runner:
            await self._runner.cleanup()

    async def _models(self, request: web.Request) -> web.StreamResponse:
        self._note(request, {})
        return await self._play(
            request, [self.models if isinstance(self.models, Refusal) else Whole(self.models)]
        )

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self._note(request, body)
        steps = self._next.popleft() if self._next else self._echo(request.path, body)
        self.open += 1
        self.arrived.set()
        try:
            return await self._play(request, steps)
        except (asyncio.CancelledError, ConnectionError):
            self.left.set()
            raise
        finally:
            self.open -= 1

    def _note(self, request: web.Request, body: Body) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append(Seen(request.method, request.path, headers, body))
        if request.transport:
            self.connections.add(request.transport.get_extra_info("peername")[1])

    def _echo(self, path: str, body: Body) -> list[Step]:
        if path.endswith("/embeddings"):
            length = body.get("dimensions", 3)
            data = [{"index": at, "embedding": [at + 0.5] * length} for at in range(len(body["input"]))]
            return [
                Whole(
                    {"data": data, "usage": {"prompt_tokens": 2 * len(data), "total_tokens": 2 * len(data)}}
                )
            ]
        if path.endswith("/chat/completions"):
            said = body["messages"][-1]["content"]
            return [
                delta(role="assistant", content=""),
                say("You said: "),
                say(said),
                end(),
                usage(3, 2),
                DONE,
            ]
        more = {"index": 0, "text": f"{body['prompt']}!", "finish_reason": "stop"}
        return [chunk(more, object="text_completion"), usage(3, 2), DONE]

    async def _play(self, request: web.Request, steps: Sequence[Step]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        for step in steps:
            match step:
                case asyncio.Event():
                    if not response.prepared:
                        await response.prepare(request)
                    await step.wait()
                case Refusal(status, bytes() as body, headers):
                    return web.Response(status=status, body=body, headers=headers)
                case Refusal(status, reason, headers):
                    error = {"message": reason, "type": "some_error", "param": None, "code": None}
                    told = error if isinstance(reason, str) else reason
                    return web.json_response({"error": told}, status=status, headers=headers)
                case Whole(body):
                    return web.json_response(body)
                case Cut():
                    assert request.transport
                    request.transport.abort()
                    return response
                case _:
                    if not response.prepared:
                        await response.prepare(request)
                    await response.write(step if isinstance(step, bytes) else frame(step))
        if not response.prepared:
            await response.prepare(request)
        await response.write_eof()
        return response
