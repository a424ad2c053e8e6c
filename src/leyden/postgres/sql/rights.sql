-- Says in the WAL that policies or privileges may have changed, so that the service does not go on with what it knows of
-- them. Role membership is no matter of one database, and is found by looking only.

CREATE OR REPLACE FUNCTION leyden.on_rights() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_logical_emit_message(
        true, 'leyden.rights ' || (SELECT value #>> '{}' FROM leyden.meta WHERE key = 'seal'), '');
END
$$;
