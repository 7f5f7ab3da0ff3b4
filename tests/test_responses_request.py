"""Requests of Responses: items to the messages of a chat, tools to functions, and what is refused."""

import base64
import json
from typing import Any

import pytest

from codexgate.chat import Document, Format, Image, Message, StoredFile, Text, ToolCall, ToolChoice
from codexgate.errors import GateError
from codexgate.fronts.openai_items import identified, reference
from codexgate.fronts.openai_responses_request import Asked, Read, parse, read


def asked(**fields: Any) -> Asked:
    return parse(json.dumps({"model": "m", "input": "hello"} | fields).encode())


def reading(*items: dict[str, Any], **fields: Any) -> Read:
    request = asked(input=list(items), **fields)
    return read(request, (), request.items)


def said(role: Any, text: str, **more: Any) -> Message:
    return Message(role, (Text(text),), **more)


def call(name: str, id: str, arguments: str = "{}") -> ToolCall:
    return ToolCall(id, name, arguments)


PNG = "data:image/png;base64,aGk="
USER = {"role": "user", "content": "hi"}
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "ok"}

ITEMS: list[tuple[str, list[dict[str, Any]], list[Message]]] = [
    ("a message without a type", [USER], [said("user", "hi")]),
    (
        "a message of parts",
        [{"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "be brief"}]}],
        [said("developer", "be brief")],
    ),
    (
        "an answer, handed back",
        [
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "yes", "annotations": [], "logprobs": []}],
            }
        ],
        [said("assistant", "yes")],
    ),
    (
        "pictures and files",
        [
            {
                "role": "user",
                "content": [
                    {"type": "input_image", "image_url": PNG, "detail": "auto"},
                    {"type": "input_image", "file_id": "file-1"},
                    {"type": "input_file", "file_id": "file-2"},
                    {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="},
                    {"type": "input_file", "filename": "b.txt", "file_data": "aGk="},
                ],
            }
        ],
        [
            Message(
                "user",
                (
                    Image("image/png", "aGk=", "auto"),
                    StoredFile("file-1", as_image=True),
                    StoredFile("file-2"),
                    Document("a.pdf", "application/pdf", "aGk="),
                    Document("b.txt", "", "aGk="),
                ),
            )
        ],
    ),
    (
        "a call and its output",
        [USER, CALL, OUTPUT],
        [said("user", "hi"), Message("assistant", tool_calls=(call("f", "c1"),)), said("tool", "ok", tool_call_id="c1")],
    ),
    (
        "what an assistant thought, said and called is one message",
        [
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"role": "assistant", "content": "I look."},
            CALL,
            CALL | {"call_id": "c2", "name": "g"},
            OUTPUT,
        ],
        [
            said("assistant", "I look.", tool_calls=(call("f", "c1"), call("g", "c2")), reasoning="hm"),
            said("tool", "ok", tool_call_id="c1"),
        ],
    ),
    (
        "two answers in a row stay two",
        [{"role": "assistant", "content": "one"}, {"role": "assistant", "content": "two"}],
        [said("assistant", "one"), said("assistant", "two")],
    ),
    (
        "thinking that comes as text",
        [
            {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}], "encrypted_content": "x"},
            {"role": "assistant", "content": "so"},
        ],
        [said("assistant", "so", reasoning="hm")],
    ),
    (
        "an output in parts",
        [CALL, OUTPUT | {"output": [{"type": "input_text", "text": "ok"}, {"type": "input_image", "image_url": PNG}]}],
        [
            Message("assistant", tool_calls=(call("f", "c1"),)),
            Message("tool", (Text("ok"), Image("image/png", "aGk=")), tool_call_id="c1"),
        ],
    ),
    (
        "a custom tool",
        [
            {"type": "custom_tool_call", "call_id": "c1", "name": "apply_patch", "input": "*** Begin"},
            {"type": "custom_tool_call_output", "call_id": "c1", "output": "Done"},
        ],
        [
            Message("assistant", tool_calls=(call("apply_patch", "c1", '{"input":"*** Begin"}'),)),
            said("tool", "Done", tool_call_id="c1"),
        ],
    ),
    (
        "a call in a namespace",
        [CALL | {"namespace": "mcp__db", "name": "read"}],
        [Message("assistant", tool_calls=(call("mcp__db__read", "c1"),))],
    ),
    (
        "a shell",
        [
            {"type": "local_shell_call", "id": "l", "call_id": "c1", "action": {"type": "exec", "command": ["ls"], "env": {}}, "status": "completed"},
            {"type": "local_shell_call_output", "call_id": "c1", "output": "a.txt"},
            {"type": "shell_call", "call_id": "c2", "action": {"commands": ["ls"]}},
            {"type": "shell_call_output", "call_id": "c2", "output": [{"stdout": "a", "stderr": "", "outcome": {"type": "exit"}}]},
        ],
        [
            Message("assistant", tool_calls=(call("local_shell", "c1", '{"command":["ls"]}'),)),
            said("tool", "a.txt", tool_call_id="c1"),
            Message("assistant", tool_calls=(call("shell", "c2", '{"commands":["ls"]}'),)),
            said("tool", '[{"stdout":"a","stderr":"","outcome":{"type":"exit"}}]', tool_call_id="c2"),
        ],
    ),
    (
        "what a server did itself is not told again",
        [USER, {"type": "web_search_call", "id": "ws", "status": "completed"}, {"role": "assistant", "content": "a"}],
        [said("user", "hi"), said("assistant", "a")],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("items", "wanted"), [row[1:] for row in ITEMS], ids=[row[0] for row in ITEMS])
def test_items_are_messages(items: list[dict[str, Any]], wanted: list[Message]) -> None:
    assert list(reading(*items).request.messages) == wanted


def test_history_comes_first_and_instructions_before_it() -> None:
    request = asked(instructions="Be brief.", input="go on")
    history = [json.dumps(USER).encode()]
    messages = read(request, history, request.items).request.messages
    assert [(message.role, message.text) for message in messages] == [
        ("system", "Be brief."),
        ("user", "hi"),
        ("user", "go on"),
    ]


def test_tools_that_were_found_are_offered() -> None:
    found = {
        "type": "tool_search_output",
        "call_id": "c1",
        "execution": "client",
        "tools": [{"type": "function", "name": "read"}],
    }
    given = reading(
        USER,
        {"type": "tool_search_call", "call_id": "c1", "arguments": {"query": "r"}},
        found,
        tools=[{"type": "tool_search"}],
    )
    assert [tool.name for tool in given.request.tools] == ["tool_search", "read"]
    assert given.request.messages[-1] == said("tool", "Found: read", tool_call_id="c1")


def test_tools_beside_the_list_are_offered_too() -> None:
    more = {
        "type": "additional_tools",
        "role": "developer",
        "tools": [{"type": "namespace", "name": "n", "tools": [{"type": "custom", "name": "exec"}]}],
    }
    assert [tool.name for tool in reading(more, USER).request.tools] == ["n__exec"]


def test_hosted_tools_that_a_model_can_do_without_are_left_out_and_told() -> None:
    given = reading(
        USER, tools=[{"type": "web_search", "external_web_access": False}, {"type": "function", "name": "f"}]
    )
    assert ([tool.name for tool in given.request.tools], given.toolbox.left_out) == (["f"], {"web_search"})


def test_names_that_no_function_may_have_become_ones_it_may() -> None:
    (tool,) = reading(
        USER, tools=[{"type": "namespace", "name": "a.b", "tools": [{"type": "function", "name": "c" * 90}]}]
    ).request.tools
    assert len(tool.name) <= 64 and tool.name.replace("_", "").isalnum()


CHOICES: list[tuple[Any, ToolChoice]] = [
    ("auto", ToolChoice()),
    ("none", ToolChoice("none")),
    ("required", ToolChoice("required")),
    ({"type": "function", "name": "f"}, ToolChoice("named", "f")),
    ({"type": "custom", "name": "p"}, ToolChoice("named", "p")),
]


@pytest.mark.parametrize(("choice", "wanted"), CHOICES, ids=[str(row[0])[:30] for row in CHOICES])
def test_a_tool_can_be_demanded(choice: Any, wanted: ToolChoice) -> None:
    tools = [{"type": "function", "name": "f"}, {"type": "custom", "name": "p"}]
    assert reading(USER, tools=tools, tool_choice=choice).request.tool_choice == wanted


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_a_model_is_offered_no_tools_but_those_that_are_allowed(mode: Any) -> None:
    inner = {"type": "function", "name": "f"}
    tools = [
        {"type": "function", "name": "delete_all"},
        {"type": "custom", "name": "p"},
        {"type": "namespace", "name": "n", "tools": [inner]},
        {"type": "local_shell"},
        {"type": "web_search"},
    ]

    def request(*allowed: dict[str, Any]) -> Read:
        choice = {"type": "allowed_tools", "mode": mode, "tools": list(allowed)}
        return reading(USER, tools=tools, tool_choice=choice)

    given = request(
        {"type": "custom", "name": "p"},
        inner | {"namespace": "n"},
        {"type": "local_shell"},
        {"type": "web_search"},
    )
    assert [tool.name for tool in given.request.tools] == ["p", "n__f", "local_shell"]
    assert given.request.tool_choice == ToolChoice(mode)
    with pytest.raises(GateError, match="names 'unheard', which is not in `tools`") as refused:
        request({"type": "custom", "name": "p"}, {"type": "function", "name": "unheard"})
    assert (refused.value.fault.status, refused.value.fault.param) == (400, "tool_choice")


def test_settings_are_read() -> None:
    request = reading(
        USER,
        temperature=0.5,
        top_p=0.1,
        max_output_tokens=20,
        top_logprobs=2,
        reasoning={"effort": "low", "summary": "auto"},
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}},
    ).request
    assert (request.sampling.temperature, request.sampling.top_p, request.sampling.max_tokens) == (
        0.5,
        0.1,
        20,
    )
    assert (request.sampling.logprobs, request.sampling.top_logprobs, request.effort) == (True, 2, "low")
    assert request.format == Format("schema", {"type": "object"}, "n", True)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"input": 1}, "input"),
    ({"input": []}, "input"),
    ({"input": [{"type": "message", "role": "robot", "content": "x"}]}, "input[0].role"),
    ({"input": [USER, {"type": "nonsense"}]}, "input[1].type"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://x/y.png"}]}]}, "input[0].content[0].image_url"),
    ({"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "https://x"}]}]}, "input[0].content[0].file_url"),
    ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
    ({"tools": [{"type": "file_search", "vector_store_ids": ["v"]}]}, "tools[0].type"),
    ({"tools": [{"type": "mcp", "server_label": "x"}]}, "tools[0].type"),
    ({"tools": [{"type": "function"}]}, "tools[0].name"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "name": "g"}}, "tool_choice"),
    ({"tool_choice": {"type": "web_search"}}, "tool_choice"),
    ({"tool_choice": {"type": "allowed_tools", "mode": "required", "tools": []}}, "tool_choice"),
    ({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": ["f"]}}, "tool_choice"),
    ({"tool_choice": {"type": "allowed_tools", "mode": "auto"}}, "tool_choice"),
    ({"temperature": 9}, "temperature"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
    ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    ({"background": True, "store": False}, "store"),
    ({"previous_response_id": "resp_1", "conversation": "conv_1"}, "conversation"),
    ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "param"), REFUSED, ids=[f"{row[1]}-{at}" for at, row in enumerate(REFUSED)]
)
def test_what_cannot_be_done_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(GateError) as refused:
        request = asked(**fields)
        read(request, (), request.items)
    assert (refused.value.fault.status, refused.value.fault.param) == (400, param)


def test_the_message_says_in_which_item_what_is_wrong_and_what_would_be_right() -> None:
    with pytest.raises(GateError) as refused:
        request = asked(input=[USER, {"type": "message", "role": "robot", "content": "x"}])
        read(request, (), request.items)
    said = refused.value.fault.message
    assert said.startswith("Invalid value for `input[1].role`: expected one of assistant, developer,")


def test_unknown_fields_are_counted_and_nulls_are_absent() -> None:
    request = asked(temperature=None, tools=None, future=1, client_metadata={})
    assert request.unknown == ("future",)
    assert request.echo["tools"] == []


def test_of_text_what_is_not_acted_on_is_told_and_not_repeated() -> None:
    format = {"type": "json_object"}
    request = asked(text={"format": format, "verbosity": "low"})
    assert (request.unknown, request.echo["text"]) == (("text.verbosity",), {"format": format})
    assert asked(text={"verbosity": None}).echo["text"] == {"format": {"type": "text"}}


def test_an_item_without_an_id_gets_one_and_keeps_its_own() -> None:
    id, kept = identified(json.dumps(USER).encode(), "00")
    assert id == "msg_00" and json.loads(kept)["content"] == [{"type": "input_text", "text": "hi"}]
    assert identified(json.dumps(CALL | {"id": "mine"}).encode(), "00")[0] == "mine"


@pytest.mark.parametrize(
    ("item", "id"),
    [
        ({"type": "item_reference", "id": "msg_1"}, "msg_1"),
        ({"id": "msg_1"}, "msg_1"),
        (USER, ""),
        (CALL, ""),
    ],
    ids=["typed", "bare", "message", "call"],
)
def test_an_item_may_only_refer_to_a_kept_one(item: dict[str, Any], id: str) -> None:
    assert reference(json.dumps(item).encode()) == id


def test_big_bodies_are_read() -> None:
    picture = "data:image/png;base64," + base64.b64encode(b"x" * 3_000_000).decode()
    request = reading({"role": "user", "content": [{"type": "input_image", "image_url": picture}]}).request
    assert isinstance(request.messages[0].parts[0], Image)
