"""Groups and views for tests, from a table and the text of a filter."""

from __future__ import annotations

from leyden.model import Locale, Table
from leyden.shapes.groups import Group
from leyden.shapes.request import Select, planned
from leyden.shapes.view import View
from leyden.shapes.where import Claims

NOBODY = Claims(None, {})
BYTES = Locale(order_is_bytes=True)


def group(table: Table, where: str = "", claims: Claims = NOBODY) -> Group:
    part = planned("r", Select(table.name, where), {table.name: table}, claims, BYTES).part
    assert isinstance(part, Group)
    return part


def whole(*tables: Table) -> View:
    return View(map(Group, tables))
