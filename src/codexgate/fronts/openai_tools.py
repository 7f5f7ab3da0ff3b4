"""The tools of OpenAI's Responses, as functions, and calls of those functions as what they stand for.

Models behind the gate know functions only. A custom tool becomes a function of one text, a
namespace a set of functions with longer names, a tool that clients run (`local_shell`, `shell`,
`apply_patch`, `tool_search`) a function with the shape of its action; what comes back is turned
into the item that the client expects. Tools that only OpenAI's servers can run are refused where
their neglect would change the answer; others that are not known here, such as `web_search`, are left
out and told: clients like Codex offer every model whatever their own service has.

Source: OpenAI API reference, "Responses", `tools`. Pure; knows neither requests nor streams.
"""

import hashlib
import re
from collections.abc import Collection
from typing import Annotated, Any, Literal

import msgspec

from ..chat import Tool, ToolCall, ToolChoice
from ..errors import invalid

Kind = Literal["function", "custom", "tool_search", "local_shell", "shell", "apply_patch"]

_REFUSED = {"file_search", "code_interpreter", "mcp", "computer", "computer_use_preview"}
_NAME = 64
"""Characters that a function's name may have (API reference, `tools[].name`)."""
_SEPARATOR = "__"

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class Grammar(msgspec.Struct):
    """The format of a custom tool's text."""

    type: Literal["text", "grammar"] = "text"
    syntax: str | None = None
    definition: str | None = None


class ToolSpec(msgspec.Struct):
    """One entry of `tools`, of whatever type."""

    type: str
    name: _Name | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    format: Grammar | None = None
    tools: "list[ToolSpec] | None" = None


class Origin(msgspec.Struct, frozen=True):
    """What a function stands for."""

    kind: Kind
    name: str
    namespace: str = ""


_TEXT = {"type": "string"}
_LIST = {"type": "array", "items": _TEXT}


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required}


_ACTIONS: dict[str, tuple[Kind, str, dict[str, Any]]] = {
    "local_shell": (
        "local_shell",
        "Runs a command on the user's machine.",
        _object({"command": _LIST, "working_directory": _TEXT}, ["command"]),
    ),
    "shell": (
        "shell",
        "Runs shell commands on the user's machine.",
        _object({"commands": _LIST, "timeout_ms": {"type": "integer"}}, ["commands"]),
    ),
    "apply_patch": (
        "apply_patch",
        "Creates, updates or deletes a file by a diff (V4A format).",
        _object(
            {
                "type": {"type": "string", "enum": ["create_file", "update_file", "delete_file"]},
                "path": _TEXT,
                "diff": _TEXT,
            },
            ["type", "path"],
        ),
    ),
    "tool_search": ("tool_search", "Finds tools.", _object({"query": _TEXT}, ["query"])),
}


ITEM_OF: dict[Kind, str] = {
    "function": "function_call",
    "custom": "custom_tool_call",
    "tool_search": "tool_search_call",
    "local_shell": "local_shell_call",
    "shell": "shell_call",
    "apply_patch": "apply_patch_call",
}
"""The item that a call of each kind of tool is."""


class Toolbox:
    """The tools of one request: what a model is offered, and what its calls mean."""

    def __init__(self) -> None:
        self.tools: list[Tool] = []
        self.left_out: set[str] = set()
        """Types of tools that no model here can be offered."""
        self._origins: dict[str, Origin] = {}

    def add(self, specs: list[ToolSpec], where: str, namespace: str = "", about: str = "") -> None:
        """Offer `specs`. Raises GateError for a tool that cannot be done without here."""
        for index, spec in enumerate(specs):
            at = f"{where}[{index}]"
            if spec.type == "namespace":
                self.add(spec.tools or [], f"{at}.tools", spec.name or "", spec.description or "")
            elif spec.type in _REFUSED:
                raise invalid(
                    f"A tool of type '{spec.type}' is run by OpenAI's own servers, not here.", f"{at}.type"
                )
            elif spec.type in ("function", "custom") or spec.type in _ACTIONS:
                self._offer(spec, at, namespace, about)
            else:
                self.left_out.add(spec.type)

    def origin(self, function: str) -> Origin:
        """What `function` stands for; a function that was not offered is one by itself."""
        return self._origins.get(function, Origin("function", function))

    def function(self, kind: Kind, name: str, namespace: str = "") -> str:
        """The function that stands for a tool, whether it is offered or not."""
        return flat_name(name, namespace) if kind in ("function", "custom") else kind

    def _offer(self, spec: ToolSpec, at: str, namespace: str, about: str) -> None:
        if spec.type in _ACTIONS:
            kind, description, parameters = _ACTIONS[spec.type]
            name = spec.type
        elif spec.name:
            kind = "function" if spec.type == "function" else "custom"
            name, description = spec.name, ""
            parameters = (spec.parameters or {}) if kind == "function" else _custom_parameters(spec.format)
        else:
            raise invalid("A tool needs a name.", f"{at}.name")
        function = self.function(kind, name, namespace)
        if function in self._origins:
            return  # offered twice, by an earlier `tool_search_output` for instance
        self._origins[function] = Origin(kind, name, namespace)
        told = "\n\n".join(text for text in (about, spec.description or description) if text)
        wanted = spec.parameters if kind == "tool_search" and spec.parameters else parameters
        self.tools.append(Tool(function, told, wanted, bool(spec.strict)))


def flat_name(name: str, namespace: str = "") -> str:
    """One name for a tool in a namespace, of the characters and length that a function's may have."""
    whole = f"{namespace}{_SEPARATOR}{name}" if namespace else name
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", whole)
    if safe == whole and len(safe) <= _NAME:
        return safe
    return f"{safe[: _NAME - 9]}_{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def call_of(toolbox: Toolbox, kind: Kind, call_id: str, item: dict[str, Any]) -> ToolCall:
    """A call item of the past as the call of a function that a model knows."""
    name, namespace = str(item.get("name") or kind), str(item.get("namespace") or "")
    arguments = "{}"
    match kind:
        case "function":
            arguments = str(item.get("arguments") or arguments)
        case "custom":
            arguments = _json({"input": item.get("input", "")})
        case "tool_search":
            arguments = _json(item.get("arguments") or {})
        case "local_shell" | "shell":
            action = item.get("action") or {}
            arguments = _json({key: value for key, value in action.items() if key not in ("type", "env")})
        case "apply_patch":
            arguments = _json(item.get("operation") or {})
    return ToolCall(call_id, toolbox.function(kind, name, namespace), arguments)


def item_of(origin: Origin, call_id: str, arguments: str) -> dict[str, Any]:
    """A model's call as the item that the client expects, without `id` and `status`.

    Arguments that are not what the tool takes are passed on as they are, where the item has a
    place for them: the client, who runs the tool, can tell the model.
    """
    named = {"call_id": call_id, "name": origin.name}
    if origin.namespace:
        named["namespace"] = origin.namespace
    match origin.kind:
        case "function":
            return {"type": "function_call", **named, "arguments": arguments}
        case "custom":
            return {"type": "custom_tool_call", **named, "input": _input(arguments)}
        case "tool_search":
            search = {"execution": "client", "arguments": _fields(arguments)}
            return {"type": "tool_search_call", "call_id": call_id, **search}
        case "local_shell":
            action = {"type": "exec", "command": [], "env": {}} | _fields(arguments)
            return {"type": "local_shell_call", "call_id": call_id, "action": action}
        case "shell":
            action = {"commands": [], "timeout_ms": None, "max_output_length": None} | _fields(arguments)
            return {
                "type": "shell_call",
                "call_id": call_id,
                "action": action,
                "environment": {"type": "local"},
            }
        case "apply_patch":
            operation = {"type": "update_file", "path": "", "diff": ""} | _fields(arguments)
            if operation["type"] == "delete_file":
                del operation["diff"]
            return {"type": "apply_patch_call", "call_id": call_id, "operation": operation}


def choice_of(choice: Any, toolbox: Toolbox) -> tuple[ToolChoice, tuple[Tool, ...]]:
    """`tool_choice` in terms of functions, and those it leaves. Raises GateError for one not offered."""
    tools = tuple(toolbox.tools)
    match choice:
        case None | "auto":
            return choose(ToolChoice(), tools)
        case "none" | "required":
            return choose(ToolChoice(choice), tools)
        case {"type": "allowed_tools", "mode": "auto" | "required" as mode, "tools": [*listed]}:
            allowed = {_chosen(each) for each in listed if not _is_left_out(each, toolbox)}
            return choose(ToolChoice(mode), tools, allowed)
        case _:
            return choose(ToolChoice("named", _chosen(choice)), tools)


def choose(
    choice: ToolChoice, tools: tuple[Tool, ...], allowed: Collection[str] | None = None
) -> tuple[ToolChoice, tuple[Tool, ...]]:
    """`choice` and those of `tools` that it leaves to the model; `allowed`: no others than these.

    Raises GateError where that names a tool that is not there, or demands one where none is.
    """
    named = (choice.name,) if choice.mode == "named" else allowed or ()
    for name in sorted({*named} - {tool.name for tool in tools}):
        raise invalid(f"`tool_choice` names '{name}', which is not in `tools`.", "tool_choice")
    if allowed is not None:
        tools = tuple(tool for tool in tools if tool.name in allowed)
    if choice.mode == "required" and not tools:
        raise invalid("`tool_choice` is `required`, but there are no `tools`.", "tool_choice")
    return choice, tools


def _chosen(choice: Any) -> str:
    """The function that stands for a tool that `tool_choice` names."""
    match choice:
        case {"type": "function" | "custom", "name": str(name)}:
            return flat_name(name, str(choice.get("namespace") or ""))
        case {"type": "local_shell" | "shell" | "apply_patch" | "tool_search" as function}:
            return str(function)
        case _:
            raise invalid("`tool_choice` asks for a tool that cannot be had here.", "tool_choice")


def _is_left_out(choice: Any, toolbox: Toolbox) -> bool:
    match choice:
        case {"type": str(kind)}:
            return kind in toolbox.left_out
        case _:
            return False


def _custom_parameters(format: Grammar | None) -> dict[str, Any]:
    about = "The whole input, as plain text."
    if format is not None and format.type == "grammar" and format.definition:
        about += f" It must follow this {format.syntax or ''} grammar:\n{format.definition}"
    return _object({"input": _TEXT | {"description": about}}, ["input"])


def _input(arguments: str) -> str:
    """The text of a custom tool, out of the function's arguments."""
    fields = _fields(arguments)
    text = fields.get("input", next(iter(fields.values()), None))
    return text if isinstance(text, str) else arguments


def _fields(arguments: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(arguments, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return {}


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
