"""What the headers of an answer say about keeping it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.auth.issuer.caching import etag, max_age


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], None),
        ([(b"cache-control", b"no-cache")], None),
        ([(b"cache-control", b"max-age=300")], 300),
        ([(b"cache-control", b"public, Max-Age=300, must-revalidate")], 300),
        ([(b"cache-control", b'max-age="300"')], 300),
        ([(b"cache-control", b"public"), (b"cache-control", b"max-age=9")], 9),
        ([(b"cache-control", b"max-age=9, max-age=300")], 9),
        ([(b"cache-control", b"s-maxage=300")], None),
        ([(b"cache-control", b"max-age=-1")], None),
        ([(b"cache-control", b"max-age=1.5")], None),
        ([(b"cache-control", b"max-age")], None),
        ([(b"cache-control", b"max-age=99999999999999999999")], None),
        ([(b"cache-control", b"max-age=300"), (b"age", b"100")], 200),
        ([(b"cache-control", b"max-age=300"), (b"age", b"400")], 0),
        ([(b"cache-control", b"max-age=300"), (b"age", b"soon")], 300),
        ([(b"age", b"100")], None),
    ],
)
def test_freshness_is_what_max_age_leaves_after_age(headers: list[tuple[bytes, bytes]], seconds: int | None) -> None:
    assert max_age(headers) == seconds


@pytest.mark.parametrize("tag", [b'"a"', b'W/"a"', b'""', b'"' + b"x" * 256 + b'"'])
def test_a_version_is_kept_as_it_came(tag: bytes) -> None:
    assert etag([(b"etag", tag)]) == tag


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"etag", b"a")],
        [(b"etag", b'"a')],
        [(b"etag", b'w/"a"')],
        [(b"etag", b'"a"b"')],
        [(b"etag", b'"a\r\nX: y"')],
        [(b"etag", b'"\xff"')],
        [(b"etag", b'"' + b"x" * 257 + b'"')],
        [(b"etag", b'"a"'), (b"etag", b'"b"')],
    ],
)
def test_a_version_that_cannot_be_sent_back_is_none(headers: list[tuple[bytes, bytes]]) -> None:
    assert etag(headers) is None


@given(st.lists(st.tuples(st.sampled_from([b"cache-control", b"age", b"etag"]), st.binary(max_size=40))))
def test_no_header_is_ever_an_error(headers: list[tuple[bytes, bytes]]) -> None:
    assert (max_age(headers) or 0) >= 0
    etag(headers)
