"""What each route does, takes and answers, for those who call it.

The rest of a description (which paths there are, who may call, whether a body is read and what it
is made of) is read off the routes and the code behind them.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from ...fronts import openai_files
from ..context import MEMORY, SESSION
from ..guard import Policy
from .answers import NAME, TEXT, Schema, ref

JSON, EVENTS, LINES = "application/json", "text/event-stream", "application/x-ndjson"
BYTES = "application/octet-stream"


class Parameter(msgspec.Struct, frozen=True):
    """Something that a request says outside its body."""

    name: str
    place: str
    """`query`, `header`, or `path` where more is asked of it than to be there."""
    schema: Schema
    about: str = ""


class Operation(msgspec.Struct, frozen=True):
    """One route, for its callers."""

    tag: str
    summary: str
    answers: dict[int, dict[str, Schema]]
    """By status and media type; errors are apart."""
    about: str = ""
    body: dict[str, Schema] = {}
    """By media type; empty when there is none."""
    parameters: tuple[Parameter, ...] = ()
    errors: tuple[int, ...] = ()
    """Statuses of errors beside those that any route of its kind has."""
    example: dict[str, Any] | None = None
    """A body to try it with."""


def _ok(name: str) -> dict[int, dict[str, Schema]]:
    return {200: {JSON: ref(name)}}


def _streamed(name: str, events: Schema) -> dict[int, dict[str, Schema]]:
    return {200: {JSON: ref(name), EVENTS: events}}


def _lines(name: str) -> dict[int, dict[str, Schema]]:
    """An answer of Ollama's: whole, or one line after the other."""
    each = {"anyOf": [ref(name), ref("OllamaError")], "description": "Each line of the stream."}
    return {200: {JSON: ref(name), LINES: each}}


def _events(*schemas: str, end: str = "", names: Schema | None = None) -> Schema:
    """One event of a stream; its data is JSON of one of `schemas`, and of the last maybe `end`."""
    held = {"anyOf": [ref(name) for name in schemas]}
    data: Schema = TEXT | {"contentMediaType": JSON, "contentSchema": held}
    fields = {"data": {"anyOf": [{"const": end}, data]} if end else data}
    return {
        "type": "object",
        "description": "Each event of the stream.",
        "properties": fields | ({"event": names} if names else {}),
        "required": ["data", *(["event"] if names else [])],
    }


def _asked(name: str) -> dict[str, Schema]:
    return {JSON: ref(name)}


MODEL_ERRORS = (404, 429, 502, 503, 504)
"""Of routes that hold a model: it is not there, or what runs it fails."""

SESSION_OF_MCP = Parameter("Mcp-Session-Id", "header", NAME, "Of the session, for revisions that have them.")
_OF_MCP = (
    SESSION_OF_MCP,
    Parameter("MCP-Protocol-Version", "header", NAME, "The revision; without it 2025-03-26."),
)
OF_A_CHAT = (
    Parameter(
        "X-Codexgate-Activity",
        "header",
        {"enum": ["content", "reasoning", "off"]},
        "Where an agent's work is shown.",
    ),
    Parameter(MEMORY, "header", NAME, "The namespace whose memories are put before the question."),
)

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

_DIGEST = Parameter(
    "digest", "path", {"type": "string", "pattern": "^sha256[:-][0-9a-f]{64}$"}, "Of the file's content."
)
_BINARY: Schema = {"type": "string", "format": "binary"}
_OF_OLLAMA = (404, 502, 504)
"""Of routes that are passed on to the Ollama behind the gate: it refuses, or fails."""
_PASSED_ON = "Done by the Ollama behind the gate, and answered by it."

_OZWELL: Schema = {"enum": ["start", "content", "completion", "done", "error"]}

OPERATIONS: dict[str, Operation] = {
    "GET /health": Operation("Gate", "Whether the process lives", _ok("Health")),
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
    "GET /models": Operation("Models", "Every model", _ok("ModelList")),
    "GET /models/{id}": Operation(
        "Models",
        "One model",
        _ok("Model"),
        "Ids may hold `:` and `/`, percent-encoded or not.",
        errors=(404,),
    ),
    "POST /chat/completions": Operation(
        "Chat",
        "Answer a chat",
        _streamed("ChatCompletion", _events("ChatCompletionChunk", "Error", end="[DONE]")),
        f"`session_id`, or the header `{SESSION}`, names a conversation that the gate keeps; only what is "
        "new is sent then, and one answer asked for.",
        body=_asked("ChatRequest"),
        parameters=OF_A_CHAT,
        errors=(*MODEL_ERRORS, 409),
        example={"model": "demo", "messages": [{"role": "user", "content": "hello"}]},
    ),
    "POST /completions": Operation(
        "Chat",
        "Go on with a text",
        _streamed("Completion", _events("Completion", "Error", end="[DONE]")),
        body=_asked("CompletionsRequest"),
        errors=MODEL_ERRORS,
        example={"model": "demo", "prompt": "Once upon a time"},
    ),
    "POST /responses": Operation(
        "Responses",
        "Make a response",
        _streamed("Response", _events("ResponseEvent", names=TEXT)),
        body=_asked("ResponsesRequest"),
        parameters=OF_A_CHAT,
        errors=(*MODEL_ERRORS, 409),
        example={"model": "demo", "input": "hello"},
    ),
    "POST /responses/input_tokens": Operation(
        "Responses",
        "Count the tokens of a request",
        _ok("InputTokens"),
        body=_asked("ResponsesRequest"),
        errors=MODEL_ERRORS,
        example={"model": "demo", "input": "hello"},
    ),
    "GET /responses/{id}": Operation(
        "Responses",
        "A response that was kept",
        _streamed("Response", _events("ResponseEvent", names=TEXT)),
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
    "DELETE /responses/{id}": Operation("Responses", "Forget it", _ok("ResponseDeleted"), errors=(404,)),
    "POST /responses/{id}/cancel": Operation("Responses", "Stop it", _ok("Response"), errors=(404, 409)),
    "GET /responses/{id}/input_items": Operation(
        "Responses", "What it was asked", _ok("ItemList"), parameters=_WALK, errors=(404,)
    ),
    "POST /conversations": Operation(
        "Conversations",
        "Begin a conversation",
        _ok("Conversation"),
        body=_asked("ConversationRequest"),
        example={"items": [{"type": "message", "role": "user", "content": "hello"}]},
    ),
    "GET /conversations/{id}": Operation(
        "Conversations", "A conversation, without its items", _ok("Conversation"), errors=(404,)
    ),
    "POST /conversations/{id}": Operation(
        "Conversations",
        "Replace its metadata",
        _ok("Conversation"),
        body=_asked("ConversationRequest"),
        errors=(404,),
        example={"metadata": {"topic": "tea"}},
    ),
    "DELETE /conversations/{id}": Operation(
        "Conversations", "Forget it, with its items", _ok("ConversationDeleted"), errors=(404,)
    ),
    "GET /conversations/{id}/items": Operation(
        "Conversations", "Its items", _ok("ItemList"), parameters=_WALK, errors=(404,)
    ),
    "POST /conversations/{id}/items": Operation(
        "Conversations",
        "Put items at its end",
        _ok("ItemList"),
        body=_asked("ConversationRequest"),
        errors=(404,),
        example={"items": [{"type": "message", "role": "user", "content": "hello"}]},
    ),
    "GET /conversations/{id}/items/{item}": Operation(
        "Conversations", "One item", _ok("Item"), errors=(404,)
    ),
    "DELETE /conversations/{id}/items/{item}": Operation(
        "Conversations", "Take one item out", _ok("Conversation"), errors=(404,)
    ),
    "POST /embeddings": Operation(
        "Embeddings",
        "Vectors of texts",
        _ok("EmbeddingList"),
        body=_asked("EmbeddingsRequest"),
        errors=MODEL_ERRORS,
        example={"model": "demo-embed", "input": ["hello", "world"], "encoding_format": "float"},
    ),
    "POST /files": Operation(
        "Files",
        "Upload a file",
        _ok("File"),
        f"The field `purpose` says what it is for: {', '.join(openai_files.PURPOSES)}; if it is not there, "
        "`user_data`.",
        body={"multipart/form-data": _FORM},
    ),
    "GET /files": Operation("Files", "Every file of the caller", _ok("FileList"), parameters=_FILE_WALK),
    "GET /files/{id}": Operation("Files", "One file, without its content", _ok("File"), errors=(404,)),
    "DELETE /files/{id}": Operation("Files", "Delete it", _ok("FileDeleted"), errors=(404,)),
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
        _streamed(
            "OzwellResponse", _events("OzwellEvent", "OzwellResponse", "Error", end="[DONE]", names=_OZWELL)
        ),
        body=_asked("OzwellRequest"),
        errors=MODEL_ERRORS,
        example={"model": "demo", "input": "hello"},
    ),
    "GET /approvals": Operation("Approvals", "What Codex waits for somebody to allow", _ok("ApprovalList")),
    "POST /approvals/{id}": Operation(
        "Approvals",
        "Allow or decline it, this once",
        _ok("Decided"),
        body=_asked("ApprovalRequest"),
        errors=(404,),
        example={"decision": "accept"},
    ),
    "GET /api/version": Operation("Ollama", "The version that clients may count on", _ok("OllamaVersion")),
    "GET /api/tags": Operation("Ollama", "Every model", _ok("OllamaModels")),
    "GET /api/ps": Operation("Ollama", "The models in memory", _ok("OllamaLoaded")),
    "POST /api/show": Operation(
        "Ollama",
        "One model",
        _ok("OllamaShown"),
        body=_asked("OllamaNamedRequest"),
        errors=(404,),
        example={"model": "demo"},
    ),
    "POST /api/chat": Operation(
        "Ollama",
        "Answer a chat",
        _lines("OllamaChatAnswer"),
        "Streamed unless `stream` is `false`. Without messages the model is loaded, or let go of.",
        body=_asked("OllamaChatRequest"),
        parameters=OF_A_CHAT,
        errors=(*MODEL_ERRORS, 409),
        example={"model": "demo", "messages": [{"role": "user", "content": "hello"}]},
    ),
    "POST /api/generate": Operation(
        "Ollama",
        "Answer a text, or go on with it",
        _lines("OllamaGenerateAnswer"),
        "Streamed unless `stream` is `false`. Without a prompt the model is loaded, or let go of.",
        body=_asked("OllamaGenerateRequest"),
        parameters=OF_A_CHAT,
        errors=(*MODEL_ERRORS, 409),
        example={"model": "demo", "prompt": "hello"},
    ),
    "POST /api/embed": Operation(
        "Ollama",
        "Vectors of texts",
        _ok("OllamaVectors"),
        body=_asked("OllamaEmbedRequest"),
        errors=MODEL_ERRORS,
        example={"model": "demo-embed", "input": ["hello", "world"]},
    ),
    "POST /api/embeddings": Operation(
        "Ollama",
        "The vector of one text",
        _ok("OllamaVector"),
        "The older route.",
        body=_asked("OllamaEmbeddingsRequest"),
        errors=MODEL_ERRORS,
        example={"model": "demo-embed", "prompt": "hello"},
    ),
    "POST /api/pull": Operation(
        "Ollama",
        "Install a model",
        _lines("OllamaProgress"),
        "Of one that is here, success is told at once.",
        body=_asked("OllamaNamedRequest"),
        errors=(*_OF_OLLAMA, 409),
        example={"model": "demo"},
    ),
    "POST /api/push": Operation(
        "Ollama",
        "Put a model into a registry",
        _lines("OllamaProgress"),
        _PASSED_ON,
        body=_asked("OllamaNamedRequest"),
        errors=_OF_OLLAMA,
        example={"model": "me/mine"},
    ),
    "POST /api/create": Operation(
        "Ollama",
        "Make a model",
        _lines("OllamaProgress"),
        f"{_PASSED_ON} Ollama's documentation tells the further fields.",
        body=_asked("OllamaNamedRequest"),
        errors=_OF_OLLAMA,
        example={"model": "mine", "from": "qwen3:8b"},
    ),
    "POST /api/copy": Operation(
        "Ollama",
        "Give a model another name",
        {200: {}},
        _PASSED_ON,
        body=_asked("OllamaCopyRequest"),
        errors=_OF_OLLAMA,
        example={"source": "qwen3:8b", "destination": "mine"},
    ),
    "DELETE /api/delete": Operation(
        "Ollama",
        "Delete a model from disk",
        {200: {}},
        body=_asked("OllamaNamedRequest"),
        errors=_OF_OLLAMA,
        example={"model": "mine"},
    ),
    "HEAD /api/blobs/{digest}": Operation(
        "Ollama",
        "Whether a file is there",
        {200: {}},
        _PASSED_ON,
        parameters=(_DIGEST,),
        errors=_OF_OLLAMA,
    ),
    "POST /api/blobs/{digest}": Operation(
        "Ollama",
        "Send a file to make a model of",
        {201: {}},
        _PASSED_ON,
        body={BYTES: _BINARY, JSON: {}},
        parameters=(_DIGEST,),
        errors=(*_OF_OLLAMA, 415),
    ),
    "POST /mcp": Operation(
        "Memory",
        "One message to the memory's MCP server",
        {200: {JSON: ref("McpAnswer"), EVENTS: _events("McpAnswer")}, 202: {}},
        "The tools are `persist_memory` and `retrieve_memory`.",
        body=_asked("McpMessage"),
        parameters=_OF_MCP,
        errors=(404, 406),
        example={"jsonrpc": "2.0", "id": 1, "method": "tools/list"},
    ),
    "GET /mcp": Operation(
        "Memory",
        "The stream of an MCP session",
        {200: {EVENTS: _events("McpMessage")}},
        "Without end, and silent: this server has nothing to say unasked.",
        parameters=(SESSION_OF_MCP,),
        errors=(404, 405, 406),
    ),
    "DELETE /mcp": Operation(
        "Memory",
        "End an MCP session",
        {204: {}},
        parameters=(SESSION_OF_MCP,),
        errors=(404,),
    ),
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
