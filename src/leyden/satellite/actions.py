"""What a session asks its shell to do, and what it may look at: the two sides of the sans-I/O border."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from google.protobuf.message import Message

from leyden.model import Checkpoint, Locale, Migration, SubscriptionRecord, Suspension, Table, Upload
from leyden.satellite.migrations import Dialect
from leyden.satellite.positions import Positions
from leyden.shapes.questions import Question
from leyden.shapes.request import Shape
from leyden.shapes.rights import Rules
from leyden.shapes.view import Part, View


@dataclass(frozen=True, slots=True)
class Send:
    message: Message


@dataclass(frozen=True, slots=True)
class Close:
    """End the connection with this WebSocket close code and reason; ``detail`` is for the log."""

    code: int
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Authenticate:
    """Verify ``token`` and look the client up, then call :meth:`Session.authenticated` or :meth:`Session.refused`.
    ``call`` is the number of the client's call."""

    client_id: str
    token: str
    call: int


@dataclass(frozen=True, slots=True)
class Refused:
    """An authentication was refused without a look at its token; ``code`` is for the log."""

    code: str
    client_id: str


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Shapes were refused by what is known of ``tables``, or of the ``rights`` of the client's database role. Both lag
    behind Postgres: catch up with it, then call :meth:`Session.looked_again`."""

    tables: bool
    rights: bool


@dataclass(frozen=True, slots=True)
class ForgetSubscriptions:
    """The client starts afresh: what is stored of its subscriptions is void, but for those that it is to be ``rescued``
    from, and it has missed echoes as with :class:`MissEchoes`."""

    rescued: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MissEchoes:
    """The client may have missed echoes of its uploads. It is asked for all that it waits for, on this connection and
    on the next ones until it has sent that."""


@dataclass(frozen=True, slots=True)
class KeepSubscriptions:
    """The client resumed at ``position``, where it was told of ``cancellation``, listing only these ids: all others are
    void, but for those that it is to be ``rescued`` from."""

    ids: tuple[str, ...]
    position: int
    cancellation: int = 0
    rescued: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DropSubscriptions:
    """What is stored of these subscriptions is void."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hold:
    """The client is to be rescued from the deliveries of these subscriptions: call :meth:`Session.hold_is_over` after
    so many seconds."""

    ids: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class SeekCheckpoint:
    """Find the last checkpoint that is not after ``position``, then call :meth:`Session.checkpoint_found`."""

    position: int


@dataclass(frozen=True, slots=True)
class Repair:
    """What a client lacks that has come to ``position``, from where the log does not go on any more. It is what was
    written after ``checkpoint``, as far as ``user_id`` may see it.

    ``lsn`` is the position as the client knows it, and ``version`` that of its newest migration if that tells it.
    """

    lsn: bytes
    position: int
    version: str | None
    checkpoint: Checkpoint
    user_id: str | None


@dataclass(frozen=True, slots=True)
class StartStream:
    """Stream transactions after ``position``, as ``view`` sees them; with ``None`` after the log's head of that moment,
    to a client that has nothing yet. First send at that position the ``migrations_after`` a version, all of them after
    ``""`` and none after ``None``. With a ``repair``, bring the client up to date otherwise, and stream what comes
    after that. ``cancellation`` is the last that the client was told of."""

    position: int | None
    view: View
    dialect: Dialect
    migrations_after: str | None = None
    repair: Repair | None = None
    cancellation: int = 0


@dataclass(frozen=True, slots=True)
class StopStream:
    pass


@dataclass(frozen=True, slots=True)
class Deliver:
    """Deliver the initial data of a subscription, once the client has certainly recorded it."""

    subscription: SubscriptionRecord
    shapes: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class Withdraw:
    """End subscriptions: ``gone`` is what was seen for them and for no other."""

    ids: tuple[str, ...]
    gone: frozenset[Part]


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """The client has applied everything up to ``position``."""

    position: int


@dataclass(frozen=True, slots=True)
class Write:
    upload: Upload


Output = (
    Send
    | Close
    | Authenticate
    | Refused
    | ForgetSubscriptions
    | KeepSubscriptions
    | MissEchoes
    | DropSubscriptions
    | LookAgain
    | Hold
    | SeekCheckpoint
    | StartStream
    | StopStream
    | Deliver
    | Withdraw
    | Acknowledge
    | Write
)


class World(Protocol):
    """What a session may look at. All of it is memory: no question here waits for anything."""

    @property
    def instance_id(self) -> str: ...

    @property
    def positions(self) -> Positions: ...

    @property
    def tables(self) -> Mapping[str, Table]:
        """The electrified tables by name."""

    @property
    def suspended(self) -> Mapping[str, Suspension]:
        """Why other tables, which clients may have, are not among them for the time being."""

    def reopened_since(self, position: int) -> Collection[str]:
        """Tables of which something is missing between ``position`` and the present: clients start afresh."""

    def are_answered_since(self, questions: Iterable[Question], position: int) -> bool:
        """Whether it is known from ``position`` on what Postgres says to all ``questions``."""

    @property
    def locale(self) -> Locale: ...

    def rules(self, role: str | None) -> Rules:
        """What may be read by clients with this database role; ``None`` where no roles are taken."""

    @property
    def migrations(self) -> Sequence[Migration]:
        """All known, in order of version."""

    @property
    def head(self) -> int:
        """Position of the newest transaction."""

    def holds(self, position: int) -> bool:
        """Whether everything after ``position`` can be sent."""
