"""What two other libraries say about tokens and keys that we accept: PyJWT and joserfc.

Both must accept them as well, and read the same claims. Where they judge something by other rules than ours the rule is
switched off here, with the reason.
"""

from __future__ import annotations

import base64
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from typing import Any, cast
from unittest import mock

import joserfc.jws
import joserfc.jwt
import jwt
from joserfc.jwk import JWKRegistry
from joserfc.jwt import JWTClaimsRegistry

from leyden.auth import AuthSettings, Family, VerificationKey


class Disagreement(AssertionError):
    """Another library refuses, or reads otherwise, what we accept."""


def claims_elsewhere(token: str, key: VerificationKey, settings: AuthSettings, now: int) -> None:
    """Raise `Disagreement` unless both libraries accept `token` under `key` and `settings` at `now`."""
    by_pyjwt = _pyjwt(token, key, settings, now)
    by_joserfc = _joserfc(token, key, settings, now)
    if json.dumps(by_pyjwt, sort_keys=True) != json.dumps(by_joserfc, sort_keys=True):
        raise Disagreement("the two libraries read different claims")


def _pyjwt(token: str, key: VerificationKey, settings: AuthSettings, now: int) -> Mapping[str, Any]:
    name = "EdDSA" if key.algorithm.name == "Ed25519" else key.algorithm.name
    options: Any = {
        "require": ["exp", "iat"],
        "verify_iss": settings.issuer is not None,
        "verify_aud": settings.audience is not None,
        # A sub may be null beside a user_id, or be outside the namespace; a jti serves revocation alone.
        "verify_sub": False,
        "verify_jti": False,
    }
    with _at(now), _refusals("PyJWT"):
        library = jwt.PyJWT()
        library._jws = jwt.PyJWS([name])
        if key.algorithm.name == "Ed25519":  # PyJWT does not know this name of EdDSA
            library._jws = jwt.PyJWS(["EdDSA"])
            library._jws.register_algorithm("Ed25519", library._jws.get_algorithm_by_name("EdDSA"))
            name = "Ed25519"
        return library.decode(
            token,
            cast(Any, key.secret() or key.material.public_key),
            algorithms=[name],
            options=options,
            issuer=settings.issuer,
            audience=settings.audience,
            leeway=settings.leeway + 1,  # theirs ends at exp, ours after that second
        )


def _joserfc(token: str, key: VerificationKey, settings: AuthSettings, now: int) -> Mapping[str, Any]:
    registry = joserfc.jws.JWSRegistry(algorithms=[key.algorithm.name], strict_check_header=False)
    registry.max_header_length = registry.max_payload_length = 20_000
    registry.header_registry = {}  # it judges the form of jwk, jku and others, which we never read
    wanted: dict[str, Any] = {"exp": {"essential": True}, "iat": {"essential": True}}
    if settings.issuer is not None:
        wanted["iss"] = {"essential": True, "value": settings.issuer}
    if settings.audience is not None:
        wanted["aud"] = {"essential": True, "value": settings.audience}
    with _refusals("joserfc"):
        found = joserfc.jwt.decode(token, key.material, algorithms=[key.algorithm.name], registry=registry)
        claims = found.claims
        judged = {name: claims[name] for name in ("exp", "iat", "nbf", *wanted) if name in claims}
        JWTClaimsRegistry(now=now, leeway=settings.leeway + 1, **wanted).validate(judged)
        return claims


def key_elsewhere(jwk: Mapping[str, Any], key: VerificationKey) -> None:
    """Raise `Disagreement` unless both libraries import `jwk`, as the same key.

    Of members that no key is made of, and that we never read, they are not shown any: they judge their form.
    """
    names = ("kty", "crv", "x", "y", "n", "e", "kid", "use", "key_ops", "alg")
    jwk = {name: jwk[name] for name in names if name in jwk}
    with _refusals("joserfc"):
        thumbprint = JWKRegistry.import_key(dict(jwk)).thumbprint()
    if thumbprint != key.thumbprint:
        raise Disagreement("joserfc reads another key")
    name = "EdDSA" if key.algorithm.name == "Ed25519" else key.algorithm.name
    with _refusals("PyJWT"):
        jwt.PyJWK({**jwk, "alg": name}, algorithm=name)


def pem_elsewhere(label: str, der: bytes, key: VerificationKey) -> None:
    """Raise `Disagreement` unless both libraries load the block of a PEM text, as the same key."""
    armour = base64.encodebytes(der).decode()
    pem = f"-----BEGIN {label}-----\n{armour}-----END {label}-----\n"
    kind = {Family.RSA: "RSA", Family.EC: "EC"}.get(key.algorithm.family, "OKP")
    with _refusals("joserfc"):
        thumbprint = JWKRegistry.import_key(pem, kind).thumbprint()
    if thumbprint != key.thumbprint:
        raise Disagreement("joserfc reads another key")
    if label != "CERTIFICATE":  # PyJWT takes none
        name = "EdDSA" if key.algorithm.name == "Ed25519" else key.algorithm.name
        with _refusals("PyJWT"):
            jwt.get_algorithm_by_name(name).prepare_key(pem)


@contextmanager
def _refusals(library: str) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except Exception as error:
            raise Disagreement(f"{library} refuses it: {type(error).__name__}: {error}") from error


@contextmanager
def _at(now: int) -> Iterator[None]:
    """PyJWT reads the clock itself."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Clock:
            return cls.fromtimestamp(now, tz or UTC)

    with mock.patch("jwt.api_jwt.datetime", Clock):
        yield
