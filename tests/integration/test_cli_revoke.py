"""``leyden revoke``, driven as a shell would, on a real database."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from click.testing import CliRunner, Result
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from databases import install_schema
from leyden.cli import main
from leyden.postgres.embedded import EmbeddedPostgres

THUMBPRINT = "gRn3Vh8GJYmkn1hjkMaXnSmDl0tBC7wXSzBFxkNeXW4"
DAY = 86_400

Run = Callable[..., Result]


def database_url(conninfo: str) -> str:
    """``conninfo`` as a DATABASE_URL: a Unix socket's directory becomes a percent-encoded host."""
    parts = conninfo_to_dict(conninfo)
    host = quote(str(parts["host"]), safe="")
    return f"postgresql://{parts['user']}@{host}:{parts.get('port', 5432)}/{parts['dbname']}"


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Run:
    """``bare(*arguments, env=…)``: the command with none of the service's settings but those given."""

    def invoke(*arguments: str, env: dict[str, str] | None = None) -> Result:
        with monkeypatch.context() as patch:
            for name in tuple(os.environ):
                if name.startswith(("AUTH_", "DATABASE_", "LEYDEN_")):
                    patch.delenv(name)
            result = CliRunner().invoke(main, ["revoke", *arguments], env=env or {})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def run(bare: Run, database: str) -> Run:
    """``run(*arguments, env=…)``: the same, on the test's database."""
    return lambda *arguments, env=None: bare(*arguments, env={"DATABASE_URL": database_url(database), **(env or {})})


@pytest.fixture
def rows(database: str) -> Callable[[], list[tuple[Any, ...]]]:
    """What stands in the table: kind, value, moment of issue, hours until it ends."""

    def read() -> list[tuple[Any, ...]]:
        with psycopg.connect(database) as conn:
            return conn.execute(
                "SELECT kind, value, extract(epoch FROM issued_before)::bigint,"
                " round(extract(epoch FROM expires_at - created_at) / 3600)::int FROM leyden.revocations ORDER BY id"
            ).fetchall()

    return read


def one_line(result: Result) -> str:
    assert (result.exit_code, result.stderr) == (0, "")
    (line,) = result.stdout.splitlines()
    return line


def dates_in(text: str) -> list[float]:
    return [
        datetime.strptime(date, "%Y-%m-%dT%H:%M:%S%z").timestamp()
        for date in re.findall(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text)
    ]


def test_a_user_is_shut_out(run: Run, rows: Callable[[], object]) -> None:
    line = one_line(run("user", "alice"))
    assert re.fullmatch(r'revoked user "alice", until \S+ \(revocation 1\); live connections end within a second', line)
    assert dates_in(line)[0] == pytest.approx(time.time() + 25 * 3600, abs=60)
    assert rows() == [("user", "alice", None, 25)]


def test_a_users_tokens_issued_so_far_are_revoked(run: Run, rows: Callable[[], list[tuple[Any, ...]]]) -> None:
    line = one_line(run("user", "alice", "--issued-before", "now", "--for", "2h"))
    assert line.startswith('revoked tokens of user "alice" issued up to 2')
    issued_before, until = dates_in(line)
    assert issued_before == pytest.approx(time.time(), abs=60)
    assert until == pytest.approx(time.time() + 7200, abs=60)
    assert rows() == [("user", "alice", issued_before, 2)]


def test_a_token_a_key_and_all_tokens_can_be_revoked(run: Run, rows: Callable[[], object]) -> None:
    assert one_line(run("jti", "3f0c")).startswith('revoked token "3f0c", until')
    assert one_line(run("key", THUMBPRINT)).startswith(f'revoked tokens signed with key "{THUMBPRINT}", until')
    assert one_line(run("all", "--issued-before", "1700000000")).startswith(
        "revoked all tokens issued up to 2023-11-14T22:13:20Z, until"
    )
    assert rows() == [
        ("jti", "3f0c", None, 25),
        ("key", THUMBPRINT, None, 25),
        ("all", None, 1_700_000_000, 25),
    ]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1700000000", 1_700_000_000),
        ("2023-11-14T22:13:20Z", 1_700_000_000),
        ("2023-11-14T22:13:20.9", 1_700_000_000),
        ("2023-11-15 00:13:20+02:00", 1_700_000_000),
        ("2023-11-14", 1_699_920_000),
    ],
)
def test_moments_are_seconds_or_dates(
    text: str, moment: int, run: Run, rows: Callable[[], list[tuple[Any, ...]]]
) -> None:
    one_line(run("all", "--issued-before", text))
    assert rows()[0][2] == moment


def test_revoking_again_widens_the_entry(run: Run, rows: Callable[[], object]) -> None:
    one_line(run("user", "alice", "--for", "48h"))
    line = one_line(run("user", "alice"))
    assert "(revocation 1)" in line
    assert dates_in(line)[0] == pytest.approx(time.time() + 2 * DAY, abs=60)
    assert rows() == [("user", "alice", None, 48)]


def test_entries_outlive_the_longest_token_where_its_lifetime_is_known(run: Run, rows: Callable[[], object]) -> None:
    one_line(run("user", "alice", env={"AUTH_JWT_MAX_LIFETIME": str(7 * DAY)}))
    one_line(run("user", "bob", env={"AUTH_JWT_MAX_LIFETIME": "300"}))
    one_line(run("user", "carol", "--for", "1h", env={"AUTH_JWT_MAX_LIFETIME": str(7 * DAY)}))
    assert rows() == [("user", "alice", None, 7 * 24 + 1), ("user", "bob", None, 25), ("user", "carol", None, 1)]


def test_what_begins_with_a_dash_goes_behind_two(run: Run, rows: Callable[[], object]) -> None:
    one_line(run("key", "--for", "1h", "--", f"-{THUMBPRINT[1:]}"))
    assert rows() == [("key", f"-{THUMBPRINT[1:]}", None, 1)]


def test_entries_are_listed_and_removed(run: Run, rows: Callable[[], object]) -> None:
    empty = run("list")
    assert (empty.exit_code, empty.stdout, empty.stderr) == (0, "", "No revocation is in force.\n")
    one_line(run("user", "alice"))
    one_line(run("all", "--issued-before", "1700000000"))
    first, second = run("list").stdout.splitlines()
    assert re.fullmatch(r' +1  user "alice", made \S+Z, until \S+Z', first)
    assert re.fullmatch(r" +2  all tokens issued up to 2023-11-14T22:13:20Z, made \S+Z, until \S+Z", second)
    assert one_line(run("remove", "1")).startswith('removed revocation 1 (user "alice")')
    assert rows() == [("all", None, 1_700_000_000, 25)]
    again = run("remove", "1")
    assert (again.exit_code, again.stdout) == (1, "")
    assert "there is no revocation 1" in again.stderr


def test_the_list_can_be_read_by_programs(run: Run) -> None:
    assert run("list", "--json").stdout == ""
    one_line(run("user", "ål\u202eice", "--issued-before", "1700000000"))
    answer = one_line(run("list", "--json"))
    assert answer.isascii()
    entry = json.loads(answer)
    assert entry["created_at"] == pytest.approx(time.time(), abs=60)
    assert entry["expires_at"] == pytest.approx(time.time() + 25 * 3600, abs=60)
    del entry["created_at"], entry["expires_at"]
    assert entry == {"id": 1, "kind": "user", "value": "ål\u202eice", "issued_before": 1_700_000_000}


def test_texts_of_others_are_escaped_wherever_they_are_printed(run: Run) -> None:
    hostile = "\x1b[2J\u202ebob\n"
    for arguments in (["user", hostile], ["list"], ["remove", "1"]):
        result = run(*arguments)
        assert result.exit_code == 0
        assert "\\x1b[2J\\u202ebob\\n" in result.stdout
        assert "\x1b" not in result.output
        assert "\u202e" not in result.output
        assert len(result.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["user"],
        ["user", ""],
        ["user", "\udcff"],
        ["user", "x" * 16_385],
        ["user", "alice", "--for", "0"],
        ["user", "alice", "--for", "soon"],
        ["user", "alice", "--for", "9999999d"],
        ["user", "alice", "--issued-before", "yesterday"],
        ["user", "alice", "--issued-before", "20231114"],
        ["user", "alice", "--issued-before", "1700000000000"],
        ["user", "alice", "--issued-before", "2999-01-01"],
        ["user", "alice", "--issued-before", "0001-01-01"],
        ["jti", "x", "--issued-before", "now"],
        ["key", "alice"],
        ["all"],
        ["all", "alice", "--issued-before", "now"],
        ["remove", "0"],
        ["remove", "alice"],
        ["remove", str(2**63)],
        ["everybody"],
    ],
)
def test_senseless_requests_are_usage_errors(arguments: list[str], run: Run, rows: Callable[[], object]) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert rows() == []


def test_a_senseless_request_is_told_without_a_database(bare: Run) -> None:
    result = bare("key", "alice")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "a key is named by its RFC 7638 thumbprint" in result.stderr


def test_a_moment_may_lie_as_far_ahead_as_clocks_differ(run: Run) -> None:
    soon = datetime.fromtimestamp(time.time() + 20, UTC).isoformat()
    assert run("all", "--issued-before", soon).exit_code == 0


def test_a_wrong_configuration_is_told_and_nothing_done(bare: Run) -> None:
    secret = "s3cret"
    env = {"DATABASE_URL": f"mysql://app:{secret}@db/app", "DATABASE_REQUIRE_SSL": "maybe"}
    result = bare("user", "alice", env=env)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "DATABASE_URL has an invalid URL scheme" in result.stderr
    assert "DATABASE_REQUIRE_SSL is neither yes nor no" in result.stderr
    assert secret not in result.stderr


def test_other_settings_do_not_matter(run: Run) -> None:
    env = {"AUTH_JWT_ALG": "nonsense", "HTTP_PORT": "x", "LOG_LEVEL": "x"}
    assert run("list", env=env).exit_code == 0


def test_a_database_that_is_not_there_or_not_prepared_or_closed_to_us_is_told_with_a_remedy(
    bare: Run, empty_database: str
) -> None:
    url = database_url(empty_database)
    nowhere = bare("list", env={"DATABASE_URL": re.sub(r":\d+/", ":1/", url)})
    assert (nowhere.exit_code, nowhere.stdout) == (1, "")
    assert "check DATABASE_URL, and that Postgres runs" in nowhere.stderr
    for arguments in (["user", "alice"], ["list"], ["remove", "1"]):
        unprepared = bare(*arguments, env={"DATABASE_URL": url})
        assert (unprepared.exit_code, unprepared.stdout) == (1, "")
        assert "start this release of the service on it once" in unprepared.stderr
    asyncio.run(install_schema(empty_database))
    with psycopg.connect(empty_database, autocommit=True) as admin:
        role = sql.Identifier("leyden_test_stranger")
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
        try:
            stranger = database_url(make_conninfo(empty_database, user="leyden_test_stranger"))
            for arguments in (["user", "alice"], ["list"], ["remove", "1"]):
                denied = bare(*arguments, env={"DATABASE_URL": stranger})
                assert (denied.exit_code, denied.stdout) == (1, "")
                assert "use the service's role" in denied.stderr
            admin.execute(
                sql.SQL(
                    "GRANT USAGE ON SCHEMA leyden TO {0};"
                    "GRANT SELECT, INSERT, UPDATE, DELETE ON leyden.revocations TO {0}"
                ).format(role)
            )
            for arguments in (["user", "alice"], ["list"], ["remove", "1"]):
                assert bare(*arguments, env={"DATABASE_URL": stranger}).exit_code == 0
        finally:
            admin.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(role))


def test_the_command_works_as_a_process_of_its_own(database: str, rows: Callable[[], object]) -> None:
    keep = {"PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH"}
    env = {name: value for name, value in os.environ.items() if name in keep}
    done = subprocess.run(
        [sys.executable, "-m", "leyden", "revoke", "user", "alice"],
        env={**env, "DATABASE_URL": database_url(database)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith('revoked user "alice", until ')
    assert rows() == [("user", "alice", None, 25)]


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="leyden-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


def test_without_an_address_the_embedded_postgres_of_a_running_service_is_used(
    bare: Run, data_dir: Path, database: str
) -> None:
    env = {"LEYDEN_DATA_DIR": str(data_dir)}
    server = EmbeddedPostgres(data_dir / "postgres")
    server.start()
    try:
        asyncio.run(install_schema(server.dsn()))
        one_line(bare("user", "alice", env=env))
        one_line(bare("--data-dir", str(data_dir), "user", "bob"))
        assert len(bare("list", env=env).stdout.splitlines()) == 2
        both = bare("--data-dir", str(data_dir), "list", env={"DATABASE_URL": database_url(database)})
        assert both.exit_code == 2
        assert "DATABASE_URL is set" in both.stderr
    finally:
        server.stop()
    stopped = bare("list", env=env)
    assert (stopped.exit_code, stopped.stdout) == (1, "")
    assert "no embedded Postgres runs" in stopped.stderr


def test_help_has_an_example(bare: Run) -> None:
    for command in ([], ["user"], ["jti"], ["key"], ["all"], ["list"], ["remove"]):
        result = bare(*command, "--help")
        assert result.exit_code == 0
        assert "Example" in result.stdout
