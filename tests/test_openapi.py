"""`/openapi.json`: made from the code, complete, and a description that every tool can read."""

import re
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from codexgate.backends.demo import Demo, DemoOptions
from codexgate.fronts import openai_chat_request
from codexgate.server.app import Listen
from codexgate.server.openapi.operations import OPERATIONS
from codexgate.server.routes import endpoints
from tests.servers.gateway import client, serving
from tests.servers.scripted import Scripted
from tests.support import run

KEY = "cg-secret"


def fetch(listen: Listen | None = None, headers: dict[str, str] | None = None) -> dict[str, Any]:
    async def scenario() -> dict[str, Any]:
        async with serving(Scripted(), listen=listen) as url, client(url) as session:
            async with session.get("/openapi.json", headers=headers) as answer:
                assert answer.status == 200
                document: dict[str, Any] = msgspec.json.decode(await answer.read())
                return document

    return run(scenario())


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return fetch()


def refs(value: object) -> set[str]:
    """Everything that a `$ref` in `value` names."""
    match value:
        case {"$ref": str(name)}:
            return {name}
        case dict():
            return {name for each in value.values() for name in refs(each)}
        case list():
            return {name for each in value for name in refs(each)}
        case _:
            return set()


def body(document: dict[str, Any], path: str, method: str = "post") -> jsonschema_rs.Validator:
    """What judges the JSON bodies of a route."""
    content = document["paths"][path][method]["requestBody"]["content"]["application/json"]
    return jsonschema_rs.validator_for({**content["schema"], "components": document["components"]})


def test_every_route_is_described_and_no_other(document: dict[str, Any]) -> None:
    described = {
        (method.upper(), server["url"].rstrip("/") + path)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        for server in operation.get("servers", document["servers"])
    }
    assert document["openapi"].startswith("3.1.")
    rows = {(row.method, re.sub(r":[^}]+", "", row.path)) for row in endpoints()}
    missing, gone = (
        " and ".join(f"{method} {path}" for method, path in sorted(some))
        for some in (rows - described, described - rows)
    )
    assert not missing, f"openapi/operations.py does not describe {missing}"
    assert not gone, f"no row of routes.py is {gone}"


def test_no_description_is_of_a_route_that_is_gone() -> None:
    paths = {(row.method, re.sub(r":[^}]+", "", row.path).removeprefix("/v1")) for row in endpoints()}
    assert [name for name in OPERATIONS if tuple(name.split()) not in paths] == []


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for name in refs(document):
        place: Any = document
        for step in name.removeprefix("#/").split("/"):
            place = place[step]
        assert place


def test_every_schema_is_one_and_is_used(document: dict[str, Any]) -> None:
    used = {name.rpartition("/")[2] for name in refs(document)}
    assert set(document["components"]["schemas"]) <= used
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate({**schema, "$schema": "https://json-schema.org/draft/2020-12/schema"})


def test_ids_of_operations_are_unique(document: dict[str, Any]) -> None:
    ids = [each["operationId"] for methods in document["paths"].values() for each in methods.values()]
    assert len(ids) == len(set(ids))


def test_it_is_the_same_every_time(document: dict[str, Any]) -> None:
    assert msgspec.json.encode(fetch()) == msgspec.json.encode(document)


def test_with_a_key_set_the_routes_that_need_it_say_so(document: dict[str, Any]) -> None:
    assert "security" not in document["paths"]["/v1/models"]["get"]
    keyed = fetch(Listen(drain=0, key=KEY))["paths"]
    assert keyed["/v1/models"]["get"]["security"] == [{"key": []}]
    assert "401" in keyed["/v1/models"]["get"]["responses"]
    assert "security" not in keyed["/health"]["get"]


def test_every_field_that_the_code_reads_is_described(document: dict[str, Any]) -> None:
    described = document["components"]["schemas"]["ChatRequest"]["properties"]
    assert set(openai_chat_request._Body.__struct_fields__) <= set(described)


HELLO = {"role": "user", "content": "hi"}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"
JSON_FORMAT = {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}
BODIES: dict[str, tuple[str, dict[str, Any], bool]] = {
    "a chat": ("/v1/chat/completions", {"messages": [HELLO]}, True),
    "no messages": ("/v1/chat/completions", {"messages": []}, False),
    "a role that is none": ("/v1/chat/completions", {"messages": [{"role": "boss"}]}, False),
    "a tool's answer without its call": ("/v1/chat/completions", {"messages": [{"role": "tool"}]}, False),
    "too hot": ("/v1/chat/completions", {"messages": [HELLO], "temperature": 3}, False),
    "a format": ("/v1/chat/completions", {"messages": [HELLO], "response_format": JSON_FORMAT}, True),
    "a format without its schema": (
        "/v1/chat/completions",
        {"messages": [HELLO], "response_format": {"type": "json_schema"}},
        False,
    ),
    "audio, which is refused": ("/v1/chat/completions", {"messages": [HELLO], "audio": {}}, False),
    "a remote picture": (
        "/v1/chat/completions",
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x"}}]}
            ]
        },
        False,
    ),
    "a text to answer": ("/v1/responses", {"input": "hi"}, True),
    "items to answer": ("/v1/responses", {"input": [HELLO]}, True),
    "two things to go on with": (
        "/v1/responses",
        {"input": "hi", "previous_response_id": "resp_1", "conversation": "conv_1"},
        False,
    ),
    "in the background, not kept": (
        "/v1/responses",
        {"input": "hi", "background": True, "store": False},
        False,
    ),
    "prompts of two kinds": ("/v1/completions", {"prompt": ["a", 1]}, False),
    "a text to embed": ("/v1/embeddings", {"model": "demo-embed", "input": "hi"}, True),
    "nothing to embed": ("/v1/embeddings", {"model": "demo-embed", "input": []}, False),
    "a decision": ("/v1/approvals/{id}", {"decision": "accept"}, True),
    "no decision": ("/v1/approvals/{id}", {"decision": "perhaps"}, False),
    "Ollama's chat": ("/api/chat", {"model": "m", "messages": [HELLO], "options": {"num_ctx": 9}}, True),
    "a chat with nobody": ("/api/chat", {"messages": [HELLO]}, False),
    "an option of another type": ("/api/chat", {"model": "m", "options": {"seed": "x"}}, False),
    "thinking harder than hard": ("/api/chat", {"model": "m", "think": "harder"}, False),
    "a picture": ("/api/generate", {"model": "m", "images": [PNG]}, True),
    "a picture that is none": ("/api/generate", {"model": "m", "images": ["aGVsbG8="]}, False),
    "a picture to go on with": ("/api/generate", {"model": "m", "images": [PNG], "raw": True}, False),
    "a template": ("/api/generate", {"model": "m", "template": "{{ .Prompt }}"}, False),
    "an empty text among others": ("/api/embed", {"model": "m", "input": ["a", ""]}, False),
    "a model by its older field": ("/api/show", {"name": "m"}, True),
    "a copy of nothing": ("/api/copy", {"destination": "m"}, False),
}


@pytest.mark.parametrize(("path", "value", "good"), BODIES.values(), ids=BODIES.keys())
def test_what_the_parsers_ask_is_said(
    document: dict[str, Any], path: str, value: dict[str, Any], good: bool
) -> None:
    assert body(document, path).is_valid(value) == good


LINES = {
    "/api/chat": {"model": "demo", "messages": [HELLO]},
    "/api/generate": {"model": "demo", "prompt": "hi", "think": True},
    "/api/pull": {"model": "demo"},
}


@pytest.mark.parametrize(("path", "asked"), LINES.items(), ids=LINES.keys())
def test_every_line_of_a_stream_is_as_described(
    document: dict[str, Any], path: str, asked: dict[str, Any]
) -> None:
    async def scenario() -> list[bytes]:
        async with serving(Demo(DemoOptions(pace=0))) as url, client(url) as session:
            async with session.post(path, json=asked) as answer:
                assert answer.content_type == "application/x-ndjson"
                return (await answer.read()).splitlines()

    content = document["paths"][path]["post"]["responses"]["200"]["content"]["application/x-ndjson"]
    line = jsonschema_rs.validator_for({**content["schema"], "components": document["components"]})
    lines = run(scenario())
    assert lines
    for each in lines:
        line.validate(msgspec.json.decode(each))


def test_examples_are_valid(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            if "example" in content:
                assert body(document, path, method).is_valid(content["example"]), path
