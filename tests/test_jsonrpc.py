"""The app-server's framing, both ways."""

import msgspec
import pytest

from codexgate import jsonrpc

READ: dict[bytes, jsonrpc.Incoming] = {
    b'{"id":1,"result":{"a":1}}': jsonrpc.Result(1, msgspec.Raw(b'{"a":1}')),
    b'{"id":1,"result":null}': jsonrpc.Result(1, msgspec.Raw(b"null")),
    b'{"id":"x","error":{"code":-32600,"message":"no"}}': jsonrpc.Error("x", -32600, "no"),
    b'{"method":"a/b","params":{"x":[]},"emittedAtMs":1}': jsonrpc.Notification(
        "a/b", msgspec.Raw(b'{"x":[]}')
    ),
    b'{"method":"a"}': jsonrpc.Notification("a", msgspec.Raw(b"{}")),
    b'{"method":"a","id":0,"params":{}}': jsonrpc.Request(0, "a", msgspec.Raw(b"{}")),
}

GARBAGE = [b"", b"null", b"[]", b"{", b'{"id":1}', b"{}", b'{"id":{},"result":1}', b"\xff", b"[" * 100_000]


@pytest.mark.parametrize(("line", "message"), READ.items())
def test_reads(line: bytes, message: jsonrpc.Incoming) -> None:
    assert jsonrpc.receive(line) == message


@pytest.mark.parametrize("line", GARBAGE)
def test_garbage_is_a_protocol_error(line: bytes) -> None:
    with pytest.raises(jsonrpc.ProtocolError):
        jsonrpc.receive(line)


def test_writes_one_line_each() -> None:
    assert (
        jsonrpc.request(1, "a", {"x": "\n\u2028"})
        == '{"id":1,"method":"a","params":{"x":"\\n\u2028"}}\n'.encode()
    )
    assert jsonrpc.notification("a") == b'{"method":"a"}\n'
    assert jsonrpc.result(0, {}) == b'{"id":0,"result":{}}\n'
    assert jsonrpc.error(0, -32601, "no") == b'{"id":0,"error":{"code":-32601,"message":"no"}}\n'
