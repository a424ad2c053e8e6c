"""`leyden keys new`: keys for signing tokens.

Owns the files a new key is written to and the settings printed for it. Never overwrites a file and never
prints a secret or a private key.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from leyden.auth import ALGORITHMS, GeneratedKey, generate_key

from ..new_files import PRIVATE_MODE, PUBLIC_MODE, create


@click.command("new")
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

    \b
    Example:
      leyden keys new ES256 --out ./keys
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
        raise click.ClickException(f"cannot write {error.filename or directory}: {error.strerror}") from None
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
        create(secret_path, key.secret + "\n", PRIVATE_MODE)
        return secret_path
    assert key.private_pem is not None
    assert key.public_pem is not None
    create(private_path, key.private_pem, PRIVATE_MODE)
    try:
        create(public_path, key.public_pem, PUBLIC_MODE)
    except OSError:
        private_path.unlink()  # half a pair is of no use, and this half was made a moment ago
        raise
    return public_path
