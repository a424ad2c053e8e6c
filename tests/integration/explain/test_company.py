"""``leyden shape explain --row-of``: rows that come along with those that were asked for."""

from __future__ import annotations

import json

import pytest

from explaining import Execute, Explain, checks, refusal, verdict

COMMENTS = '[{"foreign_key": ["issue_id"], "select": {"tablename": "comments", "where": "this.body = \'yes\'"}}]'


@pytest.fixture(autouse=True)
def linked(explain: Explain, execute: Execute) -> None:
    execute(
        "INSERT INTO comments VALUES (70, 7, 'yes'), (71, 7, 'no'), (80, 8, 'yes'), (90, NULL, 'yes')",
        "CREATE TABLE people (id int4 PRIMARY KEY, electric_user_id text, friend int4 REFERENCES people)",
        "CREATE TABLE tasks (id int4 PRIMARY KEY, person int4 REFERENCES people)",
        "CALL electric.electrify('people')",
        "CALL electric.electrify('tasks')",
        "INSERT INTO people VALUES (1, 'ann', NULL), (2, 'bob', 1), (3, NULL, 1), (4, NULL, 4)",
        "INSERT INTO tasks VALUES (10, 2), (11, 3)",
    )


def test_a_row_that_others_refer_to_comes_along(explain: Explain) -> None:
    result = explain("comments", "--where", "this.body = 'yes'", "--row-of", "issues", "--pk", "7")

    assert result.exit_code == 0
    assert verdict(result) == (
        'Reaches the client: "comments" 70 refers to it (issue_id); '
        'the filter of the subscription is true for "comments" 70'
    )
    assert checks(result)["row comes along"].startswith("ok: ")
    assert "The row:\n  id = 7\n" in result.stdout


def test_a_row_that_is_included_comes_along_if_its_filter_lets_it(explain: Explain) -> None:
    asked = ("issues", "--where", "this.status = 'open'", "--include", COMMENTS, "--row-of", "comments", "--pk")

    assert verdict(explain(*asked, "70")) == (
        'Reaches the client: it refers to "issues" 7 (issue_id), with which such rows are included; '
        'the filter of the subscription is true for "issues" 7'
    )
    for key in ("71", "80", "90"):
        result = explain(*asked, key)
        assert result.exit_code == 1
        assert verdict(result) == "Does not reach the client: no row that the client has brings it along"


def test_a_way_may_be_long_and_end_at_a_row_of_another_owner(explain: Explain) -> None:
    through = explain("tasks", "--user", "ann", "--row-of", "people", "--pk", "1")
    withheld = explain("tasks", "--user", "ann", "--row-of", "people", "--pk", "2")
    alone = explain("tasks", "--user", "ann", "--row-of", "people", "--pk", "4")

    assert verdict(through) == (
        'Reaches the client: "people" 3 refers to it (friend); "tasks" 11 refers to "people" 3 (person); '
        'the filter of the subscription is true for "tasks" 11'
    )
    assert verdict(withheld) == (
        "Does not reach the client: it belongs to another user, so that it does not come along even if other rows"
        " refer to it"
    )
    assert verdict(alone) == "Does not reach the client: no row that the client has brings it along"


def test_what_nothing_leads_to_is_said_so(explain: Explain) -> None:
    result = explain("issues", "--row-of", "comments", "--pk", "70")

    assert result.exit_code == 1
    assert verdict(result) == (
        'Does not reach the client: no foreign key leads to "comments" from a subscription to "issues"'
        " and what it includes"
    )
    assert verdict(explain("comments", "--row-of", "issues", "--pk", "99")).endswith('no row with the key "99"')


def test_programs_get_the_same_as_data(explain: Explain) -> None:
    result = explain("comments", "--row-of", "issues", "--pk", "7", "--json")

    told = json.loads(result.stdout)
    assert (told["verdict"], told["reaches"], told["row"]["id"]) == ("reaches", True, "7")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--row-of", "issues"], "--row-of needs --pk"),
        (["--row-of", "nothing", "--pk", "1"], 'there is no electrified table "nothing"'),
        (["--include", "{}"], "is no list of includes"),
        (["--include", '[{"foreign_key": "id", "select": {"tablename": 1}}]'], "is no list of includes"),
        (["--include", "[" * 100_000], "is no list of includes"),
    ],
)
def test_wrong_use_is_told(explain: Explain, arguments: list[str], message: str) -> None:
    assert message in refusal(explain("comments", *arguments))


def test_an_include_that_is_refused_is_told_as_the_service_tells_it(explain: Explain) -> None:
    include = '[{"foreign_key": ["id"], "select": {"tablename": "comments"}}]'
    result = explain("issues", "--include", include, "--pk", "7")

    assert result.exit_code == 1
    assert "Include of table comments in issues: (id) is no foreign key between the two" in verdict(result)
