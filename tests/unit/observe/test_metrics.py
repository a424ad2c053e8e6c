"""Metrics, as a scraper reads them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from leyden import auth, events
from leyden.observe import Live, Metrics
from leyden.observe.labels import REASONS
from unit.observe.facts import EXAMPLES, PEER, WHO

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(metrics: Metrics) -> Samples:
    """Value by name and labels; no series may come twice."""
    found: Samples = {}
    for family in text_string_to_metric_families(metrics.text().decode("utf-8")):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, tuple(sorted(labels.items()))))


def refused(code: str) -> events.ClientRefused:
    return events.ClientRefused(7, code, "device-a", PEER)


def test_every_fact_is_taken() -> None:
    metrics = Metrics()
    for event in EXAMPLES:
        metrics(event)
    samples(metrics)


@pytest.mark.parametrize(
    ("event", "name", "labels"),
    [
        (events.ClientAuthenticated(7, "c", PEER, WHO, None), "auth", {"outcome": "accepted", "reason": "none"}),
        (events.TokenRenewed(7, "c", PEER, WHO), "auth", {"outcome": "renewed", "reason": "none"}),
        (refused("expired"), "auth", {"outcome": "refused", "reason": "expired"}),
        (refused("client_id_taken"), "auth", {"outcome": "refused", "reason": "client_id_taken"}),
        (events.SessionEnded(7, "c", PEER, WHO, "revoked"), "auth", {"outcome": "ended", "reason": "revoked"}),
        (events.RateLimited("a", "signatures"), "rate_limited", {"limit": "signatures"}),
        (auth.KeySetRefreshed("s", 1, changed=True, fresh_for=1.0), "jwks_refresh", {"outcome": "changed"}),
        (auth.KeySetRefreshed("s", 1, changed=False, fresh_for=1.0), "jwks_refresh", {"outcome": "unchanged"}),
        (auth.KeySetFailed("s", "r", 1.0), "jwks_refresh", {"outcome": "failed"}),
        (auth.KeySkipped("s", None, "r", leaked=True), "key_changes", {"change": "leaked"}),
        (events.HandshakeDenied(PEER, 429, "r"), "handshakes_denied", {"status": "429"}),
        (events.AdminActed("n", "a", "status.read"), "admin_calls", {"outcome": "acted"}),
        (events.AdminDenied("a", "credential"), "admin_calls", {"outcome": "denied_credential"}),
        (events.ClientConnected(7, PEER, "electric.0.12"), "connections_opened", {}),
        (events.ClientDisconnected(7, 4000, "r"), "connections_closed", {"code": "4000"}),
        (events.UploadApplied("c", 3), "uploads", {"outcome": "applied"}),
        (events.UploadRefused("c", "23505"), "uploads", {"outcome": "refused"}),
        (events.ReplicationInterrupted("r", 1.0), "replication_interruptions", {}),
        (events.DatabaseUnavailable("r", 1.0), "database_outages", {}),
        (events.UnexpectedError("w", "t"), "unexpected_errors", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_fact_is_counted_once_from_zero(event: events.Event, name: str, labels: dict[str, str]) -> None:
    metrics = Metrics()
    assert value(metrics, f"leyden_{name}_total", **labels) == 0
    before = samples(metrics)
    metrics(event)
    after = samples(metrics)
    assert value(metrics, f"leyden_{name}_total", **labels) == 1
    changed = {key for key in after if after[key] != before.get(key) and not key[0].startswith("process_")}
    counters = {key[0] for key in changed if key[0].endswith("_total")}
    assert counters - {"leyden_uploaded_changes_total"} == {f"leyden_{name}_total"}


def test_what_others_send_never_becomes_a_label() -> None:
    metrics = Metrics()
    for event in EXAMPLES:
        metrics(event)
    series = set(samples(metrics))
    marked = events.Peer("mallory-address", "mallory-origin", "mallory-agent")
    who = events.Credentials("mallory", "mallory", "mallory", "mallory", "mallory", "mallory", 1.0)
    for number in range(50):
        metrics(dataclasses.replace(refused(f"mallory-{number}"), peer=marked, client_id="mallory"))
        metrics(events.ClientAuthenticated(number, "mallory", marked, who, 0.001))
        metrics(events.ClientDisconnected(number, 3_000 + number, "mallory"))
        metrics(events.HandshakeDenied(marked, 500 + number, "mallory"))
        metrics(events.UploadRefused("mallory", f"{number:05}"))
        metrics(events.AdminDenied("mallory", f"mallory-{number}", "mallory"))
    assert "mallory" not in metrics.text().decode()
    assert value(metrics, "leyden_auth_total", outcome="refused", reason="other") == 50
    new = {name for name, _ in set(samples(metrics)) - series}
    assert len(set(samples(metrics)) - series) <= 20, new


def test_signature_checks_are_timed_by_algorithm_unless_the_verdict_was_remembered() -> None:
    metrics = Metrics()
    metrics(events.ClientAuthenticated(1, "c", PEER, WHO, 0.0002))
    metrics(events.ClientAuthenticated(2, "c", PEER, WHO, None))
    assert value(metrics, "leyden_auth_verify_seconds_count", alg="ES256") == 1
    assert value(metrics, "leyden_auth_verify_seconds_bucket", alg="ES256", le="0.00025") == 1
    assert value(metrics, "leyden_auth_verify_seconds_bucket", alg="ES256", le="0.0001") == 0


def test_the_age_of_a_key_set_grows_until_it_is_read_again() -> None:
    now = 1_000.0
    metrics = Metrics(now=lambda: now)
    metrics(auth.KeySetRefreshed("file", 1, changed=True, fresh_for=None))
    assert value(metrics, "leyden_jwks_age_seconds") is None
    metrics(auth.KeySetRefreshed("https://issuer.example", 1, changed=True, fresh_for=600.0))
    now = 1_090.0
    metrics(auth.KeySetFailed("https://issuer.example", "status 503", 1.0))
    assert value(metrics, "leyden_jwks_age_seconds") == 90
    metrics(auth.KeySetRefreshed("https://issuer.example", 1, changed=False, fresh_for=600.0))
    assert value(metrics, "leyden_jwks_age_seconds") == 0


def test_sessions_are_sorted_by_what_is_left_to_them_at_the_scrape() -> None:
    now = 1_000.0
    deadlines: list[float | None] = [990.0, 1_059.0, 1_060.0, 1_299.0, 4_000.0, 80_000.0, 10.0**11, None]
    metrics = Metrics(Live(deadlines=lambda: deadlines), now=lambda: now)

    def numbers() -> list[float | None]:
        names = ("under_1m", "under_5m", "under_15m", "under_1h", "under_1d", "longer", "unlimited")
        return [value(metrics, "leyden_sessions_by_deadline", remaining=name) for name in names]

    assert numbers() == [2, 2, 0, 1, 1, 1, 1]
    now = 4_000.0
    deadlines.pop()
    assert numbers() == [5, 0, 0, 0, 1, 1, 0]


def test_the_running_service_is_asked_at_the_scrape() -> None:
    metrics = Metrics(Live(connections=lambda: 3, position=lambda: 2**40, ready=lambda: True, suspended=lambda: 2))
    assert value(metrics, "leyden_connections") == 3
    assert value(metrics, "leyden_replication_position") == 2**40
    assert value(metrics, "leyden_ready") == 1
    assert value(metrics, "leyden_suspended_tables") == 2


def test_revocations_and_their_lag() -> None:
    now = 1_000.0
    metrics = Metrics(now=lambda: now)
    metrics(events.RevocationsRead(4, 0.25))
    metrics(events.RevocationsRead(5, None))
    now = 1_007.0
    assert value(metrics, "leyden_revocation_lag_seconds") == 0.25
    assert value(metrics, "leyden_revocations") == 5
    assert value(metrics, "leyden_revocations_age_seconds") == 7


@pytest.mark.parametrize(("mode", "number"), [("secure", 0), ("insecure", 1)])
def test_insecure_mode_is_seen(mode: str, number: int) -> None:
    metrics = Metrics()
    metrics(events.AuthenticationConfigured(mode, (), (), None, None, None, None))
    assert value(metrics, "leyden_insecure_mode") == number


def test_two_services_in_one_process_count_for_themselves() -> None:
    one, other = Metrics(), Metrics()
    one(refused("expired"))
    assert value(other, "leyden_auth_total", outcome="refused", reason="expired") == 0


def test_documented_refusals_are_on_the_list_of_reasons() -> None:
    manual = (Path(__file__).parents[3] / "docs" / "secure-mode.md").read_text("utf-8")
    rows = manual.split("| Code | What to do |")[1].splitlines()
    codes = {code for row in rows if row.startswith("| `") for code in row.split("|")[1].replace("`", "").split(",")}
    assert len(codes) > 20
    assert {code.strip() for code in codes} <= REASONS


def test_the_manual_names_every_metric_and_no_other() -> None:
    manual = (Path(__file__).parents[3] / "docs" / "observing.md").read_text("utf-8").split("## Metrics")[1]
    rows = [row.split("|")[1] for row in manual.splitlines() if row.startswith("| `")]
    named = {f"leyden_{name}" for row in rows for name in re.findall("`([a-z_]+)`", row)}
    metrics = Metrics(now=lambda: 0.0)
    for event in EXAMPLES:
        metrics(event)
    types = re.findall(r"^# TYPE (leyden_\S+) \S+$", metrics.text().decode(), re.MULTILINE)
    assert set(types) == named
