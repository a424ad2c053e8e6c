"""`leyden token mint`: tokens for development, tests and small installations.

Owns the options and the formats. Nothing leaves before the service's own rules have accepted every token.
"""

from __future__ import annotations

import csv
import io
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from leyden.auth import (
    AuthSettings,
    Family,
    KeyRejected,
    KeyRing,
    NotStrictJson,
    Refusal,
    Signer,
    claims_for,
    date_of,
    mint_token,
    parse_object,
    printable,
    signer_for,
    verifier_from,
)

from ..claims import Claim, with_claims
from ..configured import auth_settings
from ..key_ring import key_ring_for
from ..new_files import PRIVATE_MODE, write

_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_TTL: Final = re.compile(r"([0-9]{1,10})([smhd]?)\Z")
_MAX_KEY_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class _Minted:
    user_id: str
    token: str = field(repr=False)
    expires_at: int


class _Duration(click.ParamType[int]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = _TTL.match(str(value))
        seconds = int(match.group(1)) * _UNITS[match.group(2)] if match else 0
        if seconds <= 0:
            self.fail("use a number with s, m, h or d, like 90s, 15m, 1h or 7d", param, ctx)
        return seconds


class _Claims(click.ParamType[dict[str, Any]]):
    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        try:
            return parse_object(str(value).encode("utf-8", "surrogateescape"))
        except NotStrictJson as reason:
            self.fail(f'the text {reason}; give an object like {{"role":"editor"}}', param, ctx)


@click.command("mint")
@click.argument("users", metavar="SUB...", nargs=-1, required=True)
@click.option("--ttl", type=_Duration(), default="1h", show_default=True, help="Lifetime: 90s, 15m, 1h, 7d.")
@click.option(
    "--claim",
    "single",
    type=Claim(),
    multiple=True,
    help="A further claim; the value is read as JSON if it is JSON, else as text. May be repeated.",
)
@click.option("--claims", "several", type=_Claims(), help="Further claims, as one JSON object.")
@click.option(
    "--key",
    "--private-key",
    "key_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM file with the private key; not needed for HS* and in insecure mode.",
)
@click.option("--kid", help="Name of the key, for a key set. [default: its name in the configured set]")
@click.option(
    "--jwks",
    "jwks_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A saved copy of the issuer's key set, when AUTH_JWT_JWKS_URL or AUTH_JWT_OIDC_ISSUER is set.",
)
@click.option(
    "--format",
    "chosen_format",
    type=click.Choice(["text", "json", "csv"]),
    help="text: the bare token, or user: token for several users. json: user to token and expiry. "
    "csv: user,token,expiry. [default: text; csv with --output]",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this new file, readable to you alone, instead of printing.",
)
@click.option("--force", is_flag=True, help="Let --output replace a file.")
def mint(
    users: tuple[str, ...],
    ttl: int,
    single: tuple[tuple[str, Any], ...],
    several: dict[str, Any] | None,
    key_file: Path | None,
    kid: str | None,
    jwks_file: Path | None,
    chosen_format: str | None,
    output: Path | None,
    force: bool,
) -> None:
    """Make a token for each user SUB which the service, configured as this environment is, accepts.

    Algorithm, issuer, audience and namespace come from AUTH_JWT_ALG, AUTH_JWT_ISS, AUTH_JWT_AUD and
    AUTH_JWT_NAMESPACE. HS* signs with AUTH_JWT_KEY; other algorithms need --key. With AUTH_MODE=insecure
    tokens are not signed. Whoever has a token is its user until it expires: keep them short-lived and secret.

    \b
    Examples:
      leyden token mint alice --ttl 15m --claim role=editor --key keys/leyden-ES256-private.pem
      leyden token mint alice bob --key private.pem --output tokens.csv
      leyden token mint alice --claims '{"role":"editor","teams":[1,2]}' --key private.pem | leyden token explain -
    """
    if force and output is None:
        raise click.UsageError("--force is for --output")
    settings = auth_settings()
    ring = key_ring_for(settings, jwks_file) if jwks_file is not None or settings.remote is None else KeyRing()
    signer = _signer(settings, ring, key_file)
    if kid is None and signer is not None:
        kid = signer.public.kid or None
    elif kid is not None and signer is None:
        raise click.UsageError("insecure mode does not sign; leave --kid out")
    judge = ring if ring or signer is None else KeyRing([signer.public])
    typ = "JWT" if settings.types is None or "jwt" in settings.types else min(settings.types)
    now = int(time.time())
    minted = []
    for user_id in dict.fromkeys(users):
        token = _token(_claims(user_id, settings, now, ttl, with_claims(several or {}, single)), signer, typ, kid)
        _verify(token, user_id, now, settings, judge)
        minted.append(_Minted(user_id, token, now + ttl))
    if settings.remote is not None and jwks_file is None and signer is not None:
        _say_what_is_unknown(settings, signer, kid)
    text = _formatted(minted, chosen_format or ("text" if output is None else "csv"))
    if output is None:
        click.echo(text, nl=False)
    else:
        write(output, text, PRIVATE_MODE, force=force)
        click.echo(f"Wrote {output}, readable to you alone", err=True)


def _claims(user_id: str, settings: AuthSettings, now: int, ttl: int, extra: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return claims_for(user_id, settings, now=now, ttl=ttl, extra=extra)
    except ValueError as reason:
        raise click.UsageError(str(reason)) from None


def _signer(settings: AuthSettings, ring: KeyRing, key_file: Path | None) -> Signer | None:
    """What signs under these settings; None in insecure mode."""
    if settings.insecure:
        if key_file is not None:
            raise click.UsageError("insecure mode does not sign; leave --key out")
        return None
    names = " or ".join(algorithm.name for algorithm in settings.algorithms)
    if settings.algorithms[0].family is Family.HMAC:
        if key_file is not None:
            raise click.UsageError(f"{names} signs with AUTH_JWT_KEY; leave --key out")
        secret = ring.keys[0]
        return Signer(secret.algorithm, secret.material, secret)
    if key_file is None:
        raise click.UsageError(f"{names} needs the private key: --key FILE")
    try:
        with key_file.open("rb") as file:
            signer = signer_for(file.read(_MAX_KEY_BYTES), settings.algorithms, ring)
    except KeyRejected as reason:
        raise click.ClickException(f"the key in {key_file} {reason.message}; {reason.remedy}") from None
    except OSError as error:
        raise click.ClickException(f"cannot read {key_file}: {error.strerror or 'unusable path'}") from None
    if ring and signer.public.thumbprint not in ring.thumbprints:
        raise click.ClickException(
            f"the key in {key_file} (thumbprint {signer.public.thumbprint}) is not the other half of a configured one,"
            " so that the service would refuse its tokens (signature_invalid);"
            " give the right private key, or configure its public half. `leyden keys check` lists the configured keys"
        )
    return signer


def _token(claims: Mapping[str, Any], signer: Signer | None, typ: str, kid: str | None) -> str:
    try:
        if signer is None:
            return mint_token(claims)
        return mint_token(claims, algorithm=signer.algorithm, key=signer.key, typ=typ, kid=kid)
    except ValueError as error:
        raise click.ClickException(f"cannot make the token: {type(error).__name__}") from None


def _verify(token: str, user_id: str, now: int, settings: AuthSettings, ring: KeyRing) -> None:
    try:
        verifier_from(settings, ring).verify(token, now)
    except Refusal as refusal:
        remedy = "; leave --kid out, or give the key's name in the set" if refusal.code == "key_unknown" else ""
        raise click.ClickException(
            f"the service would refuse the token for {printable(user_id)} ({refusal.code}): {refusal.message}{remedy}"
        ) from None


def _say_what_is_unknown(settings: AuthSettings, signer: Signer, kid: str | None) -> None:
    name = "AUTH_JWT_JWKS_URL" if settings.remote and settings.remote.jwks_url else "AUTH_JWT_OIDC_ISSUER"
    called = f"kid {printable(kid)}" if kid is not None else "no kid"
    click.echo(
        f"Not checked: whether the key set of {name} has this key"
        f" ({called}, {signer.algorithm.name}, thumbprint {signer.public.thumbprint});"
        " --jwks FILE checks against a saved set. All else the service asks of a token holds.",
        err=True,
    )


def _formatted(minted: Sequence[_Minted], chosen: str) -> str:
    if chosen == "json":
        users = {one.user_id: {"token": one.token, "expiry": date_of(one.expires_at)} for one in minted}
        return json.dumps(users, indent=2) + "\n"
    if chosen == "csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(
            (one.user_id, one.token, date_of(one.expires_at)) for one in minted
        )
        return text.getvalue()
    if len(minted) == 1:
        return minted[0].token + "\n"
    return "".join(f"{_line(one.user_id)}: {one.token}\n" for one in minted)


def _line(user_id: str) -> str:
    return user_id if user_id.isprintable() else printable(user_id, 1024)
