"""Files in chats: by id and inline, as text, picture or PDF; what a backend sees of them."""

import asyncio
import io
import subprocess
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pypdf
import pytest

from codexgate import sniff
from codexgate.chat import Document, Image, Part, Text
from codexgate.events import Done, TextDelta
from codexgate.stages import files as stage
from codexgate.stages import pdf
from codexgate.stores.files import Files
from tests.servers.gateway import serving
from tests.servers.program import codexgate
from tests.servers.scripted import Scripted
from tests.support import run

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


def make_pdf(*pages: str) -> bytes:
    """A PDF of these pages, written by hand."""
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"", b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    kids = []
    for page in pages:
        stream = b"BT /F 12 Tf 50 700 Td (" + page.encode("latin-1") + b") Tj ET"
        objects.append(b"<</Length %d>>stream\n" % len(stream) + stream + b"\nendstream")
        resources = b"/Resources<</Font<</F 3 0 R>>>>/MediaBox[0 0 600 800]"
        objects.append(b"<</Type/Page/Parent 2 0 R/Contents %d 0 R" % len(objects) + resources + b">>")
        kids.append(b"%d 0 R" % len(objects))
    objects[1] = b"<</Type/Pages/Count %d/Kids[" % len(kids) + b" ".join(kids) + b"]>>"
    body, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n" % number + content + b"\nendobj\n"
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    tail = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(body))
    return body + head + table + tail


def encrypted(password: str, data: bytes) -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(data))
    writer.encrypt(password, "owner", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


REPORT = make_pdf("First page", "Second page")


@asynccontextmanager
async def bench(
    folder: Path, honours: Sequence[str] = ()
) -> AsyncIterator[tuple[Scripted, openai.AsyncOpenAI]]:
    backend = Scripted(TextDelta("read"), Done("stop"), honours=honours)
    files = Files(folder / "files")
    try:
        async with serving(backend, files=files) as url:
            async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="me", max_retries=0) as client:
                yield backend, client
    finally:
        await files.aclose()


async def ask(client: openai.AsyncOpenAI, *content: Any, before: Sequence[Any] = ()) -> None:
    messages: Any = [*before, {"role": "user", "content": list(content)}]
    await client.chat.completions.create(model="scripted", messages=messages)


async def by_id(client: openai.AsyncOpenAI, name: str, data: bytes) -> dict[str, Any]:
    made = await client.files.create(file=(name, data), purpose="user_data")
    return {"type": "file", "file": {"file_id": made.id}}


def inline(name: str, data: bytes, media_type: str = "application/octet-stream") -> dict[str, Any]:
    url = f"data:{media_type};base64,{b64encode(data).decode()}"
    return {"type": "file", "file": {"filename": name, "file_data": url}}


ASKED = {"type": "text", "text": "What is in it?"}


def seen(backend: Scripted, message: int = -1) -> tuple[Part, ...]:
    return backend.requests[-1].messages[message].parts


READ: dict[str, tuple[str, bytes, Part]] = {
    "a PDF": ("r.pdf", REPORT, Text("\n\n```r.pdf\nFirst page\n\nSecond page\n```")),
    "a PDF that only its owner may change": (
        "r.pdf",
        encrypted("", REPORT),
        Text("\n\n```r.pdf\nFirst page\n\nSecond page\n```"),
    ),
    "a picture": ("p", PNG, Image("image/png", b64encode(PNG).decode())),
    "UTF-8": ("a.md", "ü\n```\nx\n```\n".encode(), Text("\n\n````a.md\nü\n```\nx\n```\n````")),
    "UTF-16": ("a.csv", "a;ü\n".encode("utf-16"), Text("\n\n```a.csv\na;ü\n```")),
    "Latin-1": ("a.txt", "Größe".encode("latin-1"), Text("\n\n```a.txt\nGröße\n```")),
    "code that mentions PDFs": ("a.py", b"x = '%PDF-1.4'", Text("\n\n```a.py\nx = '%PDF-1.4'\n```")),
    "nothing": ("e", b"", Text("\n\n```e\n\n```")),
}


@pytest.mark.parametrize(("name", "data", "part"), READ.values(), ids=READ.keys())
def test_a_file_is_what_its_bytes_are(name: str, data: bytes, part: Part, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as (backend, client):
            for file in (await by_id(client, name, data), inline(name, data, "image/gif")):
                await ask(client, ASKED, file)
                assert seen(backend) == (Text("What is in it?"), part)

    run(scenario())


def test_texts_of_files_stand_in_paragraphs_of_their_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as (backend, client):
            await ask(client, inline("a", b"1"), ASKED, inline("b", b"2"))
            said = "```a\n1\n```\n\nWhat is in it?\n\n```b\n2\n```"
            assert "".join(part.text for part in seen(backend) if isinstance(part, Text)) == said

    run(scenario())


UNREADABLE = {
    "a broken PDF": ("r.pdf", b"%PDF-1.4\nnothing else", "r.pdf is broken"),
    "a PDF with a password": ("r.pdf", encrypted("secret", REPORT), "r.pdf is encrypted"),
    "a PDF without text": ("scan.pdf", make_pdf(""), "scan.pdf has no text"),
    "a program": ("a.exe", b"MZ\x90\0\3\0\0\0", "a.exe cannot be read. Text, PDF, and PNG"),
    "an archive": ("a.zip", b"PK\3\4\x14\0", "a.zip cannot be read"),
    "UTF-16 cut in the middle": ("a.txt", "ab".encode("utf-16")[:-1], "a.txt cannot be read"),
    "a name that is a line of its own": ("a`\nb", b"\0", "a' b cannot be read"),
}


@pytest.mark.parametrize(("name", "data", "said"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_cannot_be_read_is_refused_by_name(name: str, data: bytes, said: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as (backend, client):
            with pytest.raises(openai.BadRequestError) as error:
                await ask(client, inline(name, data))
            assert said in error.value.message
            assert error.value.code == "file_unreadable"
            assert not backend.requests

    run(scenario())


@pytest.mark.parametrize(
    ("limit", "value"), [("PAGES", 1), ("TEXT", 12)], ids=["too many pages", "too many characters"]
)
def test_a_pdf_has_limits(limit: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, limit, value)
    assert pdf._read(REPORT) == pdf._Refusal.TOO_LONG
    assert pdf._read(make_pdf("short")) == "short"


def test_a_pdf_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "TIME", 0.01)

    async def scenario() -> None:
        async with bench(tmp_path) as (_, client):
            with pytest.raises(openai.BadRequestError, match="took longer"):
                await ask(client, inline("r.pdf", REPORT))

    run(scenario())


@pytest.mark.skipif(sys.platform != "linux", reason="not every system has these limits")
def test_the_reader_of_pdfs_has_its_limits_before_it_reads() -> None:
    program = """
import resource
from codexgate.stages import pdf
pdf._read = lambda data: f"{resource.getrlimit(resource.RLIMIT_AS)} {resource.getrlimit(resource.RLIMIT_CPU)}"
pdf._main()
"""
    read = subprocess.run([sys.executable, "-c", program], input=REPORT, capture_output=True, check=True)
    assert read.stdout.decode() == f"{(pdf.MEMORY, pdf.MEMORY)} {(int(pdf.TIME), int(pdf.TIME))}"


def test_the_reader_of_pdfs_imports_nothing_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pypdf.py").write_text("raise SystemExit(9)")
    (tmp_path / "codexgate.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    assert run(pdf.text_of(REPORT, "r.pdf")) == "First page\n\nSecond page"


def test_a_pdf_is_read_once_for_many_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as (backend, client):
            file = await by_id(client, "r.pdf", REPORT)
            await ask(client, file)
            first = seen(backend)
            monkeypatch.setattr(sys, "executable", "/nowhere")
            await ask(client, file)
            assert seen(backend) == first

    run(scenario())


def test_a_backend_that_reads_documents_gets_them_whole(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path, honours=("documents",)) as (backend, client):
            await ask(client, await by_id(client, "r.pdf", REPORT), await by_id(client, "p", PNG))
            data = b64encode(REPORT).decode()
            picture = Image("image/png", b64encode(PNG).decode())
            assert seen(backend) == (Document("r.pdf", "application/pdf", data), picture)
            await ask(client, inline("r.pdf", b"%PDF broken", "application/pdf"))
            assert seen(backend) == (
                Document("r.pdf", "application/pdf", b64encode(b"%PDF broken").decode()),
            )

    run(scenario())


LOST: Any = {"type": "file", "file": {"file_id": "file-" + "0" * 24}}
ANSWERED: Any = {"role": "assistant", "content": "read"}


def test_a_missing_file_is_refused_where_it_is_new_and_a_note_where_it_was_said(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as (backend, client):
            with pytest.raises(openai.NotFoundError) as error:
                await ask(client, ASKED, LOST)
            assert error.value.code == "file_not_found"
            assert not backend.requests
            before = [{"role": "user", "content": [ASKED, LOST, inline("x", b"\0")]}, ANSWERED]
            await ask(client, ASKED, before=before)
            gone = f"\n\n[file {LOST['file']['file_id']} is gone]\n\n"
            assert seen(backend, 0) == (
                Text("What is in it?"),
                Text(gone),
                Text("\n\n[file x cannot be read]"),
            )

    run(scenario())


def test_another_callers_file_is_missing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as (backend, client):
            file = await by_id(client, "a.txt", b"secret")
            with pytest.raises(openai.NotFoundError):
                await ask(client.with_options(api_key="you"), file)
            assert not backend.requests

    run(scenario())


def test_files_have_limits_each_and_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "FILE", 1000)
    monkeypatch.setattr(stage, "TOTAL", 2000)

    async def scenario() -> None:
        async with bench(tmp_path) as (backend, client):
            big, good = b"x" * 1100, b"x" * 900
            for file in (await by_id(client, "big.txt", big), inline("big.txt", big + big)):
                with pytest.raises(openai.BadRequestError, match=r"big\.txt is too long"):
                    await ask(client, file)
            file = await by_id(client, "a.txt", good)
            await ask(client, file, inline("b.txt", good))
            with pytest.raises(openai.BadRequestError, match="too large together"):
                await ask(client, file, file, file)
            assert len(backend.requests) == 1

    run(scenario())


@pytest.mark.parametrize("file", [{}, {"filename": "a"}, {"file_id": ""}])
def test_a_file_part_needs_a_file(file: Any, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as (_, client):
            with pytest.raises(openai.BadRequestError) as error:
                await ask(client, {"type": "file", "file": file})
            assert error.value.param == "messages[0].content[0].file"

    run(scenario())


def test_what_is_not_base64_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as (_, client):
            file = {"type": "file", "file": {"filename": "a", "file_data": "data:;base64,*"}}
            with pytest.raises(openai.BadRequestError, match="a is not base64"):
                await ask(client, file)

    run(scenario())


def test_a_client_that_leaves_ends_the_reader_of_its_pdf(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        started: list[asyncio.subprocess.Process] = []
        begin = asyncio.create_subprocess_exec

        async def watched(*command: Any, **options: Any) -> asyncio.subprocess.Process:
            started.append(await begin(sys.executable, "-c", "import time; time.sleep(60)", **options))
            return started[0]

        monkeypatch.setattr(asyncio, "create_subprocess_exec", watched)
        reading = asyncio.create_task(pdf.text_of(REPORT, "r.pdf"))
        while not started:
            await asyncio.sleep(0.005)
        reading.cancel()
        await asyncio.wait({reading})
        assert started[0].returncode is not None

    run(scenario())


@pytest.mark.parametrize("data", [b"a\0b", b"\xff\xfea\0b\0\0\0", b"\x00\x01\xff", b"\xe9\x01"])
def test_bytes_that_are_no_text(data: bytes) -> None:
    assert sniff.text(data) is None


def test_in_the_terminal_a_pdf_goes_along(tmp_path: Path) -> None:
    (tmp_path / "report").write_bytes(REPORT)
    for arguments, stdin in (["chat", "read", "-f", "report"], b""), (["chat", "read"], REPORT):
        said = codexgate(tmp_path, *arguments, stdin=stdin)
        assert "First page Second" in said.stdout.decode(), said.stderr
    (tmp_path / "report").write_bytes(b"%PDF-1.4 broken")
    said = codexgate(tmp_path, "chat", "read", "-f", "report")
    assert b"report is broken" in said.stderr
    assert said.returncode != 0
