"""A gate on the real Codex whose lines to the child are held against the closed list of what may be asked.

Knows what an operator may set and what the app-server is asked; the attempts are the tests' business.
"""

import asyncio
import json
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from codexgate.backends.codex import Codex, CodexOptions, host
from codexgate.dialects.codex import wire
from codexgate.stores.sqlite import Threads
from tests.servers.codex_home import make_codex_home
from tests.servers.gateway import client, serving
from tests.servers.responses import ScriptedResponses

Json = dict[str, Any]
T = TypeVar("T")

LIMIT = 30.0
"""Seconds for the attempts that are made at once."""
CHAT = "/v1/chat/completions"

HEAD = {"threadId"}
KEYS: dict[str, set[str]] = {
    wire.INITIALIZE: {"clientInfo", "capabilities"},
    wire.ACCOUNT_READ: set(),
    wire.MODEL_LIST: set(),
    wire.THREAD_START: {
        "model", "cwd", "sandbox", "approvalPolicy", "config", "ephemeral", "dynamicTools", "environments",
        "baseInstructions", "developerInstructions",
    },
    wire.THREAD_RESUME: HEAD
    | {
        "model", "cwd", "sandbox", "approvalPolicy", "config", "excludeTurns", "baseInstructions",
        "developerInstructions",
    },
    wire.THREAD_INJECT: HEAD | {"items"},
    wire.TURN_START: HEAD
    | {"input", "model", "cwd", "approvalPolicy", "sandboxPolicy", "effort", "outputSchema", "environments"},
    wire.TURN_INTERRUPT: HEAD | {"turnId"},
    wire.THREAD_UNSUBSCRIBE: HEAD,
    wire.TERMINALS_CLEAN: HEAD,
}  # fmt: skip
"""Everything that the child may be asked, and the parameters of each."""
ITEMS = {
    "message": {"type", "role", "content"},
    "function_call": {"type", "call_id", "name", "arguments"},
    "function_call_output": {"type", "call_id", "output"},
    "input_text": {"type", "text"},
    "output_text": {"type", "text"},
    "input_image": {"type", "image_url"},
    "text": {"type", "text"},
    "image": {"type", "url"},
    "function": {"type", "name", "description", "inputSchema"},
}
"""Everything that may be inside them, by its type."""


@dataclass
class Operator:
    """What the operator has set, and what was sent otherwise."""

    cwd: str
    wrong: list[str] = field(default_factory=list)
    methods: set[str] = field(default_factory=set)

    def hear(self, line: Json) -> None:
        """Hold one line that is sent to the child against the list."""
        method, params = line.get("method"), line.get("params", {})
        if method is None:
            self._answer(line)
        elif method != wire.INITIALIZED:
            self.methods.add(method)
            fixed = self.fixed(method)
            self._hold(method in KEYS and set(params) <= KEYS[method], line)
            self._hold(set(line) == {"id", "method", "params"}, line)
            self._hold(all(params.get(key) == value for key, value in fixed.items()), line)
            self._hold(params.get("environments", []) == [], line)
            self._hold(params.get("turnId", "") == "", line)
            for key in ("items", "input", "dynamicTools"):
                self._items(params.get(key, []), line)

    def fixed(self, method: str) -> Json:
        """The parameters that say what Codex may do."""
        both = {"cwd": self.cwd, "approvalPolicy": "never"}
        policy = {"type": "readOnly", "networkAccess": False}
        if method in (wire.THREAD_START, wire.THREAD_RESUME):
            return both | {"sandbox": "read-only", "config": host.thread_config(self.cwd, False)}
        return both | {"sandboxPolicy": policy} if method == wire.TURN_START else {}

    def _answer(self, line: Json) -> None:
        result = line.get("result", {})
        self._hold(set(line) <= {"id", "result", "error"}, line)
        self._hold(set(result) <= {"decision", "contentItems", "success", "action", "content", "_meta"}, line)
        self._hold(result.get("decision", "decline") in ("decline", "denied"), line)
        self._hold(result.get("action", "decline") == "decline", line)

    def _items(self, items: list[Json], line: Json) -> None:
        for item in items:
            self._hold(set(item) <= ITEMS.get(item.get("type", ""), set()), line)
            if isinstance(item.get("content"), list):
                self._items(item["content"], line)
            if item.get("type") == "message":
                self._hold(item["role"] in ("user", "assistant", "developer"), line)

    def _hold(self, right: bool, line: Json) -> None:
        if not right:
            self.wrong.append(json.dumps(line)[:2000])


@dataclass(frozen=True)
class Attempt:
    """One request, as bytes and headers."""

    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    path: str = CHAT


class Arena:
    """A gate on the real Codex, in a thread with a loop of its own that outlives the examples."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.canaries = folder / "canaries"
        self.canaries.mkdir()
        self.operator = Operator(str(folder / "data/codex-cwd"))
        self.attempts = 0
        self.broken: list[str] = []
        """Answers that blame the gate."""
        self._options = options
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._ready: Future[aiohttp.ClientSession] = Future()
        self._over: asyncio.Event | None = None

    def __enter__(self) -> "Arena":
        self._thread.start()
        self._serving = asyncio.run_coroutine_threadsafe(self._serve(), self.loop)
        self._session = self._ready.result(LIMIT)
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._over is not None
        self.loop.call_soon_threadsafe(self._over.set)
        self._serving.result(LIMIT)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(LIMIT)
        self.loop.close()

    def send(self, attempts: list[Attempt]) -> list[int]:
        """Make some attempts at once; the statuses of the answers."""
        self.attempts += len(attempts)
        return self._run(self._send(attempts))

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(LIMIT)

    async def _send(self, attempts: list[Attempt]) -> list[int]:
        return list(await asyncio.gather(*map(self._post, attempts)))

    async def _post(self, attempt: Attempt) -> int:
        headers = {"Content-Type": "application/json", **attempt.headers}
        async with self._session.post(attempt.path, data=attempt.body, headers=headers) as answer:
            text = await answer.text()
            if answer.status == 500:
                self.broken.append(f"{text} for {attempt.body!r} {attempt.headers}")
            return answer.status

    async def _serve(self) -> None:
        self._over = asyncio.Event()
        async with ScriptedResponses() as provider:
            home = make_codex_home(self.folder / "home", provider.url)
            environ = {**os.environ, "CODEX_HOME": str(home), "HOME": str(home)}
            threads = Threads(self.folder / "threads.db")
            codex = Codex(CodexOptions(**self._options), self.folder / "data", environ, threads=threads)
            async with serving(codex) as url, client(url) as session:
                self._ready.set_result(session)
                await self._over.wait()
