-- Electrify a table, keep it so, give it up.

-- Makes a table available to clients. Raises with every objection at once. Rows are left alone: without an entry in
-- leyden.row_state they have the tag postgres_1@0. On an electrified table it only catches up with additive changes
-- that no event trigger saw.
CREATE OR REPLACE FUNCTION leyden.enable(relation regclass) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    description jsonb;
    known jsonb;
BEGIN
    PERFORM leyden.check_owner(relation);
    IF EXISTS (SELECT FROM leyden.tables WHERE table_id = relation) THEN
        IF NOT leyden.catch_up(relation) THEN
            RAISE NOTICE 'table % is already electrified', relation;
        END IF;
        RETURN;
    END IF;
    PERFORM leyden.check_objections(relation);
    -- No write may fall between the trigger's creation and the table's entry into the publication, and what was checked
    -- must stay so. The strongest lock at once, because REPLICA IDENTITY needs it and raising a lock invites deadlock.
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', relation);
    IF EXISTS (SELECT FROM leyden.tables WHERE table_id = relation) THEN
        RAISE NOTICE 'table % is already electrified', relation;
        RETURN;
    END IF;
    PERFORM leyden.check_objections(relation);
    description := leyden.describe(relation);
    known := leyden.known_table(description ->> 'name');

    EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', relation);
    EXECUTE format('ALTER PUBLICATION leyden ADD TABLE %s', relation);
    PERFORM leyden.generate_row_trigger(relation);
    EXECUTE format('CREATE TRIGGER leyden_write AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION leyden.%I()',
                   relation, 'on_write_' || relation::oid);
    EXECUTE format('CREATE TRIGGER leyden_truncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION leyden.on_truncate()',
                   relation);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER leyden_write, ENABLE ALWAYS TRIGGER leyden_truncate', relation);

    INSERT INTO leyden.tables (table_id, schema_name, table_name, description, reenabled_by)
    VALUES (relation, 'public', description ->> 'name', description, CASE WHEN known IS NOT NULL THEN pg_current_xact_id() END);
    IF known IS NULL THEN
        PERFORM leyden.record_enums(description);
        PERFORM leyden.record_change(jsonb_build_object('kind', 'create_table', 'table', description));
    ELSE
        -- Clients hold a table of this name from an earlier time; it can only be continued.
        PERFORM leyden.refuse(format('table %s is known to clients from an earlier time; they cannot follow this change',
                                     known ->> 'name'),
                              array_agg(problem ORDER BY problem), array_agg(remedy), 'Or use another name')
        FROM leyden.differences(known, leyden.with_client_defaults(relation, known, description));
        PERFORM leyden.record_difference(relation, known, description, true);
    END IF;
END
$$;

-- Takes a table away from clients. It stays on the devices that have it, but nothing reaches it any more.
CREATE OR REPLACE FUNCTION leyden.disable(relation regclass) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    referencing text;
BEGIN
    PERFORM leyden.check_owner(relation);
    SELECT string_agg(t.table_name, ', ') INTO referencing
    FROM pg_constraint c JOIN leyden.tables t ON t.table_id = c.conrelid
    WHERE c.confrelid = relation AND c.contype = 'f' AND c.conrelid <> relation;
    IF referencing IS NOT NULL THEN
        RAISE EXCEPTION 'table % is referenced by the electrified table(s) %', relation, referencing
            USING ERRCODE = 'dependent_objects_still_exist', HINT = 'Disable the referencing tables first.';
    END IF;
    DELETE FROM leyden.tables WHERE table_id = relation;
    IF NOT FOUND THEN
        RAISE NOTICE 'table % is not electrified', relation;
        RETURN;
    END IF;
    DELETE FROM leyden.row_state WHERE table_id = relation;
    DELETE FROM leyden.former_ties WHERE table_id = relation;
    IF NOT EXISTS (SELECT FROM pg_class WHERE oid = relation) THEN     -- it was dropped, where nothing guards it
        EXECUTE format('DROP FUNCTION IF EXISTS leyden.%I()', 'on_write_' || relation::oid);
        RETURN;
    END IF;
    EXECUTE format('DROP TRIGGER IF EXISTS leyden_write ON %s', relation);
    EXECUTE format('DROP TRIGGER IF EXISTS leyden_truncate ON %s', relation);
    EXECUTE format('DROP FUNCTION IF EXISTS leyden.%I()', 'on_write_' || relation::oid);
    IF EXISTS (SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
               WHERE p.pubname = 'leyden' AND r.prrelid = relation) THEN
        EXECUTE format('ALTER PUBLICATION leyden DROP TABLE %s', relation);
    END IF;
    EXECUTE format('ALTER TABLE %s REPLICA IDENTITY DEFAULT', relation);
END
$$;

-- Compares an electrified table with what clients know of it: raises if they could not follow, else records what is
-- new. True if there was anything new.
CREATE OR REPLACE FUNCTION leyden.catch_up(relation regclass) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known jsonb := (SELECT description FROM leyden.tables WHERE table_id = relation);
BEGIN
    PERFORM leyden.refuse(format('table %s is electrified; clients cannot follow this change', known ->> 'name'),
                          array_agg(problem ORDER BY problem), array_agg(remedy),
                          'Or give the table up with leyden.disable and make another')
    FROM leyden.departures(relation);
    IF EXISTS (SELECT FROM leyden.tables WHERE table_id = relation AND suspended IS NOT NULL) THEN
        PERFORM leyden.take_up(relation);
        RETURN true;
    END IF;
    RETURN leyden.record_difference(relation, known, leyden.describe(relation), false);
END
$$;

-- Records how `current` goes beyond `known`, which it must contain; if `always`, be it nothing: clients did not hear of what
-- happened to the table until now.
-- What is gone here but stays on clients remains in the description: an index, whose name is taken; a column's default,
-- which rows get that a client made before it knew the column.
CREATE OR REPLACE FUNCTION leyden.record_difference(relation regclass, known jsonb, current jsonb, always boolean)
RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    old_count int := jsonb_array_length(known -> 'columns');
    new_columns jsonb;
    new_indexes jsonb;
    merged jsonb;
    index jsonb;
BEGIN
    current := leyden.with_client_defaults(relation, known, current);
    SELECT coalesce(jsonb_agg(c.value -> 'name' ORDER BY c.position), '[]') INTO new_columns
    FROM jsonb_array_elements(current -> 'columns') WITH ORDINALITY AS c(value, position) WHERE c.position > old_count;
    SELECT coalesce(jsonb_agg(c.value ORDER BY c.position), '[]') INTO new_indexes
    FROM jsonb_array_elements(current -> 'indexes') WITH ORDINALITY AS c(value, position)
    WHERE NOT EXISTS (SELECT FROM jsonb_array_elements(known -> 'indexes') AS k(value)
                      WHERE k.value -> 'name' = c.value -> 'name');
    merged := current || jsonb_build_object('indexes', (known -> 'indexes') || new_indexes);

    IF new_columns = '[]' AND new_indexes = '[]' AND NOT always THEN
        RETURN false;
    END IF;
    UPDATE leyden.tables SET description = merged WHERE table_id = relation;
    IF new_columns <> '[]' OR always THEN
        PERFORM leyden.record_enums(merged);
        PERFORM leyden.record_change(jsonb_build_object('kind', 'add_columns', 'table', merged, 'columns', new_columns)
                                     || CASE WHEN always THEN '{"reopens": true}' ELSE '{}' END::jsonb);
        PERFORM leyden.generate_row_trigger(relation);
    END IF;
    FOR index IN SELECT value FROM jsonb_array_elements(new_indexes) LOOP
        PERFORM leyden.record_change(jsonb_build_object('kind', 'create_index', 'table', merged, 'index', index));
    END LOOP;
    RETURN true;
END
$$;

-- Records the enums of a description that clients have not heard of; raises if they know another one by that name.
CREATE OR REPLACE FUNCTION leyden.record_enums(description jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    enum jsonb;
    known jsonb;
BEGIN
    FOR enum IN SELECT value FROM jsonb_array_elements(description -> 'enums') LOOP
        known := leyden.known_enum(enum ->> 'name');
        IF known IS NULL THEN
            PERFORM leyden.record_change(jsonb_build_object('kind', 'create_enum', 'enum', enum));
        ELSIF known <> enum THEN
            RAISE EXCEPTION 'clients know the enum % with other labels', quote_ident(enum ->> 'name')
                USING ERRCODE = 'feature_not_supported', HINT = 'Make an enum with another name.';
        END IF;
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION leyden.check_objections(relation regclass) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
SELECT leyden.refuse(format('table %s cannot be electrified', relation),
                     array_agg(problem ORDER BY problem), array_agg(remedy))
FROM leyden.objections(relation)
$$;

-- The caller must own the table, and so must the service, which attaches itself to it. One that was dropped is the service's.
CREATE OR REPLACE FUNCTION leyden.check_owner(relation regclass) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    owner oid := coalesce((SELECT relowner FROM pg_class WHERE oid = relation), quote_ident(current_user)::regrole);
    -- current_user is the service here; the role setting is not touched by SECURITY DEFINER.
    caller name := CASE current_setting('role') WHEN 'none' THEN session_user ELSE current_setting('role') END;
BEGIN
    IF NOT pg_has_role(caller, owner, 'USAGE') THEN
        RAISE EXCEPTION 'must be owner of table %', relation USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF NOT pg_has_role(current_user, owner, 'USAGE') THEN
        RAISE EXCEPTION 'the service''s role % is not an owner of table %', quote_ident(current_user), relation
            USING ERRCODE = 'insufficient_privilege',
                  HINT = format('GRANT %I TO %I', pg_get_userbyid(owner), current_user);
    END IF;
END
$$;
