"""Codex asks, a person answers: over the API, in time, once; and nothing runs without a yes."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from codexgate.backends.codex import Codex, CodexOptions
from codexgate.server.app import Listen
from tests.servers.codex_home import MODEL, make_codex_home
from tests.servers.gateway import client, serving
from tests.servers.responses import ScriptedResponses
from tests.support import run, unhurried

CHAT = "/v1/chat/completions"
APPROVALS = "/v1/approvals"
Body = dict[str, Any]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No deadline of ours is tested here."""
    unhurried(monkeypatch, "backends.codex.child.HUNG")


@dataclass
class Bench:
    session: aiohttp.ClientSession
    provider: ScriptedResponses
    codex: Codex

    async def ask(self, text: str) -> Body:
        """A chat to its end; the activity is in the content."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": text}]}
        async with self.session.post(CHAT, json=body, headers={"X-Codexgate-Activity": "content"}) as answer:
            read: Body = await answer.json()
            return read

    async def waiting(self) -> list[Body]:
        """What waits, once something does."""
        while True:
            async with self.session.get(APPROVALS) as answer:
                data: list[Body] = (await answer.json())["data"]
            if data:
                return data
            await asyncio.sleep(0.01)

    async def decide(self, id: str, decision: str) -> tuple[int, Body]:
        async with self.session.post(f"{APPROVALS}/{id}", json={"decision": decision}) as answer:
            return answer.status, await answer.json()


@asynccontextmanager
async def bench(tmp_path: Path, listen: Listen | None = None, **options: Any) -> AsyncIterator[Bench]:
    async with ScriptedResponses() as provider:
        home = make_codex_home(tmp_path / "home", provider.url)
        environ = {**os.environ, "CODEX_HOME": str(home), "HOME": str(home)}
        codex = Codex(CodexOptions(**{"approvals": "ask", **options}), tmp_path / "data", environ)
        async with serving(codex, listen=listen) as url, client(url) as session:
            yield Bench(session, provider, codex)


def told(provider: ScriptedResponses) -> str:
    """What the command said to the model."""
    return str(provider.requests[-1]["input"][-1]["output"])


@pytest.mark.parametrize("decision", ["accept", "decline"])
def test_a_command_runs_only_after_a_yes(tmp_path: Path, decision: str) -> None:
    canary = tmp_path / "canary"

    async def scenario() -> str:
        async with bench(tmp_path) as codex:
            asking = asyncio.create_task(codex.ask(f"SC:escalate touch {canary} && echo done"))
            (waiting,) = await codex.waiting()
            assert waiting["action"] == "command" and str(canary) in waiting["detail"]
            assert waiting["reason"] == "it must" and waiting["model"] == MODEL
            assert waiting["expires"] - waiting["created"] == 120
            assert not canary.exists()
            status, decided = await codex.decide(waiting["id"], decision)
            assert (status, decided["decision"]) == (200, decision)
            answer = await asking
            assert (await codex.decide(waiting["id"], "accept"))[0] == 404, "a decision is made once"
            return str(answer["choices"][0]["message"]["content"]) + told(codex.provider)

    said = run(scenario())
    assert canary.exists() == (decision == "accept")
    assert "Command done." in said
    assert ("rejected" in said) == (decision == "decline")


def test_what_waits_is_shown_in_the_stream(tmp_path: Path) -> None:
    async def scenario() -> str:
        async with bench(tmp_path) as codex:
            asking = asyncio.create_task(codex.ask("SC:escalate echo hi"))
            (waiting,) = await codex.waiting()
            await codex.decide(waiting["id"], "decline")
            content = str((await asking)["choices"][0]["message"]["content"])
            assert waiting["id"] in content
            return content

    assert "echo hi" in run(scenario())


def test_nobody_answering_is_a_no(tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    async def scenario() -> None:
        async with bench(tmp_path, approval_timeout=0.1) as codex:
            await codex.ask(f"SC:escalate touch {canary}")
            assert "rejected" in told(codex.provider)
            assert codex.codex.approvals() == ()

    run(scenario())
    assert not canary.exists()


def test_leaving_withdraws_the_question(tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    async def scenario() -> None:
        async with bench(tmp_path) as codex:
            asking = asyncio.create_task(codex.ask(f"SC:escalate touch {canary}"))
            (waiting,) = await codex.waiting()
            asking.cancel()
            await asyncio.wait({asking})
            while codex.codex.approvals():
                await asyncio.sleep(0.01)
            assert (await codex.decide(waiting["id"], "accept"))[0] == 404
            assert (await codex.ask("SC:plain"))["choices"]

    run(scenario())
    assert not canary.exists()


def test_unless_the_operator_wants_it_nobody_is_asked(tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    async def scenario() -> None:
        async with bench(tmp_path, approvals="never") as codex:
            await codex.ask(f"SC:escalate touch {canary}")
            assert codex.codex.approvals() == ()

    run(scenario())
    assert not canary.exists()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"decision": "acceptForSession"}, 400),
        ({"decision": {"accept": True}}, 400),
        ({}, 400),
        ({"decision": "accept"}, 404),
    ],
)
def test_only_yes_and_no_are_decisions(tmp_path: Path, body: Body, status: int) -> None:
    async def scenario() -> int:
        async with bench(tmp_path) as codex, codex.session.post(f"{APPROVALS}/x", json=body) as answer:
            return answer.status

    assert run(scenario()) == status


def test_with_a_key_only_its_holder_sees_and_decides(tmp_path: Path) -> None:
    async def scenario() -> tuple[int, int]:
        async with bench(tmp_path, Listen(drain=0, key="cg-secret")) as codex:
            async with codex.session.get(APPROVALS) as answer:
                seen = answer.status
            return seen, (await codex.decide("x", "accept"))[0]

    assert run(scenario()) == (401, 401)
