"""Pictures of the real program for README: runs it in tmux and draws what its screen shows.

`python docs/pictures.py` writes `docs/images/*.svg`. Needs tmux; run it after a change that
people can see.
"""

import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

IMAGES = Path(__file__).parent / "images"
WIDTH, HEIGHT = 88, 30

SCENES = {
    "chat": (
        "Ask a model",
        ["codexgate models", 'git log -3 --format=%s | codexgate chat -m demo --effort low "summarise"'],
    ),
    "serve": ("Run the gate", ["codexgate serve"]),
}
"""By picture its title and the commands that are typed."""


def main() -> None:
    """Draw every scene."""
    IMAGES.mkdir(exist_ok=True)
    for name, (title, commands) in SCENES.items():
        with tempfile.TemporaryDirectory() as home:
            screen = play(commands, Path(home))
        console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
        console.print(Text.from_ansi(screen.rstrip()))
        svg = re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title=title), flags=re.DOTALL)
        IMAGES.joinpath(f"{name}.svg").write_text(svg, "utf-8")  # fetches no fonts from anywhere
        sys.stdout.write(f"{IMAGES / name}.svg\n")


def play(commands: list[str], home: Path) -> str:
    """Type `commands` into a shell of their own and return the screen, with its colours."""
    session = ["tmux", "-L", "codexgate-pictures", "-f", os.devnull]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shown = {
        "HOME": str(home),
        "PATH": path,
        "PS1": "$ ",
        "TERM": "tmux-256color",
        "CODEXGATE_BACKENDS": "demo",
        "CODEXGATE_LOG_LEVEL": "warning",
    }
    size = ["-x", str(WIDTH), "-y", str(HEIGHT)]
    shell = shlex.join(["env", "-i", *(f"{name}={value}" for name, value in shown.items()), "sh"])
    subprocess.run([*session, "new-session", "-d", *size, shell], check=True)
    try:
        for command in commands:
            subprocess.run([*session, "send-keys", command, "Enter"], check=True)
            settle(session)
        screen = capture(session).replace(str(home), "~")
        return screen.removesuffix("$ \n")
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
