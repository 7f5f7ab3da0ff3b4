"""`codexgate serve`: the gate in the foreground, and the banner it begins with.

Refuses to start where the door would stand open. How requests are served is not known here.
"""

import asyncio
import errno
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer

from .. import __version__, apikey, door, folders, logs
from ..assemble import BACKENDS, open_core
from ..chat import Sandbox
from ..connect import clients
from ..errors import Fault, GateError
from ..gate import Gate
from ..records import Health
from ..server.app import Listen, Running, run_until_signal
from ..server.context import Chats
from ..settings import Settings, load_settings
from .complete import backends, chat_models
from .remote import listens_at
from .terminal import INTERRUPTED, ConfigFile, Paint, config_file, escape_line, existing_folder, wants_colour

log = logging.getLogger(__name__)

REREAD = {
    "aliases",
    "default_model",
    "log.format",
    "log.level",
    "server.allowed_hosts",
    "server.allowed_origins",
    "server.api_key",
    "server.api_key_file",
}
"""Settings that SIGHUP changes; the others wait for a restart."""

_REDIS = re.compile(
    r"(?a)\w+://(?:[^@/?#]*@)?((?:[\w.-]+|\[[\da-fA-F:.]+])?(?::\d+)?(?:/[\w./-]*)?)(?:\?.*)?"
)
"""Its group is where the server is, never who logs in; what is written otherwise is not shown at all."""


def serve(
    ctx: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on. [127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; 0 takes any free one. [8140]")] = None,
    uds: Annotated[str, typer.Option(metavar="PATH", help="Unix socket to listen on instead.")] = "",
    backend: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Backend to use; repeatable. [all]", autocompletion=backends),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="ID", help="Default model.", autocompletion=chat_models)
    ] = None,
    api_key_file: Annotated[Path | None, typer.Option(metavar="PATH", help="File with the API key.")] = None,
    codex_cwd: Annotated[str | None, typer.Option(metavar="DIR", help="Folder that Codex works in.")] = None,
    codex_sandbox: Annotated[Sandbox | None, typer.Option(help="What Codex's commands may do.")] = None,
    codex_approvals: Annotated[
        Literal["never", "ask"] | None, typer.Option(help="Whether Codex may ask to go beyond that.")
    ] = None,
    worktrees: Annotated[
        bool | None, typer.Option("--worktrees", help="Give each chat a git worktree of its own.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(metavar="NAMESPACE", help="Put memories of it before every chat.")
    ] = None,
    artifacts: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep a Markdown file of every exchange there.")
    ] = None,
    log_format: Annotated[logs.LogFormat | None, typer.Option(help="For people or for programs.")] = None,
    log_level: Annotated[logs.Level | None, typer.Option(help="The least that is logged.")] = None,
    config: ConfigFile = None,  # noqa: ARG001 - config_file finds it
) -> None:
    """Run the gate in the foreground, until Ctrl-C or SIGTERM; a second one does not wait for answers.

    SIGHUP reads the settings anew: keys, hosts, origins, names of models and the log change at once.
    """
    flags = {
        "server.host": host,
        "server.port": port,
        "server.api_key_file": api_key_file,
        "backends": backend,
        "default_model": model,
        "codex.cwd": codex_cwd,
        "codex.sandbox": codex_sandbox,
        "codex.approvals": codex_approvals,
        "codex.worktrees": worktrees,
        "retrieval.namespace": memory,
        "artifacts.dir": artifacts,
        "log.format": log_format,
        "log.level": log_level,
    }
    read = partial(_read, flags, config_file(ctx))
    if asyncio.run(_serve(read, uds, Paint(wants_colour(ctx.obj.colour, sys.stderr)))):
        raise typer.Exit(INTERRUPTED)


def _read(flags: Mapping[str, object], file: Path | None) -> tuple[Settings, apikey.Key | None]:
    """The settings as they are now, and the key in force. Raises GateError."""
    settings = load_settings(flags, config=file).settings
    return settings, apikey.effective(settings)


async def _serve(read: Callable[[], tuple[Settings, apikey.Key | None]], uds: str, paint: Paint) -> bool:
    """Whether its end was hurried. `read` is called again with every SIGHUP. Raises GateError."""
    settings, key = read()
    if not uds:
        door.refuse_open(settings, has_key=key is not None)
    os.umask(0o077)
    logs.configure(settings.log.format, settings.log.level)
    if settings.codex.cwd and "codex" in (settings.backends or BACKENDS):
        existing_folder(settings.codex.cwd)
    listen = _listen(settings, uds, key)
    async with AsyncExitStack() as closing:
        tell = closing.enter_context(folders.held(settings.data_dir))
        core = await closing.enter_async_context(open_core(settings))
        gate = core.gate

        async def on_start(running: Running) -> None:
            tell(running.url)
            names = [backend.name for backend in gate.backends]
            listed = ", ".join(running.routes)
            if settings.log.format == "text":  # a wall of text is no greeting
                listed = f"{len(running.routes)}"
                if not running.url.startswith("unix:"):  # no browser opens one
                    listed += f", see {running.url}/docs"
            fields = {"driver": ",".join(names), "url": running.url, "routes": listed}
            log.info("service.init", extra={"fields": fields})
            for setting, fault in (await gate.missing()).items():
                log.warning("model.missing", extra={"fields": {"setting": setting, "reason": fault.text}})
            if settings.log.format == "text":  # a program that reads JSON lines has the event
                sys.stderr.write(await banner(gate, running.url, settings, key, paint))
                sys.stderr.flush()

        def on_hangup(running: Running) -> None:
            try:
                now, its_key = read()
                if not uds:  # where it listens is as it was; what Codex may do, but for the aliases, too
                    served = msgspec.structs.replace(settings, aliases=now.aliases)
                    door.refuse_open(served, has_key=its_key is not None)
            except GateError as error:
                log.warning("settings.refused", extra={"fields": {"reason": error.fault.text}})
                return
            logs.configure(now.log.format, now.log.level)
            gate.rename(now.aliased, now.default_model)
            running.admit(_listen(now, uds, its_key))
            waits = ",".join(sorted(_differences(settings, now) - REREAD))
            log.info("settings.reread", extra={"fields": {"after_restart": waits}})

        try:
            return await run_until_signal(core, listen, on_start, on_hangup)
        except OSError as error:
            raise _cannot_listen(listen, error) from error


def _differences(one: msgspec.Struct, other: msgspec.Struct, section: str = "") -> set[str]:
    """The settings that differ, as `section.key`."""
    found: set[str] = set()
    for name in one.__struct_fields__:
        here, there = getattr(one, name), getattr(other, name)
        if isinstance(here, msgspec.Struct):
            found |= _differences(here, there, f"{section}{name}.")
        elif here != there:
            found.add(f"{section}{name}")
    return found


def _listen(settings: Settings, uds: str, key: apikey.Key | None) -> Listen:
    server = settings.server
    return Listen(
        host=server.host,
        port=server.port,
        uds=uds,
        key=key.secret.reveal() if key else "",
        allowed_hosts=server.allowed_hosts,
        allowed_origins=server.allowed_origins,
        max_connections=server.max_connections,
        max_streams=server.max_streams,
        drain=server.drain,
        chats=Chats(server.chat_headers, settings.codex.activity),
    )


async def banner(gate: Gate, url: str, settings: Settings, key: apikey.Key | None, paint: Paint) -> str:
    """What a person sees first: what works, where things are kept, how to go on; without a secret."""
    health, models = await asyncio.gather(gate.health(), gate.names())
    lines = ["", f"{paint('codexgate', 'bold')} {__version__} on {paint(url, 'bold', 'cyan')}", ""]
    lines += [_line(name, _health(seen, paint)) for name, seen in health.items()]
    if "codex" in health:
        lines.append(_line("threads", _threads(settings)))
    lines += [_line("data", escape_line(str(settings.data_dir))), _line("key", _key_state(key)), ""]
    if "codex" in health and settings.codex.approvals == "ask":
        lines += [paint("Codex asks before it goes beyond its sandbox:", "dim"), *_how_to_answer(url), ""]
    for told in clients.shortly(_reached(url, settings), models, settings.default_model, needs_key=bool(key)):
        lines.append(paint(told.about, "dim"))
        lines += [f"  {escape_line(line)}" for line in told.text.split("\n")]
    lines.append(paint("For others: codexgate connect CLIENT", "dim"))
    return "\n".join([*lines, "", ""])


def _reached(url: str, settings: Settings) -> str:
    """Where the gate at `url` is reached from this machine, as `connect` says it."""
    if url.startswith("unix:"):
        return url
    port = int(url.rpartition(":")[2])
    return listens_at(msgspec.structs.replace(settings.server, port=port))


def _line(name: str, text: str) -> str:
    return f"  {name:8}{text}"


def _health(health: Health, paint: Paint) -> str:
    if health.state == "ready":
        return escape_line(health.summary)
    return paint(escape_line(health.text), "yellow")


def _threads(settings: Settings) -> str:
    """Where chats keep their threads, without a password."""
    url = settings.threads.redis_url.reveal()
    if not url:
        return f"SQLite, {escape_line(str(settings.data_dir / 'threads.db'))}"
    place = _REDIS.fullmatch(url)
    return f"Redis, {place[1]}" if place else "Redis"


def _how_to_answer(url: str) -> list[str]:
    if url.startswith("unix:"):
        return ["  GET /v1/approvals, POST /v1/approvals/ID"]
    return [f"  codexgate approvals --url {url}", f"  codexgate approvals accept ID --url {url}"]


def _key_state(key: apikey.Key | None) -> str:
    if key is None:
        return "none; `codexgate key make` makes one"
    return f"set in {escape_line(str(key.file))}" if key.file else "set in the settings"


def _cannot_listen(listen: Listen, error: OSError) -> GateError:
    place = listen.uds or f"{listen.host}:{listen.port}"
    if error.errno == errno.EADDRINUSE:
        if listen.uds and not Path(listen.uds).is_socket():
            return GateError(Fault("conflict", f"{place} is there, and no socket.", "Take another path."))
        advice = f"Stop what listens there, or take another{' path.' if listen.uds else ': --port 0'}"
        return GateError(Fault("conflict", f"{place} is taken.", advice, "port_taken"))
    reason = error.strerror or error  # of a path that is too long, Python tells but the text
    return GateError(Fault("conflict", f"Cannot listen on {place}: {reason}.", code="cannot_listen"))
