-- What each reader could select after every commit, and after every statement in between, as Postgres itself answers.
-- Kept in the same transactions: what is rolled back never was.

CREATE SCHEMA history;
-- What clients upload is written as their role. All that follows is done as the session's own.
GRANT USAGE ON SCHEMA history TO PUBLIC;

CREATE TABLE history.readers (number int PRIMARY KEY, role name, claims jsonb);

-- The transactions in the order in which they were committed. Positions are those in the WAL of shortly before.
CREATE TABLE history.commits (number bigserial PRIMARY KEY, xid bigint, position bigint, at float8);

-- Of one table for one reader: the columns that it could read, the rows as it got them, or why it got none. After a
-- commit only what differs from before.
CREATE TABLE history.sights (
    number bigserial PRIMARY KEY, xid bigint, is_committed boolean, reader int, relation name, columns jsonb,
    is_whole boolean, rows jsonb, failure text);

CREATE INDEX ON history.sights (reader, relation, number);

CREATE FUNCTION history.this_transaction() RETURNS bigint LANGUAGE sql AS $$
    SELECT (pg_current_xact_id()::text::bigint) & 4294967295
$$;

-- To be called before anything that keeps others from reading a table, as those who commit hold it while they read all.
CREATE FUNCTION history.go_first() RETURNS void LANGUAGE sql AS $$ SELECT pg_advisory_xact_lock(1) $$;

CREATE FUNCTION history.look(relations name[], committed boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    former_role text := current_setting('role');
    former_claims text := coalesce(current_setting('request.jwt.claims', true), '');
    whose history.readers;
    of_table name;
    known history.sights;
    readable jsonb;
    whole boolean;
    found jsonb;
    failed text;
BEGIN
    PERFORM set_config('role', 'none', true);
    FOREACH of_table IN ARRAY relations LOOP
        FOR whose IN SELECT * FROM history.readers LOOP
            SELECT coalesce(jsonb_agg(attname ORDER BY attnum) FILTER (WHERE may), '[]'), bool_and(may)
            INTO readable, whole
            FROM (SELECT attname, attnum, has_column_privilege(whose.role, attrelid, attnum, 'SELECT') AS may
                  FROM pg_attribute
                  WHERE attrelid = format('public.%I', of_table)::regclass AND attnum > 0 AND NOT attisdropped) AS one;
            found := '[]';
            failed := NULL;
            IF readable <> '[]' THEN
                BEGIN
                    PERFORM set_config('request.jwt.claims', whose.claims::text, true);
                    PERFORM set_config('role', whose.role, true);
                    EXECUTE format('SELECT coalesce(jsonb_agg(to_jsonb(one)), ''[]'') FROM (SELECT %s FROM public.%I) AS one',
                                   (SELECT string_agg(quote_ident(value), ', ') FROM jsonb_array_elements_text(readable)),
                                   of_table) INTO found;
                EXCEPTION WHEN insufficient_privilege OR data_exception THEN
                    failed := SQLERRM;
                END;
                PERFORM set_config('role', 'none', true);
            END IF;
            IF committed THEN
                SELECT * INTO known FROM history.sights s
                WHERE s.is_committed AND s.reader = whose.number AND s.relation = of_table ORDER BY number DESC LIMIT 1;
                CONTINUE WHEN known.columns = readable AND known.is_whole = whole AND known.rows = found
                          AND known.failure IS NOT DISTINCT FROM failed;
            END IF;
            INSERT INTO history.sights (xid, is_committed, reader, relation, columns, is_whole, rows, failure)
            VALUES (history.this_transaction(), committed, whose.number, of_table, readable, whole, found, failed);
        END LOOP;
    END LOOP;
    PERFORM set_config('request.jwt.claims', former_claims, true);
    PERFORM set_config('role', former_role, true);
END
$$;

-- Right before the commit. Until it is done nobody else commits.
CREATE FUNCTION history.commit() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    former_role text := current_setting('role');
BEGIN
    PERFORM set_config('role', 'none', true);
    PERFORM set_config('lock_timeout', '10s', true);
    PERFORM history.go_first();
    PERFORM history.look((SELECT array_agg(table_name::name) FROM leyden.tables), true);
    INSERT INTO history.commits (xid, position, at)
    VALUES (history.this_transaction(), pg_current_wal_insert_lsn() - '0/0', extract(epoch FROM clock_timestamp()));
    PERFORM set_config('role', former_role, true);
END
$$;

CREATE FUNCTION history.on_statement() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM history.look(ARRAY[TG_TABLE_NAME], false);
    RETURN NULL;
EXCEPTION WHEN insufficient_privilege THEN
    RETURN NULL;  -- what a foreign key does to rows it does in their owner's name, and no other role can be taken then
END
$$;
