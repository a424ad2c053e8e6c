"""`leyden token`: make tokens, or ask why one is refused.

Judging and signing are `leyden.auth`'s, under the AUTH_* settings of the environment; no other setting matters here.
"""

from __future__ import annotations

import click

from .explain import explain
from .mint import mint


@click.group()
def token() -> None:
    """Make tokens and explain verdicts on them.

    \b
    Examples:
      leyden token mint alice --key keys/leyden-ES256-private.pem
      leyden token explain - < token.txt
    """


token.add_command(mint)
token.add_command(explain)
