"""In whose name uploads are written: from an identity to what Postgres is told of it.

Owns which database role an identity stands for. Fails closed: who names a role that is not listed, or none where one
is needed, is nobody. What the role may do is Postgres' business.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from leyden.auth import Identity, Refusal
from leyden.model import Author


class RoleRefused(Exception):
    """The token is good, and yet no database role may be taken for it."""

    def __init__(self, code: Literal["role_missing", "role_not_allowed"]) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class RolePolicy:
    """How the database role of a user is found: not at all, always ``fixed``, or named by ``claim`` and ``listed``.
    ``require_policies``: tables without row-level security are not read."""

    fixed: str | None = None
    claim: str | None = None
    listed: frozenset[str] = frozenset()
    require_policies: bool = False

    @property
    def all(self) -> frozenset[str]:
        """Every role that may have to be taken."""
        return self.listed if self.fixed is None else self.listed | {self.fixed}


class Authors:
    """Makes authors of identities. ``namespace`` is the claim whose object holds the claims about the user, if any."""

    def __init__(self, policy: RolePolicy, namespace: str | None = None) -> None:
        self._policy = policy
        self._namespace = namespace

    def of(self, identity: Identity) -> Author:
        """The author that ``identity`` stands for.

        Raises:
            RoleRefused: the claim that names the role is not there, is no text, or names one that is not listed.
            Refusal: the claims hold what a policy could not read (``payload_invalid``).
        """
        return self.author(identity.user_id, identity.claims)

    def author(self, user_id: str, payload: Mapping[str, Any]) -> Author:
        """The author for a user and the claims of his token. Raises as :meth:`of` does."""
        claims = dict(payload)
        scoped = None if self._namespace is None else claims.get(self._namespace)
        author = Author(
            user_id,
            _json(claims),
            None if scoped is None else _json(scoped),
            self._role(claims if self._namespace is None else scoped),
        )
        if author.role is not None and "\\u0000" in author.claims.replace("\\\\", ""):
            # Postgres' jsonb cannot hold it: each policy that looks at a claim would fail, with an error of its own.
            raise Refusal("payload_invalid", "a claim holds NUL, which row policies could not read")
        return author

    def _role(self, place: object) -> str | None:
        policy = self._policy
        if policy.claim is None:
            return policy.fixed
        role = place.get(policy.claim) if isinstance(place, Mapping) else None
        if role is None:
            raise RoleRefused("role_missing")
        if not isinstance(role, str) or role not in policy.listed:
            raise RoleRefused("role_not_allowed")
        return role


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
