"""What a client may read of a table: the policies and privileges of its database role, made ready for shapes.

Owns how policies are joined (PostgreSQL manual, "Row Security Policies"), and that whatever is not understood lets
nothing through here, but is asked of Postgres. Knows no catalog and no connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import NoReturn

from leyden.model import Function, Locale, Policy, ReadingRights, RightsByRole, Table
from leyden.shapes.questions import FLEETING_CLAIMS, Unknown, unknown
from leyden.shapes.relations import Relation
from leyden.shapes.where import Claims, Predicate, WhereError, folding
from leyden.shapes.where.claims import bound
from leyden.shapes.where.conditions import Condition, Related, flag
from leyden.shapes.where.policies import Other, Reader, parse_policy
from leyden.shapes.where.predicate import predicate
from leyden.shapes.where.resolution import Refused
from leyden.shapes.where.tree import TRUE, ClaimRef, Expression, walk


class Forbidden(Exception):
    """A table that the role can be served nothing of; ``message`` says why, for the app's developer."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class Allowed:
    """The rows that one client may read: those for which ``predicate`` is true, with a flag for each of ``relations``
    behind their columns."""

    predicate: Predicate
    relations: tuple[Relation, ...] = ()

    @property
    def is_asked(self) -> bool:
        """Whether Postgres is to say which."""
        return any(one.question is not None for one in self.relations)


@dataclass(frozen=True, slots=True)
class Rule:
    """``condition`` is what the policies let through, ``None`` without row-level security. ``columns`` are the names
    of those that may be read, ``None`` for all. What of the policies is ``unknown`` is asked of Postgres instead, and
    so are they all ``if_failing`` for a client's claims; where that cannot be, it raises :class:`Forbidden`."""

    condition: Condition | None = None
    columns: frozenset[str] | None = None
    unknown: Unknown | None = None
    if_failing: Callable[[], Unknown] | None = None

    @property
    def consulted(self) -> Iterator[Table]:
        """The other tables that the policies look at, as they were described."""
        return iter(()) if self.condition is None else self.condition.tables()

    def may_read(self, column: str) -> bool:
        return self.columns is None or column in self.columns

    def bind(self, claims: Claims) -> Allowed | None:
        """The rows that one client may read; ``None`` for all.

        When claims make a part of the policies fail, such as a user id that is no uuid, or have a value that is not
        computed here, Postgres is asked. In which order it looks at parts, and whether it comes to that one, is for it
        to say: what a column is compared with it may compute already when it plans the query.

        Raises :class:`Forbidden` if it cannot be asked, as they depend on claims that are another token's otherwise.
        """
        if self.unknown is not None:
            return _asked(self.unknown, claims)
        if self.condition is None:
            return None
        failures: list[Expression] = []
        own, *of_others = self.condition.trees()
        tree = bound(own, claims, failures)
        for one in of_others:
            bound(one, claims, failures)
        if failures:
            assert self.if_failing is not None, "a policy without claims cannot fail for them"
            return _asked(self.if_failing(), claims)
        allowed = predicate(tree)
        if allowed.tree == TRUE:
            return None
        return Allowed(allowed, tuple(Relation(one, claims) for one in self.condition.related))


def _refuse(message: str) -> NoReturn:
    raise Forbidden(message)


def _asked(unknown: Unknown, claims: Claims) -> Allowed:
    """The rows whose keys are among the answers."""
    question = unknown.of(claims.user_id or "", claims.claims)
    relation = Relation(question.related, _NOBODY, question)
    return Allowed(predicate(flag(len(question.table.columns))), (relation,))


class _NotUnderstood(Forbidden):
    """A policy that can only be asked of Postgres."""


_NO_RULE = Rule()

#: The table of answers is one reader's, so that what is asked of it needs no claims.
_NOBODY = Claims(None, {})

#: What was understood for a role of a table as it was described.
Memo = dict[tuple[str, Table], Rule]


class Rules:
    """The rules for one database role, or for a service that takes none: then everything may be read."""

    def __init__(
        self,
        rights: Mapping[int, ReadingRights] | None = None,
        reader: Reader | None = None,
        locale: Locale | None = None,
        tables: Mapping[str, Table] | None = None,
        memo: Memo | None = None,
        require_policies: bool = False,
    ) -> None:
        """``tables`` are those that policies may look at, by name. ``memo`` goes with ``rights``. With
        ``require_policies`` nothing is read of tables without row-level security, or without a policy."""
        self._rights = rights or {}
        self._reader = reader
        self._locale = locale or Locale(order_is_bytes=False)
        self._tables = tables or {}
        self._require_policies = require_policies
        self._memo: Memo = {} if memo is None else memo
        #: Tables whose policies are being understood.
        self._entered: list[int] = []

    def of(self, table: Table) -> Rule:
        """Raises :class:`Forbidden`."""
        if self._reader is None:
            return _NO_RULE
        key = (self._reader.role, table)
        known = self._memo.get(key)
        if known is None or any(self._tables.get(other.name) != other for other in known.consulted):
            known = self._memo[key] = self._understood(table, self._reader)
        return known

    def are_policed(self, tables: Iterable[Table]) -> bool:
        """Whether policies decide about rows of any of them, even if they let all rows through."""
        found = map(self._rights.get, (table.id for table in tables)) if self._reader is not None else ()
        return any(rights is not None and rights.policies is not None for rights in found)

    def _understood(self, table: Table, reader: Reader) -> Rule:
        rights = self._rights.get(table.id)
        if rights is None:
            raise Forbidden(f"Permission denied for table {table.name}")
        if self._require_policies and not rights.policies:
            what = "has no row-level security" if rights.policies is None else "has no policy for reading"
            raise Forbidden(f"Table {table.name} {what}, which LEYDEN_REQUIRE_RLS asks for")
        columns = rights.columns
        for column in table.columns:
            is_needed = column.not_null or column.name in table.primary_key
            if is_needed and columns is not None and column.name not in columns:
                raise Forbidden(
                    f"Permission denied for column {column.name} of table {table.name}, "
                    "which is part of the key or cannot be NULL"
                )

        asked = partial(unknown, table, reader.role, reader.namespace, self._rights)
        try:
            condition = self._condition(table, rights, reader)
        except _NotUnderstood as reason:
            return Rule(columns=columns, unknown=asked(reason.message))
        used = _claims_of(condition)
        if not used:
            return Rule(condition, columns)
        why = f"A policy of table {table.name} fails for a claim of the token"
        fleeting = {str(claim.path[0]) for claim in used if claim.path and claim.path[0] in FLEETING_CLAIMS}
        if fleeting:
            return Rule(condition, columns, if_failing=partial(_refuse, f"{why}, and its policies use {min(fleeting)}"))
        # Few ever need it, and it describes all that policies may look at.
        return Rule(condition, columns, if_failing=cache(partial(asked, why, is_whole=True)))

    def _condition(
        self, table: Table, rights: ReadingRights, reader: Reader, caller: Function | None = None
    ) -> Condition | None:
        if rights.policies is None:
            return None
        if table.id in self._entered:
            raise _NotUnderstood(f"The policies of table {table.name} look at themselves")
        self._entered.append(table.id)
        try:
            related: list[Related] = []
            conditions = {
                one.name: self._policy(one, table, rights, reader, related, caller) for one in rights.policies
            }
        finally:
            self._entered.pop()
        permissive = [conditions[policy.name] for policy in rights.policies if policy.permissive]
        restrictive = [conditions[policy.name] for policy in rights.policies if not policy.permissive]
        # Restrictive ones first, as the server looks at them. Without a permissive one nothing passes.
        return Condition(folding.all_of([*restrictive, folding.any_of(permissive)]), tuple(related))

    def _policy(
        self,
        policy: Policy,
        table: Table,
        rights: ReadingRights,
        reader: Reader,
        related: list[Related],
        caller: Function | None,
    ) -> Expression:
        refusal = f"The policy {policy.name} of table {table.name} cannot be followed: "
        if not self._locale.letters_are_usual:
            raise Forbidden(f"{refusal}the database has a Turkish, Azerbaijani or Lithuanian locale")
        try:
            return parse_policy(
                policy.using,
                table,
                reader,
                policy.functions,
                collation_is_c=self._locale.order_is_bytes,
                collated=rights.collated,
                namesakes=policy.namesakes,
                find=self._other,
                caller=caller,
                related=related,
            )
        except WhereError as error:
            raise _NotUnderstood(refusal + error.message) from None
        except RecursionError:
            raise _NotUnderstood(f"{refusal}it is nested too deep") from None

    def _other(self, name: str, caller: Function | None) -> Other:
        """The table called ``name``, as a policy sees it, or the body of ``caller``."""
        table = self._tables.get(name)
        rights = None if table is None else self._rights.get(table.id)
        if table is None:
            raise Refused(f"the table {name} is not electrified, so that its changes are not known")
        if rights is None or self._reader is None:
            raise Refused(f"permission denied for table {name}")
        try:
            condition = self._condition(table, rights, self._reader, caller)
        except Forbidden as reason:
            raise Refused(reason.message) from None
        return Other(table, condition, rights.columns, rights.collated)


def _claims_of(condition: Condition | None) -> list[ClaimRef]:
    trees = () if condition is None else condition.trees()
    return [one for tree in trees for one in walk(tree) if isinstance(one, ClaimRef)]


OPEN = Rules()


def rules_for(
    rights: RightsByRole,
    role: str | None,
    namespace: str | None,
    locale: Locale,
    tables: Mapping[str, Table] | None = None,
    memo: Memo | None = None,
    *,
    require_policies: bool = False,
) -> Rules:
    """The rules for ``role`` as ``rights`` has them; for a role that is not among them nothing may be read."""
    if role is None:
        return OPEN
    return Rules(rights.get(role), Reader(role, namespace), locale, tables, memo, require_policies=require_policies)
