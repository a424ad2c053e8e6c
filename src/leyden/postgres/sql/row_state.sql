-- The trigger side of conflict resolution: every write by Postgres itself replaces the row's tags with one of its
-- own, which beats every tag the row had. Writes by clients come through the service, which stores the state itself.

-- A row was inserted or updated. `columns` are its columns outside the primary key, `changed` those with new values.
-- The tag's time is the transaction's start, lifted to the row's newest column tag: a client's clock may be ahead.
CREATE OR REPLACE FUNCTION leyden.row_written(relation oid, key text, columns text[], changed text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    started bigint := extract(epoch FROM current_timestamp(3)) * 1000;
BEGIN
    IF leyden.written_by_service(relation, key) THEN
        RETURN;
    END IF;
    INSERT INTO leyden.row_state AS state (table_id, pk, tags, col_tags, dead, touched)
    VALUES (relation, key, ARRAY['postgres_1@' || started], leyden.column_tags(columns, started), NULL, current_timestamp)
    ON CONFLICT (table_id, pk) DO UPDATE SET (tags, col_tags, dead, touched) = (
        SELECT ARRAY['postgres_1@' || lifted.ms], state.col_tags || leyden.column_tags(changed, lifted.ms),
               NULL::jsonb, current_timestamp
        FROM (SELECT greatest(started, (SELECT max((value ->> 0)::bigint) FROM jsonb_each(state.col_tags))) AS ms) AS lifted);
END
$$;

-- A row was deleted. Its column tags stay: they decide about a client's write that did not see the deletion.
CREATE OR REPLACE FUNCTION leyden.row_deleted(relation oid, key text, last_version jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF leyden.written_by_service(relation, key) THEN
        RETURN;
    END IF;
    INSERT INTO leyden.row_state AS state (table_id, pk, tags, col_tags, dead, touched)
    VALUES (relation, key, '{}', '{}', last_version, current_timestamp)
    ON CONFLICT (table_id, pk) DO UPDATE SET tags = '{}', dead = last_version, touched = current_timestamp;
END
$$;

-- Whether the row is the one that the service writes at this moment for a client, and whose state it stores itself.
-- Anybody may set the setting, so it counts only in sessions that may act as the service, which owns the functions.
CREATE OR REPLACE FUNCTION leyden.written_by_service(relation oid, key text) RETURNS boolean
LANGUAGE sql STABLE
AS $$ SELECT coalesce(current_setting('leyden.server_row', true) = relation || ':' || key, false)
             AND pg_has_role(session_user, current_user, 'MEMBER') $$;

CREATE OR REPLACE FUNCTION leyden.column_tags(columns text[], ms bigint) RETURNS jsonb
LANGUAGE sql IMMUTABLE
AS $$ SELECT coalesce(jsonb_object_agg(name, jsonb_build_array(ms, NULL)), '{}') FROM unnest(columns) AS name $$;

-- TRUNCATE names no rows, so they are named before it: the state of each is emptied as by a deletion, and the reader of
-- the stream makes deletions of what it finds emptied when the TRUNCATE comes by. The table's own triggers for deletion
-- do not fire, as with any TRUNCATE.
CREATE OR REPLACE FUNCTION leyden.on_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET DateStyle = 'ISO, DMY' SET TimeZone = 'UTC' SET bytea_output = hex SET extra_float_digits = 1
AS $$
DECLARE
    description jsonb := leyden.describe(TG_RELID);
    key text;
    names text;
    last_version text;
    tied text;
    ties text;
BEGIN
    SELECT string_agg(quote_literal(c.value ->> 'name'), ', ' ORDER BY c.position),
           string_agg(leyden.text_form('t', c.value ->> 'name', c.value ->> 'type'), ', ' ORDER BY c.position)
    INTO names, last_version
    FROM jsonb_array_elements(description -> 'columns') WITH ORDINALITY AS c(value, position);
    SELECT string_agg(leyden.text_form('t', k.name, c.value ->> 'type'), ', ' ORDER BY k.position)
    INTO key
    FROM jsonb_array_elements_text(description -> 'primary_key') WITH ORDINALITY AS k(name, position)
    JOIN jsonb_array_elements(description -> 'columns') AS c(value) ON c.value ->> 'name' = k.name;
    EXECUTE format($statement$
        INSERT INTO leyden.row_state AS state (table_id, pk, tags, col_tags, dead, touched)
        SELECT %s, jsonb_build_array(%s)::text, '{}', '{}', jsonb_object(ARRAY[%s], ARRAY[%s]), current_timestamp
        FROM ONLY %s AS t
        ON CONFLICT (table_id, pk) DO UPDATE SET tags = '{}', dead = EXCLUDED.dead, touched = current_timestamp
    $statement$, TG_RELID, key, names, last_version, TG_RELID::regclass);
    SELECT string_agg(quote_literal(name), ', '), string_agg(leyden.text_form('t', name, type), ', ')
    INTO tied, ties
    FROM leyden.tie_columns(description);
    IF tied IS NOT NULL THEN
        EXECUTE format($statement$
            INSERT INTO leyden.former_ties (table_id, pk, ties)
            SELECT %s, jsonb_build_array(%s)::text, jsonb_object(ARRAY[%s], ARRAY[%s]) FROM ONLY %s AS t
        $statement$, TG_RELID, key, tied, ties, TG_RELID::regclass);
    END IF;
    RETURN NULL;
END
$$;

-- The columns that tie a row to others, and to its owner.
CREATE OR REPLACE FUNCTION leyden.tie_columns(description jsonb) RETURNS TABLE (name text, type text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT c.value ->> 'name', c.value ->> 'type' FROM jsonb_array_elements(description -> 'columns') AS c(value)
WHERE c.value ->> 'name' = 'electric_user_id'
   OR EXISTS (SELECT FROM jsonb_array_elements(description -> 'foreign_keys') AS f(value)
              WHERE f.value -> 'columns' ? (c.value ->> 'name'))
$$;

-- (Re)generates the row trigger's function from the catalog. Names are quoted and values printed as the service's own
-- sessions print them, whatever the session that writes has set; only settings that matter to the table's types are
-- fixed, because each costs at every call.
CREATE OR REPLACE FUNCTION leyden.generate_row_trigger(relation oid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    description jsonb := leyden.describe(relation);
    settings text;
    old_key text;
    new_key text;
    same_key text;
    names text;
    last_version text;
    others text;
    changes text;
    tied text;
    ties text;
    untied text;
    keep_ties text := '';
BEGIN
    SELECT string_agg(DISTINCT CASE
               WHEN type IN ('float4', 'float8') THEN 'SET extra_float_digits = 1 '
               WHEN type = 'bytea' THEN 'SET bytea_output = hex '
               WHEN type IN ('date', 'timestamp') THEN 'SET DateStyle = ''ISO, DMY'' '
               WHEN type = 'timestamptz' THEN 'SET DateStyle = ''ISO, DMY'' SET TimeZone = ''UTC'' '
           END, ''),
           string_agg(quote_literal(name), ', ' ORDER BY position),
           string_agg(leyden.text_form('OLD', name, type), ', ' ORDER BY position),
           string_agg(quote_literal(name), ', ' ORDER BY position) FILTER (WHERE NOT is_key),
           string_agg(format('CASE WHEN %s IS DISTINCT FROM %s THEN %L END',
                             leyden.comparable('NEW', name, type), leyden.comparable('OLD', name, type), name),
                      ', ' ORDER BY position) FILTER (WHERE NOT is_key)
    INTO settings, names, last_version, others, changes
    FROM (
        SELECT c.value ->> 'name' AS name, c.value ->> 'type' AS type, c.position,
               description -> 'primary_key' ? (c.value ->> 'name') AS is_key
        FROM jsonb_array_elements(description -> 'columns') WITH ORDINALITY AS c(value, position)) AS col;

    SELECT string_agg(leyden.text_form('OLD', k.name, c.value ->> 'type'), ', ' ORDER BY k.position),
           string_agg(leyden.text_form('NEW', k.name, c.value ->> 'type'), ', ' ORDER BY k.position),
           format('%s AND jsonb_build_array(%s)::text = old_key',
                  string_agg(format('%s = %s', leyden.field('t', k.name), leyden.field('OLD', k.name)), ' AND '),
                  string_agg(leyden.text_form('t', k.name, c.value ->> 'type'), ', ' ORDER BY k.position))
    INTO old_key, new_key, same_key
    FROM jsonb_array_elements_text(description -> 'primary_key') WITH ORDINALITY AS k(name, position)
    JOIN jsonb_array_elements(description -> 'columns') AS c(value) ON c.value ->> 'name' = k.name;

    SELECT string_agg(quote_literal(name), ', '), string_agg(leyden.text_form('OLD', name, type), ', '),
           string_agg(format('%s IS DISTINCT FROM %s', leyden.comparable('NEW', name, type),
                             leyden.comparable('OLD', name, type)), ' OR ')
    INTO tied, ties, untied
    FROM leyden.tie_columns(description);
    IF tied IS NOT NULL THEN
        keep_ties := format($body$
    IF (CASE TG_OP WHEN 'DELETE' THEN true WHEN 'UPDATE' THEN old_key <> new_key COLLATE "C" OR %4$s END) THEN
        INSERT INTO leyden.former_ties (table_id, pk, ties) VALUES (%1$s, old_key, jsonb_object(ARRAY[%2$s], ARRAY[%3$s]));
    END IF;$body$, relation, tied, ties, untied);
    END IF;

    EXECUTE format($template$
        CREATE OR REPLACE FUNCTION leyden.%I() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp %s
        AS %L
    $template$, 'on_write_' || relation, settings, format($body$
DECLARE
    old_key text;
    new_key text;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        old_key := jsonb_build_array(%2$s)::text;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        new_key := jsonb_build_array(%3$s)::text;
    END IF;
    -- One statement may pass keys on (SET id = id + 1): then the old key belongs to another row by now.
    IF TG_OP = 'DELETE' OR old_key <> new_key COLLATE "C"
       AND NOT EXISTS (SELECT FROM %8$s AS t WHERE %9$s) THEN
        PERFORM leyden.row_deleted(%1$s, old_key, jsonb_object(ARRAY[%4$s], ARRAY[%5$s]));
    END IF;
    IF TG_OP = 'INSERT' OR old_key <> new_key COLLATE "C" THEN
        PERFORM leyden.row_written(%1$s, new_key, ARRAY[%6$s]::text[], ARRAY[%6$s]::text[]);
    ELSIF TG_OP = 'UPDATE' THEN
        PERFORM leyden.row_written(%1$s, new_key, ARRAY[%6$s]::text[], array_remove(ARRAY[%7$s]::text[], NULL));
    END IF;%10$s
    RETURN NULL;
END
$body$, relation, old_key, new_key, names, last_version, others, changes,
                             relation::regclass, same_key, keep_ties));
END
$$;

-- A field of NEW or OLD. Always quoted: quote_ident leaves words like `by` alone, on which PL/pgSQL stumbles.
CREATE OR REPLACE FUNCTION leyden.field(record text, column_name text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT record || '."' || replace(column_name, '"', '""') || '"' $$;

-- The value as the replication stream prints it. For bool a cast would print `true`.
CREATE OR REPLACE FUNCTION leyden.text_form(record text, column_name text, type text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT CASE type WHEN 'bool' THEN format('CASE WHEN %1$s THEN ''t'' WHEN NOT %1$s THEN ''f'' END', leyden.field(record, column_name))
                       ELSE leyden.field(record, column_name) || '::text' END $$;

-- The value in a form in which it equals another exactly if clients see the same: 0 and -0, 1 and 1.0 in jsonb, and
-- texts under a collation that finds them equal, are different values to a client.
CREATE OR REPLACE FUNCTION leyden.comparable(record text, column_name text, type text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT CASE WHEN type IN ('float4', 'float8', 'jsonb') THEN leyden.field(record, column_name) || '::text COLLATE "C"'
                  WHEN type IN ('text', 'varchar') THEN leyden.field(record, column_name) || ' COLLATE "C"'
                  ELSE leyden.field(record, column_name) END $$;
