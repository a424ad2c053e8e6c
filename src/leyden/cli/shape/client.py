"""Whom rows would reach: the bearer of a token, judged as the service judges it, or a client as the command says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from leyden.auth import Check, Identity, Refusal, Revocation, RevocationList, TokenVerifier, date_of, printable
from leyden.shapes.understanding import Client
from leyden.shapes.where import Claims

_GOOD_CHECK: Final = "token is good"
_REVOCATION_CHECK: Final = "token is not revoked"
_NOBODY: Final = Claims(None, {})


def bearer(token: str, now: float, verifier: TokenVerifier, revocations: Iterable[Revocation]) -> Client:
    """The client that connects with `token` at `now` (Unix seconds), `revocations` being those in force."""
    known = RevocationList(revocations)
    try:
        identity = verifier.verify(token, now)
    except Refusal as refusal:
        return Client(_NOBODY, (_refused(_GOOD_CHECK, refusal), Check(_REVOCATION_CHECK, "skipped")))
    good = Check(_GOOD_CHECK, "pass", _described(identity, verifier))
    try:
        known.check(identity, now)
    except Refusal as refusal:
        return Client(_NOBODY, (good, _refused(_REVOCATION_CHECK, refusal)))
    in_force = f"none of the {len(known)} in force reaches it" if len(known) else "none is in force"
    return Client(Claims(identity.user_id, identity.claims), (good, Check(_REVOCATION_CHECK, "pass", in_force)))


def as_told(user_id: str | None, claims: Mapping[str, Any]) -> Client:
    """A client with this user id and these claims, of which nothing is verified; without any, whoever it may be."""
    named = user_id is not None or bool(claims)
    what = "the client is what --user and --claim say" if named else "nothing is said of the client"
    check = Check(_GOOD_CHECK, "skipped", f"NOTHING WAS VERIFIED: {what}")
    # Tokens say sub, unless told otherwise.
    everything = claims if user_id is None else {"sub": user_id, **claims}
    return Client(Claims(user_id, everything), (check, Check(_REVOCATION_CHECK, "skipped")), named)


def _refused(check: str, refusal: Refusal) -> Check:
    return Check(check, "fail", f"{refusal.code}: {refusal.message} (leyden token explain says more)")


def _described(identity: Identity, verifier: TokenVerifier) -> str:
    until = "" if identity.expires_at is None else f", until {date_of(identity.expires_at)}"
    unsigned = ", NOT VERIFIED, because AUTH_MODE=insecure" if verifier.settings.insecure else ""
    return f"user {printable(identity.user_id)}{until}{unsigned}"
