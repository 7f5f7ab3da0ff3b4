"""What `codexgate doctor --url` asks, checks and card together: little, and only the server that was named."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from codexgate.backends.demo import Demo
from codexgate.doctor import card_agent, card_server, reach
from codexgate.doctor.card import FEATURES, judge
from codexgate.doctor.reach import Answer
from codexgate.doctor.words import Asked
from codexgate.errors import Fault
from codexgate.settings import Settings
from codexgate.stores.sqlite_responses import Responses
from tests.causes.bench import patient
from tests.servers.certified import certified
from tests.servers.compatible import Compatible
from tests.servers.faulty import Faulty, Json, only_v1, tag
from tests.servers.faulty import ollama as good
from tests.servers.gateway import serving
from tests.servers.ollama import ScriptedOllama
from tests.support import run, unhurried

MODEL = "qwen3:8b"
FAULTS = ("no usage", "no index", "another schema", "a deaf model")


class Counting:
    """A way to a server that counts the requests on it; an asynchronous context manager."""

    def __init__(self, url: str) -> None:
        self.seen: list[bytes] = []
        self._to = int(url.rpartition(":")[2])

    async def __aenter__(self) -> "Counting":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, there = await asyncio.open_connection("127.0.0.1", self._to)

        async def back() -> None:
            while data := await theirs.read(65536):
                writer.write(data)
            writer.close()

        returning = asyncio.ensure_future(back())
        try:
            while data := await reader.read(65536):
                self.seen += [line for line in data.split(b"\r\n") if line.endswith(b" HTTP/1.1")]
                there.write(data)
        except ConnectionError:
            pass
        finally:
            there.transport.abort()
            writer.transport.abort()
            returning.cancel()
            await asyncio.gather(returning, return_exceptions=True)


@asynccontextmanager
async def gate(folder: Path) -> AsyncIterator[str]:
    async with serving(Demo(), kept=Responses(folder / "responses.db"), described=False) as url:
        yield url


@asynccontextmanager
async def ollama(_: Path) -> AsyncIterator[str]:
    async with ScriptedOllama() as server:
        yield server.url


@asynccontextmanager
async def with_embedders(_: Path) -> AsyncIterator[str]:
    """An Ollama in which many small embedding models are loaded."""
    names = [f"embed-{number}:latest" for number in range(9)]
    routes = good(dict.fromkeys(names, ("embedding",)))
    loaded = [{**tag(name), "context_length": 512} for name in names]
    async with Faulty({**routes, "/api/ps": {"models": loaded}}) as server:
        yield server.url


@asynccontextmanager
async def openai_only(_: Path) -> AsyncIterator[str]:
    async with Faulty(only_v1(MODEL)) as server:
        yield server.url


@asynccontextmanager
async def faulty(_: Path) -> AsyncIterator[str]:
    async with Compatible(*FAULTS) as server:
        yield server.url


@asynccontextmanager
async def compatible(_: Path) -> AsyncIterator[str]:
    async with Compatible() as server:
        yield server.url


SERVERS: tuple[Callable[[Path], AbstractAsyncContextManager[str]], ...] = (
    gate,
    ollama,
    with_embedders,
    openai_only,
    faulty,
    compatible,
)


@pytest.mark.parametrize("ending", ["", "/v1", "//v1/"])
@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.__name__)
def test_a_whole_run_sends_at_most_25_requests_and_none_twice(
    server: Callable[[Path], AbstractAsyncContextManager[str]], ending: str, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with server(tmp_path) as url, Counting(url) as way, Faulty(good()) as other:
            more = {"OLLAMA_HOST": other.url, "CODEXGATE_OLLAMA_URL": other.url}
            arguments = ("--json", "--url", way.url + ending, "--model", "", "--verbose")
            ran = await asyncio.to_thread(patient, tmp_path, *arguments, more=more)
            judged = json.loads(ran.stdout)["card"]
            assert judged["requests"] == len(way.seen) <= card_server.MOST == 25, way.seen
            assert [row["feature"] for row in judged["rows"]] == [*FEATURES]
            assert "were spent" not in str(judged["rows"]), "there is room for every question"
            for path in (b"/v1/models", b"/api/tags", b"/api/version"):
                assert way.seen.count(b"GET %s HTTP/1.1" % path) == 1
            assert other.seen == [], "only the server that was named"

    run(scenario())


def test_a_model_that_is_named_and_missing_is_asked_for_nowhere_else(tmp_path: Path) -> None:
    def show(_: Json) -> tuple[int, Json]:
        return 404, {"error": "not found"}

    async def scenario() -> None:
        async with Faulty({**good(), "/api/show": show}) as server:
            arguments = ("--json", "--url", server.url, "--model", "tiny:1b")
            ran = await asyncio.to_thread(patient, tmp_path, *arguments)
            report = json.loads(ran.stdout)
            ids = [row["id"] for row in report["checks"]]
            assert "ollama.model.installed" in ids and "ollama.registry" not in ids
            assert report["card"]["requests"] == len(server.seen) <= 25

    run(scenario())


def test_a_server_whose_tls_cannot_be_trusted_is_not_said_to_be_down(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with certified(None) as port:
            url = f"https://127.0.0.1:{port}"
            ran = await asyncio.to_thread(patient, tmp_path, "--json", "--url", url)
            rows = {row["id"]: row for row in json.loads(ran.stdout)["checks"]}
            assert "does not speak TLS" in rows["network.tls"]["summary"]
            told = rows["ollama.server"]
            command = f"codexgate doctor --url {url} --only network.tls"
            assert (told["status"], told["remedy"]["command"]) == ("fail", command)

    run(scenario())


def test_requests_of_the_checks_count_and_the_rest_of_a_card_says_why_it_is_missing() -> None:
    spent = {f"/{number}": Answer(404) for number in range(card_server.MOST - 2)}

    async def scenario() -> None:
        async with Compatible() as server:
            judged = await judge(server.url, heard=spent)
            assert (judged.requests, len(server.seen)) == (card_server.MOST, 2)
            assert "25 requests were spent before." in {row.evidence for row in judged.rows}

    run(scenario())


@pytest.mark.parametrize(
    ("answer", "key", "asked"),
    [
        (Answer(200, b'{"data": [{"id": "big"}]}'), "", 0),
        (Answer(401), "", 0),
        (Answer(401), "sk-key", 1),
        (Answer(fault=Fault("timeout", "late")), "", 1),
    ],
)
def test_what_was_heard_is_asked_again_only_where_more_time_or_a_key_may_help(
    answer: Answer, key: str, asked: int
) -> None:
    async def scenario() -> None:
        async with Compatible() as server:
            judging = card_server.Server(server.url, key, heard={"/v1/models": answer})
            assert (await judging.get("/v1/models")).status == (200 if asked else answer.status)
            assert (len(server.seen), judging.asked) == (asked, 1 + asked)
            await judging.aclose()

    run(scenario())


def test_in_one_run_a_server_is_asked_the_same_thing_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unhurried(monkeypatch, "doctor.reach.CONNECT", "doctor.reach.ANSWER")

    async def scenario() -> None:
        async with Faulty(good()) as server:
            given = Asked(Settings(), {}, tmp_path)
            asking = [reach.hear(given, server.url, "/api/tags") for _ in range(5)]
            answers = await asyncio.gather(
                *asking, reach.hear(given, server.url, "/api/show", {"model": MODEL})
            )
            assert len(server.seen) == 2 and {answer.status for answer in answers} == {200}
            assert [*reach.heard(given, server.url)] == ["/api/tags", '/api/show{"model":"qwen3:8b"}']
            await reach.hear(Asked(Settings(), {}, tmp_path), server.url, "/api/tags")
            assert len(server.seen) == 3, "another run asks anew"

    run(scenario())


def test_a_model_that_has_answered_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none does, the time of a card is over sooner; see `test_doctor.py`."""
    silent, events = 5.0, asyncio.Event()

    class Slow(Compatible):
        async def _chat(self, request):  # type: ignore[no-untyped-def]
            if (await request.json()).get("stream"):
                await events.wait()
            return await super()._chat(request)

    async def scenario() -> None:
        async with Slow() as server:
            asyncio.get_running_loop().call_later(silent + 0.1, events.set)
            judged = await judge(server.url, silent=silent)
            assert {row.feature: row.verdict for row in judged.rows}["stream"] == "yes"

    monkeypatch.setattr(card_agent, "PAUSES", (0.0, 0.05))
    run(scenario())
