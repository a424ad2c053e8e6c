"""The variables that say which keys tokens may be signed with: AUTH_JWT_ALG, AUTH_JWT_KEY*, AUTH_JWT_JWKS_*,
AUTH_JWT_OIDC_ISSUER.

Owns that there is exactly one source of keys, and what each source needs. The rules on keys are `leyden.auth`'s;
here each refusal gets its variable's name and a remedy.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from leyden.auth import (
    ALGORITHMS,
    DEFAULT_MAX_STALE,
    Algorithm,
    Family,
    InvalidJwkSet,
    KeyRejected,
    KeyRing,
    RemoteKeys,
    VerificationKey,
    load_keys,
    parse_jwk_set,
    printable,
)

from .values import boolean, integer
from .variables import Variables

KEY_VARIABLES: Final = frozenset(
    {
        "AUTH_JWT_ALG",
        "AUTH_JWT_KEY",
        "AUTH_JWT_KEY_FILE",
        "AUTH_JWT_KEY_IS_BASE64_ENCODED",
        "AUTH_JWT_KEY_PREVIOUS",
        "AUTH_JWT_KEY_PREVIOUS_FILE",
        "AUTH_JWT_JWKS_FILE",
        "AUTH_JWT_JWKS_URL",
        "AUTH_JWT_OIDC_ISSUER",
        "AUTH_JWT_JWKS_ALLOW_HTTP",
        "AUTH_JWT_JWKS_ALLOW_PRIVATE",
        "AUTH_JWT_JWKS_CA_FILE",
        "AUTH_JWT_JWKS_MAX_STALE",
    }
)
_BY_HAND: Final = (
    "AUTH_JWT_KEY",
    "AUTH_JWT_KEY_FILE",
    "AUTH_JWT_KEY_PREVIOUS",
    "AUTH_JWT_KEY_PREVIOUS_FILE",
    "AUTH_JWT_KEY_IS_BASE64_ENCODED",
)
_REMOTE: Final = ("AUTH_JWT_JWKS_URL", "AUTH_JWT_OIDC_ISSUER")
_REMOTE_OPTIONS: Final = (
    "AUTH_JWT_JWKS_ALLOW_HTTP",
    "AUTH_JWT_JWKS_ALLOW_PRIVATE",
    "AUTH_JWT_JWKS_CA_FILE",
    "AUTH_JWT_JWKS_MAX_STALE",
)
_REMOTE_ALGORITHMS: Final = ("ES256", "RS256", "EdDSA")
_LONGEST_STALE: Final = 30 * 86_400
_MAX_URL_CHARACTERS: Final = 2_048
_NEW_KEY: Final = (
    "make a pair with `leyden keys new ES256` and use the two settings it prints"
    " (AUTH_MODE=insecure does without, for development)"
)


@dataclass(frozen=True, slots=True)
class Keys:
    """A decided source of keys: a ring, with the files it was read from, or a remote one."""

    algorithms: tuple[Algorithm, ...]
    ring: KeyRing
    remote: RemoteKeys | None = None
    files: tuple[Path, ...] = ()


def read_keys(variables: Variables) -> Keys | None:
    """The source of keys; None when there is a problem, which is then noted."""
    is_set = variables.text
    sources = [name for name in ("AUTH_JWT_JWKS_FILE", *_REMOTE) if is_set(name)]
    by_hand = [name for name in _BY_HAND if is_set(name)]
    if sources:
        for name in (*sources[1:], *by_hand):
            variables.problem(name, f"is set together with {sources[0]}", "keep exactly one source of keys")
    if not sources or sources[0] not in _REMOTE:
        for name in _REMOTE_OPTIONS:
            if is_set(name):
                variables.problem(name, "has no effect without a remote key set", "unset it")
    if sources and sources[0] in _REMOTE:
        return _remote(variables, sources[0])
    if sources:
        return _jwks_file(variables)
    return _by_hand(variables)


# ---- one key and its predecessor ------------------------------------------------------------------------------------


def _by_hand(variables: Variables) -> Keys | None:
    algorithm = _algorithm(variables)
    is_base64 = variables.read("AUTH_JWT_KEY_IS_BASE64_ENCODED", boolean, False)
    current = _key_text(variables, "AUTH_JWT_KEY")
    previous = _key_text(variables, "AUTH_JWT_KEY_PREVIOUS")
    if current is None and not variables.faulty("AUTH_JWT_KEY"):
        variables.problem("AUTH_JWT_KEY", "is not set", _NEW_KEY)
    if algorithm is None:
        return None
    loaded: list[VerificationKey] = []
    for given in (current, previous):
        if given is None:
            continue
        name, text = given
        try:
            loaded += load_keys(text, algorithm, is_base64=is_base64)
        except KeyRejected as reason:
            whose = "names a file whose key " if name.endswith("_FILE") else ""
            variables.problem(name, whose + reason.message, reason.remedy)
    files = tuple(
        Path(variables.text(given[0]) or "") for given in (current, previous) if given and given[0].endswith("_FILE")
    )
    return Keys((algorithm,), KeyRing(loaded), files=files) if loaded else None


def _algorithm(variables: Variables) -> Algorithm | None:
    name = variables.text("AUTH_JWT_ALG")
    known = ", ".join(ALGORITHMS)
    if name is None:
        variables.problem("AUTH_JWT_ALG", "is not set", f"set it to one of: {known}")
        return None
    if name not in ALGORITHMS:
        message = "lists several algorithms" if "," in name else "has an invalid value"
        variables.problem("AUTH_JWT_ALG", message, f"use exactly one of: {known}")
        return None
    return ALGORITHMS[name]


def _key_text(variables: Variables, name: str) -> tuple[str, str] | None:
    """(variable, text) of a key given directly or in a file; None when neither is set or usable."""
    file_name = f"{name}_FILE"
    text = variables.text(name)
    if text is not None and variables.text(file_name) is not None:
        variables.problem(file_name, f"is set together with {name}", f"keep one of {name} and {file_name}")
        return None
    if text is not None:
        return name, text
    content = variables.file(file_name)
    if content is None:
        return None
    # As the shell's $(cat file) does: editors and echo end a file with a newline nobody means to be a secret.
    return file_name, content.decode("utf-8", "surrogateescape").rstrip("\r\n")


# ---- key sets -------------------------------------------------------------------------------------------------------


def _algorithms(variables: Variables, default: tuple[str, ...] | None) -> tuple[Algorithm, ...]:
    """The comma list of algorithms for a key set, which never holds a shared secret (RFC 8725 §3.1)."""
    text = variables.text("AUTH_JWT_ALG")
    possible = [name for name, algorithm in ALGORITHMS.items() if algorithm.family is not Family.HMAC]
    if text is None and default is not None:
        return tuple(ALGORITHMS[name] for name in default)
    if text is None:
        remedy = f"list what the issuer signs with, from: {', '.join(possible)}"
        variables.problem("AUTH_JWT_ALG", "is not set", remedy)
        return ()
    names = text.split(",")
    if any(name not in ALGORITHMS for name in names) or len(set(names)) != len(names):
        remedy = f"list some of these, with commas and nothing else between: {', '.join(possible)}"
        variables.problem("AUTH_JWT_ALG", "has an invalid value", remedy)
        return ()
    if any(ALGORITHMS[name].family is Family.HMAC for name in names):
        variables.problem(
            "AUTH_JWT_ALG",
            "lists an algorithm with a shared secret beside a set of public keys",
            f"list only: {', '.join(possible)}",
        )
        return ()
    return tuple(ALGORITHMS[name] for name in names)


def _jwks_file(variables: Variables) -> Keys | None:
    algorithms = _algorithms(variables, None)
    content = variables.file("AUTH_JWT_JWKS_FILE")
    if content is None or not algorithms:
        return None
    name, whose = "AUTH_JWT_JWKS_FILE", "names a file whose"
    try:
        parsed = parse_jwk_set(content, algorithms)
    except InvalidJwkSet as reason:
        variables.problem(name, f"{whose} key set {reason}", 'give a JWK Set: {"keys": […]} (RFC 7517)')
        return None
    for skipped in parsed.skipped:
        if skipped.leaked:
            variables.problem(
                name,
                f"{whose} key {printable(skipped.kid or '')} {skipped.reason}",
                "publish public keys only, and replace this one: it has been handed around",
            )
    if not parsed.keys:
        why = "; ".join(f"{printable(key.kid or '')} {key.reason}" for key in parsed.skipped[:5])
        message = f"{whose} key set has no usable key" + (f": {why}" if why else "")
        variables.problem(name, message, "give a set with a key for one of the algorithms of AUTH_JWT_ALG")
        return None
    return Keys(
        algorithms, KeyRing(parsed.keys, kids_select=True), files=(Path(variables.text("AUTH_JWT_JWKS_FILE") or ""),)
    )


def _remote(variables: Variables, name: str) -> Keys | None:
    algorithms = _algorithms(variables, _REMOTE_ALGORITHMS)
    allow_http = variables.read("AUTH_JWT_JWKS_ALLOW_HTTP", boolean, False)
    allow_private = variables.read("AUTH_JWT_JWKS_ALLOW_PRIVATE", boolean, False)
    ca_file = variables.text("AUTH_JWT_JWKS_CA_FILE")
    if ca_file is not None:
        variables.file("AUTH_JWT_JWKS_CA_FILE")
    stale = partial(integer, least=60, most=_LONGEST_STALE)
    max_stale = variables.read("AUTH_JWT_JWKS_MAX_STALE", stale, DEFAULT_MAX_STALE)
    url = variables.text(name) or ""
    if (problem := _url_problem(url, allow_http=allow_http)) is not None:
        variables.problem(name, *problem)
        return None
    if not algorithms:
        return None
    remote = RemoteKeys(
        jwks_url=url if name == "AUTH_JWT_JWKS_URL" else None,
        issuer=url if name == "AUTH_JWT_OIDC_ISSUER" else None,
        allow_http=allow_http,
        allow_private=allow_private,
        ca_file=Path(ca_file) if ca_file is not None else None,
        max_stale=max_stale,
    )
    return Keys(algorithms, KeyRing(), remote)


def _url_problem(url: str, *, allow_http: bool) -> tuple[str, str] | None:
    """(message, remedy) for a URL that keys may not be fetched from. Never quotes it: it may hold a password."""
    shape = "use https://HOST/PATH"
    parts: SplitResult | None
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts = host = None
    if parts is None or not host or not url.isascii() or not url.isprintable() or len(url) > _MAX_URL_CHARACTERS:
        return "is not a usable URL", shape
    if "@" in parts.netloc or "#" in url or " " in url:
        return "has a user name, a fragment or a blank in its URL", shape
    if parts.scheme == "https" or (parts.scheme == "http" and allow_http and _is_loopback(host)):
        return None
    if parts.scheme == "http":
        return (
            "is not an HTTPS URL, so that anybody on the way could put in keys of his own",
            f"{shape}; AUTH_JWT_JWKS_ALLOW_HTTP=yes allows http to this machine itself",
        )
    return "is not an HTTPS URL", shape


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
