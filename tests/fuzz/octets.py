"""Damage to texts and bytes, and to DER with its lengths kept right, which gets further into a parser."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

ALPHABET = 'ABgw09-_.=+/ \n\r\t\0é{}"\\%\ud800'


def damaged_text(text: str, rng: Random, others: list[str], most: int) -> str:
    """`text` with one piece changed, moved, repeated, or taken from one of `others`; at most `most` characters."""
    start, end = sorted(rng.randrange(len(text) + 1) for _ in range(2))
    if rng.random() < 0.6:
        end = min(end, start + rng.randint(0, 8))
    piece = text[start:end]
    match rng.randrange(8):
        case 0:
            piece = ""
        case 1:
            piece = "".join(rng.choice(ALPHABET) for _ in range(rng.randint(1, 4)))
        case 2:
            piece += piece
        case 3:
            piece = piece or rng.choice(ALPHABET)
            piece *= min(rng.choice([8, 200, 20_000]), most // len(piece) + 1)
        case 4:
            piece = piece.swapcase()
        case 5:
            other = rng.choice(others)
            first, last = sorted(rng.randrange(len(other) + 1) for _ in range(2))
            piece = other[first:last]
        case 6:
            return text[:start]
        case _:
            return (text[end:] + piece + text[:start])[:most]
    return (text[:start] + piece + text[end:])[:most]


def bulk(fragments: list[str], rng: Random, most: int) -> str:
    """Few fragments, each many times: what takes long when time does not grow in proportion to length."""
    runs = []
    for _ in range(rng.randint(1, 4)):
        fragment = rng.choice(fragments)
        runs.append(fragment * rng.choice([1, 33, rng.randint(1, most // len(fragment))]))
    return "".join(runs)[:most]


def damaged_bytes(raw: bytes, rng: Random) -> bytes:
    place = rng.randrange(len(raw) + 1)
    match rng.randrange(7):
        case 0 if place < len(raw):
            return raw[:place] + bytes([raw[place] ^ (1 << rng.randrange(8))]) + raw[place + 1 :]
        case 1:
            return raw[:place]
        case 2:
            return raw[:place] + rng.randbytes(rng.randint(1, 4)) + raw[place:]
        case 3:
            return b"\0" * rng.randint(1, 3) + raw
        case 4:
            return raw.lstrip(b"\0")[1:]
        case 5:
            return rng.choice([b"\0", b"\xff", b"\x01"]) * len(raw)
        case _:
            return raw[:place] + raw[place + rng.randint(1, 4) :]


# ---- DER ------------------------------------------------------------------------------------------------------------


def element(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def integer(value: int) -> bytes:
    return element(2, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def rsa_public_key(modulus: int, exponent: int) -> bytes:
    """RSAPublicKey of RFC 8017 §A.1.1, whatever the numbers are."""
    return element(0x30, integer(modulus) + integer(exponent))


def odd_modulus(bits: int, rng: Random) -> int:
    return rng.getrandbits(bits) | 1 << (bits - 1) | (rng.random() < 0.95)


def damaged_der(der: bytes, rng: Random, others: list[bytes]) -> bytes:
    """`der` with one element changed and the lengths around it made right again."""
    elements = list(_elements(der, 0, len(der)))
    if not elements:
        return damaged_bytes(der, rng)
    start, header, end = rng.choice(elements)
    tag, content = der[start], der[start + header : end]
    match rng.randrange(9):
        case 0:
            content = damaged_bytes(content, rng)
        case 1:
            tag = rng.choice([1, 2, 3, 4, 5, 6, 0x30, 0x31, 0xA0, 0xA1, 0x1F, rng.randrange(256)])
        case 2:
            content = b""
        case 3:
            content += der[start:end]
        case 4:
            other = rng.choice(others)
            first, skipped, last = rng.choice(list(_elements(other, 0, len(other))) or [(0, 0, len(other))])
            tag, content = other[first] if other else 0, other[first + skipped : last]
        case 5:
            content = rng.choice([b"\0", b"\x01", b"\xff", b"\x7f"]) * rng.choice([1, 2, 65, 257, 2049])
        case 6:
            content = b"\0" + content
        case 7:
            return _replaced(der, start, end, b"")
        case _:
            return _replaced(der, start, end, der[start:end] * 2)
    return _replaced(der, start, end, element(tag, content))


def _elements(der: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(start, bytes of tag and length, end) of every element, outer ones first; nothing where it is no DER."""
    while start + 2 <= end:
        header, length = 2, der[start + 1]
        if length > 0x80:
            header += length - 0x80
            length = int.from_bytes(der[start + 2 : start + header], "big")
        stop = start + header + length
        if stop > end or header > 6:
            return
        yield start, header, stop
        if der[start] & 0x20:
            yield from _elements(der, start + header, stop)
        elif der[start] == 3:  # a bit string often holds a key, after a count of unused bits
            yield from _elements(der, start + header + 1, stop)
        elif der[start] == 4:
            yield from _elements(der, start + header, stop)
        start = stop


def _replaced(der: bytes, start: int, end: int, new: bytes) -> bytes:
    """`der` with the bytes of one element replaced, and the lengths of all around it corrected."""
    around = [
        (first, header, last) for first, header, last in _elements(der, 0, len(der)) if first < start and end <= last
    ]
    for first, header, last in reversed(around):
        prefix = b"\0" if der[first] == 3 else b""
        inner = der[first + header + len(prefix) : start] + new + der[end:last]
        new = element(der[first], prefix + inner)
        start, end = first, last
    return der[:start] + new + der[end:]
