"""``leyden shape explain``, driven as a shell would, on a real database."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from click.testing import Result
from joserfc.jwk import OctKey
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from command_line import run
from interop.service import database_url
from leyden.auth import ALGORITHMS, mint_token
from leyden.shapes.where import predicate

SECRET = "k7!" * 30
HS = {"AUTH_JWT_ALG": "HS256", "AUTH_JWT_KEY": SECRET}
MINE = "this.status <> 'closed' AND (this.assignee = auth.sub OR this.priority > 3)"

Explain = Callable[..., Result]
Execute = Callable[..., None]


@pytest.fixture
def execute(database: str) -> Execute:
    def execute(*statements: str | sql.Composable) -> None:
        with psycopg.connect(database, autocommit=True) as conn:
            for statement in statements:
                conn.execute(statement)  # type: ignore[arg-type]

    return execute


@pytest.fixture
def explain(database: str, execute: Execute) -> Explain:
    """``explain(*arguments, env=…, stdin=…)`` on a database with issues, their comments, notes with owners, and members
    whose key has two columns."""
    execute(
        "CREATE TYPE part AS ENUM ('reader', 'writer')",
        "CREATE TABLE issues (id int4 PRIMARY KEY, title text, status text, assignee text, priority int4)",
        "CREATE TABLE comments (id int4 PRIMARY KEY, issue_id int4 REFERENCES issues, body text)",
        "CREATE TABLE notes (id uuid PRIMARY KEY, org text, electric_user_id text)",
        "CREATE TABLE members (project int4, person text, active bool, part part,"
        " PRIMARY KEY (project, person, active))",
        "CREATE TABLE private (id int4 PRIMARY KEY)",
        *(f"CALL electric.electrify('{table}')" for table in ("issues", "comments", "notes", "members")),
        "INSERT INTO issues VALUES (7, 'Leak', 'open', 'bob', 2), (8, 'Old', 'closed', 'ann', 5),"
        " (9, 'New', NULL, 'ann', 1)",
        "INSERT INTO notes VALUES ('00000000-0000-0000-0000-00000000000a', 'acme', 'ann'),"
        " ('00000000-0000-0000-0000-00000000000b', 'acme', NULL)",
        "INSERT INTO members VALUES (1, 'ann', true, 'reader'), (1, 'a,b', false, 'writer')",
    )

    def explain(*arguments: str, env: dict[str, str] | None = None, stdin: str | None = None) -> Result:
        return run(
            "shape", "explain", *arguments, env={"DATABASE_URL": database_url(database), **(env or {})}, stdin=stdin
        )

    return explain


def checks(result: Result) -> dict[str, str]:
    """Outcome by check, with what is said of it."""
    assert result.stderr == ""
    found = re.findall(r"^(ok|FAILED|-) +(\S.*)\n((?:       .*\n)*)", result.stdout, re.MULTILINE)
    return {name: f"{outcome}: {detail.strip()}" if detail else outcome for outcome, name, detail in found}


def verdict(result: Result) -> str:
    """The sentence at the end."""
    assert result.stderr == ""
    return result.stdout.split("\n\n")[-1].splitlines()[0]


def refusal(result: Result) -> str:
    """What is said of wrong use."""
    assert (result.exit_code, result.stdout) == (2, "")
    return result.stderr.splitlines()[-1]


def token(sub: str = "ann", secret: str = SECRET, lifetime: int = 600, **claims: Any) -> str:
    now = int(time.time())
    return mint_token(
        {"sub": sub, "iat": now - 1000, "exp": now + lifetime, **claims},
        algorithm=ALGORITHMS["HS256"],
        key=OctKey.import_key(secret.encode()),
    )


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


# ---- who the client is ------------------------------------------------------------------------------------------


def test_a_good_token_is_judged_and_its_claims_are_used(explain: Explain) -> None:
    given = token("bob", org="acme")
    result = explain("issues", "--where", MINE, "--token", given, "--pk", "7", env=HS)

    assert result.exit_code == 0
    assert checks(result)["token is good"].startswith('ok: user "bob", until 2')
    assert checks(result)["token is not revoked"] == "ok: none is in force"
    assert checks(result)["claims that the filter uses"] == "ok: auth.sub is 'bob'"
    claimed = explain(
        "notes", "--where", "this.org = auth.claims ->> 'org'", "--token", "-", env=HS, stdin=given + "\n"
    )
    assert checks(claimed)["claims that the filter uses"] == "ok: auth.claims ->> 'org' is 'acme'"
    assert verdict(claimed).startswith("At present 1 row reaches")


@pytest.mark.parametrize(
    ("made", "code"),
    [
        ({"lifetime": -60}, "expired"),
        ({"secret": SECRET[::-1]}, "signature_invalid"),
        ({"sub": ""}, "user_invalid"),
    ],
)
def test_a_token_that_is_refused_lets_no_row_through(made: dict[str, Any], code: str, explain: Explain) -> None:
    given = token(**made)
    result = explain("issues", "--token", given, "--pk", "7", env=HS)

    assert result.exit_code == 1
    assert checks(result)["token is good"].startswith(f"FAILED: {code}: ")
    assert checks(result)["filter is understood"] == "-"
    assert verdict(result).startswith(f"Refused, so that no row reaches the client: {code}: ")
    assert "The row:" not in result.stdout


def test_a_text_that_is_no_token_is_refused(explain: Explain) -> None:
    for given in ("x", "", "\udcff.\x1b[2J.\n"):
        result = explain("issues", "--token", given, env=HS)
        assert result.exit_code == 1
        assert checks(result)["token is good"].startswith("FAILED: token_")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (("user", "ann"), "all tokens of the user were revoked (revocation 1)"),
        (("jti", "t-1"), "this token was revoked by its jti (revocation 1)"),
        (("all", "--issued-before", "now"), "all tokens issued up to"),
    ],
)
def test_a_revoked_token_lets_no_row_through(
    entry: tuple[str, ...], words: str, explain: Explain, database: str
) -> None:
    given = token("ann", jti="t-1")
    assert explain("issues", "--token", given, env=HS).exit_code == 0
    assert run("revoke", *entry, env={"DATABASE_URL": database_url(database)}).exit_code == 0
    result = explain("issues", "--token", given, env=HS)

    assert result.exit_code == 1
    assert checks(result)["token is good"].startswith("ok")
    assert words in checks(result)["token is not revoked"]
    assert verdict(result).startswith("Refused, so that no row reaches the client: revoked: ")


def test_revocations_of_others_are_counted_and_pass(explain: Explain, database: str) -> None:
    assert run("revoke", "user", "bob", env={"DATABASE_URL": database_url(database)}).exit_code == 0
    result = explain("issues", "--token", token("ann"), env=HS)
    assert checks(result)["token is not revoked"] == "ok: none of the 1 in force reaches it"


def test_neither_token_nor_key_is_printed(explain: Explain) -> None:
    for given in (token(), token(lifetime=-60), token(secret=SECRET[::-1]), token()[:-4], "x" + token()):
        for arguments in (["--token", given], ["--token", "-"], ["--token", given, "--pk", "7", "--json"]):
            result = explain("issues", *arguments, env=HS, stdin=given)
            for piece in (SECRET, *given.split(".")[1:]):
                assert piece not in result.output


def test_insecure_mode_says_that_nothing_was_verified(explain: Explain) -> None:
    result = explain("issues", "--token", mint_token({"sub": "ann"}), "--pk", "7", env={"AUTH_MODE": "insecure"})
    assert result.exit_code == 0
    assert checks(result)["token is good"] == 'ok: user "ann", NOT VERIFIED, because AUTH_MODE=insecure'


def test_a_client_without_a_token_is_taken_at_its_word_and_that_is_said(explain: Explain) -> None:
    where = "this.title = auth.claims ->> 'title' AND auth.claims ->> 'sub' = 'ann' AND auth.claims ->> 'n' = '5'"
    result = explain(
        "issues", "--where", where, "--user", "ann", "--claim", "title=Leak", "--claim", "n=5", "--pk", "7"
    )

    assert result.exit_code == 0
    assert checks(result)["token is good"] == "-: NOTHING WAS VERIFIED: the client is what --user and --claim say"
    assert checks(result)["claims that the filter uses"] == (
        "ok: auth.claims ->> 'title' is 'Leak'; auth.claims ->> 'sub' is 'ann'; auth.claims ->> 'n' is '5'"
    )


def test_a_claim_that_the_client_does_not_have_is_null(explain: Explain) -> None:
    result = explain("issues", "--where", "this.title = auth.claims ->> 'gone'", "--user", "ann", "--pk", "7")
    assert result.exit_code == 1
    assert verdict(result).endswith("is NULL (this.title is 'Leak', auth.claims ->> 'gone' is NULL); only true passes")


def test_a_claim_without_a_single_text_is_an_error(explain: Explain) -> None:
    where = "this.title = auth.claims ->> 'n'"
    result = explain("issues", "--where", where, "--user", "ann", "--claim", "n=1.5", "--pk", "7")
    assert result.exit_code == 1
    assert checks(result)["claims that the filter uses"] == "ok: auth.claims ->> 'n' has no single text"
    assert f"       error  {where}\n" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["issues", "--where", MINE], "the filter uses auth.sub: say who the client is"),
        (["issues", "--where", MINE, "--claim", "a=b"], "the filter uses auth.sub, the user: say who the client is"),
        (["issues", "--where", "this.title = auth.claims ->> 'a'"], "the filter uses auth.claims ->> 'a': say who"),
        (["notes"], "rows of the table have an owner, in the column electric_user_id: say who the client is"),
        (["notes", "--claim", "a=b"], "rows of the table have an owner"),
        (["issues", "--user", ""], "no user id is empty"),
        (["issues", "--user", "ann", "--claim", "a"], "write a claim as name=value"),
        (["issues", "--claim", "a=1", "--claim", "a=2"], 'the claim "a" is given twice'),
        (["issues", "--token", "x", "--user", "ann"], "leave --user and --claim out"),
        (["issues", "--token", "x", "--claim", "a=b"], "leave --user and --claim out"),
        (["issues", "--jwks", __file__], "--jwks is for --token"),
        (["issues", "--token", "x", "--jwks", __file__], "--jwks stands in for AUTH_JWT_JWKS_URL"),
        (["issues", "--token", "-"], "one token is needed on standard input, and there are none"),
        ([], "Missing argument 'TABLE'"),
        (["issues", "7"], "Got unexpected extra argument"),
    ],
)
def test_a_question_without_an_answer_is_wrong_use(arguments: list[str], reason: str, explain: Explain) -> None:
    assert reason in refusal(explain(*arguments, env=HS, stdin=""))


def test_only_one_token_is_read(explain: Explain) -> None:
    assert "there are 2" in refusal(explain("issues", "--token", "-", env=HS, stdin=f"{token()}\n{token()}\n"))


def test_a_wrong_configuration_is_told_where_it_matters(explain: Explain) -> None:
    wrong = {"AUTH_JWT_ALG": "HS256", "LOG_LEVEL": "x", "HTTP_PORT": "x"}
    result = explain("issues", "--token", "x", env=wrong)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "AUTH_JWT_KEY is not set" in result.stderr
    assert explain("issues", "--user", "ann", env=wrong).exit_code == 0


# ---- tables and filters that are refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ("private", "the table \"private\" is not shared with clients: CALL electric.electrify('private') shares it"),
        ("Issues", 'there is no table "Issues" in schema public; did you mean "issues"?'),
        ("public.issues", 'there is no table "public.issues" in schema public; did you mean "issues"?'),
        ("isues", 'there is no table "isues" in schema public; did you mean "issues"?'),
        ("nowhere_at_all", 'there is no table "nowhere_at_all" in schema public'),
        ("", 'there is no table "" in schema public'),
        ("pg_class", 'there is no table "pg_class" in schema public'),
        ("x" * 65, f'there is no table "{"x" * 65}" in schema public'),
        ("a\udcff", 'there is no table "a\\udcff" in schema public'),
    ],
)
def test_a_table_that_clients_do_not_get_is_named_with_a_remedy(table: str, why: str, explain: Explain) -> None:
    result = explain(table, "--where", "nonsense", "--token", token(), "--pk", "1", env=HS)

    assert result.exit_code == 1
    assert checks(result)["table is electrified"] == f"FAILED: {why}"
    assert set(list(checks(result).values())[1:]) == {"-"}
    assert verdict(result) == f"Refused, so that no row reaches the client: {why}"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("ALTER TABLE issues REPLICA IDENTITY DEFAULT", "its replica identity is not FULL"),
        ("ALTER TABLE issues DROP COLUMN title", "column title is missing"),
        ("ALTER TABLE issues ALTER COLUMN priority TYPE int8", "column priority is now of type int8, not int4"),
        ("ALTER TABLE issues RENAME TO tickets", "it was renamed or moved to another schema"),
        ("ALTER PUBLICATION leyden DROP TABLE issues", "it is not in the publication leyden"),
        ("DROP TABLE issues CASCADE", "it was dropped"),
    ],
)
def test_a_table_that_changed_behind_the_services_back_is_suspended(
    change: str, why: str, explain: Explain, execute: Execute
) -> None:
    execute(
        "ALTER EVENT TRIGGER leyden_ddl DISABLE", "ALTER EVENT TRIGGER leyden_drop DISABLE", change,
    )  # fmt: skip
    result = explain("issues", "--pk", "7")

    assert result.exit_code == 1
    assert checks(result)["rows of the table are delivered"].startswith(
        f"FAILED: its rows are not delivered, because {why}; undo that"
    )


def test_what_clients_can_follow_suspends_nothing(explain: Explain, execute: Execute) -> None:
    execute("ALTER TABLE issues ADD COLUMN extra text", "CREATE INDEX ON issues (title)")
    assert explain("issues", "--where", "this.extra IS NULL", "--pk", "7").exit_code == 0


def test_a_filter_that_is_refused_is_shown_with_the_place(explain: Explain) -> None:
    where = "this.status = 'open' AND coalesce(this.title, '') = 'x'"
    result = explain("issues", "--where", where, "--user", "ann", "--pk", "7")

    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    place = lines.index("       At location 25: COALESCE is not supported")
    assert lines[place - 1] == "FAILED filter is understood"
    assert lines[place + 1] == f"       {where}"
    assert lines[place + 2] == " " * (7 + where.index("coalesce")) + "^"
    assert verdict(result) == "Refused, so that no row reaches the client: At location 25: COALESCE is not supported"


def test_of_a_long_filter_the_surroundings_of_the_place_are_shown(explain: Explain) -> None:
    where = " OR ".join(["this.title = '\x1b'"] * 20) + " OR now() = this.title OR " + "this.id = 1 OR " * 20 + "true"
    lines = explain("issues", "--where", where, "--user", "ann").stdout.splitlines()
    excerpt, mark = next((lines[n - 1], line) for n, line in enumerate(lines) if line.strip() == "^")
    assert excerpt[mark.index("^") :].startswith("now() = this.title")
    assert excerpt.startswith("       …")
    assert excerpt.endswith("…")
    assert "\\x1b" in excerpt


# ---- hostile values ---------------------------------------------------------------------------------------------

HOSTILE = "\x1b[2J\x1b]0;x\x07'\r\nReaches the client: the filter is true for the row\n\u202e\u2028\x9b"


def assert_harmless(result: Result) -> None:
    """Nothing but lines of printable characters, none of which begins as a verdict does but the last."""
    output = result.stdout + result.stderr
    assert all(line.isprintable() for line in output.split("\n"))
    assert len(re.findall(r"^Reaches", output, re.MULTILINE)) == (result.exit_code == 0)


def test_values_of_the_row_claims_and_filter_cannot_forge_the_output(explain: Explain, execute: Execute) -> None:
    value = sql.Literal(HOSTILE)
    execute(sql.SQL("INSERT INTO issues VALUES (1, {0}, {0}, {0}, 1)").format(value))
    where = "this.title = auth.sub AND this.status = '" + HOSTILE.replace("'", "''") + "' AND this.priority = 2"
    for extra in ([], ["--json"]):
        result = explain("issues", "--where", where, "--user", HOSTILE, "--claim", f"a={HOSTILE}", "--pk", "1", *extra)
        assert result.exit_code == 1
        assert_harmless(result)
    found = json.loads(result.stdout)
    assert found["row"]["title"] == HOSTILE
    assert found["claims"][0]["value"] == HOSTILE
    assert found["filter"]["value"] is False
    result = explain("issues", "--where", "this.title = auth.sub", "--token", token(HOSTILE), "--pk", "1", env=HS)
    assert_harmless(result)
    legacy = {**HS, "AUTH_USER_ID_POLICY": "legacy"}
    result = explain("issues", "--where", "this.title = auth.sub", "--token", token(HOSTILE), "--pk", "1", env=legacy)
    assert result.exit_code == 0
    assert_harmless(result)
    for where in (HOSTILE, f"this.title = {HOSTILE}", f'this."{HOSTILE}" = 1', f"auth.claims ->> '{HOSTILE}'"):
        assert_harmless(explain("issues", "--where", where, "--user", "ann"))
    for arguments in (["--pk", HOSTILE], ["--token", HOSTILE]):
        assert_harmless(explain("issues", *arguments, env=HS))
        assert_harmless(explain("members", *arguments, env=HS))
    assert_harmless(explain(HOSTILE, "--pk", "1"))


def test_names_of_tables_and_columns_cannot_forge_the_output(explain: Explain, execute: Execute) -> None:
    column = HOSTILE[:20]
    table = 'it\'s "odd" %s {} $1'
    name = sql.Identifier(table)
    execute(
        sql.SQL("CREATE TABLE {} ({} int4 PRIMARY KEY, {} text)").format(
            name, sql.Identifier(column), sql.Identifier("%s")
        ),
        sql.SQL("CREATE TABLE child (id int4 PRIMARY KEY, {} int4 REFERENCES {})").format(sql.Identifier(column), name),
        sql.SQL("INSERT INTO {} VALUES (1, '%s')").format(name),
        sql.SQL("CALL electric.electrify({})").format(sql.Literal(table)),
        "CALL electric.electrify('child')",
    )
    quoted = column.replace('"', '""')
    result = explain(table, "--where", f'this."{quoted}" = 1 AND this."%s" LIKE \'%s\'', "--pk", "1")
    assert result.exit_code == 0
    assert_harmless(result)
    assert 'this.U&"\\+00001b[2J' in result.stdout
    assert explain(table, "--where", f'this."{quoted}" = 1 AND this."%s" LIKE \'%s\'').exit_code == 0
    assert_harmless(explain(table, "--pk", "x"))
    assert_harmless(explain("private\x1b", "--pk", "x"))


def test_long_values_are_cut_for_people_and_whole_in_json(explain: Explain, execute: Execute) -> None:
    execute("UPDATE issues SET title = repeat('x', 100000) WHERE id = 7")
    words = explain("issues", "--where", "this.title = 'x'", "--pk", "7")
    assert max(map(len, words.stdout.splitlines())) < 600
    assert len(json.loads(explain("issues", "--pk", "7", "--json").stdout)["row"]["title"]) == 100_000


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


# ---- the database -----------------------------------------------------------------------------------------------


def test_it_works_where_nothing_may_be_written(explain: Explain, execute: Execute, database: str) -> None:
    name = sql.Identifier(str(conninfo_to_dict(database)["dbname"]))
    execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        execute("DELETE FROM issues")
    assert explain("issues", "--token", token(), "--pk", "7", env=HS).exit_code == 0


def test_a_database_that_cannot_be_asked_is_told_with_a_remedy(empty_database: str, explain: Explain) -> None:
    unprepared = {"DATABASE_URL": database_url(empty_database)}
    nowhere = {"DATABASE_URL": re.sub(r":\d+/", ":1/", unprepared["DATABASE_URL"])}
    for env, remedy in ((unprepared, "start this release of the service on it once"), (nowhere, "check DATABASE_URL")):
        result = explain("issues", env=env)
        assert (result.exit_code, result.stdout) == (1, "")
        assert remedy in result.stderr
    wrong = explain("issues", env={"DATABASE_URL": "mysql://u:s3cret@h/d"})
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "DATABASE_URL has an invalid URL scheme" in wrong.stderr
    assert "s3cret" not in wrong.stderr


def test_a_role_without_rights_is_told_so(database: str, explain: Explain, execute: Execute) -> None:
    role = sql.Identifier("leyden_test_onlooker")
    execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
    try:
        env = {"DATABASE_URL": database_url(make_conninfo(database, user="leyden_test_onlooker"))}
        result = explain("issues", env=env)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "use the service's role" in result.stderr
    finally:
        execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(role))


def test_the_command_works_as_a_process_of_its_own(database: str, explain: Explain) -> None:
    keep = {"PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH"}
    env = {name: value for name, value in os.environ.items() if name in keep}
    done = subprocess.run(
        [sys.executable, "-m", "leyden", "shape", "explain", "issues", "--token", "-", "--pk", "7"],
        env={**env, **HS, "DATABASE_URL": database_url(database)},
        input=token() + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\nReaches the client: the subscription is to all rows\n" in done.stdout


def test_help_has_examples(explain: Explain) -> None:
    for words in (["shape"], ["shape", "explain"]):
        result = run(*words, "--help")
        assert result.exit_code == 0
        assert "Example" in result.stdout
