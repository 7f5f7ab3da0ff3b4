"""The floors hold: a module imports only from below. The contract itself is in pyproject.toml."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "codexgate"
PURE = [
    "fronts",
    "dialects",
    "errors.py",
    "events.py",
    "chat.py",
    "records.py",
    "order.py",
    "fold.py",
    "flat.py",
    "activity.py",
    "cut.py",
    "history.py",
    "recall.py",
    "sniff.py",
    "written.py",
    "jsonrpc.py",
    "lines.py",
    "sse.py",
]
CLOCKS = {"now", "utcnow", "today"}
IMPURE = {
    "asyncio",
    "os",
    "time",
    "datetime",
    "random",
    "secrets",
    "uuid",
    "socket",
    "pathlib",
    "logging",
    "aiohttp",
}


def modules(part: str) -> list[Path]:
    path = SOURCE / part
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


@pytest.mark.parametrize("part", PURE)
def test_values_and_translators_have_no_clock_ids_or_sockets(part: str) -> None:
    for path in modules(part):
        tree = ast.parse(path.read_text())
        assert not [
            node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in CLOCKS
        ]
        for node in ast.walk(tree):
            assert not isinstance(node, ast.AsyncFunctionDef | ast.Await), f"{path}:{node.lineno} waits"
            names = []
            if isinstance(node, ast.Import):
                names = [name.name for name in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            assert not {name.split(".")[0] for name in names} & IMPURE, f"{path}: {names}"


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path)
        for path in sorted(SOURCE.rglob("*.py"))
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


def test_the_newcomers_guide_names_every_module_once_and_no_other() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    modules = [name for floor in contracts[0]["layers"] for name in re.split(r" [|:] ", floor)]
    table = (ROOT / "docs/guide.md").read_text("utf-8").partition("| --- |")[2].partition("\n\n")[0]
    named = [name for row in table.splitlines()[1:] for name in re.findall(r"`(\w+)`", row.split("|")[2])]
    assert sorted(named) == sorted(set(modules) - {"__main__"})


UPWARD = {
    "events.py": "from .gate import Gate",
    "fronts/openai_chat.py": "from ..backends.demo import Demo",
    "gate.py": "from .backends.demo import Demo",
    "dialects/codex/ask.py": "from ...fronts import openai_chat",
    "server/guard.py": "from .app import make_app",
    "backends/demo/backend.py": "from ..codex import Codex",
    "fronts/openai_models.py": "from . import openai_chat",
    "cli/models.py": "from .chat import chat",
}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts of pyproject.toml over the package in `folder`."""
    check = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    shutil.copy(ROOT / "pyproject.toml", folder)
    return subprocess.run(
        [sys.executable, "-c", check], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(SOURCE, tmp_path / "codexgate", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_the_floors_hold(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("module", "line"), UPWARD.items(), ids=UPWARD.keys())
def test_an_upward_import_breaks_them(module: str, line: str, copy: Path) -> None:
    path = copy / "codexgate" / module
    path.write_text(f"{path.read_text()}\n{line}\n")
    done = lint(copy)
    assert done.returncode == 1
    assert "1 broken" in done.stdout
