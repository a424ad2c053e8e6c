"""One guarded GET against real sockets: whom it talks to, how long, and what it takes for an answer."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from pathlib import Path

import httpcore
import pytest

from issuers import Answer, CertificateAuthority, Issuer, redirect
from leyden.auth import FetchFailed, RemoteKeys
from leyden.auth.issuer.fetching import Fetched, Fetcher, Limits, Version

HOST = "issuer.test"
QUICK = Limits(connect=0.3, total=0.6)
PATIENT = Limits(total=30)


class Resolver:
    """Gives each question the next of its answers, and the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.questions: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.questions.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Detour(httpcore.AsyncNetworkBackend):
    """A network in which every address is 127.0.0.1; remembers which were asked for."""

    def __init__(self, dead: Sequence[str] = ()) -> None:
        self.asked: list[str] = []
        self._dead = dead
        self._real = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - as httpcore calls it
        local_address: str | None = None,
        socket_options: object = None,
    ) -> httpcore.AsyncNetworkStream:
        self.asked.append(host)
        if host in self._dead:
            raise httpcore.ConnectError
        return await self._real.connect_tcp("127.0.0.1", port, timeout=timeout)


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path)


@pytest.fixture
async def issuer(authority: CertificateAuthority) -> AsyncIterator[Issuer]:
    async with Issuer(tls=authority.server(HOST)) as issuer:
        issuer.answers["/jwks"] = Answer(body=b"keys")
        yield issuer


@pytest.fixture
def fetcher(authority: CertificateAuthority) -> Callable[..., Fetcher]:
    """A fetcher that finds every host on this machine and trusts `authority`."""

    def make(
        resolve: Resolver | None = None,
        *,
        private: bool = True,
        network: Detour | None = None,
        limits: Limits = PATIENT,
    ) -> Fetcher:
        remote = RemoteKeys(jwks_url="https://unused", allow_private=private, ca_file=authority.file)
        return Fetcher(remote, resolve=resolve or Resolver(["127.0.0.1"]), network=network, limits=limits)

    return make


async def failure(fetcher: Fetcher, url: str) -> str:
    with pytest.raises(FetchFailed) as caught:
        await fetcher.get(url)
    return caught.value.reason


# ---- what works -----------------------------------------------------------------------------------------------------


async def test_a_document_comes_with_its_version_and_lifetime(issuer: Issuer, fetcher: Callable[..., Fetcher]) -> None:
    issuer.answers["/jwks"] = Answer(body=b"keys", etag='"7"', headers=[("Cache-Control", "public, max-age=300")])
    url = issuer.url("/jwks", host=HOST)
    assert await fetcher().get(url) == Fetched(b"keys", Version(url, b'"7"'), 300)


async def test_the_request_names_the_host_and_asks_for_nothing_compressed(
    issuer: Issuer, fetcher: Callable[..., Fetcher]
) -> None:
    await fetcher().get(issuer.url("/jwks", host=HOST))
    headers = issuer.requests[0].headers
    assert headers["host"] == f"{HOST}:{issuer.port}"
    assert headers["accept-encoding"] == "identity"
    assert "cookie" not in headers
    assert "authorization" not in headers


async def test_an_unchanged_document_is_not_sent_again(issuer: Issuer, fetcher: Callable[..., Fetcher]) -> None:
    issuer.answers["/jwks"] = Answer(body=b"keys", etag='"7"', headers=[("Cache-Control", "max-age=90")])
    get = fetcher().get
    first = await get(issuer.url("/jwks", host=HOST))
    assert await get(issuer.url("/jwks", host=HOST), first.version) == Fetched(None, first.version, 90)


async def test_a_version_of_another_document_is_not_mentioned(issuer: Issuer, fetcher: Callable[..., Fetcher]) -> None:
    issuer.answers["/other"] = Answer(body=b"others", etag='"7"')
    fetched = await fetcher().get(issuer.url("/other", host=HOST), Version(issuer.url("/jwks", host=HOST), b'"7"'))
    assert fetched.body == b"others"


async def test_plain_http_serves_for_this_machine_where_that_is_allowed() -> None:
    async with Issuer() as issuer:
        issuer.answers["/jwks"] = Answer(body=b"keys")
        remote = RemoteKeys(jwks_url=issuer.url("/jwks"), allow_http=True)
        assert (await Fetcher(remote).get(issuer.url("/jwks"))).body == b"keys"
        assert (await Fetcher(remote).get(issuer.url("/jwks", host="localhost"))).body == b"keys"


async def test_a_certificate_for_an_address_serves_a_url_without_a_name(
    authority: CertificateAuthority, fetcher: Callable[..., Fetcher]
) -> None:
    async with Issuer(tls=authority.server("127.0.0.1")) as issuer:
        issuer.answers["/jwks"] = Answer(body=b"keys")
        resolver = Resolver(["10.0.0.1"])
        assert (await fetcher(resolver).get(issuer.url("/jwks"))).body == b"keys"
        assert resolver.questions == []


async def test_an_address_that_does_not_answer_gives_way_to_the_next(
    issuer: Issuer, fetcher: Callable[..., Fetcher]
) -> None:
    network = Detour(dead=["2606:4700::1111"])
    get = fetcher(Resolver(["2606:4700::1111", "1.1.1.1"]), private=False, network=network).get
    assert (await get(issuer.url("/jwks", host=HOST))).body == b"keys"
    assert network.asked == ["2606:4700::1111", "1.1.1.1"]


async def test_a_proxy_in_the_environment_is_not_used(
    issuer: Issuer, fetcher: Callable[..., Fetcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert (await fetcher().get(issuer.url("/jwks", host=HOST))).body == b"keys"


# ---- whom it talks to -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.0.0.7"],
        ["169.254.169.254"],
        ["1.1.1.1", "192.168.1.1"],
        ["1.1.1.1", "::ffff:127.0.0.1"],
        ["1.1.1.1", "fe80::1%1"],
        ["1.1.1.1", "not an address"],
        [],
    ],
)
async def test_a_host_with_one_private_address_is_not_connected_to(
    issuer: Issuer, fetcher: Callable[..., Fetcher], addresses: list[str]
) -> None:
    network = Detour()
    reason = await failure(fetcher(Resolver(addresses), private=False, network=network), issuer.url("/jwks", host=HOST))
    assert "address" in reason
    assert network.asked == []
    assert issuer.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "127.1", "0x7f000001", "2130706433", "0.0.0.0"])
async def test_this_machine_is_recognised_however_it_is_written(
    issuer: Issuer, authority: CertificateAuthority, host: str
) -> None:
    remote = RemoteKeys(jwks_url="https://unused", ca_file=authority.file)
    reason = await failure(Fetcher(remote, limits=PATIENT), issuer.url("/jwks", host=host))
    assert reason == "the host is at an address that is not on the public internet"
    assert issuer.connections == 0


async def test_the_name_is_resolved_once_so_that_a_second_answer_finds_nobody(
    issuer: Issuer, fetcher: Callable[..., Fetcher]
) -> None:
    resolver, network = Resolver(["1.1.1.1"], ["127.0.0.1"]), Detour()
    get = fetcher(resolver, private=False, network=network).get
    assert (await get(issuer.url("/jwks", host=HOST))).body == b"keys"
    assert resolver.questions == [HOST]
    assert network.asked == ["1.1.1.1"]


async def test_a_name_that_moves_into_our_network_is_refused_at_the_next_fetch(
    issuer: Issuer, fetcher: Callable[..., Fetcher]
) -> None:
    rebound = fetcher(Resolver(["1.1.1.1"], ["127.0.0.1"]), private=False, network=Detour())
    await rebound.get(issuer.url("/jwks", host=HOST))
    assert "public internet" in await failure(rebound, issuer.url("/jwks", host=HOST))
    assert issuer.connections == 1


async def test_plain_http_never_leaves_this_machine() -> None:
    async with Issuer() as issuer:
        remote = RemoteKeys(jwks_url=issuer.url(), allow_http=True, allow_private=True)
        for address in ("10.0.0.1", "1.1.1.1"):
            network = Detour()
            fetcher = Fetcher(remote, resolve=Resolver(["127.0.0.1", address]), network=network)
            reason = await failure(fetcher, issuer.url("/jwks", host=HOST))
            assert reason == "the URL is not an HTTPS URL, and its host is not this machine"
            assert network.asked == []


async def test_plain_http_is_refused_unless_allowed() -> None:
    async with Issuer() as issuer:
        remote = RemoteKeys(jwks_url=issuer.url(), allow_private=True)
        assert await failure(Fetcher(remote), issuer.url("/jwks")) == "the URL is not an HTTPS URL"
        assert issuer.connections == 0


async def test_a_redirect_is_not_followed(issuer: Issuer, fetcher: Callable[..., Fetcher]) -> None:
    for status in (301, 302, 303, 307, 308):
        issuer.answers["/moved"] = redirect(issuer.url("/jwks", host=HOST), status)
        assert "redirects are not followed" in await failure(fetcher(), issuer.url("/moved", host=HOST))
    assert issuer.count("/jwks") == 0


async def test_a_host_that_does_not_listen_cannot_be_reached(fetcher: Callable[..., Fetcher]) -> None:
    async with Issuer() as gone:
        url = f"https://{HOST}:{gone.port}/jwks"
    assert await failure(fetcher(), url) == "the host cannot be reached"


# ---- certificates ---------------------------------------------------------------------------------------------------


async def test_an_expired_certificate_is_refused(
    authority: CertificateAuthority, fetcher: Callable[..., Fetcher]
) -> None:
    async with Issuer(tls=authority.server(HOST, valid_for=timedelta(hours=-1))) as issuer:
        assert await failure(fetcher(), issuer.url("/jwks", host=HOST)) == "the certificate has expired"
        assert issuer.requests == []


async def test_a_certificate_of_the_future_is_refused(
    authority: CertificateAuthority, fetcher: Callable[..., Fetcher]
) -> None:
    async with Issuer(tls=authority.server(HOST, age=timedelta(hours=-1))) as issuer:
        assert await failure(fetcher(), issuer.url("/jwks", host=HOST)) == "the certificate is not valid yet"


async def test_a_certificate_of_a_foreign_authority_is_refused(tmp_path: Path, fetcher: Callable[..., Fetcher]) -> None:
    stranger = CertificateAuthority(tmp_path, "stranger")
    async with Issuer(tls=stranger.server(HOST)) as issuer:
        assert await failure(fetcher(), issuer.url("/jwks", host=HOST)) == "the certificate is not trusted"
        assert issuer.requests == []


async def test_the_system_does_not_trust_our_authority(issuer: Issuer) -> None:
    remote = RemoteKeys(jwks_url="https://unused", allow_private=True)
    fetcher = Fetcher(remote, resolve=Resolver(["127.0.0.1"]), limits=PATIENT)
    assert await failure(fetcher, issuer.url("/jwks", host=HOST)) == "the certificate is not trusted"


async def test_a_certificate_for_another_host_name_is_refused(issuer: Issuer, fetcher: Callable[..., Fetcher]) -> None:
    reason = await failure(fetcher(), issuer.url("/jwks", host="other.test"))
    assert reason == "the certificate is for another host name"
    assert issuer.requests == []


async def test_a_certificate_for_a_name_does_not_serve_the_address(
    issuer: Issuer, fetcher: Callable[..., Fetcher]
) -> None:
    assert await failure(fetcher(), issuer.url("/jwks")) == "the certificate is for another address"


async def test_a_file_of_certificates_that_cannot_be_read_trusts_nobody(issuer: Issuer, tmp_path: Path) -> None:
    remote = RemoteKeys(jwks_url="https://unused", allow_private=True, ca_file=tmp_path / "missing.pem")
    fetcher = Fetcher(remote, resolve=Resolver(["127.0.0.1"]), limits=PATIENT)
    reason = await failure(fetcher, issuer.url("/jwks", host=HOST))
    assert reason == "the file of trusted certificates cannot be read"


async def test_a_renewed_file_of_certificates_counts_at_once(
    issuer: Issuer, authority: CertificateAuthority, tmp_path: Path, fetcher: Callable[..., Fetcher]
) -> None:
    good = authority.file.read_bytes()
    authority.file.write_bytes(CertificateAuthority(tmp_path, "predecessor").file.read_bytes())
    asking = fetcher()
    assert await failure(asking, issuer.url("/jwks", host=HOST)) == "the certificate is not trusted"
    authority.file.write_bytes(good)
    assert (await asking.get(issuer.url("/jwks", host=HOST))).body == b"keys"


async def test_old_tls_is_refused(authority: CertificateAuthority, fetcher: Callable[..., Fetcher]) -> None:
    with pytest.warns(DeprecationWarning, match="TLS"):
        context = authority.server(HOST, newest_tls=ssl.TLSVersion.TLSv1_1)
    async with Issuer(tls=context) as issuer:
        assert await failure(fetcher(), issuer.url("/jwks", host=HOST)) == "the TLS handshake failed"


async def test_a_server_that_speaks_no_tls_is_refused(fetcher: Callable[..., Fetcher]) -> None:
    async with Issuer() as issuer:
        url = f"https://{HOST}:{issuer.port}/jwks"
        reason = await failure(fetcher(limits=QUICK), url)
        assert reason == "no whole answer came within 0.6 seconds"
        assert issuer.requests == []


# ---- how long -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        Answer(delay=30),
        Answer(body=b"x" * 1_000, drip=0.05),
        Answer(body=b"keys", declared_length=5_000, hold=30),
        Answer(raw=b"HTTP/1.1 100 Continue\r\n\r\n", hold=30),
    ],
    ids=["silence", "a byte at a time", "less than promised", "not yet"],
)
async def test_an_answer_has_a_deadline_however_it_is_delayed(
    issuer: Issuer, fetcher: Callable[..., Fetcher], answer: Answer
) -> None:
    issuer.answers["/jwks"] = answer
    began = time.monotonic()
    assert (
        await failure(fetcher(limits=QUICK), issuer.url("/jwks", host=HOST))
        == "no whole answer came within 0.6 seconds"
    )
    assert time.monotonic() - began < 2


async def test_a_resolver_that_hangs_is_waited_for_within_the_deadline(authority: CertificateAuthority) -> None:
    async def hang(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    fetcher = Fetcher(RemoteKeys(jwks_url="https://unused"), resolve=hang, limits=QUICK)
    assert await failure(fetcher, f"https://{HOST}/jwks") == "no whole answer came within 0.6 seconds"


# ---- how much -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [Answer(body=b"x" * 262_145), Answer(body=b"x" * 10_000, endless=True)],
    ids=["a byte too many", "without end"],
)
async def test_a_body_is_read_up_to_its_limit(issuer: Issuer, fetcher: Callable[..., Fetcher], answer: Answer) -> None:
    issuer.answers["/jwks"] = answer
    assert await failure(fetcher(), issuer.url("/jwks", host=HOST)) == "the answer is larger than 262144 bytes"


async def test_a_body_of_exactly_the_limit_is_taken(issuer: Issuer, fetcher: Callable[..., Fetcher]) -> None:
    issuer.answers["/jwks"] = Answer(body=b"x" * 262_144)
    assert (await fetcher().get(issuer.url("/jwks", host=HOST))).body == b"x" * 262_144


@pytest.mark.parametrize("headers", [[("X", "y")] * 200, [("X", "y" * 40_000)]], ids=["too many", "too long"])
async def test_headers_are_bounded_in_number_and_size(
    issuer: Issuer, fetcher: Callable[..., Fetcher], headers: list[tuple[str, str]]
) -> None:
    issuer.answers["/jwks"] = Answer(body=b"keys", headers=headers)
    assert await failure(fetcher(), issuer.url("/jwks", host=HOST)) == "the answer has too many headers"


@pytest.mark.parametrize(
    ("flood", "reason"),
    [
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 500, "the answer wraps too little into too much"),
        (b"X: y\r\n" * 10_000, "the answer is not proper HTTP"),
    ],
    ids=["interim answers", "headers"],
)
async def test_an_endless_head_is_cut_off(
    issuer: Issuer, fetcher: Callable[..., Fetcher], flood: bytes, reason: str
) -> None:
    issuer.answers["/jwks"] = Answer(raw=flood, repeat_raw=True)
    assert await failure(fetcher(), issuer.url("/jwks", host=HOST)) == reason


async def test_a_body_in_tiny_chunks_is_cut_off(issuer: Issuer, fetcher: Callable[..., Fetcher]) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    issuer.answers["/jwks"] = Answer(raw=head + b"1;extension=long-winded\r\nx\r\n" * 100_000, hold=30)
    reason = await failure(fetcher(), issuer.url("/jwks", host=HOST))
    assert reason == "the answer wraps too little into too much"


async def test_a_tedious_answer_does_not_hold_up_others(issuer: Issuer, fetcher: Callable[..., Fetcher]) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    issuer.answers["/jwks"] = Answer(raw=head + b"1\r\nx\r\n" * 100_000, hold=30)
    asking = asyncio.create_task(failure(fetcher(), issuer.url("/jwks", host=HOST)))
    turns = 0
    while not asking.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 40


# ---- what counts as an answer ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "identity, gzip", "zstd"])
async def test_a_compressed_answer_is_refused(issuer: Issuer, fetcher: Callable[..., Fetcher], encoding: str) -> None:
    issuer.answers["/jwks"] = Answer(body=gzip.compress(b"keys"), headers=[("Content-Encoding", encoding)])
    reason = await failure(fetcher(), issuer.url("/jwks", host=HOST))
    assert reason == "the answer is compressed, which was not asked for"


@pytest.mark.parametrize("status", [201, 204, 206, 304, 400, 401, 403, 404, 410, 429, 500, 503])
async def test_only_status_200_is_an_answer(issuer: Issuer, fetcher: Callable[..., Fetcher], status: int) -> None:
    issuer.answers["/jwks"] = Answer(status=status, headers=[("X-Secret", "in the headers")])
    with pytest.raises(FetchFailed) as caught:
        await fetcher().get(issuer.url("/jwks", host=HOST))
    assert caught.value.status == status
    assert caught.value.gone == (status in (404, 410))


@pytest.mark.parametrize(
    "raw",
    [
        b"keys",
        b"\x00" * 1_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nkk",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nkeys",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nkeys",
        b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\nkeys",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"",
    ],
)
async def test_what_is_not_proper_http_is_refused_without_being_quoted(
    issuer: Issuer, fetcher: Callable[..., Fetcher], raw: bytes
) -> None:
    issuer.answers["/jwks"] = Answer(raw=raw)
    reason = await failure(fetcher(), issuer.url("/jwks", host=HOST))
    assert reason == "the answer is not proper HTTP"
