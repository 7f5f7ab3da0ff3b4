"""Settings to live objects: the tables of kinds and factories, and the one place that opens a gate."""

import difflib
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

import msgspec

from . import apikey, responses
from .backends.codex import Codex
from .backends.demo import Demo
from .backends.local import Local
from .backends.ollama import Ollama
from .backends.openai import OpenAI, OpenAIOptions
from .config import Secret
from .core import Core
from .embedding import HOSTED, Embedding, Provider
from .errors import GateError, invalid
from .gate import Gate
from .memory import Memory, Recall
from .ports import Backend, FileStore, MemoryStore, SessionStore, Stage, ThreadStore
from .settings import Settings
from .stages.artifacts import Artifacts
from .stages.files import Attachments
from .stages.retrieval import Memories
from .stages.sessions import Sessions
from .stages.truncation import truncate
from .stages.usage import count_usage
from .stages.written import read_written_calls
from .stores import sqlite, sqlite_memory
from .stores.files import Files
from .stores.responses import Store
from .stores.sqlite import Threads
from .stores.sqlite_responses import Responses

Factory = Callable[[Settings], Backend]

BACKENDS: dict[str, Factory] = {
    "codex": lambda settings: Codex(
        settings.codex,
        settings.data_dir,
        threads=make_threads(settings),
        wait=settings.threads.wait,
        strict=settings.threads.strict,
    ),
    "ollama": lambda settings: Ollama(settings.ollama),
    "demo": lambda settings: Demo(settings.demo),
    "local": lambda _: Local(),
}
"""Those that are always there; `_factories` puts the servers of the settings among them."""


@asynccontextmanager
async def open_core(settings: Settings) -> AsyncIterator[Core]:
    """Everything that `serve` needs; closed when the context is left. Raises GateError."""
    files = Files(settings.data_dir / "files", settings.files)
    async with AsyncExitStack() as closing:
        closing.push_async_callback(files.aclose)
        await files.open()
        memory = await closing.enter_async_context(open_memory(settings))
        gate = await closing.enter_async_context(open_gate(settings, files=files, memory=memory))
        kept = make_responses(settings)
        made = responses.Responses(gate, kept, kept)
        closing.push_async_callback(made.aclose)
        yield Core(gate, made, files, memory)


@asynccontextmanager
async def open_gate(
    settings: Settings,
    *,
    files: FileStore | None = None,
    memory: Memory | None = None,
    strict: bool = False,
) -> AsyncIterator[Gate]:
    """A gate over the backends that `settings` names, or all; closed when the context is left.

    `files`: what the ids of files in a chat mean; `memory`: what is put before questions, one of its own
    where it is not given. `strict`: hold every backend to the law of event order.
    Raises GateError for an unknown backend.
    """
    async with open_stages(settings, files, memory) as stages:
        gate = Gate(
            make_backends(settings),
            aliases=settings.aliased,
            default_model=settings.default_model,
            stages=stages,
            strict=strict,
        )
        try:
            yield gate
        finally:
            await gate.aclose()


@asynccontextmanager
async def open_stages(
    settings: Settings, files: FileStore | None = None, memory: Memory | None = None
) -> AsyncIterator[list[Stage]]:
    """What happens around every answer, the outermost first; finished when the context is left."""
    async with AsyncExitStack() as closing:
        stages: list[Stage] = []
        if settings.artifacts.dir:
            artifacts = Artifacts(settings.artifacts.dir, _keys(settings))
            closing.push_async_callback(artifacts.aclose)
            stages.append(artifacts)
        sessions = make_sessions(settings)
        closing.push_async_callback(sessions.aclose)
        options = settings.threads
        # Outside of the others: what they put into a request is not kept.
        stages.append(Sessions(sessions, wait=options.wait, strict=options.strict))
        if memory is None:
            memory = await closing.enter_async_context(open_memory(settings))
        recall = Recall(memory, settings.memory.default_namespace)
        stages += [Memories(recall, settings.retrieval), Attachments(files), truncate]
        stages += [read_written_calls, count_usage]
        yield stages


@asynccontextmanager
async def open_memory(settings: Settings) -> AsyncIterator[Memory]:
    """The memory; nothing is opened or loaded before it is used. Raises GateError for a bad setting."""
    embedding = Embedding(_providers(settings), settings.embeddings)
    store = make_memories(settings)
    memory = Memory(store, embedding, default_namespace=settings.memory.default_namespace)
    try:
        yield memory
    finally:
        await memory.aclose()


def make_backends(settings: Settings) -> list[Backend]:
    """The backends that `settings` names, or all. Raises GateError for one that there is none of."""
    made = _factories(settings)
    return [_factory(made, name)(settings) for name in settings.backends or made]


def backend_names(settings: Settings) -> list[str]:
    """The backends there can be, used or not."""
    return list(_factories(settings))


def make_threads(settings: Settings) -> ThreadStore:
    """The store of threads that `settings` names; nothing is opened. Raises GateError for a bad Redis URL."""
    options = settings.threads
    if not options.redis_url:
        return Threads(settings.data_dir / "threads.db", ttl=options.ttl)
    from .stores.redis import RedisThreads  # a big library, for those who use it

    return RedisThreads(
        options.redis_url.reveal(), options.chat_prefix, options.worktree_prefix, ttl=options.ttl
    )


def make_responses(settings: Settings) -> Store:
    """The store of responses and conversations; nothing is opened. Raises GateError for a bad URL."""
    options = settings.responses
    if not options.database_url:
        return Responses(settings.data_dir / "responses.db", ttl=options.ttl)
    from .stores.postgres_responses import PostgresResponses  # a big library, for those who use it

    return PostgresResponses(options.database_url.reveal(), ttl=options.ttl)


def make_memories(settings: Settings) -> MemoryStore:
    """The store of memories; nothing is opened. Raises GateError for a bad Postgres URL."""
    url = settings.memory.database_url
    if not url:
        return sqlite_memory.Memories(settings.data_dir / "memory.db")
    from .stores.postgres_memory import PostgresMemories  # a big library, for those who use it

    return PostgresMemories(url.reveal())


def make_sessions(settings: Settings) -> SessionStore:
    """The store of callers' sessions, beside that of threads; nothing is opened. Raises GateError as that."""
    options = settings.threads
    if not options.redis_url:
        return sqlite.Sessions(settings.data_dir / "gate-sessions.db", ttl=options.ttl)
    from .stores.redis import RedisSessions

    return RedisSessions(options.redis_url.reveal(), options.session_prefix, ttl=options.ttl)


def _providers(settings: Settings) -> dict[str, Callable[[], Provider]]:
    """What may embed memories, made when it is needed."""
    return {
        "openai": lambda: _make_embedding_server(settings),
        "ollama": lambda: Ollama(settings.ollama),
        "local": Local,
        "demo": lambda: Demo(settings.demo),
    }


def _make_embedding_server(settings: Settings) -> OpenAI:
    options = settings.embeddings
    server = OpenAIOptions(
        base_url=options.base_url or HOSTED,
        api_key=options.api_key,
        first_token_timeout=options.timeout,
        idle_timeout=options.timeout,
    )
    return OpenAI(server, name="openai", section="embeddings")


def _keys(settings: Settings) -> list[str]:
    """What must not be written anywhere: secret settings, and the gate's own key."""
    keys = [*_secrets(settings)]
    with suppress(GateError):  # a key that cannot be read lets nobody in
        if key := apikey.effective(settings):
            keys.append(key.secret.reveal())
    return keys


def _secrets(value: object) -> Iterator[str]:
    match value:
        case Secret():
            yield value.reveal()
        case msgspec.Struct():
            yield from _secrets(msgspec.structs.asdict(value))
        case dict():
            for each in value.values():
                yield from _secrets(each)


def _factories(settings: Settings) -> dict[str, Factory]:
    """By name, in the order in which a bare model name is looked for: what is built in comes last."""
    made = {name: BACKENDS[name] for name in ("codex", "ollama")}
    for name, options in settings.openai.items():
        if name in BACKENDS or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name, re.ASCII):
            advice = "Letters, digits, `.`, `_` and `-` make a name; those of other backends are taken."
            raise invalid(f"A server cannot be called '{name}'.", f"openai.{name}", "invalid_setting", advice)
        made[name] = partial(_make_openai, options, name)
    return made | BACKENDS


def _make_openai(options: OpenAIOptions, name: str, settings: Settings) -> Backend:  # noqa: ARG001
    return OpenAI(options, name=name)


def _factory(made: Mapping[str, Factory], name: str) -> Factory:
    if name in made:
        return made[name]
    near = difflib.get_close_matches(name, made, 1)
    advice = f"Did you mean {near[0]}?" if near else f"There are {', '.join(made)}."
    raise invalid(f"There is no backend '{name}'.", "backends", "invalid_setting", advice)
