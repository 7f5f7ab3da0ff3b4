"""What the use cases need from the outside world, as Protocols; their docstrings are the contract.

An adapter is right when it passes the suite of its port in `tests/`. Nothing here names a
protocol, a library or a store.
"""

from .backends import Agent, Approver, Backend, Batches, Embedder, Frames, Installer, Relay, Route, Run, Stage
from .stores import (
    ConversationStore,
    FileStore,
    MemoryStore,
    ResponseStore,
    Retriever,
    SessionList,
    SessionStore,
    ThreadStore,
    Upload,
)

__all__ = [
    "Agent",
    "Approver",
    "Backend",
    "Batches",
    "ConversationStore",
    "Embedder",
    "FileStore",
    "Frames",
    "Installer",
    "MemoryStore",
    "Relay",
    "ResponseStore",
    "Retriever",
    "Route",
    "Run",
    "SessionList",
    "SessionStore",
    "Stage",
    "ThreadStore",
    "Upload",
]
