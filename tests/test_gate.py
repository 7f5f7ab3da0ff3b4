"""Routing by model, and what the gate promises about every stream."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from codexgate.chat import ChatRequest, Message, Sampling, Text
from codexgate.errors import Fault, GateError
from codexgate.events import Done, Event, Failed, TextDelta
from codexgate.gate import Alias, Gate
from codexgate.ports import Route
from codexgate.records import Ability, Model
from tests.servers.scripted import Scripted
from tests.support import run

CHAT: frozenset[Ability] = frozenset({"chat"})
HELLO = (Message("user", (Text("hi"),)),)


def offering(name: str, *ids: str, abilities: frozenset[Ability] = CHAT) -> Scripted:
    return Scripted(
        Done("stop"), name=name, models=[Model(id, name, abilities=abilities) for id in ids], honours=["stop"]
    )


class Down(Scripted):
    """A backend that cannot be reached."""

    async def models(self) -> tuple[Model, ...]:
        raise GateError(Fault("unavailable", f"{self.name} does not answer."))


class Hung(Scripted):
    """A backend that never answers a listing."""

    async def models(self) -> tuple[Model, ...]:
        await asyncio.Event().wait()
        raise AssertionError


def find(gate: Gate, name: str) -> Model:
    return run(gate.model(name))


GATE = [offering("one", "a", "shared", "qwen3:latest", "org/model"), offering("two", "b", "shared", "one/b")]


@pytest.mark.parametrize(
    ("name", "backend", "id"),
    [
        ("a", "one", "a"),
        ("b", "two", "b"),
        ("shared", "one", "shared"),
        ("two/shared", "two", "shared"),
        ("qwen3", "one", "qwen3:latest"),
        ("one/qwen3", "one", "qwen3:latest"),
        ("org/model", "one", "org/model"),
        ("one/org/model", "one", "org/model"),
        ("fast", "two", "b"),
    ],
)
def test_a_name_finds_its_model(name: str, backend: str, id: str) -> None:
    model = find(Gate(GATE, aliases={"fast": Alias(model="two/b")}), name)
    assert (model.backend, model.id) == (backend, id)


def test_a_name_that_nobody_has_suggests_what_is_near() -> None:
    with pytest.raises(GateError) as missing:
        find(Gate([offering("one", "qwen3:8b", "llama3")]), "qwen3:8")
    fault = missing.value.fault
    assert (fault.status, fault.code, fault.param) == (404, "model_not_found", "model")
    assert "qwen3:8b" in fault.advice


def test_an_alias_of_nothing_is_told_with_both_names_and_offered_to_nobody() -> None:
    gate = Gate(GATE, aliases={"quick": Alias(model="quicj"), "fast": Alias(model="b")})
    for name, said in (
        ("quick", "'quicj', for which 'quick' stands, does not"),
        ("quicc", "'quicc' does not"),
    ):
        with pytest.raises(GateError) as missing:
            find(gate, name)
        assert said in missing.value.fault.message
        assert "quick" not in missing.value.fault.advice
    with pytest.raises(GateError, match="Did you mean fast"):
        find(gate, "fasd")


def test_names_in_the_settings_that_nobody_has_are_known() -> None:
    async def missing(gate: Gate) -> dict[str, Fault]:
        return await gate.missing()

    aliases = {"bad": Alias(model="nope"), "good": Alias(model="b"), "two": Alias(model="two/a")}
    found = run(missing(Gate(GATE, aliases=aliases, default_model="nosuch")))
    assert list(found) == ["default_model", "aliases.bad", "aliases.two"]
    assert "'nosuch' does not exist" in found["default_model"].text
    assert run(missing(Gate(GATE, aliases={"good": Alias(model="b")}, default_model="good"))) == {}
    down = Gate([Down(name="ollama"), offering("demo", "demo")], aliases={"a": Alias(model="ollama/x")})
    assert run(missing(down)) == {}  # that it is down is told by its own line


def test_a_backend_that_is_down_is_named_and_the_others_work() -> None:
    gate = Gate([Down(name="ollama"), offering("demo", "demo")])
    assert [model.id for model in run(gate.models())] == ["demo"]
    with pytest.raises(GateError) as missing:
        find(Gate([Down(name="ollama"), offering("demo", "demo")]), "qwen3")
    assert missing.value.fault.status == 404
    assert "ollama does not answer" in missing.value.fault.message


def test_a_model_of_a_backend_that_is_down_is_unavailable_not_unknown() -> None:
    gate = Gate([Down(name="ollama"), offering("demo", "demo")])
    with pytest.raises(GateError) as missing:
        find(gate, "ollama/qwen3")
    assert missing.value.fault.status == 503


def test_a_backend_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codexgate.gate._Shelf.look.__defaults__", (0.01,))

    async def scenario() -> list[Model]:
        gate = Gate([Hung(name="hung"), offering("demo", "demo")])
        models = await gate.models()
        await gate.aclose()
        return models

    assert [model.id for model in run(scenario())] == ["demo"]


def test_who_has_left_an_answer_has_left_its_backend() -> None:
    async def scenario() -> None:
        backend = Scripted([TextDelta("a")], asyncio.Event(), Done("stop"))
        gate = Gate([backend])
        answer = gate.stream(await gate.route(ChatRequest("scripted", HELLO)))
        await anext(answer)
        await answer.aclose()
        assert backend.closed == 1

    run(scenario())


class Slow(Scripted):
    """A backend whose first listing takes longer than a listing waits."""

    def __init__(self) -> None:
        super().__init__(Done("stop"), name="slow")
        self.go = asyncio.Event()

    async def models(self) -> tuple[Model, ...]:
        await self.go.wait()
        return await super().models()


def test_a_request_that_can_go_nowhere_else_waits_for_a_slow_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codexgate.gate.PATIENCE", 0.01)
    monkeypatch.setattr("codexgate.gate._Shelf.look.__defaults__", (0.01,))

    async def scenario() -> None:
        slow = Slow()
        gate = Gate([slow, offering("demo", "demo")])
        assert (await gate.model("demo")).backend == "demo"
        finding = asyncio.create_task(gate.model("scripted"))
        await gate.models()
        slow.go.set()
        assert (await finding).backend == "slow"

    run(scenario())


def test_a_backend_that_comes_back_appears(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codexgate.gate.RETRY", 0)

    class Flaky(Scripted):
        up = False

        async def models(self) -> tuple[Model, ...]:
            if not self.up:
                raise GateError(Fault("unavailable", "down"))
            return await super().models()

    async def scenario() -> list[int]:
        backend = Flaky(name="flaky")
        gate = Gate([backend])
        before = len(await gate.models())
        backend.up = True
        return [before, len(await gate.models())]

    assert run(scenario()) == [0, 1]


def test_an_embedding_model_does_not_chat() -> None:
    gate = Gate([offering("one", "embed", abilities=frozenset({"embedding"}))])
    with pytest.raises(GateError, match="does not chat"):
        run(gate.route(ChatRequest("embed", HELLO)))


def route(gate: Gate, request: ChatRequest) -> Route:
    return run(gate.route(request))


def test_a_request_without_a_model_gets_the_default_or_the_first() -> None:
    assert route(Gate(GATE), ChatRequest("", HELLO)).model.id == "a"
    assert route(Gate(GATE, default_model="b"), ChatRequest("", HELLO)).model.id == "b"


def test_an_aliass_settings_fill_in_and_the_requests_win() -> None:
    alias = Alias(model="a", system="be kind", effort="high", options={"num_ctx": 1, "keep": 1})
    gate = Gate(GATE, aliases={"fast": alias})
    filled = route(gate, ChatRequest("fast", HELLO, options={"num_ctx": 2})).request
    assert filled.model == "a"
    assert filled.messages == (Message("system", (Text("be kind"),)), *HELLO)
    assert (filled.effort, filled.options) == ("high", {"num_ctx": 2, "keep": 1})
    assert route(gate, ChatRequest("fast", HELLO, effort="low")).request.effort == "low"


def test_a_sandbox_is_the_names_and_never_the_requests() -> None:
    aliases = {"careful": Alias(model="a", sandbox="read-only"), "plain": Alias(model="a")}
    wanted = {"careful": "read-only", "plain": None, "a": None, "": "read-only"}
    gate = Gate(GATE, aliases=aliases, default_model="careful")
    for name, sandbox in wanted.items():
        request = ChatRequest(
            name, HELLO, sandbox="danger-full-access", options={"sandbox": "danger-full-access"}
        )
        assert route(gate, request).request.sandbox == sandbox


def test_what_the_backend_does_not_act_on_is_told() -> None:
    request = ChatRequest("a", HELLO, sampling=Sampling(temperature=0, seed=1, stop=("x",)))
    assert route(Gate(GATE), request).ignored == ("seed", "temperature")


class Raising(Scripted):
    """A backend with a bug."""

    error: Exception

    async def stream(self, request: ChatRequest) -> AsyncGenerator[list[Event]]:
        yield [TextDelta("a")]
        raise self.error


def outcome(backend: Scripted) -> list[Event]:
    async def scenario() -> list[Event]:
        gate = Gate([backend], strict=True)
        async with aclosing(gate.stream(await gate.route(ChatRequest("scripted", HELLO)))) as batches:
            return [event async for batch in batches for event in batch]

    return run(scenario())


@pytest.mark.parametrize(
    ("error", "kind"),
    [(GateError(Fault("timeout", "late")), "timeout"), (ZeroDivisionError("secret"), "internal")],
)
def test_what_a_backend_raises_becomes_one_failure(error: Exception, kind: str) -> None:
    backend = Raising()
    backend.error = error
    *_, last = outcome(backend)
    assert isinstance(last, Failed) and last.fault.kind == kind
    assert "secret" not in last.fault.text


def test_a_backend_that_breaks_the_law_fails_in_a_strict_gate() -> None:
    *_, last = outcome(Scripted(TextDelta("")))
    assert isinstance(last, Failed) and last.fault.kind == "internal"


def test_nothing_follows_the_end() -> None:
    assert outcome(Scripted(Done("stop"), TextDelta("late"))) == [Done("stop")]
