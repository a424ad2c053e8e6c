"""A table with every type of column, rows of edge values, and a generator of clauses, for the tests of ``where``."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy, composite

from leyden.model import Column, EnumType, Row, Table

CASES: dict[str, Any] = json.loads((Path(__file__).parent / "fixtures" / "where-cases.json").read_text("utf-8"))
COLUMNS: dict[str, str] = CASES["meta"]["columns"]
LABELS: list[str] = CASES["meta"]["enum mood"]
TABLE = Table(
    1,
    "items",
    tuple(Column(name, kind, False, is_enum=kind == "mood") for name, kind in COLUMNS.items()),
    ("id",),
    "items_pkey",
    enums=(EnumType("mood", tuple(LABELS)),),
)

#: Two cases that lost the column they speak of when their rows were shortened (the clause spells it ``THIS.T``).
ROWS_CUT_SHORT = {294, 295}

#: What ``matches`` gives for each outcome of a case; an evaluation error is no match.
OUTCOMES = {"true": True, "false": False, "null": None, "error": False}


def row_of(values: dict[str, str]) -> Row:
    """A row of :data:`TABLE`; columns that are not named are NULL. The values must be in Postgres' own text form."""
    return tuple(None if (text := values.get(name)) is None else text.encode() for name in COLUMNS)


# ---- edge values ------------------------------------------------------------------------------------------------

_TEXTS = (
    "", "a", "A", "abc", "ABC", "b", "ab", "a b", " a", "a ", "aXb", "a_b", "a%b", "50% off", "50%", "a\nb", "\n",
    "é", "É", "éa", "🙂", "🙂a", "\\\\", "a\\_", "\\%", "%", "_b", "it's", '"', "5", " 7 ", "-12", "+3", "--1", "007",
    "99999999999", "-9223372036854775808", "9223372036854775808", "x1", "1.5", "true", "t", "NULL", "2024-01-31",
    "00000000-0000-0000-0000-00000000000a", "0" * 40 + "5", "aaaaaaaaab",
)  # fmt: skip
_EDGES = {
    "uuid": (
        "00000000-0000-0000-0000-000000000000",
        "00000000-0000-0000-0000-00000000000a",
        "00000000-0000-0000-0000-000000000b00",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
    ),
    "int2": ("0", "1", "-1", "2", "3", "5", "7", "-7", "100", "32767", "-32768"),
    "int4": (
        "0", "1", "-1", "2", "3", "5", "-5", "7", "100", "32768", "40000", "2147483647", "-2147483648", "-2147483647",
    ),
    "int8": (
        "0", "1", "-1", "2", "3", "5", "7", "2147483648", "9007199254740992", "9007199254740993",
        "9223372036854775807", "9223372036854775806", "-9223372036854775808",
    ),
    "float4": (
        "0", "-0", "1", "-1", "0.5", "1.5", "2.5", "-2.5", "0.1", "3", "16777216", "3.4028235e+38", "-3.4028235e+38",
        "1e-45", "NaN", "Infinity", "-Infinity", "32767.5", "2.1474836e+09",
    ),
    "float8": (
        "0", "-0", "1", "-1", "0.5", "1.5", "2.5", "-2.5", "0.1", "0.10000000149011612", "3", "9007199254740992",
        "1e+300", "1.7976931348623157e+308", "-1.7976931348623157e+308", "9.979201547673599e+291", "5e-324", "NaN",
        "Infinity", "-Infinity", "2147483647.5", "-2147483648.5", "9.223372036854776e+18", "32767.5",
    ),
    "bool": ("t", "f"),
    "text": _TEXTS,
    "varchar": _TEXTS,
    "date": (
        "2024-01-31", "2024-02-29", "2000-01-01", "1999-12-31", "0044-03-15 BC", "0001-01-01", "4714-11-24 BC",
        "294276-12-31", "294277-01-01", "5874897-12-31", "infinity", "-infinity",
    ),
    "time": ("00:00:00", "01:00:00", "10:00:00", "12:34:56.789", "22:00:00", "23:59:59.999999", "24:00:00"),
    "timestamp": (
        "2024-01-31 00:00:00", "2024-01-31 10:00:00", "2024-03-31 00:00:00", "2024-02-29 23:59:59.999999",
        "2000-01-01 00:00:00", "1999-12-31 23:59:59.999999", "0044-03-15 12:00:00 BC", "4714-11-24 00:00:00 BC",
        "294276-12-31 23:59:59.999999", "294276-11-30 12:00:00", "4713-01-31 00:00:00 BC", "infinity", "-infinity",
    ),
    "jsonb": ("{}", "null", '{"a": 1}', "[1, 2]", '"a"'),
    "bytea": ("\\x", "\\x00ff"),
    "mood": tuple(LABELS),
}  # fmt: skip
_EDGES["timestamptz"] = tuple(
    text if "infinity" in text else text.replace(" BC", "") + "+00" + (" BC" if " BC" in text else "")
    for text in _EDGES["timestamp"]
)


def edge_rows(count: int = 60) -> list[Row]:
    """The same rows each time: one of NULLs, then any mixture of edge values, each often enough to meet the others."""
    chance = random.Random(count)
    rows: list[Row] = [tuple(None for _ in COLUMNS)]
    for _ in range(count - 1):
        rows.append(
            tuple(None if chance.random() < 0.06 else chance.choice(_EDGES[kind]).encode() for kind in COLUMNS.values())
        )
    return rows


# ---- clauses ----------------------------------------------------------------------------------------------------


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


#: What can stand where a value of a kind is wanted, by the kind: columns, and literals with and without a type.
_LEAVES: dict[str, tuple[str, ...]] = {
    "number": (
        "this.i2", "this.i4", "this.i8", "this.f4", "this.f8", "0", "1", "-1", "2", "3", "5", "7", "100", "32767",
        "-32768", "40000", "2147483647", "-2147483648", "2147483648", "9007199254740993", "9223372036854775807",
        "-9223372036854775808", "9223372036854775808", "0.1", "0.5", "1.5", "-2.5", "2.50", "1e300", "1e-5", "3.0",
        "'5'", "'1'", "'0.1'", "'-2.5'", "'NaN'", "'Infinity'", "' 7 '", "NULL", "'0.1'::float4", "'0.1'::float8",
        "2::int2", "5::int8", "1.5::numeric", "3::float4", "NULL::int4", "float8 '1e300'", "'2.5'::float8",
        "length(this.t)", "this.t::int4", "this.v::int8", "this.t::int2", "this.b::int4", "length('äb')",
    ),
    "text": (
        "this.t", "this.v", *(quoted(text) for text in _TEXTS), "NULL", "'a'::text", "'a'::varchar", "E'a\\nb'",
        "NULL::text", "lower(this.t)", "upper(this.v)", "lower('ABC')",
    ),
    "pattern": (
        "this.t", "this.v", *map(quoted, (
            "", "%", "_", "a%", "%a", "%a%", "A%", "a_b", "a\\_b", "50\\%%", "50\\%", "_%", "%_", "__", "a%b", "%b%",
            "\\\\", "%\\\\", "é", "_a", "é%", "🙂_", "a%%b", "%a_b%", "a%a%b", "\\a", "%_b", "%\n%", "_\n_",
        )),
    ),
    "uuid": (
        "this.u", "this.id", "'00000000-0000-0000-0000-00000000000A'", "'ffffffffffffffffffffffffffffffff'",
        "'{00000000-0000-0000-0000-000000000000}'", "NULL", "uuid '00000000-0000-0000-0000-000000000b00'",
    ),
    "moment": (
        "this.d", "this.ts", "this.tz", "'2024-01-31'", "'2024-01-31T10:00:00.000Z'", "'2024-02-29 23:59:59.9999996'",
        "'infinity'", "'-infinity'", "'2024-01-31 12:00:00+02'", "'0044-03-15 BC'", "date '2024-01-31'",
        "timestamp '2024-01-31 10:00:00'", "timestamptz '2024-01-31 10:00:00-05:30'", "'294276-12-31'::date",
        "'4714-11-24 BC'::timestamp", "NULL", "NULL::date", "this.ts::date", "this.tz::timestamp",
        "timezone('UTC', this.ts)", "this.tz AT TIME ZONE 'utc'",
    ),
    "time": (
        "this.tm", "'10:00 PM'", "'24:00'", "time '01:00'", "'12:34:56.789'", "NULL", "this.ts::time",
        "'2024-01-31 22:00:00Z'", "'10:00+02'",
    ),
    "bool": (
        "this.b", "true", "false", "'t'", "'yes'", "' off '", "NULL", "NULL::bool", "'1'::bool", "1::bool",
        "this.i4::bool",
    ),
    "mood": ("this.e", "'sad'", "'happy'", "'ok'::mood", "NULL"),
    "interval": (
        "interval '1 day'", "interval '1 month'", "interval '-1 month 2 days 03:04:05.6'", "interval '1 year'",
        "interval '-3 hours'", "'25 hours'::interval", "interval '40 days'", "interval '1000 years'", "interval '0'",
        "NULL::interval", "justify_hours(interval '30 hours')", "justify_interval('1 month -1 hour')",
        "interval '1 mon' + interval '2 days'", "- interval '1 day'", "'1 day'", "(this.tm - '01:00')",
    ),
    "joint": ("AND", "AND", "OR", "OR"),
    "test": ("TRUE", "NOT TRUE", "FALSE", "NOT FALSE", "UNKNOWN", "NOT UNKNOWN", "NULL", "NOT NULL"),
    "compared": ("=", "<>", "!=", "<", "<=", ">", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"),
    "between": ("BETWEEN", "NOT BETWEEN", "BETWEEN SYMMETRIC", "NOT BETWEEN SYMMETRIC"),
    "like": ("LIKE", "LIKE", "NOT LIKE", "ILIKE", "NOT ILIKE"),
    "column": tuple('this."' + name.replace('"', '""') + '"' for name in COLUMNS),
}  # fmt: skip

_VALUES = ("number", "text", "uuid", "moment", "time", "bool", "mood", "interval")

#: Larger expressions by kind; what is in angle brackets is a kind again.
_SHAPES: dict[str, tuple[str, ...]] = {
    "number": (
        *(f"(<number> {sign} <number>)" for sign in "+-*/%&|#"), *(f"({sign} <number>)" for sign in "-+@~"),
        *(f"(<number>)::{kind}" for kind in ("int2", "int4", "int8", "float4", "float8", "numeric")),
        "(<moment> - <moment>)", "length(<text>)",
    ),
    "text": (
        "(<text> || <text>)", "(<text> || <number>)", "(<bool> || <text>)", "(<number>)::text", "(<moment>)::text",
        "(<uuid>)::text", "(<time>)::text", "(<mood>)::text",
    ),
    "moment": (
        "(<moment> + <interval>)", "(<moment> - <interval>)", "(<interval> + <moment>)", "(<moment> + <number>)",
        "(<moment> - <number>)", "(<number> + <moment>)", "(<moment>)::date", "(<moment>)::timestamp",
        "(<moment>)::timestamptz",
    ),
    "time": ("(<time> + <interval>)", "(<time> - <interval>)", "(<interval> + <time>)"),
    "interval": ("(<moment> - <moment>)", "(<time> - <time>)"),
    "bool": ("(<clause>)",),
    "clause": (
        *("<clause> <joint> <clause>", "(<clause> <joint> <clause>)", "<clause> <joint> <clause> <joint> <clause>") * 4,
        *("NOT (<clause>)", "(<clause>) IS <test>", "<text> <like> <pattern>") * 3,
        "<bool>", "<column> IS NULL", "<column> IS NOT NULL",
        *(
            shape.replace("<x>", f"<{kind}>")
            for kind in (*_VALUES, "number", "number", "moment")
            for shape in (
                "<x> <compared> <x>", "<x> <compared> <x>", "<x> IN (<x>)", "<x> NOT IN (<x>, <x>)",
                "<x> IN (<x>, <x>, <x>)", "<x> <between> <x> AND <x>",
            )
        ),
    ),
}  # fmt: skip


@composite
def expressions(draw: st.DrawFn, kind: str, depth: int) -> str:
    """An expression that mostly is of ``kind``, and now and then is of another."""
    if kind in _VALUES and draw(st.integers(0, 24)) == 0:
        kind = draw(st.sampled_from(_VALUES))
    if depth <= 0 and kind == "clause":
        kind = "bool"
    leaves, shapes = _LEAVES.get(kind, ()), _SHAPES.get(kind, ())
    text = draw(st.sampled_from(shapes if shapes and depth > 0 and (not leaves or draw(st.booleans())) else leaves))
    return re.sub("<([a-z]+)>", lambda found: draw(expressions(found[1], depth - 1)), text)


def clauses(depth: int = 4) -> SearchStrategy[str]:
    """A boolean expression in the language, most of the time."""
    return expressions("clause", depth)


def anything() -> SearchStrategy[str]:
    """Texts that are mostly not clauses: pieces of the grammar in any order, and any characters."""
    pieces = st.sampled_from(
        (
            "this", ".", "t", "i4", "this.t", "this.i4", "auth.sub", "auth.claims", "->>", "->", "'a'", "'", '"',
            "1", "-", "0x1f", "1_0", "2.5", "(",
            ")", ",", "[", "]", ";", "*", "=", "<>", "AND", "OR", "NOT", "IN", "LIKE", "IS", "NULL", "TRUE",
            "BETWEEN", "SYMMETRIC", "DISTINCT",
            "FROM", "::", "int4", "text", "interval", "'1 day'", "CASE", "WHEN", "THEN", "END", "SELECT", "UNION",
            "ALL", "ANY", "ARRAY",
            "lower", "timezone", "AT TIME ZONE", "'UTC'", "COLLATE", '"C"', "--", "/*", "*/", "$1", "||", "+", "/",
            "%", "@", "~", "ORDER BY",
            "LIMIT", "GROUP BY", "FOR UPDATE", "WINDOW", "ROW", "EXISTS", "INTO", "é", "🙂", "\n", "E'\\n'",
            "U&'\\0061'", "$$", "B'1'", "X'1'",
            "OPERATOR(pg_catalog.=)", "current_date", "now()", "coalesce", "ISNULL", "OVERLAPS", "IS JSON",
            "XMLPARSE", "FILTER", "OVER",
        )
    )  # fmt: skip
    return st.one_of(
        st.lists(pieces, max_size=25).map(" ".join),
        st.lists(pieces, max_size=12).map("".join),
        st.text(max_size=60),
        st.text(alphabet=st.characters(codec=None, exclude_categories=()), max_size=20),
    )
