"""A request passed on as it is, its bodies streamed both ways: memory is bounded however large they are.

`http` is for what the gate asks itself, in one piece. This is aiohttp's client, which is slower, and
can stream a body and HEAD; for what callers rarely want of a server behind the gate. It follows no
redirects, reads no proxy variables, and knows nothing of what the bytes mean. Only GateError leaves.
"""

from collections.abc import AsyncGenerator, AsyncIterable, Callable

import aiohttp

from ..errors import Fault, GateError

REASON = 64 * 1024
"""Bytes of a refusal that are read."""


async def relay(
    method: str,
    url: str,
    body: bytes | AsyncIterable[bytes],
    *,
    connect_timeout: float,
    idle_timeout: float,
    advice: str,
    refusal: Callable[[int, bytes], Fault],
) -> AsyncGenerator[bytes]:
    """Send it; yields the body of its answer as it comes. Closing the generator ends the request.

    A body that is not bytes is read as fast as it is taken; what it raises is raised here. The limits
    are seconds. `advice`: what to do when nothing answers there; `refusal`: what a status that is no
    success, and its body, mean.
    """
    headers = {"Content-Type": "application/json" if isinstance(body, bytes) else "application/octet-stream"}
    limits = aiohttp.ClientTimeout(sock_connect=connect_timeout, sock_read=idle_timeout)
    try:
        async with (
            aiohttp.ClientSession(timeout=limits, headers={"Accept-Encoding": "identity"}) as session,
            session.request(method, url, data=body or None, headers=headers, allow_redirects=False) as answer,
        ):
            if not answer.ok or answer.status >= 300:
                raise GateError(refusal(answer.status, await answer.content.read(REASON)))
            async for piece in answer.content.iter_any():
                yield piece
    except aiohttp.ClientConnectorError:
        fault = Fault("unavailable", "Nothing answers where Ollama should be.", advice, retryable=True)
        raise GateError(fault) from None
    except TimeoutError:
        raise GateError(Fault("timeout", "Ollama did not answer in time.", retryable=True)) from None
    except aiohttp.ClientError as error:
        if isinstance(error.__cause__, GateError):  # the body's own
            raise error.__cause__ from None
        raise GateError(Fault("upstream", "The connection to Ollama broke.", retryable=True)) from None
