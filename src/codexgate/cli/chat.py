"""`codexgate chat`: one question and its answer, or a conversation on a terminal.

Turns the command line into values and picks the view; the turn itself is `turn`'s. Nothing here
knows a backend, HTTP, or how an answer looks.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..assemble import open_gate, open_memory
from ..chat import Effort, Format, Part, Retrieval, Sandbox
from ..errors import GateError, invalid
from ..settings import Settings, load_settings
from ..stores.sqlite import Sessions
from . import attach, remote
from .complete import chat_models, namespaces, sessions
from .memory_use import tell_of_unknown
from .render import Json, Plain, Status, View
from .terminal import AsJson, Colour, ConfigFile, Paint, config_file, existing_folder, wants_colour
from .turn import Ask, Conversation, Options, latest

Approvals = Literal["never", "ask"]


def chat(
    ctx: typer.Context,
    prompt: Annotated[str, typer.Argument(help="What to ask.", show_default=False)] = "",
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="ID", help="Model to ask.", autocompletion=chat_models)
    ] = "",
    system: Annotated[str, typer.Option("--system", "-s", metavar="TEXT", help="System message.")] = "",
    file: Annotated[
        list[Path] | None,
        typer.Option("--file", "-f", metavar="FILE", help="Send a text, picture or PDF along; repeatable."),
    ] = None,
    session: Annotated[
        str, typer.Option(metavar="NAME", help="Go on with this conversation.", autocompletion=sessions)
    ] = "",
    resume: Annotated[
        bool, typer.Option("--continue", "-c", help="Go on with the last conversation.")
    ] = False,
    schema: Annotated[Path | None, typer.Option(metavar="FILE", help="JSON Schema for the answer.")] = None,
    effort: Annotated[Effort | None, typer.Option(help="Reasoning effort.")] = None,
    max_tokens: Annotated[int | None, typer.Option(metavar="N", min=1, help="Longest answer.")] = None,
    temperature: Annotated[float | None, typer.Option(metavar="T", help="0 is steady, 1 is lively.")] = None,
    memory: Annotated[
        str,
        typer.Option(metavar="NAMESPACE", help="Put memories of it before.", autocompletion=namespaces),
    ] = "",
    stream: Annotated[
        bool | None, typer.Option(help="Show the answer as it comes; the default, but not of --json.")
    ] = None,
    as_json: AsJson = False,
    raw: Annotated[bool, typer.Option("--raw", help="Do not render Markdown.")] = False,
    cwd: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder that Codex works in.")] = None,
    codex_sandbox: Annotated[Sandbox | None, typer.Option(help="What Codex's commands may do.")] = None,
    codex_approvals: Annotated[
        Approvals | None, typer.Option(help="Whether Codex may ask you to go beyond that.")
    ] = None,
    url: Annotated[
        str, typer.Option("--url", metavar="URL", help="Ask the gate that runs there, and its models.")
    ] = "",
    config: ConfigFile = None,  # noqa: ARG001 - config_file finds it
) -> None:
    """Ask a model, with what is piped in; without a prompt on a terminal, talk with it.

    Into a pipe goes the answer's text alone. With --json it is one JSON object at the end; with
    --json --stream a line for every event before it.
    """
    if session and resume:
        raise typer.BadParameter("--session and --continue exclude each other.")
    if url and (cwd or codex_sandbox or codex_approvals):
        raise typer.BadParameter("What Codex may do, and where, is for the gate at --url to say.")
    settings = _settings(config_file(ctx), cwd, codex_sandbox, codex_approvals)
    options = Options(
        model=model,
        system=system,
        effort=effort or "",
        max_tokens=max_tokens,
        temperature=temperature,
        format=attach.schema(schema) if schema else Format(),
        retrieval=Retrieval(memory) if memory else None,
    )
    parts = _asked(prompt, file or [], alone=as_json)
    colour: Colour = ctx.obj.colour
    make_view = partial(_view, colour, stream, raw=raw, as_json=as_json)
    asyncio.run(_converse(settings, url, options, None if resume else session, parts, make_view, colour))


def _asked(prompt: str, files: list[Path], *, alone: bool) -> tuple[Part, ...]:
    """What is asked, empty for who is to talk. Raises GateError where nobody can; `alone`: nobody is to."""
    parts = attach.parts(prompt, _piped_in(), files)
    if not parts and (alone or sys.stdin is None or not (sys.stdin.isatty() and sys.stdout.isatty())):
        raise invalid("There is nothing to ask.", advice="Give a prompt, or pipe one in.")
    return parts


def _settings(
    config: Path | None, cwd: Path | None, sandbox: Sandbox | None, approvals: Approvals | None
) -> Settings:
    """The settings, what the flags say of Codex included; nobody is asked who is not there."""
    asks = _person_is_there()
    if approvals == "ask" and not asks:
        raise invalid(
            "There is nobody whom Codex could ask: standard input and error have to be a terminal.",
            advice="Leave out --codex-approvals ask.",
        )
    flags = {
        "codex.cwd": cwd and existing_folder(cwd),
        "codex.sandbox": sandbox,
        "codex.approvals": approvals if asks else "never",
    }
    return load_settings(flags, config=config).settings


async def _converse(
    settings: Settings,
    url: str,
    options: Options,
    session: str | None,
    parts: tuple[Part, ...],
    make_view: Callable[[], View],
    colour: Colour,
) -> None:
    """Ask for the answer to `parts`, or talk without them.

    `url`: of a gate that runs; else one is opened here. `session`: `None` goes on with the last one.
    """
    sessions = Sessions(settings.data_dir / "sessions.db")
    if session is None:
        session = await latest(sessions)
    paint = Paint(wants_colour(colour, sys.stderr))
    consent = _consent(paint) if settings.codex.approvals == "ask" else None
    if url:
        settings = await remote.instead(settings, url, options.model)
    async with open_memory(settings) as memory, open_gate(settings, memory=memory) as gate:
        if options.retrieval:
            with contextlib.suppress(GateError):  # a memory that fails is told with the answer
                await tell_of_unknown(memory, [options.retrieval.namespace])
        talk = Conversation(gate, options, sessions, session, consent)
        await talk.load()
        if parts:
            await talk.ask(parts, make_view())
            return
        from .repl import Repl  # an answer into a pipe does not pay for prompt_toolkit

        await Repl(talk, make_view, paint).run(settings.data_dir / "history")


def _view(colour: Colour, stream: bool | None, *, raw: bool, as_json: bool = False) -> View:
    """The view for where standard output goes."""
    out, terminal = sys.stdout, sys.stdout.isatty()
    paint = Paint(wants_colour(colour, sys.stderr))
    status = Status(sys.stderr, paint, shown=sys.stderr.isatty())
    if as_json:
        return Json(out.buffer, status, lines=bool(stream))
    if not terminal or raw or os.environ.get("TERM") == "dumb":
        return Plain(out.buffer, status, escaped=terminal, stream=stream is not False)
    from .terminal_view import Rendered  # an answer into a pipe does not pay for rich

    return Rendered(out, status, colour=wants_colour(colour, out), stream=stream is not False)


def _consent(paint: Paint) -> Ask:
    from .consent import Consent  # POSIX alone has the terminals that it needs

    return Consent(paint)


def _person_is_there() -> bool:
    """Whether somebody can be asked: sees what is written, and types the answer."""
    return os.name == "posix" and sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def _piped_in() -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        return b""
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise invalid(f"Standard input cannot be read: {error.strerror}.") from error
