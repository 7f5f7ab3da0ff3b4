"""Checks of the way from `codex --oss` (or any client) to the server it is told to use.

Codex asks `/v1/models` whether a server is there, reads what is installed from `/api/tags` alone and
pulls what it does not find there. What it says then names none of the causes told apart here.
"""

import asyncio
import ipaddress
import re
import shlex
from contextlib import suppress
from urllib.parse import urlsplit

import msgspec

from ..backends.ollama import address
from . import through
from .ollama_seen import GATE, start
from .reach import Answer, hear
from .target import DEFAULT, Target, codex_oss, gate_url, is_loopback, look_at_tls, pull, root
from .whose import ollama_model
from .words import Asked, Check, Remedy, Row, Status

ENDPOINT = re.compile(
    "(/v1)?/((chat/)?completions|models|responses|embeddings)$"
    "|/api/(chat|embed|embeddings|generate|ps|pull|show|tags|version)$"
)
"""What follows the root where the address of one route was taken for a base URL."""
ASIDE = re.compile("/(openai|ozwell)$")
"""What follows a gate's root where it has no `/api/tags`."""


class _Seen(msgspec.Struct, frozen=True):
    """What the server answers."""

    asked: Asked
    target: Target
    model: str
    """The wanted one, as Ollama knows it; empty when none is."""
    base: Answer
    """`{base URL}/models`, the base URL as it is spelled."""
    models: Answer
    tags: Answer
    locked: bool
    """Whether our gate wants a key."""

    @property
    def root(self) -> str:
        return root(self.target.url)

    @property
    def named(self) -> bool:
        """Whether somebody said that this server shall be used."""
        return bool(self.target.source)

    @property
    def wanted(self) -> bool:
        """Whether it is Codex that shall use it: to `--url` any server may be given."""
        return bool(self.model or (self.named and not self.asked.url))

    @property
    def is_gate(self) -> bool:
        """Whether what answers is a gate."""
        return GATE in (self.models.headers.get("server"), self.tags.headers.get("server"))

    @property
    def meant(self) -> str:
        """The base URL that was meant by the address of something on that server; empty when it is one."""
        meant = ENDPOINT.sub("", self.root)
        meant = ASIDE.sub("", meant) if self.is_gate else meant
        return f"{meant}/v1" if meant != self.root else ""


async def look(asked: Asked) -> list[Row]:
    """Ask the server that Codex would ask, as Codex asks it."""
    target = codex_oss(asked)
    where = root(target.url)
    models, tags, model, locked = await asyncio.gather(
        hear(asked, where, "/v1/models"),
        hear(asked, where, "/api/tags"),
        ollama_model(asked),
        through.is_locked(asked.settings),
    )
    # To `--url` a root may be given, whose spelling says nothing of how clients spell it.
    base = models if target.url == f"{where}/v1" else Answer()
    if base is not models and asked.url != where:
        base = await hear(asked, f"{target.url.rstrip()}/models")
    seen = _Seen(asked, target, model, base, models, tags, locked)
    rows = [_shim(seen), await _host(seen), _base_url(seen)]
    return [row for row in rows if row is not None]


def _shim(seen: _Seen) -> Row:
    """Whether Codex finds there what it reads."""
    details = {"url": seen.target.url, "GET /v1/models": str(seen.models), "GET /api/tags": str(seen.tags)}
    return Row("ollama.pull.shim", "ollama", *_told(seen), details)


def _told(seen: _Seen) -> tuple[Status, str, str, Remedy | None]:
    """How it stands, what was seen, why it matters and what mends it."""
    if not seen.named and not seen.tags.status:
        return "skipped", "No server is named for `codex --oss`.", "", None
    if not seen.models.status and not seen.tags.status:
        return _silent(seen)
    status: Status = "fail" if seen.wanted else "warning"
    if seen.tags.lists("models") and seen.models.ok:
        if not (seen.model and seen.named and _elsewhere(seen)) or seen.model in names(seen.tags):
            return "ok", f"{seen.root} tells Codex what is installed.", "", None
        why = f"Codex is sent there by {seen.target.source}, and would pull the model there."
        command = pull(seen.asked, seen.root, seen.model)
        remedy = Remedy("Install it there, or send Codex to the gate.", command)
        return "fail", f"{seen.root} has no {seen.model}.", why, remedy
    if seen.tags.lists("models"):
        summary = (
            f"{seen.root} has /api/tags, but no /v1/models ({seen.models}): it speaks Ollama's API only."
        )
        why = "Codex asks /v1/models whether a server is there, and says: No running Ollama server detected."
        ours = seen.root == root(seen.asked.settings.ollama.url)
        named = () if ours else (f"CODEXGATE_OLLAMA_URL={shlex.quote(seen.root)}",)
        return status, summary, why, through.before(seen.asked, seen.model, *named, locked=seen.locked)
    if seen.models.lists("data"):
        why = (
            "Codex reads what is installed from /api/tags alone. Without it every model counts as missing, "
            "and the pull ends in: failed to start pull: HTTP 404 Not Found."
        )
        summary = f"{seen.root} has /v1/models, but no /api/tags ({seen.tags}): it speaks OpenAI's API only."
        return status, summary, why, _spelled(seen) if seen.meant else _in_front(seen)
    return _neither(seen)


def _silent(seen: _Seen) -> tuple[Status, str, str, Remedy | None]:
    if seen.target.source == "--url":
        return "skipped", f"Nothing answers at {seen.root}.", "", None
    remedy = Remedy("Start the server, or say where it is.", "export CODEX_OSS_BASE_URL=URL")
    if seen.root == root(gate_url(seen.asked.settings)):
        remedy = Remedy("Start the gate.", "codexgate serve")
    if seen.tags.distrusted:
        remedy = look_at_tls(seen.asked)
    why = "Codex says: No running Ollama server detected."
    return "fail", f"`codex --oss` finds no server at {seen.root}.", why, remedy


def _neither(seen: _Seen) -> tuple[Status, str, str, Remedy | None]:
    summary = f"{seen.root} answers neither /v1/models ({seen.models}) nor /api/tags ({seen.tags})."
    if seen.models.ok or seen.tags.ok:
        summary = f"{seen.root} answers, but lists no models, neither at /v1/models nor at /api/tags."
    if seen.meant:
        return "fail", summary, "It is the address of one route, and not of a server.", _spelled(seen)
    if {seen.models.status, seen.tags.status} & {401, 403}:
        return "fail", summary, "It wants a key, and `codex --oss` sends none.", _with_key(seen)
    return "fail", summary, "It is no server of models.", _spelled(seen)


def _spelled(seen: _Seen) -> Remedy:
    """Another base URL: the one that was meant, where that can be seen."""
    again = "codexgate doctor --url" if seen.asked.url else "export CODEX_OSS_BASE_URL"
    url = shlex.quote(seen.meant) if seen.meant else "URL"
    text = "Name the server's own base URL; most end in /v1."
    return Remedy(text, f"{again}{' ' if seen.asked.url else '='}{url}")


def _in_front(seen: _Seen, *more: str) -> Remedy:
    """The gate before a server of OpenAI's API; `more`: further settings of it, as variables."""
    named = f"CODEXGATE_OPENAI_SERVER_BASE_URL={shlex.quote(f'{seen.root}/v1')}"
    return through.before(seen.asked, seen.model, named, *more, locked=seen.locked)


def _with_key(seen: _Seen) -> Remedy:
    if not seen.is_gate:
        return _in_front(seen, "CODEXGATE_OPENAI_SERVER_API_KEY=KEY")
    ours = seen.root == root(gate_url(seen.asked.settings))
    command = through.connect(seen.model, "" if ours else seen.root)
    return Remedy("Let Codex reach the gate as a provider, which has a key.", command)


def names(tags: Answer) -> list[str]:
    """The models that /api/tags lists: what Codex compares with, letter by letter."""
    listed = tags.field("models")
    entries = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    return [str(each.get("name")) for each in entries]


def _elsewhere(seen: _Seen) -> bool:
    """Codex is sent to another server than the gate's own Ollama, whose models have rows of their own."""
    return not seen.asked.url and seen.root != root(seen.asked.settings.ollama.url)


def _base_url(seen: _Seen) -> Row | None:
    """How the address is spelled, where somebody spelled it."""
    url, id = seen.target.url, "ollama.base_url"
    right = f"{_once(seen.root)}/v1"
    details = {"url": url, "GET URL/models": str(seen.base)}
    if seen.target.source not in ("--url", "CODEX_OSS_BASE_URL"):
        return None
    if not seen.models.lists("data"):
        return None  # what is wrong with the server is the other row's
    if "://" not in url:
        problem = "has no scheme"
        why = "Clients take it for no address; Codex says: No running Ollama server detected."
    elif seen.base.lists("data"):
        return Row(id, "ollama", "ok", f"{url} is a base URL.", details=details)
    elif "/v1/v1" in url:
        problem, why = "has /v1 twice", "Every request goes to a path that is not there and gets 404."
    elif "//" in url.partition("://")[2].rstrip("/"):
        problem, why = "has a doubled slash", "Every request goes to a path that is not there and gets 404."
    elif url.endswith("/") and url.rstrip("/").endswith("/v1"):
        problem = "ends in a slash, and this server minds"
        why = "Many clients put /models behind it as it is: the path then has two slashes and gets 404."
    else:
        problem = "has no /v1 at its end"
        why = "Codex then posts to /responses, and other clients to /chat/completions: both get 404."
    if seen.target.source == "--url":
        if problem.startswith("has no"):  # the doctor may be told a root, or a host
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
    if not text or seen.asked.url:  # then nobody else is asked
        return None
    url = address(text)
    there = await hear(seen.asked, url, "/api/version")
    details = {"OLLAMA_HOST": text, "means": url, "GET /api/version": str(there)}
    if there.status and not there.ok:
        return None  # what answers there is `ollama.server`'s
    if "://" in text and not there.status and (mended := _with_port(url)):
        port = 443 if url.startswith("https") else 80
        summary = f"OLLAMA_HOST={text} means port {port}, and nothing answers."
        command = f"export OLLAMA_HOST={shlex.quote(mended)}"
        remedy = Remedy("Say the port too, or leave the scheme out.", command)
        why = "With a scheme, the port is the scheme's own."
        return Row(id, "ollama", "fail", summary, why, remedy, details)
    if not there.status:
        moved = (await hear(seen.asked, DEFAULT, "/api/version")).ok
        summary = f"OLLAMA_HOST={text}: {'nothing answers' if there.refused else there}"
        summary = f"{summary.rstrip('.')}.{f' Ollama answers at {DEFAULT}.' if moved else ''}"
        remedy = Remedy("Unset it, or start Ollama there.", "unset OLLAMA_HOST")
        if not moved and there.refused and is_loopback(url):
            remedy = start(seen.asked)
        why = "The gate and Ollama's own program look for Ollama there."
        return Row(id, "ollama", "fail", summary, why, remedy, details)
    if seen.named or seen.tags.ok or root(seen.target.url) == url:
        return Row(id, "ollama", "ok", f"OLLAMA_HOST={text} is where Ollama answers.", details=details)
    why = "Codex does not read OLLAMA_HOST, and says: No running Ollama server detected."
    if "://" not in text:
        why += " Some clients do, but want a scheme before it (http://)."
    remedy = Remedy("Tell Codex too.", f"export CODEX_OSS_BASE_URL={shlex.quote(f'{url}/v1')}")
    summary = f"OLLAMA_HOST={text} is not where `codex --oss` looks ({root(seen.target.url)})."
    return Row(id, "ollama", "fail" if seen.model else "warning", summary, why, remedy, details)


def _with_port(url: str) -> str:
    """`url` with Ollama's port; empty where it has one, or is none of HTTP's."""
    with suppress(ValueError):
        split = urlsplit(url)
        if split.port is None and split.scheme in ("http", "https"):
            return split._replace(netloc=f"{split.netloc}:11434").geturl()
    return ""


async def look_at_proxy(asked: Asked) -> list[Row]:
    """Whether a proxy catches what is meant for this machine. Asks nobody."""
    id, urls = "ollama.proxy", (codex_oss(asked).url, asked.url or asked.settings.ollama.url)
    split = urlsplit(next(filter(is_loopback, map(address, urls)), ""))
    if not split.hostname:
        return [Row(id, "network", "skipped", "No server on this machine is asked.")]
    meant = (f"{split.scheme}_proxy", "all_proxy")
    found = [name for name, value in asked.environ.items() if name.lower() in meant and value.strip()]
    if not found:
        return [Row(id, "network", "ok", "No proxy stands before this machine.")]
    kept = asked.environ.get("no_proxy", "").strip() or asked.environ.get("NO_PROXY", "").strip()
    hosts = dict.fromkeys((split.hostname, "localhost", "127.0.0.1"))
    caught = [host for host in hosts if not excepted(host, kept)]
    details = {"variables": found, "no_proxy": kept, "caught": caught}
    if not caught:
        return [Row(id, "network", "ok", "The proxy leaves this machine alone.", details=details)]
    entries = (*map(str.strip, kept.split(",")), "localhost", "127.0.0.1", "::1", split.hostname)
    value = shlex.quote(",".join(dict.fromkeys(filter(None, entries))))
    both = f" no_proxy={value}" if "no_proxy" in asked.environ else ""  # it counts more to most programs
    remedy = Remedy("Except this machine.", f"export NO_PROXY={value}{both}")
    why = "The proxy knows no server of yours; Codex says: No running Ollama server detected."
    summary = f"{', '.join(found)} sends requests for {', '.join(caught)} to a proxy."
    # Only another name of this machine is caught: clients that use it are, and Codex is not.
    status: Status = "fail" if split.hostname in caught else "warning"
    return [Row(id, "network", status, summary, why, remedy, details)]


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


CHECKS = (
    Check(("ollama.pull.shim", "ollama.host", "ollama.base_url"), "ollama", look, 4.5),
    Check(("ollama.proxy",), "network", look_at_proxy),
)
