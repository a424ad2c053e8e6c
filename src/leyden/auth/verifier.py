"""The verdict on a token: an identity, or a refusal.

Owns the order of the checks: cheap ones first, the signature before anything of the payload is parsed,
one reason code each. The rules themselves live in the modules this one strings together. Reads no clock.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from .claims import Times, check_audience, check_issuer, check_lifetime, check_times, read_times
from .compact import CompactToken, check_size, decode_signed, split_signed, unsigned_payload
from .header import check_algorithm, check_extensions, check_kind, parse_header
from .keys import VerificationKey
from .refusal import Refusal
from .settings import AuthSettings
from .signature import check_signature
from .strict_json import NotStrictJson, parse_object
from .user_id import find_user_id

_log: Final = logging.getLogger("leyden.auth")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who was let in, until when. Times are Unix seconds."""

    user_id: str
    claims: Mapping[str, Any]
    expires_at: float | None
    """`exp`; None only in insecure mode."""
    issued_at: float | None
    jti: str | None
    key_thumbprint: str | None
    """RFC 7638 thumbprint of the key that signed; None in insecure mode."""
    leeway: int
    """Seconds forgiven after `expires_at`."""

    @property
    def deadline(self) -> float | None:
        """The first whole second at which the token would be refused; None means never."""
        return None if self.expires_at is None else math.floor(self.expires_at + self.leeway) + 1


@dataclass(slots=True)
class Examination:
    """One token on its way through the checks; each check reads what earlier ones found and adds its own."""

    token: str
    now: int
    segments: tuple[str, str, str] | None = None
    parts: CompactToken | None = None
    payload: bytes = b""
    header: Mapping[str, Any] = field(default_factory=dict)
    key: VerificationKey | None = None
    claims: Mapping[str, Any] = field(default_factory=dict)
    times: Times = field(default_factory=lambda: Times(None, None, None))
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One check. `name` is stable; `setting` is the environment variable an operator would look at, if
    any."""

    name: str
    run: Callable[[Examination, AuthSettings], None]
    setting: str | None = None


def _size(seen: Examination, settings: AuthSettings) -> None:
    check_size(seen.token, settings.max_characters)


def _split(seen: Examination, settings: AuthSettings) -> None:
    seen.segments = split_signed(seen.token)


def _decode(seen: Examination, settings: AuthSettings) -> None:
    assert seen.segments is not None
    seen.parts = decode_signed(seen.segments)
    seen.payload = seen.parts.payload


def _decode_unsigned(seen: Examination, settings: AuthSettings) -> None:
    seen.payload = unsigned_payload(seen.token)


def _header(seen: Examination, settings: AuthSettings) -> None:
    assert seen.parts is not None
    seen.header = parse_header(seen.parts.header)


def _algorithm(seen: Examination, settings: AuthSettings) -> None:
    assert settings.algorithm is not None
    check_algorithm(seen.header, settings.algorithm.name)


def _extensions(seen: Examination, settings: AuthSettings) -> None:
    check_extensions(seen.header)


def _kind(seen: Examination, settings: AuthSettings) -> None:
    check_kind(seen.header, settings.types)


def _signature(seen: Examination, settings: AuthSettings) -> None:
    assert seen.parts is not None
    # With configured keys a kid selects nothing: it is only the sender's word (RFC 8725 §3.10).
    seen.key = check_signature(seen.parts, settings.keys)


def _payload(seen: Examination, settings: AuthSettings) -> None:
    try:
        seen.claims = parse_object(seen.payload)
    except NotStrictJson as reason:
        raise Refusal("payload_invalid", f"the payload {reason}") from None


def _time_claims(seen: Examination, settings: AuthSettings) -> None:
    seen.times = read_times(seen.claims, required=not settings.insecure)


def _times(seen: Examination, settings: AuthSettings) -> None:
    check_times(seen.times, seen.now, settings.leeway)


def _lifetime(seen: Examination, settings: AuthSettings) -> None:
    check_lifetime(seen.times, seen.now, max_lifetime=settings.max_lifetime, max_age=settings.max_age)


def _issuer(seen: Examination, settings: AuthSettings) -> None:
    check_issuer(seen.claims, settings.issuer)


def _audience(seen: Examination, settings: AuthSettings) -> None:
    check_audience(seen.claims, settings.audience)


def _user(seen: Examination, settings: AuthSettings) -> None:
    seen.user_id = find_user_id(seen.claims, namespace=settings.namespace, policy=settings.user_id_policy)


_CLAIM_STEPS: Final = (
    Step("payload is strict JSON", _payload),
    Step("time claims are present and numbers", _time_claims),
    Step("token is valid now", _times, "AUTH_JWT_LEEWAY"),
)
SECURE_STEPS: Final = (
    Step("token is present and not too long", _size, "AUTH_JWT_MAX_BYTES"),
    Step("token has three segments", _split),
    Step("segments are canonical base64url", _decode),
    Step("header is strict JSON", _header),
    Step("algorithm is the configured one", _algorithm, "AUTH_JWT_ALG"),
    Step("no critical extension is asked for", _extensions),
    Step("token is of an accepted type", _kind, "AUTH_JWT_TYP"),
    Step("signature is good", _signature, "AUTH_JWT_KEY"),
    *_CLAIM_STEPS,
    Step("lifetime and age are within limits", _lifetime, "AUTH_JWT_MAX_LIFETIME, AUTH_JWT_MAX_AGE"),
    Step("issuer is the configured one", _issuer, "AUTH_JWT_ISS"),
    Step("audience includes the configured one", _audience, "AUTH_JWT_AUD"),
    Step("user id is usable", _user, "AUTH_JWT_NAMESPACE"),
)
INSECURE_STEPS: Final = (
    Step("token is present and not too long", _size),
    Step("token has a payload", _decode_unsigned),
    *_CLAIM_STEPS,
    Step("user id is usable", _user, "AUTH_JWT_NAMESPACE"),
)


class TokenVerifier:
    """Judges tokens under one fixed policy. Holds no state between tokens; safe to share between threads."""

    def __init__(self, settings: AuthSettings) -> None:
        self.settings: Final = settings
        self.steps: Final = INSECURE_STEPS if settings.insecure else SECURE_STEPS

    def verify(self, token: str, now: float) -> Identity:
        """Judge `token` at `now` (Unix seconds, taken down to whole ones).

        Raises `Refusal`, and nothing else: an unexpected error becomes the code `internal` and is logged
        with its place, but without its text, which might quote the token.
        """
        seen = Examination(token, math.floor(now))
        try:
            for step in self.steps:
                step.run(seen, self.settings)
            return identity_of(seen, self.settings)
        except Refusal:
            raise
        except Exception as error:
            raise unexpected(error) from None


def identity_of(seen: Examination, settings: AuthSettings) -> Identity:
    """The identity a token that passed every step stands for."""
    assert seen.user_id is not None
    jti = seen.claims.get("jti")
    return Identity(
        user_id=seen.user_id,
        claims=MappingProxyType(dict(seen.claims)),
        expires_at=seen.times.expires_at,
        issued_at=seen.times.issued_at,
        jti=jti if isinstance(jti, str) else None,
        key_thumbprint=seen.key.thumbprint if seen.key else None,
        leeway=settings.leeway,
    )


def unexpected(error: Exception) -> Refusal:
    """Turn a defect of ours, or an exception of a library's, into a refusal: fail closed."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    _log.error("token verification failed with %s at %s", type(error).__name__, " > ".join(frames))
    return Refusal("internal", "the token could not be judged because of an internal error")


def verifier_from(settings: AuthSettings) -> TokenVerifier:
    """The verifier for a decided configuration."""
    return TokenVerifier(settings)
