"""The generated documents: they hold everything that is in the code, and are what the code makes."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated

import pytest
import typer

from codexgate.cli.main import app
from codexgate.config import describe
from codexgate.settings import FOREIGN, Settings

ROOT = Path(__file__).parent.parent


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


docs = _generator()

toy = typer.Typer(rich_markup_mode=None)
group = typer.Typer(help="Things.")
toy.add_typer(group, name="things")


@toy.command()
def serve(
    port: Annotated[int, typer.Option("--port", "-p", help="The port; `0` takes a | free one.")] = 8140,
    secret: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    r"""Run it.

    .Dots and back\slashes
    over two lines.
    """


@toy.command(hidden=True)
def unseen() -> None:
    """Nobody sees this."""


@group.command()
def show(id: Annotated[str, typer.Argument(help="Which one.")]) -> None:
    """Show a thing."""


# The documents of this repository


def test_every_setting_is_in_the_table() -> None:
    text = (ROOT / "docs/settings.md").read_text("utf-8")
    for row in describe(Settings):
        assert f"| `{row.key}` |" in text
        assert f"`{row.environment}`" in text
    assert all(f"| `{name}` |" in text for name in FOREIGN)


def test_every_command_and_option_is_in_the_reference() -> None:
    text = (ROOT / "docs/cli.md").read_text("utf-8")
    for page in docs.all_pages(docs.page_of(app)):
        assert f"\n## {page.name}\n" in text
        assert all(f"- `{term}`" in text for term, _ in page.arguments + page.options)


def test_every_command_says_what_it_does() -> None:
    for page in docs.all_pages(docs.page_of(app)):
        assert page.paragraphs, page.name
        assert [term for term, text in page.arguments + page.options if not text] == [], page.name


def test_nothing_drifts() -> None:
    assert docs.drift(docs.generate(app)) == []


def test_the_documents_know_no_terminal_and_no_home(tmp_path: Path) -> None:
    environ = {"COLUMNS": "40", "FORCE_COLOR": "1", "TERM": "xterm-256color", "HOME": str(tmp_path)}
    command = [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"]
    ran = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


# The generator, with commands of its own


def test_a_command_as_the_reference_tells_it() -> None:
    assert docs.reference(docs.page_of(toy)).endswith(
        """\
## codexgate serve

Run it.

.Dots and back\\slashes over two lines.

```console
codexgate serve [OPTIONS]
```

Options:

- `-p, --port <int>`: The port; `0` takes a | free one. [default: 8140]

## codexgate things

Things.

```console
codexgate things [OPTIONS] COMMAND [ARGS]...
```

Commands:

- [codexgate things show](#codexgate-things-show): Show a thing

## codexgate things show

Show a thing.

```console
codexgate things show [OPTIONS] {id}
```

Arguments:

- `id <str>`: Which one. [required]"""
    )


def test_a_command_as_its_manual_page_tells_it() -> None:
    serve, things = docs.page_of(toy).children
    page = docs.manual(serve, ())
    assert page.startswith('.TH "CODEXGATE-SERVE" 1 "" "codexgate" "codexgate manual"\n')
    assert "\ncodexgate\\-serve \\- Run it\n" in page
    assert "\n.PP\n\\&.Dots and back\\eslashes over two lines.\n" in page
    assert "\n.TP\n\\fB\\-p, \\-\\-port <int>\\fR\nThe port; \\fB0\\fR takes a | free one." in page
    assert "\n.SS codexgate things show" in docs.manual(things, ())
    assert "unseen" not in docs.manual(docs.page_of(toy), ())


@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed")
def test_manual_pages_are_good_roff() -> None:
    for each in (docs.page_of(app), *docs.page_of(app).children, *docs.page_of(toy).children):
        page = docs.manual(each, describe(Settings))
        command = ["groff", "-man", "-ww", "-Tutf8", "-Kutf8"]
        ran = subprocess.run(command, input=page, capture_output=True, text=True)
        assert (ran.returncode, ran.stderr) == (0, "")


def test_the_bash_completion_is_good_bash() -> None:
    ran = subprocess.run(["bash", "-n", ROOT / "completions/codexgate.bash"], capture_output=True)
    assert (ran.returncode, ran.stderr) == (0, b"")


def test_only_what_is_between_the_markers_is_replaced() -> None:
    text = "by hand\n<!-- begin generated: a -->\nold\n<!-- end generated: a -->\nby hand too\n"
    assert docs.between_markers(text, {"a": "new"}) == text.replace("old", "new")
    with pytest.raises(LookupError, match="no markers for 'b'"):
        docs.between_markers(text, {"b": "new"})


def test_a_missing_a_changed_and_a_stale_file_drift(tmp_path: Path) -> None:
    (tmp_path / "man").mkdir()
    (tmp_path / "man" / "gone.1").touch()
    (tmp_path / "changed").write_text("old")
    (tmp_path / "same").write_text("text")
    files = {tmp_path / name: "text" for name in ("missing", "changed", "same")}
    assert docs.drift(files, tmp_path) == [tmp_path / n for n in ("missing", "changed", "man/gone.1")]
