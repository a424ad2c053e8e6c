"""An explanation is the service's own judgement with its reasons, check by check."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filtered_items import FILTERS, ITEMS, ROWS
from leyden.auth import Check
from leyden.model import Column, ForeignKey, Locale, Row, Table
from leyden.shapes.explanation import (
    Explanation,
    explain_absence,
    explain_count,
    explain_refusal,
    explain_row,
)
from leyden.shapes.understanding import Asked, Client, ClientNeeded, Facts, Understanding, understand
from leyden.shapes.where import Claims
from views import BYTES, group

NOTES = Table(
    2,
    "notes",
    (Column("id", "int4", True), Column("text", "text", False), Column("electric_user_id", "text", False)),
    ("id",),
    "notes_pkey",
)
TABLES = {table.name: table for table in (ITEMS, NOTES)}
GOOD = Check("token is good", "pass")
FACTS = Facts(TABLES, BYTES)
ANN = Client(Claims("ann", {"sub": "ann", "n": 1.5}), (GOOD,))
SOMEBODY = Client(Claims(None, {}), (Check("token is good", "skipped"),), named=False)


def asked(table: str = "items", where: str = "", client: Client = ANN, facts: Facts = FACTS) -> Understanding:
    return understand(Asked(table, where, client), facts)


def outcomes(explanation: Explanation | Understanding) -> dict[str, str]:
    return {check.name: check.outcome for check in explanation.checks}


def detail(explanation: Explanation | Understanding, name: str) -> str | None:
    (check,) = [check for check in explanation.checks if check.name == name]
    return check.detail


# ---- the subscription -------------------------------------------------------------------------------------------


def test_every_check_of_a_subscription_is_listed_in_order() -> None:
    understanding = asked("notes", "this.text = auth.sub")

    assert outcomes(understanding) == {
        "table is electrified": "pass",
        "rows of the table are delivered": "pass",
        "token is good": "pass",
        "filter is understood": "pass",
        "claims that the filter uses": "pass",
        "rows have an owner": "pass",
    }
    assert understanding.shape is not None
    assert detail(understanding, "table is electrified") == '"notes", 3 columns, primary key id'
    assert detail(understanding, "filter is understood") == "this.text = auth.sub"
    assert detail(understanding, "claims that the filter uses") == "auth.sub is 'ann'"
    assert detail(understanding, "rows have an owner") == (
        "the client gets those whose electric_user_id is 'ann', NULL or an empty text"
    )


@pytest.mark.parametrize("where", FILTERS)
def test_the_shape_is_the_one_that_the_service_makes(where: str) -> None:
    shape = asked("items", where).shape
    assert shape is not None
    assert shape.root == group(ITEMS, where, ANN.claims)


@pytest.mark.parametrize(
    ("table", "facts", "why"),
    [
        (
            "todos",
            FACTS,
            "the table \"todos\" is not shared with clients: CALL electric.electrify('todos') shares it",
        ),
        ("todos", Facts(TABLES, BYTES, present=False), 'there is no table "todos" in schema public'),
        (
            "public.ITEMS",
            Facts(TABLES, BYTES, present=False),
            'there is no table "public.ITEMS" in schema public; did you mean "items"?',
        ),
        (
            "items",
            Facts(TABLES, BYTES, suspended="it was dropped"),
            "its rows are not delivered, because it was dropped; undo that, or give the table up with leyden.disable"
            " and electrify it again",
        ),
    ],
)
def test_a_table_that_is_not_served_ends_the_checks(table: str, facts: Facts, why: str) -> None:
    explanation = explain_refusal(asked(table, "nonsense", facts=facts))

    assert (explanation.verdict, explanation.reaches) == ("refused", False)
    assert explanation.sentence == f"Refused, so that no row reaches the client: {why}"
    assert list(outcomes(explanation).values()).count("fail") == 1
    assert set(list(outcomes(explanation).values())[2:]) == {"skipped"}


def test_a_client_that_is_not_let_in_ends_the_checks() -> None:
    refused = Client(
        Claims(None, {}), (Check("token is good", "fail", "expired"), Check("token is not revoked", "skipped"))
    )
    explanation = explain_refusal(asked("notes", "nonsense", refused))

    assert explanation.sentence == "Refused, so that no row reaches the client: expired"
    assert list(outcomes(explanation).values()) == ["pass", "pass", "fail", "skipped", "skipped", "skipped", "skipped"]


@pytest.mark.parametrize(
    ("where", "position", "message"),
    [
        ("this.n = 1 AND now() = 1", 15, "At location 15: the function now is not supported"),
        ("this.owner < 'a'", 11, "At location 11: the order of texts depends on the database's collation"),
        (" ", 1, "At location 1: syntax error"),
    ],
)
def test_a_filter_that_is_refused_has_its_place(where: str, position: int, message: str) -> None:
    explanation = explain_refusal(asked("items", where, facts=Facts(TABLES, Locale(order_is_bytes=False))))

    assert explanation.position == position
    assert explanation.sentence.startswith(f"Refused, so that no row reaches the client: {message}")
    assert outcomes(explanation)["filter is understood"] == "fail"


def test_a_locale_in_which_filters_are_not_supported_refuses_them_and_no_place() -> None:
    facts = Facts(TABLES, Locale(order_is_bytes=True, letters_are_usual=False))
    explanation = explain_refusal(asked("items", "this.n = 1", facts=facts))

    assert explanation.position is None
    assert "Turkish" in explanation.sentence
    assert asked("items", "", facts=facts).shape is not None


@pytest.mark.parametrize(
    ("table", "where", "client", "reason"),
    [
        ("items", "this.owner = auth.sub", SOMEBODY, "the filter uses auth.sub"),
        ("items", "this.owner = auth.claims ->> 'org'", SOMEBODY, "the filter uses auth.claims ->> 'org'"),
        ("items", "this.owner = auth.sub", replace(SOMEBODY, named=True), "the filter uses auth.sub, the user"),
        ("notes", "", SOMEBODY, "rows of the table have an owner, in the column electric_user_id"),
        ("notes", "", replace(SOMEBODY, named=True), "rows of the table have an owner, in the column electric_user_id"),
    ],
)
def test_an_answer_that_depends_on_the_client_needs_one(table: str, where: str, client: Client, reason: str) -> None:
    with pytest.raises(ClientNeeded) as needed:
        asked(table, where, client)
    assert needed.value.reason == reason


def test_an_answer_that_is_the_same_for_all_needs_no_client() -> None:
    assert asked("items", "this.n = 1", SOMEBODY).shape is not None
    assert asked("items", "this.owner = auth.claims ->> 'gone'", replace(SOMEBODY, named=True)).shape is not None


def test_tables_that_reference_the_rows_are_named() -> None:
    key = ForeignKey("f", ("item_id",), "items", ("id",))
    child = replace(NOTES, name="parts", foreign_keys=(key, replace(key, columns=("other_id",))))
    explanation = explain_count(asked(facts=Facts({"items": ITEMS, "notes": NOTES, "parts": child}, BYTES)), 2)

    assert explanation.notes == (
        'the table is referenced by "parts" (item_id), "parts" (other_id): a row may also come as the parent of a row'
        " of another subscription; ask with that subscription, and with --row-of for this table",
    )
    assert explain_count(asked(), 2).notes == ()


@pytest.mark.parametrize(("count", "words"), [(0, "0 rows reach"), (1, "1 row reaches"), (2, "2 rows reach")])
def test_rows_are_counted(count: int, words: str) -> None:
    explanation = explain_count(asked(), count)
    assert (explanation.verdict, explanation.reaches, explanation.count) == ("explained", None, count)
    assert explanation.sentence == f'At present {words} such a client through a subscription to "items"'


# ---- rows -------------------------------------------------------------------------------------------------------


@given(where=st.sampled_from(FILTERS), row=ROWS, selected=st.booleans())
def test_the_verdict_is_the_services_and_a_difference_to_postgres_a_defect(
    where: str, row: Row, selected: bool
) -> None:
    understanding = asked("items", where)
    assert understanding.shape is not None
    judged = understanding.shape.root.holds(row)
    explanation = explain_row(understanding, row, selected)

    if judged != selected:
        assert (explanation.verdict, explanation.reaches) == ("defect", None)
        assert explanation.sentence.startswith("A DEFECT OF LEYDEN")
        assert outcomes(explanation)["Postgres says the same"] == "fail"
    else:
        assert (explanation.verdict, explanation.reaches) == ("reaches" if judged else "withheld", judged)
        assert outcomes(explanation)["Postgres says the same"] == "pass"
        assert explanation.sentence.startswith("Reaches" if judged else "Does not reach")
    if where:
        assert outcomes(explanation)["row passes the filter"] == ("pass" if judged else "fail")


def test_a_node_by_node_value_that_is_not_the_services_is_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    understanding = asked("items", "this.n = 1")
    monkeypatch.setattr(type(understanding.shape.root), "holds", lambda self, row, at: True)  # type: ignore[union-attr]
    explanation = explain_row(understanding, (b"1", b"a", b"2"), True)

    assert explanation.verdict == "defect"
    assert "reaches the client, but the filter's nodes say otherwise" in explanation.sentence
    assert explanation.filter is not None
    assert explanation.filter.value == "false"


@pytest.mark.parametrize(
    ("where", "owner", "sentence"),
    [
        ("", b"ann", "Reaches the client: the subscription is to all rows, and electric_user_id is 'ann'"),
        ("", None, "Reaches the client: the subscription is to all rows, and electric_user_id is NULL"),
        ("", b"", "Reaches the client: the subscription is to all rows, and electric_user_id is ''"),
        ("", b"bob", "Does not reach the client: electric_user_id is 'bob', and the client's user is 'ann'"),
        (
            "this.text = 'x'",
            b"ann",
            "Reaches the client: the filter is true for the row, and electric_user_id is 'ann'",
        ),
        ("this.text = 'y'", b"ann", "Does not reach the client: this.text = 'y' is false (this.text is 'x')"),
        ("this.text = 'y'", b"bob", "Does not reach the client: electric_user_id is 'bob', and the client's user is"
         " 'ann'"),
        ("this.text = 'y' OR this.id IS NULL", None, "Does not reach the client: this.text = 'y' OR this.id IS NULL is"
         " false (this.text is 'x', this.id is 1)"),
        ("this.electric_user_id = 'x'", None, "Does not reach the client: this.electric_user_id = 'x' is NULL"
         " (this.electric_user_id is NULL); only true passes"),
        ("1 / (this.id - 1) = 1", None, "Does not reach the client: (1 / (this.id - 1)) = 1 cannot be computed"
         " (this.id is 1); only true passes"),
        ("this.text = auth.claims ->> 'n'", None, "Does not reach the client: this.text = auth.claims ->> 'n' cannot be"
         " computed (this.text is 'x', auth.claims ->> 'n' has no single text); only true passes"),
        ("false", None, "Does not reach the client: false is false"),
        ("true", None, "Reaches the client: the filter is true for the row, and electric_user_id is NULL"),
    ],
)  # fmt: skip
def test_one_sentence_says_why(where: str, owner: bytes | None, sentence: str) -> None:
    understanding = asked("notes", where)
    row = (b"1", b"x", owner)
    assert understanding.shape is not None

    assert explain_row(understanding, row, understanding.shape.root.holds(row)).sentence == sentence


def test_the_row_is_shown_with_its_key() -> None:
    explanation = explain_row(asked("notes"), (b"1", b"it's\n", None), True)

    assert detail(explanation, "row is in Postgres") == "id is 1"
    assert explanation.row == (
        ("id", "1", "1"),
        ("text", "it's\n", "E'it''s\\u000a'"),
        ("electric_user_id", None, "NULL"),
    )


def test_a_row_that_postgres_does_not_have_reaches_nobody() -> None:
    explanation = explain_absence(asked("notes"), "7\x1b")

    assert (explanation.verdict, explanation.reaches) == ("absent", False)
    assert explanation.sentence == 'Does not reach the client: there is no row with the key "7\\x1b"'
    assert outcomes(explanation)["row is in Postgres"] == "fail"


def test_a_refused_subscription_has_no_rows_to_explain() -> None:
    refused = asked("nowhere")
    with pytest.raises(ValueError, match="selects no rows"):
        explain_row(refused, (), True)
    with pytest.raises(ValueError, match="selects no rows"):
        explain_count(refused, 0)
