"""Fixtures of the tests of policies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from leyden.model import Table
from leyden.postgres.embedded import EmbeddedPostgres
from policies_place import Place, create_place


@pytest.fixture(scope="module")
def place(cluster: EmbeddedPostgres) -> Iterator[Place]:
    with create_place(cluster) as place:
        yield place


@pytest.fixture(scope="module")
def table(place: Place) -> Table:
    return place.tables["docs"]
