"""What a subscription includes, as JSON in the form in which the client asks for it."""

from __future__ import annotations

import json
from typing import Any, Final

import click

from leyden.shapes.request import Include, Select

EXAMPLE: Final = '[{"foreign_key": ["project_id"], "select": {"tablename": "issues"}}]'


class Includes(click.ParamType[tuple[Include, ...]]):
    """A parameter that is a list of includes; its value is a tuple of them."""

    name = "JSON"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Include, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return _includes(json.loads(value))
        except (ValueError, TypeError, KeyError, RecursionError):
            self.fail(f"is no list of includes, such as {EXAMPLE}", param, ctx)


def _includes(listed: Any) -> tuple[Include, ...]:
    if not isinstance(listed, list):
        raise TypeError
    return tuple(Include(tuple(map(_text, one["foreign_key"])), _select(one["select"])) for one in listed)


def _select(select: Any) -> Select:
    return Select(_text(select["tablename"]), _text(select.get("where", "")), _includes(select.get("include", [])))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
