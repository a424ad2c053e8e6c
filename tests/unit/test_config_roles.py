"""As which database role users' writes run: how it is configured."""

from __future__ import annotations

import pytest

from leyden.config import ConfigurationError, load_settings
from leyden.edge.access.authors import RolePolicy

INSECURE = {"AUTH_MODE": "insecure"}


def policy(**env: str) -> RolePolicy:
    return load_settings({**INSECURE, **env}).roles


def faulty(**env: str) -> set[str]:
    with pytest.raises(ConfigurationError) as caught:
        policy(**env)
    return {problem.variable for problem in caught.value.problems}


def test_without_settings_there_is_no_role() -> None:
    assert policy() == RolePolicy()
    assert policy().all == frozenset()


def test_one_role_for_all() -> None:
    assert policy(AUTH_DB_ROLE="app_user") == RolePolicy(fixed="app_user")
    assert policy(AUTH_DB_ROLE=" app_user ").all == {"app_user"}


def test_a_claim_names_one_of_a_list() -> None:
    found = policy(AUTH_DB_ROLE_CLAIM="https://example.org/role", AUTH_DB_ROLES="reader, Editor")
    assert found == RolePolicy(claim="https://example.org/role", listed=frozenset({"reader", "Editor"}))
    assert found.all == {"reader", "Editor"}


def test_settings_that_do_not_go_together_are_named() -> None:
    assert faulty(AUTH_DB_ROLE_CLAIM="role") == {"AUTH_DB_ROLE_CLAIM"}
    assert faulty(AUTH_DB_ROLES="a,b") == {"AUTH_DB_ROLES"}
    assert faulty(AUTH_DB_ROLE="a", AUTH_DB_ROLE_CLAIM="role", AUTH_DB_ROLES="a") == {"AUTH_DB_ROLE"}


@pytest.mark.parametrize("name", ["none", "None", "x" * 64, "é" * 32, "a\0b", "a\nb"])
def test_what_postgres_would_take_for_another_role_is_refused(name: str) -> None:
    assert faulty(AUTH_DB_ROLE=name) == {"AUTH_DB_ROLE"}
    assert faulty(AUTH_DB_ROLE_CLAIM="role", AUTH_DB_ROLES=f"good,{name}") == {"AUTH_DB_ROLES"}


@pytest.mark.parametrize("names", [",", "a,", "a,,b"])
def test_a_list_with_a_gap_is_refused(names: str) -> None:
    assert faulty(AUTH_DB_ROLE_CLAIM="role", AUTH_DB_ROLES=names) == {"AUTH_DB_ROLES"}


def test_policies_can_be_required_where_roles_are_taken() -> None:
    assert not policy(AUTH_DB_ROLE="app_user").require_policies
    assert policy(AUTH_DB_ROLE="app_user", LEYDEN_REQUIRE_RLS="true").require_policies
    assert policy(AUTH_DB_ROLE_CLAIM="role", AUTH_DB_ROLES="a", LEYDEN_REQUIRE_RLS="yes").require_policies
    assert faulty(LEYDEN_REQUIRE_RLS="true") == {"LEYDEN_REQUIRE_RLS"}
    assert faulty(AUTH_DB_ROLE="app_user", LEYDEN_REQUIRE_RLS="perhaps") == {"LEYDEN_REQUIRE_RLS"}
