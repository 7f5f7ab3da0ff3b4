"""What README tells people to run, runs."""

import asyncio
import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from codexgate.backends.demo import Demo, DemoOptions
from tests.servers.gateway import serving
from tests.servers.program import codexgate
from tests.support import run

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_python_snippet_prints_an_answer() -> None:
    (snippet,) = blocks("python")

    async def scenario() -> str:
        async with serving(Demo(DemoOptions(pace=0))) as url:
            code = snippet.replace("http://127.0.0.1:8140", url)
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                await asyncio.to_thread(exec, compile(code, "README.md", "exec"), {})
            return out.getvalue()

    assert "I am **demo**" in run(scenario())


def test_every_make_target_it_names_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in set(re.findall(r"\bmake (\w+)", " ".join(re.findall(r"`[^`]+`", README) + blocks("sh")))):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize(
    "line", [line for block in blocks("sh") for line in block.splitlines() if "codexgate" in line]
)
def test_every_command_it_names_is_understood(line: str, tmp_path: Path) -> None:
    words = shlex.split(line.partition("codexgate")[2], comments=True)
    command = words[: words.index("|")] if "|" in words else words
    flags = [word for word in command if word.startswith("-")]
    shown = codexgate(tmp_path, command[0], "--help")
    assert shown.returncode == 0
    for flag in flags:
        assert re.search(rf"(^|[\s,]){flag}\b", shown.stdout.decode()), flag


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / target).exists(), target
