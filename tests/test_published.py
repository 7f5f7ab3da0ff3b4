"""What leaves the gate on OpenAI's routes is what OpenAI publishes; here the judge is judged."""

from typing import Any

import pytest

from codexgate.errors import Fault
from codexgate.events import Done, Failed, TextDelta, Usage
from codexgate.fronts import openai_chat, openai_models
from tests.description.prune import prune
from tests.servers.gateway import client, serving
from tests.servers.published import BESIDE, EVENTS, EXCLUSIONS, JSON, Published, published
from tests.servers.scripted import Scripted
from tests.support import run

CHAT = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
STREAM: dict[str, Any] = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}


async def ask(body: dict[str, Any] | None) -> None:
    backend = Scripted(TextDelta("hello"), Usage(1, 1), Done("stop"))
    async with serving(backend) as url, client(url) as session:
        method, path = ("POST", "/v1/chat/completions") if body else ("GET", "/openai/v1/models")
        async with session.request(method, path, json=body) as answer:
            assert answer.status == 200
            await answer.read()


@pytest.mark.parametrize("body", [None, CHAT, STREAM], ids=["a list", "an answer", "a stream"])
def test_what_is_as_described_passes(body: dict[str, Any] | None) -> None:
    run(ask(body))


@pytest.mark.parametrize(
    ("body", "path"),
    [(CHAT, r"\$\.usage"), (STREAM, r"text/event-stream.*\$\.usage")],
    ids=["an answer", "a stream's last event"],
)
def test_a_wrong_type_fails_the_test_that_saw_it(
    body: dict[str, Any], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_chat, "usage_object", lambda usage: "many")
    with pytest.raises(AssertionError, match=path):
        run(ask(body))


def test_a_field_that_is_missing_fails_the_test_that_saw_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_models, "render", lambda model, name: {"id": name, "object": "model"})
    with pytest.raises(AssertionError, match="'created' is a required property"):
        run(ask(None))


def test_an_error_in_a_stream_is_judged_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_chat, "error_body", lambda fault: {"error": {"message": fault.message}})

    async def scenario() -> None:
        backend = Scripted(TextDelta("hello"), Failed(Fault("upstream", "It broke.")))
        async with serving(backend) as url, client(url) as session:
            async with session.post("/v1/chat/completions", json=STREAM) as answer:
                await answer.read()

    with pytest.raises(AssertionError, match="'type' is a required property"):
        run(scenario())


MESSAGE = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "hi", "annotations": [], "logprobs": []}],
}
ITEMS: dict[str, tuple[dict[str, Any], bool]] = {
    "a message": (MESSAGE, True),
    "a message with a part of an unknown type": (
        {**MESSAGE, "content": [{"type": "text", "text": "hi"}]},
        False,
    ),
    "a message without its status": ({k: v for k, v in MESSAGE.items() if k != "status"}, False),
    "a call": ({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}, True),
    "a call without arguments": ({"type": "function_call", "call_id": "c", "name": "f"}, False),
    "something that is none of them": ({"type": "dream", "id": "d"}, False),
}


@pytest.mark.parametrize(("item", "good"), ITEMS.values(), ids=ITEMS.keys())
def test_an_output_item_is_judged_by_what_it_says_it_is(item: dict[str, Any], good: bool) -> None:
    event = {"type": "response.output_item.done", "output_index": 0, "sequence_number": 1, "item": item}
    schema = published().schema("POST", "/responses", EVENTS)
    assert schema is not None
    assert (published().mismatch(schema, event) == "") == good


def test_every_route_and_event_stream_has_a_schema_that_compiles() -> None:
    judge = Published()
    for method, route, media in [("get", "/models", JSON), ("post", "/responses", EVENTS), *BESIDE]:
        schema = judge.schema(method, route, media)
        assert schema is not None
        assert judge.mismatch(schema, {}) != ""


def test_every_exclusion_has_a_reason_and_changes_something() -> None:
    for each in EXCLUSIONS:
        assert each.reason
        assert each.becomes({"type": "integer"}) != {"type": "integer"}


def test_pruning_keeps_what_can_fail_and_puts_it_into_plain_words() -> None:
    kinds = {
        name: {
            "type": "object",
            "properties": {"type": {"enum": [name]}},
            "required": ["type"],
            "title": name,
        }
        for name in ("Cat", "Dog")
    }
    refs = [{"$ref": f"#/components/schemas/{name}"} for name in kinds]
    union = {"oneOf": refs, "discriminator": {"propertyName": "type"}}
    answer = {
        "type": "object",
        "description": "left out",
        "properties": {"name": {"type": "string", "nullable": True}, "pet": union, "either": {"oneOf": refs}},
    }
    schemas = {**kinds, "Answer": answer, "ErrorResponse": {"type": "object"}, "Unused": {"type": "string"}}
    ok = {"responses": {"200": {"content": {JSON: {"schema": {"$ref": "#/components/schemas/Answer"}}}}}}
    document = {
        "info": {"title": "t", "version": "1", "license": {}},
        "paths": {"/models": {"get": ok, "delete": ok}},
        "components": {"schemas": schemas},
    }
    pruned = prune(document, {"/models": ["get"]})
    assert pruned["paths"] == {"/models": {"get": {JSON: {"$ref": "#/components/schemas/Answer"}}}}
    assert pruned["components"]["schemas"].keys() == {"Answer", "Cat", "Dog", "ErrorResponse"}
    assert pruned["components"]["schemas"]["Answer"] == {
        "type": "object",
        "properties": {
            "name": {"type": ["string", "null"]},
            "pet": {
                "type": "object",
                "properties": {"type": {"enum": ["Cat", "Dog"]}},
                "required": ["type"],
                "allOf": [
                    {"if": {"properties": {"type": {"const": name}}, "required": ["type"]}, "then": ref}
                    for name, ref in zip(kinds, refs, strict=True)
                ],
            },
            "either": {"anyOf": refs},
        },
    }
