"""What the scripted Ollama knows of chats: its models, the lines it writes, what it refuses, what it says.

Pure; facts/ollama-api.md sections 2, 5 and 7. The server is next door.
"""

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from codexgate.backends.demo.sample import sample

Body = dict[str, Any]

AT = "2026-08-21T10:00:00.123456789Z"


@dataclass(frozen=True)
class FakeModel:
    """A model that is installed."""

    name: str
    capabilities: tuple[str, ...] = ("completion", "tools")
    context: int = 8192
    digest: str = ""
    size: int = 5_000_000_000

    @property
    def details(self) -> Body:
        return {
            "parent_model": "",
            "format": "gguf",
            "family": "fake",
            "families": ["fake"],
            "parameter_size": "8B",
            "quantization_level": "Q4_K_M",
        }

    @property
    def tag(self) -> Body:
        digest = self.digest or f"{self.name.encode().hex():0<64}"[:64]
        told = {"name": self.name, "model": self.name, "modified_at": AT, "size": self.size}
        return {**told, "digest": digest, "details": self.details}


MODELS = (
    FakeModel("llama3.2:latest"),
    FakeModel("qwen3:8b", ("completion", "tools", "thinking"), 40960),
    FakeModel("gemma3:4b", ("completion", "vision"), 131072),
    FakeModel("nomic-embed-text:latest", ("embedding",), 2048),
)


def say(content: str = "", thinking: str = "", calls: Sequence[Body] = ()) -> Body:
    """A line in the middle of an answer."""
    message: Body = {"role": "assistant", "content": content}
    if thinking:
        message["thinking"] = thinking
    if calls:
        message["tool_calls"] = list(calls)
    return {"model": "scripted", "created_at": AT, "message": message, "done": False}


def call(name: str, arguments: Body, id: str = "call_a1b2c3d4", index: int = 0) -> Body:
    """A tool call as Ollama writes it; old servers give no id."""
    function = {"index": index, "name": name, "arguments": arguments}
    return {"id": id, "function": function} if id else {"function": function}


def done(reason: str = "stop", prompt: int = 11, completion: int = 7) -> Body:
    """The last line of an answer; counters that are zero are left out, as Go's `omitempty` does."""
    counters = {
        "total_duration": 5_043_500_667,
        "load_duration": 5_025_959,
        "prompt_eval_count": prompt,
        "prompt_eval_duration": 325_953_000,
        "eval_count": completion,
        "eval_duration": 4_709_213_000,
    }
    last = {**say(), "done_reason": reason, "done": True}
    return {**last, **{name: value for name, value in counters.items() if value}}


class Refused(Exception):
    """A request that Ollama refuses."""


def refuse(status: int, reason: str) -> NoReturn:
    """Answer with an error."""
    raise Refused(status, reason)


def check(body: Body, model: FakeModel) -> None:
    """Refuse what server/routes.go and api/types.go refuse of a chat."""
    for message in body.get("messages") or []:
        check_message(message)
    if not isinstance(body.get("keep_alive", 0), int | float | str):
        refuse(400, "json: cannot unmarshal into Go struct field ChatRequest.keep_alive")
    if isinstance(body.get("keep_alive"), str) and not re.fullmatch(
        r"-?(\d+(\.\d+)?(ms|s|m|h))+", body["keep_alive"]
    ):
        refuse(400, f'time: missing unit in duration "{body["keep_alive"]}"')
    if body.get("think") not in (None, True, False, "low", "medium", "high", "max"):
        refuse(400, f"invalid think value: {body['think']!r}")
    if "completion" not in model.capabilities:
        refuse(400, f'"{body["model"]}" does not support chat')
    if body.get("tools") and "tools" not in model.capabilities:
        refuse(400, f"registry.ollama.ai/library/{model.name} does not support tools")
    if body.get("think") and "thinking" not in model.capabilities:
        refuse(400, f'"{body["model"]}" does not support thinking')
    for name, kind in OPTIONS.items():
        value = (body.get("options") or {}).get(name)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            refuse(500, f'option "{name}" must be of type {kind}')
    if body.get("format") and not (body["format"] == "json" or isinstance(body["format"], dict)):
        refuse(500, f'invalid format: {json.dumps(body["format"])}; expected "json" or a JSON schema')
    window = min((body.get("options") or {}).get("num_ctx") or model.context, model.context)
    if tokens(body) > window and body.get("truncate") is False and body.get("shift") is False:
        refuse(400, "the input length exceeds the context length")


OPTIONS: dict[str, Any] = {
    **dict.fromkeys(("num_ctx", "num_predict", "seed", "top_k", "num_keep"), int | float),
    **dict.fromkeys(("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty"), int | float),
    "stop": list,
}


def check_message(message: Body) -> None:
    """Refuse what does not fit Go's types."""
    field = "json: cannot unmarshal {} into Go struct field ChatRequest.messages.{} of type {}"
    if not isinstance(message.get("content", ""), str):
        kind = type(message["content"]).__name__
        refuse(400, field.format({"list": "array", "dict": "object"}.get(kind, kind), "content", "string"))
    if message.get("role") not in ("system", "user", "assistant", "tool"):
        refuse(400, f"invalid role: {message.get('role')}")
    for made in message.get("tool_calls") or []:
        if not isinstance(made["function"].get("arguments"), dict):
            refuse(
                400, field.format("string", "tool_calls.function.arguments", "api.ToolCallFunctionArguments")
            )
    for image in message.get("images") or []:
        try:
            base64.b64decode(image, validate=True)
        except ValueError:
            refuse(400, "illegal base64 data at input byte 0")


def tokens(body: Body) -> int:
    """A guess at the length of the prompt: four characters a token."""
    return sum(len(message.get("content", "")) for message in body["messages"]) // 4 + 1


# What it answers by itself


def answer(body: Body, model: FakeModel) -> Iterator[Body]:
    """The lines of an answer that fits the request."""
    if "thinking" in model.capabilities and body.get("think") is not False:
        yield say(thinking="Let me ")
        yield say(thinking="think.")
    messages, tools = body["messages"], body.get("tools")
    if tools and messages[-1]["role"] != "tool":
        function = tools[0]["function"]
        yield say(calls=[call(function["name"], sample(function.get("parameters") or {}, "example"))])
        yield done(prompt=tokens(body))
        return
    if form := body.get("format"):
        text = json.dumps({"answer": "ok"} if form == "json" else sample(form, "example"))
    elif messages[-1]["role"] == "tool":
        text = f"The tool said: {messages[-1]['content']}"
    else:
        text = f"You said: {messages[-1]['content']}"
    pieces = re.findall(r"\s*\S+\s*?", text) or [text]
    limit = (body.get("options") or {}).get("num_predict", -1)
    shown = pieces if limit < 0 else pieces[:limit]
    for piece in shown:
        yield say(piece)
    yield done("length" if len(shown) < len(pieces) else "stop", tokens(body), len(shown))


# Vectors


WIDTH = 32
"""The length of a vector of every model that embeds."""


def embed(body: Body, model: FakeModel) -> Body:
    """The answer of `/api/embed`: unit vectors, cut and normalised anew for fewer `dimensions`."""
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    if not all(isinstance(text, str) for text in texts):
        refuse(400, "invalid input type")
    if "embedding" not in model.capabilities:
        refuse(400, "this model does not support embeddings")
    counts = [len(text) // 4 + 1 for text in texts]
    if max(counts, default=0) > model.context and body.get("truncate") is False:
        refuse(400, "the input length exceeds the context length")
    width = min(body.get("dimensions") or WIDTH, WIDTH)
    return {
        "model": body["model"],
        "embeddings": [_unit(hashlib.sha256(text.encode()).digest()[:width]) for text in texts],
        "total_duration": 14143917,
        "load_duration": 1019500,
        "prompt_eval_count": sum(counts),
    }


def _unit(numbers: bytes) -> list[float]:
    norm = math.sqrt(sum(number * number for number in numbers)) or 1.0
    return [number / norm for number in numbers]


def whole(lines: Sequence[Body]) -> Body:
    """The lines of a stream as the one object of `stream: false`."""
    message: Body = {"role": "assistant", "content": ""}
    for line in lines:
        for name, value in line.get("message", {}).items():
            if name != "role":
                message[name] = message[name] + value if name in message else value
    return {**lines[-1], "message": message}
