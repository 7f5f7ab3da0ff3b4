"""`codexgate connect`: the settings of other programs for this gate, shown or written into their files.

What a client must be told is `connect.clients`'s; how its file is changed is `edits`'s. Nothing is
ever asked, and the key is shown to those alone who want it.
"""

import asyncio
import difflib
import os
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import platformdirs
import typer

from .. import apikey
from ..backends.codex.find import codex_home
from ..connect import catalog
from ..connect.clients import CLIENTS, SHOW_KEY, Advice, Places, Target, advise
from ..errors import Fault, GateError, invalid
from ..records import Model
from ..settings import Settings, load_settings
from . import edits, offer
from .complete import chat_models
from .edits import Edit
from .offer import Offer
from .terminal import (
    AsJson,
    ConfigFile,
    Paint,
    config_file,
    escape,
    escape_line,
    json_text,
    print_line,
    say,
    wants_colour,
)

WIDTH = 80
_DONE = {
    "written": "Written: {}",
    "unchanged": "Unchanged: {}",
    "restored": "As it was before: {}",
    "taken out": "Our part is taken out: {}",
    "removed": "Removed, for there was nothing else in it: {}",
}


def clients(incomplete: str) -> list[str]:
    """The names that begin so."""
    return [name for name in CLIENTS if name.startswith(incomplete)]


def connect(
    ctx: typer.Context,
    client: Annotated[
        str,
        typer.Argument(
            metavar="CLIENT",
            help=f"One of {', '.join(CLIENTS)}.",
            autocompletion=clients,
            show_default=False,
        ),
    ],
    url: Annotated[
        str, typer.Option(metavar="URL", help="Where the gate listens; else as the settings say.")
    ] = "",
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="ID", help="Its model.", autocompletion=chat_models)
    ] = "",
    write: Annotated[
        bool, typer.Option("--write", help="Write them into the client's file, keeping a backup.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take them out of the client's file again.")] = False,
    show_key: Annotated[bool, typer.Option("--show-key", help="Show the API key itself.")] = False,
    as_json: AsJson = False,
    config: ConfigFile = None,  # noqa: ARG001 - config_file finds it
) -> None:
    """Show the settings that let another program use this gate, or write them into its file."""
    if client not in CLIENTS:
        near = difflib.get_close_matches(client, CLIENTS, 1, 0.5)
        advice = f"Did you mean {near[0]}?" if near else f"There are {', '.join(CLIENTS)}."
        raise invalid(f"There is no client '{client}'.", "client", "unknown_client", advice)
    if write and undo:
        raise invalid("--write and --undo are opposites.", advice="Say one of them.")
    settings = load_settings(config=config_file(ctx)).settings
    if undo:
        _undo(client, settings, as_json)
        return
    key = apikey.effective(settings)
    shown = key.secret.reveal() if key and show_key else ""
    found = asyncio.run(offer.find(settings, url, model, for_codex=client == "codex"))
    if found.warning:
        say(found.warning)
    target = Target(url=found.url, model=found.model, needs_key=key is not None, key=shown)
    where = places(os.environ)
    advise(client, target, where)  # what is refused leaves nothing behind
    listed = _list_for_codex(settings, found) if client == "codex" else None
    target = msgspec.structs.replace(target, catalog=listed)
    told = advise(client, target, where)
    written = _write(client, told, where) if write else []
    if as_json:
        print_line(json_text(_object(client, target, found, told, written)))
    else:
        _print_edits(written)
        _print(told, Paint(wants_colour(ctx.obj.colour, sys.stdout)), files=not written)
    if write and not written:
        raise GateError(Fault("conflict", f"Nothing was written. {told.unwritable}.", "Paste it by hand."))


def places(environ: Mapping[str, str]) -> Places:
    """Where the clients keep their settings; nothing is looked at."""
    named = environ.get("LLM_USER_PATH")
    llm = Path(named) if named else platformdirs.user_config_path("io.datasette.llm", False, roaming=True)
    continue_ = environ.get("CONTINUE_GLOBAL_DIR")
    return Places(
        codex=codex_home(environ) / "codexgate.config.toml",
        llm=llm / "extra-openai-models.yaml",
        aider=Path.home() / ".aider.conf.yml",
        continue_=(Path(continue_) if continue_ else Path.home() / ".continue") / "config.yaml",
        vscode=platformdirs.user_config_path("Code", False, roaming=True) / "User/chatLanguageModels.json",
    )


def _list_for_codex(settings: Settings, found: Offer) -> Path | None:
    """Write Codex's list of models, into our own folder; `None` when there is nothing to tell it."""
    if found.model.id not in found.windows:
        say(f"How much {found.model.id} sees at once is not known, so Codex cannot be told.")
        return None
    file = _catalog(settings)
    edits.replace(file, catalog.render(found.windows, found.models))
    return file


def _catalog(settings: Settings) -> Path:
    return settings.data_dir.absolute() / "codex-models.json"


def _write(client: str, advice: Advice, where: Places) -> list[Edit]:
    old = where.continue_.with_suffix(".json")
    if client == "continue" and old.exists() and not where.continue_.exists():
        # Continue reads the one or the other.
        message = f"{where.continue_} would put {old} out of use."
        raise invalid(message, code="unsafe_merge", advice="Turn that into YAML first.")
    return [edits.write(snippet) for snippet in advice.writable]


def _undo(client: str, settings: Settings, as_json: bool) -> None:
    example = Target(url="http://localhost", model=Model("", ""))
    files = [each.file for each in advise(client, example, places(os.environ)).writable if each.file]
    if not files:
        raise GateError(Fault("not_found", f"Nothing is ever written for {client}.", code="nothing_to_undo"))
    undone = [edits.undo(file) for file in files]
    if client == "codex":
        _catalog(settings).unlink(missing_ok=True)
    if as_json:
        print_line(json_text({"client": client, "files": [edit._asdict() for edit in undone]}))
    else:
        _print_edits(undone)


def _object(client: str, target: Target, found: Offer, advice: Advice, written: list[Edit]) -> Any:
    listed = {"file": target.catalog, "windows": found.windows} if target.catalog else None
    return {
        "client": client,
        "url": target.url,
        "base_url": target.base,
        "model": target.model.id,
        "key": {"needed": target.needs_key, "value": target.key or None, "command": SHOW_KEY},
        "snippets": [
            {"about": each.about or None, "file": each.file, "text": each.shown} for each in advice.snippets
        ],
        "notes": advice.notes,
        "catalog": listed,
        "written": [edit._asdict() for edit in written],
    }


def _print(advice: Advice, paint: Paint, *, files: bool) -> None:
    """What to paste, and what else to know; `files`: also what goes into files."""
    for snippet in advice.snippets:
        if snippet.file and files:
            print_line(paint(escape_line(str(snippet.file)), "bold"))
        elif snippet.file:
            continue
        else:
            print_line(paint(snippet.about, "dim"))
        print_line(f"{escape(snippet.shown)}\n")
    for note in advice.notes:
        text = escape_line(note)
        print_line(textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False))


def _print_edits(done: list[Edit]) -> None:
    for edit in done:
        print_line(_DONE[edit.done].format(escape_line(str(edit.file))))
        if edit.backup:
            print_line(f"  as it was: {escape_line(str(edit.backup))}")
    if done:
        print_line("")
