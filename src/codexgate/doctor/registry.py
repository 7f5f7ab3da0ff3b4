"""Whether a model that is not installed could be: its registry asked once, or a failed pull explained."""

import re
import shlex
from collections.abc import Mapping
from urllib.parse import quote

from ..errors import Fault
from .reach import ask
from .words import Remedy, Row

ID = "ollama.registry"
REGISTRY = "https://registry.ollama.ai"
UPDATE = Remedy("Update Ollama: https://ollama.com/download")


async def look(model: str, environ: Mapping[str, str]) -> list[Row]:
    """Whether `model` could be pulled: its registry is asked for the manifest, once, from here."""
    if any(value for name, value in environ.items() if name.lower() in ("https_proxy", "all_proxy")):
        text = (
            "A proxy stands before the registry: whether Ollama's service uses it cannot be seen from here."
        )
        remedy = Remedy("The service needs HTTPS_PROXY itself.", "sudo systemctl edit ollama")
        return [Row(ID, "network", "skipped", text, remedy=remedy)]
    where, path = manifest(model)
    answer = await ask(where, path)
    details = {"url": f"{where}{path}", "answer": str(answer)}
    if answer.ok:
        return [Row(ID, "network", "ok", f"The registry has {model}.", details=details)]
    if answer.status == 404:
        why = "A pull ends in: pull model manifest: file does not exist."
        remedy = Remedy("See https://ollama.com/library for the names.")
        return [Row(ID, "network", "fail", f"The registry has no {model}.", why, remedy, details)]
    if answer.status:
        return [Row(ID, "network", "skipped", f"The registry answers {answer.status}.", details=details)]
    why = "A pull ends in: dial tcp …: i/o timeout, or no such host."
    text = "Look after the network, or the proxy of Ollama's service (not of your shell). This shows more."
    remedy = Remedy(text, f"curl -v {shlex.quote(f'{where}/v2/')}")
    return [Row(ID, "network", "fail", str(answer), why, remedy, details)]


def pull_row(model: str, fault: Fault, again: str = "") -> Row:
    """Why a pull failed, in Ollama's own words: it may see another network than we do.

    `again`: the command that tries once more.
    """
    why = "Ollama itself asks the registry, with its own proxy and name server."
    remedy = Remedy(fault.advice, again if fault.code == "registry_unreachable" else "")
    if fault.code == "ollama_too_old":
        why, remedy = f"The registry gives {model} to newer versions only.", UPDATE
    elif re.search("proxy", fault.message):
        remedy = Remedy(
            "Mend the proxy of Ollama's service, not of your shell.", "sudo systemctl edit ollama"
        )
    return Row(ID, "network", "fail", fault.message, why, remedy, {"code": fault.code})


def manifest(model: str) -> tuple[str, str]:
    """The registry of `model`, and the path of its manifest there. Source: Ollama, types/model/name.go."""
    scheme, _, name = model.rpartition("://")
    *where, last = name.split("/")
    name, _, tag = last.partition(":")
    host = f"{scheme or 'https'}://{where[0]}" if len(where) == 2 else REGISTRY
    folder = where[-1] if where else "library"
    return host, quote(f"/v2/{folder}/{name}/manifests/{tag or 'latest'}")
