"""Which of a client's attempts to authenticate was made first by its process."""

from __future__ import annotations

import pytest

from leyden.edge import first_calls
from leyden.edge.first_calls import FirstCalls


def test_of_several_attempts_the_lowest_number_counts_until_replication_starts() -> None:
    calls = FirstCalls()
    assert [calls.of("c", number) for number in (5, 7, 1, 2)] == [5, 5, 1, 1]
    assert calls.of("other", 3) == 3
    calls.started("c")
    calls.started("never seen")
    assert calls.of("c", 4) == 4
    assert calls.of("other", 6) == 3


def test_only_so_many_clients_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_calls, "MOST", 2)
    calls = FirstCalls()
    for client_id in ("a", "b"):
        calls.of(client_id, 1)
    calls.of("a", 2)
    calls.of("c", 1)
    assert [calls.of(client_id, 9) for client_id in ("a", "c")] == [1, 1]
    assert calls.of("b", 9) == 9
