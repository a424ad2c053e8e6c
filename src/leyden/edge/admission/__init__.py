"""Who may open a WebSocket at all, and how much somebody may cost who has not authenticated yet.

Judged by the upgrade request alone: knows addresses and headers, no tokens and no sessions. The rules and their
numbers are those of docs/authentication-rules.md.
"""

from .address import Address, Network, network_of
from .buckets import FAILURES, Buckets
from .gate import Admission, Caller, Guest
from .lobby import Lobby, Place
from .origin import (
    InvalidOrigin,
    is_application_origin,
    is_loopback_host,
    is_loopback_origin,
    normal_origin,
    require_loopback,
)
from .policy import AdmissionPolicy
from .refusal import RETRY_AFTER, Doorkeeper, HandshakeRefused
from .signatures import SignatureBudget

__all__ = [
    "FAILURES",
    "RETRY_AFTER",
    "Address",
    "Admission",
    "AdmissionPolicy",
    "Buckets",
    "Caller",
    "Doorkeeper",
    "Guest",
    "HandshakeRefused",
    "InvalidOrigin",
    "Lobby",
    "Network",
    "Place",
    "SignatureBudget",
    "is_application_origin",
    "is_loopback_host",
    "is_loopback_origin",
    "network_of",
    "normal_origin",
    "require_loopback",
]
