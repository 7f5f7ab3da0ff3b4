"""The memory's use case: keep, find again, forget, and change the model that finds.

Knows its store by its port and models by `embedding`; no caller's format, no database. One namespace
is one model's: what has embedded a namespace goes on with it, unless the settings name another, which
is refused until `reembed`.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress

import msgspec

from .chat import Retrieval
from .drafts import LIMIT, QUERY, check_query, entry_of, input_of
from .embedding import Embedding, Vector
from .errors import GateError
from .ports import MemoryStore
from .recall import Near, agree, fuse, mismatch, strong
from .records import Draft, Entry, Filter, Kept, Match, Vectored
from .records import Memory as Found

NEAR = 0.95
"""Cosine from which two texts count as the same, if their words agree (`recall.agree`)."""
CLOSE = 3
"""Entries that are looked at for that."""
CANDIDATES = 3
"""Times as many entries as are wanted come by meaning and by words each, before the weak ones are cut."""
GATHER = 2.0
"""Seconds for which what was found is gathered before it is written: questions come one after the other."""
STAGED = 256
"""Entries of one step of `reembed`."""

log = logging.getLogger(__name__)


class Memory:
    """One memory, for every surface. Its methods raise GateError: the store's, the model's, or a refusal."""

    def __init__(
        self,
        store: MemoryStore,
        embedding: Embedding,
        *,
        default_namespace: str = "default",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock`: Unix seconds. Store and embedding are closed with this."""
        self._store = store
        self._embedding = embedding
        self._default = default_namespace
        self._clock = clock
        self._found: set[str] = set()
        """Ids that `touch` has to be told of."""
        self._touching: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    @property
    def model(self) -> str:
        """What embeds new namespaces, as `PROVIDER/MODEL`; empty until somebody needed it."""
        return self._embedding.model

    async def persist(self, draft: Draft, *, force: bool = False) -> Kept:
        """Keep one memory, unless the same is there: its content, or nearly so unless `force`."""
        (kept,) = await self.persist_many([draft], force=force)
        if isinstance(kept, GateError):
            raise kept
        return kept

    async def persist_many(self, drafts: Sequence[Draft], *, force: bool = False) -> list[Kept | GateError]:
        """Keep all of them in one transaction; for each what became of it, or why it is refused.

        Those of one call are told apart by content and key only: `force` or not, they are not compared
        with each other. Raises GateError when none can be kept: store or model fails.
        """
        plans = [self._plan(draft) for draft in drafts]
        fresh = await self._unknown([plan for plan in plans if isinstance(plan, _Plan)])
        for (namespace, model, size), group in (await self._by_model(fresh)).items():
            await self._embed(group, namespace, model, size)
        ready = [plan for plan in fresh if plan.vector]
        if not force:
            for plan in ready:
                plan.kept = await self._near(plan)
        ready = [plan for plan in ready if plan.kept is None]
        if ready:
            added = await self._store.add([Vectored(plan.entry, plan.vector) for plan in ready])
            for plan, kept in zip(ready, added, strict=True):
                plan.kept = kept
        return [plan.result if isinstance(plan, _Plan) else plan for plan in plans]

    async def retrieve(
        self,
        query: str,
        wanted: Filter = Filter(),  # noqa: B008, it cannot change
        limit: int = 10,
    ) -> tuple[Match, ...]:
        """What matches `query` in meaning or in words, the best first, without what matches weakly.

        Reciprocal rank fusion of both. Where one of several models fails, the others' entries are found
        all the same, and those that hold the words.
        """
        check_query(query, limit)
        self._embedding.check(query, "query")
        most = max(CANDIDATES * limit, CANDIDATES * 10)
        worded, meant = await asyncio.gather(
            self._store.worded(query, wanted, most), self._meant(query, wanted, most)
        )
        matches = await asyncio.to_thread(fuse, query, meant, worded)
        self._touch([match.entry.id for match in matches[:limit]])
        return matches[:limit]

    def export(
        self,
        wanted: Filter = Filter(),  # noqa: B008, it cannot change
        *,
        vectors: bool = False,
        newest_first: bool = False,
    ) -> AsyncGenerator[list[Vectored]]:
        """All entries that are meant by the time of their making, in batches; see `ports.MemoryStore.all`."""
        return self._store.all(wanted, vectors=vectors, newest_first=newest_first)

    async def delete(self, ids: Sequence[str]) -> int:
        """Forget these; how many there were."""
        return await self._store.delete(ids)

    async def clear(self, namespace: str) -> int:
        """Forget a namespace; how many entries it had."""
        return await self._store.clear(namespace)

    async def namespaces(self) -> tuple[tuple[str, int, str, int], ...]:
        """Name, number of entries, model and dimension of each, by name."""
        return await self._store.namespaces()

    async def reembed(self, namespace: str, model: str = "") -> AsyncGenerator[tuple[int, int]]:
        """Embed a namespace anew, by what the settings mean or `model`; yields how many are done, of all.

        What was there serves until all are done, and then the new at once. Begun again after a crash it
        goes on where it was. What comes in meanwhile is done too.
        """
        chosen, size = await self._target(model)
        while True:
            done = await self._store.staged(namespace, chosen)
            todo: list[str] = []
            async for batch in self._store.all(Filter((namespace,))):
                todo += [each.entry.id for each in batch if each.entry.id not in done]
            if not todo and (switched := await self._store.switch(namespace, chosen)) == len(done):
                yield switched, switched
                return
            count, total = len(done), len(done) + len(todo)
            for at in range(0, len(todo), STAGED):
                some = await self._store.load(todo[at : at + STAGED])
                vectors = await self._embedding.embed([input_of(each) for each in some], chosen, size)
                await self._store.stage(chosen, list(zip([each.id for each in some], vectors, strict=True)))
                count += len(some)
                yield count, total

    async def outdated(self, model: str = "") -> list[str]:
        """The namespaces that `reembed` would change: another model's, or vectors of another length."""
        there = await self._store.namespaces()
        chosen, size = await self._target(model)
        if there and not size:
            size = await self._embedding.size(chosen)
        return [name for name, _, *has in there if has != [chosen, size]]

    async def aclose(self) -> None:
        """Say what was found, and close store and models; may be called twice."""
        self._closing.set()
        while self._touching is not None:
            await self._touching
        await self._embedding.aclose()
        await self._store.aclose()

    async def _target(self, model: str) -> tuple[str, int]:
        """What `model` means, or the settings if it is empty, and the length of vectors; 0: what it gives."""
        if not model:
            return await self._embedding.choose()
        named = self._embedding.named(model)
        return named, (await self._embedding.choose())[1] if named == self._embedding.model else 0

    # Keeping

    def _plan(self, draft: Draft) -> "_Plan | GateError":
        try:
            plan = _Plan(entry_of(draft, draft.namespace or self._default, self._clock()), bool(draft.key))
            self._embedding.check(plan.input, "content")
        except GateError as error:
            return error
        return plan

    async def _unknown(self, plans: Sequence["_Plan"]) -> list["_Plan"]:
        """Those that are not there yet, each once; the others are settled."""
        first: dict[tuple[str, str], _Plan] = {}
        known: dict[tuple[str, str], Entry] = {}
        for namespace in {plan.entry.namespace for plan in plans}:
            digests = {plan.entry.digest for plan in plans if plan.entry.namespace == namespace}
            there = await self._store.known(namespace, list(digests))
            known |= {(namespace, key): entry for key, entry in there.items()}
        keyed = [plan.entry.id for plan in plans if plan.keyed]
        if keyed:
            there_too = await self._store.load(keyed)
            known |= {("", entry.id): entry for entry in there_too}
        for plan in plans:
            ways = [(plan.entry.namespace, plan.entry.digest), ("", plan.entry.id)]
            if (there_already := next((known[way] for way in ways if way in known), None)) is not None:
                plan.kept = Kept(there_already, deduped=True)
            elif (same := next((first[way] for way in ways if way in first), None)) is not None:
                plan.same = same
            else:
                first |= dict.fromkeys(ways, plan)
        return [plan for plan in plans if plan.kept is None and plan.same is None]

    async def _by_model(self, plans: Sequence["_Plan"]) -> dict[tuple[str, str, int], list["_Plan"]]:
        """By namespace, model and dimension; those whose namespace is another model's are refused."""
        groups: dict[tuple[str, str, int], list[_Plan]] = {}
        models: dict[str, tuple[str, int] | GateError] = {}
        for plan in plans:
            namespace = plan.entry.namespace
            if namespace not in models:
                models[namespace] = await self._model_of(namespace)
            match models[namespace]:
                case GateError() as error:
                    plan.error = error
                case (model, size):
                    groups.setdefault((namespace, model, size), []).append(plan)
        return groups

    async def _model_of(self, namespace: str) -> tuple[str, int] | GateError:
        """What embeds a namespace, with the length of its vectors; 0: what it gives."""
        there = await self._store.models((namespace,))
        if not there:
            return await self._embedding.choose()
        for model, size in there:
            if self._embedding.may_go_on(model):
                wanted = (await self._embedding.choose())[1] if self._embedding.model == model else 0
                if wanted in (0, size):
                    return model, size
                await self._embedding.embed(["?"], model, wanted)  # it may have no vectors of that length
                return mismatch(namespace, (model, size), (model, wanted))
        chosen, size = await self._embedding.choose()
        return mismatch(namespace, there[0], (chosen, size or await self._embedding.size(chosen)))

    async def _embed(self, plans: Sequence["_Plan"], namespace: str, model: str, size: int) -> None:
        """Give each its vector; a text that the model refuses spoils no other's."""
        try:
            vectors = await self._embedding.embed([plan.input for plan in plans], model, size)
        except GateError as error:
            if error.fault.kind not in ("invalid_request", "too_large"):
                raise
            if len(plans) > 1:
                half = len(plans) // 2
                await self._embed(plans[:half], namespace, model, size)
                await self._embed(plans[half:], namespace, model, size)
            else:
                plans[0].error = error
            return
        for plan, vector in zip(plans, vectors, strict=True):
            plan.vector = vector
            plan.entry = msgspec.structs.replace(plan.entry, model=model, dimension=len(vector))

    async def _near(self, plan: "_Plan") -> Kept | None:
        """An entry that says the same, if there is one."""
        entry = plan.entry
        near = await self._store.near(plan.vector, entry.model, Filter((entry.namespace,)), CLOSE)
        for other, distance in near:
            if 1 - distance >= NEAR and agree(entry.content, other.content):
                return Kept(other, deduped=True)
        return None

    # Finding

    async def _meant(self, query: str, wanted: Filter, most: int) -> list[list[Near]]:
        """By model, what is near `query`. Raises GateError when no model can tell."""
        models = await self._store.models(wanted.namespaces)
        found = await asyncio.gather(
            *(self._near_by(model, size, query, wanted, most) for model, size in models),
            return_exceptions=True,
        )
        meant: list[list[Near]] = []
        failed: list[GateError] = []
        for each in found:
            match each:
                case GateError():
                    failed.append(each)
                case BaseException():
                    raise each
                case _:
                    meant.append(strong(each))
        if failed and not meant:
            raise failed[0]
        for error in failed:
            log.warning("retrieve.part", extra={"fields": {"reason": error.fault.message}})
        return meant

    async def _near_by(
        self, model: str, size: int, query: str, wanted: Filter, most: int
    ) -> tuple[Near, ...]:
        (vector,) = await self._embedding.embed([query], model, size)
        return await self._store.near(vector, model, wanted, most)

    def _touch(self, ids: Sequence[str]) -> None:
        """Note that these were found; written when nobody waits for it."""
        self._found.update(ids)
        if self._found and self._touching is None:
            self._touching = asyncio.create_task(self._say_found())

    async def _say_found(self) -> None:
        try:
            while self._found:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), GATHER)
                ids, self._found = self._found, set()
                await self._store.touch(sorted(ids))
        except GateError as error:
            log.warning("touch.failed", extra={"fields": {"reason": error.fault.message}})
        finally:
            self._touching = None


class Recall:
    """The memory as a `ports.Retriever`, for questions in chats."""

    def __init__(self, memory: Memory, default_namespace: str) -> None:
        self._memory = memory
        self._default = default_namespace

    async def retrieve(self, query: str, retrieval: Retrieval) -> tuple[Found, ...]:
        """The memories of one namespace that match, the best first."""
        namespace = retrieval.namespace or self._default
        limit = min(retrieval.limit or LIMIT, LIMIT)
        matches = await self._memory.retrieve(query[:QUERY], Filter((namespace,)), limit)
        return tuple(
            Found(match.entry.id, match.entry.namespace, match.entry.content, match.entry.source, match.score)
            for match in matches
        )


class _Plan(msgspec.Struct):
    """A draft on its way in."""

    entry: Entry
    keyed: bool
    """Its id says what it is."""
    vector: Vector = ()
    same: "_Plan | None" = None
    """Another of the same call that says the same."""
    kept: Kept | None = None
    error: GateError | None = None

    @property
    def input(self) -> str:
        """What is embedded."""
        return input_of(self.entry)

    @property
    def result(self) -> Kept | GateError:
        """What became of it."""
        if self.same is not None:
            result = self.same.result
            return Kept(result.entry, deduped=True) if isinstance(result, Kept) else result
        outcome = self.kept or self.error
        assert outcome is not None
        return outcome
