"""The compatibility card of one server: what a client of OpenAI or Ollama can rely on there.

At most 25 short requests, one after the other, all to the server that was named. Over after `SILENT`
seconds unless its model has answered by then, and after `WHOLE` in any case, with what was found by then.
Knows no terminal: the rows are values, `lines` a table of them.
"""

import asyncio
import textwrap
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from ..errors import GateError
from . import card_agent, card_probes
from .card_probes import Case, Finding, Verdict
from .card_server import Hide, Server
from .reach import Answer as Heard

__all__ = ["FEATURES", "SILENT", "WHOLE", "Card", "Finding", "Verdict", "judge", "lines"]

SILENT, WHOLE = 9.0, 20.0
"""Seconds that a card may take where no model answers, and at most."""
HUNG = 2
"""Questions for which no model is needed: a server that leaves so many unanswered is asked no more."""

Probe = Callable[[Case], Awaitable[list[Finding]]]

FEATURES = (
    "models",
    "chat",
    "stream",
    "usage chunk",
    "terminal event",
    "tool-call index and id",
    "parallel tools",
    "json_schema enforced",
    "reasoning field",
    "base64 embeddings",
    "keepalive",
    "cancel reaches the model",
    "error shape",
    "Responses: stream",
    "Responses: state",
    "Responses: tools",
    "/api/tags",
    "/api/version",
)
"""The rows of every card, in their order."""

# What costs the server nothing is asked first: it is still told when the model is slow.
PLAIN: tuple[tuple[Probe, tuple[str, ...]], ...] = (
    (card_probes.models, ("models",)),
    (card_probes.tags, ("/api/tags",)),
    (card_probes.version, ("/api/version",)),
    (card_probes.errors, ("error shape",)),
)
MODEL: tuple[tuple[Probe, tuple[str, ...]], ...] = (
    (card_probes.embeddings, ("base64 embeddings",)),
    (card_probes.chat, ("chat",)),
)
CHATS: tuple[tuple[Probe, tuple[str, ...]], ...] = (
    (card_probes.stream, ("stream", "usage chunk", "terminal event")),
    (card_agent.tools, ("tool-call index and id", "parallel tools")),
    (card_probes.schema, ("json_schema enforced",)),
    (card_agent.responses, ("Responses: stream",)),
    (card_agent.state, ("Responses: state",)),
    (card_agent.response_tools, ("Responses: tools",)),
    (card_agent.cancel, ("cancel reaches the model",)),
    (card_probes.reasoning, ("reasoning field",)),
    (card_probes.keepalive, ("keepalive",)),
)


class Card(msgspec.Struct, frozen=True):
    """What was found out about a server."""

    url: str
    """Its root, without a password; empty when the address was none."""
    model: str
    """The model that answered; empty when there was none."""
    rows: tuple[Finding, ...]
    """One for each of `FEATURES`."""
    requests: int = 0
    """How many were sent."""


async def judge(
    url: str,
    *,
    model: str = "",
    key: str = "",
    hide: Hide = str,
    heard: Mapping[str, Heard] = {},
    silent: float = SILENT,
) -> Card:
    """Judge the server at `url`, its root or that with `/v1`; never raises.

    `model`: which one is asked; empty: the first that is listed. `key`: its bearer token. `hide`: takes
    out of its words what nobody shall see, beyond what it was sent. `heard`: what it was asked before, by
    path, and is not asked again. `silent`: see `SILENT`.
    """
    try:
        server = Server(url, key, hide, heard)
    except GateError as error:
        return Card("", model, _rows({}, error.fault.message))
    case, found = Case(server, model), dict[str, Finding]()
    began, silent, why = asyncio.get_running_loop().time(), min(silent, WHOLE), ""
    try:
        async with asyncio.timeout_at(began + silent) as end:
            why = await _examine(case, found, lambda: end.reschedule(began + WHOLE))
    except TimeoutError:
        why = f"no time was left after {WHOLE if case.chats else silent:.0f} s"
    finally:
        await server.aclose()
    return Card(server.where, server.quote(case.model), _rows(found, why), server.asked)


async def _examine(case: Case, found: dict[str, Finding], answers: Callable[[], None]) -> str:
    """Put what is found into `found`; returns why the rest was not looked for.

    `answers` is called when the model has answered.
    """
    late = 0
    for probe, features in PLAIN:
        if not await _ask(case, found, probe, features):
            return found[features[0]].evidence
        late += found[features[0]].verdict == "skipped"
        if late == HUNG:
            return found[features[0]].evidence
    if not case.model:
        return "no model is listed, and none was named"
    for probe, features in MODEL:
        await _ask(case, found, probe, features)
    if not case.chats:
        return "there is no chat"
    answers()
    for probe, features in CHATS:
        await _ask(case, found, probe, features)
    return ""


async def _ask(case: Case, found: dict[str, Finding], probe: Probe, features: tuple[str, ...]) -> bool:
    """Ask one question; false when nothing listens there."""
    try:
        found |= {finding.feature: finding for finding in await probe(case)}
    except GateError as error:
        fault = error.fault
        # A slow answer says nothing about a server; one that is cut off does.
        verdict: Verdict = "no" if fault.kind == "upstream" else "skipped"
        found |= {
            feature: Finding(feature, verdict, case.server.quote(fault.message)) for feature in features
        }
        if fault.kind == "unavailable":
            found[features[0]] = Finding(features[0], "no", case.server.quote(fault.message))
        return fault.kind != "unavailable"
    except Exception as error:  # what a server sends must not end the card
        text = f"its answer could not be read ({type(error).__name__})"
        found |= {feature: Finding(feature, "no", text) for feature in features}
    return True


def _rows(found: dict[str, Finding], why: str) -> tuple[Finding, ...]:
    return tuple(found.get(feature) or Finding(feature, "skipped", why) for feature in FEATURES)


def lines(card: Card, width: int = 80) -> list[str]:
    """The rows as a table of `width` columns; evidence that is longer folds into further lines."""
    name, verdict = max(map(len, FEATURES)) + 2, len("skipped") + 2
    room = max(20, width - name - verdict)
    shown = [f"{'FEATURE':{name}}{'':{verdict}}EVIDENCE"]
    for before, row in zip((None, *card.rows), card.rows, strict=False):
        same = before is not None and row.evidence and before.evidence == row.evidence
        evidence = "the same" if same else row.evidence
        first, *rest = textwrap.wrap(evidence, room, break_on_hyphens=False) or [""]
        shown.append(f"{row.feature:{name}}{row.verdict:{verdict}}{first}".rstrip())
        shown += [" " * (name + verdict) + line for line in rest]
    return shown
