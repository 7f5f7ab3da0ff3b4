"""The built-in models: deterministic, in-process, always there.

For trying the gate out, for tests of people's own clients, for our docs and tests. It is a
real backend: it streams, calls tools, honours formats, reasons, counts and embeds. It knows no model.
"""

from .backend import Demo, DemoOptions

__all__ = ["Demo", "DemoOptions"]
