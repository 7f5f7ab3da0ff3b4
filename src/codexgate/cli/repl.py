"""The conversation of `codexgate chat` without a prompt: lines are asked, `/words` are commands.

Ctrl-C stops the answer that is being given; pressed again it leaves. Knows prompt_toolkit, and
of the gate only what a `Conversation` shows.
"""

import asyncio
import contextlib
import os
import re
import signal
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

import msgspec
from prompt_toolkit import PromptSession
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from .. import folders
from ..chat import Text
from ..errors import Fault, GateError
from .render import View
from .table import terminal_width
from .terminal import Paint, escape, escape_line
from .turn import Conversation

HELP = """\
/model [ID]      show or change the model
/session [NAME]  show the sessions, or go on with one
/help            show this
/quit            leave, as Ctrl-D does
Meta-Enter, a \\ at the end or an open ``` begin a new line. Ctrl-C stops an answer, twice leaves."""
_COMMANDS = ("/help", "/model", "/quit", "/session")
_COMMAND = re.compile("/.*?  +")
"""What stands before its meaning in `HELP`."""
_LISTED = 10
"""Sessions."""


class Repl:
    """One conversation at the keyboard."""

    def __init__(self, talk: Conversation, make_view: Callable[[], View], paint: Paint) -> None:
        self._talk = talk
        self._make_view = make_view
        self._paint = paint
        self._interrupted = False

    async def run(self, history: Path) -> None:
        """Ask until the person leaves. Raises KeyboardInterrupt when that was by Ctrl-C."""
        prompt = _prompt(history, _Completer(await self._ids(), await self._talk.sessions()))
        try:
            self._say(f"{escape_line(await self._model())} · /help helps", "dim")
        except GateError as error:
            self._fail(error.fault)
        while True:
            try:
                line = await prompt.prompt_async("> ")
            except EOFError:
                return
            except KeyboardInterrupt:
                if self._interrupted:
                    raise
                self._interrupted = True
                self._say("Ctrl-C again leaves.", "dim")
                continue
            self._interrupted = False
            if line.strip() in ("/quit", "/exit"):
                return
            await self.take(line)

    async def take(self, line: str) -> None:
        """Do what a line says; what goes wrong is told and ends nothing."""
        try:
            if line.startswith("/"):
                await self._command(*line.split(maxsplit=1))
            elif line.strip():
                await self._turn(line)
        except GateError as error:
            self._fail(error.fault)

    async def _turn(self, line: str) -> None:
        task = asyncio.create_task(self._talk.ask((Text(line),), self._make_view()))
        async with _interrupts(task):
            await asyncio.wait({task})
        if task.cancelled():
            self._interrupted = True
            self._say("interrupted", "yellow")
        elif error := task.exception():
            raise error
        self._say("")

    async def _command(self, name: str, argument: str = "") -> None:
        argument = argument.strip()
        match name:
            case "/model" if argument:
                await self._talk.gate.model(argument)
                self._talk.options = msgspec.structs.replace(self._talk.options, model=argument)
                self._say(f"{escape_line(argument)} answers from here on.", "dim")
            case "/model":
                self._say(escape_line(await self._model()))
            case "/session" if argument:
                count = await self._talk.move(argument)
                self._say(f"{escape_line(argument)}: {count} messages so far.", "dim")
            case "/session":
                for key in (await self._talk.sessions())[:_LISTED]:
                    self._say(f"{'*' if key == self._talk.session else ' '} {escape_line(key)}")
            case "/help":
                self._say(HELP)
            case _:
                self._say(
                    f"There is no {escape_line(name)}; a blank before it makes it a question.", "yellow"
                )

    async def _model(self) -> str:
        """Who answers. Raises GateError when nobody can."""
        return self._talk.options.model or (await self._talk.gate.default()).id

    async def _ids(self) -> list[str]:
        return [*(model.id for model in await self._talk.gate.models()), *self._talk.gate.aliases]

    def _fail(self, fault: Fault) -> None:
        self._say(escape(f"codexgate: {fault.text}"))

    def _say(self, text: str, *styles: str) -> None:
        """Write `text`, lines that are too long broken between words."""
        lines = (_folded(line, terminal_width()) for line in text.split("\n"))
        sys.stderr.write(self._paint("\n".join(lines), *styles) + "\n")
        sys.stderr.flush()


def _folded(line: str, width: int) -> str:
    command = _COMMAND.match(line)
    under = " " * command.end() if command else ""
    return textwrap.fill(line, width, subsequent_indent=under, break_long_words=False, break_on_hyphens=False)


def is_unfinished(text: str) -> bool:
    """Whether Enter means a new line: a fence is open, or the line ends with a backslash."""
    fences = sum(line.lstrip().startswith("```") for line in text.split("\n"))
    return fences % 2 == 1 or text.endswith("\\")


class _Completer(Completer):
    """Commands, and after them ids and names."""

    def __init__(self, ids: Iterable[str], sessions: Iterable[str]) -> None:
        self._words = {"/model": tuple(ids), "/session": tuple(sessions)}

    def get_completions(
        self,
        document: Document,
        complete_event: CompleteEvent,  # noqa: ARG002
    ) -> Iterable[Completion]:
        command, blank, word = document.text_before_cursor.partition(" ")
        candidates, begun = (self._words.get(command, ()), word) if blank else (_COMMANDS, command)
        for candidate in candidates if command.startswith("/") else ():
            if candidate.startswith(begun):
                yield Completion(candidate, -len(begun))


def _prompt(history: Path, completer: Completer) -> PromptSession[str]:
    folders.make(history.parent)
    os.close(os.open(history, os.O_WRONLY | os.O_CREAT, 0o600))  # what was asked is nobody else's
    return PromptSession(
        history=FileHistory(str(history)),
        completer=completer,
        complete_while_typing=False,
        key_bindings=_keys(),
        multiline=True,
        prompt_continuation="  ",
    )


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def _enter(event: KeyPressEvent) -> None:
        buffer: Buffer = event.current_buffer
        if buffer.text.endswith("\\") and buffer.document.is_cursor_at_the_end:
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        elif is_unfinished(buffer.text):
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _meta_enter(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("c-c")
    def _control_c(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt)

    return keys


@contextlib.asynccontextmanager
async def _interrupts(task: asyncio.Task[object]) -> AsyncIterator[None]:
    """Let Ctrl-C cancel `task`, and nothing else."""
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(signal.SIGINT, task.cancel)
    except NotImplementedError:  # Windows: Ctrl-C ends the conversation
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
