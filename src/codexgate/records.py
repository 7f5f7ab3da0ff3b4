"""Facts that outlive one answer: models, and how a backend fares. Values only."""

from typing import Any, Literal

import msgspec

from .errors import advised

Ability = Literal["chat", "tools", "vision", "thinking", "embedding", "insert"]
State = Literal["ready", "down", "absent"]
ResponseStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]


class Model(msgspec.Struct, frozen=True):
    """One model of one backend."""

    id: str
    """The backend's own name, such as `qwen3:8b`; no backend prefix."""
    backend: str
    """The backend's name, such as `ollama`."""
    created: int = 0
    """Unix seconds; 0 when unknown."""
    owned_by: str = ""
    abilities: frozenset[Ability] = frozenset()
    context: int = 0
    """Tokens the model can see at once; 0 when unknown."""
    size: int = 0
    """Bytes on disk; 0 when not local."""
    loaded: bool = False
    """In memory now."""
    details: dict[str, str] = {}
    """For people: family, parameters, quantization, digest, description."""
    guessed: bool = False
    """The abilities are no more than what its name suggests."""

    def lacks(self, ability: Ability) -> bool:
        """Whether it is known that it cannot."""
        return bool(self.abilities) and not self.guessed and ability not in self.abilities


class Health(msgspec.Struct, frozen=True):
    """What a backend's probe saw."""

    state: State
    """`ready`: works; `down`: is set up but does not answer; `absent`: is not here at all."""
    summary: str
    """One phrase for the banner: `0.13.5, 9 models`."""
    version: str = ""
    advice: str = ""
    """What to do when it is not ready."""

    @property
    def text(self) -> str:
        """Summary and advice as one line for a person."""
        return advised(self.summary, self.advice)


class ThreadRecord(msgspec.Struct, frozen=True):
    """What a chat has kept: the backend's thread that remembers it."""

    thread: str = ""
    """The backend's id; empty when there is none now."""
    turn: int = 0
    """The number of the last turn; it only grows, also when the thread is replaced."""
    signature: tuple[str, ...] = ()
    """One digest for each message that the thread holds, oldest first."""


class PendingApproval(msgspec.Struct, frozen=True):
    """Something that a backend would do if somebody allowed it."""

    id: str
    action: Literal["command", "file_change", "tool"]
    detail: str
    """What would be done: the command line, the paths, the call."""
    reason: str = ""
    cwd: str = ""
    model: str = ""
    created: int = 0
    """Unix seconds."""
    expires: int = 0
    """Unix seconds; declined then."""


class Progress(msgspec.Struct, frozen=True):
    """One line of news from a long installation."""

    status: str
    part: str = ""
    """Which layer or file, when the backend says."""
    total: int = 0
    """Bytes of that part; 0 when unknown."""
    completed: int = 0


class Embeddings(msgspec.Struct, frozen=True):
    """Vectors of some texts."""

    vectors: tuple[tuple[float, ...], ...]
    """One for each text, in their order, all of one length."""
    tokens: int = 0
    """Of all texts."""
    estimated: bool = False
    """Counted by the gate because the backend gave none."""


class Memory(msgspec.Struct, frozen=True):
    """One memory that matches a question."""

    id: str
    namespace: str
    text: str
    """Untrusted, whoever wrote it."""
    source: str = ""
    score: float = 0.0
    """More is better."""


class ResponseRecord(msgspec.Struct, frozen=True):
    """One response that is kept."""

    id: str
    owner: str
    """Digest of the caller's key; nobody else sees it."""
    created: int
    """Unix seconds."""
    status: ResponseStatus
    body: bytes
    """JSON of the response object, `output` included."""
    input: bytes = b"[]"
    """JSON array of this request's own input items, each with an id; not the history before them."""
    previous: str = ""
    """The response that this one goes on with."""
    touched: float = 0.0
    """Unix seconds when whoever runs it last said so."""


class ConversationRecord(msgspec.Struct, frozen=True):
    """A conversation object: a list of items that responses read and add to."""

    id: str
    owner: str
    created: int
    metadata: dict[str, str] = {}


class Item(msgspec.Struct, frozen=True):
    """One item of a conversation."""

    id: str
    body: bytes
    """JSON of the item, its id included."""


class FileRecord(msgspec.Struct, frozen=True):
    """One file that was uploaded."""

    id: str
    """`file-…`; ids sort in the order in which the files came."""
    owner: str
    """Digest of the caller's key; nobody else sees it."""
    name: str
    """As the client called it, made harmless; part of no path."""
    purpose: str
    size: int
    """Bytes."""
    sha256: str
    """Of the content, hexadecimal."""
    created: int
    """Unix seconds."""
    expires: int = 0
    """Unix seconds; 0 for never."""


class Draft(msgspec.Struct, frozen=True):
    """A memory that is to be kept."""

    content: str
    namespace: str = ""
    """Empty: the default one."""
    summary: str = ""
    """Empty: the beginning of the content."""
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}
    source: str = ""
    """Who or what it comes from: `cli`, `mcp`, the path of a file."""
    key: str = ""
    """What an import knows it by: the same key in a namespace is the same entry, however often it comes.

    A UUID is the entry's id itself, so that what was exported comes back under its id.
    """
    created: float = 0.0
    """Unix seconds; 0: now."""
    accessed: float = 0.0
    """Unix seconds when it was last found, before it came here; 0: never."""


class Entry(msgspec.Struct, frozen=True):
    """A memory that is kept."""

    id: str
    namespace: str
    content: str
    summary: str
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}
    source: str = ""
    created: float = 0.0
    accessed: float = 0.0
    """Unix seconds when it was last found; 0: never."""
    model: str = ""
    """What embedded it, as `PROVIDER/MODEL`."""
    dimension: int = 0
    digest: str = ""
    """Of its normalised content: two of one digest in a namespace are duplicates."""


class Vectored(msgspec.Struct, frozen=True):
    """An entry with its vector."""

    entry: Entry
    vector: tuple[float, ...]
    """Of unit length."""


class Kept(msgspec.Struct, frozen=True):
    """What became of a draft."""

    entry: Entry
    deduped: bool = False
    """It was there already, and `entry` is the one that was."""


class Filter(msgspec.Struct, frozen=True):
    """Which entries are meant."""

    namespaces: tuple[str, ...] = ()
    """Empty: all."""
    tags: tuple[str, ...] = ()
    """All of them."""
    metadata: dict[str, Any] = {}
    """All of these keys with these values."""
    since: float = 0.0
    """Created at or after this; Unix seconds."""
    until: float = 0.0
    """Created before this; 0: no limit."""


class Match(msgspec.Struct, frozen=True):
    """An entry that a query found."""

    entry: Entry
    distance: float | None
    """Cosine distance of the vectors, 0 to 2; `None` when only words matched."""
    why: tuple[Literal["meaning", "words"], ...]
    score: float
    """More is better; of one query's matches only."""
