-- The demo's one table: a to-do list everybody shares.
-- Run once, on a database where schema leyden is installed. The client side is demo/src/schema.ts.

CREATE TABLE todos (
    id uuid PRIMARY KEY,
    title text NOT NULL,
    done bool NOT NULL,
    author text NOT NULL,
    created_at timestamptz NOT NULL
);

CALL electric.electrify('todos');

INSERT INTO todos (id, title, done, author, created_at) VALUES
    (gen_random_uuid(), 'Open this page in a second tab', false, 'leyden', now() - interval '1 minute'),
    (gen_random_uuid(), 'Go offline, change something, come back', false, 'leyden', now() - interval '2 minutes'),
    (gen_random_uuid(), 'Change a row in psql', false, 'leyden', now() - interval '3 minutes'),
    (gen_random_uuid(), 'Start the demo', true, 'leyden', now() - interval '4 minutes');
