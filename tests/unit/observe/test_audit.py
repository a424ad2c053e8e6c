"""The audit trail: what is told of each fact, and what of a flood of refusals."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden import auth, events
from leyden.events import Event
from leyden.observe.audit import REFUSALS_PER_SECOND, AuditTrail
from leyden.observe.fields import shown
from unit.observe.facts import EXAMPLES, PEER, WHO

NOW = 1_760_000_000.0
IDENTITY = {
    "user_id": "alice",
    "client_id": "device-a",
    "issuer": "https://issuer.example",
    "alg": "ES256",
    "kid": "k1",
    "key_thumbprint": "thumb",
    "jti": "t-1",
    "exp": 1_760_000_600,
    "remaining": 600,
    "address": "203.0.113.7",
    "origin": "https://app.example",
    "user_agent": "browser/1",
    "connection": 7,
}
KEY = {"source": "AUTH_JWT_JWKS_FILE", "alg": "ES256", "kid": "k1", "key_thumbprint": "thumb"}
REFUSED = events.ClientRefused(7, "expired", "device-a", PEER)


class Lines(logging.Handler):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.levels: list[int] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))
        self.levels.append(record.levelno)

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    @property
    def kinds(self) -> list[str]:
        return [record["event"] for record in self.records]


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def trail(clock: Clock, lines: Lines) -> AuditTrail:
    """A trail through a logger that nobody configured."""
    return AuditTrail(logging.Logger("test"), now=clock, unrouted=lines, process=42)


def example(kind: type[Any]) -> Any:
    return next(event for event in EXAMPLES if type(event) is kind)


def test_there_is_an_example_of_every_fact() -> None:
    assert {type(event) for event in EXAMPLES} == set(typing.get_args(Event))


@pytest.mark.parametrize(
    ("event", "kind", "level", "fields"),
    [
        (example(events.ClientAuthenticated), "auth.accepted", "info", IDENTITY),
        (example(events.TokenRenewed), "auth.renewed", "info", IDENTITY),
        (
            example(events.ClientRefused),
            "auth.refused",
            "warning",
            {
                "reason": "expired",
                "renewal": False,
                "client_id": "device-a",
                "kid": "k9",
                "address": "203.0.113.7",
                "origin": "https://app.example",
                "user_agent": "browser/1",
                "connection": 7,
            },
        ),
        (example(events.SessionEnded), "auth.expired", "info", {"reason": "expired", **IDENTITY}),
        (
            events.SessionEnded(7, "device-a", PEER, WHO, "session_limit"),
            "auth.expired",
            "info",
            {"reason": "session_limit", **IDENTITY},
        ),
        (
            events.SessionEnded(7, "device-a", PEER, WHO, "revoked"),
            "auth.revoked",
            "warning",
            {"reason": "revoked", **IDENTITY},
        ),
        (
            events.SessionEnded(7, "device-a", PEER, WHO, "key_withdrawn"),
            "auth.revoked",
            "warning",
            {"reason": "key_withdrawn", **IDENTITY},
        ),
        (
            example(events.RateLimited),
            "auth.rate_limited",
            "warning",
            {"reason": "failures", "address": "203.0.113.7"},
        ),
        (example(auth.KeyAdded), "key.loaded", "info", KEY),
        (example(auth.KeyWithdrawn), "key.removed", "warning", KEY),
        (
            example(auth.KeySkipped),
            "key.rejected",
            "warning",
            {"reason": "is too short", "leaked": False, "source": "AUTH_JWT_JWKS_FILE", "kid": "k2"},
        ),
        (
            auth.KeySkipped("https://issuer.example/keys", None, "is a private key", leaked=True),
            "key.rejected",
            "critical",
            {"reason": "is a private key", "leaked": True, "source": "https://issuer.example/keys", "kid": None},
        ),
        (
            example(auth.KeySetRefreshed),
            "jwks.refreshed",
            "info",
            {"source": "https://issuer.example/keys", "keys": 2, "changed": True, "fresh_for": 600.0},
        ),
        (
            example(auth.KeySetFailed),
            "jwks.failed",
            "warning",
            {"reason": "status 503", "source": "https://issuer.example/keys", "retry_in": 2.0},
        ),
        (
            example(auth.KeySetStale),
            "jwks.stale",
            "error",
            {"source": "https://issuer.example/keys", "age": 86_401.0},
        ),
        (
            example(events.RevocationAdded),
            "revocation.added",
            "info",
            {"id": 3, "kind": "user", "value": "alice", "issued_before": 1_760_000_000, "exp": 1_760_090_000},
        ),
        (
            example(events.RevocationRemoved),
            "revocation.removed",
            "info",
            {"id": 3, "kind": "user", "value": "alice"},
        ),
        (
            example(events.AdminDenied),
            "admin.denied",
            "warning",
            {"reason": "scope", "name": "ops", "address": "203.0.113.7"},
        ),
        (
            example(events.AdminActed),
            "admin.action",
            "info",
            {"action": "sessions.disconnect", "target": "alice", "name": "ops", "address": "127.0.0.1"},
        ),
        (example(events.InsecureModeActive), "mode.insecure", "warning", {}),
        (
            events.AuthenticationConfigured("insecure", (), (), None, None, None, None),
            "mode.insecure",
            "warning",
            {},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_each_kind_is_told_with_its_fields(
    trail: AuditTrail, lines: Lines, event: Event, kind: str, level: str, fields: dict[str, object]
) -> None:
    trail(event)
    assert lines.records[-1] == {
        "time": "2025-10-09T08:53:20.000Z",
        "logger": "leyden.audit",
        "level": level,
        "event": kind,
        **fields,
        "process": 42,
    }
    assert lines.levels[-1] == logging.getLevelNamesMapping()[level.upper()]


def test_everything_else_is_left_to_the_log(trail: AuditTrail, lines: Lines) -> None:
    told: set[type[Any]] = set()
    for event in EXAMPLES:
        before = len(lines.lines)
        trail(event)
        if len(lines.lines) > before:
            told.add(type(event))
            assert trail.tells(event)
        else:
            assert not trail.tells(event)
    assert len(told) == 16


def test_a_token_without_an_end_has_no_remaining_lifetime(trail: AuditTrail, lines: Lines) -> None:
    trail(events.TokenRenewed(7, "device-a", PEER, dataclasses.replace(WHO, expires_at=None)))
    assert (lines.records[0]["exp"], lines.records[0]["remaining"]) == (None, None)


def test_the_remaining_lifetime_is_that_of_the_moment(trail: AuditTrail, lines: Lines, clock: Clock) -> None:
    clock.now = NOW + 599.5
    trail(example(events.ClientAuthenticated))
    clock.now = NOW + 603
    trail(example(events.SessionEnded))
    assert [record["remaining"] for record in lines.records] == [0, -3]


def test_a_first_call_from_an_address_is_a_login(trail: AuditTrail, lines: Lines) -> None:
    for name, address in (("ops", "127.0.0.1"), ("ops", "127.0.0.1"), ("ops", "203.0.113.7"), ("grafana", "127.0.0.1")):
        trail(events.AdminActed(name, address, "status.read"))
    assert lines.kinds == ["admin.login", "admin.action", "admin.action", *["admin.login", "admin.action"] * 2]
    assert {key: lines.records[0][key] for key in ("name", "address")} == {"name": "ops", "address": "127.0.0.1"}


# ---- texts from outside ---------------------------------------------------------------------------------------------


@given(st.text(alphabet=st.characters(), max_size=400))
def test_no_text_forges_a_line_or_hides_a_character(text: str) -> None:
    lines = Lines()
    trail = AuditTrail(logging.Logger("test"), now=Clock(), unrouted=lines)
    trail(events.ClientRefused(7, "expired", text, events.Peer(text, text, text), kid=text))
    (line,) = lines.lines
    assert line.isascii()
    assert line.isprintable()
    record = json.loads(line)
    for name in ("client_id", "kid", "address", "origin", "user_agent"):
        assert record[name].isprintable()
        assert record[name] == shown(text)


def test_long_texts_are_cut(trail: AuditTrail, lines: Lines) -> None:
    trail(events.ClientRefused(7, "expired", "x" * 100_000, PEER))
    assert lines.records[0]["client_id"] == "x" * 256 + "…"


@given(st.text(max_size=20), st.text(max_size=20))
def test_different_texts_are_shown_differently(one: str, other: str) -> None:
    assert (shown(one) == shown(other)) is (one == other)


# ---- floods ---------------------------------------------------------------------------------------------------------


def test_refusals_above_the_limit_become_one_line(trail: AuditTrail, lines: Lines, clock: Clock) -> None:
    for number in range(100):
        clock.now = NOW + number / 200
        trail(dataclasses.replace(REFUSED, code="expired" if number % 2 else "signature_invalid"))
    for _ in range(5):
        trail(events.RateLimited("203.0.113.7", "failures"))
        trail(events.AdminDenied("203.0.113.7", "credential"))
    assert len(lines.lines) == REFUSALS_PER_SECOND
    clock.now = NOW + 1
    trail(REFUSED)
    assert lines.kinds[REFUSALS_PER_SECOND:] == ["auth.summed", "auth.refused"]
    assert lines.records[REFUSALS_PER_SECOND] == {
        "time": "2025-10-09T08:53:21.000Z",
        "logger": "leyden.audit",
        "level": "warning",
        "event": "auth.summed",
        "since": "2025-10-09T08:53:20.000Z",
        "total": 90,
        "counts": {
            "admin.denied": {"credential": 5},
            "auth.rate_limited": {"failures": 5},
            "auth.refused": {"expired": 40, "signature_invalid": 40},
        },
        "process": 42,
    }


@pytest.mark.parametrize("later", [1.0, 3600.0, -3600.0], ids=["next second", "an hour on", "clock set back"])
def test_a_tick_tells_the_sum_when_the_flood_has_stopped(
    trail: AuditTrail, lines: Lines, clock: Clock, later: float
) -> None:
    for _ in range(REFUSALS_PER_SECOND + 3):
        trail(REFUSED)
    trail.tick()
    assert len(lines.lines) == REFUSALS_PER_SECOND
    clock.now += later
    trail.tick()
    trail.tick()
    assert lines.records[REFUSALS_PER_SECOND:] == [
        {**lines.records[-1], "event": "auth.summed", "total": 3, "counts": {"auth.refused": {"expired": 3}}}
    ]


def test_the_end_tells_what_was_summed_and_sums_no_more(trail: AuditTrail, lines: Lines) -> None:
    for _ in range(REFUSALS_PER_SECOND + 3):
        trail(REFUSED)
    trail.close()
    assert lines.records[-1]["total"] == 3
    for _ in range(REFUSALS_PER_SECOND + 3):
        trail(REFUSED)
    assert lines.kinds.count("auth.refused") == 2 * REFUSALS_PER_SECOND + 3


@given(st.lists(st.tuples(st.floats(-2, 2), st.integers(0, 60)), max_size=12))
def test_no_refusal_is_lost_or_told_twice(bursts: list[tuple[float, int]]) -> None:
    lines, clock = Lines(), Clock()
    trail = AuditTrail(logging.Logger("test"), now=clock, unrouted=lines)
    for step, number in bursts:
        clock.now += step
        trail.tick()
        for _ in range(number):
            trail(REFUSED)
    trail.close()
    assert sum(record.get("total", 1) for record in lines.records) == sum(number for _, number in bursts)


def test_accepted_tokens_are_never_summed(trail: AuditTrail, lines: Lines) -> None:
    for _ in range(3 * REFUSALS_PER_SECOND):
        trail(example(events.ClientAuthenticated))
    assert lines.kinds == ["auth.accepted"] * 3 * REFUSALS_PER_SECOND


def test_a_reason_of_no_list_is_counted_as_other(trail: AuditTrail, lines: Lines) -> None:
    for number in range(REFUSALS_PER_SECOND + 50):
        trail(dataclasses.replace(REFUSED, code=f"invented-{number}"))
    trail.close()
    assert lines.records[-1]["counts"] == {"auth.refused": {"other": 50}}


# ---- where it goes --------------------------------------------------------------------------------------------------


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger whose parent has no handler yet and wants to hear of warnings only."""
    parent = logging.getLogger("audit-parent")
    parent.propagate = False
    parent.setLevel(logging.WARNING)
    child = logging.getLogger("audit-parent.child")
    yield child
    parent.handlers.clear()
    child.setLevel(logging.NOTSET)


def test_without_a_handler_it_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    AuditTrail(logging.Logger("test"))(example(events.ClientAuthenticated))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["event"] == "auth.accepted"


def test_a_configured_handler_gets_each_line_once_and_nobody_else_does(logger: logging.Logger, lines: Lines) -> None:
    configured = Lines()
    trail = AuditTrail(logger, unrouted=lines)
    logging.getLogger("audit-parent").addHandler(configured)
    trail(example(events.ClientAuthenticated))
    assert (configured.kinds, lines.kinds) == (["auth.accepted"], [])


def test_a_handler_configured_later_takes_over(lines: Lines) -> None:
    logger, configured = logging.Logger("test"), Lines()
    trail = AuditTrail(logger, unrouted=lines)
    trail(example(events.ClientAuthenticated))
    logger.addHandler(configured)
    trail(example(events.TokenRenewed))
    assert (lines.kinds, configured.kinds) == (["auth.accepted"], ["auth.renewed"])


def test_a_quiet_parent_does_not_silence_it_but_its_own_level_does(logger: logging.Logger, lines: Lines) -> None:
    logging.getLogger("audit-parent").addHandler(lines)
    trail = AuditTrail(logger)
    trail(example(events.ClientAuthenticated))
    logger.setLevel(logging.WARNING)
    trail(example(events.ClientAuthenticated))
    trail(REFUSED)
    assert lines.kinds == ["auth.accepted", "auth.refused"]
    assert not trail.tells(example(events.ClientAuthenticated))
    assert trail.tells(REFUSED)


def test_a_stream_that_cannot_be_written_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    trail = AuditTrail(logging.Logger("test"), unrouted=logging.StreamHandler(Broken()))
    trail(example(events.ClientAuthenticated))
    trail.tick()
    trail.close()


def test_a_handler_may_pick_the_fields(lines: Lines) -> None:
    lines.setFormatter(logging.Formatter("%(levelname)s %(audit)s"))
    AuditTrail(logging.Logger("test"), unrouted=lines)(REFUSED)
    assert lines.lines[0].startswith("WARNING {'time': ")


def test_the_manual_names_every_event(trail: AuditTrail, lines: Lines) -> None:
    manual = (Path(__file__).parents[3] / "docs" / "observing.md").read_text("utf-8")
    rows = [row.split("|")[1] for row in manual.split("## Audit trail")[1].split("##")[0].splitlines() if "| `" in row]
    named = set()
    for row in rows:
        first, *others = re.findall("`([a-z_.]+)`", row)
        named |= {first, *(first.partition(".")[0] + name if name.startswith(".") else name for name in others)}
    for event in EXAMPLES:
        trail(event)
    trail(events.SessionEnded(7, "device-a", PEER, WHO, "revoked"))
    assert named == {*lines.kinds, "auth.summed"}
