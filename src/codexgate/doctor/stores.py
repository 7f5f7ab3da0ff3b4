"""Checks of the stores on the network: Redis, Postgres, and whether the model's vectors fit into it.

Each looks as the gate would, within the gate's own time, and writes nothing. What a store or its library
says is not told: it may quote a password.
"""

import asyncio
import shlex
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ..backends.local import Local
from ..backends.ollama import Ollama, address
from ..config import Secret
from ..embedding import Embedding, EmbeddingOptions
from ..errors import GateError
from ..settings import Settings
from ..stores import responses
from . import services
from .reach import CONNECT, ask
from .target import is_loopback
from .words import Asked, Check, Remedy, Row

REDIS = "stores.redis"
RESPONSES = "stores.postgres.responses"
MEMORY = "stores.postgres.memory"
PGVECTOR = "stores.pgvector"
DIMENSION = "stores.dimension"

PATIENCE = 5.5
"""Seconds for what gives Postgres its two, and Ollama as much."""

WHY = {
    REDIS: "Sessions and what Codex remembers of chats are kept there; without it each request stands alone.",
    RESPONSES: "Responses and conversations are kept there; without it they are refused with 503.",
    MEMORY: "Memories are kept there; without it none is kept or found.",
    PGVECTOR: "Memories are found by their vectors, which Postgres knows by this extension alone.",
    DIMENSION: "The column takes vectors of one length only: no memory can be kept or found.",
}

Mends = Mapping[str, tuple[str, str]]
"""What to do and the command, by words of the store's fault; the first that fits, `""` fits all.

The commands are for the machine of the store; without one the setting is to be mended.
"""

OTHER = "it does not answer as Redis does"
"""The reason where a connection is taken and comes to nothing."""

CERTIFICATE = "openssl s_client -connect 127.0.0.1:{port} </dev/null | openssl x509 -noout -dates"
FROZEN = "It is frozen or overloaded, or something between drops what is sent: start it anew."
REDIS_MENDS: Mends = {
    "user and password": ("Put the right ones into the URL.", ""),
    "no answer": (FROZEN, "sudo systemctl restart redis"),
    "unknown host": ("Mend the name of its host.", ""),
    "is not the URL": ("It looks like redis://user:password@host:6379/0.", ""),
    "mismatch": ("Name its host as its certificate does.", ""),
    "certificate has expired": ("Renew it; this shows until when it was good.", CERTIFICATE),
    "certificate": ("Name its authority: add ?ssl_ca_certs=FILE.", ""),
    "does not speak TLS": ("Without TLS it begins with redis://.", ""),
    OTHER: ("Something else may be there: mend its address (rediss:// for TLS).", ""),
    "": ("Start it, or mend its address.", "redis-server --port {port} --daemonize yes"),
}
POSTGRES_MENDS: Mends = {
    "user and password": ("Put the right ones into the URL.", ""),
    "wants a password": ("Put one into the URL.", ""),
    "does not let this user in": ("Allow this user in its pg_hba.conf, or use another.", ""),
    "no such database": ("Mend the URL, or make them there.", ""),
    "does not speak TLS": ("If the network between is trusted, add ?sslmode=disable.", ""),
    "certificate": ("Name its authority: add ?sslrootcert=FILE.", ""),
    "no connection left": ("Who has them?", "sudo -u postgres psql -c 'TABLE pg_stat_activity'"),
    "no answer": (FROZEN, "sudo systemctl restart postgresql"),
    "unknown host": ("Mend the name of its host.", ""),
    "PGSSLMODE": ("Unset it.", "unset PGSSLMODE"),
    "is not the URL": ("It looks like postgresql://user:password@host:5432/name.", ""),
    "no connection": ("Something else may be there: mend its address.", ""),
    "": ("Start it, or mend its address.", "sudo systemctl start postgresql"),
}

BY_SYSTEMD = {
    "sudo systemctl restart redis": "sudo service redis-server restart",
    "sudo systemctl restart postgresql": "sudo service postgresql restart",
    "sudo systemctl start postgresql": "sudo service postgresql start",
}
"""What the commands that need systemd are on a machine without it."""

COLUMNS = """
SELECT n.nspname || '.' || c.relname || '.' || a.attname, a.atttypmod
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid
WHERE n.nspname = 'memories' AND c.relname = 'entries' AND a.attname = 'embedding' AND t.typname = 'vector'
"""
EXTENSION = """
SELECT (SELECT extversion FROM pg_extension WHERE extname = 'vector'),
    (SELECT default_version FROM pg_available_extensions WHERE name = 'vector'),
    has_database_privilege(current_database(), 'CREATE'),
    current_database()
"""
ENCODER = "SELECT encoder_model FROM memories.entries ORDER BY created_at DESC LIMIT 1"

PROVIDERS = ("openai", "ollama", "local", "demo")
KNOWN = {
    "local/local": 384,
    "local/local-fast": 256,
    "demo/demo-embed": 256,
    "openai/text-embedding-3-small": 1536,
    "openai/text-embedding-3-large": 3072,
}
"""Lengths of the vectors of models that do not tell them."""


async def look_at_redis(asked: Asked) -> list[Row]:
    """The Redis of chats and sessions."""
    options = asked.settings.threads
    if not options.redis_url:
        return [Row(REDIS, "memory", "skipped", "No Redis is set: chats and sessions are kept in SQLite.")]
    from ..stores.redis import RedisThreads

    url, fault = options.redis_url.reveal(), None
    for _ in range(2):  # a quarter of a second is short on a machine that is busy
        try:
            store = RedisThreads(url, options.chat_prefix, options.worktree_prefix, ttl=options.ttl)
        except GateError as error:
            fault = error.fault
            break
        try:
            await store.load("codexgate doctor")
            return [Row(REDIS, "memory", "ok", "The Redis of chats and sessions answers.")]
        except GateError as error:
            fault = error.fault
        finally:
            await store.aclose()
    assert fault is not None
    message = fault.message
    if message.endswith(": no connection.") and await _listens(url):
        message = message.replace("no connection", OTHER)
    remedy = _remedy(REDIS_MENDS, message, "threads.redis_url")
    return [Row(REDIS, "memory", "fail", message, WHY[REDIS], remedy)]


async def _listens(url: str) -> bool:
    """Whether something takes connections where `url` leads."""
    split = urlsplit(url)
    if split.scheme == "unix":
        return False
    try:
        async with asyncio.timeout(CONNECT):
            _, writer = await asyncio.open_connection(split.hostname or "localhost", split.port or 6379)
    except OSError:  # a time-out is one
        return False
    writer.transport.abort()
    return True


async def look_at_responses(asked: Asked) -> list[Row]:
    """The Postgres of responses."""
    url = asked.settings.responses.database_url
    if not url:
        return [Row(RESPONSES, "memory", "skipped", "No Postgres is set: responses are kept in SQLite.")]
    return [(await _look(RESPONSES, "responses.database_url", url))[0]]


async def look_at_memory(asked: Asked) -> list[Row]:
    """The Postgres of memories, its extension, and the length of vectors that it takes."""
    url = asked.settings.memory.database_url
    if not url:
        text = "No Postgres is set: memories are kept in SQLite."
        return [Row(id, "memory", "skipped", text) for id in (MEMORY, PGVECTOR, DIMENSION)]
    row, found = await _look(MEMORY, "memory.database_url", url)
    if found is None:
        text = "Postgres could not be asked."
        return [row, *(Row(id, "memory", "skipped", text) for id in (PGVECTOR, DIMENSION))]
    return [row, _extension(found["version"], *found["extension"]), await _dimension(asked, found)]


CHECKS = (
    Check((REDIS,), "memory", look_at_redis),
    Check((RESPONSES,), "memory", look_at_responses, PATIENCE),
    Check((MEMORY, PGVECTOR, DIMENSION), "memory", look_at_memory, PATIENCE),
)


async def _look(id: str, setting: str, url: Secret) -> tuple[Row, dict[str, Any] | None]:
    """Whether it answers, and what it says of vectors."""
    from ..stores.postgres import Postgres

    found: dict[str, Any] = {}
    try:
        # A part without migrations: nothing is made.
        postgres = Postgres(url.reveal(), "doctor", (), "doctor", responses.unavailable)
        try:
            async with postgres.transaction() as database:
                [(found["version"],)] = await (await database.execute("SHOW server_version")).fetchall()
                [found["extension"]] = await (await database.execute(EXTENSION)).fetchall()
                found["columns"] = await (await database.execute(COLUMNS)).fetchall()
                if found["columns"] and found["columns"][0][1] > 0:
                    found["encoder"] = await (await database.execute(ENCODER)).fetchall()
        finally:
            await postgres.aclose()
    except GateError as error:
        summary = error.fault.message.replace("doctor.database_url", setting)
        remedy = _remedy(POSTGRES_MENDS, summary, setting)
        return Row(id, "memory", "fail", summary, WHY[id], remedy), None
    return Row(id, "memory", "ok", f"{postgres.name} answers (version {found['version']})."), found


def _extension(
    version: str, installed: str | None, available: str | None, may_create: bool, database: str
) -> Row:
    if installed:
        return Row(PGVECTOR, "memory", "ok", f"pgvector {installed} is there.")
    if available and may_create:
        text = f"pgvector {available} can be used; it is switched on when needed."
        return Row(PGVECTOR, "memory", "ok", text)
    if available:
        summary = f"pgvector {available} is installed but not switched on, and this user may not do that."
        create = f"sudo -u postgres psql {shlex.quote(database)} -c 'CREATE EXTENSION vector'"
        remedy = Remedy("Let its administrator switch it on.", create)
    else:
        summary = "This Postgres has no pgvector."
        package = f"postgresql-{version.partition('.')[0]}-pgvector"
        remedy = Remedy("Install it where Postgres runs.", f"sudo apt install {package}")
    return Row(PGVECTOR, "memory", "fail", summary, WHY[PGVECTOR], remedy)


async def _dimension(asked: Asked, found: dict[str, Any]) -> Row:
    column, takes = found["columns"][0] if found["columns"] else ("", -1)
    if takes <= 0:
        text = f"{column} takes vectors of any length." if column else "There is no table yet."
        return Row(DIMENSION, "memory", "ok", text)
    model, makes = await _vectors(asked.settings)
    if not makes:
        text = f"{column} takes {takes} dimensions; how many {model or 'the model'} makes is not known."
        return Row(DIMENSION, "memory", "skipped", text)
    details = {"column": column, "takes": takes, "model": model, "makes": makes}
    if makes == takes:
        return Row(
            DIMENSION, "memory", "ok", f"{column} and {model} have {takes} dimensions.", details=details
        )
    summary = f"{column} takes {takes} dimensions; {model} makes {makes}."
    by = next((str(name) for (name,) in found["encoder"]), "")
    if not by:
        text = f"{summary} Nothing is kept there yet: it is widened when something is."
        return Row(DIMENSION, "memory", "ok", text, details=details)
    remedy = _as_before(asked.settings.embeddings, by, takes)
    return Row(DIMENSION, "memory", "fail", summary, WHY[DIMENSION], remedy, details)


def _as_before(options: EmbeddingOptions, by: str, takes: int) -> Remedy:
    """Embed with the model `by` again, whose vectors are there; or all anew, where that cannot be had."""
    provider, slash, model = by.partition("/")
    if not slash or provider not in PROVIDERS:  # the service before named models alone
        packaged = by in ("local", "local-fast")
        provider = "local" if packaged else "openai" if by.startswith("text-embedding-") else "ollama"
        model = by
    if provider == "openai" and not (options.api_key or options.base_url):
        text = f"Embed what is there anew: {by} made it, which embeds only with a key."
        return Remedy(text, "codexgate memory reembed")
    values = {"PROVIDER": provider, "MODEL": model}
    if options.dimension not in (0, takes) or KNOWN.get(f"{provider}/{model}", takes) != takes:
        values["DIMENSION"] = str(takes)
    command = " ".join(f"CODEXGATE_EMBEDDINGS_{name}={shlex.quote(each)}" for name, each in values.items())
    return Remedy("Use the model whose vectors are there already.", f"export {command}")


async def _vectors(settings: Settings) -> tuple[str, int]:
    """The model that would embed now, and the length of its vectors; 0: unknown."""
    # Ollama and `local` are where a model is looked for when the settings name none.
    embedding = Embedding({"ollama": lambda: Ollama(settings.ollama), "local": Local}, settings.embeddings)
    try:
        model, size = await embedding.choose()
    except GateError:  # nothing can embed, which is said when it is tried
        return embedding.model, 0
    finally:
        await embedding.aclose()
    if not size and model.startswith("ollama/"):
        shown = (
            await ask(address(settings.ollama.url), "/api/show", {"model": model.partition("/")[2]})
        ).field("model_info")
        known = shown.items() if isinstance(shown, dict) else ()
        size = next((n for name, n in known if name.endswith(".embedding_length") and isinstance(n, int)), 0)
    return model, size or KNOWN.get(model, 0)


def _remedy(mends: Mends, message: str, setting: str) -> Remedy:
    text, command = next(mend for words, mend in mends.items() if words in message)
    if not command:
        return Remedy(text, f"export CODEXGATE_{setting.replace('.', '_').upper()}=URL")
    # As in `Redis at 127.0.0.1:6379 cannot be used`; a socket is a path.
    place = message.partition(" cannot")[0].partition(" at ")[2].partition("/")[0]
    host, _, port = place.rpartition(":")
    command = command.format(port=port or 6379)
    if not host or " " in host or is_loopback(f"http://{place}") or command.startswith("unset"):
        return Remedy(text, command if services.SYSTEMD.exists() else BY_SYSTEMD.get(command, command))
    terminal = "-t " if command.startswith("sudo ") else ""  # where it asks for a password
    return Remedy(text, f"ssh {terminal}{shlex.quote(host)} {shlex.quote(command)}")
