"""The lines of an answer to POST /api/chat or /api/generate as events.

Source: Ollama, server/routes.go and docs/api.md.
Pure: ids come from outside. Nothing here waits for more than one line.
"""

from collections.abc import Callable

import msgspec

from ...errors import Fault
from ...events import Done, Event, Failed, Reason, ReasoningDelta, TextDelta, ToolEvent, Usage
from .errors import stream_fault


class _Function(msgspec.Struct):
    name: str = ""
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class _Call(msgspec.Struct):
    function: _Function
    id: str = ""


class _Message(msgspec.Struct):
    content: str | None = ""
    thinking: str | None = ""
    tool_calls: list[_Call] | None = None


class _Line(msgspec.Struct):
    message: _Message | None = None
    # What /api/generate has in its place.
    response: str | None = ""
    thinking: str | None = ""
    done: bool = False
    done_reason: str = ""
    # Counters that are zero are left out.
    prompt_eval_count: int = 0
    eval_count: int = 0
    error: str | None = None


_line = msgspec.json.Decoder(_Line).decode


class Decoder:
    """Reads one answer, line by line."""

    def __init__(self, new_id: Callable[[], str], *, model: str = "", must_call: bool = False) -> None:
        """`new_id` names the calls of old servers, which give none; `model` is for messages to people.

        `must_call`: an answer that ends without a tool call is a failure, and its text is not shown.
        """
        self._new_id = new_id
        self._model = model
        self._must_call = must_call
        self._calls: set[str] = set()
        self.ended = False
        """`Done` or `Failed` was returned; from now on there are no more events."""

    def feed(self, line: bytes) -> list[Event]:
        """The events in one line without its LF."""
        if self.ended or not line:
            return []
        try:
            read = _line(line)
            events = self._message(read.message or _Message(read.response, read.thinking))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self.fail(
                Fault("upstream", "Ollama sent a line that is not of its protocol.", retryable=True)
            )
        if read.error is not None:
            return events + self.fail(stream_fault(read.error, self._model))
        if read.done:
            return events + self._end(read)
        return events

    def end(self) -> list[Event]:
        """The stream is over; without its last line that is a failure."""
        return self.fail(Fault("upstream", "Ollama's answer was cut before its end.", retryable=True))

    def fail(self, fault: Fault) -> list[Event]:
        """End the answer badly, unless it has ended."""
        if self.ended:
            return []
        self.ended = True
        return [Failed(fault)]

    def _message(self, message: _Message) -> list[Event]:
        events: list[Event] = []
        if message.thinking:
            events.append(ReasoningDelta(message.thinking))
        if message.content and not self._must_call:
            events.append(TextDelta(message.content))
        if message.tool_calls:
            for call in message.tool_calls:
                events += self._call(call)
        return events

    def _call(self, call: _Call) -> list[Event]:
        id, name = call.id, call.function.name
        if not id or id in self._calls:
            id = self._new_id()
        self._calls.add(id)
        arguments = bytes(call.function.arguments).decode()
        if not arguments.startswith(("{", "null")):
            raise msgspec.ValidationError("arguments are an object")
        return [
            ToolEvent(id, name, "started", runs_on="client"),
            ToolEvent(id, name, "arguments", "{}" if arguments == "null" else arguments, runs_on="client"),
            ToolEvent(id, name, "finished", runs_on="client"),
        ]

    def _end(self, read: _Line) -> list[Event]:
        if read.done_reason in ("", "load", "unload"):
            # Empty: the runner went away (server/routes.go); load, unload: nothing was generated.
            what = f"with '{read.done_reason}'" if read.done_reason else "without a reason"
            return self.fail(Fault("upstream", f"Ollama stopped {what}, not at an end.", retryable=True))
        reason: Reason = "length" if read.done_reason == "length" else "tool_calls" if self._calls else "stop"
        if self._must_call and reason == "stop":
            advice = "Ask again, or take a model that is better with tools."
            message = "The model answered without the tool call that `tool_choice` demands."
            return self.fail(Fault("upstream", message, advice, "tool_not_called", retryable=True))
        self.ended = True
        events: list[Event] = []
        if read.prompt_eval_count or read.eval_count:
            events.append(Usage(prompt=read.prompt_eval_count, completion=read.eval_count))
        return [*events, Done(reason)]
