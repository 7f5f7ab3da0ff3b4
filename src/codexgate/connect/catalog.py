"""Codex's list of models, for those of the gate: how much each can see at once, and how to talk to it.

Codex knows its own models only. Another one is taken for one of 272,000 tokens, so that a local
model's window is full long before Codex thinks of summing up. The file that `model_catalog_json`
names mends that. Every field that codex 0.163 demands stands here; it takes more.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from ..records import Model

INSTRUCTIONS = """\
You are Codex, a coding agent in a terminal. You work on this person's files with the tools you have.

How to work:
- Look before you change: list files, search them and read what matters. Never guess what a file says.
- Follow the AGENTS.md files of the folders you work in.
- Do the smallest change that solves the task well, in the style of the code around it.
- Change files with `apply_patch`; run everything else with the shell tool.
- Run the tests or the program afterwards. Read the output; if it failed, mend it.
- If a command is not allowed, try without it, or say what you would need.
- Leave alone what others changed. Do not commit, push or delete unless you are asked to.
- Go on until the task is done, then stop. One tool call at a time is enough.

A patch looks like this; lines of context begin with a space, and paths are relative:
*** Begin Patch
*** Update File: src/example.py
@@ def greet():
-    return "hi"
+    return "hello"
*** Add File: notes.txt
+first line
*** Delete File: old.txt
*** End Patch

How to answer: in few plain words. Say what you changed, in which files, what you ran and what came
out of it, and what is still open. Do not paste whole files, and claim nothing that you did not see.
"""
"""A third of the tokens of Codex's own, which would fill half of a small window."""
EFFORTS = {"low": "Thinks little.", "medium": "Thinks as it sees fit.", "high": "Thinks long."}
OUTPUT = 10_000
"""Tokens of a tool's output that a model is shown at most, as Codex has it for its own."""
ROOM = 16_384
"""Tokens that are left free at most for what one more step brings: an answer, a tool's output."""


def render(windows: Mapping[str, int], models: Mapping[str, Model]) -> bytes:
    """The file, for the models of `windows`, in tokens by name and in that order; at least one."""
    listed = [_entry(name, windows[name], models[name], at) for at, name in enumerate(windows)]
    return msgspec.json.format(msgspec.json.encode({"models": listed}), indent=2) + b"\n"


def _entry(name: str, window: int, model: Model, priority: int) -> dict[str, Any]:
    thinks = "thinking" in model.abilities
    return {
        "slug": name,
        "display_name": name,
        "description": _description(model),
        "base_instructions": INSTRUCTIONS,
        "context_window": window,
        "max_context_window": window,
        # Codex takes the lesser of this and nine tenths of the window.
        "auto_compact_token_limit": window - min(window // 4, ROOM),
        "truncation_policy": {"mode": "tokens", "limit": min(OUTPUT, window // 8)},
        "shell_type": "default",
        "apply_patch_tool_type": "freeform",
        "input_modalities": ["text", "image"] if "vision" in model.abilities else ["text"],
        "supported_reasoning_levels": [
            {"effort": effort, "description": text} for effort, text in EFFORTS.items() if thinks
        ],
        "default_reasoning_level": "medium" if thinks else None,
        "support_verbosity": False,
        "experimental_supported_tools": [],
        "visibility": "list",
        "supported_in_api": True,
        "priority": priority,
    }


def _description(model: Model) -> str:
    facts = (model.details.get("parameters", ""), model.details.get("quantization", ""), model.backend)
    return re.sub(r"\s+", " ", ", ".join(filter(None, facts)))
