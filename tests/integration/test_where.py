"""A clause means what Postgres makes of it: in Python, in the SQL printed for it, and as its author wrote it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from operator import itemgetter
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from databases import fresh_database
from leyden.model import Row
from leyden.postgres.embedded import EmbeddedPostgres
from leyden.postgres.sessions import session_conninfo
from leyden.shapes.where import Claims, Predicate, WhereError, conjunction, owner_predicate, parse_where
from leyden.shapes.where.printing import Printer
from leyden.shapes.where.sqltypes import BY_NAME
from leyden.shapes.where.temporal import DIFFERENCES
from leyden.shapes.where.tree import Call, walk
from leyden.shapes.where.values import codec_of
from where_clauses import CASES, COLUMNS, LABELS, OUTCOMES, ROWS_CUT_SHORT, TABLE, clauses, edge_rows, row_of

NOBODY = Claims(None, {})


class Database:
    """A table ``items`` with rows, and what Postgres says of conditions on them."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self._conn = conn
        columns = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(name), sql.Identifier(kind)) for name, kind in COLUMNS.items()
        )
        conn.execute(sql.SQL("CREATE TYPE mood AS ENUM ({})").format(sql.SQL(", ").join(map(sql.Literal, LABELS))))
        conn.execute(sql.SQL("CREATE TABLE items (place int PRIMARY KEY, {})").format(columns))
        # One row at a time, because the client's text may raise an error for some rows.
        conn.execute("""
            CREATE FUNCTION outcome(clause text, wanted int) RETURNS text LANGUAGE plpgsql AS $$
            DECLARE result boolean;
            BEGIN
                EXECUTE 'SELECT (' || clause || E'\n) FROM items AS this WHERE place = $1' INTO result USING wanted;
                RETURN coalesce(result::text, 'null');
            EXCEPTION WHEN OTHERS THEN
                RETURN SQLSTATE;
            END $$
        """)
        self.rows: list[Row] = []

    def hold(self, rows: list[Row]) -> None:
        self._conn.execute("TRUNCATE items")
        form = sql.SQL("INSERT INTO items VALUES (%s{})").format(sql.SQL(", %s") * len(COLUMNS))
        with self._conn.cursor() as cursor:
            cursor.executemany(
                form,
                [(place, *(None if one is None else one.decode() for one in row)) for place, row in enumerate(rows)],
            )
        held = self._conn.execute("SELECT * FROM items ORDER BY place", binary=False)
        assert held.pgresult is not None
        self.rows = [
            tuple(held.pgresult.get_value(row, column + 1) for column in range(len(COLUMNS)))
            for row in range(held.pgresult.ntuples)
        ]

    def as_written(self, clause: str) -> list[str]:
        """``true``, ``false``, ``null`` or an SQLSTATE for each row."""
        found = self._conn.execute("SELECT outcome(%s, place) FROM items ORDER BY place", (clause,)).fetchall()
        return [outcome for (outcome,) in found]

    def run(self, query: sql.Composable) -> list[tuple[Any, ...]]:
        return self._conn.execute(query).fetchall()

    def read(self, text: str, kind: str) -> str:
        """``text`` as a value of type ``kind``, as Postgres prints it."""
        (printed,) = self.run(sql.SQL("SELECT {}::{}::text").format(sql.Literal(text), sql.Identifier(kind)))[0]
        return str(printed)

    def as_printed(self, predicate: Predicate) -> list[bool | None]:
        query = sql.SQL("SELECT {} FROM items AS this ORDER BY place").format(predicate.sql)
        return [value for (value,) in self.run(query)]

    def selected(self, predicate: Predicate) -> list[int]:
        query = sql.SQL("SELECT place FROM items AS this WHERE ({}) ORDER BY place").format(predicate.sql)
        return [place for (place,) in self.run(query)]


@pytest.fixture(scope="module")
def module_database(cluster: EmbeddedPostgres) -> Iterator[Database]:
    for dsn in fresh_database(cluster, "template1"):
        with psycopg.connect(session_conninfo(dsn), autocommit=True) as conn:
            yield Database(conn)


@pytest.fixture
def items(module_database: Database) -> Database:
    module_database.hold(edge_rows())
    return module_database


def depends_on_version(predicate: Predicate, row: Row) -> bool:
    """Whether timestamps are subtracted that are infinite or at the two ends of time: servers differ about that."""
    subtracts = any(isinstance(node, Call) and node.operation in DIFFERENCES.values() for node in walk(predicate.tree))
    extreme = re.compile(r"infinity|4714-|29427|5874")
    moments = [value.decode() for name, value in zip(COLUMNS, row, strict=True) if name in ("d", "ts", "tz") and value]
    return subtracts and any(map(extreme.search, [predicate.key, *moments]))


def agree(database: Database, clause: str) -> bool:
    """Whether the clause is understood; if so, the three ways must agree on every row."""
    try:
        predicate = parse_where(clause, TABLE, collation_is_c=True).bind(NOBODY)
    except WhereError:
        return False
    in_python = [predicate.matches(row) for row in database.rows]
    assert database.as_printed(predicate) == in_python, (clause, predicate.key)
    assert database.selected(predicate) == [place for place, value in enumerate(in_python) if value], clause
    as_written = database.as_written(clause)
    assert as_written[0] in ("true", "false", "null"), f"Postgres refuses it: {clause}: {as_written[0]}"
    for outcome, value, row in zip(as_written, in_python, database.rows, strict=True):
        if depends_on_version(predicate, row):
            continue
        if outcome not in ("true", "false", "null"):
            # Constant parts that depend on the session's time zone are not computed in advance by Postgres, and so
            # do not keep it from meeting the error in another part.
            if re.search("timestamptz|zone", clause, re.IGNORECASE):
                continue
            outcome = "false"  # an evaluation error
        assert outcome == {True: "true", False: "false", None: "null"}[value], (clause, row, predicate.key)
    for column, forms in predicate.equalities.items():
        place = list(COLUMNS).index(column)
        assert all(row[place] in forms for row, value in zip(database.rows, in_python, strict=True) if value), clause
    return True


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(clause=clauses())
def test_every_clause_that_is_understood_means_what_postgres_makes_of_it(items: Database, clause: str) -> None:
    agree(items, clause)


def test_every_case_has_the_recorded_result_in_sql(module_database: Database) -> None:
    understood = 0
    for clause, group in itertools.groupby(sorted(CASES["cases"], key=itemgetter("where")), key=itemgetter("where")):
        cases = list(group)
        # The values of a case may be written otherwise than Postgres writes them: what it holds is what counts.
        module_database.hold([row_of(case["row"]) for case in cases])
        try:
            predicate = parse_where(clause, TABLE, collation_is_c=True).bind(NOBODY)
        except WhereError:
            continue
        understood += 1
        printed = module_database.as_printed(predicate)
        for case, row, result in zip(cases, module_database.rows, printed, strict=True):
            expected = None if case["id"] in ROWS_CUT_SHORT else OUTCOMES[case["expect"]]
            assert (result, predicate.matches(row)) == (expected, expected), case
    assert understood > 90


OPERANDS = (
    *('this."{}"'.format(name.replace('"', '""')) for name in COLUMNS),
    "NULL",
    "'5'",
    "'2024-01-31'",
    "'00:00:05'",
    "7",
    "9223372036854775807",
    "2.5",
    "1.5::float4",
    "true",
    "interval '5 days'",
)


@pytest.mark.parametrize("sign", ["=", "<", "+", "-", "*", "/", "%", "&", "|", "#", "||", "LIKE"])
def test_operators_between_all_types_are_the_ones_that_postgres_chooses(module_database: Database, sign: str) -> None:
    module_database.hold(edge_rows(12))
    understood = 0
    for left, right in itertools.product(OPERANDS, OPERANDS):
        clause = f"{left} {sign} {right}"
        if sign not in ("=", "<", "LIKE"):
            clause = f"({clause}) IS NOT DISTINCT FROM ({clause})"
        understood += agree(module_database, clause)
    assert understood > 20


LISTS = (
    "1",
    "2.5",
    "'5'",
    "NULL",
    "9007199254740993",
    "0.1",
    "0.1::float8",
    "3::float4",
    "1::int2",
    "this.i4",
    "this.f8",
    "'0.1'::float4",
)


@pytest.mark.parametrize("operand", ["this.i2", "this.i4", "this.i8", "this.f4", "this.f8", "2.5", "'5'"])
def test_lists_of_mixed_numbers_have_the_type_that_postgres_gives_them(module_database: Database, operand: str) -> None:
    module_database.hold(edge_rows(25))
    understood = 0
    for first, second in itertools.product(LISTS, LISTS):
        understood += agree(module_database, f"{operand} IN ({first}, {second})")
        understood += agree(module_database, f"{operand} NOT IN ({first}, {second}, 7)")
    assert understood > 100


ERRORS = [
    ("this.i4 / this.i2 > 0", {"i4": "-2147483648", "i2": "-1"}),
    ("this.i4 / this.i2 > 0", {"i4": "-2147483647", "i2": "-1"}),
    ("this.i8 / this.i2 > 0", {"i8": "-9223372036854775808", "i2": "-1"}),
    ("this.i2 / (this.i2 / this.i2) > 0", {"i2": "-32768"}),
    ("this.i4 % this.i2 = 0", {"i4": "-2147483648", "i2": "-1"}),
    ("this.i4 / this.i2 > 0 OR this.b", {"i2": "0", "b": "t"}),
    ("this.i4 + this.i8 / this.i2 > 0 OR this.b", {"i8": "1", "i2": "0", "b": "t"}),
    ("this.i4 / this.i2 > 0 OR this.b", {"i2": "0", "i4": "1", "b": "t"}),
    ("this.i4 % this.i2 > 0 OR this.b", {"i2": "0", "b": "t"}),
    ("(this.i4 / this.i2) IN (NULL::int4, NULL::int4) OR this.b", {"i2": "0", "i4": "1", "b": "t"}),
    ("(this.i4 / this.i2) IN (NULL::int4) OR this.b", {"i2": "0", "i4": "1", "b": "t"}),
    *(
        (f"this.{column} {sign} {number} {rest}", {column: value})
        for column, value in (("i2", "32767"), ("i2", "-32768"), ("i4", "2147483647"), ("i4", "-2147483648"))
        for sign, number in (("+", "1::int2"), ("-", "1::int2"), ("*", "2::int2"), ("*", "-1::int2"), ("+", "0::int2"))
        for rest in ("> 0", "IS NOT NULL")
    ),
    *(
        (f"({sign}this.{column}) IS NOT NULL", {column: value})
        for column, value in (("i2", "-32768"), ("i4", "-2147483648"), ("i8", "-9223372036854775808"), ("i2", "-32767"))
        for sign in "-@~"
    ),
    # 2^970 is half a unit in the last place of the greatest float8, 2^103 that of the greatest float4.
    *(
        (f"this.f8 {sign} '{first}{number}'::float8 > 0", {"f8": f"{first}1.7976931348623157e+308"})
        for sign in "+-"
        for first in ("", "-")
        for number in (
            "9.979201547673599e+291",
            "9.979201547673598e+291",
            "1.7976931348623157e+308",
            "Infinity",
            "5e-324",
        )
    ),
    *(
        (f"this.f4 {sign} '{first}{number}'::float4 > 0", {"f4": f"{first}3.4028235e+38"})
        for sign in "+-"
        for first in ("", "-")
        for number in ("1.0141205e+31", "1.0141204e+31", "3.4028235e+38", "Infinity", "1e-45")
    ),
    *(
        (f"this.f8::{kind} IS NOT NULL", {"f8": value})
        for kind, values in (
            ("int2", ("32767.5", "32767.499999999996", "-32768.5", "-32768.50000000001")),
            ("int4", ("2147483647.5", "2147483647.4999998", "-2147483648.5", "-2147483648.5000005")),
            ("int8", ("9.223372036854776e+18", "9.223372036854775e+18", "-9.223372036854776e+18", "NaN", "-Infinity")),
        )
        for value in values
    ),
    *(
        (f"this.f4::int2 = {number}", {"f4": value})
        for number, value in ((0, "0.5"), (2, "1.5"), (2, "2.5"), (-2, "-2.5"))
    ),
    ("this.f4::int2 IS NOT NULL", {"f4": "32767.5"}),
    *((f"{text}::int4 = {number}", {}) for text, number in (("2.5", 3), ("(-2.5)", -3), ("3.5", 4), ("0.4", 0))),
    ("this.t::int2 = 1 OR this.b", {"t": "32768", "b": "t"}),
    ("this.t::int2 = 1 OR this.b", {"b": "t"}),
    # one constant is compared in its turn, two or more before the others
    *(
        (f"this.i2 IN ({items})", {"i2": "0", "i4": "1", "t": "x"})
        for items in ("this.i4, this.t::int4, 0", "this.t::int4, 0, 7", "0, this.t::int4", "this.t::int4, 0")
    ),
    ("this.t::int4 = -2147483648", {"t": " -2147483648 "}),
    ("this.d + this.i4 > '2000-01-01'", {"d": "5874897-12-31", "i4": "1"}),
    ("this.d - this.i4 > '2000-01-01'", {"d": "4714-11-24 BC", "i4": "1"}),
    ("this.d - this.i4 > '2000-01-01'", {"d": "4714-11-24 BC", "i4": "0"}),
    ("this.d - this.i4 > '2000-01-01'", {"d": "2000-01-01", "i4": "-2147483648"}),
    ("this.d - '2000-01-01' > 0", {"d": "infinity"}),
    ("this.d::timestamp > '2000-01-01'", {"d": "294277-01-01"}),
    ("this.d::timestamptz > '2000-01-01'", {"d": "infinity"}),
    *(
        (f"this.ts {sign} interval '{interval}' > '2000-01-01'", {"ts": moment})
        for sign in "+-"
        for interval in ("1 month", "13 months", "1 day", "1 second", "-1 month 31 days")
        for moment in (
            "4714-11-24 00:00:00 BC",
            "4714-12-24 00:00:00 BC",
            "4714-12-23 23:59:59.999999 BC",
            "4713-12-24 00:00:00 BC",
            "4714-11-25 00:00:00 BC",
            "4714-11-24 00:00:01 BC",
            "294276-12-31 23:59:59.999999",
            "294276-11-30 23:59:59.999999",
            "294276-12-01 00:00:00",
            "294275-11-30 00:00:00",
            "294276-12-30 23:59:59.999999",
            "294276-12-31 23:59:58.999999",
            "infinity",
            "-infinity",
        )
    ),
]


@pytest.mark.parametrize(("clause", "values"), ERRORS)
def test_an_error_is_foreseen_exactly_where_postgres_raises_one(
    module_database: Database, clause: str, values: dict[str, str]
) -> None:
    module_database.hold([row_of({}), row_of(values)])

    assert agree(module_database, clause)


@pytest.mark.parametrize(
    "clause", ["{} OR this.b", "this.b OR {}", "NOT ({}) AND this.b", "({}) IS TRUE", "({}) IS NULL"]
)
def test_no_error_depends_on_the_order_in_which_postgres_evaluates(module_database: Database, clause: str) -> None:
    module_database.hold([row_of({"i4": "1", "i2": "0", "t": "x", "b": "t"})])
    for failing in (
        "this.i4 / this.i2 = 1",
        "this.t::int4 + 1 IN (1, 2)",
        "this.i4 % this.i2 IS NULL",
        "this.t LIKE this.v",
    ):
        tree = parse_where(clause.format(failing), TABLE, collation_is_c=True).bind(NOBODY).tree
        # Without the question whether it will fail, which the whole predicate asks first.
        module_database.run(sql.SQL("SELECT {} FROM items AS this").format(Printer(careful=True).value(tree)))


# ---- literals ---------------------------------------------------------------------------------------------------

_NUMBERS = st.one_of(
    st.from_regex(r"[ \t]?[+-]?[0-9]{1,20}(\.[0-9]{0,10})?([eE][+-]?[0-9]{1,3})?[ \n]?", fullmatch=True),
    st.sampled_from(
        [
            "2147483647",
            "2147483648",
            "-32769",
            "9223372036854775808",
            "33554433.5",
            "3.4028235677973366e38",
            "3.4028235e38",
            "7.0064923e-46",
            "1e-46",
            "1.7976931348623157e308",
            "1.7976931348623159e308",
            "4.9e-324",
            "2e-324",
            "9007199254740993",
            "NaN",
            "-inf",
            "+Infinity",
            ".",
            "5.",
            ".5",
            "1e",
            "++1",
            "0x10",
            "1_0",
        ]
    ),
)
_CLOCKS = st.from_regex(
    r"(00|10|12|13|23|24|25):(00|30|59|60)(:(00|30|59|60)(\.(5|9999995|0000004|0000005|[0-9]{1,9}))?)?", fullmatch=True
)
_ZONES = st.sampled_from(["", "", "Z", "z", "+02", "-05:30", "+0530", "+15:59", "+16", " +02", "+02:60"])
_DATES = st.from_regex(
    r"(2024|2023|1999|0001|0000|12345|294276|294277|5874897|5874898|4713|4714|02024|24)"
    r"-(01|02|11|12|13|00|1)-(01|15|23|24|28|29|30|31|32|00)",
    fullmatch=True,
)
_MOMENTS = st.one_of(
    st.tuples(_DATES, st.sampled_from(["", "", " BC", " AD"])).map("".join),
    st.tuples(_DATES, st.sampled_from([" ", "T", "t", "  "]), _CLOCKS, _ZONES, st.sampled_from(["", "", " BC"])).map(
        "".join
    ),
    st.sampled_from(["infinity", "-Infinity", "+infinity", "now", "epoch", "today", "", " 2024-01-31\n"]),
)
_INTERVALS = st.lists(
    st.one_of(
        st.from_regex(
            r"[+-]?[0-9]{1,4} ?(years?|yr|mons?|months?|weeks?|days?|hours?|mins?|minutes?|secs?|seconds?|h)",
            fullmatch=True,
        ),
        st.from_regex(r"[+-]?[0-9]{1,4}:(00|30|59|60)(:(00|30|59|60)(\.[0-9]{1,7})?)?", fullmatch=True),
    ),
    min_size=1,
    max_size=4,
).map(" ".join) | st.from_regex(r"[+-]?[0-9]{1,8}", fullmatch=True)
READERS = {
    "bool": st.from_regex(r"[ \t]?(true|tru|T|false|fa|yes|YE|no|on|o|off|of|1|0|10|)[ ]?", fullmatch=True),
    "int2": _NUMBERS,
    "int4": _NUMBERS,
    "int8": _NUMBERS,
    "numeric": _NUMBERS,
    "float4": _NUMBERS,
    "float8": _NUMBERS,
    "uuid": st.from_regex(r"\{?([0-9a-fA-F]{4}-?){7}[0-9a-fA-F]{4}-?\}?", fullmatch=True),
    "date": _MOMENTS,
    "timestamp": _MOMENTS,
    "timestamptz": _MOMENTS,
    "time": st.one_of(_CLOCKS, _MOMENTS, st.tuples(_CLOCKS, st.sampled_from([" PM", "am", "+02"])).map("".join)),
    "interval": _INTERVALS,
}


@pytest.mark.parametrize("kind", READERS)
def test_what_is_read_as_a_literal_is_the_value_that_postgres_reads(module_database: Database, kind: str) -> None:
    codec = codec_of(BY_NAME[kind])
    assert codec is not None

    @settings(max_examples=150, deadline=None)
    @given(text=READERS[kind])
    def check(text: str) -> None:
        try:
            value = codec.read(text)
        except ValueError:
            return  # refused, whether or not Postgres would take it
        assert module_database.read(text, kind) == module_database.read(codec.form(value), kind)

    check()


# ---- where servers and locales differ ---------------------------------------------------------------------------

SELDOM = [
    ("this.t ILIKE '%bul'", {"t": "\u0130stanbul"}),
    ("this.t ILIKE 'i%'", {"t": "\u0130stanbul"}),
    ("lower(this.t) = 'k'", {"t": "\u212a"}),
    ("lower(this.t) <> 'x'", {"t": "\u212a\u0130"}),
    ("lower(this.t) <> 'k'", {"t": "\u212a"}),
    ("this.t NOT ILIKE 'i%'", {"t": "\u0130stanbul"}),
    ("upper(this.t) <> 'STRASSE'", {"t": "stra\u00dfe"}),
    ("this.t NOT ILIKE '_'", {"t": "\u0130"}),
    ("upper(this.t) = 'STRASSE'", {"t": "stra\u00dfe"}),
    ("upper(this.t) IN ('X', 'MASSE')", {"t": "ma\u00dfe"}),
    ("upper(this.t) <> 'X'", {"t": "\ufb01\u017f\u0131"}),
    ("this.t LIKE this.v", {"t": "b", "v": "a\\"}),
    ("this.t NOT LIKE this.v", {"t": "b", "v": "%" * 1001}),
    ("this.ts - this.tz > interval '1 day'", {"ts": "infinity", "tz": "2024-01-31 10:00:00+00"}),
    ("this.ts - this.tz > interval '1 day'", {"ts": "294276-12-31 23:59:59", "tz": "4714-11-24 00:00:00+00 BC"}),
    ("this.t::int4 = 16", {"t": "0x10"}),
    ("this.t::int4 = 10 OR this.b", {"t": "1_0", "b": "t"}),
    ("this.f8 + this.f8 > 1", {"f8": "1.7976931348623157e+308"}),
    ("this.b OR this.i4 / this.i2 = 1", {"b": "t", "i4": "1", "i2": "0"}),
    ("this.i4 / this.i2 = 1 OR this.b", {"b": "t", "i4": "1", "i2": "0"}),
]


@pytest.mark.parametrize(("clause", "values"), SELDOM)
def test_python_and_sql_agree_even_where_servers_or_locales_do_not(
    module_database: Database, clause: str, values: dict[str, str]
) -> None:
    module_database.hold([row_of(values)])
    predicate = parse_where(clause, TABLE, collation_is_c=False).bind(NOBODY)

    assert module_database.as_printed(predicate) == [predicate.matches(row) for row in module_database.rows]


def test_columns_with_a_collation_of_their_own_are_compared_by_that_of_the_database(cluster: EmbeddedPostgres) -> None:
    """As the live stream compares them, which knows of no other. Two of them together Postgres would not compare."""
    clauses = (
        "this.t = 'a'", "this.t <> 'a'", "this.t IN ('a', 'x')", "this.t LIKE 'a%'", "this.t < 'B'", "this.t = this.v",
        "this.t || this.v = 'aA'", "this.v BETWEEN 'A' AND 'Z'", "lower(this.t) = 'a'", "this.t ILIKE 'A'",
        "this.t::int4 = 16", "NOT (this.t = 'A') OR this.v IS NULL",
    )  # fmt: skip
    for dsn in fresh_database(cluster, "template1"):
        with psycopg.connect(session_conninfo(dsn), autocommit=True) as conn:
            database = Database(conn)
            conn.execute('ALTER TABLE items ALTER t TYPE text COLLATE ucs_basic, ALTER v TYPE varchar COLLATE "C"')
            database.hold(
                [row_of({"t": t, "v": v}) for t, v in itertools.product(("a", "A", "b", "B", "16"), repeat=2)]
            )
            for clause in clauses:
                predicate = parse_where(clause, TABLE, collation_is_c=True).bind(NOBODY)
                assert database.as_printed(predicate) == [predicate.matches(row) for row in database.rows], clause


@pytest.mark.parametrize("clause", ["this.t = 'x'", "this.v IN ('x', 'y')", "this.t = 'x' AND this.i4 = 1"])
def test_an_index_on_a_text_is_used(cluster: EmbeddedPostgres, clause: str) -> None:
    for dsn in fresh_database(cluster, "template1"):
        with psycopg.connect(session_conninfo(dsn), autocommit=True) as conn:
            database = Database(conn)
            conn.execute("CREATE INDEX by_t ON items (t); CREATE INDEX by_v ON items (v); SET enable_seqscan = off")
            predicate = parse_where(clause, TABLE, collation_is_c=True).bind(NOBODY)
            plan = database.run(sql.SQL("EXPLAIN SELECT FROM items AS this WHERE {}").format(predicate.sql))
            assert "Index Cond" in str(plan), plan


# ---- ownership, claims, injection -------------------------------------------------------------------------------


def test_a_client_has_the_rows_of_its_user_and_those_of_nobody(module_database: Database) -> None:
    module_database.hold([row_of({"electric_user_id": user}) for user in ("ann", "bob", "")] + [row_of({})])
    own = owner_predicate(TABLE, "ann")
    assert own is not None

    assert module_database.selected(own) == [0, 2, 3]
    assert [place for place, row in enumerate(module_database.rows) if own.matches(row)] == [0, 2, 3]


ESCAPES = [
    "this.t = 'a' OR true --",
    "this.t = 'a' /* ' OR true */",
    "this.t = ''') OR true --'",
    "this.t = E'\\') OR true --'",
    "this.t = '\\' OR true --'",
    "this.t = $q$') OR true --$q$",
    'this."quo""te" = 1 -- ")',
    "this.t IN ('''', '\\', ''')--')",
    "this.t LIKE '\\\\' OR true --%'",
    "this.t <> 'a) OR (true' OR true",
]


@pytest.mark.parametrize("clause", ESCAPES)
def test_no_text_reaches_beyond_its_own_condition(module_database: Database, clause: str) -> None:
    module_database.hold([row_of({"t": "a", "electric_user_id": "bob"}), row_of({"t": "a", "electric_user_id": "ann"})])
    own = owner_predicate(TABLE, "ann")
    assert own is not None
    asked = parse_where(clause, TABLE, collation_is_c=True).bind(NOBODY)

    query = sql.SQL("SELECT place FROM items AS this WHERE ({}) AND ({})").format(asked.sql, own.sql)
    assert 0 not in [place for (place,) in module_database.run(query)]
    assert 0 not in module_database.selected(conjunction(asked, own))


def test_claims_are_bound_as_values(module_database: Database) -> None:
    hostile = "x\\' OR true --"
    module_database.hold([row_of({"t": hostile}), row_of({"t": "y"})])
    where = parse_where("this.t = auth.sub AND this.v IS NULL", TABLE, collation_is_c=False)
    predicate = where.bind(Claims(hostile, {}))

    assert module_database.selected(predicate) == [0]
    assert [bool(predicate.matches(row)) for row in module_database.rows] == [True, False]
