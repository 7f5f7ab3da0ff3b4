"""What we ask of the app-server: the parameters of every request, built from constants.

The closed list is the safety of the whole: sandbox, approvals, folder and configuration come
from `Authority`, which only the operator makes, and the sandbox of an alias, which the gate alone
puts into a request; of a caller's own nothing but texts, pictures, model, effort and answer schema
gets through. Pure. Source: as `wire`.
"""

import re
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from ...chat import ChatRequest, Document, Image, Message, Part, Sandbox, StoredFile, Text, Tool, ToolCall
from ...errors import Fault, invalid
from . import wire

History = Literal["items", "transcript"]
"""How a new thread is told what was said: as the messages they were, or as one text."""

MCP_SERVERS = "mcp_servers"
"""The table of a thread's configuration with its MCP servers, by name."""

_POLICIES: dict[Sandbox, dict[str, Any]] = {
    "read-only": {"type": "readOnly", "networkAccess": False},
    "workspace-write": {
        "type": "workspaceWrite",
        "writableRoots": [],
        "networkAccess": False,
        "excludeTmpdirEnvVar": True,
        "excludeSlashTmp": True,
    },
    "danger-full-access": {"type": "dangerFullAccess"},
}
"""A turn spells the sandbox otherwise than a thread does."""


class Authority(msgspec.Struct, frozen=True):
    """What Codex may do. Made from the operator's settings, never from a request."""

    cwd: str
    sandbox: Sandbox = "read-only"
    """Where the name that is asked for has none of its own."""
    asks: bool = False
    """Codex may ask a person to go beyond the sandbox; else it is told that nobody would allow it."""
    plain: bool = False
    """A caller's system text replaces Codex's own instructions instead of following them."""
    history: History = "items"
    config: dict[str, Any] = {}
    """Configuration of every thread."""


class Plan(msgspec.Struct, frozen=True):
    """The requests of one turn, in order; `history` and `turn` still need their thread's id."""

    thread: dict[str, Any]
    """Of thread/start, or of thread/resume."""
    history: list[dict[str, Any]]
    """Of thread/inject_items; empty when there is nothing to tell."""
    turn: dict[str, Any]
    """Of turn/start."""
    resume: str = ""
    """The thread to go on with; empty for a new one."""
    lasting: bool = False
    """The thread is to be found again."""


def mcp_server(url: str, key: str = "") -> dict[str, Any]:
    """The configuration of one MCP server whose tools are called without asking.

    Where nobody is asked, a tool that has to be approved fails; so the servers here are the operator's.
    """
    headers = {"http_headers": {"Authorization": f"Bearer {key}"}} if key else {}
    return {"url": url, "default_tools_approval_mode": "approve", **headers}


def initialize(version: str) -> dict[str, Any]:
    """Of initialize. Tools of a client and cleaning up terminals are experimental, so that is asked for."""
    return {
        "clientInfo": {"name": "codexgate", "title": "codexgate", "version": version},
        "capabilities": {"experimentalApi": True, "optOutNotificationMethods": list(wire.IGNORED)},
    }


def fresh(request: ChatRequest, authority: Authority, *, lasting: bool = False) -> Plan:
    """A new thread that is told the whole history, and a turn. Raises GateError for what Codex has not."""
    if request.tool_choice.mode in ("required", "named"):
        raise invalid(
            "Codex decides by itself which tools it calls.", "tool_choice", advice="Leave it `auto`."
        )
    thread = _thread(request, authority) | {"ephemeral": not lasting}
    if request.tools:
        thread["dynamicTools"] = [_tool(tool) for tool in request.tools]
    spoken = [message for message in request.messages if message.role not in ("system", "developer")]
    asked = spoken.pop() if spoken and spoken[-1].role == "user" else None
    if authority.history == "transcript":
        lines = [f"{message.role}: {_as_text(message)}" for message in spoken]
        turn = _turn(request, asked, authority, "\n".join(lines))
        return Plan(thread, [], turn, lasting=lasting)
    history = [item for message in spoken for item in _items(message)]
    return Plan(thread, history, _turn(request, asked, authority), lasting=lasting)


def resumed(request: ChatRequest, new: Sequence[Message], thread: str, authority: Authority) -> Plan:
    """A thread that holds the history, and a turn about what is new; `new` ends with a user's message.

    A resume drops the sandbox and the configuration, so they are sent again; it keeps the tools.
    """
    params = _thread(request, authority) | {"threadId": thread, "excludeTurns": True}
    history = [item for message in new[:-1] for item in _items(message)]
    return Plan(params, history, _turn(request, new[-1], authority), thread, lasting=True)


def task(request: ChatRequest, authority: Authority, model: str) -> Plan:
    """A client's own errand about a chat: no tools, nothing to run, nothing remembered."""
    request = msgspec.structs.replace(request, tools=(), model=model or request.model, sandbox="read-only")
    config = {key: value for key, value in authority.config.items() if key != MCP_SERVERS}
    harmless = msgspec.structs.replace(authority, asks=False, config=config)
    plan = fresh(request, harmless)
    nowhere: dict[str, Any] = {"environments": []}  # without an environment there is no shell
    return msgspec.structs.replace(plan, thread=plan.thread | nowhere, turn=plan.turn | nowhere)


def told_as_text(plan: Plan) -> Plan:
    """`plan` for a Codex that cannot be told a history as the messages they were."""
    lines = []
    for item in plan.history:
        content = item.get("content") or [{"text": item.get("output") or item.get("arguments", "")}]
        texts = " ".join(part.get("text", "[image]") for part in content)
        lines.append(f"{item.get('role', item['type'])}: {texts}")
    told = {"type": "text", "text": "\n".join(lines)}
    turn = plan.turn | {"input": [told, *plan.turn["input"]]}
    return msgspec.structs.replace(plan, history=[], turn=turn)


def is_unknown_method(fault: Fault) -> bool:
    """The installed Codex does not know what it was asked."""
    return "unknown variant" in fault.message


def thread(id: str) -> dict[str, Any]:
    """What every request about one thread begins with; all there is to most of them."""
    return {"threadId": id}


def interrupt(thread: str) -> dict[str, Any]:
    """Of turn/interrupt.

    An empty turn id means whatever runs. With the real one, an interrupt right after the answer
    to turn/start is refused ("no active turn to interrupt"), and the turn runs on.
    """
    return {"threadId": thread, "turnId": ""}


def answer(method: str) -> dict[str, Any] | None:
    """Our answer to what the child asks: always no; `None` where no answer is a refusal by itself.

    Total: every request gets something, since one left unanswered hangs its turn. Never grants
    anything, least of all for longer than one call.
    """
    match method:
        case wire.COMMAND_APPROVAL | wire.FILE_APPROVAL:
            return {"decision": "decline"}
        case wire.ELICITATION:
            return {"action": "decline", "content": None, "_meta": None}
        case wire.TOOL_CALL:
            return {
                "contentItems": [{"type": "inputText", "text": "There is no such tool."}],
                "success": False,
            }
        case wire.USER_INPUT:
            return {"answers": {}}
        case _:
            return None


def tool_result(text: str) -> dict[str, Any]:
    """Our answer to item/tool/call, once the client has run it."""
    return {"contentItems": [{"type": "inputText", "text": text}], "success": True}


def decision(method: str, accept: bool) -> dict[str, Any]:
    """Our answer to a request for approval: this once, never for longer."""
    if not accept:
        return answer(method) or {}
    if method == wire.ELICITATION:
        return {"action": "accept", "content": None, "_meta": None}
    return {"decision": "accept"}


def tool_name(name: str) -> str:
    """How Codex is told a client's tool: in the letters it allows, and never like one of its own.

    A name that Codex has itself is accepted without a word, and then Codex's own tool is called.
    """
    legal = re.sub(r"[^a-zA-Z0-9_-]", "_", name)
    taken = name in _OWN_TOOLS or name.startswith(("client_", "mcp__"))  # mcp__ is refused
    return f"client_{legal}" if legal != name or taken else name


_OWN_TOOLS = frozenset(
    "apply_patch close_agent create_goal exec_command get_goal list_mcp_resource_templates "
    "list_mcp_resources local_shell read_mcp_resource request_user_input resume_agent send_input "
    "shell shell_command spawn_agent tool_search update_goal update_plan view_image wait_agent "
    "web_search write_stdin".split()
)


def _tool(tool: Tool) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool_name(tool.name),
        "description": tool.description,
        "inputSchema": tool.parameters or {"type": "object", "properties": {}},
    }


def _thread(request: ChatRequest, authority: Authority) -> dict[str, Any]:
    system = _texts(request, "system")
    developer = _texts(request, "developer")
    params: dict[str, Any] = {
        "model": request.model,
        "cwd": authority.cwd,
        "sandbox": request.sandbox or authority.sandbox,
        "approvalPolicy": _policy(authority),
        "config": authority.config,
    }
    if authority.plain and system:
        params["baseInstructions"] = "\n\n".join(system)
        system = []
    if system or developer:
        params["developerInstructions"] = "\n\n".join(system + developer)
    return params


def _policy(authority: Authority) -> str:
    return "on-request" if authority.asks else "never"


def _turn(
    request: ChatRequest, asked: Message | None, authority: Authority, before: str = ""
) -> dict[str, Any]:
    told = [{"type": "text", "text": before}] if before else []
    params: dict[str, Any] = {
        "input": told + ([_input(part) for part in asked.parts] if asked else []),
        "model": request.model,
        "cwd": authority.cwd,
        "approvalPolicy": _policy(authority),
        "sandboxPolicy": _POLICIES[request.sandbox or authority.sandbox],
    }
    if request.effort:
        params["effort"] = request.effort
    if request.format.kind == "schema":
        params["outputSchema"] = request.format.schema
    elif request.format.kind == "json":
        params["outputSchema"] = {"type": "object"}
    return params


def _texts(request: ChatRequest, role: str) -> list[str]:
    return [message.text for message in request.messages if message.role == role and message.text]


def _input(part: Part) -> dict[str, Any]:
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case Image():
            return {"type": "image", "url": part.url}
        case Document() | StoredFile():
            return {"type": "text", "text": f"[file] {part.name}"}


def _items(message: Message) -> list[dict[str, Any]]:
    """A message of the past as raw Responses items (OpenAI API reference, "Responses")."""
    if message.role == "tool":
        return [{"type": "function_call_output", "call_id": message.tool_call_id, "output": message.text}]
    role = "developer" if message.role == "system" else message.role  # a system item is dropped
    items: list[dict[str, Any]] = []
    if message.parts:
        content = [_content(part, role) for part in message.parts]
        items.append({"type": "message", "role": role, "content": content})
    return items + [_call(call) for call in message.tool_calls]


def _as_text(message: Message) -> str:
    parts = [
        part.text if isinstance(part, Text) else "[image]"
        for part in message.parts
        if not isinstance(part, Document | StoredFile)
    ]
    calls = [f"[called {call.name} {call.arguments}]" for call in message.tool_calls]
    files = [f"[file] {part.name}" for part in message.parts if isinstance(part, Document | StoredFile)]
    return " ".join([*parts, *files, *calls])


def _content(part: Part, role: str) -> dict[str, Any]:
    match part:
        case Text():
            return {"type": "output_text" if role == "assistant" else "input_text", "text": part.text}
        case Image():
            return {"type": "input_image", "image_url": part.url}
        case Document() | StoredFile():
            return {"type": "input_text", "text": f"[file] {part.name}"}


def _call(call: ToolCall) -> dict[str, Any]:
    return {
        "type": "function_call",
        "call_id": call.id,
        "name": tool_name(call.name),
        "arguments": call.arguments,
    }
