"""A first copy of many rows of every type with the stock client: it has what Postgres has, tags included."""

from __future__ import annotations

import json
from typing import Any

import psycopg
from psycopg import sql

from interop.conftest import Factory
from interop.service import Leyden
from interop.tables import complaints, connected
from interop.test_column_types import COLUMNS, SCHEMA, VALUES, at, conn, different, in_postgres
from leyden.model import EPOCH_TAG

__all__ = ["conn"]  # the fixture with the table of every type

ROWS = 20_000

#: Texts that COPY, JSON or the client's statements could stumble over.
ODD = [
    r"E'\\N'",
    r"E'\\\\N\n\\.\n'",
    r"E'\t\b\f\v\r\n'",
    r"E'\\x41 \\101 \\t'",
    "'%s $1 ?1 :a'",
    "'\"'",
    "'{}'",
    "E'\\u2028'",
]


def fill(conn: psycopg.Connection[Any]) -> None:
    """Rows that go through the values of each column in step, the lists being of different lengths, NULL included."""
    values = {**VALUES, "text": [*VALUES["text"][:-1], *ODD]}  # without the one of a megabyte
    columns = [
        sql.SQL("(ARRAY[{}]::{}[])[1 + i % {}]").format(
            sql.SQL(", ").join(map(sql.SQL, [*values[name], "NULL"])),
            sql.Identifier(name),
            len(values[name]) + 1,
        )
        for name in COLUMNS
    ]
    conn.execute(
        sql.SQL("INSERT INTO everything SELECT 'row ' || i, {} FROM generate_series(1, {}) AS i").format(
            sql.SQL(", ").join(columns), ROWS
        )
    )
    # as if a third were older than the electrification, and some had been written by several clients at once
    conn.execute("DELETE FROM leyden.row_state WHERE pk LIKE '%3\"]'")
    conn.execute("""UPDATE leyden.row_state SET tags = '{a@1,"b \\" c@2",postgres_1@3}' WHERE pk LIKE '%7"]'""")


def tags_in_postgres(conn: psycopg.Connection[Any]) -> dict[str, list[str]]:
    rows = conn.execute(
        "SELECT id, tags FROM everything LEFT JOIN leyden.row_state ON pk = jsonb_build_array(id)::text"
    ).fetchall()
    return {row_id: [EPOCH_TAG] if tags is None else sorted(tags) for row_id, tags in rows}


async def test_a_first_copy_of_many_rows_is_exact(
    service: Leyden, conn: psycopg.Connection[Any], driver: Factory
) -> None:
    client = await driver()
    fill(conn)
    await connected(client, service, "a", schema=SCHEMA)
    await client("sync", client="a", table="everything", wait=True, timeoutMs=120000)
    assert different(await at(client, "a"), in_postgres(conn)) == {}
    shadow = await client("shadow", client="a")
    held = {json.loads(row["primaryKey"])["id"]: sorted(json.loads(row["tags"])) for row in shadow}
    assert len(held) == ROWS
    assert held == tags_in_postgres(conn)
    assert len(set(map(tuple, held.values()))) == 3
    assert complaints(client) == []
