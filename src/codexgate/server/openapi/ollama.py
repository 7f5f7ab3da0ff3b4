"""What Ollama's routes do and answer, as JSON Schemas: Ollama's objects as far as the gate fills them.

Source: Ollama, api/types.go and docs/api.md. A stream is made of lines (`application/x-ndjson`),
and its schema is that of one line.
"""

from typing import Any

from .answers import ANYTHING, NUMBER, RETRIEVED, TEXT, YES_OR_NO, Schema, const, many, ref, struct
from .operation import BYTES, JSON, MODEL_ERRORS, OF_A_CHAT, Operation, Parameter, asked, lines, ok

_NANOSECONDS: Schema = NUMBER | {"description": "Nanoseconds."}
_TOKEN: dict[str, Schema] = {
    "token": TEXT,
    "logprob": {"type": "number"},
    "bytes": {"type": ["array", "null"], "items": {"type": "integer"}},
}
_BESIDE: dict[str, Schema] = {
    "thinking": TEXT,
    "tool_calls": many(
        struct(
            "A call for the client to run.",
            {"id": TEXT, "function": struct("", {"index": NUMBER, "name": TEXT, "arguments": ANYTHING})},
        )
    ),
}
_ESTIMATED = YES_OR_NO | {"description": "Counted by the gate, as the backend gave none."}
_COUNTERS: dict[str, Schema] = {
    "done_reason": TEXT | {"description": "`stop`, `length`, `content_filter`; `load`, `unload`."},
    "total_duration": _NANOSECONDS,
    "load_duration": _NANOSECONDS,
    "prompt_eval_count": NUMBER | {"description": "Tokens of what was asked."},
    "prompt_eval_duration": _NANOSECONDS,
    "eval_count": NUMBER | {"description": "Tokens of the answer."},
    "eval_duration": _NANOSECONDS,
    "estimated": _ESTIMATED,
    "retrieval_context": RETRIEVED,
}


def _answer(
    description: str, said: dict[str, Schema], beside: dict[str, Schema] | None = None
) -> dict[str, Any]:
    head = {"model": TEXT, "created_at": TEXT, "done": YES_OR_NO}
    logprobs = many(struct("", {**_TOKEN, "top_logprobs": many(struct("", _TOKEN))}))
    return struct(description, head | said, {**(beside or {}), "logprobs": logprobs, **_COUNTERS})


_MODEL: dict[str, Schema] = {
    "name": TEXT,
    "model": TEXT,
    "size": NUMBER | {"description": "Bytes; 0 when unknown."},
    "digest": TEXT,
    "details": ref("OllamaDetails"),
    "capabilities": many(TEXT),
}

SCHEMAS: dict[str, Schema] = {
    "OllamaError": struct(
        "What Ollama's routes answer when something is wrong, and the last line of a stream that failed.",
        {"error": TEXT | {"description": "What happened, why, and what to do."}},
    ),
    "OllamaVersion": struct("Of the Ollama behind the gate, or what clients ask for.", {"version": TEXT}),
    "OllamaDetails": struct(
        "What a model is made of.",
        {
            "parent_model": TEXT,
            "format": TEXT,
            "family": TEXT,
            "families": many(TEXT),
            "parameter_size": TEXT,
            "quantization_level": TEXT,
        },
    ),
    "OllamaModels": struct(
        "Every model, and the aliases.", {"models": many(struct("", _MODEL | {"modified_at": TEXT}))}
    ),
    "OllamaLoaded": struct(
        "The models in memory.",
        {
            "models": many(
                struct("", _MODEL | {"expires_at": TEXT, "size_vram": NUMBER, "context_length": NUMBER})
            )
        },
    ),
    "OllamaShown": struct(
        "One model.",
        {
            "modelfile": TEXT,
            "parameters": TEXT,
            "template": TEXT,
            "details": ref("OllamaDetails"),
            "model_info": ANYTHING,
            "capabilities": many(TEXT),
            "modified_at": TEXT,
        },
    ),
    "OllamaChatAnswer": _answer(
        "An answer to a chat, or one line of it; the counts come with the last.",
        {"message": struct("", {"role": const("assistant"), "content": TEXT}, _BESIDE)},
    ),
    "OllamaGenerateAnswer": _answer(
        "An answer to a text, or one line of it; the counts come with the last.", {"response": TEXT}, _BESIDE
    ),
    "OllamaVectors": struct(
        "Vectors in the order of the texts.",
        {
            "model": TEXT,
            "embeddings": many(many({"type": "number"})),
            "total_duration": _NANOSECONDS,
            "load_duration": _NANOSECONDS,
            "prompt_eval_count": NUMBER,
        },
        {"estimated": _ESTIMATED},
    ),
    "OllamaVector": struct("The vector of one text.", {"embedding": many({"type": "number"})}),
    "OllamaProgress": struct(
        "How it goes; `success` at the end.",
        {"status": TEXT},
        {"digest": TEXT, "total": NUMBER, "completed": NUMBER},
    ),
}

_DIGEST = Parameter(
    "digest", "path", {"type": "string", "pattern": "^sha256[:-][0-9a-f]{64}$"}, "Of the file's content."
)
_BINARY: Schema = {"type": "string", "format": "binary"}
_OF_OLLAMA = (404, 502, 504)
"""Of routes that are passed on to the Ollama behind the gate: it refuses, or fails."""
_PASSED_ON = "Done by the Ollama behind the gate, and answered by it."

OPERATIONS: dict[str, Operation] = {
    "GET /api/version": Operation("Ollama", "The version that clients may count on", ok("OllamaVersion")),
    "GET /api/tags": Operation("Ollama", "Every model", ok("OllamaModels")),
    "GET /api/ps": Operation("Ollama", "The models in memory", ok("OllamaLoaded")),
    "POST /api/show": Operation(
        "Ollama",
        "One model",
        ok("OllamaShown"),
        body=asked("OllamaNamedRequest"),
        errors=(404,),
        example={"model": "demo"},
    ),
    "POST /api/chat": Operation(
        "Ollama",
        "Answer a chat",
        lines("OllamaChatAnswer"),
        "Streamed unless `stream` is `false`. Without messages the model is loaded, or let go of.",
        body=asked("OllamaChatRequest"),
        parameters=OF_A_CHAT,
        errors=(*MODEL_ERRORS, 409),
        example={"model": "demo", "messages": [{"role": "user", "content": "hello"}]},
    ),
    "POST /api/generate": Operation(
        "Ollama",
        "Answer a text, or go on with it",
        lines("OllamaGenerateAnswer"),
        "Streamed unless `stream` is `false`. Without a prompt the model is loaded, or let go of.",
        body=asked("OllamaGenerateRequest"),
        parameters=OF_A_CHAT,
        errors=(*MODEL_ERRORS, 409),
        example={"model": "demo", "prompt": "hello"},
    ),
    "POST /api/embed": Operation(
        "Ollama",
        "Vectors of texts",
        ok("OllamaVectors"),
        body=asked("OllamaEmbedRequest"),
        errors=MODEL_ERRORS,
        example={"model": "demo-embed", "input": ["hello", "world"]},
    ),
    "POST /api/embeddings": Operation(
        "Ollama",
        "The vector of one text",
        ok("OllamaVector"),
        "The older route.",
        body=asked("OllamaEmbeddingsRequest"),
        errors=MODEL_ERRORS,
        example={"model": "demo-embed", "prompt": "hello"},
    ),
    "POST /api/pull": Operation(
        "Ollama",
        "Install a model",
        lines("OllamaProgress"),
        "Of one that is here, success is told at once.",
        body=asked("OllamaNamedRequest"),
        errors=(*_OF_OLLAMA, 409),
        example={"model": "demo"},
    ),
    "POST /api/push": Operation(
        "Ollama",
        "Put a model into a registry",
        lines("OllamaProgress"),
        _PASSED_ON,
        body=asked("OllamaNamedRequest"),
        errors=_OF_OLLAMA,
        example={"model": "me/mine"},
    ),
    "POST /api/create": Operation(
        "Ollama",
        "Make a model",
        lines("OllamaProgress"),
        f"{_PASSED_ON} Ollama's documentation tells the further fields.",
        body=asked("OllamaNamedRequest"),
        errors=_OF_OLLAMA,
        example={"model": "mine", "from": "qwen3:8b"},
    ),
    "POST /api/copy": Operation(
        "Ollama",
        "Give a model another name",
        {200: {}},
        _PASSED_ON,
        body=asked("OllamaCopyRequest"),
        errors=_OF_OLLAMA,
        example={"source": "qwen3:8b", "destination": "mine"},
    ),
    "DELETE /api/delete": Operation(
        "Ollama",
        "Delete a model from disk",
        {200: {}},
        body=asked("OllamaNamedRequest"),
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
}
