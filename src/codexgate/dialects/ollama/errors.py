"""Why Ollama refused or failed, in our words: its errors are bare sentences, `{"error": "..."}`.

Pure. Source: Ollama, whose sentences stand in server/routes.go, server/images.go and llm/; what is not known
here keeps its status' meaning and Ollama's own words.
"""

import re

import msgspec

from ...errors import Fault, Kind

_INVALID: Kind = "invalid_request"
_Cause = tuple[str, Fault]
"""A pattern in Ollama's own words, and what it means but for the message."""

_CAUSES: tuple[_Cause, ...] = (
    (
        r"context (length|window|size)",
        Fault(
            _INVALID,
            "",
            "Shorten the conversation, or give the model more room (`num_ctx`).",
            "context_length_exceeded",
            "messages",
        ),
    ),
    (
        r"model .*not found",
        Fault("not_found", "", "Install it: codexgate models pull {model}", "model_not_found", "model"),
    ),
    (
        r"not support tools",
        Fault(_INVALID, "", "Take a model that can use tools: codexgate models", "", "tools"),
    ),
    (r"not support thinking", Fault(_INVALID, "", "Leave the reasoning effort out.", "", "reasoning_effort")),
    (r"not support", Fault(_INVALID, "", "Take a model that can: codexgate models", "", "model")),
    (r"^invalid format", Fault(_INVALID, "", param="response_format")),
    (r"^(invalid )?option ", Fault(_INVALID, "", param="options")),
    (r"newer version|\b412\b", Fault("unavailable", "", "Update Ollama.", "ollama_too_old")),
    (r"more system memory", Fault("unavailable", "", "Take a smaller model, or a smaller `num_ctx`.")),
    (r"no space left", Fault("unavailable", "", "Make room on the disk and try again.", "disk_full")),
)

_PULL_CAUSES: tuple[_Cause, ...] = (
    (
        r"file does not exist|not found|invalid model name",
        Fault("not_found", "", "See https://ollama.com/library for the names.", "model_not_found", "model"),
    ),
    (
        r"dial tcp|no such host|connection (reset|refused)|timeout|tls:|unreachable|max retries|\bEOF\b",
        Fault(
            "unavailable",
            "",
            "Check the network and try again; what was downloaded is kept.",
            "registry_unreachable",
            retryable=True,
        ),
    ),
)

_NAMED = re.compile(r"model ['\"]([\w./:@-]+)['\"]", re.ASCII)

_OTHER = Fault("upstream", "", retryable=True)
_BY_STATUS: dict[int, Fault] = {
    400: Fault(_INVALID, ""),
    401: Fault("authentication", "", "Sign in: ollama signin"),
    403: Fault("permission", ""),
    404: Fault("not_found", ""),
    412: Fault("unavailable", "", "Update Ollama.", "ollama_too_old"),
    413: Fault("too_large", ""),
    429: Fault("rate_limited", "", retryable=True),
    503: Fault("unavailable", "", "Try again in a moment.", retryable=True, retry_after=1.0),
}


class _Error(msgspec.Struct):
    error: str


def fault(status: int, body: bytes, model: str = "") -> Fault:
    """What an answer other than 200 means. `model`: the one that was asked for."""
    other = _BY_STATUS.get(status, _OTHER)
    reason = _reason(body)
    if reason is None:
        # Only what is not Ollama, or does not know the route, answers without a reason.
        kind: Kind = "upstream" if status == 404 else other.kind
        message, advice = f"Ollama answered {status} without a reason.", "Is it Ollama, and up to date?"
        return Fault(kind, message, advice, retryable=status == 429 or status >= 500)
    return _blame(reason, model, _CAUSES, other)


def relay_fault(status: int, body: bytes) -> Fault:
    """What a refusal of something that was only passed on means: without a word, that it is not there."""
    if status == 404 and not body:
        return Fault("not_found", "Ollama does not have it.")
    return fault(status, body)


def stream_fault(reason: str, model: str = "") -> Fault:
    """What the error line of an answer means, whose status was 200 long ago."""
    return _blame(reason, model, _CAUSES, _OTHER)


def pull_fault(body: bytes, model: str) -> Fault:
    """Why `model` cannot be installed, from a line or a body that is no news."""
    reason = _reason(body)
    return _blame(reason or "its answer is not of its protocol", model, _PULL_CAUSES + _CAUSES, _OTHER)


def _reason(body: bytes) -> str | None:
    try:
        return msgspec.json.decode(body, type=_Error).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _blame(reason: str, model: str, causes: tuple[_Cause, ...], other: Fault) -> Fault:
    found = next((fault for pattern, fault in causes if re.search(pattern, reason, re.IGNORECASE)), other)
    named = _NAMED.search(reason)
    model = model or (named[1] if named else "NAME")
    message = f"Ollama: {reason.strip()[:500] or 'no reason given'}"
    return msgspec.structs.replace(found, message=message, advice=found.advice.format(model=model))
