"""What is asked of a model: the one request value that every caller format is parsed into.

Values only; no format's field names, no backend's. Absent means absent: a setting that the
caller left out is `None`, so that a backend's own default applies.
"""

from typing import Any, Literal

import msgspec

Role = Literal["system", "developer", "user", "assistant", "tool"]
Effort = Literal["minimal", "low", "medium", "high", "xhigh", "max", "ultra", "none"]
"""Reasoning efforts that backends know; what a model makes of one is its own affair."""
Sandbox = Literal["read-only", "workspace-write", "danger-full-access"]
"""What the commands of an agent may do, the least first."""


class Text(msgspec.Struct, frozen=True, tag="text"):
    """A run of text."""

    text: str


class Context(Text, frozen=True, tag="context"):
    """Text that the gate put in, not the caller: models read it, what is kept of a chat leaves it out."""


class Image(msgspec.Struct, frozen=True, tag="image", omit_defaults=True):
    """A picture, inline."""

    media_type: str
    """Such as `image/png`."""
    data: str
    """Base64, no `data:` prefix."""
    detail: str = ""
    """How closely to look, in OpenAI's words (`low`, `high`); empty when not given."""

    @property
    def url(self) -> str:
        """The picture as a `data:` URL."""
        return f"data:{self.media_type};base64,{self.data}"


class Document(msgspec.Struct, frozen=True, tag="document"):
    """A file that came with the message."""

    name: str
    media_type: str = ""
    data: str = ""
    """Base64, no `data:` prefix."""


class StoredFile(msgspec.Struct, frozen=True, tag="stored_file"):
    """A file that was uploaded before; a stage puts its content here before a backend sees it."""

    id: str
    """`file-…`"""
    as_image: bool = False
    """Named where a picture belongs: anything else there is a mistake."""

    @property
    def name(self) -> str:
        """What to call it where its content is not known."""
        return self.id


Part = Text | Context | Image | Document | StoredFile


class ToolCall(msgspec.Struct, frozen=True):
    """A call that the model made and the client runs."""

    id: str
    name: str
    arguments: str
    """JSON text, as the model wrote it."""


class Message(msgspec.Struct, frozen=True):
    """One message of a conversation."""

    role: Role
    parts: tuple[Part, ...] = ()
    name: str = ""
    """The author's, or of a `tool` message the function's."""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    reasoning: str = ""

    @property
    def text(self) -> str:
        """The text parts, joined as they are."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


class Tool(msgspec.Struct, frozen=True):
    """A function that the client offers to run."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}
    """JSON Schema of the arguments object."""
    strict: bool = False


class ToolChoice(msgspec.Struct, frozen=True):
    """Whether the model may, must or must not call a tool."""

    mode: Literal["auto", "none", "required", "named"] = "auto"
    name: str = ""
    """Of `named`: the function that must be called."""


class Format(msgspec.Struct, frozen=True):
    """What the answer's text must be."""

    kind: Literal["text", "json", "schema"] = "text"
    schema: dict[str, Any] = {}
    """Of `schema`: the JSON Schema of the answer."""
    name: str = ""
    strict: bool = False


class Sampling(msgspec.Struct, frozen=True):
    """How tokens are picked; `None` leaves the choice to the backend."""

    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    max_tokens: int | None = None
    """Of the answer, reasoning included."""
    stop: tuple[str, ...] = ()

    def given(self) -> frozenset[str]:
        """The names of the settings that the caller gave."""
        return frozenset(name for name in self.__struct_fields__ if getattr(self, name) not in (None, ()))


class Retrieval(msgspec.Struct, frozen=True):
    """Memories to be put before the question."""

    namespace: str = ""
    """Empty: the default one."""
    max_tokens: int | None = None
    """Of the whole block."""
    limit: int | None = None
    """How many memories at most."""


class ChatRequest(msgspec.Struct, frozen=True):
    """One request for one answer."""

    model: str
    """As the caller wrote it; the gate replaces it with the backend's own name."""
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool | None = None
    sampling: Sampling = Sampling()
    effort: str = ""
    """Reasoning effort, an `Effort` unless a caller knows of another; empty when not given."""
    format: Format = Format()
    options: dict[str, Any] = {}
    """A backend's own options (`num_ctx`, `keep_alive`), from an alias or an extension field."""
    chat: str = ""
    """The chat that this request goes on with, where a backend can remember it; empty for none."""
    caller: str = ""
    """Who asks: a digest of the key that was sent. What one caller left open is not another's."""
    session: str = ""
    """The conversation that the gate itself keeps and this request goes on with; empty for none."""
    retrieval: Retrieval | None = None
    truncate: bool = False
    """The oldest messages may be left out when the model cannot take all."""
    raw: bool = False
    """The one message is a text to go on with, not a chat (OpenAI's legacy completions)."""
    sandbox: Sandbox | None = None
    """Of the name that the model was asked for by; the gate sets it, whatever stood there before."""
    suffix: str = ""
    """Of `raw`: the text that comes after what the model inserts."""
    id: str = ""
    """The answer's id on the wire, for what is written about it."""
