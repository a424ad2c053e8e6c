"""A large table, filled before it is electrified or after."""

from __future__ import annotations

import psycopg

_COLUMNS = "id uuid PRIMARY KEY, title text NOT NULL, done bool NOT NULL, priority int4, created timestamptz NOT NULL"

_FILL = """
INSERT INTO issues SELECT gen_random_uuid(), 'Issue number ' || i || ': the door of room ' || mod(i, 977) || ' sticks',
    mod(i, 3) = 0, CASE WHEN mod(i, 4) > 0 THEN mod(i, 10) END, '2024-01-01 UTC'::timestamptz + i * interval '1.23 s'
FROM generate_series(1, %s) AS i
"""


def create_issues(dsn: str, rows: int, *, electrified_first: bool) -> None:
    """Rows that are older than the table's electrification have no state beside them; the others have. The database
    must have been prepared."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(f"CREATE TABLE issues ({_COLUMNS})")
        if electrified_first:
            conn.execute("CALL electric.electrify('issues')")
        conn.execute(_FILL, [rows])
        conn.execute("CALL electric.electrify('issues')")
        conn.execute("VACUUM ANALYZE")
        conn.execute("CHECKPOINT")
