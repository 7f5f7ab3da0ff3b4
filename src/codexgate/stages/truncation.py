"""Asks again without the oldest of a conversation when the model cannot take it whole.

A `ports.Stage` for requests that allow it (OpenAI API reference, "Create a model response", `truncation`):
to all others what does not fit is an error. What is long is the backend's word, since only it counts
tokens as its model does.
"""

import asyncio
from contextlib import aclosing

import msgspec

from ..events import Event, Failed, Notice, ThreadStarted, Window
from ..history import fit, tokens
from ..ports import Batches, Route, Run

SHORTENED = 0.75
"""The part of its weight that is left of a conversation that was too long."""
_BEFORE = (Notice, ThreadStarted, Window)
"""Events after which an answer can still be asked for again."""


def truncate(route: Route, run: Run) -> Batches:
    """See `ports.Stage`."""
    return _answer(route, run) if route.request.truncate else run(route)


async def _answer(route: Route, run: Run) -> Batches:
    whole = len(route.request.messages)
    while True:
        shorter = None
        begun: list[Event] | None = []  # what is told once, until it is sure that this is the answer
        async with aclosing(run(route)) as batches:
            async for batch in batches:
                if begun is None:
                    yield batch
                    continue
                if _too_long(batch) and (shorter := await asyncio.to_thread(_shortened, route)):
                    break
                if all(isinstance(event, _BEFORE) for event in batch):
                    begun += [event for event in batch if not isinstance(event, Notice)]
                    notices: list[Event] = [event for event in batch if isinstance(event, Notice)]
                    if notices:
                        yield notices
                else:
                    yield [*begun, *batch]
                    begun = None
        if shorter is None:
            return
        route = shorter
        gone = whole - len(route.request.messages)
        text = f"The {gone} oldest of {whole} messages were left out: the conversation was too long for "
        yield [Notice("history_trimmed", f"{text}{route.model.id}.")]


def _too_long(batch: list[Event]) -> bool:
    *before, last = batch
    return (
        isinstance(last, Failed)
        and last.fault.code == "context_length_exceeded"
        and all(isinstance(event, _BEFORE) for event in before)
    )


def _shortened(route: Route) -> Route | None:
    """`route` with less to read, or nothing if no message can be left out."""
    request = route.request
    limit = SHORTENED * sum(map(tokens, request.messages))
    messages = fit(request.messages, limit, tokens)
    if len(messages) == len(request.messages):
        return None
    return msgspec.structs.replace(route, request=msgspec.structs.replace(request, messages=messages))
