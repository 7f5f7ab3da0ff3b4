"""docs/http.md is held against the code: every route and every error code, and none that is not there."""

import ast
import re
from pathlib import Path

from codexgate.server.routes import endpoints

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "http.md").read_text("utf-8")


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_every_route_is_documented_and_no_other() -> None:
    documented = set(re.findall(r"`((?:GET|HEAD|POST|DELETE) /[^`\s]*)`", section("Routes")))
    assert documented == {f"{row.method} {re.sub(r':[^}]+', '', row.path)}" for row in endpoints()}


def codes() -> set[str]:
    """Every constant that is given to `Fault` and what makes one as their code."""
    places = {"Fault": 3, "invalid": 2, "_unfit": 1, "store_unavailable": 0}
    found: set[str] = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called, *rest = (node.func, *node.args)
            if isinstance(called, ast.Name) and called.id == "partial":
                called, *rest = rest
            if not isinstance(called, ast.Name) or called.id not in places:
                continue
            given = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
            given += rest[places[called.id] :][:1]
            found |= {
                code.value for code in given if isinstance(code, ast.Constant) and isinstance(code.value, str)
            }
    return found - {""}


def test_every_error_code_is_documented_and_no_other() -> None:
    documented = set(re.findall(r"^\| `(\w+)` \|", section("Errors"), re.MULTILINE))
    made_elsewhere = {"overloaded", "context_length_exceeded", "codex_overloaded"}
    assert codes() - documented == set()
    assert documented - codes() <= made_elsewhere
