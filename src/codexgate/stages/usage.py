"""Tokens counted where the backend did not, as a `ports.Stage`: the innermost, so that it sees all input.

What it says is marked as estimated: the tokenizer is not the model's own, and what an agent puts
into its prompts by itself is not seen here.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import aclosing

import msgspec

from .. import tokens
from ..chat import ChatRequest, Message, Text
from ..events import Commentary, Done, Failed, ReasoningDelta, TextDelta, ToolEvent, Usage
from ..ports import Batches, Route, Run

PICTURE = 765
"""Tokens of a picture of 1024 x 1024 pixels, or of a file: OpenAI's vision guide, "Calculating costs"."""
MESSAGE = 3
"""Tokens that each message costs beside its text, and the beginning of the answer; OpenAI's cookbook."""


async def count_usage(route: Route, run: Run) -> Batches:
    """Answer `route`, with its usage before the end if the backend gives none.

    A request that failed before anything of an answer was there may have cost nothing: nothing is said.
    """
    said: list[str] = []
    thought: list[str] = []
    counted = False
    async with aclosing(run(route)) as batches:
        async for batch in batches:
            for event in batch:
                match event:
                    case TextDelta() | Commentary():
                        said.append(event.text)
                    case ReasoningDelta():
                        thought.append(event.text)
                    case ToolEvent(runs_on="client"):
                        said.append(event.name if event.stage == "started" else event.text)
                    case Usage():
                        counted = True
                    case _:
                        pass
            *before, last = batch
            if not counted and (isinstance(last, Done) or (isinstance(last, Failed) and (said or thought))):
                counted = True
                yield [*before, await asyncio.to_thread(estimate, route.request, said, thought), last]
            else:
                yield batch


def estimate(request: ChatRequest, said: Sequence[str], thought: Sequence[str] = ()) -> Usage:
    """The usage of an answer of `said` and `thought`, both in pieces, to `request`. Slow: counts tokens."""
    reasoning = tokens.count("".join(thought))
    pictures = sum(not isinstance(part, Text) for message in request.messages for part in message.parts)
    prompt = sum(map(tokens.count, _texts(request))) + PICTURE * pictures
    return Usage(
        prompt=prompt if request.raw else prompt + MESSAGE * (len(request.messages) + 1),
        completion=tokens.count("".join(said)) + reasoning,
        reasoning=reasoning,
        estimated=True,
    )


def _texts(request: ChatRequest) -> Iterator[str]:
    """Every text that the model is told."""
    for message in request.messages:
        yield from _told(message)
    if request.tools:
        yield msgspec.json.encode(request.tools).decode()
    if request.format.schema:
        yield msgspec.json.encode(request.format.schema).decode()
    yield request.suffix


def _told(message: Message) -> Iterator[str]:
    yield message.text
    yield message.reasoning
    for call in message.tool_calls:
        yield call.name
        yield call.arguments
