"""The database for commands that work on it directly: one session, and what went wrong with it in words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import click
import psycopg
from psycopg import sql

from leyden.observe.fields import shown
from leyden.postgres import sessions

_CONNECT_TIMEOUT: Final = 10

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where a running service keeps its embedded Postgres, for development (default .leyden, or LEYDEN_DATA_DIR).",
)


@asynccontextmanager
async def session(dsn: str, *, statement_timeout: int) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """A session outside of transactions, with the settings that the service's own have. No statement takes longer than
    `statement_timeout` seconds. Raises `psycopg.Error`."""
    async with await sessions.connect(dsn, autocommit=True, connect_timeout=_CONNECT_TIMEOUT) as conn:
        limit = sql.Literal(f"{statement_timeout}s")
        await conn.execute(sql.SQL("SET statement_timeout = {}").format(limit))
        yield conn


def said(error: psycopg.Error) -> str:
    """What Postgres said, fit to be printed. It never holds the password."""
    return shown((str(error).strip() or type(error).__name__).splitlines()[0])


def failure(error: psycopg.Error) -> str:
    """A sentence with a remedy, if there is one, for errors that any command may meet."""
    if isinstance(error, psycopg.OperationalError):
        return f"the database cannot be used: {said(error)}; check DATABASE_URL, and that Postgres runs"
    return f"the database refused: {said(error)}"
