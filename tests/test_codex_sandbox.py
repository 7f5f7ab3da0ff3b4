"""A name of its own sandbox: what Codex may do under an alias, and that no request can say it.

The real Codex binary; what is sent to it is held against what the operator has set for the name.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from codexgate.backends.codex import Codex, CodexOptions
from codexgate.chat import Sandbox
from codexgate.dialects.codex import wire
from codexgate.gate import Alias
from codexgate.stores.sqlite import Threads
from codexgate.stores.sqlite_responses import Responses
from tests.servers.codex_home import MODEL, make_codex_home
from tests.servers.codex_lines import recorded
from tests.servers.gateway import client, serving
from tests.servers.responses import Call, ScriptedResponses
from tests.servers.responses import Text as Said
from tests.support import run, unhurried
from tests.test_codex_authority import HOSTILE

Json = dict[str, Any]

ALIASES = {
    "careful": Alias(model=f"codex/{MODEL}", sandbox="read-only"),
    "trusted": Alias(model=f"codex/{MODEL}", sandbox="danger-full-access"),
    "plain": Alias(model=MODEL, effort="low"),
}
POLICY: dict[Sandbox, str] = {
    "read-only": "readOnly",
    "workspace-write": "workspaceWrite",
    "danger-full-access": "dangerFullAccess",
}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Json]:
    """Every line that was sent to a child."""
    unhurried(monkeypatch, "backends.codex.turn.CLOSING", "backends.codex.child.HUNG")
    return recorded(monkeypatch)


def sandboxes(sent: list[Json]) -> list[tuple[str, str]]:
    """Of each thread that was begun or gone on with, and of its turn."""
    params = [(line.get("method"), line.get("params", {})) for line in sent]
    threads = [
        told["sandbox"] for method, told in params if method in (wire.THREAD_START, wire.THREAD_RESUME)
    ]
    turns = [told["sandboxPolicy"]["type"] for method, told in params if method == wire.TURN_START]
    return list(zip(threads, turns, strict=True))


@asynccontextmanager
async def bench(
    tmp_path: Path, sandbox: Sandbox, *answers: Any
) -> AsyncIterator[tuple[aiohttp.ClientSession, ScriptedResponses]]:
    async with ScriptedResponses() as provider:
        provider.script("tools", *answers)
        home = make_codex_home(tmp_path / "home", provider.url)
        environ = {**os.environ, "CODEX_HOME": str(home), "HOME": str(home)}
        threads = Threads(tmp_path / "threads.db")
        codex = Codex(CodexOptions(sandbox=sandbox), tmp_path / "data", environ, threads=threads)
        kept = Responses(tmp_path / "responses.db")
        async with serving(codex, aliases=ALIASES, kept=kept) as url, client(url) as session:
            yield session, provider


async def post(
    session: aiohttp.ClientSession, body: Json, path: str = "/v1/chat/completions", chat: str = ""
) -> Json:
    headers = {"X-OpenWebUI-Chat-Id": chat} if chat else {}
    async with session.post(path, json={"stream": False, **body}, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        told: Json = await answer.json()
        return told


def asked(model: str, *said: str, **more: Any) -> Json:
    roles = ("user", "assistant")
    return {
        "model": model,
        "messages": [{"role": roles[at % 2], "content": text} for at, text in enumerate(said)],
        **more,
    }


@pytest.mark.parametrize("own", ["read-only", "danger-full-access"])
def test_a_name_has_its_own_sandbox_and_any_other_the_operators(
    tmp_path: Path, sent: list[Json], own: Sandbox
) -> None:
    canaries = tmp_path / "canaries"
    canaries.mkdir()
    allowed: dict[str, Sandbox] = {
        "careful": "read-only", "trusted": "danger-full-access", "plain": own, MODEL: own,
    }  # fmt: skip

    async def scenario() -> None:
        async with bench(tmp_path, own) as (session, _):
            for name in allowed:
                await post(session, asked(name, f"SC:run touch {canaries / name}"))

    run(scenario())
    assert sandboxes(sent) == [(sandbox, POLICY[sandbox]) for sandbox in allowed.values()]
    touched = {name for name, sandbox in allowed.items() if sandbox == "danger-full-access"}
    assert {path.name for path in canaries.iterdir()} == touched


@pytest.mark.parametrize("name", ["careful", "plain", MODEL])
def test_no_request_can_say_the_sandbox_of_another_name(tmp_path: Path, sent: list[Json], name: str) -> None:
    """On every route that takes a chat, at once all that ever meant one somewhere."""
    hostile = {key: value for key, value in HOSTILE.items() if key not in ("previous_response_id", "id")}
    hostile |= {"alias": "trusted", "aliases": {name: {"model": MODEL, "sandbox": "danger-full-access"}}}
    canary = tmp_path / "canary"
    said = f"SC:run touch {canary}"

    async def scenario() -> None:
        async with bench(tmp_path, "read-only") as (session, _):
            chat = asked(name, said)
            chat["messages"][0]["sandbox"] = "danger-full-access"
            await post(session, {**hostile, **chat})
            await post(session, {**hostile, **chat}, chat="trusted")
            await post(session, {**hostile, "model": name, "input": said}, "/v1/responses")
            await post(session, {**hostile, **chat}, "/api/chat")
            await post(session, {**hostile, "model": name, "prompt": said}, "/api/generate")

    run(scenario())
    assert sandboxes(sent) == [("read-only", "readOnly")] * 5
    assert not canary.exists()


def test_a_chat_under_another_name_is_another_thread(tmp_path: Path, sent: list[Json]) -> None:
    """What was begun where much was allowed is not gone on with where little is, nor the reverse."""

    async def scenario() -> None:
        async with bench(tmp_path, "read-only") as (session, _):
            said: list[str] = []
            for at, name in enumerate(("trusted", "trusted", "careful", "plain")):
                said.append(f"SC:echo {at}")
                await post(session, asked(name, *said), chat="c1")
                said.append(str(at))

    run(scenario())
    begun = [line["method"] for line in sent if line.get("method") in (wire.THREAD_START, wire.THREAD_RESUME)]
    assert begun == [wire.THREAD_START, wire.THREAD_RESUME, wire.THREAD_START, wire.THREAD_START]
    full, least = ("danger-full-access", "dangerFullAccess"), ("read-only", "readOnly")
    assert sandboxes(sent) == [full, full, least, least]


def test_results_under_another_name_do_not_go_on_with_the_turn_that_waits(
    tmp_path: Path, sent: list[Json]
) -> None:
    async def scenario() -> None:
        answers = [[Call("weather", {})], [Said("sunny")], [Said("sunny")]]
        async with bench(tmp_path, "read-only", *answers) as (session, _):
            first = await post(session, asked("trusted", "SC:tools", tools=[WEATHER]))
            message = first["choices"][0]["message"]
            [call] = message["tool_calls"]
            body = asked("careful", "SC:tools", tools=[WEATHER])
            body["messages"] += [
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": call["id"], "content": "21°"},
            ]
            await post(session, body)

    run(scenario())
    assert sandboxes(sent) == [("danger-full-access", "dangerFullAccess"), ("read-only", "readOnly")]


def test_a_clients_errand_is_harmless_under_every_name(tmp_path: Path, sent: list[Json]) -> None:
    async def scenario() -> None:
        async with bench(tmp_path, "danger-full-access") as (session, _):
            await post(session, asked("trusted", "### Task: SC:plain"), chat="c1")

    run(scenario())
    assert sandboxes(sent) == [("read-only", "readOnly")]
    assert json.dumps(sent).count('"environments": []') == 2
