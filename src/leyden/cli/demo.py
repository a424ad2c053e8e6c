"""``leyden demo``: everything on one machine, to be tried in two browser tabs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from leyden.cli.serving import serve, settings_or_exit
from leyden.demo import DemoEndpoints, create_table, new_keys, page_directory, psql_line
from leyden.service import Service, service_app


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=5133, show_default=True)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".leyden") / "demo",
    show_default=True,
    help="Where the embedded Postgres keeps the demo's data.",
)
def demo(port: int, data_dir: Path) -> None:
    """A shared to-do list: embedded Postgres, a fresh ES256 key pair, and a page in which two tabs stay in step.

    \b
    Example:
      leyden demo
    """
    if not (page_directory() / "index.html").exists():
        click.echo("The demo page is not built yet: run `make install` in the checkout.", err=True)
        sys.exit(1)
    public_key, mint = new_keys()
    # A demo must come up the same everywhere: nothing of the caller's configuration takes part.
    env = {name: value for name, value in os.environ.items() if name in ("LOG_LEVEL", "LEYDEN_LOG_FORMAT")}
    env |= {
        "AUTH_JWT_ALG": "ES256",
        "AUTH_JWT_KEY": public_key,
        "HTTP_PORT": str(port),
        "LEYDEN_HTTP_HOST": "127.0.0.1",
        "LEYDEN_DATA_DIR": str(data_dir),
    }
    service = Service(settings_or_exit(env))
    endpoints = DemoEndpoints(service, mint)

    async def ready(service: Service, url: str) -> None:
        await create_table(service)
        click.echo(f"leyden ready on {url}")
        click.echo(f"\n  Open {url} in two browser tabs and change something in one of them.")
        click.echo(f"  Then change it in Postgres:\n\n    {psql_line(service)}\n")
        click.echo("    UPDATE todos SET done = NOT done;\n\n  Ctrl-C ends the demo.")

    serve(service, service_app(service, endpoints.routes()), ready)
