"""`codexgate approvals`: what a running gate waits for somebody to allow, and the answer.

One more client of the gate's HTTP surface; it opens no gate and knows no backend.
"""

import asyncio
import sys
import time
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote

import msgspec
import typer

from .. import apikey
from ..backends.http import Http
from ..errors import STATUS, Fault, GateError, Kind
from ..records import PendingApproval
from ..settings import Settings, load_settings
from .remote import listens_at
from .terminal import AsJson, Colour, ConfigFile, config_file, escape_line, json_text, say, wants_colour

T = TypeVar("T")

app = typer.Typer(help="List what a running gate waits for, and decide it; alone: list.")

PATIENCE = 5.0
"""Seconds for the gate to take a connection, and again to answer."""
LIMIT = 16 * 2**20
"""Bytes of an answer."""
PIPED = 10_000
"""Columns where no terminal ends the line: a row is one line to those who search."""
_KINDS: dict[int, Kind] = {status: kind for kind, status in STATUS.items()}

Url = Annotated[
    str, typer.Option("--url", metavar="URL", help="Where the gate listens; else as the settings say.")
]
Id = Annotated[str, typer.Argument(metavar="ID", show_default=False)]


class _Listed(msgspec.Struct):
    data: list[PendingApproval]


class _Error(msgspec.Struct):
    message: str
    code: str | None = None


class _Refused(msgspec.Struct):
    error: _Error


@app.callback(invoke_without_command=True)
def approvals(ctx: typer.Context, as_json: AsJson = False, url: Url = "", config: ConfigFile = None) -> None:  # noqa: ARG001
    """List what a running gate waits for, and decide it; alone: list."""
    if ctx.invoked_subcommand:
        return
    waiting = _read(_ask(ctx, "GET", "/v1/approvals"), _Listed).data
    if as_json:
        sys.stdout.write(json_text([_object(one) for one in waiting]) + "\n")
    elif waiting:
        _print(waiting, ctx.obj.colour)
    else:
        say("nothing waits.")


@app.command()
def accept(ctx: typer.Context, id: Id, url: Url = "", config: ConfigFile = None) -> None:  # noqa: ARG001
    """Let it be done, this once."""
    _decide(ctx, id, "accept")


@app.command()
def decline(ctx: typer.Context, id: Id, url: Url = "", config: ConfigFile = None) -> None:  # noqa: ARG001
    """Refuse it; the model is told and goes on."""
    _decide(ctx, id, "decline")


def _decide(ctx: typer.Context, id: str, decision: Literal["accept", "decline"]) -> None:
    _ask(ctx, "POST", f"/v1/approvals/{quote(id, safe='')}", {"decision": decision})
    say(f"{id} is {decision.removesuffix('e')}ed.")


def _ask(ctx: typer.Context, method: str, path: str, body: Any = None) -> bytes:
    settings = load_settings(config=config_file(ctx)).settings
    url = _given_url(ctx) or listens_at(settings.server)
    return asyncio.run(_send(url, settings, method, path, msgspec.json.encode(body) if body else None))


async def _send(url: str, settings: Settings, method: str, path: str, body: bytes | None) -> bytes:
    key = apikey.effective(settings)
    http = Http(
        url.rstrip("/").removesuffix("/v1"),  # as OpenAI's clients are told it
        connect_timeout=PATIENCE,
        headers={"Authorization": f"Bearer {key.secret.reveal()}"} if key else {},
        advice="Start it with `codexgate serve`, or say where it is: --url URL",
    )
    try:
        limits = {"first_byte_timeout": PATIENCE, "idle_timeout": PATIENCE}
        async with http.send(method, path, body, **limits) as response:
            answer = await response.read(LIMIT)
            if response.status != 200:
                raise _refusal(response.status, answer)
            return answer
    finally:
        await http.aclose()


def _refusal(status: int, answer: bytes) -> GateError:
    error = _read(answer, _Refused).error
    return GateError(Fault(_KINDS.get(status, "upstream"), error.message, code=error.code or ""))


def _read(answer: bytes, type: type[T]) -> T:
    try:
        return msgspec.json.decode(answer, type=type)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise GateError(Fault("upstream", "What listens there does not answer as a gate does.")) from error


def _given_url(ctx: typer.Context) -> str:
    """The `--url` that stands nearest to the command."""
    at: Any = ctx
    while at is not None:
        if at.params.get("url"):
            return str(at.params["url"])
        at = at.parent
    return ""


def _object(waiting: PendingApproval) -> dict[str, Any]:
    return {**msgspec.structs.asdict(waiting), "seconds_left": _left(waiting)}


def _left(waiting: PendingApproval) -> int:
    return max(0, waiting.expires - int(time.time()))


def _print(waiting: list[PendingApproval], choice: Colour) -> None:
    from rich.console import Console  # 50 ms that only this table needs
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("ID", no_wrap=True)
    for title in ("ACTION", "DETAIL", "FOLDER"):
        table.add_column(title, overflow="fold")
    table.add_column("LEFT", justify="right", no_wrap=True)
    for one in waiting:
        cells = (one.id, one.action, one.detail, one.cwd, f"{_left(one)} s")
        table.add_row(*(Text(escape_line(cell)) for cell in cells))
    colour = wants_colour(choice, sys.stdout)
    width = None if sys.stdout.isatty() else PIPED
    Console(force_terminal=colour, no_color=not colour, highlight=False, width=width).print(table)
