"""What a client may read of a table: the policies and privileges of its database role, made ready for shapes.

Owns how policies are joined (PostgreSQL manual, "Row Security Policies"), and that whatever is not understood lets
nothing through. Knows no catalog and no connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from leyden.model import Locale, Policy, ReadingRights, RightsByRole, Table
from leyden.shapes.where import Claims, Predicate, Where, WhereError, folding
from leyden.shapes.where.policies import Reader, parse_policy
from leyden.shapes.where.predicate import predicate
from leyden.shapes.where.tree import FALSE, TRUE, Expression, Failure, walk

_NOTHING = predicate(FALSE)


class Forbidden(Exception):
    """A table that the role can be served nothing of; ``message`` says why, for the app's developer."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class Rule:
    """``where`` is what the policies let through, ``None`` without row-level security. ``columns`` are the names of
    those that may be read, ``None`` for all."""

    where: Where | None = None
    columns: frozenset[str] | None = None

    def may_read(self, column: str) -> bool:
        return self.columns is None or column in self.columns

    def bind(self, claims: Claims) -> Predicate | None:
        """The rows that one client may read; ``None`` for all.

        None at all when a claim makes a part of the policies fail, such as a user id that is no uuid: Postgres then
        refuses every query, whatever the other parts say.
        """
        allowed = None if self.where is None else self.where.bind(claims)
        if allowed is None or allowed.tree == TRUE:
            return None
        return _NOTHING if any(isinstance(one, Failure) for one in walk(allowed.tree)) else allowed


_NO_RULE = Rule()
_ANY_LOCALE = Locale(order_is_bytes=False)


class Rules:
    """The rules for one database role, or for a service that takes none: then everything may be read."""

    def __init__(
        self,
        rights: Mapping[int, ReadingRights] | None = None,
        reader: Reader | None = None,
        locale: Locale = _ANY_LOCALE,
    ) -> None:
        self._rights = rights
        self._reader = reader
        self._locale = locale

    def of(self, table: Table) -> Rule:
        """Raises :class:`Forbidden`."""
        if self._reader is None:
            return _NO_RULE
        rights = None if self._rights is None else self._rights.get(table.id)
        if rights is None:
            raise Forbidden(f"Permission denied for table {table.name}")
        rule = _understood(table, rights, self._reader, self._locale)
        if isinstance(rule, str):
            raise Forbidden(rule)
        return rule


OPEN = Rules()


def rules_for(rights: RightsByRole, role: str | None, namespace: str | None, locale: Locale) -> Rules:
    """The rules for ``role`` as ``rights`` has them; for a role that is not among them nothing may be read."""
    return OPEN if role is None else Rules(rights.get(role), Reader(role, namespace), locale)


@lru_cache(maxsize=4096)
def _understood(table: Table, rights: ReadingRights, reader: Reader, locale: Locale) -> Rule | str:
    """The rule, or why there is none."""
    columns = rights.columns
    for column in table.columns:
        if columns is not None and column.name not in columns and (column.not_null or column.name in table.primary_key):
            return (
                f"Permission denied for column {column.name} of table {table.name}, "
                "which is part of the key or cannot be NULL"
            )
    if rights.policies is None:
        return Rule(columns=columns)
    try:
        conditions = {policy.name: _condition(policy, rights, table, reader, locale) for policy in rights.policies}
    except _NotUnderstood as reason:
        return str(reason)
    permissive = [conditions[policy.name] for policy in rights.policies if policy.permissive]
    restrictive = [conditions[policy.name] for policy in rights.policies if not policy.permissive]
    # Restrictive ones first, as the server looks at them. Without a permissive one nothing passes.
    return Rule(Where(folding.all_of([*restrictive, folding.any_of(permissive)])), columns)


class _NotUnderstood(Exception):
    """A policy that cannot be followed."""


def _condition(policy: Policy, rights: ReadingRights, table: Table, reader: Reader, locale: Locale) -> Expression:
    try:
        if not locale.letters_are_usual:
            raise WhereError("the database has a Turkish, Azerbaijani or Lithuanian locale", 0)
        return parse_policy(
            policy.using,
            table,
            reader,
            policy.functions,
            collation_is_c=locale.order_is_bytes,
            loosely_compared=rights.loosely_compared,
        )
    except WhereError as error:
        raise _NotUnderstood(
            f"The policy {policy.name} of table {table.name} cannot be followed: {error.message}"
        ) from None
