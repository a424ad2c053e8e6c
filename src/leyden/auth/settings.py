"""What an operator decides about tokens and connections, as plain values.

Owns the shape of a decided configuration: everything here is already parsed and every configured key already
loaded. Knows nothing of environment variables; of files only the names.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from .algorithms import Algorithm
from .header import DEFAULT_TYPES
from .key_ring import KeyRing
from .refusal import ErrorDetail
from .user_id import UserIdPolicy

Mode = Literal["secure", "insecure"]

DEFAULT_LEEWAY: Final = 2
DEFAULT_MAX_CHARACTERS: Final = 16_384
DEFAULT_MAX_STALE: Final = 86_400


@dataclass(frozen=True, slots=True)
class RemoteKeys:
    """An issuer that publishes its keys: either the URL of its JWK Set, or its OpenID Connect issuer URL.

    By default only HTTPS to globally routable addresses is fetched from.
    """

    jwks_url: str | None = None
    issuer: str | None = None
    allow_http: bool = False
    """Whether plain HTTP will do, to a loopback address only."""
    allow_private: bool = False
    """Whether the address may be a private one, as in a cluster."""
    ca_file: Path | None = None
    """Certificates to trust instead of the system's."""
    max_stale: int = DEFAULT_MAX_STALE
    """Seconds for which keys stay good while the issuer cannot be reached."""

    def __post_init__(self) -> None:
        if (self.jwks_url is None) == (self.issuer is None):
            raise ValueError("give either the URL of a JWK Set or an issuer")

    @property
    def address(self) -> str:
        """The configured URL, for logs."""
        return self.jwks_url or self.issuer or ""


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """The whole policy on who may connect. Durations are whole seconds, sizes are characters."""

    mode: Mode
    algorithms: tuple[Algorithm, ...] = ()
    """Accepted ones; a key configured by hand goes with exactly one."""
    ring: KeyRing = field(default_factory=KeyRing)
    """In secure mode the configured keys; empty in insecure mode and with `remote`."""
    remote: RemoteKeys | None = None
    key_files: tuple[Path, ...] = ()
    """Where `ring` was read from, as far as that were files: they are read again when they change."""
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
    revocation_strict: bool = False
    """Whether nobody is let in any more once revocations could not be read for some minutes."""
    max_session: int = 0
    """Longest life of a connection, whatever its token; 0 for no limit."""
    insecure_public: bool = False
    """Whether insecure mode may be offered beyond this machine."""
    by_name: Mapping[str, Algorithm] = field(init=False, repr=False, compare=False)
    """The accepted algorithms by the `alg` that names them."""

    def __post_init__(self) -> None:
        if self.mode == "secure" and not (self.algorithms and bool(self.ring) != bool(self.remote)):
            raise ValueError("secure mode needs algorithms, and either keys or a place to fetch them from")
        if any(key.algorithm not in self.algorithms for key in self.ring.keys):
            raise ValueError("every key must have been loaded for an accepted algorithm")
        if self.mode == "insecure" and (self.ring or self.remote):
            raise ValueError("insecure mode takes no keys")
        object.__setattr__(self, "by_name", {algorithm.name: algorithm for algorithm in self.algorithms})

    @property
    def insecure(self) -> bool:
        return self.mode == "insecure"

    @property
    def summary(self) -> Mapping[str, object]:
        """What to log at every start: mode, algorithms, key thumbprints (RFC 7638) and the claims required."""
        return {
            "mode": self.mode,
            "algorithms": [algorithm.name for algorithm in self.algorithms],
            "keys": list(dict.fromkeys(key.thumbprint for key in self.ring.keys)),
            "key_source": self.remote.address if self.remote else None,
            "issuer": self.issuer,
            "audience": self.audience,
            "namespace": self.namespace,
        }

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences to log loudly at every start."""
        sentences = [f"the key of AUTH_JWT_KEY {key.warning}" for key in self.ring.keys if key.warning]
        if self.insecure:
            sentences.append("AUTH_MODE=insecure: tokens are not checked, anyone may claim to be any user")
        return tuple(sentences)
