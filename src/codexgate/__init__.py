"""codexgate: one local port for the Codex agent, Ollama's models and one memory.

This module holds the version and nothing else: `codexgate --version` must not import more.
"""

__version__ = "0.1.0"
