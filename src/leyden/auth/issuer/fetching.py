"""One guarded HTTP GET: the only way in which this package touches the network.

Owns the rules under which documents with keys are fetched: whom we talk to, how long, how much we read, and what
counts as an answer. The host name is resolved once, every address is judged, and the connection goes to one of those
addresses while the name is what the certificate is checked against: a second, different answer of the resolver finds
nobody who asks. There are no redirects, no proxies, no cookies and no decompression. Must not know what is in the
documents.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import AsyncExitStack
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import httpcore

from ..settings import RemoteKeys
from .addresses import Address, may_fetch_from
from .caching import Headers, etag, max_age, values
from .failure import FetchFailed
from .location import Location, locate
from .resolution import Resolve, SystemResolver

MAX_ADDRESSES: Final = 4
"""Addresses of one host that a connection is tried with."""
READ_BYTES: Final = 8_192
MAX_HEADERS: Final = 100
MAX_HEADER_BYTES: Final = 32_768

#: X509_V_ERR_* of OpenSSL's x509_vfy.h.
_CERTIFICATE_PROBLEMS: Final = {
    9: "the certificate is not valid yet",
    10: "the certificate has expired",
    62: "the certificate is for another host name",
    64: "the certificate is for another address",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one fetch may take, in seconds and bytes."""

    connect: float = 3.0
    total: float = 5.0
    body: int = 262_144

    @property
    def traffic(self) -> int:
        """Everything that is read, heads and framing included: a body may come in tiny chunks, and interim answers
        (RFC 9110 §15.2) in any number."""
        return self.body + 2 * MAX_HEADER_BYTES


@dataclass(frozen=True, slots=True)
class Version:
    """What a server calls one state of one document."""

    url: str
    etag: bytes


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer. `body` is None when the document is still of the version that was asked about."""

    body: bytes | None
    version: Version | None = None
    max_age: int | None = None
    """Seconds for which it stays fresh, as the server says; None when it does not."""


class Fetcher:
    """Fetches documents under the rules of one configuration. Belongs to one event loop."""

    def __init__(
        self,
        remote: RemoteKeys,
        *,
        resolve: Resolve | None = None,
        network: httpcore.AsyncNetworkBackend | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._remote = remote
        self._resolve = SystemResolver() if resolve is None else resolve
        self._network = httpcore.AnyIOBackend() if network is None else network
        self._limits = Limits() if limits is None else limits

    async def get(self, url: str, known: Version | None = None) -> Fetched:
        """The document at `url`, or word that it is still `known`; raises `FetchFailed`."""
        location = locate(url, allow_http=self._remote.allow_http)
        since = known if known is not None and known.url == url else None
        try:
            async with asyncio.timeout(self._limits.total):
                async with AsyncExitStack() as closing:
                    stream = await self._open(location, closing)
                    return await self._exchange(url, location, stream, since)
        except TimeoutError:
            raise FetchFailed(f"no whole answer came within {self._limits.total:g} seconds") from None
        # The causes stay behind: their texts quote what came over the network.
        except (httpcore.NetworkError, httpcore.TimeoutException, OSError):
            raise FetchFailed("the connection broke off") from None
        except httpcore.ProtocolError:
            raise FetchFailed("the answer is not proper HTTP") from None

    async def _open(self, location: Location, closing: AsyncExitStack) -> httpcore.AsyncNetworkStream:
        addresses = await self._addresses(location)
        # Made anew each time, so that a renewed file of certificates counts; in a thread, as it reads files.
        context = await asyncio.to_thread(_tls_context, self._remote.ca_file) if location.encrypted else None
        stream = await self._connect(addresses, location.port)
        closing.push_async_callback(stream.aclose)
        return stream if context is None else await _secured(stream, context, location.host)

    async def _addresses(self, location: Location) -> list[Address]:
        """The addresses of the host, all of which must be allowed: one bad apple means that the name is not to be
        trusted with the choice."""
        literal = _parsed(location.host)
        texts = [location.host] if literal is not None else await self._resolve(location.host, location.port)
        addresses = [address for text in texts if (address := _parsed(text)) is not None]
        if not addresses or len(addresses) != len(texts):
            raise FetchFailed("the host name has no usable address")
        for address in addresses:
            if not may_fetch_from(address, encrypted=location.encrypted, allow_private=self._remote.allow_private):
                raise FetchFailed(
                    "the host is at an address that is not on the public internet"
                    if location.encrypted
                    else "the URL is not an HTTPS URL, and its host is not this machine"
                )
        return addresses

    async def _connect(self, addresses: list[Address], port: int) -> httpcore.AsyncNetworkStream:
        candidates = addresses[:MAX_ADDRESSES]
        share = self._limits.connect / len(candidates)
        for address in candidates:
            try:
                return await self._network.connect_tcp(str(address), port, timeout=share)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        raise FetchFailed("the host cannot be reached")

    async def _exchange(
        self, url: str, location: Location, stream: httpcore.AsyncNetworkStream, since: Version | None
    ) -> Fetched:
        connection = httpcore.AsyncHTTP11Connection(
            origin=httpcore.Origin(location.scheme.encode(), location.host.encode(), location.port),
            stream=_Metered(stream, self._limits.traffic),
        )
        response = await connection.handle_async_request(_request(location, since))
        headers = _checked_headers(response.headers)
        if response.status == 304 and since is not None:
            return Fetched(None, since, max_age(headers))
        _check_status(response.status)
        if any(value.lower() != b"identity" for value in values(headers, b"content-encoding")):
            raise FetchFailed("the answer is compressed, which was not asked for")
        tag = etag(headers)
        version = Version(url, tag) if tag is not None else None
        return Fetched(await self._body(response), version, max_age(headers))

    async def _body(self, response: httpcore.Response) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_stream():
            body += chunk
            if len(body) > self._limits.body:
                raise FetchFailed(f"the answer is larger than {self._limits.body} bytes")
        return bytes(body)


class _Metered(httpcore.AsyncNetworkStream):
    """A connection that delivers no more than so many bytes, and lets others have a turn after every few of them:
    taking apart what was written to be tedious is work."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, allowance: int) -> None:
        self._stream = stream
        self._allowance = allowance

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - as httpcore calls it
        await asyncio.sleep(0)
        octets = await self._stream.read(min(max_bytes, READ_BYTES), timeout)
        self._allowance -= len(octets)
        if self._allowance < 0:
            raise FetchFailed("the answer wraps too little into too much")
        return octets

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()


def _parsed(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """TLS with the system's certificates, or only those in `ca_file`."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError:
        raise FetchFailed("the file of trusted certificates cannot be read") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


async def _secured(
    stream: httpcore.AsyncNetworkStream, context: ssl.SSLContext, host: str
) -> httpcore.AsyncNetworkStream:
    try:
        return await stream.start_tls(context, server_hostname=host)
    except httpcore.ConnectError as error:
        cause = error.__cause__
        problem = "the TLS handshake failed"
        if isinstance(cause, ssl.SSLCertVerificationError):
            problem = _CERTIFICATE_PROBLEMS.get(cause.verify_code, "the certificate is not trusted")
        raise FetchFailed(problem) from None


def _request(location: Location, since: Version | None) -> httpcore.Request:
    headers = [
        (b"Host", location.authority.encode()),
        (b"Accept", b"application/jwk-set+json, application/json"),
        (b"Accept-Encoding", b"identity"),
        (b"User-Agent", b"leyden"),
        (b"Connection", b"close"),
    ]
    if since is not None:
        headers.append((b"If-None-Match", since.etag))
    url = httpcore.URL(
        scheme=location.scheme.encode(),
        host=location.host.encode(),
        port=location.port,
        target=location.target.encode(),
    )
    return httpcore.Request("GET", url, headers=headers)


def _checked_headers(headers: Headers) -> Headers:
    if len(headers) > MAX_HEADERS or sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES:
        raise FetchFailed("the answer has too many headers")
    return [(name.lower(), value) for name, value in headers]


def _check_status(status: int) -> None:
    if 300 <= status < 400:
        raise FetchFailed("the answer leads elsewhere, and redirects are not followed", status)
    if status != 200:
        raise FetchFailed(f"the answer has the status {status}", status)
