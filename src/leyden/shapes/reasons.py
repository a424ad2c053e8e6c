"""Why a row is in a tree: the way from it to a row that was asked for itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from leyden.shapes.standing import Standing
from leyden.shapes.tree import Edge
from leyden.shapes.versions import Key, Version

#: A row in a layer, by the layer's number, or (``None``) as an ancestor.
_Place = tuple[int | None, Version]


@dataclass(frozen=True, slots=True)
class Step:
    """``version`` is in the tree because ``other`` is: one of the two refers to the other by ``edge``."""

    version: Version
    edge: Edge
    other: Version


def way(standing: Standing, version: Version) -> list[Step] | None:
    """The shortest way from ``version`` to a row of the root, which is empty if it is one; ``None`` if it is not in the
    tree."""
    if not standing.holds(version):
        return None
    layers = standing.layers(version)
    pending: list[_Place] = [(number, version) for number in layers] or [(None, version)]
    came_by: dict[tuple[int | None, Key], tuple[Step, tuple[int | None, Key]] | None] = {
        (number, one.key): None for number, one in pending
    }
    for number, one in pending:  # grows while it is gone through
        if number == 0:
            return _back((number, one.key), came_by)
        for step, place in _next(standing, number, one):
            mark = (place[0], place[1].key)
            if mark not in came_by:
                came_by[mark] = (step, (number, one.key))
                pending.append(place)
    return None


def _next(standing: Standing, number: int | None, version: Version) -> Iterator[tuple[Step, _Place]]:
    tree = standing.tree
    if number is not None:
        for edge, other in standing.reasons_for_layer(number, version):
            branch = tree.layers[number].branch
            assert branch is not None
            yield Step(version, edge, other), (branch.layer, other)
        return
    for edge in tree.edges_to.get(version.table.id, ()):
        for child in standing.referring(edge, version):
            layers = standing.layers(child)
            for layer in layers:
                yield Step(version, edge, child), (layer, child)
            if not layers and standing.may_come_along(child):
                yield Step(version, edge, child), (None, child)


def _back(
    mark: tuple[int | None, Key], came_by: dict[tuple[int | None, Key], tuple[Step, tuple[int | None, Key]] | None]
) -> list[Step]:
    steps: list[Step] = []
    while (before := came_by[mark]) is not None:
        step, mark = before
        steps.append(step)
    return steps[::-1]
