"""What a database must offer before the service can use it.

Owns the checks and, for each, the sentence that says how to meet it. Must not know what happens when one
fails.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row

from leyden.postgres.replication.publication import PUBLICATION, slot_name

#: Major versions of Postgres that are supported, both inclusive.
OLDEST_VERSION = 14
NEWEST_VERSION = 18

#: Roles by which hosts grant replication to roles that cannot have the attribute.
_REPLICATION_GROUPS = ["rds_replication", "rds_superuser"]

_FACTS = """
SELECT current_setting('server_version_num')::int AS version,
       current_setting('wal_level') AS wal_level,
       current_setting('server_encoding') AS encoding,
       pg_is_in_recovery() AS standby,
       current_database() AS database,
       current_user AS role,
       r.rolsuper AS superuser,
       r.rolsuper OR r.rolreplication OR EXISTS (
           SELECT FROM pg_roles g WHERE g.rolname = ANY(%(groups)s) AND pg_has_role(r.oid, g.oid, 'MEMBER')
       ) AS replication,
       has_database_privilege(current_database(), 'CREATE') AS may_create,
       current_setting('max_replication_slots')::int
           - (SELECT count(*) FROM pg_replication_slots)::int AS free_slots,
       EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = %(slot)s) AS has_slot,
       ARRAY(SELECT c.relname::text FROM pg_publication p
             JOIN pg_publication_rel pr ON pr.prpubid = p.oid
             JOIN pg_class c ON c.oid = pr.prrelid
             WHERE p.pubname = %(publication)s AND row_security_active(c.oid) ORDER BY 1) AS filtered,
       current_setting('max_wal_senders')::int
           - (SELECT count(*) FROM pg_stat_replication)::int AS free_senders
FROM pg_roles r WHERE r.rolname = current_user
"""

#: About each of the roles that users' writes run as. Owners of a table are free of its policies unless these are forced
#: on them, and so is who inherits an owner's rights.
_ROLE_FACTS = """
SELECT wanted.name,
       r.oid IS NOT NULL AS exists,
       CASE WHEN r.oid IS NULL THEN false
            WHEN current_setting('server_version_num')::int < 160000 THEN pg_has_role(current_user, r.oid, 'MEMBER')
            ELSE pg_has_role(current_user, r.oid, 'SET') END AS granted,
       coalesce(r.rolsuper OR r.rolbypassrls, false) AS above_policies,
       coalesce(pg_has_role(r.oid, current_user, 'MEMBER'), false) AS is_service,
       ARRAY(SELECT c.relname::text
             FROM pg_publication p
             JOIN pg_publication_rel pr ON pr.prpubid = p.oid
             JOIN pg_class c ON c.oid = pr.prrelid
             WHERE p.pubname = %(publication)s AND c.relrowsecurity AND NOT c.relforcerowsecurity
               AND pg_has_role(r.oid, c.relowner, 'USAGE') ORDER BY 1) AS owned
FROM unnest(%(roles)s::text[]) AS wanted(name) LEFT JOIN pg_roles r ON r.rolname = wanted.name ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One requirement that is not met. ``code`` is stable, ``remedy`` says what to do."""

    code: str
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}"


class DatabaseRequirementError(Exception):
    """The database cannot be used as it is. ``unmet`` holds every requirement not met, at least one."""

    def __init__(self, unmet: tuple[Requirement, ...]) -> None:
        super().__init__("\n".join(map(str, unmet)))
        self.unmet = unmet


async def require(conn: psycopg.AsyncConnection[Any], *, slot: str | None = None, roles: Collection[str] = ()) -> None:
    """Raise :class:`DatabaseRequirementError` unless the database, the session's role and ``roles``, as which users'
    writes are to run, are fit for use."""
    unmet = await unmet_requirements(conn, slot=slot, roles=roles)
    if unmet:
        raise DatabaseRequirementError(unmet)


async def unmet_requirements(
    conn: psycopg.AsyncConnection[Any], *, slot: str | None = None, roles: Collection[str] = ()
) -> tuple[Requirement, ...]:
    """Everything that is missing, most basic first. ``slot`` defaults to :func:`slot_name`."""
    async with conn.cursor(row_factory=dict_row) as cursor:
        name = slot or slot_name(conn.info.dbname)
        await cursor.execute(_FACTS, {"groups": _REPLICATION_GROUPS, "slot": name, "publication": PUBLICATION})
        facts = await cursor.fetchone()
        assert facts is not None  # the session's role exists
        of_roles: list[dict[str, Any]] = []
        if roles:
            await cursor.execute(_ROLE_FACTS, {"roles": sorted(roles), "publication": PUBLICATION})
            of_roles = await cursor.fetchall()
    return judge(facts) + tuple(one for role in of_roles for one in judge_role(role, facts["role"]))


def judge(facts: Mapping[str, Any]) -> tuple[Requirement, ...]:
    """What is missing, given the facts that :func:`unmet_requirements` reads."""
    unmet = []

    def need(met: bool, code: str, message: str, remedy: str) -> None:
        if not met:
            unmet.append(Requirement(code, message, remedy))

    major = facts["version"] // 10000
    role, database = _quoted(facts["role"]), _quoted(facts["database"])
    need(
        OLDEST_VERSION <= major <= NEWEST_VERSION,
        "version",
        f"Postgres {major} is not supported",
        f"use a version from {OLDEST_VERSION} to {NEWEST_VERSION}",
    )
    need(
        facts["encoding"] == "UTF8",
        "encoding",
        f"the database has encoding {facts['encoding']}",
        "clients speak UTF-8: create the database with ENCODING 'UTF8'",
    )
    need(
        not facts["standby"],
        "standby",
        "the server is a standby, which cannot be written",
        "connect to the primary",
    )
    need(
        facts["wal_level"] == "logical",
        "wal_level",
        f"wal_level is {facts['wal_level']}",
        "ALTER SYSTEM SET wal_level = logical, then restart Postgres (managed hosts have a switch for it)",
    )
    need(
        facts["replication"],
        "replication",
        f"role {role} may not replicate",
        f"as a superuser: ALTER ROLE {role} REPLICATION",
    )
    need(
        facts["may_create"],
        "create",
        f"role {role} may not create schemas in database {database}",
        f"as the database's owner: GRANT CREATE ON DATABASE {database} TO {role}",
    )
    need(
        facts["has_slot"] or facts["free_slots"] > 0,
        "slots",
        "all replication slots are taken",
        "drop one that is not used (SELECT slot_name, active FROM pg_replication_slots) or raise"
        " max_replication_slots and restart Postgres",
    )
    need(
        facts["free_senders"] > 0,
        "senders",
        "all replication connections are taken",
        "raise max_wal_senders and restart Postgres",
    )
    need(
        not facts["filtered"],
        "row_security",
        f"row-level security hides rows of {', '.join(map(_quoted, facts['filtered']))} from the service's role {role}",
        f"as a superuser: ALTER ROLE {role} BYPASSRLS; or let it own the tables, without FORCE ROW LEVEL SECURITY",
    )
    return tuple(unmet)


def judge_role(facts: Mapping[str, Any], service: str) -> tuple[Requirement, ...]:
    """What keeps a role from being the one that users' writes run as; ``service`` is the session's own."""
    role = _quoted(facts["name"])
    if not facts["exists"]:
        return (Requirement("role_missing", f"there is no role {role}", f"CREATE ROLE {role} NOLOGIN"),)
    unmet = []
    if facts["above_policies"]:
        unmet.append(
            Requirement(
                "role_bypasses",
                f"role {role} is above row-level security",
                "name a role that is neither a superuser nor has BYPASSRLS",
            )
        )
    if facts["is_service"]:
        unmet.append(
            Requirement(
                "role_is_service",
                f"role {role} may act as the service's own role {_quoted(service)}",
                "name a role that is not a member of it",
            )
        )
    elif not facts["granted"]:
        unmet.append(
            Requirement(
                "role_not_granted",
                f"the service's role {_quoted(service)} may not become role {role}",
                f"GRANT {role} TO {_quoted(service)}",
            )
        )
    if facts["owned"] and not facts["above_policies"]:
        tables = ", ".join(map(_quoted, facts["owned"]))
        unmet.append(
            Requirement(
                "role_owns",
                f"row-level security of {tables} does not hold for role {role}, which has the owner's rights",
                "name a role that has not",
            )
        )
    return tuple(unmet)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
