"""What Ollama's routes answer, as JSON Schemas: Ollama's objects as far as the gate fills them.

Source: Ollama, api/types.go and docs/api.md. A stream is made of lines (`application/x-ndjson`),
and its schema is that of one line.
"""

from typing import Any

from .answers import ANYTHING, NUMBER, TEXT, YES_OR_NO, Schema, const, many, ref, struct

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
