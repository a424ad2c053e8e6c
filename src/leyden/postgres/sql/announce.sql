-- Whose a transaction is. Any role may emit messages into the WAL, so the service's own are known by a seal that only it
-- can read.
INSERT INTO leyden.meta (key, value) VALUES ('seal', to_jsonb(gen_random_uuid())) ON CONFLICT (key) DO NOTHING;

CREATE OR REPLACE FUNCTION leyden.announce(message text) RETURNS pg_lsn
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
SELECT pg_logical_emit_message(true, 'leyden.tx ' || (SELECT value #>> '{}' FROM leyden.meta WHERE key = 'seal'), message)
$$;
