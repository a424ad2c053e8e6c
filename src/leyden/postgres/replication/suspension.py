"""Whether an electrified table still is what clients were told, as the catalog has it at this moment.

The service itself learns it from the replication stream, with the next change of the table or when it looks
(:mod:`leyden.postgres.replication.inspection`); this is for those who are about to read rows before that. All go by
the rules of ``relations``.
"""

from __future__ import annotations

from typing import Any

import psycopg

from leyden.model import Table
from leyden.postgres.replication.pgoutput import Relation, RelationColumn
from leyden.postgres.replication.publication import PUBLICATION
from leyden.postgres.replication.relations import NO_COLUMNS, Source

_RELATION = """
SELECT n.nspname, c.relname, c.relreplident::text,
       EXISTS (SELECT FROM pg_catalog.pg_publication_tables p
               WHERE p.pubname = %(publication)s AND p.schemaname = n.nspname AND p.tablename = c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %(id)s
"""

_COLUMNS = """
SELECT a.attname, a.atttypid::bigint, t.typname
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = %(id)s AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum
"""


class TableStrayed(Exception):
    """A table is not what clients were told, and about to be suspended."""

    def __init__(self, table: str, reason: str) -> None:
        super().__init__(f"table {table} is not what clients were told: {reason}")


async def suspension(conn: psycopg.AsyncConnection[Any], table: Table, *, may_have_more: bool = False) -> str | None:
    """Why no rows of ``table`` can be delivered any more; ``None`` when they can. ``may_have_more`` columns than
    described whoever reads it as it was before a migration. Raises :class:`psycopg.Error`."""
    parameters = {"id": table.id, "publication": PUBLICATION}
    found = await (await conn.execute(_RELATION, parameters)).fetchone()
    if found is None:
        return "it was dropped"
    namespace, name, identity, published = found
    columns = await (await conn.execute(_COLUMNS, parameters)).fetchall()
    if may_have_more:
        described = {column.name for column in table.columns}
        columns = [column for column in columns if column[0] in described]
    relation = Relation(
        table.id, namespace, name, identity, tuple(RelationColumn(column, oid, True) for column, oid, _ in columns)
    )
    type_names = {oid: type_name for _, oid, type_name in columns}
    bound = Source(relation).bind(table, NO_COLUMNS, NO_COLUMNS, type_names)
    if isinstance(bound, str):
        return bound
    return None if published else f"it is not in the publication {PUBLICATION}"
