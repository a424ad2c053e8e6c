-- What keeps a table from being electrified, and from staying so.

-- Names in SQLite: tables and indexes share them, and it compares them without regard to case. Clients keep what is dropped
-- here, so names of dropped indexes and of tables given up are taken, too.
CREATE OR REPLACE FUNCTION leyden.name_conflicts(relation regclass) RETURNS TABLE (problem text, remedy text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
WITH described AS (
    SELECT leyden.describe(relation) AS value
), own(name, index_of) AS (
    SELECT value ->> 'name', NULL FROM described
    UNION ALL
    SELECT i.value ->> 'name', d.value ->> 'name' FROM described AS d, jsonb_array_elements(d.value -> 'indexes') AS i(value)
), kind AS (
    SELECT *, CASE WHEN index_of IS NULL THEN 'table' ELSE 'index' END AS name_of FROM own
)
SELECT format('the name of its %s %I is reserved on clients', k.name_of, k.name), format('rename the %s', k.name_of)
FROM kind k WHERE lower(k.name) LIKE 'sqlite\_%' OR lower(k.name) LIKE '\_electric\_%'
UNION ALL
SELECT format('clients have another table or index called %I, which is as good as its %s %I', o.name, k.name_of, k.name),
       format('give the %s another name', k.name_of)
FROM kind k JOIN (SELECT name, index_of FROM leyden.names_at_clients() UNION SELECT name, index_of FROM own) AS o
  ON lower(o.name) = lower(k.name) AND (o.name, o.index_of) IS DISTINCT FROM (k.name, k.index_of)
$$;

-- Everything that keeps a table from being electrified, each with its remedy. No rows: it can be, or stays so.
CREATE OR REPLACE FUNCTION leyden.objections(relation regclass) RETURNS TABLE (problem text, remedy text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
WITH subject AS (
    SELECT c.*, n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation
), attribute AS (
    SELECT a.*, t.typname, t.typtype, n.nspname AS type_schema
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
)
-- kind
SELECT 'it is not an ordinary table', 'electrify an ordinary table instead'
FROM subject WHERE relkind <> 'r' OR relispartition
UNION ALL
SELECT 'it takes part in table inheritance', 'end it with ALTER TABLE ... NO INHERIT'
FROM subject WHERE NOT relispartition
               AND EXISTS (SELECT FROM pg_inherits WHERE inhrelid = relation OR inhparent = relation)
UNION ALL
SELECT 'it is not stored permanently', 'electrify a table that is neither temporary nor unlogged'
FROM subject WHERE relpersistence <> 'p'
UNION ALL
SELECT format('it is in schema %I', nspname), 'only tables of schema public can be electrified'
FROM subject WHERE nspname <> 'public' AND relpersistence <> 't'
-- columns: SQLite compares their names without regard to case
UNION ALL
SELECT format('columns %s differ only in case', string_agg(quote_ident(attname), ', ' ORDER BY attnum)),
       'rename one of them'
FROM attribute GROUP BY lower(attname) HAVING count(*) > 1
UNION ALL
SELECT format('column %I has type %s', attname, format_type(atttypid, atttypmod)), CASE
    WHEN typname IN ('varchar', 'time', 'timestamp', 'timestamptz') THEN 'use the type without a length or precision'
    ELSE 'use one of bool, bytea, date, float4, float8, int2, int4, int8, jsonb, text, time, timestamp, timestamptz, '
         'uuid, varchar, or an enum of schema public' END
FROM attribute
WHERE CASE WHEN typtype = 'e' THEN type_schema <> 'public'
           ELSE type_schema <> 'pg_catalog' OR atttypmod <> -1 OR typname NOT IN (
               'bool', 'bytea', 'date', 'float4', 'float8', 'int2', 'int4', 'int8', 'jsonb', 'text', 'time',
               'timestamp', 'timestamptz', 'uuid', 'varchar') END
UNION ALL
SELECT format('column %I has enum type %s with the labels %s', attname, format_type(atttypid, atttypmod),
              (SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder) FROM pg_enum
               WHERE enumtypid = atttypid AND enumlabel !~* '^[a-z][a-z_0-9]*$')),
       'enum labels must start with a letter and hold only letters, digits and _'
FROM attribute
WHERE typtype = 'e'
  AND EXISTS (SELECT FROM pg_enum WHERE enumtypid = atttypid AND enumlabel !~* '^[a-z][a-z_0-9]*$')
UNION ALL
SELECT format('column %I is an identity column', attname),
       'clients cannot draw from its sequence: use a uuid, and ALTER COLUMN ... DROP IDENTITY'
FROM attribute WHERE attidentity <> ''
UNION ALL
SELECT format('column %I is generated', attname),
       'clients cannot compute it: drop its expression, or leave the column to a view'
FROM attribute WHERE attgenerated <> ''
UNION ALL
SELECT format('column %I has a default that is not a constant', attname),
       'clients cannot compute it: ALTER COLUMN ... DROP DEFAULT, or SET DEFAULT to a literal of the column''s type'
FROM attribute WHERE atthasdef AND attgenerated = '' AND leyden.constant_default(attrelid, attnum) IS NULL
-- constraints and unique indexes
UNION ALL
SELECT 'it has no primary key', 'add one with ALTER TABLE ... ADD PRIMARY KEY'
FROM subject WHERE NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = relation AND contype = 'p')
UNION ALL
SELECT format('it has the %s constraint %I',
              CASE contype WHEN 'c' THEN 'CHECK' WHEN 'u' THEN 'UNIQUE' WHEN 'x' THEN 'EXCLUDE' ELSE 'trigger' END,
              conname),
       format('clients cannot know whether it holds: drop constraint %I', conname)
FROM pg_constraint WHERE conrelid = relation AND contype IN ('c', 'u', 'x', 't')
UNION ALL
SELECT format('it has the unique index %I', ic.relname),
       format('clients cannot know whether it holds: drop index %I and make one that is not unique', ic.relname)
FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid
WHERE i.indrelid = relation AND i.indisunique
  AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid AND contype IN ('p', 'u', 'x'))
UNION ALL
SELECT format('its foreign key %I references %s, which is not electrified', conname, confrelid::regclass),
       format('electrify %s first', confrelid::regclass)
FROM pg_constraint
WHERE conrelid = relation AND contype = 'f' AND confrelid <> relation
  AND NOT EXISTS (SELECT FROM leyden.tables WHERE table_id = confrelid)
UNION ALL
SELECT format('its foreign key %I is not validated', conname), format('ALTER TABLE ... VALIDATE CONSTRAINT %I', conname)
FROM pg_constraint WHERE conrelid = relation AND contype = 'f' AND NOT convalidated
UNION ALL
SELECT problem, remedy FROM leyden.name_conflicts(relation)
$$;
