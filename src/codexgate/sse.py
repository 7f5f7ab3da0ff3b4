"""Frames of a server-sent event stream.

Source: WHATWG HTML, section "Server-sent events". Knows nothing of what the data means; the
data of a frame must be free of line ends, which JSON text is.
"""

KEEPALIVE = b": keepalive\n\n"
LOADING = b": loading the model\n\n"
"""The same while a model is read from disk, for who looks at the wire."""
DONE = b"data: [DONE]\n\n"
"""How OpenAI's chat streams end (API reference, "Streaming")."""

HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}
"""`no-transform` and `X-Accel-Buffering` keep proxies from holding a stream back."""


def frame(data: bytes) -> bytes:
    """One event without a name."""
    return b"data: " + data + b"\n\n"


def named(event: str, data: bytes) -> bytes:
    """One event with a name."""
    return b"event: " + event.encode() + b"\ndata: " + data + b"\n\n"
