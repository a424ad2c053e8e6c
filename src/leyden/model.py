"""The nouns that flow through the service. Plain immutable data; knows nothing else of Leyden.

A :class:`Transaction` is the one thing that flows down (Postgres → clients); an :class:`Upload` is the one
thing that flows up (client → Postgres). Rows are tuples of Postgres *text forms* (UTF-8 bytes, ``None`` for
NULL) in the column order of the table's description; the wire's spelling of a value is the business of
``satellite/``, the SQL spelling that of ``postgres/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

#: One row: Postgres text form of each column, UTF-8, ``None`` = NULL, in description order.
Row = tuple[bytes | None, ...]

#: Name under which writes made by Postgres itself appear in tags and as the origin of transactions. It must sort
#: after every client UUID in UTF-16 order, because the client breaks timestamp ties that way.
POSTGRES_ORIGIN = "postgres_1"

#: Tag of a row that was never written since its table was electrified.
EPOCH_TAG = "postgres_1@0"


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the catalog describes it. ``type`` is the short catalog name (``int4``), or the enum's name.

    ``default`` is the text form of the constant that clients put into rows which say nothing of the column. It stays
    when Postgres drops its own.
    """

    name: str
    type: str
    not_null: bool
    is_enum: bool = False
    default: str | None = None

    @property
    def unset(self) -> bytes | None:
        """The value in a row that says nothing of the column, or is older than it."""
        return None if self.default is None else self.default.encode()


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """``columns`` of this table reference ``ref_columns`` of ``ref_table`` (all in schema public)."""

    name: str
    columns: tuple[str, ...]
    ref_table: str
    ref_columns: tuple[str, ...]
    on_delete: str = "NO ACTION"
    on_update: str = "NO ACTION"


@dataclass(frozen=True, slots=True)
class IndexColumn:
    name: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Index:
    name: str
    columns: tuple[IndexColumn, ...]
    unique: bool = False


@dataclass(frozen=True, slots=True)
class EnumType:
    name: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """An electrified table. ``id`` is its oid; it doubles as the relation id on the wire (server-wide)."""

    id: int
    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    primary_key_name: str
    foreign_keys: tuple[ForeignKey, ...] = ()
    indexes: tuple[Index, ...] = ()
    enums: tuple[EnumType, ...] = ()
    key_positions: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        order = {column.name: position for position, column in enumerate(self.columns)}
        object.__setattr__(self, "key_positions", tuple(order[name] for name in self.primary_key))

    def __hash__(self) -> int:
        return self.id  # cheap: tables are keys of caches on hot paths

    def key_of(self, row: Row) -> Row:
        """The primary key values of ``row``, in key order."""
        positions = self.key_positions
        if len(positions) == 1:  # nearly every table, and asked for every row that is read
            return (row[positions[0]],)
        return tuple([row[position] for position in positions])


@dataclass(frozen=True, slots=True)
class Suspension:
    """Why nothing of a table is delivered or written: it is not what clients were told. ``remedy`` is for its owner."""

    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Locale:
    """What the database makes of texts, on which the meaning of a filter depends."""

    order_is_bytes: bool
    """Texts are ordered by their code points; otherwise no order of texts is supported."""
    letters_are_usual: bool = True
    """Upper and lower case are Unicode's own; Turkish, Azerbaijani and Lithuanian differ."""


# ---- what a database role may read ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Function:
    """A function in SQL, by its name with schema. ``returns`` is the catalog name of its type, ``arguments`` are names
    (empty for none) and types. ``callers`` are the roles that may call it.

    ``owner`` is the role that it runs as, if that is not its caller, and ``bypasses`` are the ids of tables of which
    that role reads all rows. ``finds_public``: a table without a schema in it is that of schema public, unless it is
    called within a function and has no search path of its own. ``namesakes`` are names of functions and operators of
    Postgres' own under which it may find others that fit better, with the same exception; ``::`` stands for casts,
    and for what has been put among Postgres' own.
    """

    name: str
    body: str
    returns: str
    arguments: tuple[tuple[str, str], ...] = ()
    callers: frozenset[str] = frozenset()
    owner: str | None = None
    bypasses: frozenset[int] = frozenset()
    finds_public: bool = False
    has_own_path: bool = False
    namesakes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Call:
    """A function of the database that a policy calls itself, in whatever language. ``is_immutable``: by its owner's
    word, it looks at its arguments only. ``fingerprint`` is another one when the function is. ``body`` is that of one
    in SQL."""

    name: str
    is_immutable: bool
    fingerprint: str
    body: str | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that says which rows are read. ``using`` is its condition, printed with nothing but ``pg_catalog`` on
    the search path; ``functions`` are those of the database that it may call, as far as they can be looked into.

    ``relations`` are the ids of the tables that it names, its own among them, and ``calls`` the functions. With
    ``has_views`` it looks at others through them. ``namesakes`` are as for functions.
    """

    name: str
    permissive: bool
    using: str
    functions: tuple[Function, ...] = ()
    relations: frozenset[int] = frozenset()
    calls: tuple[Call, ...] = ()
    has_views: bool = False
    namesakes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ReadingRights:
    """What a database role may read of a table. ``columns`` are the names of those it may; ``None`` is all, also
    future ones. ``policies`` are those that hold for the role; ``None`` when row-level security is off.
    ``collated`` are columns with a collation of their own, by which texts may be equal, ordered
    and mapped to upper and lower case otherwise than in the rest of the database."""

    columns: frozenset[str] | None = None
    policies: tuple[Policy, ...] | None = None
    collated: frozenset[str] = frozenset()


#: By role, then by the table's id. A table that is not there cannot be read.
RightsByRole = Mapping[str, Mapping[int, ReadingRights]]


# ---- down: Postgres → clients -----------------------------------------------------------------------------------


# Changes and transactions are as immutable as the rest, by the type checker's word. A frozen dataclass takes three
# times as long to be made, and these are made for every row that anybody writes.


@dataclass(slots=True, unsafe_hash=True)
class Insert:
    table: Final[Table]
    row: Final[Row]
    tags: Final[tuple[str, ...]]


@dataclass(slots=True, unsafe_hash=True)
class Update:
    """A change of non-key columns. A change of the key arrives as :class:`Delete` and :class:`Insert`."""

    table: Final[Table]
    old: Final[Row]
    new: Final[Row]
    tags: Final[tuple[str, ...]]


@dataclass(slots=True, unsafe_hash=True)
class Delete:
    table: Final[Table]
    old: Final[Row]


#: TRUNCATE arrives as the deletion of each row.
Change = Insert | Update | Delete


@dataclass(frozen=True, slots=True)
class Gone:
    """A row left what a client sees; it lives on in Postgres. ``old`` is the row as it was."""

    table: Table
    old: Row


@dataclass(frozen=True, slots=True)
class CreateEnum:
    enum: EnumType


@dataclass(frozen=True, slots=True)
class CreateTable:
    """A table became electrified: the table and its indexes."""

    table: Table


@dataclass(frozen=True, slots=True)
class AddColumns:
    """``table`` is the description after the whole migration; ``columns`` are the names that are new.

    ``reopens`` tells that clients did not hear of what happened to the table before, because it had been given up or
    was suspended. Whoever has rows of it must start afresh.
    """

    table: Table
    columns: tuple[str, ...]
    reopens: bool = False


@dataclass(frozen=True, slots=True)
class CreateIndex:
    table: Table
    index: Index


SchemaChange = CreateEnum | CreateTable | AddColumns | CreateIndex


@dataclass(frozen=True, slots=True)
class Migration:
    """One version of the clients' schema. Versions sort as text in commit order and match ``^[0-9_]+$``."""

    version: str
    xid: int
    committed_at_ms: int
    changes: tuple[SchemaChange, ...]


@dataclass(frozen=True, slots=True)
class Correction:
    """What the author of a refused upload must hold instead: the true row with its tags, or ``None`` for none."""

    table: Table
    key: Row
    row: Row | None
    tags: tuple[str, ...]


@dataclass(slots=True, unsafe_hash=True)
class Transaction:
    """Everything of one Postgres commit, in order.

    ``position`` is the end LSN of the commit record (64 bit), ``xid`` the full 64-bit transaction id,
    ``committed_at_ms`` what clients compare timestamps with: for a client's transaction exactly the client's own
    millisecond, otherwise the greatest millisecond among the tags written (never below the commit's own).
    ``origin`` is the author's client id, ``None`` for Postgres itself. ``corrections`` concern the author only.
    """

    position: Final[int]
    xid: Final[int]
    committed_at_ms: Final[int]
    origin: Final[str | None]
    changes: Final[tuple[Change, ...]]
    migration: Final[Migration | None] = None
    corrections: Final[tuple[Correction, ...]] = ()


@dataclass(frozen=True, slots=True)
class SnapshotPoint:
    """What a Postgres snapshot sees (``pg_current_snapshot()``), and the WAL position read after it was taken.

    A transaction whose position is above ``wal_position`` is certainly not visible.
    """

    xmin: int
    xmax: int
    in_progress: frozenset[int]
    wal_position: int

    def sees(self, xid: int) -> bool:
        return xid < self.xmin or (xid < self.xmax and xid not in self.in_progress)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Every transaction after ``position`` has an id of at least ``xid``. ``reenabled_since`` are the ids of the tables
    that were given up and then electrified again by one of these: what was written in between left no trace."""

    position: int
    xid: int
    reenabled_since: frozenset[int] = frozenset()


# ---- up: client → Postgres --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClientInsert:
    table: Table
    #: Values by column name; columns that the client does not know are absent.
    row: Mapping[str, bytes | None]
    observed: frozenset[str]


@dataclass(frozen=True, slots=True)
class ClientUpdate:
    table: Table
    old: Mapping[str, bytes | None]
    new: Mapping[str, bytes | None]
    observed: frozenset[str]


@dataclass(frozen=True, slots=True)
class ClientDelete:
    table: Table
    old: Mapping[str, bytes | None]
    observed: frozenset[str]


@dataclass(frozen=True, slots=True)
class ClientCompensation:
    """A touch of a parent row that a child of the same transaction references. ``key`` holds the known columns."""

    table: Table
    key: Mapping[str, bytes | None]
    observed: frozenset[str]


ClientChange = ClientInsert | ClientUpdate | ClientDelete | ClientCompensation


@dataclass(frozen=True, slots=True)
class Author:
    """In whose name an upload is written: what the newest token of its connection says, once it was found good.

    ``claims`` is the JSON text of the token's payload, ``scoped_claims`` that of the object in it which holds the
    claims about the user, if they have one of their own. ``role`` is the database role that writes users' tables for
    him; ``None`` is the service's own.
    """

    user_id: str
    claims: str = "{}"
    scoped_claims: str | None = None
    role: str | None = None


@dataclass(frozen=True, slots=True)
class Flaw:
    """Why an upload cannot be applied, as was seen when it was read; ``message`` holds no value."""

    sqlstate: str
    message: str


@dataclass(frozen=True, slots=True)
class Upload:
    """One client transaction. ``lsn`` are the client's own four bytes; ``timestamp_ms`` its clock.

    In one with a ``flaw``, values that are none of their column's type stand as they were sent.
    ``echo_missed`` tells that its author was asked for all that it has not heard of, and may have sent this before:
    then it is told again.
    """

    client_id: str
    user_id: str
    lsn: bytes
    timestamp_ms: int
    changes: tuple[ClientChange, ...]
    flaw: Flaw | None = None
    echo_missed: bool = False


@dataclass(frozen=True, slots=True)
class ShapeRecord:
    """A shape as it was asked for: the table's name and the text of the filter, empty for none.

    ``claims`` stands for the values of the token's claims that the filter was given; empty when it uses none.
    """

    table: str
    where: str = ""
    claims: str = ""
    includes: tuple[IncludeRecord, ...] = ()

    @property
    def uses_claims(self) -> bool:
        return bool(self.claims) or any(include.shape.uses_claims for include in self.includes)


@dataclass(frozen=True, slots=True)
class IncludeRecord:
    """Rows of another table that come along: those connected by the foreign key with these columns."""

    foreign_key: tuple[str, ...]
    shape: ShapeRecord


@dataclass(frozen=True, slots=True)
class SubscriptionRecord:
    """A subscription as stored for resume.

    ``cancelled_at`` is the position at which the client is told which rows to drop, once it has unsubscribed, and
    ``cancellation`` numbers that message. ``asked_by`` is the number of the client's call that asked for it, until it
    is certain that all of its initial data came; ``in_parts`` tells whether that is sent in more than one.
    """

    id: str
    shapes: tuple[ShapeRecord, ...]
    cancelled_at: int | None = None
    cancellation: int = 0
    asked_by: int | None = None
    in_parts: bool = False

    def shapes_at(self, position: int, cancellation: int) -> tuple[ShapeRecord, ...]:
        """Those that a client has rows for which has come to ``position`` and was told of ``cancellation`` there."""
        if self.cancelled_at is None or (self.cancelled_at, self.cancellation) > (position, cancellation):
            return self.shapes
        return ()


@dataclass(frozen=True, slots=True)
class ClientRecord:
    """What is remembered of a client between connections."""

    client_id: str
    user_id: str
    #: The last client LSN durably applied, empty for none.
    upload_lsn: bytes
    subscriptions: tuple[SubscriptionRecord, ...]
    #: Whether it may have missed the echo of some of its uploads.
    echo_missed: bool = False
