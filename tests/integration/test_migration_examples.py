"""examples/alembic and examples/django, each run by its own command line: a table is made and electrified, a column
reaches clients, and what they cannot follow is refused in words that a developer understands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from interop.service import database_url

EXAMPLES = Path(__file__).parents[2] / "examples"

#: Runs a command of the example; returns its exit status and all that it printed.
Run = Callable[..., tuple[int, str]]


def command_of(database: str, directory: Path, *command: str) -> Run:
    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-B", *command, *arguments],
            cwd=directory,
            env={**os.environ, "DATABASE_URL": database_url(database)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        return done.returncode, done.stdout

    return run


@pytest.fixture
def conn(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def alembic(database: str) -> Run:
    return command_of(database, EXAMPLES / "alembic", "-m", "alembic")


@pytest.fixture
def manage(database: str) -> Run:
    return command_of(database, EXAMPLES / "django", "manage.py")


def versions(conn: psycopg.Connection[Any]) -> list[list[dict[str, Any]]]:
    return [row[0] for row in conn.execute("SELECT changes FROM leyden.versions ORDER BY version")]


def kinds(conn: psycopg.Connection[Any]) -> list[list[str]]:
    return [[change["kind"] for change in changes] for changes in versions(conn)]


def priority_of(conn: psycopg.Connection[Any]) -> dict[str, Any]:
    """The column as clients know it."""
    table = versions(conn)[-1][0]["table"]
    found: dict[str, Any] = next(column for column in table["columns"] if column["name"] == "priority")
    return found


REFUSAL = (
    "table todos is electrified; clients cannot follow this change:",
    "- column title is dropped, renamed or in another place",
    "Leave the column as it is and add another, which devices with older apps do not mind.",
    "Or give the table up with leyden.disable and make another.",
)


def assert_refused(result: tuple[int, str], conn: psycopg.Connection[Any], readme: Path) -> None:
    status, output = result
    shown = readme.read_text()
    assert status != 0
    for line in REFUSAL:
        assert line in output
        assert line in shown
    assert conn.execute("SELECT count(title) FROM todos").fetchone() == (1,)


def test_alembic_migrates_what_clients_can_follow_and_shows_why_not_the_rest(
    alembic: Run, conn: psycopg.Connection[Any]
) -> None:
    assert alembic("upgrade", "0001")[0] == 0
    conn.execute("INSERT INTO todos VALUES (gen_random_uuid(), 'older than the column', false)")
    status, output = alembic("upgrade", "0002")
    assert status == 0, output
    assert kinds(conn) == [["create_table"], ["add_columns", "create_index"]]
    assert priority_of(conn)["default"] == "0"
    assert priority_of(conn)["not_null"]
    assert_refused(alembic("upgrade", "head"), conn, EXAMPLES / "alembic" / "README.md")
    assert conn.execute("SELECT version_num FROM alembic_version").fetchall() == [("0002",)]
    assert "devices keep the column" in alembic("downgrade", "0001")[1]


def test_a_table_of_alembic_can_be_taken_back(alembic: Run, conn: psycopg.Connection[Any]) -> None:
    assert alembic("upgrade", "0001")[0] == 0
    assert alembic("downgrade", "base")[0] == 0
    assert conn.execute("SELECT to_regclass('todos')").fetchone() == (None,)


def test_alembic_tells_clients_of_a_column_where_there_are_no_event_triggers(unguarded_database: str) -> None:
    run = command_of(unguarded_database, EXAMPLES / "alembic", "-m", "alembic")
    status, output = run("upgrade", "0002")
    assert status == 0, output
    with psycopg.connect(unguarded_database) as conn:
        assert kinds(conn) == [["create_table"], ["add_columns", "create_index"]]
        assert conn.execute("SELECT * FROM leyden.strays()").fetchall() == []


def test_django_migrates_what_clients_can_follow_and_shows_why_not_the_rest(
    manage: Run, conn: psycopg.Connection[Any]
) -> None:
    assert manage("migrate", "todos", "0002")[0] == 0
    conn.execute("INSERT INTO todos VALUES (gen_random_uuid(), 'older than the column', false)")
    status, output = manage("migrate", "todos")
    assert status == 0, output
    assert kinds(conn) == [["create_table"], ["add_columns", "create_index"]]
    # Django drops the default at once; on devices it stays, for their rows and for those of older apps
    assert priority_of(conn)["default"] == "0"
    assert conn.execute("SELECT count(*) FROM pg_attrdef WHERE adrelid = 'todos'::regclass").fetchone() == (0,)
    assert conn.execute("SELECT priority FROM todos").fetchall() == [(0,)]
    assert_refused(manage("migrate", "refused"), conn, EXAMPLES / "django" / "README.md")
    assert conn.execute("SELECT count(*) FROM django_migrations WHERE app = 'refused'").fetchone() == (0,)


#: Operations on the table as a project might go on with, and the reason for which they are refused; ``None`` if clients
#: follow.
OPERATIONS = [
    ("AddField('todo', 'note', models.TextField(null=True))", None),
    ("AddField('todo', 'note', models.TextField(default='it\\'s'))", None),
    ("AddField('todo', 'at', models.DateTimeField(default=timezone.now))", None),
    ("AddField('todo', 'day', models.DateField(default=datetime.date(2026, 1, 31)))", None),
    ("AddField('todo', 'mark', models.UUIDField(default=uuid.uuid4))", None),
    ("AddField('todo', 'extra', models.JSONField(default=dict))", None),
    ("AddField('todo', 'score', models.FloatField(default=-1.5))", None),
    ("AddField('todo', 'picture', models.BinaryField(default=b'\\0x'))", None),
    ("AddField('todo', 'shown', models.BooleanField(db_default=True))", None),
    ("AddField('todo', 'up', models.ForeignKey('todo', models.CASCADE, null=True, db_constraint=False))", None),
    ("AddIndex('todo', models.Index(fields=['done', '-priority'], name='todos_done'))", None),
    ("AlterField('todo', 'done', models.BooleanField(default=True, verbose_name='Done?'))", None),
    ("AddField('todo', 'up', models.ForeignKey('todo', models.CASCADE, null=True))", "a foreign key was added"),
    ("AddField('todo', 'tag', models.CharField(max_length=5, default=''))", "type character varying(5)"),
    ("AddField('todo', 'count', models.PositiveIntegerField(default=0))", "it has the CHECK constraint"),
    ("AddField('todo', 'name', models.TextField(null=True, unique=True))", "it has the UNIQUE constraint"),
    ("AddField('todo', 'at', models.DateTimeField(db_default=Now()))", "has a default that is not a constant"),
    ("AlterField('todo', 'title', models.TextField(null=True))", "column title was NOT NULL"),
    ("RenameField('todo', 'title', 'text')", "column title is dropped, renamed or in another place"),
    ("RemoveField('todo', 'done')", "column done is dropped, renamed or in another place"),
    ("AlterModelTable('todo', 'tasks')", "the table is now called tasks"),
    ("DeleteModel('todo')", "electrified table(s) todos cannot be dropped"),
]


@pytest.mark.parametrize(("operation", "reason"), OPERATIONS)
def test_what_django_does_is_followed_or_refused_with_a_reason(
    database: str, conn: psycopg.Connection[Any], tmp_path: Path, operation: str, reason: str | None
) -> None:
    project = tmp_path / "project"
    shutil.copytree(EXAMPLES / "django", project)
    (project / "todos" / "migrations" / "0004_next.py").write_text(
        "import datetime, uuid\n"
        "from django.db import migrations, models\n"
        "from django.db.models.functions import Now\n"
        "from django.utils import timezone\n"
        "class Migration(migrations.Migration):\n"
        "    dependencies = [('todos', '0003_todo_priority')]\n"
        f"    operations = [migrations.{operation}]\n"
    )
    status, output = command_of(database, project, "manage.py")("migrate", "todos")
    if reason is None:
        assert status == 0, output
        assert conn.execute("SELECT * FROM leyden.strays()").fetchall() == []
    else:
        assert status != 0
        assert reason in output
        assert "HINT:" in output
        assert len(versions(conn)) == 2


def test_the_models_of_django_are_what_its_migrations_make(manage: Run) -> None:
    status, output = manage("makemigrations", "--check", "--dry-run", "todos")
    assert status == 0, output


def test_a_table_of_django_can_be_taken_back(manage: Run, conn: psycopg.Connection[Any]) -> None:
    assert manage("migrate", "todos", "0002")[0] == 0
    status, output = manage("migrate", "todos", "zero")
    assert status == 0, output
    assert conn.execute("SELECT to_regclass('todos')").fetchone() == (None,)
