"""`leyden keys check`: what keys are, and whether a service could use them.

Owns the words and the JSON of a report, and what a file's permissions give away. Never prints key material.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import click

from leyden.auth import MAX_FILE_BYTES, KeyReport, printable, report_on_file, report_on_ring

from ..configured import auth_settings
from ..key_ring import key_ring_for

_PRIVATE_WARNING = (
    "signs tokens: whoever has it can be any user. It stays with the issuer; never give it to the service"
)
_Sourced = tuple[str, KeyReport]


@click.command("check")
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--base64", "is_base64", is_flag=True, help="Read files as AUTH_JWT_KEY_IS_BASE64_ENCODED=true would.")
@click.option(
    "--jwks",
    "jwks_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Without FILE: a saved copy of the issuer's key set, when its URL is configured.",
)
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def check(files: tuple[Path, ...], is_base64: bool, jwks_file: Path | None, as_json: bool) -> None:
    """Say what keys are and whether a service could use them.

    Without FILE: the keys of the configured service (AUTH_JWT_*). With files: PEM public keys, private keys and
    certificates, a JWK or a JWK Set, or a shared secret. For each key: type, size or curve, thumbprint (RFC 7638,
    to compare two halves of a pair or two places), the algorithms it fits, weaknesses, and whether it is private.
    The keys themselves are never shown. Exit status: 0 all fit, 1 something does not, 2 wrong configuration.

    \b
    Examples:
      leyden keys check
      leyden keys check public.pem private.pem issuer-set.json
    """
    if files:
        if jwks_file is not None:
            raise click.UsageError("--jwks is for the configured keys; give the file as FILE")
        found = [(str(path), report) for path in files for report in _reports(path, is_base64)]
    else:
        settings = auth_settings()
        if is_base64:
            raise click.UsageError("--base64 is for files; AUTH_JWT_KEY_IS_BASE64_ENCODED is for the configured key")
        ring = key_ring_for(settings, jwks_file)
        found = [("configured", report) for report in report_on_ring(ring)]
        if settings.insecure:
            click.echo("AUTH_MODE=insecure: there are no keys, and tokens are not checked", err=True)
    all_fit = all(report.fit for _, report in found)
    if as_json:
        click.echo(json.dumps({"fit": all_fit, "keys": [_members(source, report) for source, report in found]}))
    else:
        for source, report in found:
            click.echo("\n".join(_sentences(source, report)))
    sys.exit(0 if all_fit else 1)


def _reports(path: Path, is_base64: bool) -> tuple[KeyReport, ...]:
    try:
        with path.open("rb") as file:
            reports = report_on_file(file.read(MAX_FILE_BYTES + 1), is_base64=is_base64)
            open_to_others = bool(path.stat().st_mode & 0o077)
    except OSError as error:
        problem = f"cannot be read: {error.strerror or 'unusable path'}; check its path and permissions"
        return (KeyReport("file", problems=(problem,)),)
    if not open_to_others:
        return reports
    note = "others on this machine can read the file, and may have: chmod 600, or make a new key"
    return tuple(
        replace(report, notes=(*report.notes, note)) if report.private or report.kind == "shared secret" else report
        for report in reports
    )


def _members(source: str, report: KeyReport) -> dict[str, object]:
    return {"source": source, "fit": report.fit, **asdict(report)}


def _sentences(source: str, report: KeyReport) -> Iterator[str]:
    size = f", {report.size}" if report.size else ""
    yield f"{source}: {report.kind}{size}"
    if report.kid is not None:
        yield f"  kid         {printable(report.kid)}"
    if report.thumbprint is not None:
        yield f"  thumbprint  {report.thumbprint}"
    if report.algorithms:
        yield f"  fits        {' '.join(report.algorithms)}"
    if report.ignored is not None:
        yield f"  passed over it {report.ignored}"
    for problem in report.problems:
        yield f"  UNFIT       it {problem}"
    if report.private:
        yield f"  PRIVATE     it {_PRIVATE_WARNING}"
    for note in report.notes:
        yield f"  note        {note}"
