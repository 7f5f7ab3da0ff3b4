"""The Codex agent as a `ports.Backend`: threads and turns on a supervised child.

A request without a chat is a thread of its own that is told the history and forgotten afterwards;
one with a chat goes on with the chat's thread (`chats`). What it may do is fixed when the backend is
made (`ask.Authority`); nothing of a request reaches the child but what `ask` builds.
"""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path

import msgspec

from ... import __version__, folders
from ...chat import ChatRequest
from ...dialects.codex import ask, transcript, wire
from ...errors import Fault, GateError
from ...events import Done, Event, Failed
from ...ports import ThreadStore
from ...records import Ability, Health, Model, PendingApproval
from . import host
from .approvals import Desk
from .chats import Chats, Opened, Settle
from .child import Child
from .find import INSTALL, child_environ, codex_home, find_binary
from .options import CodexOptions
from .run import Run
from .supervisor import Supervisor
from .turn import Turn
from .worktree import Worktrees

LISTING = 10.0
"""Seconds for the list of models: with a login, Codex asks its own service first."""
HELLO = 10.0
"""Seconds for its first word: 0.3 s are usual, and nobody else gets a child meanwhile."""
MEMORY = "memories"
"""What the memory's MCP server is called in a thread."""
PARKED = 64
"""Turns that may wait for tools: each keeps two connections to the gate's own memory, of 256 in all."""
PROBE = 2.0
"""Seconds that a probe waits for the child to start."""

log = logging.getLogger(__name__)


class Codex:
    """The Codex agent."""

    name = "codex"
    honours = frozenset({"stop", "max_tokens"})

    def __init__(
        self,
        options: CodexOptions,
        data_dir: Path,
        environ: Mapping[str, str] | None = None,
        *,
        threads: ThreadStore | None = None,
        wait: float = 30.0,
        strict: bool = False,
    ) -> None:
        """`data_dir`: where its home lies, and the empty folder it works in when none is set.

        `threads` remembers chats; a chat that is busy is waited for `wait` seconds, and with
        `strict` none runs without the store.
        """
        self._options = options
        self._environ = dict(os.environ if environ is None else environ)
        self._binary = find_binary(options.binary, self._environ)
        self._cwd = str(options.cwd or data_dir / "codex-cwd")
        self._host = host.read(codex_home(self._environ))
        self._home = data_dir / "codex-home"
        self._authority = ask.Authority(
            cwd=self._cwd,
            sandbox=options.sandbox,
            asks=options.approvals == "ask",
            plain=options.plain,
            history=options.history,
            config=host.thread_config(self._cwd, options.use_host_config),
        )
        if options.memory_url:
            self.connect(MEMORY, options.memory_url, "")
        worktrees = Worktrees(Path(self._cwd)) if options.worktrees else None
        self._threads = threads
        self._chats: Chats | None = None
        if threads is not None:
            self._chats = Chats(threads, self._authority, wait=wait, strict=strict, worktrees=worktrees)
        self._supervisor = Supervisor(self._start)
        self._desk = Desk(options.approval_timeout)
        self._parked: dict[Run, asyncio.TimerHandle] = {}
        """Runs that wait for a client's tools, the oldest first."""
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
        """Run one turn, or go on with one that waited for tools; closing the generator interrupts it."""
        if request.tool_choice.mode == "none":
            request = msgspec.structs.replace(request, tools=())
        try:
            run = await self._open(request)
        except GateError as error:
            yield [Failed(error.fault)]
            return
        waits = False
        try:
            async with aclosing(run.events()) as batches:
                async for batch in batches:
                    end = batch[-1]
                    waits = isinstance(end, Done) and end.reason == "tool_calls"
                    yield batch
        finally:
            if waits:
                self._park(run)
            else:
                self._finish(run)

    def connect(self, name: str, url: str, key: str) -> None:
        """Let threads, from now on, call the tools of an MCP server; one of that name elsewhere stays."""
        servers = self._authority.config.setdefault(ask.MCP_SERVERS, {})
        if servers.get(name, {}).get("url", url) == url:
            servers[name] = ask.mcp_server(url, key)

    def approvals(self) -> tuple[PendingApproval, ...]:
        """What waits for a decision."""
        return self._desk.pending()

    def decide(self, id: str, accept: bool) -> None:
        """Decide one. Raises GateError of kind `not_found`."""
        self._desk.decide(id, accept)

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
        for run in tuple(self._parked):
            self._unpark(run)
            self._finish(run)
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=PROBE)
        await self._supervisor.stop()
        if self._threads is not None:
            await self._threads.aclose()

    async def _open(self, request: ChatRequest) -> Run:
        """A run that answers `request`. Raises GateError."""
        parked = self._waiting_for(request)
        if parked is not None:
            parked.go_on(request)
            return parked
        ask.fresh(request, self._authority)  # refuses what Codex has not, before anything runs
        child = await self._supervisor.child()
        opening: tuple[Event, ...] = ()
        if request.chat and transcript.is_task(request):
            plan = ask.task(request, self._authority, self._options.task_model)
        else:
            self._abandon(request.chat)
            if request.chat and self._chats is not None:
                opened = await self._chats.open(child, request)
                if isinstance(opened, Opened):
                    return self._run(opened.turn, request, opened.events, opened.settle)
                opening = (opened,)
            plan = ask.fresh(request, self._authority)
        return self._run(Turn(child, plan), request, opening)

    def _run(
        self, turn: Turn, request: ChatRequest, opening: tuple[Event, ...], settle: Settle | None = None
    ) -> Run:
        return Run(turn, request, self._options, self._desk, settle, self._signing_in(), opening)

    def _waiting_for(self, request: ChatRequest) -> Run | None:
        """The run that waits for the results that `request` brings, if it can go on."""
        run = next((run for run in self._parked if run.waits_for(request)), None)
        if run is None:
            return None
        if run.turn.lost:
            self._give_up(run)
            return None
        self._unpark(run)
        return run

    def _park(self, run: Run) -> None:
        if len(self._parked) >= PARKED:
            self._give_up(next(iter(self._parked)))
        loop = asyncio.get_running_loop()
        self._parked[run] = loop.call_later(self._options.tool_timeout, self._give_up, run)

    def _unpark(self, run: Run) -> None:
        self._parked.pop(run).cancel()

    def _give_up(self, run: Run) -> None:
        log.info("codex.tools_lost", extra={"fields": {"calls": len(run.calls)}})
        self._unpark(run)
        self._finish(run)

    def _abandon(self, chat: str) -> None:
        """The chat, if it is one, goes on without the results that a run of it waits for."""
        for run in [run for run in self._parked if chat and run.request.chat == chat]:
            self._give_up(run)

    def _finish(self, run: Run) -> None:
        task = asyncio.create_task(run.finish())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        for method, count in run.passed_over().items():
            log.debug("codex.unknown", extra={"fields": {"method": method, "count": count}})

    async def _start(self) -> Child:
        if self._binary is None:
            raise GateError(
                Fault("unavailable", "The Codex program was not found.", INSTALL, "codex_not_found")
            )
        environ = child_environ(self._environ, self._host.env_keys)
        arguments: tuple[str, ...] = host.BOUNDED
        try:
            if not self._options.cwd:
                await asyncio.to_thread(folders.make, Path(self._cwd))
            if not self._options.use_host_config:
                home = await asyncio.to_thread(host.private_home, self._host, self._home)
                environ["CODEX_HOME"] = str(home)
                arguments += host.ARGUMENTS
        except OSError as error:
            message = f"The folder for Codex cannot be made: {error.filename}: {error.strerror}."
            raise GateError(Fault("unavailable", message, code="codex_no_home")) from error
        child = await Child.start(self._binary, arguments, environ, self._cwd, ask.answer)
        try:
            hello = await child.ask(wire.INITIALIZE, ask.initialize(__version__), HELLO)
            await child.tell(wire.INITIALIZED)
        except BaseException:
            await child.stop()
            raise
        agent = msgspec.json.decode(hello, type=wire.Initialized).user_agent
        self._version = agent.partition("/")[2].partition(" ")[0]
        log.info("codex.start", extra={"fields": {"version": self._version}})
        return child

    def _signed_out(self) -> Fault:
        return Fault("unavailable", "Codex is not signed in.", self._signing_in(), "codex_signed_out")

    def _signing_in(self) -> str:
        packaged = self._binary is not None and "codex_cli_bin" in self._binary.parts
        return self._host.signing_in or f"Run `{self._binary if packaged else 'codex'} login`."


def _model(listed: wire.CodexModel) -> Model:
    abilities: set[Ability] = {"chat", "thinking", "tools"}
    if "image" in listed.input_modalities:
        abilities.add("vision")
    details = {"description": listed.description} if listed.description else {}
    return Model(listed.id, "codex", owned_by="openai", abilities=frozenset(abilities), details=details)
