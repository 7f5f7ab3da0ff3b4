"""Every cause that the doctor tells apart: it is made, named, mended by what the row says, and gone."""

import sys
from datetime import timedelta
from pathlib import Path

import pytest

from codexgate.doctor import run as doctor
from tests.causes import CAUSES, ollama, stores
from tests.causes.bench import Cause, bench, checks, environ, gate, obey, take
from tests.causes.bench import doctor as program
from tests.causes.codex import wrapped
from tests.causes.machine import certificate, off
from tests.servers.faulty import silent
from tests.servers.postgres import Postgres
from tests.servers.program import COMMAND
from tests.support import run

KINDS = 22
"""Of causes, at least, as the doctor was asked for."""
ON_POSTGRES = ("stores.postgres", "stores.pgvector", "stores.dimension")


@pytest.fixture
def database(request: pytest.FixtureRequest, cause: Cause) -> Postgres | None:
    """A Postgres for those who spoil one."""
    return request.getfixturevalue("postgres") if cause.id.startswith(ON_POSTGRES) else None


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.what)
def test_a_cause_is_named_and_mended(cause: Cause, database: Postgres | None, tmp_path: Path) -> None:
    if cause.id == "system.container" and sys.platform != "linux":
        pytest.skip("Linux alone tells.")
    family = cause.id.partition(".")[0]

    async def scenario() -> None:
        async with bench(tmp_path) as made:
            made.postgres = database
            await take(cause.spoil, made)
            found = (await cause.look(made, family))[cause.id]
            row, remedy = found.row, found.row.remedy
            assert row.status == cause.status, row
            assert cause.says in made.plain(row.summary), row
            assert row.why and remedy is not None, row
            assert made.plain(remedy.command) == cause.command
            if cause.text or not cause.command:
                assert made.plain(remedy.text) == cause.text
            made.command = found.command
            await take(cause.mend or obey, made)
            after = await cause.look(made, family)
            assert cause.id not in after or after[cause.id].row.status == "ok", after[cause.id]
            assert [each.row for each in after.values() if each.row.status in ("fail", "warning")] == []

    run(scenario())


def test_every_kind_of_cause_and_every_row_is_there() -> None:
    assert {cause.number for cause in CAUSES} - {0} == {*range(1, KINDS + 1)}
    assert {cause.id for cause in CAUSES} == {*doctor.ids()}
    assert len({cause.what for cause in CAUSES}) == len(CAUSES)


# Nothing is wrong, and everything is


def test_where_everything_is_there_and_well_nothing_fails_and_nothing_warns(
    postgres: Postgres, tmp_path: Path
) -> None:
    """The real Codex, a real Redis and a real Postgres, a certificate, and the gate itself."""

    async def scenario() -> None:
        async with bench(tmp_path) as made:
            made.postgres = postgres
            stores.valkey(made)
            stores.database(made).run("CREATE EXTENSION vector")
            made.environ[stores.RESPONSES] = made.environ[stores.MEMORY]
            made.environ["CODEXGATE_SERVER_API_KEY_FILE"] = str(made.folder / "key")
            await made.obey("codexgate key make")
            for step in (ollama.embeds("nomic-embed-text"), certificate("localhost"), off(timedelta())):
                await take(step, made)
            made.environ["OLLAMA_HOST"] = made.server.url
            oss = made.environ["CODEX_OSS_BASE_URL"]
            await gate(made)
            made.environ["CODEX_OSS_BASE_URL"] = oss  # a gate with a key is no server for `codex --oss`
            told = {id: found.row for id, found in (await checks(made)).items()}
            assert {id: row for id, row in told.items() if row.status != "ok"} == {}
            assert {*doctor.ids()} - {*told} == set(UNTOLD.split())

    run(scenario())


UNTOLD = "codex.config gate.settings gate.model ollama.model.tag ollama.gpu ollama.registry"
"""Rows that are there only where they have something to say."""

HUNG = {
    "codex.version": "did not end within",
    "gate.port": "is taken",
    "network.tls": "does not finish a TLS handshake within 1.5 s",
    "network.upstream": "lists no models. It does not answer within 2.5 s",
    "ollama.host": "did not answer in time",
    "ollama.pull.shim": "finds no server",
    "ollama.server": "did not answer in time",
    "stores.postgres.memory": "no answer",
    "stores.postgres.responses": "no answer",
    "stores.redis": "no answer",
}


def test_with_every_service_hung_it_ends_and_each_row_says_so(tmp_path: Path) -> None:
    """The whole program, within what a test may take; it has ten seconds."""

    async def scenario() -> None:
        async with bench(tmp_path) as made, silent() as port:
            where = f"127.0.0.1:{port}"
            wrapped(version="sleep 60")(made)
            environ(
                CODEXGATE_BACKENDS="codex,ollama,plain",
                CODEXGATE_OLLAMA_URL=f"http://{where}",
                CODEXGATE_OPENAI_BOX_BASE_URL=f"https://{where}/v1",
                CODEXGATE_OPENAI_PLAIN_BASE_URL=f"http://{where}/v1",
                CODEXGATE_RESPONSES_DATABASE_URL=f"postgresql://{where}/x",
                CODEXGATE_MEMORY_DATABASE_URL=f"postgresql://{where}/x",
                CODEXGATE_SERVER_PORT=str(port),
                CODEXGATE_THREADS_REDIS_URL=f"redis://{where}/0",
                CODEX_OSS_BASE_URL=f"http://{where}/v1",
                OLLAMA_HOST=f"http://{where}",
            )(made)
            told = {id: found.row for id, found in (await program(command=COMMAND)(made)).items()}
            failed = {id: row.summary for id, row in told.items() if row.status == "fail"}
            assert {id for id, says in HUNG.items() if says not in failed.get(id, "")} == set(), failed
            assert {*failed} == {*HUNG}

    run(scenario())
