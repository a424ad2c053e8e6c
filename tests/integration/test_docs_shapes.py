"""docs/shapes.md shows what the command prints."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import psycopg

from command_line import run
from interop.service import database_url

PAGE = (Path(__file__).parents[2] / "docs" / "shapes.md").read_text("utf-8")


def test_the_explanation_on_the_page_is_what_the_command_prints(database: str) -> None:
    (command, output) = re.findall(r"^```sh\n(leyden .*)\n```\n\n```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[
        0
    ]
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("CREATE TABLE issues (id int4 PRIMARY KEY, status text, assignee text, priority int4)")
        conn.execute("CALL electric.electrify('issues')")
        conn.execute("INSERT INTO issues VALUES (7, 'open', 'bob', NULL)")
    result = run(*shlex.split(command)[1:], env={"DATABASE_URL": database_url(database)})

    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout == output
