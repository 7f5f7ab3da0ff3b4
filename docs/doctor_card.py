"""The compatibility cards of docs/doctor-card.md: judges four servers that are started for it.

`python docs/doctor_card.py` writes the page; run it after a change of `doctor/card*.py`. A test holds the
page's rows against the code. What differs from run to run (times, a model's words) is not compared.
"""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the doubles of the tests

from codexgate.backends.demo import Demo  # noqa: E402
from codexgate.doctor.card import FEATURES, SILENT, WHOLE, judge, lines  # noqa: E402
from codexgate.doctor.card_server import MOST  # noqa: E402
from codexgate.stores.sqlite_responses import Responses  # noqa: E402
from tests.servers.compatible import Compatible  # noqa: E402
from tests.servers.gateway import serving  # noqa: E402
from tests.servers.llama_cpp import llama_cpp  # noqa: E402
from tests.servers.ollama import ScriptedOllama  # noqa: E402

PAGE = ROOT / "docs" / "doctor-card.md"
FAULTS = ("no usage", "no index", "another schema", "numbers for base64", "a deaf model", "state passed over")
HEAD = f"""# Compatibility cards

`codexgate doctor --url URL` judges any server that speaks OpenAI's or Ollama's API: {len(FEATURES)}
features, at most {MOST} short requests, those of the checks before included. It is over {WHOLE:.0f} s after
the checks, and where no model answers {SILENT:.0f} s after their begin; a model that is too slow gives a part
of a card. `--model` says which model is asked; else the first one that is listed.

`yes`, `no` and `partly` are about the server. A row is `skipped` where nothing can be said: the model did
not do its part, there was no time, or the server does not let it be seen. The evidence is what was seen.

This page is made by `python docs/doctor_card.py`, which starts the four servers and judges them.
"""


@asynccontextmanager
async def gate() -> AsyncIterator[str]:
    """The gate with its built-in model."""
    with tempfile.TemporaryDirectory() as folder:
        async with serving(Demo(), kept=Responses(Path(folder) / "responses.db"), described=False) as url:
            yield url


@asynccontextmanager
async def llama() -> AsyncIterator[str]:
    """A real model."""
    with llama_cpp() as url:
        yield url


@asynccontextmanager
async def ollama() -> AsyncIterator[str]:
    """Ollama's native API alone."""
    async with ScriptedOllama() as server:
        yield server.url


@asynccontextmanager
async def faulty() -> AsyncIterator[str]:
    """A server with faults of which each is met in the wild."""
    async with Compatible(*FAULTS) as server:
        yield server.url


SERVERS = (
    ("The gate", "codexgate with its model `demo`, which makes one call at a time.", gate),
    ("llama.cpp", "Its own server with SmolLM2, a model of 135 million parameters.", llama),
    ("Ollama's own API alone", "A double of Ollama without `/v1`: what an old Ollama looks like.", ollama),
    ("A server with faults", f"A double in which these are planted: {', '.join(FAULTS)}.", faulty),
)


async def main() -> None:
    """Write the page."""
    parts = [HEAD]
    for title, about, serve in SERVERS:
        async with serve() as url:
            table = "\n".join(lines(await judge(url)))
        parts.append(f"## {title}\n\n{about}\n\n```text\n{table}\n```\n")
    PAGE.write_text("\n".join(parts), "utf-8")


if __name__ == "__main__":
    asyncio.run(main())
