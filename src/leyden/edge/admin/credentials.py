"""Credentials of administrators: a name, what it may do, and the hash of a secret.

Owns the lines of the tokens file and the comparison with what a caller presents. The file can be read without harm:
a secret holds 32 random bytes, so its hash tells nothing of it. No text of the file gets into an error, because
somebody may have put the secret itself there.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeGuard, get_args

Scope = Literal["status", "metrics", "revoke", "sessions"]

SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)

#: Lines that count in one file.
MAX_CREDENTIALS: Final = 100

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DIGEST: Final = re.compile(r"[0-9A-Fa-f]{64}")

#: Random bytes in a secret.
_SECRET_BYTES: Final = 32

#: 32 bytes are no shorter than this in base64; and a token of a user has dots, which no secret has.
_SECRET: Final = re.compile(r"[A-Za-z0-9_+/=-]{43,512}")

#: Tells what leaked, to whoever finds it.
_PREFIX: Final = "leyden_admin_"


@dataclass(frozen=True, slots=True)
class Credential:
    """``digest`` is the SHA-256 of the secret's text."""

    name: str
    scopes: frozenset[Scope]
    digest: bytes = field(repr=False)

    @property
    def line(self) -> str:
        """The line of the tokens file."""
        return f"{self.name} {','.join(scope for scope in SCOPES if scope in self.scopes)} {self.digest.hex()}"


class InvalidCredentials(ValueError):
    """A tokens file is not to be used. The text completes "the file …" and quotes nothing of it."""


def new_credential(name: str, scopes: Collection[Scope]) -> tuple[Credential, str]:
    """A credential with a fresh secret, which is kept nowhere.

    Raises:
        ValueError: the name is not usable, or no scope was given.
    """
    if not _NAME.fullmatch(name) or not scopes:
        raise ValueError("a credential needs a name of letters, digits and . _ - (at most 64), and a scope")
    secret = _PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    return Credential(name, frozenset(scopes), _digest(secret)), secret


def parse_credentials(text: str) -> tuple[Credential, ...]:
    """The credentials of a tokens file: lines ``NAME SCOPE[,SCOPE…] SHA256``, blank ones, and comments with ``#``.

    Raises:
        InvalidCredentials: the first line that is none of these, a name or a hash that comes twice, or no line at all.
    """
    found: list[Credential] = []
    for number, line in enumerate(text.split("\n"), 1):  # not at separators that an editor shows within a line
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        credential = _parse_line(line, number)
        if any(credential.name == other.name for other in found):
            raise InvalidCredentials(f"gives the name of line {number} a second time")
        if any(hmac.compare_digest(credential.digest, other.digest) for other in found):
            raise InvalidCredentials(f"gives the hash of line {number} a second time")
        found.append(credential)
    if not found:
        raise InvalidCredentials("names nobody")
    if len(found) > MAX_CREDENTIALS:
        raise InvalidCredentials(f"holds more than {MAX_CREDENTIALS} credentials")
    return tuple(found)


def _parse_line(line: str, number: int) -> Credential:
    words = line.split()
    if len(words) != 3:
        raise InvalidCredentials(f"has {len(words)} words instead of three in line {number}")
    name, scopes, digest = words[0], words[1].split(","), words[2]
    if not _NAME.fullmatch(name):
        raise InvalidCredentials(f"has a name in line {number} that is not of letters, digits and . _ - (at most 64)")
    if not _are_scopes(scopes) or len(set(scopes)) != len(scopes):
        raise InvalidCredentials(f"has scopes in line {number} that are not among {', '.join(SCOPES)}, each once")
    if not _DIGEST.fullmatch(digest):
        raise InvalidCredentials(f"has no SHA-256 of 64 hex digits at the end of line {number}")
    return Credential(name, frozenset(scopes), bytes.fromhex(digest))


def _are_scopes(words: list[str]) -> TypeGuard[list[Scope]]:
    return all(word in SCOPES for word in words)


def identify(credentials: Sequence[Credential], secret: str) -> Credential | None:
    """Whose ``secret`` it is. Takes as long for the first as for the last, and for nobody's."""
    if not _SECRET.fullmatch(secret):
        return None
    digest = _digest(secret)
    found = None
    for credential in credentials:
        if hmac.compare_digest(credential.digest, digest):
            found = credential
    return found


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("ascii")).digest()
