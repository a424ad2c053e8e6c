"""Finding an issuer's key set: whom to believe, and for how long."""

from __future__ import annotations

import json
from typing import Any

import pytest

from leyden.auth import FetchFailed
from leyden.auth.issuer.discovery import Discovery
from leyden.auth.issuer.fetching import Fetched, Version
from virtual_time import VirtualTime

ISSUER = "https://issuer.example"
CONFIGURATION = "/.well-known/openid-configuration"
HOUR = 3_600


class Web:
    """What can be fetched: bodies by URL; everything else is not found, unless it fails in its own way."""

    def __init__(self, documents: dict[str, bytes] | None = None) -> None:
        self.documents = documents or {}
        self.failures: dict[str, FetchFailed] = {}
        self.requests: list[str] = []
        self.versions: list[Version | None] = []

    async def get(self, url: str, known: Version | None) -> Fetched:
        self.requests.append(url)
        self.versions.append(known)
        if url in self.failures:
            raise self.failures[url]
        if url not in self.documents:
            raise FetchFailed("the answer has the status 404", 404)
        return Fetched(self.documents[url], Version(url, b'"1"'))


def configuration(issuer: str = ISSUER, jwks_uri: str = "https://keys.example/jwks", **more: Any) -> bytes:
    return json.dumps({"issuer": issuer, "jwks_uri": jwks_uri, **more}).encode()


def published(**more: bytes) -> Web:
    return Web({ISSUER + CONFIGURATION: configuration(), "https://keys.example/jwks": b"keys", **more})


@pytest.fixture
def time() -> VirtualTime:
    return VirtualTime()


def discovery(web: Web, time: VirtualTime, issuer: str = ISSUER, *, allow_http: bool = False) -> Discovery:
    return Discovery(issuer, web.get, allow_http=allow_http, now=time.now)


async def failure(subject: Discovery) -> str:
    with pytest.raises(FetchFailed) as caught:
        await subject.key_set(None)
    return caught.value.reason


async def test_the_key_set_may_be_on_another_host(time: VirtualTime) -> None:
    web = published()
    assert (await discovery(web, time).key_set(None)).body == b"keys"
    assert web.requests == [ISSUER + CONFIGURATION, "https://keys.example/jwks"]


async def test_the_document_is_believed_for_a_day(time: VirtualTime) -> None:
    web = published()
    subject = discovery(web, time)
    for hours in (0, 1, 22.9):
        await time.advance(hours * HOUR)
        await subject.key_set(None)
    assert web.requests.count(ISSUER + CONFIGURATION) == 1
    await time.advance(0.2 * HOUR)
    await subject.key_set(None)
    assert web.requests.count(ISSUER + CONFIGURATION) == 2


async def test_the_known_version_goes_to_the_key_set_alone(time: VirtualTime) -> None:
    web, known = published(), Version("https://keys.example/jwks", b'"1"')
    await discovery(web, time).key_set(known)
    assert web.versions == [None, known]


@pytest.mark.parametrize("status", [404, 410])
async def test_a_key_set_that_has_moved_is_found_again_at_once(time: VirtualTime, status: int) -> None:
    web = published()
    subject = discovery(web, time)
    await subject.key_set(None)
    web.failures["https://keys.example/jwks"] = FetchFailed("gone", status)
    web.documents[ISSUER + CONFIGURATION] = configuration(jwks_uri="https://keys.example/new")
    web.documents["https://keys.example/new"] = b"new keys"
    assert (await subject.key_set(None)).body == b"new keys"


async def test_other_failures_of_the_key_set_are_no_reason_to_look_elsewhere(time: VirtualTime) -> None:
    web = published()
    subject = discovery(web, time)
    await subject.key_set(None)
    web.failures["https://keys.example/jwks"] = FetchFailed("the answer has the status 503", 503)
    assert "503" in await failure(subject)
    assert web.requests.count(ISSUER + CONFIGURATION) == 1


async def test_a_key_set_that_is_never_there_costs_a_bounded_number_of_requests(time: VirtualTime) -> None:
    issuer = ISSUER + "/tenant"
    web = Web({ISSUER + CONFIGURATION + "/tenant": configuration(issuer)})
    subject = discovery(web, time, issuer)
    for _ in range(20):
        before = len(web.requests)
        assert "404" in await failure(subject)
        assert len(web.requests) - before <= 4


async def test_the_path_is_inserted_when_appending_finds_nothing(time: VirtualTime) -> None:
    issuer = ISSUER + "/tenant/"
    web = published(**{ISSUER + CONFIGURATION + "/tenant": configuration(issuer)})
    assert (await discovery(web, time, issuer).key_set(None)).body == b"keys"
    assert web.requests[:2] == [ISSUER + "/tenant" + CONFIGURATION, ISSUER + CONFIGURATION + "/tenant"]


async def test_a_trailing_slash_is_part_of_the_name_but_not_of_the_url(time: VirtualTime) -> None:
    web = published(**{ISSUER + CONFIGURATION: configuration(ISSUER + "/")})
    assert (await discovery(web, time, ISSUER + "/").key_set(None)).body == b"keys"
    assert "another issuer" in await failure(discovery(web, time))


@pytest.mark.parametrize(
    "issuer",
    [
        "https://other.example",
        "https://issuer.example/",
        "HTTPS://issuer.example",
        "http://issuer.example",
        "https://issuer.example:443",
    ],
)
async def test_a_document_of_another_issuer_is_not_believed(time: VirtualTime, issuer: str) -> None:
    web = published(**{ISSUER + CONFIGURATION: configuration(issuer)})
    assert await failure(discovery(web, time)) == "the issuer's configuration is that of another issuer"
    assert len(web.requests) == 1


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "is not JSON"),
        (b"<html>", "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b"{}", "is that of another issuer"),
        (b'{"issuer": ["https://issuer.example"]}', "is that of another issuer"),
        (b'{"issuer": "https://issuer.example"}', "names no jwks_uri"),
        (configuration() + b" x", "is not JSON"),
        (b'{"issuer": "x", ' + configuration()[1:], "names one member twice"),
        (configuration(jwks_uri="http://keys.example/jwks"), "unusable jwks_uri: the URL is not an HTTPS URL"),
        (configuration(jwks_uri="file:///etc/passwd"), "unusable jwks_uri"),
        (configuration(jwks_uri="https://user:pw@keys.example/jwks"), "unusable jwks_uri"),
        (configuration(jwks_uri="/jwks"), "unusable jwks_uri"),
    ],
)
async def test_a_bad_document_leads_nowhere(time: VirtualTime, document: bytes, reason: str) -> None:
    web = published(**{ISSUER + CONFIGURATION: document})
    said = await failure(discovery(web, time))
    assert reason in said
    assert "keys.example" not in said
    assert len(web.requests) == 1


async def test_a_document_that_turns_bad_is_not_replaced_by_the_old_one(time: VirtualTime) -> None:
    web = published()
    subject = discovery(web, time)
    await subject.key_set(None)
    web.documents[ISSUER + CONFIGURATION] = configuration("https://other.example")
    await time.advance(24 * HOUR)
    assert "another issuer" in await failure(subject)
    assert "another issuer" in await failure(subject)


async def test_an_issuer_with_a_query_is_refused_before_anything_is_fetched(time: VirtualTime) -> None:
    web = published()
    assert "query" in await failure(discovery(web, time, ISSUER + "?tenant=1"))
    assert web.requests == []
