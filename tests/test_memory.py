"""The memory's use case over a real store and real embedding models, and over models that fail as told."""

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from codexgate.assemble import open_gate, open_memory
from codexgate.backends.demo import Demo
from codexgate.backends.local import Local
from codexgate.chat import ChatRequest, Message, Retrieval, Text
from codexgate.config import Secret
from codexgate.embedding import Embedding, EmbeddingOptions, Provider
from codexgate.errors import Fault, GateError, invalid
from codexgate.events import Event, Failed, Retrieved
from codexgate.memory import Memory, Recall
from codexgate.recall import agree
from codexgate.records import Draft, Embeddings, Filter, Health, Kept, Match, Model
from codexgate.settings import Settings, load_settings
from codexgate.stores.sqlite_memory import Memories
from tests.support import run

NOW = 1_700_000_000.0
DEMO = EmbeddingOptions(provider="demo")


class Toy:
    """A provider whose models count letters; it does as it is told, and remembers what it was asked."""

    honours = frozenset[str]()

    def __init__(self, name: str = "ollama", *models: str, size: int = 26) -> None:
        self.name = name
        self.ids = models
        self.size = size
        self.asked: list[list[str]] = []
        self.sizes: list[int | None] = []
        self.fault: Fault | None = None
        self.hangs = False
        self.obeys = False
        """It makes vectors of the length it is asked for."""
        self.closed = False

    async def models(self) -> tuple[Model, ...]:
        if self.fault:
            raise GateError(self.fault)
        return tuple(
            Model(id=id, backend=self.name, abilities=frozenset({"chat" if "chat" in id else "embedding"}))
            for id in self.ids
        )

    async def embed(self, model: str, texts: Sequence[str], dimensions: int | None = None) -> Embeddings:
        self.asked.append(list(texts))
        self.sizes.append(dimensions)
        if self.hangs:
            await asyncio.Event().wait()
        if self.fault:
            raise GateError(self.fault)
        if any("unspeakable" in text for text in texts):
            raise invalid("I do not say that.", "input", "context_length_exceeded")
        size = dimensions if dimensions and self.obeys else self.size
        return Embeddings(tuple(self._vector(text, size) for text in texts))

    def _vector(self, text: str, size: int) -> tuple[float, ...]:
        counts = [1e-3] * size
        for letter in filter(str.isalpha, text.lower()):
            counts[ord(letter) % size] += 1
        return tuple(3 * count for count in counts)  # not of unit length

    async def stream(self, request: ChatRequest) -> AsyncGenerator[list[Event]]:
        yield [Failed(Fault("internal", "It does not chat."))]

    async def probe(self) -> Health:
        return Health("ready", "toy")

    async def aclose(self) -> None:
        self.closed = True


DOWN = Fault("unavailable", "Nothing listens there.", retryable=True)


def makers(*providers: Provider) -> Mapping[str, Callable[[], Provider]]:
    """Real ones, with these in the place of those of their name; no Ollama unless one is given."""
    absent = Toy()
    absent.fault = DOWN
    known: list[Provider] = [absent, Toy("openai"), Local(), Demo(), *providers]
    return {each.name: (lambda each=each: each) for each in known}  # type: ignore[misc]


def made(path: Path, *providers: Provider, options: EmbeddingOptions = DEMO, **others: Any) -> Memory:
    store = Memories(path / "memory.db", clock=lambda: NOW + 60)
    return Memory(store, Embedding(makers(*providers), options), clock=lambda: NOW, **others)


def on(memory: Memory, body: Callable[[Memory], Awaitable[None]]) -> None:
    """Run `body` on the memory, and close it."""

    async def bounded() -> None:
        try:
            await body(memory)
        finally:
            await memory.aclose()
            await memory.aclose()

    run(bounded())


def put(*texts: str, namespace: str = "") -> Callable[[Memory], Awaitable[None]]:
    async def body(memory: Memory) -> None:
        kept(await memory.persist_many([Draft(text, namespace) for text in texts]))

    return body


async def fails(operation: Awaitable[Any]) -> Fault:
    with pytest.raises(GateError) as caught:
        await operation
    return caught.value.fault


def contents(matches: Sequence[Match]) -> list[str]:
    return [match.entry.content for match in matches]


def kept(results: Sequence[Kept | GateError]) -> list[Kept]:
    assert all(isinstance(each, Kept) for each in results), results
    return [each for each in results if isinstance(each, Kept)]


# Keeping


def test_an_entry_has_what_its_draft_leaves_out(tmp_path: Path) -> None:
    async def body(memory: Memory) -> None:
        long = "The beginning. " + "x" * 1_000
        entry = (await memory.persist(Draft(long))).entry
        assert (entry.namespace, entry.summary, entry.tags, entry.metadata) == ("home", long[:300], (), {})
        assert (entry.created, entry.accessed) == (NOW, 0)
        assert (entry.model, entry.dimension) == (memory.model, 256) == ("demo/demo-embed", 256)
        given = Draft("c", "n", "s", (" a ", "b", "", "a"), {"k": (1, 2)}, "cli", created=5.5)
        entry = (await memory.persist(given)).entry
        assert (entry.content, entry.namespace, entry.summary, entry.tags) == ("c", "n", "s", ("a", "b"))
        assert (entry.metadata, entry.source, entry.created) == ({"k": [1, 2]}, "cli", 5.5)
        assert await memory.namespaces() == (
            ("home", 1, "demo/demo-embed", 256),
            ("n", 1, "demo/demo-embed", 256),
        )

    on(made(tmp_path, default_namespace="home"), body)


NESTED: dict[str, Any] = {}
for _ in range(100):
    NESTED = {"k": NESTED}


@pytest.mark.parametrize(
    ("draft", "param"),
    [
        (Draft(""), "content"),
        (Draft(" \n\t"), "content"),
        (Draft("x" * 50_001), "content"),
        (Draft("half \ud800"), "content"),
        (Draft("x", summary="y" * 5_001), "summary"),
        (Draft("x", summary="\udfff"), "summary"),
        (Draft("x", tags=tuple(map(str, range(51)))), "tags"),
        (Draft("x", tags=("t" * 201,)), "tags"),
        (Draft("x", tags=("a\0b",)), "tags"),
        (Draft("x", "n" * 201), "namespace"),
        (Draft("x", "a\nb"), "namespace"),
        (Draft("x", metadata={"k": math.nan}), "metadata"),
        (Draft("x", metadata={"k": object()}), "metadata"),
        (Draft("x", metadata={"k": "\ud800"}), "metadata"),
        (Draft("x", metadata=NESTED), "metadata"),
        (Draft("x", metadata={"k": "v" * 70_000}), "metadata"),
        (Draft("x", source="s" * 5_000), "source"),
        (Draft("x", created=math.inf), "created"),
        (Draft("x", created=-1.0), "created"),
        (Draft("x", accessed=math.nan), "accessed"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_any_model_is_asked(
    tmp_path: Path, draft: Draft, param: str
) -> None:
    toy = Toy("demo")

    async def body(memory: Memory) -> None:
        fault = await fails(memory.persist(draft))
        assert (fault.kind, fault.param) == ("invalid_request", param)
        assert toy.asked == []

    on(made(tmp_path, toy), body)


@pytest.mark.parametrize(
    ("query", "limit", "param"),
    [
        ("", 10, "query"),
        (" ", 10, "query"),
        ("x" * 10_001, 10, "query"),
        ("x", 0, "limit"),
        ("x", 51, "limit"),
    ],
)
def test_what_cannot_be_asked_is_refused(tmp_path: Path, query: str, limit: int, param: str) -> None:
    async def body(memory: Memory) -> None:
        fault = await fails(memory.retrieve(query, limit=limit))
        assert (fault.kind, fault.param) == ("invalid_request", param)

    on(made(tmp_path), body)


def test_the_largest_of_everything_is_kept(tmp_path: Path) -> None:
    async def body(memory: Memory) -> None:
        tags = tuple(map(str, range(50)))
        await memory.persist(Draft("x" * 50_000, "n" * 200, "y" * 5_000, tags))
        assert len(await memory.retrieve("x" * 10_000, limit=50)) == 1

    on(made(tmp_path), body)


def test_the_same_content_is_kept_once_and_its_model_not_asked_again(tmp_path: Path) -> None:
    toy = Toy("demo")

    async def body(memory: Memory) -> None:
        first = await memory.persist(Draft("To be or not to be.", tags=("a",)))
        calls = len(toy.asked)
        for force in (False, True):
            again = await memory.persist(Draft(" To be\n or not  to be.", tags=("b",)), force=force)
            assert again == Kept(first.entry, deduped=True)
        assert len(toy.asked) == calls
        assert not (await memory.persist(Draft("To be or not to be.", "other"))).deduped
        assert not (await memory.persist(Draft("to be or not to be, that is it"), force=True)).deduped

    on(made(tmp_path, toy), body)


def test_nearly_the_same_is_kept_once_unless_forced(tmp_path: Path) -> None:
    async def body(memory: Memory) -> None:
        first = await memory.persist(Draft("The deploy key rotates every 30 days."))
        near = Draft("The deploy key rotates every 30 days!")
        assert await memory.persist(near) == Kept(first.entry, deduped=True)
        assert not (await memory.persist(Draft(near.content, "other"))).deduped
        for other in ("The deploy key rotates every 60 days.", "The deploy key never rotates every 30 days."):
            assert not (await memory.persist(Draft(other))).deduped
        forced = await memory.persist(near, force=True)
        assert not forced.deduped
        assert forced.entry.id != first.entry.id

    on(made(tmp_path, options=EmbeddingOptions(provider="local")), body)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Backups run nightly at 02:00 UTC.", "backups run nightly, at 02:00 UTC", True),
        ("We use Postgres for the billing service.", "We use Postgres for our billing service!", True),
        ("The staging cluster runs in Frankfurt.", "The staging cluster is running in Frankfurt.", True),
        ("Run make lint before you push.", "Please run make lint before you push.", True),
        ("It listens on port 8140.", "It listens on port 8141.", False),
        ("note 1", "note 2", False),
        ("Release 2.1 is out.", "Release 1.2 is out.", False),
        ("Anna prefers tea over coffee.", "Anna prefers coffee over tea.", False),
        ("Alice is Bob's manager.", "Bob is Alice's manager.", False),
        ("We use it.", "We do not use it.", False),
        ("Never force-push to main.", "Always force-push to main.", False),
        ("The meeting is on Monday.", "The meeting is on Tuesday.", False),
        ("The backup succeeded.", "The backup failed.", False),
        ("Short text.", "Short text. And a second sentence with much more to say.", False),
    ],
)
def test_texts_that_a_model_takes_for_the_same_are_so_only_word_by_word(
    one: str, other: str, same: bool
) -> None:
    assert agree(one, other) is agree(other, one) is same
    assert agree(one, one)


def test_a_key_makes_an_import_the_same_entry_whatever_it_says(tmp_path: Path) -> None:
    async def body(memory: Memory) -> None:
        first = await memory.persist(Draft("as it was", key="notes.md#1"))
        again = await memory.persist(Draft("as it is now", key="notes.md#1"))
        assert again == Kept(first.entry, deduped=True)
        elsewhere = await memory.persist(Draft("as it was", "n", key="notes.md#1"))
        assert not elsewhere.deduped
        assert elsewhere.entry.id != first.entry.id
        id = "6ead6154-e876-4386-8ef6-6a464534ca69"
        assert (await memory.persist(Draft("exported once", key=id))).entry.id == id
        ids = {
            (await memory.persist(Draft(f"text {n}", key=key))).entry.id
            for n, key in enumerate(("a:b", "a", id.upper()))
        }
        assert len(ids) == 3

    on(made(tmp_path), body)


def test_ids_of_keys_never_change(tmp_path: Path) -> None:
    async def body(memory: Memory) -> None:
        assert (
            await memory.persist(Draft("x", "n", key="k"))
        ).entry.id == "816aa818-5596-55c4-b980-03213e486619"

    on(made(tmp_path), body)


def test_many_are_embedded_together_and_each_is_told_what_became_of_it(tmp_path: Path) -> None:
    toy = Toy("demo")

    async def body(memory: Memory) -> None:
        await memory.persist(Draft("there already"))
        toy.asked.clear()
        results = await memory.persist_many(
            [
                Draft("one"),
                Draft(""),
                Draft("there already"),
                Draft("one"),
                Draft("two", "other"),
                Draft("key", key="k"),
                Draft("changed", key="k"),
                Draft("x" * 60_000),
            ],
            force=True,
        )
        told = [each.fault.param if isinstance(each, GateError) else each.deduped for each in results]
        assert told == [False, "content", True, True, False, False, True, "content"]
        assert isinstance(results[3], Kept)
        assert isinstance(results[0], Kept)
        assert results[3].entry == results[0].entry
        assert sorted(text for texts in toy.asked for text in texts) == ["key", "one", "two"]
        assert [space[:2] for space in await memory.namespaces()] == [("default", 3), ("other", 1)]
        assert await memory.persist_many([]) == []

    on(made(tmp_path, toy), body)


def test_a_text_that_the_model_refuses_spoils_no_other(tmp_path: Path) -> None:
    async def body(memory: Memory) -> None:
        drafts = [Draft(f"text {n}" if n not in (3, 7) else f"unspeakable {n}") for n in range(10)]
        results = await memory.persist_many(drafts, force=True)
        refused = [at for at, each in enumerate(results) if isinstance(each, GateError)]
        assert refused == [3, 7]
        assert (await memory.namespaces())[0][1] == 8

    on(made(tmp_path, Toy("demo")), body)


def test_when_the_model_fails_nothing_is_kept_and_the_reason_is_told(tmp_path: Path) -> None:
    toy = Toy("demo")
    toy.fault = DOWN

    async def body(memory: Memory) -> None:
        assert await fails(memory.persist_many([Draft("a"), Draft("b")])) == DOWN
        assert await memory.namespaces() == ()
        toy.fault = None
        assert not (await memory.persist(Draft("a"))).deduped

    on(made(tmp_path, toy), body)


# Finding


NOTES = (
    "Our office moved to the third floor of the red brick building.",
    "The deploy key rotates every 30 days.",
    "Anna is allergic to peanuts.",
    "Backups run nightly at two and are kept for a month.",
    "The quarterly report is due on the first Friday.",
)


def test_meaning_finds_what_shares_no_word_and_words_what_a_model_does_not_know(tmp_path: Path) -> None:
    async def body(memory: Memory) -> None:
        await memory.persist_many([*map(Draft, NOTES), Draft("Ticket QX-77131 is closed.")])
        cases = (
            ("Which food must she not eat?", NOTES[2], ("meaning",)),
            ("how often are credentials changed", NOTES[1], ("meaning",)),
            ("QX-77131", "Ticket QX-77131 is closed.", ("meaning", "words")),
        )
        for query, content, why in cases:
            best = (await memory.retrieve(query))[0]
            assert (best.entry.content, best.why) == (content, why)
            assert best.distance is not None
            assert 0 <= best.distance <= 1

    on(made(tmp_path, options=EmbeddingOptions(provider="local")), body)


def test_the_best_come_first_and_weak_ones_not_at_all(tmp_path: Path) -> None:
    async def body(memory: Memory) -> None:
        await memory.persist_many([*map(Draft, NOTES)])
        matches = await memory.retrieve("When do the backups run?")
        assert matches[0].entry.content == NOTES[3]
        assert matches[0].why == ("meaning", "words")
        assert len(matches) < len(NOTES)
        assert [m.score for m in matches] == sorted((m.score for m in matches), reverse=True)
        assert len(await memory.retrieve("When do the backups run?", limit=1)) == 1

    on(made(tmp_path, options=EmbeddingOptions(provider="local")), body)


def test_a_filter_leaves_the_others_out(tmp_path: Path) -> None:
    async def body(memory: Memory) -> None:
        await memory.persist(Draft("red apples", "a", tags=("fruit",), metadata={"n": 1}, created=100.0))
        await memory.persist(Draft("red cherries", "b", tags=("fruit",), created=200.0))
        await memory.persist(Draft("red cars", "b", created=300.0))
        cases: tuple[tuple[Filter, list[str]], ...] = (
            (Filter(("a",)), ["red apples"]),
            (Filter(("a", "b"), tags=("fruit",)), ["red apples", "red cherries"]),
            (Filter(since=200.0, until=300.0), ["red cherries"]),
            (Filter(metadata={"n": 1}), ["red apples"]),
            (Filter(("c",)), []),
        )
        for wanted, expected in cases:
            assert sorted(contents(await memory.retrieve("red", wanted))) == expected

    on(made(tmp_path), body)


def test_what_was_found_is_touched(tmp_path: Path) -> None:
    memory = made(tmp_path)

    async def find(memory: Memory) -> None:
        await memory.persist(Draft("the word"))
        await memory.persist(Draft("something else entirely", "other"))
        await memory.retrieve("word", Filter(("default",)))

    on(memory, find)

    async def look(memory: Memory) -> None:
        found = [each.entry async for batch in memory.export() for each in batch]
        assert {each.content: each.accessed for each in found} == {
            "the word": NOW + 60,
            "something else entirely": 0,
        }

    on(made(tmp_path), look)


def test_questions_one_after_the_other_are_noted_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched: list[list[str]] = []
    touch = Memories.touch

    async def counted(store: Memories, ids: Sequence[str]) -> None:
        touched.append(sorted(ids))
        await touch(store, ids)

    monkeypatch.setattr(Memories, "touch", counted)
    kept: list[str] = []

    async def ask(memory: Memory) -> None:
        kept.extend([(await memory.persist(Draft(text))).entry.id for text in ("red apples", "blue cars")])
        for query in ("red", "blue", "apples"):
            assert await memory.retrieve(query)

    on(made(tmp_path), ask)
    assert touched == [sorted(kept)]


def test_namespaces_of_several_models_are_searched_each_by_its_own(tmp_path: Path) -> None:
    toy = Toy("ollama", "toy")

    async def body() -> None:
        for options, namespace in ((DEMO, "a"), (EmbeddingOptions(provider="ollama", model="toy"), "b")):
            memory = made(tmp_path, toy, options=options)
            await memory.persist(Draft("a note on penguins", namespace))
            await memory.aclose()
        memory = made(tmp_path, toy)
        found = await memory.retrieve("note on penguins")
        assert {(m.entry.namespace, m.entry.model) for m in found} == {
            ("a", "demo/demo-embed"),
            ("b", "ollama/toy:latest"),
        }
        toy.fault = DOWN  # what the other model embedded is found, and by words what this one did
        found = await memory.retrieve("note on penguins")
        assert {(m.entry.namespace, m.why) for m in found} == {("a", ("meaning", "words")), ("b", ("words",))}
        assert await fails(memory.retrieve("penguins", Filter(("b",)))) == DOWN
        await memory.aclose()

    run(body())


def test_nothing_is_asked_where_nothing_is_kept(tmp_path: Path) -> None:
    toy = Toy("demo")

    async def body(memory: Memory) -> None:
        assert await memory.retrieve("anything") == ()
        assert toy.asked == []

    on(made(tmp_path, toy), body)


# The model


OLLAMA = Toy("ollama", "chat-a", "nomic:latest", "bge:latest")
KEY = Secret("sk-x")


@pytest.mark.parametrize(
    ("options", "providers", "model", "dimension"),
    [
        (EmbeddingOptions(), (), "local/local", 0),
        (EmbeddingOptions(), (OLLAMA,), "ollama/bge:latest", 0),
        (EmbeddingOptions(), (Toy("ollama", "chat-a"),), "local/local", 0),
        (EmbeddingOptions(dimension=64), (), "local/local", 64),
        (EmbeddingOptions(api_key=KEY), (), "local/local", 0),
        (EmbeddingOptions(provider="local-fast"), (OLLAMA,), "local/local-fast", 0),
        (EmbeddingOptions(provider="demo"), (OLLAMA,), "demo/demo-embed", 0),
        (EmbeddingOptions(provider="ollama"), (OLLAMA,), "ollama/bge:latest", 0),
        (EmbeddingOptions(provider="ollama", model="x"), (OLLAMA,), "ollama/x:latest", 0),
        (EmbeddingOptions(model="x:1b"), (OLLAMA,), "ollama/x:1b", 0),
        (EmbeddingOptions(provider="openai", api_key=KEY), (), "openai/text-embedding-3-small", 1536),
        (EmbeddingOptions(base_url="http://gpu:1/v1"), (), "openai/qwen3-embedding:0.6b", 1024),
        (EmbeddingOptions(base_url="http://gpu:1/v1", model="m"), (), "openai/m", 0),
        (EmbeddingOptions(model="m", api_key=KEY), (), "openai/m", 0),
        (EmbeddingOptions(model="m", api_key=KEY, dimension=7), (OLLAMA,), "openai/m", 7),
    ],
)
def test_the_model_is_the_one_that_is_set_else_ollamas_else_the_packaged(
    options: EmbeddingOptions, providers: tuple[Toy, ...], model: str, dimension: int
) -> None:
    async def body() -> None:
        embedding = Embedding(makers(*providers), options)
        assert await embedding.choose() == (model, dimension)
        assert embedding.model == model

    run(body())


@pytest.mark.parametrize(
    ("provider", "said"), [("openai", "Set OPENAI_API_KEY"), ("ollama", "Nothing listens there.")]
)
def test_a_provider_that_is_set_and_cannot_be_had_is_said(tmp_path: Path, provider: Any, said: str) -> None:
    async def body(memory: Memory) -> None:
        fault = await fails(memory.persist(Draft("one")))
        assert fault.kind == "unavailable"
        assert said in fault.text

    on(made(tmp_path, options=EmbeddingOptions(provider=provider)), body)


def test_no_text_leaves_for_openai_because_of_what_is_kept(tmp_path: Path) -> None:
    async def body() -> None:
        openai = Toy("openai")
        options = EmbeddingOptions(provider="openai", api_key=KEY, model="m")
        memory = made(tmp_path, openai, options=options)
        await memory.persist(Draft("kept when there was a key"))
        await memory.aclose()
        openai.asked.clear()
        memory = made(tmp_path, openai, options=EmbeddingOptions())
        assert "Set OPENAI_API_KEY" in (await fails(memory.retrieve("private"))).text
        assert openai.asked == []
        await memory.aclose()

    run(body())


def test_names_that_people_have_set_already_are_honoured() -> None:
    loaded = load_settings(
        environ={
            "DATABASE_URL": "postgresql://u:p@db/x",
            "OPENAI_API_KEY": "sk-x",
            "OPENAI_API_BASE": "http://gpu:1/v1",
            "OPENAI_EMBEDDING_MODEL": "m",
            "OPENAI_EMBEDDING_DIMENSION": "12",
            "OPENAI_EMBEDDING_TIMEOUT_MS": "2500",
            "OPENAI_EMBEDDING_MAX_INPUT_CHARS": "100",
        },
        cwd=Path("/"),
    ).settings
    assert loaded.memory.database_url.reveal() == "postgresql://u:p@db/x"
    assert loaded.embeddings == EmbeddingOptions(
        base_url="http://gpu:1/v1", api_key=KEY, model="m", dimension=12, timeout=2.5, max_input_chars=100
    )


def test_what_embedded_a_namespace_goes_on_with_it_where_nothing_is_set(tmp_path: Path) -> None:
    async def body() -> None:
        before = made(tmp_path, options=EmbeddingOptions())
        await before.persist(Draft("kept when there was no Ollama"))
        await before.aclose()
        ollama = Toy("ollama", "new:latest")
        memory = made(tmp_path, ollama, options=EmbeddingOptions())
        assert (await memory.persist(Draft("elsewhere", "new"))).entry.model == "ollama/new:latest"
        assert memory.model == "ollama/new:latest"
        assert (await memory.persist(Draft("kept afterwards"))).entry.model == "local/local"
        assert contents(await memory.retrieve("kept", Filter(("default",)))) != []
        await memory.aclose()

    run(body())


def test_another_model_than_a_namespace_has_is_refused_with_both_numbers_and_the_command(
    tmp_path: Path,
) -> None:
    async def body() -> None:
        memory = made(tmp_path)
        await memory.persist(Draft("first"))
        await memory.aclose()
        memory = made(tmp_path, options=EmbeddingOptions(provider="local"))
        (error,) = await memory.persist_many([Draft("second")])
        assert isinstance(error, GateError)
        assert error.fault.code == "dimension_mismatch"
        assert "demo/demo-embed with 256" in error.fault.message
        assert "local/local makes vectors with 384" in error.fault.message
        assert "codexgate memory reembed --namespace default --model local/local" in error.fault.advice
        assert contents(await memory.retrieve("first")) == ["first"]  # what is there serves all the same
        assert not (await memory.persist(Draft("second", "other"))).deduped
        await memory.aclose()
        memory = made(tmp_path, options=EmbeddingOptions(provider="demo", dimension=128))
        fault = await fails(memory.persist(Draft("third")))
        assert (fault.code, "256" in fault.message, "128" in fault.message) == (
            "dimension_mismatch",
            True,
            True,
        )
        await memory.aclose()

    run(body())


def test_a_length_is_asked_for_only_where_the_model_has_another(tmp_path: Path) -> None:
    async def body() -> None:
        own, obeys, cannot = (
            Toy("ollama", "m", size=8),
            Toy("ollama", "m", size=16),
            Toy("ollama", "m", size=16),
        )
        obeys.obeys = True
        options = EmbeddingOptions(provider="ollama", model="m", dimension=8)
        for number, toy in enumerate((own, obeys)):
            memory = made(tmp_path / str(number), toy, options=options)
            for text in ("one", "two"):
                assert (await memory.persist(Draft(text))).entry.dimension == 8
            await memory.aclose()
        assert own.sizes == [None, None]
        assert obeys.sizes == [None, 8, 8]
        memory = made(tmp_path / "2", cannot, options=options)
        fault = await fails(memory.persist(Draft("one")))
        assert fault.code == "dimension_mismatch"
        assert "16 dimensions; 8 are wanted" in fault.message
        assert fault.advice == (
            "Set embeddings.dimension to 16, and run: codexgate memory reembed --model ollama/m:latest"
        )
        await memory.aclose()
        assert cannot.closed

    run(body())


def test_a_length_that_no_model_has_is_not_taken_for_its_own(tmp_path: Path) -> None:
    async def body() -> None:
        memory = made(tmp_path, options=EmbeddingOptions(provider="local"))
        await memory.persist(Draft("one"))
        await memory.aclose()
        memory = made(tmp_path, options=EmbeddingOptions(provider="local", dimension=100))
        fault = await fails(memory.persist(Draft("two")))
        assert fault.message == "local/local makes vectors with 384 dimensions; 100 are wanted."
        assert fault.advice.startswith("Set embeddings.dimension to 384, and run: ")
        await memory.aclose()

    run(body())


def test_a_model_that_has_changed_is_told_with_a_command_that_mends_it(tmp_path: Path) -> None:
    options = EmbeddingOptions(provider="ollama", model="m")
    on(made(tmp_path, Toy("ollama", "m", size=8), options=options), put("one", "two"))

    async def body(memory: Memory) -> None:
        for operation in (memory.persist(Draft("three")), memory.retrieve("one")):
            fault = await fails(operation)
            assert "16 dimensions; 8 are wanted" in fault.message
            assert fault.advice == "Run: codexgate memory reembed --model ollama/m:latest"
        assert await memory.outdated("ollama/m:latest") == ["default"]
        assert [step async for step in memory.reembed("default", "ollama/m:latest")][-1] == (2, 2)
        assert contents(await memory.retrieve("one")) == ["one"]

    on(made(tmp_path, Toy("ollama", "m", size=16), options=options), body)


def test_a_model_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    toy = Toy("ollama", "m")
    toy.hangs = True

    async def body(memory: Memory) -> None:
        fault = await fails(memory.persist(Draft("one")))
        assert (fault.kind, fault.code, fault.retryable) == ("timeout", "embedding_timeout", True)
        assert "0.05 s" in fault.message

    on(made(tmp_path, toy, options=EmbeddingOptions(provider="ollama", model="m", timeout=0.05)), body)


def test_a_text_over_the_limit_is_refused_before_any_call(tmp_path: Path) -> None:
    toy = Toy("demo")

    async def body(memory: Memory) -> None:
        fault = await fails(memory.persist(Draft("x" * 60, summary="y" * 50)))
        assert (fault.code, fault.param) == ("embedding_input_too_large", "content")
        assert "112" in fault.message
        assert "100" in fault.message
        assert (await fails(memory.retrieve("x" * 101))).param == "query"
        assert toy.asked == []

    on(made(tmp_path, toy, options=EmbeddingOptions(provider="demo", max_input_chars=100)), body)


def test_what_is_embedded_is_the_content_after_a_summary_that_was_given(tmp_path: Path) -> None:
    toy = Toy("demo")

    async def body(memory: Memory) -> None:
        await memory.persist_many([Draft("content a"), Draft("content b", summary="summary b")], force=True)
        assert toy.asked == [["content a", "summary b\n\ncontent b"]]
        async for _ in memory.reembed("default", "demo/other"):
            pass
        assert sorted(toy.asked[1]) == ["content a", "summary b\n\ncontent b"]

    on(made(tmp_path, toy), body)


def test_servers_are_asked_in_batches(tmp_path: Path) -> None:
    toy = Toy("ollama", "m")

    async def body(memory: Memory) -> None:
        await memory.persist_many([Draft(f"text {n}") for n in range(150)], force=True)
        assert [len(texts) for texts in toy.asked] == [64, 64, 22]

    on(made(tmp_path, toy, options=EmbeddingOptions(provider="ollama", model="m")), body)


def test_a_vector_that_points_nowhere_is_refused(tmp_path: Path) -> None:
    class Nowhere(Toy):
        def _vector(self, text: str, size: int) -> tuple[float, ...]:
            return (0.0,) * size

    async def body(memory: Memory) -> None:
        assert (await fails(memory.persist(Draft("one")))).code == "embedding_failed"

    on(made(tmp_path, Nowhere("demo")), body)


# Embedding anew


def test_reembedding_tells_how_far_it_is_and_goes_on_where_it_was(tmp_path: Path) -> None:
    async def fill(memory: Memory) -> None:
        await memory.persist_many([Draft(f"note {n} on penguins") for n in range(600)], force=True)
        await memory.persist(Draft("of another namespace", "other"))

    async def begin(memory: Memory) -> None:
        async with aclosing(memory.reembed("default", "demo/better")) as steps:
            async for done, total in steps:
                assert (done, total) == (256, 600)
                break
        assert "note 17 on penguins" in contents(await memory.retrieve("note 17 on penguins"))
        assert (await memory.namespaces())[0][2:] == ("demo/demo-embed", 26)

    toy = Toy("demo")

    async def finish(memory: Memory) -> None:
        told = []
        async for done, total in memory.reembed("default", "demo/better"):
            told.append((done, total))
            if done == 512:
                await memory.persist(Draft("a late note"), force=True)
        assert told[0] == (512, 600)
        assert told[-1] == (601, 601)
        assert sum(map(len, toy.asked)) == 344 + 2  # the late note twice: for the old model, too
        assert await memory.namespaces() == (
            ("default", 601, "demo/better", 26),
            ("other", 1, "demo/demo-embed", 26),
        )
        assert "note 17 on penguins" in contents(await memory.retrieve("note 17 on penguins"))

    on(made(tmp_path, Toy("demo")), fill)
    on(made(tmp_path, Toy("demo")), begin)
    on(made(tmp_path, toy), finish)


def test_reembedding_takes_what_the_settings_mean(tmp_path: Path) -> None:
    on(made(tmp_path), lambda memory: memory.persist(Draft("one")))  # type: ignore[arg-type,return-value]

    async def body(memory: Memory) -> None:
        assert [step async for step in memory.reembed("default")][-1] == (1, 1)
        assert (await memory.namespaces())[0][2:] == ("local/local-fast", 128)
        assert not (await memory.persist(Draft("two"))).deduped
        assert [step async for step in memory.reembed("empty")] == [(0, 0)]
        async for _ in memory.reembed("default", "local"):
            pass
        assert (await memory.namespaces())[0][2:] == ("local/local", 384)
        fault = await fails(anext(memory.reembed("default", "local/nonsense")))
        assert (fault.code, "local/local-fast" in fault.advice) == ("model_not_found", True)

    on(made(tmp_path, options=EmbeddingOptions(provider="local-fast", dimension=128)), body)


def test_what_would_be_embedded_anew_is_what_the_model_would_not_make(tmp_path: Path) -> None:
    on(made(tmp_path), put("one"))
    options = EmbeddingOptions(provider="ollama", model="m")
    on(made(tmp_path, Toy("ollama", "m", size=8), options=options), put("two", namespace="other"))

    async def body(memory: Memory) -> None:
        assert await memory.outdated() == ["default"]
        assert await memory.outdated("m") == ["default"]  # whatever tag a person leaves out
        assert await memory.outdated("demo") == ["other"]
        assert await memory.outdated("local") == ["default", "other"]

    on(made(tmp_path, Toy("ollama", "m", size=8), options=options), body)
    silent = Toy("ollama", "m")
    silent.fault = DOWN

    async def empty(memory: Memory) -> None:
        assert await memory.outdated() == []

    on(made(tmp_path / "empty", silent, options=options), empty)


# The rest


def test_export_delete_and_clear(tmp_path: Path) -> None:
    async def body(memory: Memory) -> None:
        entries = [
            each.entry for each in kept(await memory.persist_many([Draft("a"), Draft("b"), Draft("c", "n")]))
        ]
        (batch,) = [batch async for batch in memory.export(Filter(("default",)), vectors=True)]
        assert [each.entry for each in batch] == entries[:2]
        assert all(math.isclose(math.hypot(*each.vector), 1, abs_tol=1e-5) for each in batch)
        assert await memory.delete([entries[0].id, "no id"]) == 1
        assert await memory.clear("n") == 1
        assert [space[:2] for space in await memory.namespaces()] == [("default", 1)]

    on(made(tmp_path), body)


def test_a_chat_is_given_the_memories_of_its_namespace(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, embeddings=DEMO, backends=("demo",))

    async def body() -> None:
        async with open_memory(settings) as memory, open_gate(settings, memory=memory, strict=True) as gate:
            await memory.persist(Draft("The wifi password is swordfish.", "house", source="notes.md"))
            await memory.persist(Draft("The wifi password is hidden.", "office"))
            question = Message("user", (Text("What is the wifi password?"),))
            request = ChatRequest("demo", (question,), retrieval=Retrieval("house"))
            events = [event async for batch in gate.stream(await gate.route(request)) for event in batch]
            (put_in,) = [event for event in events if isinstance(event, Retrieved)]
            assert [(each.namespace, each.source) for each in put_in.citations] == [("house", "notes.md")]
            assert "> The wifi password is swordfish." in put_in.block
            found = await Recall(memory, "office").retrieve("wifi " * 5_000, Retrieval())
            assert [(each.namespace, each.text) for each in found] == [
                ("office", "The wifi password is hidden.")
            ]

    run(body())


def test_opening_the_memory_makes_and_loads_nothing(tmp_path: Path) -> None:
    async def body() -> None:
        async with open_memory(Settings(data_dir=tmp_path / "none")) as memory:
            assert memory.model == ""
        assert not (tmp_path / "none").exists()

    run(body())
