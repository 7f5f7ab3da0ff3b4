"""Fixtures that more than one suite needs."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.servers.postgres import Postgres
from tests.servers.valkey import UNHURRIED, Valkey

# `llm` reads it when it is imported. Its plugin with the weights that we use wants a library to be built.
os.environ["LLM_LOAD_PLUGINS"] = ""

# How long an example takes says how busy the machine is, and whether it is the first that loads something.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


@pytest.fixture(scope="session")
def shared_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    valkey = Valkey(tmp_path_factory.mktemp("valkey"))
    yield valkey
    valkey.stop()


@pytest.fixture
def valkey(shared_valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> Valkey:
    """A server with nothing in it, and with time to answer; who tests the deadline has a server of his own."""
    monkeypatch.setattr("codexgate.stores.redis.DEADLINE", UNHURRIED)
    with shared_valkey.client() as client:
        client.flushall()
    return shared_valkey


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
