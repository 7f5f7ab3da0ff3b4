"""A column of Postgres that is bound to one dimension, as the service before made it, and another model.

What a refusal says to run is run, as somebody would who pastes it.
"""

import json
import re
import shlex
from pathlib import Path

import pytest

from .servers.postgres import Postgres
from .servers.program import codexgate
from .test_memory_store import BEFORE

TABLE, THREE = BEFORE.split("INSERT INTO", 1)


def before(postgres: Postgres, *, entries: bool) -> None:
    """The table with the index of that service; with `entries`, three by a model of its own."""
    postgres.run(TABLE)
    if entries:
        postgres.run(f"INSERT INTO {THREE}")


def memory(home: Path, postgres: Postgres, *words: str, code: int = 0) -> str:
    """What a command says, on either stream."""
    more = {"CODEXGATE_MEMORY_DATABASE_URL": postgres.url, "CODEXGATE_EMBEDDINGS_PROVIDER": "demo"}
    found = codexgate(home, "memory", *words, more=more)
    said = (found.stdout + found.stderr).decode()
    assert found.returncode == code, said
    return said


@pytest.mark.parametrize(
    ("namespace", "holds"),
    [("other", "The column memories.entries.embedding"), ("default", "The namespace 'default'")],
)
def test_the_command_of_the_refusal_makes_the_next_write_work(
    tmp_path: Path, postgres: Postgres, namespace: str, holds: str
) -> None:
    before(postgres, entries=True)
    persist = ("persist", "-n", namespace, "Tea at five.")
    refused = memory(tmp_path, postgres, *persist, code=1)
    assert f"{holds} holds vectors" in refused
    assert "with 3 dimensions; demo/demo-embed makes vectors with 256." in refused
    command = re.search(r"codexgate memory (reembed .*)", refused)
    assert command
    assert "default: 3 entries are embedded anew." in memory(tmp_path, postgres, *shlex.split(command[1]))
    memory(tmp_path, postgres, *persist)
    assert "Tea at five." in memory(tmp_path, postgres, "retrieve", "-n", namespace, "tea at five")


def test_a_column_that_holds_nothing_takes_what_comes(tmp_path: Path, postgres: Postgres) -> None:
    before(postgres, entries=False)
    memory(tmp_path, postgres, "persist", "Tea at five.")
    (kept,) = json.loads(memory(tmp_path, postgres, "namespaces", "--json"))
    assert kept == {"name": "default", "entries": 1, "model": "demo/demo-embed", "dimension": 256}
