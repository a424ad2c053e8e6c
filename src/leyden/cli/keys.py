"""`leyden keys`: keys for signing tokens.

Owns the files a new key is written to and the settings printed for it. Never overwrites a file and never
prints a secret or a private key.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from leyden.auth import ALGORITHMS, GeneratedKey, generate_key

_PRIVATE_MODE = 0o600
_PUBLIC_MODE = 0o644


@click.group()
def keys() -> None:
    """Make keys for signing and checking tokens.

    Example: leyden keys new ES256
    """


@keys.command("new")
@click.argument("algorithm", type=click.Choice(list(ALGORITHMS)), metavar="ALG")
@click.option(
    "--out",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("."),
    help="Directory for the files, made if missing. [default: the current one]",
)
def new(algorithm: str, directory: Path) -> None:
    """Make a key for the algorithm ALG and print the two settings that use it.

    ALG is one of HS256 HS384 HS512 RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA Ed25519.
    For HS* one secret is written, which signs and checks; for the others a pair: the private half signs
    and stays with the issuer, the public half is for this service. Existing files are never overwritten.

    Example: leyden keys new ES256 --out ./keys
    """
    secret_path = directory / f"leyden-{algorithm}-secret.txt"
    private_path = directory / f"leyden-{algorithm}-private.pem"
    public_path = directory / f"leyden-{algorithm}-public.pem"
    for path in (secret_path, private_path, public_path):
        if path.exists():
            raise click.ClickException(f"{path} exists and is not overwritten; move it away or choose another --out")
    key = generate_key(algorithm)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        service_path = _write(key, secret_path, private_path, public_path)
    except OSError as error:
        raise click.ClickException(f"cannot write {error.filename}: {error.strerror}") from None
    if key.secret is not None:
        click.echo(f"Wrote {service_path} (keep it secret: whoever has it can be any user)", err=True)
    else:
        click.echo(f"Wrote {private_path} (keep it secret: whoever has it can be any user)", err=True)
        click.echo(f"Wrote {public_path}", err=True)
    click.echo("Settings for the service:", err=True)
    click.echo(f"AUTH_JWT_ALG={algorithm}")
    click.echo(f"AUTH_JWT_KEY_FILE={shlex.quote(str(service_path.resolve()))}")


def _write(key: GeneratedKey, secret_path: Path, private_path: Path, public_path: Path) -> Path:
    """Write the files of `key`; returns the one the service is to be given."""
    if key.secret is not None:
        _create(secret_path, key.secret + "\n", _PRIVATE_MODE)
        return secret_path
    assert key.private_pem is not None
    assert key.public_pem is not None
    _create(private_path, key.private_pem, _PRIVATE_MODE)
    try:
        _create(public_path, key.public_pem, _PUBLIC_MODE)
    except OSError:
        private_path.unlink()  # half a pair is of no use, and this half was made a moment ago
        raise
    return public_path


def _create(path: Path, text: str, mode: int) -> None:
    """Create `path` with `mode` from the start, so that no moment leaves a private key readable to others."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
