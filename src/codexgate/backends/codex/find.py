"""Where the Codex program is, and what of this machine it may see.

Runs the native binary, never npm's wrapper script: a wrapper survives its child and eats
signals.
"""

import importlib.util
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

INSTALL = "Install it with `pip install 'codexgate[codex]'` or `npm install -g @openai/codex`."

_NAMES = frozenset(
    "ALL_PROXY APPDATA CODEX_CA_CERTIFICATE CODEX_HOME HOME HTTPS_PROXY HTTP_PROXY LANG LOCALAPPDATA LOGNAME "
    "NO_PROXY PATH SHELL SSL_CERT_DIR SSL_CERT_FILE SYSTEMROOT TEMP TERM TMP TMPDIR TZ USER USERPROFILE "
    "XDG_RUNTIME_DIR all_proxy http_proxy https_proxy no_proxy".split()
)
"""The environment that the child gets: what it needs to run and to reach its model. The gate's
own secrets (keys, database addresses) are not among them."""


def find_binary(configured: str, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The program: as configured, else the packaged one, else on `PATH`; `None` when there is none."""
    if configured:
        found = shutil.which(configured, path=environ.get("PATH"))
        return _native(Path(found)) if found else None
    packaged = _packaged()
    if packaged is not None:
        return packaged
    found = shutil.which("codex", path=environ.get("PATH"))
    return _native(Path(found)) if found else None


def codex_home(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of the user's login and configuration."""
    return Path(environ.get("CODEX_HOME") or Path.home() / ".codex")


def child_environ(environ: Mapping[str, str], also: frozenset[str]) -> dict[str, str]:
    """The child's environment; `also`: variables that the user's providers take their keys from."""
    return {
        name: value
        for name, value in environ.items()
        if name in _NAMES or name in also or name.startswith("LC_")
    }


def _packaged() -> Path | None:
    spec = importlib.util.find_spec("codex_cli_bin")
    if spec is None or not spec.submodule_search_locations:
        return None
    name = "codex.exe" if os.name == "nt" else "codex"
    path = Path(spec.submodule_search_locations[0]) / "bin" / name
    return path if path.is_file() else None


def _native(path: Path) -> Path:
    """The binary behind npm's wrapper; the path itself when it is no wrapper.

    npm puts it at `<package>/vendor/<target>/codex/codex`, of the package itself or of the one
    for this platform beside it.
    """
    real = path.resolve()
    with real.open("rb") as file:
        wrapper = file.read(2) == b"#!" or real.suffix in (".js", ".cmd", ".ps1")
    if not wrapper:
        return real
    package = real.parent.parent
    folders = [package, *package.glob("node_modules/@openai/codex-*"), *package.parent.glob("codex-*")]
    for folder in folders:
        for binary in sorted(folder.glob("vendor/*/*/codex*")):
            if binary.name in ("codex", "codex.exe") and binary.is_file():
                return binary
    return real
