"""`codexgate memory`: keep, find, import, export, list and forget memories, and embed them anew.

Turns the command line into calls of the memory's use case and what comes of them into lines. Knows
no store and no model; how entries look is `memory_view`'s, and what files hold `imports`'.
"""

import logging
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import aclosing, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Annotated, TextIO

import typer

from ..drafts import CONTENT, LIMIT
from ..errors import Fault, GateError, invalid
from ..imports.formats import Format
from ..memory import Memory
from ..records import Draft, Entry, Filter, Kept, Match
from ..settings import Settings, load_settings
from . import memory_view as view
from .complete import embedding_models, namespaces
from .documents import STDIN, Documents, read_text, replacing
from .memory_use import newest, tell_of_nothing, to_reembed, with_memory
from .table import terminal_width
from .terminal import (
    AsJson,
    ConfigFile,
    Paint,
    config_file,
    confirmed,
    json_text,
    print_line,
    say,
    wants_colour,
)

app = typer.Typer(help="Keep, find, import, export, list and forget memories.", no_args_is_help=True)

LISTED = 50
"""Entries that `list` shows unless it is told otherwise."""
_UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}

Namespace = Annotated[
    str, typer.Option("--namespace", "-n", metavar="NS", help="Namespace.", autocompletion=namespaces)
]
Namespaces = Annotated[
    list[str] | None,
    typer.Option("--namespace", "-n", metavar="NS", help="Namespace; repeatable.", autocompletion=namespaces),
]
Tags = Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="Tag; repeatable.")]


@app.command()
def persist(
    ctx: typer.Context,
    text: Annotated[str | None, typer.Argument(help="What to keep; without it, or as -, stdin.")] = None,
    file: Annotated[Path | None, typer.Option(metavar="FILE", help="Keep what this file holds.")] = None,
    namespace: Namespace = "",
    summary: Annotated[str, typer.Option(metavar="TEXT", help="What it is about.")] = "",
    tag: Tags = None,
    meta: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Something to know of it; repeatable.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Keep it though nearly the same is there.")] = False,
    as_json: AsJson = False,
    config: ConfigFile = None,  # noqa: ARG001 - config_file finds it
) -> None:
    """Keep one text and print its id."""
    settings = _settings(ctx)
    draft = Draft(
        _content(text, file),
        namespace or settings.memory.default_namespace,
        summary,
        tuple(tag or ()),
        dict(map(_pair, meta or ())),
        "cli" if file in (None, Path(STDIN)) else str(file),
    )

    async def keep(memory: Memory) -> Kept:
        return await memory.persist(draft, force=force)

    kept = with_memory(settings, keep)
    if as_json:
        print_line(json_text(view.entry_object(kept.entry) | {"deduped": kept.deduped}))
    else:
        print_line(kept.entry.id)
        if kept.deduped:
            say("it was there already.")


@app.command()
def retrieve(
    ctx: typer.Context,
    query: Annotated[str, typer.Argument(help="What to look for.", show_default=False)],
    namespace: Namespaces = None,
    everywhere: Annotated[bool, typer.Option("--all", help="Look in every namespace.")] = False,
    limit: Annotated[int, typer.Option("-k", metavar="N", min=1, max=LIMIT, help="How many at most.")] = 10,
    tag: Tags = None,
    since: Annotated[
        str, typer.Option(metavar="WHEN", help="Made since a date (2026-01-31) or for so long (7d, 12h).")
    ] = "",
    as_json: AsJson = False,
    config: ConfigFile = None,  # noqa: ARG001
) -> None:
    """Find what matches a question.

    On a terminal it is a table, in a pipe the whole texts.
    """
    if namespace and everywhere:
        raise typer.BadParameter("--namespace and --all exclude each other.")
    settings = _settings(ctx)
    names = () if everywhere else tuple(namespace or (settings.memory.default_namespace,))
    wanted = Filter(names, tuple(tag or ()), since=_since(since, datetime.now().astimezone()))

    async def find(memory: Memory) -> Sequence[Match]:
        matches = await memory.retrieve(query, wanted, limit)
        if not matches:
            await tell_of_nothing(memory, names)
        return matches

    matches = with_memory(settings, find)
    if as_json:
        print_line(json_text([view.match_object(match) for match in matches]))
    elif matches and sys.stdout.isatty():
        _print_all(view.match_table(matches, _paint(ctx), terminal_width()))
    else:
        sys.stdout.write("\n".join(map(view.match_text, matches)))


@app.command("import")
def import_(
    ctx: typer.Context,
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="Files and folders; - is stdin.")],
    namespace: Namespace = "",
    tag: Tags = None,
    format: Annotated[Format | None, typer.Option(help="What the files are; else told by content.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Keep nothing, say what would be.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first thing that fails.")] = False,
    as_json: AsJson = False,
    config: ConfigFile = None,  # noqa: ARG001
) -> None:
    """Import exports, tables, Markdown and texts.

    Known are exports of this program, of mem0, ChatGPT, Claude and MCP's `server-memory`, CSV with a
    column `content`, Markdown and text. Run again, it adds only what is not there yet. With --json a
    line for each entry, and one with the sums.
    """
    from .memory_import import Import, Options, Tally
    from .progress import counting  # bars are wanted by long commands alone

    settings = _settings(ctx)
    options = Options(
        namespace=namespace,
        default=settings.memory.default_namespace,
        tags=tuple(tag or ()),
        format=format,
        strict=strict,
        as_json=as_json,
    )
    files, tally = Documents(paths), Tally()
    try:
        with counting(sys.stderr, "entries", colour=wants_colour(ctx.obj.colour, sys.stderr)) as news:
            work = Import(files, options, tally, news)
            if dry_run:
                work.rehearse()
            else:
                work.run(settings)
    except KeyboardInterrupt:
        say("interrupted; what is imported stays, and the same command goes on from there.")
        raise
    finally:
        say(tally.text(dry_run))
        if as_json:
            print_line(json_text(tally))
    if tally.failed:
        raise typer.Exit(1)


@app.command()
def export(
    ctx: typer.Context,
    namespace: Namespaces = None,
    tag: Tags = None,
    vectors: Annotated[bool, typer.Option("--vectors", help="With the vectors.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write it there, whole or not at all."),
    ] = None,
    config: ConfigFile = None,  # noqa: ARG001
) -> None:
    """Write entries as lines of JSON that `import` reads."""
    wanted = Filter(tuple(namespace or ()), tuple(tag or ()))

    async def write(memory: Memory, file: TextIO) -> None:
        async with aclosing(memory.export(wanted, vectors=vectors)) as batches:
            async for batch in batches:
                file.writelines(f"{json_text(view.vectored_object(found))}\n" for found in batch)

    with nullcontext(sys.stdout) if output in (None, Path(STDIN)) else replacing(output) as file:
        with_memory(_settings(ctx), lambda memory: write(memory, file))


@app.command("list")
def list_(
    ctx: typer.Context,
    namespace: Namespaces = None,
    limit: Annotated[int, typer.Option("-k", metavar="N", min=0, help="How many at most; 0: all.")] = LISTED,
    tag: Tags = None,
    as_json: AsJson = False,
    config: ConfigFile = None,  # noqa: ARG001
) -> None:
    """List entries, the newest first."""
    wanted = Filter(tuple(namespace or ()), tuple(tag or ()))

    async def look(memory: Memory) -> list[Entry]:
        entries = await newest(memory, wanted, limit)
        if not entries:
            await tell_of_nothing(memory, wanted.namespaces)
        return entries

    entries = with_memory(_settings(ctx), look)
    if as_json:
        print_line(json_text([view.entry_object(entry) for entry in entries]))
    elif entries:
        _print_all(view.entry_table(entries, _paint(ctx), _width()))


@app.command()
def delete(
    ctx: typer.Context,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="What to forget.")] = None,
    namespace: Annotated[
        str, typer.Option(metavar="NS", help="Forget all of this namespace.", autocompletion=namespaces)
    ] = "",
    short: Annotated[str, typer.Option("-n", hidden=True)] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: ConfigFile = None,  # noqa: ARG001
) -> None:
    """Forget entries, or a whole namespace."""
    if short:  # elsewhere it narrows down; here everything would go by a slip of a finger
        raise typer.BadParameter("To forget a whole namespace write it out: --namespace.")
    if bool(ids) == bool(namespace):
        raise typer.BadParameter("Give either ids or a --namespace.")
    settings = _settings(ctx)
    if namespace and not yes and not confirmed(f"Delete everything in {namespace}?"):
        say("nothing was deleted.")
        raise typer.Exit(1)
    wanted = list(dict.fromkeys(ids or ()))
    gone = with_memory(
        settings, lambda memory: memory.clear(namespace) if namespace else memory.delete(wanted)
    )
    if gone < max(len(wanted), 1):
        if namespace:
            what = f"There is nothing in the namespace {namespace}."
        elif not gone:
            what = f"Nothing has {'this id' if len(wanted) == 1 else 'these ids'}; nothing was deleted."
        else:
            what = f"{gone} of {len(wanted)} were deleted; nothing has the other ids."
        raise GateError(Fault("not_found", what, "`codexgate memory list` shows what there is."))
    say(f"{gone:,} {'entry is' if gone == 1 else 'entries are'} deleted.")


@app.command("namespaces")
def namespaces_(ctx: typer.Context, as_json: AsJson = False, config: ConfigFile = None) -> None:  # noqa: ARG001
    """List the namespaces, with what embedded them."""
    found = with_memory(_settings(ctx), lambda memory: memory.namespaces())
    if not found:
        say("there is no memory yet.")
    if as_json:
        print_line(
            json_text(
                [dict(zip(("name", "entries", "model", "dimension"), each, strict=True)) for each in found]
            )
        )
    elif found:
        _print_all(view.namespace_table(found, _paint(ctx), _width()))


@app.command()
def reembed(
    ctx: typer.Context,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="ID",
            help="Model to embed with; else as the settings say.",
            autocompletion=embedding_models,
        ),
    ] = "",
    namespace: Namespaces = None,
    config: ConfigFile = None,  # noqa: ARG001
) -> None:
    """Embed entries anew with another model.

    The old vectors serve until all are done. Begun again it goes on where it was.
    """
    from .progress import counting

    settings = _settings(ctx)

    async def embed(memory: Memory) -> dict[str, int]:
        done = {}
        for name in await to_reembed(memory, model, namespace):
            colour = wants_colour(ctx.obj.colour, sys.stderr)
            with counting(sys.stderr, f"entries of {name}", colour=colour) as news:
                async with aclosing(memory.reembed(name, model)) as steps:
                    async for count, total in steps:
                        news.show(count, count / total if total else 1.0)
                        done[name] = total
        return done

    try:
        done = with_memory(settings, embed)
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from there, and the old vectors serve until it is done.")
        raise
    for name, count in done.items():
        say(f"{name}: {count:,} {'entry is' if count == 1 else 'entries are'} embedded anew.")
    if not done:
        say("there is nothing to embed anew.")


# What the commands share


def _settings(ctx: typer.Context) -> Settings:
    logging.getLogger("codexgate.memory").addHandler(_Warnings())
    return load_settings(config=config_file(ctx)).settings


class _Warnings(logging.Handler):
    """Tells what went wrong beside what was asked for."""

    def emit(self, record: logging.LogRecord) -> None:
        say(getattr(record, "fields", {}).get("reason", record.getMessage()))


def _content(text: str | None, file: Path | None) -> str:
    """What is to be kept, no more than one memory may hold. Raises GateError."""
    if text is not None and file:
        raise typer.BadParameter("A text and --file exclude each other.")
    if text is None and file is None and (sys.stdin is None or sys.stdin.isatty()):
        raise invalid("There is nothing to keep.", advice="Give a text, or pipe one in.")
    content = read_text(file) if text is None or text == STDIN else text
    if len(content) > CONTENT:
        raise invalid(
            f"This has {len(content):,} characters; one memory has at most {CONTENT:,}.",
            advice="`codexgate memory import FILE` cuts a text into several.",
        )
    return content


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise typer.BadParameter(f"{text!r} is not KEY=VALUE.")
    return name, value


def _since(text: str, now: datetime) -> float:
    """Unix seconds of a date, a time, or as long ago as `7d` says; 0 of nothing. Raises BadParameter."""
    if not text:
        return 0.0
    if found := re.fullmatch(r"(\d{1,6})([mhdw])", text):
        return now.timestamp() - int(found[1]) * _UNITS[found[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is no time: 2026-01-31, 7d and 12h are.") from None


def _paint(ctx: typer.Context) -> Paint:
    return Paint(wants_colour(ctx.obj.colour, sys.stdout))


def _width() -> int | None:
    return terminal_width() if sys.stdout.isatty() else None


def _print_all(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
