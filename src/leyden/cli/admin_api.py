"""How commands talk to the admin API of a running service: where it is, with which secret, and what failures mean.

Sends the secret to the configured address alone: no proxy of the environment is used, no redirect followed.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click
import httpcore

from leyden.config import DEFAULT_ADMIN_PORT
from leyden.edge.admission import is_loopback_host
from leyden.observe.fields import shown

_URL: Final = "LEYDEN_ADMIN_URL"
_CREDENTIAL: Final = "LEYDEN_ADMIN_TOKEN"
_CREDENTIAL_FILE: Final = "LEYDEN_ADMIN_TOKEN_FILE"

_DEFAULT_URL: Final = f"http://127.0.0.1:{DEFAULT_ADMIN_PORT}"
_LARGEST_ANSWER: Final = 64 << 20
_LARGEST_SECRET: Final = 1_024
_TIMEOUT: Final = {"connect": 5.0, "read": 30.0, "write": 30.0, "pool": 5.0}


def call(method: str, path: str, member: str, body: Mapping[str, object] | None = None) -> Any:
    """``member`` of the JSON object that the service answers.

    Raises:
        click.UsageError: the environment does not say how to reach it (exit status 2).
        click.ClickException: it cannot be reached, or refuses (exit status 1).
    """
    url, secret = _url(), _secret()
    headers = [("authorization", f"Bearer {secret}"), ("accept", "application/json")]
    content = None
    if body is not None:
        headers.append(("content-type", "application/json"))
        content = json.dumps(body).encode("ascii")
    status, text = _exchange(method, url, path, headers, content)
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if status >= 300:
        raise click.ClickException(_refusal(url, status, answer))
    if not isinstance(answer, dict) or member not in answer:
        raise click.ClickException(f"what answers at {url} is not the admin API; check {_URL}")
    return answer[member]


def _exchange(
    method: str, url: str, path: str, headers: Sequence[tuple[str, str]], content: bytes | None
) -> tuple[int, bytes]:
    """Status and body of the answer, whatever they are."""
    try:
        with (
            httpcore.ConnectionPool(ssl_context=ssl.create_default_context()) as pool,
            pool.stream(
                method, url + path, headers=headers, content=content, extensions={"timeout": _TIMEOUT}
            ) as response,
        ):
            answer = bytearray()
            for chunk in response.iter_stream():
                answer += chunk
                if len(answer) > _LARGEST_ANSWER:
                    raise click.ClickException(f"the answer of {url} is too large")
            return response.status, bytes(answer)
    except httpcore.ConnectError as error:
        raise click.ClickException(
            f"{url} cannot be reached ({error}); is the service running with ADMIN_TOKENS_FILE set?"
            f" {_URL} says where to look"
        ) from None
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
        raise click.ClickException(f"{url} does not answer as it should: {type(error).__name__}") from None


def _refusal(url: str, status: int, answer: object) -> str:
    message = answer.get("message") if isinstance(answer, dict) else None
    told = f" ({shown(message)})" if isinstance(message, str) else ""
    match status:
        case 401:
            return (
                f"{url} does not know this secret; its line must have stood in ADMIN_TOKENS_FILE when the service"
                f" started, see `leyden admin token new --help`{told}"
            )
        case 403:
            return f"{url} does not allow this call{told}"
        case 429:
            return f"{url} got too many wrong secrets from here; wait a minute{told}"
        case _:
            return f"{url} answered with status {status}{told}"


def _url() -> str:
    url = os.environ.get(_URL, "").strip() or _DEFAULT_URL
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    plain = not (parts.query or parts.fragment or parts.username or parts.password)
    if parts.scheme not in ("http", "https") or not host or not plain or not url.isascii():
        raise click.UsageError(f"{_URL} is not usable; set it to something like {_DEFAULT_URL}")
    if parts.scheme == "http" and not is_loopback_host(parts.netloc):
        click.echo(f"Warning: {_URL} leads to another machine without TLS; the secret can be read on the way", err=True)
    return url.rstrip("/")


def _secret() -> str:
    given, path = os.environ.get(_CREDENTIAL, "").strip(), os.environ.get(_CREDENTIAL_FILE, "").strip()
    if given and path:
        raise click.UsageError(f"{_CREDENTIAL} and {_CREDENTIAL_FILE} are both set; keep one")
    if not given and not path:
        raise click.UsageError(
            f"set {_CREDENTIAL}, or {_CREDENTIAL_FILE} to a file that holds it;"
            " `leyden admin token new NAME --scope sessions` makes one"
        )
    if path:
        try:
            with Path(path).open("r", encoding="ascii") as file:
                given = file.read(_LARGEST_SECRET).strip()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "it holds no secret"
            raise click.UsageError(f"{_CREDENTIAL_FILE} cannot be used: {reason}") from None
    if not given or not given.isascii() or not given.isprintable() or " " in given:
        raise click.UsageError(f"{_CREDENTIAL_FILE if path else _CREDENTIAL} holds no secret")
    return given
