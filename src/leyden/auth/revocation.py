"""Tokens taken back before their time: by user, by `jti`, by the key that signed, or all up to a moment.

Owns what an entry means, which entries make sense, and the list that every accepted token is held against. Knows
nothing of where entries are kept. No entry names a token by its text: the same content has several valid signatures, so
the text can be changed by whoever holds it (ECDSA, and base64url before it was read strictly).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, get_args

from .claims import MAX_NUMERIC_DATE, as_date
from .refusal import Refusal
from .verifier import Identity

RevocationKind = Literal["user", "jti", "key", "all"]

DEFAULT_REVOCATION_LIFETIME: Final = 25 * 3600
"""Seconds an entry stays in force unless told otherwise: longer than tokens of one day live, clocks apart included."""

MAX_REVOCATION_LIFETIME: Final = 100 * 366 * 86_400

MAX_VALUE_BYTES: Final = 16_384
"""Longest user id or `jti` that can be named; no token of the default size limit carries a longer one."""

# SHA-256 in base64url, without padding.
_THUMBPRINT: Final = re.compile(r"[A-Za-z0-9_-]{43}\Z")


def revocation_lifetime(max_token_lifetime: int) -> int:
    """Seconds for which an entry outlives every token it may name; 0 as `max_token_lifetime` means no limit is known.

    An hour is added for clocks that differ.
    """
    return min(max(DEFAULT_REVOCATION_LIFETIME, max_token_lifetime + 3600), MAX_REVOCATION_LIFETIME)


class InvalidRevocation(ValueError):
    """No such entry makes sense. `message` is a sentence that may be shown to whoever asked for it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class Revocation:
    """One entry. Times are Unix seconds; it is in force until `expires_at`, that second excluded."""

    id: int
    kind: RevocationKind
    value: str | None
    """The user id, the `jti`, or the RFC 7638 thumbprint of the key that signed; None for kind "all"."""
    issued_before: int | None
    """Tokens up to this second are revoked, the second included; None means every token. Kinds user and all only."""
    created_at: float
    expires_at: int

    def reaches(self, issued_at: float | None) -> bool:
        """Whether a token issued then is revoked, if it is one of those named.

        Whole seconds count: a token of the same second may have been issued earlier in it. One that does not say
        when it was issued may always have been issued earlier.
        """
        return self.issued_before is None or issued_at is None or math.floor(issued_at) <= self.issued_before


def check_revocation(kind: RevocationKind, value: str | None, issued_before: int | None, lifetime: int) -> None:
    """Whether an entry of these parts, in force for `lifetime` seconds, makes sense; raises `InvalidRevocation`."""
    if kind not in get_args(RevocationKind):
        raise InvalidRevocation("what is revoked is a user, a jti, a key, or all")
    if (kind == "all") != (value is None):
        raise InvalidRevocation("a user, a token id or a key must be named, and nothing when all are revoked")
    if kind == "all" and issued_before is None:
        raise InvalidRevocation("to revoke all tokens, say up to which moment they were issued")
    if kind in ("jti", "key") and issued_before is not None:
        raise InvalidRevocation("a moment of issue goes only with a user, or with all")
    if issued_before is not None and not 0 <= issued_before <= MAX_NUMERIC_DATE:
        raise InvalidRevocation(f"the moment of issue is outside 0 … {MAX_NUMERIC_DATE} seconds since 1970")
    if not 0 < lifetime <= MAX_REVOCATION_LIFETIME:
        raise InvalidRevocation("a revocation is in force for at least a second and at most 100 years")
    if value is None:
        return
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidRevocation("what is to be revoked is not valid Unicode text") from None
    if not 1 <= size <= MAX_VALUE_BYTES or "\0" in value:
        raise InvalidRevocation(f"what is to be revoked must be 1 to {MAX_VALUE_BYTES} bytes long and contain no NUL")
    if kind == "key" and not _THUMBPRINT.match(value):
        raise InvalidRevocation("a key is named by its RFC 7638 thumbprint (SHA-256): 43 letters, digits, - or _")


class RevocationList:
    """All entries known. Immutable; an identity is judged in the same short time however many there are."""

    __slots__ = ("_by_id", "_targets")

    def __init__(self, entries: Iterable[Revocation] = ()) -> None:
        """Of two entries with the same id the later one counts."""
        self._by_id: dict[int, Revocation] = {}
        self._targets: _Targets = {"user": {}, "jti": {}, "key": {}, "all": {}}
        self._add_and_regroup(entries, {})

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Revocation]:
        return iter(self._by_id.values())

    def __repr__(self) -> str:
        return f"RevocationList({len(self)} entries)"

    def get(self, id: int) -> Revocation | None:
        """The entry with this id, in force or not."""
        return self._by_id.get(id)

    def matching(self, identity: Identity, now: float) -> Revocation | None:
        """An entry in force at `now` (Unix seconds) that revokes the token behind `identity`; None when there is none.

        Texts are compared by code points: no case folding, no normalisation.
        """
        targets, issued_at = self._targets, identity.issued_at
        return (
            _first(targets["user"].get(identity.user_id), issued_at, now)
            or _first(targets["jti"].get(identity.jti), issued_at, now)
            or _first(targets["key"].get(identity.key_thumbprint), issued_at, now)
            or _first(targets["all"].get(None), issued_at, now)
        )

    def check(self, identity: Identity, now: float) -> None:
        """Refuse an identity whose token is revoked at `now` (Unix seconds); raises `revoked`."""
        entry = self.matching(identity, now)
        if entry is not None:
            raise Refusal("revoked", f"{_sentence(entry)} (revocation {entry.id})")

    def changed(self, removed: Iterable[int], added: Iterable[Revocation]) -> RevocationList:
        """A list without the entries whose ids are `removed`, and with `added`, which replace those of the same id.

        Takes time for what changes; what stays is only copied.
        """
        new = RevocationList()
        new._by_id = dict(self._by_id)
        new._targets = {kind: dict(by_value) for kind, by_value in self._targets.items()}
        touched: _Touched = {}
        for id in removed:
            entry = new._by_id.pop(id, None)
            if entry is not None:
                touched.setdefault((entry.kind, entry.value), [])
        new._add_and_regroup(added, touched)
        return new

    def _add_and_regroup(self, added: Iterable[Revocation], touched: _Touched) -> None:
        """For construction only. `touched` holds the targets that lost entries."""
        by_id = self._by_id
        for entry in added:
            replaced = by_id.get(entry.id)
            if replaced is not None:
                touched.setdefault((replaced.kind, replaced.value), [])
            by_id[entry.id] = entry
            touched.setdefault((entry.kind, entry.value), []).append(entry)
        for (kind, value), fresh in touched.items():
            by_value = self._targets[kind]
            candidates = (*by_value.pop(value, ()), *fresh)
            group = {entry.id: entry for entry in candidates if by_id.get(entry.id) is entry}
            if group:
                by_value[value] = tuple(sorted(group.values(), key=_reach, reverse=True))


_Targets = dict[RevocationKind, dict[str | None, tuple[Revocation, ...]]]
"""Entries by what they name, the one that reaches furthest first."""

_Touched = dict[tuple[RevocationKind, str | None], list[Revocation]]


def _reach(entry: Revocation) -> float:
    return math.inf if entry.issued_before is None else entry.issued_before


def _first(group: tuple[Revocation, ...] | None, issued_at: float | None, now: float) -> Revocation | None:
    """The first entry of a group that is in force and reaches a token issued then."""
    if group is None:
        return None
    for entry in group:
        if not entry.reaches(issued_at):
            return None  # those that follow reach no further
        if now < entry.expires_at:
            return entry
    return None


def _sentence(entry: Revocation) -> str:
    match entry.kind:
        case "jti":
            return "this token was revoked by its jti"
        case "key":
            return "the key that signed the token was revoked"
    whose = "all tokens" if entry.kind == "all" else "all tokens of the user"
    if entry.issued_before is None:
        return f"{whose} were revoked"
    return f"{whose} issued up to {as_date(entry.issued_before)} were revoked"
