"""Which URLs keys may be fetched from, and what is read out of them."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.auth import FetchFailed
from leyden.auth.issuer.location import Location, locate


@pytest.mark.parametrize(
    ("url", "location", "authority"),
    [
        ("https://a.example/jwks", Location("https", "a.example", 443, "/jwks"), "a.example"),
        ("HTTPS://A.Example:8443/Jwks?x=1&y", Location("https", "a.example", 8443, "/Jwks?x=1&y"), "a.example:8443"),
        ("https://a.example", Location("https", "a.example", 443, "/"), "a.example"),
        ("https://a.example?tenant=1", Location("https", "a.example", 443, "/?tenant=1"), "a.example"),
        ("https://a.example:443/", Location("https", "a.example", 443, "/"), "a.example"),
        ("http://localhost:80/", Location("http", "localhost", 80, "/"), "localhost"),
        ("https://my_service/a@b", Location("https", "my_service", 443, "/a@b"), "my_service"),
        ("https://1.1.1.1/", Location("https", "1.1.1.1", 443, "/"), "1.1.1.1"),
        ("https://[2606:4700::1]:44/", Location("https", "2606:4700::1", 44, "/"), "[2606:4700::1]:44"),
    ],
)
def test_a_plain_url_is_taken_apart(url: str, location: Location, authority: str) -> None:
    assert locate(url, allow_http=True) == location
    assert location.authority == authority


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.example/jwks",
        "//a.example/jwks",
        "ftp://a.example/",
        "file:///etc/passwd",
        "https:///jwks",
        "https://user@a.example/",
        "https://user:password@a.example/",
        "https://a.example\\@b.example/",
        "https://a.example#@b.example/",
        "https://a.example/#keys",
        "https://a.example/a\\b",
        "https://a.example/a b",
        "https://a.example/a\r\nHost: b.example",
        "https://a.example/\x00",
        " https://a.example/",
        "https://a.example/\n",
        "https://a.example:/",
        "https://a.example:0/",
        "https://a.example:65536/",
        "https://a.example:-1/",
        "https://a.example:١/",
        "https://.a.example/",
        "https://a..example/",
        "https://a.example./",
        "https://-a.example/",
        "https://a%2eexample/",
        "https://ex\u00e4mple/",
        "https://a.example\u3002b/",
        "https://[fe80::1%25eth0]/",
        "https://[fe80::1%eth0]/",
        "https://[::1/",
        "https://[1.2.3.4]/",
        "https://[:::]/",
        "https://" + "a" * 64 + "/",
        "https://a.example/" + "x" * 2_048,
    ],
)
def test_an_odd_url_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(FetchFailed) as caught:
        locate(url, allow_http=True)
    assert "example" not in caught.value.reason
    assert "password" not in caught.value.reason


def test_http_needs_permission() -> None:
    with pytest.raises(FetchFailed, match="not an HTTPS URL"):
        locate("http://localhost/jwks", allow_http=False)


@given(st.text(alphabet="htps:/@.aA1-_%[]?#\\ :\u3002", max_size=30).map("https://a".__add__))
def test_what_is_accepted_means_the_same_to_the_standard_library(url: str) -> None:
    try:
        location = locate(url, allow_http=False)
    except FetchFailed:
        return
    parts = urlsplit(url)
    assert (parts.hostname, parts.port or 443, parts.username) == (location.host, location.port, None)
