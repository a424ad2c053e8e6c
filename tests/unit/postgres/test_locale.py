"""What the columns of ``pg_database`` say of a database's texts."""

from __future__ import annotations

import pytest

from leyden.postgres.locale import locale_of


@pytest.mark.parametrize(
    ("provider", "collate", "ctype", "of_provider", "by_bytes", "usual"),
    [
        ("c", "C", "C", None, True, True),
        ("c", "POSIX", "POSIX", None, True, True),
        ("c", "C.UTF-8", "C.UTF-8", None, True, True),
        ("c", "C.utf8", "C.utf8", None, True, True),
        ("b", "C", "C", "C.UTF-8", True, True),
        ("b", "en_US.UTF-8", "en_US.UTF-8", "C", True, True),
        ("b", "C", "C", "PG_UNICODE_FAST", False, True),
        ("c", "en_US.UTF-8", "en_US.UTF-8", None, False, True),
        ("c", "C", "tr_TR.UTF-8", None, True, False),
        ("c", "az_AZ", "az_AZ", None, False, False),
        ("i", "C", "C", "und", False, True),
        ("i", "C", "C", "lt", False, False),
        ("i", "C", "C", "tr-TR", False, False),
        ("i", "C", "C", "en-US-u-va-posix", False, True),
    ],
)
def test_the_order_and_the_letters_of_a_database(
    provider: str, collate: str, ctype: str, of_provider: str | None, *, by_bytes: bool, usual: bool
) -> None:
    locale = locale_of(provider, collate, ctype, of_provider)
    assert (locale.order_is_bytes, locale.letters_are_usual) == (by_bytes, usual)
