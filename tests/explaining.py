"""What the tests of ``leyden shape explain`` have in common: the settings, tokens, and how an answer is read."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from click.testing import Result
from joserfc.jwk import OctKey

from leyden.auth import ALGORITHMS, mint_token

SECRET = "k7!" * 30
HS = {"AUTH_JWT_ALG": "HS256", "AUTH_JWT_KEY": SECRET}
MINE = "this.status <> 'closed' AND (this.assignee = auth.sub OR this.priority > 3)"

#: ``explain(*arguments, env=…, stdin=…)``
Explain = Callable[..., Result]
Execute = Callable[..., None]


def checks(result: Result) -> dict[str, str]:
    """Outcome by check, with what is said of it."""
    assert result.stderr == ""
    found = re.findall(r"^(ok|FAILED|-) +(\S.*)\n((?:       .*\n)*)", result.stdout, re.MULTILINE)
    return {name: f"{outcome}: {detail.strip()}" if detail else outcome for outcome, name, detail in found}


def verdict(result: Result) -> str:
    """The sentence at the end."""
    assert result.stderr == ""
    return result.stdout.split("\n\n")[-1].splitlines()[0]


def refusal(result: Result) -> str:
    """What is said of wrong use."""
    assert (result.exit_code, result.stdout) == (2, "")
    return result.stderr.splitlines()[-1]


def token(sub: str = "ann", secret: str = SECRET, lifetime: int = 600, **claims: Any) -> str:
    now = int(time.time())
    return mint_token(
        {"sub": sub, "iat": now - 1000, "exp": now + lifetime, **claims},
        algorithm=ALGORITHMS["HS256"],
        key=OctKey.import_key(secret.encode()),
    )
