"""The Ollama backend over real sockets, against a scripted Ollama."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from codexgate.backends.ollama import Ollama, OllamaOptions, address
from codexgate.chat import ChatRequest, Format, Message, Sampling, Text, Tool, ToolChoice
from codexgate.errors import Fault, GateError
from codexgate.events import Done, Event, Failed, Notice, ReasoningDelta, TextDelta, Window
from codexgate.fold import Reply, fold
from codexgate.order import Order
from codexgate.ports import Backend, Installer
from codexgate.records import Progress
from tests.servers.ollama import Cut, FakeModel, Refusal, ScriptedOllama, call, done, say
from tests.servers.ports import own_port
from tests.support import UNHURRIED, run, unhurried

TOOL = Tool("weather", parameters={"type": "object", "properties": {"city": {"type": "string"}}})


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who tests a deadline sets a short one."""
    unhurried(monkeypatch, "backends.ollama.backend.PROBE", "backends.ollama.backend.TAIL")


@asynccontextmanager
async def serving(**options: Any) -> AsyncGenerator[tuple[ScriptedOllama, Ollama]]:
    async with ScriptedOllama() as server:
        ollama = Ollama(OllamaOptions(url=server.url, **options))
        try:
            yield server, ollama
        finally:
            await ollama.aclose()


def ask(text: str = "hi", model: str = "llama3.2", **settings: Any) -> ChatRequest:
    return ChatRequest(model, (Message("user", (Text(text),)),), **settings)


async def events_of(ollama: Ollama, request: ChatRequest) -> list[Event]:
    order = Order()
    events: list[Event] = []
    async for batch in ollama.stream(request):
        assert batch
        for event in batch:
            order.feed(event)
            if not isinstance(event, Window | Notice):  # of these test_ollama_window.py tells
                events.append(event)
    order.close()
    return events


async def reply_of(ollama: Ollama, request: ChatRequest) -> Reply:
    return fold(await events_of(ollama, request))


async def fault_of(ollama: Ollama, request: ChatRequest) -> Fault:
    """The fault of an answer that is nothing but a failure."""
    [failed] = await events_of(ollama, request)
    assert isinstance(failed, Failed)
    return failed.fault


def test_it_is_a_backend_and_an_installer() -> None:
    backend: Backend = Ollama(OllamaOptions())
    assert isinstance(backend, Installer)


ADDRESSES = {
    "": "http://127.0.0.1:11434",
    "localhost": "http://localhost:11434",
    "0.0.0.0": "http://127.0.0.1:11434",
    "0.0.0.0:8000": "http://127.0.0.1:8000",
    ":8000": "http://127.0.0.1:8000",
    "::1": "http://[::1]:11434",
    "[::]:8000": "http://[::1]:8000",
    "host:8000/": "http://host:8000",
    "http://127.0.0.1:11434/v1/": "http://127.0.0.1:11434",
    "http://host": "http://host",
    "https://host/ollama/v1": "https://host/ollama",
    ' "host" ': "http://host:11434",
    "http://me:s3cret@host:8000/": "http://me:s3cret@host:8000",
}


@pytest.mark.parametrize("text", ADDRESSES)
def test_addresses(text: str) -> None:
    assert address(text) == ADDRESSES[text]
    assert address(ADDRESSES[text]) == ADDRESSES[text]


def test_an_answer() -> None:
    async def test() -> None:
        async with serving() as (server, ollama):
            server.next(say(thinking="hm"), say("ha"), say("ha"), done(prompt=5, completion=2))
            reply = await reply_of(ollama, ask())
            assert (reply.reasoning, reply.text, reply.reason) == ("hm", "haha", "stop")
            assert reply.usage
            assert (reply.usage.prompt, reply.usage.completion) == (5, 2)
            assert server.chats()[0]["stream"] is True

    run(test())


def test_one_connection_serves_one_answer_after_the_other() -> None:
    async def test() -> None:
        async with serving() as (server, ollama):
            for _ in range(5):
                assert (await reply_of(ollama, ask())).text == "You said: hi"
            assert len(server.connections) == 1

    run(test())


@pytest.mark.parametrize("ends", [True, False])
def test_the_body_may_end_after_its_last_line(ends: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not ends:
        monkeypatch.setattr("codexgate.backends.ollama.backend.TAIL", 0.25)

    async def test() -> None:
        async with serving() as (server, ollama):
            end = asyncio.Event()
            server.next(done(), end)
            async with aclosing(ollama.stream(ask())) as stream:
                batches = [await anext(stream) for _ in range(3)]  # it loads, its window, its end
                assert batches[-1][-1] == Done("stop")
                if ends:
                    end.set()
                # One that never ends holds nobody up; its connection is not kept.
                assert [batch async for batch in stream] == []
            assert (await reply_of(ollama, ask())).reason == "stop"
            assert len(server.connections) == (1 if ends else 2)

    run(test())


def test_a_line_of_ten_megabytes() -> None:
    async def test() -> None:
        async with serving() as (server, ollama):
            text = "x" * 10_000_000
            server.next(say(text), done())
            assert (await reply_of(ollama, ask())).text == text

    run(test())


def test_a_tool_round_trip() -> None:
    async def test() -> None:
        async with serving() as (server, ollama):
            request = ask(tools=(TOOL,))
            first = await reply_of(ollama, request)
            assert first.reason == "tool_calls"
            [made] = first.tool_calls
            assert (made.name, json.loads(made.arguments)) == ("weather", {"city": "example"})
            messages = (
                *request.messages,
                Message("assistant", tool_calls=first.tool_calls),
                Message("tool", (Text("rain"),), tool_call_id=made.id),
            )
            second = await reply_of(ollama, ChatRequest("llama3.2", messages, tools=(TOOL,)))
            assert second.text == "The tool said: rain"
            assert server.chats()[1]["messages"][2]["tool_name"] == "weather"

    run(test())


def test_calls_without_ids_get_them() -> None:
    async def test() -> None:
        async with serving() as (server, ollama):
            server.next(say(calls=[call("f", {}, id=""), call("f", {}, id="")]), done())
            made = (await reply_of(ollama, ask(tools=(TOOL,)))).tool_calls
            assert len({one.id for one in made}) == 2
            assert all(one.id.startswith("call_") for one in made)

    run(test())


def test_a_format_is_kept() -> None:
    async def test() -> None:
        async with serving() as (_, ollama):
            schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
            reply = await reply_of(ollama, ask(format=Format("schema", schema)))
            assert json.loads(reply.text) == {"n": 1}

    run(test())


def test_effort_is_sent_only_to_models_that_think() -> None:
    async def test() -> None:
        async with serving() as (server, ollama):
            for model, think in ("qwen3:8b", "high"), ("llama3.2", None), ("qwen3:8b", "high"):
                await reply_of(ollama, ask(model=model, effort="high"))
                assert server.chats()[-1].get("think") == think
            assert [seen.path for seen in server.seen].count("/api/show") == 2
            events = await events_of(ollama, ask(model="qwen3:8b"))
            assert events[0] == ReasoningDelta("Let me ")
            assert "think" not in server.chats()[-1]

    run(test())


def test_what_is_set_for_every_model_gives_way_to_the_request() -> None:
    async def test() -> None:
        async with serving(num_ctx=2048, keep_alive="-1") as (server, ollama):
            await ollama.warm("llama3.2")
            await reply_of(ollama, ask())
            await reply_of(ollama, ask(options={"num_ctx": 512}, sampling=Sampling(max_tokens=1)))
            warm, plain, own = server.chats()
            assert (warm["messages"], warm["stream"]) == ([], False)
            # The same window when warmed and when used: another one loads the model anew.
            assert warm["options"] == plain["options"] == {"num_ctx": 2048}
            assert warm["keep_alive"] == plain["keep_alive"] == -1
            assert own["options"] == {"num_ctx": 512, "num_predict": 1}

    run(test())


def refused(request: ChatRequest, kind: str, code: str = "", param: str = "") -> Fault:
    async def test() -> Fault:
        async with serving() as (_, ollama):
            return await fault_of(ollama, request)

    fault = run(test())
    assert (fault.kind, fault.code, fault.param) == (kind, code, param)
    return fault


def test_refusals_of_ollama() -> None:
    fault = refused(ask(model="nope"), "not_found", "model_not_found", "model")
    assert fault.advice == "Install it: codexgate models pull nope"
    refused(ask(model="nope", effort="low"), "not_found", "model_not_found", "model")
    refused(ask(model="gemma3:4b", tools=(TOOL,)), "invalid_request", param="tools")
    refused(ask(model="nomic-embed-text"), "invalid_request", param="model")
    refused(
        ask("word " * 2000, options={"num_ctx": 512}),
        "invalid_request",
        "context_length_exceeded",
        "messages",
    )
    refused(ask(options={"num_ctx": "big"}), "invalid_request", param="options")
    refused(ask(options={"keep_alive": "soon"}), "invalid_request")
    refused(ask(tool_choice=ToolChoice("required")), "invalid_request", param="tool_choice")


def test_a_tool_that_had_to_be_called_and_was_not() -> None:
    async def test() -> None:
        async with serving() as (server, ollama):
            server.next(say("No."), done())
            request = ask(tools=(TOOL,), tool_choice=ToolChoice("named", "weather"))
            assert (await fault_of(ollama, request)).code == "tool_not_called"
            assert (await reply_of(ollama, request)).tool_calls

    run(test())


FAILURES: dict[str, tuple[tuple[Any, ...], str]] = {
    "busy": (
        (Refusal(503, "server busy, please try again.  maximum pending requests exceeded"),),
        "unavailable",
    ),
    "not Ollama": ((Refusal(502, b"<html>bad gateway</html>"),), "upstream"),
    "error line midway": ((say("a"), {"error": "boom"}), "upstream"),
    "cut before the first byte": ((Cut(),), "upstream"),
    "cut midway": ((say("a"), Cut()), "upstream"),
    "cut within a line": ((say("a"), b'{"mess', Cut()), "upstream"),
    "an end without done": ((say("a"),), "upstream"),
    "done without its line end": ((say("a"), json.dumps(done()).encode()), "upstream"),
    "garbage": ((say("a"), b"garbage\n", done()), "upstream"),
    "an endless line": ((say("a"), b"x" * (33 * 1024 * 1024)), "upstream"),
    "silence midway": ((say("a"), asyncio.Event()), "timeout"),
    "silence": ((asyncio.Event(),), "timeout"),
}
SHORT: dict[str, dict[str, Any]] = {
    "silence": {"first_token_timeout": 0.5},
    "silence midway": {"idle_timeout": 0.5},
}
"""The deadlines that are tested."""


@pytest.mark.parametrize("case", FAILURES)
def test_failures_are_one_event(case: str) -> None:
    steps, kind = FAILURES[case]
    steps = tuple(asyncio.Event() if isinstance(step, asyncio.Event) else step for step in steps)

    async def test() -> None:
        async with serving(**SHORT.get(case, {})) as (server, ollama):
            server.next(*steps)
            if isinstance(steps[0], Cut):  # a kept connection that closes so is tried once more, on a new one
                server.next(*steps)
            *before, failed = await events_of(ollama, ask())
            assert isinstance(failed, Failed)
            assert failed.fault.kind == kind
            assert before == ([TextDelta("a")] if say("a") in steps else [])
            # And the next answer is whole, however long it takes.
            ollama._options = OllamaOptions(url=server.url)
            assert (await reply_of(ollama, ask())).text == "You said: hi"

    run(test())


def test_a_cut_at_every_byte_is_one_failure() -> None:
    lines = [say(thinking="hm"), say("ha"), say("ha"), say(calls=[call("f", {"a": 1})]), done()]
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)

    async def test() -> None:
        async with serving() as (server, ollama):
            for cut in range(len(data)):
                for _ in range(1 if cut else 2):  # see above
                    server.next(data[:cut] or Cut(), Cut())
                events = await events_of(ollama, ask())
                assert [type(event) for event in events].count(Failed) == 1, cut
            server.next(data, Cut())
            assert (await events_of(ollama, ask()))[-1] == Done("tool_calls")

    run(test())


def test_nobody_there() -> None:
    async def test() -> None:
        ollama = Ollama(OllamaOptions(url=f"http://127.0.0.1:{own_port()}"))
        fault = await fault_of(ollama, ask())
        assert (fault.kind, fault.advice) == ("unavailable", "Start it: ollama serve")
        with pytest.raises(GateError) as raised:
            await ollama.models()
        assert raised.value.fault.kind == "unavailable"

    run(test())


@pytest.mark.parametrize("before", [0, 1, 3], ids=["before the first token", "after one", "after three"])
@pytest.mark.parametrize("how", ["close", "cancel"])
def test_leaving_reaches_ollama(before: int, how: str) -> None:
    async def consume(stream: AsyncGenerator[list[Event]], reached: asyncio.Event) -> None:
        seen = 0
        async with aclosing(stream):
            async for batch in stream:
                seen += sum(isinstance(event, TextDelta) for event in batch)
                if seen >= before > 0:
                    reached.set()
                    if how == "close":
                        return

    async def test() -> None:
        async with serving(hold_load=False) as (server, ollama):
            server.next(*[say("a")] * before, asyncio.Event())
            reached = asyncio.Event()
            task = asyncio.create_task(consume(ollama.stream(ask()), reached))
            await (reached if before else server.arrived).wait()
            if how == "cancel" or not before:
                task.cancel()
            await asyncio.wait_for(server.left.wait(), UNHURRIED)
            await asyncio.wait([task])
            assert (server.open, server.abandoned) == (0, 1)

    run(test())


def test_a_generator_that_was_never_started_asks_nothing() -> None:
    async def test() -> None:
        async with serving() as (server, ollama):
            await ollama.stream(ask()).aclose()
            assert not server.seen

    run(test())


def test_models() -> None:
    async def test() -> None:
        async with serving() as (server, ollama):
            server.broken.add("gemma3:4b")
            await reply_of(ollama, ask(options={"num_ctx": 1024}))
            listed = {model.id: model for model in await ollama.models()}
            assert list(listed) == ["llama3.2:latest", "qwen3:8b", "gemma3:4b", "nomic-embed-text:latest"]
            assert [model.id for model in listed.values() if model.loaded] == ["llama3.2:latest"]
            assert listed["llama3.2:latest"].details["loaded_context"] == "1024"
            assert listed["qwen3:8b"].abilities == {"chat", "tools", "thinking"}
            assert listed["qwen3:8b"].context == 40960
            assert listed["nomic-embed-text:latest"].abilities == {"embedding"}
            # What cannot be shown is still there.
            assert listed["gemma3:4b"].abilities == {"chat"}

    run(test())


def test_models_are_shown_once_per_digest() -> None:
    async def test() -> None:
        async with serving() as (server, ollama):
            await ollama.models()
            server.seen.clear()
            await ollama.models()
            assert [seen.path for seen in server.seen] == ["/api/tags", "/api/ps"]
            server.models["qwen3:8b"] = FakeModel("qwen3:8b", ("completion",), digest="new")
            models = await ollama.models()
            assert models[1].abilities == {"chat"}
            assert [seen.body["model"] for seen in server.seen if seen.body] == ["qwen3:8b"]

    run(test())


def test_many_models_are_shown_a_few_at_a_time() -> None:
    async def test() -> None:
        async with serving() as (server, ollama):
            server.models = {f"m{n}:latest": FakeModel(f"m{n}:latest") for n in range(50)}
            assert len(await ollama.models()) == 50
            assert len(server.connections) <= 9

    run(test())


def test_no_models() -> None:
    async def test() -> None:
        async with serving() as (server, ollama):
            server.models.clear()
            assert await ollama.models() == ()

    run(test())


def test_probe() -> None:
    async def test() -> None:
        async with serving() as (_, ollama):
            health = await ollama.probe()
            assert (health.state, health.version) == ("ready", "0.13.5")
            assert health.summary == "0.13.5, 4 models"

    run(test())


@pytest.mark.parametrize(
    ("program", "usual", "state"),
    [
        ("/usr/bin/ollama", True, "down"),
        ("/usr/bin/ollama", False, "down"),
        (None, True, "absent"),
        (None, False, "down"),  # somebody said that it is there: in a container, say
    ],
)
def test_probe_of_what_is_not_there(
    program: str | None, usual: bool, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: program)
    url = "http://127.0.0.1:1"
    monkeypatch.setattr("codexgate.backends.ollama.backend.DEFAULT", url if usual else "http://127.0.0.1:2")

    async def test() -> None:
        health = await Ollama(OllamaOptions(url=url)).probe()
        assert health.state == state
        assert url in health.summary
        assert health.advice

    run(test())


def test_what_has_answered_is_down_and_not_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)

    async def test() -> None:
        async with serving() as (server, ollama):
            monkeypatch.setattr("codexgate.backends.ollama.backend.DEFAULT", server.url)
            assert (await ollama.probe()).state == "ready"
        assert (await ollama.probe()).state == "down"

    run(test())


def test_an_address_that_is_none_is_not_to_be_started() -> None:
    health = run(Ollama(OllamaOptions(url="127.0.0.1:99999")).probe())
    assert health.text == "http://127.0.0.1:99999 is no valid address. Correct the address."


def test_probe_of_what_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codexgate.backends.ollama.backend.PROBE", 0.05)

    async def test() -> None:
        lost = asyncio.Event()

        class Mute(asyncio.Protocol):
            def connection_lost(self, error: Exception | None) -> None:
                lost.set()

        async with await asyncio.get_running_loop().create_server(Mute, "127.0.0.1", 0) as server:
            ollama = Ollama(OllamaOptions(url=f"127.0.0.1:{server.sockets[0].getsockname()[1]}"))
            assert (await ollama.probe()).state == "down"
            await asyncio.wait_for(lost.wait(), UNHURRIED)

    run(test())


async def pulled(ollama: Ollama, model: str) -> list[Progress]:
    return [news async for news in ollama.pull(model)]


def test_pull_and_remove() -> None:
    async def test() -> None:
        async with serving() as (_, ollama):
            news = await pulled(ollama, "tiny")
            assert news[0] == Progress("pulling manifest")
            assert news[2] == Progress("pulling abababababab", "sha256:" + "ab" * 32, 100, 40)
            assert news[-1] == Progress("success")
            assert (await reply_of(ollama, ask(model="tiny"))).text
            await ollama.remove("tiny")
            for action in ollama.remove("tiny"), ollama.warm("tiny"):
                with pytest.raises(GateError) as raised:
                    await action
                assert raised.value.fault.kind == "not_found"

    run(test())


PULLS: dict[str, tuple[tuple[Any, ...], str, str]] = {
    "no such model": (
        ({"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"}),
        "not_found",
        "model_not_found",
    ),
    "no network": (
        ({"status": "pulling manifest"}, {"error": "dial tcp: lookup registry.ollama.ai: no such host"}),
        "unavailable",
        "registry_unreachable",
    ),
    "too old": (
        ({"error": "pull model manifest: 412: requires a newer version of Ollama"},),
        "unavailable",
        "ollama_too_old",
    ),
    "refused at once": ((Refusal(400, "invalid model name"),), "not_found", "model_not_found"),
    "an end without success": (({"status": "pulling manifest"},), "upstream", ""),
    "a cut": (({"status": "pulling manifest"}, Cut()), "upstream", ""),
    "garbage": ((b"garbage\n",), "upstream", ""),
}


@pytest.mark.parametrize("case", PULLS)
def test_pulls_that_fail(case: str) -> None:
    steps, kind, code = PULLS[case]

    async def test() -> None:
        async with serving() as (server, ollama):
            server.next_pull(*steps)
            with pytest.raises(GateError) as raised:
                await pulled(ollama, "tiny")
            assert (raised.value.fault.kind, raised.value.fault.code) == (kind, code)

    run(test())


def test_leaving_a_pull_stops_it() -> None:
    async def test() -> None:
        async with serving() as (server, ollama):
            server.next_pull({"status": "pulling manifest"}, asyncio.Event())
            async with aclosing(ollama.pull("tiny")) as news:
                await anext(news)
            await asyncio.wait_for(server.left.wait(), UNHURRIED)

    run(test())
