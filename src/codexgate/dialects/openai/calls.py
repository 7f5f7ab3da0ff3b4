"""Tool calls out of the pieces that a stream brings. Source: OpenAI API reference, `delta.tool_calls`.

Pieces belong together by `index`. Servers that leave it out, give every call the same one, repeat a
name with every piece, send a call whole or its arguments as an object are understood.
Pure: ids come from outside.
"""

from collections.abc import Callable

import msgspec

from ...events import Event, Stage, ToolEvent


class Function(msgspec.Struct):
    """What is called; also the form of `delta.function_call`, from before there were tools."""

    name: str | None = None
    arguments: msgspec.Raw = msgspec.Raw(b"")

    @property
    def text(self) -> str:
        """The arguments as JSON text, or a piece of it."""
        said = bytes(self.arguments)
        if said.startswith(b'"'):
            return msgspec.json.decode(said, type=str)
        return "" if said == b"null" else said.decode()


class Call(msgspec.Struct):
    """One piece of a call."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None


class _Open(msgspec.Struct):
    """A call so far."""

    id: str
    theirs: str
    """The id that the server gave; empty for none."""
    index: int | None
    name: str = ""
    arguments: str = ""

    @property
    def whole(self) -> bool:
        """Nothing can be missing from its arguments."""
        if not self.arguments.rstrip().endswith("}"):
            return False
        try:
            msgspec.json.decode(self.arguments, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, RecursionError):
            return False
        return True


class Calls:
    """The calls of one answer."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        """`new_id` names calls that come without an id, or with one that another call has."""
        self._new_id = new_id
        self._calls: list[_Open] = []

    def __bool__(self) -> bool:
        return bool(self._calls)

    @property
    def named(self) -> bool:
        """Every call says what is called."""
        return all(call.name for call in self._calls)

    def feed(self, piece: Call) -> list[Event]:
        """The events in one piece; a call starts when its name is known."""
        function = piece.function or Function()
        name, text = function.name or "", function.text
        call = self._find(piece, name, text)
        if call is None:
            call = self._begin(piece)
        call.arguments += text
        if call.name:
            return [self._event(call, "arguments", text)] if text else []
        if not name:
            return []
        call.name = name
        started = self._event(call, "started")
        return [started, self._event(call, "arguments", call.arguments)] if call.arguments else [started]

    def finish(self) -> list[Event]:
        """The end of every call; one without arguments gets the empty object, which is JSON."""
        events: list[Event] = []
        for call in self._calls:
            if not call.arguments:
                events.append(self._event(call, "arguments", "{}"))
            events.append(self._event(call, "finished"))
        return events

    def _find(self, piece: Call, name: str, text: str) -> _Open | None:
        """The call that `piece` goes on with; `None` when it begins one."""
        for call in reversed(self._calls):
            if piece.index is not None and call.index != piece.index:
                continue
            if piece.id and call.theirs and piece.id != call.theirs:
                if piece.index is None:
                    continue
                return None  # another call under the same index
            other = name and call.name and (name != call.name or (text and call.whole))
            same = piece.id and piece.id == call.theirs
            return None if other and not same else call
        return None

    def _begin(self, piece: Call) -> _Open:
        theirs = piece.id or ""
        taken = {call.id for call in self._calls}
        call = _Open(theirs if theirs and theirs not in taken else self._new_id(), theirs, piece.index)
        self._calls.append(call)
        return call

    def _event(self, call: _Open, stage: Stage, text: str = "") -> ToolEvent:
        return ToolEvent(call.id, call.name, stage, text, runs_on="client")
