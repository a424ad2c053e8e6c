"""``leyden start``: serve until told to stop."""

from __future__ import annotations

import os
from pathlib import Path

import click

from leyden.cli.serving import serve, settings_or_exit
from leyden.service import Service, service_app


@click.command()
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the embedded Postgres keeps its data (default .leyden, or LEYDEN_DATA_DIR).",
)
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on (default 5133, or HTTP_PORT).")
def start(data_dir: Path | None, port: int | None) -> None:
    """Serve until SIGTERM or SIGINT.

    Configured by environment variables. Without DATABASE_URL an embedded Postgres is used: for development.

    \b
    Example:
      DATABASE_URL=postgresql://app:secret@db/app AUTH_JWT_ALG=ES256 \\
      AUTH_JWT_KEY="$(cat es256.public.pem)" leyden start
    """
    env = dict(os.environ)
    if data_dir is not None:
        env["LEYDEN_DATA_DIR"] = str(data_dir)
    if port is not None:
        env["HTTP_PORT"] = str(port)
    settings = settings_or_exit(env)
    service = Service(settings)
    if settings.database is None:
        click.echo(
            f"DATABASE_URL is not set: using the embedded Postgres in {settings.data_dir}, for development",
            err=True,
        )

    async def ready(service: Service, url: str) -> None:
        click.echo(f"leyden ready on {url}")

    serve(service, service_app(service), ready)
