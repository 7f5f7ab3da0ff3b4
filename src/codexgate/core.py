"""Everything that one gate holds, as the surfaces above it are handed it."""

import msgspec

from .gate import Gate
from .memory import Memory
from .ports import FileStore
from .responses import Responses


class Core(msgspec.Struct):
    """The use cases; `assemble.open_core` makes them from the settings."""

    gate: Gate
    responses: Responses | None = None
    files: FileStore | None = None
    """What callers uploaded; `None`: nothing is kept."""
    memory: Memory | None = None
    """`None`: there is none."""
