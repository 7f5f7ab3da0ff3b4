"""schemathesis, which believes `/openapi.json` and tries to prove it wrong, finds nothing.

It is run as the documentation says, against a gate that has only the demo models. By default with
few examples; with many, and calls in sequence, by CODEXGATE_TEST_FULL=1 (some minutes).
"""

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from codexgate.backends.demo import Demo, DemoOptions
from codexgate.stores.files import Files
from codexgate.stores.sqlite_responses import Responses
from tests.servers.gateway import client, serving
from tests.servers.notebook import Notebook
from tests.support import run

FULL = bool(os.environ.get("CODEXGATE_TEST_FULL"))
LIMIT = 900 if FULL else 120
"""Seconds."""
BOUNDED = [
    *("--max-examples", "3"),
    *("--phases", "examples,coverage,fuzzing"),
    "--generation-deterministic",
]
ALL = ["--max-examples", "25"]
SETTINGS = Path(__file__).parent / "schemathesis.toml"


@pytest.mark.timeout(LIMIT + 10)
def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    async def scenario() -> tuple[int | None, str]:
        files = Files(tmp_path / "files")
        await files.open()
        try:
            # What it sends is not what OpenAI would let in, so neither is what it gets back.
            async with serving(
                Demo(DemoOptions(pace=0)),
                kept=Responses(tmp_path / "r.db"),
                files=files,
                memory=Notebook(),
                described=False,
            ) as url:
                return await attack(url, tmp_path)
        finally:
            await files.aclose()

    async def bounded() -> tuple[int | None, str]:
        async with asyncio.timeout(LIMIT):
            return await scenario()

    status, told = asyncio.run(bounded())
    assert status == 0, told
    tested = re.search(r"Tested: (\d+)", told)
    assert tested and int(tested[1]) >= 45


async def attack(url: str, folder: Path) -> tuple[int | None, str]:
    """Exit code and report."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(SETTINGS)),
        *("run", f"{url}/openapi.json", "--no-color"),
        *(ALL if FULL else BOUNDED),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
    )
    try:
        told, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        raise
    return process.returncode, told.decode("utf-8", "replace")


FOUND: dict[str, tuple[str, str, dict[str, Any] | None, int]] = {
    "a limit of more digits than Python reads": (
        "GET",
        f"/v1/conversations/ID/items?limit={'9' * 5000}",
        None,
        400,
    ),
    "a sequence number of as many": ("GET", f"/v1/responses/ID?starting_after={'9' * 5000}", None, 400),
    "a whole number with a point": (
        "POST",
        "/v1/responses",
        {"model": "demo", "input": "hi", "max_output_tokens": 8.0},
        200,
    ),
    "a tool's type that would end a header": (
        "POST",
        "/v1/responses",
        {"model": "demo", "input": "hi", "tools": [{"type": "a\r\nX-Mine: 1"}]},
        200,
    ),
    "a file that is not even ASCII": (
        "POST",
        "/v1/responses",
        {
            "model": "demo",
            "input": [
                {
                    "role": "user",
                    "content": [{"type": "input_file", "file_data": "data:text/plain;base64,\u00fc"}],
                }
            ],
        },
        400,
    ),
    "a call without arguments": (
        "POST",
        "/v1/conversations",
        {"items": [{"type": "function_call", "call_id": "c", "name": "f"}]},
        400,
    ),
}


@pytest.mark.parametrize(("method", "path", "body", "status"), FOUND.values(), ids=FOUND.keys())
def test_what_it_found_stays_mended(
    method: str, path: str, body: dict[str, Any] | None, status: int, tmp_path: Path
) -> None:
    async def scenario() -> None:
        store = Responses(tmp_path / "r.db")
        demo = Demo(DemoOptions(pace=0))
        async with serving(demo, kept=store, described=False) as url, client(url) as session:
            async with session.post("/v1/conversations", json={}) as answer:
                id = (await answer.json())["id"]
            async with session.request(method, path.replace("ID", id), json=body) as answer:
                assert answer.status == status, await answer.text()
                assert "X-Mine" not in answer.headers

    run(scenario())
