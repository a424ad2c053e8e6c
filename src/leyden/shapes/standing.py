"""Which rows are in a tree, at one position; and what a transaction changes in it."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from leyden.model import Transaction
from leyden.shapes.groups import images
from leyden.shapes.relations import decided_by
from leyden.shapes.tree import Branch, Direction, Edge, Tree
from leyden.shapes.versions import AsOf, Key, Version

#: More values than this of a column are not looked up, but the rows filtered one by one.
MOST_VALUES = 100


class Standing:
    """A tree at one position. What was found out once is remembered."""

    __slots__ = ("_ancestors", "_members", "at", "tree")

    def __init__(self, tree: Tree, at: AsOf) -> None:
        self.tree = tree
        self.at = at
        self._members: dict[tuple[int, Key], bool] = {}
        self._ancestors: dict[Key, bool] = {}

    def layers(self, version: Version | None) -> list[int]:
        """Numbers of the layers that hold the row."""
        if version is None:
            return []
        numbers = self.tree.layers_on.get(version.table.id, ())
        return [number for number in numbers if self._is_member(number, version)]

    def holds(self, version: Version | None) -> bool:
        """Whether the row is in the tree, in a layer or as an ancestor."""
        return version is not None and (self._is_in_a_layer(version) or self._is_ancestor(version))

    # ---- layers --------------------------------------------------------------------------------------------------

    def _is_in_a_layer(self, version: Version) -> bool:
        return any(self._is_member(number, version) for number in self.tree.layers_on.get(version.table.id, ()))

    def _is_member(self, number: int, version: Version) -> bool:
        """Of layer ``number``. What is asked here goes from a layer to the one that it hangs on, so it ends."""
        known = self._members.get((number, version.key))
        if known is None:
            known = self._members[number, version.key] = self._belongs(number, version)
        return known

    def _belongs(self, number: int, version: Version) -> bool:
        layer = self.tree.layers[number]
        if not layer.group.holds(version.row, self.at):
            return False
        return layer.branch is None or any(True for _ in self.reasons_for_layer(number, version))

    def reasons_for_layer(self, number: int, version: Version) -> Iterator[tuple[Edge, Version]]:
        """The rows of the layer that layer ``number`` hangs on with which ``version`` is connected, and by what."""
        branch = self.tree.layers[number].branch
        assert branch is not None
        if branch.direction is Direction.BELOW:
            others = self.referred_to(branch.edge, version)
        else:
            others = self.referring(branch.edge, version, self.values_for(branch.layer))
        return ((branch.edge, other) for other in others if self._is_member(branch.layer, other))

    def values_for(self, number: int) -> Mapping[int, Collection[bytes | None]]:
        """What the layer's rows must have in which columns: a great many others need not be looked at."""
        group = self.tree.layers[number].group
        order = {column.name: place for place, column in enumerate(group.table.columns)}
        return {
            order[name]: forms
            for name, forms in group.equalities.items()
            if name in order and len(forms) <= MOST_VALUES
        }

    # ---- ancestors -----------------------------------------------------------------------------------------------

    def _is_ancestor(self, version: Version) -> bool:
        if not self.tree.bringing.get(version.table.id) or not self.may_come_along(version):
            return False
        first = version.key
        known = self._ancestors.get(first)
        if known is not None:
            return known
        # Down along the foreign keys until a row in a layer is met; rows may refer to each other in a circle.
        met, pending = {first}, [version]
        while pending:
            for child in self._children(pending.pop()):
                key = child.key
                if key in met:
                    continue
                met.add(key)
                if self._is_in_a_layer(child):
                    self._ancestors[first] = True
                    return True
                if self.tree.bringing.get(child.table.id) and self.may_come_along(child):
                    pending.append(child)
        self._ancestors[first] = False
        return False

    def may_come_along(self, version: Version) -> bool:
        owner = self.tree.owners.get(version.table.id)
        return owner is None or owner.holds(version.row, self.at)

    def _children(self, version: Version) -> Iterator[Version]:
        """Rows that refer to ``version``, which is in no layer, and could be a reason for it to be in the tree."""
        for edge in self.tree.bringing.get(version.table.id, ()):
            numbers = self.tree.layers_on.get(edge.child.id, [])
            # In the only layer on its table, or nowhere: then it must have what the layer's filter needs.
            is_nowhere_else = len(numbers) == 1 and not self.tree.edges_to.get(edge.child.id)
            yield from self.referring(edge, version, self.values_for(numbers[0]) if is_nowhere_else else {})

    # ---- along a foreign key -------------------------------------------------------------------------------------

    def referring(
        self, edge: Edge, version: Version, values: Mapping[int, Collection[bytes | None]] | None = None
    ) -> Iterable[Version]:
        """The rows that refer to ``version`` by ``edge``; of a great many only those with certain ``values``."""
        here = tuple([version.row[place] for place in edge.parent_places])
        if None in here:
            return ()
        if not values:
            return self.at.rows_with(edge.child.id, edge.child_places, here)
        wanted = dict(zip(edge.child_places, ((form,) for form in here), strict=True))
        return self.at.rows(
            edge.child.id, wanted | {place: forms for place, forms in values.items() if place not in wanted}
        )

    def referred_to(self, edge: Edge, version: Version) -> Iterable[Version]:
        """The row that ``version`` refers to by ``edge``, if any."""
        there = tuple([version.row[place] for place in edge.child_places])
        return () if None in there else self.at.rows_with(edge.parent.id, edge.parent_places, there)


@dataclass(frozen=True, slots=True)
class Effect:
    """A transaction as a tree sees it: the tree before and after it, and the rows that it may concern."""

    before: Standing
    after: Standing
    concerned: Collection[Key]

    @property
    def is_seen(self) -> bool:
        """Whether any of these rows was or is in the tree."""
        return any(
            standing.holds(standing.at.row(key)) for key in self.concerned for standing in (self.after, self.before)
        )


def effect(tree: Tree, transaction: Transaction, before: AsOf, after: AsOf) -> Effect:
    """What ``transaction`` may change in ``tree``; ``before`` and ``after`` are the tables on both sides of it."""
    old, new = Standing(tree, before), Standing(tree, after)
    pending = [key for key in dict.fromkeys(changed(transaction)) if key[0] in tree.tables]
    if tree.consulted:
        pending = list(dict.fromkeys([*pending, *_decided(old, new, transaction)]))
    concerned = dict.fromkeys(pending)
    while pending:
        for key in _shaken(old, new, pending.pop()):
            if key not in concerned:
                concerned[key] = None
                pending.append(key)
    return Effect(old, new, concerned)


def _decided(old: Standing, new: Standing, transaction: Transaction) -> Iterator[Key]:
    """Rows of the tree's tables about which others decide that the transaction changes."""
    tree = old.tree
    answered = (key for question in tree.questions for key in new.at.changed(question.id))
    for key in dict.fromkeys(itertools.chain(changed(transaction), answered)):
        if key[0] not in tree.consulted:
            continue
        for standing in (old, new):
            version = standing.at.row(key)
            if version is None:
                continue
            for group in tree.groups:
                for other in decided_by(group.relations, version, standing.at, group.table):
                    yield other.key


def changed(transaction: Transaction) -> Iterator[Key]:
    """The rows that the transaction changes itself."""
    for number, change in enumerate(transaction.changes):
        old, new = images(transaction, number)
        row = new if old is None else old
        assert row is not None
        yield change.table.id, change.table.key_of(row)


def _shaken(old: Standing, new: Standing, key: Key) -> Iterator[Key]:
    """Rows whose place in the tree depends on the place or on the foreign keys of the row ``key``."""
    tree = old.tree
    before, after = old.at.row(key), new.at.row(key)
    layers_before, layers_after = old.layers(before), new.layers(after)
    moved = layers_before != layers_after or old.holds(before) != new.holds(after)
    table_id = key[0]
    for standing, version, layers in ((old, before, layers_before), (new, after, layers_after)):
        if version is None:
            continue
        for number in layers:
            for hanging in tree.branches.get(number, ()):
                branch = tree.layers[hanging].branch
                assert branch is not None
                if moved or _differ(before, after, _own_places(branch)):
                    for other in _along(standing, branch, version):
                        yield other.key
        for edge in tree.edges_from.get(table_id, ()):
            if moved or _differ(before, after, edge.child_places):
                for parent in standing.referred_to(edge, version):
                    yield parent.key


def _own_places(branch: Branch) -> tuple[int, ...]:
    """The places of the columns by which the layer below the branch finds its rows."""
    return branch.edge.parent_places if branch.direction is Direction.BELOW else branch.edge.child_places


def _along(standing: Standing, branch: Branch, version: Version) -> Iterable[Version]:
    if branch.direction is Direction.BELOW:
        return standing.referring(branch.edge, version)
    return standing.referred_to(branch.edge, version)


def _differ(before: Version | None, after: Version | None, places: Collection[int]) -> bool:
    if before is None or after is None:
        return True
    return any(before.row[place] != after.row[place] for place in places)


#: Rows met on the way to roots after which the way is not followed further.
MOST_ON_THE_WAY = 1_000


def roots(tree: Tree, at: AsOf, version: Version) -> list[Version] | None:
    """The rows of the root's table that ``version`` would hang on, or that would hang on it, if the root let all rows
    pass. ``None`` when there are too many ways to tell."""
    standing = Standing(tree, at)
    found: list[Version] = []
    #: Rows as members of a layer, and (with ``None``) as ancestors.
    pending = [(number, version) for number in (*tree.layers_on.get(version.table.id, ()), None)]
    met = {(number, version.key) for number, _ in pending}
    while pending:
        number, one = pending.pop()
        if number == 0:
            found.append(one)
            continue
        for step in _towards_root(standing, number, one):
            mark = (step[0], step[1].key)
            if mark not in met:
                met.add(mark)
                pending.append(step)
        if len(met) > MOST_ON_THE_WAY:
            return None
    return found


def _towards_root(standing: Standing, number: int | None, version: Version) -> Iterator[tuple[int | None, Version]]:
    tree = standing.tree
    if number is None:
        for edge in tree.edges_to.get(version.table.id, ()):
            for child in standing.referring(edge, version):
                for other in (*tree.layers_on.get(child.table.id, ()), None):
                    yield other, child
        return
    layer = tree.layers[number]
    branch = layer.branch
    if branch is None or not layer.group.holds(version.row, standing.at):
        return
    if branch.direction is Direction.BELOW:
        others = standing.referred_to(branch.edge, version)
    else:
        others = standing.referring(branch.edge, version)
    for other in others:
        yield branch.layer, other
