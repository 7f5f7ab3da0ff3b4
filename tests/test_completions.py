"""OpenAI's legacy completions: what is read, what is refused, what is written, and by whom it is used."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import openai
import pytest

from codexgate.backends.demo import Demo, DemoOptions
from codexgate.backends.ollama import Ollama, OllamaOptions
from codexgate.chat import ChatRequest, Message, Sampling, Text
from codexgate.errors import Fault, GateError
from codexgate.events import Done, Event, Failed, Logprob, Plan, ReasoningDelta, TextDelta, Usage
from codexgate.fold import fold
from codexgate.fronts import openai_completions
from codexgate.fronts.openai_completions_request import MOST, Parsed, ask, parse
from codexgate.ports import Backend
from codexgate.server.choices import TOGETHER
from tests.servers.gateway import client, serving
from tests.servers.ollama import FakeModel, ScriptedOllama, done, say
from tests.servers.scripted import Scripted, Step
from tests.support import run

META = openai_completions.Meta("cmpl-1", 7, "m")
CODER = FakeModel("coder:latest", ("completion", "insert"))
HELLO_WORLD = [9906, 1917]
"""`Hello world` in cl100k_base."""


# What is read


def read(**body: object) -> Parsed:
    return parse(msgspec.json.encode({"model": "m", "prompt": "a", **body}))


PROMPTS: dict[str, tuple[object, tuple[str | tuple[int, ...], ...]]] = {
    "a text": ("a", ("a",)),
    "white space": ("\n", ("\n",)),
    "texts": (["a", "b"], ("a", "b")),
    "tokens": ([1, 2], ((1, 2),)),
    "lists of tokens": ([[1, 2], [3]], ((1, 2), (3,))),
}


@pytest.mark.parametrize("case", PROMPTS)
def test_prompts_that_are_read(case: str) -> None:
    given, expected = PROMPTS[case]
    assert read(prompt=given).prompts == expected


def test_a_prompt_is_a_text_to_go_on_with() -> None:
    assert ask(read(suffix="z", stop="\n", max_tokens=3), "a") == ChatRequest(
        "m",
        (Message("user", (Text("a"),)),),
        sampling=Sampling(stop=("\n",), max_tokens=3),
        raw=True,
        suffix="z",
    )


def test_what_is_left_out_is_left_to_the_backend() -> None:
    asked = read(**dict.fromkeys(("suffix", "max_tokens", "temperature", "n", "best_of", "logprobs", "echo")))
    assert asked.request.sampling == Sampling()
    assert (asked.choices, asked.echo, asked.stream, asked.include_usage) == (1, False, False, False)
    assert read(logprobs=0).request.sampling == Sampling(logprobs=True, top_logprobs=0)
    assert read(fancy=1, user="me", best_of=1, logit_bias={}).unknown == ("fancy",)


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "no prompt": ({"prompt": None}, "prompt"),
    "no prompts": ({"prompt": []}, "prompt"),
    "mixed prompts": ({"prompt": ["a", 1]}, "prompt"),
    "a prompt of another type": ({"prompt": 7}, "prompt"),
    "a negative token": ({"prompt": [-1]}, "prompt[0]"),
    "too many choices": ({"prompt": ["a", "b"], "n": MOST}, "prompt"),
    "no choice": ({"n": 0}, "n"),
    "the best of many": ({"best_of": 2}, "best_of"),
    "logit bias": ({"logit_bias": {"50256": -100}}, "logit_bias"),
    "log probabilities of the prompt": ({"echo": True, "logprobs": 1}, "logprobs"),
    "too many log probabilities": ({"logprobs": 6}, "logprobs"),
    "nothing to be said": ({"max_tokens": 0}, "max_tokens"),
    "heat": ({"temperature": 3}, "temperature"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_named(case: str) -> None:
    body, param = REFUSED[case]
    with pytest.raises(GateError) as refused:
        read(**body)
    assert (refused.value.fault.kind, refused.value.fault.param) == ("invalid_request", param)


# What is written

PROBABLE = TextDelta(
    "ab", "", (Logprob("a", -0.5, top=(Logprob("a", -0.5), Logprob("x", -2.0))), Logprob("b", -1.0))
)
ANSWER: list[Event] = [
    ReasoningDelta("hm"),
    Plan(()),
    TextDelta("x"),
    PROBABLE,
    Usage(prompt=3, completion=2),
    Done("length"),
]


def written(events: Sequence[Event], meta: openai_completions.Meta = META, index: int = 0) -> list[Any]:
    writer = openai_completions.Choices(meta)
    return parsed(b"".join(writer.feed(index, event) for event in events))


def parsed(stream: bytes) -> list[Any]:
    frames = [frame for frame in stream.split(b"\n\n") if frame and not frame.startswith(b":")]
    data = [frame.removeprefix(b"data: ") for frame in frames]
    return [one.decode() if one == b"[DONE]" else msgspec.json.decode(one) for one in data]


def test_a_chunk_is_a_completion() -> None:
    head = {"id": "cmpl-1", "object": "text_completion", "created": 7, "model": "m"}
    choice = {"index": 0, "logprobs": None, "finish_reason": None}
    assert written([TextDelta("x"), Done("length")]) == [
        head | {"choices": [choice | {"text": "x"}]},
        head | {"choices": [choice | {"text": "", "finish_reason": "length"}]},
    ]


def test_the_text_is_all_there_is() -> None:
    texts = [chunk["choices"][0]["text"] for chunk in written(ANSWER)]
    assert texts == ["x", "ab", ""]
    (choice,) = openai_completions.render([fold(ANSWER)], META)["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("xab", "length")


def test_log_probabilities_stand_side_by_side() -> None:
    probable = written(ANSWER)[1]["choices"][0]["logprobs"]
    assert probable == {
        "tokens": ["a", "b"],
        "token_logprobs": [-0.5, -1.0],
        "top_logprobs": [{"a": -0.5, "x": -2.0}, {}],
        "text_offset": [1, 2],
    }
    (choice,) = openai_completions.render([fold([PROBABLE, Done("stop")])], META)["choices"]
    assert choice["logprobs"]["text_offset"] == [0, 1]


def test_an_echo_is_said_once_for_each_choice_even_where_nothing_follows() -> None:
    meta = openai_completions.Meta("cmpl-1", 7, "m", each=2, echo=("a", "b"))
    assert [chunk["choices"][0]["text"] for chunk in written(ANSWER, meta, 1)] == ["a", "x", "ab", ""]
    assert [chunk["choices"][0]["text"] for chunk in written([Done("stop")], meta, 2)] == ["b", ""]
    whole = openai_completions.render([fold([Done("stop")])] * 4, meta)
    assert [choice["text"] for choice in whole["choices"]] == ["a", "a", "b", "b"]


ENDS: dict[str, tuple[bool, Usage | None, Done | Failed, list[str]]] = {
    "well": (False, Usage(1, 2), Done("stop"), ["[DONE]"]),
    "well and counted": (True, Usage(1, 2), Done("stop"), ["usage", "[DONE]"]),
    "well, but nothing is known": (True, None, Done("stop"), ["[DONE]"]),
    "badly": (False, Usage(1, 2), Failed(Fault("upstream", "no")), ["error"]),
    "badly and counted": (True, Usage(1, 2), Failed(Fault("upstream", "no")), ["usage", "error"]),
}


@pytest.mark.parametrize("case", ENDS)
def test_a_stream_ends_once(case: str) -> None:
    asked, usage, end, expected = ENDS[case]
    frames = parsed(openai_completions.Choices(META, include_usage=asked).close(usage, end))
    assert [one if isinstance(one, str) else list(one)[-1] for one in frames] == expected


# With the official client


@asynccontextmanager
async def asking(*backends: Backend) -> AsyncIterator[openai.AsyncOpenAI]:
    async with serving(*backends) as url:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as asked:
            yield asked


def demo() -> Demo:
    return Demo(DemoOptions(pace=0))


async def streamed(asked: openai.AsyncOpenAI, count: int, **body: Any) -> tuple[list[str], list[str]]:
    """The texts and ends of the choices of one streamed answer."""
    texts, ends = [""] * count, [""] * count
    counted = 0
    async for chunk in await asked.completions.create(
        stream=True, stream_options={"include_usage": True}, **body
    ):
        assert (chunk.object, chunk.id[:5]) == ("text_completion", "cmpl-")
        counted += chunk.usage is not None
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            ends[choice.index] += choice.finish_reason or ""
    assert counted == 1
    return texts, ends


BODIES: dict[str, dict[str, Any]] = {
    "one": {"prompt": "Once upon"},
    "echoed": {"prompt": "Once upon", "echo": True},
    "several": {"prompt": ["a", "b", "c"], "echo": True},
    "several of several": {"prompt": ["a", "b"], "n": 2, "echo": True},
    "tokens": {"prompt": HELLO_WORLD, "echo": True},
    "lists of tokens": {"prompt": [HELLO_WORLD, HELLO_WORLD[:1]], "echo": True},
    "limited": {"prompt": "Once upon", "max_tokens": 2},
    "stopped": {"prompt": "Once upon", "stop": "demo"},
    "inserted": {"prompt": "def f(", "suffix": "return x"},
}


@pytest.mark.parametrize("case", BODIES)
def test_streamed_and_whole_are_the_same(case: str) -> None:
    body = {"model": "demo", **BODIES[case]}

    async def scenario() -> None:
        async with asking(demo()) as asked:
            whole = await asked.completions.create(**body)
            texts, ends = await streamed(asked, len(whole.choices), **body)
            assert [choice.text for choice in whole.choices] == texts
            assert [choice.finish_reason for choice in whole.choices] == ends
            assert [choice.index for choice in whole.choices] == list(range(len(texts)))
            assert whole.usage is not None and whole.usage.completion_tokens > 0

    run(scenario())


def test_choices_come_in_the_order_of_their_prompts() -> None:
    async def scenario() -> list[str]:
        async with asking(demo()) as asked:
            whole = await asked.completions.create(
                model="demo", prompt=[HELLO_WORLD, HELLO_WORLD[:1]], n=2, echo=True
            )
            return [choice.text for choice in whole.choices]

    first, again, second, last = run(scenario())
    assert first == again and first.startswith("Hello world")
    assert second == last and second.startswith("Hello ") and "world" not in second


@pytest.mark.parametrize(
    ("body", "param"),
    [({"prompt": ""}, "prompt"), ({"prompt": ["a", ""]}, "prompt"), ({"prompt": [2**30]}, "prompt")],
    ids=["empty", "one of them empty", "no token"],
)
def test_prompts_without_a_text_are_refused(body: dict[str, Any], param: str) -> None:
    async def scenario() -> None:
        async with asking(demo()) as asked:
            with pytest.raises(openai.BadRequestError) as refused:
                await asked.completions.create(model="demo", **body)
            assert refused.value.param == param

    run(scenario())


def test_a_backend_that_cannot_insert_says_so() -> None:
    async def scenario() -> None:
        async with asking(Scripted(TextDelta("x"), Done("stop"))) as asked:
            with pytest.raises(openai.BadRequestError, match="scripted cannot insert") as refused:
                await asked.completions.create(model="scripted", prompt="a", suffix="b")
            assert refused.value.param == "suffix"

    run(scenario())


def test_settings_that_a_backend_does_not_act_on_are_told() -> None:
    async def scenario() -> None:
        async with serving(demo()) as url, client(url) as http:
            body = {"model": "demo", "prompt": "a", "logprobs": 1, "seed": 1}
            async with http.post("/v1/completions", json=body) as answer:
                assert answer.headers["X-Codexgate-Ignored"] == "logprobs, seed, top_logprobs"

    run(scenario())


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_thinking_and_other_messages_are_handled_as_text_only(stream: bool) -> None:
    steps: list[Step] = [
        ReasoningDelta("hm"),
        TextDelta("a", "1"),
        TextDelta("b", "2"),
        [Usage(1, 1), Done("stop")],
    ]

    async def scenario() -> None:
        async with asking(Scripted(*steps)) as asked:
            if stream:
                assert await streamed(asked, 1, model="scripted", prompt="x") == (["a\n\nb"], ["stop"])
            else:
                whole = await asked.completions.create(model="scripted", prompt="x")
                assert whole.choices[0].text == "a\n\nb"

    run(scenario())


# Ollama


@asynccontextmanager
async def coding() -> AsyncIterator[tuple[ScriptedOllama, openai.AsyncOpenAI]]:
    async with ScriptedOllama(
        [CODER, FakeModel("llama3.2:latest"), FakeModel("qwen3:8b", ("completion", "thinking"))]
    ) as ollama:
        async with asking(Ollama(OllamaOptions(url=ollama.url))) as asked:
            yield ollama, asked


def test_ollama_is_asked_to_generate() -> None:
    async def scenario() -> None:
        async with coding() as (ollama, asked):
            ollama.next(say("("), say("x)"), done("length", 4, 2))
            whole = await asked.completions.create(
                model="coder", prompt="def f", suffix=":", max_tokens=2, stop="\n", temperature=0.5
            )
            assert whole.choices[0].text == "(x)"
            assert (whole.choices[0].finish_reason, whole.usage and whole.usage.total_tokens) == ("length", 6)
            assert ollama.chats("/api/generate") == [
                {
                    "model": "coder:latest",
                    "prompt": "def f",
                    "suffix": ":",
                    "stream": True,
                    "truncate": False,
                    "shift": False,
                    "options": {"num_ctx": 8192, "num_predict": 2, "stop": ["\n"], "temperature": 0.5},
                }
            ]
            assert ollama.chats() == []

    run(scenario())


def test_ollamas_thinking_is_not_part_of_the_text() -> None:
    async def scenario() -> None:
        async with coding() as (ollama, asked):
            assert await streamed(asked, 1, model="qwen3:8b", prompt="a") == (["You said: a"], ["stop"])
            assert "suffix" not in ollama.chats("/api/generate")[0]

    run(scenario())


def test_an_ollama_model_that_cannot_insert_says_so() -> None:
    async def scenario() -> None:
        async with coding() as (_, asked):
            for stream in (True, False):
                with pytest.raises(openai.BadRequestError, match="does not support insert"):
                    await asked.completions.create(model="llama3.2", prompt="a", suffix="b", stream=stream)

    run(scenario())


def test_many_prompts_are_asked_a_few_at_a_time_and_leaving_stops_them() -> None:
    async def scenario() -> None:
        async with coding() as (ollama, asked):
            never = asyncio.Event()
            for _ in range(2 * TOGETHER):
                ollama.next(say("a"), never, done())
            stream = await asked.completions.create(model="coder", prompt=["x"] * 2 * TOGETHER, stream=True)
            seen: set[int] = set()
            async for chunk in stream:
                seen |= {choice.index for choice in chunk.choices}
                if len(seen) == TOGETHER:
                    break
            assert (seen, ollama.open) == (set(range(TOGETHER)), TOGETHER)
            await stream.close()
            while ollama.open:
                await ollama.left.wait()
                ollama.left.clear()
            assert ollama.abandoned == TOGETHER

    run(scenario())
