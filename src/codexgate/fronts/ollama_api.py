"""Ollama's API, outward: events to lines of JSON, a reply to one object, models as Ollama lists them.

Source: Ollama, api/types.go, server/routes.go and docs/api.md. Pure: the clock is handed in. An
answer is one text, so it is fed with flattened events (`flat.Flat`).
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, assert_never

import msgspec

from ..chat import ToolCall
from ..errors import Fault, GateError
from ..events import (
    Approval,
    Commentary,
    Done,
    Event,
    Failed,
    FileChange,
    Logprob,
    Notice,
    Plan,
    Reason,
    ReasoningDelta,
    Retrieved,
    TextDelta,
    ThreadStarted,
    ToolEvent,
    Usage,
    Window,
)
from ..fold import Reply
from ..records import Ability, Embeddings, Model, Progress
from .retrieval import retrieval_context

NDJSON = {"Content-Type": "application/x-ndjson"}
"""The header of a stream: one JSON object a line."""
LEAST_VERSION = (0, 13, 4)
"""What Codex asks for: from here on Ollama has `/v1/responses`, as the gate has."""
FOREVER = "9999-12-31T23:59:59Z"
"""Until when a model stays in memory of which nothing is known but that it is there."""

_CAPABILITIES: dict[Ability, str] = {
    "chat": "completion",
    "tools": "tools",
    "vision": "vision",
    "thinking": "thinking",
    "insert": "insert",
    "embedding": "embedding",
}
_REASONS: dict[Reason, str] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "stop",
    "content_filter": "content_filter",
    "cancelled": "stop",
}
_encode = msgspec.json.Encoder().encode


class Clock(msgspec.Struct, frozen=True):
    """What tells the time."""

    read: Callable[[], int]
    """Unix nanoseconds."""
    text: Callable[[int], str]
    """Unix nanoseconds as RFC 3339."""


class Watch:
    """Takes the times of one answer, as no backend tells them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.read()
        self._first = 0

    def see(self, event: Event) -> None:
        """Take note of when the answer began."""
        if not self._first and isinstance(event, TextDelta | ReasoningDelta | ToolEvent):
            self._first = self._clock.read()

    def stamp(self) -> str:
        """Now."""
        return self._clock.text(self._clock.read())

    def counters(self, usage: Usage | None) -> dict[str, Any]:
        """How long it took (nanoseconds), and how many tokens it was."""
        now = self._clock.read()
        first = self._first or now
        usage = usage or Usage()
        counted = {
            "total_duration": now - self._began,
            "load_duration": 0,
            "prompt_eval_count": usage.prompt,
            "prompt_eval_duration": first - self._began,
            "eval_count": usage.completion,
            "eval_duration": now - first,
        }
        return counted | ({"estimated": True} if usage.estimated else {})


class Encoder:
    """Writes one streamed answer; what it returns is whole lines."""

    def __init__(self, model: str, watch: Watch, *, chat: bool) -> None:
        """`model`: as the caller asked for it; `chat`: else it is an answer of `/api/generate`."""
        self._model = model
        self._watch = watch
        self._say = _message if chat else _response
        self._calls: dict[str, tuple[str, list[str]]] = {}
        self._written = 0
        """Calls."""
        self._usage: Usage | None = None
        self._retrieved: Retrieved | None = None
        self._ended = False

    def feed(self, event: Event) -> bytes:
        """The lines that `event` becomes; empty for what an answer does not show."""
        self._watch.see(event)
        if self._ended:
            return b""
        match event:
            case TextDelta():
                return self._line(self._say(event.text) | _logprobs(event.logprobs))
            case ReasoningDelta():
                return self._line(self._say("", event.text))
            case ToolEvent():
                return self._tool(event) if event.runs_on == "client" else b""
            case Usage():
                self._usage = event
                return b""
            case Retrieved():
                self._retrieved = event
                return b""
            case Done():
                last = {"done": True, "done_reason": _REASONS[event.reason]} | _cited(self._retrieved)
                return self._line(self._say("") | last | self._watch.counters(self._usage))
            case Failed():
                return self._fail(event.fault)
            case ThreadStarted() | Window() | Commentary() | FileChange() | Plan():
                return b""
            case Approval() | Notice():
                return b""
            case _:
                assert_never(event)

    def nothing(self) -> bytes:
        """A line that says nothing: what keeps a stream alive whose every line is JSON."""
        return self._line(self._say(""))

    def _tool(self, event: ToolEvent) -> bytes:
        """A call is one line, however many pieces it came in."""
        name, pieces = self._calls.setdefault(event.call_id, (event.name, []))
        pieces.append(event.text)
        if event.stage != "finished":
            return b""
        try:
            call = _call(ToolCall(event.call_id, name, "".join(pieces)), self._written)
        except GateError as error:
            return self._fail(error.fault)
        self._written += 1
        return self._line(self._say("", calls=[call]))

    def _fail(self, fault: Fault) -> bytes:
        self._ended = True
        return line(error(fault))

    def _line(self, said: dict[str, Any]) -> bytes:
        head = {"model": self._model, "created_at": self._watch.stamp()}
        return line(head | {"done": False} | said)


def render(reply: Reply, model: str, watch: Watch, *, chat: bool) -> dict[str, Any]:
    """The one object of an answer that is not streamed and did not fail.

    Raises GateError when the model called a tool with what is no JSON object.
    """
    say = _message if chat else _response
    calls = [_call(call, index) for index, call in enumerate(reply.tool_calls)]
    return {
        "model": model,
        "created_at": watch.stamp(),
        **say(reply.text, reply.reasoning, calls),
        **_logprobs(reply.logprobs),
        "done": True,
        "done_reason": _REASONS[reply.reason or "stop"],
        **_cited(reply.retrieved),
        **watch.counters(reply.usage),
    }


def render_loaded(model: str, watch: Watch, reason: str, *, chat: bool) -> dict[str, Any]:
    """The answer when nothing was asked: the model is in memory (`load`), or no more (`unload`)."""
    said = _message("") if chat else _response("")
    return {"model": model, "created_at": watch.stamp(), **said, "done": True, "done_reason": reason}


def render_embed(made: Embeddings, model: str, watch: Watch) -> bytes:
    """The answer of `/api/embed`, as JSON. Takes time where there is much.

    Vectors are written one by one: the JSON library lets no other thread run while it writes.
    """
    counters = watch.counters(Usage(prompt=made.tokens, estimated=made.estimated))
    told = ("total_duration", "load_duration", "prompt_eval_count", "estimated")
    return _encode(
        {
            "model": model,
            "embeddings": [msgspec.Raw(_encode(vector)) for vector in made.vectors],
            **{name: counters[name] for name in told if name in counters},
        }
    )


def render_embedding(made: Embeddings) -> dict[str, Any]:
    """The answer of `/api/embeddings`."""
    return {"embedding": made.vectors[0] if made.vectors else []}


def render_progress(news: Progress) -> dict[str, Any]:
    """One line of an installation; what is zero is left out."""
    told: dict[str, Any] = {"digest": news.part, "total": news.total, "completed": news.completed}
    return {"status": news.status} | {name: value for name, value in told.items() if value}


def render_tags(models: Mapping[str, Model], clock: Clock) -> dict[str, Any]:
    """Every model by the name to ask for it."""
    return {"models": [_entry(name, model) | _modified(model, clock) for name, model in models.items()]}


def render_ps(models: Mapping[str, Model]) -> dict[str, Any]:
    """The models in memory."""
    return {
        "models": [
            _entry(name, model)
            | {
                "expires_at": FOREVER,
                "size_vram": model.size,
                "context_length": int(model.details.get("loaded_context", model.context)),
            }
            for name, model in models.items()
            if model.loaded
        ]
    }


def render_show(name: str, model: Model, clock: Clock) -> dict[str, Any]:
    """Everything about one model; how its prompts are written is nobody's business here."""
    family = _family(model)
    info: dict[str, Any] = {"general.architecture": family, "general.basename": name}
    if model.context:
        info[f"{family}.context_length"] = model.context
    return {
        "modelfile": f"FROM {name}\n",
        "parameters": "",
        "template": "",
        "details": _details(model),
        "model_info": info,
        "capabilities": _capabilities(model),
        **_modified(model, clock),
    }


def render_version(real: str) -> dict[str, Any]:
    """The version of the Ollama behind the gate, if there is one, but none that Codex finds too old."""
    numbers = tuple(int(number) for number in real.partition("-")[0].split(".") if number.isdecimal())
    return {"version": real if numbers >= LEAST_VERSION else ".".join(map(str, LEAST_VERSION))}


def error(fault: Fault) -> dict[str, Any]:
    """The body of an error, and the last line of a stream that failed."""
    return {"error": fault.text}


def reworded(fault: Fault, model: str, verb: str) -> Fault:
    """`fault` in Ollama's own words, which clients look at. `verb`: what the model was to do."""
    match fault.code:
        case "model_not_found":
            return msgspec.structs.replace(fault, message=f"model '{model}' not found", advice="")
        case "no_chat":
            return Fault("invalid_request", f'"{model}" does not support {verb}')
        case "no_embedding":
            return Fault("invalid_request", "this model does not support embeddings")
        case _:
            return fault


def line(said: dict[str, Any]) -> bytes:
    """One line of a stream."""
    return _encode(said) + b"\n"


def _message(content: str, thinking: str = "", calls: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": content} | _beside(thinking, calls)}


def _response(content: str, thinking: str = "", calls: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"response": content} | _beside(thinking, calls)


def _beside(thinking: str, calls: list[dict[str, Any]] | None) -> dict[str, Any]:
    said: dict[str, Any] = {"thinking": thinking, "tool_calls": calls}
    return {name: value for name, value in said.items() if value}


def _cited(retrieved: Retrieved | None) -> dict[str, Any]:
    """Not Ollama's, whose clients pass it over."""
    return {"retrieval_context": retrieval_context(retrieved)} if retrieved else {}


def _call(call: ToolCall, index: int) -> dict[str, Any]:
    """Ollama's arguments are an object, not its text. Raises GateError when the model wrote none."""
    try:
        arguments = msgspec.json.decode(call.arguments or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        message = f"The model called `{call.name}` with arguments that are no JSON object."
        raise GateError(Fault("upstream", message, retryable=True)) from None
    return {"id": call.id, "function": {"index": index, "name": call.name, "arguments": arguments}}


def _logprobs(logprobs: tuple[Logprob, ...]) -> dict[str, Any]:
    if not logprobs:
        return {}
    return {
        "logprobs": [_token(each) | {"top_logprobs": [_token(top) for top in each.top]} for each in logprobs]
    }


def _token(each: Logprob) -> dict[str, Any]:
    return {"token": each.token, "logprob": each.logprob, "bytes": each.bytes}


def _entry(name: str, model: Model) -> dict[str, Any]:
    known = model.details.get("digest") or hashlib.sha256(f"{model.backend}/{model.id}".encode()).hexdigest()
    return {
        "name": name,
        "model": name,
        "size": model.size,
        "digest": known,
        "details": _details(model),
        "capabilities": _capabilities(model),
    }


def _modified(model: Model, clock: Clock) -> dict[str, Any]:
    return {"modified_at": clock.text(model.created * 1_000_000_000)}


def _details(model: Model) -> dict[str, Any]:
    family = _family(model)
    return {
        "parent_model": "",
        "format": model.details.get("format", ""),
        "family": family,
        "families": [family],
        "parameter_size": model.details.get("parameters", ""),
        "quantization_level": model.details.get("quantization", ""),
    }


def _family(model: Model) -> str:
    return model.details.get("family") or model.backend


def _capabilities(model: Model) -> list[str]:
    """Of a model of which nothing is known, that it completes."""
    return [_CAPABILITIES[each] for each in _CAPABILITIES if each in (model.abilities or {"chat"})]
