"""`leyden rejected`: uploads that Postgres refused for good: see them, apply them again, forget them.

Owns the words and tables these commands print. They work on the database alone, be the service up or down. What
clients sent may be anybody's text, and is escaped.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import psycopg

from leyden.auth import date_of
from leyden.observe.fields import shown
from leyden.postgres.pools import Pool
from leyden.postgres.writing.change_json import UnknownTable
from leyden.postgres.writing.rejected import (
    Connection,
    Rejection,
    RejectionSummary,
    drop_old_rejections,
    drop_rejections,
    get_rejection,
    list_rejections,
)
from leyden.postgres.writing.upload_plan import UploadRefusedError
from leyden.postgres.writing.writer import Writer
from leyden.shapes.where import ownership

from .configured import conninfo, database_settings
from .database import data_dir_option, failure, said, session
from .times import Duration

T = TypeVar("T")

_STATEMENT_TIMEOUT: Final = 30

_HEADINGS: Final = ("ID", "WHEN", "USER", "CLIENT", "SQLSTATE", "CHANGES", "REASON")
_WIDEST: Final = 40
_WIDEST_REASON: Final = 120
_WIDEST_VALUE: Final = 1024

_id = click.argument("ids", metavar="ID...", nargs=-1, type=click.IntRange(1, 2**63 - 1))


@click.group()
@data_dir_option
@click.pass_context
def rejected(context: click.Context, data_dir: Path | None) -> None:
    """Look after the transactions of clients that Postgres refused for good.

    Works on the database of DATABASE_URL, with the service's role; no other setting is needed.

    \b
    Examples:
      leyden rejected list --user alice
      leyden rejected show 12
      leyden rejected retry 12 13
      leyden rejected drop --older-than 30d
    """
    context.obj = data_dir


@rejected.command("list")
@click.option("--user", "user", metavar="SUB", help="Only those of this user.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON for each, times in Unix seconds.")
@click.pass_obj
def list_(data_dir: Path | None, user: str | None, limit: int, as_json: bool) -> None:
    """List refused transactions, the newest last.

    Example: leyden rejected list --json
    """
    found = _on_session(data_dir, lambda conn: list_rejections(conn, user_id=user, limit=limit))
    if as_json:
        for one in found:
            click.echo(json.dumps(asdict(one)))
    elif not found:
        click.echo("Nothing was refused.", err=True)
    else:
        for line in _table(found):
            click.echo(line)


@rejected.command("show")
@click.argument("id", type=click.IntRange(1, 2**63 - 1))
@click.option("--json", "as_json", is_flag=True, help="As JSON, times in Unix seconds.")
@click.pass_obj
def show(data_dir: Path | None, id: int, as_json: bool) -> None:
    """Show the refused transaction ID: whose it was, what it would have written, why it was refused.

    The values are the client's own, as it sent them.

    Example: leyden rejected show 12
    """
    found = _on_session(data_dir, lambda conn: get_rejection(conn, id))
    if found is None:
        raise click.ClickException(_missing(id))
    if as_json:
        click.echo(json.dumps(_members(found)))
    else:
        for line in _lines(found):
            click.echo(line)


@rejected.command("retry")
@_id
@click.pass_obj
def retry(data_dir: Path | None, ids: Sequence[int]) -> None:
    """Apply refused transactions again, once what stood in their way is gone, and forget them.

    Each is written as its author would have written it: with his claims and database role of then, which are not judged
    anew, and at the time of his client's clock, so that what was written later stays. It then reaches all clients, his
    own as well. One that is refused again stays as it is.

    Example: leyden rejected retry 12
    """
    if not ids:
        raise click.UsageError("name at least one ID; leyden rejected list shows them")
    failed = 0
    for id in dict.fromkeys(ids):
        done, sentence = _run(data_dir, partial(_retry, id=id))
        click.echo(sentence, err=not done)
        failed += not done
    if failed:
        raise click.exceptions.Exit(1)


@rejected.command("drop")
@_id
@click.option("--older-than", type=Duration(), help="Those refused longer ago than this, like 30d, in place of IDs.")
@click.pass_obj
def drop(data_dir: Path | None, ids: Sequence[int], older_than: int | None) -> None:
    """Forget refused transactions. What they would have written is lost with them.

    Example: leyden rejected drop 12 13
    """
    if bool(ids) == (older_than is not None):
        raise click.UsageError("name IDs, or give --older-than")
    if older_than is not None:
        seconds = older_than
        number = _on_session(data_dir, lambda conn: drop_old_rejections(conn, older_than=seconds))
        click.echo(f"dropped: {number}")
        return
    dropped = _on_session(data_dir, lambda conn: drop_rejections(conn, ids))
    for id in dict.fromkeys(ids):
        if id in dropped:
            click.echo(f"dropped {id}")
        else:
            click.echo(_missing(id), err=True)
    if len(dropped) < len(set(ids)):
        raise click.exceptions.Exit(1)


# ---- work on the database -------------------------------------------------------------------------------------------


async def _retry(dsn: str, *, id: int) -> tuple[bool, str]:
    """Whether the transaction is applied now, and a sentence on it."""
    async with _pool(dsn) as pool:
        async with pool.connection() as conn:
            found = await get_rejection(conn, id)
        if found is None:
            return False, _missing(id)
        try:
            if not await Writer(pool, ownership).apply_again(found):
                return False, _missing(id)
        except UploadRefusedError as error:
            refusal = error.refusal
            return False, f"{id} is refused again: {refusal.sqlstate} {shown(refusal.message)}"
        except UnknownTable as error:
            return False, f"{id} cannot be applied: {shown(str(error))} any more"
    return True, f"applied {id}: {len(found.changes)} changes of user {shown(found.user_id, _WIDEST)}"


@asynccontextmanager
async def _pool(dsn: str) -> AsyncIterator[Pool]:
    """A pool of one. It is tried first, because a pool goes on trying by itself and does not say why it fails."""
    async with session(dsn, statement_timeout=_STATEMENT_TIMEOUT):
        pass
    async with Pool(dsn, min_size=1, max_size=1) as pool:
        yield pool


def _on_session(data_dir: Path | None, work: Callable[[Connection], Awaitable[T]]) -> T:
    async def run(dsn: str) -> T:
        async with session(dsn, statement_timeout=_STATEMENT_TIMEOUT) as conn:
            return await work(conn)

    return _run(data_dir, run)


def _run(data_dir: Path | None, work: Callable[[str], Coroutine[Any, Any, T]]) -> T:
    """What `work` returns, given the database's address; ends the command when the database does not let it."""
    dsn = conninfo(database_settings(), data_dir)
    try:
        return asyncio.run(work(dsn))
    except psycopg.Error as error:
        raise click.ClickException(_failure(error)) from None


def _failure(error: psycopg.Error) -> str:
    match error:
        case psycopg.errors.UndefinedTable() | psycopg.errors.UndefinedColumn():
            return (
                "the database is not prepared for this release (leyden.rejected is missing or older); start the service"
                " on it once, or check that DATABASE_URL names the service's database"
            )
        case psycopg.errors.InsufficientPrivilege():
            return f"the database role may not ({said(error)}); use the service's role"
        case _:
            return failure(error)


def _missing(id: int) -> str:
    return f"there is no refused transaction {id}; see leyden rejected list"


# ---- words ----------------------------------------------------------------------------------------------------------


def _table(found: Iterable[RejectionSummary]) -> Iterator[str]:
    rows = [_HEADINGS, *map(_row, found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _row(one: RejectionSummary) -> Sequence[str]:
    return (
        str(one.id),
        date_of(int(one.at)) or "",
        shown(one.user_id, _WIDEST),
        shown(one.client_id, _WIDEST),
        one.sqlstate,
        str(one.changes),
        shown(one.message, _WIDEST_REASON),
    )


def _members(found: Rejection) -> Mapping[str, Any]:
    """For a program. Without the claims, which are nobody's business here."""
    return {
        "id": found.id,
        "at": found.at,
        "user_id": found.user_id,
        "client_id": found.client_id,
        "role": found.role,
        "written_at": found.ms / 1000,
        "sqlstate": found.sqlstate,
        "message": found.message,
        "changes": found.changes,
    }


def _lines(found: Rejection) -> Iterator[str]:
    """For a person."""
    facts = (
        ("refused", date_of(int(found.at)) or ""),
        ("user", shown(found.user_id)),
        ("client", shown(found.client_id)),
        ("role", "the service's own" if found.role is None else shown(found.role)),
        ("written", f"{date_of(found.ms // 1000)} by the client's clock"),
        ("reason", f"{found.sqlstate} {shown(found.message, _WIDEST_VALUE)}"),
    )
    for name, value in facts:
        yield f"{name:<9}{value}"
    yield f"changes  {len(found.changes)}"
    for change in found.changes:
        yield f"  {change['op']} {shown(change['table'])}"
        for part in ("key", "old", "row", "new"):
            if part in change:
                values = ", ".join(f"{shown(name)}={_value(value)}" for name, value in change[part].items())
                yield f"    {part:<4} {values}"


def _value(value: str | Mapping[str, str] | None) -> str:
    match value:
        case None:
            return "NULL"
        case str():
            quoted = shown(value, _WIDEST_VALUE).replace("'", "''")
            return f"'{quoted}'"
        case _:
            return f"base64:{shown(value['base64'], _WIDEST_VALUE)}"
