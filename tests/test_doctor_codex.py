"""The doctor about Codex, where nothing is wrong or nobody asked: the real program. Its causes: `tests/causes`."""

from pathlib import Path

import pytest

from codexgate.doctor import codex
from tests.causes.bench import Bench, bench, checks
from tests.causes.codex import REAL, config, wrapped
from tests.support import run


async def statuses(made: Bench) -> dict[str, str]:
    return {id: found.row.status for id, found in (await checks(made, "codex")).items()}


def test_nothing_is_written_into_the_users_home(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as made:
            before = sorted(tmp_path.rglob("*"))
            told = await statuses(made)
            assert [*told] == "codex.program codex.version codex.login codex.sandbox codex.protocol".split()
            assert {*told.values()} == {"ok"}
            assert sorted(tmp_path.rglob("*")) == before

    run(scenario())


def test_what_nobody_asked_for_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as made:
            made.environ["CODEXGATE_BACKENDS"] = "ollama"
            config("")(made)
            assert (await statuses(made))["codex.login"] == "warning"
            monkeypatch.setattr(codex, "find_binary", lambda *_: None)
            assert [*(await statuses(made)).values()] == ["skipped"]

    run(scenario())


def test_keys_of_the_environment_do_not_reach_it(tmp_path: Path) -> None:
    seen = tmp_path / "seen"

    async def scenario() -> None:
        async with bench(tmp_path) as made:
            made.environ |= {"OPENAI_API_KEY": "sk-planted", "CODEXGATE_SERVER_API_KEY": "planted-too"}
            wrapped(version=f'env > {seen}; exec {REAL} "$@"')(made)
            await statuses(made)

    run(scenario())
    assert "CODEX_HOME" in seen.read_text() and "planted" not in seen.read_text()
