"""The demo model as a `ports.Backend`. `answer` is pure; only the pace between chunks is not."""

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Any

import msgspec

from ...chat import ChatRequest, Image, Message, Tool
from ...events import Done, Event, ReasoningDelta, TextDelta, ToolEvent, Usage
from ...records import Embeddings, Health, Model
from .embed import embed
from .sample import sample

_CHUNK = re.compile(r"\s*\S+\s*\Z|\s*\S+|\s+\Z")
"""A word with the white space before it, so that the chunks add up to the text."""
READ = 10_000
"""Characters that are read of a text: it answers on the loop, where others wait for theirs."""


class DemoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the demo backend."""

    pace: Annotated[float, msgspec.Meta(ge=0, description="Pause between two chunks (seconds).")] = 0.02


class Demo:
    """The models `demo` and `demo-embed`: same input, same output."""

    name = "demo"
    honours = frozenset({"max_tokens", "stop", "n", "suffix"})

    def __init__(self, options: DemoOptions | None = None) -> None:
        self._pace = (options or DemoOptions()).pace

    async def models(self) -> tuple[Model, ...]:
        """Both models."""
        return (
            Model(
                id="demo",
                backend=self.name,
                owned_by="codexgate",
                abilities=frozenset({"chat", "tools", "vision", "thinking", "insert"}),
                context=128_000,
                loaded=True,
                details={"description": "built in, deterministic"},
            ),
            Model(
                id="demo-embed",
                backend=self.name,
                owned_by="codexgate",
                abilities=frozenset({"embedding"}),
                loaded=True,
                details={"description": "built in, deterministic: texts of like words are near"},
            ),
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[list[Event]]:
        """Answer at the set pace."""
        for event in answer(request):
            if self._pace and isinstance(event, TextDelta | ReasoningDelta):
                await asyncio.sleep(self._pace)
            yield [event]

    async def embed(self, model: str, texts: Sequence[str], dimensions: int | None = None) -> Embeddings:
        """Vectors of any length up to `embed.MOST`; see `ports.Embedder`."""
        return await asyncio.to_thread(embed, model, texts, dimensions)

    async def probe(self) -> Health:
        """It is always well."""
        return Health("ready", "built in, 2 models")

    async def aclose(self) -> None:
        """Nothing to let go of."""


def answer(request: ChatRequest) -> list[Event]:
    """The whole answer to `request`."""
    last = request.messages[-1]
    text = last.text[:READ]
    events: list[Event] = []
    if request.effort not in ("", "none"):
        thought = f"The last message is a {last.role} message of {_words(last)}."
        events += [ReasoningDelta(chunk) for chunk in _CHUNK.findall(thought)]
    tools = _tools_to_call(request)
    for index, tool in enumerate(tools):
        arguments = _json(sample({"type": "object", **tool.parameters}, _subject(text)))
        call = f"call_demo_{len(request.messages)}_{index}"
        events += [
            ToolEvent(call, tool.name, "started", runs_on="client"),
            ToolEvent(call, tool.name, "arguments", arguments, runs_on="client"),
            ToolEvent(call, tool.name, "finished", runs_on="client"),
        ]
    if tools:
        return [*events, _usage(request, events), Done("tool_calls")]
    chunks = _CHUNK.findall(_stop(_text(request), request.sampling.stop))
    limit = request.sampling.max_tokens
    cut = limit is not None and limit < len(chunks)
    events += [TextDelta(chunk, "message") for chunk in chunks[:limit]]
    return [*events, _usage(request, events), Done("length" if cut else "stop")]


def _tools_to_call(request: ChatRequest) -> list[Tool]:
    """The tools that a model would call now: once per user message, unless it must or must not.

    Those that the message names, side by side if that is allowed; else the first.
    """
    choice, last = request.tool_choice, request.messages[-1]
    if choice.mode == "named":
        return [tool for tool in request.tools if tool.name == choice.name]
    if choice.mode == "none" or (choice.mode != "required" and last.role != "user"):
        return []
    text = last.text[:READ]
    named = [tool for tool in request.tools if tool.name in text] or list(request.tools)[:1]
    return named[:1] if request.parallel_tool_calls is False else named


def _text(request: ChatRequest) -> str:
    last = request.messages[-1]
    text = last.text[:READ]
    if request.raw:
        return _continuation(last, request.suffix[:READ])
    if request.format.kind == "schema":
        return _json(sample(request.format.schema, _subject(text)))
    if request.format.kind == "json":
        return _json({"answer": _subject(text)})
    if last.role == "tool":
        return f"The tool answered: {text}" + ("…" if len(last.text) > READ else "")
    pictures = sum(isinstance(part, Image) for part in last.parts)
    seen = _words(last) + (f" and {_count(pictures, 'picture')}" if pictures else "")
    return (
        f"You wrote {seen}, beginning with “{_subject(text)}”.\n\n"
        "I am **demo**, the model built into codexgate: I do not think, I show that the gate works.\n\n"
        "- the same question always gets this same answer\n"
        "- it streams, word by word\n"
        "- `codexgate models` lists the models that do think\n"
    )


def _continuation(message: Message, suffix: str) -> str:
    """What comes after the message's text, or between it and `suffix`."""
    before, after = message.text[-READ:].split()[-1:], suffix.split()[:1]
    if suffix:
        return f" [between “{' '.join(before)}” and “{' '.join(after)}”] "
    return f" … and **demo** goes on, {_words(message)} after the beginning."


def _words(message: Message) -> str:
    count = _count(len(message.text[:READ].split()), "word")
    return f"more than {count}" if len(message.text) > READ else count


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _subject(text: str) -> str:
    words = text.split()
    return " ".join(words[:6]) + ("…" if len(words) > 6 else "")


def _stop(text: str, stops: tuple[str, ...]) -> str:
    ends = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text


def _usage(request: ChatRequest, events: list[Event]) -> Usage:
    reasoning = sum(isinstance(event, ReasoningDelta) for event in events)
    return Usage(prompt=_tokens(request.messages), completion=len(events), reasoning=reasoning)


def _tokens(messages: Sequence[Message]) -> int:
    """Their words; of a prompt longer than what is read, as many as its beginning makes likely."""
    count = size = 0
    for message in messages:
        text = message.text
        count += len(_CHUNK.findall(text[: max(0, READ - size)]))
        size += len(text)
    return count if size <= READ else count * size // READ


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
