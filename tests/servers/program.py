"""The `codexgate` program as a process of its own, away from the settings of who runs the tests."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

COMMAND = (sys.executable, "-m", "codexgate")


def environment(home: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables of a fresh home, with the demo model alone and at full speed."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PYTHON", "PATH", "LANG"))}
    return {
        **kept,
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_DATA_HOME": str(home / "data"),
        "CODEXGATE_DATA_DIR": str(home / "kept"),
        "CODEXGATE_BACKENDS": "demo",
        "CODEXGATE_DEMO_PACE": "0",
        "TERM": "xterm-256color",
        "COLUMNS": "80",
        "LINES": "24",
        **(more or {}),
    }


def codexgate(
    home: Path, *arguments: str, stdin: bytes = b"", more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end; `more` are further variables."""
    return subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        env=environment(home, more),
        cwd=home,
        timeout=50,
        check=False,
    )
