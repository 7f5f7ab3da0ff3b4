"""Write what is made from code: docs/settings.md, docs/cli.md, man pages and shell completions.

The causes in docs/doctor.md are made from those that the tests reproduce.
`python docs/generate.py` writes them, `--check` names those that differ and exits with 1. The
same code gives the same bytes on every machine: no dates, widths, colours or home folders. In
the Markdown files only what stands between the markers is replaced; the rest is written by hand.
"""

import argparse
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]

from codexgate.config import Row, describe
from codexgate.settings import FOREIGN, Settings

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.causes import CAUSES, table  # noqa: E402

NAME = "codexgate"
SHELLS = ("bash", "zsh", "fish")

EXITS = {
    "0": "All is well.",
    "1": "It failed.",
    "2": "The command line or the settings are wrong.",
    "4": "The API key is missing or wrong, or a login is.",
    "5": "What was asked for does not exist.",
    "6": "A backend cannot be reached.",
    "130": "Interrupted.",
}

FILES = """The settings file is the first of these that is there: the one named by `--config`, the one
named by `CODEXGATE_CONFIG`, `codexgate.toml` in the working folder, `codexgate.toml` in the user's
configuration folder. One in the working folder is refused if it says what may run or who may come
in, unless it was named."""


class Page(NamedTuple):
    """One command, as its help tells it."""

    words: tuple[str, ...]
    """What is typed: `("codexgate", "key", "make")`."""
    usage: str
    paragraphs: tuple[str, ...]
    arguments: tuple[tuple[str, str], ...]
    options: tuple[tuple[str, str], ...]
    children: tuple["Page", ...]

    @property
    def name(self) -> str:
        """All its words."""
        return " ".join(self.words)

    @property
    def title(self) -> str:
        """Its name as one word, as manual pages have it."""
        return "-".join(self.words)

    @property
    def summary(self) -> str:
        """The first paragraph, without its full stop."""
        return self.paragraphs[0].removesuffix(".") if self.paragraphs else ""


def page_of(app: typer.Typer) -> Page:
    """The whole tree of commands; hidden ones are left out."""
    command = typer.main.get_command(app)
    return _page(command, typer.Context(command, info_name=NAME), (NAME,))


def _page(command: Any, context: Any, words: tuple[str, ...]) -> Page:
    records: dict[str, list[tuple[str, str]]] = {"argument": [], "option": []}
    for param in command.get_params(context):
        if len(words) > 1 and "--help" in param.opts:
            continue  # every command has it
        if record := param.get_help_record(context):
            term, text = record
            records[param.param_type_name].append((term, " ".join(text.split())))
    help = inspect.cleandoc(command.help or "").partition("\f")[0]
    paragraphs = tuple(" ".join(each.split()) for each in re.split(r"\n\s*\n", help) if each.strip())
    children = []
    for name in command.list_commands(context) if hasattr(command, "list_commands") else ():
        child = command.resolve_command(context, [name])[1]  # the command itself, not a stub for it
        if not child.hidden:
            inner = typer.Context(child, info_name=name, parent=context)
            children.append(_page(child, inner, (*words, name)))
    usage = " ".join((*words, *command.collect_usage_pieces(context)))
    return Page(
        words, usage, paragraphs, tuple(records["argument"]), tuple(records["option"]), tuple(children)
    )


def all_pages(page: Page) -> Iterator[Page]:
    """`page` and all below it, in the order of the help."""
    yield page
    for child in page.children:
        yield from all_pages(child)


# Markdown


def _cell(text: str, code: bool = False) -> str:
    text = text.replace("|", "\\|")
    return f"`{text}`" if code and text else text


def settings_table(rows: tuple[Row, ...]) -> str:
    """Every setting: key, variable, default, what it takes and what it means."""
    lines = [
        "| setting | in the environment | default | takes | meaning |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        codes = (_cell(each, code=True) for each in (row.key, row.environment, row.default))
        lines.append(f"| {' | '.join((*codes, _cell(row.type), _cell(row.description)))} |")
    return "\n".join(lines)


def foreign_table() -> str:
    """The variables of other programs, and the settings that are read from them."""
    lines = ["| variable | setting |", "| --- | --- |"]
    return "\n".join(lines + [f"| `{name}` | `{foreign.key}` |" for name, foreign in FOREIGN.items()])


def reference(page: Page) -> str:
    """Every command with its arguments and options."""
    parts = []
    for each in all_pages(page):
        parts += [f"## {each.name}", *each.paragraphs, f"```console\n{each.usage}\n```"]
        for title, records in (("Arguments", each.arguments), ("Options", each.options)):
            if records:
                parts += [
                    f"{title}:",
                    "\n".join(f"- `{term}`: {text}".rstrip(": ") for term, text in records),
                ]
        if each.children:
            listed = (f"- [{child.name}](#{child.title}): {child.summary}" for child in each.children)
            parts += ["Commands:", "\n".join(listed)]
    return "\n\n".join(parts)


def exits_table() -> str:
    """What an exit code tells."""
    return "\n".join(
        ["| code | meaning |", "| --- | --- |", *(f"| {code} | {text} |" for code, text in EXITS.items())]
    )


def between_markers(text: str, parts: dict[str, str]) -> str:
    """`text` with what stands between its markers replaced. Raises LookupError without a marker."""
    for name, part in parts.items():
        begin, end = f"<!-- begin generated: {name} -->\n", f"<!-- end generated: {name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise LookupError(f"no markers for {name!r}")
        text = f"{before}{begin}{part}\n{end}{after}"
    return text


# Manual pages


def _roff(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", text)
    return re.sub(r"^([.'])", r"\\&\1", text)


def _terms(records: Iterable[tuple[str, str]]) -> list[str]:
    return [line for term, text in records for line in (".TP", _roff(f"`{term}`"), _roff(text) or "\\&")]


def manual(page: Page, rows: tuple[Row, ...]) -> str:
    """One page in roff; a command of a group stands in the group's page."""
    lines = [f'.TH "{page.title.upper()}" 1 "" "{NAME}" "{NAME} manual"']
    lines += [
        ".SH NAME",
        f"{_roff(page.title)} \\- {_roff(page.summary)}",
        ".SH SYNOPSIS",
        _roff(f"`{page.usage}`"),
    ]
    lines += [".SH DESCRIPTION", *_paragraphs(page)]
    for heading, records in (("ARGUMENTS", page.arguments), ("OPTIONS", page.options)):
        if records:
            lines += [f".SH {heading}", *_terms(records)]
    if len(page.words) == 1:
        lines += _of_all_commands(page, rows)
    elif page.children:
        lines.append(".SH COMMANDS")
        for each in page.children:
            lines += [f".SS {_roff(each.usage)}", *_paragraphs(each), *_terms(each.arguments + each.options)]
    others = page.children if len(page.words) == 1 else [page._replace(words=(NAME,))]
    see_also = ", ".join(f"{_roff(f'`{each.title}`')}(1)" for each in others)
    return "\n".join([*lines, ".SH EXIT STATUS", *_terms(EXITS.items()), ".SH SEE ALSO", see_also, ""])


def _of_all_commands(page: Page, rows: tuple[Row, ...]) -> list[str]:
    commands = [(f"{each.title}(1)", f"{each.summary}.") for each in page.children]
    variables = [(row.environment, row.description) for row in rows if row.environment]
    lines = [".SH COMMANDS", *_terms(commands), ".SH ENVIRONMENT", *_terms(variables)]
    return [*lines, ".SH FILES", _roff(" ".join(FILES.split()))]


def _paragraphs(page: Page) -> list[str]:
    return "\n.PP\n".join(map(_roff, page.paragraphs)).split("\n")


# Files


def generate(app: typer.Typer, root: Path = ROOT) -> dict[Path, str]:
    """Every generated file with its whole text."""
    page, rows = page_of(app), describe(Settings)
    written = {root / "docs/settings.md": {"settings": settings_table(rows), "foreign": foreign_table()}}
    written[root / "docs/cli.md"] = {"exits": exits_table(), "commands": reference(page)}
    written[root / "docs/doctor.md"] = {"causes": table(CAUSES)}
    files = {path: between_markers(path.read_text("utf-8"), parts) for path, parts in written.items()}
    for each in (page, *page.children):
        files[root / f"man/{each.title}.1"] = manual(each, rows)
    for shell in SHELLS:
        script = get_completion_script(prog_name=NAME, complete_var="_CODEXGATE_COMPLETE", shell=shell)
        files[root / f"completions/{NAME}.{shell}"] = script + "\n"
    return files


def drift(files: dict[Path, str], root: Path = ROOT) -> list[Path]:
    """Those that are not on disk as they should be, and pages of commands that are gone."""
    changed = [path for path, text in files.items() if not path.exists() or path.read_text("utf-8") != text]
    return changed + sorted(path for path in (root / "man").glob("*.1") if path not in files)


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or with `--check` name those that differ; returns the exit code."""
    from codexgate.cli.main import app

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file differs")
    check = parser.parse_args(arguments).check
    files = generate(app)
    changed = drift(files)
    for path in changed:
        sys.stdout.write(f"{path.relative_to(ROOT)} {'is not up to date' if check else 'written'}\n")
        if check:
            continue
        if path in files:
            path.parent.mkdir(exist_ok=True)
            path.write_text(files[path], "utf-8")
        else:
            path.unlink()
    return 1 if check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
