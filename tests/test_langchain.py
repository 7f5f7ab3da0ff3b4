"""LangChain as a client: its own standard tests, all of them, against the demo model."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

CLIENTS = Path(__file__).parent / "clients"
PLAIN = ("-q", "-o", "addopts=", "-o", "filterwarnings=ignore", "-o", "asyncio_mode=auto")
WITHOUT = [f"-pno:{plugin}" for plugin in ("benchmark", "codspeed", "recording", "socket", "xdist")]


@pytest.mark.timeout(180)
def test_every_standard_test_of_a_chat_model_passes() -> None:
    command = [sys.executable, "-m", "pytest", *PLAIN, *WITHOUT, str(CLIENTS / "langchain_chat.py")]
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=170, cwd=CLIENTS.parent.parent, check=False
    )
    assert ran.returncode == 0, ran.stdout[-4000:]
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed and int(passed[1]) >= 60, ran.stdout[-2000:]
