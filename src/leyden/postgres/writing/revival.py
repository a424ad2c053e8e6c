"""Which rows a row refers to, for bringing them back together with it. Pure.

When an upload revives a dead row, the rows it refers to may be dead as well; without them its foreign keys would
refuse it. The client compensates for one level only; the levels above are the server's to find.
"""

from __future__ import annotations

from collections.abc import Mapping

from leyden.conflict.operations import Values
from leyden.model import Table
from leyden.postgres.writing.rows import RawKey


def parents_of(table: Table, row: Values, tables: Mapping[str, Table]) -> list[tuple[Table, RawKey]]:
    """The electrified rows that ``row`` of ``table`` refers to, by the foreign keys in ``tables``' descriptions.

    ``tables`` are the electrified tables by name. References with a NULL in them refer to nothing (MATCH SIMPLE).
    Electrified tables have no unique columns but their primary key, so a reference always holds a key.
    """
    found = []
    for foreign_key in table.foreign_keys:
        parent = tables.get(foreign_key.ref_table)
        if parent is None or set(foreign_key.ref_columns) != set(parent.primary_key):
            continue
        named = {ref: row.get(name) for name, ref in zip(foreign_key.columns, foreign_key.ref_columns, strict=True)}
        key = [value.decode() for name in parent.primary_key if (value := named[name]) is not None]
        if len(key) == len(parent.primary_key):
            found.append((parent, tuple(key)))
    return found
