-- Says in the WAL that policies or privileges may have changed, so that the service does not go on with what it knows of
-- them. Role membership is no matter of one database, and is found by looking only.
--
-- Any command counts but those that are known to leave policies as they are: DROP ... CASCADE takes them along, and what
-- they mean is also changed by routines, types, schemas and owners. A list of what does that would never be complete.
-- What is left out is what databases do all the time, as each message holds up delivery until the rights were read again:
-- new tables and indexes, and whatever is done to temporary relations. What fell, directly or by CASCADE, is known object by
-- object, on sql_drop; the commands that do nothing but drop relations are left to it.

CREATE OR REPLACE FUNCTION leyden.on_rights() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    is_harmless boolean;  -- NULL if nothing is known of what the command did
BEGIN
    IF tg_event = 'sql_drop' THEN
        -- A policy that goes with one of these is an object of its own.
        SELECT bool_and(is_temporary OR object_type IN ('table', 'table constraint', 'default value', 'index', 'sequence',
                                                        'trigger', 'type', 'toast table'))
        INTO is_harmless FROM pg_event_trigger_dropped_objects();
    ELSIF tg_tag IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE INDEX', 'REINDEX', 'COMMENT',
                     'REFRESH MATERIALIZED VIEW', 'DROP TABLE', 'DROP INDEX') THEN
        is_harmless := true;
    ELSE
        SELECT bool_and(classid = 'pg_class'::regclass AND schema_name IS NOT DISTINCT FROM 'pg_temp')
        INTO is_harmless FROM pg_event_trigger_ddl_commands();
    END IF;
    IF is_harmless IS NOT TRUE THEN
        PERFORM pg_logical_emit_message(
            true, 'leyden.rights ' || (SELECT value #>> '{}' FROM leyden.meta WHERE key = 'seal'), '');
    END IF;
END
$$;
