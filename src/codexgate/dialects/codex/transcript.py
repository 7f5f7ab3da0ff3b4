"""Whether a thread still holds what a client sends: the same history, and what is new.

Clients like Open WebUI send the whole history each time, with answers trimmed and thinking
dropped. A signature is a digest for each message, so that a store holds no texts. Pure.
"""

import hashlib
import re
from collections.abc import Sequence

import msgspec

from ...chat import ChatRequest, Context, Document, Image, Message, Part, StoredFile, Text, Tool
from ...errors import Fault
from ...history import trimmed

_STALE = (
    "no rollout found",
    "thread not found",
    "invalid session id",
    "invalid thread id",
    "conversation not found",
)
"""All there is to tell a thread that is gone: the app-server's errors have one code."""

_TASK = re.compile(r"\s*###\s*Task\s*:", re.IGNORECASE)


def signature(
    messages: Sequence[Message],
    tools: Sequence[Tool],
    answer: str | None = None,
    *,
    sandbox: str | None = None,
) -> tuple[str, ...]:
    """The signature of a thread that holds `messages` and, as the model wrote it, its `answer`.

    The first entry is of the tools, since a thread has those that it was started with, and of the
    alias's `sandbox`: what was done under one is not gone on with under another.
    """
    entries = [_terms(tools, sandbox), *(_entry(message) for message in messages)]
    if answer is not None:
        entries.append(_answer(answer))
    return tuple(entries)


def continuation(
    kept: Sequence[str],
    messages: Sequence[Message],
    tools: Sequence[Tool],
    *,
    sandbox: str | None = None,
) -> tuple[Message, ...] | None:
    """What of `messages` the thread does not hold yet; `None` when its history is another one.

    Edited, shortened and regenerated histories are others: what a thread was told it cannot
    forget.
    """
    if not kept or kept[0] != _terms(tools, sandbox):
        return None
    held, new = messages[: len(kept) - 1], messages[len(kept) - 1 :]
    if not new or new[-1].role != "user":
        return None
    same = all(_holds(entry, message) for entry, message in zip(kept[1:], held, strict=True))
    return tuple(new) if same else None


def is_task(request: ChatRequest) -> bool:
    """One of Open WebUI's own requests about a chat: title, tags, follow-ups, search queries.

    It sends them with the chat's id, built from templates that begin with `### Task:`.
    """
    asked = [message for message in request.messages if message.role not in ("system", "developer")]
    if len(asked) != 1 or asked[0].role != "user":
        return False
    return _TASK.match("".join(part.text for part in _own(asked[0]) if isinstance(part, Text))) is not None


def is_stale(fault: Fault) -> bool:
    """The thread that was to be resumed is gone."""
    said = fault.message.lower()
    return any(text in said for text in _STALE)


def _holds(entry: str, message: Message) -> bool:
    if not entry.startswith("answer:"):
        return entry == _entry(message)
    if message.role != "assistant":
        return False
    _, size, digest = entry.split(":")
    # What came before the answer, activity among it, was ours to show and is not compared.
    text = trimmed(message.text)
    return _digest(text[len(text) - int(size) :] if int(size) else "") == digest


def _answer(text: str) -> str:
    text = trimmed(text)
    return f"answer:{len(text)}:{_digest(text)}"


def _entry(message: Message) -> str:
    parts = [_part(part) for part in _own(message)]
    calls = [f"{call.id} {call.name} {call.arguments}" for call in message.tool_calls]
    return f"{message.role}:{_digest(' '.join([*parts, *calls, message.tool_call_id]))}"


def _own(message: Message) -> list[Part]:
    """What the client sent: memories that were put in are not in the history that it sends next."""
    return [part for part in message.parts if not isinstance(part, Context)]


def _part(part: Part) -> str:
    match part:
        case Text():
            return trimmed(part.text)
        case StoredFile():
            return part.id
        case Image() | Document():
            return f"{part.media_type},{_digest(part.data)}"


def _terms(tools: Sequence[Tool], sandbox: str | None) -> str:
    entry = f"tools:{_digest(msgspec.json.encode(tools).decode()) if tools else ''}"
    return f"{entry}:{sandbox}" if sandbox else entry


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
