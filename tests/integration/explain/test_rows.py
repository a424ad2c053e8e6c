"""``leyden shape explain`` of rows, driven as a shell would: the verdict, the keys, the same as data, and defects."""

from __future__ import annotations

import json

import pytest
from psycopg import sql

from explaining import MINE, Explain, checks, refusal, verdict
from leyden.shapes.where import predicate

# ---- rows -------------------------------------------------------------------------------------------------------


def test_a_row_that_does_not_reach_the_client_is_shown_node_by_node(explain: Explain) -> None:
    result = explain("issues", "--where", MINE, "--user", "ann", "--pk", "7")

    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    start = lines.index("FAILED row passes the filter")
    assert lines[start : start + 12] == [
        "FAILED row passes the filter",
        f"       false  {MINE}",
        "       true     this.status <> 'closed'",
        "                  this.status is 'open'",
        "       false    this.assignee = auth.sub OR this.priority > 3",
        "       false      this.assignee = auth.sub",
        "                    this.assignee is 'bob'",
        "                    auth.sub is 'ann'",
        "       false      this.priority > 3",
        "                    this.priority is 2",
        "ok     Postgres says the same",
        "       it does not select the row",
    ]
    assert verdict(result) == (
        "Does not reach the client: this.assignee = auth.sub OR this.priority > 3 is false (this.assignee is 'bob',"
        " auth.sub is 'ann', this.priority is 2)"
    )


def test_a_row_that_reaches_the_client(explain: Explain) -> None:
    result = explain("issues", "--where", MINE, "--user", "bob", "--pk", "7")

    assert result.exit_code == 0
    assert verdict(result) == "Reaches the client: the filter is true for the row"
    assert checks(result)["row is in Postgres"] == "ok: id is 7"
    assert (
        "The row:\n  id = 7\n  title = 'Leak'\n  status = 'open'\n  assignee = 'bob'\n  priority = 2\n" in result.stdout
    )
    assert 'Note: the table is referenced by "comments" (issue_id)' in result.stdout


def test_null_passes_no_filter(explain: Explain) -> None:
    result = explain("issues", "--where", MINE, "--user", "ann", "--pk", "9")

    assert result.exit_code == 1
    assert f"       NULL   {MINE}\n       NULL     this.status <> 'closed'\n" in result.stdout
    assert verdict(result) == (
        "Does not reach the client: this.status <> 'closed' is NULL (this.status is NULL); only true passes"
    )


def test_an_error_of_evaluation_passes_no_filter(explain: Explain) -> None:
    result = explain("issues", "--where", "10 / (this.priority - 2) > 0", "--pk", "7")

    assert result.exit_code == 1
    assert "       error  (10 / (this.priority - 2)) > 0\n" in result.stdout
    assert "(this.priority - 2) is 0\n" in result.stdout
    assert verdict(result) == (
        "Does not reach the client: (10 / (this.priority - 2)) > 0 cannot be computed (this.priority is 2);"
        " only true passes"
    )


def test_a_row_that_is_not_there_reaches_nobody(explain: Explain) -> None:
    result = explain("issues", "--pk", "99")

    assert result.exit_code == 1
    assert verdict(result) == 'Does not reach the client: there is no row with the key "99"'
    assert checks(result)["row passes the filter"] == "-"


def test_a_row_of_another_owner_stays_with_its_owner(explain: Explain) -> None:
    first, second = (f"00000000-0000-0000-0000-00000000000{digit}" for digit in "AB")
    theirs = explain("notes", "--user", "bob", "--pk", first)
    assert theirs.exit_code == 1
    assert verdict(theirs) == ("Does not reach the client: electric_user_id is 'ann', and the client's user is 'bob'")
    own = explain("notes", "--user", "ann", "--pk", first)
    assert (own.exit_code, verdict(own)) == (
        0,
        "Reaches the client: the subscription is to all rows, and electric_user_id is 'ann'",
    )
    common = explain("notes", "--where", "this.org = 'acme'", "--user", "bob", "--pk", second)
    assert (common.exit_code, verdict(common)) == (
        0,
        "Reaches the client: the filter is true for the row, and electric_user_id is NULL",
    )


def test_without_a_key_the_rows_are_counted(explain: Explain) -> None:
    for where, count in (("", "3 rows reach"), (MINE, "1 row reaches"), ("this.priority > 99", "0 rows reach")):
        result = explain("issues", "--where", where, "--user", "bob")
        assert result.exit_code == 0
        assert verdict(result) == f'At present {count} such a client through a subscription to "issues"'
        assert "The row:" not in result.stdout
    assert verdict(explain("notes", "--user", "bob")).startswith("At present 1 row reaches")


# ---- keys -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "project=1,person=ann,active=true",
        "active=t,person=ann,project=01",
        '{"project": 1, "person": "ann", "active": true}',
        ' {"active": "yes", "person": "ann", "project": "1"}',
    ],
)
def test_a_key_of_several_columns_is_given_as_pairs_or_as_json(key: str, explain: Explain) -> None:
    result = explain("members", "--pk", key)
    assert (result.exit_code, checks(result)["row is in Postgres"]) == (
        0,
        "ok: project is 1, person is 'ann', active is true",
    )


def test_a_value_with_a_comma_goes_into_json(explain: Explain) -> None:
    result = explain("members", "--pk", '{"project": 1, "person": "a,b", "active": false}')
    assert result.exit_code == 0
    assert "  part = 'writer'\n" in result.stdout


@pytest.mark.parametrize(
    ("table", "key", "problem"),
    [
        ("issues", "seven", "the key column id is of type int4, and the value is not"),
        ("issues", "99999999999", "the key column id is of type int4, and the value is not"),
        ("issues", "7; DROP TABLE issues", "the key column id is of type int4, and the value is not"),
        ("issues", "7\udcff", "the key column id is of type int4, and the value is not"),
        ("notes", "", "the key column id is of type uuid, and the value is not"),
        ("members", "1", "write project=…,person=…,active=… or a JSON object"),
        ("members", "project=1,person=a,b,active=t", "write project=…,person=…,active=…"),
        ("members", "project=1,person=a", "write project=…,person=…,active=…"),
        ("members", "project=1,project=1,person=a,active=t", "names the column project twice"),
        ("members", '{"project": 1, "person": "a"}', "write project=…,person=…,active=…"),
        ("members", '{"project": 1, "project": 2}', "the text of the key"),
        ("members", '{"project": null, "person": "a", "active": true}', "the value for project is neither"),
        ("members", '{"project": "\\u0000", "person": "a", "active": true}', "the key column project is of type int4"),
        ("members", "project=1,person=a,active=maybe", "the key column active is of type bool, and the value is not"),
    ],
)
def test_what_cannot_be_a_key_is_wrong_use(table: str, key: str, problem: str, explain: Explain) -> None:
    assert problem in refusal(explain(table, "--user", "ann", "--pk", key))


# ---- JSON -------------------------------------------------------------------------------------------------------


def test_programs_get_the_same_as_data(explain: Explain) -> None:
    where = "this.status IS NULL AND 1 / (this.priority - 2) > this.id AND this.assignee = auth.sub"
    result = explain("issues", "--where", where, "--user", "ann", "--pk", "7", "--json")

    assert result.exit_code == 1
    assert result.stdout.isascii()
    assert len(result.stdout.splitlines()) == 1
    found = json.loads(result.stdout)
    assert list(found) == [
        "verdict", "reaches", "reason", "checks", "position", "claims", "filter", "row", "count", "condition", "notes",
    ]  # fmt: skip
    assert (found["verdict"], found["reaches"], found["position"], found["count"]) == ("withheld", False, None, None)
    assert found["reason"] == "Does not reach the client: this.status IS NULL is false (this.status is 'open')"
    assert found["claims"] == [{"node": "auth.sub", "type": "text", "value": "ann", "failed": False, "parts": []}]
    assert found["row"] == {"id": "7", "title": "Leak", "status": "open", "assignee": "bob", "priority": "2"}
    status, division, assignee = found["filter"]["parts"]
    assert (status["node"], status["value"], status["failed"]) == ("this.status IS NULL", False, False)
    assert (division["type"], division["value"], division["failed"]) == ("bool", None, True)
    assert division["parts"][1] == {"node": "this.id", "type": "int4", "value": "7", "failed": False, "parts": []}
    assert (assignee["node"], assignee["value"]) == ("this.assignee = auth.sub", False)
    assert found["condition"].startswith("(")
    assert [set(check) for check in found["checks"]] == [{"name", "outcome", "detail", "setting"}] * 11


def test_the_other_answers_are_data_too(explain: Explain) -> None:
    def answer(*arguments: str) -> tuple[int, str, bool | None, int | None, int | None]:
        result = explain("issues", *arguments, "--json")
        found = json.loads(result.stdout)
        return result.exit_code, found["verdict"], found["reaches"], found["count"], found["position"]

    assert answer("--pk", "7") == (0, "reaches", True, None, None)
    assert answer("--pk", "99") == (1, "absent", False, None, None)
    assert answer() == (0, "explained", None, 3, None)
    assert answer("--where", "this.id = now()") == (1, "refused", False, None, 10)


# ---- defects ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "own", "printed", "selection"),
    [
        ("this.priority > 2", "does not reach", "true", "it selects the row"),
        ("this.priority = 2", "reaches", "false", "it does not select the row"),
    ],
)
def test_a_difference_between_leyden_and_postgres_is_told_loudly(
    where: str, own: str, printed: str, selection: str, explain: Explain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Injected where a predicate is printed as SQL: Postgres is truly asked, but for another condition."""
    assert explain("issues", "--where", where, "--pk", "7").exit_code == (0 if own == "reaches" else 1)
    monkeypatch.setattr(predicate, "condition", lambda tree: sql.SQL(printed))
    result = explain("issues", "--where", where, "--pk", "7")

    assert result.exit_code == 1
    assert checks(result)["Postgres says the same"] == f"FAILED: {selection}"
    assert verdict(result).startswith(
        f"A DEFECT OF LEYDEN: by its own judgement the row {own} the client, but Postgres says that {selection}"
    )
    assert "Please report it" in verdict(result)
    assert result.stdout.endswith(f"Condition: {printed}\n")
    found = json.loads(explain("issues", "--where", where, "--pk", "7", "--json").stdout)
    assert (found["verdict"], found["reaches"]) == ("defect", None)
