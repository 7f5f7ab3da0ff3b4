"""The doctor about Codex, where nothing is wrong or nobody asked: the real program. Its causes: `tests/causes`."""

from pathlib import Path

import pytest

from codexgate.backends.codex.host import Host
from codexgate.doctor import codex
from codexgate.doctor.words import Asked
from codexgate.settings import Settings
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


def asked(home: Path) -> Asked:
    return Asked(Settings(), {}, home)


def test_who_is_late_to_say_whether_it_is_signed_in_need_not_sign_in(tmp_path: Path) -> None:
    late = codex.Ran(None, "it did not end within 1.6 s")
    row = codex.login(asked(tmp_path), Path("/usr/bin/codex"), Host(tmp_path), late)
    assert (row.id, row.status) == ("codex.login", "warning")
    assert row.remedy and row.remedy.command == "codex login status"


@pytest.mark.parametrize(
    ("binary", "command"),
    [
        ("/lib/site-packages/codex_cli_bin/bin/codex", "pip install --upgrade 'codexgate[codex]'"),
        ("/usr/local/bin/codex", "npm install -g @openai/codex"),
    ],
)
def test_a_newer_one_comes_the_way_this_one_came(binary: str, command: str, tmp_path: Path) -> None:
    for said in ("codex-cli 0.23.0", "hello"):
        row = codex.version(asked(tmp_path), Path(binary), codex.Ran(0, said))
        assert row.remedy and row.remedy.command == command


@pytest.mark.parametrize(
    "value",
    ['sandbox_mode = "pl4nted`\\npl4nted"', "model = 4711", 'notify = "a\\"pl4nted"', "model = 47.11"],
)
def test_a_value_that_codex_refuses_is_not_shown(value: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as made:
            config(value)(made)
            found = (await checks(made, "codex"))["codex.config"]
            assert "pl4nted" not in str(found) and "47" not in found.row.summary
            assert found.row.status == "fail" and "********, expected" in found.row.summary

    run(scenario())


def test_what_mends_one_provider_spoils_no_other(tmp_path: Path) -> None:
    """Codex's own provider keeps its name; a fault of another kind is left to a person."""
    chat = '[model_providers.x]\nname = "x"\nwire_api = "chat"\n'

    async def scenario() -> None:
        async with bench(tmp_path) as made:
            config('model_provider = "ollama"\n' + chat)(made)
            found = (await checks(made, "codex"))["codex.config"]
            await made.obey(found.command)
            told = (await checks(made, "codex"))["codex.login"]
            assert told.row.summary == "Codex uses the provider ollama and needs no login."
            config("model = 4711\n" + chat)(made)
            assert (await checks(made, "codex"))["codex.config"].command.startswith("${EDITOR:-vi} +1 ")

    run(scenario())
