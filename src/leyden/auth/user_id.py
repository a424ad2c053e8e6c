"""Who a token speaks for.

Owns where the user id stands among the claims and which texts may be one. Users are told apart by code points
and nothing else: no case folding, no normalisation, no trimming, no turning numbers into text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any, Final, Literal

from .refusal import Refusal

UserIdPolicy = Literal["strict", "legacy"]

MAX_BYTES: Final = 1024

# Unicode property White_Space (PropList.txt); str.isspace adds U+001C…U+001F, which are control characters.
_WHITE_SPACE: Final = frozenset(
    "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
)

# Unicode property Default_Ignorable_Code_Point (DerivedCoreProperties.txt): drawn as nothing at all.
_IGNORABLE: Final = (
    range(0x00AD, 0x00AE),
    range(0x034F, 0x0350),
    range(0x061C, 0x061D),
    range(0x115F, 0x1161),
    range(0x17B4, 0x17B6),
    range(0x180B, 0x1810),
    range(0x200B, 0x2010),
    range(0x202A, 0x202F),
    range(0x2060, 0x2070),
    range(0x3164, 0x3165),
    range(0xFE00, 0xFE10),
    range(0xFEFF, 0xFF00),
    range(0xFFA0, 0xFFA1),
    range(0xFFF0, 0xFFF9),
    range(0x1BCA0, 0x1BCA4),
    range(0x1D173, 0x1D17B),
    range(0xE0000, 0xE1000),
)


def find_user_id(claims: Mapping[str, Any], *, namespace: str | None, policy: UserIdPolicy) -> str:
    """The user id of a token, verbatim; raises `user_missing` or `user_invalid`.

    `namespace` is the literal name of the claim holding the object to look in; None means the claims
    themselves. There is no falling back from the namespace to the top. `sub` counts; `user_id`, its
    former name, is read only when `sub` is absent, null or false.
    """
    place: Mapping[str, Any] = claims
    if namespace is not None:
        inner = claims.get(namespace)
        if not isinstance(inner, dict):
            raise Refusal("user_missing", "the claim named by AUTH_JWT_NAMESPACE is not an object in this token")
        place = inner
    user_id = place.get("sub")
    if user_id is None or user_id is False:
        user_id = place.get("user_id")
    if user_id is None or user_id is False:
        raise Refusal("user_missing", "there is neither sub nor user_id")
    if not isinstance(user_id, str):
        raise Refusal("user_invalid", "the user id is not a text; numbers are never converted")
    problem = _legacy_problem(user_id) if policy == "legacy" else _strict_problem(user_id)
    if problem is not None:
        raise Refusal("user_invalid", problem)
    return user_id


def _legacy_problem(user_id: str) -> str | None:
    """What the older service refused, and NUL, which Postgres cannot store."""
    if all(c in _WHITE_SPACE for c in user_id):
        return "the user id is empty"
    if "\0" in user_id:
        return "the user id contains NUL"
    return None


def _strict_problem(user_id: str) -> str | None:
    if not any(_is_visible(c) for c in user_id):
        return "the user id is empty or invisible"
    # A cast in a row policy, ' 1'::int, would merge two users.
    if user_id[0] in _WHITE_SPACE or user_id[-1] in _WHITE_SPACE:
        return "the user id begins or ends with white space"
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in user_id):
        return "the user id contains a control character"
    if len(user_id.encode("utf-8")) > MAX_BYTES:
        return f"the user id is longer than {MAX_BYTES} bytes"
    return None


def _is_visible(character: str) -> bool:
    if character in _WHITE_SPACE:
        return False
    code = ord(character)
    return not any(code in ignorable for ignorable in _IGNORABLE)
