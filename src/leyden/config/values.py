"""How texts of the environment are read: words, numbers, sizes.

Owns the spelling rules every variable shares. A blank text counts as unset before it gets here. Raises
`Unusable`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from .problems import Unusable

_TRUE: Final = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE: Final = frozenset({"false", "f", "no", "n", "off", "0"})
_DIGITS: Final = re.compile(r"[0-9]{1,15}\Z")
_SIZE: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)([kmgKMG]?)\Z")
# The older service's suffixes: small letters count in thousands, capital ones in 1024s.
_UNITS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}


def boolean(text: str) -> bool:
    """The usual words for yes and no, in any case."""
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise Unusable("is neither yes nor no", "set it to true or false")


def integer(text: str, least: int, most: int) -> int:
    """A whole number in decimal digits, `least` … `most`."""
    stripped = text.strip()
    if not _DIGITS.match(stripped) or not least <= int(stripped) <= most:
        raise Unusable(f"is not a whole number from {least} to {most}", f"set it to a number from {least} to {most}")
    return int(stripped)


def choice(text: str, choices: Sequence[str]) -> str:
    """Exactly one of `choices`; no trimming, no change of case."""
    if text not in choices:
        listed = ", ".join(choices)
        raise Unusable("has an invalid value" if text else "is set to an empty value", f"use one of: {listed}")
    return text


def size(text: str) -> int:
    """A positive number of bytes, with a fraction and a suffix k m g (decimal) or K M G (binary) if
    wanted."""
    match = _SIZE.match(text.strip())
    total = int(Decimal(match.group(1)) * _UNITS[match.group(2)]) if match else 0
    if total <= 0:
        raise Unusable("is not a size", "use a positive number of bytes, or one with a suffix, like 512M or 2G")
    return total
