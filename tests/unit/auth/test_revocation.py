"""Which tokens a list of revocations refuses."""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import count
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.auth import (
    DEFAULT_REVOCATION_LIFETIME,
    Identity,
    InvalidRevocation,
    Refusal,
    Revocation,
    RevocationKind,
    RevocationList,
    check_revocation,
    revocation_lifetime,
)

NOW = 1_760_000_000
LATER = NOW + 3600
THUMBPRINT = "gRn3Vh8GJYmkn1hjkMaXnSmDl0tBC7wXSzBFxkNeXW4"

_ids = count(1)


def identity(
    user_id: str = "alice",
    issued_at: float | None = NOW - 60,
    jti: str | None = "token-1",
    key: str | None = THUMBPRINT,
) -> Identity:
    return Identity(
        user_id=user_id,
        claims=MappingProxyType({}),
        expires_at=NOW + 600,
        issued_at=issued_at,
        issuer=None,
        jti=jti,
        algorithm="ES256",
        kid=None,
        key_thumbprint=key,
        leeway=2,
    )


def entry(
    kind: RevocationKind, value: str | None = None, issued_before: int | None = None, expires_at: int = LATER
) -> Revocation:
    return Revocation(next(_ids), kind, value, issued_before, NOW - 1.5, expires_at)


def refuses(entries: Iterable[Revocation], who: Identity, now: float = NOW) -> bool:
    try:
        RevocationList(entries).check(who, now)
    except Refusal as refusal:
        return refusal.code == "revoked"
    return False


def test_an_empty_list_refuses_nobody() -> None:
    assert not refuses([], identity())


@pytest.mark.parametrize(
    "one",
    [entry("user", "alice"), entry("jti", "token-1"), entry("key", THUMBPRINT), entry("all", issued_before=NOW)],
    ids=lambda one: one.kind,
)
def test_each_kind_refuses_what_it_names_and_nobody_else(one: Revocation) -> None:
    assert refuses([one], identity())
    stranger = identity("bob", NOW + 1, "token-2", THUMBPRINT[::-1])
    assert not refuses([one], stranger)
    assert not refuses([one], identity("bob", NOW + 1, jti=None, key=None))


def test_kinds_are_not_mixed_up() -> None:
    everywhere = identity("same", NOW + 1, jti="other", key=THUMBPRINT)
    assert not refuses([entry("jti", "same"), entry("key", "same" * 10 + "xyz")], everywhere)
    assert not refuses([entry("user", THUMBPRINT), entry("user", "other")], everywhere)


@pytest.mark.parametrize(("issued_at", "refused"), [(NOW - 1, True), (NOW, True), (NOW + 0.9, True), (NOW + 1, False)])
def test_tokens_of_the_named_second_are_revoked_with_those_before(issued_at: float, refused: bool) -> None:
    for one in (entry("user", "alice", NOW), entry("all", issued_before=NOW)):
        assert refuses([one], identity(issued_at=issued_at)) is refused


def test_a_token_that_does_not_say_when_it_was_issued_counts_as_issued_before() -> None:
    for one in (entry("user", "alice", 1), entry("all", issued_before=1)):
        assert refuses([one], identity(issued_at=None))
        assert not refuses([one], identity(issued_at=2))


def test_an_entry_ends_with_its_last_second() -> None:
    one = [entry("user", "alice")]
    assert refuses(one, identity(), LATER - 0.001)
    assert not refuses(one, identity(), LATER)


def test_an_entry_past_its_time_does_not_hide_another() -> None:
    past = [entry("user", "alice", expires_at=NOW), entry("user", "alice", NOW + 100, expires_at=NOW)]
    assert refuses([*past, entry("user", "alice", NOW)], identity(issued_at=NOW))
    assert not refuses([*past, entry("user", "alice", NOW)], identity(issued_at=NOW + 1))


@pytest.mark.parametrize("other", ["Alice", "alice ", "аlice", "alice\u200b", "ａlice"])
def test_users_are_told_apart_by_code_points(other: str) -> None:
    assert not refuses([entry("user", "alice")], identity(other))
    assert refuses([entry("user", other)], identity(other))


def test_composed_and_decomposed_forms_are_different_users() -> None:
    assert not refuses([entry("user", "\u00e9")], identity("e\u0301"))


def test_the_message_says_which_kind_and_entry_but_no_values() -> None:
    for one, words in [
        (entry("user", "alice"), "all tokens of the user were revoked"),
        (entry("user", "alice", NOW), "all tokens of the user issued up to 2025-10-09T08:53:20Z were revoked"),
        (entry("jti", "token-1"), "this token was revoked by its jti"),
        (entry("key", THUMBPRINT), "the key that signed the token was revoked"),
        (entry("all", issued_before=NOW), "all tokens issued up to 2025-10-09T08:53:20Z were revoked"),
    ]:
        others = [entry("user", "mallory"), entry("jti", "secret-jti")]
        with pytest.raises(Refusal) as caught:
            RevocationList([*others, one]).check(identity(), NOW)
        assert caught.value.message == f"{words} (revocation {one.id})"


# ---- against a naive model ------------------------------------------------------------------------------------------

_VALUES = st.sampled_from(["a", "b", "A", "é", "e\u0301", ""])
_TIMES = st.integers(0, 12)
_KINDS: st.SearchStrategy[RevocationKind] = st.sampled_from(["user", "jti", "key", "all"])


@st.composite
def _entries(draw: st.DrawFn, id: st.SearchStrategy[int]) -> Revocation:
    kind = draw(_KINDS)
    issued_before = draw(st.none() | _TIMES) if kind == "user" else draw(_TIMES) if kind == "all" else None
    value = None if kind == "all" else draw(_VALUES)
    return Revocation(draw(id), kind, value, issued_before, draw(_TIMES), draw(_TIMES))


def _lists(id: st.SearchStrategy[int]) -> st.SearchStrategy[list[Revocation]]:
    return st.lists(_entries(id), max_size=12, unique_by=lambda one: one.id)


_identities = st.builds(
    identity,
    _VALUES,
    st.none() | _TIMES | st.floats(0, 12),
    st.none() | _VALUES,
    st.none() | _VALUES,
)


def _is_hit(one: Revocation, who: Identity, now: float) -> bool:
    named = {"user": who.user_id, "jti": who.jti, "key": who.key_thumbprint, "all": None}[one.kind]
    in_reach = one.issued_before is None or who.issued_at is None or int(who.issued_at) <= one.issued_before
    return now < one.expires_at and in_reach and (one.kind == "all" or one.value == named)


@given(_lists(st.integers(1, 1000)), _identities, st.floats(0, 13))
def test_a_list_refuses_exactly_whom_some_entry_hits(entries: list[Revocation], who: Identity, now: float) -> None:
    found = RevocationList(entries).matching(who, now)
    hits = [one for one in entries if _is_hit(one, who, now)]
    assert (found in hits) if hits else found is None
    assert refuses(entries, who, now) is bool(hits)


@given(st.data())
def test_a_changed_list_is_the_list_of_what_remains(data: st.DataObject) -> None:
    ids = st.integers(1, 12)
    before = data.draw(_lists(ids))
    removed = data.draw(st.lists(st.integers(0, 13)))
    added = data.draw(st.lists(_entries(ids), max_size=8))
    old = RevocationList(before)
    new = old.changed(removed, added)
    model = {one.id: one for one in before if one.id not in removed} | {one.id: one for one in added}
    assert {one.id: one for one in new} == model
    assert len(new) == len(model)
    for _ in range(5):
        who, now = data.draw(_identities), data.draw(_TIMES)
        hits = [one for one in model.values() if _is_hit(one, who, now)]
        found = new.matching(who, now)
        assert (found in hits) if hits else found is None
        was_hit = any(_is_hit(one, who, now) for one in before)
        assert (old.matching(who, now) is not None) is was_hit


def test_asking_a_long_list_takes_no_longer_than_asking_a_short_one() -> None:
    def cost(entries: list[Revocation]) -> float:
        """Seconds for many questions, the quickest of several rounds."""
        asked, who = RevocationList(entries), identity(issued_at=NOW + 1)
        rounds = []
        for _ in range(5):
            started = time.perf_counter()
            for _ in range(2_000):
                assert asked.matching(who, NOW) is None
            rounds.append(time.perf_counter() - started)
        return min(rounds)

    short = [entry("user", "bob"), entry("user", "alice", NOW), entry("all", issued_before=NOW)]
    others = [entry("user" if number % 2 else "jti", f"other-{number}") for number in range(30_000)]
    same = [entry("user", "alice", NOW - number) for number in range(10_000)]
    # A factor of hundreds would tell of a search; the machine's own noise stays far below.
    assert cost(short + others + same) < 20 * cost(short)


# ---- what makes sense -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "issued_before"),
    [
        ("user", "alice", None),
        ("user", "alice", NOW),
        ("user", "é" * 8192, None),
        ("jti", " ", None),
        ("key", THUMBPRINT, None),
        ("all", None, 0),
    ],
)
def test_sensible_entries_pass(kind: RevocationKind, value: str | None, issued_before: int | None) -> None:
    check_revocation(kind, value, issued_before, 1)


@pytest.mark.parametrize(
    ("kind", "value", "issued_before", "lifetime"),
    [
        ("nobody", "alice", None, 60),
        ("user", None, None, 60),
        ("user", "", None, 60),
        ("user", "a\0b", None, 60),
        ("user", "\ud800", None, 60),
        ("user", "é" * 8193, None, 60),
        ("user", "alice", -1, 60),
        ("user", "alice", NOW * 1000, 60),
        ("jti", "x", NOW, 60),
        ("key", THUMBPRINT, NOW, 60),
        ("key", THUMBPRINT[1:], None, 60),
        ("key", THUMBPRINT + "\n", None, 60),
        ("key", "ß" * 43, None, 60),
        ("all", None, None, 60),
        ("all", "alice", NOW, 60),
        ("user", "alice", None, 0),
        ("user", "alice", None, -1),
        ("user", "alice", None, 101 * 366 * 86_400),
    ],
)
def test_senseless_entries_are_refused(
    kind: RevocationKind, value: str | None, issued_before: int | None, lifetime: int
) -> None:
    with pytest.raises(InvalidRevocation) as caught:
        check_revocation(kind, value, issued_before, lifetime)
    assert "alice" not in caught.value.message


def test_an_entry_outlives_the_longest_token() -> None:
    assert revocation_lifetime(0) == revocation_lifetime(300) == DEFAULT_REVOCATION_LIFETIME == 25 * 3600
    week = 7 * 86_400
    assert revocation_lifetime(week) > week + 60
    check_revocation("user", "alice", None, revocation_lifetime(100 * 366 * 86_400))
