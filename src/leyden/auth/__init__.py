"""Who may connect, as whom, until when: JSON Web Tokens under rules of our own.

Stands alone: imports nothing of the rest of the service. Judging a token reads no environment, file, network or
clock; what keeps published keys fresh is told where to look. Keys and signatures are joserfc's; the parser in front of
them and the claim rules behind them are here.

    es256 = ALGORITHMS["ES256"]
    verifier = verifier_from(AuthSettings("secure", (es256,), KeyRing(load_keys(pem, es256))))
    identity = verifier.verify(token, time.time())      # or raises Refusal
"""

from .algorithms import ALGORITHMS, Algorithm, Family
from .explanation import Check, Explanation, date_of, explain
from .header import DEFAULT_TYPES, printable
from .issuer import FetchFailed, IssuedKeys, fetch_key_set_once, issued_keys
from .jwk_set import InvalidJwkSet, JwkSet, SkippedKey, parse_jwk_set
from .key_files import WatchedKeys
from .key_generation import GeneratedKey, generate_key
from .key_ring import KeyRing
from .key_source import FixedKeys, KeySource, OnChange, tell_changes
from .keys import KeyRejected, VerificationKey, load_keys
from .minting import load_private_key, mint_token
from .notices import (
    KeyAdded,
    KeyNotice,
    KeySetFailed,
    KeySetRefreshed,
    KeySetStale,
    KeySkipped,
    KeyWithdrawn,
    Notify,
)
from .refusal import BEFORE_SIGNATURE, Code, ErrorDetail, Refusal, wire_message
from .settings import (
    DEFAULT_LEEWAY,
    DEFAULT_MAX_CHARACTERS,
    DEFAULT_MAX_STALE,
    AuthSettings,
    Mode,
    RemoteKeys,
)
from .user_id import UserIdPolicy
from .verifier import Authentic, Examination, Identity, TokenVerifier, verifier_from

__all__ = [
    "ALGORITHMS",
    "BEFORE_SIGNATURE",
    "DEFAULT_LEEWAY",
    "DEFAULT_MAX_CHARACTERS",
    "DEFAULT_MAX_STALE",
    "DEFAULT_TYPES",
    "Algorithm",
    "AuthSettings",
    "Authentic",
    "Check",
    "Code",
    "ErrorDetail",
    "Examination",
    "Explanation",
    "Family",
    "FetchFailed",
    "FixedKeys",
    "GeneratedKey",
    "Identity",
    "InvalidJwkSet",
    "IssuedKeys",
    "JwkSet",
    "KeyAdded",
    "KeyNotice",
    "KeyRejected",
    "KeyRing",
    "KeySetFailed",
    "KeySetRefreshed",
    "KeySetStale",
    "KeySkipped",
    "KeySource",
    "KeyWithdrawn",
    "Mode",
    "Notify",
    "OnChange",
    "Refusal",
    "RemoteKeys",
    "SkippedKey",
    "TokenVerifier",
    "UserIdPolicy",
    "VerificationKey",
    "WatchedKeys",
    "date_of",
    "explain",
    "fetch_key_set_once",
    "generate_key",
    "issued_keys",
    "load_keys",
    "load_private_key",
    "mint_token",
    "parse_jwk_set",
    "printable",
    "tell_changes",
    "verifier_from",
    "wire_message",
]
