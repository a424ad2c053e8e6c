"""What a JWK or a JWK Set in a file holds, and what of it a service could use.

Owns the description of keys in JSON, private and misplaced ones included. Fitness is decided by the reader of key sets
that a service uses; nothing here accepts a key.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from .algorithms import ALGORITHMS
from .compact import canonical_base64url
from .fitting import PUBLIC_KEY_ALGORITHMS
from .jwk_set import InvalidJwkSet, parse_jwk_set
from .key_report import KeyReport, report_on_keys
from .strict_json import NotStrictJson, parse_object

#: What of a JWK anybody may know (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2).
_PUBLIC_MEMBERS: Final = frozenset({"kty", "n", "e", "crv", "x", "y", "use", "alg", "kid"})
_SECRET_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})
_CURVES: Final = frozenset(one.curve.name for one in ALGORITHMS.values() if one.curve is not None)


def report_on_jwk(raw: bytes) -> tuple[KeyReport, ...]:
    """The one key or the keys of a set in `raw`. Never raises."""
    try:
        document = parse_object(raw)
    except NotStrictJson as reason:
        return (KeyReport("JSON text", problems=(f"cannot be read: the text {reason}",)),)
    if "keys" not in document:
        alone = _jwk(document)
        if alone.ignored is not None:
            alone = replace(alone, problems=(alone.ignored,), ignored=None)
        return (alone,)
    try:
        parse_jwk_set(raw, PUBLIC_KEY_ALGORITHMS)
    except InvalidJwkSet as reason:
        return (KeyReport("JWK Set", problems=(f"cannot be read: the set {reason}",)),)
    reports = [_jwk(entry) for entry in document["keys"]]
    kids = Counter(report.kid for report in reports if report.algorithms and report.kid is not None)
    shared = "shares its kid with another key, so that neither is used; give each a kid of its own"
    reports = [
        replace(report, algorithms=(), problems=(*report.problems, shared))
        if report.kid is not None and kids[report.kid] > 1
        else report
        for report in reports
    ]
    if not any(report.algorithms for report in reports):
        reports.append(KeyReport("JWK Set", problems=("has no key that a service could use",)))
    return tuple(reports)


def _jwk(entry: object) -> KeyReport:
    if not isinstance(entry, dict):
        return KeyReport("JWK", problems=("is not an object",))
    kid = entry["kid"] if isinstance(entry.get("kid"), str) else None
    if entry.get("kty") == "oct":
        return _secret_jwk(entry, kid)
    private = bool(_SECRET_MEMBERS & entry.keys())
    public = {name: value for name, value in entry.items() if name in _PUBLIC_MEMBERS}
    if not private and "key_ops" in entry:
        public["key_ops"] = entry["key_ops"]
    parsed = parse_jwk_set(json.dumps({"keys": [public]}).encode("ascii"), PUBLIC_KEY_ALGORITHMS)
    if parsed.keys:
        report = report_on_keys(parsed.keys)
    else:
        kind, size = _described(public)
        reason = parsed.skipped[0].reason
        passed_over = _is_for_something_else(public)
        report = KeyReport(
            kind, size, kid=kid, problems=() if passed_over else (reason,), ignored=reason if passed_over else None
        )
    if private:
        return replace(report, kind=report.kind.replace("public", "private"), private=True)
    return report


def _described(entry: Mapping[str, Any]) -> tuple[str, str | None]:
    kty, crv = entry.get("kty"), entry.get("crv")
    if kty == "RSA":
        try:
            bits = int.from_bytes(canonical_base64url(str(entry.get("n"))), "big").bit_length()
        except ValueError:
            return "RSA public key", None
        return "RSA public key", f"{bits} bits"
    if kty == "EC":
        return "EC public key", crv if crv in tuple(_CURVES) else None
    kind = crv if kty == "OKP" and crv in ("Ed25519", "Ed448", "X25519") else "unknown"
    return f"{kind} public key", None


def _is_for_something_else(entry: Mapping[str, Any]) -> bool:
    """Keys that a set may well hold besides: for encryption, or of types that nobody here knows (RFC 7517 §5)."""
    operations = entry.get("key_ops", ["verify"])
    return (
        entry.get("use", "sig") != "sig"
        or (isinstance(operations, list) and "verify" not in operations)
        or entry.get("kty") not in ("RSA", "EC", "OKP")
        or (entry.get("kty") == "OKP" and entry.get("crv") != "Ed25519")
    )


def _secret_jwk(entry: Mapping[str, Any], kid: str | None) -> KeyReport:
    try:
        size = f"{len(canonical_base64url(str(entry.get('k'))))} bytes"
    except ValueError:
        size = None
    why = "is a shared secret in JSON; a service takes its bytes as AUTH_JWT_KEY, and never from a key set"
    return KeyReport("shared secret", size, kid=kid, problems=(why,), private=True)
