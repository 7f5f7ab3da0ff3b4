"""Exchanges kept as Markdown files: whole, masked, well-formed, and never in the way of an answer."""

import asyncio
import json
import os
import stat
import time
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from codexgate.assemble import open_stages
from codexgate.chat import ChatRequest, Document, Image, Message, Part, StoredFile, Text, Tool, ToolCall
from codexgate.config import Secret
from codexgate.errors import Fault, GateError
from codexgate.events import (
    Citation,
    Done,
    Event,
    Failed,
    FileChange,
    Notice,
    Retrieved,
    TextDelta,
    ThreadStarted,
    ToolEvent,
    Usage,
)
from codexgate.gate import Gate
from codexgate.settings import ServerOptions, Settings
from codexgate.stages import artifacts
from codexgate.stages.artifacts import ArtifactOptions, Artifacts
from codexgate.stages.exchange import MASK, SECTION, Exchange, masking
from tests.servers.gateway import client, serving
from tests.servers.scripted import Scripted
from tests.support import run

CHAT = "/v1/chat/completions"
BEGAN = datetime(2026, 1, 31, 12, 1, 2, 345678, UTC)
QUESTION = (Message("user", (Text("why?"),)),)


# How a file looks


def exchange(*events: Event, messages: Sequence[Message] = QUESTION, **fields: Any) -> Exchange:
    request = ChatRequest("m", tuple(messages), id="chatcmpl-1", **fields)
    watched = Exchange(request, "qwen3:8b", "ollama", BEGAN)
    for event in events:
        watched.feed(event)
    return watched


def rendered(*events: Event, secrets: Sequence[str] = (), **fields: Any) -> str:
    return exchange(*events, **fields).render(masking(secrets))


def fences(markdown: str) -> dict[str, str]:
    """What stands in the fence under each heading, by CommonMark's rules."""
    blocks: dict[str, str] = {}
    title = ""
    parsed = MarkdownIt().parse(markdown)
    for at, token in enumerate(parsed):
        if token.type == "heading_open":
            title = parsed[at + 1].content
        elif token.type == "fence":
            assert title not in blocks, "a second fence under one heading: the first was closed"
            blocks[title] = token.content
    return blocks


def headings(markdown: str) -> list[str]:
    parsed = MarkdownIt().parse(markdown)
    return [parsed[at + 1].content for at, token in enumerate(parsed) if token.type == "heading_open"]


WHOLE = (
    Retrieved((Citation("m1", "work", "notes.md"),), 9, "--- Context ---\n> Bonn\n--- End of context ---"),
    ThreadStarted("thread-7", 2),
    Notice("retry", "once more"),
    ToolEvent("a", "command", "started", "ls"),
    ToolEvent("a", "command", "output", "one\n"),
    ToolEvent("a", "command", "finished", "two", ok=False),
    FileChange("x.py", "+1", "add"),
    TextDelta("I look. ", "first"),
    TextDelta("It is ", "second"),
    TextDelta("Bonn.", "second"),
    ToolEvent("b", "find", "started", runs_on="client"),
    ToolEvent("b", "find", "arguments", '{"q":', runs_on="client"),
    ToolEvent("b", "find", "arguments", "1}", runs_on="client"),
    ToolEvent("b", "find", "finished", runs_on="client"),
    Usage(12, 34, 5, 3),
    Done("tool_calls"),
)


def test_an_exchange_is_told_whole() -> None:
    text = rendered(*WHOLE, effort="high", tools=(Tool("find"),))
    assert headings(text) == [
        "Exchange `chatcmpl-1`", "Request", "Context", "Tool calls", "Answer", "Usage",
    ]  # fmt: skip
    for fact in (
        "- began: 2026-01-31 12:01:02 UTC",
        "- response: `chatcmpl-1`",
        "- model: `qwen3:8b`",
        "- backend: `ollama`",
        "- thread: `thread-7`",
        "- ended: tool_calls",
        "- notice: `once more`",
        "- memory: `work/m1`, `notes.md`",
        "12 tokens in, 3 of them cached; 34 out, 5 of them reasoning",
    ):
        assert f"{fact}\n" in text
    blocks = fences(text)
    assert json.loads(blocks["Request"]) == {
        "model": "m",
        "tools": ["find"],
        "effort": "high",
        "messages": [{"role": "user", "content": "why?"}],
    }
    assert blocks["Context"] == "--- Context ---\n> Bonn\n--- End of context ---\n"
    assert json.loads(blocks["Tool calls"]) == [
        {"name": "command", "runs_on": "backend", "arguments": "ls", "output": "one\ntwo", "ended": "badly"},
        {"name": "file add", "runs_on": "backend", "arguments": "x.py", "output": "+1"},
        {"name": "find", "runs_on": "client", "arguments": '{"q":1}', "ended": "well"},
    ]
    assert blocks["Answer"] == "I look. \n\nIt is Bonn.\n"


def test_pictures_and_files_are_told_by_their_size() -> None:
    parts: tuple[Part, ...] = (
        Text("see"),
        Image("image/png", "AAAA" * 100),
        Document("a.pdf", "application/pdf", "AA=="),
        StoredFile("file-1"),
    )
    blocks = fences(rendered(Done("stop"), messages=[Message("user", parts)]))
    assert json.loads(blocks["Request"])["messages"][0]["content"] == [
        {"type": "text", "text": "see"},
        {"type": "image", "media_type": "image/png", "bytes": 300},
        {"type": "file", "name": "a.pdf", "bytes": 1},
        {"type": "file", "id": "file-1"},
    ]


ENDS: dict[str, tuple[str, Exchange]] = {
    "well": ("- ended: stop", exchange(Done("stop"))),
    "cut": ("- ended: length", exchange(Done("length"))),
    "badly": (
        "- ended: failed: `It broke. Mend it.`",
        exchange(Failed(Fault("upstream", "It broke.", "Mend it."))),
    ),
    "left": ("- ended: cancelled: the caller left", exchange(TextDelta("half"))),
}


@pytest.mark.parametrize(("told", "watched"), ENDS.values(), ids=ENDS.keys())
def test_how_it_ended_is_told(told: str, watched: Exchange) -> None:
    assert f"{told}\n" in watched.render(masking(()))


HOSTILE = {
    "closes its fence": "```\n# Exchange `forged`\n\n```sh\nrm -rf /\n```",
    "closes a longer one": "`````\n~~~\n````````\n# no\n",
    "only back-ticks": "`" * 400,
    "an open fence": "````python\nx",
    "HTML and links": "<script>alert(1)</script> [x](javascript:alert(1))",
    "line ends of all kinds": "a\r```\rb\r\n```\r\nc\u2028```\u2029d\x85```",
    "controls": "\x1b]0;owned\x07\x00\x9b31m```",
    "a lone surrogate": "\udc80 ```",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_no_text_gets_out_of_its_fence(text: str) -> None:
    named = text.replace("\n", " ")
    markdown = rendered(
        Retrieved((Citation(named, text, text),), 1, text),
        ThreadStarted(text),
        Notice("warning", text),
        ToolEvent("a", text, "started", text),
        ToolEvent("a", text, "finished", text),
        FileChange(text, text, "add"),
        TextDelta(text),
        Failed(Fault("upstream", text)),
        messages=[Message("user", (Text(text),), text, (ToolCall(text, text, text),), text)]
        if text.isprintable()
        else [Message("user", (Text(text),))],
        effort=text,
    )
    titles = ["Exchange `chatcmpl-1`", "Request", "Context", "Tool calls", "Answer", "Usage"]
    assert headings(markdown) == titles
    assert list(fences(markdown)) == ["Request", "Context", "Tool calls", "Answer"]
    assert "<script>" not in MarkdownIt().render(markdown)
    assert not [char for char in markdown if char < " " and char != "\n"]


SECRETS = {
    "a bearer token": ("Authorization: Bearer abc.def-123", "abc.def-123"),
    "an OpenAI key": ("key sk-proj-AbCdEf0123456789_x", "sk-proj-AbCdEf0123456789_x"),
    "a key of another gate": ("cg-0123456789abcdefABCDEF", "cg-0123456789abcdefABCDEF"),
    "a GitHub token": ("ghp_0123456789abcdefABCDEF", "ghp_0123456789abcdefABCDEF"),
    "an assignment": ('api_key="hunter22"', "hunter22"),
    "a JWT": ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc_def", "eyJzdWIiOiIxIn0"),
    "the gate's own key": ('it is my "own" key', 'my "own" key'),
}


@pytest.mark.parametrize(("text", "secret"), SECRETS.values(), ids=SECRETS.keys())
def test_keys_are_masked_wherever_they_stand(text: str, secret: str) -> None:
    half = len(text) // 2
    watched = exchange(
        Retrieved((Citation(text, text, text),), 1, text),
        Notice("warning", text),
        ToolEvent("a", "command", "started", text),
        ToolEvent("a", "command", "output", text[:half]),
        ToolEvent("a", "command", "finished", text[half:]),
        TextDelta(text[:half]),
        TextDelta(text[half:]),
        Failed(Fault("upstream", text)),
        messages=[Message("user", (Text(text),), text, (ToolCall("c", "f", json.dumps({"k": text})),))],
    )
    mask = masking(['my "own" key'])
    within = json.dumps(secret)[1:-1]  # as JSON writes it, and JSON in which JSON is a text
    for written in (watched.render(mask), watched.line("x.md", mask)):
        assert not [form for form in (secret, within, json.dumps(within)[1:-1]) if form in written]
        assert MASK in written


def test_a_key_is_not_hidden_by_control_characters() -> None:
    assert "0123" not in rendered(TextDelta("s\x1b[1mk-AbCdEf0123456789"), Done("stop"))


def test_a_key_at_the_cut_is_masked_whole() -> None:
    key = "sk-" + "k" * 60
    text = rendered(TextDelta("x " * (SECTION // 2 - 10)), TextDelta(key + " y" * SECTION), Done("stop"))
    assert "kkkk" not in text


def test_a_text_that_is_nearly_all_keys_takes_no_longer_than_others() -> None:
    text = "eyJ-" * 10**5 + "sk-" * 10**5 + 'api_key="' * 10**5
    assert "eyJ-eyJ" in masking(["secret"])(text)


def test_long_sections_are_cut_and_say_so() -> None:
    many = [Message("user", (Text(f"{at} " + "x" * 1000),)) for at in range(1000)]
    parts = Message("user", tuple(Text("y" * 1000) for _ in range(1000)))
    text = rendered(
        ToolEvent("a", "command", "started", "z" * 10**6),
        TextDelta("w" * 10**6),
        Done("stop"),
        messages=[*many, parts, Message("user", (Text("v" * 10**6),)), QUESTION[0]],
    )
    assert len(text) < 5 * SECTION
    assert text.count("(1000000 characters in all)") == 3
    request = json.loads(fences(text)["Request"])["messages"]
    assert request[-1]["content"] == "why?" and request[0] == "(1001 earlier messages are left out)"
    (alone,) = json.loads(fences(rendered(messages=[parts]))["Request"])["messages"]
    assert alone["content"][-1] == "(more is left out)" and len(alone["content"]) < 110


# Keeping them


def files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.name != artifacts.INDEX)


async def ask(url: str, **fields: Any) -> dict[str, Any]:
    body = {"model": "scripted", "messages": [{"role": "user", "content": "why?"}], **fields}
    async with client(url) as session, session.post(CHAT, json=body) as answer:
        text = await answer.text()
        read: dict[str, Any] = {} if fields.get("stream") else json.loads(text)
        return read


ANSWER = (TextDelta("because"), Usage(1, 2), Done("stop"))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_an_exchange_over_http_is_kept_under_its_response_id(tmp_path: Path, stream: bool) -> None:
    folder = tmp_path / "deep" / "artifacts"

    async def scenario() -> dict[str, Any]:
        stage = Artifacts(folder)
        async with serving(Scripted(*ANSWER), stages=[stage]) as url:
            answer = await ask(url, stream=stream)
        await stage.aclose()
        return answer

    answer = run(scenario())
    (file,) = files(folder)
    text = file.read_text("utf-8")
    id = file.stem.rpartition("-")[0][-8:] + "-" + file.stem.rpartition("-")[2]
    assert id.startswith("chatcmpl-") and f"- response: `{id}`" in text
    assert stream or answer["id"] == id
    assert fences(text)["Answer"] == "because\n" and "1 tokens in; 2 out\n" in text
    index = (folder / "index.md").read_text("utf-8")
    assert f"]({file.name}) `scripted` of `scripted`, stop: `why?`\n" in index
    assert index.count("\n") == 1
    if os.name == "posix":
        modes = {stat.S_IMODE(one.stat().st_mode) for one in folder.iterdir()}
        assert modes == {0o600} and stat.S_IMODE(folder.stat().st_mode) == 0o700


def gate_with(stage: Artifacts, *steps: Any) -> Gate:
    return Gate([Scripted(*steps)], stages=[stage], strict=True)


def asking(**fields: Any) -> ChatRequest:
    return ChatRequest("scripted", QUESTION, **fields)


def test_exchanges_of_one_instant_and_one_id_do_not_collide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_770_000_000_000_000_000)

    async def scenario() -> None:
        gates = [
            gate_with(stage := Artifacts(tmp_path), *ANSWER),
            gate_with(other := Artifacts(tmp_path), *ANSWER),
        ]

        async def one(gate: Gate, id: str) -> None:
            async for _ in gate.stream(await gate.route(asking(id=id))):
                pass

        ids = ["a", "a", "", "", "../../etc/x"]
        await asyncio.gather(
            *(one(gate, f"{id}{at}" if id else "") for at, gate in enumerate(gates) for id in ids)
        )
        await stage.aclose()
        await other.aclose()

    run(scenario())
    assert len(files(tmp_path)) == 10
    index = (tmp_path / "index.md").read_text("utf-8").splitlines()
    assert len(index) == 10
    assert sorted(line.partition("](")[2].partition(")")[0] for line in index) == [
        file.name for file in files(tmp_path)
    ]
    assert all(file.name.startswith("20260202-024") for file in files(tmp_path))


def test_names_sort_by_time_though_the_clock_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([2_000_000_000, 1_000_000_000, 3_000_000_000])
    monkeypatch.setattr(time, "time_ns", lambda: next(times))

    async def scenario() -> None:
        gate = gate_with(stage := Artifacts(tmp_path), *ANSWER)
        for id in ("z", "y", "x"):
            async for _ in gate.stream(await gate.route(asking(id=id))):
                pass
        await stage.aclose()

    run(scenario())
    assert [file.stem[-1] for file in files(tmp_path)] == ["z", "y", "x"]


class Raising(Scripted):
    def stream(self, request: ChatRequest) -> Any:
        async def failing() -> Any:
            yield [TextDelta("half")]
            raise GateError(Fault("timeout", "Too late."))

        return failing()


BROKEN: dict[str, tuple[Scripted, str]] = {
    "a failure": (Scripted(TextDelta("half"), Failed(Fault("upstream", "It broke."))), "failed: `It broke.`"),
    "a refusal": (Scripted(Failed(Fault("not_found", "Gone."))), "failed: `Gone.`"),
    "an exception": (Raising(), "failed: `Too late.`"),
    "no end": (Scripted(TextDelta("half")), "failed: `The backend stopped in the middle of its answer.`"),
}


@pytest.mark.parametrize(("backend", "told"), BROKEN.values(), ids=BROKEN.keys())
def test_answers_that_failed_are_kept_and_said_so(tmp_path: Path, backend: Scripted, told: str) -> None:
    async def scenario() -> None:
        stage = Artifacts(tmp_path)
        async with serving(backend, stages=[stage]) as url:
            await ask(url)
        await stage.aclose()

    run(scenario())
    (file,) = files(tmp_path)
    assert f"- ended: {told}\n" in file.read_text("utf-8")
    assert f", {told}:" in (tmp_path / "index.md").read_text("utf-8")


def test_an_answer_that_its_caller_left_is_kept_and_said_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        backend = Scripted(TextDelta("half"), asyncio.Event(), Done("stop"))
        stage = Artifacts(tmp_path)
        async with serving(backend, stages=[stage]) as url:
            leaving = asyncio.create_task(ask(url, stream=True))
            await backend.begun.wait()
            leaving.cancel()
            await backend.left.wait()
        await stage.aclose()

    run(scenario())
    (file,) = files(tmp_path)
    text = file.read_text("utf-8")
    assert "- ended: cancelled: the caller left\n" in text and fences(text)["Answer"] == "half\n"


def test_the_end_of_an_answer_does_not_wait_for_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        go = asyncio.Event()

        async def held(*_: object) -> None:
            await go.wait()

        monkeypatch.setattr(asyncio, "to_thread", held)
        stage = Artifacts(tmp_path)
        gate = gate_with(stage, *ANSWER)
        async with aclosing(gate.stream(await gate.route(asking()))) as batches:
            events = [event async for batch in batches for event in batch]
        assert events[-1] == Done("stop")
        closing = asyncio.create_task(stage.aclose())
        await asyncio.sleep(0)
        assert not closing.done()
        go.set()
        await closing

    run(scenario())


def test_a_folder_that_cannot_be_written_is_one_line_in_the_log_and_no_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "artifacts"
    folder.write_text("a file is in the way")

    async def scenario() -> None:
        stage = Artifacts(folder)
        async with serving(Scripted(*ANSWER), stages=[stage]) as url:
            for _ in range(3):
                assert (await ask(url))["choices"][0]["message"]["content"] == "because"
            await stage.aclose()
            folder.unlink()
            for _ in range(2):
                await ask(url)
        await stage.aclose()

    with caplog.at_level("INFO", "codexgate.stages.artifacts"):
        run(scenario())
    assert [record.message for record in caplog.records] == ["artifacts.down", "artifacts.up"]
    assert len(files(folder)) == 2


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="the system cannot refuse a link")
def test_an_index_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("mine")
    folder = tmp_path / "artifacts"
    folder.mkdir()
    (folder / "index.md").symlink_to(target)

    async def scenario() -> None:
        gate = gate_with(stage := Artifacts(folder), *ANSWER)
        async for _ in gate.stream(await gate.route(asking())):
            pass
        await stage.aclose()

    run(scenario())
    assert target.read_text() == "mine"


def test_the_settings_make_it_and_every_secret_in_them_is_masked(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path,
        artifacts=ArtifactOptions(dir=tmp_path / "a"),
        server=ServerOptions(api_key=Secret("my-own-secret")),
    )

    async def scenario() -> None:
        async with open_stages(settings) as stages:
            gate = Gate(
                [Scripted(TextDelta("it is my-own-secret"), Done("stop"))], stages=stages, strict=True
            )
            async for _ in gate.stream(await gate.route(asking())):
                pass

    run(scenario())
    (file,) = files(tmp_path / "a")
    assert fences(file.read_text("utf-8"))["Answer"] == f"it is {MASK}\n"
    assert Settings().artifacts.dir is None
