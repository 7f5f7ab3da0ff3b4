"""What may be served to whom without a key. Knows settings alone; `server/guard.py` keeps the door itself."""

import ipaddress
from typing import get_args

from .chat import Sandbox
from .errors import Fault, GateError
from .settings import Settings


def refuse_open(settings: Settings, *, has_key: bool) -> None:
    """Raise GateError where strangers could ask, or use what Codex may do, without a key.

    A Unix socket is its owner's alone (0600) and needs none of this.
    """
    host = settings.server.host
    if not has_key and not is_loopback(host):
        raise _refused(f"Listening on {host} needs an API key.", "Make one: codexgate key make")
    if settings.backends and "codex" not in settings.backends:
        return
    sandbox = _most(settings)
    if sandbox == "danger-full-access" and not is_loopback(host):
        raise _refused(f"Codex with {sandbox} is not served on {host}.", "Listen on 127.0.0.1.")
    if sandbox != "read-only" and not has_key:
        advice = "Make one: codexgate key make"
        raise _refused(f"Serving Codex with the sandbox {sandbox} needs an API key.", advice)
    if settings.codex.approvals == "ask" and not has_key:  # who asks could also say yes
        raise _refused("Serving Codex with approvals needs an API key.", "Make one: codexgate key make")


def _most(settings: Settings) -> Sandbox:
    """The most that Codex may do under any name, for whoever asks chooses the name."""
    aliased = [alias.sandbox for alias in settings.aliased.values() if alias.sandbox]
    return max((settings.codex.sandbox, *aliased), key=get_args(Sandbox).index)


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, is this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refused(message: str, advice: str) -> GateError:
    return GateError(Fault("authentication", message, advice, "open_door"))
