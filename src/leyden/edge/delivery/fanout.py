"""Fan-out: each transaction is encoded once per feed, and the same bytes go to every client of that feed.

A *feed* is what equal clients have in common: what they see (a view, made of groups and trees) and their SQL dialect.
An index of these tells which feeds a transaction concerns; all others cost it nothing. A :class:`Subscriber` that
stands at the head of the log is *live* and costs one ``send`` per transaction. One that is behind, whose window of
unacknowledged transactions is full, whose socket is slow, or that is being delivered initial data leaves the live lane
and catches up from the log later. So does one whose view depends on what Postgres is still to be asked about the
transaction. Nobody waits for the slowest, and memory per client is bounded.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Mapping

from leyden.edge.websocket.socket import HIGH_WATER_BYTES, Packet, Socket
from leyden.events import Emit, UnexpectedError, ignore
from leyden.log import TransactionLog
from leyden.model import AddColumns, Row, SnapshotPoint, Table, Transaction
from leyden.postgres.replication.relations import with_columns
from leyden.satellite.encoding import Encoder
from leyden.satellite.migrations import Dialect
from leyden.shapes.answers import Questions
from leyden.shapes.groups import images
from leyden.shapes.index import PartIndex
from leyden.shapes.questions import Question
from leyden.shapes.sight import Sight
from leyden.shapes.versions import VersionedTables
from leyden.shapes.view import Part, View
from leyden.shapes.where import OWNER_COLUMN

FeedKey = tuple[Dialect, View]

#: Transactions sent and not acknowledged at which sending stops. The stock client acknowledges each transaction from
#: the 21st of a connection on, so this must stay above 21 (docs/protocol.md).
WINDOW = 30

#: Once the window is full, the number down to which acknowledgements bring it before more is sent. So a client that
#: cannot keep up gets its transactions some at a time, in one write, where one for each acknowledgement would cost most
#: when there is least time for it.
REOPENED_AT = WINDOW // 2

#: Transactions whose visibility in a new snapshot is still worth asking (see :meth:`FanOut.is_seen_by`).
RECENT = 1_000

#: Encoded packets kept for clients that catch up side by side.
CACHED_PACKETS = 256

#: Why a client is let go that comes back to a table with other columns.
ALTERED = "a table it sees was altered"

#: Why a client is let go whose view depends on what Postgres could not be asked any more.
UNANSWERED = "what its policies let it see is not known any more"

#: Transactions read from the log at a time while a client catches up.
CATCH_UP_BATCH = 64

#: Why a client is let go whose position is below the log's floor. When it comes back it is told to start afresh.
TOO_FAR_BEHIND = "too far behind: its position is no longer held"


class Subscriber:
    """One client's place in the stream."""

    __slots__ = (
        "asked_for",
        "client_id",
        "dialect",
        "dropped",
        "filters",
        "full",
        "held",
        "left",
        "live",
        "position",
        "socket",
        "unacked",
        "view",
    )

    def __init__(
        self,
        client_id: str,
        socket: Socket,
        dialect: Dialect,
        view: View,
        position: int,
        dropped: Callable[[str], None],
        asked_for: Callable[[], Collection[str]] = frozenset,
    ) -> None:
        self.client_id = client_id
        self.socket = socket
        self.dialect = dialect
        self.view = view
        #: Everything up to here was sent. Kept current only outside the live lane.
        self.position = position
        #: Called once, with a reason, when this client cannot be served any further.
        self.dropped = dropped
        #: Names of the tables that its subscriptions concern, also where it sees nothing of them for the time being.
        self.asked_for = asked_for
        #: Tables whose initial data came from a snapshot: what that snapshot saw is not sent again.
        self.filters: dict[int, SnapshotPoint] = {}
        self.unacked: deque[int] = deque()
        #: Whether the window filled up, and has not been reopened yet.
        self.full = False
        self.live = False
        self.held = False
        #: For good: nothing is sent any more, whoever releases it.
        self.left = False

    @property
    def feed(self) -> FeedKey:
        return (self.dialect, self.view)


class FanOut:
    """Distributes the transactions of one log. Runs in the event loop; every method returns at once."""

    def __init__(
        self,
        log: TransactionLog,
        encoder: Encoder,
        emit: Emit = ignore,
        before_each: Callable[[], None] = lambda: None,
        questions: Questions | None = None,
    ) -> None:
        """``before_each`` is called before a transaction is distributed: who may not see it any more leaves then."""
        self._log = log
        #: Those that views depend on. Their answers are among the versions.
        self.questions = Questions() if questions is None else questions
        #: The feeds that have members, by the questions (ids) that they depend on.
        self._feeds_asking: dict[int, dict[FeedKey, None]] = {}
        #: Everybody in the live lane was sent everything up to here.
        self._live_at = log.head
        self._emit = emit
        self._before_each = before_each
        self._encoder = encoder
        self._feeds: dict[FeedKey, set[Subscriber]] = {}
        #: The feeds that have members, by what they are made of.
        self._feeds_of: dict[Part, dict[FeedKey, None]] = {}
        self._index = PartIndex()
        #: The tables of trees, up to the head of the log. A subscriber with a tree joins when all of its are there.
        self.versions = VersionedTables()
        self._waiting: set[Subscriber] = set()
        self._by_client: dict[str, Subscriber] = {}
        self._packets: OrderedDict[tuple[int, FeedKey, bool], Packet | None] = OrderedDict()
        self._recent: deque[tuple[int, int]] = deque(maxlen=RECENT)
        for transaction in log.after(log.floor):
            self._recent.append((transaction.position, transaction.xid))
        #: Not set while nothing may be sent to anybody.
        self._open = asyncio.Event()
        self._open.set()
        #: Ends the fan-out: it hears of no further transaction.
        self.close = log.subscribe(self.publish)

    @property
    def head(self) -> int:
        return self._log.head

    # ---- membership ----------------------------------------------------------------------------------------------

    def join(self, subscriber: Subscriber) -> None:
        """Starts sending to ``subscriber`` what comes after its position. The tables of its trees are kept."""
        self._by_client[subscriber.client_id] = subscriber
        self._waiting.add(subscriber)
        if self._can_be_served(subscriber):
            self.pump(subscriber)

    def leave(self, subscriber: Subscriber) -> None:
        """Ends sending to ``subscriber`` for good."""
        self._demote(subscriber, self._log.head)
        self._waiting.discard(subscriber)
        subscriber.left = True
        if self._by_client.get(subscriber.client_id) is subscriber:
            del self._by_client[subscriber.client_id]

    def hold(self, subscriber: Subscriber) -> int:
        """Stops sending to ``subscriber`` until :meth:`release`; returns the position up to which it was sent."""
        if subscriber.live:
            self._demote(subscriber, self._log.head)
        subscriber.held = True
        return subscriber.position

    def release(self, subscriber: Subscriber) -> None:
        subscriber.held = False
        self.pump(subscriber)

    def see(
        self,
        subscriber: Subscriber,
        view: View,
        filters: Mapping[int, SnapshotPoint],
        replayed: Collection[int] = (),
    ) -> None:
        """Changes what ``subscriber`` sees from now on. ``filters`` are the points of the snapshots that it had tables
        from; of the tables ``replayed`` everything is sent from its position on."""
        if subscriber.live:
            self._demote(subscriber, self._log.head)
        subscriber.view = view
        subscriber.filters = {
            table: point
            for table, point in (subscriber.filters | dict(filters)).items()
            if table in view.tables and table not in replayed
        }
        if self._can_be_served(subscriber):
            self.pump(subscriber)

    def _can_be_served(self, subscriber: Subscriber) -> bool:
        """A table of a tree can be altered while the client is being prepared for the tree, and a question can have
        been forgotten that it was asked for at an earlier time."""
        view = subscriber.view
        is_kept = all(table_id in self.versions for table_id in view.tables_needed)
        if is_kept and self.questions.are_known_since(view.questions, subscriber.position):
            return True
        self.leave(subscriber)
        subscriber.dropped(ALTERED)
        return False

    def pause(self) -> None:
        """Stops sending to everybody until :meth:`resume`."""
        self._open.clear()
        for members in list(self._feeds.values()):
            for subscriber in tuple(members):
                self._demote(subscriber, self._log.head)

    def resume(self) -> None:
        self._open.set()
        self._pump_each(self._waiting)

    async def opened(self) -> None:
        """Returns once something may be sent, to be waited for before rows are sent otherwise."""
        await self._open.wait()

    def acknowledge(self, subscriber: Subscriber, position: int) -> None:
        unacked = subscriber.unacked
        while unacked and unacked[0] <= position:
            unacked.popleft()
        if len(unacked) <= REOPENED_AT:
            subscriber.full = False
        if not subscriber.live and not subscriber.full:
            self.pump(subscriber)

    def tick(self) -> None:
        """To be called about once a second: a socket that was slow may have room again."""
        self._pump_each(self._waiting)
        # Who is held is being sent rows as they were at its position.
        held = [subscriber.position for subscriber in self._waiting if subscriber.held]
        self.versions.trim(min([self._log.floor, *held]))

    def is_seen_by(self, point: SnapshotPoint, position: int) -> bool:
        """Whether the snapshot ``point`` sees every transaction up to ``position``.

        The stream can be a moment ahead of a snapshot: Postgres writes the commit to the WAL before it makes it
        visible. Only recent transactions can be in that state.
        """
        return all(point.sees(xid) for at, xid in self._recent if at <= position)

    def described_at(self, position: int, tables: Iterable[Table]) -> list[Table]:
        """``tables``, given as they are described now, as they were described at ``position``.

        That is what a client that resumes there must be told: it has not yet seen the migrations that follow, and
        the first rows it gets may still have the older columns. Each migration announces what it changes.
        """
        if not self._log.holds(position):
            return list(tables)  # nothing will be sent from there: see `pump`
        later: dict[int, set[str]] = {}
        for transaction in self._log.after(position):
            for change in () if transaction.migration is None else transaction.migration.changes:
                if isinstance(change, AddColumns):
                    later.setdefault(change.table.id, set()).update(change.columns)
        return [_without(table, later.get(table.id, ())) for table in tables]

    def changed_after(self, position: int, tables: Collection[int]) -> list[tuple[Table, Row]]:
        """The rows of ``tables`` (by id) that transactions after ``position`` change or delete, as they were at
        ``position``.

        Raises :class:`~leyden.log.OutsideWindow` when the log does not reach back to it any more.
        """
        seen: set[tuple[int, Row]] = set()
        rows: list[tuple[Table, Row]] = []
        for transaction in self._log.after(position):
            for number, change in enumerate(transaction.changes):
                if change.table.id not in tables:
                    continue
                old, new = images(transaction, number)
                row = new if old is None else old
                assert row is not None
                key = (change.table.id, change.table.key_of(row))
                if key in seen:
                    continue
                seen.add(key)
                if old is not None:
                    rows.append((change.table, old))
        return rows

    # ---- the live lane -------------------------------------------------------------------------------------------

    def publish(self, transaction: Transaction) -> None:
        """A transaction was appended to the log."""
        try:
            self._before_each()
            self._let_go_of_altered(transaction)  # before its own rows, which have the new columns
            self.versions.apply(transaction)
            self._hold_back(transaction)
            self._publish(transaction)
            self._live_at = transaction.position
        except Exception as error:
            # A defect must not cost anybody a transaction: whoever reconnects gets it from the log.
            self._tell(error)
            self.versions.clear()
            self.questions.clear()
            self._live_at = transaction.position
            for subscriber in self._all():
                # At once, not when its connection has ended: the next transaction must not reach it before this one.
                self.leave(subscriber)
                subscriber.dropped("a transaction could not be distributed")

    def _hold_back(self, transaction: Transaction) -> None:
        """Whoever depends on what has to be asked about ``transaction`` gets it later."""
        for question in self.questions.note(transaction):
            for feed in tuple(self._feeds_asking.get(question.id, ())):
                for subscriber in tuple(self._feeds[feed]):
                    self._demote(subscriber, self._live_at)

    def answered(self, questions: Collection[Question]) -> None:
        """More is known of ``questions``: who waited for it goes on."""
        self._pump_each(one for one in self._waiting if not one.view.questions.isdisjoint(questions))

    def forget(self, questions: Collection[Question]) -> None:
        """What is known of ``questions`` holds no longer. Whoever depends on it comes back."""
        for question in questions:
            self.questions.forget(question)
            self.versions.forget(question.id)
        for subscriber in self._all():
            if not subscriber.view.questions.isdisjoint(questions):
                self.leave(subscriber)
                subscriber.dropped(UNANSWERED)

    @property
    def questions_in_use(self) -> set[Question]:
        """Those that anybody's view depends on."""
        return {question for subscriber in self._all() for question in subscriber.view.questions}

    def _publish(self, transaction: Transaction) -> None:
        self._recent.append((transaction.position, transaction.xid))
        author = self._by_client.get(transaction.origin) if transaction.origin is not None else None
        if transaction.migration is not None or author is not None or self._index.looks_at(transaction):
            self._distribute(transaction, author)
        self._pump_each(self._waiting)

    def _distribute(self, transaction: Transaction, author: Subscriber | None) -> None:
        """To those in the live lane whom it concerns."""
        position = transaction.position
        sight = Sight(transaction, self.versions)
        if transaction.migration is not None:
            feeds = list(self._feeds)
        else:
            concerned = self._index.concerned(sight)
            feeds = list(dict.fromkeys(feed for part in concerned for feed in self._feeds_of[part]))
        for feed in feeds:
            members = self._feeds[feed]
            packet = self._packet(sight, feed, for_author=False)
            if packet is None:
                continue
            for subscriber in tuple(members):
                if subscriber is not author:
                    self._send_live(subscriber, packet, position)
        if author is not None and author.live:
            packet = self._packet(sight, author.feed, for_author=True)
            if packet is not None:
                self._send_live(author, packet, position)

    def _send_live(self, subscriber: Subscriber, packet: Packet, position: int) -> None:
        _note_sent(subscriber, position)
        if not subscriber.socket.send(packet) or subscriber.full:
            self._demote(subscriber, position)

    def _demote(self, subscriber: Subscriber, position: int) -> None:
        if not subscriber.live:
            return
        subscriber.live = False
        subscriber.position = position
        feed = subscriber.feed
        members = self._feeds[feed]
        members.discard(subscriber)
        if not members:
            del self._feeds[feed]
            for question in subscriber.view.questions:
                del self._feeds_asking[question.id][feed]
                if not self._feeds_asking[question.id]:
                    del self._feeds_asking[question.id]
            for part in subscriber.view.parts:
                if part not in self._feeds_of:
                    continue  # which failed as it was to be added
                self._feeds_of[part].pop(feed, None)
                if not self._feeds_of[part]:
                    del self._feeds_of[part]
                    self._index.remove(part)
        self._waiting.add(subscriber)

    def _promote(self, subscriber: Subscriber) -> None:
        subscriber.live = True
        self._waiting.discard(subscriber)
        feed = subscriber.feed
        if feed not in self._feeds:
            self._feeds[feed] = set()
            for question in subscriber.view.questions:
                self._feeds_asking.setdefault(question.id, {})[feed] = None
            for part in subscriber.view.parts:
                if part not in self._feeds_of:
                    self._index.add(part)
                    self._feeds_of[part] = {}
                self._feeds_of[part][feed] = None
        self._feeds[feed].add(subscriber)

    def _let_go_of_altered(self, transaction: Transaction) -> None:
        """Clients whose view does not fit a table any more come back and get one that does.

        That is so when a table has owners now. And the rows of a tree's table are loaded anew, because Postgres gives
        them a new column's default value without a word.
        """
        migration = transaction.migration
        if migration is None:
            return
        altered = [one for one in migration.changes if isinstance(one, AddColumns)]
        for change in altered:
            if change.reopens:
                self.let_go_of(change.table)
        owned = {one.table.id for one in altered if OWNER_COLUMN in one.columns}
        reloaded = {one.table.id for one in altered if one.table.id in self.versions}
        for table_id in reloaded:
            self.versions.forget(table_id)
        for subscriber in self._all() if owned or reloaded else ():
            if owned & subscriber.view.tables or reloaded & subscriber.view.tables_needed:
                self.leave(subscriber)
                subscriber.dropped(ALTERED)

    def let_go_of(self, table: Table) -> None:
        """What is known of ``table`` holds no longer. Who asked for it comes back, and is told what it may have."""
        self.versions.forget(table.id)
        # What happens to the table meanwhile leaves answers behind that are too old.
        self.forget(self.questions.about(table.id))
        for subscriber in self._all():
            view = subscriber.view
            if table.id in view.tables | view.tables_needed or table.name in subscriber.asked_for():
                self.leave(subscriber)
                subscriber.dropped(ALTERED)

    def _all(self) -> list[Subscriber]:
        return [*self._waiting, *(one for feed in self._feeds.values() for one in feed)]

    # ---- catching up ---------------------------------------------------------------------------------------------

    def pump(self, subscriber: Subscriber) -> None:
        """Sends to a subscriber outside the live lane what it lacks, as far as it can take it."""
        if subscriber.live or subscriber.held or subscriber.left or not self._open.is_set():
            return
        if not self._log.holds(subscriber.position):
            self.leave(subscriber)
            subscriber.dropped(TOO_FAR_BEHIND)
            return
        unanswered = self.questions.first_unanswered(subscriber.view.questions)
        while not self._is_blocked(subscriber):
            batch = self._log.after(subscriber.position, CATCH_UP_BATCH)
            if not batch:
                if not subscriber.filters and unanswered is None:
                    self._promote(subscriber)
                return
            for transaction in batch:
                if self._is_blocked(subscriber) or (unanswered is not None and transaction.position >= unanswered):
                    return
                self._send_behind(subscriber, transaction)

    def _pump_each(self, subscribers: Iterable[Subscriber]) -> None:
        """A defect that shows with one of them is not for the others to suffer from."""
        for subscriber in tuple(subscribers):
            try:
                self.pump(subscriber)
            except Exception as error:
                self._tell(error)
                self.leave(subscriber)
                subscriber.dropped("a transaction could not be sent")

    def _tell(self, error: Exception) -> None:
        trace = "".join(traceback.format_tb(error.__traceback__)) + type(error).__name__
        self._emit(UnexpectedError("fan-out", trace))

    @staticmethod
    def _is_blocked(subscriber: Subscriber) -> bool:
        return subscriber.full or subscriber.socket.buffered > HIGH_WATER_BYTES

    def _send_behind(self, subscriber: Subscriber, transaction: Transaction) -> None:
        author = transaction.origin == subscriber.client_id
        if author:
            for correction in transaction.corrections:
                # The row becomes what it was then: what a snapshot saw of it since has to be sent as well.
                subscriber.filters.pop(correction.table.id, None)
        view = self._unfiltered(subscriber, transaction)
        packet = self._packet(Sight(transaction, self.versions), (subscriber.dialect, view), for_author=author)
        if packet is not None:
            _note_sent(subscriber, transaction.position)
            subscriber.socket.send(packet)
        subscriber.position = transaction.position

    @staticmethod
    def _unfiltered(subscriber: Subscriber, transaction: Transaction) -> View:
        """That of its view of which ``transaction`` is news to ``subscriber``."""
        if not subscriber.filters:
            return subscriber.view
        seen = set()
        for table, point in list(subscriber.filters.items()):
            if transaction.position > point.wal_position:
                del subscriber.filters[table]
            elif point.sees(transaction.xid):
                seen.add(table)
        return subscriber.view.without_groups_on(seen)

    def _packet(self, sight: Sight, feed: FeedKey, *, for_author: bool) -> Packet | None:
        dialect, view = feed
        key = (sight.transaction.position, feed, for_author)
        try:
            return self._packets[key]
        except KeyError:
            pass
        payloads = self._encoder.transaction(sight, view, dialect, for_author=for_author)
        packet = self._packets[key] = Packet(payloads) if payloads else None
        if len(self._packets) > CACHED_PACKETS:
            self._packets.popitem(last=False)
        return packet


def _note_sent(subscriber: Subscriber, position: int) -> None:
    subscriber.unacked.append(position)
    if len(subscriber.unacked) >= WINDOW:
        subscriber.full = True


def _without(table: Table, columns: Collection[str]) -> Table:
    return with_columns(table, [column for column in table.columns if column.name not in columns])
