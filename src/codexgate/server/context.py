"""What handlers share: the use cases, and who asks what about which chat."""

import hashlib
import re
from typing import Literal

import msgspec
from aiohttp import web

from ..chat import Retrieval
from ..core import Core
from ..errors import invalid
from ..flat import Activity
from ..fronts.openai_chat import ReasoningField
from ..ports import Route
from .guard import RULES, TRACE

CORE = web.AppKey("core", Core)
REASONING: web.AppKey[ReasoningField] = web.AppKey("reasoning", str)  # type: ignore[arg-type]


class Chats(msgspec.Struct, frozen=True):
    """How chats are told apart and shown."""

    headers: tuple[str, ...] = ("X-OpenWebUI-Chat-Id", "X-Session-Id")
    """Request headers that name the chat; the first that is there counts."""
    activity: Activity | Literal["auto"] = "auto"


CHATS = web.AppKey("chats", Chats)
MEMORY = "X-Codexgate-Memory"
SESSION = "X-Codexgate-Session"
_CHAT_ID = re.compile(r"[\x21-\x7e]{1,200}")


def chat_id(request: web.Request) -> str:
    """The chat that the request goes on with, from the first header that tells one. Raises GateError."""
    for name in request.app[CHATS].headers:
        if id := request.headers.get(name, ""):
            if not _CHAT_ID.fullmatch(id):
                raise invalid(f"`{name}` is at most 200 printable characters without blanks.", name)
            return id
    return ""


def session(request: web.Request, asked: str) -> str:
    """The session that the request goes on with: what its body says, else the header. Raises GateError."""
    name, id = ("session_id", asked) if asked else (SESSION, request.headers.get(SESSION, ""))
    if id and not _CHAT_ID.fullmatch(id):
        raise invalid(f"`{name}` is at most 200 printable characters without blanks.", name)
    return id


def caller(request: web.Request) -> str:
    """Who asks: a digest of the key that was sent; all who come in by the gate's own key are one."""
    sent = "" if request.app[RULES].key else request.headers.get("Authorization", "")
    return hashlib.sha256(sent.encode("utf-8", "surrogateescape")).hexdigest()


def retrieval(request: web.Request, asked: Retrieval | None) -> Retrieval | None:
    """The memories that the request wants: by its body, else by the header. Raises GateError."""
    namespace = request.headers.get(MEMORY, "")
    if namespace and not _CHAT_ID.fullmatch(namespace):
        raise invalid(f"`{MEMORY}` is at most 200 printable characters without blanks.", MEMORY)
    return asked if asked is not None or not namespace else Retrieval(namespace)


def activity(request: web.Request, chat: str) -> Activity:
    """Where an agent's activity is shown: to chat programs in the text, else beside it. Raises GateError."""
    setting = request.app[CHATS].activity
    match request.headers.get("X-Codexgate-Activity", setting):
        case "content" | "reasoning" | "off" as asked:
            return asked
        case "auto":
            return "content" if chat or request.path.startswith("/openai/") else "reasoning"
        case other:
            raise invalid(f"X-Codexgate-Activity is content, reasoning or off, not '{other[:20]}'.")


def note_route(request: web.Request, route: Route, unknown: tuple[str, ...] = ()) -> dict[str, str]:
    """Put the route into the request's trace; returns the headers that tell it."""
    trace = request[TRACE]
    trace.model, trace.backend, trace.unknown = route.model.id, route.backend.name, unknown
    # Names of fields are the caller's own words, and this goes into a header.
    told = [re.sub(r"[^A-Za-z0-9_.-]", "?", name[:64]) for name in (*route.ignored, *unknown)[:32]]
    return {"X-Codexgate-Ignored": ", ".join(told)} if told else {}
