"""Questions: which rows of a table Postgres lets one reader select, where its policies can only be asked of Postgres.

The answers are kept like any other table that decides about rows: a table of the keys that the reader may see, with the
position at which each of them came and went (:mod:`leyden.shapes.answers`). So a row whose policies are asked is in a
shape if its key is in the table of answers at that position, and all that is known about related tables holds for it.

Pure: who asks, and when, is not known here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from leyden.model import Author, Call, Policy, ReadingRights, Table
from leyden.shapes.where import folding
from leyden.shapes.where.conditions import Condition, Related
from leyden.shapes.where.looking import looks_at_tables
from leyden.shapes.where.sqltypes import TEXT
from leyden.shapes.where.tree import ColumnRef, Comparison

#: Claims that another token of the same client has otherwise, though it stands for the same.
FLEETING_CLAIMS = frozenset(("iat", "exp", "nbf", "jti"))


@dataclass(frozen=True, slots=True)
class Question:
    """What may ``reader`` select of ``table``? Two with equal keys are the same question, whoever asks.

    ``looks_at`` are the ids of the tables that the policies look at besides, as far as they name them; ``None`` when
    it may be any. ``why`` says what of the policies is not understood, for people. If it ``is_whole`` it is always
    asked of all rows: Postgres may refuse that, though not if asked of some.
    """

    key: str
    table: Table = field(compare=False)
    reader: Author = field(compare=False)
    looks_at: frozenset[int] | None = field(compare=False)
    why: str = field(compare=False)
    is_whole: bool = field(default=False, compare=False)
    #: The description of the table of answers: the primary keys of the rows that may be selected.
    answers: Table = field(init=False, compare=False)

    def __post_init__(self) -> None:
        columns = {column.name: column for column in self.table.columns}
        of_key = tuple(columns[name] for name in self.table.primary_key)
        # No catalog has ids below zero.
        id_ = -int(self.key[:30], 16) - 2
        object.__setattr__(self, "answers", Table(id_, self.table.name, of_key, self.table.primary_key, ""))

    @property
    def id(self) -> int:
        """That of the table of answers."""
        return self.answers.id

    @property
    def related(self) -> Related:
        """Whether the key of a row is among the answers. The columns hold text forms, which are unique for a key,
        whatever its types are."""
        width = len(self.table.columns)
        pairs = [
            Comparison("=", ColumnRef(width + place, name, TEXT), ColumnRef(outside, name, TEXT))
            for place, (name, outside) in enumerate(zip(self.table.primary_key, self.table.key_positions, strict=True))
        ]
        return Related(self.answers, width, Condition(folding.all_of(pairs)))


@dataclass(frozen=True, slots=True)
class Unknown:
    """Policies of ``table`` that are not understood, for one role: what is to be asked for whoever reads as it."""

    table: Table
    role: str
    namespace: str | None
    policies: str
    looks_at: frozenset[int] | None
    why: str
    is_whole: bool = False

    @property
    def cost(self) -> str:
        """What asking costs, for people."""
        rows = "all rows" if self.is_whole else "the rows written"
        if self.looks_at is None:
            when = "of any table, for all rows"
        elif self.looks_at:
            when = f"of {self.table.name} for {rows}, and of the tables its policies name for all rows"
        else:
            when = f"of {self.table.name}, for {rows}"
        return f"asked of Postgres for each reader, once for each change {when}"

    def of(self, user_id: str, claims: Mapping[str, object]) -> Question:
        """The question for a reader with these claims. Those that differ from token to token are left out."""
        lasting = {name: value for name, value in claims.items() if name not in FLEETING_CLAIMS}
        scoped = None if self.namespace is None else lasting.get(self.namespace)
        reader = Author(user_id, _json(lasting), None if scoped is None else _json(scoped), self.role)
        described = [self.table.id, repr(self.table), self.policies, reader.role, user_id, reader.claims]
        key = sha256(json.dumps(described).encode()).hexdigest()
        return Question(key, self.table, reader, self.looks_at, self.why, self.is_whole)


def unknown(
    table: Table,
    role: str,
    namespace: str | None,
    rights: Mapping[int, ReadingRights],
    reason: str,
    *,
    is_whole: bool = False,
) -> Unknown:
    """What is to be asked of ``table`` as ``rights`` describe its policies; ``reason`` says why it is not computed."""
    looks_at = _looked_at(table, rights)
    others = rights.keys() if looks_at is None else looks_at
    described = [_described(rights[table.id].policies)]
    for other in sorted(others & rights.keys() - {table.id}):
        columns = rights[other].columns
        described.append([other, None if columns is None else sorted(columns), _described(rights[other].policies)])
    return Unknown(table, role, namespace, json.dumps(described), looks_at, reason, is_whole)


def _described(policies: Sequence[Policy] | None) -> list[object] | None:
    if policies is None:
        return None
    return [
        (one.name, one.permissive, one.using, [(call.name, call.fingerprint) for call in one.calls]) for one in policies
    ]


def _looked_at(table: Table, rights: Mapping[int, ReadingRights]) -> frozenset[int] | None:
    """The tables that the policies of ``table`` look at, and those that their policies look at, and so on."""
    met, pending = {table.id}, [table.id]
    while pending:
        of_table = rights.get(pending.pop())
        for policy in () if of_table is None else of_table.policies or ():
            if policy.has_views or any(map(_may_look_anywhere, policy.calls)):
                return None
            pending += policy.relations - met
            met |= policy.relations
    return frozenset(met - {table.id})


def _may_look_anywhere(call: Call) -> bool:
    return not call.is_immutable and (call.body is None or looks_at_tables(call.body))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
