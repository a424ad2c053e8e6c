-- Every process that holds tokens against leyden.revocations listens for this, whoever changed the table.

CREATE OR REPLACE FUNCTION leyden.announce_revocations() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_notify('leyden_revocations', '');
    RETURN NULL;
END
$$;

DROP TRIGGER IF EXISTS announce ON leyden.revocations;
CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leyden.revocations
    FOR EACH STATEMENT EXECUTE FUNCTION leyden.announce_revocations();
-- Not to be switched off by session_replication_role, as data loads do.
ALTER TABLE leyden.revocations ENABLE ALWAYS TRIGGER announce;
