"""Calls that models write as text, made calls: a `ports.Stage` around every model that is given tools."""

import secrets
from contextlib import aclosing

from ..ports import Batches, Route, Run
from ..written import Written


def read_written_calls(route: Route, run: Run) -> Batches:
    """Answer `route`; see `written`. An answer that has to be JSON by its format is left alone."""
    request = route.request
    wanted = request.tools and request.tool_choice.mode != "none" and request.format.kind == "text"
    return _answer(route, run) if wanted else run(route)


async def _answer(route: Route, run: Run) -> Batches:
    written = Written([tool.name for tool in route.request.tools], lambda: f"call_{secrets.token_hex(12)}")
    async with aclosing(run(route)) as batches:
        async for batch in batches:
            events = [one for event in batch for one in written.feed(event)]
            if events:
                yield events
