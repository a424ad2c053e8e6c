"""Which keys a command judges tokens with: those of the settings, or of an issuer's key set."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Final, NoReturn

import click

from leyden.auth import (
    AuthSettings,
    FetchFailed,
    InvalidJwkSet,
    JwkSet,
    KeyRing,
    RemoteKeys,
    fetch_key_set_once,
    parse_jwk_set,
    printable,
)

from .configured import CONFIGURATION_EXIT

_MAX_BYTES: Final = 262_144


def key_ring_for(settings: AuthSettings, jwks_file: Path | None) -> KeyRing:
    """The keys that may judge tokens under `settings`; ends the process with status 2 when there are none to be had.

    `jwks_file` is a saved copy of the key set of AUTH_JWT_JWKS_URL or AUTH_JWT_OIDC_ISSUER. Keys of it that may not
    judge tokens are named on standard error.
    """
    if jwks_file is not None:
        if settings.remote is None:
            raise click.UsageError(
                "--jwks stands in for AUTH_JWT_JWKS_URL or AUTH_JWT_OIDC_ISSUER, and neither is set; leave it out"
            )
        return _saved(settings, jwks_file)
    return settings.ring if settings.remote is None else _fetched(settings, settings.remote)


def _fetched(settings: AuthSettings, remote: RemoteKeys) -> KeyRing:
    """The issuer's keys as they are now, fetched by the rules that the service keeps."""
    name = "AUTH_JWT_JWKS_URL" if remote.jwks_url is not None else "AUTH_JWT_OIDC_ISSUER"
    click.echo(f"Asking {printable(remote.address, 256)} for its keys (--jwks FILE does without)", err=True)
    try:
        fetched = asyncio.run(fetch_key_set_once(remote, settings.algorithms))
    except FetchFailed as failed:
        _give_up(
            f"the keys of {name} cannot be had: {failed}",
            f"try again, or save its key set ({_where(remote)}) to a file and give it with --jwks FILE",
        )
    return _usable(settings, "the issuer's key set", fetched)


def _where(remote: RemoteKeys) -> str:
    return "the content of that URL" if remote.jwks_url else "what its jwks_uri shows"


def _saved(settings: AuthSettings, path: Path) -> KeyRing:
    try:
        with path.open("rb") as file:
            parsed = parse_jwk_set(file.read(_MAX_BYTES + 1), settings.algorithms)
    except OSError as error:
        _give_up(f"{path} cannot be read: {error.strerror}", "check its path and permissions")
    except InvalidJwkSet as reason:
        _give_up(f"the key set in {path} {reason}", 'give a JWK Set: {"keys": […]} (RFC 7517)')
    return _usable(settings, str(path), parsed)


def _usable(settings: AuthSettings, source: str, parsed: JwkSet) -> KeyRing:
    for skipped in parsed.skipped:
        name = printable(skipped.kid) if skipped.kid is not None else "without kid"
        click.echo(f"{source}: the key {name} is not used: it {skipped.reason}", err=True)
    if not parsed.keys:
        names = ", ".join(algorithm.name for algorithm in settings.algorithms)
        _give_up(f"{source} has no usable key for {names}", "give another set, or correct AUTH_JWT_ALG")
    return KeyRing(parsed.keys, kids_select=True)


def _give_up(problem: str, remedy: str) -> NoReturn:
    click.echo(f"CONFIGURATION ERROR\n\n  {problem}\n      → {remedy}", err=True)
    sys.exit(CONFIGURATION_EXIT)
