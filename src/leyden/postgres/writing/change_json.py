"""Changes of a client as JSON, as ``leyden.rejected`` keeps them. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from leyden.model import (
    ClientChange,
    ClientCompensation,
    ClientDelete,
    ClientInsert,
    ClientUpdate,
    Table,
)

_Values = Mapping[str, bytes | None]


class UnknownTable(Exception):
    """A change is about a table that is not electrified any more."""

    def __init__(self, table: str) -> None:
        super().__init__(f"table {table} is not electrified")
        self.table = table


def change_to_json(change: ClientChange) -> dict[str, Any]:
    written: dict[str, Any] = {"table": change.table.name, "observed": sorted(map(_clean, change.observed))}
    match change:
        case ClientInsert(row=row):
            return {"op": "insert", "row": _values_to_json(row), **written}
        case ClientUpdate(old=old, new=new):
            return {"op": "update", "old": _values_to_json(old), "new": _values_to_json(new), **written}
        case ClientDelete(old=old):
            return {"op": "delete", "old": _values_to_json(old), **written}
        case _:
            return {"op": "compensation", "key": _values_to_json(change.key), **written}


def change_from_json(written: Mapping[str, Any], tables: Mapping[str, Table]) -> ClientChange:
    """The inverse of :func:`change_to_json`; ``tables`` are the electrified ones by name, as they are now.

    Raises :class:`UnknownTable`.
    """
    table = tables.get(written["table"])
    if table is None:
        raise UnknownTable(written["table"])
    observed = frozenset(written["observed"])
    match written["op"]:
        case "insert":
            return ClientInsert(table, _values_from_json(written["row"]), observed)
        case "update":
            return ClientUpdate(table, _values_from_json(written["old"]), _values_from_json(written["new"]), observed)
        case "delete":
            return ClientDelete(table, _values_from_json(written["old"]), observed)
        case _:
            return ClientCompensation(table, _values_from_json(written["key"]), observed)


def _values_to_json(values: _Values) -> dict[str, Any]:
    return {name: _value_to_json(value) for name, value in values.items()}


def _value_to_json(value: bytes | None) -> str | dict[str, str] | None:
    """Text as it is; what ``jsonb`` cannot hold (NUL, invalid UTF-8) as ``{"base64": …}``."""
    if value is None:
        return None
    try:
        decoded = value.decode()
    except UnicodeDecodeError:
        decoded = "\0"
    return {"base64": base64.b64encode(value).decode()} if "\0" in decoded else decoded


def _values_from_json(values: Mapping[str, Any]) -> dict[str, bytes | None]:
    return {name: _value_from_json(value) for name, value in values.items()}


def _value_from_json(value: str | Mapping[str, str] | None) -> bytes | None:
    match value:
        case None:
            return None
        case str():
            return value.encode()
        case _:
            return base64.b64decode(value["base64"])


def _clean(tag: str) -> str:
    return tag.replace("\0", "")
