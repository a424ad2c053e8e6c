-- The interface that users of the old service know. Names are looked up with the caller's search_path; everything
-- else happens behind it.

CREATE SCHEMA IF NOT EXISTS electric;

-- electrify('name'), electrify('schema.name') or electrify('schema', 'name'). A single name without a dot is taken
-- literally, case and all; one with a dot is read as SQL reads identifiers.
CREATE OR REPLACE PROCEDURE electric.electrify(name1 text, name2 text DEFAULT NULL)
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM leyden.enable(CASE
        WHEN name2 IS NOT NULL THEN pg_catalog.format('%I.%I', name1, name2)
        WHEN pg_catalog.strpos(name1, '.') > 0 THEN name1
        ELSE pg_catalog.quote_ident(name1) END::pg_catalog.regclass);
END
$$;

CREATE OR REPLACE PROCEDURE electric.migration_version(version text)
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM leyden.migration_version(version);
END
$$;
