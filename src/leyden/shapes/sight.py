"""One transaction as shapes see it: what is found out about it is found out once, for all of them."""

from __future__ import annotations

from functools import cached_property

from leyden.model import Transaction
from leyden.shapes.groups import Group, images
from leyden.shapes.standing import Effect, effect
from leyden.shapes.tree import Tree
from leyden.shapes.versions import AsOf, VersionedTables

#: What a change made of a group: whether it held the row before, and whether it holds it after.
Membership = tuple[bool, bool]


class Sight:
    """Each change is judged at most once for each group, and the transaction once for each tree."""

    def __init__(self, transaction: Transaction, versions: VersionedTables | None = None) -> None:
        """``versions`` has the tables of all trees that are asked about."""
        self.transaction = transaction
        self._versions = versions
        self._known: dict[tuple[int, Group], Membership] = {}
        self._effects: dict[Tree, Effect] = {}

    def membership(self, number: int, group: Group) -> Membership:
        """Of the row that change ``number`` of the transaction is about, in ``group``, which is on its table."""
        known = self._known.get((number, group))
        if known is None:
            old, new = images(self.transaction, number)
            before, after = (self.before, self.after) if group.relations else (None, None)
            known = self._known[number, group] = (
                old is not None and group.holds(old, before),
                new is not None and group.holds(new, after),
            )
        return known

    @cached_property
    def before(self) -> AsOf:
        """The tables of trees as they were before the transaction."""
        return self._as_of(self.transaction.position - 1)

    @cached_property
    def after(self) -> AsOf:
        return self._as_of(self.transaction.position)

    def _as_of(self, position: int) -> AsOf:
        return AsOf({}, position) if self._versions is None else self._versions.as_of(position, remember=True)

    def effect(self, tree: Tree) -> Effect:
        known = self._effects.get(tree)
        if known is None:
            known = self._effects[tree] = effect(tree, self.transaction, self.before, self.after)
        return known
