"""The question at the terminal whether a model may do what it asks for: yes, this once, or no.

Knows what waits and the keyboard, neither the gate nor what the answer leads to. The terminal's mode
is never changed: it reads whole lines, so that Ctrl-C and the line's editing stay the system's. Needs
POSIX terminals; somewhere else nobody is asked.
"""

import asyncio
import os
import shutil
import sys
import termios
import time
from typing import TextIO

from ..flat import bare_command
from ..records import PendingApproval
from .terminal import Paint, escape, escape_line

QUESTION = "Allow this once? [y/N]"
_ACTIONS = {"command": "run this command", "file_change": "change files", "tool": "call a tool"}


class Consent:
    """Asks whoever sits at `keyboard`, on `screen`; both are terminals."""

    def __init__(self, paint: Paint, keyboard: TextIO = sys.stdin, screen: TextIO = sys.stderr) -> None:
        self._paint = paint
        self._keyboard = keyboard.fileno()
        self._screen = screen

    async def __call__(self, waiting: PendingApproval) -> bool:
        """Whether the person says `y` or `yes`; all else is no, and so is silence until it expires.

        Cancelling takes the question back.
        """
        self._say("\n" + "\n".join(self._told(waiting)) + "\n")
        # What was typed before the question is no answer to it.
        termios.tcflush(self._keyboard, termios.TCIFLUSH)
        self._say(self._paint(QUESTION, "bold") + " ")
        try:
            async with asyncio.timeout(max(0.0, waiting.expires - time.time())):
                line = await self._line()
        except TimeoutError:
            self._replace("Nobody answered in time; it is declined.")
            return False
        except asyncio.CancelledError:
            self._say("\nDeclined; it was not done.\n")
            raise
        if not line.endswith(b"\n"):  # Ctrl-D ends a line without a word
            self._say("\n")
        return line.decode("utf-8", "replace").strip().lower() in ("y", "yes")

    def _told(self, waiting: PendingApproval) -> list[str]:
        """Everything there is to decide on, and nothing a terminal could act on."""
        model = escape_line(waiting.model) or "The model"
        detail = bare_command(waiting.detail) if waiting.action == "command" else waiting.detail
        mark = "  $ " if waiting.action == "command" else "  "
        lines = [self._paint(f"{model} asks to {_ACTIONS[waiting.action]}:", "yellow")]
        for line in escape(detail).split("\n"):
            lines.append(mark + self._paint(line, "bold"))
            mark = " " * len(mark)
        for name, text in (("in", waiting.cwd), ("reason", waiting.reason)):
            if text:
                lines.append(f"  {self._paint(f'{name}:', 'dim')} {escape_line(text)}")
        return lines

    async def _line(self) -> bytes:
        """What is typed until Enter; empty when the keyboard is gone."""
        loop = asyncio.get_running_loop()
        line: asyncio.Future[bytes] = loop.create_future()

        def read() -> None:
            loop.remove_reader(self._keyboard)
            try:
                typed = os.read(self._keyboard, 4096)
            except OSError:
                typed = b""
            if not line.done():
                line.set_result(typed)

        loop.add_reader(self._keyboard, read)
        try:
            return await line
        finally:
            loop.remove_reader(self._keyboard)

    def _replace(self, text: str) -> None:
        """Put `text` where the question stands, and forget what was typed after it."""
        termios.tcflush(self._keyboard, termios.TCIFLUSH)
        self._say("\r" + text.ljust(shutil.get_terminal_size().columns - 1) + "\n")

    def _say(self, text: str) -> None:
        self._screen.write(text)
        self._screen.flush()
