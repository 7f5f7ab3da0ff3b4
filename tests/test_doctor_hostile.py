"""The doctor against servers that mean ill, or do not know what they do: it ends, it tells, it shows no trick."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from codexgate.backends.ollama import OllamaOptions
from codexgate.dialects.ollama import models as catalog
from codexgate.doctor import card, card_server, network, ollama, oss, reach, run, system
from codexgate.doctor.words import Asked, Check, Row
from codexgate.settings import Settings
from tests.causes.bench import DEADLINES
from tests.servers.faulty import Faulty, only_v1, tag
from tests.servers.faulty import ollama as good
from tests.support import UNHURRIED, unhurried
from tests.support import run as bounded

MODEL = "qwen3:8b"


@pytest.fixture(autouse=True)
def time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who tests a deadline sets a short one."""
    unhurried(monkeypatch, *DEADLINES)


TRICK = "\x1b]0;pwned\x07\x1b[31m\u202eevil\n✓ system.key  All is well.\r"

Send = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def raw(send: Send) -> AsyncIterator[str]:
    """A server that writes as it likes, whatever it is asked."""
    opened: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.add(writer)
        try:
            await reader.readuntil(b"\r\n\r\n")
            await send(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            opened.discard(writer)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in opened:
            writer.transport.abort()
        await server.wait_closed()


def again(piece: bytes, first: bytes, pause: float = 0.0) -> Send:
    """`first`, and then `piece` for ever."""

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)

    return send


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
LATE = "did not answer in time"
ENDLESS = {
    "a byte now and then": (
        again(b" ", HEAD + b"Content-Length: 99999\r\n\r\n", 0.02),
        LATE,
    ),
    "a header now and then": (again(b"X: y\r\n", HEAD, 0.02), LATE),
    "a body without an end": (again(b"data: {}\n\n" * 999, HEAD + b"\r\n"), "answered with more than"),
    "a head without an end": (again(b"X: y\r\n" * 999, HEAD), "answered with an endless head"),
}


def asked(home: Path, url: str, model: str = MODEL, **more: Any) -> Asked:
    settings = Settings(ollama=OllamaOptions(url=url))
    return Asked(settings, {"PATH": str(home), **more}, home, model)


async def look(given: Asked, *checks: Check) -> dict[str, Row]:
    """What these checks tell; each ends by itself, or is told as late after `UNHURRIED` seconds."""
    among = [
        msgspec.structs.replace(check, deadline=UNHURRIED)
        for check in checks or (*ollama.CHECKS, *oss.CHECKS)
    ]
    found = [each async for each in run.examine(given, among=among, whole=UNHURRIED)]
    return {each.row.id: each.row for each in found}


@pytest.mark.parametrize("kind", ENDLESS)
def test_an_answer_without_an_end_is_told_for_what_it_is(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, says = ENDLESS[kind]
    if says == LATE:
        monkeypatch.setattr(reach, "CONNECT", 0.8)
        monkeypatch.setattr(reach, "ANSWER", 0.3)
    monkeypatch.setattr(reach, "LARGEST", 100_000)

    async def scenario() -> dict[str, Row]:
        async with raw(send) as url:
            return await look(asked(tmp_path, url), *ollama.CHECKS, *oss.CHECKS, *system.CHECKS)

    rows = bounded(scenario())
    assert rows["ollama.server"].status == "fail" and says in rows["ollama.server"].summary
    assert not [row for row in rows.values() if "did not end within" in row.summary]


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_card_of_an_answer_without_an_end_ends(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card_server, "QUICK", 0.2)
    monkeypatch.setattr(card_server, "EACH", 0.2)

    async def scenario() -> card.Card:
        async with raw(ENDLESS[kind][0]) as url:
            return await card.judge(url, model=MODEL)

    judged = bounded(scenario())
    assert {row.verdict for row in judged.rows} <= {"no", "skipped"}


def test_a_server_that_leaves_two_questions_unanswered_is_asked_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(card_server, "QUICK", 0.05)

    async def hang(_: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async def scenario() -> card.Card:
        async with raw(hang) as url:
            return await card.judge(url, model=MODEL)

    judged = bounded(scenario())
    assert (judged.requests, {row.verdict for row in judged.rows}) == (card.HUNG, {"skipped"})
    assert {row.evidence for row in judged.rows} == {"There was no whole answer within 0 s."}


ODD: dict[str, dict[str, Any]] = {
    "a version of thousands of digits": {"/api/version": {"version": f"{'9' * 5000}.1.1"}},
    "sizes that are words": {
        "/api/ps": {"models": [{**tag(MODEL), "size": "10", "size_vram": 5, "context_length": 1}]}
    },
    "a window of thousands of digits": {
        "/api/show": (
            b'{"capabilities": ["completion", "tools"], "model_info": {"x.context_length": %s}}'
            % (b"9" * 5000)
        )
    },
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_values_spoil_no_row(kind: str, tmp_path: Path) -> None:
    async def scenario() -> dict[str, Row]:
        async with Faulty({**good(), **ODD[kind]}) as server:
            return await look(asked(tmp_path, server.url))

    rows = bounded(scenario())
    assert "itself failed" not in "".join(row.summary for row in rows.values())
    assert rows["ollama.model.installed"].status == "ok"
    assert max(len(row.summary) for row in rows.values()) < 500


def test_a_window_of_thousands_of_digits_is_not_known() -> None:
    for digits, context in ((b"40960", 40960), (b"9" * 5000, 0), (b"-1", 0), (b'"x"', 0)):
        assert catalog.show(b'{"model_info": {"x.context_length": %s}}' % digits).context == context


def test_of_a_list_without_an_end_a_row_shows_the_beginning(tmp_path: Path) -> None:
    async def scenario() -> dict[str, Row]:
        async with Faulty(
            {**good(), "/api/tags": {"models": [tag(f"m{n}") for n in range(9_000)]}}
        ) as server:
            return await look(asked(tmp_path, server.url, HTTPS_PROXY="http://proxy.invalid:1"))

    row = bounded(scenario())["ollama.model.installed"]
    assert len(json.dumps(row.details)) < 5_000 and row.details["installed"][-1] == "… and 8950 more"


def test_what_is_cut_is_masked_before(tmp_path: Path) -> None:
    secret = "pl4nted-" + "s" * 60

    async def say(_: Asked) -> list[Row]:
        text = "x" * (run.LONGEST // 2 - 20) + secret + "y" * run.LONGEST
        return [Row("a.say", "gate", "fail", text, details={"said": text, "list": [text]})]

    given = Asked(Settings(), {"SOME_TOKEN": secret}, tmp_path)
    row = bounded(look(given, Check(("a.say",), "gate", say)))["a.say"]
    assert "pl4" not in json.dumps([row.summary, row.details])


def test_words_of_a_server_do_nothing_to_a_terminal() -> None:
    listed = {"/v1/models": {"data": [{"id": TRICK}]}, "/api/tags": {"models": [tag(TRICK)]}}

    async def scenario() -> card.Card:
        async with Faulty({**listed, "/api/version": {"version": TRICK}}) as server:
            return await card.judge(server.url)

    shown = card.lines(bounded(scenario()))
    assert all(line.isprintable() for line in shown)
    assert not [line for line in shown if line.startswith("✓")]


def test_a_card_hides_what_its_caller_hides_before_it_cuts() -> None:
    home = "/home/frida/models"

    def refused(_: Any) -> tuple[int, dict[str, Any]]:
        return 404, {"error": {"message": f"{'x' * (card_server.QUOTE - 8)} {home}"}}

    async def scenario() -> card.Card:
        async with Faulty({**only_v1(MODEL), "/v1/chat/completions": refused}) as server:
            return await card.judge(server.url, hide=lambda text: text.replace(home, "~"))

    assert "/hom" not in str(bounded(scenario()))


PAGE = b"<html>Welcome</html>"
NOT_SERVERS: dict[str, dict[str, Any]] = {
    "a page for every path": {"/v1/models": PAGE, "/api/tags": PAGE},
    "JSON of another kind": {"/v1/models": {"hello": 1}, "/api/tags": {"hello": 1}},
    "a list at one of them": {"/v1/models": [1], "/api/tags": 404},
}


@pytest.mark.parametrize("kind", NOT_SERVERS)
def test_what_lists_no_models_is_not_taken_for_a_server_of_openais_api(kind: str, tmp_path: Path) -> None:
    async def scenario() -> tuple[dict[str, Row], card.Card]:
        async with Faulty(NOT_SERVERS[kind]) as server:
            given = Asked(Settings(), {}, tmp_path, MODEL, f"{server.url}/v1")
            return await look(given), await card.judge(server.url, model=MODEL)

    rows, judged = bounded(scenario())
    row = rows["ollama.pull.shim"]
    assert row.status == "fail" and "lists no models" in row.summary and "/api/tags alone" not in row.why
    assert "ollama.base_url" not in rows
    assert next(each.verdict for each in judged.rows if each.feature == "models") == "no"


def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    async def scenario() -> tuple[dict[str, Row], list[str]]:
        async with Faulty(good()) as aim:

            async def send(writer: asyncio.StreamWriter) -> None:
                writer.write(f"HTTP/1.1 302 X\r\nLocation: {aim.url}\r\nContent-Length: 0\r\n\r\n".encode())

            async with raw(send) as url:
                given = Asked(Settings(), {}, tmp_path, MODEL, url)
                await card.judge(url)
                return await look(given), aim.seen

    rows, seen = bounded(scenario())
    assert re.search(r"\(302\).*\(302\)", rows["ollama.pull.shim"].summary) and seen == []


NONSENSE = (
    *("::::", "http://[::::]", "https://[::::]:1/v1", "http://[", "]", "@", "%", "x://y://z", "ftp://h"),
    *("http://h:port", "http://127.0.0.1:99999", "127.0.0.1:9\n", "http://a b", "http://é", "http://a..b"),
    f"http://h:{'9' * 5000}",
)


@pytest.mark.parametrize("url", NONSENSE, ids=lambda url: ascii(url[:20]))
def test_an_address_that_is_none_gets_rows_and_a_card(url: str, tmp_path: Path) -> None:
    async def scenario() -> tuple[dict[str, Row], card.Card]:
        given = Asked(Settings(), {"PATH": str(tmp_path)}, tmp_path, MODEL, url)
        return await look(given, *ollama.CHECKS, *oss.CHECKS, *network.CHECKS), await card.judge(url)

    rows, judged = bounded(scenario())
    assert "itself failed" not in "".join(row.summary for row in rows.values())
    assert rows["ollama.server"].status == "fail"
    assert {row.verdict for row in judged.rows} <= {"no", "skipped"}
