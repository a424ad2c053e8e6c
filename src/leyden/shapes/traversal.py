"""All rows of a shape at one position, each once, and parents before their children."""

from __future__ import annotations

from collections.abc import Iterator

from leyden.model import Row
from leyden.shapes.groups import Group
from leyden.shapes.standing import Standing
from leyden.shapes.tree import Direction, Layer, Tree
from leyden.shapes.versions import BATCH, AsOf, Key, Version
from leyden.shapes.view import Part, View


def batches(part: Part, at: AsOf, held: View) -> Iterator[list[Version]]:
    """The rows of ``part`` without those that are in ``held``, a few hundred at a time.

    ``at`` has the tables of both. They may go on changing between two batches. What is remembered meanwhile are the
    keys of rows that can be met more than once: ancestors, and those on tables that are included more than once.
    """
    tree = Tree([Layer(part)]) if isinstance(part, Group) else part
    batch: list[Version] = []
    standings = [Standing(other, at) for other in held.trees]
    for version in _Traversal(tree, at).rows():
        if held.holds(version.table, version.row) or any(standing.holds(version) for standing in standings):
            continue
        batch.append(version)
        if len(batch) >= BATCH:
            yield batch
            batch = []
            standings = [Standing(other, at) for other in held.trees]
    if batch:
        yield batch


class _Traversal:
    def __init__(self, tree: Tree, at: AsOf) -> None:
        self._tree = tree
        self._at = at
        self._standing = Standing(tree, at)
        #: Tables whose rows can be met in more than one way.
        self._shared = {
            table_id for table_id in tree.tables if len(tree.layers_on[table_id]) != 1 or tree.edges_to.get(table_id)
        }
        self._given: set[Key] = set()
        #: References that were followed upwards: the table, the columns and the values referred to.
        self._followed: set[tuple[int, tuple[int, ...], Row]] = set()
        #: Layers and their rows from which the way down was taken; only of layers whose rows can be met again.
        self._descended: set[tuple[int, Key]] = set()

    def rows(self) -> Iterator[Version]:
        root = self._tree.root
        for found in self._at.batches(root.table.id, self._standing.values_for(0)):
            for version in found:
                if root.holds(version.row, self._at):
                    yield from self._with_all_that_hangs_on(version)

    def _with_all_that_hangs_on(self, root: Version) -> Iterator[Version]:
        # Iterators, not lists: there may be very many rows below one.
        pending: list[Iterator[tuple[int, Version]]] = [iter([(0, root)])]
        while pending:
            step = next(pending[-1], None)
            if step is None:
                pending.pop()
                continue
            number, version = step
            yield from self._with_ancestors(version)
            hanging = self._tree.branches.get(number, ())
            if not hanging:
                continue
            if version.table.id in self._shared:
                if (number, version.key) in self._descended:
                    continue
                self._descended.add((number, version.key))
            pending += [self._along(other, version) for other in hanging]

    def _along(self, number: int, version: Version) -> Iterator[tuple[int, Version]]:
        layer = self._tree.layers[number]
        branch = layer.branch
        assert branch is not None
        if branch.direction is Direction.BELOW:
            others = self._standing.referring(branch.edge, version)
        else:
            others = self._standing.referred_to(branch.edge, version)
        return ((number, other) for other in others if layer.group.holds(other.row, self._at))

    def _with_ancestors(self, version: Version) -> Iterator[Version]:
        """The row after everything that it refers to, as far as it was not given before."""
        if not self._is_new(version):
            return
        pending = [(version, self._parents(version))]
        while pending:
            one, parents = pending[-1]
            parent = next(parents, None)
            if parent is None:
                pending.pop()
                yield one
            elif self._standing.may_come_along(parent) and self._is_new(parent):
                pending.append((parent, self._parents(parent)))

    def _parents(self, version: Version) -> Iterator[Version]:
        """What ``version`` refers to, as far as it was not met before."""
        for edge in self._tree.edges_from.get(version.table.id, ()):
            target = (edge.parent.id, edge.parent_places, tuple([version.row[place] for place in edge.child_places]))
            if target not in self._followed:
                self._followed.add(target)
                yield from self._standing.referred_to(edge, version)

    def _is_new(self, version: Version) -> bool:
        if version.table.id not in self._shared:
            return True
        if version.key in self._given:
            return False
        self._given.add(version.key)
        return True
