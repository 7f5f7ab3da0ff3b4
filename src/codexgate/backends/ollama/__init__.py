"""Ollama as a backend, through its native API."""

from .backend import Ollama
from .options import OllamaOptions, address

__all__ = ["Ollama", "OllamaOptions", "address"]
