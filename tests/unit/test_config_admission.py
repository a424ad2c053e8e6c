"""AUTH_TRUSTED_PROXIES and AUTH_ALLOWED_ORIGINS become a policy, or problems with a remedy."""

from __future__ import annotations

import ipaddress

import pytest

from leyden.config import ConfigurationError, load_settings
from leyden.edge.admission import AdmissionPolicy

SECURE = {"AUTH_JWT_ALG": "HS256", "AUTH_JWT_KEY": "correct-horse-battery-staple-0123456789"}
INSECURE = {"AUTH_MODE": "insecure"}
PUBLIC = {**INSECURE, "AUTH_INSECURE_PUBLIC": "yes"}


def policy(env: dict[str, str], *, proxies: str = "", origins: str = "") -> AdmissionPolicy:
    return load_settings({**env, "AUTH_TRUSTED_PROXIES": proxies, "AUTH_ALLOWED_ORIGINS": origins}).admission


def problem(env: dict[str, str], **lists: str) -> str:
    """The one problem there is, as printed; it quotes no entry."""
    with pytest.raises(ConfigurationError) as caught:
        policy(env, **lists)
    (found,) = caught.value.problems
    assert found.variable == ("AUTH_TRUSTED_PROXIES" if "proxies" in lists else "AUTH_ALLOWED_ORIGINS")
    assert found.remedy
    assert "secret" not in str(caught.value)
    return f"{found.message}: {found.remedy}"


def test_by_default_any_origin_may_come_and_no_proxy_is_trusted() -> None:
    assert load_settings(SECURE).admission == AdmissionPolicy()
    assert policy(SECURE, proxies=" ", origins="\t") == AdmissionPolicy()


# ---- proxies --------------------------------------------------------------------------------------------------------


def test_proxies_are_addresses_and_networks() -> None:
    trusted = policy(SECURE, proxies="127.0.0.1, 10.0.0.0/8 ,::1,fd00::/8,10.1.2.3")
    assert trusted.trusted_proxies == (
        ipaddress.ip_network("10.0.0.0/8"),
        ipaddress.ip_network("127.0.0.1/32"),
        ipaddress.ip_network("::1/128"),
        ipaddress.ip_network("fd00::/8"),
    )
    assert trusted.trusts(ipaddress.ip_address("10.255.0.1"))
    assert not trusted.trusts(ipaddress.ip_address("11.0.0.1"))
    assert not trusted.trusts(ipaddress.ip_address("::2"))


@pytest.mark.parametrize("mode", [SECURE, INSECURE, PUBLIC])
def test_proxies_go_with_every_mode(mode: dict[str, str]) -> None:
    assert policy(mode, proxies="127.0.0.1").trusted_proxies == (ipaddress.ip_network("127.0.0.1"),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10.0.0.1,secret.example", "no address and no network (entry 2)"),
        ("localhost", "no address"),
        ("10.0.0.0/33", "no address"),
        ("10.0.0.0/255.0.0.0", "no address"),
        ("010.0.0.1", "no address"),
        ("1.2.3", "no address"),
        ("fe80::1%eth0", "no address"),
        ("[::1]", "no address"),
        ("10.0.0.1:80", "no address"),
        ("*", "no address"),
        ("10.0.0.1,", "nothing in place 2"),
        (",10.0.0.1", "nothing in place 1"),
        ("10.0.0.1 10.0.0.2", "no address"),
        ("10.0.0.1/8", "bits set behind its prefix (entry 1)"),
        ("0.0.0.0/0", "strangers"),
        ("::/0", "strangers"),
        ("128.0.0.0/7", "strangers"),
        ("2000::/3", "strangers"),
        ("::ffff:10.0.0.0/104", "writes IPv4 as IPv6"),
        (",".join(["10.0.0.1"] * 257), "more than 256"),
    ],
)
def test_mistakes_in_proxies(text: str, words: str) -> None:
    assert words in problem(SECURE, proxies=text)


# ---- origins --------------------------------------------------------------------------------------------------------


def test_origins_are_kept_in_their_one_form() -> None:
    allowed = policy(
        SECURE, origins="HTTPS://App.Example:443, http://localhost:3000,capacitor://localhost,NULL,file://"
    )
    assert allowed.allowed_origins == {
        "https://app.example",
        "http://localhost:3000",
        "capacitor://localhost",
        "null",
        "file://",
    }
    assert not allowed.require_origin


@pytest.mark.parametrize("text", ["require,https://app.example", "https://app.example , Require"])
def test_an_origin_can_be_required(text: str) -> None:
    allowed = policy(SECURE, origins=text)
    assert allowed.require_origin
    assert allowed.allowed_origins == {"https://app.example"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("require", "nobody could connect"),
        ("https://app.example,", "nothing in place 2"),
        ("secret.example", "no origin (entry 1)"),
        ("https://app.example https://b.example", "no origin"),
        ("https://app.example/", "with a path (entry 1)"),
        ("https://app.example,https://secret.example/page", "with a path (entry 2)"),
        ("https://user:secret@app.example", "no origin"),
        ("*", "wildcard"),
        ("https://*.app.example", "wildcard"),
        ("wss://app.example", "names a WebSocket"),
        ("https://b\u00fccher.example", "xn--"),
        ("https://app.example:65536", "no origin"),
        ("https:app.example", "no origin"),
        (",".join(["null"] * 257), "more than 256"),
    ],
)
def test_mistakes_in_origins(text: str, words: str) -> None:
    assert words in problem(SECURE, origins=text)


# ---- insecure mode --------------------------------------------------------------------------------------------------


def test_insecure_mode_is_for_this_machine_unless_made_public_knowingly() -> None:
    assert load_settings(INSECURE).admission == AdmissionPolicy(loopback_only=True)
    assert load_settings(PUBLIC).admission == AdmissionPolicy()
    assert not load_settings({**SECURE, "AUTH_INSECURE_PUBLIC": "yes"}).admission.loopback_only


def test_a_list_narrows_insecure_mode_or_adds_an_application() -> None:
    narrowed = policy(INSECURE, origins="http://localhost:3000,tauri://localhost")
    assert narrowed.loopback_only
    assert narrowed.allowed_origins == {"http://localhost:3000", "tauri://localhost"}


@pytest.mark.parametrize(
    "origin", ["https://app.example", "null", "file://", "http://192.168.1.1", "http://localhost.example.org"]
)
def test_a_list_never_opens_insecure_mode_to_pages_from_elsewhere(origin: str) -> None:
    assert "insecure mode" in problem(INSECURE, origins=f"http://localhost:3000,{origin}")
    assert policy(PUBLIC, origins=origin).allowed_origins == {origin}


def test_mistakes_are_reported_together_with_those_of_other_variables() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings({"AUTH_TRUSTED_PROXIES": "x", "AUTH_ALLOWED_ORIGINS": "x", "HTTP_PORT": "x"})
    assert {found.variable for found in caught.value.problems} == {
        "AUTH_JWT_ALG",
        "AUTH_JWT_KEY",
        "AUTH_TRUSTED_PROXIES",
        "AUTH_ALLOWED_ORIGINS",
        "HTTP_PORT",
    }
