"""Policies that fail for the claims of a token."""

from __future__ import annotations

import itertools

import pytest

from leyden.model import Table
from leyden.shapes.rights import Forbidden
from leyden.shapes.where import Claims
from policies_place import ANN, Place

SERVICE, USER = "auth.role() = 'service'", "uid = auth.uid()"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (USER, "(org = auth.jwt() ->> 'org') IS NOT FALSE"),  # true for every row, which the planner does not know
        (USER, "n = 6"),
        (USER, SERVICE),
        (f"ok AND {USER}", SERVICE),
        (f"{SERVICE} AND NOT {USER}", "ok"),
        (f"auth.role() = 'user' AND {USER}", "ok"),
        (f"{SERVICE} OR {USER}", "n = 6"),
        (f"auth.role() = 'user' AND exists (select from members where {USER})", "ok"),
    ],
)
@pytest.mark.parametrize("is_permissive", [True, False])
def test_if_a_policy_fails_for_the_claims_postgres_is_asked_whatever_else_lets_through(
    place: Place, table: Table, first: str, second: str, is_permissive: bool
) -> None:
    for order in itertools.permutations([(first, True), (second, is_permissive)]):
        with place.policies(*((condition, permissive, "SELECT", "PUBLIC") for condition, permissive in order)):
            allowed = place.rule(table).bind(Claims("no uuid", {"sub": "no uuid", "role": "service"}))
            assert allowed is not None
            assert allowed.relations[0].question is not None
            place.compare(table, {"sub": ANN, "role": "service"})


def test_claims_that_pass_with_the_token_are_not_asked_about(place: Place, table: Table) -> None:
    policies = (USER, "(auth.jwt() ->> 'exp')::int > n")
    with place.policies(*((condition, True, "SELECT", "PUBLIC") for condition in policies)):
        with pytest.raises(Forbidden, match=r"A policy of table docs fails .* policies use exp"):
            place.rule(table).bind(Claims("no uuid", {"exp": 1}))
        place.compare(table, {"sub": ANN, "exp": 3})


def test_a_part_that_fails_and_is_known_not_to_matter_takes_nothing_away(place: Place, table: Table) -> None:
    with place.policies((USER, True, "SELECT", "PUBLIC"), ("true", True, "SELECT", "PUBLIC")):
        assert len(place.compare(table, {"sub": "no uuid"})) == 60
