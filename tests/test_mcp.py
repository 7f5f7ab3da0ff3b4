"""The memory over MCP: the official client over HTTP and stdio, and callers that mean no good."""

import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import httpx2
import msgspec
import pytest
from aiohttp_tiny_mcp import MemoryHub
from jsonschema import Draft202012Validator
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, TextContent, TextResourceContents

from codexgate import drafts
from codexgate.errors import Fault, GateError
from codexgate.server import mcp_tools
from codexgate.server.app import Listen
from codexgate.server.mcp import BATCH, LIMIT
from tests.servers.gateway import client, serving
from tests.servers.notebook import Notebook
from tests.servers.scripted import Scripted
from tests.support import UNHURRIED, run

Mode = Literal["legacy", "2026-07-28"]
MODES: dict[Mode, str] = {"legacy": "2025-11-25", "2026-07-28": "2026-07-28"}
"""How the official client speaks, and the revision that comes of it: with a handshake, and without."""
JSON = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
KEY = "cg-secret"
Body = dict[str, Any]

modes = pytest.mark.parametrize("mode", MODES)


@asynccontextmanager
async def connected(url: str, mode: Mode, key: str = "") -> AsyncIterator[Client]:
    """The official client."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with httpx2.AsyncClient(headers=headers, trust_env=False, timeout=UNHURRIED) as http:
        transport = streamable_http_client(f"{url}/mcp", http_client=http)
        async with Client(transport, mode=mode) as made:
            yield made


def at_gate(scenario: Callable[[str, Notebook], Awaitable[Any]], listen: Listen | None = None) -> Notebook:
    """Run `scenario` with the URL of a gate and its memory."""

    async def served() -> Notebook:
        notebook = Notebook()
        async with serving(Scripted(), memory=notebook, listen=listen) as url:
            await scenario(url, notebook)
        return notebook

    return run(served())


def answer(result: CallToolResult) -> Body:
    """What a tool answered, the same in both of its forms."""
    assert not result.is_error, result
    (content,) = result.content
    assert isinstance(content, TextContent)
    assert json.loads(content.text) == result.structured_content
    assert isinstance(result.structured_content, dict)
    return result.structured_content


async def post(url: str, message: object, **headers: str) -> tuple[int, Mapping[str, str], Body]:
    """Send one body, as it is if it is bytes. Returns status, headers and the JSON of the answer."""
    data = message if isinstance(message, bytes) else msgspec.json.encode(message)
    async with client(url) as session:
        async with session.post("/mcp", data=io.BytesIO(data), headers=JSON | headers) as got:
            read = await got.read()
            return got.status, got.headers, msgspec.json.decode(read) if read else {}


def request(method: str, **params: Any) -> Body:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def initialize(version: str = "2025-11-25") -> Body:
    info = {"name": "test", "version": "1"}
    return request("initialize", protocolVersion=version, capabilities={}, clientInfo=info)


# The official client


async def use(made: Client) -> None:
    """Everything there is, once."""
    tools = {tool.name: tool for tool in (await made.list_tools()).tools}
    assert set(tools) == {"persist_memory", "retrieve_memory"}
    kept = await made.call_tool(
        "persist_memory",
        {"content": "The office is in Bonn.", "namespace": "work", "tags": ["office"], "metadata": {"a": 1}},
    )
    record = answer(kept)["memory"]
    fields = ("namespace", "content", "summary", "tags", "metadata")
    assert [record[name] for name in fields] == [
        "work",
        "The office is in Bonn.",
        "The office is in Bonn.",
        ["office"],
        {"a": 1},
    ]
    found = answer(await made.call_tool("retrieve_memory", {"query": "Where is the office?"}))
    (match,) = found["memories"]
    assert {name: match[name] for name in record} == record
    assert set(match) - set(record) == {"distance", "why"}
    Draft202012Validator(tools["persist_memory"].output_schema or False).validate(answer(kept))
    Draft202012Validator(tools["retrieve_memory"].output_schema or False).validate(found)
    again = await made.call_tool(
        "persist_memory", {"content": "The office is in Bonn.", "namespace": "work", "summary": None}
    )
    assert (answer(again)["deduped"], answer(again)["memory"]["id"]) == (True, record["id"])
    nothing = await made.call_tool("retrieve_memory", {"query": "office", "namespace": "home"})
    assert answer(nothing)["memories"] == []


@modes
def test_the_official_client_lists_and_calls_both_tools(mode: Mode) -> None:
    async def scenario(url: str, _notebook: Notebook) -> None:
        async with connected(url, mode) as made:
            assert made.protocol_version == MODES[mode]
            await use(made)

    (entry,) = at_gate(scenario).entries
    assert entry.source == "mcp"


@modes
def test_the_official_client_starts_it_over_stdio(mode: Mode, tmp_path: Path) -> None:
    environ = {**os.environ, "CODEXGATE_DATA_DIR": str(tmp_path), "CODEXGATE_EMBEDDINGS_PROVIDER": "demo"}
    program = StdioServerParameters(command=sys.executable, args=["-m", "codexgate", "mcp"], env=environ)

    async def scenario() -> None:
        async with Client(program, mode=mode) as made:
            assert made.protocol_version == MODES[mode]
            await use(made)
        async with Client(program, mode=mode) as made:  # another process, the same memory
            found = answer(await made.call_tool("retrieve_memory", {"query": "Where is the office?"}))
            assert [match["content"] for match in found["memories"]] == ["The office is in Bonn."]

    run(scenario())


def test_stdio_goes_on_after_lines_that_are_no_messages(tmp_path: Path) -> None:
    lines = [
        b"nonsense",
        b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"x": NaN}}',
        b'{"x": "' + b"x" * 2 * LIMIT + b'"}',
        b"",
        json.dumps(initialize()).encode(),
        b'{"jsonrpc": "2.0", "id": 2, "method": "ping"}',  # and the end of the file
    ]
    environ = {**os.environ, "CODEXGATE_DATA_DIR": str(tmp_path), "CODEXGATE_EMBEDDINGS_PROVIDER": "demo"}
    done = subprocess.run(
        [sys.executable, "-m", "codexgate", "mcp"],
        input=b"\n".join(lines),
        capture_output=True,
        env=environ,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines()]
    refused = [(each["id"], each["error"]["code"]) for each in said[:-2]]
    assert refused == [(None, -32700), (1, -32700), (None, -32000)]
    assert [each["id"] for each in said[-2:]] == [1, 2]


BIG = "x" * (LIMIT + 70_000)
TOO_LARGE: dict[str, tuple[str, int | str | None]] = {
    "its id at the beginning": (f'{{"jsonrpc":"2.0","id":7,"method":"ping","params":{{"x":"{BIG}"}}}}', 7),
    "its id at the end": (f'{{"method":"ping","params":{{"x":"{BIG}"}},"jsonrpc":"2.0","id":"a"}}', "a"),
    "its id and then the version": (f'{{"params":{{"x":"{BIG}"}}, "id": 7, "jsonrpc": "2.0"}}\r', 7),
    "no longer than a read more": (f'{{"id":7,"x":"{"x" * LIMIT}"}}', 7),
    "an id of something else": (f'{{"params":{{"x":"{BIG}","y":{{"a":1,"id":8}}}}}}', None),
    "an id in a text": ('{"x":"' + BIG + ',\\"id\\":7}"}', None),
}


@pytest.mark.parametrize(("line", "id"), TOO_LARGE.values(), ids=TOO_LARGE.keys())
def test_a_line_that_is_too_long_is_refused_and_what_follows_is_read(
    line: str, id: int | str | None, tmp_path: Path
) -> None:
    """The client waits for an answer to its request, and what comes in the same read is its next one."""
    environ = {**os.environ, "CODEXGATE_DATA_DIR": str(tmp_path), "CODEXGATE_EMBEDDINGS_PROVIDER": "demo"}
    lines = [json.dumps(initialize()), line, '{"jsonrpc": "2.0", "id": 9, "method": "ping"}']
    done = subprocess.run(
        [sys.executable, "-m", "codexgate", "mcp"],
        input="\n".join(lines).encode(),
        capture_output=True,
        env=environ,
        timeout=50,
    )
    said = {each["id"]: each for each in map(json.loads, done.stdout.splitlines())}
    assert set(said) == {1, id, 9}
    assert "result" in said[9]
    assert said[id]["error"]["code"] == -32000
    assert f"larger than {LIMIT} bytes" in said[id]["error"]["message"]


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
def test_older_revisions_are_spoken(version: str) -> None:
    async def scenario(url: str, _notebook: Notebook) -> None:
        status, headers, begun = await post(url, initialize(version))
        assert (status, begun["result"]["protocolVersion"]) == (200, version)
        told = {"Mcp-Session-Id": headers["Mcp-Session-Id"], "MCP-Protocol-Version": version}
        ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        assert (await post(url, ready, **told))[0] == 202
        assert (await post(url, request("ping"), **told))[2]["result"] == {}
        call = request("tools/call", name="persist_memory", arguments={"content": "a"})
        _, _, called = await post(url, call, **told)
        assert json.loads(called["result"]["content"][0]["text"])["ok"] is True

    assert len(at_gate(scenario).entries) == 1


TRICKY = {
    "quotes, braces and commas": "a\"b'c`{d},[e];{}\\",
    "SQL": "'); DROP TABLE entries; -- %s $1 ? :x",
    "NUL and other controls": "a\x00b\x1b[2Jc\r\nd\te",
    "line ends of others": "a\u2028b\u2029c\x85d",
    "what is not Latin": "日本語 🙂 e\u0301 \u202eabc",
    "blanks": "  a  b  ",
    "frames": "data: [DONE]\n\nevent: x\n\n",
}


@modes
def test_what_goes_in_comes_out_as_it_was(mode: Mode) -> None:
    async def scenario(url: str, _notebook: Notebook) -> None:
        async with connected(url, mode) as made:
            for text in TRICKY.values():
                metadata = {text: [text, {"deep": text}, None, True, 0.1, 2**53, -1]}
                arguments = {"content": text, "summary": text, "tags": [text, text], "metadata": metadata}
                await made.call_tool("persist_memory", arguments)
                found = answer(await made.call_tool("retrieve_memory", {"query": text, "limit": 1}))
                match = found["memories"][0]
                assert {name: match[name] for name in arguments} == arguments

    texts = [(entry.content, entry.summary, entry.tags) for entry in at_gate(scenario).entries]
    assert texts == [(text, text, (text, text)) for text in TRICKY.values()]


def test_twenty_clients_at_once() -> None:
    async def scenario(url: str, _notebook: Notebook) -> None:
        async def one(number: int) -> None:
            async with connected(url, "2026-07-28" if number % 2 else "legacy") as made:
                mine = f"ns{number}"
                for text in ("a", "b", "c"):
                    await made.call_tool("persist_memory", {"content": text, "namespace": mine})
                found = answer(await made.call_tool("retrieve_memory", {"query": "x", "namespace": mine}))
                assert [match["content"] for match in found["memories"]] == ["c", "b", "a"]

        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(one(number))

    assert len(at_gate(scenario).entries) == 60


def test_the_resource_tells_what_the_memory_takes() -> None:
    async def scenario(url: str, _notebook: Notebook) -> None:
        async with connected(url, "2026-07-28") as made:
            (listed,) = (await made.list_resources()).resources
            (content,) = (await made.read_resource(listed.uri)).contents
            assert isinstance(content, TextResourceContents)
            told = json.loads(content.text)
            assert (listed.uri, told["embedding"]) == ("memories://config", {"model": "test/none"})
            assert told["limits"]["content"] == drafts.CONTENT

    at_gate(scenario)


def test_tools_say_what_they_take_and_do() -> None:
    persist, retrieve = {tool.name: tool for tool in mcp_tools.registry(Notebook()).tools.values()}.values()
    takes = persist.input_schema["properties"]
    assert takes["content"]["maxLength"] == drafts.CONTENT
    assert takes["tags"]["maxItems"] == drafts.TAGS
    assert retrieve.input_schema["properties"]["limit"]["maximum"] == drafts.LIMIT
    for tool in (persist, retrieve):
        Draft202012Validator.check_schema(tool.input_schema)
        Draft202012Validator.check_schema(tool.output_schema or False)
        assert tool.input_schema["additionalProperties"] is False
    assert not persist.annotations["readOnlyHint"] and not persist.annotations["destructiveHint"]
    assert persist.annotations["idempotentHint"] and retrieve.annotations["readOnlyHint"]


# What goes wrong

WRONG: dict[str, tuple[str, Body, str]] = {
    "nothing": ("persist_memory", {}, "content"),
    "content of another kind": ("persist_memory", {"content": 3}, "content"),
    "tags that are none": ("persist_memory", {"content": "a", "tags": "b"}, "tags"),
    "a tag that is none": ("persist_memory", {"content": "a", "tags": ["b", 3]}, "tags[1]"),
    "metadata that is no object": ("persist_memory", {"content": "a", "metadata": [1]}, "metadata"),
    "a misspelt argument": ("persist_memory", {"content": "a", "tag": "b"}, "tag"),
    "a limit that is no number": ("retrieve_memory", {"query": "a", "limit": "many"}, "limit"),
}


@modes
@pytest.mark.parametrize(("tool", "arguments", "named"), WRONG.values(), ids=WRONG.keys())
def test_wrong_arguments_are_told_to_the_model(tool: str, arguments: Body, named: str, mode: Mode) -> None:
    async def scenario(url: str, _notebook: Notebook) -> None:
        async with connected(url, mode) as made:
            result = await made.call_tool(tool, arguments)
            assert result.is_error
            assert isinstance(result.content[0], TextContent)
            assert f"`{named}`" in result.content[0].text

    assert at_gate(scenario).entries == []


def test_a_failing_memory_is_told_and_a_crash_is_not(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(url: str, notebook: Notebook) -> None:
        async with connected(url, "2026-07-28") as made:
            for failure, told in (
                (GateError(Fault("unavailable", "The store is down.", "Start it.")), "The store is down."),
                (RuntimeError("secret"), "codexgate failed."),
            ):
                notebook.before = fails(failure)
                result = await made.call_tool("retrieve_memory", {"query": "a"})
                assert result.is_error and isinstance(result.content[0], TextContent)
                assert told in result.content[0].text
                assert "secret" not in result.content[0].text

    at_gate(scenario)
    assert {"retrieve.error", "retrieve.crash"} <= {record.message for record in caplog.records}


def fails(error: Exception) -> Callable[[], object]:
    def fail() -> None:
        raise error

    return fail


@modes
def test_there_is_no_other_tool(mode: Mode) -> None:
    async def scenario(url: str, _notebook: Notebook) -> None:
        async with connected(url, mode) as made:
            with pytest.raises(MCPError, match="unknown tool"):
                await made.call_tool("drop_memory", {})

    at_gate(scenario)


BAD: dict[str, tuple[object, dict[str, str], int, int]] = {
    "no JSON": (b'{"jsonrpc"', {}, 400, -32700),
    "no UTF-8": (b'{"a": "\xff"}', {}, 400, -32700),
    "NaN": (b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"a": NaN}}', {}, 400, -32700),
    "half a surrogate pair": (b'{"jsonrpc": "2.0", "id": 1, "method": "\\ud800"}', {}, 400, -32700),
    "a number out of range": (b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "x": 1e999}', {}, 400, -32700),
    "a hundred thousand brackets": (b"[" * 100_000 + b"]" * 100_000, {}, 400, -32700),
    "too large": (b" " * (LIMIT + 1), {}, 413, -32000),
    "too large a batch": ([request("ping")] * (BATCH + 1), {}, 400, -32000),
    "no object": (b"3", {}, 400, -32600),
    "no method": ({"jsonrpc": "2.0", "id": 1}, {}, 400, -32600),
    "another JSON-RPC": (request("ping") | {"jsonrpc": "1.0"}, {}, 400, -32600),
    "no id that can be": (request("ping") | {"id": None}, {}, 400, -32600),
    "an id that is true": (request("ping") | {"id": True}, {}, 400, -32600),
    "an unknown revision": (request("ping"), {"MCP-Protocol-Version": "1999-01-01"}, 400, -32022),
    "an unknown method": (request("drop"), {}, 200, -32601),
    "arguments that are no object": (
        request("tools/call", name="persist_memory", arguments=1),
        {},
        200,
        -32602,
    ),
    "a revision that is not ASCII": (request("ping"), {"MCP-Protocol-Version": "\u0084"}, 400, -32000),
    "a session that is none": (request("ping"), {"Mcp-Session-Id": "x"}, 404, -32001),
    "a foreign Host": (request("ping"), {"Host": "evil.example"}, 421, -32000),
    "a foreign Origin": (request("ping"), {"Origin": "https://evil.example"}, 403, -32000),
    "the null Origin": (request("ping"), {"Origin": "null"}, 403, -32000),
    "a cross-site page": (request("ping"), {"Sec-Fetch-Site": "cross-site"}, 403, -32000),
    "a form's content type": (request("ping"), {"Content-Type": "text/plain"}, 415, -32000),
    "a compressed body": (request("ping"), {"Content-Encoding": "gzip"}, 415, -32000),
    "who takes no JSON": (request("ping"), {"Accept": "text/html"}, 406, -32000),
}


@pytest.mark.parametrize(("body", "headers", "status", "code"), BAD.values(), ids=BAD.keys())
def test_it_is_refused_in_the_shape_of_json_rpc(
    body: object, headers: dict[str, str], status: int, code: int
) -> None:
    async def scenario(url: str, notebook: Notebook) -> None:
        notebook.before = fails(AssertionError("It came as far as the memory."))
        got, sent, said = await post(url, body, **headers)
        assert (got, said["jsonrpc"], said["error"]["code"]) == (status, "2.0", code), said
        assert "Access-Control-Allow-Origin" not in sent

    at_gate(scenario)


STATELESS = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list"}
NAMED: dict[str, tuple[Body, dict[str, str], int, int]] = {
    "no revision": (request("tools/list"), STATELESS, 400, -32602),
    "nothing about the client": (
        request("tools/list", _meta={"io.modelcontextprotocol/protocolVersion": "2026-07-28"}),
        STATELESS,
        400,
        -32602,
    ),
    "another method in the header": (
        request("tools/call", _meta={"io.modelcontextprotocol/protocolVersion": "2026-07-28"}),
        STATELESS,
        400,
        -32020,
    ),
    "a session that is gone": (request("ping"), {"Mcp-Session-Id": "x"}, 404, -32001),
    "no answer that it takes": (request("ping"), {"Accept": "text/html"}, 406, -32000),
}


@pytest.mark.parametrize(("body", "headers", "status", "code"), NAMED.values(), ids=NAMED.keys())
def test_a_refusal_names_the_request_that_it_refuses(
    body: Body, headers: dict[str, str], status: int, code: int
) -> None:
    async def scenario(url: str, _notebook: Notebook) -> None:
        got, _, said = await post(url, body, **headers)
        assert (got, said["id"], said["error"]["code"]) == (status, body["id"], code), said

    at_gate(scenario)


def test_metadata_may_be_deep_and_never_breaks_anything() -> None:
    async def scenario(url: str, _notebook: Notebook) -> None:
        for depth in (20, 200, 500, 900, 990):
            deep = b'{"a":' * depth + b"1" + b"}" * depth
            body = (
                b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"retrieve_memory",'
                b'"arguments":{"query":"a","metadata":' + deep + b"}}}"
            )
            status, _, said = await post(url, body)
            assert (status == 200 and said["result"]["isError"]) or status == 400, (depth, status, said)

    at_gate(scenario)


def test_a_gate_without_a_memory_says_so() -> None:
    async def scenario() -> None:
        async with serving(Scripted()) as url:
            status, _, said = await post(url, initialize())
            assert (status, said["error"]["data"]) == (503, {"code": "no_memory"})

    run(scenario())


# Keys and sessions


def test_a_key_is_wanted_and_no_other_way_to_get_in_is_told() -> None:
    async def scenario(url: str, _notebook: Notebook) -> None:
        for sent in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"}):
            status, headers, said = await post(url, initialize(), **sent)
            assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
            assert said["error"]["data"] == {"code": "invalid_api_key"}
        async with client(url) as session:
            for place in (
                "oauth-protected-resource",
                "oauth-protected-resource/mcp",
                "oauth-authorization-server",
            ):
                async with session.get(f"/.well-known/{place}") as got:
                    assert got.status == 404
            for method in ("GET", "DELETE"):
                async with session.request(method, "/mcp", headers={"Mcp-Session-Id": "x"}) as got:
                    assert got.status == 401
        async with connected(url, "legacy", KEY) as made:
            await use(made)

    at_gate(scenario, Listen(key=KEY, drain=0))


def test_a_session_is_only_for_who_opened_it() -> None:
    async def scenario(url: str, _notebook: Notebook) -> None:
        _, headers, _ = await post(url, initialize(), Authorization="Bearer mine")
        session = {"Mcp-Session-Id": headers["Mcp-Session-Id"]}
        assert (await post(url, request("ping"), Authorization="Bearer mine", **session))[0] == 200
        async with client(url) as http:
            for other in ({"Authorization": "Bearer other"}, {}):
                assert (await post(url, request("ping"), **other, **session))[0] == 404
                for method in ("GET", "DELETE"):
                    sent = {**JSON, **session, **other}
                    async with http.request(method, "/mcp", headers=sent) as got:
                        assert got.status == 404
            mine = {**session, "Authorization": "Bearer mine"}
            async with http.delete("/mcp", headers=mine) as got:
                assert got.status == 204
        assert (await post(url, request("ping"), **mine))[0] == 404

    at_gate(scenario)


def test_sessions_are_bounded_and_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_tools, "SESSIONS", 3)

    async def scenario(url: str, _notebook: Notebook) -> None:
        async def status(session: str) -> int:
            return (await post(url, request("ping"), **{"Mcp-Session-Id": session}))[0]

        opened = [(await post(url, initialize()))[1]["Mcp-Session-Id"] for _ in range(3)]
        assert await status(opened[0]) == 200  # so it is not the oldest any more
        await post(url, initialize())
        assert [await status(session) for session in opened] == [200, 404, 200]
        large = initialize()
        large["params"]["capabilities"] = {"experimental": {"x": {"y": "z" * mcp_tools.DECLARED}}}
        got, headers, _ = await post(url, large)
        assert got == 200 and "Mcp-Session-Id" not in headers

    at_gate(scenario)


def test_answers_to_what_was_never_asked_are_not_kept() -> None:
    async def scenario() -> None:
        registry = mcp_tools.registry(Notebook())
        hub = registry.hub
        assert isinstance(hub, MemoryHub)
        await hub.publish("ask/x", {"reply": {}})
        assert hub.rows == {}

    run(scenario())


def test_the_stream_of_a_session_is_open_until_its_client_leaves(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(url: str, _notebook: Notebook) -> None:
        async with client(url) as session:
            for method in ("GET", "HEAD"):
                async with session.request(method, "/mcp", headers=JSON) as got:
                    assert (got.status, got.headers["Allow"]) == (405, "POST")
            _, headers, _ = await post(url, initialize())
            mine = {"Mcp-Session-Id": headers["Mcp-Session-Id"], "Accept": "text/event-stream"}
            async with session.get("/mcp", headers=mine) as got:
                assert (got.status, got.content_type) == (200, "text/event-stream")

    caplog.set_level("INFO", "codexgate")
    at_gate(scenario)
    assert "mcp.ok" in {record.message for record in caplog.records}


def test_who_leaves_stops_what_was_done_for_him() -> None:
    async def scenario(url: str, notebook: Notebook) -> None:
        notebook.hold = asyncio.Event()
        call = request("tools/call", name="persist_memory", arguments={"content": "a"})
        leaving = asyncio.create_task(post(url, call))
        await notebook.reached.wait()
        leaving.cancel()
        await notebook.cancelled.wait()

    assert at_gate(scenario).entries == []


def test_a_page_that_is_listed_may_use_it() -> None:
    page = "https://inspector.example"

    async def scenario(url: str, _notebook: Notebook) -> None:
        asks = {"Origin": page, "Access-Control-Request-Method": "POST"}
        async with client(url) as session, session.options("/mcp", headers=asks) as got:
            allowed = got.headers["Access-Control-Allow-Headers"]
            assert {"mcp-session-id", "mcp-protocol-version"} <= set(allowed.split(", "))
        status, headers, _ = await post(url, initialize(), Origin=page)
        assert (status, headers["Access-Control-Allow-Origin"]) == (200, page)
        assert headers["Access-Control-Expose-Headers"] == "mcp-session-id"

    at_gate(scenario, Listen(allowed_origins=(page,), drain=0))


def test_the_library_is_loaded_when_somebody_asks_for_it() -> None:
    code = "import sys, codexgate.cli.serve; print('aiohttp_tiny_mcp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
