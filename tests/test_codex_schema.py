"""The protocol's names as this project has them, against the schema of the Codex that is installed."""

import inspect
import subprocess
from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema
import msgspec
import pytest

from codexgate.backends.codex import host
from codexgate.backends.codex.find import find_binary
from codexgate.chat import ChatRequest, Document, Format, Image, Message, Text, Tool, ToolCall
from codexgate.dialects.codex import ask, wire
from codexgate.doctor.protocol import BUNDLE, DEFINITIONS, definition, drift, fields, methods, variants

Json = dict[str, Any]


@pytest.fixture(scope="session")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """The whole bundle; `definitions` holds version 1, and version 2 under `v2`."""
    binary = find_binary("")
    assert binary is not None
    folder = tmp_path_factory.mktemp("schema")
    command = [str(binary), "app-server", "generate-json-schema", "--experimental", "--out", str(folder)]
    environ = {"HOME": str(folder), "CODEX_HOME": str(folder), "PATH": ""}
    subprocess.run(command, check=True, timeout=30, env=environ)
    whole: Json = msgspec.json.decode((folder / BUNDLE).read_bytes())
    return whole


@cache
def constants() -> dict[str, str]:
    """The methods in `wire`, by the name of their constant."""
    return {
        name: value
        for name, value in vars(wire).items()
        if name.isupper() and isinstance(value, str) and not name.startswith("_")
    }


ASKED = "INITIALIZE ACCOUNT_READ MODEL_LIST THREAD_ TERMINALS_CLEAN TURN_START TURN_INTERRUPT".split()
TOLD = (
    "AGENT_MESSAGE_DELTA REASONING_ COMMAND_OUTPUT_DELTA ITEM_ PLAN_UPDATED TOKEN_USAGE RATE_LIMITS ERROR "
    "WARNING MODEL_REROUTED TURN_STARTED THREAD_CLOSED TURN_COMPLETED"
).split()


def test_every_method_exists(schema: Json) -> None:
    known = {
        kind: methods(schema, kind)
        for kind in ("ClientRequest", "ClientNotification", "ServerNotification", "ServerRequest")
    }
    everything = set().union(*known.values())
    assert {name: value for name, value in constants().items() if value not in everything} == {}
    assert set(wire.IGNORED) <= known["ServerNotification"]
    told = {name for name, value in constants().items() if value in known["ServerNotification"]}
    asked = {name for name, value in constants().items() if value in known["ClientRequest"]}
    assert all(name.startswith(tuple(TOLD)) for name in told - {"INITIALIZED"})
    assert all(name.startswith(tuple(ASKED)) for name in asked)


def test_every_struct_is_in_the_table() -> None:
    structs = {
        value
        for name, value in vars(wire).items()
        if inspect.isclass(value) and issubclass(value, msgspec.Struct) and not name.startswith("_")
    }
    assert structs == set(DEFINITIONS)


def test_the_doctor_finds_nothing_missing_and_what_is(schema: Json) -> None:
    assert drift(schema) == []
    text = msgspec.json.encode(schema)
    for theirs, other in ((b'"turn/start"', b'"turn/begin"'), (b'"usedPercent"', b'"used"')):
        text = text.replace(theirs, other)
    assert drift(msgspec.json.decode(text)) == ["turn/start", "Window.usedPercent"]
    assert len(drift({})) > len(DEFINITIONS)


@pytest.mark.parametrize("struct", DEFINITIONS, ids=lambda struct: struct.__name__)
def test_every_field_exists(schema: Json, struct: type[msgspec.Struct]) -> None:
    known = [fields(schema, name) for name in DEFINITIONS[struct].split()]
    for field in msgspec.structs.fields(struct):
        if field.required:
            assert all(field.encode_name in one for one in known), field.name
        else:
            assert any(field.encode_name in one for one in known), field.name


def unknown(schema: Json, node: Any, value: Any, path: str = "") -> Iterator[str]:
    """The paths of the keys in `value` that none of the schema's variants of `node` has."""
    options = list(variants(schema, node))
    if isinstance(value, list):
        items = [option["items"] for option in options if "items" in option]
        for each in value if items else ():
            yield from min((list(unknown(schema, item, each, path)) for item in items), key=len)
    elif isinstance(value, dict):
        free = not any("properties" in option for option in options)
        free |= any(option.get("additionalProperties") not in (None, False) for option in options)
        for key, inner in value.items():
            inside = [option["properties"][key] for option in options if key in option.get("properties", {})]
            if inside:
                yield from min(
                    (list(unknown(schema, one, inner, f"{path}.{key}")) for one in inside), key=len
                )
            elif not free:
                yield f"{path}.{key}"


def hold(schema: Json, node: Json, value: Json) -> None:
    """`value` is what the schema says, and has nothing that the schema does not name."""
    jsonschema.Draft7Validator({**schema, **node, "definitions": schema["definitions"]}).validate(value)
    assert list(unknown(schema, node, value)) == []


REQUEST = ChatRequest(
    "some-model",
    (
        Message("system", (Text("be kind"),)),
        Message("user", (Text("look"), Image("image/png", "AAAA"), Document("a.pdf"))),
        Message("assistant", (Text("I do"),), tool_calls=(ToolCall("c1", "look up!", '{"x":1}'),)),
        Message("tool", (Text("found"),), tool_call_id="c1"),
        Message("user", (Text("look"), Image("image/png", "AAAA"), Document("a.pdf"))),
    ),
    tools=(
        Tool("look up!", "Looks.", {"type": "object", "properties": {"x": {"type": "integer"}}}),
        Tool("f"),
    ),
    effort="low",
    format=Format("schema", {"type": "object", "properties": {"a": {"type": "string"}}}),
)


def plans() -> Iterator[tuple[str, ask.Plan]]:
    config = host.thread_config("/work", use_host_config=False)
    for sandbox in ask._POLICIES:
        for flag in (False, True):
            authority = ask.Authority("/work", sandbox, flag, flag, "items", config)
            yield wire.THREAD_START, ask.fresh(REQUEST, authority, lasting=flag)
            yield wire.THREAD_RESUME, ask.resumed(REQUEST, REQUEST.messages[1:], "t", authority)
            yield wire.THREAD_START, ask.task(REQUEST, authority, "small")


def requests() -> Iterator[tuple[str, Json]]:
    """Everything that is ever asked, with every parameter that it may have."""
    yield wire.INITIALIZE, ask.initialize("1.2.3")
    yield wire.ACCOUNT_READ, {}
    yield wire.MODEL_LIST, {}
    for method in (wire.THREAD_UNSUBSCRIBE, wire.TERMINALS_CLEAN):
        yield method, ask.thread("t")
    yield wire.TURN_INTERRUPT, ask.interrupt("t")
    for method, plan in plans():
        yield method, plan.thread
        yield wire.THREAD_INJECT, ask.thread("t") | {"items": plan.history}
        yield wire.TURN_START, ask.thread("t") | plan.turn


def test_every_request_is_one_that_codex_knows(schema: Json) -> None:
    asked = set()
    for method, params in requests():
        (node,) = (
            one
            for one in schema["definitions"]["ClientRequest"]["oneOf"]
            if one["properties"]["method"]["enum"] == [method]
        )
        hold(schema, node, {"id": 1, "method": method, "params": params})
        asked.add(method)
    assert asked == {value for value in constants().values() if value in methods(schema, "ClientRequest")}


ANSWERS = {
    wire.COMMAND_APPROVAL: "CommandExecutionRequestApprovalResponse",
    wire.FILE_APPROVAL: "FileChangeRequestApprovalResponse",
    wire.ELICITATION: "McpServerElicitationRequestResponse",
    wire.TOOL_CALL: "DynamicToolCallResponse",
    wire.USER_INPUT: "ToolRequestUserInputResponse",
}
APPROVALS = (wire.COMMAND_APPROVAL, wire.FILE_APPROVAL, wire.ELICITATION)


def test_every_answer_is_one_that_codex_knows(schema: Json) -> None:
    for method in methods(schema, "ServerRequest"):
        answer = ask.answer(method)
        assert (answer is None) == (method not in ANSWERS), method
        if answer is not None:
            hold(schema, definition(schema, ANSWERS[method]), answer)
    for method in APPROVALS:
        hold(schema, definition(schema, ANSWERS[method]), ask.decision(method, accept=True))
    hold(schema, definition(schema, ANSWERS[wire.TOOL_CALL]), ask.tool_result("done"))


def test_a_wrong_name_would_be_found(schema: Json) -> None:
    node = definition(schema, "ThreadStartParams")
    params = {"sandbox": "read-only", "sandboks": 1, "config": {"free": {"x": 1}}}
    assert list(unknown(schema, node, params)) == [".sandboks"]
    tools = {
        "dynamicTools": [{"type": "function", "name": "f", "description": "", "inputSchema": {}, "no": 1}]
    }
    assert list(unknown(schema, node, tools)) == [".dynamicTools.no"]
