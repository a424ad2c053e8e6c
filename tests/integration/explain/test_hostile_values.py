"""``leyden shape explain``: no row, claim, filter or name can forge what a terminal shows."""

from __future__ import annotations

import json
import re

from click.testing import Result
from psycopg import sql

from explaining import HS, Execute, Explain, token

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
