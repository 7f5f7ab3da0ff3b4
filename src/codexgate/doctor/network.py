"""Checks of the way to the servers that the settings name: are they there, and may they be trusted.

A connection, a TLS handshake, and of a server of `[openai.NAME]` its list of models. Ollama's own checks
know what that can do.
"""

import asyncio
import re
import shlex
import socket
import ssl
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from ..backends.openai import OpenAI, OpenAIOptions
from ..errors import Fault, GateError
from ..settings import FOREIGN
from .target import codex_oss
from .words import Asked, Check, Remedy, Row

UPSTREAM = "network.upstream"
TLS = "network.tls"

PATIENCE = 1.5
"""Seconds that a server has for a connection, and for its handshake."""
LISTING = 2.5
"""Seconds that it has for its list of models."""

WHY_MODELS = "No request for its models can be answered."
WHY_EMBEDDINGS = "Memories are found by their vectors: without them none can be kept or found."
WHY_CODEX = "Codex says: No running Ollama server detected."
WHY_TLS = "Nothing is sent, a key least of all, to a server that cannot prove who it is."

EXPIRED, EARLY, WRONG_HOST, WRONG_ADDRESS = 10, 9, 62, 64
SELF_SIGNED, UNKNOWN_ISSUER = 18, frozenset((2, 19, 20, 21))
"""Of a certificate that signed itself, or whose authority nobody here knows (OpenSSL, X509_V_ERR_*)."""


class Named(msgspec.Struct, frozen=True):
    """An address that somebody set."""

    setting: str
    """A setting of ours (`ollama.url`), a variable of Codex's, or `--url`."""
    url: str
    mend: str
    """The command that sets another one."""
    why: str
    """Why it matters whether the server is there."""
    options: OpenAIOptions | None = None
    """Of a server of `[openai.NAME]`."""


class Place(msgspec.Struct, frozen=True):
    """Where such a server is."""

    named: Named
    scheme: str
    host: str
    port: int

    @property
    def name(self) -> str:
        """For people: without user, password and path, and with who names it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port} ({self.named.setting})"


def named(asked: Asked) -> Iterator[Named]:
    """The servers that are named, or that of `--url`; an Ollama on plain HTTP has checks of its own."""
    settings, oss = asked.settings, codex_oss(asked)
    if _is_https(oss.url):
        mend = "codexgate doctor --url URL" if asked.url else f"export {oss.source}=URL"
        yield Named(oss.source, oss.url, mend, WHY_CODEX)
    if asked.url:
        return
    if _is_https(settings.ollama.url):
        yield _set(asked, "ollama.url", settings.ollama.url, WHY_MODELS)
    if settings.embeddings.base_url:
        yield _set(asked, "embeddings.base_url", settings.embeddings.base_url, WHY_EMBEDDINGS)
    for name, options in settings.openai.items():
        yield _set(asked, f"openai.{name}.base_url", options.base_url, WHY_MODELS, options)


async def look(asked: Asked) -> list[Row]:
    """Every server that is named, all at once."""
    found, trusted = list(named(asked)), bundle(asked.environ)
    if not found:
        return [Row(id, "network", "skipped", "The settings name no such server.") for id in (UPSTREAM, TLS)]
    seen = await asyncio.gather(*(_try(each, trusted) for each in found))
    rows = [row for each in seen for row in each]
    if not any(row.id == TLS for row in rows):
        rows.append(Row(TLS, "network", "skipped", "No server that is named speaks TLS."))
    return rows


CHECKS = (Check((UPSTREAM, TLS), "network", look, 4 * PATIENCE),)


def bundle(environ: Mapping[str, str]) -> Path | None:
    """The file of authorities that `SSL_CERT_FILE` takes the place of, if there is one."""
    named = environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().openssl_cafile
    return Path(named).absolute() if named and Path(named).is_file() else None


def _is_https(url: str) -> bool:
    return url.strip().lower().startswith("https:")


def _set(asked: Asked, setting: str, url: str, why: str, options: OpenAIOptions | None = None) -> Named:
    return Named(setting, url, f"export {variable(setting, asked.environ)}=URL", why, options)


def variable(setting: str, environ: Mapping[str, str]) -> str:
    """The variable to set for `setting`: another program's where that is what counts now, else ours."""
    ours = f"CODEXGATE_{re.sub('[.-]', '_', setting).upper()}"
    theirs = [name for name, foreign in FOREIGN.items() if foreign.key == setting and environ.get(name)]
    return theirs[0] if theirs and not environ.get(ours) else ours


def place(named: Named) -> Place | None:
    """Where the server is; `None` when its address is none."""
    try:
        split = urlsplit(named.url.strip())
        port = split.port or (443 if split.scheme == "https" else 80)
    except ValueError:
        return None
    if split.scheme not in ("http", "https") or not split.hostname:
        return None
    return Place(named, split.scheme, split.hostname, port)


async def _try(named: Named, trusted: Path | None) -> list[Row]:
    """What happened at one server: a row about the server, and for https one about the certificate."""
    there = place(named)
    if there is None:
        remedy = Remedy("Mend it: http://HOST:PORT/v1", named.mend)
        return [Row(UPSTREAM, "network", "fail", f"{named.setting} is no address.", named.why, remedy)]
    tls = there.scheme == "https"
    try:
        async with _connected(there) as writer:
            if not tls:
                return [await _reached(there)]
            try:
                await _greet(there, writer, ssl.create_default_context())
            except OSError as error:  # ssl.SSLError and a time-out are
                return [_connects(there), await _distrusted(there, error, trusted)]
            row = Row(TLS, "network", "ok", f"{there.name} has a certificate that can be trusted.")
            return [await _reached(there), row]
    except (OSError, UnicodeError) as error:
        row = Row(TLS, "network", "skipped", f"{there.name} cannot be reached.")
        return [_unreached(there, error), row] if tls else [_unreached(there, error)]


@asynccontextmanager
async def _connected(place: Place) -> AsyncGenerator[asyncio.StreamWriter]:
    """A connection on which nothing has been said. Raises OSError and UnicodeError, in time."""
    async with asyncio.timeout(PATIENCE):
        _, writer = await asyncio.open_connection(place.host, place.port)
    try:
        yield writer
    finally:
        writer.transport.abort()  # no goodbye: some servers leave one waiting for theirs


async def _greet(place: Place, writer: asyncio.StreamWriter, context: ssl.SSLContext) -> tuple[str, ...]:
    """Shake hands; the names in its certificate. Raises OSError, in time."""
    async with asyncio.timeout(PATIENCE):
        await writer.start_tls(context, server_hostname=place.host)
    certificate = writer.get_extra_info("peercert") or {}
    return tuple(str(name) for _, name in certificate.get("subjectAltName", ()))


def _connects(place: Place) -> Row:
    details = {"asked": "a connection", "answer": "taken"}
    return Row(UPSTREAM, "network", "ok", f"{place.name} takes connections.", details=details)


async def _reached(place: Place) -> Row:
    """Whether a server that takes connections lists its models, where it has to."""
    named = place.named
    if named.options is None:
        return _connects(place)
    count, fault = await _list(named.setting.removeprefix("openai.").removesuffix(".base_url"), named.options)
    listed = f"{count} model{'s' * (count != 1)}"
    details = {"asked": "GET /models", "answer": fault.message if fault else listed}
    # That it does not list its models is no loss where they are known.
    if fault is None or (fault.code == "no_model_list" and named.options.models):
        return Row(UPSTREAM, "network", "ok", f"{place.name} answers.", details=details)
    mend = named.mend
    if fault.code == "upstream_key_refused":
        mend = named.mend.replace("BASE_URL=URL", "API_KEY=KEY")
    summary = f"{place.name} takes connections, and lists no models. {fault.message}"
    remedy = Remedy(fault.advice or "Mend the server, or its address.", mend)
    return Row(UPSTREAM, "network", "fail", summary, named.why, remedy, details)


async def _list(name: str, options: OpenAIOptions) -> tuple[int, Fault | None]:
    """How many models the server lists, or why none."""
    try:
        server = OpenAI(msgspec.structs.replace(options, models=()), name=name)
    except GateError as error:
        return 0, error.fault
    try:
        async with asyncio.timeout(LISTING):
            return len(await server.models()), None
    except GateError as error:
        return 0, error.fault
    except TimeoutError:
        return 0, Fault(
            "timeout", f"It does not answer within {LISTING:.1f} s.", "Restart it, or mend its address."
        )
    finally:
        await server.aclose()


def _unreached(place: Place, error: Exception) -> Row:
    remedy = Remedy("Start it, or mend its address.", place.named.mend)
    if isinstance(error, socket.gaierror | UnicodeError):
        reason, remedy = "has a host name that nobody knows", Remedy("Mend its name.", remedy.command)
    elif isinstance(error, TimeoutError):
        reason = f"takes no connection within {PATIENCE:.1f} s"
    elif isinstance(error, ConnectionRefusedError):
        reason = "refuses connections: nothing listens there"
    else:
        reason = "cannot be reached"
    details = {"asked": "a connection", "answer": str(error) or type(error).__name__}
    return Row(UPSTREAM, "network", "fail", f"{place.name} {reason}.", place.named.why, remedy, details)


async def _distrusted(place: Place, error: OSError, trusted: Path | None) -> Row:
    """Which of the reasons it is not to trust a server; `trusted`: see `bundle`."""
    host = shlex.quote(place.host)
    show = f"openssl s_client -connect {host}:{place.port} -servername {host} </dev/null"
    code = error.verify_code if isinstance(error, ssl.SSLCertVerificationError) else 0
    mend = place.named.mend
    if code == EXPIRED:
        reason = "has a certificate that has expired"
        remedy = Remedy(
            "Renew it on that server; this shows until when it was good.",
            f"{show} | openssl x509 -noout -dates",
        )
    elif code == EARLY:
        reason = "has a certificate that is not valid yet"
        remedy = Remedy("Is this machine's clock right?", "timedatectl set-ntp true")
    elif code in (WRONG_HOST, WRONG_ADDRESS):
        names = await _names(place)
        reason = f"has a certificate for another host ({', '.join(names[:5]) or 'it names none'})"
        remedy = Remedy("Use a name that is in the certificate.", mend)
    elif code == SELF_SIGNED:
        reason = "has a certificate signed by itself"
        remedy = Remedy(
            "If you trust it, put it beside the authorities that are trusted now.",
            _beside(trusted, f"{show} | openssl x509"),
        )
    elif code in UNKNOWN_ISSUER:
        reason = "has a certificate from an authority that is not known here"
        text = "Put that authority's certificate (FILE) beside those that are trusted now."
        remedy = Remedy(text, _beside(trusted, "cat FILE"))
    elif isinstance(error, TimeoutError):
        reason = f"takes connections, and does not finish a TLS handshake within {PATIENCE:.1f} s"
        remedy = Remedy("Is it an http:// address? Else it hangs.", mend)
    elif code:
        reason, remedy = f"has a certificate that does not hold (OpenSSL {code})", Remedy("Look at it.", show)
    else:
        reason = "does not speak TLS"
        remedy = Remedy("Is it an http:// address?", mend)
    return Row(TLS, "network", "fail", f"{place.name} {reason}.", WHY_TLS, remedy, {"code": code})


def _beside(trusted: Path | None, certificate: str) -> str:
    """The command that trusts what `certificate` prints too: `SSL_CERT_FILE` counts instead of `trusted`."""
    both = f"{{ cat {shlex.quote(str(trusted))}; {certificate}; }}" if trusted else certificate
    # By another name first: the file may be one of those that are read.
    return f"{both} > trusted.new && mv trusted.new trusted.pem && export SSL_CERT_FILE=$PWD/trusted.pem"


async def _names(place: Place) -> tuple[str, ...]:
    """The hosts that a certificate is for, which is trusted but for that."""
    context = ssl.create_default_context()
    context.check_hostname = False
    try:
        async with _connected(place) as writer:
            return await _greet(place, writer, context)
    except OSError:  # a time-out is one
        return ()
