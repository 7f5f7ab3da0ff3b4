"""What we use of the app-server's protocol, against the schema that a Codex writes of its own.

Pure. A test holds the table against `dialects.codex.wire` and against the Codex that is installed.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from ..dialects.codex import wire

Json = dict[str, Any]

BUNDLE = "codex_app_server_protocol.schemas.json"
"""The file, of those that `codex app-server generate-json-schema` writes, with all in it."""

DEFINITIONS: dict[type[msgspec.Struct], str] = {
    wire.Routed: "ItemStartedNotification CommandExecutionRequestApprovalParams TurnStartedNotification",
    wire.Delta: "AgentMessageDeltaNotification ReasoningTextDeltaNotification "
    "ReasoningSummaryTextDeltaNotification ReasoningSummaryPartAddedNotification "
    "CommandExecutionOutputDeltaNotification",
    wire.Change: "FileUpdateChange",
    wire.Item: "ThreadItem",
    wire.ItemParams: "ItemStartedNotification ItemCompletedNotification",
    wire.PlanStep: "TurnPlanStep",
    wire.PlanParams: "TurnPlanUpdatedNotification",
    wire.Tokens: "TokenUsageBreakdown",
    wire.TokenUsage: "ThreadTokenUsage",
    wire.TokenUsageParams: "ThreadTokenUsageUpdatedNotification",
    wire.TurnError: "TurnError",
    wire.ErrorParams: "ErrorNotification",
    wire.Turn: "Turn",
    wire.TurnParams: "TurnCompletedNotification TurnStartResponse",
    wire.MessageParams: "WarningNotification",
    wire.Rerouted: "ModelReroutedNotification",
    wire.Window: "RateLimitWindow",
    wire.RateLimits: "RateLimitSnapshot",
    wire.RateLimitsParams: "AccountRateLimitsUpdatedNotification",
    wire.ToolCallParams: "DynamicToolCallParams",
    wire.ApprovalParams: "CommandExecutionRequestApprovalParams FileChangeRequestApprovalParams",
    wire.ElicitationParams: "McpServerElicitationRequestParams",
    wire.Thread: "Thread",
    wire.ThreadStarted: "ThreadStartResponse ThreadResumeResponse",
    wire.Initialized: "InitializeResponse",
    wire.Account: "GetAccountResponse",
    wire.CodexModel: "Model",
    wire.ModelList: "ModelListResponse",
}
"""What each struct reads. A field that is optional to us may belong to one of them only."""

KINDS = ("ClientRequest", "ClientNotification", "ServerNotification", "ServerRequest")


def drift(schema: Json) -> list[str]:
    """The methods and fields of ours that `schema` does not have, as `turn/start` or `Turn.id`."""
    known = {name for kind in KINDS for name in methods(schema, kind)}
    ours = [value for name, value in vars(wire).items() if name.isupper() and isinstance(value, str)]
    lost = [name for name in ours if name not in known]
    for struct, names in DEFINITIONS.items():
        theirs = [fields(schema, name) for name in names.split()]
        for field in msgspec.structs.fields(struct):
            found = (field.encode_name in one for one in theirs)
            if not (all(found) if field.required else any(found)):
                lost.append(f"{struct.__name__}.{field.encode_name}")
    return lost


def methods(schema: Json, kind: str) -> set[str]:
    """The methods of one of `KINDS`."""
    listed = schema.get("definitions", {}).get(kind, {}).get("oneOf", [])
    return {name for one in listed for name in one.get("properties", {}).get("method", {}).get("enum", [])}


def definition(schema: Json, name: str) -> Json:
    """The definition `name`, of version 1 or 2; empty when there is none."""
    first = schema.get("definitions", {})
    found: Json = first.get(name) or first.get("v2", {}).get(name) or {}
    return found


def fields(schema: Json, name: str) -> set[str]:
    """The fields of the definition `name`, in any of its variants."""
    found = definition(schema, name)
    return {field for variant in variants(schema, found) for field in variant.get("properties", {})}


def variants(schema: Json, node: Any) -> Iterator[Json]:
    """The object schemas that `node` may be."""
    node = resolve(schema, node)
    yield node
    for key in ("oneOf", "anyOf", "allOf"):
        for each in node.get(key, ()):
            yield from variants(schema, each)


def resolve(schema: Json, node: Any) -> Json:
    """`node` without references."""
    while isinstance(node, dict) and "$ref" in node:
        found: Any = schema
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found.get(step, {})
        node = found
    return node if isinstance(node, dict) else {}
