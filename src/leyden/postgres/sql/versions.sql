-- Versions of the clients' schema: one for each transaction that changed it, in commit order.

-- The change becomes part of this transaction's version; the deferred trigger below writes it at COMMIT.
CREATE OR REPLACE FUNCTION leyden.record_change(change jsonb) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$ INSERT INTO leyden.pending_changes (change) VALUES (change) $$;

-- Names the version of this transaction. Callable before or after the changes it names; the last call counts; without
-- changes it is forgotten.
CREATE OR REPLACE FUNCTION leyden.migration_version(version text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leyden.check_version(version, (SELECT value #>> '{}' FROM leyden.meta WHERE key = 'last_version'));
    PERFORM set_config('leyden.migration_version', version, true);
END
$$;

-- The client stores versions as text and takes the greatest for its own, hence the form and the order.
CREATE OR REPLACE FUNCTION leyden.check_version(version text, newest text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF version IS NULL OR version !~ '^[0-9_]{1,128}$' THEN
        RAISE EXCEPTION 'migration version % must hold 1 to 128 digits and underscores, nothing else', quote_nullable(version)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use for instance 20240131120000_001.';
    END IF;
    IF version COLLATE "C" <= newest THEN
        RAISE EXCEPTION 'migration version % is not greater than the newest version %', version, newest
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'Clients take the version that sorts last, as text, for the newest.',
                  HINT = 'Give a version that sorts after it, or give none.';
    END IF;
END
$$;

-- Just above `version`, for when the clock gives nothing greater.
CREATE OR REPLACE FUNCTION leyden.version_after(version text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT CASE WHEN version ~ '_[0-9]{6}$' AND right(version, 6) <> '999999'
            THEN left(version, -6) || lpad((right(version, 6)::int + 1)::text, 6, '0')
            ELSE version || '_000001' END
$$;

-- Deferred trigger of leyden.pending_changes: the first row to fire at COMMIT writes the version with all changes.
-- Under SET CONSTRAINTS ALL IMMEDIATE it fires after each statement; then later changes are added to the same version.
CREATE OR REPLACE FUNCTION leyden.write_version() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    own_xid xid8 := pg_current_xact_id();
    recorded jsonb;
    asked_for text := nullif(current_setting('leyden.migration_version', true), '');
    newest text;
    chosen text;
BEGIN
    SELECT jsonb_agg(change ORDER BY id) INTO recorded FROM leyden.pending_changes WHERE xid = own_xid;
    IF recorded IS NULL THEN
        RETURN NULL;                       -- another row of this transaction was first
    END IF;
    DELETE FROM leyden.pending_changes WHERE xid = own_xid;

    -- The same id alone may be one of before a restore from a dump.
    UPDATE leyden.versions v SET changes = leyden.fold_changes(v.changes || recorded)
    WHERE v.xid = own_xid AND v.committed_at >= current_timestamp;
    IF FOUND THEN
        RETURN NULL;
    END IF;
    recorded := leyden.fold_changes(recorded);
    IF recorded = '[]' THEN
        RETURN NULL;
    END IF;
    -- Waits for a concurrent migration, so that versions become visible in their order.
    SELECT m.value #>> '{}' INTO newest FROM leyden.meta m WHERE m.key = 'last_version' FOR UPDATE;
    IF asked_for IS NOT NULL THEN
        PERFORM leyden.check_version(asked_for, newest);
        chosen := asked_for;
    ELSE
        chosen := to_char(current_timestamp AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISS_MS');
        IF chosen COLLATE "C" <= newest THEN
            chosen := leyden.version_after(newest);
        END IF;
    END IF;
    UPDATE leyden.meta SET value = to_jsonb(chosen) WHERE key = 'last_version';
    INSERT INTO leyden.versions (version, xid, committed_at, changes)
    VALUES (chosen, own_xid, clock_timestamp(), recorded);
    RETURN NULL;
END
$$;

-- What remains of a transaction's changes for somebody who sees only its end: enums first, every table as it is now,
-- what happened to a table that is new in this transaction contained in its creation, nothing of tables given up again.
CREATE OR REPLACE FUNCTION leyden.fold_changes(changes jsonb) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
WITH change AS (
    SELECT c.value, c.position, c.value ->> 'kind' AS kind, t.description,
           bool_or(c.value ->> 'kind' = 'create_table') OVER by_table AS is_new,
           row_number() OVER (by_table ORDER BY c.value ->> 'kind' <> 'create_table', c.position) AS rank
    FROM jsonb_array_elements(changes) WITH ORDINALITY AS c(value, position)
    LEFT JOIN leyden.tables t ON t.table_id = (c.value #>> '{table,id}')::oid
    WINDOW by_table AS (PARTITION BY c.value #>> '{table,id}')
)
SELECT coalesce(jsonb_agg(CASE WHEN kind = 'create_enum' THEN value
                               ELSE value || jsonb_build_object('table', description) END
                          ORDER BY kind <> 'create_enum', position), '[]')
FROM change
WHERE kind = 'create_enum' OR (description IS NOT NULL AND (NOT is_new OR rank = 1))
$$;

-- What clients know of a table called `name`, whether or not it is electrified now; NULL if they never heard of it.
CREATE OR REPLACE FUNCTION leyden.known_table(name text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT c.value -> 'table' FROM leyden.versions v, jsonb_array_elements(v.changes) WITH ORDINALITY AS c(value, position)
WHERE c.value #>> '{table,name}' = name ORDER BY v.version DESC, c.position DESC LIMIT 1
$$;

-- Tables and indexes that clients have, or will have from this transaction on; they keep what is dropped here.
CREATE OR REPLACE FUNCTION leyden.names_at_clients() RETURNS TABLE (name text, index_of text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
WITH known(description) AS (
    SELECT DISTINCT c.value -> 'table' FROM leyden.versions v, jsonb_array_elements(v.changes) AS c(value)
    WHERE c.value ? 'table'
    UNION
    SELECT description FROM leyden.tables
)
SELECT description ->> 'name', NULL FROM known
UNION
SELECT i.value ->> 'name', description ->> 'name' FROM known, jsonb_array_elements(description -> 'indexes') AS i(value)
$$;

-- The enum called `name` as clients know it, or will from this transaction on.
CREATE OR REPLACE FUNCTION leyden.known_enum(name text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT c.value -> 'enum' FROM leyden.versions v, jsonb_array_elements(v.changes) AS c(value)
WHERE c.value #>> '{enum,name}' = name
UNION ALL
SELECT p.change -> 'enum' FROM leyden.pending_changes p
WHERE p.xid = pg_current_xact_id() AND p.change #>> '{enum,name}' = name
LIMIT 1
$$;
