"""Ollama's native API: what we ask (`ask`), what it answers (`decode`), its `errors` and its `models`."""
