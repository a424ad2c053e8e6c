"""Published keys against an issuer that rotates, lies, stalls, redirects and floods."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from joserfc.jwk import ECKey

from issuers import Answer, CertificateAuthority, Issuer, key_set, published, redirect, signing_key, token_under
from leyden.auth import (
    ALGORITHMS,
    AuthSettings,
    FetchFailed,
    Identity,
    IssuedKeys,
    KeyNotice,
    KeySetFailed,
    KeySource,
    Refusal,
    RemoteKeys,
    TokenVerifier,
    fetch_key_set_once,
    issued_keys,
)
from leyden.auth.issuer.fetching import Fetcher, Limits

ES256 = ALGORITHMS["ES256"]
HOST = "issuer.test"
MINUTE = 60
OLD, NEW = signing_key("old"), signing_key("new")


class Skippable:
    """A clock that runs, and that a test can put forward."""

    def __init__(self) -> None:
        self.skipped = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.skipped


async def at_home(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path)


@pytest.fixture
async def issuer(authority: CertificateAuthority) -> AsyncIterator[Issuer]:
    async with Issuer(tls=authority.server(HOST)) as issuer:
        issuer.answers["/jwks"] = Answer(body=key_set(published(OLD)))
        yield issuer


class World:
    """A source of keys over `issuer`, and what was noticed."""

    def __init__(self, issuer: Issuer, authority: CertificateAuthority, *, discover: bool = False) -> None:
        url = issuer.url(host=HOST)
        self.remote = RemoteKeys(
            jwks_url=None if discover else f"{url}/jwks",
            issuer=url if discover else None,
            allow_private=True,
            ca_file=authority.file,
        )
        self.fetcher = Fetcher(self.remote, resolve=at_home, limits=Limits(total=10))
        self.clock = Skippable()
        self.changed = asyncio.Event()
        self.failures: asyncio.Queue[str] = asyncio.Queue()

    def _notice(self, notice: KeyNotice) -> None:
        if isinstance(notice, KeySetFailed):
            self.failures.put_nowait(notice.reason)

    @asynccontextmanager
    async def running(self, *, wait: bool = True) -> AsyncIterator[IssuedKeys]:
        keys = issued_keys(self.remote, [ES256], self._notice, fetcher=self.fetcher, now=self.clock)
        task = asyncio.create_task(keys.run(lambda ring: self.changed.set()))
        try:
            if wait:
                await asyncio.wait_for(self.changed.wait(), 5)
            yield keys
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def failed(self) -> str:
        """The reason of the next failure, when it comes."""
        return await asyncio.wait_for(self.failures.get(), 5)


@pytest.fixture
def world(issuer: Issuer, authority: CertificateAuthority) -> World:
    return World(issuer, authority)


async def let_in(source: KeySource, key: ECKey) -> Identity:
    """What a service does with a token under `key`."""
    token, now = token_under(key), time.time()
    settings = AuthSettings("secure", (ES256,), remote=RemoteKeys(jwks_url="https://unused"))
    try:
        return TokenVerifier(settings, source.ring).verify(token, now)
    except Refusal as refusal:
        if refusal.code != "key_unknown" or not await source.seek(key.kid or ""):
            raise
        return TokenVerifier(settings, source.ring).verify(token, now)


# ---- rotation -------------------------------------------------------------------------------------------------------


async def test_the_first_token_after_a_rotation_is_let_in(world: World, issuer: Issuer) -> None:
    async with world.running() as keys:
        assert (await let_in(keys, OLD)).kid == "old"
        issuer.answers["/jwks"] = Answer(body=key_set(published(NEW)))
        assert (await let_in(keys, NEW)).kid == "new"
        assert issuer.count("/jwks") == 2
        with pytest.raises(Refusal, match="key_unknown"):
            await let_in(keys, OLD)


async def test_a_key_that_was_never_published_is_refused(world: World, issuer: Issuer) -> None:
    impostor = signing_key("old")
    async with world.running() as keys:
        with pytest.raises(Refusal, match="signature_invalid"):
            await let_in(keys, impostor)
        with pytest.raises(Refusal, match="key_unknown"):
            await let_in(keys, signing_key("invented"))


async def test_an_unchanged_set_is_not_sent_again(world: World, issuer: Issuer) -> None:
    issuer.answers["/jwks"] = Answer(body=key_set(published(OLD)), etag='"1"')
    async with world.running() as keys:
        assert not await keys.seek("new")
        assert keys.available
        assert [request.headers.get("if-none-match") for request in issuer.requests] == [None, '"1"']


async def test_a_thousand_clients_after_a_rotation_cause_one_request(world: World, issuer: Issuer) -> None:
    async with world.running() as keys:
        issuer.answers["/jwks"] = Answer(body=key_set(published(NEW)), delay=0.2)
        assert all(await asyncio.gather(*(keys.seek("new") for _ in range(1_000))))
        assert issuer.count("/jwks") == 2


async def test_an_issuer_that_is_down_at_the_start_is_found_when_it_comes_up(world: World, issuer: Issuer) -> None:
    good = issuer.answers["/jwks"]
    issuer.answers["/jwks"] = Answer(status=503)
    async with world.running(wait=False) as keys:
        assert await world.failed() == "the answer has the status 503"
        assert not keys.available
        issuer.answers["/jwks"] = good
        await asyncio.wait_for(world.changed.wait(), 5)
        assert keys.available


# ---- hostile issuers and hostile clients ----------------------------------------------------------------------------


async def test_invented_key_names_cause_two_requests_a_minute(world: World, issuer: Issuer) -> None:
    async with world.running() as keys:
        names = (f"invented-{number}" for number in itertools.count())
        for minutes in range(1, 4):
            for _ in range(20):
                await asyncio.gather(*(keys.seek(next(names)) for _ in range(50)))
            assert issuer.count("/jwks") == 1 + 2 * minutes
            world.clock.skipped += MINUTE
        assert keys.available


@pytest.mark.parametrize(
    "answer",
    [
        Answer(delay=60),
        Answer(body=key_set(published(NEW)), drip=0.5),
        Answer(body=b"{", declared_length=100_000, hold=60),
    ],
    ids=["silent", "slow", "unfinished"],
)
async def test_a_client_waits_two_seconds_for_a_stalling_issuer(world: World, issuer: Issuer, answer: Answer) -> None:
    async with world.running() as keys:
        issuer.answers["/jwks"] = answer
        began = time.monotonic()
        assert not await keys.seek("new")
        assert 1.9 < time.monotonic() - began < 3
        assert keys.available
        assert (await let_in(keys, OLD)).kid == "old"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (redirect("https://issuer.test/elsewhere"), "the answer leads elsewhere, and redirects are not followed"),
        (Answer(body=b"x" * 10_000, endless=True), "the answer is larger than 262144 bytes"),
        (Answer(body=b"", headers=[("Content-Encoding", "gzip")]), "the answer is compressed, which was not asked for"),
        (Answer(body=b"<html>not here</html>"), "the key set is not JSON"),
        (Answer(body=key_set()), "the key set has no usable key"),
        (Answer(body=key_set(OLD.as_dict(private=True))), "the key set has no usable key"),
        (Answer(status=500, body=key_set(published(OLD))), "the answer has the status 500"),
    ],
)
async def test_a_misbehaving_issuer_gives_no_keys_and_takes_none_away(
    world: World, issuer: Issuer, answer: Answer, reason: str
) -> None:
    async with world.running() as keys:
        issuer.answers["/jwks"] = answer
        assert not await keys.seek("new")
        assert await world.failed() == reason
        assert (await let_in(keys, OLD)).kid == "old"
        assert issuer.count("/elsewhere") == 0


async def test_a_key_set_inside_our_network_is_not_fetched(issuer: Issuer, authority: CertificateAuthority) -> None:
    remote = RemoteKeys(jwks_url=issuer.url("/jwks", host=HOST), ca_file=authority.file)
    with pytest.raises(FetchFailed, match="not on the public internet"):
        await fetch_key_set_once(remote, [ES256], fetcher=Fetcher(remote, resolve=at_home))
    assert issuer.connections == 0


# ---- discovery ------------------------------------------------------------------------------------------------------


async def test_an_issuer_is_followed_to_its_keys_and_when_it_moves_them(
    issuer: Issuer, authority: CertificateAuthority
) -> None:
    issuer.configure(host=HOST)
    world = World(issuer, authority, discover=True)
    async with world.running() as keys:
        assert (await let_in(keys, OLD)).kid == "old"
        del issuer.answers["/jwks"]
        issuer.configure(host=HOST, jwks_uri=issuer.url("/moved", host=HOST))
        issuer.answers["/moved"] = Answer(body=key_set(published(NEW)))
        assert (await let_in(keys, NEW)).kid == "new"


async def test_an_issuer_that_calls_itself_another_is_not_believed(
    issuer: Issuer, authority: CertificateAuthority
) -> None:
    issuer.configure(host=HOST, issuer="https://bank.example")
    world = World(issuer, authority, discover=True)
    async with world.running(wait=False) as keys:
        assert await world.failed() == "the issuer's configuration is that of another issuer"
        assert not keys.available
        assert issuer.count("/jwks") == 0


async def test_a_configuration_that_leads_into_our_network_is_not_followed(
    issuer: Issuer, authority: CertificateAuthority
) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1" if host == HOST else "169.254.169.254"]

    issuer.configure(host=HOST, jwks_uri="https://metadata.example/jwks")
    world = World(issuer, authority, discover=True)
    world.fetcher = Fetcher(world.remote, resolve=resolve)
    async with world.running(wait=False):
        assert await world.failed() == "the host is at an address that is not on the public internet"


async def test_a_configuration_that_gives_up_encryption_is_not_followed(
    issuer: Issuer, authority: CertificateAuthority
) -> None:
    async with Issuer() as plain:
        plain.answers["/jwks"] = Answer(body=key_set(published(OLD)))
        issuer.configure(host=HOST, jwks_uri=plain.url("/jwks"))
        world = World(issuer, authority, discover=True)
        async with world.running(wait=False):
            assert "not an HTTPS URL" in await world.failed()
        assert plain.connections == 0


# ---- once -----------------------------------------------------------------------------------------------------------


async def test_a_set_is_fetched_once_with_what_was_left_out() -> None:
    async with Issuer() as issuer:
        leaked = signing_key("leaked").as_dict(private=True)
        issuer.answers["/jwks"] = Answer(body=key_set(published(OLD), leaked))
        for remote in (
            RemoteKeys(jwks_url=issuer.url("/jwks"), allow_http=True),
            RemoteKeys(issuer=issuer.configure(), allow_http=True),
        ):
            found = await fetch_key_set_once(remote, [ES256])
            assert [key.kid for key in found.keys] == ["old"]
            assert [(key.kid, key.leaked) for key in found.skipped] == [("leaked", True)]
        issuer.answers["/jwks"] = Answer(body=b"[]")
        with pytest.raises(FetchFailed, match="the key set is not a JSON object"):
            await fetch_key_set_once(remote, [ES256])
