"""A conversation with the gate: what is asked with every turn, what is kept of it.

Asks the gate and tells a view; knows neither flags nor terminals, so a test needs no process.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime

import msgspec

from ..chat import ChatRequest, Format, Message, Part, Retrieval, Sampling, Text
from ..errors import Fault, GateError
from ..events import Approval, Notice
from ..fold import Fold, Reply
from ..gate import Gate
from ..ports import SessionList
from ..records import PendingApproval
from .render import View

UNNAMED = "chat-"
"""How conversations begin that nobody named; they are kept for `--continue`."""
UNNAMED_KEPT = 50
PACE = 0.1
"""Seconds between two looks of a view at its clock while nothing comes."""

Ask = Callable[[PendingApproval], Awaitable[bool]]
"""Asks a person whether something may be done, this once, and is done before it expires."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked with every turn; empty and `None` leave it to the model."""

    model: str = ""
    system: str = ""
    effort: str = ""
    max_tokens: int | None = None
    temperature: float | None = None
    format: Format = Format()
    retrieval: Retrieval | None = None


class Conversation:
    """Turns that follow each other, kept in `sessions` under `session`."""

    def __init__(
        self,
        gate: Gate,
        options: Options,
        sessions: SessionList | None = None,
        session: str = "",
        consent: Ask | None = None,
    ) -> None:
        """Go on with what is kept, once `load` or a question reads it.

        `consent` decides what backends ask for; without it others may, until it expires.
        """
        self.gate = gate
        self.options = options
        self.session = session
        self._sessions = sessions
        self._consent = consent
        self._messages: tuple[Message, ...] | None = None

    async def load(self) -> tuple[Message, ...]:
        """What was said so far. Raises GateError when the store cannot be read."""
        if self._messages is None:
            await self.move(self.session)
        return self._messages or ()

    async def move(self, session: str) -> int:
        """Go on with another session; returns how many messages it has. Raises GateError."""
        self._messages = await self._sessions.load(session) if self._sessions and session else ()
        self.session = session
        return len(self._messages)

    async def sessions(self) -> tuple[str, ...]:
        """The sessions there are, the one used last first. Raises GateError."""
        return await self._sessions.keys() if self._sessions else ()

    async def ask(self, parts: Sequence[Part], view: View) -> Reply:
        """Ask, show the answer as it comes, keep both when it is whole.

        Raises GateError when no model takes the question or the answer failed; what came of it
        was shown. Cancelling stops the model and keeps nothing.
        """
        asked = Message("user", tuple(parts))
        history = await self.load()
        route = await self.gate.route(self._request(history, asked))
        view.begin(route.model.id)
        if route.ignored:
            view.feed(Notice("ignored", f"{route.backend.name} ignores {', '.join(route.ignored)}."))
        fold = Fold()
        try:
            async with aclosing(self.gate.stream(route)) as batches, _ticking(view) as drawing:
                async for batch in batches:
                    for event in batch:
                        fold.feed(event)
                        if isinstance(event, Approval) and self._consent:
                            async with drawing:
                                view.pause()
                                await self._decide(event.id, self._consent, view)
                        else:
                            view.feed(event)
                    view.flush()
            reply = fold.reply()
            if reply.reason is not None:
                await self._keep(history, asked, reply, view)
        finally:
            view.close(fold.reply(), self.session)
        if reply.fault is not None:
            raise GateError(reply.fault)
        return reply

    async def _decide(self, id: str, consent: Ask, view: View) -> None:
        """Let a person decide; whoever cancels has declined."""
        waiting = next((one for one in self.gate.approvals() if one.id == id), None)
        if waiting is None:  # it ran out while another was asked about
            return
        accept = False
        try:
            accept = await consent(waiting)
        finally:
            try:
                self.gate.decide(id, accept)
            except GateError as error:
                if accept:
                    view.feed(Notice("approval", error.fault.text))

    def _request(self, history: tuple[Message, ...], asked: Message) -> ChatRequest:
        options = self.options
        if options.system:
            others = (message for message in history if message.role != "system")
            history = (Message("system", (Text(options.system),)), *others)
        return ChatRequest(
            model=options.model,
            messages=(*history, asked),
            sampling=Sampling(temperature=options.temperature, max_tokens=options.max_tokens),
            effort=options.effort,
            format=options.format,
            retrieval=options.retrieval,
        )

    async def _keep(self, history: tuple[Message, ...], asked: Message, reply: Reply, view: View) -> None:
        """Keep the turn; a store that fails does not fail the chat."""
        new = [asked, Message("assistant", (Text(reply.text),) if reply.text else ())]
        if self.options.system and not history:
            new.insert(0, Message("system", (Text(self.options.system),)))
        self._messages = (*history, *new)
        if self._sessions is None:
            return
        self.session = self.session or _new_name()
        try:
            await self._sessions.append(self.session, new)
            if self.session.startswith(UNNAMED):
                await forget_unnamed(self._sessions)
        except GateError as error:
            view.feed(Notice("session", f"This turn was not kept. {error.fault.text}"))


async def latest(sessions: SessionList) -> str:
    """The session used last. Raises GateError (`not_found`) when there is none."""
    found = await sessions.latest()
    if found is None:
        raise GateError(Fault("not_found", "There is no conversation to continue.", "Start one first."))
    return found


async def forget_unnamed(sessions: SessionList) -> None:
    """Forget all but the last conversations that nobody named."""
    unnamed = [key for key in await sessions.keys() if key.startswith(UNNAMED)]
    for key in unnamed[UNNAMED_KEPT:]:
        await sessions.delete(key)


def _new_name() -> str:
    return f"{UNNAMED}{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


@asynccontextmanager
async def _ticking(view: View) -> AsyncIterator[asyncio.Lock]:
    """Let `view` draw while nothing comes: a clock runs, and a block waits for its drawing.

    Whoever holds the lock has the terminal for itself.
    """
    drawing = asyncio.Lock()

    async def tick() -> None:
        while True:
            await asyncio.sleep(PACE)
            async with drawing:
                view.flush()

    task = asyncio.create_task(tick())
    try:
        yield drawing
    finally:
        task.cancel()
        await asyncio.wait({task})
