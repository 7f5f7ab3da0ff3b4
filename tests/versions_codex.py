"""Runs turns on other versions of the real Codex, and prints what works: `make test-versions`.

    python -m tests.versions_codex [0.98.0 0.118.0 latest] [--cache DIR]

The packages come from npm into a folder outside the project. Ends with status 1 when anything
fails on a version that is supported.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

from codexgate.backends.codex import Codex, CodexOptions
from codexgate.backends.codex.find import find_binary
from codexgate.chat import ChatRequest, Message, Text, Tool
from codexgate.errors import GateError
from codexgate.events import Done, Event, Failed, Plan, TextDelta, ThreadStarted, ToolEvent
from codexgate.fold import fold
from codexgate.gate import Gate
from codexgate.stores.sqlite import Threads
from tests.servers.codex_home import MODEL, make_codex_home
from tests.servers.responses import Call, Hold, Part, ScriptedResponses
from tests.servers.responses import Text as Say

PACKAGE = "@openai/codex"
OLDEST = (0, 118)
"""The first version that must work."""
KNOWN = {"frees_model": (0, 118)}
"""What does not work up to some version, and costs no more than a connection."""
LIMIT = 20.0
"""Seconds for one check."""


def npm(*arguments: str, cwd: Path | None = None) -> str:
    command = ["npm", *arguments]
    return subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True).stdout


def install(version: str, cache: Path) -> Path:
    """The program of `version`, as `npm install` lays it out."""
    folder = cache / version
    program = folder / "node_modules/.bin/codex"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        npm("install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), f"{PACKAGE}@{version}")
    return program


def latest() -> str:
    """The newest version there is."""
    return str(json.loads(npm("view", PACKAGE, "version", "--json")))


class Bench:
    """One version's backend, and the model server behind it."""

    def __init__(self, gate: Gate, provider: ScriptedResponses) -> None:
        self.gate = gate
        self.provider = provider

    async def answer(self, text: str, *before: Message, chat: str = "", **fields: Any) -> list[Event]:
        messages = (*before, Message("user", (Text(text),)))
        route = await self.gate.route(ChatRequest(MODEL, messages, chat=chat, **fields))
        async with aclosing(self.gate.stream(route)) as batches:
            return [event async for batch in batches for event in batch]


def must(right: bool, seen: object) -> None:
    if not right:
        raise AssertionError(str(seen)[:300])


async def models(bench: Bench) -> None:
    must(MODEL in [model.id for model in await bench.gate.models()], "not listed")


async def text(bench: Bench) -> None:
    events = await bench.answer("SC:plain")
    must(fold(events).text == "Hello from the model." and events[-1] == Done("stop"), events)
    must(fold(events).usage is not None, events)


async def reasoning(bench: Bench) -> None:
    reply = fold(await bench.answer("SC:reason"))
    must("**Thinking**" in reply.reasoning and reply.text == "Thought.", reply)


async def history(bench: Bench) -> None:
    said = (Message("user", (Text("first"),)), Message("assistant", (Text("indeed"),)))
    events = await bench.answer("SC:plain", *said)
    must(events[-1] == Done("stop"), events)
    upstream = str(bench.provider.requests[-1]["input"])
    must(0 <= upstream.find("first") < upstream.find("indeed"), "the history did not reach the model")


async def command(bench: Bench) -> None:
    events = await bench.answer("SC:command")
    tools = [event for event in events if isinstance(event, ToolEvent)]
    must(bool(tools) and "one\ntwo\n" in "".join(tool.text for tool in tools), events)


async def plan(bench: Bench) -> None:
    events = await bench.answer("SC:plan")
    must(any(isinstance(event, Plan) for event in events), events)


async def error(bench: Bench) -> None:
    events = await bench.answer("SC:quota")
    codes = [event.fault.code for event in events if isinstance(event, Failed)]
    must(codes == ["usageLimitExceeded"], events)


async def interrupt(bench: Bench) -> None:
    """Whoever leaves is done with it, and the next turn works."""
    bench.provider.closed_early.clear()
    bench.provider.script("held", [Part("a"), Hold()])
    route = await bench.gate.route(ChatRequest(MODEL, (Message("user", (Text("SC:held"),)),)))
    async with aclosing(bench.gate.stream(route)) as batches:
        async for batch in batches:
            if any(isinstance(event, TextDelta) for event in batch):
                break
    await text(bench)


async def frees_model(bench: Bench) -> None:
    """The interrupt before has closed the model's stream, although nothing more came on it."""
    await asyncio.wait_for(bench.provider.closed_early.wait(), 3)


async def sandbox(bench: Bench) -> None:
    canary = Path(tempfile.gettempdir()) / f"codexgate-canary-{os.getpid()}"
    await bench.answer(f"SC:run touch {canary}")
    touched = canary.exists()
    canary.unlink(missing_ok=True)
    must(not touched, "a command wrote")


async def client_tool(bench: Bench) -> None:
    bench.provider.script("tool", [Call("look", {"x": 1}, id="c1")], [Say("Looked.")])
    tools = (Tool("look", "Looks.", {"type": "object", "properties": {"x": {"type": "integer"}}}),)
    events = await bench.answer("SC:tool", tools=tools)
    must(events[-1] == Done("tool_calls"), events)


async def chat(bench: Bench) -> None:
    """A second request goes on with the thread: only what is new is sent."""
    first = (Message("user", (Text("SC:plain"),)), Message("assistant", (Text("Hello from the model."),)))
    began = await bench.answer("SC:plain", chat="one")
    again = await bench.answer("SC:repeat", *first, chat="one")
    threads = {event.thread for event in (*began, *again) if isinstance(event, ThreadStarted)}
    must(len(threads) == 1 and fold(again).text == "haha", again)


CHECKS: tuple[Callable[[Bench], Awaitable[None]], ...] = (
    models, text, reasoning, history, command, plan, error, interrupt, frees_model,
    sandbox, client_tool, chat,
)  # fmt: skip


async def check(program: Path, folder: Path) -> dict[str, str]:
    """What works: by the check's name, `ok` or why not."""
    results = {}
    async with ScriptedResponses() as provider:
        home = make_codex_home(folder / "home", provider.url)
        environ = {**os.environ, "CODEX_HOME": str(home), "HOME": str(home)}
        options = CodexOptions(binary=str(program))
        codex = Codex(options, folder / "data", environ, threads=Threads(folder / "threads.db"))
        gate = Gate([codex], strict=True)
        try:
            await codex.probe()  # the first start reads hundreds of megabytes
            for each in CHECKS:
                try:
                    await asyncio.wait_for(each(Bench(gate, provider)), LIMIT)
                    results[each.__name__] = "ok"
                except (AssertionError, GateError, TimeoutError) as failed:
                    results[each.__name__] = f"{type(failed).__name__}: {failed}"
        finally:
            await gate.aclose()
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description="Run turns on other versions of Codex.")
    parser.add_argument("versions", nargs="*", default=["0.98.0", "0.118.0", "latest"])
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "codexgate-versions")
    options = parser.parse_args()
    versions = [latest() if version == "latest" else version for version in options.versions]
    failed = False
    for version in versions:
        program = install(version, options.cache)
        print(f"\n{version}  {find_binary(str(program))}")  # noqa: T201
        with tempfile.TemporaryDirectory() as folder:
            results = asyncio.run(check(program, Path(folder)))
        for name, result in results.items():
            print(f"  {name:12} {result}")  # noqa: T201
        number = tuple(map(int, version.split(".")[:2]))
        wrong = [name for name, result in results.items() if result != "ok"]
        failed |= number >= OLDEST and any(number > KNOWN.get(name, (0, 0)) for name in wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
