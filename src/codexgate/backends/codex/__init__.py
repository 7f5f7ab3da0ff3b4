"""The Codex agent: a supervised `codex app-server` child and the chats that run on it."""

from .backend import Codex
from .options import CodexOptions

__all__ = ["Codex", "CodexOptions"]
