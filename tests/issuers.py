"""An issuer of keys for tests: a small web server whose every answer can be programmed, with certificates of its own.

It speaks just enough HTTP/1.1 to answer a GET, and can answer as badly as a test wants:

    authority = CertificateAuthority(tmp_path)
    async with Issuer(tls=authority.server("issuer.test")) as issuer:
        issuer.answers["/jwks"] = Answer(body=key_set(published("a")), etag='"1"')
        ...
        assert issuer.count("/jwks") == 2
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from joserfc import jwt
from joserfc.jwk import ECKey

# ---- keys -----------------------------------------------------------------------------------------------------------


def signing_key(kid: str) -> ECKey:
    """A new private ES256 key."""
    return ECKey.generate_key("P-256", {"kid": kid})


def published(key: ECKey | str, **members: Any) -> dict[str, Any]:
    """A public ES256 key as it stands in a set: that of `key`, or a new one called so."""
    private = signing_key(key) if isinstance(key, str) else key
    return {**private.as_dict(private=False), **members}


def token_under(key: ECKey, *, user: str = "user-1", lifetime: float = 600, **claims: Any) -> str:
    """A token of now, signed with `key` and naming it."""
    now = int(time.time())
    content = {"sub": user, "iat": now, "exp": now + int(lifetime), **claims}
    return jwt.encode({"alg": "ES256", "typ": "JWT", "kid": key.kid}, content, key)


def key_set(*keys: Mapping[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


# ---- answers --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""


@dataclass(frozen=True)
class Answer:
    """What a path answers."""

    body: bytes = b""
    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    etag: str | None = None
    """Sent along, and whoever knows it already gets 304."""
    delay: float = 0.0
    """Seconds of silence before the answer."""
    drip: float | None = None
    """Seconds between single bytes of the body."""
    endless: bool = False
    """Whether `body` is repeated for ever, without a length."""
    declared_length: int | None = None
    """A length to claim in place of the true one."""
    raw: bytes | None = None
    """Sent in place of all of the above, head included."""
    repeat_raw: bool = False
    """Whether `raw` is repeated for ever."""
    hold: float = 0.0
    """Seconds for which the connection stays open after the answer."""


def redirect(to: str, status: int = 302) -> Answer:
    return Answer(status=status, headers=[("Location", to)])


NOT_FOUND = Answer(status=404, body=b"nothing here")


class Issuer:
    """The server, on a free port of 127.0.0.1. A path's answer may be one for each request: a function."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, Answer | Callable[[Request], Answer]] = {}
        self.requests: list[Request] = []
        self.connections = 0
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def url(self, path: str = "", *, host: str = "127.0.0.1") -> str:
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    def count(self, path: str) -> int:
        """How often `path` was asked for."""
        return sum(request.path == path for request in self.requests)

    def configure(self, *, issuer: str | None = None, jwks_uri: str | None = None, host: str = "127.0.0.1") -> str:
        """Publish a discovery document, truthful unless told otherwise; the issuer's URL."""
        own = self.url(host=host)
        document = {"issuer": issuer or own, "jwks_uri": jwks_uri or f"{own}/jwks"}
        self.answers["/.well-known/openid-configuration"] = Answer(body=json.dumps(document).encode())
        return own

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            request = await _read_request(reader)
            self.requests.append(request)
            answer = self.answers.get(request.path, NOT_FOUND)
            if callable(answer):
                answer = answer(request)
            await _write_answer(writer, request, answer)
            await asyncio.sleep(answer.hold)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the other side has had enough, or the test has
        finally:
            self._serving.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _read_request(reader: asyncio.StreamReader) -> Request:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:] if line)
    return Request(lines[0].split(" ")[1], {name.lower(): value for name, value in headers.items()})


async def _write_answer(writer: asyncio.StreamWriter, request: Request, answer: Answer) -> None:
    await asyncio.sleep(answer.delay)
    if answer.raw is not None:
        await _write(writer, answer.raw, for_ever=answer.repeat_raw)
        return
    known = answer.etag is not None and request.headers.get("if-none-match") == answer.etag
    body = b"" if known else answer.body
    head = [f"HTTP/1.1 {304 if known else answer.status} Whatever", "Connection: close"]
    head += [f"{name}: {value}" for name, value in answer.headers]
    if answer.etag is not None:
        head.append(f"ETag: {answer.etag}")
    if not answer.endless and not known:
        length = len(body) if answer.declared_length is None else answer.declared_length
        head.append(f"Content-Length: {length}")
    writer.write("\r\n".join([*head, "", ""]).encode("latin-1"))
    if answer.drip is not None:
        for octet in body:
            await _write(writer, bytes([octet]))
            await asyncio.sleep(answer.drip)
    else:
        await _write(writer, body, for_ever=answer.endless)


async def _write(writer: asyncio.StreamWriter, octets: bytes, *, for_ever: bool = False) -> None:
    while not writer.is_closing():
        writer.write(octets)
        await writer.drain()
        if not for_ever:
            return
        await asyncio.sleep(0)  # drain alone does not wait when the other side is gone


# ---- certificates ---------------------------------------------------------------------------------------------------


@dataclass
class CertificateAuthority:
    """Somebody whose certificates count where `file` is trusted; keeps its files in `directory`."""

    directory: Path
    name: str = "authority"
    _key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = _certificate(subject, subject, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self._certificate = builder.add_extension(usage, critical=True).sign(self._key, SHA256())
        self.file = self.directory / f"{self.name}.pem"
        self.file.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    def server(
        self,
        *names: str,
        valid_for: timedelta = timedelta(days=1),
        age: timedelta = timedelta(days=2),
        newest_tls: ssl.TLSVersion | None = None,
    ) -> ssl.SSLContext:
        """A server's TLS with a certificate for these host names and addresses, made `age` ago and valid until
        `valid_for` from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        builder = _certificate(subject, self._certificate.subject, key.public_key(), age=age, valid_for=valid_for)
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = builder.add_extension(authority, critical=False).sign(self._key, SHA256())
        chain = self.directory / f"server-{certificate.serial_number}.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        chain.write_bytes(private + certificate.public_bytes(Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        if newest_tls is not None:
            context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            context.maximum_version = newest_tls
        return context


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    *,
    age: timedelta = timedelta(days=2),
    valid_for: timedelta = timedelta(days=1),
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - age)
        .not_valid_after(now + valid_for)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
