-- The description of a table: what clients know of it, read from the catalog and from nothing else.

CREATE OR REPLACE FUNCTION leyden.column_name(relation oid, number int2) RETURNS name
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT attname FROM pg_attribute WHERE attrelid = relation AND attnum = number $$;

CREATE OR REPLACE FUNCTION leyden.enum_labels(type oid) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT jsonb_agg(enumlabel ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = type $$;

CREATE OR REPLACE FUNCTION leyden.action_name(code "char") RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT CASE code WHEN 'a' THEN 'NO ACTION' WHEN 'r' THEN 'RESTRICT' WHEN 'c' THEN 'CASCADE'
                       WHEN 'n' THEN 'SET NULL' WHEN 'd' THEN 'SET DEFAULT' END $$;

-- A column's default in the text form of the replication stream; NULL if there is none, or one that is not a constant.
-- The expression is its owner's and must not run with the service's rights, so its spelling decides: a literal of the
-- column's type, or of one from which the way there depends on no setting (1 for a float8; not a date for a timestamptz).
CREATE OR REPLACE FUNCTION leyden.constant_default(relation oid, number int2) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
SET DateStyle = 'ISO, DMY' SET TimeZone = 'UTC' SET bytea_output = hex SET extra_float_digits = 1
AS $$
DECLARE
    numbers CONSTANT text[] := ARRAY['smallint', 'integer', 'bigint', 'numeric', 'real', 'double precision'];
    texts CONSTANT text[] := ARRAY['text', 'character varying'];
    expression text := (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = relation AND adnum = number);
    literal text[] := coalesce(
        regexp_match(expression, '^(''(?:[^'']|'''')*'')::(.+)$'),                       -- 'x'::text
        regexp_match(expression, '^\(([0-9.]+)\)::(.+)$'),                               -- (1)::smallint
        regexp_match(expression, '^([0-9.]+)$') || 'numeric'::text);                     -- 1
    type text;
    is_enum boolean;
    is_builtin boolean;
    value text;
BEGIN
    SELECT format_type(t.oid, NULL), t.typtype = 'e', t.typnamespace = 'pg_catalog'::regnamespace
    INTO type, is_enum, is_builtin
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = relation AND a.attnum = number;
    IF is_enum AND literal[2] = type THEN
        RETURN replace(substr(literal[1], 2, length(literal[1]) - 2), '''''', '''');
    ELSIF type = 'boolean' AND expression IN ('true', 'false') THEN
        RETURN left(expression, 1);
    ELSIF is_builtin AND (literal[2] = type OR ARRAY[literal[2], type] <@ numbers OR ARRAY[literal[2], type] <@ texts) THEN
        EXECUTE format('SELECT (%s)::%s::text', expression, type) INTO value;
    END IF;
    RETURN value;
EXCEPTION
    WHEN data_exception THEN               -- DEFAULT 70000 of an int2: no row can ever have it
        RETURN NULL;
END
$$;

-- What Postgres reads, in its text form, where a row older than the column has nothing stored.
CREATE OR REPLACE FUNCTION leyden.fill_value(relation oid, column_name text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
SET DateStyle = 'ISO, DMY' SET TimeZone = 'UTC' SET bytea_output = hex SET extra_float_digits = 1
AS $$ SELECT (attmissingval::text::text[])[1] FROM pg_attribute
      WHERE attrelid = relation AND attname = column_name AND atthasmissing $$;

-- Columns in attribute order, with their numbers, which tell a column that was dropped and made anew from what it was; the
-- types are catalog names, which is the spelling that clients rely on. Indexes that
-- a client could not use or that mean nothing to it (partial, on expressions, not b-tree) are left out.
CREATE OR REPLACE FUNCTION leyden.describe(relation regclass) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT jsonb_build_object(
    'id', c.oid::bigint,
    'name', c.relname,
    'columns', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'name', a.attname, 'number', a.attnum, 'type', t.typname, 'not_null', a.attnotnull,
                   'is_enum', t.typtype = 'e')
                   || CASE WHEN a.atthasdef AND a.attgenerated = ''
                           THEN jsonb_strip_nulls(jsonb_build_object('default', leyden.constant_default(c.oid, a.attnum)))
                           ELSE '{}' END
                   ORDER BY a.attnum), '[]')
        FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
    'primary_key', (
        SELECT coalesce(jsonb_agg(leyden.column_name(c.oid, k.attnum) ORDER BY k.position), '[]')
        FROM pg_constraint p, unnest(p.conkey) WITH ORDINALITY AS k(attnum, position)
        WHERE p.conrelid = c.oid AND p.contype = 'p'),
    'primary_key_name', (SELECT p.conname FROM pg_constraint p WHERE p.conrelid = c.oid AND p.contype = 'p'),
    'foreign_keys', (
        SELECT coalesce(jsonb_agg(f.described ORDER BY f.described -> 'columns', f.described ->> 'name'), '[]')
        FROM (
            SELECT jsonb_build_object(
                'name', p.conname,
                'columns', (SELECT jsonb_agg(leyden.column_name(p.conrelid, k.attnum) ORDER BY k.position)
                            FROM unnest(p.conkey) WITH ORDINALITY AS k(attnum, position)),
                'ref_table', r.relname,
                'ref_columns', (SELECT jsonb_agg(leyden.column_name(p.confrelid, k.attnum) ORDER BY k.position)
                                FROM unnest(p.confkey) WITH ORDINALITY AS k(attnum, position)),
                'on_delete', leyden.action_name(p.confdeltype),
                'on_update', leyden.action_name(p.confupdtype)) AS described
            FROM pg_constraint p JOIN pg_class r ON r.oid = p.confrelid
            WHERE p.conrelid = c.oid AND p.contype = 'f' AND p.conparentid = 0) AS f),
    'indexes', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'name', ic.relname,
                   'unique', i.indisunique,
                   'columns', (
                       SELECT jsonb_agg(jsonb_build_object(
                                  'name', leyden.column_name(c.oid, k.attnum),
                                  'descending', (i.indoption[k.position - 1]::int & 1) = 1) ORDER BY k.position)
                       FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, position)
                       WHERE k.position <= i.indnkeyatts)) ORDER BY ic.relname COLLATE "C"), '[]')
        FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_am am ON am.oid = ic.relam
        WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
          AND am.amname = 'btree'
          AND NOT EXISTS (SELECT FROM pg_constraint p WHERE p.conindid = i.indexrelid AND p.contype IN ('p', 'u', 'x'))),
    'enums', (
        SELECT coalesce(jsonb_agg(jsonb_build_object('name', t.typname, 'labels', leyden.enum_labels(t.oid))
                                  ORDER BY e.first_use), '[]')
        FROM (SELECT a.atttypid, min(a.attnum) AS first_use FROM pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped GROUP BY a.atttypid) AS e
        JOIN pg_type t ON t.oid = e.atttypid AND t.typtype = 'e'))
FROM pg_class c WHERE c.oid = relation
$$;
