"""A scripted Responses provider on a loopback port: the model that the real Codex talks to in tests.

Speaks only what Codex reads (facts/codex.md section 3) over real sockets, and knows nothing of the gate.
A test chooses the behaviour by a word in the last user text (`SC:plain`, table at the end), or writes
its own answers out of the steps below, one list of steps per model request of a turn:

    hold = Hold()
    provider.script("two", [Command("ls")], [Text("a"), hold, Text("b")])   # chosen by "SC:two"
    provider.default = [[Text("hello")]]                                    # for a text without a word
    await hold.reached.wait(); ...; hold.go.set()

By hand: `python -m tests.servers.responses --port 8150`.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

from codexgate.backends.demo.sample import sample

Body = dict[str, Any]
"""A request body or an event, as JSON."""


@dataclass(frozen=True)
class Text:
    """One agent message, whole: opened, streamed delta by delta, closed."""

    deltas: str | Sequence[str]
    phase: str | None = None
    id: str = ""
    """Empty: a fresh one."""
    pause: float = 0
    """Seconds before each delta."""


@dataclass(frozen=True)
class Part:
    """A piece of a message that stays open (until `Close`), so that a `Hold` or `Cut` can come inside it."""

    deltas: str | Sequence[str]
    phase: str | None = None
    id: str = ""
    pause: float = 0


@dataclass(frozen=True)
class Close:
    """Closes the message that `Part` opened."""


@dataclass(frozen=True)
class Reason:
    """One reasoning item: summary parts, each a list of deltas, and raw text."""

    summary: Sequence[Sequence[str]] = ()
    raw: Sequence[str] = ()


@dataclass(frozen=True)
class Call:
    """A function call; Codex runs it and asks again."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""
    namespace: str = ""


@dataclass(frozen=True)
class Command:
    """A shell command, by whichever shell tool the request offers."""

    line: str
    wait: int = 0
    """Milliseconds that Codex waits before it tells the model that the command still runs."""
    escalate: str = ""
    """The reason for asking to run it outside the sandbox."""


@dataclass(frozen=True)
class Search:
    """A web search that the provider itself made."""

    query: str


@dataclass(frozen=True)
class Raw:
    """Any event."""

    event: Mapping[str, Any]


@dataclass(frozen=True)
class Usage:
    """Tokens that the closing `response.completed` reports instead of the usual ones."""

    input: int = 100
    cached: int = 40
    output: int = 20
    reasoning: int = 5


@dataclass(frozen=True)
class NoUsage:
    """The closing `response.completed` reports no tokens."""


@dataclass(frozen=True, eq=False)
class Hold:
    """Stops here until the test says go."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class Pause:
    """Waits."""

    seconds: float


@dataclass(frozen=True)
class Refuse:
    """An HTTP error instead of a stream; first step only."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Hang:
    """Not even headers come; first step only."""


@dataclass(frozen=True)
class Fail:
    """`response.failed`; ends the answer."""

    code: str
    message: str


@dataclass(frozen=True)
class Incomplete:
    """`response.incomplete`; ends the answer."""

    reason: str = "max_output_tokens"


@dataclass(frozen=True)
class Cut:
    """The connection breaks; ends the answer."""


@dataclass(frozen=True)
class End:
    """The stream ends properly, but without `response.completed`."""


Whole = Reason | Call | Command | Search | Raw
Ending = Refuse | Hang | Fail | Incomplete | Cut | End
Step = Text | Part | Close | Whole | Usage | NoUsage | Hold | Pause | Ending
Answer = Sequence[Step]
Answers = Sequence[Answer]
Scene = Callable[[Body, str], Answers]
"""Makes the answers from the request and what follows the word in the user text."""


class ScriptedResponses:
    """The provider; `async with ScriptedResponses() as provider`."""

    def __init__(self, *default: Answer, port: int = 0) -> None:
        """`default`: the answers to a text that has no word."""
        self.default: Answers = default or [[Text(["Hello ", "from the model."])]]
        self.requests: list[Body] = []
        """The bodies of the model requests, in order."""
        self.headers: list[dict[str, str]] = []
        """Their headers, names in lower case."""
        self.open = 0
        """How many model requests are being answered."""
        self.closed_early = asyncio.Event()
        """The client left before the answer was complete."""
        self.idle = asyncio.Event()
        """Nothing is being answered."""
        self.idle.set()
        self.arrived = asyncio.Event()
        """A model request came; a test may clear it."""
        self._scenes = dict(SCENES)
        self._asked: dict[str, int] = {}
        self._ids = itertools.count(1)
        self._port = port
        self._runner: web.AppRunner | None = None
        self._closing = False

    def script(self, word: str, *answers: Answer) -> None:
        """`SC:word` gets `answers`: the n-th model request of a turn the n-th one, then the last again."""
        self._scenes[word] = lambda body, rest: answers

    @property
    def url(self) -> str:
        """The base URL, ending in /v1."""
        return f"http://127.0.0.1:{self._port}/v1"

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=256 * 2**20)
        app.router.add_post("/v1/responses", self._responses)
        app.router.add_get("/v1/responses", _no_websocket)
        app.router.add_get("/v1/models", _models)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._closing = True
        if self._runner is not None:
            await self._runner.cleanup()

    async def _responses(self, request: web.Request) -> web.StreamResponse:
        body: Body = await request.json()
        self.requests.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        answer = self._choose(body)
        self.open += 1
        self.idle.clear()
        self.arrived.set()
        try:
            return await self._answer(request, body, answer)
        except (asyncio.CancelledError, ConnectionError):
            if not self._closing:
                self.closed_early.set()
            raise
        finally:
            self.open -= 1
            if not self.open:
                self.idle.set()

    def _choose(self, body: Body) -> Answer:
        text = last_user_text(body)
        word = re.search(r"SC:(\w+)[ \n]?", text)
        scene = self._scenes.get(word[1]) if word else None
        answers = scene(body, text[word.end() :]) if scene and word else self.default
        return answers[min(self._turn_step(body, text), len(answers) - 1)]

    def _turn_step(self, body: Body, text: str) -> int:
        """Count the requests of this turn before this one."""
        metadata = body.get("client_metadata") or {}
        turn = metadata.get("turn_id") or f"{body.get('prompt_cache_key')} {_users(body)} {text}"
        if not body.get("prompt_cache_key"):  # not Codex: only the conversation tells
            return _outputs_since_user(body)
        step = self._asked.get(turn, 0)
        self._asked[turn] = step + 1
        return step

    async def _answer(self, request: web.Request, body: Body, answer: Answer) -> web.StreamResponse:
        if answer and isinstance(answer[0], Refuse):
            first = answer[0]
            return web.json_response(first.body, status=first.status, headers=first.headers)
        if answer and isinstance(answer[0], Hang):
            await asyncio.Event().wait()
        return await _Stream(request, body, self._ids).run(answer)


class _Stream:
    """One answer on its way to the client."""

    def __init__(self, request: web.Request, body: Body, ids: Iterator[int]) -> None:
        self._request, self._body, self._ids = request, body, ids
        self._response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        self._usage: Usage | None = Usage()
        self._response_id = f"resp_{next(ids)}"
        self._outputs = 0
        self._message: Body = {}
        """The open one; empty when none is."""

    async def run(self, answer: Answer) -> web.StreamResponse:
        await self._response.prepare(self._request)
        await self._send({"type": "response.created", "response": {"id": self._response_id}})
        for step in answer:
            if await self._play(step):
                return self._response
        await self._send({"type": "response.completed", "response": self._completed()})
        return self._response

    async def _play(self, step: Step) -> bool:
        """Do one step; true when it ended the answer."""
        match step:
            case Usage():
                self._usage = step
            case NoUsage():
                self._usage = None
            case Hold(reached=reached, go=go):
                reached.set()
                await go.wait()
            case Pause(seconds=seconds):
                await asyncio.sleep(seconds)
            case Fail() | Incomplete() | Cut() | End() | Refuse() | Hang():
                await self._end(step)
                return True
            case Text():
                await self._write(step)
                await self._close()
            case Part():
                await self._write(step)
            case Close():
                await self._close()
            case Reason() | Call() | Command() | Search() | Raw():
                for event in self._events(step):
                    await self._send(event)
        return False

    async def _end(self, step: Ending) -> None:
        response: Body = {"id": self._response_id}
        match step:
            case Fail(code=code, message=message):
                response |= {"status": "failed", "error": {"code": code, "message": message}}
                await self._send({"type": "response.failed", "response": response})
            case Incomplete(reason=reason):
                response |= {"status": "incomplete", "incomplete_details": {"reason": reason}}
                await self._send({"type": "response.incomplete", "response": response})
            case Cut():
                if self._request.transport is not None:
                    self._request.transport.close()  # the chunked coding is left unfinished
            case Refuse() | Hang():
                raise TypeError(f"{step} must be the first step")
            case End():
                pass

    async def _write(self, step: Text | Part) -> None:
        """Open a message if none is open, and stream into it."""
        if not self._message:
            id = step.id or f"msg_{next(self._ids)}"
            self._message = {"id": id, "phase": step.phase, "text": ""}
            await self._send(self._added(_message(self._message, done=False)))
        for delta in [step.deltas] if isinstance(step.deltas, str) else step.deltas:
            await asyncio.sleep(step.pause)
            self._message["text"] += delta
            where = {"item_id": self._message["id"], "output_index": self._outputs, "content_index": 0}
            await self._send({"type": "response.output_text.delta", **where, "delta": delta})

    async def _close(self) -> None:
        await self._send(self._done(_message(self._message, done=True)))
        self._message = {}

    def _events(self, step: Whole) -> Iterable[Body]:
        match step:
            case Reason():
                yield from self._reason(step)
            case Search(query=query):
                item = {"type": "web_search_call", "id": f"ws_{next(self._ids)}"}
                action = {"type": "search", "query": query, "queries": [query]}
                yield self._added({**item, "status": "in_progress"})
                yield self._done({**item, "status": "completed", "action": action})
            case Command():
                yield from self._call(shell_call(step, self._body))
            case Call():
                yield from self._call(step)
            case Raw(event=event):
                yield dict(event)

    def _reason(self, step: Reason) -> Iterable[Body]:
        id = f"rs_{next(self._ids)}"
        where = {"item_id": id, "output_index": self._outputs}
        item: Body = {"type": "reasoning", "id": id, "summary": [], "encrypted_content": "b3BhcXVl"}
        yield self._added(item)
        for index, deltas in enumerate(step.summary):
            here = {**where, "summary_index": index}
            yield {"type": "response.reasoning_summary_part.added", **here}
            for delta in deltas:
                yield {"type": "response.reasoning_summary_text.delta", **here, "delta": delta}
        for delta in step.raw:
            yield {"type": "response.reasoning_text.delta", **where, "content_index": 0, "delta": delta}
        summary = [{"type": "summary_text", "text": "".join(deltas)} for deltas in step.summary]
        content = [{"type": "reasoning_text", "text": "".join(step.raw)}] if step.raw else []
        yield self._done({**item, "summary": summary, "content": content})

    def _call(self, step: Call) -> Iterable[Body]:
        call_id = step.id or f"call_{next(self._ids)}"
        item = {"type": "function_call", "id": f"fc_{next(self._ids)}", "call_id": call_id, "name": step.name}
        if step.namespace:
            item["namespace"] = step.namespace
        yield self._added({**item, "status": "in_progress", "arguments": ""})
        yield self._done({**item, "status": "completed", "arguments": json.dumps(step.arguments)})

    def _added(self, item: Body) -> Body:
        return {"type": "response.output_item.added", "output_index": self._outputs, "item": item}

    def _done(self, item: Body) -> Body:
        event = {"type": "response.output_item.done", "output_index": self._outputs, "item": item}
        self._outputs += 1
        return event

    def _completed(self) -> Body:
        return {"id": self._response_id, "status": "completed", "usage": _usage(self._usage)}

    async def _send(self, event: Mapping[str, Any]) -> None:
        await self._response.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())


def _message(message: Body, done: bool) -> Body:
    content = [{"type": "output_text", "text": message["text"], "annotations": []}] if done else []
    item = {"type": "message", "id": message["id"], "role": "assistant", "content": content}
    phase = {"phase": message["phase"]} if message["phase"] else {}
    return {**item, "status": "completed" if done else "in_progress", **phase}


def _usage(usage: Usage | None) -> Body | None:
    if usage is None:
        return None
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }


def shell_call(command: Command, body: Body) -> Call:
    """Return the call of the shell tool that the request offers; versions of Codex differ."""
    offered = {tool.get("name") for tool in body.get("tools") or []}
    extra: Body = {}
    if command.escalate:
        extra = {"sandbox_permissions": "require_escalated", "justification": command.escalate}
    if "shell_command" in offered:
        return Call("shell_command", {"command": command.line, **extra})
    if "shell" in offered:
        return Call("shell", {"command": ["bash", "-lc", command.line], **extra})
    wait = {"yield_time_ms": command.wait} if command.wait else {}
    return Call("exec_command", {"cmd": command.line, **wait, **extra})


def texts(item: Body) -> str:
    """Return the text of an `input` message."""
    content = item.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _inputs(body: Body) -> list[Body]:
    given = body.get("input") or []
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


def last_user_text(body: Body) -> str:
    """Return what the user said last; Codex's own `<environment_context>` is not it."""
    said = [texts(item) for item in _inputs(body) if item.get("role") == "user"]
    return next((text for text in reversed(said) if not text.startswith("<")), "")


def _users(body: Body) -> int:
    return sum(item.get("role") == "user" for item in _inputs(body))


def _outputs_since_user(body: Body) -> int:
    later = itertools.takewhile(lambda item: item.get("role") != "user", reversed(_inputs(body)))
    return sum(str(item.get("type")).endswith("call_output") for item in later)


async def _no_websocket(request: web.Request) -> web.Response:
    return web.Response(status=426)  # Codex then falls back to POST at once


async def _models(request: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": "scripted-model", "object": "model"}]})


def _schema(body: Body, rest: str) -> Answers:
    wanted = (body.get("text") or {}).get("format") or {}
    return [[Text(json.dumps(sample(wanted.get("schema", {}), "text")))]]


def _plan(*states: str) -> Call:
    steps = [{"step": step, "status": state} for step, state in zip(("look", "act"), states, strict=True)]
    return Call("update_plan", {"explanation": "two steps", "plan": steps})


PATCH = "apply_patch <<'EOF'\n*** Begin Patch\n*** Add File: hello.txt\n+hello\n+world\n*** End Patch\nEOF"
_FINAL = Text(["Command ", "done."], "final_answer")
_REASON = Reason([["**Think", "ing**\n\nfirst"], ["second"]], ["raw ", "thought"])


def _always(*answers: Answer) -> Scene:
    return lambda body, rest: answers


def _refused(status: int, code: str, message: str) -> Scene:
    return _always([Refuse(status, {"error": {"code": code, "message": message, "type": code}})])


SCENES: Mapping[str, Scene] = {
    "plain": _always([Text(["Hello ", "from ", "the model."])]),
    "echo": lambda body, rest: [[Text(rest or "empty")]],
    "repeat": _always([Text(["ha", "ha"])]),
    "twomsg": _always([Text("first message", "commentary"), Text("second message", "final_answer")]),
    "reason": _always([_REASON, Text("Thought.")]),
    "command": _always([Text("I look.", "commentary"), Command("echo one; echo two")], [_FINAL]),
    "run": lambda body, rest: [[Command(rest)], [_FINAL]],
    "escalate": lambda body, rest: [[Command(rest or "echo out", escalate="it must")], [_FINAL]],
    "sleepcmd": _always([Command("echo started; sleep 300", wait=30_000)], [_FINAL]),
    "patch": _always([Command(PATCH)], [Text("Patched.", "final_answer")]),
    "plan": _always([_plan("in_progress", "pending")], [_plan("completed", "completed")], [Text("Planned.")]),
    "websearch": _always([Search("codex app server"), Text("Found it.")]),
    "schema": _schema,
    "slow": _always([Text([f"{n} " for n in range(200)], pause=0.05)]),
    "hang": _always([Hang()]),
    "cut": _always([Part(["half ", "an "]), Cut()]),
    "eof": _always([Part(["half ", "an "]), End()]),
    "flaky": _always([Part(["half ", "an "]), Cut()], [Text("The whole answer.")]),
    "incomplete": _always([Text("as far as it goes"), Incomplete()]),
    "quota": _always([Fail("insufficient_quota", "You exceeded your current quota.")]),
    "context": _always([Fail("context_length_exceeded", "Your input exceeds the context window.")]),
    "e400": _refused(400, "invalid_request_error", "bad request"),
    "e401": _refused(401, "invalid_api_key", "no such key"),
    "e404": _refused(404, "model_not_found", "no such model"),
    "e429": _refused(429, "rate_limit_exceeded", "too many"),
    "e500": _refused(500, "server_error", "broken"),
    "e503": _refused(503, "server_is_overloaded", "busy"),
}


async def _serve(port: int) -> None:
    async with ScriptedResponses(port=port) as provider:
        print(provider.url, flush=True)  # noqa: T201
        await asyncio.Event().wait()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="A scripted Responses provider on loopback.")
    parser.add_argument("--port", type=int, default=8150)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
