"""What we ask of the app-server: the parameters of every request, built from constants.

The closed list is the safety of the whole: sandbox, approvals, folder and configuration come
from `Authority`, which only the operator makes; of a caller's request nothing but texts,
pictures, model, effort and answer schema gets through. Pure.
"""

from typing import Any, Literal

import msgspec

from ...chat import ChatRequest, Document, Image, Message, Part, Text, ToolCall
from ...errors import invalid
from . import wire

Sandbox = Literal["read-only", "workspace-write", "danger-full-access"]

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
    plain: bool = False
    """A caller's system text replaces Codex's own instructions instead of following them."""
    config: dict[str, Any] = {}
    """Configuration of every thread."""


class Plan(msgspec.Struct, frozen=True):
    """The requests of one turn, in order; `turn` still needs its thread's id."""

    thread: dict[str, Any]
    """Of thread/start."""
    history: list[dict[str, Any]]
    """Of thread/inject_items; empty when there is nothing to tell."""
    turn: dict[str, Any]
    """Of turn/start."""


def initialize(version: str) -> dict[str, Any]:
    """Of initialize. Cleaning up terminals is an experimental method, so that is asked for."""
    return {
        "clientInfo": {"name": "codexgate", "title": "codexgate", "version": version},
        "capabilities": {"experimentalApi": True, "optOutNotificationMethods": list(wire.IGNORED)},
    }


def plan(request: ChatRequest, authority: Authority) -> Plan:
    """Map a chat onto a fresh thread and one turn. Raises GateError for what Codex has not."""
    if request.tools:
        raise invalid("Codex models run tools of their own; `tools` are not supported on them yet.", "tools")
    spoken = [message for message in request.messages if message.role not in ("system", "developer")]
    asked = spoken.pop() if spoken and spoken[-1].role == "user" else None
    return Plan(
        thread=_thread(request, authority),
        history=[item for message in spoken for item in _items(message)],
        turn=_turn(request, asked, authority),
    )


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
        case wire.LEGACY_COMMAND_APPROVAL | wire.LEGACY_PATCH_APPROVAL:
            return {"decision": "denied"}
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


def _thread(request: ChatRequest, authority: Authority) -> dict[str, Any]:
    system = _texts(request, "system")
    developer = _texts(request, "developer")
    params: dict[str, Any] = {
        "model": request.model,
        "cwd": authority.cwd,
        "sandbox": authority.sandbox,
        "approvalPolicy": "never",
        "ephemeral": True,
        "config": authority.config,
    }
    if authority.plain and system:
        params["baseInstructions"] = "\n\n".join(system)
        system = []
    if system or developer:
        params["developerInstructions"] = "\n\n".join(system + developer)
    return params


def _turn(request: ChatRequest, asked: Message | None, authority: Authority) -> dict[str, Any]:
    params: dict[str, Any] = {
        "input": [_input(part) for part in asked.parts] if asked else [],
        "model": request.model,
        "cwd": authority.cwd,
        "approvalPolicy": "never",
        "sandboxPolicy": _POLICIES[authority.sandbox],
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
        case Document():
            return {"type": "text", "text": f"[file] {part.name}"}


def _items(message: Message) -> list[dict[str, Any]]:
    """A message of the past as raw Responses items (OpenAI API reference, "Responses")."""
    if message.role == "tool":
        return [{"type": "function_call_output", "call_id": message.tool_call_id, "output": message.text}]
    items: list[dict[str, Any]] = []
    if message.parts:
        content = [_content(part, message.role) for part in message.parts]
        items.append({"type": "message", "role": message.role, "content": content})
    return items + [_call(call) for call in message.tool_calls]


def _content(part: Part, role: str) -> dict[str, Any]:
    match part:
        case Text():
            return {"type": "output_text" if role == "assistant" else "input_text", "text": part.text}
        case Image():
            return {"type": "input_image", "image_url": part.url}
        case Document():
            return {"type": "input_text", "text": f"[file] {part.name}"}


def _call(call: ToolCall) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}
