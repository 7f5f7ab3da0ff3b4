"""The internal language: everything a model's answer can consist of.

Backends speak it, fronts and the terminal listen. Values only. A new kind is meant to be
expensive: each listener's `match` ends in `assert_never`, so the type checker lists who must
decide what it means to them. The order in which events may come is the law in `order.py`.
"""

from typing import Literal

import msgspec

from .errors import Fault

Stage = Literal["started", "arguments", "output", "finished"]
RunsOn = Literal["backend", "client"]
Reason = Literal["stop", "length", "tool_calls", "content_filter", "cancelled"]
StepState = Literal["pending", "active", "done"]


class ThreadStarted(msgspec.Struct, frozen=True):
    """The turn runs on this thread of the backend's, which remembers the chat."""

    thread: str
    turn: int = 0
    """The number of this turn in its chat, from 1; 0 when no chat is kept."""


class Citation(msgspec.Struct, frozen=True):
    """A memory that was put before the question."""

    id: str
    namespace: str
    source: str = ""
    score: float = 0.0
    """How well it matched; more is better."""


class Retrieved(msgspec.Struct, frozen=True):
    """What was put before the question; at most once, before anything of the answer."""

    citations: tuple[Citation, ...]
    tokens: int
    """Of the whole block."""
    block: str = ""
    """The text as the model sees it."""


class Window(msgspec.Struct, frozen=True):
    """What the model sees at once in this answer; at most once, before anything of the answer."""

    prompt: int
    """Tokens that the prompt is taken for before it is counted."""
    size: int
    """Tokens of prompt and answer together."""


class Logprob(msgspec.Struct, frozen=True):
    """How likely a token was."""

    token: str
    logprob: float
    """Natural logarithm."""
    bytes: tuple[int, ...] | None = None
    top: tuple["Logprob", ...] = ()
    """The likeliest tokens in its place, when they were asked for."""


class TextDelta(msgspec.Struct, frozen=True):
    """More of the answer. `item` names the message it belongs to: one turn may hold several."""

    text: str
    """Never empty; exactly what the model wrote, repeats included."""
    item: str = ""
    logprobs: tuple[Logprob, ...] = ()
    """Of the tokens of `text`, from backends that have them and when they were asked for."""


class Commentary(msgspec.Struct, frozen=True):
    """Something an agent says about its work before the answer; activity, not answer."""

    text: str
    item: str = ""


class ReasoningDelta(msgspec.Struct, frozen=True):
    """More of the model's thinking."""

    text: str
    item: str = ""


class ToolEvent(msgspec.Struct, frozen=True):
    """One step in the life of a tool call.

    `runs_on` decides who acts: a `backend` call is already being executed and is only shown;
    a `client` call is one that the caller must execute. Mixing the two runs commands twice.
    """

    call_id: str
    name: str
    """A function's name; of a backend's own tools: `command`, `web_search` or `mcp:SERVER/TOOL`."""
    stage: Stage
    text: str = ""
    """started: the command line, query or arguments of a backend's tool, empty for a client's;
    arguments: a piece of the call's JSON; output: a piece of its output;
    finished: what was not yet shown as output."""
    runs_on: RunsOn = "backend"
    ok: bool = True
    """Of `finished` only: the tool succeeded."""
    declined: bool = False
    """Of `finished` only: it was not run, because somebody or something said no; then it is not `ok`."""


class FileChange(msgspec.Struct, frozen=True):
    """The backend edited a file."""

    path: str
    diff: str
    """Unified diff without file headers; of an added file its whole content."""
    kind: Literal["add", "update", "delete"]


class Step(msgspec.Struct, frozen=True):
    """One step of a plan."""

    text: str
    state: StepState


class Plan(msgspec.Struct, frozen=True):
    """The agent's plan, a full snapshot each time."""

    steps: tuple[Step, ...]
    explanation: str = ""


class Approval(msgspec.Struct, frozen=True):
    """The backend waits for somebody's decision before it acts."""

    id: str
    action: Literal["command", "file_change", "tool"]
    detail: str
    """What would be done: the command line, the paths, the call."""
    reason: str = ""
    cwd: str = ""


class Notice(msgspec.Struct, frozen=True):
    """Worth showing, never fatal: a retry, rate limits, a rerouted model, a degraded store."""

    kind: str
    text: str


class Usage(msgspec.Struct, frozen=True):
    """Tokens of the whole answer; at most once, just before the end."""

    prompt: int = 0
    """All input tokens, cached ones included."""
    completion: int = 0
    """All output tokens, reasoning included."""
    reasoning: int = 0
    cached: int = 0
    estimated: bool = False
    """Counted by the gate because the backend gave none."""


class Failed(msgspec.Struct, frozen=True):
    """Terminal: the answer ended badly; what came before is incomplete."""

    fault: Fault


class Done(msgspec.Struct, frozen=True):
    """Terminal: the backend itself said that the answer is complete."""

    reason: Reason


Event = (
    ThreadStarted
    | Retrieved
    | Window
    | TextDelta
    | Commentary
    | ReasoningDelta
    | ToolEvent
    | FileChange
    | Plan
    | Approval
    | Notice
    | Usage
    | Failed
    | Done
)
