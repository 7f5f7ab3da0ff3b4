"""Everything that can be wrong between Codex, Ollama, the gate and a client: spoiled, named, mended.

`test_doctor_causes.py` goes through it; `docs/generate.py` writes it into the doctor's page.
"""

from tests.causes import codex, machine, ollama, stores
from tests.causes.bench import table

__all__ = ["CAUSES", "table"]

CAUSES = (*ollama.CAUSES, *codex.CAUSES, *stores.CAUSES, *machine.CAUSES)
