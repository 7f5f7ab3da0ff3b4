"""The app-server's names: every method and field that this project uses, in one place.

Source: `codex app-server generate-json-schema --experimental`, versions 0.118 to 0.169. A test
holds this module against the schema of the installed binary. Fields that we do not read are
left out; unknown ones are passed over.
"""

from typing import Any, Literal

import msgspec

# What we ask. The list is closed: nothing else is ever sent to the child.
INITIALIZE = "initialize"
INITIALIZED = "initialized"
ACCOUNT_READ = "account/read"
MODEL_LIST = "model/list"
THREAD_START = "thread/start"
THREAD_RESUME = "thread/resume"
THREAD_INJECT = "thread/inject_items"
THREAD_UNSUBSCRIBE = "thread/unsubscribe"
TERMINALS_CLEAN = "thread/backgroundTerminals/clean"
TURN_START = "turn/start"
TURN_INTERRUPT = "turn/interrupt"

# What it tells.
AGENT_MESSAGE_DELTA = "item/agentMessage/delta"
REASONING_DELTA = "item/reasoning/textDelta"
REASONING_SUMMARY_DELTA = "item/reasoning/summaryTextDelta"
REASONING_SUMMARY_PART = "item/reasoning/summaryPartAdded"
COMMAND_OUTPUT_DELTA = "item/commandExecution/outputDelta"
ITEM_STARTED = "item/started"
ITEM_COMPLETED = "item/completed"
PLAN_UPDATED = "turn/plan/updated"
TOKEN_USAGE = "thread/tokenUsage/updated"  # noqa: S105 (no secret)
RATE_LIMITS = "account/rateLimits/updated"
ERROR = "error"
WARNING = "warning"
MODEL_REROUTED = "model/rerouted"
TURN_STARTED = "turn/started"
THREAD_CLOSED = "thread/closed"
TURN_COMPLETED = "turn/completed"

IGNORED = (
    "account/updated",
    "configWarning",
    "deprecationNotice",
    "mcpServer/startupStatus/updated",
    "remoteControl/status/changed",
    "serverRequest/resolved",
    "thread/goal/cleared",
    "thread/name/updated",
    "thread/readState/changed",
    "thread/settings/updated",
    "thread/started",
    "thread/status/changed",
    "turn/diff/updated",
)
"""Notifications that mean nothing to a chat; the others that we do not know are counted."""

# What it asks.
COMMAND_APPROVAL = "item/commandExecution/requestApproval"
FILE_APPROVAL = "item/fileChange/requestApproval"
ELICITATION = "mcpServer/elicitation/request"
TOOL_CALL = "item/tool/call"
USER_INPUT = "item/tool/requestUserInput"


class _Wire(msgspec.Struct, rename="camel", gc=False):
    pass


class Routed(_Wire):
    """The thread that a notification or request belongs to; empty for the process itself."""

    thread_id: str = ""


class Delta(_Wire):
    """More of an item's text."""

    item_id: str
    delta: str = ""
    summary_index: int = 0


class Change(_Wire):
    """One file of a fileChange item; of an added file the diff is its bare content."""

    path: str
    kind: dict[str, Any] = {}
    diff: str = ""


class Item(_Wire):
    """Any item; which fields are there depends on its type."""

    type: str
    id: str
    text: str = ""
    phase: str | None = None
    """Of agentMessage: `commentary`, `final_answer` or null."""
    summary: list[str] = []
    content: Any = None
    command: str = ""
    aggregated_output: str | None = None
    exit_code: int | None = None
    status: str = ""
    """`inProgress`, `completed`, `failed` or `declined`."""
    changes: list[Change] = []
    query: str = ""
    server: str = ""
    tool: str = ""
    arguments: Any = None
    result: Any = None
    error: Any = None


class ItemParams(_Wire):
    """Of item/started and item/completed."""

    item: Item


class PlanStep(_Wire):
    """One step of turn/plan/updated."""

    step: str
    status: Literal["pending", "inProgress", "completed"]


class PlanParams(_Wire):
    """Of turn/plan/updated: the whole plan each time."""

    plan: list[PlanStep]
    explanation: str | None = None


class Tokens(_Wire):
    """Counts of one call or of a whole thread; reasoning is part of output, cached of input."""

    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_output_tokens: int = 0


class TokenUsage(_Wire):
    """`total` of the thread so far, `last` of the latest call upstream."""

    total: Tokens
    last: Tokens


class TokenUsageParams(_Wire):
    """Of thread/tokenUsage/updated."""

    token_usage: TokenUsage


class TurnError(_Wire):
    """Why something failed; `codex_error_info` is a word or an object of one word."""

    message: str = ""
    codex_error_info: Any = None
    additional_details: str | None = None


class ErrorParams(_Wire):
    """Of error."""

    error: TurnError
    will_retry: bool = False


class Turn(_Wire):
    """A turn; `status` is `inProgress`, `completed`, `interrupted` or `failed`."""

    id: str
    status: str = ""
    error: TurnError | None = None


class TurnParams(_Wire):
    """Of turn/completed, and the answer to turn/start."""

    turn: Turn


class MessageParams(_Wire):
    """Of warning."""

    message: str = ""


class Rerouted(_Wire):
    """Of model/rerouted."""

    from_model: str = ""
    to_model: str = ""


class Window(_Wire):
    """One rate limit window."""

    used_percent: float = 0


class RateLimits(_Wire):
    """What is left of the account's allowance."""

    primary: Window | None = None
    secondary: Window | None = None


class RateLimitsParams(_Wire):
    """Of account/rateLimits/updated."""

    rate_limits: RateLimits


class ToolCallParams(_Wire):
    """Of item/tool/call: the model called one of the client's tools."""

    tool: str
    arguments: Any = None


class ApprovalParams(_Wire):
    """Of item/commandExecution/requestApproval and item/fileChange/requestApproval."""

    item_id: str = ""
    command: str | None = None
    cwd: str | None = None
    reason: str | None = None


class ElicitationParams(_Wire):
    """Of mcpServer/elicitation/request, which also asks whether an MCP tool may be called."""

    server_name: str = ""
    message: str = ""


class Thread(_Wire):
    """A thread, as far as we look."""

    id: str


class ThreadStarted(_Wire):
    """The answer to thread/start."""

    thread: Thread


class Initialized(_Wire):
    """The answer to initialize; `user_agent` is `NAME/VERSION (...)`."""

    user_agent: str = ""


class Account(_Wire):
    """The answer to account/read."""

    account: dict[str, Any] | None = None
    requires_openai_auth: bool = False


class CodexModel(_Wire):
    """One entry of model/list."""

    id: str
    model: str = ""
    display_name: str = ""
    description: str = ""
    hidden: bool = False
    input_modalities: list[str] = []


class ModelList(_Wire):
    """The answer to model/list."""

    data: list[CodexModel] = []
