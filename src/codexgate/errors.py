"""What can go wrong, as a value.

A `Fault` answers four questions: what kind of failure, what happened, may it be tried again,
and what can the person do. It knows nothing of HTTP bodies or terminals: a front turns it into
its own error shape, the command line into a line and an exit code.
"""

from typing import Literal

import msgspec

Kind = Literal[
    "invalid_request",
    "authentication",
    "permission",
    "not_found",
    "method_not_allowed",
    "conflict",
    "too_large",
    "misdirected",
    "unsupported_media",
    "upgrade_refused",
    "rate_limited",
    "internal",
    "upstream",
    "unavailable",
    "timeout",
]

STATUS: dict[Kind, int] = {
    "invalid_request": 400,
    "authentication": 401,
    "permission": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "conflict": 409,
    "too_large": 413,
    "unsupported_media": 415,
    "misdirected": 421,
    "upgrade_refused": 426,
    "rate_limited": 429,
    "internal": 500,
    "upstream": 502,
    "unavailable": 503,
    "timeout": 504,
}
"""The status each kind has on every HTTP surface."""


class Fault(msgspec.Struct, frozen=True):
    """One failure, told so that a person can act on it."""

    kind: Kind
    message: str
    """What happened and why; one or two sentences, no stack, no library text."""
    advice: str = ""
    """The one thing to do, a command where there is one."""
    code: str = ""
    """A stable machine word such as `model_not_found`; empty when the kind says it all."""
    param: str = ""
    """The request field at fault, as a path: `messages[0].content`."""
    retryable: bool = False
    """The same request may succeed later, unchanged."""
    retry_after: float = 0.0
    """Seconds to wait before that; 0 when unknown."""

    @property
    def status(self) -> int:
        """The HTTP status of this failure."""
        return STATUS[self.kind]

    @property
    def text(self) -> str:
        """Message and advice as one line for a person."""
        return advised(self.message, self.advice)


class GateError(Exception):
    """A `Fault` on its way up the stack; the only exception that crosses a floor."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault

    def __reduce__(self) -> tuple[type["GateError"], tuple[Fault]]:
        return (GateError, (self.fault,))


def advised(message: str, advice: str) -> str:
    """What happened and what to do as one line: a full stop between them, where there is none.

    Another gate's message ends with the advice already.
    """
    if message.endswith(advice):
        return message.strip()
    stop = "." if advice and message and message[-1] not in ".!?:…" else ""
    return f"{message}{stop} {advice}".strip()


def invalid(message: str, param: str = "", code: str = "", advice: str = "") -> GateError:
    """A request that cannot be served as it is written (400)."""
    return GateError(Fault("invalid_request", message, advice, code, param))


def store_unavailable(code: str, message: str, advice: str = "", retry_after: float = 0) -> GateError:
    """What the gate keeps things in cannot be used now (503); `retry_after`: seconds."""
    return GateError(Fault("unavailable", message, advice, code, retryable=True, retry_after=retry_after))
