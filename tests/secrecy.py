"""Keeps every secret that the tests make and every text that a service shows, to be held against each other at the end.

Secrets are noted where they are made: `watch` wraps the functions of `leyden.auth` that make tokens and keys, before
any test imports them. Shown texts are noted by whoever runs a service.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import leyden.auth

#: Shorter pieces are found in innocent texts.
SHORTEST = 16

#: Tokens as they were made; keys as texts.
made: set[str] = set()

#: Where from → what was shown there.
shown: dict[str, list[str]] = {}


def watch() -> None:
    """From now on tokens and keys made through `leyden.auth` are noted."""
    mint, generate = leyden.auth.mint_token, leyden.auth.generate_key

    @functools.wraps(mint)
    def mint_token(*args: Any, **kwargs: Any) -> str:
        token = mint(*args, **kwargs)
        made.add(token)
        return token

    @functools.wraps(generate)
    def generate_key(*args: Any, **kwargs: Any) -> leyden.auth.GeneratedKey:
        key = generate(*args, **kwargs)
        made.update(text for text in (key.secret, key.private_pem, key.public_pem) if text)
        return key

    leyden.auth.mint_token, leyden.auth.generate_key = mint_token, generate_key


def note(source: str, text: str) -> None:
    """A service showed `text`."""
    shown.setdefault(source, []).append(text)


def pieces(secrets: Iterable[str]) -> set[str]:
    """What must not be shown: payloads and signatures of tokens, and each line of a key. A token's header tells
    nothing: all tokens of an issuer share it."""
    found: set[str] = set()
    for secret in secrets:
        if "-----" in secret:
            found.update(line for line in secret.splitlines() if "-----" not in line)
        elif secret.count(".") == 2:
            found.update(secret.split(".")[1:])
        else:
            found.add(secret)
    return {piece for piece in found if len(piece) >= SHORTEST}


def leaks() -> list[str]:
    """The sources that showed a secret."""
    forbidden = pieces(made)
    return [source for source, texts in shown.items() if any(piece in text for text in texts for piece in forbidden)]
