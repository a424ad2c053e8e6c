"""DATABASE_URL: where Postgres is.

Owns the accepted form of the URL and its translation to libpq's words. Opens no connection. A problem's
text never quotes the URL, not even its scheme: in a malformed one any piece may be the password.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from psycopg.conninfo import make_conninfo

from .problems import Unusable

_SHAPE: Final = "use postgresql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=require"
_SSL_MODES: Final = ("disable", "allow", "prefer", "require")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """A parsed DATABASE_URL. Its representation leaves the password out."""

    user: str
    host: str
    """A name, an address, or the directory of a Unix socket."""
    port: int
    name: str
    password: str | None = field(default=None, repr=False)
    sslmode: str | None = None
    """As the URL says, one of disable, allow, prefer, require."""

    def conninfo(self, *, require_ssl: bool | None) -> str:
        """The libpq connection string, password included.

        `require_ssl` (DATABASE_REQUIRE_SSL) wins over the URL's sslmode; when both are silent TLS is
        required. libpq ignores all of it on a Unix socket.
        """
        if require_ssl is None:
            sslmode = self.sslmode or "require"
        elif require_ssl:
            sslmode = "require"
        else:
            sslmode = self.sslmode if self.sslmode and self.sslmode != "require" else "prefer"
        return make_conninfo(
            "",
            user=self.user,
            password=self.password,
            host=self.host,
            port=self.port,
            dbname=self.name,
            sslmode=sslmode,
        )


def parse_database_url(text: str) -> DatabaseAddress:
    """Parse DATABASE_URL; raises `Unusable` for the first thing wrong with it.

    `postgres://` or `postgresql://`, percent-encoding, port 5432 and the user's name as database when
    left out; a host that decodes to an absolute path is a Unix socket's directory, as in libpq.
    """
    text = text.strip()
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError:
        raise Unusable("has an invalid host or port", _SHAPE) from None
    if url.scheme not in ("postgres", "postgresql") or not text.partition(":")[2].startswith("//"):
        raise Unusable("has an invalid URL scheme", _SHAPE)
    if _BAD_ESCAPE.search(text) or "\0" in unquote(text):
        raise Unusable("has an invalid percent escape", f"write % as %25; {_SHAPE}")
    user = unquote(url.username or "")
    if not user.strip():
        raise Unusable("has an invalid or missing user name", _SHAPE)
    if not host:
        raise Unusable("is missing the host", _SHAPE)
    # urlsplit lower-cases the host, which would break a socket directory.
    host = unquote(_host_as_written(url.netloc) if "%2f" in host.lower() else host)
    if "/" in url.path[1:]:
        raise Unusable("has an invalid database name", _SHAPE)
    return DatabaseAddress(
        user=user,
        host=host,
        port=5432 if port is None else port,
        name=unquote(url.path[1:]) or user,
        password=None if url.password is None else unquote(url.password),
        sslmode=_sslmode(url.query),
    )


def _host_as_written(netloc: str) -> str:
    return netloc.rpartition("@")[2].partition(":")[0]


def _sslmode(query: str) -> str | None:
    sslmode = None
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "replication":
            raise Unusable(
                'has the unsupported option "replication"',
                "leave it out: the service opens its own replication",
            )
        if name != "sslmode":
            raise Unusable("has unsupported query options", "sslmode is the only one")
        if value in ("verify-ca", "verify-full"):
            raise Unusable(f"has the unsupported sslmode {value}", "use sslmode=require or DATABASE_REQUIRE_SSL=true")
        if value not in _SSL_MODES:
            raise Unusable("has an invalid sslmode", f"use one of: {', '.join(_SSL_MODES)}")
        sslmode = value
    return sslmode
