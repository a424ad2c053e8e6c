"""Any text whatever is understood or refused; nothing else happens."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from postgast import parse

from leyden.shapes.where import Claims, WhereError, parse_where
from where_clauses import TABLE, anything, clauses, edge_rows

ROWS = edge_rows(8)
CLAIMS = Claims("ann", {"a": "x"})


def check(text: str, collation_is_c: bool) -> None:
    refusal: WhereError | None = None
    try:
        predicate = parse_where(text, TABLE, collation_is_c=collation_is_c).bind(CLAIMS)
    except WhereError as error:
        refusal = error
    if refusal is not None:
        assert 0 <= refusal.position <= len(text)
        assert refusal.message.startswith(f"At location {refusal.position}: ")
        assert len(refusal.message) < 400
        return
    assert all(predicate.matches(row) in (True, False, None) for row in ROWS)
    # What is printed is one expression, whatever stands around it.
    printed = predicate.sql.as_string(None)
    select = parse(f"SELECT 1 WHERE NOT {printed} OR ({printed}) AND x").stmts[0].stmt.select_stmt
    assert [field.name for field, _ in select.ListFields()] == ["target_list", "where_clause", "limit_option", "op"]


@settings(max_examples=1500, deadline=None)
@given(text=anything(), collation_is_c=st.booleans())
def test_any_text_is_understood_or_refused(text: str, collation_is_c: bool) -> None:
    check(text, collation_is_c)


@settings(max_examples=300, deadline=None)
@given(text=clauses(5), cut=st.integers(0, 60), piece=st.text(max_size=3))
def test_a_damaged_clause_is_understood_or_refused(text: str, cut: int, piece: str) -> None:
    check(text, True)
    check(text[:cut] + piece + text[cut + 1 :], True)
