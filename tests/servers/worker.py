"""Another process that uses the store of a test, as another gate would."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Worker:
    """A program that prints what it has done, and waits for a line where it is to wait."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None and process.stdout is not None
        self._process, self._in, self._out = process, process.stdin, process.stdout

    def line(self) -> str:
        """What it prints next; fails when it is gone."""
        line = self._out.readline()
        assert line.endswith("\n"), f"the worker ended with {line!r}"
        return line[:-1]

    def go_on(self) -> None:
        """What it waits for."""
        self._in.write("\n")
        self._in.flush()

    def kill(self) -> list[str]:
        """End it at once. Returns what it had printed in whole lines."""
        self._process.kill()
        return [line[:-1] for line in self._out if line.endswith("\n")]


@contextmanager
def working(program: str, *words: str) -> Iterator[Worker]:
    """A process that runs `program`, in Python, with these words; it is gone in the end."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", program, *words],
        cwd=Path(__file__).parents[2],
        stdin=pipe,
        stdout=pipe,
        text=True,
    ) as process:
        try:
            yield Worker(process)
        finally:
            process.kill()
