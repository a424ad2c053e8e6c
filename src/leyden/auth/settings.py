"""What an operator decides about tokens, as plain values.

Owns the shape of a decided configuration: everything here is already parsed and every key already loaded.
Knows nothing of environment variables or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Final, Literal

from .algorithms import Algorithm
from .header import DEFAULT_TYPES
from .keys import VerificationKey
from .refusal import ErrorDetail
from .user_id import UserIdPolicy

Mode = Literal["secure", "insecure"]

DEFAULT_LEEWAY: Final = 2
DEFAULT_MAX_CHARACTERS: Final = 16_384


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """The whole policy for judging tokens. Durations are whole seconds, sizes are characters."""

    mode: Mode
    algorithm: Algorithm | None = None
    keys: tuple[VerificationKey, ...] = ()
    """In secure mode at least one, all for `algorithm`; the first is the current one. Empty in insecure
    mode."""
    namespace: str | None = None
    issuer: str | None = None
    audience: str | None = None
    types: Set[str] | None = DEFAULT_TYPES
    """Accepted `typ` values, lower case, without `application/`; None accepts any."""
    leeway: int = DEFAULT_LEEWAY
    max_characters: int = DEFAULT_MAX_CHARACTERS
    max_lifetime: int = 0
    max_age: int = 0
    user_id_policy: UserIdPolicy = "strict"
    error_detail: ErrorDetail = "code"
    insecure_public: bool = False
    """Whether insecure mode may be offered beyond this machine."""

    def __post_init__(self) -> None:
        if self.mode == "secure" and (self.algorithm is None or not self.keys):
            raise ValueError("secure mode needs an algorithm and a key")
        if any(key.algorithm is not self.algorithm for key in self.keys):
            raise ValueError("every key must have been loaded for the configured algorithm")
        if self.mode == "insecure" and self.keys:
            raise ValueError("insecure mode takes no keys")

    @property
    def insecure(self) -> bool:
        return self.mode == "insecure"

    @property
    def summary(self) -> Mapping[str, object]:
        """What to log at every start: mode, algorithm, key thumbprints (RFC 7638) and the claims required."""
        return {
            "mode": self.mode,
            "algorithm": self.algorithm.name if self.algorithm else None,
            "keys": [key.thumbprint for key in self.keys],
            "issuer": self.issuer,
            "audience": self.audience,
            "namespace": self.namespace,
        }

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences to log loudly at every start."""
        sentences = [f"the key of AUTH_JWT_KEY {key.warning}" for key in self.keys if key.warning]
        if self.insecure:
            sentences.append("AUTH_MODE=insecure: tokens are not checked, anyone may claim to be any user")
        return tuple(sentences)
