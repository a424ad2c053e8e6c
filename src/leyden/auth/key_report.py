"""What is to be known of a key without seeing it.

Owns the shape of a report and the report on a loaded key. Holds no key material: sizes, names, and a thumbprint (RFC
7638) where that gives nothing away.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .algorithms import Family
from .compact import canonical_base64url
from .key_ring import KeyRing
from .keys import VerificationKey


@dataclass(frozen=True, slots=True)
class KeyReport:
    """One key of a file or of a configuration. `problems` complete the sentence "the key …", or "it …"."""

    kind: str
    size: str | None = None
    algorithms: tuple[str, ...] = ()
    """Names of the algorithms under which a service would take it."""
    thumbprint: str | None = None
    kid: str | None = None
    problems: tuple[str, ...] = ()
    private: bool = False
    """Whether it signs tokens, which the service must never be able to."""
    ignored: str | None = None
    """Why a service passes it over, where that is nobody's fault; completes "the key …"."""
    notes: tuple[str, ...] = ()

    @property
    def fit(self) -> bool:
        return not self.problems and bool(self.algorithms or self.ignored)


def report_on_ring(ring: KeyRing) -> tuple[KeyReport, ...]:
    """The keys of a configuration, one report for each however many algorithms it serves."""
    together: dict[tuple[str, str | None], list[VerificationKey]] = {}
    for key in ring.keys:
        together.setdefault((key.thumbprint, key.kid), []).append(key)
    return tuple(report_on_keys(keys) for keys in together.values())


def report_on_keys(keys: Iterable[VerificationKey]) -> KeyReport:
    """One key, loaded for one algorithm or several."""
    first, *others = keys
    secret = first.secret()
    names = (first.algorithm.name, *(key.algorithm.name for key in others))
    guessable = f"looks guessable: it {first.warning}; make one with `leyden keys new {names[-1]}`"
    problems = (guessable,) if first.warning else ()
    if secret is not None:
        # Whoever sees the thumbprint of a guessable secret can try out guesses on it.
        thumbprint = None if problems else first.thumbprint
        return KeyReport("shared secret", f"{len(secret)} bytes", names, thumbprint, first.kid, problems)
    return KeyReport(f"{_family(first)} public key", _size(first), names, first.thumbprint, first.kid, problems)


def _family(key: VerificationKey) -> str:
    return {Family.RSA: "RSA", Family.EC: "EC"}.get(key.algorithm.family, "Ed25519")


def _size(key: VerificationKey) -> str | None:
    if key.algorithm.curve is not None:
        return key.algorithm.curve.name
    modulus = key.material.as_dict(private=False).get("n")
    if not isinstance(modulus, str):
        return None
    return f"{int.from_bytes(canonical_base64url(modulus), 'big').bit_length()} bits"
