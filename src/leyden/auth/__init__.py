"""Who may connect, as whom, until when: JSON Web Tokens under rules of our own.

Stands alone: imports nothing of the rest of the service. Judging a token reads no environment, file, network or
clock; what keeps published keys fresh is told where to look. Keys and signatures are joserfc's; the parser in front of
them and the claim rules behind them are here.

    es256 = ALGORITHMS["ES256"]
    verifier = verifier_from(AuthSettings("secure", (es256,), KeyRing(load_keys(pem, es256))))
    identity = verifier.verify(token, time.time())      # or raises Refusal
"""

from .algorithms import ALGORITHMS, Algorithm, Family
from .explanation import Check, Explanation, explain
from .findings import date_of, dated_claims
from .header import DEFAULT_TYPES, printable
from .issuer import FetchFailed, IssuedKeys, fetch_key_set_once, issued_keys
from .jwk_export import public_jwk
from .jwk_set import InvalidJwkSet, JwkSet, SkippedKey, parse_jwk_set
from .key_files import MAX_FILE_BYTES, report_on_file
from .key_generation import GeneratedKey, generate_key
from .key_report import KeyReport, report_on_ring
from .key_ring import KeyRing
from .key_source import FixedKeys, KeySource, OnChange, tell_changes
from .keys import KeyRejected, VerificationKey, load_keys
from .minting import RESERVED_CLAIMS, Signer, claims_for, load_private_key, mint_token, signer_for
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
from .refusal import BEFORE_SIGNATURE, Code, ErrorDetail, Refusal, UnknownKey, wire_message
from .revocation import (
    DEFAULT_REVOCATION_LIFETIME,
    InvalidRevocation,
    Revocation,
    RevocationKind,
    RevocationList,
    check_revocation,
    revocation_lifetime,
)
from .settings import (
    DEFAULT_LEEWAY,
    DEFAULT_MAX_CHARACTERS,
    DEFAULT_MAX_STALE,
    AuthSettings,
    Mode,
    RemoteKeys,
)
from .strict_json import NotStrictJson, parse_object
from .user_id import UserIdPolicy
from .verdict_cache import VerdictCache
from .verifier import Authentic, Examination, Identity, TokenVerifier, verifier_from
from .watched_keys import WatchedKeys

__all__ = [
    "ALGORITHMS",
    "BEFORE_SIGNATURE",
    "DEFAULT_LEEWAY",
    "DEFAULT_MAX_CHARACTERS",
    "DEFAULT_MAX_STALE",
    "DEFAULT_REVOCATION_LIFETIME",
    "DEFAULT_TYPES",
    "MAX_FILE_BYTES",
    "RESERVED_CLAIMS",
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
    "InvalidRevocation",
    "IssuedKeys",
    "JwkSet",
    "KeyAdded",
    "KeyNotice",
    "KeyRejected",
    "KeyReport",
    "KeyRing",
    "KeySetFailed",
    "KeySetRefreshed",
    "KeySetStale",
    "KeySkipped",
    "KeySource",
    "KeyWithdrawn",
    "Mode",
    "NotStrictJson",
    "Notify",
    "OnChange",
    "Refusal",
    "RemoteKeys",
    "Revocation",
    "RevocationKind",
    "RevocationList",
    "Signer",
    "SkippedKey",
    "TokenVerifier",
    "UnknownKey",
    "UserIdPolicy",
    "VerdictCache",
    "VerificationKey",
    "WatchedKeys",
    "check_revocation",
    "claims_for",
    "date_of",
    "dated_claims",
    "explain",
    "fetch_key_set_once",
    "generate_key",
    "issued_keys",
    "load_keys",
    "load_private_key",
    "mint_token",
    "parse_jwk_set",
    "parse_object",
    "printable",
    "public_jwk",
    "report_on_file",
    "report_on_ring",
    "revocation_lifetime",
    "signer_for",
    "tell_changes",
    "verifier_from",
    "wire_message",
]
