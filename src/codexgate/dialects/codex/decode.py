"""What the app-server says about one turn, as events. Pure. Source: its schema, as `wire`.

Rules that real transcripts forced: an agent message's completion repeats its deltas; identical
deltas are legitimate; a turn's usage is the difference of the thread's totals; when Codex
retries, the abandoned message begins anew, and text that was sent is not sent twice.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from ...errors import Fault
from ...events import (
    Approval,
    Commentary,
    Done,
    Event,
    Failed,
    FileChange,
    Notice,
    Plan,
    ReasoningDelta,
    Step,
    StepState,
    TextDelta,
    ToolEvent,
    Usage,
)
from . import wire
from .faults import fault

_STEPS: dict[str, StepState] = {"pending": "pending", "inProgress": "active", "completed": "done"}


class Decoder:
    """Decodes the notifications of one turn."""

    def __init__(self, tools: Mapping[str, str] | None = None, signing_in: str = "") -> None:
        """`tools`: the client's tools, by the names that Codex was told.

        `signing_in`: what to do when the provider lets nobody in.
        """
        self._names = dict(tools or {})
        self._signing_in = signing_in or "Run `codex login`."
        self._changes: dict[str, str] = {}
        """Paths of each file change that has begun: an approval names only its item."""
        self.unknown: Counter[str] = Counter()
        """Notifications that nobody here knows, by method."""
        self.undecodable: Counter[str] = Counter()
        """Notifications whose parameters could not be read, by method; they are passed over."""
        self._messages: dict[str, _Message] = {}
        self._unsettled = ""
        """Text sent since the last answer from upstream was complete: what a retry repeats."""
        self._replay = ""
        """The part of that text which a retry has still to repeat."""
        self._item = ""
        """The message that was written to last."""
        self._tools: set[str] = set()
        self._finished: set[str] = set()
        self._shown: dict[str, str] = {}
        """Output that was streamed of each running command."""
        self._limits_told = False
        self._reasoned: dict[str, str] = {}
        """Of each item that has thought: what was told last, its summary or the raw text."""
        self._usage: tuple[wire.Tokens, wire.Tokens] | None = None
        """The thread's totals before this turn, and now."""
        self._error: wire.TurnError | None = None
        self._ended = False
        self.over = False
        """Codex itself said that the turn is over."""
        self._handlers: dict[str, Callable[[msgspec.Raw], list[Event]]] = {
            wire.AGENT_MESSAGE_DELTA: self._message_delta,
            wire.REASONING_DELTA: partial(self._reasoning_delta, "raw"),
            wire.REASONING_SUMMARY_DELTA: partial(self._reasoning_delta, "summary"),
            wire.REASONING_SUMMARY_PART: self._reasoning_part,
            wire.COMMAND_OUTPUT_DELTA: self._output_delta,
            wire.ITEM_STARTED: self._started,
            wire.ITEM_COMPLETED: self._completed,
            wire.PLAN_UPDATED: self._plan,
            wire.TOKEN_USAGE: self._tokens,
            wire.RATE_LIMITS: self._rate_limits,
            wire.ERROR: self._failing,
            wire.WARNING: self._warning,
            wire.MODEL_REROUTED: self._rerouted,
            wire.TURN_STARTED: self._turn_started,
            wire.TURN_COMPLETED: self._turn_completed,
        }

    def feed(self, method: str, params: msgspec.Raw) -> list[Event]:
        """The events that a notification becomes; nothing after the turn's end."""
        if self._ended:
            return []
        handler = self._handlers.get(method)
        if handler is None:
            # 0.98 tells everything a second time as codex/event/*.
            if method not in wire.IGNORED and not method.startswith("codex/event/"):
                self.unknown[method] += 1
            return []
        try:
            return handler(params)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.undecodable[method] += 1
            return []

    def call(self, id: str, params: msgspec.Raw) -> list[Event]:
        """A call of a client's tool; `id` is what the client answers by. Raises msgspec.DecodeError.

        The model's own id will not do: some models number their calls, in every chat from the beginning.
        """
        read = msgspec.json.decode(params, type=wire.ToolCallParams)
        name = self._names.get(read.tool, read.tool)
        arguments = _json(read.arguments if read.arguments is not None else {})
        return self._settle() or [
            ToolEvent(id, name, "started", runs_on="client"),
            ToolEvent(id, name, "arguments", arguments, runs_on="client"),
            ToolEvent(id, name, "finished", runs_on="client"),
        ]

    def approval(self, id: str, method: str, params: msgspec.Raw) -> Approval:
        """What a person is asked; `id` is the question's. Raises msgspec.DecodeError."""
        if method == wire.ELICITATION:
            asked = msgspec.json.decode(params, type=wire.ElicitationParams)
            return Approval(id, "tool", f"{asked.server_name}: {asked.message}")
        read = msgspec.json.decode(params, type=wire.ApprovalParams)
        if method == wire.FILE_APPROVAL:
            return Approval(id, "file_change", self._changes.get(read.item_id, "files"), read.reason or "")
        return Approval(id, "command", read.command or "", read.reason or "", read.cwd or "")

    def pause(self) -> list[Event]:
        """The client has to run its tools before the turn can go on."""
        return [] if self._ended else self._end(Done("tool_calls"))

    def go_on(self) -> None:
        """The client has run them; what comes now is a new answer of the same turn."""
        self._ended = False

    def fail(self, fault: Fault) -> list[Event]:
        """The end of a turn whose own end will not come."""
        return [] if self._ended else self._end(Failed(fault))

    def _message_delta(self, params: msgspec.Raw) -> list[Event]:
        delta = _delta(params)
        message = self._messages.get(delta.item_id)
        if message is None:
            message = self._messages[delta.item_id] = _Message(delta.item_id, None)
        return self._say(message, delta.delta)

    def _say(self, message: "_Message", text: str) -> list[Event]:
        message.text += text
        if self._replay:
            if not self._replay.startswith(text[: len(self._replay)]):
                return self.fail(_RETRIED)
            text, self._replay = text[len(self._replay) :], self._replay[len(text) :]
            message.item = self._item  # it goes on where the abandoned message stopped
        if not text:
            return []
        self._unsettled += text
        self._item = message.item
        kind = Commentary if message.phase == "commentary" else TextDelta
        return [kind(text, message.item)]

    def _settle(self) -> list[Event]:
        """An answer from upstream is complete; it must have repeated all that was sent."""
        self._unsettled = ""
        return self.fail(_RETRIED) if self._replay else []

    def _reasoning_delta(self, kind: str, params: msgspec.Raw) -> list[Event]:
        delta = _delta(params)
        if not delta.delta:
            return []
        before = self._reasoned.get(delta.item_id, kind)
        self._reasoned[delta.item_id] = kind
        gap = "" if before == kind else "\n\n"
        return [ReasoningDelta(gap + delta.delta, delta.item_id)]

    def _reasoning_part(self, params: msgspec.Raw) -> list[Event]:
        part = _delta(params)
        return [ReasoningDelta("\n\n", part.item_id)] if part.summary_index else []

    def _output_delta(self, params: msgspec.Raw) -> list[Event]:
        delta = _delta(params)
        if delta.item_id not in self._tools or delta.item_id in self._finished or not delta.delta:
            return []  # under load, some comes after the command's end
        self._shown[delta.item_id] = self._shown.get(delta.item_id, "") + delta.delta
        return [ToolEvent(delta.item_id, "command", "output", delta.delta)]

    def _started(self, params: msgspec.Raw) -> list[Event]:
        item = _item(params)
        match item.type:
            case "agentMessage":
                self._messages[item.id] = _Message(item.id, item.phase)
            case "fileChange":
                self._changes[item.id] = ", ".join(change.path for change in item.changes)
            case "commandExecution":
                return self._start_tool(item, "command", item.command)
            case "mcpToolCall":
                return self._start_tool(item, f"mcp:{item.server}/{item.tool}", _json(item.arguments))
            case _:
                pass
        return []

    def _completed(self, params: msgspec.Raw) -> list[Event]:
        item = _item(params)
        ok = item.status == "completed"
        match item.type:
            case "agentMessage":
                return self._complete_message(item)
            case "reasoning":
                return self._complete_reasoning(item)
            case "commandExecution":
                return self._finish_tool(item, "command", item.command, item.aggregated_output or "", ok)
            case "mcpToolCall":
                name = f"mcp:{item.server}/{item.tool}"
                return self._finish_tool(item, name, _json(item.arguments), _result(item), ok)
            case "webSearch":  # only the end knows the query
                return self._finish_tool(item, "web_search", item.query, "", True)
            case "fileChange":
                if ok:
                    return [_file_change(change) for change in item.changes]
                paths = ", ".join(change.path for change in item.changes)
                return [Notice("file_change", f"The change of {paths} was {item.status}.")]
            case _:
                return []

    def _complete_message(self, item: wire.Item) -> list[Event]:
        message = self._messages.setdefault(item.id, _Message(item.id, item.phase))
        rest = item.text[len(message.text) :]  # all of it when nothing was streamed
        return self._say(message, rest) if rest else []

    def _complete_reasoning(self, item: wire.Item) -> list[Event]:
        text = "\n\n".join(item.summary)
        if item.id in self._reasoned or not text:
            return []
        return [ReasoningDelta(text, item.id)]

    def _start_tool(self, item: wire.Item, name: str, text: str) -> list[Event]:
        if item.id in self._tools:
            return []
        self._tools.add(item.id)
        return self._settle() or [ToolEvent(item.id, name, "started", text)]

    def _finish_tool(self, item: wire.Item, name: str, what: str, output: str, ok: bool) -> list[Event]:
        events = self._start_tool(item, name, what)
        if self._ended:
            return events
        if item.id in self._finished:
            return []
        self._finished.add(item.id)
        shown = self._shown.pop(item.id, "")
        rest = output.removeprefix(shown) if output.startswith(shown) else ""
        declined = item.status == "declined"
        return [*events, ToolEvent(item.id, name, "finished", rest, ok=ok, declined=declined)]

    def _plan(self, params: msgspec.Raw) -> list[Event]:
        read = msgspec.json.decode(params, type=wire.PlanParams)
        steps = tuple(Step(step.step, _STEPS[step.status]) for step in read.plan)
        return [Plan(steps, read.explanation or "")] if steps else []

    def _tokens(self, params: msgspec.Raw) -> list[Event]:
        usage = msgspec.json.decode(params, type=wire.TokenUsageParams).token_usage
        before = self._usage[0] if self._usage else _minus(usage.total, usage.last)
        self._usage = (before, usage.total)
        return self._settle()

    def _rate_limits(self, params: msgspec.Raw) -> list[Event]:
        limits = msgspec.json.decode(params, type=wire.RateLimitsParams).rate_limits
        windows = [window for window in (limits.primary, limits.secondary) if window is not None]
        if self._limits_told or not windows:
            return []
        self._limits_told = True
        left = " and ".join(f"{max(0.0, 100 - window.used_percent):g}%" for window in windows)
        return [Notice("rate_limits", f"{left} of the rate limit left.")]

    def _failing(self, params: msgspec.Raw) -> list[Event]:
        read = msgspec.json.decode(params, type=wire.ErrorParams)
        if not read.will_retry:
            self._error = read.error
            return []
        self._replay = self._unsettled
        return [Notice("retry", read.error.message)]

    def _warning(self, params: msgspec.Raw) -> list[Event]:
        message = msgspec.json.decode(params, type=wire.MessageParams).message
        # Every model that is not in Codex's own catalogue gets this one on every turn.
        return [] if message.startswith("Model metadata for") else [Notice("warning", message)]

    def _rerouted(self, params: msgspec.Raw) -> list[Event]:
        read = msgspec.json.decode(params, type=wire.Rerouted)
        return [Notice("model_rerouted", f"{read.to_model} answers instead of {read.from_model}.")]

    def _turn_started(self, _: msgspec.Raw) -> list[Event]:
        if self._usage is not None:  # a resume tells the thread's totals once more
            self._usage = (self._usage[1], self._usage[1])
        return []

    def _turn_completed(self, params: msgspec.Raw) -> list[Event]:
        turn = msgspec.json.decode(params, type=wire.TurnParams).turn
        self.over = True
        if turn.status == "completed":
            return self._settle() or self._end(Done("stop"))
        if turn.status == "interrupted":
            return self._end(Done("cancelled"))
        return self._end(Failed(fault(turn.error or self._error or wire.TurnError(), self._signing_in)))

    def _end(self, end: Done | Failed) -> list[Event]:
        self._ended = True
        if self._usage is None or self._usage[0] == self._usage[1]:
            return [end]
        spent = _minus(self._usage[1], self._usage[0])
        usage = Usage(
            spent.input_tokens, spent.output_tokens, spent.reasoning_output_tokens, spent.cached_input_tokens
        )
        return [usage, end]


class _Message:
    """An agent message, as far as it has been told."""

    __slots__ = ("item", "phase", "text")

    def __init__(self, item: str, phase: str | None) -> None:
        self.item = item
        self.phase = phase
        self.text = ""


_RETRIED = Fault(
    "upstream",
    "The connection to the model broke in the middle of the answer, and Codex began a different one.",
    "Send the request again.",
    "responseStreamDisconnected",
    "",
    True,
)


def _file_change(change: wire.Change) -> FileChange:
    match change.kind.get("type"):
        case "add":
            return FileChange(change.path, change.diff, "add")
        case "delete":
            return FileChange(change.path, change.diff, "delete")
        case _:
            return FileChange(change.path, change.diff, "update")


def _result(item: wire.Item) -> str:
    if isinstance(item.error, dict):
        return str(item.error.get("message", ""))
    content = item.result.get("content", []) if isinstance(item.result, dict) else []
    return "\n".join(str(part["text"]) for part in content if isinstance(part, dict) and "text" in part)


def _minus(one: wire.Tokens, other: wire.Tokens) -> wire.Tokens:
    names = wire.Tokens.__struct_fields__
    return wire.Tokens(*(max(0, getattr(one, name) - getattr(other, name)) for name in names))


_delta = msgspec.json.Decoder(wire.Delta).decode


def _item(params: msgspec.Raw) -> wire.Item:
    return msgspec.json.decode(params, type=wire.ItemParams).item


def _json(value: Any) -> str:
    return "" if value is None else msgspec.json.encode(value).decode()
