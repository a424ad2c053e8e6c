from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from leyden.postgres.row_key import row_key


def test_a_key_is_a_json_array_of_texts_in_key_order() -> None:
    assert row_key((b"1", 'é"\\\n'.encode())) == '["1", "é\\"\\\\\\n"]'


@given(st.lists(st.text(), min_size=1))
def test_a_key_reads_back(values: list[str]) -> None:
    assert json.loads(row_key(tuple(value.encode() for value in values))) == values
