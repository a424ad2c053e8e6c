"""``Origin`` and ``Host`` against the policy: who passes, who gets a 403."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.edge.admission import (
    AdmissionPolicy,
    HandshakeRefused,
    InvalidOrigin,
    is_application_origin,
    is_loopback_host,
    is_loopback_origin,
    normal_origin,
)

APP = "https://app.example"


def passes(policy: AdmissionPolicy, *headers: tuple[str, str]) -> bool:
    try:
        policy.require_permitted([(name.encode(), value.encode("latin-1")) for name, value in headers])
    except HandshakeRefused as refusal:
        if refusal.status != 403:
            raise
        return False
    return True


# ---- the form -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("https://app.example", "https://app.example"),
        ("HTTPS://App.Example", "https://app.example"),
        ("https://app.example:443", "https://app.example"),
        ("https://app.example:0443", "https://app.example"),
        ("http://app.example:80", "http://app.example"),
        ("http://app.example:443", "http://app.example:443"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("http://[0:0:0:0:0:0:0:1]", "http://[::1]"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("capacitor://localhost:443", "capacitor://localhost:443"),
        ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ("app://.", "app://."),
        ("file://", "file://"),
        ("null", "null"),
    ],
)
def test_an_origin_has_one_form(text: str, normal: str) -> None:
    assert normal_origin(text) == normal
    assert normal_origin(normal) == normal


@pytest.mark.parametrize(
    "text",
    [
        "",
        "app.example",
        "https://",
        "https://app.example/",
        "https://app.example?",
        "https://user@app.example",
        "https://app.example:",
        "https://app.example:65536",
        "https://app.example:x",
        "https://app.example https://app.example",
        "https://app.example\n",
        "https://[app.example]",
        "https://[::1",
        "https://b\u00fccher.example",
        "https://\u212aelvin.example",  # lower-cased, it would be kelvin.example
        "NULL",
        "//app.example",
        "https://" + "a" * 300,
    ],
)
def test_what_is_no_origin_has_none(text: str) -> None:
    with pytest.raises(InvalidOrigin):
        normal_origin(text)


@given(st.text(alphabet="abcX019.:/[]@?#%-_~ \t\u212a", max_size=40))
def test_the_form_of_the_form_is_itself(text: str) -> None:
    try:
        normal = normal_origin("https://" + text)
    except InvalidOrigin:
        return
    assert normal_origin(normal) == normal
    assert normal.startswith("https://")


# ---- any, exact, required -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", [APP, "https://evil.example", "null", "nonsense"])
def test_without_a_list_every_origin_passes(origin: str) -> None:
    assert passes(AdmissionPolicy(), ("host", "sync.example"), ("origin", origin))


LISTED = AdmissionPolicy(allowed_origins=frozenset({APP, "capacitor://localhost", "http://localhost:3000"}))


@pytest.mark.parametrize(
    "origin", [APP, "https://APP.example", "https://app.example:443", "capacitor://localhost", "http://localhost:3000"]
)
def test_a_listed_origin_passes(origin: str) -> None:
    assert passes(LISTED, ("origin", origin))


@pytest.mark.parametrize(
    "origin",
    [
        "http://app.example",
        "https://app.example:444",
        "https://app.example.evil.example",
        "https://evil.app.example",
        "https://app.example.",
        "https://app.example/",
        "https://app.example@evil.example",
        f"{APP} https://evil.example",
        f"{APP},https://evil.example",
        "capacitor://localhost:8080",
        "http://localhost",
        "null",
        "",
        "file://",
        "https://\xe4pp.example",
    ],
)
def test_an_origin_that_is_not_listed_is_refused(origin: str) -> None:
    assert not passes(LISTED, ("origin", origin))


def test_two_origins_are_refused_though_both_are_listed() -> None:
    assert not passes(LISTED, ("origin", APP), ("origin", APP))


def test_null_passes_when_it_is_listed() -> None:
    assert passes(AdmissionPolicy(allowed_origins=frozenset({"null"})), ("origin", "null"))


def test_programs_without_an_origin_pass_unless_one_is_required() -> None:
    assert passes(LISTED)
    required = AdmissionPolicy(allowed_origins=frozenset({APP}), require_origin=True)
    assert not passes(required)
    assert passes(required, ("origin", APP))


def test_a_policy_that_nobody_could_satisfy_is_none() -> None:
    with pytest.raises(ValueError, match="nobody"):
        AdmissionPolicy(require_origin=True)


# ---- this machine only ----------------------------------------------------------------------------------------------

LOCAL = ("host", "localhost:5133")
LOOPBACK = AdmissionPolicy(loopback_only=True)


@pytest.mark.parametrize(
    "headers",
    [
        [LOCAL],
        [("host", "127.0.0.1:5133")],
        [("host", "[::1]:5133")],
        [LOCAL, ("origin", "http://localhost:3000")],
        [LOCAL, ("origin", "https://127.0.0.1")],
    ],
)
def test_insecure_mode_serves_this_machine(headers: list[tuple[str, str]]) -> None:
    assert passes(LOOPBACK, *headers)


@pytest.mark.parametrize(
    "headers",
    [
        [LOCAL, ("origin", "https://evil.example")],
        [LOCAL, ("origin", "null")],
        [LOCAL, ("origin", "file://")],
        [LOCAL, ("origin", "capacitor://localhost")],
        [LOCAL, ("origin", "http://localhost.evil.example")],
        [LOCAL, ("origin", "http://localhost@evil.example")],
        [LOCAL, ("origin", "http://localhost"), ("origin", "http://evil.example")],
        [("host", "evil.example:5133")],
        [("host", "evil.example:5133"), ("origin", "http://evil.example:5133")],
        [LOCAL, ("host", "evil.example")],
        [],
    ],
)
def test_insecure_mode_refuses_foreign_pages_and_names(headers: list[tuple[str, str]]) -> None:
    assert not passes(LOOPBACK, *headers)


def test_a_list_narrows_insecure_mode_and_leaves_the_rule_on_names() -> None:
    policy = AdmissionPolicy(allowed_origins=frozenset({"http://localhost:3000"}), loopback_only=True)
    assert passes(policy, LOCAL, ("origin", "http://localhost:3000"))
    assert passes(policy, LOCAL)
    assert not passes(policy, LOCAL, ("origin", "http://localhost:4000"))
    assert not passes(policy, ("host", "evil.example"), ("origin", "http://localhost:3000"))
    assert not passes(policy, ("host", "evil.example"))


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "app.localhost", "127.8.8.8", "[::1]"])
def test_loopback_hosts(host: str) -> None:
    assert is_loopback_host(host)


@pytest.mark.parametrize(
    "host", ["", "localhost:x", "a@localhost", "localhost/x", "localhost#x", "0.0.0.0", "10.0.0.1", "[::1", "::1\n"]
)
def test_hosts_that_only_look_like_it(host: str) -> None:
    assert not is_loopback_host(host)


def test_pages_of_this_machine_and_applications_are_told_from_pages_of_elsewhere() -> None:
    assert is_loopback_origin("http://localhost:3000")
    assert is_application_origin("tauri://localhost")
    for origin in ("null", "file://", "file://host", "https://app.example", "ws://app.example"):
        assert not is_loopback_origin(origin)
        assert not is_application_origin(origin)
