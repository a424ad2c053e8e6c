"""`leyden revoke`: take tokens back before their time.

Owns the words these commands print. Entries go straight into the database, from where every process of the service
hears of them: it works while the service is down, and needs none of its keys.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Final, Literal, TypeVar

import click
import psycopg

from leyden.auth import (
    InvalidRevocation,
    Revocation,
    RevocationKind,
    check_revocation,
    date_of,
    printable,
    revocation_lifetime,
)
from leyden.postgres.revocations import RevocationStore

from .configured import conninfo, database_settings
from .database import data_dir_option, failure, said, session
from .times import Duration, Moment

T = TypeVar("T")

_STATEMENT_TIMEOUT: Final = 10

#: Seconds by which a moment of issue may lie ahead, for clocks that differ.
_AHEAD: Final = 60

_LONGEST_SHOWN: Final = 1024

_lifetime = click.option(
    "--for",
    "lifetime",
    type=Duration(),
    help="How long it stays in force; longer than the tokens concerned live. [default: 25h, or more if"
    " AUTH_JWT_MAX_LIFETIME is]",
)


def _issued_before(*, required: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        "--issued-before",
        type=Moment(),
        required=required,
        help="Only tokens issued up to then, that second included: now, seconds since 1970, or a date like"
        " 2026-01-31T12:00Z.",
    )


@click.group()
@data_dir_option
@click.pass_context
def revoke(context: click.Context, data_dir: Path | None) -> None:
    """Take tokens back: refuse them, and end the connections they opened, in every process within a second.

    Writes to the database of DATABASE_URL; no other setting is needed. What begins with - goes behind --.

    \b
    Examples:
      leyden revoke user alice
      leyden revoke user alice --issued-before now
      leyden revoke key -- -x1nJ3tAXqNsnHPNm_6y1MQmPRyyMkQEUnvmPD2TCkw
    """
    context.obj = data_dir


@revoke.command("user")
@click.argument("sub")
@_issued_before(required=False)
@_lifetime
@click.pass_obj
def user(data_dir: Path | None, sub: str, issued_before: int | Literal["now"] | None, lifetime: int | None) -> None:
    """Revoke the tokens of the user SUB.

    Without --issued-before the user is shut out whatever token comes; with it, tokens issued later are good: the user
    has to sign in again.

    Example: leyden revoke user alice --issued-before now
    """
    _add(data_dir, "user", sub, issued_before, lifetime)


@revoke.command("jti")
@click.argument("id")
@_lifetime
@click.pass_obj
def jti(data_dir: Path | None, id: str, lifetime: int | None) -> None:
    """Revoke the one token whose claim jti is ID.

    Example: leyden revoke jti 3f0c1d2e-5a76-4b1c-9f1e-6b3f5d1c7a90
    """
    _add(data_dir, "jti", id, None, lifetime)


@revoke.command("key")
@click.argument("thumbprint")
@_lifetime
@click.pass_obj
def key(data_dir: Path | None, thumbprint: str, lifetime: int | None) -> None:
    """Revoke every token signed with the key of that THUMBPRINT (RFC 7638).

    The service logs the thumbprints of its keys at start. Take the key out of the configuration, too: a revocation
    ends after a while.

    Example: leyden revoke key gRn3Vh8GJYmkn1hjkMaXnSmDl0tBC7wXSzBFxkNeXW4
    """
    _add(data_dir, "key", thumbprint, None, lifetime)


@revoke.command("all")
@_issued_before(required=True)
@_lifetime
@click.pass_obj
def all_(data_dir: Path | None, issued_before: int | Literal["now"], lifetime: int | None) -> None:
    """Revoke everybody's tokens issued up to a moment.

    Whoever has one has to sign in again.

    Example: leyden revoke all --issued-before now
    """
    _add(data_dir, "all", None, issued_before, lifetime)


@revoke.command("list")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON for each, times in Unix seconds.")
@click.pass_obj
def list_(data_dir: Path | None, as_json: bool) -> None:
    """List the revocations in force.

    Example: leyden revoke list --json
    """
    entries = _with_store(data_dir, lambda store: store.list())
    for entry in entries:
        if as_json:
            click.echo(json.dumps(asdict(entry)))
        else:
            click.echo(f"{entry.id:>5}  {_target(entry)}, made {date_of(entry.created_at)}, until {_end(entry)}")
    if not entries and not as_json:
        click.echo("No revocation is in force.", err=True)


@revoke.command("remove")
@click.argument("id", type=click.IntRange(1, 2**63 - 1))
@click.pass_obj
def remove(data_dir: Path | None, id: int) -> None:
    """Take back the revocation with the number ID.

    Example: leyden revoke remove 12
    """
    entry = _with_store(data_dir, lambda store: store.remove(id))
    if entry is None:
        raise click.ClickException(f"there is no revocation {id}; see leyden revoke list")
    click.echo(f"removed revocation {id} ({_target(entry)}); what it alone refused is good again within a second")


def _add(
    data_dir: Path | None,
    kind: RevocationKind,
    value: str | None,
    issued_before: int | Literal["now"] | None,
    lifetime: int | None,
) -> None:
    try:
        check_revocation(
            kind, value, 0 if issued_before == "now" else issued_before, 1 if lifetime is None else lifetime
        )
    except InvalidRevocation as reason:
        raise click.UsageError(reason.message) from None

    async def add(store: RevocationStore) -> Revocation:
        moment = None
        if issued_before is not None:
            # The service's clock, near enough: that of this machine may be anything.
            now = math.floor(await store.now())
            moment = now if issued_before == "now" else issued_before
            if moment > now + _AHEAD:
                raise click.UsageError("--issued-before lies ahead: nobody concerned could sign in until then")
        return await store.add(kind, value, issued_before=moment, lifetime=lifetime)

    entry = _with_store(data_dir, add)
    done = f"revoked {_target(entry)}, until {_end(entry)} (revocation {entry.id})"
    click.echo(f"{done}; live connections end within a second")


def _with_store(data_dir: Path | None, work: Callable[[RevocationStore], Awaitable[T]]) -> T:
    """What `work` returns, done on a connection to the configured database; ends the command when it cannot be."""
    settings = database_settings()
    dsn = conninfo(settings, data_dir)

    async def run() -> T:
        async with _store(dsn, revocation_lifetime(settings.max_token_lifetime)) as store:
            return await work(store)

    try:
        return asyncio.run(run())
    except psycopg.Error as error:
        raise click.ClickException(_failure(error)) from None


@asynccontextmanager
async def _store(dsn: str, lifetime: int) -> AsyncIterator[RevocationStore]:
    async with session(dsn, statement_timeout=_STATEMENT_TIMEOUT) as conn:
        yield RevocationStore(lambda: nullcontext(conn), lifetime=lifetime)


def _failure(error: psycopg.Error) -> str:
    """A sentence with a remedy."""
    match error:
        case psycopg.errors.UndefinedTable():
            return (
                "the database is not prepared for revocations (there is no table leyden.revocations); start this"
                " release of the service on it once, or check that DATABASE_URL names the service's database"
            )
        case psycopg.errors.InsufficientPrivilege():
            return (
                f"the database role may not revoke ({said(error)}); use the service's role, or as that: GRANT USAGE ON"
                " SCHEMA leyden TO …; GRANT SELECT, INSERT, UPDATE, DELETE ON leyden.revocations TO …"
            )
        case _:
            return failure(error)


def _target(entry: Revocation) -> str:
    """Whom or what an entry revokes. Values may be anybody's text."""
    value = printable(entry.value or "", _LONGEST_SHOWN)
    issued = "" if entry.issued_before is None else f" issued up to {date_of(entry.issued_before)}"
    match entry.kind:
        case "user":
            return f"tokens of user {value}{issued}" if issued else f"user {value}"
        case "jti":
            return f"token {value}"
        case "key":
            return f"tokens signed with key {value}"
        case "all":
            return f"all tokens{issued}"


def _end(entry: Revocation) -> str | None:
    return date_of(entry.expires_at)
