"""Responses that last: how one is made, what of it is kept, and what runs without its client.

The use case behind `/v1/responses` and `/v1/conversations`, on every backend alike; what a request
goes on with is found by `past`. It knows stores by their ports and items by the front that reads
and writes them; no socket, no backend.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, suppress

import msgspec

from . import past
from .chat import Retrieval
from .errors import Fault, GateError
from .events import Done, Event, Failed
from .flat import Activity
from .fronts import openai_items, openai_responses, openai_responses_request
from .fronts.openai_responses_request import Asked
from .gate import Gate
from .past import LIVE
from .ports import Batches, ConversationStore, ResponseStore, Route
from .records import Item, ResponseRecord
from .told import Follower, Told

BEAT = 2.0
"""Seconds between two signs of life of a response that runs in the background."""
LOST = 30.0
"""Seconds without one after which whoever ran it is gone."""
LINGER = 300.0
"""Seconds for which the events of a finished background response can still be followed."""

GONE = Fault("unavailable", "The gate that made this response was stopped.", "Ask again.", "server_error")
_encode = msgspec.json.Encoder().encode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
log = logging.getLogger(__name__)


class Caller(msgspec.Struct, frozen=True):
    """Who asks, and how the answer is shown to them."""

    owner: str
    chat: str = ""
    """The chat that a header names; else the chain of responses is one."""
    session: str = ""
    """The session that a header names; what goes on with a response or a conversation needs none."""
    retrieval: Retrieval | None = None
    """The memories that a header asks for, unless the request itself does."""
    activity: Activity = "reasoning"


class Responses:
    """All responses of one gate."""

    def __init__(
        self,
        gate: Gate,
        store: ResponseStore,
        conversations: ConversationStore,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock`: Unix seconds."""
        self.gate = gate
        self.store = store
        self.conversations = conversations
        self.clock = clock
        self._running: dict[str, tuple[Generation, asyncio.Task[None]]] = {}
        self._busy: set[str] = set()
        """Conversations that a response is being added to."""

    async def open(self, asked: Asked, caller: Caller) -> "Generation":
        """Prepare a response: what it goes on with, and where it goes. Raises GateError."""
        given = await past.given(asked, caller.owner, self.store, self.conversations)
        read = openai_responses_request.read(asked, given.history, given.items)
        id = f"resp_{secrets.token_hex(16)}"
        chat = caller.chat or given.chat or (id if asked.store else "")
        request = msgspec.structs.replace(
            read.request,
            id=id,
            chat=chat,
            session="" if asked.previous or asked.conversation else caller.session,
            retrieval=read.request.retrieval or caller.retrieval,
            caller=caller.owner,
        )
        route = await self.gate.route(request)
        meta = openai_responses.Meta(
            id=id,
            created=int(self.clock()),
            model=read.request.model or route.model.id,
            echo=asked.echo,
            conversation=asked.conversation,
            encrypted=asked.encrypted,
        )
        encoder = openai_responses.Encoder(meta, read.toolbox, caller.activity)
        own = id.removeprefix("resp_")
        items = [
            openai_items.identified(item, f"{own}{0x8000 + index:04x}")
            for index, item in enumerate(given.items)
        ]
        generation = Generation(self, asked, caller.owner, meta, encoder, route, tuple(items))
        generation.left_out = tuple(sorted(f"tools.{kind}" for kind in read.toolbox.left_out))
        return generation

    async def read(self, asked: Asked, owner: str) -> openai_responses_request.Read:
        """What would be asked of a model. Raises GateError."""
        given = await past.given(asked, owner, self.store, self.conversations)
        return openai_responses_request.read(asked, given.history, given.items)

    async def load(self, id: str, owner: str) -> bytes:
        """The response object `id` as it is now. Raises GateError (not_found)."""
        running = self._own(id, owner)
        if running is not None:
            generation, task = running
            if generation.over:  # where its end is kept is part of it
                await asyncio.wait({task})
            return _encode(generation.encoder.response())
        record = await self.store.load(id, owner)
        if record.status in LIVE and self.clock() - record.touched > LOST:
            return self._given_up(record)
        return record.body

    async def follow(self, id: str, owner: str, after: int = -1) -> Follower:
        """The events of a background response, from the one after number `after`. Raises GateError."""
        running = self._own(id, owner)
        if running is None:
            await self.store.load(id, owner)
            message = "The events of this response are not kept any more."
            raise GateError(Fault("conflict", message, "Ask for it whole.", "not_streamable", "stream"))
        return Follower(running[0].told, after)

    async def start(self, generation: "Generation", slot: AbstractAsyncContextManager[None]) -> None:
        """Make it in the background, once `slot` can be had. Raises GateError when it cannot be kept."""
        await generation.keep()
        task = asyncio.create_task(self._run(generation, slot))
        self._running[generation.id] = (generation, task)

    async def cancel(self, id: str, owner: str) -> bytes:
        """Stop a background response, on whatever gate it runs; returns it. Raises GateError."""
        running = self._own(id, owner)
        if running is not None:
            generation, task = running
            if not generation.over:
                task.cancel()
            await asyncio.wait({task})
            return _encode(generation.encoder.response())
        record = await self.store.load(id, owner)
        if not msgspec.json.decode(record.body).get("background"):
            message = "Only a background response can be cancelled."
            advice = "To stop one that is streamed, close its connection."
            raise GateError(Fault("conflict", message, advice, "not_cancellable", "id"))
        if record.status in LIVE:
            await self.store.cancel(id, owner)
            for _ in range(int(LOST / BEAT)):
                await asyncio.sleep(BEAT / 4)
                record = await self.store.load(id, owner)
                if record.status not in LIVE:
                    break
        return record.body

    async def delete(self, id: str, owner: str) -> None:
        """Stop and forget it. Raises GateError (not_found)."""
        running = self._own(id, owner)
        if running is not None:
            running[1].cancel()
            await asyncio.wait({running[1]})
            del self._running[id]
        await self.store.delete(id, owner)

    async def input_items(self, id: str, owner: str) -> list[bytes]:
        """The items that `id` answered, its history included, oldest first. Raises GateError."""
        *before, last = await self.store.history(id, owner)
        return [*past.said(before), *past.own(last)]

    async def aclose(self) -> None:
        """Stop what runs in the background, which is told in what is kept, and close the stores."""
        for generation, task in self._running.values():
            generation.stopped = True
            task.cancel()
        if self._running:
            await asyncio.wait({task for _, task in self._running.values()})
        await self.store.aclose()

    # What runs in the background

    def _own(self, id: str, owner: str) -> "tuple[Generation, asyncio.Task[None]] | None":
        """What runs here under `id`, if it is the owner's: nobody else's is shown, followed or stopped."""
        running = self._running.get(id)
        return running if running is not None and running[0].owner == owner else None

    async def _run(self, generation: "Generation", slot: AbstractAsyncContextManager[None]) -> None:
        heart = asyncio.create_task(self._beat(generation.id, asyncio.current_task()))
        try:
            async with slot, aclosing(generation.batches()) as batches:
                async for _ in batches:
                    pass
        except GateError as error:
            generation.fail(error.fault)
        except asyncio.CancelledError:
            generation.fail(GONE) if generation.stopped else generation.cancelled()
        except Exception:
            log.exception("response.crash", extra={"fields": {"response": generation.id}})
            generation.fail(Fault("internal", "codexgate failed.", "The log has the details."))
        finally:
            heart.cancel()
        if not generation.kept:
            with suppress(GateError):
                await generation.keep()
        loop = asyncio.get_running_loop()
        loop.call_later(LINGER, self._running.pop, generation.id, None)

    async def _beat(self, id: str, run: "asyncio.Task[None] | None") -> None:
        while True:
            await asyncio.sleep(BEAT)
            with suppress(GateError):  # a store that is down for a while is not the end
                if await self.store.touch(id) and run is not None:
                    run.cancel()

    def _given_up(self, record: ResponseRecord) -> bytes:
        told = {"status": "failed", "error": {"code": "server_error", "message": GONE.text}}
        return _encode(_object(record.body) | told)

    def lock(self, conversation: str) -> "_Lock":
        """Hold a conversation alone while a response is added to it."""
        return _Lock(self._busy, conversation)


class Generation:
    """One response while it is made."""

    def __init__(
        self,
        responses: Responses,
        asked: Asked,
        owner: str,
        meta: openai_responses.Meta,
        encoder: openai_responses.Encoder,
        route: Route,
        items: tuple[tuple[str, bytes], ...],
    ) -> None:
        self.id = meta.id
        self.owner = owner
        self.encoder = encoder
        self.route = route
        self.asked = asked
        self.left_out: tuple[str, ...] = ()
        """Tools that were asked for and cannot be had."""
        self.stopped = False
        """It ends because the gate does."""
        self.kept = False
        """It is kept as it ended."""
        self.told = Told()
        """In the background: everything, for whoever follows it."""
        self._responses = responses
        self._created = meta.created
        self._items = items
        self._untold = b""

    @property
    def over(self) -> bool:
        """Nothing more will come."""
        return self.encoder.status not in LIVE

    async def batches(self) -> Batches:
        """Make it. What each batch becomes is handed out by `take`; its end is kept before it is told."""
        with self._responses.lock(self.asked.conversation):
            async with aclosing(self._responses.gate.stream(self.route)) as batches:
                async for batch in batches:
                    told = b"".join([self.encoder.feed(event) for event in batch])
                    try:
                        if isinstance(batch[-1], Done | Failed):
                            told = await self._finish(told)
                    finally:  # what is stopped while it is kept has its end
                        self._tell(batch, told)
                    yield batch

    def take(self, batch: Sequence[Event]) -> bytes:
        """The frames of what came since the last time: a beginning may be of several batches.

        A batch that did not come from here is why its stream ends, and with it what was made.
        """
        if isinstance(batch[-1], Failed) and not self.kept:  # and nobody will keep it
            self.fail(batch[-1].fault)
            self._untold = self.encoder.amend(self._untold, store=False)
        told, self._untold = self._untold, b""
        return told

    def fail(self, fault: Fault) -> None:
        """End it badly, unless it has ended."""
        self._tell([Failed(fault)], self.encoder.fail(fault))

    def cancelled(self) -> None:
        """End it because somebody asked to, unless it has ended."""
        if not self.over:
            self._tell([Done("cancelled")], self.encoder.cancel())

    async def keep(self) -> None:
        """Keep it as it is now. Raises GateError."""
        record = ResponseRecord(
            id=self.id,
            owner=self.owner,
            created=self._created,
            status=self.encoder.status,
            body=_encode(self.encoder.response()),
            input=b"[" + b",".join(body for _, body in self._items) + b"]",
            previous=self.asked.previous,
            touched=self._responses.clock(),
        )
        await self._responses.store.save(record)

    async def _finish(self, told: bytes) -> bytes:
        """Keep it where it should be; returns what to tell instead of `told`, its end.

        The answer is there, and paid for: that it is not kept somewhere is told with it.
        """
        if self.asked.conversation and self.encoder.status in ("completed", "incomplete"):
            said = [Item(id, body) for id, body in self._items]
            said += [Item(item["id"], _encode(item)) for item in self.encoder.response()["output"]]
            try:
                await self._responses.conversations.add_items(self.asked.conversation, self.owner, said)
            except GateError as error:
                told = self._lost(error, told, conversation=None)
        refused = self.encoder.status == "failed" and not self.encoder.response()["output"]
        if self.asked.store and (self.asked.background or not refused):
            try:
                await self.keep()
            except GateError as error:
                told = self._lost(error, told, store=False)
        self.kept = True
        return told

    def _lost(self, error: GateError, told: bytes, **fields: object) -> bytes:
        log.warning("response.error", extra={"fields": {"reason": error.fault.message}})
        return self.encoder.amend(told, **fields)

    def _tell(self, batch: list[Event], told: bytes) -> None:
        if self.asked.background:
            self.told.add(batch, told)
        else:
            self._untold += told


class _Lock:
    def __init__(self, busy: set[str], id: str) -> None:
        self._busy = busy
        self._id = id

    def __enter__(self) -> None:
        if self._id in self._busy:
            message = "Another response is being added to this conversation."
            raise GateError(
                Fault("conflict", message, "Wait for it to end.", "conversation_locked", "", True, 1.0)
            )
        if self._id:
            self._busy.add(self._id)

    def __exit__(self, *exc: object) -> None:
        self._busy.discard(self._id)
