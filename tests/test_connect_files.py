"""Our part of somebody's configuration file: put in, replaced, taken out, or refused; the rest as it was."""

import os
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest

from codexgate.cli import edits
from codexgate.connect import blocks
from codexgate.connect.clients import Format, Snippet
from codexgate.errors import GateError

yaml: Any = pytest.importorskip("yaml")

OURS: dict[Format, str] = {
    "toml": 'model = "m"\nmodel_providers.codexgate.name = "codexgate"',
    "yaml list": '- model_id: "codexgate/m"\n  model_name: "m"',
    "yaml map": 'model: "openai/m"\nopenai-api-key: none',
    "yaml models": '- name: codexgate\n  model: "m"',
}
THEIRS: dict[str, tuple[Format, str]] = {
    "nothing": ("toml", ""),
    "a profile": ("toml", '# mine\napproval_policy = "never"\n\n[tui]\nx = 1 # two\n'),
    "another provider": ("toml", '[model_providers.other]\nname = "o"\n'),
    "a byte order mark": ("toml", "\ufeffx = 1\n"),
    "no models": ("yaml list", ""),
    "comments alone": ("yaml list", "# my models\n"),
    "other models": ("yaml list", "---\n- model_id: x\n  model_name: y # why\n"),
    "an indented list": ("yaml list", "  - model_id: x\n    model_name: y\n"),
    "no end of the last line": ("yaml list", "- model_id: x\n  model_name: y"),
    "no settings": ("yaml map", ""),
    "other settings": ("yaml map", "# mine\ndark-mode: true\nread:\n- A.md\n- B.md\nlint-cmd: |\n  a\n  b\n"),
    "no Continue": ("yaml models", ""),
    "Continue's list": ("yaml models", "name: n\nversion: 1.0.0\nschema: v1\nmodels:\n  - name: x\n    model: y\n"),
    "Continue's flat list": ("yaml models", "name: n\nmodels: # mine\n# first\n- name: x\n  model: y\nrules:\n- z\n"),
    "Continue's empty list": ("yaml models", "name: n\nmodels:\nrules:\n  - z\n"),
    "Continue without models": ("yaml models", "name: n\nrules:\n  - z\n"),
    "Continue, cut short": ("yaml models", "name: n\nmodels:"),
}  # fmt: skip


def parsed(format: Format, text: str) -> Any:
    text = text.removeprefix("\ufeff")
    return tomllib.loads(text) if format == "toml" else yaml.safe_load(text)


def combined(format: Format, theirs: Any, ours: Any) -> Any:
    """What a reader of the file must find."""
    if format == "yaml list":
        return (theirs or []) + ours
    if format == "yaml models":
        head = {"name": "codexgate", "version": "1.0.0", "schema": "v1"}
        return {**(theirs or head), "models": ours + ((theirs or {}).get("models") or [])}
    merged = {**(theirs or {}), **ours}
    if theirs and "model_providers" in theirs:
        merged["model_providers"] = {**theirs["model_providers"], **ours["model_providers"]}
    return merged


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("case", THEIRS)
def test_both_parts_are_read_and_theirs_stays_as_it_is(case: str, end: str) -> None:
    format, theirs = THEIRS[case]
    theirs = theirs.replace("\n", end)
    merged = blocks.put(theirs, OURS[format], format)
    expected = combined(format, parsed(format, theirs), parsed(format, OURS[format]))
    assert parsed(format, merged) == expected
    left = blocks.take_out(merged)
    assert left in (theirs, theirs + end)
    assert merged.count("\n") == merged.count(end) or end not in theirs
    assert blocks.put(merged, OURS[format], format) == merged
    other = OURS[format].replace('m"', 'other"')
    changed = blocks.put(merged, other, format)
    assert changed == blocks.put(theirs, other, format)
    assert parsed(format, changed) != parsed(format, merged)


REFUSED: dict[str, tuple[Format, str, str]] = {
    "no TOML": ("toml", "model = \n", "It is not TOML"),
    "the same key": ("toml", 'model = "mine"\n', "`model` is set there already"),
    "the same key, deep": ("toml", '[model_providers.codexgate]\nname = "x"\n', "`model_providers.codexgate.name` is"),
    "a table that cannot grow": ("toml", "[model_providers]\n", "cannot stand beside"),
    "an inline table": ("toml", 'model_providers = {x = {name = "y"}}\n', "cannot stand beside"),
    "a list in flow style": ("yaml list", "[{model_id: x}]\n", "Line 1"),
    "a map for a list": ("yaml list", "model_id: x\n", "Line 1"),
    "a list that ends early": ("yaml list", "- a: 1\n- b: [1,\n", "Line 2"),
    "an open quote": ("yaml list", '- a: "1\n', "Line 1"),
    "tabs": ("yaml list", "- a: 1\n\tb: 2\n", "Line 2"),
    "two documents": ("yaml list", "- a: 1\n---\n- b: 2\n", "Line 2"),
    "a line that ends where few end one": ("yaml map", "a: 1\rmodel: 2\n", "Line 1"),
    "the same model": ("yaml list", "# x\n- model_name: z\n  model_id: codexgate/m\n", "line 3"),
    "a list for a map": ("yaml map", "- a\n", "Line 1"),
    "flow style": ("yaml map", "{a: 1}\n", "Line 1"),
    "a merged map": ("yaml map", "<<: *x\n", "Line 1"),
    "the same setting": ("yaml map", "a: 1\nmodel: gpt\n", "`model` is set there already in line 2"),
    "the same setting, quoted": ("yaml map", "'model' : gpt\n", "`model` is set there already in line 1"),
    "a key twice": ("yaml map", "a: 1\na: 2\n", "Line 2"),
    "models in flow style": ("yaml models", "models: []\n", "Line 1"),
    "models of another kind": ("yaml models", "models:\n  x: 1\n", "Line 1"),
    "our model, unmarked": ("yaml models", "models:\n  - name: codexgate # mine\n", "line 2"),
    "half a block": ("yaml map", f"{blocks.BEGIN}\na: 1\n", "marks"),
    "blocks in a knot": ("yaml map", f"{blocks.END}\n{blocks.BEGIN}\n", "marks"),
    "two blocks": ("yaml map", f"{blocks.BEGIN}\n{blocks.END}\n" * 2, "marks"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_merged_with_certainty_is_refused(case: str) -> None:
    format, theirs, reason = REFUSED[case]
    with pytest.raises(GateError, match=reason) as caught:
        blocks.put(theirs, OURS[format], format)
    assert caught.value.fault.code == "unsafe_merge"


# Files


def snippet(file: Path) -> Snippet:
    return Snippet("", OURS["yaml map"], file, "yaml map")


@pytest.mark.parametrize("data", [b"a: 1\n", b"a: 1\r\nb: 2\r\n", b"# c\na: 1", b""], ids=repr)
def test_what_is_written_can_be_undone_to_the_byte(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / ".aider.conf.yml"
    file.write_bytes(data)
    file.chmod(0o640)
    assert edits.write(snippet(file)).done == "written"
    once = file.read_bytes()
    assert yaml.safe_load(once)["model"] == "openai/m"
    assert edits.write(snippet(file)).done == "unchanged"
    assert file.read_bytes() == once
    backup = tmp_path / ".aider.conf.yml.codexgate-backup"
    assert backup.read_bytes() == data
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file, backup)] == [0o640, 0o640]
    assert edits.undo(file) == edits.Edit(file, "restored")
    assert [*tmp_path.iterdir()] == [file]
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (data, 0o640)


def test_a_file_that_was_not_there_is_made_for_its_owner_alone_and_removed(tmp_path: Path) -> None:
    file = tmp_path / "new/folder/config.yml"
    assert edits.write(snippet(file)) == edits.Edit(file, "written")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert edits.undo(file) == edits.Edit(file, "removed")
    assert not [*file.parent.iterdir()]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target = tmp_path / "dotfiles/aider"
    target.parent.mkdir()
    target.write_text("a: 1\n")
    link = tmp_path / ".aider.conf.yml"
    link.symlink_to(Path("dotfiles/aider"))
    edits.write(snippet(link))
    assert link.is_symlink()
    assert "openai/m" in target.read_text()
    assert edits.undo(link).done == "restored"
    assert link.is_symlink()
    assert target.read_text() == "a: 1\n"
    assert [*target.parent.iterdir()] == [target]


def test_what_others_changed_since_stays(tmp_path: Path) -> None:
    file = tmp_path / "conf.yml"
    file.write_text("a: 1\n")
    edits.write(snippet(file))
    file.write_text(file.read_text() + "b: 2\n")
    backup = tmp_path / "conf.yml.codexgate-backup"
    assert edits.undo(file) == edits.Edit(file, "taken out", backup)
    assert file.read_text() == "a: 1\nb: 2\n"
    assert backup.read_text() == "a: 1\n"


def test_our_own_part_may_have_been_changed(tmp_path: Path) -> None:
    file = tmp_path / "conf.yml"
    file.write_text("a: 1\n")
    edits.write(snippet(file))
    file.write_text(file.read_text().replace("openai/m", "openai/other"))
    assert edits.undo(file).done == "restored"
    assert file.read_text() == "a: 1\n"


def test_the_backup_is_of_the_file_without_our_part(tmp_path: Path) -> None:
    file = tmp_path / "conf.yml"
    file.write_text("a: 1\n")
    edits.write(snippet(file))
    edits.write(Snippet("", "model: other", file, "yaml map"))
    assert (tmp_path / "conf.yml.codexgate-backup").read_text() == "a: 1\n"
    assert edits.undo(file).done == "restored"


def test_there_must_be_something_to_undo(tmp_path: Path) -> None:
    file = tmp_path / "conf.yml"
    with pytest.raises(GateError, match="nothing of ours"):
        edits.undo(file)
    file.write_text("a: 1\n")
    with pytest.raises(GateError, match="nothing of ours"):
        edits.undo(file)
    assert file.read_text() == "a: 1\n"


@pytest.mark.parametrize(
    ("data", "mode", "reason"),
    [
        (b"a: 1\n", 0o444, "read-only"),
        (b"model: mine\n", 0o600, "`model` is set there already in line 1"),
        (b"a: [\n", 0o600, "Line 1 cannot be understood"),
        (b"a: \xff\n", 0o600, "not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_merged_is_left_as_it_is(
    tmp_path: Path, data: bytes, mode: int, reason: str
) -> None:
    file = tmp_path / "conf.yml"
    file.write_bytes(data)
    file.chmod(mode)
    with pytest.raises(GateError, match=reason) as caught:
        edits.write(snippet(file))
    assert str(file) in caught.value.fault.message
    assert [*tmp_path.iterdir()] == [file]
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (data, mode)


def test_a_folder_or_a_pipe_is_no_configuration_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(GateError, match="no configuration file"):
        edits.write(snippet(tmp_path / "pipe"))
    with pytest.raises(GateError):
        edits.write(snippet(tmp_path))
    assert edits.write(snippet(tmp_path / "new")).done == "written"
