"""Fixtures that more than one suite needs."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from codexgate.gate import _Shelf
from codexgate.stores.database import Database
from tests.servers.postgres import Postgres
from tests.servers.valkey import Valkey
from tests.support import UNHURRIED, unhurried

# `llm` reads it when it is imported. Its plugin with the weights that we use wants a library to be built.
os.environ["LLM_LOAD_PLUGINS"] = ""

# What a shell starts with `&` ignores Ctrl-C, and so would all that we start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says how busy the machine is, and whether it is the first that loads something.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


@pytest.fixture(scope="session", autouse=True)
def busy_machine() -> Iterator[None]:
    """A stream that is silent, a list or a memory that is late, a file that others write: tests of it say when."""
    with pytest.MonkeyPatch.context() as patch:
        unhurried(patch, "server.reply.QUIET", "server.reply.EVERY", "stages.retrieval.DEADLINE")
        patch.setattr(_Shelf.look, "__defaults__", (UNHURRIED,))
        patch.setattr(Database.do, "__defaults__", (UNHURRIED,))
        yield


@pytest.fixture(scope="session")
def shared_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    valkey = Valkey(tmp_path_factory.mktemp("valkey"))
    yield valkey
    valkey.stop()


@pytest.fixture
def valkey(shared_valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> Valkey:
    """A server with nothing in it, and with time to answer; who tests the deadline has a server of his own."""
    unhurried(monkeypatch, "stores.redis.DEADLINE")
    with shared_valkey.client() as client:
        client.flushall()
    return shared_valkey


@pytest.fixture
def own_valkey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Valkey]:
    """A server that the test may hurt, with time to answer until the patch is undone."""
    unhurried(monkeypatch, "stores.redis.DEADLINE")
    valkey = Valkey(tmp_path)
    yield valkey
    valkey.stop()


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[Postgres]:
    postgres = Postgres()
    yield postgres
    postgres.remove()


@pytest.fixture
def postgres(shared_postgres: Postgres) -> Iterator[Postgres]:
    """A server with nothing in it, which the test may hurt."""
    shared_postgres.clear()
    yield shared_postgres
    shared_postgres.heal()
