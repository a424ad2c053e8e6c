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

from .algorithms import Algorithm
from .claims import Times, check_audience, check_issuer, check_lifetime, check_times, read_times
from .compact import CompactToken, check_size, decode_signed, split_signed, unsigned_payload
from .header import check_algorithm, check_extensions, check_kind, parse_header
from .key_ring import KeyRing
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
    issuer: str | None
    jti: str | None
    algorithm: str | None
    """The token's `alg`; None in insecure mode, like the two that follow."""
    kid: str | None
    """The name in a JWK Set of the key that signed, if it has one."""
    key_thumbprint: str | None
    """RFC 7638 thumbprint of the key that signed."""
    leeway: int
    """Seconds forgiven after `expires_at`."""

    @property
    def deadline(self) -> float | None:
        """The first whole second at which the token would be refused; None means never."""
        return None if self.expires_at is None else math.floor(self.expires_at + self.leeway) + 1


@dataclass(frozen=True, slots=True)
class Authentic:
    """What a trusted issuer signed, before any claim is judged: true of this token text for as long as its key is
    trusted."""

    claims: Mapping[str, Any]
    key: VerificationKey | None
    """None in insecure mode."""


@dataclass(slots=True)
class Examination:
    """One token on its way through the checks; each check reads what earlier ones found and adds its own."""

    token: str
    now: int = 0
    segments: tuple[str, str, str] | None = None
    parts: CompactToken | None = None
    payload: bytes = b""
    header: Mapping[str, Any] = field(default_factory=dict)
    algorithm: Algorithm | None = None
    candidates: tuple[VerificationKey, ...] = ()
    key: VerificationKey | None = None
    claims: Mapping[str, Any] = field(default_factory=dict)
    times: Times = field(default_factory=lambda: Times(None, None, None))
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One check. `name` is stable; `setting` is the environment variable an operator would look at, if
    any."""

    name: str
    run: Callable[[Examination, AuthSettings, KeyRing], None]
    setting: str | None = None


def _size(seen: Examination, settings: AuthSettings, ring: KeyRing) -> None:
    check_size(seen.token, settings.max_characters)


def _split(seen: Examination, settings: AuthSettings, ring: KeyRing) -> None:
    seen.segments = split_signed(seen.token)


def _decode(seen: Examination, settings: AuthSettings, ring: KeyRing) -> None:
    assert seen.segments is not None
    seen.parts = decode_signed(seen.segments)
    seen.payload = seen.parts.payload


def _decode_unsigned(seen: Examination, settings: AuthSettings, ring: KeyRing) -> None:
    seen.payload = unsigned_payload(seen.token)


def _header(seen: Examination, settings: AuthSettings, ring: KeyRing) -> None:
    assert seen.parts is not None
    seen.header = parse_header(seen.parts.header)


def _algorithm(seen: Examination, settings: AuthSettings, ring: KeyRing) -> None:
    seen.algorithm = settings.by_name[check_algorithm(seen.header, settings.by_name)]


def _extensions(seen: Examination, settings: AuthSettings, ring: KeyRing) -> None:
    check_extensions(seen.header)


def _kind(seen: Examination, settings: AuthSettings, ring: KeyRing) -> None:
    check_kind(seen.header, settings.types)


def _key(seen: Examination, settings: AuthSettings, ring: KeyRing) -> None:
    assert seen.algorithm is not None
    seen.candidates = ring.candidates(seen.algorithm, seen.header.get("kid"))


def _signature(seen: Examination, settings: AuthSettings, ring: KeyRing) -> None:
    assert seen.parts is not None
    seen.key = check_signature(seen.parts, seen.candidates)


def _payload(seen: Examination, settings: AuthSettings, ring: KeyRing) -> None:
    try:
        seen.claims = parse_object(seen.payload)
    except NotStrictJson as reason:
        raise Refusal("payload_invalid", f"the payload {reason}") from None


def _time_claims(seen: Examination, settings: AuthSettings, ring: KeyRing) -> None:
    seen.times = read_times(seen.claims, required=not settings.insecure)


def _times(seen: Examination, settings: AuthSettings, ring: KeyRing) -> None:
    check_times(seen.times, seen.now, settings.leeway)


def _lifetime(seen: Examination, settings: AuthSettings, ring: KeyRing) -> None:
    check_lifetime(seen.times, seen.now, max_lifetime=settings.max_lifetime, max_age=settings.max_age)


def _issuer(seen: Examination, settings: AuthSettings, ring: KeyRing) -> None:
    check_issuer(seen.claims, settings.issuer)


def _audience(seen: Examination, settings: AuthSettings, ring: KeyRing) -> None:
    check_audience(seen.claims, settings.audience)


def _user(seen: Examination, settings: AuthSettings, ring: KeyRing) -> None:
    seen.user_id = find_user_id(seen.claims, namespace=settings.namespace, policy=settings.user_id_policy)


_TIME_STEPS: Final = (
    Step("time claims are present and numbers", _time_claims),
    Step("token is valid now", _times, "AUTH_JWT_LEEWAY"),
)
_PAYLOAD_STEP: Final = Step("payload is strict JSON", _payload)
_USER_STEP: Final = Step("user id is usable", _user, "AUTH_JWT_NAMESPACE")


@dataclass(frozen=True, slots=True)
class Steps:
    """The checks of one mode, in order, in three parts: what costs next to nothing, what proves who wrote the token,
    and what its claims allow at this moment."""

    read: tuple[Step, ...]
    authenticate: tuple[Step, ...]
    judge: tuple[Step, ...]

    @property
    def all(self) -> tuple[Step, ...]:
        return self.read + self.authenticate + self.judge


SECURE_STEPS: Final = Steps(
    read=(
        Step("token is present and not too long", _size, "AUTH_JWT_MAX_BYTES"),
        Step("token has three segments", _split),
        Step("segments are canonical base64url", _decode),
        Step("header is strict JSON", _header),
        Step("algorithm is a configured one", _algorithm, "AUTH_JWT_ALG"),
        Step("no critical extension is asked for", _extensions),
        Step("token is of an accepted type", _kind, "AUTH_JWT_TYP"),
        Step("key is known", _key, "AUTH_JWT_KEY or AUTH_JWT_JWKS_FILE, AUTH_JWT_JWKS_URL, AUTH_JWT_OIDC_ISSUER"),
    ),
    authenticate=(
        Step("signature is good", _signature, "AUTH_JWT_KEY"),
        _PAYLOAD_STEP,
    ),
    judge=(
        *_TIME_STEPS,
        Step("lifetime and age are within limits", _lifetime, "AUTH_JWT_MAX_LIFETIME, AUTH_JWT_MAX_AGE"),
        Step("issuer is the configured one", _issuer, "AUTH_JWT_ISS"),
        Step("audience includes the configured one", _audience, "AUTH_JWT_AUD"),
        _USER_STEP,
    ),
)
INSECURE_STEPS: Final = Steps(
    read=(
        Step("token is present and not too long", _size),
        Step("token has a payload", _decode_unsigned),
    ),
    authenticate=(_PAYLOAD_STEP,),
    judge=(*_TIME_STEPS, _USER_STEP),
)


class TokenVerifier:
    """Judges tokens under one fixed policy and one ring of keys. Holds no state between tokens; safe to share
    between threads.

    `verify` is all most callers need. Its three parts are public for those who do something between them: wait
    for a key, ration signature checks, remember verdicts. Each raises `Refusal`, and nothing else: an unexpected error
    becomes the code `internal` and is logged with its place, but without its text, which might quote the token.
    """

    def __init__(self, settings: AuthSettings, ring: KeyRing | None = None) -> None:
        self.settings: Final = settings
        self.ring: Final = settings.ring if ring is None else ring
        self.steps: Final = INSECURE_STEPS if settings.insecure else SECURE_STEPS

    def verify(self, token: str, now: float) -> Identity:
        """Judge `token` at `now` (Unix seconds, taken down to whole ones)."""
        return self.judge(self.authenticate(self.read(token)), now)

    def read(self, token: str) -> Examination:
        """The token's form, its header, and the keys it may be signed with: nothing that costs much."""
        seen = Examination(token)
        self._run(self.steps.read, seen)
        return seen

    def authenticate(self, seen: Examination) -> Authentic:
        """Check the signature, then parse the payload."""
        self._run(self.steps.authenticate, seen)
        return Authentic(MappingProxyType(dict(seen.claims)), seen.key)

    def judge(self, authentic: Authentic, now: float) -> Identity:
        """Judge the claims at `now` (Unix seconds, taken down to whole ones)."""
        seen = Examination("", math.floor(now), key=authentic.key, claims=authentic.claims)
        self._run(self.steps.judge, seen)
        return identity_of(seen, self.settings)

    def _run(self, steps: tuple[Step, ...], seen: Examination) -> None:
        try:
            for step in steps:
                step.run(seen, self.settings, self.ring)
        except Refusal:
            raise
        except Exception as error:
            raise unexpected(error) from None


def identity_of(seen: Examination, settings: AuthSettings) -> Identity:
    """The identity a token that passed every step stands for."""
    assert seen.user_id is not None
    key = seen.key
    return Identity(
        user_id=seen.user_id,
        claims=seen.claims,
        expires_at=seen.times.expires_at,
        issued_at=seen.times.issued_at,
        issuer=_text(seen.claims.get("iss")),
        jti=_text(seen.claims.get("jti")),
        algorithm=key.algorithm.name if key else None,
        kid=key.kid if key else None,
        key_thumbprint=key.thumbprint if key else None,
        leeway=settings.leeway,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def unexpected(error: Exception) -> Refusal:
    """Turn a defect of ours, or an exception of a library's, into a refusal: fail closed."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    _log.error("token verification failed with %s at %s", type(error).__name__, " > ".join(frames))
    return Refusal("internal", "the token could not be judged because of an internal error")


def verifier_from(settings: AuthSettings, ring: KeyRing | None = None) -> TokenVerifier:
    """The verifier for a decided configuration; `ring` in place of the configured keys, where they are fetched."""
    return TokenVerifier(settings, ring)
