"""Sessions: the gate keeps a conversation, and its client sends only what is new.

Around an answer: hold the session alone, put what is kept before what was sent (`history` tells what
of that is new), and keep both with the answer before anybody hears that it is whole. A turn that
failed or was left is not kept, not even its question: whoever asks again sends it again.

Knows sessions by their port, and nothing of callers' formats or of how a backend remembers.
"""

import asyncio
import hashlib
import logging
from contextlib import AsyncExitStack, aclosing

import msgspec

from ..chat import Message, Text
from ..errors import GateError
from ..events import Done, Event, Failed, Notice, Usage
from ..fold import Fold, Reply
from ..history import continued, fit, is_same, settled, size, split, tokens
from ..ports import Batches, Route, Run, SessionStore

MESSAGES = 2000
"""Messages that a session keeps at most."""
SIZE = 8 << 20
"""Bytes, about; of a turn that is larger by itself what has to be kept together is."""
SHORTENED = 0.75
"""The part of these limits that is left when one is exceeded: then not every turn exceeds it again."""
ROOM = 4096
"""Tokens left free for an answer whose length nobody limits; never more than half of the window."""

DOWN = "The store of sessions does not answer;"

log = logging.getLogger(__name__)


class Sessions:
    """The stage for requests that name a session; costs others nothing."""

    def __init__(self, store: SessionStore, *, wait: float, strict: bool) -> None:
        """`wait`: seconds that a second request waits for a session; `strict`: no store, no turn."""
        self._store = store
        self._wait = wait
        self._strict = strict

    def __call__(self, route: Route, run: Run) -> Batches:
        """Answer `route`, of a session in the light of what was said before."""
        if not route.request.session or route.request.raw:
            return run(route)
        return self._turn(route, run)

    async def _turn(self, route: Route, run: Run) -> Batches:
        key = session_key(route.request.caller, route.request.session)
        async with AsyncExitStack() as held:
            kept = await self._open(held, key)
            whole = route.request.messages
            if kept is None:
                yield [Notice("degraded", f"{DOWN} the model sees only what was sent.")]
            else:
                whole = await asyncio.to_thread(_conversation, kept, whole)
                route, left_out = await asyncio.to_thread(_for_model, route, key, whole)
                if left_out is not None:
                    yield [left_out]
            fold = Fold()
            counted: list[Event] = []  # nothing but the end may follow it, and there may be more to say
            async with aclosing(run(route)) as batches:
                async for batch in batches:
                    for event in batch:
                        fold.feed(event)
                    match batch[-1]:
                        case Done() if kept is not None:
                            told = await self._keep(key, kept, whole, fold.reply())
                            await held.aclose()  # who hears of the end may go on at once
                            yield _end([*counted, *batch], told)
                        case Done() | Failed():
                            await held.aclose()
                            yield [*counted, *batch]
                        case Usage():
                            counted = batch[-1:]
                            if batch[:-1]:
                                yield batch[:-1]
                        case _:
                            yield batch

    async def _open(self, held: AsyncExitStack, key: str) -> tuple[Message, ...] | None:
        """What is kept of the session, which is then `held`; `None` when it has to do without its store.

        Raises GateError: somebody else holds it, or the store is down and the operator is strict.
        """
        try:
            await held.enter_async_context(self._store.lock(key, self._wait))
            return await self._store.load(key)
        except GateError as error:
            if error.fault.kind != "unavailable" or self._strict:
                raise
            log.warning("session.degraded", extra={"fields": {"reason": error.fault.message}})
        await held.aclose()
        return None

    async def _keep(
        self, key: str, kept: tuple[Message, ...], whole: tuple[Message, ...], reply: Reply
    ) -> Notice | Failed | None:
        """Keep the conversation and its answer; returns what to tell of it."""
        whole = (*whole, _answer(reply))
        left = await asyncio.to_thread(_bounded, whole)
        try:
            if left[: len(kept)] == kept:
                await self._store.append(key, left[len(kept) :])
            else:
                await self._store.replace(key, left)
        except GateError as error:
            if self._strict:
                return Failed(error.fault)
            log.warning("session.unkept", extra={"fields": {"reason": error.fault.message}})
            return Notice("degraded", f"{DOWN} this turn is not kept.")
        if len(left) == len(whole):
            return None
        text = (
            f"The {len(whole) - len(left)} oldest messages of this session were forgotten: it keeps at most"
        )
        return Notice("history_trimmed", f"{text} {MESSAGES} messages and {SIZE >> 20} MiB.")


def session_key(caller: str, session: str) -> str:
    """What the session `session` of `caller` is kept under: nobody else's has it."""
    return "session-" + hashlib.sha256(msgspec.json.encode((caller, session))).hexdigest()


def _conversation(kept: tuple[Message, ...], sent: tuple[Message, ...]) -> tuple[Message, ...]:
    """The whole conversation, instructions first."""
    before, known = split(kept)
    given, new = split(sent)
    # Instructions of an alias are given with every request, also by a client that leaves its own to us.
    begins = len(given) <= len(before) and all(map(is_same, before, given))
    return (before if begins else given) + settled(continued(known, new))


def _for_model(route: Route, key: str, whole: tuple[Message, ...]) -> tuple[Route, Notice | None]:
    """`route` with as much of the conversation as its model can see, and what to tell of the rest."""
    request = route.request
    window = _window(route)
    messages = whole
    if window:
        answer = min(request.sampling.max_tokens or min(ROOM, window // 4), window // 2)
        tools = sum(len(msgspec.json.encode(tool)) for tool in request.tools) // 4
        messages = fit(whole, window - answer - tools, tokens)
    request = msgspec.structs.replace(request, messages=messages, chat=request.chat or key)
    route = msgspec.structs.replace(route, request=request)
    if len(messages) == len(whole):
        return route, None
    text = f"The {len(whole) - len(messages)} oldest of {len(whole)} messages were left out: {route.model.id}"
    return route, Notice("history_trimmed", f"{text} sees {window} tokens at once.")


def _bounded(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """As much of `messages` as a session keeps."""
    if len(messages) > MESSAGES:
        messages = fit(messages, MESSAGES * SHORTENED, lambda _: 1)
    if sum(map(size, messages)) > SIZE:
        messages = fit(messages, SIZE * SHORTENED, size)
    return messages


def _window(route: Route) -> int:
    """Tokens that the model can see, as far as that is known; 0 when it is not.

    A local model may be loaded with less than it could see.
    """
    asked = route.request.options.get("num_ctx")
    loaded = route.model.details.get("loaded_context", "")
    known = (asked if isinstance(asked, int) else int(loaded or 0)) if route.model.context else 0
    return min(known, route.model.context) if known > 0 else route.model.context


def _answer(reply: Reply) -> Message:
    """The answer as a message, each of its texts a part: what a client shows between them may differ."""
    texts = [text for _, text in reply.messages]
    parts = tuple(Text(text if at == 0 else f"\n\n{text}") for at, text in enumerate(texts))
    return Message("assistant", parts, tool_calls=reply.tool_calls)


def _end(batch: list[Event], told: Notice | Failed | None) -> list[Event]:
    """`batch`, which is the last, with `told` in it: before its end, or in the place of it."""
    match told:
        case None:
            return batch
        case Failed():
            return [*batch[:-1], told]
        case Notice():
            at = len(batch) - (2 if isinstance(batch[-2:][0], Usage) else 1)
            return [*batch[:at], told, *batch[at:]]
