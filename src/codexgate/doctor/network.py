"""Checks of the way to the servers that the settings name: are they there, and may they be trusted.

A connection and a TLS handshake, nothing is asked. The backends' own checks know what the servers can do.
"""

import asyncio
import re
import shlex
import socket
import ssl
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from ..settings import Settings
from .words import Asked, Check, Remedy, Row

UPSTREAM = "network.upstream"
TLS = "network.tls"

PATIENCE = 1.5
"""Seconds that a server has for a connection, and for its handshake."""

WHY_UPSTREAM = "Every request for its models ends in 503."
WHY_TLS = "The gate sends nothing, its key least of all, to a server that cannot prove who it is."

EXPIRED, EARLY, WRONG_HOST, WRONG_ADDRESS = 10, 9, 62, 64
SELF_SIGNED, UNKNOWN_ISSUER = 18, frozenset((2, 19, 20, 21))
"""Of a certificate that signed itself, or whose authority nobody here knows (OpenSSL, X509_V_ERR_*)."""


class Place(msgspec.Struct, frozen=True):
    """A server that the settings name."""

    setting: str
    scheme: str
    host: str
    port: int

    @property
    def name(self) -> str:
        """For people: without user, password and path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def places(settings: Settings) -> Iterator[Place]:
    """The servers named in `settings`; Ollama on plain HTTP has checks of its own."""
    urls = {f"openai.{name}.base_url": options.base_url for name, options in settings.openai.items()}
    urls |= {"embeddings.base_url": settings.embeddings.base_url}
    if settings.ollama.url.startswith("https:"):
        urls |= {"ollama.url": settings.ollama.url}
    for setting, url in urls.items():
        with suppress(ValueError):  # a port that is none; the backend says so
            split = urlsplit(url.strip())
            if split.scheme in ("http", "https") and split.hostname:
                port = split.port or (443 if split.scheme == "https" else 80)
                yield Place(setting, split.scheme, split.hostname, port)


async def look(asked: Asked) -> list[Row]:
    """Every server that is named, all at once."""
    found, trusted = list(places(asked.settings)), bundle(asked.environ)
    if not found:
        return [Row(id, "network", "skipped", "The settings name no such server.") for id in (UPSTREAM, TLS)]
    seen = await asyncio.gather(*(_try(place, trusted) for place in found))
    rows = [row for each in seen for row in each]
    if not any(row.id == TLS for row in rows):
        rows.append(Row(TLS, "network", "skipped", "No server that is named speaks TLS."))
    return rows


CHECKS = (Check((UPSTREAM, TLS), "network", look, 4 * PATIENCE),)


def bundle(environ: Mapping[str, str]) -> Path | None:
    """The file of authorities that `SSL_CERT_FILE` takes the place of, if there is one."""
    named = environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().openssl_cafile
    return Path(named).absolute() if named and Path(named).is_file() else None


async def _try(place: Place, trusted: Path | None) -> list[Row]:
    """What happened at one server: a row about the connection, and for https one about the certificate."""
    tls = place.scheme == "https"
    try:
        async with _connected(place) as writer:
            if not tls:
                return [_reached(place)]
            try:
                await _greet(place, writer, ssl.create_default_context())
            except OSError as error:  # ssl.SSLError and a time-out are
                return [_reached(place), await _distrusted(place, error, trusted)]
            row = Row(TLS, "network", "ok", f"{place.name} has a certificate that can be trusted.")
            return [_reached(place), row]
    except (OSError, UnicodeError) as error:
        row = Row(TLS, "network", "skipped", f"{place.name} cannot be reached.")
        return [_unreached(place, error), row] if tls else [_unreached(place, error)]


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


def _reached(place: Place) -> Row:
    return Row(UPSTREAM, "network", "ok", f"{place.name} ({place.setting}) takes connections.")


def _unreached(place: Place, error: Exception) -> Row:
    remedy = Remedy("Start it, or mend its address.", f"export {_variable(place)}=URL")
    if isinstance(error, socket.gaierror | UnicodeError):
        reason, remedy = "has a host name that nobody knows", Remedy("Mend its name.", remedy.command)
    elif isinstance(error, TimeoutError):
        reason = f"takes no connection within {PATIENCE:.1f} s"
    elif isinstance(error, ConnectionRefusedError):
        reason = "refuses connections: nothing listens there"
    else:
        reason = "cannot be reached"
    summary = f"{place.name} ({place.setting}) {reason}."
    return Row(UPSTREAM, "network", "fail", summary, WHY_UPSTREAM, remedy)


async def _distrusted(place: Place, error: OSError, trusted: Path | None) -> Row:
    """Which of the reasons it is not to trust a server; `trusted`: see `bundle`."""
    host = shlex.quote(place.host)
    show = f"openssl s_client -connect {host}:{place.port} -servername {host} </dev/null"
    code = error.verify_code if isinstance(error, ssl.SSLCertVerificationError) else 0
    mend = f"export {_variable(place)}=URL"
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
    return Row(
        TLS, "network", "fail", f"{place.name} ({place.setting}) {reason}.", WHY_TLS, remedy, {"code": code}
    )


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


def _variable(place: Place) -> str:
    return f"CODEXGATE_{re.sub('[.-]', '_', place.setting).upper()}"
