from __future__ import annotations

from leyden.memo import Memo


def test_what_is_lacking_is_made_once() -> None:
    asked: list[int] = []

    def double(number: int) -> int:
        asked.append(number)
        return 2 * number

    memo = Memo(double)

    assert [*map(memo.__getitem__, [1, 2, 1])] == [2, 4, 2]
    assert asked == [1, 2]


def test_it_never_holds_more_than_it_may() -> None:
    memo: Memo[int, str] = Memo(str, most=3)

    assert [memo[number] for number in range(10)] == [*map(str, range(10))]
    assert len(memo) <= 3
