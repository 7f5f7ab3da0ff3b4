"""`codex --oss` of other versions of Codex through the gate, and a model that has to be pulled first.

    python -m tests.versions_oss [0.23.0 latest] [--cache DIR]

A scripted native Ollama is behind the gate; the packages come from npm into a folder outside the
project. Ends with status 1 when anything fails. Part of `make test-versions`.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

from codexgate.backends.ollama import Ollama, OllamaOptions
from codexgate.stores.sqlite_responses import Responses
from tests.servers.gateway import serving
from tests.servers.ollama import ScriptedOllama, call, done, say
from tests.versions_codex import install, latest

LIMIT = 60.0
"""Seconds for one run."""
PATCH = """apply_patch <<'EOF'
*** Begin Patch
*** Update File: notes.txt
@@
-one
+two
*** End Patch
EOF
"""
COMMANDS = ("ls", "cat notes.txt", "echo done > made.txt", PATCH)
INSTALLED, MISSING = "qwen3:8b", "tiny:latest"


def is_old(program: Path) -> bool:
    """It speaks chat completions, and has another shell."""
    return "0.23.0" in program.parts


async def run(program: Path, url: str, home: Path, model: str) -> str:
    """One run of `codex exec --oss`; returns what it wrote. Raises AssertionError when it failed."""
    local = () if is_old(program) else ("--local-provider", "ollama")
    sandbox = ("--skip-git-repo-check", "-s", "workspace-write")
    process = await asyncio.create_subprocess_exec(
        *(str(program), "exec", *sandbox, "--oss", *local, "-m", model, "say hello"),
        cwd=home,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "CODEX_HOME": str(home),
            "CODEX_OSS_BASE_URL": f"{url}/v1",
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), LIMIT)
    except TimeoutError:
        process.kill()
        raise AssertionError(f"not finished after {LIMIT:g} s") from None
    if process.returncode != 0 or b"Hello from the gate." not in out:
        raise AssertionError(f"status {process.returncode}: {out.decode()[-600:]}")
    return out.decode()


async def check(program: Path, folder: Path) -> dict[str, str]:
    """What became of each run: `ok`, or what went wrong."""
    results = {}
    async with ScriptedOllama() as ollama:
        kept = Responses(folder / "responses.db")
        async with serving(Ollama(OllamaOptions(url=ollama.url)), kept=kept) as url:
            for name, model in (("installed", INSTALLED), ("pulled", MISSING)):
                home = folder / name
                home.mkdir()
                (home / "notes.txt").write_text("one\n")
                for command in COMMANDS if model == INSTALLED else ():
                    old = {"command": ["bash", "-lc", command]}
                    tool = call("shell", old) if is_old(program) else call("exec_command", {"cmd": command})
                    ollama.next(say(calls=[tool]), done())
                ollama.next(say("Hello from the gate."), done())
                try:
                    await run(program, url, home, model)
                    if model == INSTALLED and (home / "notes.txt").read_text() != "two\n":
                        raise AssertionError("the patch was not applied")
                    results[name] = "ok"
                except AssertionError as failed:
                    results[name] = str(failed)
    return results


def main() -> int:
    """Run every version; returns the exit status."""
    parser = argparse.ArgumentParser(description="Run codex --oss of other versions through the gate.")
    parser.add_argument("versions", nargs="*", default=["0.23.0", "latest"])
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "codexgate-versions")
    options = parser.parse_args()
    failed = False
    for version in options.versions:
        program = install(latest() if version == "latest" else version, options.cache)
        with tempfile.TemporaryDirectory() as folder:
            results = asyncio.run(check(program, Path(folder)))
        for name, result in results.items():
            print(f"codex --oss {version:8} {name:10} {result}")  # noqa: T201
        failed |= any(result != "ok" for result in results.values())
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
