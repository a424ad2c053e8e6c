"""What the dialects have in common: the form of a statement, quoted names, foreign key clauses.

Must not know any dialect.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from leyden.model import ForeignKey

#: Names of the wire's ``SatOpMigrate.Type``, in lower case.
Kind = Literal["create_table", "create_index", "create_enum_type", "alter_add_column"]


class Statement(NamedTuple):
    kind: Kind
    sql: str


def quote(name: str) -> str:
    """An identifier in double quotes, those inside doubled."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """A text as a literal. No escapes: backslashes stand for themselves in both dialects."""
    return "'" + text.replace("'", "''") + "'"


def quote_all(names: Iterable[str]) -> str:
    return ", ".join(quote(name) for name in names)


def foreign_key_clause(foreign_key: ForeignKey) -> str:
    """The table constraint; actions only where they are not the default."""
    parts = [
        f"CONSTRAINT {quote(foreign_key.name)} FOREIGN KEY ({quote_all(foreign_key.columns)})",
        f"REFERENCES {quote(foreign_key.ref_table)} ({quote_all(foreign_key.ref_columns)})",
    ]
    if foreign_key.on_delete != "NO ACTION":
        parts.append(f"ON DELETE {foreign_key.on_delete}")
    if foreign_key.on_update != "NO ACTION":
        parts.append(f"ON UPDATE {foreign_key.on_update}")
    return " ".join(parts)
