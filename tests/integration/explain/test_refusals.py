"""``leyden shape explain`` of subscriptions that are refused, and on databases that cannot be asked."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from command_line import run
from explaining import HS, Execute, Explain, checks, token, verdict
from interop.service import database_url

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
    execute(*(f"ALTER EVENT TRIGGER leyden_{one} DISABLE" for one in ("ddl", "drop", "rewrite")), change)
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
