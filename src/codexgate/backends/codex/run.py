"""A turn as its callers see it: one answer, or several with the client's tools in between.

Reads the turn, decodes it, answers what Codex asks, and ends where the caller's limits are. What
becomes of the thread afterwards is the business of whoever made the run.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

import msgspec

from ...chat import ChatRequest, Message
from ...cut import Cut
from ...dialects.codex import ask, transcript, wire
from ...dialects.codex.decode import Decoder
from ...errors import Fault, GateError
from ...events import Approval, Done, Event, Failed, TextDelta
from ...jsonrpc import Request, RequestId
from .approvals import Desk, new_id
from .child import Told
from .options import CodexOptions
from .turn import Turn

GATHER = 0.1
"""Seconds of silence after which a model is taken to have made all its calls: parallel ones come at
once, and nothing tells that there will be no more."""

_APPROVALS = (wire.COMMAND_APPROVAL, wire.FILE_APPROVAL, wire.ELICITATION)


class Run:
    """One turn, from its beginning to its real end."""

    def __init__(
        self,
        turn: Turn,
        request: ChatRequest,
        options: CodexOptions,
        desk: Desk,
        settle: Callable[["Run"], Awaitable[None]] | None = None,
        signing_in: str = "",
        opening: tuple[Event, ...] = (),
    ) -> None:
        """`settle` is called once the turn is over and left, whatever came of it.

        `signing_in`: what to do when the provider lets nobody in. `opening`: what every answer of
        the turn begins with.
        """
        self.request = request
        """The request that is being answered; the last of several when tools came between."""
        self.answer = ""
        """The text of the last message of this answer, as the model wrote it."""
        self.calls: dict[str, RequestId] = {}
        """Calls that the client has to run, and the questions of Codex that they answer."""
        self.done: Done | None = None
        """How the turn ended by itself, once it has."""
        self.turn = turn
        self._opening = opening
        self._options = options
        self._desk = desk
        self._settle = settle
        names = {ask.tool_name(tool.name): tool.name for tool in request.tools}
        self._decoder = Decoder(names, signing_in)
        self._cut = Cut(request.sampling)
        self._item = ""
        self._asked: set[str] = set()
        """Approvals that wait."""
        self._deadline = time.monotonic() + options.turn_timeout

    async def events(self) -> AsyncGenerator[list[Event]]:
        """The events of this answer, to its end."""
        batch: list[Event] = list(self._opening)
        if batch:
            yield batch
        while not (batch and isinstance(batch[-1], Done | Failed)):
            events = await self._read()
            batch = [one for event in events for one in self._cut.feed(event)]
            self._note(batch)
            if batch:
                yield batch

    def waits_for(self, request: ChatRequest) -> bool:
        """`request` brings results of its calls, and goes on with the very conversation they are from."""
        own = self.request
        before = request.messages[: len(own.messages)]
        return (
            any(result.tool_call_id in self.calls for result in _results(request))
            and (request.caller, request.chat) == (own.caller, own.chat)
            and (request.model, request.sandbox) == (own.model, own.sandbox)
            and transcript.signature(before, ()) == transcript.signature(own.messages, ())
        )

    def go_on(self, request: ChatRequest) -> None:
        """Give Codex the results of its calls; the next `events` are the answer to `request`."""
        results = {
            message.tool_call_id: message.text for message in request.messages if message.role == "tool"
        }
        calls, self.calls = self.calls, {}
        self.request, self.answer, self._item = request, "", ""
        self._cut = Cut(request.sampling)
        self._decoder.go_on()
        self._deadline = time.monotonic() + self._options.turn_timeout
        for call, id in calls.items():
            self.turn.answer(id, ask.tool_result(results.get(call, "The client sent no result.")))

    async def finish(self) -> None:
        """Leave the turn, and settle what comes after it. Nothing waits for this."""
        for id in self._asked:
            self._desk.withdraw(id)
        try:
            await self.turn.leave(self._decoder.over)
        finally:
            if self._settle is not None:
                await self._settle(self)

    def passed_over(self) -> dict[str, int]:
        """Notifications that nobody here understood, by method."""
        return dict(self._decoder.unknown | self._decoder.undecodable)

    async def _read(self) -> list[Event]:
        patience, limit, setting = self._patience()
        try:
            async with asyncio.timeout(patience):
                told = await self.turn.read()
        except GateError as error:
            return self._decoder.fail(error.fault)
        except TimeoutError:
            if self.calls:
                return self._decoder.pause()
            message = f"Codex was given up after {limit:g} s without an end."
            fault = Fault("timeout", message, f"`codex.{setting}` sets the limit.", "codex_timeout", "", True)
            return self._decoder.fail(fault)
        events: list[Event] = []
        for one in told:
            events += self._take(one)
        return events

    def _patience(self) -> tuple[float, float, str]:
        """Seconds to wait for news, and what is over then: seconds, and the setting that says so."""
        left = max(0.0, self._deadline - time.monotonic())
        idle = self._options.idle_timeout + (self._options.approval_timeout if self._asked else 0)
        if self.calls or left <= idle:
            patience = min(GATHER, left) if self.calls else left
            return patience, self._options.turn_timeout, "turn_timeout"
        return idle, idle, "idle_timeout"

    def _take(self, told: Told) -> list[Event]:
        if not isinstance(told, Request):
            return self._decoder.feed(told.method, told.params)
        try:
            if told.method == wire.TOOL_CALL and self.request.tools:
                call = f"call_{secrets.token_hex(12)}"
                events = self._decoder.call(call, told.params)
                self.calls[call] = told.id
                return events
            if told.method in _APPROVALS and self._options.approvals == "ask":
                return [self._ask(told)]
        except msgspec.DecodeError:
            pass  # what cannot be read is refused, as everything else is
        self.turn.answer(told.id, ask.answer(told.method))
        return []

    def _ask(self, question: Request) -> Approval:
        """Put an approval up for a person to decide."""
        approval = self._decoder.approval(new_id(), question.method, question.params)

        def decided(accept: bool) -> None:
            self._asked.discard(approval.id)
            self.turn.answer(question.id, ask.decision(question.method, accept))

        self._asked.add(approval.id)
        self._desk.ask(approval, self.request.model, decided)
        return approval

    def _note(self, batch: list[Event]) -> None:
        for event in batch:
            if isinstance(event, TextDelta):
                self.answer = event.text if event.item != self._item else self.answer + event.text
                self._item = event.item
            elif isinstance(event, Done) and self._decoder.over:
                self.done = event


def _results(request: ChatRequest) -> list[Message]:
    """The results of tools that `request` ends with; empty when it ends with something else."""
    results: list[Message] = []
    for message in reversed(request.messages):
        if message.role != "tool":
            break
        results.append(message)
    return results
