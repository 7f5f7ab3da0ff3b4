"""`/v1/files` over real sockets: uploads by every client, hostile names and bodies, gates that are killed."""

import asyncio
import errno
import json
import os
import random
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from yarl import URL

from codexgate.fronts import openai_files
from codexgate.server import form, guard
from codexgate.server.app import Listen
from codexgate.stores import blobs
from codexgate.stores.files import FileOptions, Files
from tests.servers.gateway import serving
from tests.servers.program import COMMAND, environment
from tests.servers.scripted import Scripted
from tests.support import run

pytestmark = [
    # aiohttp's own reader of forms still uses what it has called deprecated.
    pytest.mark.filterwarnings("ignore:unread_data:DeprecationWarning"),
    # Which `server.form` keeps quiet; pytest has filters of its own.
    pytest.mark.filterwarnings("ignore::aiohttp.BadContentDispositionHeader"),
    pytest.mark.filterwarnings("ignore::aiohttp.BadContentDispositionParam"),
]

FILES = "/v1/files"
FORM = {"Content-Type": "multipart/form-data; boundary=xx"}


@asynccontextmanager
async def gate(folder: Path, *, max_size: int = 10**7, key: str = "") -> AsyncIterator[str]:
    files = Files(folder / "files", FileOptions(max_size=max_size))
    try:
        async with serving(Scripted(), files=files, listen=Listen(drain=0, key=key)) as url:
            yield url
    finally:
        await files.aclose()


@asynccontextmanager
async def client(url: str, key: str = "me") -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as opened:
        yield opened


def part(disposition: str, content: bytes = b"", *headers: str) -> bytes:
    head = "\r\n".join(["--xx", f"Content-Disposition: form-data; {disposition}", *headers, "", ""])
    return head.encode() + content + b"\r\n"


A_FILE = part('name="file"; filename="a.txt"', b"hello")
END = b"--xx--\r\n"


def left(folder: Path) -> list[str]:
    """What lies where contents are kept."""
    contents = folder / "files" / "contents"
    return sorted(path.name for path in contents.iterdir()) if contents.exists() else []


def post(
    folder: Path, body: bytes, headers: dict[str, str] = FORM, path: str = FILES, **options: Any
) -> tuple[int, Any]:
    async def scenario() -> tuple[int, Any]:
        async with gate(folder, **options) as url, aiohttp.ClientSession(url) as session:
            async with session.post(path, data=BytesIO(body), headers=headers) as answer:
                return answer.status, await answer.json()

    return run(scenario())


def test_the_official_client_creates_lists_retrieves_reads_and_deletes(tmp_path: Path) -> None:
    async def scenario() -> None:
        content = os.urandom(3_000_000)
        async with gate(tmp_path) as url, client(url) as openai_client:
            files = openai_client.files
            assert (await files.list()).data == []
            made = await files.create(
                file=("Übersicht 🙂.bin", content),
                purpose="vision",
                expires_after={"anchor": "created_at", "seconds": 3600},
            )
            assert (made.object, made.bytes, made.purpose, made.status) == (
                "file",
                3_000_000,
                "vision",
                "processed",
            )
            assert made.filename == "Übersicht 🙂.bin"
            assert made.expires_at == made.created_at + 3600
            assert await files.retrieve(made.id) == made
            other = await files.create(file=b"plain", purpose="user_data")
            assert other.expires_at is None
            assert [file.id async for file in files.list()] == [other.id, made.id]
            assert [file.id async for file in files.list(purpose="vision")] == [made.id]
            read = await files.content(made.id)
            assert read.content == content
            assert (await files.delete(made.id)).deleted
            for gone in (files.retrieve(made.id), files.content(made.id), files.delete(made.id)):
                with pytest.raises(openai.NotFoundError) as error:
                    await gone
                assert error.value.code == "file_not_found"
            assert left(tmp_path) == [other.id]

    run(scenario())


def test_a_thousand_files_in_pages(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gate(tmp_path) as url, client(url) as openai_client:
            files = openai_client.files
            first = await files.create(file=b"x", purpose="assistants")
            with sqlite3.connect(tmp_path / "files" / "index.db") as index:
                (row,) = index.execute("SELECT * FROM file").fetchall()
                rows = [(f"file-{n:024x}", *row[1:]) for n in range(999)]
                index.executemany(f"INSERT INTO file VALUES ({', '.join('?' * len(row))})", rows)
            index.close()
            oldest_first = [row[0] for row in rows] + [first.id]
            assert [one.id async for one in files.list(limit=100, order="asc")] == oldest_first
            assert [one.id async for one in files.list(limit=333)] == oldest_first[::-1]
            page = await files.list(limit=999)
            assert (page.has_more, page.first_id, page.last_id) == (True, first.id, oldest_first[1])  # type: ignore[attr-defined]
            assert not (await files.list(limit=1000)).has_more
            assert len((await files.list()).data) == 1000

    run(scenario())


def test_who_deletes_while_reading_pages_gets_to_the_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gate(tmp_path) as url, client(url) as openai_client:
            files = openai_client.files
            for _ in range(7):
                await files.create(file=b"x", purpose="assistants")
            async for file in files.list(limit=3):
                await files.delete(file.id)
            assert (await files.list()).data == []

    run(scenario())


def test_thirty_uploads_at_once_are_thirty_whole_files(tmp_path: Path) -> None:
    async def scenario() -> None:
        contents = {f"{n}.bin": os.urandom(n * 20_000) for n in range(30)}
        async with gate(tmp_path) as url, client(url) as openai_client:
            files = openai_client.files
            await asyncio.gather(*(files.create(file=one, purpose="user_data") for one in contents.items()))
            listed = [file async for file in files.list()]
            assert len({file.id for file in listed}) == 30
            assert {file.filename: (await files.content(file.id)).content for file in listed} == contents
            assert left(tmp_path) == sorted(file.id for file in listed)

    run(scenario())


def test_what_is_read_is_saved_and_never_shown(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gate(tmp_path) as url, aiohttp.ClientSession(url) as session:
            page = part(
                "name=\"file\"; filename*=UTF-8''%E2%82%AC%20%22rates%22.html",
                b"<script>",
                "Content-Type: text/html",
            )
            async with session.post(FILES, data=page + END, headers=FORM) as answer:
                id = (await answer.json())["id"]
            for method in ("GET", "HEAD"):
                async with session.request(method, f"{FILES}/{id}/content") as answer:
                    assert answer.headers["Content-Type"] == "application/octet-stream"
                    assert answer.headers["X-Content-Type-Options"] == "nosniff"
                    assert answer.headers["Content-Length"] == "8"
                    assert answer.headers["Content-Disposition"].startswith(
                        'attachment; filename="_ _rates_.html";'
                    )
                    assert answer.content_disposition is not None
                    assert answer.content_disposition.filename == '€ "rates".html'
                    assert await answer.read() == (b"<script>" if method == "GET" else b"")

    run(scenario())


def test_another_caller_sees_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gate(tmp_path) as url, client(url, "me") as mine, client(url, "you") as yours:
            id = (await mine.files.create(file=b"secret", purpose="user_data")).id
            assert (await yours.files.list()).data == []
            for tried in (yours.files.retrieve(id), yours.files.content(id), yours.files.delete(id)):
                with pytest.raises(openai.NotFoundError):
                    await tried
            assert (await mine.files.content(id)).content == b"secret"

    run(scenario())


def test_every_base_has_files_and_ozwells_has_its_own_purpose(tmp_path: Path) -> None:
    for base, purpose in (("/v1", "user_data"), ("/openai/v1", "user_data"), ("/ozwell/v1", "assistants")):
        status, made = post(tmp_path, A_FILE + END, path=f"{base}/files")
        assert (status, made["purpose"]) == (200, purpose)
    assert len(left(tmp_path)) == 3


PURPOSE = part('name="purpose"', b"batch")


@pytest.mark.parametrize(
    "body", [PURPOSE + A_FILE + END, A_FILE + PURPOSE + part('name="other"', b"x") + END]
)
def test_fields_may_come_in_any_order(body: bytes, tmp_path: Path) -> None:
    status, made = post(tmp_path, body)
    assert (status, made["purpose"], made["filename"], made["bytes"]) == (200, "batch", "a.txt", 5)


def test_an_empty_file_is_taken(tmp_path: Path) -> None:
    status, made = post(tmp_path, part('name="file"; filename="a"') + END)
    assert (status, made["bytes"]) == (200, 0)


def field(name: str, value: str) -> bytes:
    return part(f'name="{name}"', value.encode())


NESTED = "Content-Type: multipart/mixed; boundary=yy"
REFUSED: dict[str, tuple[bytes, str | None]] = {
    "no file": (PURPOSE + END, "file"),
    "nothing": (END, "file"),
    "two files": (A_FILE + A_FILE + END, "file"),
    "an unknown purpose": (A_FILE + field("purpose", "fun") + END, "purpose"),
    "no anchor": (A_FILE + field("expires_after[seconds]", "3600") + END, "expires_after[anchor]"),
    "no seconds": (A_FILE + field("expires_after[anchor]", "created_at") + END, "expires_after[seconds]"),
    "too short a life": (
        A_FILE + field("expires_after[anchor]", "created_at") + field("expires_after[seconds]", "3599") + END,
        "expires_after[seconds]",
    ),
    "too long a life": (
        A_FILE
        + field("expires_after[anchor]", "created_at")
        + field("expires_after[seconds]", "2592001")
        + END,
        "expires_after[seconds]",
    ),
    "a life that is no number": (
        A_FILE + field("expires_after[anchor]", "created_at") + field("expires_after[seconds]", "²") + END,
        "expires_after[seconds]",
    ),
    "a field without end": (A_FILE + field("purpose", "x" * 5000) + END, "purpose"),
    "fields without end": (A_FILE + field("x", "") * 50 + END, None),
    "a form in a form": (A_FILE + part('name="x"', b"--yy--", NESTED) + END, None),
    "no end": (A_FILE, None),
    "an end in the middle of the file": (A_FILE[:-4], None),
    "no form": (b"{}", None),
    "an empty body": (b"", None),
    "a header without end": (b"--xx\r\nX: " + b"x" * 100_000 + b"\r\n\r\n" + END, None),
    "a header with a control character": (b"--xx\r\nX: said\x01\r\n\r\n" + END, None),
}


@pytest.mark.parametrize(("body", "param"), REFUSED.values(), ids=REFUSED.keys())
def test_a_form_that_is_refused_leaves_nothing(body: bytes, param: str | None, tmp_path: Path) -> None:
    status, answer = post(tmp_path, body)
    assert (status, answer["error"]["param"]) == (400, param)
    assert "\n" not in answer["error"]["message"] and "said" not in answer["error"]["message"]
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {**FORM, "Content-Encoding": "gzip"},
    ],
)
def test_anything_but_a_plain_form_is_unsupported(headers: dict[str, str], tmp_path: Path) -> None:
    assert post(tmp_path, A_FILE + END, headers)[0] == 415


def test_broken_forms_are_never_our_failure(tmp_path: Path) -> None:
    async def scenario() -> None:
        chance = random.Random(20261121)
        good = PURPOSE + A_FILE + field("expires_after[anchor]", "created_at") + END
        async with gate(tmp_path) as url, aiohttp.ClientSession(url) as session:
            for _ in range(300):
                broken = bytearray(good[: chance.randrange(len(good)) if chance.random() < 0.3 else None])
                for _ in range(chance.randint(1, 6)):
                    broken[chance.randrange(len(broken) or 1) : chance.randrange(len(broken) or 1)] = (
                        chance.randbytes(chance.randint(0, 3))
                    )
                async with session.post(FILES, data=bytes(broken), headers=FORM) as answer:
                    assert answer.status in (200, 400), bytes(broken)
                    assert ("error" in await answer.json()) == (answer.status == 400)
            async with session.get(FILES) as answer:
                assert sorted(file["id"] for file in (await answer.json())["data"]) == left(tmp_path)

    run(scenario())


QUERIES = [
    "limit=0",
    "limit=10001",
    "limit=x",
    "limit=-1",
    "limit=1e3",
    "order=up",
    "after=x",
    "after=file-1",
]


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_that_is_refused_names_its_field(query: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gate(tmp_path) as url, aiohttp.ClientSession(url) as session:
            async with session.get(f"{FILES}?{query}") as answer:
                assert answer.status == 400
                assert (await answer.json())["error"]["param"] == query.partition("=")[0]

    run(scenario())


NAMES = {
    "../../etc/passwd": "passwd",
    "/etc/shadow": "shadow",
    "C:\\Users\\me\\x.txt": "x.txt",
    "a\0b\r\n\x1b[2Jc": "ab[2Jc",
    "a\u2028b\u2029c\udc80": "abc",
    "": "file",
    "..": "file",
    "../": "file",
    " . ": "file",
    ".profile": ".profile",
    "x" * 300: "x" * 255,
    "ü" * 200: "ü" * 127,
    "👩\u200d🔬 नमस्ते.txt": "👩\u200d🔬 नमस्ते.txt",
}


@pytest.mark.parametrize(("name", "kept"), NAMES.items(), ids=range(len(NAMES)))
def test_names_are_made_harmless(name: str, kept: str) -> None:
    assert openai_files.clean_name(name) == kept


DISPOSITIONS = {
    'filename="../../../evil"': "evil",
    'filename="/tmp/evil"': "evil",
    "filename*=UTF-8''..%2F..%2Fevil": "evil",
    "filename*=UTF-8''a%00b%0D%0Ac": "abc",
    'filename="Größe.txt"': "Größe.txt",
    f'filename="{"n" * 300}"': "n" * 255,
    "x=y": "file",
}


@pytest.mark.parametrize(("disposition", "kept"), DISPOSITIONS.items(), ids=range(len(DISPOSITIONS)))
def test_no_name_is_part_of_a_path(disposition: str, kept: str, tmp_path: Path) -> None:
    status, made = post(tmp_path, part(f'name="file"; {disposition}', b"x") + END)
    assert (status, made["filename"]) == (200, kept)
    assert left(tmp_path) == [made["id"]]
    assert {path.name for path in tmp_path.iterdir()} == {"files"}
    assert not {"evil", kept} & {path.name for path in tmp_path.rglob("*")}


@pytest.mark.parametrize(
    "id", ["..%2f..%2findex.db", "%2e%2e", "index.db", "%00", "%ff", "file-%2e", "x" * 5000]
)
def test_an_id_is_no_path(id: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gate(tmp_path) as url, aiohttp.ClientSession() as session:
            async with session.post(f"{url}{FILES}", data=A_FILE + END, headers=FORM):
                pass
            for method, tail in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
                target = URL(f"{url}{FILES}/{id}{tail}", encoded=True)
                async with session.request(method, target) as answer:
                    assert answer.status in (404, 405)
                    assert "error" in await answer.json()

    run(scenario())


# Limits


async def begin(
    url: str, *headers: str, body: bytes = b""
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """An upload on a socket of its own, of which no more than `body` is sent."""
    port = int(url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [
        f"POST {FILES} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        f"Content-Type: {FORM['Content-Type']}",
        *headers,
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    return reader, writer


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_a_file_over_the_limit_leaves_nothing(tmp_path: Path) -> None:
    body = part('name="file"; filename="a"', bytes(blobs.PIECE + 1)) + END
    assert post(tmp_path, body, max_size=blobs.PIECE)[0] == 413
    assert left(tmp_path) == []
    assert post(tmp_path, body, max_size=blobs.PIECE + 1)[0] == 200


@pytest.mark.parametrize(("key", "status"), [("", 413), ("cg-secret", 401)])
def test_who_asks_and_how_much_is_known_before_a_byte_is_read(key: str, status: int, tmp_path: Path) -> None:
    async def scenario() -> bytes:
        async with gate(tmp_path, key=key) as url:
            reader, writer = await begin(url, "Content-Length: 1000000000")
            line = await reader.readline()
            writer.close()
            return line

    assert run(scenario()).startswith(f"HTTP/1.1 {status} ".encode())


BIG = part('name="file"; filename="a"', bytes(3 * blobs.PIECE))[:-2]


def test_a_client_that_leaves_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gate(tmp_path) as url:
            _, writer = await begin(url, "Content-Length: 9000000", body=BIG)
            await until(lambda: left(tmp_path))
            writer.transport.abort()
            await until(lambda: not left(tmp_path))

    run(scenario())


def test_a_gate_that_stops_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gate(tmp_path) as url:
            _, writer = await begin(url, "Content-Length: 9000000", body=BIG)
            await until(lambda: left(tmp_path))
        assert not left(tmp_path)
        writer.close()

    run(scenario())


@pytest.mark.parametrize("trickle", [False, True], ids=["stalls", "trickles"])
def test_an_upload_that_dawdles_is_refused(
    trickle: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "BODY_TIME", 0.3)
    monkeypatch.setattr(form, "PACE", 1024**3)

    async def scenario() -> bytes:
        async with gate(tmp_path) as url:
            reader, writer = await begin(url, "Content-Length: 9000000", body=BIG)
            answer = asyncio.ensure_future(reader.readline())
            while trickle and not answer.done():
                writer.write(bytes(100))
                await asyncio.sleep(0.02)
            line = await answer
            writer.close()
            await until(lambda: not left(tmp_path))
            return line

    assert run(scenario()).startswith(b"HTTP/1.1 400 ")


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    status, answer = post(tmp_path, A_FILE + END)
    assert (status, answer["error"]["code"]) == (503, "disk_full")
    assert left(tmp_path) == []


def test_a_content_that_is_cut_under_a_reader_is_no_whole_answer(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gate(tmp_path, max_size=10**8) as url, aiohttp.ClientSession(url) as session:
            body = part('name="file"; filename="a"', bytes(60_000_000)) + END
            async with session.post(FILES, data=BytesIO(body), headers=FORM) as answer:
                id = (await answer.json())["id"]
            with pytest.raises(aiohttp.ClientError):
                async with session.get(f"{FILES}/{id}/content") as answer:
                    assert answer.status == 200
                    os.truncate(tmp_path / "files" / "contents" / id, 30_000_000)
                    await answer.read()

    run(scenario())


# Gates that are killed


class Gate:
    """A gate in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.url = url
        self._process = process

    @classmethod
    async def start(cls, home: Path) -> "Gate":
        pipe, nowhere = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            *(*COMMAND, "serve", "--port", "0", "--log-format", "json"),
            stdin=nowhere,
            stdout=nowhere,
            stderr=pipe,
            env=environment(home),
            cwd=home,
        )
        assert process.stderr is not None
        while b"service.init" not in (line := await process.stderr.readline()):
            assert line, "it ended before it served"
        return cls(process, json.loads(line)["url"])

    async def end(self, number: signal.Signals) -> None:
        self._process.send_signal(number)
        await self._process.communicate()


def test_a_gate_that_is_killed_among_uploads_has_lost_nothing_it_acknowledged(tmp_path: Path) -> None:
    contents = {f"{n}": os.urandom(100_000 + n * 40_000) for n in range(30)}

    async def upload(url: str, acknowledged: set[str], enough: asyncio.Event, count: int) -> None:
        async def one(name: str, session: aiohttp.ClientSession) -> None:
            body = part(f'name="file"; filename="{name}"', contents[name]) + END
            try:
                async with session.post(FILES, data=BytesIO(body), headers=FORM) as answer:
                    acknowledged.add((await answer.json())["id"])
            except aiohttp.ClientError:
                pass
            if len(acknowledged) >= count:
                enough.set()

        async with aiohttp.ClientSession(url) as session:
            await asyncio.gather(*(one(name, session) for name in contents))

    async def check(url: str, acknowledged: set[str]) -> None:
        async with aiohttp.ClientSession(url) as session:
            async with session.get(FILES) as answer:
                listed = (await answer.json())["data"]
            assert acknowledged <= {file["id"] for file in listed}
            for file in listed:
                async with session.get(f"{FILES}/{file['id']}/content") as answer:
                    assert await answer.read() == contents[file["filename"]]
            assert left(tmp_path / "kept") == sorted(file["id"] for file in listed)

    async def scenario() -> None:
        acknowledged: set[str] = set()
        for count in (1, 8, 20):
            serving = await Gate.start(tmp_path)
            await check(serving.url, acknowledged)
            enough = asyncio.Event()
            sending = asyncio.create_task(
                upload(serving.url, acknowledged, enough, len(acknowledged) + count)
            )
            await enough.wait()
            await serving.end(signal.SIGKILL)
            await sending
        last = await Gate.start(tmp_path)
        await check(last.url, acknowledged)
        await last.end(signal.SIGTERM)

    run(scenario())
