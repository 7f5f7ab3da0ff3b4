"""A TLS server on a loopback port, with a certificate that can be trusted or has one thing wrong."""

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

NONE = b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"data": []}'
REFUSAL = b"HTTP/1.1 400 Bad Request\r\n\r\n"
DAY = datetime.timedelta(days=1)
PEM = Encoding.PEM
_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class Authority:
    """Who signs; `file` is what a client that trusts it names in `SSL_CERT_FILE`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named("An authority of tests")
        mine = x509.BasicConstraints(ca=True, path_length=0)
        self.certificate = (
            _begun(self._name, self._name, self._key, DAY)
            .add_extension(mine, critical=True)
            .add_extension(_USAGE, critical=True)
            .sign(self._key, SHA256())
        )
        self.file = folder / "authority.pem"
        self.file.write_bytes(self.certificate.public_bytes(PEM))

    def context(self, *hosts: str, until: datetime.timedelta = DAY, signed: bool = True) -> ssl.SSLContext:
        """A server's side, with a certificate for `hosts` that is good for `until` from now.

        `signed`: by this authority, else by itself.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        name = _named(hosts[0])
        issuer, by = (self._name, self._key) if signed else (name, key)
        about = x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key())
        certificate = (
            _begun(name, issuer, key, until)
            .add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
            .add_extension(about, critical=False)
            .sign(by, SHA256())
        )
        file = self._folder / "server.pem"
        secret = key.private_bytes(PEM, PrivateFormat.PKCS8, NoEncryption())
        file.write_bytes(certificate.public_bytes(PEM) + secret)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


@asynccontextmanager
async def certified(context: ssl.SSLContext | None) -> AsyncIterator[int]:
    """The port of a server that has no models; without a context it refuses whatever begins, TLS too."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await (reader.readuntil(b"\r\n\r\n") if context else reader.read(1))
            writer.write(NONE if context else REFUSAL)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


def _begun(
    name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, until: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 10 * DAY)
        .not_valid_after(now + until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
