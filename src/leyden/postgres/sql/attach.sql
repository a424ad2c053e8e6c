-- Last step of every installation: what ties the functions to tables, roles and the stream. All of it can be repeated.

-- Functions may have changed since the row triggers were generated.
SELECT leyden.generate_row_trigger(table_id) FROM leyden.tables;

DROP TRIGGER IF EXISTS write_version ON leyden.pending_changes;
CREATE CONSTRAINT TRIGGER write_version AFTER INSERT ON leyden.pending_changes
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION leyden.write_version();
ALTER TABLE leyden.pending_changes ENABLE ALWAYS TRIGGER write_version;

-- Somebody may have dropped it, or tables from it. In one statement, as the guard looks at what each leaves behind.
DO $$
DECLARE
    missing text := (
        SELECT string_agg(wanted::regclass::text, ', ')
        FROM (SELECT table_id FROM leyden.tables
              UNION ALL VALUES ('leyden.row_state'::regclass::oid), ('leyden.versions'::regclass::oid),
                               ('leyden.tables'::regclass::oid)) AS t(wanted)
        WHERE wanted NOT IN (SELECT r.prrelid FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
                             WHERE p.pubname = 'leyden')
          AND EXISTS (SELECT FROM pg_class WHERE oid = wanted));
BEGIN
    IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'leyden') THEN
        EXECUTE 'CREATE PUBLICATION leyden FOR TABLE ' || missing;
    ELSIF missing IS NOT NULL THEN
        EXECUTE 'ALTER PUBLICATION leyden ADD TABLE ' || missing;
    END IF;
END
$$;

-- Anybody may ask; what is asked checks who asks.
GRANT USAGE ON SCHEMA electric, leyden TO PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA leyden FROM PUBLIC;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA leyden FROM PUBLIC;
GRANT EXECUTE ON FUNCTION leyden.enable(regclass), leyden.disable(regclass), leyden.migration_version(text),
    leyden.describe(regclass) TO PUBLIC;
