"""The doctor on stores, on this machine and on the way to servers, beside the causes in `tests/causes`."""

import datetime
import socket
import sys
from collections.abc import Awaitable, Callable
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from codexgate.config import Secret
from codexgate.doctor import network, services, stores, system
from codexgate.doctor.words import Asked, Row
from codexgate.settings import Settings
from tests.causes.bench import DEADLINES
from tests.servers.faulty import Faulty, only_v1
from tests.servers.ollama import ScriptedOllama
from tests.servers.postgres import Postgres
from tests.support import run, unhurried

NOWHERE = "http://127.0.0.1:9"
PASSWORD = "hunter2-secret"

Look = Callable[[Asked], Awaitable[list[Row]]]


@pytest.fixture(autouse=True)
def time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """No deadline of a single look is tested here."""
    unhurried(monkeypatch, *DEADLINES)


def settings(**sections: Any) -> Settings:
    """Settings as a file would give them; nothing of this machine."""
    ground = {"data_dir": "/nonexistent/codexgate", "ollama": {"url": NOWHERE}, "server": {"port": 9}}
    return msgspec.convert(ground | sections, Settings, dec_hook=lambda kind, value: _secret(kind, value))


def _secret(kind: type, value: Any) -> Any:
    return Secret(value) if kind is Secret else kind(value)


def asked(**sections: Any) -> Asked:
    return Asked(settings(**sections), {}, Path("/nonexistent"))


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


def test_what_is_no_url_of_a_redis_is_told() -> None:
    row = redis(f"redis://:{PASSWORD}@127.0.0.1:6379/0?no_such_option=1")
    assert row.status == "fail" and "is not the URL of a Redis" in row.summary


@pytest.mark.parametrize(
    ("message", "command"),
    [
        (
            "Redis at far:6380 cannot be used: nothing listens there.",
            "ssh far 'redis-server --port 6380 --daemonize yes'",
        ),
        (
            "Redis at /run/redis.sock cannot be used: nothing listens there.",
            "redis-server --port 6379 --daemonize yes",
        ),
        ("Redis at [::1]:6380 cannot be used: no connection.", "redis-server --port 6380 --daemonize yes"),
        (
            "Redis at far:6379 cannot be used: no answer within 250 ms.",
            "ssh -t far 'sudo systemctl restart redis'",
        ),
        (
            "Redis at x:6379 cannot be used: unknown host.",
            "export CODEXGATE_THREADS_REDIS_URL=URL",
        ),
        (
            "Redis at far:6380 cannot be used: its certificate cannot be verified (self-signed certificate).",
            "export CODEXGATE_THREADS_REDIS_URL=URL",
        ),
        (
            "Redis at far:6380 cannot be used: its certificate cannot be verified (certificate has expired).",
            "ssh far 'openssl s_client -connect 127.0.0.1:6380 </dev/null | openssl x509 -noout -dates'",
        ),
        (
            "Redis at far:6380 cannot be used: it does not speak TLS.",
            "export CODEXGATE_THREADS_REDIS_URL=URL",
        ),
    ],
)
def test_a_store_elsewhere_is_mended_there(message: str, command: str) -> None:
    assert stores._remedy(stores.REDIS_MENDS, message, "threads.redis_url").command == command


def test_where_systemd_is_not_no_command_needs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "SYSTEMD", tmp_path / "nowhere")
    for mends in (stores.REDIS_MENDS, stores.POSTGRES_MENDS):
        for words, (_, command) in mends.items():
            here = stores._remedy(mends, f"A store at 127.0.0.1:1 cannot be used: {words}", "a.b").command
            there = stores._remedy(mends, f"A store at far:1 cannot be used: {words}", "a.b").command
            assert here and ("systemctl" in here, "systemctl" in there) == (False, "systemctl" in command)


# Postgres


def memory(url: str, **embeddings: Any) -> dict[str, Row]:
    return look(stores.look_at_memory, memory={"database_url": url}, embeddings=embeddings)


@pytest.fixture
def database(postgres: Postgres) -> Postgres:
    postgres.run("DROP EXTENSION IF EXISTS vector CASCADE")
    return postgres


def test_postgres_is_looked_at_and_nothing_is_made_in_it(database: Postgres) -> None:
    found = memory(database.url)
    assert {row.status for row in found.values()} == {"ok"}
    assert "switched on when needed" in found[stores.PGVECTOR].summary
    responses = look(stores.look_at_responses, responses={"database_url": database.url})
    assert responses[stores.RESPONSES].status == "ok"
    assert database.run("SELECT 1 FROM pg_namespace WHERE nspname IN ('memories', 'codexgate')") == []


def test_a_column_of_another_length_than_the_models_is_told_with_both_numbers(database: Postgres) -> None:
    database.run("CREATE EXTENSION vector")
    database.run("CREATE SCHEMA memories")
    columns = "embedding vector(1536), encoder_model text, created_at timestamptz DEFAULT now()"
    database.run(f"CREATE TABLE memories.entries ({columns})")
    empty = memory(database.url)[stores.DIMENSION]
    assert empty.status == "ok" and "it is widened when something is" in empty.summary
    database.run("INSERT INTO memories.entries (encoder_model) VALUES ('text-embedding-3-small')")
    for embeddings, makes in (
        ({}, "384"),
        ({"provider": "local"}, "384"),
        ({"provider": "local-fast"}, "256"),
    ):
        row = memory(database.url, **embeddings)[stores.DIMENSION]
        assert row.status == "fail" and "1536" in row.summary and makes in row.summary
    mended = {"provider": "openai", "api_key": PASSWORD, "dimension": 1536}
    assert memory(database.url, **mended)[stores.DIMENSION].status == "ok"


def test_the_length_of_a_model_of_ollama_is_asked_for(database: Postgres) -> None:
    def show(body: Any) -> Any:
        assert body == {"model": "nomic-embed-text:latest"}
        return {"model_info": {"nomic-bert.embedding_length": 768}}

    async def test() -> Row:
        async with Faulty({"/api/show": show}) as server:
            given = asked(
                memory={"database_url": database.url},
                embeddings={"provider": "ollama", "model": "nomic-embed-text"},
                ollama={"url": server.url},
            )
            return (await rows(stores.look_at_memory, given))[stores.DIMENSION]

    database.run("CREATE EXTENSION vector")
    database.run("CREATE SCHEMA memories")
    database.run(
        "CREATE TABLE memories.entries (embedding vector(768), encoder_model text, created_at timestamptz)"
    )
    assert run(test()).status == "ok"


def test_where_postgres_cannot_be_asked_nothing_is_said_of_its_vectors() -> None:
    found = memory("postgresql://127.0.0.1:9/none")
    assert [row.status for row in found.values()] == ["fail", "skipped", "skipped"]


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


@pytest.mark.parametrize(("name", "safe"), [("codexgate", True), ("kept", False)])
def test_a_data_folder_that_others_can_read_is_told(name: str, safe: bool, tmp_path: Path) -> None:
    """It is closed without a question where its name says that it is the gate's."""
    data = tmp_path / name
    (data / "files").mkdir(parents=True)
    file = data / "files" / "chat.txt"
    file.touch(0o600)
    given = msgspec.structs.replace(asked(data_dir=str(data)), home=tmp_path)
    for folder, mode, status in ((0o755, 0o600, "warning"), (0o755, 0o644, "fail"), (0o700, 0o644, "ok")):
        data.chmod(folder)
        file.chmod(mode)
        row = run(rows(system.look_at_access, given))[system.DATA]
        assert row.status == status
        if status != "ok":
            assert row.remedy
            assert (row.remedy.command, row.remedy.safe) == (f"chmod 700 {data}", safe)


def test_a_file_in_a_folder_that_others_cannot_enter_is_not_said_to_be_read(tmp_path: Path) -> None:
    """As `installation_id` in the home that the gate gives Codex."""
    tmp_path.chmod(0o755)
    inner = tmp_path / "codex-home"
    inner.mkdir()
    (inner / "installation_id").touch(0o644)
    (inner / "installation_id").chmod(0o644)
    for mode, status in ((0o700, "warning"), (0o744, "warning"), (0o711, "fail"), (0o755, "fail")):
        inner.chmod(mode)
        row = look(system.look_at_access, data_dir=str(tmp_path))[system.DATA]
        assert (row.status, "installation_id" in row.summary) == (status, status == "fail"), oct(mode)


def test_what_is_roots_is_not_the_gates_for_that() -> None:
    """Where the doctor runs as root, which owns what is everybody's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.geteuid", lambda: 0)
        row = look(system.look_at_access, data_dir="/usr")[system.DATA]
    assert row.remedy and row.remedy.command == "export CODEXGATE_DATA_DIR=/usr/codexgate"


def test_a_folder_that_is_not_ours_alone_is_never_closed_to_others(tmp_path: Path) -> None:
    for mode, home in ((0o1777, Path("/nonexistent")), (0o755, tmp_path), (0o755, tmp_path / "deeper")):
        tmp_path.chmod(mode)
        given = msgspec.structs.replace(asked(data_dir=str(tmp_path)), home=home)
        row = run(rows(system.look_at_access, given))[system.DATA]
        assert row.status == "warning" and row.remedy and not row.remedy.safe
        assert row.remedy.command == f"export CODEXGATE_DATA_DIR={tmp_path}/codexgate"


# Disk, clock, containers


def clock(date: str) -> Row:
    """What is told of a clock against that of a server with a password, which says that it is `date`."""

    async def test() -> Row:
        async with Faulty({}) as server:
            server.headers["Date"] = date
            given = asked(openai={"box": {"base_url": server.url.replace("://", f"://user:{PASSWORD}@")}})
            return (await rows(system.look_at_clock, given))[system.CLOCK]

    return run(test())


def test_a_clock_is_held_against_that_of_a_server() -> None:
    now = datetime.datetime.now(datetime.UTC)
    assert clock(format_datetime(now, usegmt=True)).status == "ok"
    assert clock(format_datetime(now + datetime.timedelta(minutes=5), usegmt=True)).status == "warning"


def test_a_server_that_does_not_tell_the_time_is_no_clock() -> None:
    assert clock("yesterday").status == "skipped"


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
            assert row.remedy and row.remedy.command == f"export CODEXGATE_OLLAMA_URL={outside.url}"
            given = asked(ollama={"url": outside.url})
            assert (await system._contained(given, tmp_path, ["127.0.0.3", "127.0.0.1"])).status == "ok"
        given = asked(ollama={"url": NOWHERE})
        assert (await system._contained(given, tmp_path, ["127.0.0.2"])).status == "skipped"
        named = msgspec.structs.replace(given, environ={"OLLAMA_HOST": NOWHERE})
        assert (await system._contained(named, tmp_path, ["127.0.0.2"])).status == "warning"
        assert (await system._contained(given, tmp_path / "bare metal", ["127.0.0.2"])).status == "ok"

    run(test())


# The way to servers


def test_a_server_that_is_there_is_asked_for_its_models_with_its_key() -> None:
    async def test() -> None:
        async with Faulty(only_v1("big")) as server:
            server.key = PASSWORD
            given = asked(openai={"box": {"base_url": f"{server.url}/v1", "api_key": PASSWORD}})
            row = (await rows(network.look, given))[network.UPSTREAM]
            assert (row.status, row.details["answer"]) == ("ok", "1 model")
            del server.routes["/v1/models"]
            known = {"base_url": f"{server.url}/v1", "api_key": PASSWORD, "models": ["big"]}
            row = (await rows(network.look, asked(openai={"box": known})))[network.UPSTREAM]
            assert row.status == "ok", "who names the models need not list them"

    run(test())


@pytest.mark.parametrize(
    "url", ["junk", "127.0.0.1:8000/v1", "http://127.0.0.1:99999", "http://[::::]", "ftp://h"]
)
@pytest.mark.parametrize("section", ["openai", "embeddings"])
def test_an_address_that_is_none_is_told_as_such(section: str, url: str) -> None:
    given = {"openai": {"box": {"base_url": url}}, "embeddings": {"base_url": url}}[section]
    row = look(network.look, **{section: given})[network.UPSTREAM]
    assert row.status == "fail" and row.summary.endswith("base_url is no address.")


@pytest.mark.parametrize(
    ("host", "words"), [("127.0.0.1:9", "nothing listens there"), ("no-such-host.invalid", "nobody knows")]
)
def test_a_server_that_is_not_there_is_told(host: str, words: str) -> None:
    url = f"https://user:{PASSWORD}@{host}/v1"
    found = look(network.look, openai={"box": {"base_url": url, "api_key": PASSWORD}})
    assert found[network.UPSTREAM].status == "fail" and words in found[network.UPSTREAM].summary
    assert found[network.TLS].status == "skipped"
