"""From an identity to the author of uploads; above all, who gets no role."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from leyden.auth import Identity, Refusal
from leyden.edge.access.authors import Authors, RolePolicy, RoleRefused
from leyden.model import Author

CLAIMED = RolePolicy(claim="role", listed=frozenset({"reader", "editor"}))


def identity(claims: Mapping[str, Any]) -> Identity:
    return Identity("alice", claims, None, None, None, None, None, None, None, 2)


def test_an_author_carries_the_claims_as_json() -> None:
    claims = {"sub": "alice", "org": {"name": "é😀", "n": [1, 2.5, None, True]}}
    author = Authors(RolePolicy()).of(identity(claims))
    assert (author.user_id, author.scoped_claims, author.role) == ("alice", None, None)
    assert json.loads(author.claims) == claims


def test_claims_within_a_namespace_are_given_besides() -> None:
    claims = {"iss": "x", "https://app/claims": {"sub": "alice", "role": "editor"}}
    author = Authors(CLAIMED, "https://app/claims").of(identity(claims))
    assert json.loads(author.claims) == claims
    assert author.scoped_claims is not None
    assert json.loads(author.scoped_claims) == claims["https://app/claims"]
    assert author.role == "editor"


def test_a_fixed_role_needs_no_claim() -> None:
    assert Authors(RolePolicy(fixed="app")).of(identity({"role": "postgres"})) == Author(
        "alice", '{"role":"postgres"}', role="app"
    )


def test_a_claim_names_a_role_of_the_list() -> None:
    assert Authors(CLAIMED).of(identity({"role": "reader"})).role == "reader"


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({}, "role_missing"),
        ({"role": None}, "role_missing"),
        ({"role": ""}, "role_not_allowed"),
        ({"role": "postgres"}, "role_not_allowed"),
        ({"role": "Reader"}, "role_not_allowed"),
        ({"role": "reader "}, "role_not_allowed"),
        ({"role": ["reader"]}, "role_not_allowed"),
        ({"role": {"reader": 1}}, "role_not_allowed"),
        ({"role": True}, "role_not_allowed"),
    ],
)
def test_whoever_names_no_role_of_the_list_is_refused(claims: Mapping[str, Any], code: str) -> None:
    with pytest.raises(RoleRefused) as caught:
        Authors(CLAIMED).of(identity(claims))
    assert caught.value.code == code


@pytest.mark.parametrize("place", [{}, {"ns": "text"}, {"ns": {}}, {"role": "reader", "ns": {"sub": "alice"}}])
def test_with_a_namespace_nothing_else_is_looked_at(place: Mapping[str, Any]) -> None:
    with pytest.raises(RoleRefused, match="role_missing"):
        Authors(CLAIMED, "ns").of(identity(place))


def test_claims_that_policies_could_not_read_are_refused() -> None:
    for claims in ({"role": "reader", "x": "a\0b"}, {"role": "reader", "x": [{"\0": 1}]}):
        with pytest.raises(Refusal, match="payload_invalid"):
            Authors(CLAIMED).of(identity(claims))
    Authors(CLAIMED).of(identity({"role": "reader", "x": r"\u0000 is text here"}))
    Authors(RolePolicy()).of(identity({"x": "a\0b"}))
