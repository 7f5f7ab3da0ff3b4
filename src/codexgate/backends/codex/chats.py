"""Chats that last: which thread goes on with a chat, and what becomes of it after a turn.

A chat is held alone from before its thread is looked up until its turn is left and settled, so
that two requests never run on one thread. Without its store a chat goes on statelessly, with its
whole history, unless the operator is strict.
"""

import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import msgspec

from ...chat import ChatRequest, Tool
from ...dialects.codex import ask, transcript
from ...errors import GateError
from ...events import Event, Notice, ThreadStarted
from ...ports import ThreadStore
from ...records import ThreadRecord
from .child import Child
from .run import Run
from .turn import Turn
from .worktree import Worktrees

log = logging.getLogger(__name__)

Settle = Callable[[Run], Awaitable[None]]


class Opened(msgspec.Struct, frozen=True):
    """A chat's turn that runs."""

    turn: Turn
    settle: Settle
    events: tuple[Event, ...]
    """What to tell before its own events."""


class Chats:
    """The chats of one backend."""

    def __init__(
        self,
        store: ThreadStore,
        authority: ask.Authority,
        *,
        wait: float,
        strict: bool,
        worktrees: Worktrees | None = None,
    ) -> None:
        """`wait`: seconds that a second request waits for a chat; `strict`: no store, no turn."""
        self._store = store
        self._authority = authority
        self._wait = wait
        self._strict = strict
        self._worktrees = worktrees

    async def open(self, child: Child, request: ChatRequest) -> Opened | Notice:
        """Begin the next turn of the chat, or a notice that it has to run without its thread.

        Raises GateError: somebody else holds the chat, the turn was refused, or the store is
        down and the operator is strict.
        """
        held = AsyncExitStack()
        try:
            await held.enter_async_context(self._store.lock(request.chat, self._wait))
            record = await self._store.load(request.chat)
            number = await self._store.begin(request.chat)
            authority = await self._place(request.chat)
        except GateError as error:
            await held.aclose()
            if error.fault.kind != "unavailable" or self._strict:
                raise
            log.warning("thread_store.down", extra={"fields": {"reason": error.fault.message}})
            return Notice("degraded", "The store of chats does not answer; this turn is not remembered.")
        except BaseException:
            await held.aclose()
            raise
        try:
            turn = await self._turn(child, request, record, authority)
        except BaseException:
            await held.aclose()
            raise

        async def settle(run: Run) -> None:
            async with held:
                await self._settle(run, request.tools)

        return Opened(turn, settle, (ThreadStarted(turn.thread, number),))

    async def _turn(
        self, child: Child, request: ChatRequest, record: ThreadRecord, authority: ask.Authority
    ) -> Turn:
        """A turn on the chat's thread if that still holds its history, else on a new one."""
        new = transcript.continuation(
            record.signature, request.messages, request.tools, sandbox=request.sandbox
        )
        if record.thread and new is not None:
            try:
                return await _running(Turn(child, ask.resumed(request, new, record.thread, authority)))
            except GateError as error:
                if not transcript.is_stale(error.fault):
                    raise
                log.info("thread.stale", extra={"fields": {"thread": record.thread}})
                await self._store.forget(request.chat)
        return await _running(Turn(child, ask.fresh(request, authority, lasting=True)))

    async def _settle(self, run: Run, tools: tuple[Tool, ...]) -> None:
        """Keep the thread if its turn ended well; one that did not holds what nobody saw.

        `tools`: those that it was opened with, whatever came with their results.
        """
        request = run.request
        try:
            if run.done is not None and run.done.reason == "stop":
                held = transcript.signature(request.messages, tools, run.answer, sandbox=request.sandbox)
                await self._store.save(request.chat, run.turn.thread, held)
            else:
                await self._store.forget(request.chat)
            if self._worktrees is not None:  # of chats that nobody came back to
                await self._worktrees.clean(await self._store.worktrees())
        except GateError as error:
            log.warning("chat.unsettled", extra={"fields": {"reason": error.fault.message}})

    async def _place(self, chat: str) -> ask.Authority:
        """What Codex may do in this chat: the operator's authority, in the chat's own worktree."""
        if self._worktrees is None:
            return self._authority
        name = await self._store.worktree(chat)
        if not name:
            name = self._worktrees.new_name(await self._store.worktrees())
            await self._store.keep_worktree(chat, name)
        path = str(await self._worktrees.allocate(name))
        config = self._authority.config | {"projects": {path: {"trust_level": "untrusted"}}}
        return msgspec.structs.replace(self._authority, cwd=path, config=config)


async def _running(turn: Turn) -> Turn:
    """`turn`, once it runs; one that will not is left. Raises GateError."""
    try:
        await turn.ready()
    except BaseException:
        await turn.leave(ended=False)
        raise
    return turn
