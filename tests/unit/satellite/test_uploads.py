from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.model import (
    ClientChange,
    ClientCompensation,
    ClientDelete,
    ClientInsert,
    ClientUpdate,
    Column,
    EnumType,
    Flaw,
    Suspension,
    Table,
    Upload,
)
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite import uploads as limits
from leyden.satellite.frames import decode
from leyden.satellite.rows import pack
from leyden.satellite.uploads import InvalidUpload, UploadDecoder

FRAMES = Path(__file__).parents[2] / "fixtures" / "recordings" / "client-frames.json"
CLIENT, USER = "e0819def-0778-4d9c-8cf4-aef2e5209543", "user-1"

USERS = Table(
    1,
    "users",
    (Column("id", "uuid", True), Column("name", "text", True), Column("active", "bool", False)),
    ("id",),
    "p",
)
ITEMS = Table(
    2,
    "items",
    (
        Column("id", "uuid", True),
        Column("content", "text", False),
        Column("author_id", "uuid", False),
        Column("n", "int4", False),
        Column("created_at", "timestamptz", False),
    ),
    ("id",),
    "items_pkey",
)
TABLES = {table.name: table for table in (USERS, ITEMS)}
LSN = b"\x00\x00\x00\x07"
U1 = b"11111111-1111-4111-8111-111111111111"
U2 = b"22222222-2222-4222-8222-222222222222"


def recorded(kind: str) -> list[tuple[Any, dict[str, Any]]]:
    frames = json.loads(FRAMES.read_text())
    return [(decode(bytes.fromhex(f["hex"])), f["decoded"]) for f in frames if f["frame"].startswith(kind)]


def relation(table: Table = USERS, relation_id: int = 0, **overrides: Any) -> pb.SatRelation:
    columns = [pb.SatRelationColumn(name=c.name, type="TEXT", is_nullable=not c.not_null) for c in table.columns]
    fields = {"schema_name": "public", "table_name": table.name, "relation_id": relation_id, "columns": columns}
    return pb.SatRelation(**(fields | overrides))


@pytest.fixture
def decoder() -> UploadDecoder:
    decoder = UploadDecoder(CLIENT, USER)
    decoder.relation(relation(), TABLES)
    return decoder


def begin(lsn: bytes = LSN, ms: int = 5) -> pb.SatTransOp:
    return pb.SatTransOp(begin=pb.SatOpBegin(lsn=lsn, commit_timestamp=ms))


COMMIT = pb.SatTransOp(commit=pb.SatOpCommit())


def row(*values: bytes | None) -> pb.SatOpRow:
    return pack(values)


def insert(*values: bytes | None, relation_id: int = 0, tags: tuple[str, ...] = ()) -> pb.SatTransOp:
    return pb.SatTransOp(insert=pb.SatOpInsert(relation_id=relation_id, row_data=row(*values), tags=tags))


GOOD = insert(U1, b"Bob", b"t")


def log(*ops: pb.SatTransOp) -> pb.SatOpLog:
    return pb.SatOpLog(ops=ops)


def read(decoder: UploadDecoder, *ops: pb.SatTransOp) -> tuple[ClientChange, ...]:
    uploads, error = decoder.operations(log(begin(), *ops, COMMIT))
    assert error is None
    (upload,) = uploads
    return upload.changes


# ---- columns with a default --------------------------------------------------------------------------------------

COUNTED = Table(
    3,
    "counted",
    (
        Column("id", "text", not_null=True),
        Column("n", "int4", not_null=True, default="7"),
        Column("note", "text", not_null=False, default="x"),
    ),
    ("id",),
    "counted_pkey",
)


@pytest.fixture
def counting() -> UploadDecoder:
    decoder = UploadDecoder(CLIENT, USER)
    decoder.relation(relation(COUNTED), {"counted": COUNTED})
    return decoder


def test_a_row_written_before_its_author_knew_a_column_says_nothing_of_it(counting: UploadDecoder) -> None:
    """What waited to be sent while the column came has NULL in it. Where NULL is a value, that is what it is."""
    update = pb.SatOpUpdate(row_data=row(b"a", None, b"new"), old_row_data=row(b"a", None, b"old"))
    delete = pb.SatOpDelete(old_row_data=row(b"a", None, None))
    assert read(counting, insert(b"a", None, None), pb.SatTransOp(update=update), pb.SatTransOp(delete=delete)) == (
        ClientInsert(COUNTED, {"id": b"a", "note": None}, frozenset()),
        ClientUpdate(COUNTED, {"id": b"a", "note": b"old"}, {"id": b"a", "note": b"new"}, frozenset()),
        ClientDelete(COUNTED, {"id": b"a", "note": None}, frozenset()),
    )


def test_that_a_value_is_taken_away_is_left_to_postgres_to_refuse(counting: UploadDecoder) -> None:
    update = pb.SatOpUpdate(row_data=row(b"a", None, None), old_row_data=row(b"a", b"1", None))
    assert read(counting, pb.SatTransOp(update=update)) == (
        ClientUpdate(
            COUNTED, {"id": b"a", "n": b"1", "note": None}, {"id": b"a", "n": None, "note": None}, frozenset()
        ),
    )


def test_what_is_uploaded_is_for_the_table_as_it_is_now(decoder: UploadDecoder) -> None:
    altered = Table(1, "users", (*USERS.columns, COUNTED.columns[1]), ("id",), "p")
    decoder.follow({"users": altered})
    assert read(decoder, GOOD) == (ClientInsert(altered, {"id": U1, "name": b"Bob", "active": b"t"}, frozenset()),)
    decoder.follow({})
    assert read(decoder, GOOD)[0].table == altered


# ---- recordings of the stock client ------------------------------------------------------------------------------


def expected_change(op: dict[str, Any], tables: dict[int, Table]) -> ClientChange:
    ((kind, body),) = op.items()
    table = tables[body["relationId"]]

    def image(name: str) -> dict[str, bytes | None]:
        def canonical(column: Column, value: str | None) -> bytes | None:
            if value is not None and column.type == "timestamptz":
                value = value.removesuffix("Z") + "+00"
            return None if value is None else value.encode()

        pairs = zip(table.columns, body[name]["$row"], strict=True)
        return {column.name: canonical(column, value) for column, value in pairs}

    tags = frozenset(body["tags"])
    match kind:
        case "insert":
            return ClientInsert(table, image("rowData"), tags)
        case "update":
            return ClientUpdate(table, image("oldRowData"), image("rowData"), tags)
        case "delete":
            return ClientDelete(table, image("oldRowData"), tags)
    known = {name: value for name, value in image("pkData").items() if value is not None}
    return ClientCompensation(table, known, tags)


def test_recorded_transactions_decode_to_what_the_client_meant() -> None:
    decoder = UploadDecoder(CLIENT, USER)
    tables: dict[int, Table] = {}
    for message, fields in recorded("SatRelation"):
        decoder.relation(message, TABLES)
        tables[fields["relationId"]] = TABLES[fields["tableName"]]
    logs = recorded("SatOpLog")[:6]
    assert len(logs) == 6
    for message, fields in logs:
        first, *ops, _ = fields["ops"]
        uploads, error = decoder.operations(message)

        assert error is None
        assert uploads == [
            Upload(
                CLIENT,
                USER,
                bytes.fromhex(first["begin"]["lsn"].removeprefix("hex:")),
                int(first["begin"]["commitTimestamp"]),
                tuple(expected_change(op, tables) for op in ops),
            )
        ]


# ---- transactions ------------------------------------------------------------------------------------------------


def test_a_transaction_may_span_messages(decoder: UploadDecoder) -> None:
    assert decoder.operations(log(begin())) == ([], None)
    assert decoder.operations(log(GOOD)) == ([], None)
    uploads, _ = decoder.operations(log(COMMIT, begin(b"\0\0\0\x08"), COMMIT))

    assert [(upload.lsn, len(upload.changes)) for upload in uploads] == [(LSN, 1), (b"\0\0\0\x08", 0)]


def test_an_update_without_old_row_is_a_compensation(decoder: UploadDecoder) -> None:
    update = pb.SatTransOp(update=pb.SatOpUpdate(row_data=row(U1, b"Bob", None), tags=["x@1"]))

    assert read(decoder, update) == (ClientCompensation(USERS, {"id": U1, "name": b"Bob"}, frozenset({"x@1"})),)


def test_a_deletion_may_name_the_key_alone(decoder: UploadDecoder) -> None:
    delete = pb.SatTransOp(delete=pb.SatOpDelete(old_row_data=row(U1, None, None)))

    assert read(decoder, delete) == (ClientDelete(USERS, {"id": U1, "name": None, "active": None}, frozenset()),)


def test_columns_are_matched_by_name_and_may_be_missing() -> None:
    decoder = UploadDecoder(CLIENT, USER)
    columns = [pb.SatRelationColumn(name="active", is_nullable=True), pb.SatRelationColumn(name="id")]
    decoder.relation(relation(columns=columns), TABLES)

    assert read(decoder, insert(b"f", U1)) == (ClientInsert(USERS, {"active": b"f", "id": U1}, frozenset()),)


def test_a_relation_announced_again_replaces_the_former(decoder: UploadDecoder) -> None:
    decoder.relation(relation(columns=[pb.SatRelationColumn(name="id")]), TABLES)

    assert read(decoder, insert(U1)) == (ClientInsert(USERS, {"id": U1}, frozenset()),)


def test_values_are_in_postgres_form(decoder: UploadDecoder) -> None:
    decoder.relation(relation(ITEMS, 1), TABLES)
    (change,) = read(decoder, insert(U1.upper(), b"", None, b"+07", b"2024-05-06T07:08:09.50Z", relation_id=1))

    assert isinstance(change, ClientInsert)
    assert change.row == {
        "id": U1,
        "content": b"",
        "author_id": None,
        "n": b"7",
        "created_at": b"2024-05-06 07:08:09.5+00",
    }


def test_enum_labels_are_those_of_the_server() -> None:
    columns = (Column("id", "text", True), Column("c", "colour", False, is_enum=True))
    paint = Table(3, "paint", columns, ("id",), "p", enums=(EnumType("colour", ("red",)),))
    decoder = UploadDecoder(CLIENT, USER)
    decoder.relation(relation(paint), {"paint": paint})

    assert len(read(decoder, insert(b"1", b"red"))) == 1
    assert flaw_of(decoder, insert(b"1", b"blue")) == Flaw(
        "22000", "column c of table paint: a value that is no colour"
    )


# ---- refusals ----------------------------------------------------------------------------------------------------

UPDATE_KEY = pb.SatTransOp(
    update=pb.SatOpUpdate(row_data=row(U2, b"Bob", None), old_row_data=row(U1, b"Bob", None), tags=[])
)

REFUSED = {
    "begin without lsn": [begin(b"")],
    "begin with a long lsn": [begin(b"12345")],
    "begin inside a transaction": [begin(), begin()],
    "operation outside a transaction": [GOOD],
    "commit outside a transaction": [COMMIT],
    "timestamp after the year 9999": [begin(ms=limits.MAX_TIMESTAMP_MS + 1)],
    "no operation": [begin(), pb.SatTransOp()],
    "gone": [begin(), pb.SatTransOp(gone=pb.SatOpGone(pk_data=row(U1, None, None)))],
    "migrate": [begin(), pb.SatTransOp(migrate=pb.SatOpMigrate(version="1"))],
    "additional data": [begin(), pb.SatTransOp(additional_begin=pb.SatOpAdditionalBegin(ref=1))],
    "end of additional data": [begin(), pb.SatTransOp(additional_commit=pb.SatOpAdditionalCommit(ref=1))],
    "unknown relation": [begin(), insert(U1, b"Bob", b"t", relation_id=9)],
    "too few values": [begin(), insert(U1, b"Bob")],
    "too many values": [begin(), insert(U1, b"Bob", b"t", b"x")],
    "insert without row": [begin(), pb.SatTransOp(insert=pb.SatOpInsert())],
    "update without row": [begin(), pb.SatTransOp(update=pb.SatOpUpdate(old_row_data=row(U1, b"B", None)))],
    "delete without row": [begin(), pb.SatTransOp(delete=pb.SatOpDelete())],
    "compensation without row": [begin(), pb.SatTransOp(compensation=pb.SatOpCompensation())],
    **{
        f"tag {tag!r}": [begin(), insert(U1, b"Bob", b"t", tags=(tag,))]
        for tag in ("", "x", "@1", "x@", "x@-1", "x@1@2", "x@٣", "x\n@1", "x\0@1", "x@" + "9" * 300)
    },
}


@pytest.mark.parametrize("ops", REFUSED.values(), ids=REFUSED.keys())
def test_what_breaks_the_rules_is_refused(decoder: UploadDecoder, ops: list[pb.SatTransOp]) -> None:
    uploads, error = decoder.operations(log(*ops))

    assert uploads == []
    assert error is not None


# ---- flaws -------------------------------------------------------------------------------------------------------


def flaw_of(decoder: UploadDecoder, *ops: pb.SatTransOp) -> Flaw | None:
    (upload,), error = decoder.operations(log(begin(), *ops, COMMIT))
    assert error is None
    return upload.flaw


BAD_VALUE = insert(U2, b"Bob", b"yes")
ACTIVE = Flaw("22000", "column active of table users: a value that is no bool")


def test_a_bad_value_is_a_flaw_of_its_transaction_alone(decoder: UploadDecoder) -> None:
    uploads, error = decoder.operations(
        log(begin(), GOOD, COMMIT, begin(), GOOD, BAD_VALUE, COMMIT, begin(), GOOD, COMMIT)
    )

    assert error is None
    assert [upload.flaw for upload in uploads] == [None, ACTIVE, None]
    assert [len(upload.changes) for upload in uploads] == [1, 2, 1]


def test_bad_values_stand_as_they_were_sent_so_that_the_author_can_be_put_right(decoder: UploadDecoder) -> None:
    update = pb.SatOpUpdate(row_data=row(U1.upper(), b"\xff", b"yes"), old_row_data=row(b"7", b"Bob", b"t"))
    (upload,), _ = decoder.operations(log(begin(), pb.SatTransOp(update=update), COMMIT))

    old, new = {"id": b"7", "name": b"Bob", "active": b"t"}, {"id": U1, "name": b"\xff", "active": b"yes"}
    assert upload.changes == (ClientUpdate(USERS, old, new, frozenset()),)
    assert upload.flaw == Flaw("22000", "column name of table users: a value that is no text")


def test_what_a_table_demands_of_rows_is_not_judged_here(decoder: UploadDecoder) -> None:
    delete = pb.SatTransOp(delete=pb.SatOpDelete(old_row_data=row(None, b"B", None)))
    for op in (insert(U1, None, b"t"), insert(None, b"Bob", b"t"), delete, UPDATE_KEY):
        assert flaw_of(decoder, op) is None


def test_a_table_that_was_given_up_is_a_flaw_of_what_is_written_to_it(decoder: UploadDecoder) -> None:
    tables = {"users": USERS}
    decoder.relation(relation(ITEMS, 1), tables, {"users": USERS, "items": ITEMS})

    assert flaw_of(decoder, GOOD) is None
    item = insert(U1, None, None, b"x", None, relation_id=1)
    assert flaw_of(decoder, GOOD, item) == Flaw("42P01", "table items is not shared with clients any more")
    with pytest.raises(InvalidUpload):
        decoder.relation(relation(ITEMS, 1), tables, {"users": USERS})


def test_a_table_announced_before_it_was_given_up_or_suspended_is_no_better(decoder: UploadDecoder) -> None:
    decoder.relation(relation(), TABLES)
    assert flaw_of(decoder, GOOD) is None
    why = Suspension("column name is missing", "add it")
    decoder.follow({}, {"users": why})
    assert flaw_of(decoder, GOOD) == Flaw("55000", "table users is suspended: column name is missing")
    decoder.follow({})
    assert flaw_of(decoder, GOOD) == Flaw("42P01", "table users is not shared with clients any more")
    decoder.follow(TABLES)
    assert flaw_of(decoder, GOOD) is None


def test_a_flaw_outlives_the_message_but_not_a_restart(decoder: UploadDecoder) -> None:
    decoder.operations(log(begin(), BAD_VALUE))
    (upload,), _ = decoder.operations(log(COMMIT))
    assert upload.flaw == ACTIVE
    decoder.operations(log(begin(), BAD_VALUE))
    decoder.restart()
    decoder.relation(relation(), TABLES)
    assert flaw_of(decoder, GOOD) is None


# ---- what ends the conversation ----------------------------------------------------------------------------------


def test_complete_transactions_before_a_bad_one_are_kept(decoder: UploadDecoder) -> None:
    bad = insert(U1, b"Bob")
    uploads, error = decoder.operations(log(begin(), GOOD, COMMIT, begin(b"\0\0\0\x09"), bad, COMMIT, begin(), COMMIT))

    assert [upload.lsn for upload in uploads] == [LSN]
    assert error is not None
    assert error.lsn == b"\0\0\0\x09"


def test_a_restart_forgets_relations_and_the_half_transaction(decoder: UploadDecoder) -> None:
    decoder.operations(log(begin(), GOOD))
    decoder.restart()

    _, error = decoder.operations(log(COMMIT))
    assert error is not None
    _, error = decoder.operations(log(begin(), GOOD))
    assert error is not None


def test_an_endless_transaction_is_refused(decoder: UploadDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_CHANGES", 2)
    assert decoder.operations(log(begin(), GOOD, GOOD)) == ([], None)

    _, error = decoder.operations(log(GOOD))
    assert error is not None


def test_relations_are_limited(decoder: UploadDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_RELATIONS", 1)
    decoder.relation(relation(), TABLES)  # again

    with pytest.raises(InvalidUpload, match="Too many relations"):
        decoder.relation(relation(relation_id=1), TABLES)


@pytest.mark.parametrize(
    "message",
    [
        relation(table_name="secrets"),
        relation(schema_name="leyden"),
        relation(schema_name=""),
        relation(columns=[pb.SatRelationColumn(name="id"), pb.SatRelationColumn(name="id")]),
        relation(columns=[pb.SatRelationColumn(name="id"), pb.SatRelationColumn(name="extra")]),
        relation(columns=[pb.SatRelationColumn(name="name")]),
        relation(columns=[]),
    ],
    ids=["unknown table", "other schema", "no schema", "column twice", "unknown column", "no key", "no columns"],
)
def test_a_relation_that_does_not_fit_is_refused(message: pb.SatRelation) -> None:
    with pytest.raises(InvalidUpload):
        UploadDecoder(CLIENT, USER).relation(message, TABLES)


@given(st.lists(st.sampled_from([begin(), COMMIT, GOOD, UPDATE_KEY, *(op for ops in REFUSED.values() for op in ops)])))
def test_any_sequence_is_decoded_or_refused(ops: list[pb.SatTransOp]) -> None:
    decoder = UploadDecoder(CLIENT, USER)
    decoder.relation(relation(), TABLES)
    uploads, error = decoder.operations(log(*ops))

    assert len(uploads) <= sum(op.HasField("commit") for op in ops)
    assert error is None or isinstance(error, InvalidUpload)
