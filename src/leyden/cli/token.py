"""`leyden token`: make a token, or ask why one is refused.

Owns the words and the JSON these commands print. Judging and signing are `leyden.auth`'s, under the
AUTH_* settings of the environment; no other setting matters here. Never prints a key or a signature,
except inside a minted token.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import click

from leyden.auth import (
    AuthSettings,
    Explanation,
    Family,
    KeyRejected,
    Refusal,
    TokenVerifier,
    date_of,
    explain,
    load_private_key,
    mint_token,
    printable,
    verifier_from,
)

from .configured import auth_settings

_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_TTL: Final = re.compile(r"([0-9]{1,10})([smhd]?)\Z")
_MARKS: Final = {"pass": "ok     ", "fail": "FAILED ", "skipped": "-      "}
_RESERVED: Final = frozenset({"sub", "user_id", "iat", "exp", "nbf", "iss", "aud"})


@click.group()
def token() -> None:
    """Make tokens and explain verdicts on them.

    Example: leyden token explain "$TOKEN"
    """


class _Duration(click.ParamType[int]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = _TTL.match(str(value))
        seconds = int(match.group(1)) * _UNITS[match.group(2)] if match else 0
        if seconds <= 0:
            self.fail("use a number with s, m, h or d, like 90s, 15m, 1h or 7d", param, ctx)
        return seconds


class _Claim(click.ParamType[tuple[str, Any]]):
    name = "k=v"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        if isinstance(value, tuple):
            return value
        name, equals, text = str(value).partition("=")
        if not name or not equals:
            self.fail("write a claim as name=value", param, ctx)
        if name in _RESERVED:
            self.fail(f"{name} is set by SUB, --ttl or the settings", param, ctx)
        try:
            return name, json.loads(text, parse_constant=_not_json)
        except (ValueError, RecursionError):
            return name, text


def _not_json(constant: str) -> None:
    raise ValueError(constant)


@token.command("mint")
@click.argument("sub")
@click.option("--ttl", type=_Duration(), default="1h", show_default=True, help="Lifetime: 90s, 15m, 1h, 7d.")
@click.option(
    "--claim",
    "extra",
    type=_Claim(),
    multiple=True,
    help="A further claim; the value is read as JSON if it is JSON, else as text. May be repeated.",
)
@click.option(
    "--key",
    "key_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM file with the private key; not needed for HS* and in insecure mode.",
)
def mint(sub: str, ttl: int, extra: tuple[tuple[str, Any], ...], key_file: Path | None) -> None:
    """Print a token for the user SUB which the service, configured as this environment is, accepts.

    Algorithm, issuer, audience and namespace come from AUTH_JWT_ALG, AUTH_JWT_ISS, AUTH_JWT_AUD and
    AUTH_JWT_NAMESPACE. HS* signs with AUTH_JWT_KEY; other algorithms need --key. With AUTH_MODE=insecure
    the token is not signed.

    \b
    Example:
      leyden token mint alice --ttl 15m --claim role=editor --key keys/leyden-ES256-private.pem
    """
    settings = auth_settings()
    now = int(time.time())
    claims: dict[str, Any] = dict(extra)
    if settings.namespace is None:
        claims["sub"] = sub
    elif settings.namespace in claims or settings.namespace in _RESERVED - {"sub", "user_id"}:
        raise click.UsageError("a claim clashes with AUTH_JWT_NAMESPACE")
    else:
        claims[settings.namespace] = {"sub": sub}
    claims |= {"iat": now, "exp": now + ttl}
    if settings.issuer is not None:
        claims["iss"] = settings.issuer
    if settings.audience is not None:
        claims["aud"] = settings.audience
    try:
        minted = _sign(claims, settings, key_file)
    except KeyRejected as reason:
        raise click.ClickException(f"the key in {key_file} {reason.message}; {reason.remedy}") from None
    except (ValueError, OSError) as error:
        raise click.ClickException(f"cannot make the token: {type(error).__name__}") from None
    try:
        verifier_from(settings).verify(minted, now)
    except Refusal as refusal:
        hint = "; does --key belong to AUTH_JWT_KEY?" if refusal.code == "signature_invalid" else ""
        message = f"the service would refuse this token ({refusal.code}): {refusal.message}{hint}"
        raise click.ClickException(message) from None
    click.echo(minted)


def _sign(claims: Mapping[str, Any], settings: AuthSettings, key_file: Path | None) -> str:
    algorithm = settings.algorithms[0] if settings.algorithms else None
    if algorithm is None:
        if key_file is not None:
            raise click.UsageError("insecure mode does not sign; leave --key out")
        return mint_token(claims)
    typ = "JWT" if settings.types is None or "jwt" in settings.types else min(settings.types)
    if algorithm.family is Family.HMAC:
        if key_file is not None:
            raise click.UsageError(f"{algorithm.name} signs with AUTH_JWT_KEY; leave --key out")
        return mint_token(claims, algorithm=algorithm, key=settings.ring.keys[0].material, typ=typ)
    if key_file is None:
        raise click.UsageError(f"{algorithm.name} needs the private key: --key FILE")
    key = load_private_key(key_file.read_bytes(), algorithm)
    return mint_token(claims, algorithm=algorithm, key=key, typ=typ)


@token.command("explain")
@click.argument("given", metavar="TOKEN|-")
@click.option("--json", "as_json", is_flag=True, help="Answer as one line of JSON.")
@click.option("--now", type=click.FloatRange(0, 253_402_300_799), help="Judge at this time, in Unix seconds.")
def explain_(given: str, as_json: bool, now: float | None) -> None:
    """Say whether the service, configured as this environment is, accepts TOKEN, and why.

    With - as TOKEN, tokens are read from standard input, one a line (a line that begins with a quotation
    mark is read as a JSON string), and each is answered by one line of JSON. Nothing is sent anywhere.
    Exit status: 0 accepted, 1 refused, 2 wrong configuration.

    \b
    Examples:
      leyden token explain "$TOKEN"
      leyden token explain --json --now 1760000000 - < tokens.txt
    """
    verifier = verifier_from(auth_settings())
    if given == "-":
        sys.exit(0 if _explain_lines(verifier, now) else 1)
    moment = time.time() if now is None else now
    explanation = explain(given, moment, verifier)
    if as_json:
        click.echo(_json_line(explanation))
    else:
        click.echo("\n".join(_sentences(explanation, moment)))
    sys.exit(0 if explanation.accepted else 1)


def _explain_lines(verifier: TokenVerifier, now: float | None) -> bool:
    """Answer standard input line by line; whether every token was accepted."""
    all_accepted = True
    source = sys.stdin.buffer
    answer = sys.stdout
    for line in source:
        explanation = explain(_token_of(line), time.time() if now is None else now, verifier)
        all_accepted = all_accepted and explanation.accepted
        answer.write(_json_line(explanation) + "\n")
        answer.flush()
    return all_accepted


def _token_of(line: bytes) -> str:
    """The token on one line. Nothing is trimmed but the line's end: white space is part of what is judged."""
    text = line.removesuffix(b"\n").decode("utf-8", "surrogateescape")
    if text.startswith('"'):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return text
        return value if isinstance(value, str) else text
    return text


def _json_line(explanation: Explanation) -> str:
    return json.dumps(
        {
            "accepted": explanation.accepted,
            "user_id": explanation.user_id,
            "code": explanation.code,
            "checks": [
                {
                    "name": check.name,
                    "outcome": check.outcome,
                    "detail": check.detail,
                    "setting": check.setting,
                }
                for check in explanation.checks
            ],
            "hints": list(explanation.hints),
        }
    )


def _sentences(explanation: Explanation, now: float) -> Iterable[str]:
    """The explanation for a terminal. Everything from the token is escaped: it may be a stranger's."""
    if explanation.header:
        yield "Header: " + json.dumps(explanation.header)
    if explanation.claims:
        yield "Claims: " + json.dumps(explanation.claims)
        for name in ("iat", "nbf", "exp"):
            value = explanation.claims.get(name)
            if value is not None and (date := date_of(value)):
                yield f"  {name} {date}, {_distance(value - now)}"
    if explanation.header or explanation.claims:
        yield ""
    for check in explanation.checks:
        setting = f" [{check.setting}]" if check.setting else ""
        yield f"{_MARKS[check.outcome]}{check.name}{setting}"
        if check.detail:
            yield f"       {check.detail}"
    yield ""
    if explanation.accepted:
        yield f"Accepted as user {printable(explanation.user_id or '', 1024)}"
    else:
        yield f"Refused: {explanation.code}"
    for hint in explanation.hints:
        yield f"Hint: {hint}"


def _distance(seconds: float) -> str:
    """A time span relative to now, in the largest unit that leaves at least one."""
    amount = abs(seconds)
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if amount >= size:
            return f"{int(amount // size)} {unit} ago" if seconds < 0 else f"in {int(amount // size)} {unit}"
    return "now"
