"""Why an OpenAI-compatible server refused or failed, in our words and its own.

Source: OpenAI API reference, "Error codes"; and what vLLM, llama.cpp, Ollama, FastAPI and proxies
answer instead. Pure: the time is handed in. What a server says is kept, its first part, without keys.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from ...errors import Fault, Kind

SAID = 500
"""Characters of a server's own message that are kept."""
PATIENCE = 3600.0
"""Longest `Retry-After` that is believed (seconds)."""

_KINDS: dict[int, Kind] = {
    400: "invalid_request",
    404: "not_found",
    408: "timeout",
    409: "conflict",
    413: "too_large",
    415: "invalid_request",
    422: "invalid_request",
    429: "rate_limited",
    503: "unavailable",
    504: "timeout",
    529: "unavailable",
}
"""What is not here is `upstream`."""
_AGAIN: frozenset[Kind] = frozenset(("timeout", "conflict", "rate_limited", "unavailable"))

_CONTEXT = re.compile(
    r"context.?(length|window|size)|maximum context|prompt is too long|too many (input )?tokens",
    re.IGNORECASE,
)
_KEY = re.compile(r"api.?key", re.IGNORECASE)
_MODEL = re.compile(r"\bmodel\b", re.IGNORECASE)
_SECRET = re.compile(r"\b(?:sk|pk|rk|gsk|xai)[-_][\w*.-]{4,}|(?i:bearer)\s+\S+")
_WORD = re.compile(r"[A-Za-z][\w.\[\]-]{0,99}", re.ASCII)
_HIDDEN = "********"
_HTML = re.compile(rb"\s*<(!doctype|html|head|body|\?xml)", re.IGNORECASE)


class Said(msgspec.Struct, frozen=True):
    """What a server itself says of a failure."""

    message: str = ""
    code: str = ""
    param: str = ""
    status: int = 0
    """Of an error within a stream, whose own status was 200; 0 when it tells none."""


class Upstream(msgspec.Struct, frozen=True):
    """Whose failures these are."""

    name: str
    """`llama`: as the person calls it."""
    secret: str = ""
    """The key that was sent; it is taken out of whatever comes back."""
    settings: str = ""
    """Where its settings are, if not among those of the other servers."""

    @property
    def section(self) -> str:
        """Where its settings are."""
        return self.settings or f"openai.{self.name}"


def fault(
    upstream: Upstream,
    status: int,
    body: bytes,
    headers: Mapping[str, str] | None = None,
    *,
    now: float = 0.0,
) -> Fault:
    """What an answer other than 200 means; `now` is Unix seconds, `headers` are by lower-case name."""
    if 300 <= status < 400:
        message = f"{upstream.name} answered {status}: it wants to be asked elsewhere, which is not followed."
        advice = f"Put the address it moved to into {upstream.section}.base_url."
        return Fault("upstream", message, advice, "upstream_moved")
    said = None if _HTML.match(body) else read(body)
    how = "with a page instead of an error" if _HTML.match(body) else "without a reason"
    message = _tell(upstream, said) if said else f"{upstream.name} answered {status} {how}."
    wait = _wait((headers or {}).get("retry-after", ""), now)
    return _judge(upstream, status, said or Said(), message, wait)


def stream_fault(upstream: Upstream, error: object) -> Fault:
    """What an error inside an answer means, as JSON gave it; its status was 200 long ago."""
    said = _said(error)
    message = _tell(upstream, said) if said else f"{upstream.name} failed without a reason."
    return _judge(upstream, (said and said.status) or 500, said or Said(), message, 0.0)


def read(body: bytes) -> Said | None:
    """What the body of an error says; `None` when nothing can be made of it."""
    try:
        return _said(msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = body[: 4 * SAID].decode("utf-8", "replace").strip()
        return Said(text) if text else None


def _said(error: Any) -> Said | None:
    """What an error object says, in whose form it may be.

    `{"error": {...}}` (OpenAI) · `{"error": "..."}` (Ollama) · `{"message": ...}` (vLLM) ·
    `{"detail": ...}` (FastAPI) · `[{"error": ...}]` (Gemini)
    """
    if isinstance(error, list) and error:
        error = error[0]
    if isinstance(error, dict) and error.get("error"):
        return _said(error["error"])
    if isinstance(error, str):
        return Said(error.strip()) if error.strip() else None
    if not isinstance(error, dict):
        return None
    message = error.get("message") or error.get("detail") or error.get("msg")
    if isinstance(message, list) and message and isinstance(message[0], dict):
        message = message[0].get("msg")  # FastAPI lists what is wrong
    if not isinstance(message, str) or not message.strip():
        return None
    number = next((n for n in (error.get("code"), error.get("status")) if isinstance(n, int)), 0)
    return Said(
        message.strip(),
        _word(error.get("code")),
        _word(error.get("param")),
        number if 400 <= number < 600 else 0,
    )


def _tell(upstream: Upstream, said: Said) -> str:
    words = said.message.replace(upstream.secret, _HIDDEN) if upstream.secret else said.message
    return f"{upstream.name}: {_SECRET.sub(_HIDDEN, words)[:SAID]}"


def _judge(upstream: Upstream, status: int, said: Said, message: str, wait: float) -> Fault:
    kind = _KINDS.get(status, "upstream")
    if status in (401, 403) or (status == 400 and _KEY.search(said.message)):
        # The key of the gate, not of the caller: to them it is a fault of ours.
        advice = f"{'Check' if upstream.secret else 'Set'} {upstream.section}.api_key."
        return Fault("upstream", message, advice, "upstream_key_refused")
    if kind == "invalid_request" or said.code == "context_length_exceeded":
        if "context" in said.code or _CONTEXT.search(said.message):
            advice = "Shorten the conversation."
            param = said.param or "messages"
            return Fault("invalid_request", message, advice, "context_length_exceeded", param)
        return Fault("invalid_request", message, "", said.code, said.param)
    if status == 404 and (said.code == "model_not_found" or _MODEL.search(said.message)):
        return Fault("not_found", message, "`codexgate models` lists the models.", "model_not_found", "model")
    if status in (404, 405):
        advice = f"Look at {upstream.section}.base_url; most end in /v1."
        return Fault("upstream", message, advice)
    spent = said.code == "insufficient_quota"
    again = not spent and (kind in _AGAIN or (kind == "upstream" and status >= 500))
    return Fault(kind, message, "", said.code, said.param, again, wait if again else 0.0)


def _word(value: object) -> str:
    return value if isinstance(value, str) and _WORD.fullmatch(value) else ""


def _wait(value: str, now: float) -> float:
    """Seconds that a `Retry-After` tells (RFC 9110, 10.2.3), as a number or a date; 0 when it tells none."""
    value = value.strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value, re.ASCII):
        return min(float(value), PATIENCE)
    from email.utils import parsedate_to_datetime  # some ms that nothing but a date needs

    try:
        return min(max(parsedate_to_datetime(value).timestamp() - now, 0.0), PATIENCE)
    except (ValueError, OverflowError):
        return 0.0
