"""Where an OpenID Connect issuer publishes its keys.

Owns OpenID Connect Discovery 1.0 §4 as far as a resource server needs it: one document, two of its members. What the
issuer says about algorithms is not read: those are configured (RFC 8725 §3.1).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

from ..pause import Clock
from ..strict_json import NotStrictJson, parse_object
from .failure import FetchFailed
from .fetching import Fetched, Version
from .location import locate

LIFETIME: Final = 86_400
"""Seconds for which the document is believed."""
_WELL_KNOWN: Final = "/.well-known/openid-configuration"

Get = Callable[[str, Version | None], Awaitable[Fetched]]
"""A fetch of one URL, see `Fetcher.get`."""


class Discovery:
    """The key set of one issuer, wherever that publishes it at the moment."""

    def __init__(self, issuer: str, get: Get, *, allow_http: bool, now: Clock) -> None:
        """`issuer` is the configured issuer URL, which must equal the `iss` of tokens to the letter."""
        self._issuer = issuer
        self._get = get
        self._allow_http = allow_http
        self._now = now
        self._jwks_uri: str | None = None
        self._good_until = now()

    async def key_set(self, known: Version | None) -> Fetched:
        """Fetch the key set, finding it first when need be: four requests at most. Raises `FetchFailed`."""
        uri = self._jwks_uri if self._now() < self._good_until else None
        if uri is not None:
            try:
                return await self._get(uri, known)
            except FetchFailed as failure:
                if not failure.gone:
                    raise
        return await self._get(await self._discover(), known)

    async def _discover(self) -> str:
        asked = self._now()
        self._jwks_uri = self._jwks_uri_in(await self._document())
        self._good_until = asked + LIFETIME
        return self._jwks_uri

    async def _document(self) -> bytes:
        if "?" in self._issuer:  # §3, and the path could not be appended to it
            raise FetchFailed("the issuer's URL has a query")
        try:
            fetched = await self._get(self._issuer.removesuffix("/") + _WELL_KNOWN, None)
        except FetchFailed as failure:
            inserted = _with_inserted_path(self._issuer)
            if failure.status is None or inserted is None:
                raise
            fetched = await self._get(inserted, None)
        if fetched.body is None:
            raise FetchFailed("the issuer's configuration has no content")
        return fetched.body

    def _jwks_uri_in(self, document: bytes) -> str:
        try:
            configuration = parse_object(document)
        except NotStrictJson as reason:
            raise FetchFailed(f"the issuer's configuration {reason}") from None
        # §4.3, and RFC 8414 §3.3: whoever could answer for another issuer could have his own keys used for it.
        if configuration.get("issuer") != self._issuer:
            raise FetchFailed("the issuer's configuration is that of another issuer")
        jwks_uri = configuration.get("jwks_uri")
        if not isinstance(jwks_uri, str):
            raise FetchFailed("the issuer's configuration names no jwks_uri")
        try:
            locate(jwks_uri, allow_http=self._allow_http)
        except FetchFailed as failure:
            raise FetchFailed(f"the issuer's configuration names an unusable jwks_uri: {failure.reason}") from None
        return jwks_uri


def _with_inserted_path(issuer: str) -> str | None:
    """RFC 8414 §5: the well-known part between host and path. None when the issuer has no path to speak of."""
    parts = urlsplit(issuer)
    path = parts.path.removesuffix("/")
    return f"{parts.scheme}://{parts.netloc}{_WELL_KNOWN}{path}" if path else None
