"""Ollama's API: what is read, what is refused, what is written; over HTTP what clients do not show."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import msgspec
import pytest

from codexgate.backends.demo import Demo, DemoOptions
from codexgate.backends.ollama import Ollama, OllamaOptions
from codexgate.chat import ChatRequest, Format, Image, Message, Sampling, Text, Tool, ToolCall
from codexgate.errors import Fault, GateError
from codexgate.events import (
    Commentary,
    Done,
    Event,
    Failed,
    Logprob,
    Notice,
    ReasoningDelta,
    TextDelta,
    ToolEvent,
    Usage,
)
from codexgate.fold import fold
from codexgate.fronts import ollama_api, ollama_api_request
from codexgate.fronts.ollama_api import Clock, Encoder, Watch
from codexgate.fronts.ollama_api_request import Named, Parsed
from codexgate.records import Embeddings, Model, Progress
from codexgate.server import guard, reply
from codexgate.server.app import Listen
from tests.servers.gateway import client, serving
from tests.servers.ollama import Cut, ScriptedOllama
from tests.servers.scripted import Installing, Scripted
from tests.support import run

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(32)).decode()
HELLO: list[dict[str, Any]] = [{"role": "user", "content": "hello"}]
SAID = (Message("user", (Text("hello"),)),)


# What is read


def read(**body: object) -> Parsed:
    return ollama_api_request.parse_chat(msgspec.json.encode({"model": "m", "messages": HELLO, **body}))


def read_text(**body: object) -> Parsed:
    return ollama_api_request.parse_generate(msgspec.json.encode({"model": "m", "prompt": "hello", **body}))


def test_a_chat_streams_unless_it_says_otherwise() -> None:
    assert read().request == ChatRequest("m", SAID)
    assert (read().stream, read(stream=None).stream, read(stream=False).stream) == (True, True, False)


ASKED: dict[str, tuple[dict[str, object], ChatRequest]] = {
    "sampling": (
        {
            "options": {
                "temperature": 0,
                "top_p": 0.5,
                "seed": 7.9,
                "stop": ["a"],
                "num_predict": 5,
                "presence_penalty": 1,
                "frequency_penalty": None,
            }
        },
        ChatRequest(
            "m",
            SAID,
            sampling=Sampling(0.0, 0.5, 7, 1.0, max_tokens=5, stop=("a",)),
        ),
    ),
    "as long as it takes": ({"options": {"num_predict": -1}}, ChatRequest("m", SAID)),
    "until the window is full": ({"options": {"num_predict": -2}}, ChatRequest("m", SAID)),
    "likelihoods": (
        {"logprobs": True, "top_logprobs": 2},
        ChatRequest("m", SAID, sampling=Sampling(logprobs=True, top_logprobs=2)),
    ),
    "JSON": ({"format": "json"}, ChatRequest("m", SAID, format=Format("json"))),
    "a schema": ({"format": {"type": "object"}}, ChatRequest("m", SAID, format=Format("schema", {"type": "object"}))),
    "no format": ({"format": ""}, ChatRequest("m", SAID)),
    "thinking": ({"think": True}, ChatRequest("m", SAID, effort="medium")),
    "no thinking": ({"think": False}, ChatRequest("m", SAID, effort="none")),
    "some thinking": ({"think": "low"}, ChatRequest("m", SAID, effort="low")),
    "all thinking": ({"think": "max"}, ChatRequest("m", SAID, effort="xhigh")),
    "tools": (
        {
            "tools": [
                {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}},
                {"function": {"name": "g"}},
            ]
        },
        ChatRequest("m", SAID, tools=(Tool("f", "d", {"type": "object"}), Tool("g"))),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("body", "expected"), ASKED.values(), ids=ASKED.keys())
def test_what_a_chat_asks(body: dict[str, object], expected: ChatRequest) -> None:
    assert read(**body).request == expected


def test_ollamas_own_options_are_kept_apart_and_the_rest_is_named() -> None:
    asked = read(options={"num_ctx": 8192, "top_k": 1, "seed": 3}, keep_alive="10m", truncate=True, x=1)
    assert asked.options == {"num_ctx": 8192, "top_k": 1, "keep_alive": "10m"}
    assert asked.unknown == ("x",)


CONVERSATION: list[tuple[dict[str, Any], Message]] = [
    ({"role": "SYSTEM", "content": "s"}, Message("system", (Text("s"),))),
    ({"role": "user", "content": "u", "images": [PNG]}, Message("user", (Text("u"), Image("image/png", PNG)))),
    (
        {
            "role": "assistant",
            "thinking": "t",
            "tool_calls": [
                {"function": {"name": "f", "arguments": {"a": 1}}},
                {"function": {"name": "g", "arguments": {}}},
                {"id": "theirs", "function": {"name": "f"}},
            ],
        },
        Message(
            "assistant",
            tool_calls=(
                ToolCall("call_2_0", "f", '{"a":1}'),
                ToolCall("call_2_1", "g", "{}"),
                ToolCall("theirs", "f", "{}"),
            ),
            reasoning="t",
        ),
    ),
    ({"role": "tool", "tool_name": "g", "content": "2"}, Message("tool", (Text("2"),), "g", (), "call_2_1")),
    ({"role": "tool", "tool_call_id": "theirs", "content": "3"}, Message("tool", (Text("3"),), "f", (), "theirs")),
    ({"role": "tool", "content": "1"}, Message("tool", (Text("1"),), "f", (), "call_2_0")),
    ({"role": "tool", "tool_name": "h", "content": "?"}, Message("tool", (Text("?"),), "h", (), "h")),
]  # fmt: skip


def test_a_conversation_keeps_its_calls_and_what_answers_them() -> None:
    told = [told for told, _ in CONVERSATION]
    assert read(messages=told).request.messages == tuple(expected for _, expected in CONVERSATION)


TEXTS: dict[str, tuple[dict[str, object], ChatRequest]] = {
    "a chat of one message": ({}, ChatRequest("m", SAID)),
    "with a system message": (
        {"system": "s", "template": "", "context": []},
        ChatRequest("m", (Message("system", (Text("s"),)), *SAID)),
    ),
    "with a picture": (
        {"images": [PNG]},
        ChatRequest("m", (Message("user", (Text("hello"), Image("image/png", PNG))),)),
    ),
    "as it is": ({"raw": True}, ChatRequest("m", SAID, raw=True)),
    "before a suffix": ({"suffix": "end"}, ChatRequest("m", SAID, raw=True, suffix="end")),
    "nothing": ({"prompt": ""}, ChatRequest("m", ())),
}


@pytest.mark.parametrize(("body", "expected"), TEXTS.values(), ids=TEXTS.keys())
def test_what_a_text_asks(body: dict[str, object], expected: ChatRequest) -> None:
    assert read_text(**body).request == expected


@pytest.mark.parametrize("keep", [0, 0.0, "0", "0s", "-0m", "0.0h"])
def test_nothing_to_say_and_nothing_to_keep_unloads(keep: object) -> None:
    assert read_text(prompt="", keep_alive=keep).unloads


@pytest.mark.parametrize("keep", [None, 1, -1, "10m", "", "zero"])
def test_anything_else_loads(keep: object) -> None:
    assert not read_text(prompt="", keep_alive=keep).unloads


def test_what_else_is_asked() -> None:
    assert ollama_api_request.parse_named(b'{"name":"m","stream":false,"insecure":true}') == Named("m", False)
    assert ollama_api_request.parse_named(b'{"model":"m"}') == Named("m", True)
    assert ollama_api_request.parse_copy(b'{"source":"a","destination":"b"}') == ("a", "b")
    texts = ollama_api_request.parse_embed(b'{"model":"m","input":["a","b"],"dimensions":3,"truncate":true}')
    assert (texts.texts, texts.dimensions, texts.unknown) == (("a", "b"), 3, ())
    assert ollama_api_request.parse_embed(b'{"model":"m","input":""}').texts == ()
    assert ollama_api_request.parse_embed(b'{"model":"m"}').texts == ()
    assert ollama_api_request.parse_embeddings(b'{"model":"m","prompt":"a"}').texts == ("a",)


HOSTILE: dict[str, tuple[str, bytes, str]] = {
    "nothing": ("chat", b"", "missing request body"),
    "no JSON": ("chat", b"model=m", "not valid JSON"),
    "no object": ("chat", b"[]", "expected an object"),
    "deep": ("chat", b'{"options":' + b"[" * 100_000, ""),
    "no text": ("chat", b"\xff\xfe", ""),
    "no model": ("chat", b'{"messages":[{"role":"user","content":"x"}]}', "model is required"),
    "no model to show": ("show", b"{}", "model is required"),
    "content in parts": ("chat", b'{"model":"m","messages":[{"role":"user","content":[]}]}', "`messages[0].content`: expected text"),
    "a role that is none": ("chat", b'{"model":"m","messages":[{"role":"boss","content":"x"}]}', "role"),
    "arguments as text": (
        "chat",
        b'{"model":"m","messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}]}',
        "arguments`: expected an object",
    ),
    "a picture that is none": (
        "chat",
        b'{"model":"m","messages":[{"role":"user","content":"x","images":["aGVsbG8gd29ybGQh"]}]}',
        "no PNG",
    ),
    "a picture that is no base64": ("generate", b'{"model":"m","prompt":"x","images":["/etc/passwd!"]}', "not base64"),
    "an option of another type": ("chat", b'{"model":"m","options":{"temperature":"hot"}}', "`options.temperature`"),
    "a seed beyond numbers": ("chat", b'{"model":"m","options":{"seed":1e300}}', "`options.seed`"),
    "no way to think": ("chat", b'{"model":"m","think":"hard"}', "invalid think value"),
    "no format": ("chat", b'{"model":"m","format":"xml"}', "invalid format"),
    "too many likelihoods": ("chat", b'{"model":"m","top_logprobs":21}', "top_logprobs"),
    "raw with system": ("generate", b'{"model":"m","prompt":"x","raw":true,"system":"s"}', "raw mode"),
    "a template": ("generate", b'{"model":"m","prompt":"x","template":"{{ .Prompt }}"}', "`template`"),
    "a context": ("generate", b'{"model":"m","prompt":"x","context":[1,2]}', "`context`"),
    "a number to embed": ("embed", b'{"model":"m","input":[1]}', "`input[0]`: expected text"),
    "an empty text among others": ("embed", b'{"model":"m","input":["a",""]}', "input[1]"),
    "more texts than fit": (
        "embed",
        b'{"model":"m","input":[' + b'"a",' * ollama_api_request.MOST + b'"a"]}',
        "the most of one request",
    ),
    "no destination": ("copy", b'{"source":"a"}', "required"),
}  # fmt: skip


@pytest.mark.parametrize(("route", "body", "reason"), HOSTILE.values(), ids=HOSTILE.keys())
def test_what_cannot_be_read_is_refused_in_ollamas_shape(route: str, body: bytes, reason: str) -> None:
    async def scenario() -> None:
        async with serving(Demo()) as url, client(url) as session:
            headers = {"Content-Type": "application/json"}
            async with session.post(f"/api/{route}", data=body, headers=headers) as answer:
                told = await answer.json()
                assert (answer.status, list(told)) == (400, ["error"])
                assert reason in told["error"]

    run(scenario())


# What is written


class Ticks:
    """A clock that goes on by a second whenever it is looked at."""

    def __init__(self) -> None:
        self.seconds = 0

    def now(self) -> int:
        self.seconds += 1
        return self.seconds * 1_000_000_000


def clock() -> Clock:
    return Clock(Ticks().now, lambda moment: f"{moment // 1_000_000_000} s")


def written(events: Sequence[Event], *, chat: bool = True) -> list[Any]:
    encoder = Encoder("m", Watch(clock()), chat=chat)
    return [msgspec.json.decode(line) for event in events for line in encoder.feed(event).splitlines()]


def tool(id: str, stage: Any, text: str = "", runs_on: Any = "client") -> ToolEvent:
    return ToolEvent(id, "f", stage, text, runs_on)


ANSWER: list[Event] = [
    ReasoningDelta("hm"),
    TextDelta("a\n", "1", (Logprob("a\n", -0.5, (97, 10), (Logprob("b", -1.5),)),)),
    tool("c1", "started"),
    tool("c1", "arguments", '{"x":'),
    tool("c2", "started"),
    tool("c2", "arguments", ""),
    tool("c2", "finished"),
    tool("c1", "arguments", " 1}"),
    tool("c1", "finished"),
    Usage(3, 4),
    Done("tool_calls"),
]


def test_an_answer_is_lines_of_ollamas() -> None:
    said = [(line.pop("created_at"), line.pop("model"), line) for line in written(ANSWER)]
    assert {model for _, model, _ in said} == {"m"}
    lines = [line for _, _, line in said]
    role = {"role": "assistant"}
    first = {"id": "c2", "function": {"index": 0, "name": "f", "arguments": {}}}
    second = {"id": "c1", "function": {"index": 1, "name": "f", "arguments": {"x": 1}}}
    token = {"token": "a\n", "logprob": -0.5, "bytes": [97, 10]}
    other = {"token": "b", "logprob": -1.5, "bytes": None}
    assert lines == [
        {"message": role | {"content": "", "thinking": "hm"}, "done": False},
        {
            "message": role | {"content": "a\n"},
            "logprobs": [token | {"top_logprobs": [other]}],
            "done": False,
        },
        {"message": role | {"content": "", "tool_calls": [first]}, "done": False},
        {"message": role | {"content": "", "tool_calls": [second]}, "done": False},
        {
            "message": role | {"content": ""},
            "done": True,
            "done_reason": "stop",
            "total_duration": 6_000_000_000,
            "load_duration": 0,
            "prompt_eval_count": 3,
            "prompt_eval_duration": 1_000_000_000,
            "eval_count": 4,
            "eval_duration": 5_000_000_000,
        },
    ]


def test_a_text_is_a_response() -> None:
    events: list[Event] = [ReasoningDelta("hm"), TextDelta("a"), Usage(1, 2, estimated=True), Done("length")]
    lines = written(events, chat=False)
    assert [(line["response"], line.get("thinking")) for line in lines] == [
        ("", "hm"),
        ("a", None),
        ("", None),
    ]
    assert (lines[-1]["done_reason"], lines[-1]["estimated"]) == ("length", True)


def test_what_an_answer_does_not_show_is_no_line() -> None:
    assert (
        written([Notice("n", "n"), Commentary("c"), tool("c", "started", "ls", "backend"), Usage(1, 1)]) == []
    )


def test_a_failure_is_the_last_line() -> None:
    assert written([TextDelta("a"), Failed(Fault("upstream", "Broken.", "Ask again."))])[1:] == [
        {"error": "Broken. Ask again."}
    ]


@pytest.mark.parametrize("arguments", ["[1]", "{", "7", "{" * 100_000])
def test_arguments_that_are_no_object_are_a_failure(arguments: str) -> None:
    events: list[Event] = [
        tool("c", "started"),
        tool("c", "arguments", arguments),
        tool("c", "finished"),
        Done("tool_calls"),
    ]
    (line,) = written(events)
    assert "arguments" in line["error"]
    with pytest.raises(GateError, match="arguments"):
        ollama_api.render(fold(events), "m", Watch(clock()), chat=True)


def test_a_whole_answer_is_one_object() -> None:
    whole = ollama_api.render(fold(ANSWER), "m", Watch(clock()), chat=True)
    assert whole["message"]["content"] == "a\n" and whole["message"]["thinking"] == "hm"
    assert [call["function"]["index"] for call in whole["message"]["tool_calls"]] == [0, 1]
    assert (whole["done"], whole["done_reason"], whole["eval_count"]) == (True, "stop", 4)


def test_vectors() -> None:
    made = Embeddings(((0.5, 1.0), (0.25, 0.0)), 4)
    told = msgspec.json.decode(ollama_api.render_embed(made, "m", Watch(clock())))
    assert told == {
        "model": "m",
        "embeddings": [[0.5, 1.0], [0.25, 0.0]],
        "total_duration": 1_000_000_000,
        "load_duration": 0,
        "prompt_eval_count": 4,
    }
    assert ollama_api.render_embedding(made) == {"embedding": (0.5, 1.0)}
    assert ollama_api.render_embedding(Embeddings(())) == {"embedding": []}


def test_news_of_an_installation() -> None:
    assert ollama_api.render_progress(Progress("pulling manifest")) == {"status": "pulling manifest"}
    assert ollama_api.render_progress(Progress("pulling ab", "sha256:ab", 9, 4)) == {
        "status": "pulling ab",
        "digest": "sha256:ab",
        "total": 9,
        "completed": 4,
    }


DETAILS = {"format": "gguf", "family": "qwen3", "parameters": "8B", "quantization": "Q4", "digest": "ab", "loaded_context": "4096"}  # fmt: skip
QWEN = Model("qwen3:8b", "ollama", 7, "library", frozenset({"chat", "tools"}), 40960, 5, True, DETAILS)
GPT = Model("gpt-5.5", "codex", abilities=frozenset({"chat", "thinking"}))
BARE = Model("x", "up")


def test_a_listing_keeps_what_ollama_says_and_makes_up_the_rest() -> None:
    qwen, gpt, bare = ollama_api.render_tags({"qwen3:8b": QWEN, "gpt-5.5": GPT, "up/x": BARE}, clock())[
        "models"
    ]
    assert qwen == {
        "name": "qwen3:8b",
        "model": "qwen3:8b",
        "modified_at": "7 s",
        "size": 5,
        "digest": "ab",
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": "qwen3",
            "families": ["qwen3"],
            "parameter_size": "8B",
            "quantization_level": "Q4",
        },
        "capabilities": ["completion", "tools"],
    }
    assert gpt["digest"] == hashlib.sha256(b"codex/gpt-5.5").hexdigest() != bare["digest"]
    assert (gpt["details"]["family"], gpt["capabilities"]) == ("codex", ["completion", "thinking"])
    assert (bare["name"], bare["capabilities"]) == ("up/x", ["completion"])


def test_a_model_is_shown_without_its_template() -> None:
    shown = ollama_api.render_show("fast", QWEN, clock())
    assert shown["model_info"] == {
        "general.architecture": "qwen3",
        "general.basename": "fast",
        "qwen3.context_length": 40960,
    }
    assert (shown["template"], shown["modelfile"], shown["modified_at"]) == ("", "FROM fast\n", "7 s")
    assert list(ollama_api.render_show("x", BARE, clock())["model_info"]) == [
        "general.architecture",
        "general.basename",
    ]


def test_only_what_is_in_memory_runs() -> None:
    (running,) = ollama_api.render_ps({"qwen3:8b": QWEN, "gpt-5.5": GPT})["models"]
    assert (running["name"], running["context_length"], running["size_vram"]) == ("qwen3:8b", 4096, 5)


@pytest.mark.parametrize(
    ("real", "told"),
    [
        ("0.13.5", "0.13.5"),
        ("0.14.0-rc1", "0.14.0-rc1"),
        ("1.0", "1.0"),
        ("0.9.6", "0.13.4"),
        ("0.0.0", "0.13.4"),
        ("dev", "0.13.4"),
        ("", "0.13.4"),
    ],
)
def test_the_version_is_the_real_one_unless_codex_finds_it_too_old(real: str, told: str) -> None:
    assert ollama_api.render_version(real) == {"version": told}


# Over HTTP


async def ask(
    session: aiohttp.ClientSession, method: str, path: str, body: object = None
) -> tuple[int, str, bytes]:
    """Status, type and body."""
    async with session.request(method, path, json=body) as answer:
        return answer.status, answer.content_type, await answer.read()


def test_errors_of_this_surface_are_ollamas_and_of_others_are_not() -> None:
    async def scenario() -> None:
        async with serving(Demo(), listen=Listen(drain=0, key="secret")) as url, client(url) as session:
            for method, path, status in (
                ("GET", "/api/tags", 401),
                ("POST", "/api/chat", 401),
                ("GET", "/api/nowhere", 404),
                ("GET", "/api/chat", 405),
                ("POST", "/api/tags", 405),
                ("GET", "/api/blobs/x", 405),
            ):
                told = await ask(session, method, path)
                assert told[0] == status
                assert list(msgspec.json.decode(told[2])) == ["error"]
                assert isinstance(msgspec.json.decode(told[2])["error"], str)
            assert (await ask(session, "HEAD", "/api/blobs/x"))[0] == 401
            assert isinstance(
                msgspec.json.decode((await ask(session, "GET", "/v1/models"))[2])["error"], dict
            )

    run(scenario())


def test_a_form_is_told_which_header_to_send() -> None:
    async def scenario() -> None:
        async with serving(Demo()) as url, client(url) as session:
            async with session.post("/api/show", data={"model": "demo"}) as answer:
                assert answer.status == 415
                assert "Content-Type: application/json" in (await answer.json())["error"]

    run(scenario())


@pytest.mark.parametrize("path", ["/", "/api/version", "/api/tags"])
def test_a_look_whether_it_is_there_is_answered(path: str) -> None:
    async def scenario() -> None:
        async with serving(Demo()) as url, client(url) as session:
            assert (await ask(session, "HEAD", path))[0] == 200

    run(scenario())


def test_streams_are_lines_and_whole_answers_are_not() -> None:
    async def scenario() -> None:
        async with serving(Demo(DemoOptions(pace=0))) as url, client(url) as session:
            for path, body in (
                ("chat", {"messages": HELLO}),
                ("generate", {"prompt": "hello"}),
                ("pull", {}),
            ):
                status, type, data = await ask(session, "POST", f"/api/{path}", {"model": "demo", **body})
                assert (status, type, data[-1:]) == (200, "application/x-ndjson", b"\n")
                assert all(msgspec.json.decode(line) for line in data.splitlines())
                whole = await ask(session, "POST", f"/api/{path}", {"model": "demo", "stream": False, **body})
                assert whole[:2] == (200, "application/json")

    run(scenario())


def test_a_silent_stream_is_kept_alive_by_lines_that_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "CALM", 0.05)
    go = asyncio.Event()

    async def scenario() -> None:
        async with serving(Scripted(TextDelta("a"), go, Done("stop"))) as url, client(url) as session:
            async with session.post("/api/chat", json={"model": "scripted", "messages": HELLO}) as answer:
                lines = [msgspec.json.decode(await answer.content.readline()) for _ in range(3)]
                while lines[0]["message"]["content"] != "a":  # it may have been silent before that, too
                    lines = [*lines[1:], msgspec.json.decode(await answer.content.readline())]
                go.set()
                rest = (await answer.read()).splitlines()
            assert [line["message"]["content"] for line in lines] == ["a", "", ""]
            assert not any(line["done"] for line in lines)
            assert msgspec.json.decode(rest[-1])["done"]

    run(scenario())


def test_a_refusal_has_a_status_and_a_later_failure_is_a_line() -> None:
    fault = Fault("rate_limited", "Too much.")

    async def scenario() -> None:
        for steps, status in (([Failed(fault)], 429), ([TextDelta("a"), Failed(fault)], 200)):
            async with serving(Scripted(*steps)) as url, client(url) as session:
                told = await ask(session, "POST", "/api/chat", {"model": "scripted", "messages": HELLO})
                assert told[0] == status
                assert msgspec.json.decode(told[2].splitlines()[-1]) == {"error": "Too much."}

    run(scenario())


WORDS: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "a model that is not there": ("show", {"model": "x"}, 404, "model 'x' not found"),
    "to chat with": ("chat", {"model": "x", "messages": HELLO}, 404, "model 'x' not found"),
    "one that embeds": ("chat", {"model": "demo-embed", "messages": HELLO}, 400, '"demo-embed" does not support chat'),
    "to go on": ("generate", {"model": "demo-embed", "prompt": "a"}, 400, '"demo-embed" does not support generate'),
    "one that chats": ("embed", {"model": "demo", "input": "a"}, 400, "this model does not support embeddings"),
    "one that does not think": (
        "chat",
        {"model": "scripted", "messages": HELLO, "think": True},
        400,
        '"scripted" does not support thinking',
    ),
    "one that does not insert": (
        "generate",
        {"model": "scripted", "prompt": "a", "suffix": "b"},
        400,
        '"scripted" does not support insert',
    ),
    "to copy": ("copy", {"source": "demo", "destination": "x"}, 400, "The models of demo cannot be copied."),
}  # fmt: skip


@pytest.mark.parametrize(("path", "body", "status", "words"), WORDS.values(), ids=WORDS.keys())
def test_refusals_are_in_ollamas_words(path: str, body: dict[str, Any], status: int, words: str) -> None:
    async def scenario() -> None:
        async with serving(Demo(), Scripted()) as url, client(url) as session:
            told = await ask(session, "POST", f"/api/{path}", body)
            assert (told[0], msgspec.json.decode(told[2])) == (status, {"error": words})

    run(scenario())


def test_ollamas_options_reach_ollama_and_nobody_else() -> None:
    body = {"messages": HELLO, "options": {"num_ctx": 4096, "top_k": 3}, "keep_alive": 60, "stream": False}

    async def scenario() -> None:
        backend = Scripted(Done("stop"))
        async with ScriptedOllama() as ollama:
            async with serving(Ollama(OllamaOptions(url=ollama.url)), backend) as url, client(url) as session:
                for model in ("qwen3:8b", "scripted"):
                    assert (await ask(session, "POST", "/api/chat", {"model": model, **body}))[0] == 200
            (sent,) = ollama.chats()
            assert (sent["options"]["num_ctx"], sent["options"]["top_k"], sent["keep_alive"]) == (4096, 3, 60)
            assert backend.requests[0].options == {}

    run(scenario())


def test_a_text_as_it_is_goes_to_ollama_as_it_is() -> None:
    async def scenario() -> None:
        async with ScriptedOllama() as ollama:
            async with serving(Ollama(OllamaOptions(url=ollama.url))) as url, client(url) as session:
                body = {"model": "llama3.2", "prompt": "once", "raw": True, "stream": False}
                assert (await ask(session, "POST", "/api/generate", body))[0] == 200
            (sent,) = ollama.chats("/api/generate")
            assert (sent["raw"], sent["prompt"]) == (True, "once")

    run(scenario())


def test_nothing_to_answer_loads_and_unloads() -> None:
    async def scenario() -> None:
        installing = Installing()
        async with serving(installing, Demo()) as url, client(url) as session:
            for path, body, reason in (
                ("chat", {"messages": []}, "load"),
                ("generate", {}, "load"),
                ("generate", {"prompt": "", "keep_alive": 0}, "unload"),
            ):
                for model in ("scripted", "demo"):
                    told = await ask(session, "POST", f"/api/{path}", {"model": model, **body})
                    answer = msgspec.json.decode(told[2])
                    assert (told[0], answer["done"], answer["done_reason"]) == (200, True, reason)
        assert [verb for verb, _ in installing.done] == ["warm", "warm", "unload"]

    run(scenario())


# Installing


async def pull(session: aiohttp.ClientSession, model: str) -> list[dict[str, Any]]:
    status, _, data = await ask(session, "POST", "/api/pull", {"model": model, "stream": True})
    assert status == 200
    return [msgspec.json.decode(line) for line in data.splitlines()]


def test_a_model_that_is_here_is_pulled_at_once_and_no_registry_is_asked() -> None:
    async def scenario() -> None:
        async with ScriptedOllama() as ollama:
            async with serving(Ollama(OllamaOptions(url=ollama.url)), Demo()) as url, client(url) as session:
                for name in ("demo", "llama3.2", "llama3.2:latest", "ollama/qwen3:8b", "demo:latest"):
                    assert await pull(session, name) == [{"status": "success"}]
            assert ollama.chats("/api/pull") == []

    run(scenario())


def test_a_model_that_was_pulled_is_there_at_once_and_one_that_was_deleted_is_not() -> None:
    async def scenario() -> None:
        async with ScriptedOllama() as ollama:
            async with serving(Ollama(OllamaOptions(url=ollama.url))) as url, client(url) as session:
                assert (await ask(session, "POST", "/api/show", {"model": "tiny"}))[0] == 404
                assert (await pull(session, "tiny"))[-1] == {"status": "success"}
                assert (await ask(session, "POST", "/api/show", {"model": "tiny"}))[0] == 200
                assert (await ask(session, "DELETE", "/api/delete", {"model": "tiny"}))[::2] == (200, b"")
                assert (await ask(session, "POST", "/api/show", {"model": "tiny"}))[0] == 404

    run(scenario())


UNREACHABLE = OllamaOptions(url="http://127.0.0.1:1")
FAILING: dict[str, tuple[Any, str, str]] = {
    "a name that does not exist": (None, "quen3:8b", "file does not exist"),
    "its neighbours": (None, "quen3:8b", "Did you mean qwen3:8b"),
    "no Ollama": (Demo(), "qwen3:8b", "No backend here can install models. Install Ollama."),
    "an Ollama that is down": (Ollama(UNREACHABLE), "qwen3:8b", "Start it: ollama serve"),
    "another backend's": (Demo(), "demo/x", "No backend here can install models."),
}


@pytest.mark.parametrize(("backend", "model", "reason"), FAILING.values(), ids=FAILING.keys())
def test_what_cannot_be_pulled_is_told_in_the_last_line(backend: Any, model: str, reason: str) -> None:
    async def scenario() -> None:
        async with ScriptedOllama() as ollama:
            behind = backend or Ollama(OllamaOptions(url=ollama.url))
            async with serving(behind) as url, client(url) as session:
                assert reason in (await pull(session, model))[-1]["error"]
                whole = await ask(session, "POST", "/api/pull", {"model": model, "stream": False})
                assert whole[0] >= 400 and reason in msgspec.json.decode(whole[2])["error"]

    run(scenario())


def test_leaving_stops_the_pull() -> None:
    held = asyncio.Event()

    async def scenario() -> None:
        async with ScriptedOllama() as ollama:
            ollama.next_pull({"status": "pulling manifest"}, held, {"status": "success"})
            async with serving(Ollama(OllamaOptions(url=ollama.url))) as url, client(url) as session:
                async with session.post("/api/pull", json={"model": "tiny"}) as answer:
                    assert b"pulling manifest" in await answer.content.readline()
                await ollama.left.wait()

    run(scenario())


def test_a_gate_that_shuts_down_says_so_to_a_pull() -> None:
    held = asyncio.Event()

    async def scenario() -> None:
        async with ScriptedOllama() as ollama, aiohttp.ClientSession() as session:
            ollama.next_pull({"status": "pulling manifest"}, held)
            async with serving(Ollama(OllamaOptions(url=ollama.url))) as url:
                answer = await session.post(f"{url}/api/pull", json={"model": "tiny"})
                await answer.content.readline()
            assert b"shutting down" in (await answer.read()).splitlines()[-1]

    run(scenario())


# What only an Ollama can do


def test_copying_making_and_pushing_are_the_real_ones() -> None:
    async def scenario() -> None:
        async with ScriptedOllama() as ollama:
            async with serving(Ollama(OllamaOptions(url=ollama.url))) as url, client(url) as session:
                copied = {"source": "ollama/llama3.2", "destination": "mine"}
                assert (await ask(session, "POST", "/api/copy", copied))[::2] == (200, b"")
                assert (await ask(session, "POST", "/api/show", {"model": "mine"}))[0] == 200
                made = await ask(
                    session, "POST", "/api/create", {"model": "new", "from": "mine", "stream": False}
                )
                assert made[:2] == (200, "application/json") and b"success" in made[2]
                pushed = await ask(session, "POST", "/api/push", {"model": "new"})
                assert (
                    pushed[:2] == (200, "application/x-ndjson") and b"signed in" in pushed[2].splitlines()[-1]
                )
                refused = await ask(
                    session, "POST", "/api/create", {"model": "y", "files": {"a": "sha256:0"}}
                )
                assert refused[0] == 400 and b"not found" in refused[2]

    run(scenario())


def test_a_push_that_is_cut_ends_with_an_error() -> None:
    async def scenario() -> None:
        async with ScriptedOllama() as ollama:
            ollama.next_pull({"status": "pushing"}, Cut())
            async with serving(Ollama(OllamaOptions(url=ollama.url))) as url, client(url) as session:
                pushed = await ask(session, "POST", "/api/push", {"model": "llama3.2"})
                assert list(msgspec.json.decode(pushed[2].splitlines()[-1])) == ["error"]

    run(scenario())


def test_what_is_passed_on_follows_no_redirect() -> None:
    async def scenario() -> list[str]:
        asked: list[str] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append((await reader.readuntil(b"\r\n\r\n")).split()[1].decode())
            writer.write(b"HTTP/1.1 307 There\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            there = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            with pytest.raises(GateError):
                async for _ in Ollama(OllamaOptions(url=there)).relay("HEAD", "/api/blobs/x", b""):
                    pass
        return asked

    assert run(scenario()) == ["/api/blobs/x"]


@pytest.mark.parametrize(
    ("backend", "reason"), [(Demo(), "there is none"), (Ollama(UNREACHABLE), "ollama serve")]
)
def test_without_an_ollama_it_is_said(backend: Any, reason: str) -> None:
    async def scenario() -> None:
        async with serving(backend) as url, client(url) as session:
            told = await ask(session, "POST", "/api/create", {"model": "x", "from": "y"})
            assert told[0] == 503 and reason in msgspec.json.decode(told[2])["error"]

    run(scenario())


PIECE = bytes(64 * 1024)
PIECES = 64


def test_a_file_goes_through_to_ollama() -> None:
    whole = hashlib.sha256(PIECE * PIECES).hexdigest()
    headers = {"Content-Type": "application/octet-stream"}

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(PIECES):
            yield PIECE

    async def scenario() -> None:
        async with ScriptedOllama() as ollama:
            async with serving(Ollama(OllamaOptions(url=ollama.url))) as url, client(url) as session:
                path = f"/api/blobs/sha256:{whole}"
                assert (await ask(session, "HEAD", path))[0] == 404
                async with session.post(path, data=pieces(), headers=headers) as answer:
                    assert answer.status == 201
                assert (await ask(session, "HEAD", path))[0] == 200
                async with session.post(path, data=b"something else", headers=headers) as answer:
                    assert answer.status == 400 and "digest mismatch" in (await answer.json())["error"]
            assert ollama.blobs == {f"sha256:{whole}": len(PIECE) * PIECES}

    run(scenario())


@pytest.mark.parametrize("digest", ["x", "sha256:..", "sha256:" + "A" * 64, "sha256:" + "0" * 64 + "%0aX"])
def test_a_digest_that_is_none_goes_nowhere(digest: str) -> None:
    async def scenario() -> None:
        async with ScriptedOllama() as ollama:
            async with serving(Ollama(OllamaOptions(url=ollama.url))) as url, client(url) as session:
                assert (await ask(session, "HEAD", f"/api/blobs/{digest}"))[0] == 400
            assert not [seen for seen in ollama.seen if "blobs" in seen.path]

    run(scenario())


@pytest.mark.parametrize(
    "type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
def test_a_file_of_a_type_that_any_page_can_send_is_refused(type: str) -> None:
    async def scenario() -> None:
        async with serving(Demo()) as url, client(url) as session:
            path = f"/api/blobs/sha256:{'0' * 64}"
            async with session.post(path, data=b"x", headers={"Content-Type": type}) as answer:
                assert answer.status == 415

    run(scenario())


def test_a_file_that_comes_too_slowly_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_TIME", 0.2)
    never = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"
        await never.wait()

    async def scenario() -> None:
        async with ScriptedOllama() as ollama:
            async with serving(Ollama(OllamaOptions(url=ollama.url))) as url, client(url) as session:
                headers = {"Content-Type": "application/octet-stream"}
                path = f"/api/blobs/sha256:{'0' * 64}"
                async with session.post(path, data=pieces(), headers=headers) as answer:
                    assert answer.status == 400 and "too slowly" in (await answer.json())["error"]

    run(scenario())
