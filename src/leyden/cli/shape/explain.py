"""`leyden shape explain`: why a row is, or is not, on a client's device.

Owns the questions to the database and their order: all of them see one snapshot of it, so that a difference between
Leyden's judgement and Postgres' is never one in time.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import psycopg

from leyden.auth import Refusal, printable, verifier_from
from leyden.config import ConfigurationError, load_role_policy
from leyden.config.roles import CLAIM, ROLES
from leyden.edge.access.authors import Authors, RolePolicy, RoleRefused
from leyden.model import Author, SnapshotPoint, Table
from leyden.observe.fields import shown
from leyden.postgres.catalog import load_tables
from leyden.postgres.locale import read_locale
from leyden.postgres.reading import lookup
from leyden.postgres.reading.rights import parse_rights, read_rights
from leyden.postgres.reading.snapshots import Snapshot
from leyden.postgres.replication.suspension import suspension
from leyden.postgres.revocations import read_page
from leyden.shapes import questions
from leyden.shapes.company import explain_company, explain_stranger, tables_needed
from leyden.shapes.explanation import Explanation, explain_absence, explain_count, explain_refusal, explain_row
from leyden.shapes.request import Include
from leyden.shapes.rights import OPEN, rules_for
from leyden.shapes.understanding import Asked, Client, ClientNeeded, Facts, Understanding, can_name_a_table, understand
from leyden.shapes.versions import AsOf, VersionedTables

from ..claims import Claim, with_claims
from ..configured import CONFIGURATION_EXIT, auth_settings, conninfo, database_settings
from ..database import data_dir_option, failure, said, session
from ..key_ring import key_ring_for
from ..token_lines import joined, token_of
from .client import as_told, bearer
from .includes import Includes
from .words import json_line, sentences

#: Seconds: rows may have to be counted.
_STATEMENT_TIMEOUT: Final = 120
_LONGEST_REASON: Final = 2048

#: The snapshot is asked for rows only.
_NO_POINT: Final = SnapshotPoint(0, 0, frozenset(), 0)

Connection = psycopg.AsyncConnection[Any]
#: Whom the rows would reach, as far as the database has a say in it.
Identify = Callable[[Connection], Awaitable[Client]]


@dataclass(frozen=True, slots=True)
class Question:
    """A subscription, and the key of a row: of another table than the subscription's, if ``row_of`` names one."""

    table: str
    where: str
    includes: tuple[Include, ...]
    pk: str | None
    row_of: str | None


@dataclass(frozen=True, slots=True)
class _Reading:
    """As which database role clients read."""

    policy: RolePolicy
    namespace: str | None

    def author(self, client: Client) -> Author | None:
        """Who the client is for Postgres; ``None`` if no roles are taken, or it is not let in."""
        if not self.policy.all or any(check.outcome == "fail" for check in client.checks):
            return None
        try:
            return Authors(self.policy, self.namespace).author(client.claims.user_id or "", client.claims.claims)
        except RoleRefused as refused:
            raise click.UsageError(f"the client is not let in: {refused.code}; see {CLAIM} and {ROLES}") from None
        except Refusal as refused:
            raise click.UsageError(f"the client is not let in: {refused.code}") from None


def _reading() -> _Reading:
    try:
        policy = load_role_policy(os.environ)
    except ConfigurationError as error:
        click.echo(str(error), err=True)
        sys.exit(CONFIGURATION_EXIT)
    return _Reading(policy, os.environ.get("AUTH_JWT_NAMESPACE") or None)


@click.command("explain")
@click.argument("table")
@click.option("--where", default="", help="The filter of the subscription. [default: none, all rows of TABLE]")
@click.option("--token", help="The client's token; - reads it from standard input.")
@click.option("--user", help="A client with this user id, without a token. Nothing is verified.")
@click.option(
    "--claim",
    "claims",
    type=Claim(),
    multiple=True,
    help="A claim of a client without a token; the value is read as JSON if it is JSON, else as text. May be repeated.",
)
@click.option(
    "--pk", help="Primary key of the row. Of several columns: a=1,b=2 or a JSON object. [default: count rows]"
)
@click.option(
    "--include",
    "includes",
    type=Includes(),
    default=(),
    help="What the subscription includes: a JSON list of objects with foreign_key (column names) and select (an object"
    " with tablename, and as needed where and include).",
)
@click.option("--row-of", help="The row with that key is of this table: does it come along with those asked for?")
@click.option("--json", "as_json", is_flag=True, help="Answer in one line of JSON.")
@click.option(
    "--jwks",
    "jwks_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With --token: a saved copy of the issuer's key set, when its URL is configured.",
)
@data_dir_option
def explain(
    table: str,
    where: str,
    token: str | None,
    user: str | None,
    claims: tuple[tuple[str, Any], ...],
    pk: str | None,
    includes: tuple[Include, ...],
    row_of: str | None,
    as_json: bool,
    jwks_file: Path | None,
    data_dir: Path | None,
) -> None:
    """Say why a row of TABLE does or does not reach a client that subscribes to it, or which rows do.

    Every check that the service makes is shown in order: ok, FAILED, or - when there was nothing to check, or an
    earlier one failed. The filter is shown node by node with the values it has for the row: true, false, NULL or error,
    of which only true lets the row through. Postgres is asked for the row, and for its own opinion.

    Say who the client is with --token, which is judged by the configured keys (AUTH_*) and the revocations in the
    database, or with --user and --claim, of which nothing is verified. A token on the command line stays in the shell's
    history: give - and paste it. Neither tokens nor keys are printed; the row is, so mind who watches.

    A row comes with all that it refers to, and with what the subscription includes. Ask of such a row with --row-of;
    the tables concerned are read whole for the answer.

    With a database role (AUTH_DB_ROLE, AUTH_DB_ROLE_CLAIM) its policies and privileges are looked at, and Postgres is
    asked as that role.

    Reads from the database of DATABASE_URL and changes nothing. Exit status: 0 the row reaches the client (without
    --pk: the subscription is good), 1 it does not, or is refused, 2 wrong use or configuration.

    \b
    Examples:
      leyden shape explain issues --where "this.status <> 'closed'" --user alice --pk 7
      leyden shape explain issues --where "this.assignee = auth.sub" --token - < token.txt
      leyden shape explain notes --where "this.org = auth.claims ->> 'org'" --user alice --claim org=acme --pk 7 --json
      leyden shape explain issues --where "this.status = 'open'" --row-of users --pk 3
      leyden shape explain members --user alice --pk 'project=7,person=alice'
      leyden shape explain members --user alice --pk '{"project": 7, "person": "a,b"}'
    """
    if row_of is not None and pk is None:
        raise click.UsageError("--row-of needs --pk: which row of that table?")
    identify = _identification(token, user, claims, jwks_file)
    dsn = conninfo(database_settings(), data_dir)
    try:
        explanation = asyncio.run(_explanation(dsn, Question(table, where, includes, pk, row_of), identify, _reading()))
    except psycopg.Error as error:
        raise click.ClickException(_failure(error)) from None
    except ClientNeeded as needed:
        raise click.UsageError(
            shown(f"{needed.reason}: say who the client is, with --token, or with --user and --claim", _LONGEST_REASON)
        ) from None
    except lookup.InvalidKey as invalid:
        raise click.UsageError(shown(f"--pk: {invalid.message}", _LONGEST_REASON)) from None
    if as_json:
        click.echo(json_line(explanation))
    else:
        for line in sentences(explanation, where):
            click.echo(line)
    sys.exit(0 if explanation.verdict in ("reaches", "explained") else 1)


def _identification(
    token: str | None, user: str | None, claims: tuple[tuple[str, Any], ...], jwks_file: Path | None
) -> Identify:
    """How it is found out who the client is. Settings and standard input are read at once."""
    if user == "":
        raise click.UsageError("no user id is empty: leave --user out, or name a user")
    if token is None:
        if jwks_file is not None:
            raise click.UsageError("--jwks is for --token")
        client = as_told(user, with_claims({}, claims))

        async def told(conn: Connection) -> Client:
            return client

        return told
    if user is not None or claims:
        raise click.UsageError("--token says who the client is: leave --user and --claim out")
    settings = auth_settings()
    verifier = verifier_from(settings, key_ring_for(settings, jwks_file))
    given = _pasted() if token == "-" else token  # noqa: S105

    async def judged(conn: Connection) -> Client:
        return bearer(given, time.time(), verifier, await read_page(conn))

    return judged


def _pasted() -> str:
    if sys.stdin.isatty():
        click.echo("Paste the token and press Enter, then Ctrl-D:", err=True)
    tokens = joined([token_of(line) for line in sys.stdin.buffer])
    if len(tokens) != 1:
        raise click.UsageError(f"one token is needed on standard input, and there are {len(tokens) or 'none'}")
    return tokens[0]


async def _explanation(dsn: str, question: Question, identify: Identify, reading: _Reading) -> Explanation:
    async with session(dsn, statement_timeout=_STATEMENT_TIMEOUT) as conn, conn.transaction():
        await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        client = await identify(conn)
        author = reading.author(client)
        facts = await _facts(conn, question.table, reading, author)
        understanding = understand(Asked(question.table, question.where, client, question.includes), facts)
        if understanding.shape is None:
            return explain_refusal(understanding)
        if question.row_of is not None and question.pk is not None:
            return await _company(conn, understanding, facts, question.row_of, question.pk)
        group, pk = understanding.shape.root, question.pk
        if pk is None:
            count = await lookup.count_rows(conn, group.table, understanding.condition, author)
            return explain_count(understanding, count)
        key = lookup.parse_key(group.table, pk)
        found = await lookup.find_row(conn, group.table, key, understanding.condition, author)
        if found is None:
            return explain_absence(understanding, pk)
        return explain_row(understanding, *found, await _loaded(conn, group.consulted.values(), group.questions))


async def _loaded(conn: Connection, tables: Iterable[Table], asked_for: Iterable[questions.Question]) -> AsOf:
    """What decides about rows: those of ``tables``, among which are those of the answers that are ``asked_for``."""
    versions, answers = VersionedTables(), {one.id: one for one in asked_for}
    for table in tables:
        versions.begin(table)
        snapshot, asked = Snapshot(conn, _NO_POINT), answers.get(table.id)
        if asked is None:
            async for rows in snapshot.rows(table):
                versions.load(table, rows)
        else:
            async for keys in snapshot.keys_for(asked.table, asked.reader, _STATEMENT_TIMEOUT):
                versions.load(table, ((key, ()) for key in keys))
        versions.complete(table)
    return versions.as_of(0)


async def _company(conn: Connection, understanding: Understanding, facts: Facts, name: str, pk: str) -> Explanation:
    table = facts.tables.get(name)
    if table is None:
        raise click.UsageError(f"--row-of: there is no electrified table {printable(name)}")
    found = await lookup.find_row(conn, table, lookup.parse_key(table, pk), None)
    if found is None:
        return explain_absence(understanding, pk)
    needed = tables_needed(understanding, table)
    if not needed:
        return explain_stranger(understanding, table)
    asked_for = understanding.shape.part.questions if understanding.shape is not None else ()
    return explain_company(understanding, table, found.row, await _loaded(conn, needed, asked_for))


async def _facts(conn: Connection, name: str, reading: _Reading, author: Author | None) -> Facts:
    tables = {table.name: table for table in (await load_tables(conn)).values()}
    table = tables.get(name)
    locale, role = await read_locale(conn), None if author is None else author.role
    rules = OPEN
    if role is not None:
        rights = parse_rights(await read_rights(conn, [role]))
        required = reading.policy.require_policies
        rules = rules_for(rights, role, reading.namespace, locale, tables, require_policies=required)
    return Facts(
        tables,
        locale,
        suspended=None if table is None else await suspension(conn, table),
        present=can_name_a_table(name) and await lookup.is_table(conn, name),
        rules=rules,
        role=role,
    )


def _failure(error: psycopg.Error) -> str:
    match error:
        case psycopg.errors.UndefinedTable() | psycopg.errors.InvalidSchemaName():
            return (
                "the database is not prepared (there is no table leyden.tables); start this release of the service on"
                " it once, or check that DATABASE_URL names the service's database"
            )
        case psycopg.errors.InsufficientPrivilege():
            return f"the database role may not look ({said(error)}); use the service's role"
        case psycopg.DataError():
            return f"a policy fails for this client: {said(error)}"
        case psycopg.errors.QueryCanceled():
            return f"Postgres took longer than {_STATEMENT_TIMEOUT} seconds; explain one row, with --pk"
        case _:
            return failure(error)
