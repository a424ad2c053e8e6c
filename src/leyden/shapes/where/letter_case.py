"""lower(), upper() and ILIKE, as far as all locales agree.

Which letters outside ASCII have another case depends on the database's locale. Compared with constants in ASCII it
does not matter, because such a letter stays outside ASCII, but for a handful of letters that some locales turn into
ASCII. A text is therefore mapped in the three ways there are: ASCII alone (the locale C), letter by letter (libc),
and as Unicode's SpecialCasing has it (ICU); where the three outcomes differ, evaluation fails. Turkish, Azerbaijani
and Lithuanian locales, which disagree about I and i themselves, are not followed.

The operations of this module take a text and a constant in ASCII. Their SQL is bound to the collation C.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import LiteralString

from leyden.shapes.where.like import matcher
from leyden.shapes.where.sqltypes import BOOL, TEXT
from leyden.shapes.where.templates import template
from leyden.shapes.where.tree import Operation
from leyden.shapes.where.values import Unevaluable

#: What some locales make of letters outside ASCII: dotted capital I, Kelvin sign, dotless i, long s, sharp s and the
#: Latin ligatures. The first table of each pair is libc's, the second SpecialCasing's. A test derives them.
LOWER_SIMPLE = {"\u0130": "i", "\u212a": "k"}
LOWER_FULL = {"\u0130": "i\u0307", "\u212a": "k"}
UPPER_SIMPLE = {"\u0131": "I", "\u017f": "S"}
UPPER_FULL = UPPER_SIMPLE | {
    "\u00df": "SS",
    "\ufb00": "FF",
    "\ufb01": "FI",
    "\ufb02": "FL",
    "\ufb03": "FFI",
    "\ufb04": "FFL",
    "\ufb05": "ST",
    "\ufb06": "ST",
}

_ASCII_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_ASCII_UPPER = {code: code - 32 for code in range(ord("a"), ord("z") + 1)}


def _require_ascii(text: str) -> str:
    if text.isascii():
        return text
    raise Unevaluable


def ascii_lower(text: str) -> str:
    return text.translate(_ASCII_LOWER)


def _ascii_upper(text: str) -> str:
    return text.translate(_ASCII_UPPER)


def _agreed(
    ascii_case: Callable[[str], str],
    tables: Sequence[dict[str, str]],
    holds: Callable[[str, str], bool],
) -> Callable[[str, str], bool]:
    """Whether ``holds`` of a text in another case, if that is the same in all locales."""
    others = [str.maketrans(table) for table in tables]

    def evaluate(text: str, constant: str) -> bool:
        mapped = ascii_case(text)
        outcome = holds(mapped, constant)
        if not text.isascii() and any(holds(mapped.translate(table), constant) != outcome for table in others):
            raise Unevaluable
        return outcome

    return evaluate


def _mapped(text: LiteralString, table: dict[str, str]) -> LiteralString:
    """SQL that replaces the letters of ``table`` in ``text``."""
    for letter, replacement in table.items():
        text = "pg_catalog.replace(" + text + ", '" + letter + "', '" + replacement + "')"
    return text


def _operation(
    name: LiteralString,
    sign: LiteralString,
    ascii_case: Callable[[str], str],
    tables: Sequence[dict[str, str]],
    holds: Callable[[str, str], bool],
) -> Operation:
    mapped: LiteralString = "pg_catalog." + name + '({0} COLLATE pg_catalog."C")'
    plain: LiteralString = "(" + mapped + " [" + sign + "] {1})"
    differing = ["(" + plain + " [<>] (" + _mapped(mapped, table) + " [" + sign + "] {1}))" for table in tables]
    return Operation(
        f"{name} {sign}",
        BOOL,
        _agreed(ascii_case, tables, holds),
        template(plain),
        template("(" + " OR ".join(differing) + ")"),
    )


_matcher = lru_cache(maxsize=256)(matcher)

LOWER_EQUALS = _operation("lower", "=", ascii_lower, (LOWER_SIMPLE, LOWER_FULL), str.__eq__)
LOWER_LIKE = _operation(
    "lower", "~~", ascii_lower, (LOWER_SIMPLE, LOWER_FULL), lambda text, pattern: _matcher(pattern)(text)
)
UPPER_EQUALS = _operation("upper", "=", _ascii_upper, (UPPER_SIMPLE, UPPER_FULL), str.__eq__)

#: The functions by themselves, which are only looked at for NULL or, of constants, as a whole.
LOWER = Operation("lower", TEXT, ascii_lower, template('pg_catalog.lower({0} COLLATE pg_catalog."C")'))
UPPER = Operation("upper", TEXT, _ascii_upper, template('pg_catalog.upper({0} COLLATE pg_catalog."C")'))

#: What is compared with them.
REQUIRE_ASCII = Operation("ASCII", TEXT, _require_ascii)
