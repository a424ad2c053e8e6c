"""`leyden shape`: what subscriptions bring to clients.

What a subscription is and which rows it selects is said in `leyden.shapes`; here it is asked and shown.
"""

from __future__ import annotations

import click

from .explain import explain


@click.group()
def shape() -> None:
    """Explain what a client gets.

    \b
    Example:
      leyden shape explain issues --where "this.status <> 'closed'" --user alice --pk 7
    """


shape.add_command(explain)
