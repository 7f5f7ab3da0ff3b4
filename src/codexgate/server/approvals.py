"""What Codex waits for somebody to allow."""

from typing import Any, Literal

import msgspec
from aiohttp import web

from ..fronts.openai_error import UNREADABLE, unreadable
from ..records import PendingApproval
from .context import CORE
from .guard import BODY, reply_json


async def approvals(request: web.Request) -> web.Response:
    """`GET /v1/approvals`."""
    waiting = request.app[CORE].gate.approvals()
    return reply_json({"object": "list", "data": [{"object": "approval", **_plain(one)} for one in waiting]})


async def decide(request: web.Request) -> web.Response:
    """`POST /v1/approvals/{id}` with `{"decision": "accept" | "decline"}`."""
    try:
        decision = msgspec.json.decode(request[BODY], type=_Decision).decision
    except UNREADABLE as error:
        raise unreadable(error) from error
    id = request.match_info["id"]
    request.app[CORE].gate.decide(id, decision == "accept")
    return reply_json({"id": id, "object": "approval", "decision": decision})


class _Decision(msgspec.Struct):
    decision: Literal["accept", "decline"]


def _plain(waiting: PendingApproval) -> dict[str, Any]:
    return {name: getattr(waiting, name) for name in waiting.__struct_fields__}
