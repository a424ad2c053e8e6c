-- Functions of the event triggers that watch DDL on electrified tables: what clients can follow is recorded, what they
-- cannot is refused. They compare the catalog with what clients know instead of reading statements, so nothing
-- goes around them: no list of tables, no DO block, no change of an enum.

CREATE OR REPLACE FUNCTION leyden.on_ddl_end() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    touched oid;
BEGIN
    FOR touched IN
        WITH command AS (
            SELECT DISTINCT classid, objid FROM pg_event_trigger_ddl_commands()
            WHERE NOT in_extension AND schema_name IS DISTINCT FROM 'pg_temp'
        ), relation AS (
            SELECT objid AS oid FROM command WHERE classid = 'pg_class'::regclass
            UNION SELECT i.indrelid FROM command JOIN pg_index i ON i.indexrelid = objid WHERE classid = 'pg_class'::regclass
            UNION SELECT c.conrelid FROM command JOIN pg_constraint c ON c.oid = objid WHERE classid = 'pg_constraint'::regclass
            UNION SELECT g.tgrelid FROM command JOIN pg_trigger g ON g.oid = objid WHERE classid = 'pg_trigger'::regclass
            UNION SELECT a.attrelid FROM command JOIN pg_attribute a ON a.atttypid = objid AND NOT a.attisdropped
                  WHERE classid = 'pg_type'::regclass
            UNION SELECT c.oid FROM command JOIN pg_class c ON c.relnamespace = objid WHERE classid = 'pg_namespace'::regclass
        )
        SELECT t.table_id FROM leyden.tables t
        WHERE t.table_id IN (SELECT oid FROM relation)
           OR t.table_id IN (SELECT h.inhrelid FROM pg_inherits h JOIN relation r ON r.oid = h.inhparent)
           OR t.table_id IN (SELECT h.inhparent FROM pg_inherits h JOIN relation r ON r.oid = h.inhrelid)
        ORDER BY t.table_id
    LOOP
        PERFORM leyden.catch_up(touched);
    END LOOP;
    IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands()
               WHERE classid IN ('pg_publication'::regclass, 'pg_publication_rel'::regclass)) THEN
        PERFORM leyden.check_attachments();
    END IF;
END
$$;

-- The publication may be changed, but not so that changes of electrified tables get lost.
CREATE OR REPLACE FUNCTION leyden.check_attachments() RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
SELECT leyden.refuse('clients would not hear of all changes any more',
                     array_agg(format('table %s: %s', t.table_name, d.problem) ORDER BY t.table_name, d.problem),
                     array_agg(d.remedy))
FROM leyden.detachments() AS d JOIN leyden.tables AS t USING (table_id)
$$;

-- A table is about to be written anew, which the replication stream says nothing of. That is fine as long as its values stay
-- what they are: with another access method, say. Defaults computed for each row are refused when the command ends.
CREATE OR REPLACE FUNCTION leyden.on_rewrite() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    column_values CONSTANT int := 4;       -- AT_REWRITE_COLUMN_REWRITE in Postgres' event_trigger.h
    rewritten text := (SELECT table_name FROM leyden.tables WHERE table_id = pg_event_trigger_table_rewrite_oid());
BEGIN
    IF rewritten IS NOT NULL AND pg_event_trigger_table_rewrite_reason() & column_values <> 0 THEN
        PERFORM leyden.refuse(format('table %s is electrified; clients cannot follow this change', rewritten),
                              '{it alters the type of a column, or all its values}',
                              '{add a column of the other type and fill it with an UPDATE}',
                              'Or give the table up with leyden.disable and make another');
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION leyden.on_drop() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    dropped text;
    touched oid;
BEGIN
    SELECT string_agg(t.table_name, ', ') INTO dropped
    FROM pg_event_trigger_dropped_objects() d JOIN leyden.tables t ON t.table_id = d.objid
    WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0;
    IF dropped IS NOT NULL THEN
        RAISE EXCEPTION 'electrified table(s) % cannot be dropped', dropped
            USING ERRCODE = 'feature_not_supported',
                  DETAIL = 'Clients hold the table and only follow additions.',
                  HINT = 'Give the table up first: SELECT leyden.disable(''...'').';
    END IF;
    -- Parts of an electrified table that went with something else: DROP TYPE ... CASCADE, DROP OWNED, ...
    FOR touched IN
        SELECT DISTINCT t.table_id
        FROM pg_event_trigger_dropped_objects() d
        JOIN pg_namespace n ON n.nspname = d.address_names[1]
        JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = d.address_names[2]
        JOIN leyden.tables t ON t.table_id = c.oid
        WHERE NOT d.is_temporary
          AND d.object_type IN ('table column', 'table constraint', 'trigger', 'default value')
    LOOP
        PERFORM leyden.catch_up(touched);
    END LOOP;
    IF EXISTS (SELECT FROM pg_event_trigger_dropped_objects()
               WHERE object_type IN ('publication', 'publication relation')) THEN
        PERFORM leyden.check_attachments();
    END IF;
END
$$;
