"""Public keys written as JSON Web Keys (RFC 7517), for a key set that services read.

Owns the members of a published key. Only what is public can come out: a private key never becomes a
`VerificationKey`.
"""

from __future__ import annotations

from .keys import VerificationKey

_MEMBERS = ("kty", "crv", "x", "y", "n", "e")


def public_jwk(key: VerificationKey, kid: str | None = None) -> dict[str, str]:
    """`key` as a JWK that is for checking signatures of its one algorithm; its name is its RFC 7638 thumbprint unless
    `kid` says otherwise. Raises `ValueError` for a shared secret, which nobody may publish."""
    if key.secret() is not None:
        raise ValueError("a shared secret cannot be published")
    numbers = key.material.as_dict(private=False)
    members = {name: str(numbers[name]) for name in _MEMBERS if name in numbers}
    return {"kid": kid or key.thumbprint, "use": "sig", "alg": key.algorithm.name, **members}
