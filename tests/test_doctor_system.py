"""The doctor on stores, on this machine and on the way to servers, each cause made for real."""

import datetime
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from codexgate.config import Secret
from codexgate.doctor import network, stores, system
from codexgate.doctor.words import Asked, Row
from codexgate.settings import Settings
from tests.servers.certified import DAY, Authority, certified
from tests.servers.ollama import ScriptedOllama
from tests.servers.postgres import Postgres
from tests.servers.valkey import Valkey
from tests.support import run

NOWHERE = "http://127.0.0.1:9"
PASSWORD = "hunter2-secret"

Look = Callable[[Asked], Awaitable[list[Row]]]


def settings(**sections: Any) -> Settings:
    """Settings as a file would give them; nothing of this machine."""
    ground = {"data_dir": "/nonexistent/codexgate", "ollama": {"url": NOWHERE}, "server": {"port": 9}}
    return msgspec.convert(ground | sections, Settings, dec_hook=lambda kind, value: _secret(kind, value))


def _secret(kind: type, value: Any) -> Any:
    return Secret(value) if kind is Secret else kind(value)


def asked(**sections: Any) -> Asked:
    return Asked(settings(**sections), {}, Path("/nonexistent"), Path("/nonexistent"))


async def rows(look: Look, given: Asked) -> dict[str, Row]:
    """What a look tells, by id; each that is not well says why and what to do."""
    found = await look(given)
    for row in found:
        assert PASSWORD not in str(msgspec.to_builtins(row))
        if row.status in ("fail", "warning"):
            assert row.why and row.remedy and row.remedy.text and row.remedy.command, row
    return {row.id: row for row in found}


def look(at: Look, **sections: Any) -> dict[str, Row]:
    return run(rows(at, asked(**sections)))


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    server = Valkey(tmp_path)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    try:
        yield server
    finally:
        server.heal()
        server.remove()


def test_a_set_up_in_which_nothing_is_set_has_no_fault() -> None:
    async def test() -> None:
        for module in (stores, system, network):
            for check in module.CHECKS:
                found = await rows(check.look, asked())
                assert {*found} == {*check.ids}
                assert {row.status for row in found.values()} <= {"ok", "skipped"}, found

    run(test())


# Redis


def redis(url: str) -> Row:
    return look(stores.look_at_redis, threads={"redis_url": url})[stores.REDIS]


def test_a_redis_that_is_down_is_told_and_well_when_it_is_back(valkey: Valkey) -> None:
    valkey.stop()
    row = redis(valkey.url)
    assert row.status == "fail" and "nothing listens there" in row.summary
    assert row.remedy and row.remedy.command == f"redis-server --port {valkey.port} --daemonize yes"
    valkey.start()
    assert redis(valkey.url).status == "ok"


def test_a_redis_that_is_frozen_is_told_and_well_when_it_wakes(valkey: Valkey) -> None:
    valkey.send(signal.SIGSTOP)
    try:
        row = redis(valkey.url)
    finally:
        valkey.send(signal.SIGCONT)
    assert row.status == "fail" and "no answer" in row.summary
    assert row.remedy and row.remedy.command == "systemctl restart redis"
    assert redis(valkey.url).status == "ok"


def test_a_wrong_password_of_redis_is_told_without_it(valkey: Valkey) -> None:
    with valkey.client() as client:
        client.config_set("requirepass", "the right one")
    for login in (f":{PASSWORD}@", ""):
        row = redis(valkey.url.replace("://", f"://{login}"))
        assert row.status == "fail" and "does not accept this user and password" in row.summary
        assert row.remedy and "CODEXGATE_THREADS_REDIS_URL" in row.remedy.command
    assert redis(valkey.url.replace("://", "://:the%20right%20one@")).status == "ok"


def test_what_is_no_url_of_a_redis_is_told() -> None:
    row = redis(f"redis://:{PASSWORD}@127.0.0.1:6379/0?no_such_option=1")
    assert row.status == "fail" and "is not the URL of a Redis" in row.summary


@pytest.mark.parametrize(
    ("message", "command"),
    [
        (
            "Redis at far:6380 cannot be used: no connection.",
            "ssh far 'redis-server --port 6380 --daemonize yes'",
        ),
        (
            "Redis at /run/redis.sock cannot be used: no connection.",
            "redis-server --port 6379 --daemonize yes",
        ),
        ("Redis at [::1]:6380 cannot be used: no connection.", "redis-server --port 6380 --daemonize yes"),
        ("Redis at far:6379 cannot be used: no answer within 250 ms.", "ssh far 'systemctl restart redis'"),
        (
            "Redis at x:6379 cannot be used: Name or service not known.",
            "export CODEXGATE_THREADS_REDIS_URL=URL",
        ),
    ],
)
def test_a_store_elsewhere_is_mended_there(message: str, command: str) -> None:
    assert stores._remedy(stores.REDIS_MENDS, message, "threads.redis_url").command == command


# Postgres


def memory(url: str, **embeddings: Any) -> dict[str, Row]:
    return look(stores.look_at_memory, memory={"database_url": url}, embeddings=embeddings)


@pytest.fixture
def database(postgres: Postgres) -> Postgres:
    postgres.heal()
    postgres.clear()
    postgres.run("DROP SCHEMA IF EXISTS memories CASCADE")
    postgres.run("DROP EXTENSION IF EXISTS vector CASCADE")
    return postgres


def test_postgres_is_looked_at_and_nothing_is_made_in_it(database: Postgres) -> None:
    found = memory(database.url)
    assert {row.status for row in found.values()} == {"ok"}
    assert "switched on when needed" in found[stores.PGVECTOR].summary
    responses = look(stores.look_at_responses, responses={"database_url": database.url})
    assert responses[stores.RESPONSES].status == "ok"
    assert database.run("SELECT 1 FROM pg_namespace WHERE nspname IN ('memories', 'codexgate')") == []


def test_a_postgres_that_is_down_or_frozen_is_told_and_well_when_it_is_back(database: Postgres) -> None:
    for stop, words in ((database.kill, "refused"), (database.freeze, "no answer")):
        stop()
        try:
            found = memory(database.url)
            [response] = look(stores.look_at_responses, responses={"database_url": database.url}).values()
        finally:
            database.heal()
        assert found[stores.MEMORY].status == response.status == "fail"
        assert words in found[stores.MEMORY].summary and words in response.summary
        assert {found[id].status for id in (stores.PGVECTOR, stores.DIMENSION)} == {"skipped"}
        assert memory(database.url)[stores.MEMORY].status == "ok"


def test_a_wrong_password_of_postgres_is_told_without_it(database: Postgres) -> None:
    database.run("DROP ROLE IF EXISTS guarded")
    database.run("CREATE ROLE guarded LOGIN PASSWORD 'right'")
    wrong = database.url.replace("postgres@", f"guarded:{PASSWORD}@")
    row = memory(wrong)[stores.MEMORY]
    assert row.status == "fail" and "does not accept this user and password" in row.summary
    assert row.remedy and row.remedy.command == "export CODEXGATE_MEMORY_DATABASE_URL=URL"
    assert memory(wrong.replace(PASSWORD, "right"))[stores.MEMORY].status == "ok"


def test_a_user_who_may_not_switch_pgvector_on_is_told_who_may(database: Postgres) -> None:
    database.run("DROP ROLE IF EXISTS humble")
    database.run("CREATE ROLE humble LOGIN")
    url = database.url.replace("postgres@", "humble@")
    row = memory(url)[stores.PGVECTOR]
    assert row.status == "fail" and "not switched on" in row.summary
    assert row.remedy and "CREATE EXTENSION vector" in row.remedy.command
    database.run("CREATE EXTENSION vector")
    assert memory(url)[stores.PGVECTOR].status == "ok"


def test_a_postgres_without_pgvector_is_told_what_to_install(database: Postgres) -> None:
    nothing = f"{database.url}?options=-c%20extension_control_path%3D/nonexistent"
    row = memory(nothing)[stores.PGVECTOR]
    assert row.status == "fail" and "no pgvector" in row.summary
    assert row.remedy and row.remedy.command == "apt install postgresql-18-pgvector"


def test_a_column_of_another_length_than_the_models_is_told_with_both_numbers(database: Postgres) -> None:
    database.run("CREATE EXTENSION vector")
    database.run("CREATE SCHEMA memories")
    columns = "embedding vector(1536), encoder_model text, created_at timestamptz DEFAULT now()"
    database.run(f"CREATE TABLE memories.entries ({columns})")
    row = memory(database.url, provider="local")[stores.DIMENSION]
    assert row.status == "fail" and "1536" in row.summary and "384" in row.summary
    assert row.remedy and row.remedy.command == "export CODEXGATE_EMBEDDINGS_DIMENSION=1536"
    numbers = f"[{','.join(['0'] * 1536)}]"
    database.run(f"INSERT INTO memories.entries VALUES ('{numbers}', 'text-embedding-3-small')")
    row = memory(database.url, provider="local")[stores.DIMENSION]
    assert row.remedy and row.remedy.command == "export CODEXGATE_EMBEDDINGS_MODEL=text-embedding-3-small"
    for other in ({}, {"provider": "local-fast"}):
        assert memory(database.url, **other)[stores.DIMENSION].status == "fail"
    mended = {"provider": "openai", "api_key": PASSWORD, "dimension": 1536}
    assert memory(database.url, **mended)[stores.DIMENSION].status == "ok"


def test_the_length_of_a_model_of_ollama_is_asked_for(database: Postgres) -> None:
    async def show(request: web.Request) -> web.Response:
        assert (await request.json()) == {"model": "nomic-embed-text:latest"}
        return web.json_response({"model_info": {"nomic-bert.embedding_length": 768}})

    async def test() -> Row:
        async with answering(show) as url:
            given = asked(
                memory={"database_url": database.url},
                embeddings={"provider": "ollama", "model": "nomic-embed-text"},
                ollama={"url": url},
            )
            return (await rows(stores.look_at_memory, given))[stores.DIMENSION]

    database.run("CREATE EXTENSION vector")
    database.run("CREATE SCHEMA memories")
    database.run(
        "CREATE TABLE memories.entries (embedding vector(768), encoder_model text, created_at timestamptz)"
    )
    assert run(test()).status == "ok"


# Who may come in


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "gpu-box"])
def test_a_gate_beyond_loopback_needs_a_key(host: str, tmp_path: Path) -> None:
    server = {"host": host, "port": 9}
    found = look(system.look_at_access, data_dir=str(tmp_path), server=server)
    row = found[system.BIND]
    assert row.status == "fail" and host in row.summary
    assert row.remedy and row.remedy.command == "codexgate key make" and row.remedy.safe
    keyed = look(system.look_at_access, data_dir=str(tmp_path), server={**server, "api_key": PASSWORD})
    assert keyed[system.BIND].status == keyed[system.KEY].status == "ok"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_gate_on_loopback_needs_none(host: str) -> None:
    assert look(system.look_at_access, server={"host": host})[system.BIND].status == "ok"


def test_a_key_file_that_others_can_read_is_told_and_mended(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    file = tmp_path / "api-key"
    file.write_text(PASSWORD)
    file.chmod(0o644)
    row = look(system.look_at_access, data_dir=str(tmp_path))[system.KEY]
    assert row.status == "fail" and row.remedy
    assert row.remedy.command == f"chmod 600 {file}" and row.remedy.safe
    file.chmod(0o600)
    assert look(system.look_at_access, data_dir=str(tmp_path))[system.KEY].status == "ok"


def test_a_data_folder_that_others_can_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    file = tmp_path / "files" / "chat.txt"
    file.touch(0o600)
    for folder, mode, status in ((0o755, 0o600, "warning"), (0o755, 0o644, "fail"), (0o700, 0o644, "ok")):
        tmp_path.chmod(folder)
        file.chmod(mode)
        row = look(system.look_at_access, data_dir=str(tmp_path))[system.DATA]
        assert row.status == status
        if status != "ok":
            assert row.remedy and row.remedy.command == f"chmod 700 {tmp_path}" and row.remedy.safe


def test_a_folder_that_is_not_ours_alone_is_never_closed_to_others(tmp_path: Path) -> None:
    for mode, home in ((0o1777, Path("/nonexistent")), (0o755, tmp_path), (0o755, tmp_path / "deeper")):
        tmp_path.chmod(mode)
        given = msgspec.structs.replace(asked(data_dir=str(tmp_path)), home=home)
        row = run(rows(system.look_at_access, given))[system.DATA]
        assert row.status == "warning" and row.remedy and not row.remedy.safe
        assert row.remedy.command == f"export CODEXGATE_DATA_DIR={tmp_path}/codexgate"


# Disk, clock, containers


def test_a_disk_that_is_nearly_full_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for free, status in ((50 << 20, "fail"), (1 << 30, "warning"), (40 << 30, "ok")):
        usage = type("Usage", (), {"free": free})()
        monkeypatch.setattr("shutil.disk_usage", lambda path, usage=usage: usage)
        assert look(system.look_at_disk)[system.DISK].status == status


@pytest.mark.parametrize(
    ("hours", "status", "words"),
    [(0, "ok", "agrees"), (5, "fail", "5 hours behind"), (-48, "fail", "2 days ahead of")],
)
def test_a_clock_is_held_against_that_of_a_server(hours: int, status: str, words: str) -> None:
    async def root(request: web.Request) -> web.Response:
        then = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=hours)
        return web.Response(headers={"Date": format_datetime(then, usegmt=True)})

    async def test() -> Row:
        async with answering(root) as url:
            given = asked(openai={"box": {"base_url": url.replace("://", f"://user:{PASSWORD}@")}})
            return (await rows(system.look_at_clock, given))[system.CLOCK]

    row = run(test())
    assert row.status == status and words in row.summary


def test_a_server_that_does_not_tell_the_time_is_no_clock() -> None:
    async def root(request: web.Request) -> web.Response:
        return web.Response(headers={"Date": "yesterday"})

    async def test() -> Row:
        async with answering(root) as url:
            return (await rows(system.look_at_clock, asked(ollama={"url": url})))[system.CLOCK]

    assert run(test()).status == "skipped"


@pytest.mark.parametrize(
    ("file", "text", "name"),
    [
        (".dockerenv", "", "a container"),
        ("run/.containerenv", "", "a container"),
        ("proc/version", "Linux version 5.15.90.1-microsoft-standard-WSL2", "WSL"),
        ("proc/version", "Linux version 6.1.0-18-amd64 (debian-kernel)", ""),
    ],
)
def test_containers_and_wsl_are_known_by_their_files(file: str, text: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    assert system.where(tmp_path) == name


def test_the_way_out_of_a_container_is_read_from_its_routes(tmp_path: Path) -> None:
    table = tmp_path / "proc/net/route"
    table.parent.mkdir(parents=True)
    head = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
    hexadecimal = (
        socket.inet_aton("172.17.0.1") if sys.byteorder == "big" else socket.inet_aton("172.17.0.1")[::-1]
    )
    local, default = (
        "eth0 000011AC 00000000 1 0 0 0 0 0 0 0",
        f"eth0 00000000 {hexadecimal.hex()} 3 0 0 0 0 0 0 0",
    )
    for text, found in (
        (f"{head}{local}\n{default}\n", ("172.17.0.1",)),
        (f"{head}{local}\n", ()),
        (f"{head}eth0 00000000 nonsense\n", ()),
    ):
        table.write_text(text)
        assert system.gateways(tmp_path) == found
    assert system.gateways(tmp_path / "elsewhere") == ()


def test_an_ollama_outside_of_the_container_is_found_there(tmp_path: Path) -> None:
    (tmp_path / ".dockerenv").touch()

    async def test() -> None:
        async with ScriptedOllama() as outside:
            port = outside.url.rpartition(":")[2]
            given = asked(ollama={"url": f"http://127.0.0.2:{port}"})  # nothing is there
            row = await system._contained(given, tmp_path, ["127.0.0.3", "127.0.0.1"])
            assert row.status == "warning" and outside.url in row.summary
            assert row.remedy and row.remedy.command == f"export OLLAMA_HOST={outside.url}"
            given = asked(ollama={"url": outside.url})
            assert (await system._contained(given, tmp_path, ["127.0.0.3", "127.0.0.1"])).status == "ok"
        given = asked(ollama={"url": NOWHERE})
        assert (await system._contained(given, tmp_path, ["127.0.0.2"])).status == "skipped"
        named = msgspec.structs.replace(given, environ={"OLLAMA_HOST": NOWHERE})
        assert (await system._contained(named, tmp_path, ["127.0.0.2"])).status == "warning"
        assert (await system._contained(given, tmp_path / "bare metal", ["127.0.0.2"])).status == "ok"

    run(test())


# The way to servers


async def upstream(url: str) -> dict[str, Row]:
    return await rows(network.look, asked(openai={"box": {"base_url": url, "api_key": PASSWORD}}))


@pytest.mark.parametrize(
    ("hosts", "until", "signed", "words"),
    [
        (("127.0.0.1",), DAY, True, ""),
        (("127.0.0.1",), -DAY, True, "has expired"),
        (("127.0.0.1",), DAY, False, "signed by itself"),
        (("gpu-box", "gpu-box.example"), DAY, True, "for another host (gpu-box, gpu-box.example)"),
    ],
    ids=["good", "expired", "self-signed", "wrong host"],
)
def test_the_faults_of_certificates_are_told_apart(
    hosts: tuple[str, ...],
    until: datetime.timedelta,
    signed: bool,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))

    async def test() -> dict[str, Row]:
        async with certified(authority.context(*hosts, until=until, signed=signed)) as port:
            return await upstream(f"https://user:{PASSWORD}@127.0.0.1:{port}/v1")

    found = run(test())
    assert found[network.UPSTREAM].status == "ok"
    assert found[network.TLS].status == ("fail" if words else "ok")
    assert words in found[network.TLS].summary


def test_an_authority_that_nobody_knows_is_told(tmp_path: Path) -> None:
    async def test() -> Row:
        async with certified(Authority(tmp_path).context("127.0.0.1")) as port:
            return (await upstream(f"https://127.0.0.1:{port}/v1"))[network.TLS]

    row = run(test())
    assert row.status == "fail" and "not known here" in row.summary
    assert row.remedy and "SSL_CERT_FILE" in row.remedy.command


def test_a_server_without_tls_is_told() -> None:
    async def test() -> None:
        async with certified(None) as port:
            row = (await upstream(f"https://127.0.0.1:{port}/v1"))[network.TLS]
            assert row.status == "fail" and "does not speak TLS" in row.summary
            found = await upstream(f"http://127.0.0.1:{port}/v1")
            assert found[network.UPSTREAM].status == "ok" and found[network.TLS].status == "skipped"

    run(test())


@pytest.mark.parametrize(
    ("host", "words"), [("127.0.0.1:9", "nothing listens there"), ("no-such-host.invalid", "nobody knows")]
)
def test_a_server_that_is_not_there_is_told(host: str, words: str) -> None:
    found = run(upstream(f"https://{host}/v1"))
    assert found[network.UPSTREAM].status == "fail" and words in found[network.UPSTREAM].summary
    assert found[network.TLS].status == "skipped"


# What they share


@asynccontextmanager
async def answering(handler: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    """The URL of a server that answers everything so."""
    runner = web.AppRunner(app := web.Application(), access_log=None)
    app.router.add_route("*", "/{path:.*}", handler)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
