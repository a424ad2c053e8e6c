"""Hints at tokens that are damaged, packed in something, or of another kind.

Owns what copying, shells, headers and issuers do to the text of a token. Knows nothing of keys and claims.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final
from urllib.parse import unquote

from ..header import printable
from ..key_ring import KeyRing
from ..settings import AuthSettings
from ..verifier import Examination

_BEARER: Final = re.compile(r"\s*(?:authorization\s*:\s*)?bearer\s+", re.IGNORECASE)
_QUOTES: Final = "\"'`“”‘’"
#: Space, and what editors and chats put in that nobody sees.
_INVISIBLE: Final = re.compile("[\\s\u00ad\u200b-\u200f\u2060\ufeff]")
_STOCK_CLIENT: Final = re.compile(r"[A-Za-z0-9_-]+\Z", re.ASCII)

_KINDS: Final = {
    "dpop+jwt": "a proof of possession (DPoP); send the access token it goes with",
    "logout+jwt": "a logout token, which an issuer sends to a server",
    "secevent+jwt": "a security event, which an issuer sends to a server",
    "client-authentication+jwt": "a client's own assertion; exchange it for an access token first",
    "oauth-authz-req+jwt": "an authorization request",
    "token-introspection+jwt": "an answer to a question about a token; send the token itself",
    "kb+jwt": "a key binding of a credential",
    "dc+sd-jwt": "a verifiable credential",
    "vc+sd-jwt": "a verifiable credential",
    "rt+jwt": "a refresh token; send the access token",
}


def missing(seen: Examination, settings: AuthSettings, ring: KeyRing) -> list[str]:
    return ["there is nothing to judge; is the variable or file that should hold the token empty?"]


def malformed(seen: Examination, settings: AuthSettings, ring: KeyRing) -> list[str]:
    token = seen.token
    if token.lstrip().startswith("{"):
        return [
            "this is the JSON serialisation of JWS; a JWT is the compact one:"
            " protected, payload and signature with dots between (RFC 7519 section 1)"
        ]
    hints = []
    bare = token
    if match := _BEARER.match(token):
        bare = token[match.end() :]
        hints.append('the token begins with "Bearer "; give only what follows')
    if bare.strip()[:1] and (bare.strip()[0] in _QUOTES or bare.strip()[-1] in _QUOTES):
        hints.append("there are quotation marks around the token")
    if match := _INVISIBLE.search(bare):
        position = len(token) - len(bare) + match.start()
        what = "a line break" if match.group() in "\r\n" else f"U+{ord(match.group()):04X}"
        hints.append(f"there is white space in the token, first {what} at position {position}; a token has none")
    if re.search(r"%[0-9A-Fa-f]{2}", token):
        hints.append(f"the token is written for a URL, with % at position {token.index('%')}; decode it first")
    if "…" in token or "..." in token:
        hints.append("the token was shortened by whatever displayed it; copy all of it")
    if settings.insecure:  # there, padding and either alphabet will do
        return hints or _segments(token, settings)
    if "=" in token:
        hints.append(f'base64 padding ("=") at position {token.index("=")}; segments of a token are never padded')
    if match := re.search("[+/]", bare):
        position = len(token) - len(bare) + match.start()
        hints.append(
            f'the token uses the standard base64 alphabet ("{match.group()}" at position {position});'
            ' tokens use "-" and "_" instead of "+" and "/"'
        )
    return hints or _segments(token, settings)


def _segments(token: str, settings: AuthSettings) -> list[str]:
    """Hints at a token all of whose characters could be right."""
    match token.count("."):
        case 0 if _is_packed(token):
            return ["the whole token has been encoded in base64 once more; decode it first"]
        case 0:
            return ["this is no JWT but perhaps an opaque token or a session id; ask the issuer for a JWT"]
        case 1 if not settings.insecure:
            return ["two segments are an unsigned token; those are accepted in insecure mode only"]
        case 2:
            return ["characters are missing, added or changed; copy the token again"]
        case _:
            return ["there are parts of several tokens, or the token is broken; copy it again"]


def _is_packed(token: str) -> bool:
    try:
        inside = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (binascii.Error, ValueError):
        return False
    return inside.startswith(b"eyJ") and inside.count(b".") == 2


def repaired(token: str) -> str:
    """`token` without what copying and packing add to one. For display only: a repaired token is never let in."""
    text = unquote(token) if "%" in token else token
    text = text.strip().strip(_QUOTES)
    if match := _BEARER.match(text):
        text = text[match.end() :]
    text = _INVISIBLE.sub("", text).strip(_QUOTES)
    return text.replace("+", "-").replace("/", "_").replace("=", "")


def encrypted(seen: Examination, settings: AuthSettings, ring: KeyRing) -> list[str]:
    return [
        "an encrypted token can be read by its addressee only; ask the issuer for a signed one"
        " (many encrypt an access token that was asked for without an audience)"
    ]


def kind(seen: Examination, settings: AuthSettings, ring: KeyRing) -> list[str]:
    typ = seen.header.get("typ")
    if not isinstance(typ, str):
        return []
    name = typ.lower().removeprefix("application/")
    if name in _KINDS:
        return [f"this is {_KINDS[name]}"]
    return [f"if your issuer marks its access tokens with {printable(typ)}, list that in AUTH_JWT_TYP"]


def stock_client(seen: Examination) -> list[str]:
    """The stock client decodes the payload itself, before it sends the token, and knows only the standard base64
    alphabet."""
    segments = seen.token.split(".")
    if len(segments) < 2 or not _STOCK_CLIENT.match(segments[1]):
        return []
    foreign = re.search("[-_]", segments[1])
    if foreign is None:
        return []
    position = len(segments[0]) + 1 + foreign.start()
    return [
        f'the payload segment contains "-" or "_" (position {position}): allowed, but the stock client cannot decode'
        " such a token; escape > ? ~ and everything outside ASCII when writing the claims"
    ]
