"""The statements of the store of memories in Postgres. Values are bound by who runs them."""
# ruff: noqa: S608 - put together of constants

from typing import LiteralString

HALF = 4_000
"""Dimensions that pgvector can index, from `WHOLE` on in half precision."""
WHOLE = 2_000

MIGRATIONS: tuple[LiteralString, ...] = (
    # As the service before made it, but for the dimension: a namespace has its own. `IF NOT EXISTS` would
    # need a right that it does not use where somebody else has made the table.
    """
    DO $$ BEGIN
        IF to_regnamespace('memories') IS NULL THEN CREATE SCHEMA memories; END IF;
        IF to_regclass('memories.entries') IS NULL THEN
            CREATE TABLE memories.entries (
                id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
                created_at timestamptz NOT NULL DEFAULT now(),
                updated_at timestamptz NOT NULL DEFAULT now(),
                execution_id uuid,
                task_name text NOT NULL,
                task_description text,
                repository_ref text NOT NULL DEFAULT 'main',
                repository_commit text,
                repository_path text,
                summary text NOT NULL,
                content text NOT NULL,
                metadata jsonb NOT NULL DEFAULT '{}',
                tags text[] NOT NULL DEFAULT '{}',
                source text NOT NULL,
                embedding vector NOT NULL,
                encoder_model text NOT NULL,
                encoder_version text,
                last_accessed_at timestamptz,
                next_review_at timestamptz
            ) WITH (fillfactor = 85);
            CREATE INDEX memories_entries_task_name_idx ON memories.entries (task_name);
            CREATE INDEX memories_entries_tags_idx ON memories.entries USING gin (tags);
            CREATE INDEX memories_entries_metadata_idx ON memories.entries
                USING gin (metadata jsonb_path_ops);
            CREATE INDEX memories_entries_encoder_idx ON memories.entries (encoder_model, encoder_version);
        END IF;
    END $$;
    CREATE FUNCTION codexgate.memory_words(summary text, content text, tags text[]) RETURNS tsvector
        LANGUAGE sql IMMUTABLE PARALLEL SAFE
        RETURN to_tsvector('pg_catalog.simple'::regconfig, translate(
            concat_ws(' ', CASE WHEN NOT starts_with(content, summary) THEN summary END, content,
                array_to_string(tags, ' ')),
            '_-./\\:@#=+&?%*', '              '));
    ALTER TABLE memories.entries
        ADD COLUMN content_digest bytea,
        ADD COLUMN content_words tsvector
            GENERATED ALWAYS AS (codexgate.memory_words(summary, content, tags)) STORED;
    -- Of what is there twice already the first counts.
    UPDATE memories.entries SET content_digest = first.digest FROM (
        SELECT DISTINCT ON (task_name, digest) id, digest FROM (
            SELECT id, task_name, created_at, sha256(convert_to(btrim(
                regexp_replace(normalize(content, NFC), '\\s+', ' ', 'g')), 'UTF8')) AS digest
            FROM memories.entries
        ) AS each ORDER BY task_name, digest, created_at, id
    ) AS first WHERE entries.id = first.id;
    CREATE UNIQUE INDEX entries_digest ON memories.entries (task_name, content_digest);
    CREATE INDEX entries_words ON memories.entries USING gin (content_words);
    CREATE INDEX entries_model ON memories.entries (task_name, encoder_model);
    CREATE INDEX entries_created ON memories.entries (created_at, id);
    CREATE TABLE codexgate.memory_staged (
        entry uuid NOT NULL REFERENCES memories.entries ON DELETE CASCADE,
        model text NOT NULL,
        embedding vector NOT NULL,
        PRIMARY KEY (entry, model)
    );
    """,
    # Beside the entries: an update of one is a new row in each of its indexes, that of the vectors too.
    """
    CREATE TABLE codexgate.memory_found (
        entry uuid PRIMARY KEY REFERENCES memories.entries ON DELETE CASCADE,
        at timestamptz NOT NULL
    ) WITH (fillfactor = 50);
    """,
)
"""What makes version N+1 of version N; a released one is never changed."""

VERSION: LiteralString = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
INDEXED: LiteralString = "SELECT to_regclass('memories.' || %s) IS NOT NULL"
# `{type}` is vector or halfvec, `{size}` the dimension. A smaller graph than pgvector's own (16, 64) takes
# entries in twice as fast; `SEARCH` makes good what it finds less (docs/memory.md has the figures).
INDEX: LiteralString = """
SET LOCAL maintenance_work_mem = '256MB';
CREATE INDEX IF NOT EXISTS {index} ON memories.entries
USING hnsw ((embedding::{type}({size})) {operators})
WITH (m = 12, ef_construction = 40) WHERE vector_dims(embedding) = {size}
"""
# Whoever is first in a namespace is so alone, and says by what model it is embedded.
LOCK: LiteralString = """
SELECT CASE WHEN alone THEN pg_advisory_xact_lock(key) ELSE pg_advisory_xact_lock_shared(key) END
FROM (
    SELECT hashtextextended('codexgate.memory ' || name, 0) AS key,
        NOT EXISTS (SELECT 1 FROM memories.entries WHERE task_name = name) AS alone
    FROM (SELECT unnest(%s::text[]) AS name ORDER BY 1) AS names
) AS keys
"""
LOCK_ALONE: LiteralString = "SELECT pg_advisory_xact_lock(hashtextextended('codexgate.memory ' || %s, 0))"
COLUMNS: LiteralString = """
id, task_name, content, summary, tags, metadata::text, source, extract(epoch FROM created_at)::float8,
coalesce(extract(epoch FROM greatest(last_accessed_at, (
    SELECT at FROM codexgate.memory_found WHERE entry = entries.id
))), 0)::float8, encoder_model, vector_dims(embedding),
content_digest
"""
ADD: LiteralString = """
INSERT INTO memories.entries (id, task_name, content, summary, tags, metadata, source, created_at,
    last_accessed_at, encoder_model, content_digest, embedding)
SELECT id, name, content, summary, ARRAY(SELECT jsonb_array_elements_text(tags::jsonb)), metadata::jsonb,
    source, to_timestamp(created), to_timestamp(nullif(accessed, 0)), model, digest, embedding::vector
FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
    %s::float8[], %s::float8[], %s::text[], %s::bytea[], %s::text[])
AS row (id, name, content, summary, tags, metadata, source, created, accessed, model, digest, embedding)
ORDER BY digest ON CONFLICT DO NOTHING RETURNING id
"""
KNOWN: LiteralString = f"""
SELECT {COLUMNS} FROM memories.entries WHERE task_name = %s AND content_digest = ANY(%s::bytea[])
"""
THERE: LiteralString = f"""
SELECT {COLUMNS} FROM memories.entries WHERE id = ANY(%s::uuid[]) UNION ALL
SELECT {COLUMNS} FROM memories.entries WHERE (task_name, content_digest) IN (
    SELECT * FROM unnest(%s::text[], %s::bytea[])
)
"""
FEW: LiteralString = """
SELECT count(*) < %(few)s FROM (
    SELECT 1 FROM memories.entries WHERE encoder_model = %(model)s {where} LIMIT %(few)s
) AS meant
"""
# The server cannot know how many rows have that dimension, and would not use the index.
BY_INDEX: LiteralString = """
SET LOCAL hnsw.ef_search = 200; SET LOCAL enable_sort = off; SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off
"""
ITERATE: LiteralString = f"{BY_INDEX}; SET LOCAL hnsw.iterative_scan = 'relaxed_order'"
EXACTLY: LiteralString = """
SET LOCAL enable_sort = on; SET LOCAL enable_seqscan = on; SET LOCAL enable_bitmapscan = on;
SET LOCAL enable_indexscan = off
"""
NEAR: LiteralString = f"""
WITH near AS MATERIALIZED (
    SELECT {COLUMNS}, embedding::{{type}}({{size}}) <=> %(vector)s::{{type}}({{size}}) AS distance
    FROM memories.entries
    WHERE encoder_model = %(model)s AND vector_dims(embedding) = {{size}} {{where}}
    ORDER BY embedding::{{type}}({{size}}) <=> %(vector)s::{{type}}({{size}}) LIMIT %(limit)s
)
SELECT * FROM near ORDER BY distance, 8, id
"""
# Ranking looks into each: where thousands hold the words, they are common ones and tell little. What the
# columns are is found out for the best alone: for all of them it takes longer than the ranking.
WORDED: LiteralString = f"""
WITH ranked AS MATERIALIZED (
    SELECT id, ts_rank(content_words, to_tsquery('pg_catalog.simple', %(sought)s), 1) AS rank FROM (
        SELECT id, content_words FROM memories.entries
        WHERE content_words @@ to_tsquery('pg_catalog.simple', %(sought)s) {{where}} LIMIT %(few)s
    ) AS entries
    ORDER BY rank DESC, id LIMIT %(limit)s
)
SELECT {COLUMNS} FROM ranked JOIN memories.entries USING (id) ORDER BY rank DESC, id
"""
# Of the words that the server has counted, which are the most common ones.
COUNTS: LiteralString = """
SELECT word, part * reltuples FROM pg_stats, pg_class,
    unnest(most_common_elems::text::text[], most_common_elem_freqs) AS counted (word, part)
WHERE schemaname = 'memories' AND tablename = 'entries' AND attname = 'content_words'
    AND pg_class.oid = to_regclass('memories.entries')
"""
LOAD: LiteralString = f"SELECT {COLUMNS} FROM memories.entries WHERE id = ANY(%s::uuid[])"
ALL: LiteralString = f"""
SELECT {COLUMNS}, CASE WHEN %(vectors)s THEN embedding::text END FROM memories.entries
WHERE (created_at, id) > (to_timestamp(%(created)s), %(id)s) {{where}}
ORDER BY created_at, id LIMIT %(limit)s
"""
NEWEST: LiteralString = f"""
SELECT {COLUMNS}, CASE WHEN %(vectors)s THEN embedding::text END FROM memories.entries
WHERE (created_at, id) < (to_timestamp(%(created)s), %(id)s) {{where}}
ORDER BY created_at DESC, id DESC LIMIT %(limit)s
"""
DELETE: LiteralString = "DELETE FROM memories.entries WHERE id = ANY(%s::uuid[])"
CLEAR: LiteralString = "DELETE FROM memories.entries WHERE task_name = %s"
COUNT: LiteralString = "SELECT task_name, count(*) FROM memories.entries GROUP BY task_name"
TOUCH: LiteralString = """
INSERT INTO codexgate.memory_found (entry, at)
SELECT found, to_timestamp(%s) FROM unnest(%s::uuid[]) AS found
WHERE EXISTS (SELECT 1 FROM memories.entries WHERE id = found)
ON CONFLICT (entry) DO UPDATE SET at = excluded.at
"""
# From one (namespace, model) to the next through the index: cheap, however many entries there are.
MODELS: LiteralString = """
WITH RECURSIVE seen AS (
    (SELECT task_name, encoder_model FROM memories.entries ORDER BY 1, 2 LIMIT 1)
    UNION ALL
    SELECT next.* FROM seen, LATERAL (
        SELECT task_name, encoder_model FROM memories.entries
        WHERE (task_name, encoder_model) > (seen.task_name, seen.encoder_model) ORDER BY 1, 2 LIMIT 1
    ) AS next
)
SELECT task_name, encoder_model, (
    SELECT vector_dims(embedding) FROM memories.entries
    WHERE task_name = seen.task_name AND encoder_model = seen.encoder_model LIMIT 1
) FROM seen
"""
MODELS_OF: LiteralString = """
WITH RECURSIVE seen AS (
    SELECT name AS task_name, (
        SELECT min(encoder_model) FROM memories.entries WHERE task_name = name
    ) AS encoder_model FROM unnest(%s::text[]) AS name
    UNION ALL
    SELECT task_name, (
        SELECT min(encoder_model) FROM memories.entries
        WHERE task_name = seen.task_name AND encoder_model > seen.encoder_model
    ) FROM seen WHERE encoder_model IS NOT NULL
)
SELECT task_name, encoder_model, (
    SELECT vector_dims(embedding) FROM memories.entries
    WHERE task_name = seen.task_name AND encoder_model = seen.encoder_model LIMIT 1
) FROM seen WHERE encoder_model IS NOT NULL ORDER BY 1, 2
"""
SOME: LiteralString = "SELECT 1 FROM memories.entries LIMIT 1"
COLUMN: LiteralString = """
SELECT greatest(atttypmod, 0) FROM pg_attribute
WHERE attrelid = to_regclass('memories.entries') AND attname = 'embedding'
"""
STAGE: LiteralString = """
INSERT INTO codexgate.memory_staged (entry, model, embedding)
SELECT entry, %s, embedding::vector FROM unnest(%s::uuid[], %s::text[]) AS new (entry, embedding)
WHERE EXISTS (SELECT 1 FROM memories.entries WHERE id = entry)
ON CONFLICT (entry, model) DO UPDATE SET embedding = excluded.embedding
"""
STAGED: LiteralString = """
SELECT entry FROM codexgate.memory_staged JOIN memories.entries ON id = entry
WHERE task_name = %s AND model = %s
"""
MISSING: LiteralString = """
SELECT count(*) FILTER (WHERE entry IS NULL), coalesce(max(vector_dims(staged.embedding)), 0)
FROM memories.entries LEFT JOIN codexgate.memory_staged AS staged ON entry = id AND model = %s
WHERE task_name = %s
"""
WIDEN: LiteralString = """
DO $$ DECLARE index regclass; BEGIN
    FOR index IN SELECT indexrelid FROM pg_index JOIN pg_attribute ON attrelid = indrelid
        WHERE indrelid = 'memories.entries'::regclass AND attname = 'embedding'
            AND (attnum = ANY(indkey) OR pg_get_indexdef(indexrelid) LIKE '%embedding%')
    LOOP EXECUTE format('DROP INDEX %s', index); END LOOP;
    ALTER TABLE memories.entries ALTER COLUMN embedding TYPE vector;
END $$
"""
SWITCH: LiteralString = """
UPDATE memories.entries SET embedding = staged.embedding, encoder_model = staged.model,
    encoder_version = NULL, updated_at = now()
FROM codexgate.memory_staged AS staged WHERE entry = id AND model = %s AND task_name = %s
"""
UNSTAGE: LiteralString = """
DELETE FROM codexgate.memory_staged USING memories.entries WHERE id = entry AND task_name = %s
"""
