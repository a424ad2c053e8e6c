"""Which texts may name a user, and where they are looked for."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.auth import Refusal
from leyden.auth.user_id import find_user_id


def strict(value: object) -> str | None:
    """The refusal's code, or None."""
    try:
        find_user_id({"sub": value}, namespace=None, policy="strict")
    except Refusal as refusal:
        return refusal.code
    return None


def legacy(value: object) -> str | None:
    try:
        assert find_user_id({"sub": value}, namespace=None, policy="legacy") == value
    except Refusal as refusal:
        return refusal.code
    return None


@pytest.mark.parametrize("space", "\t\n\v\f\r \x85\xa0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000")
def test_white_space_neither_is_nor_surrounds_a_user_id(space: str) -> None:
    assert strict(space) == strict(space + "u") == strict("u" + space) == "user_invalid"
    assert legacy(space) == "user_invalid"
    assert legacy(space + "u") is None


@pytest.mark.parametrize(
    "invisible",
    "\xad\u034f\u061c\u115f\u17b4\u180b\u180e\u200b\u200e\u202a\u2060\u206f\u3164\ufe0f\ufeff\uffa0\ufff0\U000e0041\U000e01ef",
)
def test_invisible_characters_alone_name_nobody(invisible: str) -> None:
    assert strict(invisible) == strict(invisible * 3) == "user_invalid"
    assert strict("u" + invisible) is None
    assert legacy(invisible) is None


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0)])
def test_control_characters_are_refused_everywhere(code: int) -> None:
    assert strict(f"a{chr(code)}b") == "user_invalid"
    assert legacy(f"a{chr(code)}b") == ("user_invalid" if code == 0 else None)


def test_length_counts_utf8_bytes() -> None:
    assert strict("é" * 512) is None
    assert strict("é" * 512 + "e") == "user_invalid"
    assert legacy("é" * 5000) is None


@pytest.mark.parametrize("value", [0, 1, 1.5, True, [], ["u"], {}, {"id": "u"}, ""])
@pytest.mark.parametrize("judge", [strict, legacy])
def test_only_text_is_a_user_id_and_nothing_falls_through(value: object, judge: object) -> None:
    policy = "strict" if judge is strict else "legacy"
    with pytest.raises(Refusal) as caught:
        find_user_id({"sub": value, "user_id": "u"}, namespace=None, policy=policy)
    assert caught.value.code == "user_invalid"


@pytest.mark.parametrize("absent", [{}, {"sub": None}, {"sub": False}])
def test_user_id_is_read_only_when_sub_is_absent_null_or_false(absent: dict[str, object]) -> None:
    assert find_user_id({**absent, "user_id": "u"}, namespace=None, policy="strict") == "u"
    with pytest.raises(Refusal) as caught:
        find_user_id(absent, namespace=None, policy="strict")
    assert caught.value.code == "user_missing"


@pytest.mark.parametrize("inner", [None, {}, [], "u", 1, True])
def test_a_namespace_without_a_user_never_falls_back_to_the_top(inner: object) -> None:
    with pytest.raises(Refusal) as caught:
        find_user_id({"sub": "top", "ns": inner}, namespace="ns", policy="strict")
    assert caught.value.code == "user_missing"


@given(st.text())
def test_an_accepted_user_id_is_returned_verbatim(text: str) -> None:
    with contextlib.suppress(Refusal):
        assert find_user_id({"sub": text}, namespace=None, policy="strict") == text
