"""The recorded cases: each clause with a row, and what Postgres made of them."""

from __future__ import annotations

from typing import Any

import pytest

from leyden.shapes.where import Claims, WhereError, parse_where
from where_clauses import CASES, OUTCOMES, ROWS_CUT_SHORT, TABLE, row_of

NOBODY = Claims(None, {})


def name_of(case: dict[str, Any]) -> str:
    return f"{case['id']}"


def must_be_refused(case: dict[str, Any]) -> bool:
    return case["tier"] == "refuse" or (case["expect"] == "error" and case["when"] == "parse")


@pytest.mark.parametrize("case", [case for case in CASES["cases"] if must_be_refused(case)], ids=name_of)
def test_what_postgres_refuses_or_we_do_not_offer_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(WhereError, match=r"^At location [0-9]+: \w"):
        parse_where(case["where"], TABLE, collation_is_c=True)


@pytest.mark.parametrize("case", [case for case in CASES["cases"] if not must_be_refused(case)], ids=name_of)
def test_a_clause_has_postgres_own_result_or_is_refused(case: dict[str, Any]) -> None:
    try:
        where = parse_where(case["where"], TABLE, collation_is_c=True)
    except WhereError:
        assert case["where"] in ("this.t ILIKE '%İ%'", "this.i8 = 2 ^ 3"), "refused, but not meant to be"
        return
    expected = None if case["id"] in ROWS_CUT_SHORT else OUTCOMES[case["expect"]]
    assert where.bind(NOBODY).matches(row_of(case["row"])) is expected
