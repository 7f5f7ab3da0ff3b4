"""One exchange as a Markdown file: what was asked, what was put in, what came of it.

Every text in it is somebody else's: it stands in fences that it cannot close, without control
characters and without keys, and is cut where it is long. Pure: times, ids and secrets are handed in.
"""

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from ..activity import block, clean, code, cut, one_line
from ..chat import ChatRequest, Context, Document, Image, Message, Part, StoredFile, Text
from ..errors import Fault
from ..events import (
    Done,
    Event,
    Failed,
    FileChange,
    Notice,
    Retrieved,
    TextDelta,
    ThreadStarted,
    ToolEvent,
    Usage,
)

SECTION = 100_000
"""Characters of one section that are kept."""
PIECE = 20_000
"""Characters of what one tool call was told and of what it said, each."""
CALLS = 500
"""Tool calls that are kept; and notices."""
LINE = 500
"""Characters of what stands on one line."""
TITLE = 60
"""Characters of the question that the index shows."""
MASK = "********"

_KEYS = re.compile(
    r"""(?P<before>\b(?i:bearer|basic)\s+|(?i:api[-_]?key)[\\"']*\s*[:=]\s*[\\"']*)[^\s\\"'`,;<>]{6,}"""
    r"|\b(?:sk|cg|rk|pk)-[\w-]{8,}"
    r"|\b(?:gh[opsur]_|github_pat_|hf_|glpat-|xox[abeoprs]-|AKIA|AIza)[\w-]{12,}"
    r"|\beyJ[\w-]{10,200}\.[\w.-]{10,}"
)
"""What looks like a key: after `Bearer`, or by the beginning that services give theirs; and JWTs."""

Mask = Callable[[str], str]


def masking(secrets: Sequence[str]) -> Mask:
    """A function that takes keys out of a text: `secrets`, and what looks like one."""
    written = {form for secret in secrets if secret for form in (secret, _json(secret)[1:-1])}
    known = re.compile("|".join(map(re.escape, sorted(written, key=len, reverse=True))) or r"(?!)")

    def mask(text: str) -> str:
        return _KEYS.sub(lambda found: (found["before"] or "") + MASK, known.sub(MASK, text))

    return mask


class Exchange:
    """Watches one answer, and tells it afterwards."""

    def __init__(self, request: ChatRequest, model: str, backend: str, began: datetime) -> None:
        self.id = request.id
        self.fault: Fault | None = None
        """Why it ended, where the answer itself did not say."""
        self._request = request
        self._model = model
        self._backend = backend
        self._began = began
        self._item: str | None = None
        self._answer = _Long(SECTION)
        self._calls: dict[str, _Call] = {}
        self._notices: list[str] = []
        self._thread = ""
        self._retrieved: Retrieved | None = None
        self._usage: Usage | None = None
        self._reason = ""

    def feed(self, event: Event) -> None:
        """Take the next event."""
        match event:
            case TextDelta():
                if event.item != self._item:
                    self._answer.add("" if self._item is None else "\n\n")
                    self._item = event.item
                self._answer.add(event.text)
            case ToolEvent():
                self._tool(event)
            case FileChange() if len(self._calls) < CALLS:
                call = self._calls[f"change {len(self._calls)}"] = _Call(f"file {event.kind}", "backend")
                call.told.add(event.path)
                call.said.add(event.diff)
            case Notice() if len(self._notices) < CALLS:
                self._notices.append(event.text)
            case ThreadStarted():
                self._thread = event.thread
            case Retrieved():
                self._retrieved = event
            case Usage():
                self._usage = event
            case Done():
                self._reason = event.reason
            case Failed():
                self.fault = event.fault
            case _:
                pass

    def stop(self) -> None:
        """Nothing more will come, whether it was ended or not."""
        if not self._reason and self.fault is None:
            self.fault = Fault("upstream", "The backend stopped in the middle of its answer.")

    def _tool(self, event: ToolEvent) -> None:
        if event.call_id not in self._calls and len(self._calls) < CALLS:
            self._calls[event.call_id] = _Call(event.name, event.runs_on)
        if call := self._calls.get(event.call_id):
            told = event.stage in ("started", "arguments")
            (call.told if told else call.said).add(event.text)
            if event.stage == "finished":
                call.ended = "well" if event.ok else "badly"

    def render(self, mask: Mask) -> str:
        """The whole file. Slow: goes through all that was said."""
        retrieved = self._retrieved
        sections = [f"# Exchange {_words(self.id, mask)}", self._facts(mask)]
        sections.append(_section("Request", _pretty(self._asked(mask)), "json"))
        if retrieved is not None and retrieved.block:
            sections.append(_section("Context", _shown(retrieved.block, mask), "text"))
        if self._calls:
            calls = [_called(call, mask) for call in self._calls.values()]
            sections.append(_section("Tool calls", _pretty(calls), "json"))
        sections.append(_section("Answer", self._answer.shown(mask), "markdown"))
        sections.append(f"## Usage\n\n{_tokens(self._usage)}")
        return "\n\n".join(sections) + "\n"

    def line(self, file: str, mask: Mask) -> str:
        """Its line in an index; `file` is where it is."""
        asked = next((one.text for one in reversed(self._request.messages) if one.role == "user"), "")
        when = f"{self._began:%Y-%m-%d %H:%M:%S}"
        question = f" {_words(asked[:LINE], mask, TITLE)}" if asked.strip() else ""
        told = f"{_words(self._model, mask)} of {_words(self._backend, mask)}, {self._ended(mask)}"
        return f"- [{when}]({file}) {told}:{question}\n"

    def _facts(self, mask: Mask) -> str:
        facts = {
            "began": f"{self._began:%Y-%m-%d %H:%M:%S} UTC",
            "response": _words(self.id, mask),
            "model": _words(self._model, mask),
            "backend": _words(self._backend, mask),
            "thread": _words(self._thread, mask),
            "ended": self._ended(mask),
        }
        told = [f"- {name}: {fact}" for name, fact in facts.items() if fact]
        told += [f"- notice: {_words(notice, mask)}" for notice in self._notices]
        for citation in self._retrieved.citations if self._retrieved else ():
            source = f", {_words(citation.source, mask)}" if citation.source else ""
            told.append(f"- memory: {_words(f'{citation.namespace}/{citation.id}', mask)}{source}")
        return "\n".join(told)

    def _ended(self, mask: Mask) -> str:
        if self.fault is not None:
            return f"failed: {_words(self.fault.text, mask)}"
        return self._reason or "cancelled: the caller left"

    def _asked(self, mask: Mask) -> dict[str, Any]:
        request = self._request
        asked: dict[str, Any] = {"model": request.model}
        if request.tools:
            asked["tools"] = [_shown(tool.name, mask, LINE) for tool in request.tools[:CALLS]]
        for name in sorted(request.sampling.given()):
            value = getattr(request.sampling, name)
            asked[name] = [_shown(stop, mask, LINE) for stop in value[:CALLS]] if name == "stop" else value
        for name in ("effort", "chat", "session"):
            if value := getattr(request, name):
                asked[name] = _shown(value, mask, LINE)
        if request.format.kind != "text":
            asked["format"] = _shown(f"{request.format.kind} {request.format.name}", mask, LINE).strip()
        if request.retrieval:
            asked["retrieval"] = request.retrieval
        return asked | {"messages": _messages(request.messages, mask)}


class _Long:
    """A text that comes in pieces, of which the beginning is kept."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[str] = []
        self._size = 0

    def add(self, text: str) -> None:
        # Twice what is shown, so that a key at the cut is seen whole and masked.
        if text and self._size < 2 * self._limit:
            self._pieces.append(text[: 2 * self._limit - self._size])
        self._size += len(text)

    def shown(self, mask: Mask) -> str:
        return _shown("".join(self._pieces), mask, self._limit, self._size)


class _Call:
    """A tool call as it was seen."""

    def __init__(self, name: str, runs_on: str) -> None:
        self.name = name
        self.runs_on = runs_on
        self.told = _Long(PIECE)
        self.said = _Long(PIECE)
        self.ended = ""


def _called(call: _Call, mask: Mask) -> dict[str, str]:
    called = {
        "name": _shown(call.name, mask, LINE),
        "runs_on": call.runs_on,
        "arguments": call.told.shown(mask),
        "output": call.said.shown(mask),
        "ended": call.ended,
    }
    return {name: text for name, text in called.items() if text}


def _messages(messages: Sequence[Message], mask: Mask) -> list[Any]:
    """The last of `messages`, as many as a section holds, and how many there were before."""
    shown: list[Any] = []
    left = SECTION
    for message in reversed(messages):
        if left <= 0:
            break
        one = _message(message, mask, left)
        left -= len(_json(one))
        shown.append(one)
    if len(shown) < len(messages):
        shown.append(f"({len(messages) - len(shown)} earlier messages are left out)")
    return shown[::-1]


def _message(message: Message, mask: Mask, room: int) -> dict[str, Any]:
    content: list[Any] = []
    for part in message.parts:
        content.append(_part(part, mask, room) if room > 0 else "(more is left out)")
        if room <= 0:
            break
        room -= len(_json(content[-1]))
    if len(content) == 1 and isinstance(message.parts[0], Text):
        content = content[0]["text"]
    calls = []
    for call in message.tool_calls[:CALLS]:
        told = {"id": call.id, "name": call.name, "arguments": call.arguments}
        calls.append({name: _shown(text, mask, PIECE if room > 0 else LINE) for name, text in told.items()})
        room -= len(_json(calls[-1]))
    said: dict[str, Any] = {
        "role": message.role,
        "name": _shown(message.name, mask, LINE),
        "content": content,
        "tool_calls": calls,
        "tool_call_id": _shown(message.tool_call_id, mask, LINE),
    }
    return {name: value for name, value in said.items() if value}


def _part(part: Part, mask: Mask, room: int) -> dict[str, Any]:
    match part:
        case Text() | Context():
            return {"type": "text", "text": _shown(part.text, mask, room)}
        case Image():
            return {
                "type": "image",
                "media_type": _shown(part.media_type, mask, LINE),
                "bytes": _size(part.data),
            }
        case Document():
            return {"type": "file", "name": _shown(part.name, mask, LINE), "bytes": _size(part.data)}
        case StoredFile():
            return {"type": "file", "id": _shown(part.id, mask, LINE)}


def _size(data: str) -> int:
    """Bytes of what `data` is in base64."""
    return len(data) * 3 // 4 - data.count("=", -2)


def _section(title: str, text: str, language: str) -> str:
    return f"## {title}\n\n{block(text, language)}" if text else f"## {title}\n\n(none)"


def _shown(text: str, mask: Mask, room: int = SECTION, size: int = 0) -> str:
    """`text` fit to be kept, with a note of what was cut; `size`: of the whole, if this is a part of it."""
    size = max(size, len(text))
    room = max(room, LINE)
    text = _kept(text[: 2 * room], mask)
    return text if len(text) <= room and size <= 2 * room else f"{text[:room]}… ({size} characters in all)"


def _words(text: str, mask: Mask, length: int = LINE) -> str:
    """A short text as code on one line."""
    return code(cut(one_line(_kept(text[: 2 * LINE], mask)), length)) if text else ""


def _kept(text: str, mask: Mask) -> str:
    # Cleaned first: what is hidden in a key must not hide the key.
    return mask(clean(text)).encode("utf-8", "replace").decode()


def _tokens(usage: Usage | None) -> str:
    if usage is None:
        return "(unknown)"
    prompt = f"{usage.prompt} tokens in" + (f", {usage.cached} of them cached" if usage.cached else "")
    answer = f"{usage.completion} out" + (f", {usage.reasoning} of them reasoning" if usage.reasoning else "")
    return f"{prompt}; {answer}" + ("; estimated" if usage.estimated else "")


def _pretty(value: Any) -> str:
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    return text if len(text) <= 2 * SECTION else f"{text[: 2 * SECTION]}… ({len(text)} characters in all)"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
