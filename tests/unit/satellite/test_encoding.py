from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from leyden.model import (
    AddColumns,
    Column,
    Correction,
    CreateTable,
    Delete,
    Insert,
    Migration,
    Row,
    Table,
    Transaction,
    Update,
)
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.encoding import BYTES_PER_MESSAGE, GONE_BATCH_ROWS, OPERATIONS_PER_MESSAGE, Encoder
from leyden.satellite.frames import decode
from leyden.satellite.migrations import Dialect
from leyden.satellite.positions import Positions
from leyden.satellite.rows import unpack
from leyden.shapes.sight import Sight
from leyden.shapes.view import View
from views import whole

SQLITE = Dialect.SQLITE
ITEMS = Table(16400, "items", (Column("id", "text", True), Column("n", "int4", False)), ("id",), "items_pkey")
NOTES = Table(
    16500,
    "notes",
    (Column("body", "text", False), Column("sub", "int2", True), Column("id", "uuid", True)),
    ("id", "sub"),
    "notes_pkey",
)
AUTHOR = "8a9e2b60-0000-4000-8000-000000000001"
ENCODER = Encoder(Positions("e"))
MS = 1_700_000_000_000
MIGRATION = Migration("20240101", 745, MS, (CreateTable(ITEMS),))


def transaction(*changes: Insert | Update | Delete, **more: object) -> Transaction:
    plain = Transaction(position=27440072, xid=745, committed_at_ms=MS, origin=None, changes=changes)
    return replace(plain, **more)  # type: ignore[arg-type]


def operations(payloads: Iterable[bytes]) -> list[pb.SatTransOp]:
    logs = [message for message in map(decode, payloads) if isinstance(message, pb.SatOpLog)]
    return [op for log in logs for op in log.ops]


def kinds(payloads: Iterable[bytes]) -> list[str | None]:
    return [op.WhichOneof("op") for op in operations(payloads)]


# ---- relations ---------------------------------------------------------------------------------------------------


def test_a_relation_is_the_recorded_one() -> None:
    assert Encoder.relations([ITEMS]) == [
        bytes.fromhex(
            "0a 0a06 7075626c6963 1a05 6974656d73 20908001 2a0c 0a02 6964 1204 74657874 1801"
            "2a0b 0a01 6e 1204 696e7434 2001"
        )
    ]


def test_a_relation_flags_every_key_column() -> None:
    (payload,) = Encoder.relations([NOTES])
    relation = decode(payload)

    assert isinstance(relation, pb.SatRelation)
    assert [(c.name, c.primaryKey, c.is_nullable) for c in relation.columns] == [
        ("body", False, True),
        ("sub", True, False),
        ("id", True, False),
    ]


def test_a_changed_description_gives_a_new_relation() -> None:
    wider = replace(ITEMS, columns=(*ITEMS.columns, Column("extra", "bool", False)))

    assert Encoder.relations([wider]) != Encoder.relations([ITEMS])


# ---- transactions ------------------------------------------------------------------------------------------------


def test_a_transaction_is_the_recorded_one_but_for_its_position() -> None:
    insert = Insert(ITEMS, (b"a1", None), ("postgres_1@1700000000000",))
    lsn = b"e-27440072"
    begin = "08 80d095ffbc31 1a0a" + lsn.hex() + "220a 706f7374677265735f31 38 e905"
    row = "1209 0a0140 1202 6131 1200"
    recorded = (
        "09 0a24 0a22" + begin + "0a2b 2229 08 908001" + row + "1a18 706f7374677265735f314031373030303030303030303030"
        "0a15 1213 08 80d095ffbc31 1a0a" + lsn.hex()
    )

    assert ENCODER.transaction(Sight(transaction(insert)), whole(ITEMS), SQLITE) == [bytes.fromhex(recorded)]


def test_only_visible_tables_are_sent_in_the_order_of_the_commit() -> None:
    changes = (
        Insert(ITEMS, (b"a", b"1"), ("t@1",)),
        Insert(NOTES, (b"x", b"1", b"u"), ("t@1",)),
        Update(ITEMS, (b"a", b"1"), (b"a", None), ("t@2",)),
        Delete(ITEMS, (b"a", None)),
    )
    payloads = ENCODER.transaction(Sight(transaction(*changes)), whole(ITEMS), SQLITE)

    assert kinds(payloads) == ["begin", "insert", "update", "delete", "commit"]
    update = operations(payloads)[2].update
    assert unpack(update.old_row_data, 2) == [b"a", b"1"]
    assert unpack(update.row_data, 2) == [b"a", None]
    assert list(update.tags) == ["t@2"]


@pytest.mark.parametrize("old", [(b"text", b"3", b"u"), (None, b"3", b"u")])
def test_a_deletion_carries_the_whole_old_row_and_no_tags(old: Row) -> None:
    payloads = ENCODER.transaction(Sight(transaction(Delete(NOTES, old))), whole(NOTES), SQLITE)
    delete = operations(payloads)[1].delete

    assert unpack(delete.old_row_data, 3) == list(old)
    assert list(delete.tags) == []


def test_what_concerns_nobody_is_not_sent() -> None:
    foreign = transaction(Insert(NOTES, (b"x", b"1", b"u"), ()))

    assert ENCODER.transaction(Sight(foreign), whole(ITEMS), SQLITE) == []
    assert ENCODER.transaction(Sight(transaction()), whole(ITEMS), SQLITE) == []


def test_the_author_gets_its_echo_even_when_it_sees_nothing() -> None:
    upload = transaction(Insert(NOTES, (b"x", b"1", b"u"), ()), origin=AUTHOR)
    payloads = ENCODER.transaction(Sight(upload), View(), SQLITE, for_author=True)
    begin, commit = operations(payloads)

    assert begin.begin.origin == AUTHOR
    assert begin.begin.commit_timestamp == MS
    assert begin.begin.transaction_id == 745
    assert begin.begin.lsn == commit.commit.lsn == b"e-27440072"


def test_fields_without_which_the_client_breaks_are_always_there() -> None:
    begin = operations(ENCODER.transaction(Sight(transaction(Delete(ITEMS, (b"a", None)))), whole(ITEMS), SQLITE))[
        0
    ].begin

    assert begin.lsn
    assert begin.origin == "postgres_1"
    assert begin.HasField("transaction_id")


def test_a_long_transaction_spans_messages() -> None:
    changes = [Insert(ITEMS, (str(n).encode(), None), ()) for n in range(2 * OPERATIONS_PER_MESSAGE)]
    payloads = ENCODER.transaction(Sight(transaction(*changes)), whole(ITEMS), SQLITE)

    assert [len(operations([payload])) for payload in payloads] == [500, 500, 2]
    assert kinds(payloads)[0] == "begin"
    assert kinds(payloads)[-1] == "commit"


def test_large_rows_are_spread_over_messages() -> None:
    wide = b"x" * (BYTES_PER_MESSAGE // 2)
    table = replace(ITEMS, columns=(ITEMS.columns[0], Column("n", "text", False)))
    changes = [Insert(table, (str(n).encode(), wide), ()) for n in range(6)]
    payloads = ENCODER.transaction(Sight(transaction(*changes)), whole(table), SQLITE)

    assert max(map(len, payloads)) < 2 * BYTES_PER_MESSAGE
    assert kinds(payloads) == ["begin", *["insert"] * 6, "commit"]


# ---- corrections -------------------------------------------------------------------------------------------------

TRUE_ROW = Correction(ITEMS, (b"a",), (b"a", b"9"), ("postgres_1@5",))


def test_corrections_put_the_author_right() -> None:
    refused = transaction(origin=AUTHOR, corrections=(TRUE_ROW, Correction(ITEMS, (b"b",), None, ())))
    payloads = ENCODER.transaction(Sight(refused), whole(ITEMS), SQLITE, for_author=True)
    _, truth, gone, _ = operations(payloads)

    assert unpack(truth.insert.row_data, 2) == [b"a", b"9"]
    assert list(truth.insert.tags) == ["postgres_1@5"]
    assert unpack(gone.gone.pk_data, 2) == [b"b", None]


def test_corrections_are_for_the_author_alone() -> None:
    refused = transaction(origin=AUTHOR, corrections=(TRUE_ROW,))

    assert ENCODER.transaction(Sight(refused), whole(ITEMS), SQLITE) == []


def test_a_correction_does_not_show_a_row_that_the_author_may_not_see() -> None:
    refused = transaction(origin=AUTHOR, corrections=(TRUE_ROW,))
    payloads = ENCODER.transaction(Sight(refused), View(), SQLITE, for_author=True)

    assert kinds(payloads) == ["begin", "gone", "commit"]
    assert unpack(operations(payloads)[1].gone.pk_data, 2) == [b"a", None]


def test_a_correction_of_a_table_never_announced_announces_it_first() -> None:
    refused = transaction(origin=AUTHOR, corrections=(TRUE_ROW, TRUE_ROW))
    payloads = ENCODER.transaction(Sight(refused), whole(NOTES), SQLITE, for_author=True)

    assert payloads[:-1] == Encoder.relations([ITEMS])


def test_a_composite_key_is_put_in_its_columns() -> None:
    refused = transaction(origin=AUTHOR, corrections=(Correction(NOTES, (b"u", b"3"), None, ()),))
    payloads = ENCODER.transaction(Sight(refused), whole(NOTES), SQLITE, for_author=True)

    assert unpack(operations(payloads)[1].gone.pk_data, 3) == [None, b"3", b"u"]


# ---- migrations --------------------------------------------------------------------------------------------------


def test_a_migration_is_a_transaction_of_its_own_in_front_of_the_rows() -> None:
    mixed = transaction(Insert(ITEMS, (b"a", None), ()), migration=MIGRATION)
    payloads = ENCODER.transaction(Sight(mixed), whole(ITEMS), SQLITE)

    assert payloads[0] == Encoder.relations([ITEMS])[0]
    assert kinds(payloads) == ["begin", "migrate", "commit", "begin", "insert", "commit"]
    ddl, _, _, rows, *_ = operations(payloads)
    assert ddl.begin.is_migration
    assert not rows.begin.is_migration
    # a client that drops in between asks for the rows
    assert [ddl.begin.lsn, rows.begin.lsn] == [b"e-27440071", b"e-27440072"]


def test_only_the_last_of_migrations_at_one_position_leads_past_all_of_them() -> None:
    lsns = []
    for follow in (True, False):
        payloads = ENCODER.migration(MIGRATION, SQLITE, 5, others_follow=follow)
        lsns += [op.begin.lsn for op in operations(payloads) if op.HasField("begin")]
    assert lsns == [b"e-5-%b" % MIGRATION.version.encode(), b"e-5"]


def test_a_migration_reaches_those_who_see_no_table() -> None:
    payloads = ENCODER.transaction(Sight(transaction(migration=MIGRATION)), View(), SQLITE)
    begin, _, commit = operations(payloads)

    assert begin.begin.lsn == commit.commit.lsn == b"e-27440072"
    assert begin.begin.origin == "postgres_1"
    assert begin.begin.transaction_id == 745


def test_a_table_changed_twice_is_announced_as_it_is_at_the_end() -> None:
    wider = replace(ITEMS, columns=(*ITEMS.columns, Column("extra", "bool", False)))
    migration = Migration("2", 7, MS, (CreateTable(ITEMS), AddColumns(wider, ("extra",))))
    payloads = ENCODER.migration(migration, SQLITE, 5)

    assert payloads[:-1] == Encoder.relations([wider])
    assert [len(op.migrate.table.columns) for op in operations(payloads)[1:-1]] == [3, 3]


# ---- initial data and GONE batches -------------------------------------------------------------------------------


def test_a_delivery_opens_with_a_position() -> None:
    begin = decode(ENCODER.subscription_begin("s1", 9, 0))

    assert begin == pb.SatSubsDataBegin(subscription_id="s1", lsn=b"e-9")
    assert decode(ENCODER.subscription_begin("s1", 9, 5)) == pb.SatSubsDataBegin(subscription_id="s1", lsn=b"e-9.5")
    assert decode(ENCODER.shape_begin("r1")) == pb.SatShapeDataBegin(request_id="r1")
    assert (ENCODER.SHAPE_END, ENCODER.SUBSCRIPTION_END) == (b"\x12", b"\x10")


def test_initial_rows_are_inserts_and_nothing_else() -> None:
    rows = [((str(n).encode(), None), ("postgres_1@0",)) for n in range(OPERATIONS_PER_MESSAGE + 1)]
    payloads = ENCODER.initial_rows(ITEMS, rows)

    assert len(payloads) == 2
    assert set(kinds(payloads)) == {"insert"}
    assert list(operations(payloads)[0].insert.tags) == ["postgres_1@0"]


@pytest.mark.parametrize("rows", [0, 1, GONE_BATCH_ROWS, GONE_BATCH_ROWS + 1, 3 * GONE_BATCH_ROWS])
def test_gone_batches_are_small_and_only_the_last_names_the_subscriptions(rows: int) -> None:
    gone = ((NOTES, (b"text", str(n).encode(), b"u")) for n in range(rows))
    batches = list(ENCODER.gone_batches(["s1", "s2"], 9, gone, before=0, cancellation=2))
    begins = [decode(batch[0]) for batch in batches]

    assert [list(begin.subscription_ids) for begin in begins if isinstance(begin, pb.SatUnsubsDataBegin)] == [
        *[[]] * (len(batches) - 1),
        ["s1", "s2"],
    ]
    assert [begin.lsn for begin in begins if isinstance(begin, pb.SatUnsubsDataBegin)] == [
        *[b"e-9"] * (len(batches) - 1),
        b"e-9.2",
    ]
    assert all(batch[-1] == b"\x19" for batch in batches)
    assert max(len(operations(batch)) for batch in batches) <= GONE_BATCH_ROWS
    sent = [op for batch in batches for op in operations(batch)]
    assert [unpack(op.gone.pk_data, 3) for op in sent] == [[None, str(n).encode(), b"u"] for n in range(rows)]


# ---- repair ------------------------------------------------------------------------------------------------------


def test_a_transaction_of_what_was_missed_has_the_bytes_of_the_old_position_and_no_time() -> None:
    begin, end = ENCODER.repair_begin(b"e-1-2", 7), ENCODER.repair_end(b"e-1-2")
    opened, closed = operations([begin, end])
    assert opened.begin == pb.SatOpBegin(lsn=b"e-1-2", origin="postgres_1", transaction_id=7, commit_timestamp=0)
    assert opened.begin.HasField("origin")
    assert closed.commit.lsn == b"e-1-2"
    assert ENCODER.lsn(12) == b"e-12"


def test_rows_to_drop_are_named_by_their_keys() -> None:
    (op,) = operations(ENCODER.gone([(NOTES, (b"11111111-1111-4111-8111-111111111111", b"2"))]))
    values = unpack(op.gone.pk_data, 3)
    assert (op.gone.relation_id, values) == (16500, [None, b"2", b"11111111-1111-4111-8111-111111111111"])
    many = ENCODER.gone((ITEMS, (b"%d" % n,)) for n in range(OPERATIONS_PER_MESSAGE + 1))
    assert [len(operations([payload])) for payload in many] == [OPERATIONS_PER_MESSAGE, 1]
    assert ENCODER.gone([]) == []


def test_a_migration_that_was_missed_leaves_the_client_where_it_was() -> None:
    payloads = ENCODER.missed_migration(MIGRATION, SQLITE, b"e-1-2")
    begin, *_, commit = operations(payloads)
    assert (begin.begin.lsn, commit.commit.lsn) == (b"e-1-2", b"e-1-2")
    assert kinds(payloads) == kinds(ENCODER.migration(MIGRATION, SQLITE, 5))
