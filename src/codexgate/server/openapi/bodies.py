"""What the routes are asked, as JSON Schemas: made from the very structs that read the bodies.

Types say most of it. What the parsers ask beyond types stands in `REFINED`, in the words of JSON
Schema; what those words cannot say is said in a description.
"""

from typing import Any

import msgspec

from ...fronts import (
    ollama_api_request,
    ollama_messages,
    openai_chat_request,
    openai_completions_request,
    openai_conversations,
    openai_embeddings,
    openai_items,
    openai_responses_request,
    openai_tools,
    ozwell_responses,
)
from ...fronts.openai_completions_request import MOST
from .. import approvals
from .answers import NAME, TEXT, Schema, many, one_of, ref

BODIES: dict[str, tuple[Any, ...]] = {
    "Chat": (openai_chat_request._Body,),
    "Completions": (openai_completions_request._Body,),
    "Responses": (openai_responses_request.Body,),
    "Conversation": (openai_conversations.Body,),
    "Input": (
        openai_items.MessageItem,
        openai_items.ReasoningItem,
        openai_items.FunctionCallItem,
        openai_items.OutputItem,
    ),
    "Embeddings": (openai_embeddings._Body,),
    "Ozwell": (ozwell_responses._Body,),
    "Approval": (approvals._Decision,),
    "Ollama": (
        ollama_api_request.ChatBody,
        ollama_api_request.GenerateBody,
        ollama_api_request.EmbedBody,
        ollama_api_request.EmbeddingsBody,
        ollama_api_request.NamedBody,
        ollama_api_request.CopyBody,
        ollama_api_request.Options,
    ),
}
"""The structs that read the bodies. Their schemas begin with these words: `ChatRequest`, `ChatMessage`."""

_DATA_URL = {"type": "string", "pattern": "^data:[^,]*;base64,"}
_SOME_TEXT = {"type": "string", "minLength": 1}
_NO = {"enum": [None, ""]}
_OFF = {"enum": [None, False]}


def _either(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


def _nothing(*values: Any) -> Schema:
    """A field that is refused unless it asks for nothing."""
    return {
        "enum": [None, *values],
        "description": "Not supported: only a value that asks for nothing is let in.",
    }


def _choice(named: str) -> Schema:
    return _either({"enum": ["auto", "none"]}, {"type": "null"}) | {
        "description": f"With `tools` also `required`, or `{named}` where NAME is one of them, or some of "
        "them as `allowed_tools`: something that JSON Schema has no words for."
    }


_TEXTS = many(_SOME_TEXT) | {"minItems": 1}
_IDS = many({"type": "integer", "minimum": 0, "maximum": 100_255}) | {"minItems": 1}
_PROMPT = _either(_SOME_TEXT, _TEXTS, _IDS, many(_IDS) | {"minItems": 1})
_DIMENSIONS = _either({"type": "integer", "minimum": 1, "maximum": 4096}, {"type": "null"}) | {
    "description": "As many as the model can give; no model here gives more than 4096."
}
_TYPED = {"type": "object", "properties": {"type": TEXT}, "required": ["type"]}
_NOT_LEFT_OUT = ["function", "custom", "namespace", *sorted(openai_tools._REFUSED)]
_NAMED = {"type": one_of("function", "custom"), "name": _SOME_TEXT}
_ITEM = {
    "description": "A message, a call, what came of it, or thinking. Items that OpenAI's servers make "
    "are let in, and passed over; `item_reference` names one that is kept.",
    **_either(
        ref("InputMessageItem"),
        {
            "allOf": [ref("InputFunctionCallItem")],
            "properties": {"type": {"const": "function_call"}, "call_id": _SOME_TEXT},
            "required": ["type"],
        },
        {
            "allOf": [ref("InputOutputItem")],
            "properties": {"type": {"enum": sorted(openai_items._OUTPUTS)}, "call_id": _SOME_TEXT},
            "required": ["type", "call_id"],
        },
        {
            "allOf": [ref("InputReasoningItem")],
            "properties": {"type": {"const": "reasoning"}},
            "required": ["type"],
        },
        {
            "type": "object",
            "properties": {"type": {"enum": sorted(openai_items._DONE_ELSEWHERE)}},
            "required": ["type"],
        },
    ),
}

_MESSAGE = {"enum": ["message", "", None]}
_SUMMARY = {
    "type": "object",
    "properties": {"type": {"const": "summary_text"}, "text": TEXT},
    "required": ["text"],
}
_TO_ANSWER = {
    "type": "object",
    **_either(
        {
            "properties": {"type": _MESSAGE, "role": {"enum": ["user", "system", "developer"]}},
            "required": ["role"],
        },
        {
            "properties": {
                "type": _MESSAGE,
                "role": {"const": "assistant"},
                "content": {"type": ["string", "array"], "minLength": 1, "minItems": 1},
            },
            "required": ["role", "content"],
        },
        {
            "properties": {"type": {"enum": sorted({"function_call", *openai_items._OUTPUTS})}},
            "required": ["type"],
        },
    ),
}
"""What an input has to have at least one of."""
_STORED: Schema = {
    "description": "A file that was uploaded. Or in the place of its id `file_data`, a `data:` URL of "
    "text, a PDF or a picture: what is none of them is refused, for which JSON Schema has no words.",
    "properties": {"file_id": _SOME_TEXT, "file_data": None, "file_url": None},
    "required": ["file_id"],
}

_64 = "[A-Za-z0-9+/]"
_PICTURE = {
    "type": "string",
    "description": "Base64 of a PNG, JPEG, GIF or WebP picture.",
    "pattern": f"^(iVBORw0KGg[opqr]{_64}|/9j/|R0lGOD[dl]h|UklGR[g-v]{_64}{{4}}[BFJNRVZdhlptx159]XRUJQ)"
    f"({_64}{{4}})*({_64}{{2}}==|{_64}{{3}}=)?$",
}
_PICTURES = _either(many(_PICTURE), {"type": "null"})
_OLLAMA = {
    "model": _SOME_TEXT,
    "options": _either(ref("OllamaOptions"), {"type": "null"}),
    "format": _either({"enum": [None, "", "json"]}, {"type": "object"}),
    "think": {"enum": [None, True, False, *ollama_api_request.EFFORTS]},
}

REFINED: dict[str, Schema | None] = {
    "ChatNamedTool": None,
    "ChatAllowedTools": None,
    "ChatChoice": None,
    "ChatFunctionName": None,
    "ChatRequest": {
        "properties": {
            "messages": {"minItems": 1},
            "tool_choice": _choice('{"type": "function", "function": {"name": NAME}}'),
            "session_id": {"pattern": NAME["pattern"]},
            **{name: _nothing(*values) for name, values in openai_chat_request._REFUSED.items()},
        },
        **_either({"properties": {"session_id": _NO}}, {"properties": {"n": {"enum": [None, 1]}}}),
    },
    "ChatMessage": _either(
        {"properties": {"role": {"enum": ["system", "developer", "user", "assistant", "function"]}}},
        {"properties": {"role": {"const": "tool"}, "tool_call_id": _SOME_TEXT}, "required": ["tool_call_id"]},
    ),
    "ChatImageUrl": {"properties": {"url": _DATA_URL}},
    "ChatFileData": _STORED,
    "ChatFormat": _either(
        {"properties": {"type": {"enum": ["text", "json_object"]}}},
        {
            "properties": {
                "type": {"const": "json_schema"},
                "json_schema": {
                    "type": "object",
                    "properties": {"schema": {"type": "object"}},
                    "required": ["schema"],
                },
            },
            "required": ["json_schema"],
        },
    ),
    "CompletionsRequest": {
        "properties": {
            "prompt": _PROMPT,
            "best_of": {"enum": [None, 1]},
            "logit_bias": _nothing({}),
            "echo": _either({"type": "boolean"}, {"type": "null"}) | {"description": "Not with `logprobs`."},
        },
        "required": ["prompt"],
        "allOf": [
            _either({"properties": {"echo": _OFF}}, {"properties": {"logprobs": {"enum": [None]}}}),
            _either(  # prompts times `n` are 128 at most
                {"properties": {"prompt": _either(_SOME_TEXT, _IDS)}},
                *(
                    {
                        "properties": {
                            "prompt": {"maxItems": count},
                            "n": _either({"maximum": MOST // count}, {"type": "null"}),
                        }
                    }
                    for count in (1, 2, 4, 8, 16, 32, 64, MOST)
                ),
            ),
        ],
    },
    "ResponsesRequest": {
        "properties": {
            "input": _either(_SOME_TEXT, many(_ITEM) | {"minItems": 1, "contains": _TO_ANSWER}),
            "tool_choice": _choice('{"type": "function", "name": NAME}'),
            "prompt": _nothing(),
        },
        "required": ["input"],
        "allOf": [
            _either({"properties": {"previous_response_id": _NO}}, {"properties": {"conversation": _NO}}),
            _either(
                {"properties": {"background": _OFF}},
                {"properties": {"store": {"enum": [None, True]}}},
            ),
        ],
    },
    "ResponsesToolSpec": {
        "properties": {"tools": _either(many(_TYPED), {"type": "null"})},
        **_either(
            {"properties": _NAMED, "required": ["name"]},
            {"properties": {"type": {"type": "string", "not": {"enum": _NOT_LEFT_OUT}}}},
            {
                "properties": {
                    "type": {"const": "namespace"},
                    "tools": _either(many(ref("ResponsesToolSpec")), {"type": "null"}),
                }
            },
        ),
    },
    "ResponsesTextFormat": _either(
        {"properties": {"type": {"enum": ["text", "json_object"]}}},
        {
            "properties": {"type": {"const": "json_schema"}, "schema": {"type": "object"}},
            "required": ["schema", "type"],
        },
    ),
    "ConversationRequest": {
        "properties": {
            "items": _either(many(_ITEM) | {"maxItems": openai_conversations.MOST}, {"type": "null"})
        }
    },
    "InputMessageItem": {"properties": {"type": _MESSAGE}},
    "InputReasoningItem": {"properties": {"summary": many(_SUMMARY)}},
    "InputInputImage": _either(
        {"properties": {"image_url": _DATA_URL}, "required": ["image_url"]},
        {"properties": {"file_id": _SOME_TEXT}, "required": ["file_id"]},
    ),
    "InputInputFile": _STORED,
    "EmbeddingsRequest": {
        "properties": {
            "input": _PROMPT,
            "model": _SOME_TEXT,
            "dimensions": _DIMENSIONS,
        },
        "required": ["input", "model"],
    },
    "OzwellRequest": {
        "properties": {
            "tools": _nothing([]),
            "previous_response_id": _nothing(""),
            "conversation": _nothing("", {}),
        }
    },
    "OllamaChatRequest": {"properties": _OLLAMA, "required": ["model"]},
    "OllamaMessageItem": {
        "properties": {"role": {"enum": [*ollama_messages.ROLES]}, "images": _PICTURES},
    },
    "OllamaGenerateRequest": {
        "properties": {
            **_OLLAMA,
            "images": _PICTURES,
            "template": _nothing(""),
            "context": _nothing([]),
        },
        "required": ["model"],
        "allOf": [
            _either({"properties": {"raw": _OFF}}, {"properties": {"system": _NO}}),
            _either(
                {"properties": {"raw": _OFF, "suffix": _NO}}, {"properties": {"images": {"enum": [None, []]}}}
            ),
        ],
    },
    "OllamaEmbedRequest": {
        "properties": {
            "model": _SOME_TEXT,
            "input": _either(
                TEXT, many(_SOME_TEXT) | {"maxItems": ollama_api_request.MOST}, {"type": "null"}
            ),
            "dimensions": _DIMENSIONS,
        },
        "required": ["model"],
    },
    "OllamaEmbeddingsRequest": {"properties": {"model": _SOME_TEXT}, "required": ["model"]},
    "OllamaNamedRequest": _either(
        {"properties": {"model": _SOME_TEXT}, "required": ["model"]},
        {"properties": {"model": _NO, "name": _SOME_TEXT}, "required": ["name"]},
    ),
    "OllamaCopyRequest": {
        "properties": {"source": _SOME_TEXT, "destination": _SOME_TEXT},
        "required": ["source", "destination"],
    },
}
"""By schema; merged into what the types say. What is `None` is left out."""


def schemas() -> dict[str, Schema]:
    """Every schema that a body is made of, by name."""
    found: dict[str, Schema] = {}
    for prefix, structs in BODIES.items():
        _, parts = msgspec.json.schema_components(structs, ref_template="{name}")
        for name, schema in parts.items():
            found[_name(name, prefix)] = _renamed(schema, prefix)
    for name, more in REFINED.items():
        schema = found.pop(name)
        if more is not None:
            found[name] = _merge(schema, more)
    return found


def _name(generated: str, prefix: str) -> str:
    word = generated.rpartition(".")[2].lstrip("_")
    if word.endswith(("Body", "Decision")):
        word = word.removesuffix("Body").removesuffix("Decision") + "Request"
    return prefix + word


def _renamed(schema: Any, prefix: str) -> Any:
    """`schema` with the names we use, and without what says nothing."""
    if isinstance(schema, list):
        return [_renamed(each, prefix) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return {"$ref": f"#/components/schemas/{_name(schema['$ref'], prefix)}"}
    said: Schema = {}
    for key, value in schema.items():
        if key == "properties":
            said[key] = {name: _renamed(each, prefix) for name, each in value.items()}
        elif key not in ("title", "discriminator") and (key, value) not in _IDLE:
            said[key] = _renamed(value, prefix)
    return said


_IDLE: tuple[tuple[str, Any], ...] = (("required", []), ("default", None))
"""What `msgspec` writes and nobody has to read."""


def _merge(schema: Schema, more: Schema) -> Schema:
    """`schema` with `more` put in; a choice takes the place of what was there."""
    merged = dict(schema)
    for key, value in more.items():
        if key == "properties":
            fields = merged[key] = dict(merged.get(key, {}))
            for name, each in value.items():
                if each is None:
                    fields.pop(name, None)
                else:
                    fields[name] = _field(fields.get(name, {}), each)
        elif key == "required":
            merged[key] = [*dict.fromkeys([*merged.get(key, []), *value])]
        else:
            merged[key] = value
    return merged


def _field(schema: Schema, more: Schema) -> Schema:
    return more if more.keys() & {"anyOf", "const", "enum", "type"} else _merge(schema, more)
