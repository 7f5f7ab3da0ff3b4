"""Pictures of the real program for README: runs it in tmux and draws what its screen shows.

`python docs/pictures.py [NAME]…` writes `docs/images/*.svg`. Needs tmux; run it after a change that
people can see. Codex is the real one, its model a script.
"""

import asyncio
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the doubles of the tests

from tests.servers import responses  # noqa: E402
from tests.servers.codex_home import MODEL, make_codex_home  # noqa: E402

IMAGES = ROOT / "docs" / "images"
WIDTH, HEIGHT = 88, 40


class Scene(NamedTuple):
    """What a picture shows."""

    title: str
    typed: list[str]
    """The lines that are typed, each when the screen has come to rest."""
    backend: str = "demo"


SCENES = {
    "chat": Scene(
        "Ask a model",
        ["codexgate models", 'git log -3 --format=%s | codexgate chat -m demo --effort low "summarise"'],
    ),
    "codex": Scene(
        "Let Codex work, and be asked",
        [
            f"codexgate chat -m {MODEL} --codex-approvals ask \\\n"
            '  --codex-sandbox workspace-write --cwd ~/hello "note the new release in the changelog"',
            "y",
        ],
        "codex",
    ),
    "serve": Scene("Run the gate", ["codexgate serve"]),
}
"""By the name of the picture."""

PROJECT = """
git init -q -b main origin && cd origin
printf '# Changelog\\n\\n## 1.0\\n\\n- It greets.\\n' > CHANGELOG.md
git add . && git -c user.name=me -c user.email=me@example.org commit -qm 'First release'
cd .. && git clone -q origin hello && cd origin && git tag v1.1
"""
"""Makes the folder `hello`, which does not know its newest tag yet."""

PATCH = """apply_patch <<'EOF'
*** Begin Patch
*** Update File: CHANGELOG.md
@@
 # Changelog
+
+## 1.1
+
+- It greets by name.
*** End Patch
EOF"""


def plan(*states: str) -> responses.Call:
    """The model's plan, its steps in `states`."""
    steps = zip(("Fetch the tags", "Note the release"), states, strict=True)
    return responses.Call("update_plan", {"plan": [{"step": step, "status": state} for step, state in steps]})


TURN: list[list[responses.Step]] = [
    [plan("in_progress", "pending")],
    [
        responses.Text("The newest tag may not be here yet, so I fetch first.", "commentary"),
        responses.Command("git fetch --tags", escalate="The sandbox has no network, and .git is read-only."),
    ],
    [responses.Command(PATCH)],
    [plan("completed", "completed")],
    [
        responses.Text(
            "`CHANGELOG.md` now has **1.1**:\n\n- it greets by name\n- *nothing else* changed\n",
            "final_answer",
        )
    ],
]
"""What the model says in the scene `codex`, request by request."""


def main() -> None:
    """Draw the scenes that were named, or all."""
    IMAGES.mkdir(exist_ok=True)
    for name in sys.argv[1:] or SCENES:
        screen = asyncio.run(show(SCENES[name]))
        console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
        console.print(Text.from_ansi(screen.rstrip()))
        svg = console.export_svg(title=SCENES[name].title, unique_id=name)  # else ids change with every run
        svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # fetches no fonts from anywhere
        IMAGES.joinpath(f"{name}.svg").write_text(svg, "utf-8")
        sys.stdout.write(f"{IMAGES / name}.svg\n")


async def show(scene: Scene) -> str:
    """Play `scene` in a home of its own and return the screen."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        async with responses.ScriptedResponses(*TURN) as provider:
            variables = {
                "HOME": folder,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "PS1": "$ ",
                "PS2": "",
                "TERM": "tmux-256color",
                "CODEX_HOME": str(make_codex_home(home / ".codex", provider.url)),
                "CODEXGATE_BACKENDS": scene.backend,
                "CODEXGATE_LOG_LEVEL": "warning",
            }
            return await asyncio.to_thread(play, scene.typed, home, variables)


def play(typed: list[str], home: Path, variables: Mapping[str, str]) -> str:
    """Type into a shell of its own and return the screen, with its colours."""
    subprocess.run(["/bin/sh", "-ec", PROJECT], check=True, cwd=home, env=variables)
    session = ["tmux", "-L", "codexgate-pictures", "-f", os.devnull]
    size = ["-x", str(WIDTH), "-y", str(HEIGHT)]
    shell = shlex.join(["env", "-i", *(f"{name}={value}" for name, value in variables.items()), "sh"])
    subprocess.run([*session, "new-session", "-d", *size, shell], check=True)
    try:
        settle(session)
        for line in typed:
            subprocess.run([*session, "send-keys", line, "Enter"], check=True)
            settle(session)
        screen = capture(session).replace(str(home), "~")
        return screen.removesuffix("$\n")
    finally:
        subprocess.run([*session, "kill-server"], check=False)


def settle(session: list[str]) -> None:
    """Wait until the screen has not changed for a while."""
    before, same = "", 0
    while same < 8:
        time.sleep(0.25)
        now = capture(session)
        same = same + 1 if now == before else 0
        before = now


def capture(session: list[str]) -> str:
    """The screen, with its colours."""
    shown = subprocess.run([*session, "capture-pane", "-p", "-e"], check=True, capture_output=True, text=True)
    return "\n".join(line.rstrip() for line in shown.stdout.rstrip().split("\n")) + "\n"


if __name__ == "__main__":
    main()
