"""Explanations of rows that Postgres holds: never a difference between Leyden and Postgres, whatever the filter."""

from __future__ import annotations

from collections import Counter

from psycopg import sql

from leyden.postgres.catalog import load_tables
from leyden.postgres.locale import read_locale
from leyden.postgres.reading.lookup import count_rows, find_row
from leyden.postgres.sessions import connect
from leyden.shapes.explanation import explain_row
from leyden.shapes.understanding import Asked, Client, Facts, understand
from leyden.shapes.where import Claims
from where_clauses import CASES, COLUMNS, LABELS, edge_rows

ANN = Client(Claims("ann", {"sub": "ann"}), ())


async def test_no_filter_and_no_row_is_judged_otherwise_by_postgres(database: str) -> None:
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(name), sql.Identifier(kind)) for name, kind in COLUMNS.items()
    )
    labels = sql.SQL(", ").join(map(sql.Literal, LABELS))
    insert = sql.SQL("INSERT INTO items VALUES ({})").format(sql.SQL(", ").join([sql.Placeholder()] * len(COLUMNS)))
    keys = [f"00000000-0000-0000-0000-{number:012}" for number in range(12)]
    async with await connect(database, autocommit=True) as conn:
        await conn.execute(sql.SQL("CREATE TYPE mood AS ENUM ({})").format(labels))
        await conn.execute(sql.SQL("CREATE TABLE items ({}, PRIMARY KEY (id))").format(columns))
        await conn.execute("CALL electric.electrify('items')")
        for key, row in zip(keys, edge_rows(len(keys)), strict=True):
            await conn.execute(insert, [key, *(None if value is None else value.decode() for value in row[1:])])
        await conn.execute(
            "UPDATE items SET electric_user_id = (ARRAY['ann', '', NULL, 'bob'])[get_byte(uuid_send(id), 15) % 4 + 1]"
        )
        facts = Facts({table.name: table for table in (await load_tables(conn)).values()}, await read_locale(conn))
        seen: Counter[str] = Counter()
        for case in CASES["cases"][::3]:
            understanding = understand(Asked("items", case["where"], ANN), facts)
            if understanding.shape is None:
                continue
            group = understanding.shape.root
            reaching = 0
            for key in keys:
                found = await find_row(conn, group.table, (key,), group.condition)
                assert found is not None
                explanation = explain_row(understanding, *found)
                assert explanation.verdict in ("reaches", "withheld"), (case["where"], key, explanation)
                seen[explanation.verdict] += 1
                reaching += explanation.verdict == "reaches"
            assert await count_rows(conn, group.table, group.condition) == reaching, case["where"]
    assert min(seen["reaches"], seen["withheld"]) > 50
