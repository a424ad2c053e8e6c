"""How the service's own database sessions are set up.

Owns the settings that fix the text form of values, so that a value reads the same whether it came from a
query, from the replication stream or from a trigger. Must not know what the sessions are used for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

#: Settings of every session that reads or writes user data. The generated triggers set the same ones.
SESSION_SETTINGS: Mapping[str, str] = {
    "bytea_output": "hex",
    "DateStyle": "ISO, DMY",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "IntervalStyle": "postgres",
}


def session_conninfo(dsn: str) -> str:
    """``dsn`` with :data:`SESSION_SETTINGS` added to its ``options`` (ours come last, so they win).

    For pools and replication connections; raises :class:`psycopg.ProgrammingError` when ``dsn`` is malformed.
    """
    ours = " ".join(f"-c {name}={_escape(value)}" for name, value in SESSION_SETTINGS.items())
    given = conninfo_to_dict(dsn).get("options")
    return make_conninfo(dsn, options=f"{given} {ours}" if given else ours)


async def connect(dsn: str, **kwargs: Any) -> psycopg.AsyncConnection[Any]:
    """Open a session with :data:`SESSION_SETTINGS`; ``kwargs`` are those of
    ``psycopg.AsyncConnection.connect``.
    """
    return await psycopg.AsyncConnection.connect(session_conninfo(dsn), **kwargs)


def _escape(value: str) -> str:
    """A value as libpq's ``options`` takes it: backslash before spaces and backslashes."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
