"""JSON with everything a text can have and a parsed value cannot: members twice, odd numbers, odd spellings.

An object is a `Members` list of pairs; `Raw` is written as it stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from .material import NOW
from .octets import bulk


@dataclass(frozen=True, slots=True)
class Raw:
    """Text in place of a value, well formed or not."""

    text: str


class Members(list[tuple[str, Any]]):
    """An object; names may be there more than once."""


def model(value: Any) -> Any:
    """A parsed value with its objects as `Members`; those already there stay."""
    if isinstance(value, Members):
        return value
    if isinstance(value, Mapping):
        return Members((name, model(member)) for name, member in value.items())
    if isinstance(value, list):
        return [model(member) for member in value]
    return value


def write(value: Any, rng: Random) -> str:
    """One of the spellings of `value`."""
    plain = rng.random() < 0.5
    return "".join(_pieces(value, rng, plain))


def _pieces(value: Any, rng: Random, plain: bool) -> Iterator[str]:
    blank = "" if plain or rng.random() < 0.8 else rng.choice([" ", "\n", "\t", "\r\n  "])
    match value:
        case Raw():
            yield value.text
        case Members():
            yield "{" + blank
            for place, (name, member) in enumerate(value):
                yield ("," if place else "") + _string(name, rng, plain) + blank + ":" + blank
                yield from _pieces(member, rng, plain)
            yield blank + "}"
        case list():
            yield "[" + blank
            for place, member in enumerate(value):
                yield "," + blank if place else ""
                yield from _pieces(member, rng, plain)
            yield blank + "]"
        case str():
            yield _string(value, rng, plain)
        case bool() | None:
            yield {True: "true", False: "false", None: "null"}[value]
        case _:
            yield repr(value)


def _string(text: str, rng: Random, plain: bool) -> str:
    written = []
    for character in text:
        code = ord(character)
        if character in '"\\' or code < 0x20:
            written.append(f"\\u{code:04x}")
        elif (0xD800 <= code < 0xE000) or (not plain and rng.random() < 0.1 and code < 0x10000):
            written.append(f"\\u{code:04X}")
        else:
            written.append(character)
    return '"' + "".join(written) + '"'


NAMES = (
    *("sub", "user_id", "exp", "iat", "nbf", "iss", "aud", "jti", "ns", "SUB", "Exp", "exp ", "__proto__", ""),
    *("alg", "typ", "kid", "crit", "b64", "enc", "zip", "jwk", "jku", "x5u", "x5c", "x5t", "cty", "nonce"),
    *("kty", "crv", "x", "y", "n", "e", "d", "p", "q", "dp", "dq", "qi", "oth", "k", "use", "key_ops", "priv", "keys"),
)
TEXTS = (
    *("", " ", "user-1", "issuer", "audience", "none", "HS256", "ES256", "RS256", "PS256", "EdDSA", "Ed25519"),
    *("ES256K", "JOSE", "J\u017fWT", "first", "second", "verify", "sign", "AQAB", "Aw", "AA", "AQ", "0"),
    *("JWT", "jwt", "at+jwt", "application/at+jwt", "application/jwt", "dpop+jwt", "logout+jwt"),
    *("EC", "RSA", "OKP", "oct", "AKP", "P-256", "P-384", "P-521", "secp256k1", "X25519", "Ed448", "sig", "enc"),
    *("1760000600", "true", "null", "\0", "a\0b", "__proto__"),
    *("\u200b", "\ufeff", "\u00a0", "u\u0301", "\u202eu", "\ud800", "\udfff", "\U0001f600", "\x7f", "\x85", "é" * 600),
)
NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, NOW, NOW - 2, NOW - 3, NOW + 2, NOW + 3, NOW * 1000, 253402300799, 253402300800, 2**31, 2**53, 2**63),
    *(2**64 + NOW, 10**63, 10**64, -(10**30), 0.5, NOW + 2.5, NOW - 2.5, 1e300, -0.0, 1.5, NOW + 1e-7),
    *map(Raw, ("1e400", "-1e400", "NaN", "Infinity", "-Infinity", "01", "+1", "1.", ".5", "0x10", "1e5", "1E+2", "-")),
    *map(Raw, ("1_000", "1" * 64, "1" * 65, "1" * 5000, "0." + "3" * 62, "0." + "3" * 5000, "-0", "1e-400", "１")),
)


FRAGMENTS = [
    '\\"',
    "[",
    "{",
    "[]",
    "{}",
    "\\u0041",
    '"',
    ",",
    "]",
    '{"a":',
    "[[],",
    "\\",
    "é",
    " ",
    "1",
    '"a",',
    '{"a":[',
]


def odd_value(rng: Random) -> Any:
    """A value that somebody may not have thought of."""
    kind = rng.randrange(8)
    if kind < 3:
        return rng.choice(TEXTS)
    if kind < 5:
        return rng.choice(NUMBERS)
    if kind == 5:
        return rng.choice([None, True, False, [], Members(), [None], ["user-1"], Members([("sub", "user-1")])])
    if kind == 6:
        return nested(rng.choice(TEXTS), rng.choice([1, 2, 29, 30, 31, 32, 33, 64, 2000]), rng)
    if rng.random() < 0.5:
        return ["audience"] * rng.choice([1, 2, 63, 64, 65, 200])
    return Raw(bulk(FRAGMENTS, rng, rng.choice([10, 100, 9000])))


def nested(value: Any, depth: int, rng: Random) -> Any:
    if depth > 100:
        opening, closing = rng.choice([("[", "]"), ('{"a":', "}")])
        return Raw(opening * depth + "1" + closing * rng.choice([depth, 0]))
    for _ in range(depth):
        value = [value] if rng.random() < 0.5 else Members([("a", value)])
    return value


def changed(root: Members, rng: Random) -> Members:
    """A copy of `root` with one thing changed, somewhere."""
    copy: Members = _copy(root)
    place = rng.choice(list(_containers(copy)))
    if isinstance(place, list) and not isinstance(place, Members):
        _change_list(place, rng)
    else:
        _change_members(place, rng)
    return copy


def _copy(value: Any) -> Any:
    if isinstance(value, Members):
        return Members((name, _copy(member)) for name, member in value)
    return [_copy(member) for member in value] if isinstance(value, list) else value


def _containers(value: Any) -> Iterator[Any]:
    if isinstance(value, Members):
        yield value
        for _, member in value:
            yield from _containers(member)
    elif isinstance(value, list):
        yield value
        for member in value:
            yield from _containers(member)


def _change_list(items: list[Any], rng: Random) -> None:
    place = rng.randrange(len(items) + 1)
    if place == len(items) or rng.random() < 0.3:
        items.insert(place, odd_value(rng))
    elif rng.random() < 0.5:
        items[place] = odd_value(rng)
    else:
        items.insert(rng.randrange(len(items)), _copy(items[place]))


def _change_members(members: Members, rng: Random) -> None:
    if not members or rng.random() < 0.2:
        members.insert(rng.randrange(len(members) + 1), (rng.choice(NAMES), odd_value(rng)))
        return
    place = rng.randrange(len(members))
    name, value = members[place]
    match rng.randrange(8):
        case 0:
            del members[place]
        case 1:
            members.insert(rng.randrange(len(members) + 1), (name, rng.choice([_copy(value), odd_value(rng)])))
        case 2:
            members[place] = (rng.choice([name.upper(), name + " ", "\u200b" + name, name[:-1]]), value)
        case 3:
            other = rng.randrange(len(members))
            members[place], members[other] = (name, members[other][1]), (members[other][0], value)
        case 4:
            members[place] = (name, nested(value, rng.choice([1, 1, 2, 31]), rng))
        case 5 if isinstance(value, str):
            members[place] = (name, changed_text(value, rng))
        case 5 if isinstance(value, int | float) and not isinstance(value, bool):
            members[place] = (name, value + rng.choice([-1, 1, -600, 600, 0.5, -0.5, 10**9]))
        case _:
            members[place] = (name, odd_value(rng))


def changed_text(text: str, rng: Random) -> str:
    """`text` with something put in, taken out or repeated."""
    place = rng.randrange(len(text) + 1)
    match rng.randrange(5):
        case 0:
            return text[:place] + rng.choice(TEXTS) + text[place:]
        case 1:
            return text[:place] + text[place + rng.randint(1, 4) :]
        case 2:
            return text.swapcase()
        case 3:
            return text * rng.choice([2, 3, 50])
        case _:
            return (
                text[:place] + chr(rng.choice([0, 9, 10, 32, 0x7F, 0x85, 0xA0, 0x200B, 0xD800, 0x1F600])) + text[place:]
            )
