"""What the routes answer, as JSON Schemas: OpenAI's objects as far as the gate fills them, and ours.

Written by hand, because answers are made field by field; the tests hold the answers against
OpenAI's own description, and schemathesis holds them against this one. Further fields may always
be there.
"""

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NAME: Schema = TEXT | {"pattern": "^[!-~]{0,200}$"}
"""Of a chat, a session or a namespace, in a header or a body; empty is as good as absent."""
NUMBER: Schema = {"type": "integer", "minimum": 0}
YES_OR_NO: Schema = {"type": "boolean"}
ANYTHING: Schema = {"type": "object"}


def ref(name: str) -> Schema:
    """The schema that is called `name`."""
    return {"$ref": f"#/components/schemas/{name}"}


def const(value: str) -> Schema:
    """One text and no other."""
    return {"type": "string", "const": value}


def one_of(*values: str) -> Schema:
    """One of these texts."""
    return {"type": "string", "enum": list(values)}


def many(items: Schema) -> Schema:
    """An array."""
    return {"type": "array", "items": items}


def or_null(schema: Schema) -> Schema:
    """Or nothing."""
    return {"anyOf": [schema, {"type": "null"}]}


def struct(
    description: str, required: dict[str, Schema], optional: dict[str, Schema] | None = None
) -> Schema:
    """An object with fields that are always there, and some that may be."""
    properties = {**required, **(optional or {})}
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": list(required),
    }


def page(items: str, description: str) -> Schema:
    """One page of a list that can be walked through."""
    walk = {"first_id": or_null(TEXT), "last_id": or_null(TEXT), "has_more": YES_OR_NO}
    return struct(description, {"object": const("list"), "data": many(ref(items)), **walk})


def deleted(kind: str) -> Schema:
    """What is said of something that is gone."""
    return struct("It is gone.", {"id": TEXT, "object": const(kind), "deleted": {"const": True}})


_CALL = struct(
    "A call for the client to run.",
    {
        "id": TEXT,
        "type": const("function"),
        "function": struct(
            "", {"name": TEXT, "arguments": TEXT | {"description": "JSON, as the model wrote it."}}
        ),
    },
)
_FINISH = one_of("stop", "length", "tool_calls", "content_filter")
_LOGPROBS = or_null(ANYTHING)
_USAGE = struct(
    "Tokens, cached and reasoning ones included.",
    {"prompt_tokens": NUMBER, "completion_tokens": NUMBER, "total_tokens": NUMBER},
    {
        "prompt_tokens_details": struct("", {"cached_tokens": NUMBER}),
        "completion_tokens_details": struct("", {"reasoning_tokens": NUMBER}),
        "estimated": YES_OR_NO | {"description": "Counted by the gate, as the backend gave none."},
    },
)
RETRIEVED = ANYTHING | {"description": "The memories that were put before the question."}
_BESIDE = {
    "thread_id": TEXT | {"description": "The Codex thread that remembers the chat."},
    "turn_number": NUMBER,
    "retrieval_context": RETRIEVED,
}
_FILE_STATUS = one_of("uploaded", "processed", "error")

SCHEMAS: dict[str, Schema] = {
    "Error": struct(
        "What every route answers when something is wrong.",
        {
            "error": struct(
                "",
                {
                    "message": TEXT | {"description": "What happened, why, and what to do."},
                    "type": TEXT,
                    "param": or_null(TEXT) | {"description": "The request's field at fault."},
                    "code": or_null(TEXT)
                    | {"description": "A word for programs, such as `model_not_found`."},
                },
            )
        },
    ),
    "Health": struct("The process lives.", {"status": const("ok"), "version": TEXT}),
    "Ready": struct(
        "How each backend fares.",
        {
            "status": one_of("ready", "not ready"),
            "backends": {
                "type": "object",
                "additionalProperties": struct(
                    "", {"state": one_of("ready", "down", "absent"), "summary": TEXT}
                ),
            },
        },
    ),
    "Model": struct(
        "A model of one of the backends.",
        {
            "id": TEXT,
            "object": const("model"),
            "created": NUMBER | {"description": "Unix seconds; 0 when unknown."},
            "owned_by": TEXT,
        },
    ),
    "ModelList": struct("Every model.", {"object": const("list"), "data": many(ref("Model"))}),
    "ChatCompletion": struct(
        "An answer to a chat.",
        {
            "id": TEXT,
            "object": const("chat.completion"),
            "created": NUMBER,
            "model": TEXT,
            "choices": many(
                struct(
                    "",
                    {
                        "index": NUMBER,
                        "message": struct(
                            "",
                            {"role": const("assistant"), "content": or_null(TEXT), "refusal": or_null(TEXT)},
                            {
                                "reasoning_content": TEXT,
                                "reasoning": TEXT,
                                "tool_calls": many(_CALL),
                            },
                        ),
                        "logprobs": _LOGPROBS,
                        "finish_reason": _FINISH,
                    },
                )
            ),
            "usage": ref("Usage"),
        },
        _BESIDE,
    ),
    "ChatCompletionChunk": struct(
        "One event of a streamed answer to a chat.",
        {
            "id": TEXT,
            "object": const("chat.completion.chunk"),
            "created": NUMBER,
            "model": TEXT,
            "choices": many(
                struct(
                    "",
                    {
                        "index": NUMBER,
                        "delta": struct(
                            "",
                            {},
                            {
                                "role": const("assistant"),
                                "content": TEXT,
                                "reasoning_content": TEXT,
                                "reasoning": TEXT,
                                "tool_calls": many(ANYTHING),
                            },
                        ),
                        "finish_reason": or_null(_FINISH),
                    },
                    {"logprobs": _LOGPROBS},
                )
            ),
        },
        {"usage": or_null(ref("Usage")), **_BESIDE},
    ),
    "Usage": _USAGE,
    "Completion": struct(
        "Texts that go on where the prompts end; as an event, a piece of one.",
        {
            "id": TEXT,
            "object": const("text_completion"),
            "created": NUMBER,
            "model": TEXT,
            "choices": many(
                struct(
                    "",
                    {"index": NUMBER, "text": TEXT, "finish_reason": or_null(_FINISH)},
                    {"logprobs": _LOGPROBS},
                )
            ),
        },
        {"usage": or_null(ref("Usage")), **_BESIDE},
    ),
    "EmbeddingList": struct(
        "One vector for each text.",
        {
            "object": const("list"),
            "data": many(
                struct(
                    "",
                    {
                        "object": const("embedding"),
                        "index": NUMBER,
                        "embedding": {
                            "anyOf": [many({"type": "number"}), TEXT],
                            "description": "Numbers, or with `base64` little-endian float32.",
                        },
                    },
                )
            ),
            "model": TEXT,
            "usage": struct("", {"prompt_tokens": NUMBER, "total_tokens": NUMBER}),
        },
    ),
    "File": struct(
        "A file that was uploaded.",
        {
            "id": TEXT,
            "object": const("file"),
            "bytes": NUMBER,
            "created_at": NUMBER,
            "filename": TEXT,
            "purpose": TEXT,
            "status": _FILE_STATUS,
        },
        {"expires_at": or_null(NUMBER)},
    ),
    "FileList": page("File", "Files, the newest first unless `order` says otherwise."),
    "FileDeleted": deleted("file"),
    "Response": struct(
        "A response, with everything that was written into it.",
        {
            "id": TEXT,
            "object": const("response"),
            "created_at": NUMBER,
            "status": one_of("queued", "in_progress", "completed", "incomplete", "failed", "cancelled"),
            "model": TEXT,
            "output": many(ref("Item")),
            "error": or_null(struct("", {"code": TEXT, "message": TEXT})),
            "incomplete_details": or_null(struct("", {"reason": TEXT})),
            "instructions": or_null(TEXT),
            "metadata": or_null(ANYTHING),
            "parallel_tool_calls": YES_OR_NO,
            "previous_response_id": or_null(TEXT),
            "temperature": or_null({"type": "number"}),
            "top_p": or_null({"type": "number"}),
            "tools": many(ANYTHING),
            "usage": or_null(
                struct(
                    "Tokens, cached and reasoning ones included.",
                    {"input_tokens": NUMBER, "output_tokens": NUMBER, "total_tokens": NUMBER},
                )
            ),
        },
        {"conversation": or_null(struct("", {"id": TEXT})), **_BESIDE},
    ),
    "ResponseEvent": struct(
        "One event of a streamed response; `type` says what else it holds.",
        {"type": TEXT, "sequence_number": NUMBER},
    ),
    "ResponseDeleted": deleted("response"),
    "InputTokens": struct(
        "How long the input is.", {"object": const("response.input_tokens"), "input_tokens": NUMBER}
    ),
    "Item": struct(
        "Something that was said or done: a message, a call, what came of it, thinking.",
        {"type": TEXT},
        {"id": TEXT},
    ),
    "ItemList": page("Item", "Items, the newest first unless `order` says otherwise."),
    "Conversation": struct(
        "A conversation that responses can read and add to.",
        {"id": TEXT, "object": const("conversation"), "created_at": NUMBER, "metadata": ANYTHING},
    ),
    "ConversationDeleted": deleted("conversation.deleted"),
    "OzwellResponse": struct(
        "A response in the dialect of the OzwellAI reference server.",
        {
            "id": TEXT,
            "object": const("response"),
            "created": NUMBER,
            "model": TEXT,
            "output": TEXT,
            "usage": struct("", {"input_tokens": NUMBER, "output_tokens": NUMBER, "total_tokens": NUMBER}),
        },
    ),
    "OzwellEvent": struct("What an event named `start` or `content` holds.", {"id": TEXT}, {"content": TEXT}),
    "Approval": struct(
        "Something that Codex waits for somebody to allow.",
        {
            "id": TEXT,
            "object": const("approval"),
            "action": one_of("command", "file_change", "tool"),
            "detail": TEXT,
            "reason": TEXT,
            "cwd": TEXT,
            "model": TEXT,
            "created": NUMBER,
            "expires": NUMBER,
        },
    ),
    "ApprovalList": struct("What waits.", {"object": const("list"), "data": many(ref("Approval"))}),
    "Decided": struct(
        "What was decided.",
        {"id": TEXT, "object": const("approval"), "decision": one_of("accept", "decline")},
    ),
}
