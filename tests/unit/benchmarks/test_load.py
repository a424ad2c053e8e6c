"""The load clients see what the service sends, however TCP cuts it, and notice what is missing."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load.client import apply
from benchmarks.load.device import Device
from benchmarks.load.inbox import Inbox, understood
from leyden.edge.websocket.socket import server_frame
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.frames import decode, encode
from raw_websocket import FrameReader, is_binary


@given(
    payloads=st.lists(st.sampled_from([0, 1, 125, 126, 127, 65_535, 65_536]).map(lambda size: b"x" * size), max_size=5),
    cuts=st.lists(st.integers(0, 200_000), max_size=8),
)
def test_frames_are_whole_wherever_they_are_cut(payloads: list[bytes], cuts: list[int]) -> None:
    wire = b"".join(map(server_frame, payloads))
    at = sorted({0, *(min(cut, len(wire)) for cut in cuts), len(wire)})
    reader = FrameReader()
    pieces = [wire[start:end] for start, end in pairwise(at)]
    found = [frame for piece in pieces for frame in reader.frames(piece)]
    assert [payload for _, payload in found] == payloads
    assert all(is_binary(first) for first, _ in found)


def row(*values: bytes) -> pb.SatOpRow:
    return pb.SatOpRow(nulls_bitmask=b"\0", values=values)


def log(*operations: pb.SatTransOp) -> bytes:
    begin = pb.SatTransOp(begin=pb.SatOpBegin(lsn=b"e-7", origin="device", transaction_id=3))
    commit = pb.SatTransOp(commit=pb.SatOpCommit(lsn=b"e-7", commit_timestamp=5))
    return encode(pb.SatOpLog(ops=[begin, *operations, commit]))


INSERT = pb.SatTransOp(insert=pb.SatOpInsert(row_data=row(b"1", b"a")))
UPDATE = pb.SatTransOp(update=pb.SatOpUpdate(row_data=row(b"1", b"b"), old_row_data=row(b"1", b"a")))
DELETE = pb.SatTransOp(delete=pb.SatOpDelete(old_row_data=row(b"1", b"b")))
GONE = pb.SatTransOp(gone=pb.SatOpGone(pk_data=row(b"1", b"")))


@pytest.mark.parametrize(
    ("operations", "rows"),
    [
        ([INSERT], {b"1": (b"1", b"a")}),
        ([INSERT, UPDATE], {b"1": (b"1", b"b")}),
        ([INSERT, UPDATE, DELETE], {}),
        ([INSERT, GONE], {}),
    ],
)
def test_rows_become_what_a_transaction_makes_of_them(
    operations: list[pb.SatTransOp], rows: dict[bytes, tuple[bytes, ...]]
) -> None:
    kept: dict[bytes, tuple[bytes, ...]] = {}
    apply(understood(log(*operations)).operations, kept)
    assert kept == rows


def test_a_transaction_is_acknowledged_with_its_own_position() -> None:
    (commit,) = Inbox().understand(log(INSERT)).commits
    assert (commit.lsn, commit.origin) == (b"e-7", "device")
    masked = commit.acknowledgement
    assert masked[2:6] == bytes(4)  # a mask that changes nothing
    assert decode(masked[6:]) == pb.SatOpLogAck(ack_timestamp=5, lsn=b"e-7", transaction_id=3)


def test_a_device_with_other_rows_than_postgres_is_noticed() -> None:
    device = Device("device", "", 1, "user", Inbox())
    apply(understood(log(INSERT)).operations, device.rows)
    assert not device.differs_from([(b"1", b"a")])
    assert device.differs_from([(b"1", b"other")])
    assert device.differs_from([])
    assert device.differs_from([(b"1", b"a"), (b"2", b"b")])
