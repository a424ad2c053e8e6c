"""`leyden token explain`: whether a token is accepted, and why.

Owns the words and the JSON of an explanation. Never prints a key or a signature.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from leyden.auth import Explanation, dated_claims, printable, verifier_from
from leyden.auth import explain as explain_token

from ..checks import check_lines, check_members
from ..configured import auth_settings
from ..key_ring import key_ring_for
from ..token_lines import joined, token_of


@click.command("explain")
@click.argument("given", metavar="[TOKEN|-]", default="-")
@click.option(
    "--json/--text",
    "as_json",
    default=None,
    help="One line of JSON for each token, or words. [default: words for TOKEN and on a terminal, else JSON]",
)
@click.option("--now", type=click.FloatRange(0, 253_402_300_799), help="Judge at this time, in Unix seconds.")
@click.option(
    "--jwks",
    "jwks_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A saved copy of the issuer's key set, when AUTH_JWT_JWKS_URL or AUTH_JWT_OIDC_ISSUER is set.",
)
def explain(given: str, as_json: bool | None, now: float | None, jwks_file: Path | None) -> None:
    """Say whether the service, configured as this environment is, accepts a token, and why.

    Give the token on standard input (-, the default): as TOKEN it would stay in the shell's history and be seen in
    the list of processes, and whoever has it is its user until it expires. Tokens are read one a line; a line that
    begins with a quotation mark is a JSON string. The token is sent nowhere.

    Every check is shown in order: ok, FAILED, or - when it had nothing to check or came after the failed one, with the
    setting responsible in brackets. Whether a token is revoked, and whether its client id is another user's, only the
    running service knows. Exit status: 0 accepted, 1 refused, 2 wrong configuration.

    \b
    Examples:
      leyden token explain --text - < token.txt
      leyden token explain --jwks saved-set.json          (paste the token, Enter, Ctrl-D)
      leyden token explain --json --now 1760000000 - < tokens.txt
    """
    settings = auth_settings()
    verifier = verifier_from(settings, key_ring_for(settings, jwks_file))
    if given == "-" and as_json is None:
        as_json = not sys.stdout.isatty()
    if given != "-":
        tokens: Iterable[str] = [given]
    else:
        if sys.stdin.isatty():
            click.echo("Paste the token and press Enter, then Ctrl-D:", err=True)
        lines = (token_of(line) for line in sys.stdin.buffer)
        tokens = lines if as_json else joined(list(lines))
    all_accepted, number = True, 0
    for number, token in enumerate(tokens, 1):
        moment = time.time() if now is None else now
        explanation = explain_token(token, moment, verifier)
        all_accepted = all_accepted and explanation.accepted
        if as_json:
            click.echo(_json_line(explanation))
        else:
            click.echo(("\n" if number > 1 else "") + "\n".join(_sentences(explanation, moment)))
    if number == 0:
        click.echo("There was no token on standard input", err=True)
    sys.exit(0 if all_accepted else 1)


def _json_line(explanation: Explanation) -> str:
    return json.dumps(
        {
            "accepted": explanation.accepted,
            "user_id": explanation.user_id,
            "code": explanation.code,
            "header": dict(explanation.header),
            "claims": dict(explanation.claims),
            "checks": [check_members(check) for check in explanation.checks],
            "hints": list(explanation.hints),
        }
    )


def _sentences(explanation: Explanation, now: float) -> Iterator[str]:
    """The explanation for a terminal. Everything from the token is escaped: it may be a stranger's."""
    if explanation.header:
        yield "Header: " + json.dumps(dict(explanation.header))
    if explanation.claims:
        yield "Claims: " + json.dumps(dict(explanation.claims))
        for sentence in dated_claims(explanation.claims, math.floor(now)):
            yield f"  {sentence}"
    if explanation.header or explanation.claims:
        yield ""
    for check in explanation.checks:
        yield from check_lines(check)
    yield ""
    if explanation.accepted:
        yield f"Accepted as user {printable(explanation.user_id or '', 1024)}"
    else:
        yield f"Refused: {explanation.code}"
    for hint in explanation.hints:
        yield f"Hint: {hint}"
