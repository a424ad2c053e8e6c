"""Every column type there and back: ordinary values, NULL and extremes, from Postgres to a client and up again.

The yardstick is Postgres' own text form, changed only where the client's storage differs (docs/protocol.md): bool is
1/0, a timestamptz ends in ``Z``, bytea is a blob. The client sends a float as its SQLite prints it: here with 17
significant digits, which is exact; a SQLite older than 3.51 would round it to 15.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from interop.client import Driver
from interop.conftest import Factory
from interop.service import Leyden
from interop.tables import complaints, connected
from leyden.postgres.sessions import SESSION_SETTINGS

#: Column (named after its type) → SQL expressions of values that the client holds exactly.
VALUES: dict[str, list[str]] = {
    "bool": ["true", "false"],
    "bytea": [
        r"'\x00'",
        "''",
        "(SELECT string_agg(set_byte('\\x00', 0, b), '' ORDER BY b) FROM generate_series(0, 255) b)",
        r"'\x5c7830300a27'",  # text that looks like an escape
    ],
    "date": [
        *("'2024-02-29'", "'0001-01-01'", "'9999-12-31'", "'0044-03-15 BC'", "'4713-01-01 BC'"),
        *("'5874897-12-31'", "'infinity'", "'-infinity'"),
    ],
    "float4": [
        *("0", "-0.0", "1.5", "0.1", "3.4028235e38", "-3.4028235e38", "1e-45", "1.17549435e-38", "16777217"),
        *("'NaN'", "'Infinity'", "'-Infinity'"),
    ],
    "float8": [
        *("0", "0.1", "-2.5", "0.30000000000000004", "9007199254740993", "1e300", "1e-300", "5e-324"),
        *("1.7976931348623157e308", "-1.7976931348623157e308", "'NaN'", "'Infinity'", "'-Infinity'"),
    ],
    "int2": ["0", "-32768", "32767"],
    "int4": ["0", "-2147483648", "2147483647"],
    "int8": ["0", "-9223372036854775808", "9223372036854775807", "9007199254740993"],
    "jsonb": [
        *("'null'", "'true'", "'0'", "'1e400'", "'\"\"'", "'[]'", "'{}'", "'\"null\"'"),
        """'{"a": [1, 2.50, {"b": null, "ü": "\\n\\u0001 \\"quoted\\" \\\\"}], "": {"😀": [[[[]]]]}}'""",
        "('[' || repeat('[', 200) || repeat(']', 200) || ']')::jsonb",
        "'12345678901234567890.123456789'",
    ],
    "text": [
        *("'plain'", "''", "' '", "'null'", "'é 漢 😀 👩‍👩‍👧'", "E'line\\nbreak\\ttab\\r\\\\ \\x01\\x7f'", "'1.0'"),
        "'it''s \"quoted\"; --'",
        "repeat('0123456789abcde😀', 55000)",  # more than 1 MB
    ],
    "time": ["'00:00:00'", "'12:34:56.789'", "'23:59:59.999999'", "'24:00:00'", "'00:00:00.000001'"],
    "timestamp": [
        *("'2024-02-29 12:34:56.789'", "'2024-02-29 12:34:56.000001'", "'0001-01-01 00:00:00'"),
        *("'9999-12-31 23:59:59.999999'", "'0044-03-15 12:00:00 BC'", "'294276-12-31 23:59:59.999999'"),
        *("'infinity'", "'-infinity'"),
    ],
    "timestamptz": [
        *("'2024-02-29 12:34:56.789+00'", "'2024-02-29 12:34:56.000001+05:30'", "'0001-01-01 00:00:00+00'"),
        *("'9999-12-31 23:59:59.999999+00'", "'0044-03-15 12:00:00+00 BC'", "'infinity'", "'-infinity'"),
    ],
    "uuid": [
        "'00000000-0000-0000-0000-000000000000'",
        "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
        "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'",
    ],
    "varchar": ["'plain'", "''", "'😀'"],
    "mood": ["'sad'", "'ok'", "'Very_Happy2'"],
}

COLUMNS = tuple(VALUES)
TYPED = {"id": "text"} | {name: "text" if name == "mood" else name for name in COLUMNS}
SCHEMA = {"tables": {"everything": {"columns": TYPED, "pk": ["id"]}}, "migrations": []}

#: Run by a client: copies every row under a new key.
COPY = (
    f"INSERT INTO everything (id, {', '.join(COLUMNS)}) SELECT 'copy of ' || id, {', '.join(COLUMNS)} FROM everything"
)

#: Columns as the client's SQLite is asked for them: JSON has neither bytes, 64-bit integers nor NaN.
LOCALLY = {"bytea": "hex(bytea)", "int8": "CAST(int8 AS TEXT)"}


def cases(values: dict[str, list[str]], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """(row id, column, SQL expression) of each value; a row holds one value, everything else is NULL."""
    for column, expressions in values.items():
        for number, expression in enumerate(expressions):
            yield f"{prefix}{column} {number}", column, expression


@pytest.fixture
def conn(service: Leyden) -> Iterator[psycopg.Connection]:
    """A session that prints values as the service's own do, with the table of every type."""
    options = " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in SESSION_SETTINGS.items())
    with psycopg.connect(service.dsn, autocommit=True, options=options) as conn:
        conn.execute("CREATE TYPE mood AS ENUM ('sad', 'ok', 'Very_Happy2')")
        columns = ", ".join(f"{name} {name}" for name in COLUMNS)
        conn.execute(f"CREATE TABLE everything (id text PRIMARY KEY, {columns})")  # type: ignore[arg-type]
        conn.execute("CALL electric.electrify('everything')")
        yield conn


def insert(conn: psycopg.Connection, rows: Iterator[tuple[str, str, str]]) -> None:
    for row_id, column, expression in rows:
        statement = sql.SQL("INSERT INTO everything (id, {}) VALUES ({}, {})").format(
            sql.Identifier(column),
            sql.Literal(row_id),
            sql.SQL(expression),  # type: ignore[arg-type]
        )
        conn.execute(statement)


def as_stored_by_a_client(column: str, text: str | None) -> Any:
    """What ``query`` shall return for a value whose Postgres text form is ``text``."""
    if text is None:
        return "" if column == "bytea" else None  # SQLite's hex(NULL) is ''
    match column:
        case "bool":
            return int(text == "t")
        case "bytea":
            return text[2:].upper()
        case "int2" | "int4":
            return int(text)
        case "float4" | "float8" if text == "NaN":
            return "NaN"  # SQLite has no NaN, the client stores the word
        case "float4" | "float8" if text.lstrip("-") == "Infinity":
            return {"$float": text}
        case "float4" | "float8":
            return float(text)
        case "timestamptz":
            return text.replace("+00", "Z")
        case _:
            return text


def in_postgres(conn: psycopg.Connection) -> dict[str, dict[str, Any]]:
    """All rows by id, as a client has to hold them."""
    texts = ", ".join(f"{name}::text" for name in COLUMNS if name != "bool")
    rows = conn.execute(
        f"SELECT id, CASE WHEN bool THEN 't' WHEN NOT bool THEN 'f' END AS bool, {texts} FROM everything"  # type: ignore[arg-type]
    )
    names = [column.name for column in rows.description or ()]
    return {
        row[0]: {name: as_stored_by_a_client(name, text) for name, text in zip(names, row, strict=True) if name != "id"}
        for row in rows.fetchall()
    }


async def at(client: Driver, name: str) -> dict[str, dict[str, Any]]:
    columns = ", ".join(f"{LOCALLY.get(column, column)} AS {column}" for column in COLUMNS)
    rows = await client("query", client=name, sql=f"SELECT id, {columns}, typeof(bytea) AS blob FROM everything")
    assert {row.pop("blob") for row in rows} <= {"blob", "null"}
    return {row.pop("id"): row for row in rows}


def different(actual: dict[str, dict[str, Any]], expected: dict[str, dict[str, Any]]) -> dict[str, tuple[Any, Any]]:
    """Values that differ, by row and column, cut so that a megabyte does not drown the report."""
    missing = dict.fromkeys(expected.keys() - actual.keys(), (None, "a row"))
    surplus = dict.fromkeys(actual.keys() - expected.keys(), ("a row", None))
    return (
        missing
        | surplus
        | {
            f"{row_id} → {column}": (str(actual[row_id][column])[:80], str(value)[:80])
            for row_id in actual.keys() & expected.keys()
            for column, value in expected[row_id].items()
            if actual[row_id][column] != value
        }
    )


def without_streamed_nan(rows: dict[str, dict[str, Any]], prefix: str = "") -> dict[str, dict[str, Any]]:
    """``rows`` as the stream leaves them at a client: it turns NaN into NULL there.

    Initial rows keep the word ``NaN``; an operation of a transaction passes through the client's JSON, which makes a
    JavaScript NaN of the word, and SQLite has none. The client's own doing: no other text fares better.
    """
    return {
        row_id: {
            name: None if value == "NaN" and name.startswith("float") and row_id.startswith(prefix) else value
            for name, value in row.items()
        }
        for row_id, row in rows.items()
    }


async def test_every_value_reaches_a_client_and_comes_back_unchanged(
    service: Leyden, conn: psycopg.Connection, driver: Factory
) -> None:
    client = await driver()
    insert(conn, cases(VALUES))
    conn.execute("INSERT INTO everything (id) VALUES ('')")
    await connected(client, service, "a", "everything", schema=SCHEMA)
    assert different(await at(client, "a"), in_postgres(conn)) == {}

    await client("run", client="a", sql=COPY)
    await client("waitOplogEmpty", client="a", timeoutMs=20000)
    same = " AND ".join(f"o.{name} IS NOT DISTINCT FROM c.{name}" for name in COLUMNS)
    unequal = conn.execute(
        "SELECT o.id FROM everything o LEFT JOIN everything c ON c.id = 'copy of ' || o.id"
        f" WHERE o.id NOT LIKE 'copy of %' AND (c.id IS NULL OR NOT ({same}))"  # type: ignore[arg-type]
    ).fetchall()
    assert unequal == []
    copies = conn.execute("SELECT count(*) FROM everything WHERE id LIKE 'copy of %'").fetchone()
    assert copies == (1 + sum(map(len, VALUES.values())),)

    await connected(client, service, "b", "everything", schema=SCHEMA)
    assert different(await at(client, "b"), in_postgres(conn)) == {}
    assert different(await at(client, "a"), without_streamed_nan(in_postgres(conn), "copy of ")) == {}
    assert complaints(client) == []


async def test_every_value_streams_unchanged(service: Leyden, conn: psycopg.Connection, driver: Factory) -> None:
    client = await driver()
    await connected(client, service, "a", "everything", schema=SCHEMA)
    insert(conn, cases(VALUES))
    conn.execute("INSERT INTO everything (id) VALUES ('last')")
    await client("waitRow", client="a", sql="SELECT * FROM everything WHERE id = 'last'")
    assert different(await at(client, "a"), without_streamed_nan(in_postgres(conn))) == {}
    assert complaints(client) == []


async def test_an_update_of_one_column_leaves_the_extremes_beside_it_alone(
    service: Leyden, conn: psycopg.Connection, driver: Factory
) -> None:
    client = await driver()
    insert(conn, cases(VALUES))
    before = in_postgres(conn)
    await connected(client, service, "a", "everything", schema=SCHEMA)
    # twice: the second time the author's NaN are NULL, which must not reach Postgres
    for word in ("touched", "again"):
        await client("run", client="a", sql=f"UPDATE everything SET varchar = '{word}'")
        await client("waitOplogEmpty", client="a", timeoutMs=20000)
        expected = {row_id: row | {"varchar": word} for row_id, row in before.items()}
        assert different(in_postgres(conn), expected) == {}
        assert different(await at(client, "a"), without_streamed_nan(expected)) == {}
    assert complaints(client) == []


async def test_a_default_is_the_same_value_wherever_it_is_filled_in(
    service: Leyden, conn: psycopg.Connection, driver: Factory
) -> None:
    """In rows from before the column by the client that has them, or by Postgres for one that comes later; in a new row
    by Postgres or by the client that makes it."""
    client = await driver()
    constants = {
        f"{column}_{number}": (column, expression)
        for column, expressions in VALUES.items()
        for number, expression in enumerate(expressions)
        if not expression.startswith(("(", "repeat")) and expression != "'NaN'"  # which the stream turns into NULL
    }
    typed = {"id": "text"} | {name: TYPED[column] for name, (column, _) in constants.items()}
    schema = {"tables": {"grown": {"columns": typed, "pk": ["id"]}}, "migrations": []}
    conn.execute("CREATE TABLE grown (id text PRIMARY KEY); INSERT INTO grown VALUES ('old')")
    conn.execute("CALL electric.electrify('grown')")
    await connected(client, service, "a", "grown", schema=schema)
    for number, (name, (column, expression)) in enumerate(constants.items()):
        null = " NOT NULL" if number % 2 else ""
        conn.execute(f"ALTER TABLE grown ADD COLUMN {name} {column}{null} DEFAULT {expression}")  # type: ignore[arg-type]
    conn.execute("INSERT INTO grown (id) VALUES ('new')")
    await client("waitRow", client="a", sql="SELECT id FROM grown WHERE id = 'new'")
    await client("run", client="a", sql="INSERT INTO grown (id) VALUES ('by the client')")
    await client("waitOplogEmpty", client="a")
    await connected(client, service, "b", "grown", schema=schema)

    assert conn.execute("SELECT count(*), count(DISTINCT to_jsonb(g) - 'id') FROM grown AS g").fetchone() == (3, 1)
    texts = ", ".join(f"{name}::text" for name in constants)
    forms = conn.execute(f"SELECT {texts} FROM grown WHERE id = 'old'").fetchone()  # type: ignore[arg-type]
    assert forms is not None
    expected = {
        name: as_stored_by_a_client(column, form[0] if column == "bool" else form)
        for (name, (column, _)), form in zip(constants.items(), forms, strict=True)
    }
    places = ", ".join(
        f"{LOCALLY[column].replace(column, name, 1) if column in LOCALLY else name} AS {name}"
        for name, (column, _) in constants.items()
    )
    for name in ("a", "b"):
        rows = await client("query", client=name, sql=f"SELECT id, {places} FROM grown")
        held = {one.pop("id"): one for one in rows}
        assert different(held, dict.fromkeys(("old", "new", "by the client"), expected)) == {}
    assert complaints(client) == []
