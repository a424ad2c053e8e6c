"""What a failure of Postgres means for a client's upload: try again, or refuse it. Pure; keyed by SQLSTATE.

Codes and classes are those of the PostgreSQL manual, appendix A.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

#: Lost a race with another transaction; the same statements can succeed next time.
_CONTENTION = frozenset({"40001", "40003", "40P01", "55P03"})

#: The server, not the statement, is in trouble: connection exception, insufficient resources, operator
#: intervention, system error, internal error.
_SERVER_CLASSES = ("08", "53", "57", "58", "XX")

#: ``query_canceled``: it took longer than it may, for the most part.
QUERY_CANCELED = "57014"

#: Of these, what may come with one upload each time, whatever the state of the server: insufficient resources, a
#: statement that takes longer than it may, the troubles of another server that a trigger asks, internal errors.
_FAULT_OR_TROUBLE = ("08", "53", QUERY_CANCELED, "58", "XX")

#: A standby or a database that is read-only for now, as during a failover.
_READ_ONLY = "25006"

#: What psycopg reports without a code when text holds what Postgres cannot store (NUL, invalid UTF-8).
UNTRANSLATABLE_TEXT = "22021"

#: ``no_data``: a statement that had to change one row changed none.
NO_DATA = "02000"

#: ``insufficient_privilege``: no grant, or a row policy forbids the row.
INSUFFICIENT_PRIVILEGE = "42501"

#: ``undefined_table``: there is none, or none that is shared with clients.
NO_TABLE = "42P01"

#: ``object_not_in_prerequisite_state``: a table is suspended.
NOT_NOW = "55000"

#: Worth a few more attempts, and refused then: the key was inserted by somebody else after we saw that it was not
#: there (``unique_violation``; electrified tables have no other unique constraints), or a prepared statement is
#: older than a change of its table (``feature_not_supported``).
_PERHAPS_AN_ACCIDENT = frozenset({"23505", "0A000"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an upload was refused for good. ``message`` holds no row value, unless an application's trigger
    put it there."""

    sqlstate: str
    message: str


def is_contention(error: psycopg.Error) -> bool:
    """Whether the whole transaction may simply be run again."""
    return error.sqlstate in _CONTENTION


def is_server_trouble(error: psycopg.Error) -> bool:
    """Whether the database cannot be used right now, whatever is asked of it."""
    code = error.sqlstate
    if code is None:
        return isinstance(error, psycopg.OperationalError)
    return code == _READ_ONLY or code.startswith(_SERVER_CLASSES)


def is_cut_off(error: psycopg.Error) -> bool:
    """Whether the statement took longer than it may, or was cancelled."""
    return error.sqlstate == QUERY_CANCELED


def may_be_the_uploads_fault(error: psycopg.Error) -> bool:
    """Whether trouble of the server that does not pass may be due to what was uploaded."""
    return error.sqlstate is not None and error.sqlstate.startswith(_FAULT_OR_TROUBLE)


def is_worth_another_attempt(error: psycopg.Error) -> bool:
    """Whether the whole transaction may be run again a few times; if it still fails like this, it was no accident."""
    return error.sqlstate in _PERHAPS_AN_ACCIDENT


def is_lack_of_right(error: psycopg.Error) -> bool:
    """Whether the author's role may not do what was tried."""
    return error.sqlstate == INSUFFICIENT_PRIVILEGE


def is_about_the_upload(error: psycopg.Error) -> bool:
    """Whether it is the upload that Postgres, or psycopg in its name, refuses. Otherwise it is a defect of ours."""
    return error.sqlstate is not None or isinstance(error, psycopg.DataError)


def refusal_of(error: psycopg.Error) -> Refusal:
    """The permanent reading of ``error``.

    Postgres quotes values in the text of data exceptions (class 22) and in every DETAIL, so only the names it
    reports are kept, and its primary message where that is made of names: integrity violations (class 23), lack of a
    right, and what an application's own trigger raised.
    """
    code = error.sqlstate or UNTRANSLATABLE_TEXT
    diag = error.diag
    if diag.message_primary and (code.startswith("23") or code in (INSUFFICIENT_PRIVILEGE, "P0001")):
        return Refusal(code, diag.message_primary)
    try:
        condition = psycopg.errors.lookup(code).__name__
    except KeyError:
        condition = "Refused"
    names = [
        f"{kind} {name}"
        for kind, name in (
            ("table", diag.table_name),
            ("column", diag.column_name),
            ("constraint", diag.constraint_name),
        )
        if name
    ]
    return Refusal(code, ", ".join([condition, *names]))
