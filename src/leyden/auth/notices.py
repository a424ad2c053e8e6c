"""What happens to keys while a service runs: the closed list of facts that key sources report.

Owns plain data; who listens decides what becomes a log line, a metric or an audit record. No fact holds key
material. `source` names the setting or the URL that the key comes from; `kid` is as published, not escaped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KeyAdded:
    """A key may judge tokens from now on."""

    source: str
    algorithm: str
    kid: str | None
    thumbprint: str


@dataclass(frozen=True, slots=True)
class KeyWithdrawn:
    """A key may judge no token any more; connections it vouched for end soon."""

    source: str
    algorithm: str
    kid: str | None
    thumbprint: str


@dataclass(frozen=True, slots=True)
class KeySkipped:
    """A key of a set that may not judge tokens. `reason` completes "the key …".

    `leaked` says that the set gives away secret material: whoever read it can be any user.
    """

    source: str
    kid: str | None
    reason: str
    leaked: bool


@dataclass(frozen=True, slots=True)
class KeySetRefreshed:
    """The keys were read again. `changed` says whether they differ; `fresh_for` is in seconds, None for a file."""

    source: str
    keys: int
    changed: bool
    fresh_for: float | None


@dataclass(frozen=True, slots=True)
class KeySetFailed:
    """The keys could not be read; the old ones stay. `reason` quotes nothing of the answer, `retry_in` is in
    seconds."""

    source: str
    reason: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class KeySetStale:
    """The keys are `age` seconds old, older than allowed: no token is accepted until they can be read again."""

    source: str
    age: float


KeyNotice = KeyAdded | KeyWithdrawn | KeySkipped | KeySetRefreshed | KeySetFailed | KeySetStale

Notify = Callable[[KeyNotice], None]


def ignore(notice: KeyNotice) -> None:
    """A `Notify` for callers that do not care."""
