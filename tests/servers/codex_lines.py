"""What the gate says to Codex, line by line."""

from typing import Any

import msgspec
import pytest

from codexgate.backends.codex.child import Child


def recorded(patch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A list that gets every line that is sent to a child from now on."""
    lines: list[dict[str, Any]] = []
    send = Child._send

    async def spy(self: Child, line: bytes) -> None:
        lines.append(msgspec.json.decode(line))
        await send(self, line)

    patch.setattr(Child, "_send", spy)
    return lines
