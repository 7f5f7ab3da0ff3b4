"""What is wrong with the stores: a real Redis (Valkey) and a real Postgres, stopped, frozen and locked."""

import signal

from tests.causes.bench import PASSWORD, PATIENCE, Bench, Cause, Step, both, environ, patience
from tests.servers.certified import Authority
from tests.servers.postgres import Postgres
from tests.servers.relay import encrypted
from tests.servers.valkey import Valkey

REDIS = "CODEXGATE_THREADS_REDIS_URL"
MEMORY = "CODEXGATE_MEMORY_DATABASE_URL"
RESPONSES = "CODEXGATE_RESPONSES_DATABASE_URL"


def valkey(bench: Bench) -> Valkey:
    """A real one, of this bench alone; the settings name it."""
    folder = bench.folder / "redis"
    folder.mkdir()
    server = Valkey(folder)
    bench.closing.callback(server.stop)
    bench.stands_for(server.port, 6379)
    bench.environ[REDIS] = server.url
    bench.redis = server
    return server


def redis_down(bench: Bench) -> None:
    valkey(bench).stop()


def redis_started(bench: Bench) -> None:
    assert bench.redis is not None
    bench.redis.start()


def redis_frozen(bench: Bench) -> None:
    valkey(bench).send(signal.SIGSTOP)
    bench.closing.callback(redis_thawed, bench)


def redis_thawed(bench: Bench) -> None:
    assert bench.redis is not None
    bench.redis.send(signal.SIGCONT)


def redis_locked(bench: Bench) -> None:
    server = valkey(bench)
    with server.client() as client:
        client.config_set("requirepass", "right")
    bench.environ[REDIS] = server.url.replace("://", f"://:{PASSWORD}@")
    bench.value = server.url.replace("://", "://:right@")


def redis_without_password(bench: Bench) -> None:
    redis_locked(bench)
    bench.environ[REDIS] = bench.environ[REDIS].replace(f":{PASSWORD}@", "")


async def redis_by_tls(bench: Bench) -> None:
    server, authority = valkey(bench), Authority(bench.folder)
    way = encrypted(server.port, authority.context("127.0.0.1"))
    port = await bench.closing.enter_async_context(way)
    bench.stands_for(port, 6379)
    bench.environ[REDIS] = f"rediss://127.0.0.1:{port}/0"
    bench.value = f"{bench.environ[REDIS]}?ssl_ca_certs={authority.file}"


def without_tls(bench: Bench) -> None:
    bench.environ[REDIS] = bench.environ[REDIS].replace("rediss:", "redis:")


def database(bench: Bench) -> Postgres:
    """A real one with nothing in it, which the settings name for memories."""
    assert bench.postgres is not None
    server = bench.postgres
    server.run("DROP EXTENSION IF EXISTS vector CASCADE")
    server.run("DROP SCHEMA IF EXISTS memories CASCADE")
    for role in ("guarded", "humble"):
        server.run(f"DROP ROLE IF EXISTS {role}")
        server.run(f"CREATE ROLE {role} LOGIN PASSWORD 'right'")
    bench.stands_for(server.port, 5432)
    bench.environ[MEMORY] = server.url
    return server


def postgres_down(bench: Bench) -> None:
    database(bench).kill()


def postgres_frozen(bench: Bench) -> None:
    database(bench).freeze()


def healed(bench: Bench) -> None:
    assert bench.postgres is not None
    bench.postgres.heal()


def responses_down(bench: Bench) -> None:
    server = database(bench)
    bench.environ[RESPONSES] = bench.environ.pop(MEMORY)
    server.kill()


def responses_frozen(bench: Bench) -> None:
    server = database(bench)
    bench.environ[RESPONSES] = bench.environ.pop(MEMORY)
    server.freeze()


def postgres_locked(bench: Bench) -> None:
    server = database(bench)
    server.run("CREATE EXTENSION vector")
    bench.environ[MEMORY] = server.url.replace("postgres@", f"guarded:{PASSWORD}@")
    bench.value = server.url.replace("postgres@", "guarded:right@")


def no_pgvector(bench: Bench) -> None:
    """Postgres looks for its extensions where none are."""
    bench.environ[MEMORY] = f"{database(bench).url}?options=-c%20extension_control_path%3D/nonexistent"


def with_pgvector(bench: Bench) -> None:
    assert bench.postgres is not None
    bench.environ[MEMORY] = bench.postgres.url


def may_not_switch_on(bench: Bench) -> None:
    bench.environ[MEMORY] = database(bench).url.replace("postgres@", "humble@")


def switched_on(bench: Bench) -> None:
    assert bench.postgres is not None
    bench.postgres.run("CREATE EXTENSION vector")


def column(*entries: str, size: int = 1536, real: bool = False) -> Step:
    """Memories with vectors of this length, made by these; `real`: as the service before kept them."""

    def make(bench: Bench) -> None:
        server = database(bench)
        server.run("DROP SCHEMA IF EXISTS codexgate CASCADE")
        server.run("CREATE EXTENSION vector")
        server.run("CREATE SCHEMA memories")
        more = f", {REAL}" if real else ""
        columns = f"embedding vector({size}), encoder_model text, created_at timestamptz DEFAULT now(){more}"
        server.run(f"CREATE TABLE memories.entries ({columns})")
        for encoder in entries:
            numbers = f"[{','.join(['0.5'] * size)}]"
            server.run(f"INSERT INTO memories.entries VALUES ('{numbers}', '{encoder}')")
        if real:
            server.run("CREATE INDEX by_vector ON memories.entries USING hnsw (embedding vector_cosine_ops)")

    return make


REAL = """
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), updated_at timestamptz NOT NULL DEFAULT now(),
    execution_id uuid, task_name text NOT NULL DEFAULT 'notes', task_description text,
    repository_ref text NOT NULL DEFAULT 'main', repository_commit text, repository_path text,
    summary text NOT NULL DEFAULT 'Tea', content text NOT NULL DEFAULT 'Tea at five.',
    metadata jsonb NOT NULL DEFAULT '{}', tags text[] NOT NULL DEFAULT '{}', source text NOT NULL DEFAULT 'x',
    encoder_version text, last_accessed_at timestamptz, next_review_at timestamptz
"""
FAST = " ".join(
    f"CODEXGATE_EMBEDDINGS_{name}" for name in ("PROVIDER=local", "MODEL=local-fast", "DIMENSION=128")
)
BEFORE = "export CODEXGATE_EMBEDDINGS_PROVIDER=openai CODEXGATE_EMBEDDINGS_MODEL=text-embedding-3-small"
SHORTENED = {"PROVIDER": "openai", "API_KEY": PASSWORD, "DIMENSION": "256"}

CAUSES = (
    Cause(
        15,
        "a Redis that is down",
        "stores.redis",
        redis_down,
        "nothing listens there",
        "redis-server --port 6379 --daemonize yes",
        mend=redis_started,
    ),
    Cause(
        15,
        "a Redis that is frozen",
        "stores.redis",
        both(redis_frozen, patience(0.5)),
        "no answer",
        "sudo systemctl restart redis",
        mend=both(redis_thawed, patience(PATIENCE)),
    ),
    Cause(
        15,
        "a Redis that wants another password",
        "stores.redis",
        redis_locked,
        "does not accept this user and password",
        f"export {REDIS}=URL",
    ),
    Cause(
        15,
        "a Redis that wants a password, and is given none",
        "stores.redis",
        redis_without_password,
        "does not accept this user and password",
        f"export {REDIS}=URL",
    ),
    Cause(
        15,
        "a Redis whose certificate is of an authority that nobody knows here",
        "stores.redis",
        redis_by_tls,
        "its certificate cannot be verified (unable to get local issuer certificate).",
        f"export {REDIS}=URL",
        "Name its authority: add ?ssl_ca_certs=FILE.",
    ),
    Cause(
        15,
        "something on the port of Redis that is none, or one that speaks TLS",
        "stores.redis",
        both(redis_by_tls, without_tls),
        "it does not answer as Redis does",
        f"export {REDIS}=URL",
        "Something else may be there: mend its address (rediss:// for TLS).",
    ),
    Cause(
        16,
        "a Postgres of memories that is down",
        "stores.postgres.memory",
        postgres_down,
        "refused",
        "sudo systemctl start postgresql",
        mend=healed,
    ),
    Cause(
        16,
        "a Postgres of memories that is frozen",
        "stores.postgres.memory",
        both(postgres_frozen, patience(1.0)),
        "no answer",
        "sudo systemctl restart postgresql",
        mend=both(healed, patience(PATIENCE)),
    ),
    Cause(
        16,
        "a Postgres of memories that wants another password",
        "stores.postgres.memory",
        postgres_locked,
        "does not accept this user and password",
        f"export {MEMORY}=URL",
    ),
    Cause(
        16,
        "a Postgres of responses that is down",
        "stores.postgres.responses",
        responses_down,
        "refused",
        "sudo systemctl start postgresql",
        mend=healed,
    ),
    Cause(
        16,
        "a Postgres of responses that is frozen",
        "stores.postgres.responses",
        both(responses_frozen, patience(1.0)),
        "no answer",
        "sudo systemctl restart postgresql",
        mend=both(healed, patience(PATIENCE)),
    ),
    Cause(
        16,
        "a Postgres without pgvector",
        "stores.pgvector",
        no_pgvector,
        "no pgvector",
        "sudo apt install postgresql-18-pgvector",
        mend=with_pgvector,
    ),
    Cause(
        16,
        "a Postgres whose pgvector this user may not switch on",
        "stores.pgvector",
        may_not_switch_on,
        "not switched on",
        "sudo -u postgres psql postgres -c 'CREATE EXTENSION vector'",
        mend=switched_on,
    ),
    Cause(
        16,
        "a column of another length than the vectors that are wanted",
        "stores.dimension",
        both(
            column("text-embedding-3-small"),
            environ(**{f"CODEXGATE_EMBEDDINGS_{name}": value for name, value in SHORTENED.items()}),
        ),
        "takes 1536 dimensions; openai/text-embedding-3-small makes 256.",
        f"{BEFORE} CODEXGATE_EMBEDDINGS_DIMENSION=1536",
    ),
    Cause(
        16,
        "a column of another length than the model's vectors",
        "stores.dimension",
        both(column("text-embedding-3-small"), environ(CODEXGATE_EMBEDDINGS_API_KEY=PASSWORD)),
        "takes 1536 dimensions; local/local makes 384.",
        BEFORE,
    ),
    Cause(
        16,
        "a column of a packaged model's vectors, and another that is told to embed",
        "stores.dimension",
        both(column("local/local-fast", size=128), environ(CODEXGATE_EMBEDDINGS_PROVIDER="local")),
        "takes 128 dimensions; local/local makes 384.",
        f"export {FAST}",
    ),
    Cause(
        16,
        "a column of a model's vectors that embeds with a key alone, and there is none",
        "stores.dimension",
        both(column("text-embedding-3-small", real=True), environ(CODEXGATE_EMBEDDINGS_PROVIDER="local")),
        "takes 1536 dimensions; local/local makes 384.",
        "codexgate memory reembed",
        "Embed what is there anew: text-embedding-3-small made it, which embeds only with a key.",
    ),
)
