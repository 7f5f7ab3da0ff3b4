"""Where the Codex program is, in the layouts that npm and pnpm make."""

from pathlib import Path

import pytest

from codexgate.backends.codex import find

CMD = r"""@ECHO off
IF EXIST "%dp0%\node.exe" ( SET "_prog=%dp0%\node.exe" )
endLocal & goto #_undefined_# 2>NUL || title %COMSPEC% & "%_prog%"  "%dp0%\PATH" %*
"""
PS1 = """#!/usr/bin/env pwsh
$basedir=Split-Path $MyInvocation.MyCommand.Definition -Parent
& "$basedir/node$exe"  "$basedir/PATH" $args
"""
SH = """#!/bin/sh
basedir=$(dirname "$(echo "$0" | sed -e 's,\\\\,/,g')")
exec node  "$basedir/PATH" "$@"
"""
SCRIPT = "#!/usr/bin/env node\n// Unified entry point for the Codex CLI.\n"
OTHER = "aarch64-apple-darwin" if "darwin" not in find._target() else "x86_64-unknown-linux-musl"


def made(path: Path, text: str = "\x7fELF") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def found(program: Path) -> Path | None:
    return find.find_binary(str(program), {"PATH": ""})


@pytest.mark.parametrize(
    ("folder", "inside"),
    [
        ("codex-linux-x64", "bin"),  # 0.169
        ("codex-linux-x64", "codex"),  # 0.118
        ("codex/node_modules/@openai/codex-linux-x64", "bin"),
        ("codex", "codex"),  # 0.98, with every platform's
    ],
)
def test_npms_script_leads_to_the_binary_of_this_platform(tmp_path: Path, folder: str, inside: str) -> None:
    openai = tmp_path / "lib/node_modules/@openai"
    script = made(openai / "codex/bin/codex.js", SCRIPT)
    made(openai / folder / "vendor" / OTHER / inside / find._NAME)
    binary = made(openai / folder / "vendor" / find._target() / inside / find._NAME)
    link = tmp_path / "bin/codex"
    link.parent.mkdir()
    link.symlink_to(script)
    assert found(link) == binary


@pytest.mark.parametrize(
    ("shim", "name", "path"),
    [
        (CMD, "codex.cmd", r"node_modules\@openai\codex\bin\codex.js"),
        (CMD.replace("%dp0%", "%~dp0"), "codex.cmd", r"node_modules\@openai\codex\bin\codex.js"),
        (PS1, "codex.ps1", "node_modules/@openai/codex/bin/codex.js"),
        (SH, "codex", "node_modules/@openai/codex/bin/codex.js"),
        (SH, "node_modules/.bin/codex", "../@openai/codex/bin/codex.js"),
    ],
)
def test_a_shim_leads_to_the_script(tmp_path: Path, shim: str, name: str, path: str) -> None:
    openai = tmp_path / "node_modules/@openai"
    made(openai / "codex/bin/codex.js", SCRIPT)
    binary = made(openai / "codex-any/vendor" / find._target() / "bin" / find._NAME)
    assert found(made(tmp_path / name, shim.replace("PATH", path))) == binary


def test_a_script_of_somebody_elses_is_run_as_it_is(tmp_path: Path) -> None:
    script = made(tmp_path / "codex", "#!/bin/sh\nexec something\n")
    assert found(script) == script
