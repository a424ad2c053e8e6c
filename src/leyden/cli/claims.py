"""Claims as they are typed on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import click

from leyden.auth import printable


class Claim(click.ParamType[tuple[str, Any]]):
    """``name=value``; the value is read as JSON if it is JSON, else as text."""

    name = "k=v"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        if isinstance(value, tuple):
            return value
        name, equals, text = str(value).partition("=")
        if not name or not equals:
            self.fail("write a claim as name=value", param, ctx)
        try:
            return name, json.loads(text, parse_constant=_not_json)
        except (ValueError, RecursionError):
            return name, text


def _not_json(constant: str) -> None:
    raise ValueError(constant)


def with_claims(claims: Mapping[str, Any], single: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """``claims`` and those of ``single``; ends the command when one is there already."""
    together = dict(claims)
    for name, value in single:
        if name in together:
            raise click.UsageError(f"the claim {printable(name)} is given twice")
        together[name] = value
    return together
