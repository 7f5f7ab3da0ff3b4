"""Where the Codex program is, and what of this machine it may see.

Runs the native binary, never npm's wrapper script: a wrapper survives its child and eats
signals.
"""

import importlib.util
import os
import platform
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

INSTALL = "Install it with `pip install 'codexgate[codex]'` or `npm install -g @openai/codex`."

_NAME = "codex.exe" if os.name == "nt" else "codex"
_SHIM = re.compile(rb'(?:\$basedir|%~?dp0%?)[\\/]+([^"\r\n]*?@openai[\\/]codex[\\/]bin[\\/]codex\.js)')
"""Where npm's and pnpm's scripts for sh, cmd and PowerShell name what they run, from their own folder."""

_NAMES = frozenset(
    "ALL_PROXY APPDATA CODEX_CA_CERTIFICATE CODEX_HOME HOME HTTPS_PROXY HTTP_PROXY LANG LOCALAPPDATA LOGNAME "
    "NO_PROXY PATH SHELL SSL_CERT_DIR SSL_CERT_FILE SYSTEMROOT TEMP TERM TMP TMPDIR TZ USER USERPROFILE "
    "XDG_RUNTIME_DIR all_proxy http_proxy https_proxy no_proxy".split()
)
"""The environment that the child gets: what it needs to run and to reach its model. The gate's
own secrets (keys, database addresses) are not among them."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


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
    """The child's environment; `also`: variables that the user's providers take their keys from.

    A proxy is for what lies beyond this machine: asked for the gate's own address it finds nothing.
    """
    passed = {
        name: value
        for name, value in environ.items()
        if name in _NAMES or name in also or name.startswith("LC_")
    }
    if any(name.lower().endswith("_proxy") for name in passed):
        excepted = passed.get("NO_PROXY") or passed.get("no_proxy", "")
        passed["NO_PROXY"] = passed["no_proxy"] = ",".join(filter(None, (excepted, *LOOPBACK)))
    return passed


def _packaged() -> Path | None:
    spec = importlib.util.find_spec("codex_cli_bin")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / "bin" / _NAME
    return path if path.is_file() else None


def _native(path: Path) -> Path:
    """The binary behind a wrapper of npm's or pnpm's; the path itself when it is no wrapper of theirs.

    It lies at `vendor/<target>/bin/codex` (0.169) or `vendor/<target>/codex/codex` (0.118), of the
    package for this platform, which is beside the package itself or within it; 0.98 has every
    platform's in itself.
    """
    real = path.resolve()
    with real.open("rb") as file:
        head = file.read(8192)
    if head[:2] != b"#!" and real.suffix.lower() not in (".js", ".cmd", ".ps1"):
        return real
    shim = _SHIM.search(head)
    script = (real.parent / shim[1].decode().replace("\\", "/")).resolve() if shim else real
    package = script.parent.parent
    folders = [package, *package.glob("node_modules/@openai/codex-*"), *package.parent.glob("codex-*")]
    for folder in folders:
        for inside in ("bin", "codex"):
            binary = folder / "vendor" / _target() / inside / _NAME
            if binary.is_file():
                return binary
    return real


def _target() -> str:
    """The platform, as Rust names it."""
    machine = platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    systems = {"Darwin": "apple-darwin", "Windows": "pc-windows-msvc"}
    return f"{machine}-{systems.get(platform.system(), 'unknown-linux-musl')}"
