"""What the operator decides about who may connect, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from .address import Address, Network
from .headers import Headers
from .origin import require_loopback, require_loopback_host, require_origin_among


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """AUTH_TRUSTED_PROXIES and AUTH_ALLOWED_ORIGINS, parsed; the strictest rule that follows from AUTH_MODE."""

    trusted_proxies: tuple[Network, ...] = ()
    """Whose word on where a request comes from is taken."""
    allowed_origins: frozenset[str] | None = None
    """Serialised origins (:func:`origin.normal_origin`); None lets every page connect."""
    require_origin: bool = False
    """Whether programs that send no origin are refused; only together with `allowed_origins`."""
    loopback_only: bool = False
    """Whether only this machine's pages and programs may connect: tokens prove nothing here."""

    def __post_init__(self) -> None:
        if self.require_origin and not self.allowed_origins:
            raise ValueError("nobody could connect: an origin is required, and none is allowed")

    def trusts(self, address: Address) -> bool:
        """Whether ``address`` is a trusted proxy's."""
        return any(address in network for network in self.trusted_proxies)

    def require_permitted(self, headers: Headers) -> None:
        """Judges ``Host`` and ``Origin``.

        Raises:
            HandshakeRefused: with status 403.
        """
        if self.allowed_origins is not None:
            if self.loopback_only:
                require_loopback_host(headers)
            require_origin_among(headers, self.allowed_origins, required=self.require_origin)
        elif self.loopback_only:
            require_loopback(headers)
