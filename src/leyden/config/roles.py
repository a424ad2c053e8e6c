"""AUTH_DB_ROLE, AUTH_DB_ROLE_CLAIM, AUTH_DB_ROLES and LEYDEN_REQUIRE_RLS: as which database role users read and write.

Owns how they are written and which of them go together. Whether Postgres has such roles, and lets the service take
them, is asked at start by `leyden.postgres.requirements`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from leyden.edge.access.authors import RolePolicy

from .problems import ConfigurationError, Unusable
from .values import boolean
from .variables import Variables

ROLE: Final = "AUTH_DB_ROLE"
CLAIM: Final = "AUTH_DB_ROLE_CLAIM"
ROLES: Final = "AUTH_DB_ROLES"
REQUIRE: Final = "LEYDEN_REQUIRE_RLS"

_MAX_ENTRIES: Final = 256
# Postgres cuts longer names off, and would then take another role than the one named.
_LONGEST_NAME: Final = 63
# To SET ROLE it means the service's own role, which may do everything.
_NO_ROLE: Final = "none"


def load_role_policy(env: Mapping[str, str]) -> RolePolicy:
    """The policy on roles. Raises `ConfigurationError` with every problem there is."""
    variables = Variables(env)
    nothing: frozenset[str] = frozenset()
    fixed = variables.read(ROLE, _role, None)
    listed = variables.read(ROLES, _roles, nothing)
    claim = variables.text(CLAIM)
    if variables.text(ROLE) is not None and claim is not None:
        variables.problem(ROLE, f"is set beside {CLAIM}", "set one of them: a role for all, or the claim that names it")
    if claim is not None and variables.text(ROLES) is None:
        variables.problem(
            CLAIM, f"is set without {ROLES}, and no role would be allowed", f"list the roles it may name in {ROLES}"
        )
    if claim is None and variables.text(ROLES) is not None:
        variables.problem(ROLES, f"has no effect without {CLAIM}", f"set {CLAIM} as well, or unset it")
    require_policies = variables.read(REQUIRE, boolean, False)
    if require_policies and claim is None and variables.text(ROLE) is None:
        variables.problem(
            REQUIRE,
            "has no effect without a database role: policies do not decide about reading then",
            f"set {ROLE}, or {CLAIM} and {ROLES}, as well, or unset it",
        )
    if variables.problems:
        raise ConfigurationError(tuple(variables.problems))
    return RolePolicy(fixed, claim, listed, require_policies)


def _role(text: str) -> str:
    """A name as Postgres stores it: case counts, and no quotes."""
    role = text.strip()
    remedy = "write it as pg_roles.rolname has it"
    if role.lower() == _NO_ROLE:
        raise Unusable("names no role: none stands for the service's own", remedy)
    if len(role.encode("utf-8")) > _LONGEST_NAME or not role.isprintable():
        raise Unusable("has a name that no role can have", remedy)
    return role


def _roles(text: str) -> frozenset[str]:
    entries = text.split(",")
    if len(entries) > _MAX_ENTRIES or not all(entry.strip() for entry in entries):
        raise Unusable("is not a list of role names", "write names as pg_roles.rolname has them, with commas between")
    return frozenset(_role(entry) for entry in entries)
