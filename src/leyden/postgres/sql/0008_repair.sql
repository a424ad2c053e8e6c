-- What it takes to bring a client up to date whose position is below the log's floor. A row of leyden.row_state was written
-- after that position only if its xmin is not below the xid of a checkpoint that is not after it.

-- Points of the stream: every transaction after `position` has an id of at least `xid`. A client that is older than all
-- of them cannot be brought up to date, because deleted rows that it may hold were forgotten.
CREATE TABLE leyden.checkpoints (
    position bigint PRIMARY KEY,
    xid      xid8 NOT NULL,
    taken_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- To what rows were tied before they were tied to something else or deleted: the rows that they referred to, and their
-- owner. One entry for each such change. It tells what else the change may have moved on devices, and for whose eyes
-- the row was.
CREATE TABLE leyden.former_ties (
    table_id oid NOT NULL,
    pk       text COLLATE "C" NOT NULL,   -- as in leyden.row_state
    ties     jsonb NOT NULL               -- {column: text|null}: the columns of foreign keys, and electric_user_id
);

-- The transaction that electrified a table again which had been given up; null for the first time. What was written in
-- between left no trace.
ALTER TABLE leyden.tables ADD COLUMN reenabled_by xid8;
