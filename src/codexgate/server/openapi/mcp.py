"""What `/mcp` does, and what goes in and out there, as JSON Schemas: JSON-RPC's envelope.

What is in it depends on the revision that a client speaks, and is described by the protocol itself.
"""

from .answers import ANYTHING, NAME, TEXT, Schema, const, ref, struct
from .operation import EVENTS, JSON, Operation, Parameter, asked, events

_VERSION = const("2.0")
_ID: Schema = {"type": ["string", "integer"], "description": "Of the request; a notification has none."}

SCHEMAS: dict[str, Schema] = {
    "McpMessage": struct(
        "A request or a notification of the Model Context Protocol.",
        {"jsonrpc": _VERSION, "method": TEXT},
        {"id": _ID, "params": {"description": "As the method has them."}},
    ),
    "McpAnswer": {"anyOf": [ref("McpResult"), ref("McpError")]},
    "McpResult": struct("What a request came to.", {"jsonrpc": _VERSION, "id": _ID, "result": ANYTHING}),
    "McpError": struct(
        "A request that failed, or was refused before it was read.",
        {
            "jsonrpc": _VERSION,
            "id": {"type": ["string", "integer", "null"]},
            "error": struct(
                "", {"code": {"type": "integer"}, "message": TEXT}, {"data": {"description": "Details."}}
            ),
        },
    ),
}

_SESSION = Parameter("Mcp-Session-Id", "header", NAME, "Of the session, for revisions that have them.")
_HEADERS = (
    _SESSION,
    Parameter("MCP-Protocol-Version", "header", NAME, "The revision; without it 2025-03-26."),
)

OPERATIONS: dict[str, Operation] = {
    "POST /mcp": Operation(
        "Memory",
        "One message to the memory's MCP server",
        {200: {JSON: ref("McpAnswer"), EVENTS: events("McpAnswer")}, 202: {}},
        "The tools are `persist_memory` and `retrieve_memory`.",
        body=asked("McpMessage"),
        parameters=_HEADERS,
        errors=(404, 406),
        example={"jsonrpc": "2.0", "id": 1, "method": "tools/list"},
    ),
    "GET /mcp": Operation(
        "Memory",
        "The stream of an MCP session",
        {200: {EVENTS: events("McpMessage")}},
        "Without end, and silent: this server has nothing to say unasked.",
        parameters=(_SESSION,),
        errors=(404, 405, 406),
    ),
    "DELETE /mcp": Operation(
        "Memory",
        "End an MCP session",
        {204: {}},
        parameters=(_SESSION,),
        errors=(404,),
    ),
}
