"""Folders that are their maker's alone."""

from pathlib import Path


def make(folder: Path) -> None:
    """Make `folder` with mode 0700, unless it is there. Raises OSError.

    The parents that have to be made get that mode too; `Path.mkdir` would leave them to the umask.
    """
    if folder.is_dir():
        return
    if folder != folder.parent:
        make(folder.parent)
    folder.mkdir(0o700, exist_ok=True)
