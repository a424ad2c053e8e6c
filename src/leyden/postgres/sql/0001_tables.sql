-- What Leyden keeps in the database. Private to the service: no role but the owner has rights here.

-- Facts about this installation: installed versions, the newest client schema version, whether DDL is guarded.
CREATE TABLE leyden.meta (
    key   text PRIMARY KEY,
    value jsonb NOT NULL
);

-- The tables that are electrified now, with the description that clients know. Published: the stream announces that a
-- table was given up, in a way that no other role can forge.
CREATE TABLE leyden.tables (
    table_id    oid PRIMARY KEY,
    schema_name text NOT NULL,
    table_name  text NOT NULL,
    description jsonb NOT NULL,
    enabled_at  timestamptz NOT NULL DEFAULT current_timestamp
);

-- One row for each transaction that changed what clients know. Published: the stream announces the migration.
CREATE TABLE leyden.versions (
    version      text COLLATE "C" PRIMARY KEY,
    xid          xid8 NOT NULL UNIQUE,
    committed_at timestamptz NOT NULL,
    changes      jsonb NOT NULL
);

-- Changes of the transaction at work, until its commit turns them into one row of leyden.versions. Empty for
-- everybody else.
CREATE TABLE leyden.pending_changes (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid    xid8 NOT NULL DEFAULT pg_current_xact_id(),
    change jsonb NOT NULL
);

-- Tags of rows written since their table was electrified; a row without an entry has the tag postgres_1@0. Published.
CREATE TABLE leyden.row_state (
    table_id oid NOT NULL,
    pk       text COLLATE "C" NOT NULL,   -- JSON array of the key's text forms, in key order
    tags     text[] NOT NULL,             -- origin@ms; empty = the row does not exist
    col_tags jsonb NOT NULL,              -- {column: [ms, origin|null]}, null = Postgres itself
    dead     jsonb,                       -- {column: text|null} of the last deleted version
    touched  timestamptz NOT NULL,
    PRIMARY KEY (table_id, pk)
) WITH (fillfactor = 80);                 -- room for updates in place; no index on tags or touched for the same reason
-- Tags are on every path; keep them in the row instead of a side table.
ALTER TABLE leyden.row_state ALTER COLUMN tags SET STORAGE MAIN;

-- How far each client's uploads were applied; whose the client is.
CREATE TABLE leyden.client_uploads (
    client_id  text PRIMARY KEY,
    user_id    text NOT NULL,
    lsn        bytea NOT NULL DEFAULT '',
    applied_at timestamptz NOT NULL DEFAULT current_timestamp
);

-- Subscriptions that survive a reconnect.
CREATE TABLE leyden.client_subscriptions (
    client_id       text NOT NULL,
    subscription_id text NOT NULL,
    tables          text[] NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT current_timestamp,
    PRIMARY KEY (client_id, subscription_id)
);

-- Uploads that Postgres refused for good.
CREATE TABLE leyden.rejected (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_id text NOT NULL,
    user_id   text NOT NULL,
    lsn       bytea NOT NULL,
    at        timestamptz NOT NULL DEFAULT current_timestamp,
    sqlstate  text NOT NULL,
    message   text NOT NULL,
    ops       jsonb NOT NULL
);

-- Updated by every new version; its row lock makes commit order and version order the same.
INSERT INTO leyden.meta (key, value) VALUES ('last_version', '"0"');
