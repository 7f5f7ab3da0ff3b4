"""What goes in and out at `/mcp`, as JSON Schemas: JSON-RPC's envelope.

What is in it depends on the revision that a client speaks, and is described by the protocol itself.
"""

from .answers import ANYTHING, TEXT, Schema, const, ref, struct

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
