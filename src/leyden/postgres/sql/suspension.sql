-- Where no event trigger guards DDL: electrified tables that are not any more what clients were told.

-- What keeps each such table from being served. A column that clients could follow is among it as long as it is not
-- recorded: rows that are delivered without it would never come again with it.
CREATE OR REPLACE FUNCTION leyden.strays() RETURNS TABLE (table_id oid, reason text, remedy text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
WITH problem AS (
    SELECT t.table_id, d.problem, d.remedy
    FROM leyden.tables t JOIN pg_class c ON c.oid = t.table_id, leyden.departures(t.table_id) AS d
    UNION ALL
    SELECT t.table_id, format('column %I was added, and clients were not told', a.attname),
           format('CALL electric.electrify(%L) records it', t.table_name)
    FROM leyden.tables t JOIN pg_attribute a ON a.attrelid = t.table_id AND a.attnum > 0 AND NOT a.attisdropped
    WHERE NOT EXISTS (SELECT FROM jsonb_array_elements(t.description -> 'columns') AS c(value)
                      WHERE c.value ->> 'name' = a.attname)
    UNION ALL
    SELECT t.table_id, 'it was dropped', format('SELECT leyden.disable(%s) gives it up', t.table_id)
    FROM leyden.tables t WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.table_id)
)
SELECT table_id, string_agg(DISTINCT problem, '; '), string_agg(DISTINCT remedy, '; ')
FROM problem GROUP BY table_id
$$;

-- Changes with everything on which leyden.strays depends, and takes a small part of its time. Statistics that are written by
-- VACUUM and ANALYZE leave the rows of the catalog theirs.
CREATE OR REPLACE FUNCTION leyden.catalog_mark() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
WITH type AS (
    SELECT DISTINCT a.atttypid AS oid FROM leyden.tables t JOIN pg_attribute a ON a.attrelid = t.table_id
), written AS (
    SELECT t.xmin, 't' AS catalog, t.table_id::text AS name FROM leyden.tables t
    UNION ALL SELECT c.xmin, 'c', c.oid::text FROM leyden.tables t JOIN pg_class c ON c.oid = t.table_id
    UNION ALL SELECT a.xmin, 'a', a.attrelid || '.' || a.attnum FROM leyden.tables t JOIN pg_attribute a ON a.attrelid = t.table_id
    UNION ALL SELECT d.xmin, 'd', d.oid::text FROM leyden.tables t JOIN pg_attrdef d ON d.adrelid = t.table_id
    UNION ALL SELECT o.xmin, 'o', o.oid::text FROM leyden.tables t JOIN pg_constraint o ON o.conrelid = t.table_id
    UNION ALL SELECT g.xmin, 'g', g.oid::text FROM leyden.tables t JOIN pg_trigger g ON g.tgrelid = t.table_id
    UNION ALL SELECT i.xmin, 'i', i.indexrelid::text FROM leyden.tables t JOIN pg_index i ON i.indrelid = t.table_id
    UNION ALL SELECT c.xmin, 'x', c.oid::text FROM leyden.tables t JOIN pg_index i ON i.indrelid = t.table_id
              JOIN pg_class c ON c.oid = i.indexrelid
    UNION ALL SELECT h.xmin, 'h', h.inhrelid::text FROM leyden.tables t
              JOIN pg_inherits h ON t.table_id IN (h.inhrelid, h.inhparent)
    UNION ALL SELECT y.xmin, 'y', y.oid::text FROM type JOIN pg_type y USING (oid)
    UNION ALL SELECT e.xmin, 'e', e.oid::text FROM type JOIN pg_enum e ON e.enumtypid = type.oid
    UNION ALL SELECT n.xmin, 'n', n.oid::text FROM pg_namespace n WHERE n.nspname = 'public'
    UNION ALL SELECT p.xmin, 'p', p.oid::text FROM pg_publication p WHERE p.pubname = 'leyden'
    UNION ALL SELECT r.xmin, 'r', r.oid::text FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
              WHERE p.pubname = 'leyden'
)
SELECT md5(string_agg(concat_ws(' ', catalog, name, xmin), ',' ORDER BY catalog, name)) FROM written
$$;

-- Suspends the tables that have strayed and takes up again those that have not: the ones that are suspended, and `stopped`,
-- of which the reader of the stream delivers nothing for what it saw itself. Writes nothing where nothing changes. A table with
-- which it cannot be done stays suspended, and is in nobody's way.
CREATE OR REPLACE FUNCTION leyden.inspect(stopped oid[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    unforeseen CONSTANT jsonb := jsonb_build_object(
        'reason', 'it cannot be taken up again; the log of Postgres says why',
        'remedy', 'SELECT leyden.disable(...) and CALL electric.electrify(...) make it anew');
    strayed oid[] := '{}';
    stray record;
    relation oid;
BEGIN
    FOR stray IN SELECT * FROM leyden.strays() LOOP
        strayed := strayed || stray.table_id;
        UPDATE leyden.tables t SET suspended = jsonb_build_object('reason', stray.reason, 'remedy', stray.remedy)
        WHERE t.table_id = stray.table_id
          AND t.suspended IS DISTINCT FROM jsonb_build_object('reason', stray.reason, 'remedy', stray.remedy);
        IF FOUND AND EXISTS (SELECT FROM pg_class WHERE oid = stray.table_id) THEN
            PERFORM leyden.keep_writable(stray.table_id);
        END IF;
    END LOOP;
    FOR relation IN
        SELECT t.table_id FROM leyden.tables t
        WHERE (t.suspended IS NOT NULL OR t.table_id = ANY (stopped)) AND t.table_id <> ALL (strayed)
    LOOP
        BEGIN
            PERFORM leyden.take_up(relation);
        EXCEPTION
            WHEN lock_not_available OR deadlock_detected THEN
                RAISE;
            WHEN OTHERS THEN               -- anybody may read the reason: what happened stands in Postgres' log
                RAISE LOG 'table % cannot be taken up again: %', relation::regclass, SQLERRM;
                UPDATE leyden.tables t SET suspended = unforeseen WHERE t.table_id = relation AND t.suspended IS DISTINCT FROM unforeseen;
        END;
    END LOOP;
END
$$;

-- The row trigger names columns. Where they are others now, each write of the application would fail.
CREATE OR REPLACE FUNCTION leyden.keep_writable(relation oid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_constraint WHERE conrelid = relation AND contype = 'p') THEN
        PERFORM leyden.generate_row_trigger(relation);
    ELSE
        EXECUTE format('CREATE OR REPLACE FUNCTION leyden.%I() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN RETURN NULL; END $body$',
                       'on_write_' || relation);
    END IF;
END
$$;

-- A table that was suspended is what clients know, perhaps with something added. What happened to it meanwhile did not
-- reach them: whoever has rows of it starts afresh, as with a table that had been given up.
CREATE OR REPLACE FUNCTION leyden.take_up(relation regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE leyden.tables SET suspended = NULL, reenabled_by = pg_current_xact_id() WHERE table_id = relation;
    PERFORM leyden.generate_row_trigger(relation);
    PERFORM leyden.record_difference(relation, description, leyden.describe(relation), true)
    FROM leyden.tables WHERE table_id = relation;
END
$$;
