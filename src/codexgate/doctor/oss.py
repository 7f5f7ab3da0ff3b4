"""Checks of the way from `codex --oss` (or any client) to the server it is told to use.

Codex asks `/v1/models` whether a server is there, reads what is installed from `/api/tags` alone and
pulls what it does not find there. What it says then names none of the causes told apart here.
"""

import asyncio
import ipaddress
import shlex
from urllib.parse import urlsplit

import msgspec

from ..backends.ollama import address
from .reach import Answer, ask
from .target import DEFAULT, Target, codex_oss, gate_url, is_loopback, ollama_model, root, start_codex
from .words import Asked, Check, Remedy, Row

PROXIES = "HTTP_PROXY http_proxy HTTPS_PROXY https_proxy ALL_PROXY all_proxy".split()


class _Seen(msgspec.Struct, frozen=True):
    """What the server answers."""

    asked: Asked
    target: Target
    base: Answer
    """`{base URL}/models`, the base URL as it is spelled."""
    models: Answer
    tags: Answer

    @property
    def root(self) -> str:
        return root(self.target.url)

    @property
    def model(self) -> str:
        return ollama_model(self.asked)

    @property
    def named(self) -> bool:
        """Whether somebody said that this server shall be used."""
        return bool(self.target.source)


async def look(asked: Asked) -> list[Row]:
    """Ask the server that Codex would ask, as Codex asks it."""
    target = codex_oss(asked)
    base, models, tags = await asyncio.gather(
        ask(target.url.rstrip() + "/models"),
        ask(root(target.url), "/v1/models"),
        ask(root(target.url), "/api/tags"),
    )
    seen = _Seen(asked, target, base, models, tags)
    rows = [_shim(seen), await _host(seen), _base_url(seen)]
    return [row for row in rows if row is not None]


def _shim(seen: _Seen) -> Row:
    id = "ollama.pull.shim"
    details = {"url": seen.target.url, "GET /v1/models": str(seen.models), "GET /api/tags": str(seen.tags)}
    if not seen.named and not seen.tags.status:
        return Row(id, "ollama", "skipped", "No server is named for `codex --oss`.", details=details)
    if seen.tags.ok and seen.model and seen.named and _elsewhere(seen) and seen.model not in names(seen.tags):
        why = f"Codex is sent there by {seen.target.source}, and would pull the model there."
        remedy = Remedy("Install it there, or send Codex to the gate.", _pull(seen))
        summary = f"{seen.root} has no {seen.model}."
        return Row(id, "ollama", "fail", summary, why, remedy, details)
    if seen.tags.ok and seen.tags.field("models") is not None:
        return Row(id, "ollama", "ok", f"{seen.root} tells Codex what is installed.", details=details)
    if not seen.models.status and not seen.tags.status:
        if seen.target.source == "--url":
            return Row(id, "ollama", "skipped", f"Nothing answers at {seen.root}.", details=details)
        summary = f"`codex --oss` finds no server at {seen.root}."
        remedy = Remedy("Start the server, or say where it is (CODEX_OSS_BASE_URL).")
        return Row(
            id, "ollama", "fail", summary, "Codex says: No running Ollama server detected.", remedy, details
        )
    if not seen.models.ok and seen.tags.ok:
        return Row(id, "ollama", "ok", f"{seen.root} has no models yet.", details=details)
    if not seen.models.ok:
        summary = f"{seen.root} answers neither /v1/models ({seen.models}) nor /api/tags ({seen.tags})."
        remedy = Remedy("Name the server's own base URL; most end in /v1.")
        return Row(
            id, "ollama", "fail", summary, "It is no server of models, or wants a key.", remedy, details
        )
    gate = gate_url(seen.asked.settings)
    upstream = shlex.quote(f"{seen.root}/v1")
    remedy = Remedy(
        "Put the gate in front of it, which has every route: "
        f"CODEXGATE_OPENAI_SERVER_BASE_URL={upstream} codexgate serve. Then start Codex against the gate:",
        start_codex(f"{gate}/v1", seen.model),
    )
    why = (
        "Codex reads what is installed from /api/tags alone. Without it every model counts as missing, "
        "and the pull ends in: failed to start pull: HTTP 404 Not Found."
    )
    summary = f"{seen.root} has /v1/models, but no /api/tags ({seen.tags}): it speaks OpenAI's API only."
    wanted = seen.model or seen.target.source == "CODEX_OSS_BASE_URL"
    return Row(id, "ollama", "fail" if wanted else "warning", summary, why, remedy, details)


def names(tags: Answer) -> list[str]:
    """The models that /api/tags lists: what Codex compares with, letter by letter."""
    listed = tags.field("models")
    entries = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    return [str(each.get("name")) for each in entries]


def _elsewhere(seen: _Seen) -> bool:
    """Codex is sent to another server than the gate's own Ollama, whose models have rows of their own."""
    return not seen.asked.url and seen.root != root(seen.asked.settings.ollama.url)


def _pull(seen: _Seen) -> str:
    return f"CODEXGATE_OLLAMA_URL={seen.root} codexgate models pull {shlex.quote(seen.model)}"


def _base_url(seen: _Seen) -> Row | None:
    """How the address is spelled, where somebody spelled it."""
    url, id = seen.target.url, "ollama.base_url"
    right = f"{_once(seen.root)}/v1"
    details = {"url": url, "GET URL/models": str(seen.base)}
    if seen.target.source not in ("--url", "CODEX_OSS_BASE_URL") or not (
        seen.base.status or seen.models.status
    ):
        return None
    if "://" not in url:
        problem, why = (
            "has no scheme",
            "Clients take it for no address; Codex says: No running Ollama server detected.",
        )
    elif seen.base.ok:
        return Row(id, "ollama", "ok", f"{url} is a base URL.", details=details)
    elif "/v1/v1" in url:
        problem, why = "has /v1 twice", "Every request goes to a path that is not there and gets 404."
    elif url.endswith("/"):
        problem = "ends in a slash, and this server minds"
        why = "Many clients put /models behind it as it is: the path then has two slashes and gets 404."
    elif not url.endswith("/v1"):
        problem = "has no /v1 at its end"
        why = "Codex then posts to /responses, and other clients to /chat/completions: both get 404."
    else:
        return None  # what the server answers to the right one is the other row's
    if seen.target.source == "--url":
        if problem.startswith("has no /v1"):  # a server may be named by its root
            return Row(id, "ollama", "ok", f"{url} is a root; clients want {right}.", details=details)
        fix = f"codexgate doctor --url {shlex.quote(right)}"
    else:
        fix = f"export CODEX_OSS_BASE_URL={shlex.quote(right)}"
    remedy = Remedy(f"Give clients {right}", fix)
    return Row(id, "ollama", "fail", f"{url} {problem}.", why, remedy, details)


def _once(url: str) -> str:
    while url.endswith("/v1"):
        url = url.removesuffix("/v1").rstrip("/")
    return url


async def _host(seen: _Seen) -> Row | None:
    """`OLLAMA_HOST`: Ollama reads it, and so does the gate, but Codex does not."""
    text, id = seen.asked.environ.get("OLLAMA_HOST", "").strip(), "ollama.host"
    if not text:
        return None
    url = address(text)
    there = await ask(url, "/api/version")
    details = {"OLLAMA_HOST": text, "means": url, "GET /api/version": str(there)}
    if "://" in text and there.status == 0 and not _has_port(url):
        remedy = Remedy("Say the port too, or leave the scheme out.", f"export OLLAMA_HOST={url}:11434")
        summary = (
            f"OLLAMA_HOST={text} means port {443 if url.startswith('https') else 80}, and nothing answers."
        )
        return Row(
            id, "ollama", "fail", summary, "With a scheme, the port is the scheme's own.", remedy, details
        )
    if there.status == 0:
        moved = await ask(DEFAULT, "/api/version")
        where = f" Ollama answers at {DEFAULT}." if moved.ok else ""
        remedy = Remedy(
            "Unset it, or start Ollama there.", "unset OLLAMA_HOST" if moved.ok else "ollama serve"
        )
        why = "The gate and Ollama's own program look for Ollama there."
        return Row(id, "ollama", "fail", f"OLLAMA_HOST={text}: nothing answers.{where}", why, remedy, details)
    if seen.named or seen.tags.ok or root(seen.target.url) == url:
        return Row(id, "ollama", "ok", f"OLLAMA_HOST={text} is where Ollama answers.", details=details)
    why = "Codex does not read OLLAMA_HOST, and says: No running Ollama server detected."
    if "://" not in text:
        why += " Some clients do, but want a scheme before it (http://)."
    remedy = Remedy("Tell Codex too.", f"export CODEX_OSS_BASE_URL={url}/v1")
    summary = f"OLLAMA_HOST={text} is not where `codex --oss` looks ({root(seen.target.url)})."
    return Row(id, "ollama", "fail" if seen.model else "warning", summary, why, remedy, details)


def _has_port(url: str) -> bool:
    try:
        return urlsplit(url).port is not None
    except ValueError:
        return True


async def look_at_proxy(asked: Asked) -> list[Row]:
    """Whether a proxy catches what is meant for this machine. Asks nobody."""
    id, url = "ollama.proxy", codex_oss(asked).url
    if not is_loopback(url):
        url = asked.settings.ollama.url
    host = urlsplit(url).hostname or "localhost"
    found = [name for name in PROXIES if asked.environ.get(name, "").strip()]
    if not found or not is_loopback(url):
        return [Row(id, "network", "ok", "No proxy stands before this machine.")]
    proxies = _proxies(asked)
    hosts = dict.fromkeys((host, "localhost", "127.0.0.1"))
    caught = [name for name in hosts if not excepted(name, proxies.get("no", ""))]
    details = {"variables": found, "no_proxy": proxies.get("no", ""), "caught": caught}
    catches = any(scheme in proxies for scheme in (urlsplit(url).scheme, "all"))
    if not caught or not catches:
        return [Row(id, "network", "ok", "The proxy leaves this machine alone.", details=details)]
    kept = proxies.get("no", "")
    value = ",".join(filter(None, (kept, "localhost", "127.0.0.1", "::1")))
    names = ", ".join(name for name in found if "http" in name.lower() or "all" in name.lower())
    summary = f"{names} sends requests for {', '.join(caught)} to a proxy."
    why = "The proxy knows no server of yours; Codex says: No running Ollama server detected."
    remedy = Remedy("Except this machine.", f"export NO_PROXY={shlex.quote(value)}")
    return [Row(id, "network", "fail", summary, why, remedy, details)]


def excepted(host: str, no_proxy: str) -> bool:
    """Whether `no_proxy` names `host`: itself, a domain of it, a network, or everything (`*`)."""
    for entry in (each.strip().lower() for each in no_proxy.split(",")):
        name = entry.lstrip(".")
        if entry == "*" or (name and (host == name or host.endswith(f".{name}"))):
            return True
        try:
            if "/" in entry and ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False):
                return True
        except ValueError:
            continue  # a name, not a number
    return False


def _proxies(asked: Asked) -> dict[str, str]:
    """Proxies by scheme, as urllib reads them, but out of `asked`."""
    lower = {name.lower(): value for name, value in asked.environ.items() if name.lower().endswith("_proxy")}
    lower |= {
        name: value for name, value in asked.environ.items() if name.islower() and name.endswith("_proxy")
    }
    return {name.removesuffix("_proxy"): value.strip() for name, value in lower.items() if value.strip()}


CHECKS = (
    Check(("ollama.pull.shim", "ollama.host", "ollama.base_url"), "ollama", look, 4.5),
    Check(("ollama.proxy",), "network", look_at_proxy),
)
