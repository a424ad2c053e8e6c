"""What the database's default collation makes of texts."""

from __future__ import annotations

from typing import Any

import psycopg

from leyden.model import Locale

#: Languages whose letters i or I have other partners than in Unicode's own tables.
_UNUSUAL_LETTERS = ("tr", "az", "lt")

#: Orders by code point, whoever provides them.
_BYTE_ORDERS = frozenset({"c", "posix", "c.utf8", "ucs_basic", "pg_c_utf8"})


async def read_locale(conn: psycopg.AsyncConnection[Any]) -> Locale:
    """Raises :class:`psycopg.Error`."""
    # as jsonb, because the provider's own locale has another column's name in each major version
    cursor = await conn.execute(
        "SELECT d.j ->> 'datlocprovider', d.j ->> 'datcollate', d.j ->> 'datctype',"
        " coalesce(d.j ->> 'datlocale', d.j ->> 'daticulocale')"
        " FROM (SELECT to_jsonb(pg_database) AS j FROM pg_catalog.pg_database WHERE datname = current_database()) AS d"
    )
    row = await cursor.fetchone()
    if row is None:
        raise psycopg.OperationalError("the database is not in its own catalog")
    return locale_of(*row)


def locale_of(provider: str, collate: str, ctype: str, of_provider: str | None) -> Locale:
    """From the columns of ``pg_database``; ``provider`` is ``c`` (libc), ``i`` (ICU) or ``b`` (built in)."""
    order, letters = (collate, ctype) if provider == "c" or of_provider is None else (of_provider, of_provider)
    language = letters.lower().replace("_", "-").partition("-")[0].partition(".")[0]
    return Locale(
        order_is_bytes=provider != "i" and order.lower().replace("utf-8", "utf8") in _BYTE_ORDERS,
        letters_are_usual=language not in _UNUSUAL_LETTERS,
    )
