"""The API key: who can read it, that it is whole at every moment, which one is in force."""

import json
import os
import re
import stat
import sys
from pathlib import Path

import pytest

from codexgate import apikey
from codexgate.cli import main
from codexgate.config import Secret
from codexgate.errors import GateError
from codexgate.settings import ServerOptions, Settings

posix = pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refused(file: Path) -> str:
    with pytest.raises(GateError) as caught:
        apikey.read(file)
    assert caught.value.fault.kind == "authentication"
    return caught.value.fault.text.replace(str(file), "FILE")


def test_a_key_is_256_random_bits_in_one_word(tmp_path: Path) -> None:
    keys = {apikey.rotate(tmp_path / "key") for _ in range(20)}
    assert len(keys) == 20
    assert all(re.fullmatch(r"cg-[A-Za-z0-9_-]{43}", key) for key in keys)


@posix
def test_only_the_owner_can_read_a_new_key(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        key = apikey.make(tmp_path / "data" / "api-key")
    finally:
        os.umask(old)
    assert (mode(tmp_path / "data"), mode(tmp_path / "data" / "api-key")) == (0o700, 0o600)
    assert apikey.read(tmp_path / "data" / "api-key") == key


def test_making_never_replaces_a_key(tmp_path: Path) -> None:
    key = apikey.make(tmp_path / "key")
    with pytest.raises(GateError, match="codexgate key rotate"):
        apikey.make(tmp_path / "key")
    assert apikey.read(tmp_path / "key") == key


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_rotation_that_fails_leaves_the_old_key_and_nothing_else(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = apikey.make(tmp_path / "key")

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path if broken == "replace" else os, broken, fail)
    with pytest.raises(GateError, match="cannot be written: No space left on device"):
        apikey.rotate(tmp_path / "key")
    assert apikey.read(tmp_path / "key") == key
    assert [each.name for each in tmp_path.iterdir()] == ["key"]


def test_the_new_key_is_on_disk_before_it_takes_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    sync, replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def rename(self: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", rename)
    apikey.rotate(tmp_path / "key")
    assert steps == ["file", "rename", *(["folder"] if os.name == "posix" else [])]


@posix
def test_a_link_to_the_key_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "key")
    key = apikey.rotate(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and apikey.read(tmp_path / "key") == key


@posix
@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o644, 0o666])
def test_a_key_that_others_can_read_is_refused_with_the_remedy(bits: int, tmp_path: Path) -> None:
    file = tmp_path / "my key"
    apikey.make(file)
    file.chmod(bits)
    said = refused(file)
    assert said.startswith(f"Others can read the key file FILE (mode 0{bits:o}).")
    assert said.endswith("Run: chmod 600 'FILE'")


@pytest.mark.parametrize("content", [b"", b"\n"])
def test_an_empty_file_is_refused_and_gets_a_key(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    assert refused(file) == "There is no key in FILE. Make one: codexgate key rotate"
    assert apikey.rotate(file) == apikey.read(file)


@pytest.mark.parametrize("content", [b"two words", b"k\xc3\xa9y", b"a\nb", b"\x00", b"k" * 5000])
def test_a_file_that_holds_something_else_is_refused_and_stays(content: bytes, tmp_path: Path) -> None:
    """Whoever can read it: nobody is told to `chmod` what is no key."""
    file = tmp_path / "key"
    file.write_bytes(content)
    file.chmod(0o644)
    said = refused(file)
    assert "does not hold one word of printable ASCII. Put a key there, or name another file." in said
    with pytest.raises(GateError, match="holds something else than a key"):
        apikey.rotate(file)
    assert file.read_bytes() == content


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "none") == "There is no key file FILE. Make one: codexgate key make"
    assert refused(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe", 0o600)
        assert refused(tmp_path / "pipe") == "FILE is no file. Name another file."
        with pytest.raises(GateError, match="something else"):
            apikey.rotate(tmp_path / "pipe")


def settings(tmp_path: Path, **server: object) -> Settings:
    return Settings(data_dir=tmp_path, server=ServerOptions(**server))  # type: ignore[arg-type]


def test_the_key_in_force(tmp_path: Path) -> None:
    assert apikey.effective(settings(tmp_path)) is None
    theirs, ours = apikey.make(tmp_path / "named"), apikey.make(tmp_path / "api-key")
    assert apikey.effective(settings(tmp_path)) == (Secret(ours), tmp_path / "api-key")
    named = settings(tmp_path, api_key_file=tmp_path / "named")
    assert apikey.effective(named) == (Secret(theirs), tmp_path / "named")
    both = settings(tmp_path, api_key_file=tmp_path / "named", api_key=Secret("k"))
    assert apikey.effective(both) == (Secret("k"), None)


def test_a_key_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(GateError, match="There is no key file"):
        apikey.effective(settings(tmp_path, api_key_file=tmp_path / "none"))


def test_a_key_in_the_settings_must_be_sendable(tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"server\.api_key does not hold one word"):
        apikey.effective(settings(tmp_path, api_key=Secret("schlüssel")))


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CODEXGATE_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "api-key"

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["codexgate", "key", *words])
        try:
            code = main.run()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, capsys.readouterr().out.rstrip("\n")

    assert run() == (0, f"none: `codexgate key make` puts one into {file}")
    assert run("show") == (4, "")
    first = run("make")[1]
    assert first == apikey.read(file)
    assert run("make") == (1, "")
    assert run() == (0, f"set: file {file}")
    assert run("show") == (0, first)
    second = json.loads(run("rotate", "--json")[1])
    assert second == {"key": apikey.read(file), "file": str(file)} and second["key"] != first
    assert json.loads(run("--json")[1]) == {"state": "set", "where": f"file {file}"}
    file.chmod(0o644)
    if os.name == "posix":
        assert run("show") == (4, "")
    monkeypatch.setenv("CODEXGATE_SERVER_API_KEY", "k")
    assert run() == (0, "set: environment CODEXGATE_SERVER_API_KEY")
