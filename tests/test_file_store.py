"""The suite of the port `FileStore`; every store is one maker in `MAKERS`. Then what only files on disk have."""

import asyncio
import errno
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from codexgate.errors import GateError
from codexgate.ports import FileStore
from codexgate.records import FileRecord
from codexgate.stores import blobs
from codexgate.stores.files import FileOptions, Files
from tests.support import run

Maker = Callable[[Path], FileStore]

MAKERS: dict[str, Maker] = {
    "disk": lambda folder: Files(folder / "deep" / "files", FileOptions(max_size=10**6))
}
NOW = 1_800_000_000.0


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], FileStore]:
    """Opens the same store, as another gate would."""
    return lambda: MAKERS[request.param](tmp_path)


async def put(
    store: FileStore,
    *pieces: bytes,
    owner: str = "me",
    name: str = "a.txt",
    purpose: str = "user_data",
    lifetime: int = 0,
) -> FileRecord:
    async with store.receive() as upload:
        for piece in pieces:
            await upload.write(piece)
        return await upload.keep(owner, name, purpose, lifetime)


async def content(store: FileStore, record: FileRecord) -> bytes:
    return b"".join([piece async for piece in store.content(record)])


async def fault(doing: object) -> str:
    with pytest.raises(GateError) as error:
        await doing  # type: ignore[misc]
    return error.value.fault.code or error.value.fault.kind


def test_what_was_sent_is_there_for_another_gate(make: Callable[[], FileStore]) -> None:
    async def scenario() -> None:
        store = make()
        pieces = [os.urandom(size) for size in (1, 300_000, 0, 400_000)]
        record = await put(store, *pieces, name="ü\u2028.bin", purpose="vision")
        await store.aclose()
        again = make()
        assert await again.load(record.id, "me") == record
        assert await content(again, record) == b"".join(pieces)
        assert (record.size, record.sha256) == (700_001, hashlib.sha256(b"".join(pieces)).hexdigest())
        assert (record.name, record.purpose, record.expires) == ("ü\u2028.bin", "vision", 0)
        await again.aclose()
        await again.aclose()

    run(scenario())


def test_an_empty_file_is_a_file(make: Callable[[], FileStore]) -> None:
    async def scenario() -> None:
        store = make()
        record = await put(store)
        assert (record.size, await content(store, record)) == (0, b"")
        await store.aclose()

    run(scenario())


def test_what_is_not_kept_was_never_there(make: Callable[[], FileStore], tmp_path: Path) -> None:
    async def scenario() -> None:
        store = make()
        with pytest.raises(ZeroDivisionError):
            async with store.receive() as upload:
                await upload.write(bytes(500_000))
                raise ZeroDivisionError
        async with store.receive() as upload:
            await upload.write(bytes(999_999))
            assert await fault(upload.write(b"xx")) == "too_large"
        assert await store.list("me", limit=10) == ()
        await store.aclose()

    run(scenario())


def test_another_owner_sees_nothing(make: Callable[[], FileStore]) -> None:
    async def scenario() -> None:
        store = make()
        record = await put(store, b"x")
        assert await store.list("you", limit=10) == ()
        assert await fault(store.load(record.id, "you")) == "file_not_found"
        assert await fault(store.delete(record.id, "you")) == "file_not_found"
        assert await content(store, await store.load(record.id, "me")) == b"x"
        await store.aclose()

    run(scenario())


@pytest.mark.parametrize(
    "id", ["", "file-1", "../index.db", "file-" + "0" * 24, "file-\udc00", "\0", "x" * 10**6]
)
def test_an_id_that_is_none_is_not_found(make: Callable[[], FileStore], id: str) -> None:
    async def scenario() -> None:
        store = make()
        await put(store, b"x")
        assert await fault(store.load(id, "me")) == "file_not_found"
        assert await fault(store.delete(id, "me")) == "file_not_found"
        await store.aclose()

    run(scenario())


def test_what_is_deleted_is_gone_and_nothing_else(make: Callable[[], FileStore]) -> None:
    async def scenario() -> None:
        store = make()
        first, second = await put(store, b"1"), await put(store, b"2")
        await store.delete(first.id, "me")
        assert await fault(store.delete(first.id, "me")) == "file_not_found"
        assert await fault(content(store, first)) == "file_not_found"
        assert await store.list("me", limit=10) == (second,)
        await store.aclose()

    run(scenario())


def test_pages_in_both_orders_and_of_one_purpose(make: Callable[[], FileStore]) -> None:
    async def scenario() -> None:
        store = make()
        records = [await put(store, purpose="vision" if n % 2 else "evals") for n in range(5)]
        assert await store.list("me", limit=9) == tuple(reversed(records))
        assert await store.list("me", limit=2, newest_first=False) == tuple(records[:2])
        assert await store.list("me", limit=2, after=records[1].id, newest_first=False) == tuple(records[2:4])
        assert await store.list("me", limit=9, after=records[1].id) == (records[0],)
        assert await store.list("me", limit=9, purpose="vision", newest_first=False) == (
            records[1],
            records[3],
        )
        await store.delete(records[1].id, "me")  # as who deletes what a page had before asking for the next
        assert await store.list("me", limit=9, after=records[1].id) == (records[0],)
        await store.aclose()

    run(scenario())


def test_thirty_at_once_through_two_gates_are_all_kept_whole(make: Callable[[], FileStore]) -> None:
    async def scenario() -> None:
        stores = [make(), make()]
        contents = {f"{n}": os.urandom(1000 * n) for n in range(30)}
        await asyncio.gather(*(put(stores[n % 2], contents[f"{n}"], name=f"{n}") for n in range(30)))
        listed = await stores[0].list("me", limit=100)
        assert {record.name: await content(stores[1], record) for record in listed} == contents
        for store in stores:
            await store.aclose()

    run(scenario())


# Files on disk


def everything(folder: Path) -> set[str]:
    return {path.name for path in (folder / "contents").iterdir()}


def test_what_has_run_out_vanishes(tmp_path: Path) -> None:
    async def scenario() -> None:
        now = [NOW]
        store = Files(tmp_path, clock=lambda: now[0])
        short, long = await put(store, b"s", lifetime=3600), await put(store, b"l", lifetime=7200)
        assert (short.created, short.expires) == (NOW, NOW + 3600)
        now[0] += 3600
        assert await fault(store.load(short.id, "me")) == "file_not_found"
        assert await store.list("me", limit=9) == (long,)
        kept = await put(store, b"k")
        assert everything(tmp_path) == {long.id, kept.id}
        await store.aclose()
        now[0] += 3600
        again = Files(tmp_path, clock=lambda: now[0])
        await again.open()
        assert everything(tmp_path) == {kept.id}
        await again.aclose()

    run(scenario())


def test_folders_and_files_are_their_owners_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = Files(tmp_path / "files")
        async with store.receive() as upload:
            await upload.write(bytes(blobs.PIECE))
            for path in [tmp_path / "files", *(tmp_path / "files").rglob("*")]:
                assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
            await upload.keep("me", "a", "user_data")
        for path in (tmp_path / "files").rglob("*"):
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
        await store.aclose()

    before = os.umask(0)
    try:
        run(scenario())
    finally:
        os.umask(before)


def test_nothing_is_made_before_it_is_needed(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = Files(tmp_path / "files")
        await store.open()
        assert not (tmp_path / "files").exists()
        await store.aclose()

    run(scenario())


def test_what_a_dead_gate_left_is_swept_by_who_has_the_folder_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        outside = tmp_path / "outside"
        outside.write_bytes(b"precious")
        folder = tmp_path / "files"
        first, second, third = Files(folder), Files(folder), Files(folder)
        kept = await put(first, b"x")
        (folder / "contents" / "1234.part").write_bytes(b"half")
        (folder / "contents" / f"file-{'0' * 24}").write_bytes(b"whole, but never listed")
        (folder / "contents" / "link").symlink_to(outside)
        async with first.receive() as upload:
            await upload.write(bytes(blobs.PIECE))
            before = everything(folder)
            await second.open()  # while the first lives, nobody knows whose the others are
            assert everything(folder) == before
            record = await upload.keep("me", "b", "user_data")
        await first.aclose()
        await second.aclose()
        await third.open()
        assert everything(folder) == {kept.id, record.id}
        assert await content(third, record) == bytes(blobs.PIECE)
        assert outside.read_bytes() == b"precious"
        await third.aclose()

    run(scenario())


def test_contents_whose_index_was_lost_are_not_swept(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = Files(tmp_path)
        record = await put(store, b"x")
        await store.aclose()
        for path in tmp_path.glob("index.db*"):
            path.unlink()
        for _ in range(2):
            again = Files(tmp_path)
            await again.open()
            assert await fault(again.list("me", limit=1)) == "file_store_unavailable"
            assert everything(tmp_path) == {record.id}
            await again.aclose()

    run(scenario())


def test_an_index_that_is_none_is_left_as_it_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "index.db").write_bytes(b"[]" * 1000)
        store = Files(tmp_path)
        await store.open()
        assert await fault(store.list("me", limit=1)) == "file_store_unavailable"
        assert await fault(put(store, b"x")) == "file_store_unavailable"
        assert (tmp_path / "index.db").read_bytes() == b"[]" * 1000
        await store.aclose()

    run(scenario())


def planted(kind: str, path: Path, outside: Path) -> None:
    path.unlink()
    match kind:
        case "a link to a secret of the same size":
            path.symlink_to(outside)
        case "a folder":
            path.mkdir()
        case "a pipe":
            os.mkfifo(path)
        case "something longer":
            path.write_bytes(b"secrets")
        case "nothing":
            pass


@pytest.mark.parametrize(
    "kind", ["a link to a secret of the same size", "a folder", "a pipe", "something longer", "nothing"]
)
def test_in_the_place_of_a_content_nothing_else_is_read(kind: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        outside = tmp_path / "outside"
        outside.write_bytes(b"secret")
        store = Files(tmp_path / "files")
        record = await put(store, b"public")
        planted(kind, tmp_path / "files" / "contents" / record.id, outside)
        assert await fault(content(store, record)) == "file_not_found"
        assert await store.load(record.id, "me") == record
        await store.delete(record.id, "me")
        assert await store.list("me", limit=9) == ()
        assert outside.read_bytes() == b"secret"
        await store.aclose()

    run(scenario())


def test_a_content_cut_while_it_is_read_is_no_whole_file(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = Files(tmp_path)
        record = await put(store, bytes(2 * blobs.PIECE))
        pieces = store.content(record)
        await anext(pieces)
        os.truncate(tmp_path / "contents" / record.id, blobs.PIECE)
        assert await fault(anext(pieces)) == "file_not_found"
        await store.aclose()

    run(scenario())


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, "disk_full"), (errno.EDQUOT, "disk_full"), (errno.EIO, "file_store_unavailable")],
)
def test_a_disk_that_fails_is_told_and_leaves_nothing(
    number: int, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    async def scenario() -> None:
        store = Files(tmp_path)
        await put(store)
        monkeypatch.setattr(os, "fsync", fail)
        before = everything(tmp_path)
        assert await fault(put(store, b"x")) == code
        assert everything(tmp_path) == before
        await store.aclose()

    run(scenario())


def test_a_folder_that_cannot_be_made_stops_files_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "files").write_bytes(b"")
        store = Files(tmp_path / "files")
        await store.open()
        assert await fault(put(store, b"x")) == "file_store_unavailable"
        assert await fault(store.list("me", limit=1)) == "file_store_unavailable"
        await store.aclose()

    run(scenario())


def test_an_upload_that_is_cancelled_while_it_writes_leaves_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = Files(tmp_path)
        await put(store)
        before = everything(tmp_path)
        begun = asyncio.Event()

        async def send() -> None:
            async with store.receive() as upload:
                while True:
                    writing = asyncio.ensure_future(upload.write(bytes(blobs.PIECE)))
                    begun.set()
                    await writing

        task = asyncio.create_task(send())
        await begun.wait()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        assert everything(tmp_path) == before
        await store.aclose()

    run(scenario())
