"""`leyden sessions`: who is connected to a running service, and ending somebody's connections.

Owns the table these commands print. Everything in it may be a stranger's text, and is escaped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import click

from leyden.cli.admin_api import call
from leyden.observe.fields import shown

_HEADINGS: Final = ("USER", "CLIENT", "ADDRESS", "CONNECTED", "ENDS", "KEY", "CONNECTION")
_WIDEST: Final = 40
_KEY_CHARACTERS: Final = 10


@click.group()
def sessions() -> None:
    """See and end live connections of a running service, through its admin API.

    The service must run with ADMIN_TOKENS_FILE. LEYDEN_ADMIN_TOKEN (or LEYDEN_ADMIN_TOKEN_FILE) holds the secret of a
    credential with the scope sessions, LEYDEN_ADMIN_URL says where the API is if not at http://127.0.0.1:5134. With
    several processes each has connections of its own.

    Example: leyden sessions list
    """


@sessions.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print what the service answered, one session a line.")
def list_(as_json: bool) -> None:
    """List the authenticated connections, the oldest first.

    Example: leyden sessions list --json
    """
    found: list[Mapping[str, Any]] = call("GET", "/api/admin/sessions", "sessions")
    if as_json:
        for session in found:
            click.echo(json.dumps(session))
        return
    if not found:
        click.echo("Nobody is connected.", err=True)
        return
    for line in _table(found, time.time()):
        click.echo(line)


@sessions.command("disconnect")
@click.argument("sub")
def disconnect(sub: str) -> None:
    """End the connections of the user SUB, at once.

    The client connects again by itself, and is let in as long as its token is good: this makes it start afresh.
    `leyden revoke` is for shutting somebody out.

    Example: leyden sessions disconnect alice
    """
    number = call("POST", "/api/admin/sessions/disconnect", "disconnected", {"user": sub})
    click.echo(f"Connections of {shown(sub)} ended: {number}")
    if number:
        click.echo("A client with a good token comes back; `leyden revoke` shuts it out.", err=True)


def _table(found: Iterable[Mapping[str, Any]], now: float) -> Iterator[str]:
    rows = [_HEADINGS, *(_row(session, now) for session in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _row(session: Mapping[str, Any], now: float) -> Sequence[str]:
    key = session["key_thumbprint"]
    return (
        _cell(session["user_id"]),
        _cell(session["client_id"]),
        _cell(session["address"]),
        f"{_span(now - session['connected_at'])} ago",
        "never" if session["ends_at"] is None else f"in {_span(session['ends_at'] - now)}",
        "-" if key is None else _cell(key[:_KEY_CHARACTERS]),
        str(session["connection"]),
    )


def _cell(text: str) -> str:
    return shown(text, _WIDEST) or '""'


def _span(seconds: float) -> str:
    """A length of time in the largest unit that leaves at least one."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"
