"""`leyden keys`: make keys, look at them, publish them. Never prints a secret or a private key."""

from __future__ import annotations

import click

from .check import check
from .jwks import jwks
from .new import new


@click.group()
def keys() -> None:
    """Make keys for signing and checking tokens, and look at them.

    \b
    Examples:
      leyden keys new ES256 --out ./keys
      leyden keys check ./keys/leyden-ES256-public.pem
    """


keys.add_command(new)
keys.add_command(new, "generate")
keys.add_command(check)
keys.add_command(jwks)
