"""What keeps: memories, responses, conversations, files, sessions and the threads of backends."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from ..chat import Message, Retrieval
from ..records import (
    ConversationRecord,
    Entry,
    FileRecord,
    Filter,
    Item,
    Kept,
    Memory,
    ResponseRecord,
    ThreadRecord,
    Vectored,
)


class MemoryStore(Protocol):
    """Memories with their vectors. One namespace holds the vectors of one model and dimension.

    Everything but `aclose` raises GateError of kind `unavailable`, code `memory_store_unavailable`, when
    the store cannot be used, and of kind `conflict`, code `dimension_mismatch`, for vectors of another
    model or dimension than its namespace has, with both numbers.
    """

    async def add(self, entries: Sequence[Vectored]) -> tuple[Kept, ...]:
        """Keep them in one transaction, durable when this returns; for each what became of it.

        One whose id is there, or whose digest is in its namespace, is not kept again.
        """
        ...

    async def known(self, namespace: str, digests: Sequence[str]) -> dict[str, Entry]:
        """The entries of a namespace with these digests, by digest."""
        ...

    async def near(
        self, vector: Sequence[float], model: str, wanted: Filter, limit: int
    ) -> tuple[tuple[Entry, float], ...]:
        """The entries nearest in meaning among those that `model` embedded, with their cosine distance."""
        ...

    async def worded(self, query: str, wanted: Filter, limit: int) -> tuple[Entry, ...]:
        """The entries that hold words of `query`, the best first."""
        ...

    async def load(self, ids: Sequence[str]) -> tuple[Entry, ...]:
        """The entries with these ids that there are."""
        ...

    def all(
        self, wanted: Filter, *, vectors: bool = False, newest_first: bool = False
    ) -> AsyncGenerator[list[Vectored]]:
        """All entries that are meant, by the time of their making, in batches.

        Without `vectors` theirs are empty.
        """
        ...

    async def delete(self, ids: Sequence[str]) -> int:
        """Forget these; how many there were."""
        ...

    async def clear(self, namespace: str) -> int:
        """Forget a namespace; how many entries it had."""
        ...

    async def namespaces(self) -> tuple[tuple[str, int, str, int], ...]:
        """Name, number of entries, model and dimension of each, by name."""
        ...

    async def models(self, namespaces: Sequence[str] = ()) -> tuple[tuple[str, int], ...]:
        """What embedded these namespaces, or all: each model once, with its dimension; cheap."""
        ...

    async def touch(self, ids: Sequence[str]) -> None:
        """They were found now."""
        ...

    async def stage(self, model: str, vectors: Sequence[tuple[str, Sequence[float]]]) -> None:
        """Put new vectors (id, vector) by `model` beside the old ones, which serve until `switch`."""
        ...

    async def staged(self, namespace: str, model: str) -> frozenset[str]:
        """The ids whose new vectors by `model` are there."""
        ...

    async def switch(self, namespace: str, model: str) -> int:
        """Make the new vectors of a namespace the ones that serve, at once; how many.

        0, and nothing is changed, when one of its entries has none yet.
        """
        ...

    async def aclose(self) -> None:
        """Let go of everything; may be called twice."""
        ...


class Retriever(Protocol):
    """Finds memories that match a question."""

    async def retrieve(self, query: str, retrieval: Retrieval) -> tuple[Memory, ...]:
        """The memories for `query`, the best first. Raises GateError when the store fails."""
        ...


class ResponseStore(Protocol):
    """Responses that are kept, by id, each its owner's alone.

    Every method but `aclose` raises GateError of kind `unavailable` when the store cannot be used,
    and of kind `not_found`, code `response_not_found`, for an id that is not the owner's.
    """

    async def save(self, record: ResponseRecord) -> None:
        """Keep `record`, in the place of one with its id; durable when this returns.

        A wish to cancel stays. An id that is another owner's raises, and nothing is changed.
        """
        ...

    async def load(self, id: str, owner: str) -> ResponseRecord:
        """The response `id`."""
        ...

    async def history(self, id: str, owner: str) -> tuple[ResponseRecord, ...]:
        """The response `id` and all that it goes on with, oldest first.

        Raises GateError (not_found) that names a link which was deleted or has run out, and
        (too_large, `history_too_long`) when it is longer than a gate holds.
        """
        ...

    async def delete(self, id: str, owner: str) -> None:
        """Forget it, with its input."""
        ...

    async def touch(self, id: str) -> bool:
        """Say that whoever runs `id` is alive; whether somebody asked to cancel it."""
        ...

    async def cancel(self, id: str, owner: str) -> None:
        """Ask whoever runs it, on whatever gate, to stop."""
        ...

    async def aclose(self) -> None:
        """Let go of everything; may be called twice."""
        ...


class ConversationStore(Protocol):
    """Conversations that responses read and add to, each its owner's alone.

    Every method raises GateError of kind `unavailable` when the store cannot be used, and of kind
    `not_found`, code `conversation_not_found` or `item_not_found`, for what is not the owner's.
    """

    async def create_conversation(self, record: ConversationRecord, items: Sequence[Item] = ()) -> None:
        """Begin one, with its first items. Raises as `add_items`, and `conflict` when its id is taken."""
        ...

    async def load_conversation(self, id: str, owner: str) -> ConversationRecord:
        """The conversation `id`, without its items."""
        ...

    async def update_conversation(self, id: str, owner: str, metadata: dict[str, str]) -> ConversationRecord:
        """Replace its metadata."""
        ...

    async def delete_conversation(self, id: str, owner: str) -> None:
        """Forget it, with its items."""
        ...

    async def add_items(self, id: str, owner: str, items: Sequence[Item]) -> None:
        """Put `items` at its end, all or none of them.

        Raises GateError (invalid_request, `item_exists`) for an id that is there already, and
        (too_large, `history_too_long`) when it would be longer than a gate holds.
        """
        ...

    async def items(self, id: str, owner: str) -> tuple[Item, ...]:
        """Its items, oldest first."""
        ...

    async def delete_item(self, id: str, owner: str, item: str) -> None:
        """Take one item out."""
        ...


class Upload(Protocol):
    """A file on its way in."""

    async def write(self, data: bytes) -> None:
        """Add `data` at its end. Raises GateError of kind `too_large` beyond the store's limit."""
        ...

    async def keep(self, owner: str, name: str, purpose: str, lifetime: int = 0) -> FileRecord:
        """Make it one of the owner's files; durable when this returns.

        `lifetime`: seconds until it is gone; 0 for ever.
        """
        ...


class FileStore(Protocol):
    """Files that callers sent, each its owner's alone; what is listed is whole.

    Everything but `aclose` raises GateError of kind `unavailable` when the store cannot be used or is
    full, and of kind `not_found`, code `file_not_found`, for an id that is not the owner's or has run out.
    """

    @property
    def max_size(self) -> int:
        """Bytes of the largest file that is taken."""
        ...

    def receive(self) -> AbstractAsyncContextManager[Upload]:
        """Take a file in; nothing of it stays unless it is kept within the context."""
        ...

    async def load(self, id: str, owner: str) -> FileRecord:
        """What is known of the file `id`."""
        ...

    async def list(
        self, owner: str, *, limit: int, purpose: str = "", after: str = "", newest_first: bool = True
    ) -> tuple[FileRecord, ...]:
        """At most `limit` of the owner's files of that purpose, in the order they came.

        `after`: the id that the page before ended with; it need not be there any more.
        """
        ...

    def content(self, record: FileRecord) -> AsyncGenerator[bytes]:
        """Its bytes, piece by piece; raises GateError (not_found) first when they are lost."""
        ...

    async def delete(self, id: str, owner: str) -> None:
        """Forget it, whether its content is still there or not."""
        ...

    async def aclose(self) -> None:
        """Let go of everything; may be called twice."""
        ...


class SessionStore(Protocol):
    """Conversations that the gate keeps; shared by all gates on one store.

    Every method but `aclose` raises GateError of kind `unavailable` when the store cannot be used,
    within a second.
    """

    def lock(self, key: str, wait: float) -> AbstractAsyncContextManager[None]:
        """Hold `key` alone, across gates, as `ThreadStore.lock` holds a chat."""
        ...

    async def load(self, key: str) -> tuple[Message, ...]:
        """The messages kept under `key`, oldest first; empty when there are none."""
        ...

    async def append(self, key: str, messages: Sequence[Message]) -> None:
        """Keep `messages` after what is there, all or none of them; durable when this returns."""
        ...

    async def replace(self, key: str, messages: Sequence[Message]) -> None:
        """Keep `messages` in the place of what is there, or else leave that as it is."""
        ...

    async def aclose(self) -> None:
        """Let go of everything; may be called twice."""
        ...


class SessionList(SessionStore, Protocol):
    """Conversations that a person named and looks through."""

    async def latest(self) -> str | None:
        """The key that was written to last."""
        ...

    async def keys(self) -> tuple[str, ...]:
        """Every key, the one used last first."""
        ...

    async def delete(self, key: str) -> None:
        """Forget `key`; forgetting what is not there is no failure."""
        ...


class ThreadStore(Protocol):
    """Which thread remembers which chat, and who may go on with it; shared by all gates on one store.

    A chat is kept for seven days after its last write. Every method but `aclose` raises GateError of
    kind `unavailable` when the store cannot be reached, within a second.
    """

    def lock(self, chat: str, wait: float) -> AbstractAsyncContextManager[None]:
        """Hold `chat` alone, across gates; whoever comes second waits.

        Raises GateError of kind `conflict` after `wait` seconds. A holder that dies lets go by itself,
        soon; one that lives keeps it however long its turn takes.
        """
        ...

    async def load(self, chat: str) -> ThreadRecord:
        """What is kept of `chat`; an empty record when nothing is."""
        ...

    async def begin(self, chat: str) -> int:
        """Count one more turn and return its number, from 1."""
        ...

    async def save(self, chat: str, thread: str, signature: Sequence[str]) -> None:
        """Keep the thread and what it holds; the turn's number stays."""
        ...

    async def forget(self, chat: str) -> None:
        """Drop thread and signature; the turn's number stays."""
        ...

    async def worktree(self, chat: str) -> str:
        """The name of the chat's worktree; empty when it has none."""
        ...

    async def keep_worktree(self, chat: str, name: str) -> None:
        """Remember the name of the chat's worktree; an empty one forgets it."""
        ...

    async def worktrees(self) -> frozenset[str]:
        """The names of all worktrees whose chats are still kept."""
        ...

    async def aclose(self) -> None:
        """Let go of everything; may be called twice."""
        ...
