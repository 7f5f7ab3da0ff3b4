"""What a compatibility card asks about chats, models, vectors and errors, and how it reads the answers.

Each probe is one question to one server; what it finds are rows of a card. A verdict is about the
server: where the model did not do its part, or was too slow, the row is skipped and says so.

Source: OpenAI's API reference ("Chat", "Embeddings", "Models", "Streaming"); Ollama, docs/api.md.
"""

import base64
import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec

from .card_server import Answer, Server, Stream

Verdict = Literal["yes", "no", "partly", "skipped"]

CHAT = "/v1/chat/completions"
SHORT, LONGER = 16, 128
"""Tokens of an answer that has to be anything, and of one that has to hold something."""
DUE = 6.0
"""Seconds of silence after which a server should have said that it is still there."""
NEWEST = (0, 13, 4)
"""The Ollama that Codex wants at least."""
WORD = "mauve-7"
"""What no model says unless it must."""


class Finding(msgspec.Struct, frozen=True):
    """One row of a card."""

    feature: str
    verdict: Verdict
    evidence: str
    """What was seen, in a few words."""


class Case(msgspec.Struct):
    """The server, and what is known of it by now."""

    server: Server
    model: str = ""
    """What is asked for an answer; empty when nothing is known to be there."""
    models: tuple[str, ...] = ()
    """Everything that is listed."""
    chats: bool = False
    """A chat was answered."""
    response: str = ""
    """The id of a response that was made."""


# Models


async def models(case: Case) -> list[Finding]:
    """`GET /v1/models`; also chooses the model, unless one was named."""
    answer = await case.server.get("/v1/models")
    listed = [entry for entry in entries(dig(answer.data, "data")) if isinstance(dig(entry, "id"), str)]
    case.models = tuple(entry["id"] for entry in listed)
    named, case.model = case.model, case.model or _choose(listed)
    if answer.status != 200 or not _has(answer, "data"):
        return [Finding("models", "no", refusal(case, answer))]
    if not case.models:
        return [Finding("models", "partly", "the list is empty")]
    count = f"{len(case.models)} listed, first {case.server.quote(case.models[0])}"
    if named and named not in case.models:
        return [Finding("models", "partly", f"{case.server.quote(named)} is not among the {count}")]
    return [Finding("models", "yes", count)]


def _choose(listed: Sequence[Any]) -> str:
    """A model that may chat: the gate's own costs nothing, else the first."""
    ids = [entry["id"] for entry in listed if "embed" not in entry["id"].lower()]
    own = [entry["id"] for entry in listed if dig(entry, "owned_by") == "codexgate" and entry["id"] in ids]
    return next(iter([*own, *ids]), "")


async def tags(case: Case) -> list[Finding]:
    """`GET /api/tags`, the only place where Codex looks for models that are installed."""
    answer = await case.server.get("/api/tags")
    listed = dig(answer.data, "models")
    if answer.status != 200 or not _has(answer, "models"):
        text = f"{refusal(case, answer)}; `codex --oss` finds no model here"
        return [Finding("/api/tags", "no", text)]
    names = [name for entry in entries(listed) if isinstance(name := dig(entry, "name"), str)]
    case.model = case.model or next((name for name in names if "embed" not in name.lower()), "")
    if not names and case.models:
        return [Finding("/api/tags", "partly", f"lists none of the {len(case.models)} models")]
    return [Finding("/api/tags", "yes", f"{len(names)} listed")]


async def version(case: Case) -> list[Finding]:
    """`GET /api/version`."""
    answer = await case.server.get("/api/version")
    told = dig(answer.data, "version")
    if answer.status != 200 or not isinstance(told, str):
        return [Finding("/api/version", "no", refusal(case, answer))]
    shown = case.server.quote(told)
    numbers = tuple(int(part) for part in told.partition("-")[0].split(".") if part.isdecimal())
    if (0, 0, 0) < numbers < NEWEST:
        wanted = ".".join(map(str, NEWEST))
        return [Finding("/api/version", "partly", f"{shown}; Codex wants {wanted} or newer")]
    return [Finding("/api/version", "yes", shown)]


async def errors(case: Case) -> list[Finding]:
    """An unknown model is a 404, what is no JSON a 400, both told in OpenAI's object."""
    unknown = await case.server.post(CHAT, {**asked(case, "Hi."), "model": "codexgate-doctor-no-such-model"})
    broken = await case.server.post(CHAT, b'{"model": ')
    wrong = [
        f"{what}: HTTP {answer.status}{'' if answer.status != status else ' without error.message'}"
        for what, answer, status in (("unknown model", unknown, 404), ("malformed body", broken, 400))
        if answer.status != status or not isinstance(dig(answer.data, "error", "message"), str)
    ]
    if not wrong:
        return [Finding("error shape", "yes", "404 and 400, each with error.message")]
    return [Finding("error shape", "partly" if len(wrong) == 1 else "no", "; ".join(wrong))]


# Chats


async def chat(case: Case) -> list[Finding]:
    """A chat in one piece."""
    answer = await case.server.post(CHAT, asked(case, "Say hello."))
    message = dig(answer.data, "choices", 0, "message")
    if answer.status != 200 or not isinstance(message, dict):
        return [Finding("chat", "no", refusal(case, answer))]
    case.chats = True
    said = dig(message, "content") or dig(message, "reasoning_content") or dig(message, "reasoning") or ""
    return [Finding("chat", "yes", f"“{case.server.quote(str(said), 40)}”")]


async def stream(case: Case) -> list[Finding]:
    """A chat in pieces, its usage and its end."""
    options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    seen = await case.server.stream(CHAT, asked(case, "Say hello.", **options))
    if not seen.is_stream:
        why = f"HTTP {seen.status} and no event stream: {case.server.quote(seen.text)}"
        return _no_stream(why)
    if broken := next((event for event in seen.events if dig(event, "error") is not None), None):
        return _no_stream(f"an error: {case.server.quote(str(dig(broken, 'error')))}")
    pieces = sum(1 for piece in deltas(seen) if isinstance(dig(piece, "content"), str))
    reason = next((reason for reason in map(_reason, seen.events) if reason), "")
    begun = Finding("stream", "yes", f"{pieces} pieces, finish_reason {case.server.quote(reason)}")
    if not reason:
        begun = Finding("stream", "partly", f"{pieces} pieces, none with a finish_reason")
    end = Finding("terminal event", "yes", "data: [DONE]")
    if not seen.ended:
        end = Finding("terminal event", "no", "no data: [DONE]; a cut cannot be told from the end")
    return [begun, _usage(seen), end]


def _no_stream(why: str) -> list[Finding]:
    rest = (
        Finding(feature, "skipped", "there is no stream") for feature in ("usage chunk", "terminal event")
    )
    return [Finding("stream", "no", why), *rest]


def _usage(seen: Stream) -> Finding:
    counted = [event for event in seen.events if isinstance(dig(event, "usage", "prompt_tokens"), int)]
    if not counted:
        return Finding("usage chunk", "no", "include_usage was asked for, and nothing was counted")
    usage = counted[-1]["usage"]
    text = f"{usage['prompt_tokens']} and {dig(usage, 'completion_tokens')} tokens"
    if entries(dig(counted[-1], "choices")):
        return Finding("usage chunk", "partly", f"{text}, but not in a chunk of its own")
    return Finding("usage chunk", "yes", text)


async def schema(case: Case) -> list[Finding]:
    """Whether a JSON Schema is kept, also against what the question suggests."""
    wanted = {
        "type": "object",
        "properties": {"colour": {"type": "string", "enum": [WORD]}},
        "required": ["colour"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "colour", "strict": True, "schema": wanted}}
    body = asked(case, "What colour is the sky? One word.", LONGER, response_format=form)
    answer = await case.server.post(CHAT, body)
    text = dig(answer.data, "choices", 0, "message", "content")
    if answer.status != 200:
        return [Finding("json_schema enforced", "no", refusal(case, answer))]
    try:
        value = msgspec.json.decode(text if isinstance(text, str) else "")
    except msgspec.DecodeError:
        if _reason(answer.data) == "length":
            return [Finding("json_schema enforced", "skipped", f"not done after {LONGER} tokens")]
        return [Finding("json_schema enforced", "no", f"no JSON: “{case.server.quote(str(text), 40)}”")]
    shown = case.server.quote(str(text))
    if value == {"colour": WORD}:
        return [Finding("json_schema enforced", "yes", shown)]
    return [Finding("json_schema enforced", "partly", f"JSON, but not of the schema: {shown}")]


async def reasoning(case: Case) -> list[Finding]:
    """Where thoughts are told, if there are any."""
    feature = "reasoning field"
    options = {"stream": True, "reasoning_effort": "low"}
    seen = await case.server.stream(CHAT, asked(case, "Is 7 prime?", LONGER, **options))
    if not seen.is_stream:
        return [Finding(feature, "skipped", f"HTTP {seen.status}: {case.server.quote(seen.text)}")]
    told = list(deltas(seen))
    for field in ("reasoning_content", "reasoning"):
        if any(isinstance(dig(delta, field), str) and delta[field] for delta in told):
            return [Finding(feature, "yes", f"delta.{field}")]
    text = "".join(said for delta in told if isinstance(said := dig(delta, "content"), str))
    if "<think>" in text:
        return [Finding(feature, "no", "thoughts stand in the content, as <think>")]
    return [Finding(feature, "skipped", "the model did not think")]


# Vectors


async def embeddings(case: Case) -> list[Finding]:
    """Vectors as OpenAI's own clients ask for them, held against the same as numbers."""
    feature = "base64 embeddings"
    found = next((id for id in case.models if "embed" in id.lower()), "")
    wanted = {"model": found or case.model, "input": "hello"}
    coded = await case.server.post("/v1/embeddings", {**wanted, "encoding_format": "base64"})
    if coded.status != 200:
        # That this model does not embed says nothing of the server.
        # Nor does a 404 of the model, which is not there.
        route = coded.status in (404, 405, 501) and wanted["model"] not in coded.text
        verdict: Verdict = "no" if found or route else "skipped"
        return [Finding(feature, verdict, refusal(case, coded))]
    data = dig(coded.data, "data", 0, "embedding")
    if not isinstance(data, str):
        text = "numbers instead; clients of OpenAI take them for something else"
        return [
            Finding(feature, "no", text if isinstance(data, list) else "there is no vector in its answer")
        ]
    plain = await case.server.post("/v1/embeddings", {**wanted, "encoding_format": "float"})
    numbers = dig(plain.data, "data", 0, "embedding")
    vector = _floats(data)
    if vector is None or not isinstance(numbers, list) or len(vector) != len(numbers):
        return [Finding(feature, "no", "not the float32 numbers of the same vector")]
    if all(isinstance(one, int | float) for one in numbers) and _alike(vector, numbers):
        return [Finding(feature, "yes", f"{len(vector)} dimensions, as the numbers")]
    return [Finding(feature, "no", "another vector than as numbers")]


def _floats(text: str) -> tuple[float, ...] | None:
    try:
        data = base64.b64decode(text, validate=True)
        return struct.unpack(f"<{len(data) // 4}f", data)
    except (ValueError, struct.error):
        return None


def _alike(one: Sequence[float], other: Sequence[float]) -> bool:
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return dot > 0.99 * math.hypot(*one) * math.hypot(*other)


# What shows over time


async def keepalive(case: Case) -> list[Finding]:
    """Whether silence was filled; asks nothing."""
    server = case.server
    if server.comments:
        return [Finding("keepalive", "yes", f"{server.comments} comment lines in {server.silence:.1f} s")]
    if server.silence < DUE:
        text = f"none was due: no silence was longer than {server.silence:.1f} s"
        return [Finding("keepalive", "skipped", text)]
    return [Finding("keepalive", "no", f"nothing for {server.silence:.1f} s; proxies hang up")]


# What they share


def _has(answer: Answer, field: str) -> bool:
    """Whether it is an object with this field; Ollama says `null` when it has no models."""
    return isinstance(answer.data, dict) and field in answer.data


def dig(data: Any, *path: str | int) -> Any:
    """What lies at `path` in JSON of any shape, or `None`."""
    for step in path:
        if isinstance(step, str) and isinstance(data, dict):
            data = data.get(step)
        elif isinstance(step, int) and isinstance(data, list) and step < len(data):
            data = data[step]
        else:
            return None
    return data


def deltas(seen: Stream) -> Iterator[Any]:
    """What each chunk of a streamed chat adds."""
    return (delta for event in seen.events if (delta := dig(event, "choices", 0, "delta")) is not None)


def refusal(case: Case, answer: Answer) -> str:
    """What it said instead of what was wanted."""
    said = dig(answer.data, "error", "message") or dig(answer.data, "error") or answer.text
    return f"HTTP {answer.status}: {case.server.quote(str(said))}" if said else f"HTTP {answer.status}"


def entries(value: Any) -> list[Any]:
    """`value` if it is a list, else nothing."""
    return value if isinstance(value, list) else []


def _reason(event: Any) -> str:
    reason = dig(event, "choices", 0, "finish_reason")
    return reason if isinstance(reason, str) else ""


def asked(case: Case, text: str, most: int = SHORT, /, **more: Any) -> dict[str, Any]:
    """A chat of one short question."""
    messages = [{"role": "user", "content": text}]
    return {"model": case.model, "messages": messages, case.server.limit: most, **more}
