"""Fixtures that more than one suite needs."""

from collections.abc import Iterator

import pytest

from tests.servers.valkey import Valkey


@pytest.fixture(scope="session")
def shared_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    valkey = Valkey(tmp_path_factory.mktemp("valkey"))
    yield valkey
    valkey.stop()


@pytest.fixture
def valkey(shared_valkey: Valkey) -> Valkey:
    """A server with nothing in it."""
    with shared_valkey.client() as client:
        client.flushall()
    return shared_valkey
