"""The compatibility card: a good server has no `no`, every planted fault is found, and nothing goes too far."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from codexgate.backends.demo import Demo
from codexgate.doctor import card, card_agent, card_probes, card_server, target
from codexgate.doctor.card import FEATURES, Card, judge, lines
from codexgate.stores.sqlite_responses import Responses
from tests.servers.compatible import Compatible
from tests.servers.gateway import serving
from tests.servers.llama_cpp import llama_cpp
from tests.servers.ollama import ScriptedOllama
from tests.support import LIMIT, run, unhurried

PAGE = Path(__file__).parent.parent / "docs" / "doctor-card.md"
KEY = "sk-planted-secret"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who tests a deadline sets a short one."""
    unhurried(monkeypatch, "doctor.card_server.QUICK", "doctor.card_server.EACH")


FAULTS: dict[str, dict[str, str]] = {
    "no model list": {"models": "no"},
    "an empty model list": {"models": "partly"},
    "no stream": {
        "stream": "no",
        "usage chunk": "skipped",
        "terminal event": "skipped",
        "tool-call index and id": "no",
        "parallel tools": "no",
        "reasoning field": "skipped",
        "cancel reaches the model": "skipped",
    },
    "an error in the stream": {"stream": "no", "usage chunk": "skipped", "terminal event": "skipped"},
    "no finish reason": {"stream": "partly"},
    "no usage": {"usage chunk": "no"},
    "usage beside text": {"usage chunk": "partly"},
    "no [DONE]": {"terminal event": "no"},
    "no index": {"tool-call index and id": "no", "parallel tools": "no"},
    "no id": {"tool-call index and id": "no", "parallel tools": "no"},
    "arguments cut short": {"tool-call index and id": "partly"},
    "one index for all": {"parallel tools": "no"},
    "calls refused in a history": {"parallel tools": "no"},
    "text for a schema": {"json_schema enforced": "no"},
    "another schema": {"json_schema enforced": "partly"},
    "thoughts in the text": {"reasoning field": "no"},
    "no thoughts": {"reasoning field": "skipped"},
    "numbers for base64": {"base64 embeddings": "no"},
    "big-endian vectors": {"base64 embeddings": "no"},
    "comments": {"keepalive": "yes"},
    "silence": {"keepalive": "no"},
    "a deaf model": {"cancel reaches the model": "no"},
    "no metrics": {"cancel reaches the model": "skipped"},
    "any model is answered": {"error shape": "partly"},
    "a crash on bad JSON": {"error shape": "partly"},
    "errors as text": {"error shape": "no"},
    "no responses": {"Responses: stream": "no", "Responses: state": "skipped", "Responses: tools": "no"},
    "no response.created": {"Responses: stream": "no", "Responses: state": "skipped"},
    "no response.completed": {"Responses: stream": "partly", "Responses: state": "skipped"},
    "state passed over": {"Responses: state": "no"},
    "nothing is remembered": {"Responses: state": "no"},
    "a call without call_id": {"Responses: tools": "no"},
    "no tags": {"/api/tags": "no"},
    "empty tags": {"/api/tags": "partly"},
    "no version": {"/api/version": "no"},
    "an old version": {"/api/version": "partly"},
}
"""What each fault does to the verdicts of a good server; all others stay."""
GOOD = dict.fromkeys(FEATURES, "yes") | {"keepalive": "skipped"}


def verdicts(judged: Card) -> dict[str, str]:
    assert tuple(row.feature for row in judged.rows) == FEATURES
    assert all(row.evidence and row.evidence.isprintable() for row in judged.rows)
    assert judged.requests <= card_server.MOST == 25
    return {row.feature: row.verdict for row in judged.rows}


async def of(*faults: str, model: str = "", key: str = "") -> Card:
    async with Compatible(*faults) as server:
        judged = await judge(f"{server.url}/v1", model=model, key=key)
        assert judged.requests == len(server.seen)
        assert judged.url == server.url
        return judged


@asynccontextmanager
async def gate(folder: Path) -> AsyncIterator[str]:
    async with serving(Demo(), kept=Responses(folder / "responses.db"), described=False) as url:
        yield url


def test_a_good_server_has_every_feature() -> None:
    assert verdicts(run(of())) == GOOD


@pytest.mark.parametrize("fault", FAULTS)
def test_each_planted_fault_is_found_and_nothing_else(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card_probes, "DUE", 0.2 if fault == "silence" else 60)
    if fault == "a deaf model":
        monkeypatch.setattr(card_agent, "PAUSES", (0.0, 0.05))
    assert verdicts(run(of(fault))) == GOOD | FAULTS[fault]


def test_the_gate_has_no_no(tmp_path: Path) -> None:
    async def test() -> None:
        async with gate(tmp_path) as url:
            found = verdicts(await judge(url))
            # On a machine that is busy the demo's answer may be over before one can leave it.
            assert found.pop("cancel reaches the model") in ("yes", "skipped")
            expected = GOOD | {"parallel tools": "partly"}  # it makes one call at a time
            assert found == {feature: expected[feature] for feature in found}

    run(test())


def test_a_real_model_behind_llama_cpp_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "WHOLE", LIMIT / 2)
    with llama_cpp() as url:
        found = verdicts(run(judge(url, silent=LIMIT / 2)))
    assert found["models"] == found["chat"] == "yes"
    sure = ("stream", "usage chunk", "terminal event", "json_schema enforced", "cancel reaches the model")
    # A machine that is busy gives a part of a card.
    assert {found[feature] for feature in sure} <= {"yes", "skipped"}
    assert found["/api/tags"] in ("no", "partly") and found["/api/version"] == "no"


def test_an_ollama_without_openais_api_has_only_its_own() -> None:
    async def test() -> None:
        async with ScriptedOllama() as ollama:
            found = verdicts(await judge(ollama.url))
            assert {feature for feature, verdict in found.items() if verdict == "yes"} == {
                "/api/tags",
                "/api/version",
            }
            assert found["models"] == found["chat"] == "no"

    run(test())


def test_without_a_chat_nothing_of_it_is_asked() -> None:
    found = run(of("no chat"))
    assert verdicts(found)["chat"] == "no" and found.requests < 10
    assert [row.verdict for row in found.rows if row.feature.startswith("Responses")] == ["skipped"] * 3


def test_a_model_that_is_named_is_asked_and_one_that_is_not_listed_is_told() -> None:
    assert run(of(model="tiny")).model == "tiny"
    found = run(of("any model is answered", model="big"))
    assert (found.model, verdicts(found)["models"], verdicts(found)["chat"]) == ("big", "partly", "yes")


def test_a_model_too_slow_gives_a_part_of_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "WHOLE", 5.0)
    found = verdicts(run(of("a stall")))
    assert found["models"] == found["error shape"] == found["/api/tags"] == "yes"
    assert found["chat"] == found["stream"] == "skipped"


def test_an_answer_too_slow_is_no_fault_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card_server, "EACH", 0.2)
    assert verdicts(run(of("a stall")))["chat"] == "skipped"


@pytest.mark.parametrize("url", ["http://[", "ftp://x", "http://127.0.0.1:9", "http://a b", "http://h:99999"])
def test_where_nothing_answers_there_is_a_card_all_the_same(url: str) -> None:
    judged = run(judge(url))
    assert set(verdicts(judged).values()) <= {"no", "skipped"} and judged.requests <= 1


def test_no_address_is_ollamas_usual_one() -> None:
    assert card_server.Server("").where == target.DEFAULT


@pytest.mark.parametrize("login", [False, True], ids=["bearer", "basic"])
def test_the_key_is_sent_and_never_shown_though_the_server_repeats_it(login: bool) -> None:
    sent = base64.b64encode(f"user:{KEY}".encode()).decode() if login else KEY

    async def test() -> None:
        async with Compatible("the key in errors", "no chat") as server:
            url = server.url.replace("://", f"://user:{KEY}@") if login else server.url
            judged = await judge(url, key="" if login else KEY)
            assert server.keys == {f"{'Basic' if login else 'Bearer'} {sent}"}
            told = str(judged) + "".join(lines(judged))
            assert "out of order" in told and KEY not in told and sent not in told

    run(test())


@pytest.mark.parametrize(
    "answer",
    [
        b"[[[[",
        b"null",
        b"[]",
        b'{"data": {}, "choices": 3}',
        b"\x1b[31m\xff",
        b"[" * 100_000,
        b" " * (2 << 20),
    ],
    ids=["cut", "null", "list", "other shapes", "escapes", "deep", "large"],
)
def test_a_server_that_answers_nonsense_is_judged(answer: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(head + b"data: " + answer)
        writer.close()

    async def test() -> Card:
        async with await asyncio.start_server(nonsense, "127.0.0.1", 0) as server:
            return await judge(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", model="m")

    assert set(verdicts(run(test())).values()) <= {"no", "partly", "skipped"}


def test_the_table_fits_a_screen() -> None:
    for judged in (run(of()), run(judge("http://127.0.0.1:9"))):
        shown = lines(judged, 80)
        assert max(map(len, shown)) <= 80
        assert all(any(line.startswith(feature) for line in shown) for feature in FEATURES)


def test_the_page_shows_every_feature_of_four_servers() -> None:
    cards = re.findall(r"^## (.+?)\n.*?```text\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert len(cards) == 4
    for _, table in cards:
        found = [line[:26].strip() for line in table.splitlines() if line[:1].strip()]
        assert found == ["FEATURE", *FEATURES]
