"""The claims of a client's token inside a clause: ``auth.sub`` and ``auth.claims ->> 'org'``.

Bound by the server from the verified token and nothing else. A claim is read as Postgres reads a member of a jsonb
document; one that is missing is NULL. One that has no single text, a number with a fraction or an exponent, is an
evaluation error: in a filter, such a client is sent nothing rather than a guess; in a policy, Postgres is asked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from leyden.shapes.where import folding
from leyden.shapes.where.sqltypes import TEXT
from leyden.shapes.where.tree import ClaimRef, Constant, Expression, Failure, parts
from leyden.shapes.where.values import Unevaluable, read_text

#: Settings of a session that hold the user id, as the uploads of a user have them, too (docs/writing.md).
USER_SETTINGS = frozenset(("request.jwt.claim.sub", "leyden.user_id"))

#: Settings of that kind which are never set.
UNSET_SETTINGS = re.compile(r"request\.jwt\.claim(\.\w+)?")


@dataclass(frozen=True, slots=True)
class Claims:
    """``user_id`` is ``auth.sub``, ``None`` (NULL) if nobody is known; ``claims`` is the token's payload."""

    user_id: str | None
    claims: Mapping[str, Any]


def bound(node: Expression, claims: Claims, failures: list[Expression] | None = None) -> Expression:
    """``node`` with the claims of one client in place of the references to them. The parts of it that cannot be
    computed then are added to ``failures``, whether or not they decide anything."""
    try:
        if isinstance(node, ClaimRef):
            return Constant(TEXT, _text_of(claims, node))
        return folding.rebuilt(node, [bound(part, claims, failures) for part in parts(node)])
    except Unevaluable:
        if failures is not None:
            failures.append(node)
        return Failure(node.type)


def _text_of(claims: Claims, claim: ClaimRef) -> str | None:
    value: Any = claims.claims
    for step in claim.path:
        value = _member(value, step, is_json=claim.is_json)
    if claim.is_json and isinstance(value, Mapping | list | tuple):
        raise Unevaluable  # json keeps the text as it was written, blanks included
    text = _text(value) if claim.path else claims.user_id
    try:
        return None if text is None else read_text(text)
    except ValueError:
        raise Unevaluable from None


def _member(value: Any, step: str | int, *, is_json: bool) -> Any:
    """``value -> step``."""
    if isinstance(step, int) and not is_json and isinstance(value, str | int | float):
        value = [value]  # as jsonb keeps a scalar
    if isinstance(value, Mapping) and isinstance(step, str):
        return value.get(step)
    if isinstance(value, list | tuple) and isinstance(step, int) and -len(value) <= step < len(value):
        return value[step]
    return None


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(_jsonb(value), ensure_ascii=False)


def _jsonb(value: Any) -> Any:
    """``value`` as jsonb keeps it: members sorted by the length of their names, then by their bytes."""
    if isinstance(value, Mapping):
        names = sorted(value, key=lambda name: (len(name.encode("utf-8", "surrogatepass")), name))
        return {name: _jsonb(value[name]) for name in names}
    if isinstance(value, list | tuple):
        return [_jsonb(one) for one in value]
    if value is None or isinstance(value, str | int):
        return value
    raise Unevaluable
