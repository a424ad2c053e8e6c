"""What a client's subscription is, check by check, for the person who asks: an explanation before it comes to rows.

Pure: what the database holds and who the client is are found out by others. Whether a subscription is served is asked
of the functions that the service asks; nothing here decides it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from psycopg.sql import Composable

from leyden.auth import Check, printable
from leyden.model import Locale, Table
from leyden.shapes.groups import Group
from leyden.shapes.request import MAX_TABLE_NAME_BYTES, Include, Select, Shape, ShapeError, ShapeRequest, plan
from leyden.shapes.rights import OPEN, Forbidden, Rules
from leyden.shapes.where import OWNER_COLUMN, Claims, Where, WhereError, owner_predicate, parse_where
from leyden.shapes.where.explanation import Finding, claims_in
from leyden.shapes.where.spelling import as_written, quoted, spelled

FILTER_CHECK = "filter is understood"

_TABLE_CHECK = "table is electrified"
_DELIVERY_CHECK = "rows of the table are delivered"
_ROLE_CHECK = "database role may read it"
_CLAIMS_CHECK = "claims that the filter uses"
_OWNER_CHECK = "rows have an owner"


class ClientNeeded(Exception):
    """The answer depends on who the client is, and too little was said of it. ``reason`` tells why it does."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Client:
    """Whom rows would reach. One of ``checks``, which say how that is known, has failed if it is not let in."""

    claims: Claims
    checks: tuple[Check, ...]
    named: bool = True
    """Whether anything was said of it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A subscription to the table called ``table``; ``where`` is empty for no filter."""

    table: str
    where: str
    client: Client
    includes: tuple[Include, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What the database holds. The last two are about the table that is asked for."""

    tables: Mapping[str, Table]
    """The electrified ones by name."""
    locale: Locale
    suspended: str | None = None
    """Why its rows are not delivered, if they are not."""
    present: bool = True
    """Whether Postgres has a table of that name, electrified or not."""
    rules: Rules = OPEN
    role: str | None = None
    """The database role that the client reads as, if roles are taken, and the rules for it."""


@dataclass(frozen=True, slots=True)
class Understanding:
    """What the subscription is, or with a check that failed, why it is refused."""

    checks: tuple[Check, ...]
    claims: Claims
    shape: Shape | None = None
    """``None`` when it is refused."""
    where: Where | None = None
    claims_used: tuple[Finding, ...] = ()
    position: int | None = None
    """The character of the filter at which it was refused, if that is what was refused."""
    notes: tuple[str, ...] = ()
    role: str | None = None
    policed: Group | None = None
    """The rows of the table that policies let through; ``None`` for all."""
    condition: Composable | None = None
    """What selects its rows in Postgres for a session of that role, on the alias ``this``; ``None`` for all."""


def understand(asked: Asked, facts: Facts) -> Understanding:
    """What the service makes of the subscription. Raises :class:`ClientNeeded`."""
    client, claims = asked.client, asked.client.claims
    checks = _without_the_filter(asked, facts)
    if _failed(checks):
        return Understanding((*checks, *skipped(FILTER_CHECK, _CLAIMS_CHECK, _OWNER_CHECK)), claims)
    table = facts.tables[asked.table]
    try:
        where = parse_where(asked.where, table, collation_is_c=facts.locale.order_is_bytes) if asked.where else None
        request = ShapeRequest("", (Select(asked.table, asked.where, asked.includes),))
        shape = plan(request, facts.tables, claims, facts.locale, facts.rules)
        # What Postgres does itself for the role is not asked of it a second time.
        condition = plan(request, facts.tables, claims, facts.locale).root.condition
    except (WhereError, ShapeError) as error:
        checks += [Check(FILTER_CHECK, "fail", error.message), *skipped(_CLAIMS_CHECK, _OWNER_CHECK)]
        return Understanding(tuple(checks), claims, position=error.position if isinstance(error, WhereError) else None)
    used = () if where is None else claims_in(where.tree, claims)
    _require(client, used, table)
    checks += [_filter(where), _used(used), _owned(table, claims)]
    allowed = facts.rules.of(table).bind(claims)
    return Understanding(
        tuple(checks),
        claims,
        shape,
        where,
        used,
        notes=_as_parent(table, facts.tables),
        role=facts.role,
        policed=None if allowed is None else Group(table, allowed.predicate, relations=allowed.relations),
        condition=condition,
    )


def skipped(*names: str) -> list[Check]:
    return [Check(name, "skipped") for name in names]


def _failed(checks: list[Check]) -> bool:
    return any(check.outcome == "fail" for check in checks)


def _without_the_filter(asked: Asked, facts: Facts) -> list[Check]:
    checks = [_known(asked.table, facts)]
    checks += skipped(_DELIVERY_CHECK) if _failed(checks) else [_delivered(facts)]
    if facts.role is not None:
        checks += skipped(_ROLE_CHECK) if _failed(checks) else [_readable(asked, facts, facts.role)]
    client = asked.client.checks
    return checks + (skipped(*(check.name for check in client)) if _failed(checks) else list(client))


def _known(name: str, facts: Facts) -> Check:
    table = facts.tables.get(name)
    if table is not None:
        key = ", ".join(table.primary_key)
        return Check(_TABLE_CHECK, "pass", f"{printable(name)}, {len(table.columns)} columns, primary key {key}")
    if facts.present:
        call = f"CALL electric.electrify({quoted(name)})"
        return Check(_TABLE_CHECK, "fail", f"the table {printable(name)} is not shared with clients: {call} shares it")
    bare = name.rpartition(".")[2].lower()
    close = [one for one in facts.tables if one.lower() == bare] or difflib.get_close_matches(name, facts.tables)
    hint = f"; did you mean {printable(close[0])}?" if close else ""
    return Check(_TABLE_CHECK, "fail", f"there is no table {printable(name)} in schema public{hint}")


def can_name_a_table(name: str) -> bool:
    """Whether the service looks for a table of this name at all."""
    return bool(name) and name.isprintable() and len(name.encode()) <= MAX_TABLE_NAME_BYTES


def _delivered(facts: Facts) -> Check:
    if facts.suspended is None:
        return Check(_DELIVERY_CHECK, "pass")
    remedy = "undo that, or give the table up with leyden.disable and electrify it again"
    return Check(_DELIVERY_CHECK, "fail", f"its rows are not delivered, because {facts.suspended}; {remedy}")


def _readable(asked: Asked, facts: Facts, role: str) -> Check:
    try:
        rule = facts.rules.of(facts.tables[asked.table])
        has_policies = rule.condition is not None or rule.unknown is not None
        if has_policies and not asked.client.named:
            raise ClientNeeded("policies decide which rows are read")
        allowed = rule.bind(asked.client.claims)
    except Forbidden as forbidden:
        return Check(_ROLE_CHECK, "fail", forbidden.message)
    columns = "" if rule.columns is None else f"; of the columns only {', '.join(sorted(rule.columns))}"
    policies = "its policies decide" if has_policies else "has no row-level security"
    unknown = rule.unknown
    if unknown is None and rule.if_failing is not None and allowed is not None and allowed.is_asked:
        unknown = rule.if_failing()
    if unknown is not None:
        policies += f", {unknown.cost}: {unknown.why}"
    return Check(_ROLE_CHECK, "pass", f"as {printable(role)}: {policies}{columns}")


def _filter(where: Where | None) -> Check:
    if where is None:
        return Check(FILTER_CHECK, "skipped", "there is none: the subscription is to all rows")
    return Check(FILTER_CHECK, "pass", spelled(as_written(where.tree)))


def _used(claims: tuple[Finding, ...]) -> Check:
    if not claims:
        return Check(_CLAIMS_CHECK, "skipped", "none: it is the same for every client")
    return Check(_CLAIMS_CHECK, "pass", "; ".join(claim.sentence for claim in claims))


def _owned(table: Table, claims: Claims) -> Check:
    if claims.user_id is None or owner_predicate(table, claims.user_id) is None:
        return Check(_OWNER_CHECK, "skipped", f"there is no column {OWNER_COLUMN}: rows are for everybody")
    theirs = f"{quoted(claims.user_id)}, NULL or an empty text"
    return Check(_OWNER_CHECK, "pass", f"the client gets those whose {OWNER_COLUMN} is {theirs}")


def _require(client: Client, used: tuple[Finding, ...], table: Table) -> None:
    """Every client of the service has a user; an answer for one without would be about nobody."""
    if used and not client.named:
        raise ClientNeeded(f"the filter uses {', '.join(claim.text for claim in used)}")
    if client.claims.user_id is None and any(claim.text == "auth.sub" for claim in used):
        raise ClientNeeded("the filter uses auth.sub, the user")
    if client.claims.user_id is None and owner_predicate(table, "") is not None:
        raise ClientNeeded(f"rows of the table have an owner, in the column {OWNER_COLUMN}")


def _as_parent(table: Table, tables: Mapping[str, Table]) -> tuple[str, ...]:
    """Where a row of ``table`` may come from but from a subscription to it. Which rows come so is not looked at: that
    takes the subscriptions to the referencing tables."""
    children = [
        f"{printable(other.name)} ({', '.join(key.columns)})"
        for other in tables.values()
        for key in other.foreign_keys
        if key.ref_table == table.name
    ]
    if not children:
        return ()
    return (
        f"the table is referenced by {', '.join(children)}: a row may also come as the parent of a row of another"
        " subscription; ask with that subscription, and with --row-of for this table",
    )
