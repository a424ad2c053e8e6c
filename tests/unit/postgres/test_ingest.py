"""What a commit in the stream becomes, for the cases that are hard to bring about in a real database."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from typing import Any

import pytest

from leyden import events
from leyden.model import (
    EPOCH_TAG,
    AddColumns,
    Column,
    CreateTable,
    Delete,
    Index,
    IndexColumn,
    Insert,
    Migration,
    Row,
    Suspension,
    Table,
    Transaction,
    Update,
)
from leyden.postgres.replication.ingest import Ingest
from leyden.postgres.replication.pgoutput import DecodeError
from leyden.postgres.tag_text import parse_key, parse_tags

INT4, TEXT = 23, 25
ITEMS, STATE, VERSIONS, TABLES = 100, 200, 300, 400

Feed = Callable[..., "Transaction | None"]


def items(*columns: str) -> Table:
    return Table(ITEMS, "items", tuple(Column(name, "text", not_null=False) for name in columns), ("id",), "items_pkey")


def added(version: str, table: Table, *columns: str) -> Migration:
    return Migration(version, 1, 0, (AddColumns(table, columns),))


def description(table: Table) -> dict[str, Any]:
    return {
        "id": table.id,
        "name": table.name,
        "columns": [
            {"name": c.name, "type": c.type, "not_null": c.not_null, "is_enum": c.is_enum} for c in table.columns
        ],
        "primary_key": list(table.primary_key),
        "primary_key_name": table.primary_key_name,
        "foreign_keys": [],
        "indexes": [],
        "enums": [],
    }


class Stream:
    """An :class:`Ingest` of the table ``items`` that takes whole transactions."""

    def __init__(
        self, wire: Any, table: Table | None = None, migrations: Iterable[Migration] = (), passed: str = ""
    ) -> None:
        self.noticed: list[events.Event] = []
        tables = {} if table is None else {table.id: table}
        self.ingest = Ingest(tables, list(migrations), next_xid=1000, emit=self.noticed.append, passed=passed)
        self._wire = wire
        self._lsn = 1000
        self.relation("id", "title")
        state = [("table_id", 26), ("pk", TEXT), ("tags", 1009), ("col_tags", 3802), ("dead", 3802)]
        self.ingest.feed(wire.relation(STATE, "row_state", state, namespace="leyden", identity="d"))
        versions = [("version", TEXT), ("xid", 5069), ("changes", 3802)]
        self.ingest.feed(wire.relation(VERSIONS, "versions", versions, namespace="leyden", identity="d"))

    def relation(self, *columns: str, identity: str = "f", name: str = "items") -> None:
        self.ingest.feed(self._wire.relation(ITEMS, name, [(column, TEXT) for column in columns], identity=identity))

    def commit(self, *messages: bytes, xid: int = 1000) -> Transaction | None:
        self._lsn += 100
        self.ingest.feed(self._wire.begin(self._lsn, xid))
        for message in messages:
            assert not self.ingest.feed(message)
        assert self.ingest.feed(self._wire.commit(self._lsn, self._lsn + 50))
        assembling = self.ingest.assemble()
        while True:
            try:
                next(assembling)
            except StopIteration as end:
                return None if end.value is None else end.value[0]

    def changes(self, *messages: bytes) -> tuple[Any, ...]:
        transaction = self.commit(*messages)
        return () if transaction is None else transaction.changes


@pytest.fixture
def stream(wire: Any) -> Stream:
    return Stream(wire, items("id", "title"))


def state(wire: Any, key: str, tags: str, table: int = ITEMS, dead: str | None = None) -> bytes:
    data: bytes = wire.insert(STATE, str(table), key, tags, "{}", dead)
    return data


def version(wire: Any, name: str, *changes: dict[str, Any]) -> bytes:
    data: bytes = wire.insert(VERSIONS, name, "1000", json.dumps(changes))
    return data


def suspended(reason: str) -> events.TableSuspended:
    return events.TableSuspended(
        "items", reason, "undo that, or CALL electric.electrify('items') after columns were added"
    )


def catalog(stream: Stream, wire: Any) -> None:
    columns = [("table_id", 26), ("description", 3802)]
    stream.ingest.feed(wire.relation(TABLES, "tables", columns, namespace="leyden", identity="d"))


def test_position_is_the_end_of_the_commit_record(stream: Stream, wire: Any) -> None:
    transaction = stream.commit(wire.insert(ITEMS, "1", "a"))
    assert transaction is not None
    assert transaction.position == 1150
    assert stream.ingest.position == 1150


def test_a_transaction_of_no_concern_is_nothing_but_moves_the_position(stream: Stream, wire: Any) -> None:
    assert stream.commit() is None
    assert stream.commit(state(wire, '["1"]', "{a@1}")) is None
    assert stream.commit(wire.message("leyden.heartbeat", "")) is None
    assert stream.ingest.position == 1350


def test_rows_with_a_great_many_tags_leave_nothing_behind(stream: Stream, wire: Any) -> None:
    tracemalloc.start()
    try:
        for number in range(40):
            tags = ",".join(f"client-{number}-{of_row}@1" for of_row in range(4_000))
            stream.commit(wire.insert(ITEMS, "1", "a"), state(wire, '["1"]', f"{{{tags}}}"))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 << 20


def test_a_row_has_the_last_tags_its_transaction_wrote(stream: Stream, wire: Any) -> None:
    changes = stream.changes(
        state(wire, '["1"]', "{old@1}"),
        wire.insert(ITEMS, "1", "a"),
        wire.insert(ITEMS, "2", "b"),
        wire.update(STATE, None, [str(ITEMS), '["1"]', '{x@2,"y z@3"}', "{}", None]),
        state(wire, '["2"]', "{other@9}", table=ITEMS + 1),
    )
    assert [change.tags for change in changes] == [("x@2", "y z@3"), (EPOCH_TAG,)]


def test_time_is_the_commits_own_or_the_greatest_that_postgres_tagged(stream: Stream, wire: Any) -> None:
    ahead = wire.commit_ms + 5000
    rows = wire.insert(ITEMS, "1", "a"), wire.insert(ITEMS, "2", "b")
    plain = stream.commit(*rows, state(wire, '["1"]', "{postgres_1@17}"))
    lifted = stream.commit(
        *rows, state(wire, '["1"]', f"{{c@{ahead + 9},postgres_1@{ahead}}}"), state(wire, '["2"]', "{}")
    )
    assert plain is not None
    assert lifted is not None
    assert (plain.committed_at_ms, lifted.committed_at_ms) == (wire.commit_ms, ahead)


def test_a_clients_transaction_has_exactly_the_clients_time(stream: Stream, wire: Any) -> None:
    transaction = stream.commit(
        wire.message("leyden.tx", '{"client": "c", "ms": 42}'),
        wire.insert(ITEMS, "1", "a"),
        state(wire, '["1"]', "{postgres_1@99}"),
        wire.message("leyden.tx", '{"client": "forged", "ms": 43}'),
    )
    assert transaction is not None
    assert (transaction.origin, transaction.committed_at_ms) == ("c", 42)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"client": 1, "ms": 2}', '{"client": "c", "ms": true}', '{"client":"c"}']
)
def test_a_malformed_announcement_is_no_announcement(stream: Stream, wire: Any, content: str) -> None:
    transaction = stream.commit(wire.message("leyden.tx", content), wire.insert(ITEMS, "1", "a"))
    assert transaction is not None
    assert transaction.origin is None


def test_a_changed_key_becomes_delete_and_insert(stream: Stream, wire: Any) -> None:
    table = stream.ingest.tables[ITEMS]
    assert stream.changes(wire.update(ITEMS, ["1", "a"], ["2", "a"]), state(wire, '["2"]', "{t@1}")) == (
        Delete(table, (b"1", b"a")),
        Insert(table, (b"2", b"a"), ("t@1",)),
    )


def test_an_unsent_value_is_taken_from_the_old_row(stream: Stream, wire: Any) -> None:
    (update,) = stream.changes(wire.update(ITEMS, ["1", "huge"], ["1", wire.unsent]))
    assert isinstance(update, Update)
    assert update.new == (b"1", b"huge")


def test_truncate_deletes_the_rows_whose_state_was_emptied_before_it(stream: Stream, wire: Any) -> None:
    table = stream.ingest.tables[ITEMS]
    assert stream.changes(
        state(wire, '["1"]', "{}"),
        state(wire, '["3"]', "{}", dead='{"id": "3", "title": "t"}'),
        state(wire, '["7"]', "{c@1}"),
        state(wire, '["8"]', "{}", table=ITEMS + 1),
        wire.truncate(STATE, ITEMS),
        wire.insert(ITEMS, "2", "a"),
        state(wire, '["2"]', "{t@1}"),
    ) == (Delete(table, (b"1", None)), Delete(table, (b"3", b"t")), Insert(table, (b"2", b"a"), ("t@1",)))


def test_rows_of_a_table_that_is_not_electrified_are_left_out(wire: Any) -> None:
    assert Stream(wire).commit(wire.insert(ITEMS, "1", "a")) is None


def test_columns_are_matched_by_name(stream: Stream, wire: Any) -> None:
    stream.relation("title", "id")
    (insert,) = stream.changes(wire.insert(ITEMS, "a", "1"))
    assert insert.row == (b"1", b"a")


@pytest.mark.parametrize(
    ("columns", "identity", "name", "reason"),
    [
        (("id", "heading"), "f", "items", "column title is missing"),
        (("id", "title", "note"), "f", "items", "column note was added, and clients were not told"),
        (("id", "title"), "d", "items", "its replica identity is not FULL"),
        (("id", "title"), "f", "things", "it was renamed or moved to another schema"),
    ],
)
def test_a_table_that_no_longer_matches_is_stopped_and_told_once(
    stream: Stream, wire: Any, columns: tuple[str, ...], identity: str, name: str, reason: str
) -> None:
    stream.relation(*columns, identity=identity, name=name)
    insert = wire.insert(ITEMS, "1", "a")
    assert stream.commit(insert, insert) is None
    stream.relation("id", "title")
    assert stream.commit(insert) is None  # what came between is missing: going on would hide it
    assert stream.noticed == [suspended(reason)]


def test_an_old_row_that_is_only_a_key_stops_the_table(stream: Stream, wire: Any) -> None:
    assert stream.commit(wire.delete(ITEMS, "1", None, kind="K")) is None
    assert stream.commit(wire.update(ITEMS, None, ["1", "b"])) is None
    assert len(stream.noticed) == 1


def test_a_column_of_another_type_stops_the_table(stream: Stream, wire: Any) -> None:
    stream.ingest.feed(wire.relation(ITEMS, "items", [("id", TEXT), ("title", INT4)]))
    assert stream.commit(wire.insert(ITEMS, "1", "2")) is None
    assert stream.noticed == [suspended("column title is now of type int4, not text")]


def test_an_announced_table_is_described_by_its_own_transaction(wire: Any) -> None:
    stream = Stream(wire)
    table = items("id", "title")
    created = {"kind": "create_table", "table": description(table)}
    transaction = stream.commit(
        wire.insert(VERSIONS, "01", "1000", json.dumps([])),
        wire.insert(ITEMS, "1", "a"),
        wire.update(VERSIONS, None, ["01", "1000", json.dumps([created])]),
    )
    assert transaction is not None
    assert transaction.migration is not None
    assert transaction.migration.changes == (CreateTable(table),)
    assert transaction.changes == (Insert(table, (b"1", b"a"), (EPOCH_TAG,)),)
    assert stream.ingest.tables == {ITEMS: table}
    assert stream.noticed == [events.MigrationSeen("01")]


def test_a_known_version_seen_again_changes_nothing_but_travels_on(wire: Any) -> None:
    now = items("id", "title", "note", "more")
    known = [added("02", items("id", "title", "note"), "note"), added("03", now, "more")]
    stream = Stream(wire, now, known)
    replayed = {"kind": "add_columns", "table": description(items("id", "title", "note")), "columns": ["note"]}

    (before, again) = stream.changes(wire.insert(ITEMS, "1", "a"), wire.insert(ITEMS, "2", "b"))
    transaction = stream.commit(version(wire, "02", replayed))
    stream.relation("id", "title", "note")
    (between,) = stream.changes(wire.insert(ITEMS, "2", "b", "n"))

    assert transaction is not None
    assert transaction.migration is not None
    assert stream.ingest.tables == {ITEMS: now}
    assert stream.ingest.migrations == known
    assert (before.table, before.row) == (items("id", "title"), (b"1", b"a"))
    assert before.table is again.table
    assert (between.table, between.row) == (items("id", "title", "note"), (b"2", b"b", b"n"))
    assert stream.noticed == []


def test_replayed_rows_of_the_transaction_that_adds_a_column_have_it_as_null(wire: Any) -> None:
    now = items("id", "title", "note", "more")
    stream = Stream(wire, now, [added("02", items("id", "title", "note"), "note"), added("03", now, "more")])
    replayed = {"kind": "add_columns", "table": description(items("id", "title", "note")), "columns": ["note"]}

    stream.changes(wire.insert(ITEMS, "1", "a"))
    (insert,) = stream.changes(wire.insert(ITEMS, "2", "b"), version(wire, "02", replayed))

    assert (insert.table, insert.row) == (items("id", "title", "note"), (b"2", b"b", None))


def test_a_column_that_is_still_to_come_stops_the_table_if_the_rows_have_it(wire: Any) -> None:
    """Added without a guard, and told to clients later: who gets these rows would never get the column of them."""
    now = items("id", "title", "note")
    stream = Stream(wire, now, [added("02", now, "note")])
    stream.relation("id", "title", "note")
    assert stream.commit(wire.insert(ITEMS, "1", "a", "n")) is None
    assert stream.noticed == [suspended("column note was added, and clients were not told")]


def test_a_column_that_came_before_the_stream_begins_is_there_from_the_first_row_on(wire: Any) -> None:
    now = items("id", "title", "note", "more")
    stream = Stream(wire, now, [added("02", items("id", "title", "note"), "note"), added("03", now, "more")], "02")
    stream.relation("id", "title", "note")
    (insert,) = stream.changes(wire.insert(ITEMS, "1", "a", "n"))
    assert (insert.table, insert.row) == (items("id", "title", "note"), (b"1", b"a", b"n"))
    transaction = stream.commit(
        wire.message(
            "leyden.tx",
            json.dumps(
                {"client": "c", "ms": 1, "corrections": [{"table": ITEMS, "key": ["3"], "row": None, "tags": []}]}
            ),
        )
    )
    assert transaction is not None
    assert [one.table for one in transaction.corrections] == [items("id", "title", "note")]
    assert stream.noticed == []


def test_replayed_corrections_keep_the_columns_of_their_time(wire: Any) -> None:
    now = items("id", "title", "note")
    stream = Stream(wire, now, [added("02", now, "note")])
    corrections = [
        {"table": ITEMS, "key": ["1"], "row": ["1", "a"], "tags": []},
        {"table": ITEMS, "key": ["2"], "row": ["2"], "tags": []},
        {"table": ITEMS, "key": ["3"], "row": None, "tags": []},
    ]
    transaction = stream.commit(
        wire.message("leyden.tx", json.dumps({"client": "c", "ms": 1, "corrections": corrections}))
    )
    assert transaction is not None
    then = items("id", "title")
    assert [(one.table, one.row) for one in transaction.corrections] == [
        (then, (b"1", b"a")),
        (then, (b"2", None)),
        (then, None),
    ]


def test_a_reduced_table_lacks_the_indexes_over_later_columns(wire: Any) -> None:
    kept, later = Index("a", (IndexColumn("title"),)), Index("b", (IndexColumn("title"), IndexColumn("note")))
    now = replace(items("id", "title", "note"), indexes=(kept, later))
    stream = Stream(wire, now, [added("02", now, "note")])
    (insert,) = stream.changes(wire.insert(ITEMS, "1", "a"))
    assert insert.table.indexes == (kept,)


def test_a_table_given_up_is_forgotten_and_its_rows_are_left_out(stream: Stream, wire: Any) -> None:
    catalog(stream, wire)
    assert stream.commit(wire.delete(TABLES, str(ITEMS), None, kind="K")) is None
    assert stream.ingest.tables == {}
    assert stream.commit(wire.insert(ITEMS, "1", "a")) is None
    assert stream.noticed == []


def test_a_table_given_up_and_enabled_again_in_one_transaction_stays(stream: Stream, wire: Any) -> None:
    catalog(stream, wire)
    table = stream.ingest.tables[ITEMS]
    enabled = {"kind": "add_columns", "table": description(table), "columns": []}
    stream.ingest.caught_up()
    transaction = stream.commit(
        wire.delete(TABLES, str(ITEMS), None, kind="K"),
        wire.insert(TABLES, str(ITEMS), "{}"),
        version(wire, "02", enabled),
    )
    assert transaction is not None
    assert stream.ingest.tables == {ITEMS: table}


def test_a_table_enabled_again_before_the_stream_caught_up_is_back_when_it_has(stream: Stream, wire: Any) -> None:
    catalog(stream, wire)
    table = stream.ingest.tables[ITEMS]
    stream.commit(wire.delete(TABLES, str(ITEMS), None, kind="K"))
    assert stream.ingest.tables == {}
    stream.commit(wire.insert(TABLES, str(ITEMS), "{}"))
    assert stream.ingest.tables == {ITEMS: table}


def test_a_migration_is_known_to_others_only_when_its_transaction_is_assembled(stream: Stream, wire: Any) -> None:
    before = stream.ingest.tables[ITEMS]
    now = items("id", "title", "note")
    stream.ingest.feed(wire.begin(5000, 1000))
    for number in range(600):
        stream.ingest.feed(wire.insert(ITEMS, str(number), "a"))
    change = {"kind": "add_columns", "table": description(now), "columns": ["note"]}
    stream.ingest.feed(version(wire, "02", change))
    assert stream.ingest.feed(wire.commit(5000, 5050))
    turns = 0
    for _ in stream.ingest.assemble():
        turns += 1
        assert stream.ingest.tables == {ITEMS: before}
        assert stream.ingest.migrations == []
    assert turns == 2
    assert stream.ingest.tables == {ITEMS: now}
    assert [one.version for one in stream.ingest.migrations] == ["02"]


def test_a_huge_truncate_is_spread_over_several_turns(stream: Stream, wire: Any) -> None:
    stream.ingest.feed(wire.begin(5000, 1000))
    for number in range(1000):
        stream.ingest.feed(state(wire, json.dumps([str(number)]), "{}"))
    stream.ingest.feed(wire.truncate(ITEMS))
    assert stream.ingest.feed(wire.commit(5000, 5050))
    # Three for the tags, as many again for the deletions.
    assert sum(1 for _ in stream.ingest.assemble()) == 6


def test_a_known_column_that_is_missing_after_its_migration_stops_the_table(wire: Any) -> None:
    now = items("id", "title", "note")
    stream = Stream(wire, now, [added("02", now, "note")])
    stream.ingest.caught_up()
    assert stream.commit(wire.insert(ITEMS, "1", "a")) is None
    assert stream.noticed == [suspended("column note is missing")]


def reopened(table: Table, *columns: str) -> dict[str, Any]:
    return {"kind": "add_columns", "table": description(table), "columns": list(columns), "reopens": True}


def with_suspensions(stream: Stream, wire: Any) -> None:
    columns = [("table_id", 26), ("description", 3802), ("suspended", 3802)]
    stream.ingest.feed(wire.relation(TABLES, "tables", columns, namespace="leyden", identity="d"))


def test_a_table_is_suspended_where_the_stream_says_so_until_it_is_taken_up(stream: Stream, wire: Any) -> None:
    with_suspensions(stream, wire)
    why = Suspension("column title was dropped and made anew", "leave it")
    row = wire.insert(ITEMS, "1", "a")
    assert len(stream.changes(row)) == 1
    assert stream.changes(wire.update(TABLES, None, [str(ITEMS), "{}", json.dumps(asdict(why))]), row) == ()
    assert stream.ingest.stopped == {ITEMS: why}
    assert stream.changes(row) == ()
    assert stream.ingest.reopened == {}

    table = items("id", "title")
    taken_up = wire.update(TABLES, None, [str(ITEMS), "{}", None])
    transaction = stream.commit(taken_up, version(wire, "01", reopened(table)))
    assert transaction is not None
    assert stream.ingest.stopped == {}
    assert stream.ingest.reopened == {ITEMS: transaction.position}
    assert len(stream.changes(row)) == 1
    told = [event for event in stream.noticed if not isinstance(event, events.MigrationSeen)]
    assert told == [events.TableSuspended("items", why.reason, why.remedy), events.TableTakenUp("items")]


def test_columns_that_are_recorded_late_do_not_take_up_a_table_by_themselves(stream: Stream, wire: Any) -> None:
    """What came before lacks them. The inspection sees that nothing is wrong any more and says so."""
    now = items("id", "title", "note")
    stream.relation("id", "title", "note")
    assert stream.changes(wire.insert(ITEMS, "1", "a", "n")) == ()
    late = {"kind": "add_columns", "table": description(now), "columns": ["note"]}
    stream.commit(version(wire, "01", late))
    assert stream.changes(wire.insert(ITEMS, "2", "b", "n")) == ()
    stream.commit(version(wire, "02", reopened(now)), xid=1001)
    assert [change.row for change in stream.changes(wire.insert(ITEMS, "3", "c", "n"))] == [(b"3", b"c", b"n")]


def test_a_table_known_to_be_suspended_stays_so_until_the_stream_takes_it_up(wire: Any) -> None:
    noticed: list[Table] = []
    now = items("id", "title")
    ingest = Ingest(
        {ITEMS: now},
        [],
        next_xid=1000,
        emit=events.ignore,
        suspended={ITEMS: Suspension("why", "how")},
        on_suspended=noticed.append,
    )
    assert noticed == [now]
    stream = Stream(wire, now)
    stream.ingest = ingest
    stream.relation("id", "title")
    assert stream.changes(wire.insert(ITEMS, "1", "a")) == ()


def test_a_changed_table_is_worth_a_look(stream: Stream, wire: Any) -> None:
    assert stream.ingest.announced
    stream.ingest.announced = False
    stream.ingest.feed(wire.relation(ITEMS + 1, "others", [("id", TEXT)]))
    assert not stream.ingest.announced
    stream.relation("id", "title")
    assert stream.ingest.announced


def test_corrections_are_completed_to_the_tables_present_columns(wire: Any) -> None:
    stream = Stream(wire, items("id", "title", "note"))
    correction = {"table": ITEMS, "key": ["1"], "row": ["1", None], "tags": ["a@1"]}
    unknown = {"table": 9, "key": ["1"], "row": None, "tags": []}
    content = json.dumps({"client": "c", "ms": 1, "corrections": [correction, unknown]})
    transaction = stream.commit(wire.message("leyden.tx", content))
    assert transaction is not None
    (only,) = transaction.corrections
    assert (only.key, only.row, only.tags) == ((b"1",), (b"1", None, None), ("a@1",))


def test_corrections_older_than_a_column_get_its_default(wire: Any) -> None:
    table = items("id", "title")
    stream = Stream(wire, replace(table, columns=(*table.columns, Column("n", "int4", not_null=True, default="7"))))
    correction = {"table": ITEMS, "key": ["1"], "row": ["1", None], "tags": ["a@1"]}
    transaction = stream.commit(
        wire.message("leyden.tx", json.dumps({"client": "c", "ms": 1, "corrections": [correction]}))
    )
    assert transaction is not None
    assert [one.row for one in transaction.corrections] == [(b"1", None, b"7")]


def test_transaction_ids_are_widened_to_the_nearest(wire: Any) -> None:
    ingest = Ingest({}, [], next_xid=(1 << 32) + 5, emit=lambda _: None)
    assert ingest._widen(4) == (1 << 32) + 4
    assert ingest._widen(0xFFFF_FFF0) == 0xFFFF_FFF0
    assert ingest._widen(0x7FFF_FFFF) == (1 << 32) + 0x7FFF_FFFF
    assert ingest._widen(3) == (1 << 32) + 3
    assert ingest._widen(0x8000_0001) == (1 << 32) + 0x8000_0001
    assert ingest._widen(0xFFFF_FFFF) == (2 << 32) - 1
    assert ingest._widen(7) == (2 << 32) + 7


def test_a_session_cut_off_inside_a_transaction_begins_afresh(stream: Stream, wire: Any) -> None:
    stream.ingest.feed(wire.begin(5000, 1001))
    stream.ingest.feed(wire.insert(ITEMS, "1", "lost"))
    stream.ingest.start_session()
    with pytest.raises(DecodeError, match="not announced"):
        stream.commit(wire.insert(ITEMS, "1", "a"))
    stream.ingest.start_session()
    stream.relation("id", "title")
    assert [change.row for change in stream.changes(wire.insert(ITEMS, "2", "b"))] == [(b"2", b"b")]


def test_keepalives_move_the_position_only_between_transactions(stream: Stream, wire: Any) -> None:
    stream.ingest.advance(2000)
    assert stream.ingest.position == 2000
    stream.ingest.feed(wire.begin(5000, 1001))
    stream.ingest.advance(6000)
    assert stream.ingest.position == 2000


@pytest.mark.parametrize(
    ("text", "elements"),
    [
        (b"{}", ()),
        (b"{a@1}", ("a@1",)),
        (b"{a@1,b@2}", ("a@1", "b@2")),
        (rb'{"a,b@1",c@2,"q\"\\{}@3"}', ("a,b@1", "c@2", 'q"\\{}@3')),
        ('{"ü x@1"}'.encode(), ("ü x@1",)),
    ],
)
def test_tags_are_read_from_an_arrays_text(text: bytes, elements: tuple[str, ...]) -> None:
    assert parse_tags(text) == elements


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (b'["1"]', (b"1",)),
        (b'[""]', (b"",)),
        (b'["a", "b"]', (b"a", b"b")),
        (rb'["q\"\\\u0001"]', (b'q"\\\x01',)),
        ('["ü"]'.encode(), ("ü".encode(),)),
    ],
)
def test_keys_are_read_from_their_json(text: bytes, key: Row) -> None:
    assert parse_key(text) == key
