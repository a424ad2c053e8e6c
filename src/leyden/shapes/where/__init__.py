"""``where``: a filter on the rows of one table, in Postgres' own grammar.

:func:`parse_where` reads a client's text into a :class:`Where`; :meth:`Where.bind` puts in the claims of one client and
gives a :class:`Predicate`, which is the same condition as a Python function and as SQL. What the language has is
exactly what Postgres makes of it, three-valued logic and errors included; the rest of Postgres is refused by name.

The path of a text: ``syntax`` (text → Postgres' parse tree, bounds) → ``analysis`` (names, types, operators → ``tree``)
→ ``claims`` (bound) → ``normal_form`` → ``evaluation`` (Python), ``printing`` (SQL), ``equalities`` (index).
"""

from leyden.shapes.where.analysis import parse_where
from leyden.shapes.where.claims import Claims
from leyden.shapes.where.ownership import OWNER_COLUMN, owner_predicate, ownership
from leyden.shapes.where.predicate import Predicate, Where, conjunction
from leyden.shapes.where.syntax import WhereError

__all__ = [
    "OWNER_COLUMN",
    "Claims",
    "Predicate",
    "Where",
    "WhereError",
    "conjunction",
    "owner_predicate",
    "ownership",
    "parse_where",
]
