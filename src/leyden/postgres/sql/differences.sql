-- What clients know of an electrified table against what the catalog says of it.

-- `current` with the defaults that clients have, or need: known columns keep theirs when it is dropped here, and a new one
-- that was added with a default is filled with it on clients too, even if it is dropped by now.
CREATE OR REPLACE FUNCTION leyden.with_client_defaults(relation regclass, known jsonb, current jsonb) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT current || jsonb_build_object('columns', (
    SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('default', CASE
                         WHEN c.position <= jsonb_array_length(known -> 'columns')
                              THEN known #> ARRAY['columns', (c.position - 1)::text, 'default']
                         WHEN (c.value ->> 'not_null')::boolean
                              THEN to_jsonb(leyden.fill_value(relation, c.value ->> 'name')) END)) || c.value
                     ORDER BY c.position)
    FROM jsonb_array_elements(current -> 'columns') WITH ORDINALITY AS c(value, position)))
$$;

-- Why `current` is not `known` with something added, each with its remedy. No rows if it is that.
CREATE OR REPLACE FUNCTION leyden.differences(known jsonb, current jsonb) RETURNS TABLE (problem text, remedy text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
WITH old_column AS (
    SELECT value ->> 'name' AS name, value, position
    FROM jsonb_array_elements(known -> 'columns') WITH ORDINALITY AS c(value, position)
), new_column AS (
    SELECT value ->> 'name' AS name, value, position
    FROM jsonb_array_elements(current -> 'columns') WITH ORDINALITY AS c(value, position)
), kept AS (
    SELECT name, o.value AS old, o.position AS old_position, n.value AS new, n.position AS new_position
    FROM old_column o JOIN new_column n USING (name)
)
SELECT format('the table is now called %I', current ->> 'name'), 'keep its name'
WHERE known -> 'name' <> current -> 'name'
UNION ALL
SELECT format('column %I is dropped, renamed or in another place', name),
       'leave the column as it is and add another, which devices with older apps do not mind'
FROM old_column
WHERE name NOT IN (SELECT name FROM kept)
   OR name IN (SELECT a.name FROM kept a JOIN kept b ON a.old_position < b.old_position AND a.new_position > b.new_position)
UNION ALL
SELECT format('column %I has type %s now, it was %s', name, new ->> 'type', old ->> 'type'),
       'add a column of the other type'
FROM kept WHERE (new -> 'type', new -> 'is_enum') IS DISTINCT FROM (old -> 'type', old -> 'is_enum')
UNION ALL
SELECT format('column %I was %s', name, CASE WHEN (old ->> 'not_null')::boolean THEN 'NOT NULL' ELSE 'nullable' END),
       CASE WHEN (old ->> 'not_null')::boolean THEN 'keep it NOT NULL, and use a value for what is not known'
            ELSE 'add a column with NOT NULL and a default' END
FROM kept WHERE new -> 'not_null' <> old -> 'not_null'
UNION ALL
SELECT format('column %I has the default %L now, and %s on clients', name, new ->> 'default',
              coalesce(quote_literal(old ->> 'default'), 'none')),
       'let whoever inserts give the value'
FROM kept WHERE new ->> 'default' IS DISTINCT FROM old ->> 'default' AND new ? 'default'
UNION ALL
SELECT format('the added column %I is NOT NULL and has no default', name),
       'give it a constant default; it may be dropped afterwards'
FROM new_column
WHERE position > jsonb_array_length(known -> 'columns') AND (value ->> 'not_null')::boolean AND NOT value ? 'default'
UNION ALL
SELECT 'the primary key or its name changed', 'keep the primary key'
WHERE (known -> 'primary_key', known -> 'primary_key_name')
      IS DISTINCT FROM (current -> 'primary_key', current -> 'primary_key_name')
UNION ALL
SELECT 'a foreign key was added, dropped, renamed or changed', 'keep the foreign keys'
WHERE known -> 'foreign_keys' <> current -> 'foreign_keys'
UNION ALL
SELECT format('the labels of enum %I changed', o.value ->> 'name'), 'make an enum with another name, and a column of it'
FROM jsonb_array_elements(known -> 'enums') AS o(value) JOIN jsonb_array_elements(current -> 'enums') AS n(value)
  ON n.value -> 'name' = o.value -> 'name' AND n.value -> 'labels' <> o.value -> 'labels'
UNION ALL
SELECT format('clients already have another index called %I', n.value ->> 'name'), 'give the index another name'
FROM jsonb_array_elements(current -> 'indexes') AS n(value) JOIN jsonb_array_elements(known -> 'indexes') AS o(value)
  ON n.value -> 'name' = o.value -> 'name' AND n.value <> o.value
$$;

-- What the service attached to electrified tables and cannot do without, where it is missing.
CREATE OR REPLACE FUNCTION leyden.detachments()
RETURNS TABLE (table_id oid, problem text, remedy text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
WITH publication AS (
    SELECT * FROM pg_publication WHERE pubname = 'leyden'
), member AS (
    -- Rows and columns can be left out as of Postgres 15.
    SELECT r.prrelid AS table_id,
           to_jsonb(r) ->> 'prqual' IS NOT NULL OR to_jsonb(r) ->> 'prattrs' IS NOT NULL AS in_part
    FROM pg_publication_rel r JOIN publication p ON p.oid = r.prpubid
), missing(table_id, what) AS (
    SELECT t.table_id, 'its replica identity is not FULL'
    FROM leyden.tables t JOIN pg_class c ON c.oid = t.table_id WHERE c.relreplident <> 'f'
    UNION ALL
    SELECT t.table_id, format('its trigger %s is not there, or not enabled ALWAYS', name)
    FROM leyden.tables t, unnest(ARRAY['leyden_write', 'leyden_truncate']) AS name
    WHERE NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = t.table_id AND g.tgname = name AND g.tgenabled = 'A')
    UNION ALL
    SELECT t.table_id, 'it is not in the publication leyden'
    FROM leyden.tables t WHERE t.table_id NOT IN (SELECT m.table_id FROM member m)
    UNION ALL
    SELECT m.table_id, 'the publication leyden leaves out rows or columns of it'
    FROM member m JOIN leyden.tables t USING (table_id) WHERE m.in_part
    UNION ALL
    SELECT t.table_id, 'the publication leyden leaves out some kinds of changes'
    FROM leyden.tables t, publication p WHERE NOT (p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate)
    UNION ALL
    SELECT t.table_id, 'tables of schema leyden are not in the publication leyden'
    FROM leyden.tables t
    WHERE 3 <> (SELECT count(*) FROM member m JOIN pg_class c ON c.oid = m.table_id
                WHERE NOT m.in_part AND c.relnamespace = 'leyden'::regnamespace
                  AND c.relname IN ('row_state', 'versions', 'tables'))
)
SELECT table_id, what, 'leave to leyden.enable and leyden.disable what they set up' FROM missing
$$;

-- Everything in which an electrified table is not what clients were told, each with its remedy. No rows: it may be more.
CREATE OR REPLACE FUNCTION leyden.departures(relation regclass) RETURNS TABLE (problem text, remedy text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
WITH description(known, current) AS (
    SELECT description, leyden.with_client_defaults(relation, description, leyden.describe(relation))
    FROM leyden.tables WHERE table_id = relation
)
SELECT problem, remedy FROM leyden.objections(relation)
UNION ALL
SELECT problem, remedy FROM leyden.detachments() WHERE table_id = relation
UNION ALL
SELECT d.problem, d.remedy FROM description, leyden.differences(known, current) AS d
UNION ALL
SELECT format('column %I was dropped and made anew', o.value ->> 'name'),
       'leave the column, and change its values with an UPDATE'
FROM description, jsonb_array_elements(known -> 'columns') AS o(value), jsonb_array_elements(current -> 'columns') AS n(value)
WHERE n.value -> 'name' = o.value -> 'name' AND n.value -> 'number' <> o.value -> 'number'
$$;

-- Raises `heading` with all problems, and their remedies as the hint; does nothing if there are none.
CREATE OR REPLACE FUNCTION leyden.refuse(heading text, problems text[], remedies text[], way_out text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    hint text := (SELECT string_agg(DISTINCT upper(left(r, 1)) || substr(r, 2) || '.', ' ') FROM unnest(remedies) AS r);
BEGIN
    IF cardinality(problems) > 0 THEN
        RAISE EXCEPTION E'%:\n  - %', heading, array_to_string(problems, E'\n  - ')
            USING ERRCODE = 'feature_not_supported', HINT = concat_ws(' ', hint, way_out || '.');
    END IF;
END
$$;
