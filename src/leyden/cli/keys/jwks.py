"""`leyden keys jwks`: a JWK Set from public keys, for AUTH_JWT_JWKS_FILE or for publishing."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from leyden.auth import (
    ALGORITHMS,
    MAX_FILE_BYTES,
    Family,
    KeyRejected,
    VerificationKey,
    load_keys,
    parse_jwk_set,
    printable,
    public_jwk,
    report_on_file,
)

from ..new_files import PUBLIC_MODE, write

_ALGORITHMS = tuple(algorithm for algorithm in ALGORITHMS.values() if algorithm.family is not Family.HMAC)


@click.command("jwks")
@click.argument(
    "files",
    metavar="PUBLIC.pem...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option("--kid", help="Name of the key, if there is only one. [default: its RFC 7638 thumbprint]")
@click.option(
    "--alg",
    "algorithm",
    type=click.Choice([algorithm.name for algorithm in _ALGORITHMS]),
    help="Algorithm of all the keys. [default: that of the curve; RS256 for RSA, EdDSA for Ed25519]",
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write to this new file.")
@click.option("--force", is_flag=True, help="Let --out replace a file, in one step.")
def jwks(files: tuple[Path, ...], kid: str | None, algorithm: str | None, out: Path | None, force: bool) -> None:
    """Make a JWK Set (RFC 7517) of the public keys in PEM files, one key or certificate or several to a file.

    Private keys are refused: a set is for everybody to read. To rotate, make a set of the old and the new key, let
    the issuer sign with the new one, and leave the old one out when its last token has expired; a service reads a
    changed AUTH_JWT_JWKS_FILE by itself.

    \b
    Example:
      leyden keys jwks old-public.pem new-public.pem --out keys.json
      AUTH_JWT_ALG=ES256 AUTH_JWT_JWKS_FILE=keys.json leyden start
    """
    if force and out is None:
        raise click.UsageError("--force is for --out")
    loaded = [key for path in files for key in _keys(path, algorithm)]
    if kid is not None and len(loaded) != 1:
        raise click.UsageError(f"--kid names one key, and there are {len(loaded)}")
    names = [kid or key.thumbprint for key in loaded]
    for name in names:
        if names.count(name) > 1:
            raise click.ClickException(f"the key {printable(name)} is there twice; give each key once")
    members = [public_jwk(key, name) for key, name in zip(loaded, names, strict=True)]
    text = json.dumps({"keys": members}, indent=2) + "\n"
    skipped = parse_jwk_set(text.encode("ascii"), _ALGORITHMS).skipped
    if skipped:
        raise click.ClickException(f"the key {printable(skipped[0].kid or '')} {skipped[0].reason}; choose another")
    if out is None:
        click.echo(text, nl=False)
        return
    write(out, text, PUBLIC_MODE, force=force)
    click.echo(f"Wrote {out}. Settings for the service:", err=True)
    click.echo(f"AUTH_JWT_ALG={','.join(dict.fromkeys(key.algorithm.name for key in loaded))}")
    click.echo(f"AUTH_JWT_JWKS_FILE={shlex.quote(str(out.resolve()))}")


def _keys(path: Path, algorithm: str | None) -> tuple[VerificationKey, ...]:
    """The keys of one file, under the algorithm named or the first that fits all of them."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise click.ClickException(f"cannot read {path}: {error.strerror or 'unusable path'}") from None
    text = raw[:MAX_FILE_BYTES].decode("utf-8", "replace")
    rejected: KeyRejected | None = None
    for candidate in _ALGORITHMS:
        if algorithm is not None and candidate.name != algorithm:
            continue
        try:
            return load_keys(text, candidate)
        except KeyRejected as reason:
            rejected = reason
    assert rejected is not None
    why = f"{rejected.message}; {rejected.remedy}"
    reports = report_on_file(raw)
    if algorithm is None and "-----BEGIN" in text and not any(report.private for report in reports):
        problems = [problem for report in reports for problem in report.problems]
        why = problems[0] if problems else "is not the only kind of key in the file; give each kind a file of its own"
    raise click.ClickException(f"{path}: the key {why}")
