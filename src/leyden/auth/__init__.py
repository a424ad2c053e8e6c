"""Who may connect, as whom, until when: JSON Web Tokens under rules of our own.

Stands alone: imports nothing of the rest of the service and reads no environment, file or clock. Keys and
signatures are joserfc's; the parser in front of them and the claim rules behind them are here.

    verifier = verifier_from(AuthSettings("secure", ALGORITHMS["ES256"], load_keys(pem, ALGORITHMS["ES256"])))
    identity = verifier.verify(token, time.time())      # or raises Refusal
"""

from .algorithms import ALGORITHMS, Algorithm, Family
from .explanation import Check, Explanation, date_of, explain
from .header import DEFAULT_TYPES, printable
from .key_generation import GeneratedKey, generate_key
from .keys import KeyRejected, VerificationKey, load_keys
from .minting import load_private_key, mint_token
from .refusal import BEFORE_SIGNATURE, Code, ErrorDetail, Refusal, wire_message
from .settings import DEFAULT_LEEWAY, DEFAULT_MAX_CHARACTERS, AuthSettings, Mode
from .user_id import UserIdPolicy
from .verifier import Identity, TokenVerifier, verifier_from

__all__ = [
    "ALGORITHMS",
    "BEFORE_SIGNATURE",
    "DEFAULT_LEEWAY",
    "DEFAULT_MAX_CHARACTERS",
    "DEFAULT_TYPES",
    "Algorithm",
    "AuthSettings",
    "Check",
    "Code",
    "ErrorDetail",
    "Explanation",
    "Family",
    "GeneratedKey",
    "Identity",
    "KeyRejected",
    "Mode",
    "Refusal",
    "TokenVerifier",
    "UserIdPolicy",
    "VerificationKey",
    "date_of",
    "explain",
    "generate_key",
    "load_keys",
    "load_private_key",
    "mint_token",
    "printable",
    "verifier_from",
    "wire_message",
]
