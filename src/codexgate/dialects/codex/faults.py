"""Why a turn of Codex failed, in our words. Pure. Source: the app-server's schema, as `wire`."""

from contextlib import suppress
from typing import Any

import msgspec

from ...errors import Fault, Kind
from . import wire

_KINDS: dict[str, Kind] = {
    "contextWindowExceeded": "invalid_request",
    "badRequest": "invalid_request",
    "cyberPolicy": "permission",
    "usageLimitExceeded": "rate_limited",
    "rateLimitExceeded": "rate_limited",
    "responseTooManyFailedAttempts": "rate_limited",
    "serverOverloaded": "unavailable",
    "modelNotFound": "not_found",
}
"""`codexErrorInfo` to the kind of failure; everything else is a failure upstream."""

_CODES = {"contextWindowExceeded": "context_length_exceeded", "modelNotFound": "model_not_found"}
"""Where OpenAI has a word that clients know; else Codex's own word is the code."""

_RETRYABLE = ("rate_limited", "unavailable", "upstream")


class _RefusalError(msgspec.Struct):
    message: str = ""


class _Refusal(msgspec.Struct):
    """The body of a provider's refusal, which Codex passes on as it came."""

    error: _RefusalError


def fault(error: wire.TurnError, signing_in: str) -> Fault:
    """A turn's error, with `codexErrorInfo` as the code. `signing_in`: advice for who is not let in."""
    info: Any = error.codex_error_info
    if not isinstance(info, dict):
        info = {info or "other": None}
    word, detail = next(iter(info.items()), ("other", None))
    status = detail.get("httpStatusCode") if isinstance(detail, dict) else None
    kind = _KINDS.get(word, "upstream")
    advice = signing_in if status == 401 or word == "unauthorized" else ""
    message = _sentence(error.message) or "Codex failed and did not say why."
    return Fault(kind, message, advice, _CODES.get(word, word), retryable=kind in _RETRYABLE)


def _sentence(message: str) -> str:
    with suppress(msgspec.DecodeError, UnicodeError, RecursionError):
        return msgspec.json.decode(message, type=_Refusal).error.message or message
    return message
