"""Everything that one gate holds, as the surfaces above it are handed it."""

import msgspec

from .gate import Gate


class Core(msgspec.Struct):
    """The use cases; `assemble.open_core` makes them from the settings."""

    gate: Gate
