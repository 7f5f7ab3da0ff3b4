"""What each route does, takes and answers, for those who call it.

The rest of a description (which paths there are, who may call, whether a body is read and what it
is made of) is read off the routes and the code behind them.
"""

from collections.abc import Mapping

from ...fronts import openai_files
from ..context import SESSION
from ..guard import Policy
from . import mcp, ollama
from .answers import TEXT, Schema, ref
from .operation import BYTES, JSON, MODEL_ERRORS, OF_A_CHAT, Operation, Parameter, asked, events, ok, streamed

_WALK = (
    Parameter(
        "limit", "query", {"type": "integer", "minimum": 1, "maximum": 100}, "How many; 20 if not said."
    ),
    Parameter("order", "query", {"enum": ["asc", "desc"]}, "The oldest first, or (if not said) the newest."),
    Parameter("after", "query", TEXT, "The id that the page begins after."),
)
_FILE_WALK = (
    Parameter(
        "limit", "query", {"type": "integer", "minimum": 1, "maximum": openai_files.LIMIT}, "How many."
    ),
    Parameter("order", "query", {"enum": ["asc", "desc"]}, "The oldest first, or (if not said) the newest."),
    Parameter("after", "query", {"type": "string", "pattern": "^(file-[0-9a-f]{24})?$"}, "A file's id."),
    Parameter("purpose", "query", TEXT, "Only files that are for this."),
)
_FORM: Schema = {
    "type": "object",
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "The file, with its name."},
        "expires_after[anchor]": {"const": "created_at"},
        "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 2_592_000},
    },
    "required": ["file"],
    "propertyNames": {"pattern": r"^[^\x00-\x1f\x7f]*$"},
    "maxProperties": 32,
    "dependentRequired": {
        "expires_after[anchor]": ["expires_after[seconds]"],
        "expires_after[seconds]": ["expires_after[anchor]"],
    },
}

_OZWELL: Schema = {"enum": ["start", "content", "completion", "done", "error"]}

OPERATIONS: dict[str, Operation] = {
    "GET /health": Operation("Gate", "Whether the process lives", ok("Health")),
    "GET /ready": Operation(
        "Gate",
        "Whether any backend can answer",
        {200: {JSON: ref("Ready")}, 503: {JSON: {"anyOf": [ref("Ready"), ref("Error")]}}},
    ),
    "GET /": Operation(
        "Gate",
        "What is here and how to connect",
        {200: {"text/html": TEXT}},
        "With an API key set it says no more than the name, unless the key is sent.",
    ),
    "GET /docs": Operation("Gate", "This description, for people", {200: {"text/html": TEXT}}),
    "GET /openapi.json": Operation("Gate", "This description", {200: {JSON: {"type": "object"}}}),
    "GET /metrics": Operation("Gate", "Counts and times, for Prometheus", {200: {"text/plain": TEXT}}),
    "GET /models": Operation("Models", "Every model", ok("ModelList")),
    "GET /models/{id}": Operation(
        "Models",
        "One model",
        ok("Model"),
        "Ids may hold `:` and `/`, percent-encoded or not.",
        errors=(404,),
    ),
    "POST /chat/completions": Operation(
        "Chat",
        "Answer a chat",
        streamed("ChatCompletion", events("ChatCompletionChunk", "Error", end="[DONE]")),
        f"`session_id`, or the header `{SESSION}`, names a conversation that the gate keeps; only what is "
        "new is sent then, and one answer asked for.",
        body=asked("ChatRequest"),
        parameters=OF_A_CHAT,
        errors=(*MODEL_ERRORS, 409),
        example={"model": "demo", "messages": [{"role": "user", "content": "hello"}]},
    ),
    "POST /completions": Operation(
        "Chat",
        "Go on with a text",
        streamed("Completion", events("Completion", "Error", end="[DONE]")),
        body=asked("CompletionsRequest"),
        errors=MODEL_ERRORS,
        example={"model": "demo", "prompt": "Once upon a time"},
    ),
    "POST /responses": Operation(
        "Responses",
        "Make a response",
        streamed("Response", events("ResponseEvent", names=TEXT)),
        body=asked("ResponsesRequest"),
        parameters=OF_A_CHAT,
        errors=(*MODEL_ERRORS, 409),
        example={"model": "demo", "input": "hello"},
    ),
    "POST /responses/input_tokens": Operation(
        "Responses",
        "Count the tokens of a request",
        ok("InputTokens"),
        body=asked("ResponsesRequest"),
        errors=MODEL_ERRORS,
        example={"model": "demo", "input": "hello"},
    ),
    "GET /responses/{id}": Operation(
        "Responses",
        "A response that was kept",
        streamed("Response", events("ResponseEvent", names=TEXT)),
        parameters=(
            Parameter("stream", "query", TEXT, "`true` follows one that is being made in the background."),
            Parameter(
                "starting_after",
                "query",
                {"type": "integer", "minimum": -1, "maximum": 999_999_999},
                "The `sequence_number` to go on after.",
            ),
        ),
        errors=(404, 409),
    ),
    "DELETE /responses/{id}": Operation("Responses", "Forget it", ok("ResponseDeleted"), errors=(404,)),
    "POST /responses/{id}/cancel": Operation("Responses", "Stop it", ok("Response"), errors=(404, 409)),
    "GET /responses/{id}/input_items": Operation(
        "Responses", "What it was asked", ok("ItemList"), parameters=_WALK, errors=(404,)
    ),
    "POST /conversations": Operation(
        "Conversations",
        "Begin a conversation",
        ok("Conversation"),
        body=asked("ConversationRequest"),
        example={"items": [{"type": "message", "role": "user", "content": "hello"}]},
    ),
    "GET /conversations/{id}": Operation(
        "Conversations", "A conversation, without its items", ok("Conversation"), errors=(404,)
    ),
    "POST /conversations/{id}": Operation(
        "Conversations",
        "Replace its metadata",
        ok("Conversation"),
        body=asked("ConversationRequest"),
        errors=(404,),
        example={"metadata": {"topic": "tea"}},
    ),
    "DELETE /conversations/{id}": Operation(
        "Conversations", "Forget it, with its items", ok("ConversationDeleted"), errors=(404,)
    ),
    "GET /conversations/{id}/items": Operation(
        "Conversations", "Its items", ok("ItemList"), parameters=_WALK, errors=(404,)
    ),
    "POST /conversations/{id}/items": Operation(
        "Conversations",
        "Put items at its end",
        ok("ItemList"),
        body=asked("ConversationRequest"),
        errors=(404,),
        example={"items": [{"type": "message", "role": "user", "content": "hello"}]},
    ),
    "GET /conversations/{id}/items/{item}": Operation("Conversations", "One item", ok("Item"), errors=(404,)),
    "DELETE /conversations/{id}/items/{item}": Operation(
        "Conversations", "Take one item out", ok("Conversation"), errors=(404,)
    ),
    "POST /embeddings": Operation(
        "Embeddings",
        "Vectors of texts",
        ok("EmbeddingList"),
        body=asked("EmbeddingsRequest"),
        errors=MODEL_ERRORS,
        example={"model": "demo-embed", "input": ["hello", "world"], "encoding_format": "float"},
    ),
    "POST /files": Operation(
        "Files",
        "Upload a file",
        ok("File"),
        f"The field `purpose` says what it is for: {', '.join(openai_files.PURPOSES)}; if it is not there, "
        "`user_data`.",
        body={"multipart/form-data": _FORM},
    ),
    "GET /files": Operation("Files", "Every file of the caller", ok("FileList"), parameters=_FILE_WALK),
    "GET /files/{id}": Operation("Files", "One file, without its content", ok("File"), errors=(404,)),
    "DELETE /files/{id}": Operation("Files", "Delete it", ok("FileDeleted"), errors=(404,)),
    "GET /files/{id}/content": Operation(
        "Files",
        "Its content",
        {200: {BYTES: {}}},
        "To be saved, not shown.",
        errors=(404,),
    ),
    "POST /ozwell/v1/responses": Operation(
        "Responses",
        "Answer a text, as the OzwellAI reference server does",
        streamed(
            "OzwellResponse", events("OzwellEvent", "OzwellResponse", "Error", end="[DONE]", names=_OZWELL)
        ),
        body=asked("OzwellRequest"),
        errors=MODEL_ERRORS,
        example={"model": "demo", "input": "hello"},
    ),
    "GET /approvals": Operation("Approvals", "What Codex waits for somebody to allow", ok("ApprovalList")),
    "POST /approvals/{id}": Operation(
        "Approvals",
        "Allow or decline it, this once",
        ok("Decided"),
        body=asked("ApprovalRequest"),
        errors=(404,),
        example={"decision": "accept"},
    ),
    **ollama.OPERATIONS,
    **mcp.OPERATIONS,
}
"""By method and path, the latter without its base where several have it."""

BASE = "/v1"
BEFORE = ("/openai", "/ozwell")
"""What stands before the base where the same API is there once more."""


def operation(method: str, path: str) -> Operation | None:
    """What is said of a route, if anything is."""
    return OPERATIONS.get(f"{method} {path}") or OPERATIONS.get(f"{method} {path.removeprefix(BASE)}")


def original(method: str, path: str, policies: Mapping[tuple[str, str], Policy]) -> str:
    """The path of which `path` is the same once more, or itself; empty for one that is not there."""
    policy = policies.get((method, path))
    before = next((before for before in BEFORE if path.startswith(before + BASE)), "")
    first = path.removeprefix(before)
    same = f"{method} {path}" not in OPERATIONS and policies.get((method, first)) == policy
    return "" if policy is None else first if same else path
