"""`leyden check`: what the database lacks, and who may read which electrified table.

Owns the words. What a database must offer is known to `leyden.postgres.requirements`, what a role may read to
`leyden.shapes.rights`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click
import psycopg

from leyden.auth import Check, printable
from leyden.config import ConfigurationError, load_role_policy
from leyden.edge.access.authors import RolePolicy
from leyden.model import Locale, ReadingRights, RightsByRole, Table
from leyden.observe.fields import shown
from leyden.postgres.catalog import load_tables
from leyden.postgres.locale import read_locale
from leyden.postgres.reading.rights import parse_rights, read_rights
from leyden.postgres.requirements import Requirement, unmet_requirements
from leyden.shapes.rights import Forbidden, Rule, rules_for
from leyden.shapes.where import OWNER_COLUMN

from .checks import check_lines
from .configured import CONFIGURATION_EXIT, conninfo, database_settings
from .database import data_dir_option, failure, session

_STATEMENT_TIMEOUT: Final = 30
_LONGEST: Final = 500

_DATABASE_CHECK: Final = "database"


@click.command("check")
@data_dir_option
def check(data_dir: Path | None) -> None:
    """Say what the database lacks for the service, and for each electrified table who may read it.

    With a database role (AUTH_DB_ROLE, or AUTH_DB_ROLE_CLAIM and AUTH_DB_ROLES) a table without row-level security or
    without a policy is a finding. Policies that are not understood, so that Postgres is asked, are listed with what
    that costs. Changes nothing. Exit status: 0 all is well, 1 there are findings, 2 wrong use or configuration.

    \b
    Example:
      DATABASE_URL=postgresql://app:secret@db/app AUTH_DB_ROLE=app_user leyden check
    """
    try:
        policy = load_role_policy(os.environ)
    except ConfigurationError as error:
        click.echo(str(error), err=True)
        sys.exit(CONFIGURATION_EXIT)
    dsn = conninfo(database_settings(), data_dir)
    try:
        checks = asyncio.run(_checks(dsn, policy))
    except psycopg.Error as error:
        raise click.ClickException(failure(error)) from None
    for one in checks:
        for line in check_lines(one):
            click.echo(shown(line, _LONGEST))
    sys.exit(1 if any(one.outcome == "fail" for one in checks) else 0)


async def _checks(dsn: str, policy: RolePolicy) -> list[Check]:
    async with session(dsn, statement_timeout=_STATEMENT_TIMEOUT) as conn:
        checks = list(_requirements(await unmet_requirements(conn, roles=policy.all)))
        if not await _is_prepared(conn):
            return [*checks, Check("tables", "skipped", "the database is not prepared: start the service on it once")]
        tables = await load_tables(conn)
        rights = parse_rights(await read_rights(conn, policy.all))
        return [*checks, *_tables(tables, rights, policy, await read_locale(conn))]


async def _is_prepared(conn: psycopg.AsyncConnection[Any]) -> bool:
    cursor = await conn.execute("SELECT to_regclass('leyden.tables') IS NOT NULL")
    row = await cursor.fetchone()
    return row is not None and bool(row[0])


def _requirements(unmet: tuple[Requirement, ...]) -> Iterator[Check]:
    if not unmet:
        yield Check(_DATABASE_CHECK, "pass", "meets every requirement")
    for one in unmet:
        yield Check(f"{_DATABASE_CHECK}: {one.code}", "fail", str(one))


def _tables(tables: Mapping[int, Table], rights: RightsByRole, policy: RolePolicy, locale: Locale) -> Iterator[Check]:
    if not tables:
        yield Check("tables", "skipped", "none is electrified")
    for table in tables.values():
        if not policy.all:
            yield Check(f"table {printable(table.name)}", "skipped", _without_role(table))
        for role in sorted(policy.all):
            name = f"table {printable(table.name)}, role {printable(role)}"
            rules = rules_for(rights, role, None, locale, {one.name: one for one in tables.values()})
            found = rights.get(role, {}).get(table.id)
            if found is None:
                yield Check(name, "skipped", "may not be read")
                continue
            try:
                rule = rules.of(table)
            except Forbidden as forbidden:
                yield Check(name, "fail", f"is refused: {forbidden.message}")
            else:
                yield _judged(name, table, found, rule)


def _without_role(table: Table) -> str:
    if any(column.name == OWNER_COLUMN for column in table.columns):
        return f"is read by the users named in {OWNER_COLUMN}; no database role is set, so that policies do not matter"
    return "is read by everybody: no database role is set (AUTH_DB_ROLE), so that policies do not matter"


def _judged(name: str, table: Table, rights: ReadingRights, rule: Rule) -> Check:
    if rights.policies is None:
        statement = f"ALTER TABLE {printable(table.name)} ENABLE ROW LEVEL SECURITY"
        return Check(name, "fail", f"has no row-level security: every user reads every row; {statement}")
    if not any(policy.permissive for policy in rights.policies):
        return Check(name, "fail", "no policy lets anything through, so that nobody reads a row; CREATE POLICY")
    hidden = "" if rights.columns is None else f"; columns read: {', '.join(sorted(rights.columns))}"
    asked = "" if rule.unknown is None else f"; {rule.unknown.cost}: {rule.unknown.why}"
    return Check(name, "pass", f"policies: {', '.join(policy.name for policy in rights.policies)}{hidden}{asked}")
