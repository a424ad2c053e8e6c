"""When a live connection has to end, and who else is left alone. The clock is a number the test sets."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from leyden.auth import Identity, Revocation, RevocationList
from leyden.edge.access.sessions import WITHDRAWAL_GRACE, Sessions
from leyden.events import SessionEnd

NOW = 1_760_000_000


class Clock:
    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


class Connection:
    """A live connection that remembers what was done to it."""

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.ended: list[SessionEnd] = []
        self.gave_way = False

    def end_session(self, cause: SessionEnd) -> None:
        self.ended.append(cause)

    def give_way(self) -> None:
        self.gave_way = True


def identity(
    user: str = "alice", lifetime: float | None = 600, key: str | None = "key-1", **changes: object
) -> Identity:
    return replace(
        Identity(
            user_id=user,
            claims={},
            expires_at=None if lifetime is None else NOW + lifetime,
            issued_at=NOW - 60,
            issuer=None,
            jti=None,
            algorithm="ES256",
            kid=None,
            key_thumbprint=key,
            leeway=2,
        ),
        **changes,  # type: ignore[arg-type]
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def register(clock: Clock) -> Sessions:
    return Sessions(clock=clock)


# ---- expiry ---------------------------------------------------------------------------------------------------------


def test_a_session_ends_with_the_first_second_in_which_its_token_would_be_refused(
    register: Sessions, clock: Clock
) -> None:
    short, long = Connection("short"), Connection("long")
    register.enter(short, "short", identity(lifetime=10))
    register.enter(long, "long", identity(lifetime=1000))
    clock.now = NOW + 12.999
    register.expire()
    assert short.ended == []
    clock.now = NOW + 13
    register.expire()
    register.expire()
    assert (short.ended, long.ended) == (["expired"], [])
    assert [session.connection for session in register] == [long]


def test_a_clock_that_jumps_ahead_ends_all_that_it_passed(register: Sessions, clock: Clock) -> None:
    connections = [Connection(str(number)) for number in range(20)]
    for number, connection in enumerate(connections):
        register.enter(connection, connection.client_id, identity(lifetime=number * 100))
    clock.now = NOW + 1000
    register.expire()
    assert [bool(connection.ended) for connection in connections] == [number < 10 for number in range(20)]


def test_a_session_has_a_longest_life_whatever_its_token(clock: Clock) -> None:
    register = Sessions(max_session=30, clock=clock)
    endless, brief = Connection("endless"), Connection("brief")
    entry = register.enter(endless, "endless", identity(lifetime=None))
    register.enter(brief, "brief", identity(lifetime=5))
    register.renew(entry, identity(lifetime=10_000))  # renewal does not prolong it
    clock.now = NOW + 30
    register.expire()
    assert (endless.ended, brief.ended) == (["session_limit"], ["expired"])


@pytest.mark.parametrize(("lifetime", "ended"), [(1000, []), (5, ["expired"])])
def test_renewal_moves_the_end_either_way(lifetime: float, ended: list[str], register: Sessions, clock: Clock) -> None:
    connection = Connection("a")
    entry = register.enter(connection, "a", identity(lifetime=100))
    register.renew(entry, identity(lifetime=lifetime))
    clock.now = NOW + 50
    register.expire()
    assert connection.ended == ended
    clock.now = NOW + 200  # when the first token would have been over
    register.expire()
    assert connection.ended == ended


def test_a_renewal_after_the_end_brings_the_session_back(register: Sessions, clock: Clock) -> None:
    connection = Connection("a")
    entry = register.enter(connection, "a", identity(lifetime=1))
    clock.now = NOW + 4
    register.expire()
    register.renew(entry, identity(lifetime=100))
    clock.now = NOW + 103
    register.expire()
    assert connection.ended == ["expired", "expired"]


def test_the_register_does_not_grow_with_renewals_or_with_sessions_that_are_gone(
    register: Sessions, clock: Clock
) -> None:
    entry = register.enter(Connection("a"), "a", identity(lifetime=1e9))
    for number in range(2_000):
        register.renew(entry, identity(lifetime=1e9 + number))
        gone = register.enter(Connection("b"), "b", identity(lifetime=1e9))
        register.leave(gone)
    assert len(register._due) < 200
    clock.now = NOW + 2e9
    register.expire()
    assert len(register) == 0


# ---- clients --------------------------------------------------------------------------------------------------------


def test_a_newer_connection_of_a_client_replaces_the_older(register: Sessions) -> None:
    older, newer = Connection("a"), Connection("a")
    assert register.make_way("a", identity().user_id)
    first = register.enter(older, "a", identity())
    assert register.make_way("a", identity().user_id)
    register.enter(newer, "a", identity())
    assert (older.gave_way, newer.gave_way) == (True, False)
    register.leave(first)
    register.renew(first, identity())  # too late
    assert [session.connection for session in register] == [newer]
    assert register.make_way("a", identity().user_id)
    assert newer.gave_way


def test_nobody_gives_way_to_another_user(register: Sessions) -> None:
    alice = Connection("a")
    register.enter(alice, "a", identity("alice"))
    assert not register.make_way("a", "mallory")
    assert not alice.gave_way
    assert [session.connection for session in register] == [alice]


# ---- revocation -----------------------------------------------------------------------------------------------------


def revocations(kind: str, value: str | None, issued_before: int | None = None) -> RevocationList:
    entry = Revocation(
        id=1,
        kind=kind,
        value=value,
        issued_before=issued_before,
        created_at=NOW,
        expires_at=NOW + 3600,  # type: ignore[arg-type]
    )
    return RevocationList([entry])


@pytest.mark.parametrize(
    "forbidden",
    [
        revocations("user", "mallory"),
        revocations("user", "mallory", NOW),
        revocations("jti", "token-7"),
        revocations("key", "key-7"),
    ],
    ids=["user", "user issued before", "jti", "key"],
)
def test_a_revocation_ends_whom_it_names_and_nobody_else(forbidden: RevocationList, register: Sessions) -> None:
    mallory, alice = Connection("m"), Connection("a")
    register.enter(mallory, "m", identity("mallory", jti="token-7", key="key-7"))
    register.enter(alice, "a", identity("alice", jti="token-1"))
    register.revoke(forbidden)
    register.revoke(forbidden)
    assert (mallory.ended, alice.ended) == (["revoked"], [])


def test_all_that_was_issued_before_a_moment_ends(register: Sessions) -> None:
    before, after = Connection("b"), Connection("a")
    register.enter(before, "b", identity(issued_at=NOW - 10))
    register.enter(after, "a", identity(issued_at=NOW - 9))
    register.revoke(revocations("all", None, NOW - 10))
    assert (before.ended, after.ended) == (["revoked"], [])


# ---- withdrawn keys -------------------------------------------------------------------------------------------------


def test_what_a_withdrawn_key_vouched_for_ends_after_a_grace_period(register: Sessions, clock: Clock) -> None:
    old, new = Connection("old"), Connection("new")
    register.enter(old, "old", identity(key="key-1"))
    register.enter(new, "new", identity(key="key-2"))
    register.withdraw_keys({"key-2"})
    clock.now += WITHDRAWAL_GRACE / 2
    register.withdraw_keys({"key-2"})  # does not start the period anew
    register.expire()
    assert old.ended == []
    clock.now = NOW + WITHDRAWAL_GRACE
    register.expire()
    assert (old.ended, new.ended) == (["key_withdrawn"], [])


def test_a_renewal_with_a_trusted_key_saves_the_session(register: Sessions, clock: Clock) -> None:
    connection = Connection("a")
    entry = register.enter(connection, "a", identity(key="key-1"))
    register.withdraw_keys({"key-2"})
    register.renew(entry, identity(key="key-2"))
    clock.now = NOW + WITHDRAWAL_GRACE
    register.expire()
    assert connection.ended == []


def test_a_key_that_comes_back_in_time_is_as_if_it_had_stayed(register: Sessions, clock: Clock) -> None:
    connection = Connection("a")
    register.enter(connection, "a", identity(key="key-1"))
    register.withdraw_keys(set())
    register.withdraw_keys({"key-1"})
    clock.now = NOW + WITHDRAWAL_GRACE
    register.expire()
    assert connection.ended == []


def test_sessions_that_no_key_vouched_for_are_left_alone(register: Sessions, clock: Clock) -> None:
    connection = Connection("insecure")
    register.enter(connection, "insecure", identity(lifetime=None, key=None))
    register.withdraw_keys(set())
    clock.now = NOW + 10 * WITHDRAWAL_GRACE
    register.expire()
    assert connection.ended == []
    assert math.isinf(next(iter(register)).deadline)
