"""Conversations of ChatGPT and Claude, as their exports have them (`conversations.json`).

What a person asked and what was answered is one memory, or several where it is long. Only what
was written counts: neither pictures nor tools, and of a conversation with branches the last one.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from ..records import Draft
from .items import key, moment
from .text import pieces

ASKED = 200
"""Characters of a question that the summary shows."""


class _Turn(NamedTuple):
    asked: bool
    text: str
    created: float
    attached: str = ""

    @property
    def whole(self) -> str:
        return "\n\n".join(filter(None, (self.text, self.attached)))


class _Author(msgspec.Struct):
    role: str


class _Message(msgspec.Struct):
    author: _Author
    content: dict[str, Any] | None = None
    create_time: float | None = None
    metadata: dict[str, Any] | None = None
    recipient: str | None = None


class _Node(msgspec.Struct):
    message: _Message | None = None
    parent: str | None = None


class _ChatGPT(msgspec.Struct):
    mapping: dict[str, _Node]
    current_node: str | None = None
    title: str | None = None
    id: str | None = None
    conversation_id: str | None = None
    create_time: float | None = None


_chatgpt = msgspec.json.Decoder(_ChatGPT)


def of_chatgpt(text: str, path: str) -> Iterator[Draft]:  # noqa: ARG001 - a Shape
    """A conversation of ChatGPT: a tree of messages, of which the branch that was shown last counts."""
    chat = _chatgpt.decode(text)
    turns = [turn for message in _branch(chat) if (turn := _said(message))]
    id = chat.conversation_id or chat.id or ""
    return _exchanges("chatgpt", id, chat.title or "", turns, chat.create_time or 0.0)


def _branch(chat: _ChatGPT) -> list[_Message]:
    if chat.current_node not in chat.mapping:
        messages = [node.message for node in chat.mapping.values() if node.message]
        return sorted(messages, key=lambda message: message.create_time or 0.0)
    found: dict[str, _Message | None] = {}
    at: str | None = chat.current_node
    while at and at in chat.mapping and at not in found:  # a tree that bites its tail ends, too
        found[at] = chat.mapping[at].message
        at = chat.mapping[at].parent
    return [message for message in reversed(found.values()) if message]


def _said(message: _Message) -> _Turn | None:
    hidden = (message.metadata or {}).get("is_visually_hidden_from_conversation")
    role, content = message.author.role, message.content or {}
    kind = content.get("content_type")
    if role not in ("user", "assistant") or hidden or kind not in ("text", "multimodal_text"):
        return None
    if message.recipient not in (None, "all"):  # what the model told a tool
        return None
    parts = content.get("parts")
    text = "\n\n".join(part for part in parts if isinstance(part, str)) if isinstance(parts, list) else ""
    return _Turn(role == "user", text.strip(), message.create_time or 0.0) if text.strip() else None


class _Block(msgspec.Struct):
    type: str = ""
    text: str | None = None


class _Attachment(msgspec.Struct):
    file_name: str | None = None
    extracted_content: str | None = None


class _Written(msgspec.Struct):
    sender: str
    text: str | None = None
    content: list[_Block] | None = None
    attachments: list[_Attachment] | None = None
    created_at: str | None = None


class _Claude(msgspec.Struct):
    chat_messages: list[_Written]
    uuid: str = ""
    name: str | None = None
    created_at: str | None = None


_claude = msgspec.json.Decoder(_Claude)


def of_claude(text: str, path: str) -> Iterator[Draft]:  # noqa: ARG001 - a Shape
    """A conversation of Claude; the text of what was attached belongs to the question."""
    chat = _claude.decode(text)
    turns = []
    for message in chat.chat_messages:
        blocks = [block.text for block in message.content or () if block.type == "text" and block.text]
        said = "\n\n".join(blocks or [message.text or ""]).strip()
        files = [each.extracted_content for each in message.attachments or () if each.extracted_content]
        turn = _Turn(message.sender == "human", said, moment(message.created_at), "\n\n".join(files).strip())
        if turn.whole:
            turns.append(turn)
    return _exchanges("claude", chat.uuid, chat.name or "", turns, moment(chat.created_at))


def _exchanges(source: str, id: str, title: str, turns: Iterable[_Turn], created: float) -> Iterator[Draft]:
    """Each question with its answers."""
    exchange: list[_Turn] = []
    for turn in turns:
        if turn.asked and exchange and not exchange[-1].asked:
            yield from _drafts(source, id, title, exchange, created)
            exchange = []
        exchange.append(turn)
    if exchange:
        yield from _drafts(source, id, title, exchange, created)


def _drafts(source: str, id: str, title: str, exchange: list[_Turn], created: float) -> Iterator[Draft]:
    text = "\n\n".join(f"{'User' if turn.asked else 'Assistant'}: {turn.whole}" for turn in exchange)
    asked = next((" ".join(turn.text.split()) for turn in exchange if turn.asked), "")[:ASKED]
    summary = ": ".join(filter(None, (title, asked)))
    metadata = {"conversation": id, "title": title}
    for piece in pieces(text):
        yield Draft(
            piece.text,
            "",
            summary,
            (),
            metadata,
            source,
            key(f"{source}:{id}", summary, piece.text),
            exchange[0].created or created,
        )
