"""One Postgres database: few connections, opened when needed, each call over in two seconds.

What the stores in Postgres share. Knows no table but that of the versions. No text of the library or
the server leaves this module: it may quote what was sent. Every value is a bound parameter. Nothing
is prepared, and no session is changed, so a pooler such as PgBouncer may stand between.
"""

import asyncio
import ipaddress
import logging
import os
import select
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, LiteralString

import psycopg
from psycopg import errors, pq
from psycopg.conninfo import conninfo_to_dict

from ..errors import GateError, invalid
from .breaker import Breaker

DEADLINE = 2.0
"""Seconds for one transaction, connecting included, unless it asks for more."""
MIGRATING = 600.0
"""Seconds for bringing tables up to date, which may hold much."""
CONNECTIONS = 8
"""Open at once, from one gate."""

# One exchange. The server gives up a little before we do, and can then say why.
BEGIN = "BEGIN; SET LOCAL statement_timeout = {limit:d}; SET LOCAL lock_timeout = {limit:d}"
MIGRATION = "SET LOCAL statement_timeout = 540000"
# `IF NOT EXISTS` would need a right that it does not use when somebody else has made the schema.
VERSIONS = """
SELECT pg_advisory_xact_lock(hashtext('codexgate'));
DO $$ BEGIN
    IF to_regnamespace('codexgate') IS NULL THEN CREATE SCHEMA codexgate; END IF;
END $$;
CREATE TABLE IF NOT EXISTS codexgate.version (part text PRIMARY KEY, number integer NOT NULL);
"""
SET_VERSION = """
INSERT INTO codexgate.version (part, number) VALUES (%s, %s)
ON CONFLICT (part) DO UPDATE SET number = excluded.number
"""
PRIVILEGE = "Its owner can run: CREATE SCHEMA codexgate AUTHORIZATION the_user_of_codexgate"
SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

REASONS = {
    "password authentication failed": "it does not accept this user and password",
    "no password supplied": "it wants a password",
    "pg_hba.conf": "it does not let this user in from here",
    "does not support SSL": "it does not speak TLS",
    "certificate": "its certificate cannot be verified",
    "does not exist": "it has no such database or user",
    "too many clients": "it has no connection left",
    "remaining connection slots": "it has no connection left",
    "starting up": "it is starting up",
    "shutting down": "it is shutting down",
    "invalid sslmode": "PGSSLMODE is none of libpq's modes",
    "resolve": "unknown host",
    "refused": "connection refused",
    "No such file": "nothing listens there",
    "timeout": f"no answer within {DEADLINE:.0f} s",
}
"""What libpq's message holds, for there is no code, and what is said of it. First match."""
WHERE = "`codexgate config` says where {part}.database_url comes from."
IS_IT_RUNNING = f"Is it running? {WHERE}"
ADVICE = {
    "it wants a password": "It goes into the URL: postgresql://user:password@host:5432/name.",
    "it does not let this user in from here": "Its pg_hba.conf says who may come in.",
    "it does not speak TLS": "If the network between is trusted, add ?sslmode=disable to the URL.",
    "its certificate cannot be verified": "Name its authority: add ?sslrootcert=FILE to the URL.",
    "it has no connection left": "Its view pg_stat_activity says who has them.",
    "it is starting up": "Try again soon.",
    "it is shutting down": IS_IT_RUNNING,
    "PGSSLMODE is none of libpq's modes": f"Unset it, or make it one of {', '.join(SSLMODES)}.",
    "connection refused": IS_IT_RUNNING,
    "nothing listens there": IS_IT_RUNNING,
    "no connection": IS_IT_RUNNING,
    "the connection broke": IS_IT_RUNNING,
    REASONS["timeout"]: IS_IT_RUNNING,
}
"""What can be done; of what is missing here the URL is at fault."""
LOOK = "Its own log says why."

# It warns of what we say ourselves, and of nothing else.
logging.getLogger("psycopg").addHandler(logging.NullHandler())


class Connection(psycopg.AsyncConnection[Any]):
    """One that can be given up while somebody waits for its answer, which a frozen server never sends."""

    late = False
    """It was given up because the time had run out."""
    _watch: asyncio.TimerHandle | None = None

    def is_quiet(self) -> bool:
        """Whether the server has said nothing since its last answer; if it has, it was a farewell."""
        if self.closed:
            return False
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        return not poll.poll(0)

    def end_at(self, end: float | None) -> None:
        """Make whoever waits fail at `end` (the loop's seconds), and not at another time."""
        if self._watch is not None:
            self._watch.cancel()
        self._watch = None if end is None else asyncio.get_running_loop().call_at(end, self.expire)

    def expire(self) -> None:
        """Make whoever waits fail now."""
        self.late = True
        self._cut()

    async def cancel_safe(self, *, timeout: float = 0) -> None:  # noqa: ARG002
        """What the library calls when the caller leaves; its own asks the server to stop, and waits."""
        self._cut()

    def _cut(self) -> None:
        # Not closed: the library still uses the file.
        with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(self.fileno())) as wire:
            wire.shutdown(socket.SHUT_RDWR)


class Postgres:
    """The database at `url` for one part of the gate.

    `part`: its name in settings and in the table of versions: `responses`. `migrations`: what makes
    version N+1 of version N; a released one is never changed. `event`, `unavailable`: as in `Breaker`.
    Raises GateError (invalid_setting) for an unusable URL. Connects only when something is asked.
    """

    def __init__(
        self,
        url: str,
        part: str,
        migrations: Sequence[LiteralString],
        event: str,
        unavailable: Callable[[str, str, float], GateError],
        prepare: Callable[["Connection"], Awaitable[None]] | None = None,
    ) -> None:
        """`prepare`: makes what the migrations need; a GateError that it raises undoes all."""
        self._prepare = prepare
        self._parameters, name = _parameters(url, f"{part}.database_url")
        self._part = part
        self._migrations = migrations
        self._breaker = Breaker(event, name, unavailable)
        self._unavailable = unavailable
        self._ready = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle: list[Connection] = []
        self._turns = asyncio.Semaphore(CONNECTIONS)

    @property
    def name(self) -> str:
        """The server, for people."""
        return self._breaker.name

    @asynccontextmanager
    async def transaction(self, seconds: float = DEADLINE) -> AsyncIterator[Connection]:
        """A connection to tables of the newest version; all that is done with it, or nothing.

        Raises GateError of kind `unavailable`, after `seconds` at the latest, when it may be done or
        not; one that is raised inside undoes all. Errors of the library must get out of the context.
        """
        loop = self._settle()
        now = loop.time()
        async with self._turn(now + DEADLINE):
            self._breaker.enter()
            connection = await self._connect(now + DEADLINE)
            connection.end_at(now + seconds)
            try:
                try:
                    await connection.execute(BEGIN.format(limit=int(seconds * 900)).encode())
                    await self._update(connection)
                    yield connection
                except GateError:
                    await connection.execute("ROLLBACK")
                    self._breaker.worked()
                    raise
                await connection.execute("COMMIT")
                self._breaker.worked()
                self._ready = True
            except psycopg.Error as error:
                self._ready = False
                raise self._failed(error, connection) from None
            finally:
                connection.end_at(None)
                self._give_back(connection)

    async def aclose(self) -> None:
        """Close every connection, those in use when they are given back."""
        self._loop = None
        self._close_idle()

    def _settle(self) -> asyncio.AbstractEventLoop:
        """The loop that runs; connections and waiters belong to one."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._close_idle()
            self._loop = loop
            self._turns = asyncio.Semaphore(CONNECTIONS)
        return loop

    @asynccontextmanager
    async def _turn(self, end: float) -> AsyncIterator[None]:
        turns = self._turns
        try:
            async with asyncio.timeout_at(end):
                await turns.acquire()
        except TimeoutError:
            message = f"{self._breaker.name} has too much to do."
            raise self._unavailable(message, "", DEADLINE) from None
        try:
            yield
        finally:
            turns.release()

    async def _connect(self, end: float) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_quiet():
                return connection
            connection.pgconn.finish()
        try:
            async with asyncio.timeout_at(end):
                return await Connection.connect(**self._parameters, autocommit=True, prepare_threshold=None)
        except (psycopg.Error, OSError) as error:  # a timeout is an OSError
            said = "timeout" if isinstance(error, TimeoutError) else str(error)
            reason = next((REASONS[words] for words in REASONS if words in said), "no connection")
            raise self._down(reason) from None

    def _give_back(self, connection: Connection) -> None:
        usable = connection.pgconn.transaction_status == pq.TransactionStatus.IDLE
        if usable and self._loop is asyncio.get_running_loop():
            self._idle.append(connection)
        else:
            connection.pgconn.finish()

    def _close_idle(self) -> None:
        for connection in self._idle:
            connection.pgconn.finish()
        self._idle.clear()

    async def _update(self, connection: Connection) -> None:
        """Bring the tables to the newest version, unless that was done before."""
        newest = len(self._migrations)
        if self._ready or (number := await self._version(connection)) == newest:
            return
        if number < newest:
            connection.end_at(asyncio.get_running_loop().time() + MIGRATING)
            await connection.execute(MIGRATION)
            await connection.execute(VERSIONS)
            number = await self._version(connection)  # another gate may have been quicker
            if self._prepare is not None and number < newest:
                await self._prepare(connection)
            for script in self._migrations[number:]:
                await connection.execute(script)
            await connection.execute(SET_VERSION, (self._part, newest))
        if number > newest:
            message = f"{self._breaker.name} was written by a newer codexgate."
            raise self._unavailable(message, "Update this one.", 0)

    async def _version(self, connection: Connection) -> int:
        there = await connection.execute("SELECT 1 WHERE to_regclass('codexgate.version') IS NOT NULL")
        if not there.rowcount:
            return 0
        rows = await connection.execute("SELECT number FROM codexgate.version WHERE part = %s", (self._part,))
        return sum([number async for (number,) in rows])

    def _failed(self, error: psycopg.Error, connection: Connection) -> GateError:
        if connection.closed:
            return self._down(REASONS["timeout"] if connection.late else "the connection broke")
        self._breaker.worked()
        message = f"{self._breaker.name} refused what it was asked ({type(error).__name__})."
        denied = isinstance(error, errors.InsufficientPrivilege) and not self._ready
        return self._unavailable(message, PRIVILEGE if denied else LOOK, 0)

    def _down(self, reason: str) -> GateError:
        return self._breaker.failed(reason, ADVICE.get(reason, WHERE).format(part=self._part))


def _parameters(url: str, setting: str) -> tuple[dict[str, Any], str]:
    """What to connect with, and the server's name for people, without user and password."""
    given: dict[str, Any] = {}
    try:
        given = conninfo_to_dict(url)
        ports = [int(port or 5432) for port in str(given.get("port", "")).split(",")]
        usable = url.startswith(("postgres://", "postgresql://")) and all(0 < port < 65536 for port in ports)
    except (psycopg.Error, ValueError):
        usable = False
    message = f"{setting} is not the URL of a Postgres"
    if not usable:
        advice = "It looks like postgresql://user:password@host:5432/name."
        raise invalid(f"{message}.", setting, "invalid_setting", advice)
    if given.get("sslmode", "require") not in SSLMODES:
        advice = f"There are {', '.join(SSLMODES)}."
        raise invalid(f"{message}: sslmode is none of libpq's modes.", setting, "invalid_setting", advice)
    known = _environment() | given
    host = str(known.get("hostaddr") or known.get("host") or "")
    near = "service" not in known and all(map(_is_near, host.split(",")))
    ours = {"application_name": "codexgate", "sslmode": "prefer" if near else "require"}
    ours = {name: value for name, value in ours.items() if name not in known}
    port = str(known.get("port", "")).strip(",") or 5432
    name = f"Postgres at {host or 'the local socket'}:{port}/{known.get('dbname', '')}"
    return given | ours | {"client_encoding": "utf8"}, name.rstrip("/")


def _environment() -> dict[str, str]:
    """What libpq takes from the environment: `PGSSLMODE` and its like."""
    options = [(option.keyword, option.envvar) for option in pq.Conninfo.get_defaults() if option.envvar]
    named = [(keyword.decode(), os.environ.get(variable.decode())) for keyword, variable in options]
    return {keyword: value for keyword, value in named if value}


def _is_near(host: str) -> bool:
    """Whether what is said to `host` stays on this machine."""
    if not host or host.startswith(("/", "@")) or host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False
