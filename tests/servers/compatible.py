"""A small server of OpenAI's and Ollama's APIs that does everything right, but for the faults planted in it.

Knows nothing of who judges it; what each fault should look like is the test's business.
"""

import asyncio
import base64
import json
import struct
from collections.abc import Iterator
from typing import Any, Self

from aiohttp import web

from .openai import DONE, Body, call, delta, end, frame, usage

VECTOR = (0.25, -0.5, 0.125, 0.75)
ENDLESS = 400
"""Tokens from which on an answer only ends when its reader leaves."""
CITIES = ("Paris", "Oslo")


class Compatible:
    """The server; an asynchronous context manager. `faults`: words of the tests' table."""

    def __init__(self, *faults: str) -> None:
        self.faults = frozenset(faults)
        self.seen: list[tuple[str, str]] = []
        """Method and path of every request."""
        self.keys: set[str] = set()
        self.running = 0
        self.url = ""
        self._made: set[str] = set()
        self._runner: web.AppRunner | None = None

    def has(self, fault: str) -> bool:
        return fault in self.faults

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._note])
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/embeddings", self._embed)
        app.router.add_post("/v1/responses", self._respond)
        app.router.add_get("/api/tags", self._tags)
        app.router.add_get("/api/version", self._version)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._runner:
            await self._runner.cleanup()

    @web.middleware
    async def _note(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.seen.append((request.method, request.path))
        self.keys.add(request.headers.get("Authorization", ""))
        response: web.StreamResponse = await handler(request)
        return response

    # Models

    async def _models(self, request: web.Request) -> web.Response:
        if self.has("no model list"):
            return web.Response(status=404, text="not here")
        ids = () if self.has("an empty model list") else ("tiny", "tiny-embed")
        return web.json_response({"object": "list", "data": [{"id": id, "object": "model"} for id in ids]})

    async def _tags(self, request: web.Request) -> web.Response:
        if self.has("no tags"):
            return web.Response(status=404, text="not here")
        return web.json_response({"models": [] if self.has("empty tags") else [{"name": "tiny"}]})

    async def _version(self, request: web.Request) -> web.Response:
        if self.has("no version"):
            return web.Response(status=404)
        return web.json_response({"version": "0.9.6" if self.has("an old version") else "0.14.0"})

    async def _metrics(self, request: web.Request) -> web.Response:
        if self.has("no metrics"):
            return web.Response(status=404)
        return web.Response(
            text=f'# TYPE x gauge\nvllm:num_requests_running{{model="tiny"}} {self.running}.0\n'
        )

    # Chats

    def _refused(self, status: int, message: str) -> web.Response:
        if self.has("errors as text"):
            return web.Response(status=status, text=message)
        if self.has("the key in errors"):
            message = f"{message} {' '.join(self.keys)}"
        return web.json_response({"error": {"message": message, "type": "x", "code": None}}, status=status)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.json()
        except ValueError:
            return self._refused(500 if self.has("a crash on bad JSON") else 400, "no JSON")
        if body["model"] != "tiny" and not self.has("any model is answered"):
            return self._refused(404, "no such model")
        if self.has("no chat"):
            return self._refused(500, "out of order")
        if self.has("a stall"):
            await asyncio.Event().wait()
        if self.has("calls refused in a history") and body["messages"][-1]["role"] == "tool":
            return self._refused(400, "one call at a time")
        if body.get("stream") and not self.has("no stream"):
            return await self._stream(request, body)
        message = {"role": "assistant", "content": self._text(body)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response({"object": "chat.completion", "choices": [choice]})

    async def _stream(self, request: web.Request, body: Body) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        self.running += 1
        try:
            if self.has("comments"):
                await response.write(b": still here\n\n")
            if self.has("silence"):
                await asyncio.sleep(0.3)
            if body["max_tokens"] >= ENDLESS:
                await response.write(frame(delta(content="1")))
                await asyncio.Event().wait()
            for piece in self._pieces(body):
                await response.write(piece if isinstance(piece, bytes) else frame(piece))
            await response.write_eof()
        except asyncio.CancelledError:
            self.running += self.has("a deaf model")
            raise
        finally:
            self.running -= 1
        return response

    def _pieces(self, body: Body) -> Iterator[Body | bytes]:
        yield delta(role="assistant", content="")
        if body.get("reasoning_effort"):
            if self.has("thoughts in the text"):
                yield delta(content="<think>Hm.</think>")
            elif not self.has("no thoughts"):
                yield delta(reasoning_content="Hm.")
        if self.has("an error in the stream"):
            yield {"error": {"message": "out of memory"}}
        if body.get("tools"):
            yield from self._calls()
        else:
            beside = {"usage": usage(3, 2)["usage"]} if self.has("usage beside text") else {}
            yield delta(content=self._text(body)) | beside
            if not self.has("no finish reason"):
                yield end()
        if not self.has("no usage") and not self.has("usage beside text"):
            yield usage(3, 2)
        if not self.has("no [DONE]"):
            yield DONE

    def _calls(self) -> Iterator[Body]:
        for at, city in enumerate(CITIES[:1] if self.has("calls refused in a history") else CITIES):
            index = None if self.has("no index") else 0 if self.has("one index for all") else at
            id = None if self.has("no id") else f"call_{at}"
            arguments = json.dumps({"city": city})
            yield call(index, id, "get_weather", "")
            yield call(index, None, None, arguments[:-1] if self.has("arguments cut short") else arguments)
        yield end("tool_calls")

    def _text(self, body: Body) -> str:
        form = body.get("response_format")
        if form is None or self.has("text for a schema"):
            return "Hello there."
        if self.has("another schema"):
            return '{"colour": "blue"}'
        enum = form["json_schema"]["schema"]["properties"]["colour"]["enum"]
        return json.dumps({"colour": enum[0]})

    # Vectors

    async def _embed(self, request: web.Request) -> web.Response:
        coded = (await request.json()).get("encoding_format") == "base64"
        order = ">" if self.has("big-endian vectors") else "<"
        vector: Any = VECTOR
        if coded and not self.has("numbers for base64"):
            vector = base64.b64encode(struct.pack(f"{order}{len(VECTOR)}f", *VECTOR)).decode()
        return web.json_response({"data": [{"index": 0, "embedding": vector}]})

    # Responses

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        if self.has("no responses"):
            return web.Response(status=404, text="not here")
        body = await request.json()
        previous = body.get("previous_response_id")
        passed_over = self.has("state passed over")
        if previous and not passed_over and (previous not in self._made or self.has("nothing is remembered")):
            return self._refused(404, "no such response")
        id = f"resp_{len(self._made)}"
        self._made.add(id)
        text = {"type": "message", "content": [{"type": "output_text", "text": "Hello."}]}
        called = {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": "{}"}
        if self.has("a call without call_id"):
            del called["call_id"]
        output = [called if body.get("tools") else text]
        whole = {"id": id, "object": "response", "output": output, "previous_response_id": previous}
        if not body.get("stream"):
            return web.json_response(whole)
        names = ["response.created", "response.output_text.delta", "response.completed"]
        names = names[1:] if self.has("no response.created") else names
        names = names[:-1] if self.has("no response.completed") else names
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for name in names:
            await response.write(frame({"type": name, "response": whole}))
        await response.write_eof()
        return response
