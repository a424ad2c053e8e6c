"""Times as they are typed on the command line: how long, and up to when."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Any, Final, Literal

import click

_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION: Final = re.compile(r"([0-9]{1,10})([smhd]?)\Z")
_SECONDS: Final = re.compile(r"[0-9]{1,12}\Z")
_YEAR_2000: Final = 946_684_800
_YEAR_10000: Final = 253_402_300_800


class Duration(click.ParamType[int]):
    """A positive number of seconds, minutes, hours or days, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = _DURATION.match(str(value))
        seconds = int(match.group(1)) * _UNITS[match.group(2)] if match else 0
        if seconds <= 0:
            self.fail("use a number with s, m, h or d, like 90s, 15m, 1h or 7d", param, ctx)
        return seconds


class Moment(click.ParamType[int | Literal["now"]]):
    """Unix seconds, an ISO 8601 date with or without time (UTC unless it says otherwise), or `now`, which stays a word:
    whose clock tells it is not decided here."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | Literal["now"]:
        text = str(value).strip()
        if text == "now":
            return "now"
        if _SECONDS.match(text):
            seconds = int(text)
        else:
            try:
                moment = datetime.fromisoformat(text)
            except ValueError:
                self.fail("use now, seconds since 1970, or a date like 2026-01-31 or 2026-01-31T12:00Z", param, ctx)
            seconds = math.floor(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp())
        if not _YEAR_2000 <= seconds < _YEAR_10000:
            self.fail("lies before the year 2000, or thousands of years ahead; are these seconds?", param, ctx)
        return seconds
