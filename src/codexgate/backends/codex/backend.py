"""The Codex agent as a `ports.Backend`: threads and turns on a supervised child.

Each request is a thread of its own that is told the history and forgotten afterwards. What it
may do is fixed when the backend is made (`ask.Authority`); nothing of a request reaches the
child but what `ask.plan` builds.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path

import msgspec

from ... import __version__
from ...chat import ChatRequest
from ...dialects.codex import ask, wire
from ...dialects.codex.decode import Decoder
from ...errors import Fault, GateError
from ...events import Done, Event, Failed
from ...records import Ability, Health, Model
from . import host
from .child import Child
from .find import INSTALL, child_environ, codex_home, find_binary
from .options import CodexOptions
from .supervisor import Supervisor
from .turn import Turn

LISTING = 10.0
"""Seconds for the list of models: with a login, Codex asks its own service first."""
PROBE = 2.0
"""Seconds that a probe waits for the child to start."""

log = logging.getLogger(__name__)


class Codex:
    """The Codex agent."""

    name = "codex"
    honours: frozenset[str] = frozenset()

    def __init__(
        self, options: CodexOptions, data_dir: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        """`data_dir`: where the empty folder lies that Codex works in when none is set."""
        self._options = options
        self._environ = dict(os.environ if environ is None else environ)
        self._binary = find_binary(options.binary, self._environ)
        self._cwd = str(options.cwd or data_dir / "codex-cwd")
        self._host = host.read(codex_home(self._environ))
        self._home = data_dir / "codex-home"
        self._authority = ask.Authority(
            cwd=self._cwd,
            sandbox=options.sandbox,
            plain=options.plain,
            config=host.thread_config(self._cwd, options.use_host_config),
        )
        self._supervisor = Supervisor(self._start)
        self._leaving: set[asyncio.Task[None]] = set()
        self._version = ""

    async def models(self) -> tuple[Model, ...]:
        """What Codex lists, what its configuration names, and what the settings add."""
        child = await self._supervisor.child()
        account = msgspec.json.decode(await child.ask(wire.ACCOUNT_READ, {}), type=wire.Account)
        if account.requires_openai_auth and account.account is None:
            raise GateError(self._signed_out())
        listed = msgspec.json.decode(await child.ask(wire.MODEL_LIST, {}, LISTING), type=wire.ModelList)
        own = [id for id in (self._host.model, *self._options.models) if id]
        models = {id: _model(wire.CodexModel(id, input_modalities=["text", "image"])) for id in own}
        models |= {model.id: _model(model) for model in listed.data if not model.hidden}
        return tuple(models.values())

    async def stream(self, request: ChatRequest) -> AsyncGenerator[list[Event]]:
        """Run one turn; closing the generator interrupts it."""
        decoder = Decoder()
        try:
            plan = ask.plan(request, self._authority)
            turn = Turn(await self._supervisor.child(), plan)
        except GateError as error:
            yield [Failed(error.fault)]
            return
        deadline = time.monotonic() + self._options.turn_timeout
        events: list[Event] = []
        try:
            while not (events and isinstance(events[-1], Done | Failed)):
                events = await self._read(turn, decoder, deadline)
                if events:
                    yield events
        finally:
            self._leave(turn, decoder.over)
            for method, count in (decoder.unknown | decoder.undecodable).items():
                log.debug("codex.unknown", extra={"fields": {"method": method, "count": count}})

    async def probe(self) -> Health:
        """Start it if need be, and see whether it has a login."""
        if self._binary is None:
            return Health("absent", "not found", advice=INSTALL)
        try:
            async with asyncio.timeout(PROBE):
                child = await self._supervisor.child()
                account = msgspec.json.decode(await child.ask(wire.ACCOUNT_READ, {}), type=wire.Account)
        except GateError as error:
            return Health("down", error.fault.message, self._version, error.fault.advice)
        except TimeoutError:
            return Health("down", f"did not start within {PROBE:g} s")
        if not account.requires_openai_auth:
            return Health("ready", f"{self._version}, provider {self._host.provider}", self._version)
        if account.account is None:
            return Health("down", f"{self._version}, not signed in", self._version, self._signed_out().advice)
        return Health("ready", f"{self._version}, signed in", self._version)

    async def aclose(self) -> None:
        """Interrupt what still runs, and stop the child."""
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=PROBE)
        await self._supervisor.stop()

    async def _read(self, turn: Turn, decoder: Decoder, deadline: float) -> list[Event]:
        """The events of one read, or the failure that ends the turn."""
        left = deadline - time.monotonic()
        patience = min(self._options.idle_timeout, left)
        try:
            async with asyncio.timeout(patience):
                notifications = await turn.read()
        except GateError as error:
            return decoder.fail(error.fault)
        except TimeoutError:
            limit = "turn_timeout" if left <= self._options.idle_timeout else "idle_timeout"
            message = f"Codex was given up after {patience:.0f} s without an end."
            advice = f"`codex.{limit}` sets the limit."
            return decoder.fail(Fault("timeout", message, advice, "codex_timeout", "", True))
        return [event for told in notifications for event in decoder.feed(told.method, told.params)]

    def _leave(self, turn: Turn, ended: bool) -> None:
        task = asyncio.create_task(turn.leave(ended))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _start(self) -> Child:
        if self._binary is None:
            raise GateError(
                Fault("unavailable", "The Codex program was not found.", INSTALL, "codex_not_found")
            )
        environ = child_environ(self._environ, self._host.env_keys)
        arguments: tuple[str, ...] = host.BOUNDED
        try:
            if not self._options.cwd:
                await asyncio.to_thread(os.makedirs, self._cwd, 0o700, exist_ok=True)
            if not self._options.use_host_config:
                home = await asyncio.to_thread(host.private_home, self._host, self._home)
                environ["CODEX_HOME"] = str(home)
                arguments += host.ARGUMENTS
        except OSError as error:
            message = f"The folder for Codex cannot be made: {error.filename}: {error.strerror}."
            raise GateError(Fault("unavailable", message, code="codex_no_home")) from error
        child = await Child.start(self._binary, arguments, environ, self._cwd, ask.answer)
        try:
            hello = await child.ask(wire.INITIALIZE, ask.initialize(__version__))
            await child.tell(wire.INITIALIZED)
        except BaseException:
            await child.stop()
            raise
        agent = msgspec.json.decode(hello, type=wire.Initialized).user_agent
        self._version = agent.partition("/")[2].partition(" ")[0]
        log.info("codex.start", extra={"fields": {"version": self._version}})
        return child

    def _signed_out(self) -> Fault:
        packaged = self._binary is not None and "codex_cli_bin" in self._binary.parts
        program = self._binary if packaged else "codex"
        return Fault("unavailable", "Codex is not signed in.", f"Run `{program} login`.", "codex_signed_out")


def _model(listed: wire.CodexModel) -> Model:
    abilities: set[Ability] = {"chat", "thinking"}
    if "image" in listed.input_modalities:
        abilities.add("vision")
    details = {"description": listed.description} if listed.description else {}
    return Model(listed.id, "codex", owned_by="openai", abilities=frozenset(abilities), details=details)
